//! The one way to Redis, and what is known of it: calls go at once or fail at once, and one task brings it back.
//!
//! ```text
//!            a call fails for want of a server
//!      up ───────────────────────────────────────▶ down: calls fail at once, with the reason
//!       ▲                                            │
//!       └── connected, inspected, a trial write ◀────┘  the keeper: at once, then every 200 ms to 1 s
//! ```
//!
//! A call that takes too long counts as such a failure, because nothing else tells a server that hangs. If it was only
//! this call, the keeper is back within a few milliseconds. Calls under way are left alone: they have their own limit.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::PubSub;
use redis::{Cmd, ErrorKind, RedisError, RedisResult, ServerErrorKind, Value};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::OpenError;
use super::address::Address;
use super::connection::{Connected, Connection};
use super::inspect::{self, Expected, Report, Trouble};
use super::layout::Keys;
use super::script::Invocation;
use crate::store::StoreError;

pub(super) struct Link {
    address: Address,
    pub(super) keys: Keys,
    expected: Expected,
    pub(super) limit: Duration,
    state: Mutex<State>,
    broken: Notify,
    /// Counts connections: whoever waits for a new one looks at this.
    renewed: watch::Sender<u64>,
    pub(super) ended: CancellationToken,
}

struct State {
    /// `None`: nothing can be asked.
    connected: Option<Connected>,
    /// Which connection it is, so that a late failure of an old one does not end a new one.
    generation: u64,
    /// Why writes are refused. Reads may go on, if there is a connection.
    trouble: Option<String>,
    report: Option<Report>,
}

/// What a call needs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
}

impl Link {
    /// Tries once. A Redis that does not answer is not waited for; one that must not be used is an error.
    pub(super) async fn open(
        address: Address,
        keys: Keys,
        expected: Expected,
        limit: Duration,
    ) -> Result<Arc<Self>, OpenError> {
        let trouble = Some("not connected yet".to_owned());
        let link = Arc::new(Self {
            address,
            keys,
            expected,
            limit,
            state: Mutex::new(State { connected: None, generation: 0, trouble, report: None }),
            broken: Notify::new(),
            renewed: watch::Sender::new(0),
            ended: CancellationToken::new(),
        });
        match link.connect().await {
            Ok(()) => {}
            Err(Trouble::Refused(error)) => return Err(error),
            Err(Trouble::Failed(error)) => {
                let why = error.to_string();
                tracing::warn!(store = %link.address, why, "Redis does not answer: starting without it");
                link.state().trouble = Some(why);
            }
        }
        Ok(link)
    }

    /// Brings Redis back whenever it is away, until the link ends.
    pub(super) async fn keep(self: Arc<Self>) {
        let keeping = async {
            loop {
                // A word of something that is over already wakes it for nothing.
                while self.health().is_ok() {
                    self.broken.notified().await;
                }
                self.recover().await;
            }
        };
        self.ended.run_until_cancelled(keeping).await;
    }

    pub(super) async fn call(&self, access: Access, invocation: Invocation) -> Result<Value, StoreError> {
        self.with(access, async |connection| invocation.send(connection).await).await
    }

    pub(super) async fn send(&self, command: Cmd) -> Result<Value, StoreError> {
        self.with(Access::Read, async |connection| connection.send(&command).await).await
    }

    /// One call, of however many commands, within the time limit.
    pub(super) async fn with<T>(
        &self,
        access: Access,
        call: impl AsyncFnOnce(&mut Connection) -> RedisResult<T>,
    ) -> Result<T, StoreError> {
        let (mut connection, generation) = {
            let state = self.state();
            match (&state.connected, &state.trouble) {
                (Some(connected), None) => (connected.connection.clone(), state.generation),
                (Some(connected), Some(_)) if access == Access::Read => {
                    (connected.connection.clone(), state.generation)
                }
                (_, Some(why)) => return Err(StoreError::Unavailable(why.clone())),
                (None, None) => return Err(StoreError::Unavailable("not connected".to_owned())),
            }
        };
        let answer = tokio::time::timeout(self.limit, call(&mut connection)).await;
        let Ok(answer) = answer else {
            let why = format!("no answer within {:?}", self.limit);
            self.break_off(generation, Blame::Server, why.clone());
            return Err(StoreError::Unavailable(why));
        };
        answer.map_err(|error| match blame(&error) {
            Blame::Call => StoreError::Invalid(error.to_string()),
            Blame::Moment => StoreError::Unavailable(error.to_string()),
            blame @ (Blame::Server | Blame::Writes) => {
                self.break_off(generation, blame, error.to_string());
                StoreError::Unavailable(error.to_string())
            }
        })
    }

