//! Bringing to the store what waits in the journal: piles side by side, each in its order.
//!
//! Whatever is done here may be done twice – the process may end between the store's answer and the journal's – and
//! has to come to the same:
//!
//! * A record is known by its digest.
//! * A batch goes under its own id, with its events marked late. If the store has it as it was first sent, the id is
//!   taken, and the marked batch is refused as another one under the same id: then it is there.
//! * What is left of a batch that does not fit any more goes under an id of its entry ([`own_id`]), for the same reason.
//!
//! A store remembers ids for a day. Of a batch that has waited longer and may have been sent before, nobody can say
//! whether it is there: it is sent all the same – rather an event twice than not at all – and counted and logged.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use tokio::time::{Instant, timeout};

use super::{Ledger, StartAttempt, Told, merged};
use crate::domain::{Order, PileCode, Record, SessionId, WallMs};
use crate::observe;
use crate::store::document::{self, JournalEntry, Journaled};
use crate::store::journal::{Journal, Waiting};
use crate::store::{Batch, BatchId, Key, Kind, Partition, Precondition, Put, StoreError};

/// What one look at everything that waits has come to.
#[derive(Debug, Default)]
pub struct Round {
    /// Entries that are in the store now.
    pub delivered: usize,
    /// Entries the store will never take; they stay in the journal.
    pub set_aside: usize,
    /// Documents that were out of date and left out.
    pub dropped: usize,
    /// What cannot be reached, by partition, and why.
    pub away: BTreeMap<Partition, StoreError>,
}

impl Ledger {
    /// Brings to the store what waits, for ever. Without a journal there is nothing to do, and it waits for ever.
    pub async fn drain(self) {
        let Some(journal) = self.journal.clone() else { return std::future::pending().await };
        let (mut pause, mut away, mut brought) = (FIRST_PAUSE, false, 0);
        let (mut expired_at, mut there_since) = (None::<Instant>, None::<Instant>);
        loop {
            // What a store that comes back after hours has lost was settled just before it went.
            there_since = self.store.health().is_ok().then(|| there_since.unwrap_or_else(Instant::now));
            let is_steady = there_since.is_some_and(|since| since.elapsed() >= journal.grace());
            if is_steady && expired_at.is_none_or(|at| at.elapsed() >= HOUSEKEEPING) {
                expired_at = Some(Instant::now());
                if let Err(error) = journal.expire().await {
                    tracing::warn!(%error, "old entries not removed from the journal, will try again");
                }
            }
            if !journal.has_work() {
                // In the end for the housekeeping.
                let _ = timeout(HOUSEKEEPING.min(journal.grace()), journal.work()).await;
                continue;
            }
            let round = self.drain_round().await;
            brought += round.delivered;
            match round.away.values().next() {
                Some(error) => {
                    if !std::mem::replace(&mut away, true) {
                        tracing::warn!(%error, depth = journal.depth(), "the journal keeps what the store does not take");
                    }
                    tokio::time::sleep(pause).await;
                    pause = (2 * pause).min(LAST_PAUSE);
                }
                None if away && !journal.has_work() => {
                    tracing::info!(brought, "what waited in the journal is in the store");
                    (pause, away, brought) = (FIRST_PAUSE, false, 0);
                }
                None => pause = FIRST_PAUSE,
            }
        }
    }

