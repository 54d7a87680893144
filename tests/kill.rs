//! No acknowledged record is lost, however the process ends (`kill -9` at a random moment, many times over).
//!
//! The parent runs this very executable again as the child, which settles records as fast as it can and prints each
//! serial only after `settle` has returned. After the kill the parent opens the same directory and looks for every
//! serial that was printed.
//!
//! `PILEWAY_KILL_ROUNDS` (20) rounds; `PILEWAY_KILL_SEED` repeats a run. What no kill of a process can show is a power
//! cut: that an fsync reaches the disk is the kernel's promise.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use pileway::domain::order::Change;
use pileway::domain::record::RecordedPeriod;
use pileway::domain::{Amount, Energy, EventKind, Gun, OrderState, PileCode, Record, Serial, WallMs};
use pileway::store::embedded::{Config, Embedded};
use pileway::store::ledger::Ledger;
use pileway::store::{Partition, Settled, Store, document};

#[test]
fn an_acknowledged_record_survives_kill_9() {
    if std::env::var_os(CHILD).is_some() {
        return;
    }
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect(name));
    let rounds = number("PILEWAY_KILL_ROUNDS").unwrap_or(20);
    let mut random = number("PILEWAY_KILL_SEED").unwrap_or_else(|| u64::from(std::process::id()) << 20 | 1);
    println!("PILEWAY_KILL_SEED={random}");

    let dir = tempfile::tempdir().expect("a directory");
    let mut acknowledged = 0;
    for round in 0..rounds {
        // The moment is a number of acknowledgements rather than a time: the same on a slow machine.
        let after = xorshift(&mut random) % 600;
        let serials = run_and_kill(dir.path(), round, after);
        assert!(serials.len() as u64 >= after, "the child ended early");
        acknowledged += serials.len();
        check(dir.path(), round, &serials);
    }
    println!("{acknowledged} acknowledged records, {rounds} kills, none lost");
}

/// Settles until it is killed. Does nothing unless it is started by the parent.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let round: u64 = std::env::var(ROUND).expect("a round").parse().expect("a number");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let ledger = Ledger::new(Arc::new(Embedded::open(Config::new(Path::new(&dir))).expect("opens")));
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..TASKS {
            let ledger = ledger.clone();
            tasks.spawn(async move {
                for n in 0.. {
                    let record = record(round, task, n);
                    let serial = record.serial;
                    let settled = ledger.settle(record.clone(), None, NOW).await.expect("settles");
                    assert_eq!(settled.outcome, Settled::First);
                    acknowledge(serial);
                    if n % 3 == 0 {
                        // Piles repeat what they doubt has arrived.
                        let again = ledger.settle(record, None, NOW).await.expect("settles again");
                        assert_eq!(again.outcome, Settled::Again);
                    }
                }
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended.expect("settles until it is killed");
        }
    });
}

/// One write call per line: a line is there whole or not at all, as a 0x40 would be.
fn acknowledge(serial: Serial) {
    let line = format!("{MARK}{serial}\n");
    std::io::stdout().lock().write_all(line.as_bytes()).expect("the parent listens");
}

fn run_and_kill(dir: &Path, round: u64, after: u64) -> Vec<Serial> {
    let mut child = Command::new(std::env::current_exe().expect("this executable"))
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env(CHILD, dir)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut lines = BufReader::new(child.stdout.take().expect("is piped")).lines();
    let serial = |line: std::io::Result<String>| line.ok()?.split_once(MARK)?.1.parse::<Serial>().ok();
    let mut serials = Vec::new();
    while (serials.len() as u64) < after {
        let Some(line) = lines.next() else { break };
        serials.extend(serial(line));
    }
    child.kill().expect("is killed");
    // What it managed to print before the kill counts as well.
    serials.extend(lines.filter_map(serial));
    child.wait().expect("ends");
    serials
}

fn check(dir: &Path, round: u64, acknowledged: &[Serial]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let store = Arc::new(Embedded::open(Config::new(dir)).expect("reopens"));
        let ledger = Ledger::new(store.clone());
        let events = settled_events(&*store).await;
        for serial in acknowledged {
            let (task, n) = numbers(*serial);
            let expected = record(round, task, n);
            assert_eq!(expected.serial, *serial);
            let (order, version) = ledger.order(expected.pile, *serial).await.expect("reads").expect("is not lost");
            assert_eq!((order.state, version), (OrderState::Settled, 1), "settled exactly once");
            assert_eq!(order.bill.expect("has a bill").record, expected);
            assert_eq!(ledger.record(expected.pile, *serial).await.expect("reads"), Some(expected));
        }
        // Also for those that became durable but were not acknowledged: all of it, once.
        for (serial, count) in &events {
            assert_eq!(*count, 1, "order {serial} is in the log more than once");
        }
        assert!(acknowledged.iter().all(|serial| events.contains_key(serial)), "an event is missing");
    });
}

async fn settled_events(store: &dyn Store) -> BTreeMap<Serial, u64> {
    let mut count = BTreeMap::new();
    for partition in (0..store.partitions()).map(Partition) {
        let mut after = 0;
        loop {
            let log = store.read_log(partition, after, 1000).await.expect("reads");
            let Some(last) = log.last() else { break };
            assert!(log.iter().zip(after + 1..).all(|(entry, offset)| entry.offset == offset), "the log has a gap");
            after = last.offset;
            for entry in log {
                let event = document::read_event("", &entry.payload).expect("can be read");
                let EventKind::Order { order, change } = event.kind else { panic!("only settlements were written") };
                let stored = store.get(document::record_key(order.pile, order.serial)).await.expect("reads");
                assert!(stored.is_some(), "an event without its record");
                // What the audit finds is told beside it.
                *count.entry(order.serial).or_insert(0) += u64::from(change == Change::Settled);
            }
        }
    }
    count
}

/// Everything in it follows from the three numbers, so that the parent knows what must be there.
fn record(round: u64, task: u64, n: u64) -> Record {
    let pile: PileCode = format!("{:014}", task % 5).parse().expect("14 digits");
    let mut serial = [0; 16];
    serial[..4].copy_from_slice(&(round as u32).to_be_bytes());
    serial[4..8].copy_from_slice(&(task as u32).to_be_bytes());
    serial[8..].copy_from_slice(&n.to_be_bytes());
    Record {
        pile,
        gun: Gun::new(1).expect("a gun"),
        serial: Serial::from_bytes(serial),
        started: None,
        ended: None,
        traded: None,
        periods: [RecordedPeriod::default(); 4],
        meter_start: Energy(n),
        meter_end: Energy(n + 1),
        total_energy: Energy(1),
        total_loss_energy: Energy(1),
        total_amount: Amount(1),
        vin: String::new(),
        start_type: 1,
        stop_reason: 0x40,
        stop_reason_name: String::new(),
        physical_card: [0; 8],
        code: 0x3B,
        body: serial.repeat(10),
    }
}

fn numbers(serial: Serial) -> (u64, u64) {
    let bytes = serial.bytes();
    let number = |bytes: &[u8]| bytes.iter().fold(0, |n, b| n << 8 | u64::from(*b));
    (number(&bytes[4..8]), number(&bytes[8..]))
}

fn xorshift(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

const CHILD: &str = "PILEWAY_KILL_CHILD";
const ROUND: &str = "PILEWAY_KILL_ROUND";
const MARK: &str = "acknowledged ";
const TASKS: u64 = 16;
const NOW: WallMs = WallMs(1_760_000_000_000);
