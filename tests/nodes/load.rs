//! Callers who never stop: starts, questions and clock settings at any node for any pile, every answer noted.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use pileway::api::pb;
use pileway::domain::{PileCode, Serial};
use pileway::sim::Fleet;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::common::api::{new_request_id, start_request, timed};
use crate::common::{Api, Chance};

/// How long a caller waits.
pub const DEADLINE: Duration = Duration::from_secs(5);

pub struct Load {
    shared: Arc<Shared>,
    stop: CancellationToken,
    callers: JoinSet<()>,
}

/// The nodes that may be asked; `None` while one is down.
#[derive(Clone)]
pub struct Nodes(Arc<Mutex<Vec<Option<Api>>>>);

struct Shared {
    nodes: Nodes,
    piles: Vec<PileCode>,
    told: Mutex<Told>,
}

/// What callers were told.
#[derive(Default)]
pub struct Told {
    pub answers: u64,
    /// Starts that succeeded.
    pub started: u64,
    /// Reason and code of every error.
    pub errors: BTreeMap<String, u64>,
    /// Errors a node gave without saying why.
    pub untyped: Vec<Status>,
    /// Answers that came after their deadline.
    pub late: Vec<Duration>,
    /// Of every start: until when it might be carried out.
    pub starts: HashMap<Serial, Instant>,
}

impl Told {
    /// Share of calls, in 1/10000, that ended in an error other than "the gun is busy", which is no failure.
    pub fn failed_share(&self) -> u64 {
        let failed: u64 =
            self.errors.iter().filter(|(reason, _)| !reason.starts_with("GUN_BUSY")).map(|(_, n)| n).sum();
        failed * 10_000 / self.answers.max(1)
    }
}

impl Load {
    pub fn begin(apis: &[Api], fleet: &Fleet, callers: usize) -> Self {
        Self::of_piles(apis, fleet.piles().iter().map(pileway::sim::Handle::code).collect(), callers)
    }

    pub fn of_piles(apis: &[Api], piles: Vec<PileCode>, callers: usize) -> Self {
        let nodes = Nodes(Arc::new(Mutex::new(apis.iter().cloned().map(Some).collect())));
        let shared = Arc::new(Shared { nodes, piles, told: Mutex::default() });
        let (stop, mut tasks, mut chance) = (CancellationToken::new(), JoinSet::new(), Chance::seeded());
        for _ in 0..callers {
            let (shared, stop, chance) = (shared.clone(), stop.clone(), Chance::of(chance.next()));
            tasks.spawn(async move { call(&shared, &stop, chance).await });
        }
        Self { shared, stop, callers: tasks }
    }

    /// Whom these callers ask, for others who do the same.
    pub fn nodes(&self) -> Nodes {
        self.shared.nodes.clone()
    }

    /// Node `n` is asked no more.
    pub fn without(&self, n: usize) {
        self.shared.nodes.all()[n] = None;
    }

    /// Node `n` is asked again.
    pub fn with(&self, n: usize, api: Api) {
        self.shared.nodes.all()[n] = Some(api);
    }

    pub fn told(&self) -> MutexGuard<'_, Told> {
        self.shared.told()
    }

    /// Callers finish what they have begun.
    pub async fn end(mut self) -> Told {
        self.stop.cancel();
        while let Some(ended) = self.callers.join_next().await {
            ended.expect("callers do not panic");
        }
        std::mem::take(&mut *self.shared.told())
    }
}

impl Nodes {
    /// One of those that are up.
    pub fn any(&self, chance: &mut Chance) -> (usize, Api) {
        let all = self.all();
        let living: Vec<_> = all.iter().enumerate().filter_map(|(n, api)| Some((n, api.clone()?))).collect();
        living[chance.below(living.len() as u64) as usize].clone()
    }

    fn all(&self) -> MutexGuard<'_, Vec<Option<Api>>> {
        self.0.lock().expect("no panic")
    }
}

impl Shared {
    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().expect("no panic")
    }
}