    /// Tries everything that waits once. One round at a time.
    pub async fn drain_round(&self) -> Round {
        let Some(journal) = &self.journal else { return Round::default() };
        let _alone = journal.turn_to_drain().await;
        if let Err(error) = journal.remove_doubtful().await {
            // Nobody waits for it.
            tracing::debug!(%error, "doubtful entries not removed from the journal yet");
        }
        let round = Arc::new(Mutex::new(Round::default()));
        let each = |pile| self.clone().drain_pile(journal.clone(), pile, round.clone());
        stream::iter(journal.piles()).map(each).buffer_unordered(AT_ONCE).collect::<()>().await;
        std::mem::take(&mut *round.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn drain_pile(self, journal: Journal, pile: PileCode, round: Arc<Mutex<Round>>) {
        let partition = self.partition(pile);
        let told = |tell: &mut dyn FnMut(&mut Round)| tell(&mut round.lock().unwrap_or_else(PoisonError::into_inner));
        for _ in 0..PER_ROUND {
            let mut give_up = false;
            // A partition that is away takes its time to say so: one of its piles has asked, or a few.
            told(&mut |round| give_up = round.away.contains_key(&partition));
            if give_up {
                return;
            }
            match self.drain_first(&journal, pile).await {
                Ok(Some(Delivery::Done { dropped })) => told(&mut |round| {
                    round.delivered += 1;
                    round.dropped += dropped;
                }),
                Ok(Some(Delivery::Refused)) => told(&mut |round| round.set_aside += 1),
                Ok(None) => return,
                Err(error) => return told(&mut |round| drop(round.away.insert(partition, error.clone()))),
            }
        }
    }

    /// `None` if nothing waits.
    async fn drain_first(&self, journal: &Journal, pile: PileCode) -> Result<Option<Delivery>, StoreError> {
        let lane = journal.enter(pile);
        let Some(waiting) = lane.first() else { return Ok(None) };
        let (seq, key) = (waiting.seq, document::journal_key(pile, waiting.seq));
        let (value, entry) = match journal.read(&key).await {
            Ok(Some(read)) => read,
            Ok(None) => {
                // A record that was to be settled again and has expired since.
                lane.pop(seq);
                return Ok(Some(Delivery::Done { dropped: 0 }));
            }
            Err(error @ StoreError::Invalid(_)) => {
                tracing::error!(%pile, seq, %error, "journal entry cannot be read and stays in the journal");
                lane.set_aside(seq);
                return Ok(Some(Delivery::Refused));
            }
            Err(error) => return Err(error),
        };
        let is_record = matches!(entry.what, Journaled::Record { .. });
        let mut delivery = Delivery::Done { dropped: 0 };
        if !waiting.done {
            delivery = self.deliver(journal, &waiting, pile, entry).await?;
            if matches!(delivery, Delivery::Refused) {
                lane.set_aside(seq);
                return Ok(Some(delivery));
            }
            lane.done(seq);
        }
        if is_record {
            journal.keep(key, value).await?;
        } else {
            journal.remove(vec![key]).await?;
        }
        lane.pop(seq);
        Ok(Some(delivery))
    }

    async fn deliver(
        &self,
        journal: &Journal,
        waiting: &Waiting,
        pile: PileCode,
        entry: JournalEntry,
    ) -> Result<Delivery, StoreError> {
        let (seq, JournalEntry { arrived_at, incarnation, what }) = (waiting.seq, entry);
        match what {
            Journaled::Record { record, ours } => match self.settle_late(journal, &record, ours, arrived_at).await {
                // It is money: it is kept for somebody to look at.
                Err(StoreError::Invalid(why)) => {
                    tracing::error!(%pile, seq, why, "the store refuses a record, which stays in the journal");
                    Ok(Delivery::Refused)
                }
                answer => answer,
            },
            Journaled::Batch { batch, tried } => {
                let age_ms = journal.now().since(arrived_at);
                if (tried || waiting.maybe_there) && age_ms > ID_TRUSTED_MS && !batch.append.is_empty() {
                    observe::journal_doubtful();
                    tracing::warn!(%pile, seq, age_ms, "a batch has waited too long to know whether the store has it");
                }
                match self.commit_late(pile, batch, (own_id(incarnation, seq), journal.now())).await {
                    Err(StoreError::Invalid(why)) => {
                        observe::journal_dropped("batch");
                        tracing::error!(%pile, seq, why, "the store refuses a journaled batch, which is lost");
                        Ok(Delivery::Done { dropped: 1 })
                    }
                    answer => answer,
                }
            }
        }
    }

    /// As any other settlement, from the order as it is now and what the session knew of it.
    async fn settle_late(
        &self,
        journal: &Journal,
        record: &Record,
        ours: Option<Box<Order>>,
        arrived_at: WallMs,
    ) -> Result<Delivery, StoreError> {
        // Whatever has become of the order: a retry of its start must still find that there was one.
        if let Some(attempt) = ours.as_deref().and_then(StartAttempt::of) {
            self.put_again(&attempt).await?;
        }
        if self.record(record.pile, record.serial).await?.is_some_and(|there| there.same_as(record)) {
            return Ok(Delivery::Done { dropped: 0 });
        }
        let stored = self.order(record.pile, record.serial).await?;
        let base = stored.map(|(stored, version)| (merged(stored, ours.as_deref()), version));
        // Settled as of its arrival, but kept from today: whoever looks for it could not see it before.
        let waited = Duration::from_millis(journal.now().since(arrived_at));
        let late = self.clone().keeping(self.retention.longer_by(waited));
        late.settle_from(record, base, ours.as_deref(), arrived_at, Told::Late).await?;
        Ok(Delivery::Done { dropped: 0 })
    }

    /// The start attempt of an order that the store may have lost.
    async fn put_again(&self, attempt: &StartAttempt) -> Result<(), StoreError> {
        let put = document::put_start_attempt(attempt);
        let require = vec![Precondition::Absent(put.key.clone())];
        let batch = Batch { id: None, require, put: vec![put], delete: vec![], append: vec![] };
        match self.store.commit(self.partition(attempt.pile), batch).await {
            Ok(_) | Err(StoreError::Conflict { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The batch as it is, or what is left of it: its events, except those of an order that was put without a fence and is
    /// there already; new orders and start attempts if they are still new. Other documents have been written by somebody
    /// since, or will be by who owns the pile now; of an order that was closed, or is to be stopped, or whose beginning
    /// nobody knows, that much is kept.
    async fn commit_late(
        &self,
        pile: PileCode,
        batch: Batch,
        (own, now): (BatchId, WallMs),
    ) -> Result<Delivery, StoreError> {
        let mut batch = document::late_batch(batch);
        let fenced = batch.require.iter().any(|must| matches!(must, Precondition::Owner(..)));
        let mut left_out = vec![];
        while !(batch.put.is_empty() && batch.append.is_empty()) {
            match self.store.commit(self.partition(pile), batch.clone()).await {
                Ok(_) => break,
                Err(StoreError::Conflict { failed, current }) => {
                    batch.id = Some(own);
                    let current = current.map(|current| current.value);
                    let out = leave_out(&mut batch, &failed);
                    // Without a fence it is told only what it puts: otherwise somebody else tells the order's life.
                    if !fenced && out.iter().any(|put| put.key.kind == Kind::Order) {
                        batch.append.clear();
                    }
                    // What is there already, exactly so, is not lost.
                    for put in out.into_iter().filter(|put| Some(&put.value) != current.as_ref()) {
                        left_out.push(put);
                    }
                }
                Err(StoreError::Invalid(why)) => {
                    let taken = match batch.id {
                        Some(id) => self.is_taken(pile, id).await?,
                        None => false,
                    };
                    if taken {
                        break;
                    }
                    return Err(StoreError::Invalid(why));
                }
                Err(
                    error @ (StoreError::Unavailable(_) | StoreError::Contested { .. } | StoreError::Superseded { .. }),
                ) => return Err(error),
            }
        }
        let mut dropped = 0;
        for Put { key, value, .. } in left_out {
            // One of a newer release, perhaps: somebody has written it since.
            let told = (key.kind == Kind::Order).then(|| document::read_order(&key, &value)).and_then(Result::ok);
            let what = name(key.kind);
            if let Some(told) = told
                && self.keep_word(&told, now).await?
            {
                tracing::info!(%pile, serial = %told.serial, "what was said of an order is put on it as it is now");
            } else {
                observe::journal_dropped(what);
                tracing::info!(%pile, what, "a journaled document is out of date and left out");
                dropped += 1;
            }
        }
        Ok(Delivery::Done { dropped })
    }

    /// Whether the store has had this id, or a later one of the session. Asked by a batch whose preconditions contradict
    /// each other: it cannot be carried out, and leaves no trace; but ids are looked at first.
    async fn is_taken(&self, pile: PileCode, id: BatchId) -> Result<bool, StoreError> {
        let key = document::pile_key(pile);
        let require = vec![Precondition::Absent(key.clone()), Precondition::Version(key, 1)];
        match self.store.commit(self.partition(pile), Batch { require, ..Batch::new(id) }).await {
            Err(StoreError::Conflict { .. }) => Ok(false),
            Ok(_) | Err(StoreError::Invalid(_)) => Ok(true),
            Err(
                error @ (StoreError::Unavailable(_) | StoreError::Contested { .. } | StoreError::Superseded { .. }),
            ) => Err(error),
        }
    }
}

/// How the first of a pile has ended.
enum Delivery {
    Done {
        dropped: usize,
    },
    /// It stays in the journal; the reason has been logged.
    Refused,
}

/// Under which the rest of a batch goes: of no session, and the same however often the entry is tried.
fn own_id(incarnation: u64, seq: u64) -> BatchId {
    BatchId { session: SessionId { incarnation, counter: seq }, n: 1 }
}

/// Takes out what cannot be written because of `failed`, and gives it back. Every call takes out a precondition.
fn leave_out(batch: &mut Batch, failed: &Precondition) -> Vec<Put> {
    batch.require.retain(|must| must != failed);
    let mut out = vec![];
    let keys: Vec<_> = match failed {
        // It is settled: nothing else may be said of its order.
        Precondition::Absent(record) if record.kind == Kind::Record => {
            vec![Key { kind: Kind::Order, ..record.clone() }]
        }
        Precondition::Absent(key) | Precondition::Version(key, _) => vec![key.clone()],
        // Nothing may be replaced without being the owner.
        Precondition::Owner(..) => {
            let is_new = |put: &Put| {
                matches!(put.key.kind, Kind::Order | Kind::StartRequest)
                    && batch.require.contains(&Precondition::Absent(put.key.clone()))
            };
            batch.delete.clear();
            batch.put.iter().filter(|put| !is_new(put)).map(|put| put.key.clone()).collect()
        }
    };
    batch.put.retain(|put| {
        let goes = keys.contains(&put.key);
        if goes {
            out.push(put.clone());
        }
        !goes
    });
    batch.require.retain(|must| match must {
        Precondition::Absent(key) | Precondition::Version(key, _) => !keys.contains(key),
        Precondition::Owner(..) => true,
    });
    out
}

/// The metric label.
fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Pile => "pile",
        Kind::Order => "order",
        Kind::Record => "record",
        Kind::RecordConflict => "record_conflict",
        Kind::StartRequest => "start_request",
        Kind::Journal => "journal",
        Kind::Curve => "curve",
        Kind::Group | Kind::GroupCursor => "group",
    }
}

/// Piles brought to the store side by side.
const AT_ONCE: usize = 64;
/// Entries of one pile in one round: one that has much to bring does not keep a round from ending.
const PER_ROUND: usize = 256;
/// Between rounds while the store is away.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(1);
const HOUSEKEEPING: Duration = Duration::from_mins(1);
/// An hour less than a store remembers an id: clocks differ.
const ID_TRUSTED_MS: u64 = BatchId::KEPT_MS - 3600 * 1000;
