//! `grpc.health.v1`: the whole (""), each service, and the store under a name of its own, so that its absence is seen
//! but makes no node unready.

use std::convert::Infallible;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::store::PileQuery;
use crate::store::ledger::Ledger;

/// Keeps the reported states true. At shutdown watchers hear NOT_SERVING, and their streams end.
pub async fn report(
    mut reporter: HealthReporter,
    services: &[&str],
    ledger: Ledger,
    shutdown: CancellationToken,
) -> Infallible {
    for service in services {
        reporter.set_service_status(service, ServingStatus::Serving).await;
    }
    loop {
        let store = if answers(&ledger).await { ServingStatus::Serving } else { ServingStatus::NotServing };
        reporter.set_service_status(STORE, store).await;
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
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

async fn answers(ledger: &Ledger) -> bool {
    let query = PileQuery { presence: None, page_size: 1, page_token: String::new() };
    matches!(tokio::time::timeout(PATIENCE, ledger.piles(query)).await, Ok(Ok(_)))
}

/// The health name of the store.
const STORE: &str = "pileway.store";
const EVERY: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(2);
