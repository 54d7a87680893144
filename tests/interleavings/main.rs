//! Promises 2, 3 and 4 in whatever order things happen: nodes log piles in, write, freeze, die and come back, the store is
//! set back to an older state as a fail-over does, and every write may be sent again by a client that lost its answer.
//!
//! The store is real, the nodes are models that keep the rules of real ones: newest login wins, fences on every write,
//! evictions, re-assertion after a freeze or a loss of writes, records kept by the node until long after they are settled.
//! Two things are excused: a start whose only witness dies before it has put it again, and retries of a start between a loss
//! of writes and the moment in which all nodes have noticed it.
//!
//! `PILEWAY_TEST_SEED` repeats a run; `PILEWAY_TEST_WALKS` says how many walks.

#[path = "../common/mod.rs"]
mod common;
mod made;
mod nodes;
mod piles;
mod recorder;
mod world;

use common::redis::Redis;
use common::{Chance, within};
use world::World;

const STEPS: u64 = 400;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_in_whatever_order_the_promises_hold() {
    let mut chance = Chance::seeded();
    let walks: u64 = std::env::var("PILEWAY_TEST_WALKS").map_or(24, |n| n.parse().expect("a number of walks"));
    let mut totals = world::Seen::default();
    for walk in 0..walks {
        // Snapshots are what it is set back to; the log of writes would only slow it down.
        let redis = Redis::with(&["appendonly no"]);
        let mut world = World::new(redis, Chance::of(chance.next())).await;
        for _ in 0..STEPS {
            within("a step", Box::pin(world.step())).await;
        }
        within("the end of a walk", Box::pin(world.come_to_rest())).await;
        world.check().await;
        eprintln!("walk {walk}: {:?}", world.seen);
        totals.add(&world.seen);
    }
    // A walk in which nothing happens proves nothing.
    totals.assert_everything_happened();
}
