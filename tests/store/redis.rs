//! The shared store: the contract on one Redis, on a Cluster and behind Sentinels, and what only a store behind a network
//! has to show.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use pileway::store::redis::{Config, Redis};

use crate::common::Fresh;
use crate::servers;

mod standalone {
    all! { super::super::on_one }
}

mod cluster {
    all! { super::super::on_a_cluster }
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

/// A feed of 16 entries, so that falling behind is easy.
async fn fresh(url: String) -> Fresh {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let prefix = format!("test-{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let store = Redis::open(Config { feed: 16, prefix, ..Config::new(url) }).await.expect("a new store");
    pileway::store::Store::health(&store).expect("a server that answers");
    Fresh { store: Arc::new(store), _keep: Box::new(()) }
}
