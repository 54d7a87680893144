//! How other nodes are reached: one HTTP/2 connection each, opened when it is first used, closed when the node is gone.
//!
//! A node that stands still is noticed by the connection (keep-alive) long before its lease has run out; every call
//! has a deadline besides.

use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity, Server, ServerTlsConfig};
use tonic::{Code, Request, Response, Status, Streaming};

use super::caller::Caller;
use super::config::{Peer as PeerConfig, Tls};
use super::members::View;
use super::message::pb::peer_service_client::PeerServiceClient;
use super::message::pb::{self, execute_response::Outcome};
use crate::store::Member;

/// What nodes prove to each other who they are with.
#[derive(Clone, Default)]
pub struct Credentials {
    /// `Bearer …`
    authorization: Option<MetadataValue<Ascii>>,
    tls: Option<(Certificate, Identity)>,
}

/// A file that cannot be read, or a secret that cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    #[error("peer.tls: cannot read {}", .0.display())]
    File(PathBuf, #[source] std::io::Error),
    #[error("peer.tls: ca, cert and key cannot be used")]
    Unusable(#[source] tonic::transport::Error),
    #[error("peer.secret: cannot be sent as a header")]
    Secret,
}

impl Credentials {
    /// Reads the files that are named, and tries what is in them: before anybody is told that this node serves.
    pub fn load(config: &PeerConfig) -> Result<Self, CredentialsError> {
        let secret = config.secret.reveal();
        let authorization = match secret {
            "" => None,
            secret => {
                let value = MetadataValue::try_from(format!("Bearer {secret}"));
                let mut value: MetadataValue<Ascii> = value.map_err(|_| CredentialsError::Secret)?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        let Tls { ca, cert, key } = &config.tls;
        let read = |path: &PathBuf| std::fs::read(path).map_err(|error| CredentialsError::File(path.clone(), error));
        let tls = if config.tls.is_set() {
            Some((Certificate::from_pem(read(ca)?), Identity::from_pem(read(cert)?, read(key)?)))
        } else {
            None
        };
        let credentials = Self { authorization, tls };
        if let (Some(server), Some(client)) = (credentials.server_tls(), credentials.client_tls()) {
            Server::builder().tls_config(server).map_err(CredentialsError::Unusable)?;
            Endpoint::from_static("https://nobody").tls_config(client).map_err(CredentialsError::Unusable)?;
        }
        Ok(credentials)
    }

    /// What others are called with.
    fn client_tls(&self) -> Option<ClientTlsConfig> {
        let (ca, identity) = self.tls.clone()?;
        Some(ClientTlsConfig::new().ca_certificate(ca).identity(identity))
    }

    /// What the peer port serves with.
    pub fn server_tls(&self) -> Option<ServerTlsConfig> {
        let (ca, identity) = self.tls.clone()?;
        Some(ServerTlsConfig::new().identity(identity).client_ca_root(ca))
    }

    /// Whether a call comes from a node that knows the secret. Takes as long for every wrong answer.
    pub fn admit(&self, metadata: &MetadataMap) -> bool {
        let Some(expected) = &self.authorization else { return true };
        let given = metadata.get("authorization").map(MetadataValue::as_bytes).unwrap_or_default();
        same(given, expected.as_bytes())
    }
}

/// Whether a call is meant for `this` run. A node one release back does not say whom it means.
pub fn is_meant(metadata: &MetadataMap, this: u64) -> bool {
    metadata.get(RUN).is_none_or(|run| *run == MetadataValue::from(this))
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { authorization, tls } = self;
        f.debug_struct("Credentials").field("secret", &authorization.is_some()).field("tls", &tls.is_some()).finish()
    }
}

/// The nodes that have been called. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Peers(Arc<Inner>);

struct Inner {
    credentials: Credentials,
    in_flight: usize,
    /// By incarnation. Bounded by the members.
    connected: Mutex<HashMap<u64, Peer>>,
}

/// One run of another node. Cheap to clone.
#[derive(Clone)]
pub struct Peer {
    /// Said with every call: its address may be another run's by now.
    run: MetadataValue<Ascii>,
    client: PeerServiceClient<Channel>,
    authorization: Option<MetadataValue<Ascii>>,
    free: Arc<Semaphore>,
}

/// Why a call has no answer.
#[derive(Debug)]
pub enum Failed {
    /// Too many calls to this node wait.
    Busy,
    /// It was certainly not carried out: no connection, or refused.
    NotSent(String),
    /// It was sent, or may have been.
    Vanished(String),
    /// No answer when the deadline came.
    Late,
}

impl Failed {
    /// The metric label.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::NotSent(_) => "not_sent",
            Self::Vanished(_) => "vanished",
            Self::Late => "late",
        }
    }
}

