//! The gRPC API: piles, charging and telemetry, health and reflection, on one port.
//!
//! ```text
//!   socket → layers (id, metrics, deadline) → a service → args: request → command or query
//!                                                          ├─▶ cluster: the pile's own answer, and what was last
//!                                                          │   measured, from whichever node holds it
//!                                                          └─▶ ledger: what is durable, and its log
//!            ◀── convert: resource, or error: one table ◀──┘
//! ```
//!
//! A service holds no state and decides nothing: what a command may do is the session's business, what a list holds the
//! ledger's.

pub mod config;
pub mod error;
pub mod layers;
pub mod deadline;
pub mod convert;
mod piles;
mod charging;
mod estimate;
mod amend;
mod curve;
mod telemetry;
mod events;
mod watch;
mod cluster;
mod health;
pub mod authorizer;

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::server::NamedService;
use tonic::transport::Server;

pub use config::Config;

use crate::cluster::{Cluster, accept};
use crate::domain::units::UtcOffset;
use crate::domain::{Command, Pile, PileCode, Reply, Tariff};
use crate::groups::Groups;
use crate::settings::Problem;
use crate::store::ledger::Ledger;
use error::ApiError;
use pb::charging_service_server::ChargingServiceServer;
use pb::cluster_service_server::ClusterServiceServer;
use pb::event_service_server::EventServiceServer;
use pb::pile_service_server::PileServiceServer;
use pb::telemetry_service_server::TelemetryServiceServer;

/// Messages, services and clients, generated from `proto/`.
pub mod pb {
    pub use self::google::r#type::Money;
    pub use self::pileway::v1::*;

    #[allow(clippy::all, clippy::pedantic, reason = "generated")]
    pub mod google {
        pub mod r#type {
            tonic::include_proto!("google.r#type");
        }
    }

    #[allow(clippy::all, clippy::pedantic, reason = "generated")]
    pub mod pileway {
        pub mod v1 {
            tonic::include_proto!("pileway.v1");
        }
    }

    /// What reflection tells about all of it.
    pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("pileway");
}

/// What the API stands on.
#[derive(Clone)]
pub struct Services {
    pub cluster: Cluster,
    pub ledger: Ledger,
    pub groups: Groups,
    /// The zone of the piles' clocks.
    pub offset: UtcOffset,
    /// What every pile is given.
    pub tariff: Arc<Tariff>,
    /// How long chunks of charging curves are kept.
    pub curves_kept: Duration,
    /// The node is about to end: health says so, calls are served all the same.
    pub draining: CancellationToken,
}

/// Serves on `listener` until `shutdown`; then watches end, calls in flight have `shutdown_grace`, and it returns.
pub async fn serve(
    config: Config,
    listener: TcpListener,
    services: Services,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    // What is listened on counts, not what was meant to be.
    let config = Config { listen: listener.local_addr().map_err(Error::Listener)?, ..config };
    let problems = config.problems();
    if !problems.is_empty() {
        return Err(Error::Config(problems));
    }

    let Services { cluster, ledger, groups, offset, tariff, curves_kept, draining } = services;
    let context = Context { cluster, ledger: ledger.clone(), offset, tariff, curves_kept, shutdown: shutdown.clone() };
    let (reporter, health) = tonic_health::server::health_reporter();
    let limit = config.max_request_bytes;
    let server = Server::builder()
        .max_concurrent_streams(config.max_concurrent_streams)
        .http2_keepalive_interval(Some(config.keepalive_interval))
        .http2_keepalive_timeout(Some(config.keepalive_timeout))
        .http2_max_header_list_size(MAX_HEADER_BYTES)
        .layer(layers::CallLayer)
        .layer(layers::MetricsLayer::from_global())
        .layer(deadline::DeadlineLayer { default: config.default_deadline, start: config.start_deadline })
        .add_service(PileServiceServer::new(piles::Piles(context.clone())).max_decoding_message_size(limit))
        .add_service(ChargingServiceServer::new(charging::Charging(context.clone())).max_decoding_message_size(limit))
        .add_service(
            TelemetryServiceServer::new(telemetry::Measurements(context.clone())).max_decoding_message_size(limit),
        )
        .add_service(
            EventServiceServer::new(events::Events { context: context.clone(), groups })
                .max_decoding_message_size(limit),
        )
        .add_service(ClusterServiceServer::new(cluster::Nodes(context)).max_decoding_message_size(limit))
        .add_service(health)
        .add_service(reflection().build_v1().map_err(Error::Reflection)?)
        // Python's and older tools' version of the same.
        .add_service(reflection().build_v1alpha().map_err(Error::Reflection)?)
        .serve_with_incoming_shutdown(accept(listener), shutdown.clone().cancelled_owned());

    let names = [
        PileServiceServer::<piles::Piles>::NAME,
        ChargingServiceServer::<charging::Charging>::NAME,
        TelemetryServiceServer::<telemetry::Measurements>::NAME,
        EventServiceServer::<events::Events>::NAME,
        ClusterServiceServer::<cluster::Nodes>::NAME,
    ];
    let out_of_patience = async {
        shutdown.cancelled().await;
        tokio::time::sleep(config.shutdown_grace).await;
    };
    tokio::select! {
        ended = server => ended.map_err(Error::Transport),
        never = health::report(reporter, &names, ledger, draining, shutdown.clone()) => match never {},
        () = out_of_patience => {
            tracing::info!(grace = ?config.shutdown_grace, "calls still in flight at shutdown are given up");
            Ok(())
        }
    }
}

