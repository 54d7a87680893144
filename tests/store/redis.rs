//! The shared store: the contract on one Redis, on a Cluster and behind Sentinels, and what only a store behind a network
//! has to show.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use pileway::domain::PileCode;
use pileway::store::redis::{Config, Redis};
use pileway::store::{Store, StoreError};

use crate::common::{Fresh, append, batch, partition};
use crate::servers;

#[path = "redis/outage.rs"]
mod outage;
#[path = "redis/settings.rs"]
mod settings;
#[path = "redis/scripts.rs"]
mod scripts;

mod standalone {
    all! { super::super::on_one }
}

mod cluster {
    all! { super::super::on_a_cluster }
}

mod sentinel {
    suite! { contract on super::behind_sentinels:
        a_batch_is_all_or_nothing
        the_same_batch_again_returns_the_stored_result
        a_claim_brings_the_open_orders
        a_record_settles_once
        the_feed_tells_only_what_is_durable
    }
    suite! { ownership on super::behind_sentinels:
        runs_are_known_while_they_renew_their_lease
        the_lineage_names_every_partition_and_stays_what_it_is
    }
    suite! { ledger on super::behind_sentinels:
        a_watch_tells_everything_from_its_call_on
    }
}

/// One server for all tests, under a prefix of its own for each.
async fn on_one() -> Fresh {
    static ONE: LazyLock<servers::Redis> = LazyLock::new(servers::Redis::start);
    fresh(ONE.url()).await
}

async fn on_a_cluster() -> Fresh {
    static CLUSTER: LazyLock<servers::Cluster> = LazyLock::new(servers::Cluster::without_replicas);
    fresh(CLUSTER.url()).await
}

async fn behind_sentinels() -> Fresh {
    static SENTINEL: LazyLock<servers::Sentinel> = LazyLock::new(servers::Sentinel::start);
    fresh(SENTINEL.url()).await
}

/// A feed of 16 entries, so that falling behind is easy.
async fn fresh(url: String) -> Fresh {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let prefix = format!("test-{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let store = Redis::open(Config { feed: 16, prefix, ..Config::new(url) }).await.expect("a new store");
    store.health().expect("a server that answers");
    Fresh { store: Arc::new(store), _keep: Box::new(()) }
}

/// One event of the pile, from a session of its own.
async fn append_one(store: &Redis, pile: PileCode, n: u64) -> Result<Vec<u64>, StoreError> {
    let mut batch = batch(pile.bcd()[6].into(), n);
    batch.append = vec![append(pile, "event")];
    store.commit(partition(store, pile), batch).await.map(|committed| committed.offsets)
}
