//! The peer port: what other nodes ask of this one.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::{Request, Response, Status};
use tracing::Instrument;

use super::caller::Caller;
use super::here::Here;
use super::message::pb::peer_service_server::{PeerService, PeerServiceServer};
use super::message::pb::{self, execute_response::Outcome};
use super::message::{self, Unreadable};
use super::peers::Credentials;
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
        .max_concurrent_streams(MAX_STREAMS)
        .tcp_nodelay(true);
    if let Some(tls) = desk.credentials.server_tls() {
        server = server.tls_config(tls).map_err(Error::Tls)?;
    }
    let credentials = desk.credentials.clone();
    let admit = move |request: Request<()>| match credentials.admit(request.metadata()) {
        true => Ok(request),
        false => Err(Status::unauthenticated("this node's secret is another one")),
    };
    let service = PeerServiceServer::new(desk).max_decoding_message_size(MAX_REQUEST);
    let service = tonic::service::interceptor::InterceptedService::new(service, admit);
    let incoming = TcpListenerStream::new(listener);
    let serving = server.add_service(service).serve_with_incoming_shutdown(incoming, shutdown.clone().cancelled_owned());
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
        let work = self.carry_out(arrived, request.into_inner());
        let outcome = caller.scope(work).instrument(span).await.map_err(bad)?;
        Ok(Response::new(pb::ExecuteResponse { outcome: Some(outcome) }))
    }

    async fn evict(&self, request: Request<pb::EvictRequest>) -> Result<Response<pb::EvictResponse>, Status> {
        let eviction = message::read_eviction(request.get_ref(), self.here.sessions.incarnation()).map_err(bad)?;
        Ok(Response::new(message::write_evicted(self.node.evict(eviction))))
    }

    type WatchTelemetryStream = BoxStream<'static, Result<pb::WatchTelemetryResponse, Status>>;

    async fn watch_telemetry(
        &self,
        request: Request<pb::WatchTelemetryRequest>,
    ) -> Result<Response<Self::WatchTelemetryStream>, Status> {
        let filter = message::read_filter(request.get_ref()).map_err(bad)?;
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

impl Desk {
    async fn carry_out(&self, arrived: Instant, request: pb::ExecuteRequest) -> Result<Outcome, Unreadable> {
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
                match self.here.execute_as(pile, fence, command, arrived + left).await {
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
}

fn bad(unreadable: Unreadable) -> Status {
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
