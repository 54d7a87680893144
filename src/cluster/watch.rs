//! Measurements of all nodes in one watch: each of the others is asked for its own, as long as somebody watches.
//!
//! ```text
//!   hub (this node's piles) ──▶ Watch ──▶ caller
//!   node B ─stream─▶ task ─▶ inlet ─▲       conflated in one place, so a slow caller holds up nobody
//!   node C ─stream─▶ task ─▶ inlet ─┘
//! ```
//!
//! A node that cannot be heard leaves a gap that the caller is told of, never an end of its watch.

use std::collections::HashMap;
use std::time::Duration;

use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep};
use tonic::Streaming;

use super::members::Members;
use super::message;
use super::message::pb;
use super::peers::Peers;
use crate::hub::{self, Filter, Gap, GapReason, Hub, Inlet, Told};
use crate::store::Member;

/// One watch of all nodes. Dropping it ends it, on every node.
pub struct Watch {
    local: hub::Watch,
    /// Keeps up with the members; one task within it for each.
    _remote: JoinSet<()>,
}

impl Watch {
    /// Begins with a snapshot of this node's piles; the snapshots of the others come as they answer.
    pub fn begin(hub: &Hub, filter: Filter, members: Members, peers: Peers, me: u64) -> Self {
        let request = message::write_filter(&filter);
        let local = hub.watch(filter);
        let mut remote = JoinSet::new();
        remote.spawn(follow(members, peers, me, request, local.inlet()));
        Self { local, _remote: remote }
    }

    /// The next measurement or gap. Cancel-safe; waits while there is nothing new.
    pub async fn next(&mut self) -> Told {
        self.local.next().await
    }
}

/// One task for each of the others, begun when it comes and ended when it goes.
async fn follow(members: Members, peers: Peers, me: u64, request: pb::WatchTelemetryRequest, inlet: Inlet) {
    let mut tasks = JoinSet::new();
    let mut heard: HashMap<u64, (String, AbortHandle)> = HashMap::new();
    let mut changes = members.changes();
    // Who is there already does not join.
    let mut first = true;
    loop {
        let view = changes.borrow_and_update().clone();
        heard.retain(|run, (node, task)| {
            let there = view.members.contains_key(run);
            if !there {
                task.abort();
                inlet.gap(Gap { node: node.clone(), reason: GapReason::Left });
            }
            there
        });
        for member in view.others(me) {
            heard.entry(member.incarnation).or_insert_with(|| {
                let listening = listen(member.clone(), peers.clone(), request.clone(), inlet.clone(), first);
                (member.node.clone(), tasks.spawn(listening))
            });
        }
        first = false;
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            Some(_) = tasks.join_next() => {}
        }
    }
}

/// Hands on what one node measures, for as long as it is polled.
async fn listen(member: Member, peers: Peers, request: pb::WatchTelemetryRequest, inlet: Inlet, was_there: bool) {
    let mut known = was_there;
    let mut pause = FIRST_PAUSE;
    loop {
        let opened = match peers.to(&member) {
            Ok(peer) => peer.watch_telemetry(request.clone(), Instant::now() + PATIENCE).await,
            Err(failed) => Err(failed),
        };
        match opened {
            Ok(stream) => {
                if !std::mem::replace(&mut known, true) {
                    inlet.gap(Gap { node: member.node.clone(), reason: GapReason::Joined });
                }
                pause = FIRST_PAUSE;
                hand_on(stream, &inlet).await;
            }
            Err(failed) => tracing::debug!(node = %member.node, ?failed, "its measurements cannot be heard"),
        }
        if std::mem::replace(&mut known, false) {
            inlet.gap(Gap { node: member.node.clone(), reason: GapReason::Unreachable });
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Until the stream ends, however.
async fn hand_on(mut stream: Streaming<pb::WatchTelemetryResponse>, inlet: &Inlet) {
    while let Ok(Some(pb::WatchTelemetryResponse { telemetry, skipped, snapshot })) = stream.message().await {
        match message::read_telemetry(&telemetry) {
            Ok(telemetry) => inlet.offer(telemetry, skipped, snapshot),
            // Of a kind a newer node knows.
            Err(unreadable) => tracing::debug!(%unreadable, "a measurement of another node is left out"),
        }
    }
}

const PATIENCE: Duration = Duration::from_secs(2);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
