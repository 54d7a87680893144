//! What runs that are over have left behind: found by exactly one of the living, and given to whoever watches over
//! absent piles.
//!
//! For each partition the living agree on one of them without a word: the run that ranks highest by a hash of itself
//! and the partition. When runs come and go for a moment two may think it is them, or nobody does; what is decided about
//! an absent pile is decided once all the same, because it is written against exactly what the dead run left.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::time::{Instant, sleep};

use super::config::Config;
use super::members::{Members, View};
use crate::observe;
use crate::session::Node;
use crate::store::{Orphan, Partition, Scan, StoreError};

/// Looks every so often, for as long as it is polled.
pub async fn run(config: Config, members: Members, node: Arc<Node>) {
    // What has been given away once: attended to until the pile is back or offline, so not to be given again. Bounded by
    // the piles whose runs are over, since what the store does not name any more is forgotten.
    let mut given: BTreeSet<(Partition, OrphanKey)> = BTreeSet::new();
    loop {
        sleep(config.sweep_every).await;
        for partition in (0..node.ledger.store().partitions()).map(Partition) {
            // Each time: the store may have been away in the middle of a round.
            if !is_time(&config, &members.view(), Instant::now()) {
                break;
            }
            let living: Vec<u64> = members.view().members.keys().copied().collect();
            if highest(&living, partition) != Some(node.sessions.incarnation()) {
                given.retain(|(at, _)| *at != partition);
                continue;
            }
            if let Err(error) = sweep(&config, &members, &node, partition, &mut given).await {
                tracing::warn!(%partition, %error, "piles of runs that are over could not be looked for");
                break;
            }
        }
    }
}

/// Everything that was left behind, by a node that stands alone: nobody else can be alive.
pub async fn take_all(node: &Node) -> Result<(), StoreError> {
    let living = vec![node.sessions.incarnation()];
    for partition in (0..node.ledger.store().partitions()).map(Partition) {
        let mut after = None;
        loop {
            let found = node.ledger.store().orphans(partition, living.clone(), after, Scan::MAX_LIMIT).await?;
            for orphan in &found {
                adopt(node, *orphan).await?;
            }
            match found.last() {
                Some(last) if found.len() == Scan::MAX_LIMIT => after = Some(*last),
                Some(_) | None => break,
            }
        }
    }
    Ok(())
}

/// By (incarnation, counter, epoch) and pile.
type OrphanKey = (u64, u64, u64, crate::domain::PileCode);

async fn sweep(
    config: &Config,
    members: &Members,
    node: &Node,
    partition: Partition,
    given: &mut BTreeSet<(Partition, OrphanKey)>,
) -> Result<(), StoreError> {
    let (mut after, mut there) = (None, BTreeSet::new());
    let mut checked = false;
    loop {
        let living = members.view().members.keys().copied().collect();
        let found = node.ledger.store().orphans(partition, living, after, AT_ONCE).await?;
        for orphan in &found {
            there.insert((partition, key(orphan)));
            if given.contains(&(partition, key(orphan))) {
                continue;
            }
            // What was true when the table was made may not be now: a run that was slow is alive.
            if !std::mem::replace(&mut checked, true) {
                members.refresh().await;
                if !is_time(config, &members.view(), Instant::now()) {
                    return Ok(());
                }
            }
            if members.view().members.contains_key(&orphan.fence.session.incarnation) {
                continue;
            }
            adopt(node, *orphan).await?;
            given.insert((partition, key(orphan)));
        }
        match found.last() {
            Some(last) if found.len() == AT_ONCE => after = Some(*last),
            Some(_) | None => break,
        }
    }
    given.retain(|orphan| orphan.0 != partition || there.contains(orphan));
    Ok(())
}

async fn adopt(node: &Node, orphan: Orphan) -> Result<(), StoreError> {
    observe::orphan_adopted();
    tracing::debug!(pile = %orphan.pile, run = orphan.fence.session.incarnation, "its run is over");
    match node.departed.adopt(&node.ledger, node.now(), orphan, node.policy.config.lost_after).await {
        Err(error @ (StoreError::Invalid(_) | StoreError::Conflict { .. })) => {
            // One that cannot be read must not keep all others from being seen to.
            tracing::error!(pile = %orphan.pile, %error, "what its run has left cannot be read");
            Ok(())
        }
        other => other,
    }
}

/// Who could not renew may be taken for dead by those who could not see it renew: after the store was away everybody has
/// time to come back first.
fn is_time(config: &Config, view: &View, now: Instant) -> bool {
    let wait = config.lease_ttl + config.sweep_grace;
    let fresh = |at| now.saturating_duration_since(at) < config.lease_ttl;
    let steady = |since| now.saturating_duration_since(since) >= wait;
    view.renewed_at.is_some_and(fresh) && view.steady_since.is_some_and(steady)
}

fn key(orphan: &Orphan) -> OrphanKey {
    let Orphan { pile, fence } = *orphan;
    (fence.session.incarnation, fence.session.counter, fence.epoch.0, pile)
}

/// The run that sees to a partition.
pub fn highest(living: &[u64], partition: Partition) -> Option<u64> {
    living.iter().copied().max_by_key(|run| (rank(*run, partition), *run))
}

/// splitmix64 of both: every bit of either changes half of the bits of the rank.
fn rank(run: u64, partition: Partition) -> u64 {
    let mix = |z: u64| {
        let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    };
    mix(run ^ mix(u64::from(partition.0).wrapping_add(0x9E37_79B9_7F4A_7C15)))
}

const AT_ONCE: usize = 256;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const P: u16 = 64;

    fn shares(living: &[u64]) -> Vec<Option<u64>> {
        (0..P).map(|p| highest(living, Partition(p))).collect()
    }

    #[test]
    fn everybody_comes_to_the_same_run_whatever_the_order() {
        let (one, other) = ([7, 1 << 40, u64::MAX, 12], [u64::MAX, 12, 7, 1 << 40]);
        assert_eq!(shares(&one), shares(&other));
        assert_eq!(highest(&[], Partition(0)), None);
        assert_eq!(shares(&[3]), vec![Some(3); P.into()]);
    }

    #[test]
    fn a_run_that_goes_leaves_the_shares_of_the_others_as_they_are() {
        let all: Vec<u64> = (1..=8).map(|n| n * 0x1234_5678_9ABC).collect();
        let before = shares(&all);
        let after = shares(&all[1..]);
        for (before, after) in before.iter().zip(after) {
            assert!(*before == Some(all[0]) || *before == after, "{before:?} became {after:?}");
        }
        for run in all {
            let share = before.iter().filter(|by| **by == Some(run)).count();
            assert!((1..=24).contains(&share), "{share} of {P} partitions");
        }
    }

    #[test]
    fn nobody_sweeps_until_everybody_has_had_time_to_come_back() {
        let config =
            Config { lease_ttl: Duration::from_secs(10), sweep_grace: Duration::from_secs(5), ..Config::default() };
        let start = Instant::now();
        let view = |renewed: u64, steady: Option<u64>| View {
            renewed_at: Some(start + Duration::from_secs(renewed)),
            steady_since: steady.map(|since| start + Duration::from_secs(since)),
            ..View::default()
        };
        let check = |view: &View, at: u64, expected: bool| {
            assert_eq!(is_time(&config, view, start + Duration::from_secs(at)), expected, "{view:?} at {at}");
        };
        check(&View::default(), 100, false);
        check(&view(12, Some(0)), 14, false);
        check(&view(12, Some(0)), 15, true);
        check(&view(12, Some(0)), 22, false);
        check(&view(12, None), 15, false);
        check(&view(20, Some(20)), 21, false);
    }
}