    /// A socket that hears what is published, on the server that is connected now.
    pub(super) async fn listen(&self) -> Result<PubSub, StoreError> {
        let connected = self.state().connected.clone();
        let Some(connected) = connected else { return Err(StoreError::Unavailable("not connected".to_owned())) };
        let listening = connected.listen(&self.keys.channel(), self.limit).await;
        listening.map_err(|error| StoreError::Unavailable(error.to_string()))
    }

    /// Changes with every new connection.
    pub(super) fn renewed(&self) -> watch::Receiver<u64> {
        self.renewed.subscribe()
    }

    pub(super) fn health(&self) -> Result<(), StoreError> {
        self.state().trouble.clone().map_or(Ok(()), |why| Err(StoreError::Unavailable(why)))
    }

    pub(super) fn report(&self) -> Option<Report> {
        self.state().report.clone()
    }

    /// No call goes out any more, and all tasks end.
    pub(super) fn end(&self) {
        self.ended.cancel();
        let mut state = self.state();
        state.connected = None;
        state.trouble = Some("closing".to_owned());
    }

    async fn recover(&self) {
        let since = Instant::now();
        let (mut pause, mut said) = (Duration::ZERO, String::new());
        loop {
            tokio::time::sleep(pause).await;
            pause = (pause * 3 / 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
            let (why, refused) = match self.connect().await {
                Ok(()) => {
                    tracing::info!(store = %self.address, away = ?since.elapsed(), "Redis is back");
                    return;
                }
                Err(Trouble::Failed(error)) => (error.to_string(), false),
                Err(Trouble::Refused(error)) => (error.to_string(), true),
            };
            if refused && said != why {
                tracing::error!(store = %self.address, why, "this Redis must not be used");
                said.clone_from(&why);
            }
            if !self.ended.is_cancelled() {
                self.state().trouble = Some(why);
            }
        }
    }

    /// Puts a connection in place if there is one, whatever became of the last.
    async fn connect(&self) -> Result<(), Trouble> {
        let limit = self.limit;
        let connecting = async {
            let mut connected = Connected::connect(&self.address, limit).await?;
            let report = inspect::inspect(&mut connected, &self.keys, &self.expected).await?;
            let partitions = self.expected.partitions;
            let trial = inspect::try_write(&connected.connection, &self.keys, partitions).await;
            Ok((connected, report, trial))
        };
        let answer = tokio::time::timeout(limit, connecting).await;
        let late = || super::connection::failed(format!("no answer within {limit:?}"));
        let (connected, report, trial) = match answer.unwrap_or_else(|_| Err(late().into())) {
            Ok(connected) => connected,
            Err(trouble) => {
                // What can be neither reached nor used is not read from either.
                self.state().connected = None;
                return Err(trouble);
            }
        };
        // With a full memory or disk, a server still answers what it is asked.
        let usable = trial.as_ref().err().is_none_or(|error| blame(error) == Blame::Writes);
        {
            let mut state = self.state();
            if self.ended.is_cancelled() {
                return Err(super::connection::failed("closing".to_owned()).into());
            }
            state.connected = usable.then_some(connected);
            state.generation += 1;
            state.trouble = trial.as_ref().err().map(ToString::to_string);
            if state.report.as_ref() != Some(&report) {
                tell(&self.address, &report);
                state.report = Some(report);
            }
        }
        self.renewed.send_modify(|count| *count += 1);
        Ok(trial?)
    }

    fn break_off(&self, generation: u64, blame: Blame, why: String) {
        let mut state = self.state();
        if state.generation != generation || self.ended.is_cancelled() {
            return;
        }
        if state.trouble.is_none() {
            tracing::warn!(store = %self.address, why, "Redis is away");
        }
        if blame == Blame::Server {
            state.connected = None;
        }
        state.trouble = Some(why);
        drop(state);
        self.broken.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an error says about the next call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Blame {
    /// This call is wrong, now and later.
    Call,
    /// This call came at a bad moment; others may not.
    Moment,
    /// Every write will fail like this for a while.
    Writes,
    /// Every call will.
    Server,
}

fn blame(error: &RedisError) -> Blame {
    match error.code() {
        Some("OOM" | "MISCONF" | "NOREPLICAS") => return Blame::Writes,
        Some("NOAUTH" | "WRONGPASS" | "BUSY" | "UNKILLABLE") => return Blame::Server,
        Some("NOPERM") => return Blame::Moment,
        // While a Cluster moves a slot, what a script looks for may be gone from here already; and somebody may end a
        // script by hand. Both before its first write.
        Some("ERR") if error.detail().is_some_and(|why| PASSING.iter().any(|passing| why.contains(passing))) => {
            return Blame::Moment;
        }
        Some(_) | None => {}
    }
    match error.kind() {
        ErrorKind::Server(kind) => match kind {
            ServerErrorKind::BusyLoading
            | ServerErrorKind::ClusterDown
            | ServerErrorKind::MasterDown
            | ServerErrorKind::ReadOnly
            // Of a server that is not taken for a node of a Cluster, and is one by now.
            | ServerErrorKind::Moved
            | ServerErrorKind::Ask => Blame::Server,
            ServerErrorKind::TryAgain => Blame::Moment,
            _ => Blame::Call,
        },
        ErrorKind::Extension | ErrorKind::UnexpectedReturnType | ErrorKind::InvalidClientConfig => Blame::Call,
        // Sockets, and what the library says when it has none.
        _ => Blame::Server,
    }
}

fn tell(address: &Address, report: &Report) {
    let Report { version, mode, appendonly, appendfsync, maxmemory_policy, partitions, safe } = report;
    let unknown = |setting: &Option<String>| setting.clone().unwrap_or_else(|| "unknown".to_owned());
    let (appendonly, appendfsync) = (unknown(appendonly), unknown(appendfsync));
    let maxmemory_policy = unknown(maxmemory_policy);
    tracing::info!(
        store = %address, %version, ?mode, appendonly, appendfsync, maxmemory_policy, partitions, "connected to Redis"
    );
    if let Err(reasons) = safe {
        let reasons = reasons.join("; ");
        tracing::warn!(store = %address, reasons, "this Redis may lose what it has acknowledged");
    }
}

/// What Redis says of a script that it would carry out another time. It has no code of its own for either.
const PASSING: [&str; 2] = ["attempted to access a non local key", "SCRIPT KILL"];
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_moment_is_not_taken_for_a_wrong_call() {
        let cases = [
            (
                "ERR Script attempted to access a non local key in a cluster node script: 5f, on @user_script:9.",
                "moment",
            ),
            ("ERR Error running script: Script killed by user with SCRIPT KILL...", "moment"),
            ("TRYAGAIN Multiple keys request during rehashing of slot", "moment"),
            ("WRONGTYPE Operation against a key holding the wrong kind of value", "call"),
            ("ERR unknown command", "call"),
            ("OOM command not allowed when used memory > 'maxmemory'.", "writes"),
            ("READONLY You can't write against a read only replica.", "server"),
            ("LOADING Redis is loading the dataset in memory", "server"),
        ];
        for (said, expected) in cases {
            let answer = redis::parse_redis_value(format!("-{said}\r\n").as_bytes()).expect("an answer");
            let error = answer.extract_error().expect_err("an error");
            let blamed = match blame(&error) {
                Blame::Call => "call",
                Blame::Moment => "moment",
                Blame::Writes => "writes",
                Blame::Server => "server",
            };
            assert_eq!(blamed, expected, "{said}");
        }
    }
}
