//! Who may log in, as the operator has it: every pile, those of a list, or whom the operator's own service admits.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::{BoxFuture, ready};
use serde::Deserialize;
use tokio::time::Instant;

use super::config::{OnFailure, Remote as RemoteConfig};
use super::remote::{Remote, RemoteError};
use crate::api::convert::authorizer as convert;
use crate::api::pb::login_authorizer_service_client::LoginAuthorizerServiceClient;
use crate::domain::PileCode;
use crate::session::admission::{Admission, Admitting, Doorkeeper, Knock, OpenDoor};
use crate::session::authority::Unanswered;
use crate::settings::{Problem, duration};

/// `[login]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Config {
    pub mode: Mode,
    /// For `registered`: pile codes, or first digits of them.
    pub piles: Vec<String>,
    /// More of them, one to a line.
    pub piles_file: PathBuf,
    #[serde(flatten)]
    pub remote: RemoteConfig,
    /// For `grpc`: what counts if nobody answers.
    pub on_failure: OnFailure,
    /// For `grpc`: how long a pile and SIM card that were admitted are without being asked about again; 0s to 24h.
    #[serde(with = "duration")]
    pub cache: Duration,
}

/// Who decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Every pile may log in.
    Open,
    /// Those that are listed.
    Registered,
    /// The operator's own service says who.
    Grpc,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mode: Mode::Open,
            piles: vec![],
            piles_file: PathBuf::new(),
            // All piles of a node may come at once.
            remote: RemoteConfig { in_flight: 4096, ..RemoteConfig::default() },
            on_failure: OnFailure::Deny,
            cache: Duration::from_mins(5),
        }
    }
}

impl Config {
    /// Every value that cannot be served with, all at once.
    pub fn problems(&self) -> Vec<Problem> {
        let mut found = vec![];
        match self.mode {
            Mode::Open => {}
            Mode::Registered => {
                let bad = self.piles.iter().filter(|pile| !is_prefix(pile));
                let reason = "must be a pile code or the first digits of one";
                found.extend(bad.map(|pile| Problem { key: "piles", value: pile.clone(), reason }));
                if self.piles.is_empty() && self.piles_file == Path::new("") {
                    let reason = "must name the piles that may log in, or piles_file the file that does";
                    found.push(Problem { key: "piles", value: String::new(), reason });
                }
            }
            Mode::Grpc => {
                found.extend(self.remote.problems());
                if self.cache > Duration::from_hours(24) {
                    let value = format!("{:?}", self.cache);
                    found.push(Problem { key: "cache", value, reason: "must be 0s to 24h" });
                }
            }
        }
        found
    }
}

/// Why nobody can be asked; found before anything binds.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    #[error("login.piles_file = \"{}\": cannot be read", .0.display())]
    File(PathBuf, #[source] std::io::Error),
    #[error("login.piles_file = \"{}\": line {line}: \"{value}\" must be a pile code or the first digits of one", .path.display())]
    Pile { path: PathBuf, line: usize, value: String },
    #[error("login")]
    Remote(#[from] RemoteError),
}

/// What decides, and what sessions do about it; `None`: they need not ask.
pub fn doorkeeper(config: &Config) -> Result<(Arc<dyn Doorkeeper>, Option<Admitting>), LoginError> {
    let Config { mode, piles, piles_file, remote, on_failure, cache } = config;
    let fallback = match on_failure {
        OnFailure::Deny => Admission::Refused,
        OnFailure::Allow => Admission::Admitted,
    };
    match mode {
        Mode::Open => Ok((Arc::new(OpenDoor), None)),
        Mode::Registered => {
            let mut registered = Registered::default();
            for pile in piles {
                registered.insert(pile);
            }
            if *piles_file != Path::new("") {
                let text = std::fs::read_to_string(piles_file);
                let text = text.map_err(|error| LoginError::File(piles_file.clone(), error))?;
                for (n, line) in text.lines().enumerate() {
                    let pile = line.split('#').next().unwrap_or_default().trim();
                    if is_prefix(pile) {
                        registered.insert(pile);
                    } else if !pile.is_empty() {
                        let (path, line, value) = (piles_file.clone(), n + 1, pile.to_owned());
                        return Err(LoginError::Pile { path, line, value });
                    }
                }
            }
            Ok((Arc::new(registered), Some(Admitting { deadline: MARGIN, fallback: Admission::Refused })))
        }
        Mode::Grpc => {
            let remote = Remote::new(remote)?;
            let deadline = remote.deadline() + MARGIN;
            let operator = Operator { remote, cache: *cache, known: Arc::default() };
            Ok((Arc::new(operator), Some(Admitting { deadline, fallback })))
        }
    }
}

/// Piles by their codes, or by the first digits of them.
#[derive(Default)]
struct Registered {
    codes: HashSet<PileCode>,
    prefixes: Vec<String>,
}

impl Registered {
    fn insert(&mut self, pile: &str) {
        match pile.parse() {
            Ok(code) => drop(self.codes.insert(code)),
            Err(_) => self.prefixes.push(pile.to_owned()),
        }
    }

    fn has(&self, pile: PileCode) -> bool {
        self.codes.contains(&pile) || {
            let code = pile.to_string();
            self.prefixes.iter().any(|prefix| code.starts_with(prefix.as_str()))
        }
    }
}

impl Doorkeeper for Registered {
    fn admit(&self, knock: Knock) -> BoxFuture<'static, Result<Admission, Unanswered>> {
        let admission = if self.has(knock.pile) { Admission::Admitted } else { Admission::Refused };
        Box::pin(ready(Ok(admission)))
    }

    fn mode(&self) -> &'static str {
        "registered"
    }
}

