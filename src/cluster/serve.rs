//! The peer port: what other nodes ask of this one.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::{Request, Response, Status};
use tracing::Instrument;

use super::accept::accept;
use super::caller::Caller;
use super::here::Here;
use super::message::pb::peer_service_server::{PeerService, PeerServiceServer};
use super::message::pb::{self, execute_response::Outcome};
use super::message::{self, Unreadable};
use super::peers::{Credentials, is_meant};
use crate::domain::CommandError;
use crate::hub::{Told, Update};
use crate::session::{Node, NotHere};

/// Why the peer port ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the peer port's certificate cannot be used")]
    Tls(#[source] tonic::transport::Error),
    #[error("the peer port failed")]
    Transport(#[source] tonic::transport::Error),
}

/// Answers other nodes.
#[derive(Clone)]
pub struct Desk {
    pub node: Arc<Node>,
    pub here: Here,
    pub credentials: Credentials,
    /// Cancelled by a node that wants this one to drain.
    pub drain: CancellationToken,
    /// Ends watches.
    pub shutdown: CancellationToken,
}

/// Serves until `desk.shutdown`; calls in flight then have a moment to end.
pub async fn serve(desk: Desk, listener: TcpListener) -> Result<(), Error> {
    let shutdown = desk.shutdown.clone();
    let mut server = Server::builder()
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE))
        .max_concurrent_streams(MAX_STREAMS);
    if let Some(tls) = desk.credentials.server_tls() {
        server = server.tls_config(tls).map_err(Error::Tls)?;
    }
    let (credentials, this) = (desk.credentials.clone(), desk.here.sessions.incarnation());
    let admit = move |request: Request<()>| {
        if !credentials.admit(request.metadata()) {
            return Err(Status::unauthenticated("this node's secret is another one"));
        }
        // What is said to a run that is over is not for the one that has its address now.
        is_meant(request.metadata(), this).then_some(request).ok_or_else(|| Status::failed_precondition("another run"))
    };
    let service = PeerServiceServer::new(desk).max_decoding_message_size(MAX_REQUEST);
    let service = tonic::service::interceptor::InterceptedService::new(service, admit);
    let incoming = accept(listener);
    let serving =
        server.add_service(service).serve_with_incoming_shutdown(incoming, shutdown.clone().cancelled_owned());
    let out_of_patience = async {
        shutdown.cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        ended = serving => ended.map_err(Error::Transport),
        () = out_of_patience => Ok(()),
    }
}

#[tonic::async_trait]
impl PeerService for Desk {
    async fn execute(&self, request: Request<pb::ExecuteRequest>) -> Result<Response<pb::ExecuteResponse>, Status> {
        let arrived = Instant::now();
        let caller = Caller::of(request.metadata().as_ref());
        let span = tracing::info_span!(
            "hop",
            request_id = caller.request_id().and_then(|id| id.to_str().ok()).unwrap_or_default(),
            trace_id = caller.trace_id(),
        );
        let work = carry_out(&self.here, arrived, request.into_inner());
        let outcome = caller.scope(work).instrument(span).await.map_err(|error| bad(&error))?;
        Ok(Response::new(pb::ExecuteResponse { outcome: Some(outcome) }))
    }

    async fn evict(&self, request: Request<pb::EvictRequest>) -> Result<Response<pb::EvictResponse>, Status> {
        let eviction =
            message::read_eviction(request.get_ref(), self.here.sessions.incarnation()).map_err(|error| bad(&error))?;
        Ok(Response::new(message::write_evicted(self.node.evict(eviction))))
    }

    type WatchTelemetryStream = BoxStream<'static, Result<pb::WatchTelemetryResponse, Status>>;

    async fn watch_telemetry(
        &self,
        request: Request<pb::WatchTelemetryRequest>,
    ) -> Result<Response<Self::WatchTelemetryStream>, Status> {
        let filter = message::read_filter(request.get_ref()).map_err(|error| bad(&error))?;
        let told = stream::unfold(self.here.hub.watch(filter), |mut watch| async {
            loop {
                // Only this node's own: nobody puts anything into this watch from beside.
                if let Told::Update(Update { telemetry, skipped, snapshot }) = watch.next().await {
                    let telemetry = message::write(telemetry.as_ref()).into();
                    return Some((Ok(pb::WatchTelemetryResponse { telemetry, skipped, snapshot }), watch));
                }
            }
        });
        Ok(Response::new(told.take_until(self.shutdown.clone().cancelled_owned()).boxed()))
    }

