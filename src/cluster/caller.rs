//! Who asked, as far as it travels: what names a call in the logs of every node it comes through.
//!
//! It is kept beside the task that answers the call, so that nobody between the API and the hop has to pass it on.

use std::future::Future;

use http::{HeaderMap, HeaderName, HeaderValue};

tokio::task_local! {
    static CALLER: Caller;
}

/// What a call is known by.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    /// The caller's `x-request-id`, or the one it was given.
    request_id: Option<HeaderValue>,
    /// W3C trace context, if the caller is traced.
    traceparent: Option<HeaderValue>,
}

impl Caller {
    /// As the headers of a call name it. What is too long or not printable counts as missing.
    pub fn of(headers: &HeaderMap) -> Self {
        let short = |name| headers.get(name).filter(|value| fits(value)).cloned();
        Self { request_id: short(REQUEST_ID), traceparent: short(TRACEPARENT) }
    }

    /// With another request id.
    #[must_use]
    pub fn named(self, request_id: HeaderValue) -> Self {
        Self { request_id: Some(request_id), ..self }
    }

    /// Of the call that is being answered; nobody, if it is this node's own doing.
    pub fn current() -> Self {
        CALLER.try_with(Self::clone).unwrap_or_default()
    }

    /// Everything `work` does is done for this caller.
    pub fn scope<F: Future>(self, work: F) -> impl Future<Output = F::Output> {
        CALLER.scope(self, work)
    }

    pub fn request_id(&self) -> Option<&HeaderValue> {
        self.request_id.as_ref()
    }

    /// 32 hex digits; empty if the caller is not traced.
    pub fn trace_id(&self) -> &str {
        let text = self.traceparent.as_ref().and_then(|value| value.to_str().ok()).unwrap_or_default();
        let id = text.split('-').nth(1).unwrap_or_default();
        if id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()) { id } else { "" }
    }

    /// For the next node.
    pub fn headers(&self) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        let named = [(REQUEST_ID, &self.request_id), (TRACEPARENT, &self.traceparent)];
        let there = named.into_iter().filter_map(|(name, value)| Some((HeaderName::from_static(name), value.clone()?)));
        there.collect::<Vec<_>>().into_iter()
    }
}

fn fits(value: &HeaderValue) -> bool {
    (1..=64).contains(&value.len()) && value.as_bytes().iter().all(u8::is_ascii_graphic)
}

pub const REQUEST_ID: &str = "x-request-id";
const TRACEPARENT: &str = "traceparent";

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_names_a_call_is_found_by_whatever_is_done_for_it() {
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST_ID, HeaderValue::from_static("abc"));
        let trace = HeaderValue::from_static("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        headers.insert(TRACEPARENT, trace);
        let seen = Caller::of(&headers).scope(async { Caller::current() }).await;
        assert_eq!(seen.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(seen.headers().collect::<HeaderMap>(), headers);
        assert_eq!(Caller::current().headers().count(), 0);
    }

    #[test]
    fn what_no_log_should_hold_is_left_out() {
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST_ID, HeaderValue::from_str(&"x".repeat(65)).expect("a value"));
        headers.insert(TRACEPARENT, HeaderValue::from_static("no trace"));
        assert_eq!(Caller::of(&headers).headers().count(), 0);
    }
}
