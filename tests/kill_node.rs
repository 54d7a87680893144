//! No acknowledged record is lost: a whole node is killed while piles settle as fast as they can, again and again.
//!
//! `PILEWAY_TEST_KILL_ROUNDS` rounds, 20 by default; `PILEWAY_TEST_SEED` repeats a run's choices.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::pile::Line;
use common::{Api, Chance, Node, frames, within};
use pileway::api::pb::{OrderAnomalyKind, OrderState};
use pileway::domain::order::Change;
use pileway::domain::{self, EventKind};
use pileway::store::embedded::{Config, Embedded};
use pileway::store::{Offset, PARTITIONS, Partition, Store, document};
use pileway::wire::*;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

const PILES: u8 = 4;
/// Records a pile has sent and not seen acknowledged.
const WINDOW: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_settled_exactly_once() {
    let mut chance = Chance::seeded();
    let rounds = std::env::var("PILEWAY_TEST_KILL_ROUNDS").map_or(20, |n| n.parse().expect("a number of rounds"));
    let mut node = Node::start();
    let mut piles: Vec<_> = (1..=PILES).map(Source::new).collect();
    let acks = Arc::new(AtomicU64::new(0));

    for _ in 0..rounds {
        // The moment: after so many acknowledgements, give or take a piece of the next one.
        let enough = acks.load(Ordering::SeqCst) + chance.below(120);
        let mut pouring = JoinSet::new();
        for pile in piles.drain(..) {
            pouring.spawn(pile.pour(node.piles, u64::MAX, acks.clone()));
        }
        let poured = async {
            while acks.load(Ordering::SeqCst) < enough {
                tokio::task::yield_now().await;
            }
        };
        within("enough acknowledgements", poured).await;
        for _ in 0..chance.below(1000) {
            tokio::task::yield_now().await;
        }
        node.kill();
        piles = within("the piles to notice", pouring.join_all()).await;
        node.restart();
    }

    // Everything that was ever sent is sent until it is acknowledged.
    let mut pouring = JoinSet::new();
    for pile in piles.drain(..) {
        let made = pile.made;
        pouring.spawn(pile.pour(node.piles, made, acks.clone()));
    }
    piles = within("the rest to be acknowledged", pouring.join_all()).await;
    let acked: BTreeSet<_> = piles.iter().flat_map(|pile| pile.acked.iter().map(|n| (pile.code.clone(), *n))).collect();
    eprintln!("{rounds} kills, {} records", acked.len());

    // As callers see it.
    let api = Api::of(&node).await;
    for pile in &piles {
        assert!(pile.unacked.is_empty());
        let orders = api.orders(&pile.code).await;
        let mut serials = BTreeSet::new();
        for order in orders {
            assert!(serials.insert(order.serial.clone()), "{} is listed twice", order.serial);
            assert_eq!(order.state(), OrderState::Settled, "{order:?}");
            let anomalies: Vec<_> = order.anomalies.iter().map(pileway::api::pb::OrderAnomaly::kind).collect();
            assert_eq!(anomalies, [OrderAnomalyKind::UnknownSerial], "a copy is no conflict");
            let energy = i64::from(energy(number(order.serial.parse().expect("hex")))) * 100;
            assert_eq!(order.bill.expect("a bill").total_energy_mwh, energy);
        }
        let expected: BTreeSet<_> = pile.acked.iter().map(|n| pile.serial(*n).to_string()).collect();
        assert_eq!(serials, expected);
        let last = api.order(&pile.code, &pile.serial(pile.made).to_string()).await;
        assert_eq!(last.state(), OrderState::Settled);
    }

    // As the log has it.
    let dir = node.data_dir();
    node.terminate();
    assert!(node.wait().success());
    let settled = settlements(dir).await;
    let twice: Vec<_> = settled.iter().filter(|(_, times)| **times != 1).collect();
    assert!(twice.is_empty(), "settled more than once: {twice:?}");
    let expected: BTreeSet<_> =
        piles.iter().flat_map(|pile| pile.acked.iter().map(|n| pile.serial(*n).to_string())).collect();
    assert_eq!(settled.into_keys().collect::<BTreeSet<_>>(), expected);
}

