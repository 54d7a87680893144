//! A store that fits in a test: the same answers as the real one, at once, late or not at all.

use std::collections::{BTreeMap, HashMap};

use crate::domain::curve::Chunk;
use crate::domain::order::{Change, Happening};
use crate::domain::{
    Epoch, Event, EventKind, Fence, Order, OrderState, Pile, Record, RequestId, Serial, SessionId, WallMs,
};
use crate::session::io::{Done, LedgerCall};
use crate::store::ledger::{Document, Expect, Login, SettledOrder, StartAttempt, Write, WriteError};
use crate::store::{Claim, Held, Settled, StoreError};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    Prompt,
    /// Nothing is answered until [`super::harness::Pile::store_answers`].
    Slow,
    /// Nothing is done, and that is said.
    Away,
    /// It is done, and said to be unavailable: the answer was lost.
    LosesAnswers,
}

#[derive(Default)]
pub struct Store {
    pub owner: Option<Fence>,
    pub epoch: u64,
    /// Two devices use the pile code.
    pub contested: bool,
    /// How often that was told.
    pub duplicates: usize,
    pub pile: Option<(Pile, u64)>,
    pub orders: BTreeMap<Serial, (Order, u64)>,
    pub attempts: HashMap<RequestId, StartAttempt>,
    /// By serial, the first one first.
    pub records: BTreeMap<Serial, Vec<Record>>,
    pub events: Vec<EventKind>,
    /// Chunks by serial and number, and when they expire.
    pub curves: BTreeMap<(Serial, u64), (Chunk, WallMs)>,
    batches: HashMap<SessionId, (u64, Vec<u64>)>,
    /// Batches that were done; a repeat is not done again.
    pub written: usize,
}

impl Store {
    pub fn answer(&mut self, call: &LedgerCall, mode: Mode) -> Done {
        let away = || StoreError::Unavailable("switched off".into());
        let lost = mode != Mode::Prompt;
        if mode == Mode::Away {
            return unavailable(call);
        }
        match call {
            LedgerCall::Claim(claim) => {
                let login = self.claim(claim);
                Done::Claimed(if lost { Err(away()) } else { login.map(Box::new) })
            }
            LedgerCall::TellDuplicate { .. } => {
                self.duplicates += 1;
                Done::Written(if lost { Err(away().into()) } else { Ok(vec![]) })
            }
            LedgerCall::Write(write) => {
                let result = self.write(write);
                Done::Written(if lost { Err(away().into()) } else { result })
            }
            LedgerCall::Settle { record, latest, now } => {
                let settled = self.settle(record, latest.as_deref().cloned(), *now);
                Done::Settled(if lost { Err(away()) } else { Ok(Box::new(settled)) })
            }
            LedgerCall::KeepCurve { chunk, fence, expires } => {
                let kept = self.keep_curve(chunk, *fence, *expires);
                Done::CurveKept(if lost { Err(away().into()) } else { kept })
            }
            LedgerCall::LookUp { serial, .. } => Done::LookedUp(Ok(self.orders.get(serial).cloned().map(Box::new))),
        }
    }

    pub fn order(&self, serial: Serial) -> &Order {
        &self.orders.get(&serial).expect("an order under this serial").0
    }

    /// The changes of one order, in the order in which they were told.
    pub fn changes(&self, serial: Serial) -> Vec<Change> {
        let of = |kind: &EventKind| match kind {
            EventKind::Order { order, change } if order.serial == serial => Some(*change),
            _ => None,
        };
        self.events.iter().filter_map(of).collect()
    }

    /// As somebody who is asked while the pile has no session, or knows of none.
    pub fn amend(&mut self, serial: Serial, now: WallMs, what: Happening) {
        let (order, version) = self.orders.get_mut(&serial).expect("an order under this serial");
        let changes = order.apply(now, what);
        *version += u64::from(!changes.is_empty());
        let order = order.clone();
        let told = |change| EventKind::Order { order: Box::new(order.clone()), change };
        self.events.extend(changes.into_iter().map(told));
    }

