//! What every call passes on its way in, and every answer on its way out.
//!
//! ```text
//!   CallLayer      outermost: gives the call its id and span, so that everything below logs inside it;
//!                  one debug line per call
//!   MetricsLayer   below it, because its clock should not count the logging; above the deadline, because calls
//!                  that are refused for lack of time count too
//!   DeadlineLayer  innermost: its clock starts when the call can be worked on
//! ```

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use http::{HeaderValue, Request, Response};
use opentelemetry::KeyValue;
use opentelemetry::metrics::Histogram;
use tonic::Code;
use tonic::body::Body;
use tower::{Layer, Service};
use tracing::Instrument;

use crate::cluster::{Caller, REQUEST_ID};
use crate::domain::ids::hex;

/// Names each call: the caller's `x-request-id`, or a new one; it comes back with the answer.
#[derive(Clone, Copy, Debug)]
pub struct CallLayer;

impl<S> Layer<S> for CallLayer {
    type Service = Call<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Call { inner }
    }
}

#[derive(Clone, Debug)]
pub struct Call<S> {
    inner: S,
}

impl<S> Service<Request<Body>> for Call<S>
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

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let begun = Instant::now();
        let id = request_id(&request);
        let caller = Caller::of(request.headers()).named(id.clone());
        let span = tracing::info_span!(
            "call",
            path = request.uri().path(),
            request_id = id.to_str().unwrap_or("?"),
            trace_id = caller.trace_id(),
        );
        // For whatever is asked of other nodes on the way.
        let call = caller.scope(span.in_scope(|| self.inner.call(request)));
        let named = async move {
            let mut answer = call.await?;
            tracing::debug!(code = ?code(&answer), elapsed_us = begun.elapsed().as_micros(), "call answered");
            answer.headers_mut().insert(REQUEST_ID, id);
            Ok(answer)
        };
        Box::pin(named.instrument(span))
    }
}

/// Measures each call: `rpc.server.call.duration` by method and code. A watch counts until it is open.
#[derive(Clone, Debug)]
pub struct MetricsLayer {
    duration: Histogram<f64>,
}

impl MetricsLayer {
    /// Uses the meter provider that is global at this moment.
    pub fn from_global() -> Self {
        let meter = opentelemetry::global::meter("pileway");
        Self { duration: meter.f64_histogram(CALL_DURATION).with_unit("s").build() }
    }
}

impl<S> Layer<S> for MetricsLayer {
    type Service = Metered<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Metered { inner, duration: self.duration.clone() }
    }
}

#[derive(Clone, Debug)]
pub struct Metered<S> {
    inner: S,
    duration: Histogram<f64>,
}

impl<S> Service<Request<Body>> for Metered<S>
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

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let begun = Instant::now();
        let method = request.uri().path().trim_start_matches('/').to_owned();
        let duration = self.duration.clone();
        let call = self.inner.call(request);
        Box::pin(async move {
            let answer = call.await?;
            let code = code(&answer);
            // Whoever calls what does not exist must not make up labels.
            let unknown = code == Code::Unimplemented && !answer.headers().contains_key(STATUS_DETAILS);
            let labels = [
                KeyValue::new("rpc.system.name", "grpc"),
                KeyValue::new("rpc.method", if unknown { "_OTHER".to_owned() } else { method }),
                KeyValue::new("rpc.response.status_code", format!("{code:?}")),
            ];
            duration.record(begun.elapsed().as_secs_f64(), &labels);
            Ok(answer)
        })
    }
}

/// An error answers with headers only; where they name no status, the call is OK, or a watch has opened.
fn code(answer: &Response<Body>) -> Code {
    answer.headers().get("grpc-status").map_or(Code::Ok, |status| Code::from_bytes(status.as_bytes()))
}

/// The caller's, if it is short and printable.
fn request_id(request: &Request<Body>) -> HeaderValue {
    let fits = |id: &&HeaderValue| (1..=64).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic);
    if let Some(id) = request.headers().get(REQUEST_ID).filter(fits) {
        return id.clone();
    }
    let mut bytes = [0; 8];
    // Without randomness calls share an id, which only makes logs harder to read.
    let _ = getrandom::fill(&mut bytes);
    HeaderValue::from_str(&hex(&bytes)).unwrap_or(HeaderValue::from_static("?"))
}

const STATUS_DETAILS: &str = "grpc-status-details-bin";
/// The name OpenTelemetry's semantic conventions give it; seconds.
const CALL_DURATION: &str = "rpc.server.call.duration";

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_call_keeps_the_id_its_caller_gave_it() {
        let check = async |sent: Option<&'static str>, kept: bool| {
            let ok = tower::service_fn(|_| async { Ok::<_, std::convert::Infallible>(Response::new(Body::empty())) });
            let mut request = Request::builder();
            if let Some(id) = sent {
                request = request.header(REQUEST_ID, id);
            }
            let answer = CallLayer.layer(ok).call(request.body(Body::empty()).expect("request")).await;
            let id = answer.expect("infallible").headers()[REQUEST_ID].clone();
            assert_eq!(id.to_str().ok() == sent, kept, "{sent:?}: {id:?}");
            assert!(!id.is_empty());
        };
        check(Some("caller-1"), true).await;
        check(None, false).await;
        check(Some(""), false).await;
        check(Some("two words"), false).await;
    }
}