/// A pile that bills one charge after the other, as fast as it is acknowledged.
struct Source {
    code: String,
    name: u8,
    /// How many records it has made: number 1 to this.
    made: u64,
    unacked: BTreeSet<u64>,
    acked: BTreeSet<u64>,
}

impl Source {
    fn new(name: u8) -> Self {
        let code = format!("5503141278230{name}");
        Self { code, name, made: 0, unacked: BTreeSet::new(), acked: BTreeSet::new() }
    }

    /// Until the connection ends, or records up to `last` are acknowledged.
    async fn pour(mut self, node: SocketAddr, last: u64, acks: Arc<AtomicU64>) -> Self {
        self.pour_once(node, last, &acks).await;
        self
    }

    async fn pour_once(&mut self, node: SocketAddr, last: u64, acks: &AtomicU64) -> Option<()> {
        let mut line = Line::over(TcpStream::connect(node).await.ok()?);
        line.try_send(frames::login(&self.code, 1)).await.then_some(())?;
        while !matches!(line.next().await?.frame, Frame::LoginResponse(_)) {}
        for n in self.unacked.clone() {
            self.send(&mut line, n).await?;
        }
        loop {
            while self.unacked.len() < WINDOW && self.made < last {
                self.made += 1;
                self.unacked.insert(self.made);
                self.send(&mut line, self.made).await?;
            }
            if self.unacked.is_empty() {
                return Some(());
            }
            if let Frame::TransactionRecordAck(ack) = line.next().await?.frame {
                assert_eq!(ack.result, RecordResult::UploadAccepted);
                let n = number(ack.transaction_serial);
                self.unacked.remove(&n);
                self.acked.insert(n);
                acks.fetch_add(1, Ordering::SeqCst);
            }
        }
    }

    async fn send(&self, line: &mut Line, n: u64) -> Option<()> {
        line.try_send(frames::record(&self.code, 1, self.serial(n), energy(n))).await.then_some(())
    }

    fn serial(&self, n: u64) -> Serial {
        let mut bytes = [self.name; 16];
        bytes[8..].copy_from_slice(&n.to_be_bytes());
        Serial(bytes)
    }
}

fn number(serial: Serial) -> u64 {
    u64::from_be_bytes(serial.0[8..].try_into().expect("eight bytes"))
}

/// Tells the records apart.
fn energy(n: u64) -> u32 {
    u32::try_from(n).expect("few enough") * 5
}

/// How often each serial was settled, by the log of a node that has ended; and the log itself has no gap.
async fn settlements(dir: PathBuf) -> BTreeMap<String, u64> {
    let store = Embedded::open(Config { partitions: PARTITIONS, ..Config::new(dir) }).expect("nobody else has it open");
    let mut settled = BTreeMap::new();
    let mut seqs: BTreeMap<domain::PileCode, u64> = BTreeMap::new();
    for partition in (0..PARTITIONS).map(Partition) {
        let mut after: Offset = 0;
        loop {
            let entries = store.read_log(partition, after, 100).await.expect("readable");
            let Some(newest) = entries.last() else { break };
            after = newest.offset;
            for entry in &entries {
                let seq = seqs.entry(entry.pile).or_insert(0);
                *seq += 1;
                assert_eq!(entry.seq, *seq, "the events of pile {} have a gap", entry.pile);
                let event = document::read_event("an entry", &entry.payload).expect("readable");
                if let EventKind::Order { order, change: Change::Settled } = event.kind {
                    *settled.entry(order.serial.to_string()).or_insert(0) += 1;
                }
            }
        }
    }
    store.close().await;
    settled
}
