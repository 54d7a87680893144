//! A server for `authorizer.mode = "grpc"`: says who may charge with a card or a VIN, and prints what it says.
//!
//! ```text
//! cargo run --example authorizer -- --listen 127.0.0.1:50061 --deny D14B0A54
//! PILEWAY_AUTHORIZER__MODE=grpc PILEWAY_AUTHORIZER__URL=http://127.0.0.1:50061 pileway serve
//! ```
//!
//! It decides by what is in the question alone, so that the same question always gets the same answer. A server that keeps
//! accounts has to remember what it said to which (pile, gun, serial).

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use pileway::api::pb;
use pileway::api::pb::authorize_charge_request::Shown;
use pileway::api::pb::authorize_charge_response::Verdict;
use pileway::api::pb::charge_authorizer_service_server::{ChargeAuthorizerService, ChargeAuthorizerServiceServer};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

/// Allows every card and VIN that is not denied.
#[derive(Parser, Clone)]
struct Args {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:50061")]
    listen: SocketAddr,
    /// A card (hex digits, leading zeros may be missing) or a VIN that may not charge.
    #[arg(long, value_name = "CARD|VIN")]
    deny: Vec<String>,
    /// The gun that may not charge, whoever asks.
    #[arg(long, value_name = "GUN")]
    deny_gun: Option<i32>,
    /// What those hear who may not.
    #[arg(long, default_value = "insufficient-balance")]
    reason: Reason,
    /// The balance of everybody else, in whole CNY.
    #[arg(long, default_value_t = 100)]
    balance: i64,
    /// How long it thinks before it answers: 500ms, 5s.
    #[arg(long, value_parser = duration, default_value = "0s")]
    slow: Duration,
    /// Answers what cannot be meant.
    #[arg(long)]
    nonsense: bool,
    /// Wants `authorization: Bearer TOKEN`.
    #[arg(long)]
    token: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Reason {
    NoSuchAccount,
    AccountFrozen,
    InsufficientBalance,
    WrongPassword,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::parse();
    let listener = TcpListener::bind(args.listen).await?;
    say(&format!("authorizer listens on {}", listener.local_addr()?));
    let server = ChargeAuthorizerServiceServer::new(Authorizer(args));
    Server::builder().add_service(server).serve_with_incoming(TcpListenerStream::new(listener)).await?;
    Ok(())
}

struct Authorizer(Args);

#[tonic::async_trait]
impl ChargeAuthorizerService for Authorizer {
    async fn authorize_charge(
        &self,
        request: Request<pb::AuthorizeChargeRequest>,
    ) -> Result<Response<pb::AuthorizeChargeResponse>, Status> {
        let Self(args) = self;
        self.admit(&request)?;
        let ask = request.into_inner();
        let (by, shown) = match &ask.shown {
            Some(Shown::Card(card)) => ("card", card.trim_start_matches('0').to_lowercase()),
            Some(Shown::Vin(vin)) => ("vin", vin.to_lowercase()),
            None => return Err(Status::invalid_argument("nothing is shown")),
        };
        let denied = |text: &String| text.trim_start_matches('0').eq_ignore_ascii_case(&shown);
        let verdict = if args.nonsense {
            // A denial without a reason.
            Some(Verdict::Denied(pb::ChargeDenied::default()))
        } else if args.deny.iter().any(denied) || args.deny_gun == Some(ask.gun) {
            Some(Verdict::Denied(pb::ChargeDenied { reason: args.reason.number() }))
        } else {
            let balance = pb::Money { currency_code: "CNY".into(), units: args.balance, nanos: 0 };
            let attributes = [("authorized_by".to_owned(), "example".to_owned())].into();
            let account = format!("account of {by} …{}", last_four(&shown));
            Some(Verdict::Allowed(pb::ChargeAllowed {
                balance: Some(balance),
                account,
                attributes,
                ..Default::default()
            }))
        };
        let said = match &verdict {
            Some(Verdict::Allowed(_)) => "allowed",
            Some(Verdict::Denied(_)) | None => "denied",
        };
        // Who it is about is the operator's secret, also here.
        say(&format!("pile={} gun={} serial={} {by}=…{} {said}", ask.pile, ask.gun, ask.serial, last_four(&shown)));
        tokio::time::sleep(args.slow).await;
        Ok(Response::new(pb::AuthorizeChargeResponse { verdict }))
    }
}

impl Authorizer {
    fn admit<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let Some(token) = &self.0.token else { return Ok(()) };
        let given = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        if given == Some(&format!("Bearer {token}")) {
            Ok(())
        } else {
            Err(Status::unauthenticated("a token is needed"))
        }
    }
}

impl Reason {
    fn number(self) -> i32 {
        let reason = match self {
            Self::NoSuchAccount => pb::ChargeDenialReason::NoSuchAccount,
            Self::AccountFrozen => pb::ChargeDenialReason::AccountFrozen,
            Self::InsufficientBalance => pb::ChargeDenialReason::InsufficientBalance,
            Self::WrongPassword => pb::ChargeDenialReason::WrongPassword,
        };
        reason.into()
    }
}

fn last_four(text: &str) -> String {
    let from = text.chars().count().saturating_sub(4);
    text.chars().skip(from).collect()
}

/// Whoever reads it may have gone.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

fn duration(text: &str) -> Result<Duration, String> {
    let parsed = text.parse::<jiff::SignedDuration>().ok().and_then(|duration| Duration::try_from(duration).ok());
    parsed.ok_or_else(|| "must be a duration like 500ms or 5s".to_owned())
}