async fn call(shared: &Shared, stop: &CancellationToken, mut chance: Chance) {
    while !stop.is_cancelled() {
        let pile = shared.piles[chance.below(shared.piles.len() as u64) as usize];
        match chance.below(10) {
            0..6 => start(shared, &mut chance, pile).await,
            6..8 => {
                let request = pb::ReadTelemetryRequest { pile: pile.to_string(), gun: 1 };
                let (node, mut api) = shared.nodes.any(&mut chance);
                let begun = Instant::now();
                let answer = api.telemetry.read_telemetry(timed(request, DEADLINE)).await.map(drop);
                note(shared, node, begun, answer);
            }
            _ => {
                let request = pb::SyncClockRequest { pile: pile.to_string() };
                let (node, mut api) = shared.nodes.any(&mut chance);
                let begun = Instant::now();
                let answer = api.piles.sync_clock(timed(request, DEADLINE)).await.map(drop);
                note(shared, node, begun, answer);
            }
        }
    }
}

/// A start, asked for again at another node under the same request id where that is safe.
async fn start(shared: &Shared, chance: &mut Chance, pile: PileCode) {
    let mut bytes = [0; 16];
    bytes[..7].copy_from_slice(&pile.bcd());
    bytes[7] = 1;
    bytes[8..].copy_from_slice(&chance.next().to_be_bytes());
    let serial = Serial::from_bytes(bytes);
    let id = new_request_id();
    let request = pb::StartChargingRequest {
        serial: serial.to_string(),
        order_id: id.clone(),
        request_id: id,
        ..start_request(&pile.to_string(), 1)
    };
    for _ in 0..3 {
        let (node, mut api) = shared.nodes.any(chance);
        let begun = Instant::now();
        shared.told().starts.insert(serial, begun + DEADLINE);
        let answer = api.charging.start_charging(timed(request.clone(), DEADLINE)).await.map(drop);
        let again = answer.as_ref().is_err_and(|status| status.code() == Code::Unavailable);
        if answer.is_ok() {
            shared.told().started += 1;
        }
        note(shared, node, begun, answer);
        if !again {
            return;
        }
    }
}

fn note(shared: &Shared, node: usize, begun: Instant, answer: Result<(), Status>) {
    let took = begun.elapsed();
    // A node that has been taken out of service under the call answers nothing.
    let asked_a_dead_node = shared.nodes.all()[node].is_none();
    let mut told = shared.told();
    told.answers += 1;
    if took >= DEADLINE {
        told.late.push(took);
    }
    let Err(status) = answer else { return };
    match status.get_details_error_info() {
        Some(info) => {
            let what = format!("{} ({:?})", info.reason, status.code());
            if !told.errors.contains_key(&what) {
                eprintln!("{what}, the first: {}", status.message());
            }
            *told.errors.entry(what).or_default() += 1;
        }
        None if asked_a_dead_node => *told.errors.entry("the node asked has gone".to_owned()).or_default() += 1,
        // The caller's own clock: nobody has answered by then.
        None if took >= DEADLINE && status.code() == Code::Cancelled => {
            *told.errors.entry("no answer in time".to_owned()).or_default() += 1;
        }
        None => told.untyped.push(status),
    }
}

/// What piles have seen, against what callers were promised: no start twice, none after its deadline.
pub fn check_starts(told: &Told, fleet: &Fleet) {
    let ledger = fleet.ledger();
    assert_eq!(ledger.forgotten(), 0, "the notes hold everything");
    let doubled: Vec<_> = ledger.doubled().collect();
    assert!(doubled.is_empty(), "started twice: {doubled:?}");
    for (pile, command) in ledger.commands(0x34) {
        let serial = command.serial.expect("0x34 names an order");
        let until = told.starts.get(&serial).unwrap_or_else(|| panic!("{pile}: nobody asked for {serial}"));
        assert!(command.at.into_std() <= *until, "{pile}: {serial} was started after its deadline");
    }
}