    fn keep_curve(&mut self, chunk: &Chunk, fence: Option<Fence>, expires: WallMs) -> Result<(), WriteError> {
        if fence.is_some() && fence != self.owner {
            return Err(WriteError::Fenced);
        }
        self.curves.insert((chunk.serial, chunk.number()), (chunk.clone(), expires));
        Ok(())
    }

    pub fn claim(&mut self, claim: &Claim) -> Result<Login, StoreError> {
        let Claim { pile, session, now_ms, identity: _, held } = *claim;
        let previous = self.owner;
        let ours = previous.is_some_and(|owner| owner.session == session);
        match held {
            Held::Nothing if self.contested => return Err(StoreError::Contested { pile }),
            Held::Nothing if ours => {}
            Held::Nothing => self.epoch = now_ms.max(self.epoch + 1),
            Held::Fence { fence, .. } if self.epoch > fence.epoch.0 && !ours => {
                return Err(StoreError::Superseded { pile });
            }
            Held::Fence { fence, anew } if anew || previous != Some(fence) => {
                self.epoch = self.epoch.max(fence.epoch.0) + 1;
            }
            Held::Fence { .. } => {}
        }
        let fence = Fence { session, epoch: Epoch(self.epoch) };
        self.owner = Some(fence);
        let open_orders = self.orders.values().filter(|(order, _)| order.state.is_open()).cloned().collect();
        Ok(Login { fence, previous, pile: self.pile.clone(), open_orders })
    }

    /// On another node.
    pub fn somebody_claims(&mut self) {
        self.epoch += 1_000_000;
        let session = SessionId { incarnation: 9, counter: 1 };
        self.owner = Some(Fence { session, epoch: Epoch(self.epoch) });
    }

    /// Time has nothing left to decide about a pile that is away.
    pub fn release(&mut self, fence: Fence) {
        self.owner = self.owner.filter(|owner| *owner != fence);
    }

    /// As another store that has taken over without the last writes: these orders, the pile and its owner are not there.
    pub fn loses(&mut self, orders: &[Serial]) {
        (self.owner, self.pile) = (None, None);
        self.batches.clear();
        for serial in orders.iter().filter(|serial| !self.records.contains_key(serial)) {
            let lost = self.orders.remove(serial);
            self.attempts.retain(|_, attempt| lost.as_ref().is_none_or(|_| attempt.serial != *serial));
        }
    }

    pub fn write(&mut self, write: &Write) -> Result<Vec<u64>, WriteError> {
        let Write { id, pile: _, fence, documents, events } = write;
        match self.batches.get(&id.session) {
            Some((n, versions)) if *n == id.n => return Ok(versions.clone()),
            Some((n, _)) => assert!(*n < id.n, "batches count up"),
            None => {}
        }
        assert!(documents.len() + events.len() <= 56, "batches are bounded");
        if fence.is_some() && *fence != self.owner {
            return Err(WriteError::Fenced);
        }
        for (at, (document, expect)) in documents.iter().enumerate() {
            let current = self.current(document);
            let holds = match expect {
                Expect::Absent => current.is_none(),
                Expect::Version(version) => current.as_ref().is_some_and(|(_, v)| v == version),
            };
            let settled = matches!(document, Document::Order(order)
                if order.state != OrderState::Settled && self.records.contains_key(&order.serial));
            if !holds || settled {
                return Err(WriteError::Conflict { at, current });
            }
        }
        self.events.extend(events.iter().map(|event: &Event| event.kind.clone()));
        for (document, _) in documents {
            if let (Document::Order(order), Some(_)) = (document, fence) {
                self.check_told(order);
            }
        }
        let versions: Vec<_> = documents.iter().map(|(document, _)| self.put(document)).collect();
        self.batches.insert(id.session, (id.n, versions.clone()));
        self.written += 1;
        Ok(versions)
    }