impl Peers {
    /// `in_flight` bounds the calls to each node.
    pub fn new(credentials: Credentials, in_flight: usize) -> Self {
        Self(Arc::new(Inner { credentials, in_flight, connected: Mutex::default() }))
    }

    /// The way to a member; nothing is opened before it is used.
    pub fn to(&self, member: &Member) -> Result<Peer, Failed> {
        let mut connected = self.lock();
        if let Some(peer) = connected.get(&member.incarnation) {
            return Ok(peer.clone());
        }
        let peer = self.open(member).map_err(|error| Failed::NotSent(chain(&error)))?;
        connected.insert(member.incarnation, peer.clone());
        Ok(peer)
    }

    /// Closes the connections to everybody who is not there any more.
    pub fn keep_only(&self, view: &View) {
        self.lock().retain(|incarnation, _| view.members.contains_key(incarnation));
    }

    fn open(&self, member: &Member) -> Result<Peer, tonic::transport::Error> {
        let (run, address) = (MetadataValue::from(member.incarnation), &member.peer);
        let (authorization, tls) = (self.0.credentials.authorization.clone(), self.0.credentials.client_tls());
        let scheme = if tls.is_some() { "https" } else { "http" };
        let mut endpoint = Endpoint::from_shared(format!("{scheme}://{address}"))?
            .connect_timeout(CONNECT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true);
        if let Some(tls) = tls {
            endpoint = endpoint.tls_config(tls)?;
        }
        let client = PeerServiceClient::new(endpoint.connect_lazy()).max_decoding_message_size(MAX_ANSWER);
        Ok(Peer { run, client, authorization, free: Arc::new(Semaphore::new(self.0.in_flight)) })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Peer>> {
        // A panic while the lock was held cannot leave the map half changed.
        self.0.connected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Peer {
    /// What came of the command, at the latest a moment after `deadline`.
    pub async fn execute(&self, request: pb::ExecuteRequest, deadline: Instant) -> Result<Outcome, Failed> {
        let answer = self.call(deadline, |mut client, request| async move { client.execute(request).await }, request);
        answer.await?.outcome.ok_or_else(|| Failed::Vanished("an answer without an outcome".into()))
    }

    pub async fn evict(&self, request: pb::EvictRequest, deadline: Instant) -> Result<pb::EvictResponse, Failed> {
        self.call(deadline, |mut client, request| async move { client.evict(request).await }, request).await
    }

    pub async fn status(&self, deadline: Instant) -> Result<pb::GetStatusResponse, Failed> {
        let request = pb::GetStatusRequest {};
        self.call(deadline, |mut client, request| async move { client.get_status(request).await }, request).await
    }

    pub async fn drain(&self, deadline: Instant) -> Result<pb::DrainResponse, Failed> {
        let request = pb::DrainRequest {};
        self.call(deadline, |mut client, request| async move { client.drain(request).await }, request).await
    }

    /// Its measurements, until one of the two ends.
    pub async fn watch_telemetry(
        &self,
        request: pb::WatchTelemetryRequest,
        deadline: Instant,
    ) -> Result<Streaming<pb::WatchTelemetryResponse>, Failed> {
        self.call(deadline, |mut client, request| async move { client.watch_telemetry(request).await }, request).await
    }

    async fn call<Q, A, F>(
        &self,
        deadline: Instant,
        send: impl FnOnce(PeerServiceClient<Channel>, Request<Q>) -> F,
        message: Q,
    ) -> Result<A, Failed>
    where
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let _slot: SemaphorePermit<'_> = self.free.try_acquire().map_err(|_| Failed::Busy)?;
        let mut request = Request::new(message);
        let metadata = request.metadata_mut();
        metadata.insert(RUN, self.run.clone());
        if let Some(authorization) = &self.authorization {
            metadata.insert("authorization", authorization.clone());
        }
        let mut headers = std::mem::take(metadata).into_headers();
        headers.extend(Caller::current().headers());
        *request.metadata_mut() = MetadataMap::from_headers(headers);
        match timeout_at(deadline, send(self.client.clone(), request)).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(judge(&status)),
            Err(_) => Err(Failed::Late),
        }
    }
}

/// Whether a call that failed has certainly not been carried out.
fn judge(status: &Status) -> Failed {
    let mut cause: Option<&(dyn Error + 'static)> = status.source();
    while let Some(error) = cause {
        if error.is::<tonic::ConnectError>() {
            return Failed::NotSent(chain(error));
        }
        cause = error.source();
    }
    let said = format!("{:?}: {}", status.code(), status.message());
    match status.code() {
        // Another run answers where that one was.
        Code::FailedPrecondition => Failed::NotSent(said),
        // The other node's own words, before it has looked at the call.
        Code::Unauthenticated | Code::PermissionDenied | Code::Unimplemented | Code::InvalidArgument => {
            tracing::error!(%said, "another node refuses this one");
            Failed::NotSent(said)
        }
        _ => Failed::Vanished(said),
    }
}

fn chain(error: &(dyn Error + 'static)) -> String {
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        said = format!("{said}: {error}");
        cause = error.source();
    }
    said
}

/// By their digests, so that the time it takes tells nothing of where two secrets differ.
fn same(one: &[u8], other: &[u8]) -> bool {
    use sha2::{Digest, Sha256};

    let (one, other) = (Sha256::digest(one), Sha256::digest(other));
    one.iter().zip(other.iter()).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

/// The run that is meant, as a decimal number.
const RUN: &str = "x-pileway-run";
const CONNECT: Duration = Duration::from_secs(1);
const KEEP_ALIVE: Duration = Duration::from_secs(2);
/// An order with its record and attributes is a few KiB of JSON.
const MAX_ANSWER: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Secret;

    #[test]
    fn files_that_hold_no_certificate_are_refused_at_once() {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        let tls = Tls { ca: file.clone(), cert: file.clone(), key: file };
        let loaded = Credentials::load(&PeerConfig { tls, ..PeerConfig::default() });
        assert!(matches!(loaded, Err(CredentialsError::Unusable(_))), "{loaded:?}");
    }

    #[test]
    fn only_the_whole_secret_is_the_secret() {
        let config = PeerConfig { secret: Secret::new("s3cret"), ..PeerConfig::default() };
        let credentials = Credentials::load(&config).expect("a header");
        let check = |given: Option<&str>, admitted: bool| {
            let mut metadata = MetadataMap::new();
            if let Some(given) = given {
                metadata.insert("authorization", given.parse().expect("a header"));
            }
            assert_eq!(credentials.admit(&metadata), admitted, "{given:?}");
        };
        check(Some("Bearer s3cret"), true);
        for wrong in [None, Some(""), Some("Bearer "), Some("Bearer s3cre"), Some("Bearer s3crets"), Some("s3cret")] {
            check(wrong, false);
        }
        assert!(!format!("{credentials:?}").contains("s3cret"));
        assert!(Credentials::default().admit(&MetadataMap::new()));
    }
}
