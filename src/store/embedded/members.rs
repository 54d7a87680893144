//! Leases of a store that one process opens: the runs within it, in memory, since they end with it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::store::{Lease, Member, Renewed};

/// Bounded by the runs within one process: one, outside of tests.
#[derive(Default)]
pub(super) struct Members(Mutex<BTreeMap<u64, (Member, Instant)>>);

impl Members {
    pub(super) fn renew(&self, lease: Lease, now: Instant) -> Renewed {
        let Lease { member, ttl } = lease;
        let mut leases = self.leases();
        leases.retain(|_, (_, until)| *until > now);
        let fresh = leases.insert(member.incarnation, (member, now + ttl)).is_none();
        Renewed { fresh, members: leases.values().map(|(member, _)| member.clone()).collect() }
    }

    pub(super) fn retire(&self, incarnation: u64) {
        self.leases().remove(&incarnation);
    }

    fn leases(&self) -> MutexGuard<'_, BTreeMap<u64, (Member, Instant)>> {
        // A panic while the lock was held cannot leave a map half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
