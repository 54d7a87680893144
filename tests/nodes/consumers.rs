//! A group of consumers who die at random, and what they were delivered between them.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use pileway::api::pb;
use pileway::api::pb::event::Kind;
use pileway::api::pb::event_service_client::EventServiceClient;
use pileway::api::pb::subscribe_response::Update;
use pileway::sim::Fleet;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::transport::Channel;

use crate::common::api::timed;
use crate::common::{Chance, PATIENCE, has_passed};
use crate::load::{DEADLINE, Nodes};

pub struct Consumers {
    group: String,
    nodes: Nodes,
    seen: Arc<Mutex<Seen>>,
    calm: CancellationToken,
    tasks: JoinSet<()>,
}

/// What was delivered to whomever.
#[derive(Default)]
struct Seen {
    deliveries: u64,
    /// The newest event of each pile, by (epoch, seq).
    newest: BTreeMap<String, (i64, i64)>,
    /// How often each order was delivered as settled.
    settled: HashMap<String, u32>,
    /// Events that skipped one of their pile.
    skipped: Vec<String>,
    gaps: Vec<pb::EventGap>,
    deaths: u32,
    broken: u32,
}

impl Consumers {
    pub fn begin(group: &str, nodes: Nodes, count: usize) -> Self {
        let (seen, calm, mut tasks): (Arc<Mutex<Seen>>, _, _) =
            (Arc::default(), CancellationToken::new(), JoinSet::new());
        let mut chance = Chance::seeded();
        for _ in 0..count {
            let (group, nodes, seen, calm) = (group.to_owned(), nodes.clone(), seen.clone(), calm.clone());
            let mut chance = Chance::of(chance.next());
            tasks.spawn(async move {
                loop {
                    consume(&group, &nodes, &seen, &calm, &mut chance).await;
                    // Whoever starts a dead consumer again takes a moment.
                    has_passed(Duration::from_millis(chance.below(1_000)), std::time::Instant::now()).await;
                }
            });
        }
        Self { group: group.to_owned(), nodes, seen, calm, tasks }
    }

    /// Nobody dies any more; waits until all that pile were acknowledged was delivered, and the group has nothing left.
    pub async fn finish(mut self, fleet: &Fleet) {
        self.calm.cancel();
        let mut missing: Vec<_> = fleet
            .ledger()
            .records()
            .filter(|(_, order)| order.acked)
            .map(|(_, order)| order.serial.to_string())
            .collect();
        let acked = missing.len();
        // So long as it gets on.
        let mut until = Instant::now() + PATIENCE;
        while !missing.is_empty() || self.lag().await != Some(0) {
            let before = (missing.len(), seen(&self.seen).deliveries);
            missing.retain(|serial| !seen(&self.seen).settled.contains_key(serial));
            if before != (missing.len(), seen(&self.seen).deliveries) {
                until = Instant::now() + PATIENCE;
            }
            assert!(Instant::now() < until, "{} of {acked} never delivered: {:?}", missing.len(), missing.first());
            tokio::task::yield_now().await;
        }
        self.tasks.shutdown().await;
        let Seen { deliveries, newest, settled, skipped, gaps, deaths, broken } =
            std::mem::take(&mut *seen(&self.seen));
        assert!(skipped.is_empty(), "{} out of order: {:?}", skipped.len(), skipped.first());
        // A Redis that is killed may lose the last events it has acknowledged: that is said, and nothing else is.
        assert!(gaps.iter().all(|gap| gap.reason() == pb::EventGapReason::Lost), "{gaps:?}");
        assert!(deaths > 0, "no consumer died: nothing is proved");
        eprintln!(
            "{acked} settlements delivered to a group: {deliveries} deliveries of {} piles' events, {deaths} consumers killed, \
             {broken} streams broken, {} settlements delivered more than once, {} gaps told",
            newest.len(),
            settled.values().filter(|times| **times > 1).count(),
            gaps.len()
        );
    }

    async fn lag(&self) -> Option<i64> {
        let (_, api) = self.nodes.any(&mut Chance::of(1));
        let request = timed(pb::GetLagRequest { group: self.group.clone() }, DEADLINE);
        EventServiceClient::new(api.channel).get_lag(request).await.ok().map(|lag| lag.into_inner().unacknowledged)
    }
}

/// One life of a consumer.
async fn consume(group: &str, nodes: &Nodes, all: &Mutex<Seen>, calm: &CancellationToken, chance: &mut Chance) {
    let (_, api) = nodes.any(chance);
    let mut client = EventServiceClient::new(api.channel);
    let life = Duration::from_millis(500 + chance.below(10_000));
    let dies = async {
        has_passed(life, std::time::Instant::now()).await;
        // Not any more.
        if calm.is_cancelled() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        // Whatever it was delivered and has not acknowledged comes again, to somebody.
        () = dies => seen(all).deaths += 1,
        _broken = read(group, &mut client, all, chance.below(200) + 1) => seen(all).broken += 1,
    }
}

async fn read(
    group: &str,
    client: &mut EventServiceClient<Channel>,
    all: &Mutex<Seen>,
    every: u64,
) -> Result<(), Status> {
    let request = pb::SubscribeRequest {
        group: group.to_owned(),
        start: pb::GroupStart::Earliest.into(),
        max_in_flight: 1000,
        ..Default::default()
    };
    let mut stream =
        timeout(DEADLINE, client.subscribe(request)).await.map_err(|_| Status::cancelled("slow"))??.into_inner();
    let (mut consumer, mut last, mut count) = (String::new(), BTreeMap::new(), 0);
    loop {
        // Now and then what has come is acknowledged, also if nothing more does.
        let update = match timeout(Duration::from_millis(300), stream.message()).await {
            Ok(message) => message?.ok_or_else(|| Status::cancelled("the node shuts down"))?.update,
            Err(_quiet) => None,
        };
        match update {
            Some(Update::Joined(joined)) => consumer = joined.consumer,
            Some(Update::Gap(gap)) => seen(all).gaps.push(gap),
            Some(Update::Event(event)) => {
                count += 1;
                last.insert(event.partition, event.cursor.clone());
                seen(all).take(event);
                if count % every != 0 {
                    continue;
                }
            }
            None => {}
        }
        for cursor in std::mem::take(&mut last).into_values() {
            let (group, consumer) = (group.to_owned(), consumer.clone());
            let done = client.acknowledge(timed(pb::AcknowledgeRequest { group, consumer, cursor }, DEADLINE)).await;
            // The partition may be somebody else's by now, and the store may be away: then it comes again.
            if let Err(status) = done
                && status.code() != tonic::Code::FailedPrecondition
            {
                return Err(status);
            }
        }
    }
}

impl Seen {
    fn take(&mut self, event: pb::Event) {
        self.deliveries += 1;
        let here = (event.epoch, event.seq);
        let newest = self.newest.entry(event.pile.clone()).or_insert((0, 0));
        // What was delivered before may come again; nothing is skipped.
        if here.1 > newest.1 + 1 {
            self.skipped.push(format!("{}: {here:?} after {newest:?}", event.pile));
        }
        *newest = here.max(*newest);
        if let Some(Kind::OrderChanged(changed)) = event.kind
            && changed.change() == pb::OrderChange::Settled
        {
            *self.settled.entry(changed.order.expect("the order after it").serial).or_default() += 1;
        }
    }
}

fn seen(all: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    all.lock().expect("no panic")
}
