//! When a call must be answered.
//!
//! ```text
//!   now                                answer_by         give_up      the caller's own deadline
//!    │ commands wait for the pile ────────▶│                 │                 │
//!    │ whatever still hangs is given up ─────────────────────▶│                 │
//!                                          ◀──────────── margin ──────────────▶
//! ```
//!
//! The margin is max(50 ms, 5 %): the answer, OUTCOME_UNKNOWN included, reaches the caller before it stops listening.
//! tonic's own timer runs to the caller's deadline and would answer CANCELLED; with the margin it never gets there.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderMap, Request, Response};
use tokio::time::Instant;
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

use super::error::ApiError;
use crate::domain::CommandError;

/// When the answer must be there; travels in the request's extensions.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Instant);

impl Deadline {
    /// Set by [`DeadlineLayer`] on every request. A request that came around it has a short one.
    pub fn of<T>(request: &tonic::Request<T>) -> Instant {
        request.extensions().get::<Self>().map_or_else(|| Instant::now() + Duration::from_secs(1), |d| d.0)
    }
}

/// Gives every call its deadline, refuses those that leave no time, and answers those that hang.
#[derive(Clone, Copy, Debug)]
pub struct DeadlineLayer {
    /// For calls that bring none.
    pub default: Duration,
    /// For a start that brings none.
    pub start: Duration,
}

impl<S> Layer<S> for DeadlineLayer {
    type Service = WithDeadline<S>;

    fn layer(&self, inner: S) -> Self::Service {
        WithDeadline { inner, defaults: *self }
    }
}

#[derive(Clone, Debug)]
pub struct WithDeadline<S> {
    inner: S,
    defaults: DeadlineLayer,
}

impl<S> Service<Request<Body>> for WithDeadline<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let now = Instant::now();
        let path = request.uri().path();
        let only_reads = only_reads(path);
        let budget = match caller_timeout(request.headers()) {
            Some(timeout) => Budget::of_caller(timeout),
            None if STARTS.iter().any(|start| path.ends_with(start)) => Some(Budget::of_default(self.defaults.start)),
            None => Some(Budget::of_default(self.defaults.default)),
        };
        let Some(Budget { answer, give_up }) = budget else {
            let refused = ApiError::from(CommandError::DeadlinePassed);
            return Box::pin(async { Ok(Status::from(refused).into_http()) });
        };
        request.extensions_mut().insert(Deadline(now + answer));
        let call = self.inner.call(request);
        Box::pin(async move {
            match tokio::time::timeout_at(now + give_up, call).await {
                Ok(answer) => answer,
                Err(_) if only_reads => Ok(Status::from(ApiError::from(CommandError::DeadlinePassed)).into_http()),
                Err(_) => {
                    let unknown = CommandError::OutcomeUnknown { serial: None };
                    Ok(Status::from(ApiError::from(unknown)).into_http())
                }
            }
        })
    }
}

/// How much of a call's time is for what.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Budget {
    answer: Duration,
    give_up: Duration,
}

impl Budget {
    /// `None` if `timeout` leaves no time to do anything in.
    fn of_caller(timeout: Duration) -> Option<Self> {
        let timeout = timeout.min(LONGEST);
        let margin = margin(timeout);
        let answer = timeout.checked_sub(margin).filter(|left| !left.is_zero())?;
        Some(Self { answer, give_up: answer + margin / 2 })
    }

    /// Nobody is about to stop listening: the whole of `timeout` may be used.
    fn of_default(timeout: Duration) -> Self {
        Self { answer: timeout, give_up: timeout + margin(timeout) / 2 }
    }
}

fn margin(timeout: Duration) -> Duration {
    LEAST_MARGIN.max(timeout / 20)
}

/// `grpc-timeout`: at most eight digits and a unit. What is malformed counts as missing, as it does for tonic.
fn caller_timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if number.is_empty() || number.len() > 8 || !number.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let n: u64 = number.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(n * 3600)),
        "M" => Some(Duration::from_secs(n * 60)),
        "S" => Some(Duration::from_secs(n)),
        "m" => Some(Duration::from_millis(n)),
        "u" => Some(Duration::from_micros(n)),
        "n" => Some(Duration::from_nanos(n)),
        _ => None,
    }
}

