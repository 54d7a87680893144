//! Where a node keeps what must last: on its own disk alone, or in Redis with a journal on its disk in front.

use std::path::Path;
use std::sync::Arc;

use super::StartError;
use crate::config::{self, Config};
use crate::store::PARTITIONS;
use crate::store::embedded::{self, Embedded};
use crate::store::journal::{self, Journal};
use crate::store::ledger::Ledger;
use crate::store::redis::{self, Redis};

#[derive(Clone)]
pub struct Stores {
    pub ledger: Ledger,
    /// Other nodes may keep theirs in the same place.
    pub shared: bool,
    disk: Disk,
}

#[derive(Clone)]
enum Disk {
    /// All there is.
    Alone(Arc<Embedded>),
    /// What the shared store has yet to be given.
    Journal(Journal, Arc<Redis>),
}

impl Stores {
    /// Over a store that is open already. `disk` is this node's own, and is closed with it.
    pub fn over(ledger: Ledger, disk: Arc<Embedded>, shared: bool) -> Self {
        Self { ledger, shared, disk: Disk::Alone(disk) }
    }

    pub async fn open(config: &Config) -> Result<Self, StartError> {
        let Config { redis, store: config::Store { data_dir, cache_mib, time_limit }, retention, .. } = config;
        let cache_bytes = *cache_mib as usize * 1024 * 1024;
        if !redis.is_set() {
            let defaults = embedded::Config::new(data_dir);
            let config = embedded::Config { partitions: PARTITIONS, cache_bytes, time_limit: *time_limit, ..defaults };
            let store = Arc::new(Embedded::open(config)?);
            return Ok(Self::over(Ledger::new(store.clone()).keeping(retention.kept()), store, false));
        }
        let config::Redis { url, time_limit: patience, durability, ca_file } = redis;
        // The disk first: what is wrong with it is known at once, and whoever has the same one already keeps it.
        let defaults = journal::Config::new(data_dir);
        let journal = Journal::open(journal::Config { cache_bytes, time_limit: *time_limit, ..defaults }).await?;
        let defaults = redis::Config::new(url.reveal());
        let redis = Redis::open(redis::Config {
            time_limit: *patience,
            durability: match durability {
                config::Durability::Checked => redis::Durability::Checked,
                config::Durability::Asserted => redis::Durability::Asserted,
            },
            ca_file: Some(ca_file.clone()).filter(|file| file != Path::new("")),
            ..defaults
        });
        let redis = Arc::new(redis.await?);
        let ledger = Ledger::with_journal(redis.clone(), journal.clone()).keeping(retention.kept());
        Ok(Self { ledger, shared: true, disk: Disk::Journal(journal, redis) })
    }

    /// Returns when the disk, or what keeps the shared store reachable, takes nothing any more and never will.
    pub async fn closed(&self) {
        match &self.disk {
            Disk::Alone(store) => store.closed().await,
            Disk::Journal(journal, redis) => tokio::select! {
                () = journal.closed() => {}
                () = redis.closed() => {}
            },
        }
    }

    pub async fn close(&self) {
        match &self.disk {
            Disk::Alone(store) => store.close().await,
            Disk::Journal(journal, redis) => {
                journal.close().await;
                redis.close().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::settings::Secret;

    #[tokio::test]
    async fn a_shared_store_that_nobody_keeps_any_more_is_closed() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut config = Config::defaults();
        dir.path().clone_into(&mut config.store.data_dir);
        config.redis.url = Secret::new("redis://127.0.0.1:1");
        let stores = Stores::open(&config).await.expect("it opens while Redis is away");
        let Disk::Journal(_, redis) = &stores.disk else { panic!("a journal") };
        assert!(tokio::time::timeout(Duration::from_millis(50), stores.closed()).await.is_err());
        redis.close().await;
        tokio::time::timeout(Duration::from_secs(20), stores.closed()).await.expect("it is noticed");
        stores.close().await;
    }
}
