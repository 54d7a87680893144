//! Saying again that the piles of this node are here, after the store may have forgotten it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::domain::PileCode;
use crate::session::{Departed, Reasserted, Sessions};
use crate::store::Partition;
use crate::store::ledger::{Ledger, Resettled};

/// Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Reasserter(Arc<Inner>);

struct Inner {
    sessions: Sessions,
    departed: Departed,
    ledger: Ledger,
    wanted: Mutex<Wanted>,
    /// Requests so far, and how many of them have been seen to.
    asked: watch::Sender<u64>,
    done: watch::Sender<u64>,
}

/// Bounded by partitions.
#[derive(Default)]
struct Wanted {
    /// Their piles are claimed again, always under higher epochs: the store may have lost writes, or somebody watches over
    /// piles that were taken for lost and would judge them by the fences they had.
    claims: BTreeSet<Partition>,
    /// These may have lost what this node, or an earlier run of it, has acknowledged.
    records: BTreeSet<Partition>,
}

impl Reasserter {
    pub fn new(sessions: Sessions, departed: Departed, ledger: Ledger) -> Self {
        let (asked, done) = (watch::Sender::new(0), watch::Sender::new(0));
        Self(Arc::new(Inner { sessions, departed, ledger, wanted: Mutex::default(), asked, done }))
    }

    /// The lease had lapsed: any pile may have been taken for lost.
    pub fn everything(&self) {
        let all = self.all();
        self.want(|wanted| wanted.claims.extend(all));
    }

    /// These may have lost writes.
    pub fn partitions(&self, partitions: &[Partition]) {
        let of = self.0.ledger.store().partitions();
        self.0.departed.doubt(|pile| partitions.contains(&Partition::of(pile, of)));
        self.want(|wanted| {
            wanted.claims.extend(partitions);
            wanted.records.extend(partitions);
        });
    }

    /// This run has met the store for the first time: nobody knows whether it still has what the run before has
    /// acknowledged, as after a power failure that took both.
    pub fn first_met(&self) {
        let all = self.all();
        self.want(|wanted| wanted.records.extend(all));
    }

    /// Waits until everything that was asked for before has been tried once.
    pub async fn tried(&self) {
        let asked = *self.0.asked.borrow();
        // Ends early only with the node.
        let _ = self.0.done.subscribe().wait_for(|done| *done >= asked).await;
    }

    /// Says it, paced, for as long as it is polled. Sessions that get no answer ask again by themselves.
    pub async fn run(self) {
        let mut asked = self.0.asked.subscribe();
        loop {
            if asked.wait_for(|asked| *asked > *self.0.done.borrow()).await.is_err() {
                return std::future::pending().await;
            }
            let number = *asked.borrow();
            let Wanted { claims, records } =
                std::mem::take(&mut *self.0.wanted.lock().unwrap_or_else(PoisonError::into_inner));
            let away = self.resettle(&records).await;
            // Records first: a pile is claimed behind what waits of it, and its orders are as they were.
            let (mut later, now): (BTreeSet<_>, _) = claims.into_iter().partition(|partition| away.contains(partition));
            self.say(self.piles_of(&now)).await;
            self.0.done.send_replace(number);
            if !away.is_empty() {
                // Looking through what is kept is for nothing while nobody can be asked.
                sleep(AGAIN).await;
                while self.0.ledger.store().health().is_err() {
                    sleep(AGAIN).await;
                }
                self.want(|wanted| {
                    wanted.claims.append(&mut later);
                    wanted.records.extend(away);
                });
            }
        }
    }

    /// What has been acknowledged lately, and what the store may have lost of it. Which of these did not answer.
    async fn resettle(&self, partitions: &BTreeSet<Partition>) -> BTreeSet<Partition> {
        if partitions.is_empty() {
            return BTreeSet::new();
        }
        match self.0.ledger.resettle(partitions).await {
            Ok(Resettled { records, away }) => {
                let (partitions, away_now) = (partitions.len(), away.len());
                tracing::info!(partitions, records, away_now, "the store may have lost writes: settling again");
                if let Some(error) = away.values().next() {
                    tracing::info!(%error, "what the store has lost is not known yet, will ask again");
                }
                away.into_keys().collect()
            }
            Err(error) => {
                tracing::error!(%error, "what is kept cannot be read: will look again for what the store may have lost");
                partitions.clone()
            }
        }
    }