/// Whether giving a method up leaves nothing undone: known by its name, which follows the API's own rules.
fn only_reads(path: &str) -> bool {
    let method = path.rsplit('/').next().unwrap_or_default();
    ["Get", "List", "Watch"].iter().any(|verb| method.starts_with(verb))
}

/// What waits for a pile to lock and check.
const STARTS: [&str; 2] = ["/StartCharging", "/StartParallelCharging"];
const LEAST_MARGIN: Duration = Duration::from_millis(50);
/// Longer deadlines are cut to this.
const LONGEST: Duration = Duration::from_hours(24);

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use tonic::Code;
    use tonic_types::StatusExt;

    use super::*;

    #[test]
    fn the_margin_is_taken_off_what_the_caller_gives() {
        let of =
            |ms| Budget::of_caller(Duration::from_millis(ms)).map(|b| (b.answer.as_millis(), b.give_up.as_millis()));
        assert_eq!(of(0), None);
        assert_eq!(of(50), None);
        assert_eq!(of(51), Some((1, 26)));
        assert_eq!(of(1000), Some((950, 975)));
        assert_eq!(of(30_000), Some((28_500, 29_250)));
        assert!(of(u64::from(u32::MAX) * 1000).is_some_and(|(answer, _)| answer < LONGEST.as_millis()));
    }

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        let check = |text: &str, expected: Option<Duration>| {
            let headers = HeaderMap::from_iter([(
                http::HeaderName::from_static("grpc-timeout"),
                http::HeaderValue::from_str(text).expect(text),
            )]);
            assert_eq!(caller_timeout(&headers), expected, "{text}");
        };
        check("1S", Some(Duration::from_secs(1)));
        check("250m", Some(Duration::from_millis(250)));
        check("99999999H", Some(Duration::from_hours(99_999_999)));
        check("100000000S", None);
        for bad in ["", "S", "1", "1s", "-1S", "+1S", "1.5S", " 1S"] {
            check(bad, None);
        }
        assert_eq!(caller_timeout(&HeaderMap::new()), None);
    }

    /// What a caller with `timeout` hears from a method that never answers, and after how many milliseconds.
    async fn hang(path: &str, timeout: Option<&str>) -> (Code, String, u128) {
        let layer = DeadlineLayer { default: Duration::from_secs(10), start: Duration::from_secs(30) };
        let never = tower::service_fn(|_: Request<Body>| std::future::pending::<Result<Response<Body>, Infallible>>());
        let mut request = Request::builder().uri(path);
        if let Some(timeout) = timeout {
            request = request.header("grpc-timeout", timeout);
        }
        let begun = Instant::now();
        let answer = layer.layer(never).call(request.body(Body::empty()).expect("request")).await.expect("infallible");
        let status = Status::from_header_map(answer.headers()).expect("a status");
        let reason = status.get_details_error_info().expect("ErrorInfo").reason;
        (status.code(), reason, begun.elapsed().as_millis())
    }

    #[tokio::test(start_paused = true)]
    async fn what_hangs_is_answered_before_the_caller_stops_listening() {
        let check = async |path: &str, timeout, reason: &str, from, to| {
            let (code, said, after) = hang(path, timeout).await;
            assert_eq!((code, said.as_str()), (Code::DeadlineExceeded, reason), "{path}");
            assert!((from..=to).contains(&after), "{path} took {after} ms");
        };
        check("/pileway.v1.PileService/GetPile", Some("1S"), "DEADLINE_PASSED", 950, 999).await;
        check("/pileway.v1.PileService/RebootPile", Some("1S"), "OUTCOME_UNKNOWN", 950, 999).await;
        check("/pileway.v1.PileService/RebootPile", Some("40m"), "DEADLINE_PASSED", 0, 0).await;
        check("/pileway.v1.PileService/RebootPile", None, "OUTCOME_UNKNOWN", 10_000, 10_500).await;
        check("/pileway.v1.ChargingService/StartCharging", None, "OUTCOME_UNKNOWN", 30_000, 31_500).await;
        check("/pileway.v1.ChargingService/StartParallelCharging", None, "OUTCOME_UNKNOWN", 30_000, 31_500).await;
    }
}
