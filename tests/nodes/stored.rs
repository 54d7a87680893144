//! What is in Redis afterwards, read without any node.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use futures_util::{StreamExt, stream};
use pileway::domain::order::Change;
use pileway::domain::{EventKind, OrderState, PileCode, Serial};
use pileway::sim::Fleet;
use pileway::store::ledger::Ledger;
use pileway::store::redis::{Config, Redis};
use pileway::store::{Partition, Store, document};

use crate::common::PATIENCE;

/// The Redis the nodes work with.
pub async fn open(url: &str) -> Arc<dyn Store> {
    Arc::new(Redis::open(Config::new(url)).await.expect("an address of redis"))
}

/// Every acknowledged record settled its order exactly once, and every pile's events are in order, without a gap.
pub async fn check(store: Arc<dyn Store>, fleets: &[&Fleet]) {
    let acked: Vec<_> = fleets
        .iter()
        .flat_map(|fleet| fleet.ledger().records().map(|(pile, order)| (pile, order.clone())).collect::<Vec<_>>())
        .filter(|(_, order)| order.acked)
        .map(|(pile, order)| (pile, order.serial))
        .collect();
    assert!(!acked.is_empty(), "nothing was acknowledged: nothing is proved");
    let ledger = Ledger::new(store.clone());
    // What was journaled gets there in its own time, which is long for minutes of work: so long as it gets on.
    let (begun, mut until) = (Instant::now(), Instant::now() + PATIENCE);
    let mut missing = acked.clone();
    while !missing.is_empty() {
        let before = missing.len();
        let looked = missing.into_iter().map(async |(pile, serial)| {
            let order = ledger.order(pile, serial).await;
            let settled = matches!(&order, Ok(Some((order, _))) if order.state == OrderState::Settled);
            (!settled).then_some((pile, serial))
        });
        missing = stream::iter(looked).buffered(64).filter_map(std::future::ready).collect().await;
        // A look takes its time too: what counts is whether one finds more than the one before.
        if missing.len() < before {
            until = Instant::now() + PATIENCE;
        }
        if let Some((pile, serial)) = missing.first().filter(|_| Instant::now() >= until) {
            let record = ledger.record(*pile, *serial).await.map(|record| record.is_some());
            panic!("{} acknowledged records are not in the store, such as {pile} {serial}: {record:?}", missing.len());
        }
    }
    eprintln!("everything was in the store {:.1?} after the last acknowledgement", begun.elapsed());
    let log = Log::read(&*store).await;
    for (pile, serial) in &acked {
        let settled = log.settled.get(serial).copied().unwrap_or_default();
        assert_eq!(settled, 1, "{pile}: {serial} was settled {settled} times");
    }
    eprintln!("{} acknowledged records, each settled once", acked.len());
}

/// The event log of everybody.
pub struct Log {
    pub settled: HashMap<Serial, u32>,
    pub offline: BTreeMap<PileCode, u32>,
}

impl Log {
    pub async fn read(store: &dyn Store) -> Self {
        let mut log = Self { settled: HashMap::new(), offline: BTreeMap::new() };
        let mut last: BTreeMap<PileCode, (u64, u64)> = BTreeMap::new();
        for partition in (0..store.partitions()).map(Partition) {
            let mut after = 0;
            loop {
                let entries = store.read_log(partition, after, 512).await.expect("reads");
                let Some(newest) = entries.last() else { break };
                after = newest.offset;
                for entry in entries {
                    let here = (entry.epoch.0, entry.seq);
                    if let Some((epoch, seq)) = last.insert(entry.pile, here) {
                        assert!(
                            here.0 >= epoch && here.1 == seq + 1,
                            "{}: {here:?} after {:?}",
                            entry.pile,
                            (epoch, seq)
                        );
                    }
                    let stored = document::read_stored_event("a test", &entry.payload).expect("readable");
                    match stored.event.kind {
                        EventKind::Order { order, change: Change::Settled } => {
                            *log.settled.entry(order.serial).or_default() += 1;
                        }
                        // What waited in the journal of a node that was away itself comes when it comes, and says so.
                        EventKind::Order { .. } if stored.late => {}
                        EventKind::Order { change: Change::Anomaly(_), .. } => {}
                        EventKind::Order { order, change } => {
                            let settled = log.settled.contains_key(&order.serial);
                            assert!(!settled, "{}: {} was {change:?} after it was settled", order.pile, order.serial);
                        }
                        EventKind::PileOffline { pile, .. } => *log.offline.entry(pile.code).or_default() += 1,
                        _ => {}
                    }
                }
            }
        }
        log
    }
}