    fn all(&self) -> impl Iterator<Item = Partition> + use<> {
        (0..self.0.ledger.store().partitions()).map(Partition)
    }

    fn piles_of(&self, claims: &BTreeSet<Partition>) -> Vec<(PileCode, bool)> {
        let partitions = self.0.ledger.store().partitions();
        let piles = self.0.sessions.piles().into_iter();
        piles.filter(|pile| claims.contains(&Partition::of(*pile, partitions))).map(|pile| (pile, true)).collect()
    }

    async fn say(&self, piles: Vec<(PileCode, bool)>) {
        if piles.is_empty() {
            return;
        }
        let (mut all_kept, mut all_lost, mut all_unknown) = (0, 0, 0);
        for part in piles.chunks(AT_ONCE) {
            let began = Instant::now();
            let Reasserted { kept, lost, unknown } = self.0.sessions.reassert(part.to_vec()).await;
            all_kept += kept;
            all_lost += lost;
            all_unknown += unknown.len();
            if part.len() == AT_ONCE {
                sleep(PACE.saturating_sub(began.elapsed())).await;
            }
        }
        tracing::info!(kept = all_kept, lost = all_lost, unknown = all_unknown, "piles claimed again");
    }

    fn want(&self, change: impl FnOnce(&mut Wanted)) {
        change(&mut self.0.wanted.lock().unwrap_or_else(PoisonError::into_inner));
        self.0.asked.send_modify(|asked| *asked += 1);
    }
}

/// Piles said again at once, and how often: 2560 a second.
const AT_ONCE: usize = 256;
const PACE: Duration = Duration::from_millis(100);
/// Before a store that did not answer is asked again what it has lost.
const AGAIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::mpsc;

    use tokio::runtime;
    use tokio::task::{spawn, spawn_blocking};
    use tokio::time::{advance, pause, resume, timeout};

    use super::*;
    use crate::store::embedded::{self, Embedded};
    use crate::store::journal::{self, Journal};
    use crate::store::ledger::tests::{NOW, record};

    /// A ledger in a store of its own; all of them take turns with one journal.
    async fn ledger(dir: &Path, store: &str) -> Ledger {
        let store = Embedded::open(embedded::Config::new(dir.join(store))).expect("opens");
        let clock: journal::Clock = Arc::new(|| NOW);
        let journal = journal::Config { clock, ..journal::Config::new(dir.join("journal")) };
        Ledger::with_journal(Arc::new(store), Journal::open(journal).await.expect("opens"))
    }

    #[test]
    fn what_is_kept_is_looked_through_again_if_it_could_not_be_read() {
        // Disks are read on a thread of their own, which a test can keep busy.
        let runtime = runtime::Builder::new_current_thread().max_blocking_threads(1).enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let dir = tempfile::tempdir().expect("a directory");
            ledger(dir.path(), "before").await.settle(record(1), None, NOW).await.expect("settles");
            // Another store has taken over, and knows nothing.
            let ledger = ledger(dir.path(), "after").await;
            let (unblock, blocked) = mpsc::channel::<()>();
            let stuck = spawn_blocking(move || blocked.recv());
            let reasserter = Reasserter::new(Sessions::new(1), Departed::default(), ledger.clone());
            reasserter.first_met();
            let running = spawn(reasserter.clone().run());
            pause();
            let tried = async {
                let mut tried = std::pin::pin!(reasserter.tried());
                loop {
                    tokio::select! {
                        () = &mut tried => break,
                        () = advance(Duration::from_secs(1)) => {}
                    }
                }
            };
            tried.await;
            assert_eq!(ledger.journal_depth(), 0, "nobody can tell what is lost");

            drop(unblock);
            stuck.await.expect("ends").expect_err("nothing was sent");
            resume();
            let mut asked = reasserter.0.asked.subscribe();
            let again = async {
                asked.wait_for(|asked| *asked > 1).await.expect("it asks itself");
                reasserter.tried().await;
            };
            timeout(Duration::from_secs(20), again).await.expect("it looks again");
            assert_eq!(ledger.journal_depth(), 1, "what is lost is to be settled again");
            running.abort();
        });
    }
}
