//! Anything in any order: writes, records, outages of both kinds, rounds of the drain, kills. Whatever happens, every
//! acknowledged event is in the log exactly once, in the order of its pile, and every acknowledged record has settled its
//! order once.

use std::collections::BTreeMap;

use pileway::domain::order::Change;
use pileway::domain::{Event, EventKind, Fence, Order, PileCode, WallMs};
use pileway::store::ledger::{Document, Expect, Ledger, Write, WriteError};
use pileway::store::{BatchId, Claim, Partition, Settled, Store, document};

use crate::Site;
use crate::common::Chance;
use crate::far::Mood;
use crate::values::{NOW, event, order, pile, record, session};

/// A session as it would behave: one write at a time.
struct Session {
    pile: PileCode,
    counter: u64,
    fence: Fence,
    n: u64,
    version: Option<u64>,
}

/// What a pile's log has to tell: the numbers the events carry as their times, and records by order.
#[derive(Default)]
struct Expected {
    events: Vec<i64>,
    /// How often each order was acknowledged as settled.
    records: BTreeMap<u64, usize>,
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_everything_acknowledged_is_there_once_and_in_order() {
    let mut chance = Chance::seeded();
    for _ in 0..6 {
        one_life(&mut chance).await;
    }
}

async fn one_life(chance: &mut Chance) {
    const PILES: u64 = 3;
    let mut site = Site::new().await;
    let (mut sessions, mut counter, mut clock) = (vec![], 0, NOW.0);
    let mut expected: BTreeMap<PileCode, Expected> = BTreeMap::new();
    for n in 0..PILES {
        counter += 1;
        let fence = site.claim(pile(n), counter).await;
        sessions.push(Session { pile: pile(n), counter, fence, n: 0, version: None });
    }
    for _ in 0..120 {
        let who = chance.below(PILES) as usize;
        match chance.below(12) {
            0..5 => {
                clock += 1;
                sessions[who].write(&site.ledger, clock, &mut expected).await;
            }
            5..7 => sessions[who].settle(&site.ledger, chance.below(6), &mut expected).await,
            7 => site.far.set([Mood::Away, Mood::Mute][chance.below(2) as usize]),
            8 | 9 => site.far.set(Mood::Here),
            10 => drop(site.ledger.drain_round().await),
            _ if chance.below(2) == 0 => {
                counter += 1;
                sessions[who].log_in(&site, counter).await;
            }
            _ => site = site.killed().await,
        }
    }
    site.far.set(Mood::Here);
    site.drain().await;
    for (pile, expected) in expected {
        check(&*site.far, pile, expected).await;
    }
}

impl Session {
    async fn write(&mut self, ledger: &Ledger, at: i64, expected: &mut BTreeMap<PileCode, Expected>) {
        let write = self.next(at);
        let events = write.events.iter().map(|event| event.recorded_at.0);
        let expected = expected.entry(self.pile).or_default();
        match ledger.write(write.clone()).await {
            Ok(versions) => {
                expected.events.extend(events);
                self.version = versions.first().copied();
            }
            Err(WriteError::Conflict { current, .. }) => self.version = current.map(|(_, version)| version),
            // A claim that was carried out without an answer has put an end to it.
            Err(WriteError::Fenced) => {}
            // The journal's disk is well.
            Err(other @ WriteError::Store(_)) => panic!("{other:?}"),
        }
    }

    fn next(&mut self, at: i64) -> Write {
        self.n += 1;
        let mine = self.order(100);
        let expect = self.version.map_or(Expect::Absent, Expect::Version);
        let events = vec![Event { recorded_at: WallMs(at), ..event(&mine, Change::Charging) }];
        Write {
            id: BatchId { session: session(self.counter), n: self.n },
            pile: self.pile,
            fence: Some(self.fence),
            documents: vec![(Document::Order(Box::new(mine)), expect)],
            events,
        }
    }

    async fn settle(&mut self, ledger: &Ledger, n: u64, expected: &mut BTreeMap<PileCode, Expected>) {
        let settled = ledger.settle(record(&self.order(n), 1), None, NOW).await.expect("the journal's disk is well");
        let outcomes = [Settled::First, Settled::Again, Settled::Journaled];
        assert!(outcomes.contains(&settled.outcome), "{settled:?}");
        *expected.entry(self.pile).or_default().records.entry(n).or_default() += 1;
    }

    /// The pile connects again: the session before is over once the store says so.
    async fn log_in(&mut self, site: &Site, counter: u64) {
        let claim = Claim::login(self.pile, session(counter), NOW, 1);
        let Ok(login) = site.ledger.claim(claim).await else { return };
        let version = login.open_orders.iter().find(|(order, _)| order.serial == self.order(100).serial);
        let version = version.map(|(_, version)| *version);
        *self = Self { counter, fence: login.fence, n: 0, version, pile: self.pile };
    }

    fn order(&self, n: u64) -> Order {
        order(self.pile, n)
    }
}

async fn check(far: &dyn Store, pile: PileCode, expected: Expected) {
    let entries = far.read_log(Partition::of(pile, far.partitions()), 0, 1024).await.expect("reads");
    let (mut events, mut settled) = (vec![], BTreeMap::<_, usize>::new());
    for entry in entries.into_iter().filter(|entry| entry.pile == pile) {
        match document::read_event("of the log", &entry.payload).expect("reads") {
            Event { kind: EventKind::Order { change: Change::Charging, .. }, recorded_at, .. } => {
                events.push(recorded_at.0);
            }
            Event { kind: EventKind::Order { change: Change::Settled, order }, .. } => {
                *settled.entry(order.serial).or_default() += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(events, expected.events, "pile {pile}: each once, in order");
    let records: BTreeMap<_, _> = expected.records.keys().map(|n| (order(pile, *n).serial, 1)).collect();
    assert_eq!(settled, records, "pile {pile}: each order settles once");
}