/// Why the API cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{}", list(.0))]
    Config(Vec<Problem>),
    #[error("the gRPC listener has no address")]
    Listener(#[source] std::io::Error),
    #[error("the API's description cannot be served")]
    Reflection(#[source] tonic_reflection::server::Error),
    #[error("the gRPC server failed")]
    Transport(#[source] tonic::transport::Error),
}

/// What a service works with.
#[derive(Clone)]
struct Context {
    cluster: Cluster,
    ledger: Ledger,
    offset: UtcOffset,
    tariff: Arc<Tariff>,
    curves_kept: Duration,
    /// Ends watches.
    shutdown: CancellationToken,
}

impl Context {
    /// The pile's own answer, from whichever node holds it.
    async fn execute(&self, pile: PileCode, command: Command, deadline: Instant) -> Result<Reply, ApiError> {
        self.cluster.execute(pile, command, deadline).await.map_err(ApiError::from)
    }

    /// A pile as callers see it: what is stored, and its session if it has one here.
    fn told(&self, pile: Pile) -> pb::Pile {
        let live = self.cluster.session_here(pile.code);
        convert::pile::pile(pile, live.as_ref())
    }
}

/// The session answered another question than the one it was asked.
fn unexpected(reply: &Reply) -> Status {
    // Its kind only: replies hold card numbers and VINs.
    ApiError::Defect(match reply {
        Reply::Started(_) => "unexpected reply: started",
        Reply::ParallelStarted(_) => "unexpected reply: parallel started",
        Reply::StartedBefore { .. } => "unexpected reply: started before",
        Reply::Stopped { .. } => "unexpected reply: stopped",
        Reply::BalanceUpdated(_) => "unexpected reply: balance updated",
        Reply::StopPlanned(_) => "unexpected reply: stop planned",
        Reply::Closed(_) => "unexpected reply: closed",
        Reply::Order(_) => "unexpected reply: order",
        Reply::Curve(_) => "unexpected reply: curve",
        Reply::Session(_) => "unexpected reply: session",
        Reply::Telemetry(_) => "unexpected reply: telemetry",
        Reply::RebootAccepted => "unexpected reply: reboot accepted",
        Reply::Clock { .. } => "unexpected reply: clock",
        Reply::Disconnected => "unexpected reply: disconnected",
    })
    .into()
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// How long a read waits for the pile's session to say more than is stored.
const FRESH: Duration = Duration::from_secs(1);
/// Resources read at once for a snapshot.
const SNAPSHOT_PAGE: usize = 200;
const MAX_HEADER_BYTES: u32 = 16 * 1024;