    /// A document says nothing of which the event might still be lost.
    fn check_told(&self, order: &Order) {
        let Order { serial, .. } = *order;
        let told = self.changes(serial);
        // What is put again after a loss, or remembered of a session that was superseded, has been told or never will be.
        let Some((stored, _)) = self.orders.get(&serial) else { return };
        let mut news = order.anomalies.iter().filter(|anomaly| !stored.anomalies.contains(anomaly));
        let silent = news.find(|anomaly| !told.contains(&Change::Anomaly(anomaly.kind)));
        assert_eq!(silent, None, "{serial}: stored before it is told: {told:?}");
    }

    fn current(&self, document: &Document) -> Option<(Document, u64)> {
        match document {
            Document::Pile(_) => self.pile.clone().map(|(pile, version)| (Document::Pile(Box::new(pile)), version)),
            Document::Order(order) => {
                let stored = self.orders.get(&order.serial).cloned();
                stored.map(|(order, version)| (Document::Order(Box::new(order)), version))
            }
            Document::StartAttempt(attempt) => {
                let stored = self.attempts.get(&attempt.id).copied();
                stored.map(|attempt| (Document::StartAttempt(attempt), 1))
            }
        }
    }

    fn put(&mut self, document: &Document) -> u64 {
        let version = self.current(document).map_or(0, |(_, version)| version) + 1;
        match document {
            Document::Pile(pile) => self.pile = Some((pile.as_ref().clone(), version)),
            Document::Order(order) => {
                self.orders.insert(order.serial, (order.as_ref().clone(), version));
            }
            Document::StartAttempt(attempt) => {
                self.attempts.insert(attempt.id, *attempt);
            }
        }
        version
    }

    pub fn settle(&mut self, record: &Record, latest: Option<(Order, u64)>, now: WallMs) -> SettledOrder {
        let serial = record.serial;
        let kept = self.records.entry(serial).or_default();
        let outcome = match kept.first() {
            None => Settled::First,
            Some(first) if first.same_as(record) => Settled::Again,
            Some(_) => Settled::Conflict { first: !kept[1..].iter().any(|other| other.same_as(record)) },
        };
        if matches!(outcome, Settled::First | Settled::Conflict { first: true }) {
            kept.push(record.clone());
        }
        let stored = self.orders.get(&serial).cloned();
        if outcome == Settled::First {
            let fresh = |(_, version): &(Order, u64)| stored.as_ref().is_none_or(|(_, v)| v == version);
            let base = latest.filter(fresh).or(stored.clone()).map(|(order, _)| order);
            let mut order = base.unwrap_or_else(|| Order::billed(record, now));
            let changes = order.apply(now, Happening::Recorded(Box::new(record.clone())));
            self.put(&Document::Order(Box::new(order.clone())));
            let told = |change| EventKind::Order { order: Box::new(order.clone()), change };
            self.events.extend(changes.into_iter().map(told));
        } else if let Settled::Conflict { first } = outcome {
            self.events.extend(first.then_some(EventKind::RecordConflict { serial }));
            let mut order = stored.expect("settled before").0;
            let changes = order.apply(now, Happening::ConflictingRecord);
            if !changes.is_empty() {
                self.put(&Document::Order(Box::new(order.clone())));
            }
            self.events
                .extend(changes.into_iter().map(|change| EventKind::Order { order: Box::new(order.clone()), change }));
        }
        let (order, version) = self.orders.get(&serial).cloned().expect("settled");
        SettledOrder { outcome, order: Some(order), version }
    }
}

pub fn unavailable(call: &LedgerCall) -> Done {
    let away = || StoreError::Unavailable("switched off".into());
    match call {
        LedgerCall::Claim(_) => Done::Claimed(Err(away())),
        LedgerCall::Write(_) | LedgerCall::TellDuplicate { .. } => Done::Written(Err(away().into())),
        LedgerCall::Settle { .. } => Done::Settled(Err(away())),
        LedgerCall::LookUp { .. } => Done::LookedUp(Err(away())),
        LedgerCall::KeepCurve { .. } => Done::CurveKept(Err(away().into())),
    }
}