/// The operator's own service, and what it said lately.
struct Operator {
    remote: Remote,
    cache: Duration,
    known: Arc<Mutex<Known>>,
}

/// By pile and SIM card, and until when. Bounded.
type Known = HashMap<(PileCode, String), (Admission, Instant)>;

impl Doorkeeper for Operator {
    fn admit(&self, knock: Knock) -> BoxFuture<'static, Result<Admission, Unanswered>> {
        let (remote, cache, known) = (self.remote.clone(), self.cache, self.known.clone());
        Box::pin(async move {
            let key = (knock.pile, knock.identity.iccid.clone());
            let before = lock(&known).get(&key).filter(|(_, until)| Instant::now() < *until).map(|(said, _)| *said);
            if let Some(said) = before {
                return Ok(said);
            }
            let mut client = LoginAuthorizerServiceClient::new(remote.channel());
            let question = convert::knock(knock);
            let answer = remote.ask(question, |request| async move { client.authorize_login(request).await }).await?;
            let Some(said) = convert::admission(&answer) else {
                tracing::error!(pile = %key.0, "the authorizer answers a login with what cannot be meant");
                return Err(Unanswered::Nonsense);
            };
            let now = Instant::now();
            let until = match said {
                Admission::Admitted => now + cache,
                // It may be admitted any moment; until then it is not asked about with each of its attempts.
                Admission::Refused => now + cache.min(REFUSED),
            };
            let mut known = lock(&known);
            if known.len() >= MAX_KNOWN {
                known.retain(|_, (_, until)| now < *until);
            }
            if known.len() < MAX_KNOWN {
                known.insert(key, (said, until));
            }
            Ok(said)
        })
    }

    fn mode(&self) -> &'static str {
        "grpc"
    }
}

fn lock(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    // A panic while the lock was held cannot leave a map half changed.
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_prefix(text: &str) -> bool {
    (1..=14).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
}

/// What a session waits longer than the question may take: it then hears why nobody answered.
const MARGIN: Duration = Duration::from_millis(500);
const REFUSED: Duration = Duration::from_secs(30);
/// More than a node has piles.
const MAX_KNOWN: usize = 200_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::WallMs;
    use crate::domain::pile::Identity;

    #[test]
    fn piles_are_registered_by_code_or_by_their_first_digits() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("piles");
        std::fs::write(&file, "# ours\n32010600019236\n  44 # all of them\n\n").expect("written");
        let config = Config {
            mode: Mode::Registered,
            piles: vec!["5503141278".into()],
            piles_file: file.clone(),
            ..Config::default()
        };
        assert!(config.problems().is_empty());
        let (doorkeeper, admitting) = doorkeeper(&config).expect("a list");
        assert!(admitting.is_some());
        for (code, said) in [
            ("32010600019236", Admission::Admitted),
            ("32010600019237", Admission::Refused),
            ("44000000000000", Admission::Admitted),
            ("55031412782305", Admission::Admitted),
            ("55031412792305", Admission::Refused),
        ] {
            let pile = code.parse().expect("14 digits");
            let (identity, at) = (Identity::default(), WallMs(0));
            let knock = Knock { pile, identity, address: String::new(), at };
            let answer = futures_util::FutureExt::now_or_never(doorkeeper.admit(knock)).expect("at once");
            assert_eq!(answer, Ok(said), "{code}");
        }
        std::fs::write(&file, "32010600019236\nxyz\n").expect("written");
        let Err(error) = super::doorkeeper(&config) else { panic!("xyz is no pile") };
        assert!(error.to_string().contains("line 2: \"xyz\" must be a pile code"), "{error}");
    }

    #[test]
    fn a_list_of_nobody_is_a_mistake() {
        let keys = |config: Config| config.problems().iter().map(|problem| problem.key).collect::<Vec<_>>();
        assert!(keys(Config::default()).is_empty());
        assert_eq!(keys(Config { mode: Mode::Registered, ..Config::default() }), ["piles"]);
        let bad = vec!["12".into(), "1x".into(), "123456789012345".into()];
        assert_eq!(keys(Config { mode: Mode::Registered, piles: bad, ..Config::default() }), ["piles", "piles"]);
        let long = Duration::from_hours(25);
        assert_eq!(keys(Config { mode: Mode::Grpc, cache: long, ..Config::default() }), ["url", "cache"]);
    }
}
