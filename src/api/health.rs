//! `grpc.health.v1`: the whole (""), each service, and the store under a name of its own, so that its absence is seen
//! but makes no node unready.

use std::convert::Infallible;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::domain::PileCode;
use crate::store::ledger::Ledger;

/// Keeps the reported states true. A node that drains is not ready any more, so that no new callers are sent to it; who
/// asks for a service by name, or for the store, hears that it serves, because it does. At shutdown watchers hear NOT_SERVING, and their streams end.
pub async fn report(
    mut reporter: HealthReporter,
    services: &[&str],
    ledger: Ledger,
    draining: CancellationToken,
    shutdown: CancellationToken,
) -> Infallible {
    for service in services {
        reporter.set_service_status(service, ServingStatus::Serving).await;
    }
    loop {
        let store = if answers(&ledger).await { ServingStatus::Serving } else { ServingStatus::NotServing };
        reporter.set_service_status(STORE, store).await;
        let ready = !draining.is_cancelled();
        if !ready {
            reporter.set_service_status("", ServingStatus::NotServing).await;
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = draining.cancelled(), if ready => {}
            () = shutdown.cancelled() => break,
        }
    }
    for service in services.iter().chain(&["", STORE]) {
        reporter.set_service_status(service, ServingStatus::NotServing).await;
        // A watch that stayed open would hold its connection, and with it the shutdown.
        reporter.clear_service_status(service).await;
    }
    std::future::pending().await
}

/// Both ways: a read may be answered from a cache long after the disk has stopped taking writes.
async fn answers(ledger: &Ledger) -> bool {
    if ledger.store().health().is_err() {
        return false;
    }
    // One key, wherever it is: a list would ask every partition.
    let Ok(nobody) = PileCode::from_bcd([0; 7]) else { return true };
    matches!(tokio::time::timeout(PATIENCE, ledger.owner(nobody)).await, Ok(Ok(_)))
}

/// The health name of the store.
const STORE: &str = "pileway.store";
const EVERY: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::domain::{SessionId, WallMs};
    use crate::store::embedded::tests::on_a_disk_that_fills_up;
    use crate::store::{Claim, PileQuery};

    #[tokio::test(flavor = "multi_thread")]
    async fn a_store_that_reads_but_cannot_write_does_not_serve() {
        let dir = tempfile::tempdir().expect("a directory");
        let (store, full) = on_a_disk_that_fills_up(dir.path());
        let ledger = Ledger::new(Arc::new(store));
        let claim = |counter| {
            let pile = "00000000000001".parse().expect("a pile");
            ledger.claim(Claim::login(pile, SessionId { incarnation: 1, counter }, WallMs(1), 1))
        };
        claim(1).await.expect("writes");
        assert!(answers(&ledger).await);

        full.store(true, Ordering::SeqCst);
        claim(2).await.expect_err("the disk is full");
        let reads = async { while ledger.piles(PileQuery::default()).await.is_err() {} };
        tokio::time::timeout(Duration::from_secs(20), reads).await.expect("reads go on");
        assert!(!answers(&ledger).await);

        full.store(false, Ordering::SeqCst);
        let mended = async { while !answers(&ledger).await {} };
        tokio::time::timeout(Duration::from_secs(20), mended).await.expect("the disk has room again");
        claim(3).await.expect("writes");
    }
}