    async fn get_status(&self, _: Request<pb::GetStatusRequest>) -> Result<Response<pb::GetStatusResponse>, Status> {
        Ok(Response::new(pb::GetStatusResponse { sessions: self.here.sessions.count() as u64 }))
    }

    async fn drain(&self, _: Request<pb::DrainRequest>) -> Result<Response<pb::DrainResponse>, Status> {
        tracing::info!("another node was asked to have this one drain");
        self.drain.cancel();
        Ok(Response::new(pb::DrainResponse {}))
    }
}

async fn carry_out(here: &Here, arrived: Instant, request: pb::ExecuteRequest) -> Result<Outcome, Unreadable> {
    let pb::ExecuteRequest { pile, fence, command, remaining_ms, deadline_unix_ms } = request;
    let (pile, fence) = (message::read_pile(&pile)?, message::read_fence(fence.as_ref())?);
    // By this node's wall clock and by how long the call was said to have left: the one that is over first counts,
    // so that neither a clock that is wrong nor a call that lay about for long lets a command through late.
    let until = Duration::from_millis(u64::try_from(deadline_unix_ms.saturating_sub(unix_ms())).unwrap_or(0));
    let left = until.min(Duration::from_millis(remaining_ms)).min(LONGEST);
    let result = match message::read_command(&command) {
        Err(unsupported) => Err(unsupported),
        Ok(_) if left.is_zero() => Err(CommandError::DeadlinePassed),
        Ok(command) => {
            let name = command.name();
            match here.execute_as(pile, fence, command, arrived + left).await {
                Ok(result) => {
                    let outcome = result.as_ref().map_or_else(CommandError::name, |_| "ok");
                    tracing::debug!(%pile, command = name, outcome, "carried out for another node");
                    result
                }
                Err(NotHere) => return Ok(Outcome::NotOwner(pb::NotOwner {})),
            }
        }
    };
    Ok(match result {
        Ok(reply) => Outcome::Reply(message::write(&reply).into()),
        Err(error) => Outcome::Error(message::write(&error).into()),
    })
}

fn bad(unreadable: &Unreadable) -> Status {
    Status::invalid_argument(unreadable.to_string())
}

fn unix_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64
}

const KEEP_ALIVE: Duration = Duration::from_secs(2);
const MAX_STREAMS: u32 = 100_000;
/// A start with its attributes is a few KiB of JSON.
const MAX_REQUEST: usize = 256 * 1024;
const GRACE: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_hours(24);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Command;
    use crate::hub::Hub;
    use crate::session::Sessions;

    /// What becomes of a command for a session that is not here.
    async fn carry_out(command: Vec<u8>, remaining_ms: u64, until_ms: i64) -> Outcome {
        let here = Here { sessions: Sessions::new(1), hub: Hub::default(), node: "b".into() };
        let request = pb::ExecuteRequest {
            pile: "32010600019236".into(),
            fence: Some(pb::Fence { incarnation: 1, counter: 1, epoch: 1 }),
            command: command.into(),
            remaining_ms,
            deadline_unix_ms: unix_ms() + until_ms,
        };
        super::carry_out(&here, Instant::now(), request).await.expect("readable")
    }

    #[tokio::test]
    async fn both_deadlines_count_and_the_earlier_one_decides() {
        let command = || message::write(&Command::SyncClock);
        let not_owner = Outcome::NotOwner(pb::NotOwner {});
        assert_eq!(carry_out(command(), 1000, 1000).await, not_owner);
        // The caller's clock is ahead, or behind: what is left by the other measure counts.
        assert_eq!(carry_out(command(), 1000, 3_600_000).await, not_owner);
        for (remaining_ms, until_ms) in [(0, 1000), (1000, 0), (1000, -5000), (0, -1), (u64::MAX, i64::MIN / 2)] {
            let Outcome::Error(error) = carry_out(command(), remaining_ms, until_ms).await else {
                panic!("{remaining_ms} {until_ms}")
            };
            assert_eq!(message::read_error(&error), Ok(CommandError::DeadlinePassed));
        }
    }

    #[tokio::test]
    async fn what_a_newer_node_asks_is_refused_in_words_that_say_so() {
        let Outcome::Error(error) = carry_out(br#"{"levitate":{"height_mm":5}}"#.to_vec(), 1000, 1000).await else {
            panic!("an error")
        };
        let error = message::read_error(&error).expect("readable");
        assert_eq!(error.name(), "unsupported");
        assert!(error.to_string().contains("levitate"), "{error}");
    }
}
