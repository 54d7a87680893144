//! Services of the operator's that pileway asks: one connection each, a deadline, and a bound on what is under way.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Response, Status};

use super::config::Remote as Config;
use crate::session::authority::Unanswered;

/// Cheap to clone: all clones share connection and bound.
#[derive(Clone)]
pub struct Remote {
    channel: Channel,
    authorization: Option<MetadataValue<Ascii>>,
    deadline: Duration,
    in_flight: Arc<Semaphore>,
}

/// A file that cannot be read, or settings that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    #[error("{key} = \"{}\": cannot be read", .path.display())]
    File { key: &'static str, path: PathBuf, source: std::io::Error },
    #[error("url or ca_file cannot be used")]
    Unusable(#[source] tonic::transport::Error),
    #[error("token: cannot be sent as a header")]
    Token,
}

impl Remote {
    /// Reads the files that are named. Connects when it is first asked, and again whenever that is needed: a service that
    /// is down does not keep a node from starting.
    pub fn new(config: &Config) -> Result<Self, RemoteError> {
        let Config { url, ca_file, token, token_file, deadline, in_flight } = config;
        let read = |key, path: &PathBuf| {
            std::fs::read(path).map_err(|source| RemoteError::File { key, path: path.clone(), source })
        };
        let token = if *token_file == Path::new("") {
            token.reveal().to_owned()
        } else {
            String::from_utf8(read("token_file", token_file)?).map_err(|_| RemoteError::Token)?.trim().to_owned()
        };
        let authorization = match &*token {
            "" => None,
            token => {
                let value = MetadataValue::try_from(format!("Bearer {token}"));
                let mut value: MetadataValue<Ascii> = value.map_err(|_| RemoteError::Token)?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        let mut endpoint = Endpoint::from_shared(url.clone())
            .map_err(RemoteError::Unusable)?
            .connect_timeout(*deadline)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true);
        if *ca_file != Path::new("") {
            let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read("ca_file", ca_file)?));
            endpoint = endpoint.tls_config(tls).map_err(RemoteError::Unusable)?;
        }
        let in_flight = Arc::new(Semaphore::new(*in_flight));
        Ok(Self { channel: endpoint.connect_lazy(), authorization, deadline: *deadline, in_flight })
    }

    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Asks, within the deadline, unless too much is under way. Why nobody answered is logged here.
    pub async fn ask<Q, A, F>(&self, question: Q, call: impl FnOnce(Request<Q>) -> F) -> Result<A, Unanswered>
    where
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let Ok(_permit) = self.in_flight.try_acquire() else { return Err(Unanswered::Busy) };
        let mut request = Request::new(question);
        request.set_timeout(self.deadline);
        if let Some(authorization) = &self.authorization {
            request.metadata_mut().insert("authorization", authorization.clone());
        }
        match timeout(self.deadline, call(request)).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => {
                let (why, code, said) = (judge(&status), status.code(), status.message());
                tracing::warn!(why = why.name(), ?code, said, "no answer from the authorizer");
                Err(why)
            }
            Err(_elapsed) => {
                let why = Unanswered::TimedOut;
                tracing::warn!(why = why.name(), deadline = ?self.deadline, "no answer from the authorizer");
                Err(why)
            }
        }
    }
}

fn judge(status: &Status) -> Unanswered {
    match status.code() {
        Code::DeadlineExceeded | Code::Cancelled => Unanswered::TimedOut,
        Code::Unavailable => Unanswered::Unreachable,
        _ => Unanswered::Failed,
    }
}

/// How soon a service that stands still is noticed, besides by its deadlines.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
