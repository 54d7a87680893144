//! Who may charge with a card or a VIN, as the operator has it: nobody, a list, or the operator's own service.

mod allow_list;
pub mod config;
mod remote;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, ready};

use super::convert::authorizer as convert;
use super::pb::charge_authorizer_service_client::ChargeAuthorizerServiceClient;
use crate::domain::units::UtcOffset;
use crate::session::authority::{Asking, Authority, ChargeAsk, Denial, DenyAll, Grant, Unanswered, Verdict};
use allow_list::AllowList;
use config::{Mode, OnFailure};
use remote::{Remote, RemoteError};

pub use config::Config;

/// Why nobody can be asked; found before anything binds.
#[derive(Debug, thiserror::Error)]
pub enum AuthorizerError {
    #[error("authorizer.allow_list = \"{}\": cannot be read", .0.display())]
    File(PathBuf, #[source] std::io::Error),
    #[error("authorizer.allow_list = \"{}\": {wrong}", .path.display())]
    List { path: PathBuf, wrong: String },
    #[error("authorizer")]
    Remote(#[from] RemoteError),
}

/// What decides, and what sessions do about it. Reads the files that are named. `zone` is that of the piles' clocks.
pub fn authority(config: &Config, zone: UtcOffset) -> Result<(Arc<dyn Authority>, Asking), AuthorizerError> {
    let Config { mode, allow_list: path, remote, on_failure, on_failure_balance } = config;
    match mode {
        Mode::Deny => Ok((Arc::new(DenyAll), Asking::default())),
        Mode::AllowList => {
            let text = std::fs::read_to_string(path).map_err(|error| AuthorizerError::File(path.clone(), error))?;
            let list = AllowList::parse(&text).map_err(|wrong| AuthorizerError::List { path: path.clone(), wrong })?;
            tracing::info!(entries = list.len(), "cards and vins of the allow list may charge");
            Ok((Arc::new(list), Asking::default()))
        }
        Mode::Grpc => {
            let fallback = match on_failure {
                OnFailure::Deny => Verdict::Deny(Denial::PileDisabled),
                OnFailure::Allow => {
                    Verdict::Allow(Box::new(Grant { balance_fen: *on_failure_balance, ..Grant::default() }))
                }
            };
            let remote = Remote::new(remote)?;
            let asking = Asking { deadline: remote.deadline() + MARGIN, fallback };
            Ok((Arc::new(Operator { remote, zone }), asking))
        }
    }
}

impl Authority for AllowList {
    fn charge(&self, ask: ChargeAsk) -> BoxFuture<'static, Result<Verdict, Unanswered>> {
        Box::pin(ready(Ok(self.decide(&ask.shown))))
    }

    fn mode(&self) -> &'static str {
        "allow-list"
    }
}

/// The operator's own service.
struct Operator {
    remote: Remote,
    zone: UtcOffset,
}

impl Authority for Operator {
    fn charge(&self, ask: ChargeAsk) -> BoxFuture<'static, Result<Verdict, Unanswered>> {
        let (remote, zone) = (self.remote.clone(), self.zone);
        Box::pin(async move {
            let mut client = ChargeAuthorizerServiceClient::new(remote.channel()).max_decoding_message_size(MAX_ANSWER);
            let (pile, serial) = (ask.pile, ask.serial);
            let question = convert::question(ask, zone);
            let answer = remote.ask(question, |request| async move { client.authorize_charge(request).await }).await?;
            convert::verdict(answer).map_err(|wrong| {
                tracing::error!(%pile, %serial, wrong, "the authorizer answers what cannot be meant");
                Unanswered::Nonsense
            })
        })
    }

    fn mode(&self) -> &'static str {
        "grpc"
    }
}

/// What a session waits longer than the question may take: it then hears why nobody answered.
const MARGIN: Duration = Duration::from_millis(500);
/// Attributes and names are at most 2 KiB.
const MAX_ANSWER: usize = 64 * 1024;
