//! Standing still, which is how a node is the last to find out that it was taken for dead.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::members::Members;
use super::reassert::Reasserter;
use crate::session::Sessions;

/// Notices that this process stood still (a frozen machine, a stopped container): what the sessions hold may be
/// elsewhere by now. Commands are refused until that is known, or until the store has been asked in vain: without it,
/// what is here is what there is.
pub async fn watch(members: Members, sessions: Sessions, reasserter: Reasserter, lease_ttl: Duration) {
    let mut last = Instant::now();
    loop {
        sleep(TICK).await;
        let gap = last.elapsed();
        if gap > FROZEN {
            tracing::warn!(gap_ms = gap.as_millis(), "this process stood still");
            sessions.suspend(true);
            let found_out = async {
                if members.refresh().await {
                    reasserter.tried().await;
                }
            };
            if timeout(lease_ttl, found_out).await.is_err() {
                tracing::warn!("commands are taken again, though not every pile could be claimed again in time");
            }
            sessions.suspend(false);
        }
        last = Instant::now();
    }
}

const TICK: Duration = Duration::from_millis(250);
const FROZEN: Duration = Duration::from_secs(1);
