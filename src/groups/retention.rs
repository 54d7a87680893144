//! What is deleted from the log: what is older than it has to be kept and every group has acknowledged, and what is too
//! much, whoever has not seen it.
//!
//! Every node does it, a partition at a time; nothing is looked through: the bound is found by halving the log, and the log
//! is cut off below it. Whoever comes later finds nothing to do.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::config::Config;
use super::cursor;
use super::registry::Registry;
use super::share::Gone;
use crate::observe;
use crate::store::document::Group;
use crate::store::{Partition, Position, Scan, StoreError, recorded_at};

/// Looks every so often, for as long as it is polled.
pub async fn run(config: &Config, registry: &Registry, gone: &Gone) {
    let mut ticks = interval(config.trim_every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match round(config, registry, gone).await {
            Ok(0) => {}
            Ok(deleted) => tracing::debug!(deleted, "old events deleted"),
            Err(error) => tracing::warn!(%error, "old events could not be deleted, will try again"),
        }
    }
}

/// How many entries were deleted. A partition of which none can be does not keep others from it, and groups of which nobody
/// can say what they need keep nothing that is too much; the first error is told.
async fn round(config: &Config, registry: &Registry, gone: &Gone) -> Result<usize, StoreError> {
    let (pinning, mut failed) = match pinning(config, registry, gone).await {
        Ok(pinning) => (Some(pinning), None),
        Err(error) => (None, Some(error)),
    };
    let mut deleted = 0;
    for partition in (0..registry.store.partitions()).map(Partition) {
        match trim(config, registry, pinning.as_deref(), partition).await {
            Ok(0) => {}
            Ok(cut) => {
                observe::events_trimmed(cut as u64);
                deleted += cut;
            }
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    failed.map_or(Ok(deleted), Err)
}

/// Groups for which events are kept. One that nobody has been in for long is none of them, and is marked so, once. Those who
/// died with their node are taken out of theirs: if they were all, nobody else would.
async fn pinning(config: &Config, registry: &Registry, gone: &Gone) -> Result<Vec<Group>, StoreError> {
    let (mut all, mut after) = (vec![], String::new());
    loop {
        let page = registry.list(&after, Scan::MAX_LIMIT).await?;
        let full = page.len() == Scan::MAX_LIMIT;
        after = page.last().map(|group| group.name.clone()).unwrap_or_default();
        all.extend(page);
        if !full {
            break;
        }
    }
    let mut pinning = vec![];
    for mut group in all {
        let dead = if group.consumers.is_empty() { vec![] } else { gone(group.consumers.clone()).await };
        if !dead.is_empty() {
            // One that has been deleted meanwhile, or born again, keeps too much rather than too little this once.
            let left = registry.remove(&group.name, group.birth, &dead).await?;
            group = left.map_or(group, |(group, _)| group);
        }
        let now = (registry.now)();
        let idle = |group: &Group| {
            let since = group.idle_since.filter(|_| group.consumers.is_empty());
            since.is_some_and(|since| Duration::from_millis(now.since(since)) >= config.idle_group)
        };
        if !idle(&group) {
            pinning.push(group);
        } else if !group.lapsed {
            let lapse = |group: &mut Group| {
                let lapses = idle(group) && !group.lapsed;
                group.lapsed |= lapses;
                lapses
            };
            registry.change(&group.name, group.birth, lapse).await?;
            let idle = config.idle_group;
            tracing::warn!(group = group.name, ?idle, "nobody is in this group: events are not kept for it any more");
            observe::events_group_lapsed(&group.name);
        }
    }
    Ok(pinning)
}

/// `pinning` is `None` if it is not known: then nothing goes only because it is old.
async fn trim(
    config: &Config,
    registry: &Registry,
    pinning: Option<&[Group]>,
    partition: Partition,
) -> Result<usize, StoreError> {
    let store = &*registry.store;
    let Some(oldest) = store.read_log(partition, 0, 1).await?.into_iter().next() else { return Ok(0) };
    let end = store.log_end(partition).await?;
    // Too much is too much, whoever needs it.
    let mut before = (end + 1).saturating_sub(config.max_per_partition);
    let young = (registry.now)().0 - config.keep.as_millis() as i64;
    let young = crate::domain::WallMs(young);
    if let Some(pinning) = pinning.filter(|_| recorded_at(&oldest, young) < young) {
        let mut old = Position::before(store, partition, young).await?.offset + 1;
        for group in pinning {
            let (cursor, _) = cursor::stored(store, group, partition, None).await?;
            // The entry a cursor is behind stays as well: it tells whether the log is still the same one.
            old = old.min(cursor.acknowledged.offset);
        }
        before = before.max(old);
    }
    let mut deleted = 0;
    if before <= oldest.offset {
        return Ok(0);
    }
    loop {
        let cut = store.trim(partition, before, Scan::MAX_LIMIT).await?;
        deleted += cut;
        if cut < Scan::MAX_LIMIT {
            return Ok(deleted);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::WallMs;
    use crate::groups::tests::memory::{Glass, Memory};
    use crate::store::document::{group_key, put_group_cursor};

    #[tokio::test]
    async fn a_group_that_cannot_be_read_keeps_what_is_old_and_nothing_that_is_too_much() {
        let memory = Memory::new();
        let registry = Registry { store: Glass::on(&memory, 1), now: || WallMs(1_000_000_000_000) };
        let pile = format!("{:014}", 1).parse().expect("14 digits");
        let partition = Partition::of(pile, registry.store.partitions());
        for number in 1..=1500 {
            memory.tell(pile, number, WallMs(1));
        }
        let whole = put_group_cursor(
            "g",
            partition,
            &crate::store::document::GroupCursor {
                birth: 1,
                acknowledged: Position::START,
                delivered: 0,
                lease: 0,
                holder: None,
                lost_to: None,
            },
        );
        let group = registry.join("g", crate::store::document::GroupStart::Earliest, crate::groups::tests::id(1));
        let (group, _) = group.await.expect("joins");
        let mut put = crate::store::document::put_group(&group, WallMs(1));
        assert_eq!(put.key, group_key("g"));
        put.value = whole.value.slice(..1).iter().chain(&[0xff; 9]).copied().collect::<Vec<_>>().into();
        memory.put(put);
        let nobody: Arc<Gone> = Arc::new(|_| Box::pin(std::future::ready(vec![])));
        let config = Config { max_per_partition: 1000, ..Config::default() };
        let failed = round(&config, &registry, &*nobody).await.expect_err("it is told that something is wrong");
        assert!(matches!(failed, StoreError::Invalid(_)), "{failed:?}");
        let left = registry.store.read_log(partition, 0, 1).await.expect("reads");
        assert_eq!(left[0].offset, 501, "as many as are kept of each");
    }
}
