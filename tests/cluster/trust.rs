//! Who may ask the peer port, and what a call is known by on its way through it.

use std::sync::{Arc, Mutex, PoisonError};

use pileway::api::pb;
use pileway::cluster::Tls;
use pileway::config::Config;
use pileway::settings::Secret;
use pileway::wire::*;
use tonic::{Code, Request};

use crate::common::node::tests_dir;
use crate::common::{eventually, reason, within};
use crate::nodes::Shared;
use crate::{PILE, answer_clock};

#[tokio::test]
async fn a_node_that_does_not_know_the_secret_is_refused() {
    let shared = Shared::new();
    let b = shared.node("b").await;
    let mut pile = b.pile(PILE).await;
    for secret in ["", "another", "known-to-all-of-u", "known-to-all-of-uss"] {
        let stranger = shared.node_with("stranger", |config| config.peer.secret = Secret::new(secret)).await;
        let refused = stranger.api.sync_clock(PILE).await.expect_err("refused");
        assert_eq!(reason(&refused), (Code::Unavailable, "SESSION_LOST".into()), "{secret:?}");
        assert_eq!(crate::common::api::fact(&refused, "written"), "false");
        assert_eq!(stranger.api.pile(PILE).await.session, None, "{secret:?}");
    }
    assert!(pile.seen().await.iter().all(|frame| !matches!(frame, Frame::TimeSync(_))));
    let friend = shared.node("friend").await;
    let (set, ()) = tokio::join!(friend.api.sync_clock(PILE), answer_clock(&mut pile));
    set.expect("SyncClock");
}

#[tokio::test]
async fn with_certificates_a_node_of_somebody_else_and_one_without_are_refused() {
    let tls = |name: &'static str| {
        move |config: &mut Config| {
            let file = |what: &str| tests_dir().join("data/tls").join(format!("{name}-{what}"));
            config.peer.tls = Tls { ca: file("ca.pem"), cert: file("node.pem"), key: file("node.key") };
            config.peer.secret = Secret::default();
        }
    };
    let shared = Shared::new();
    let (a, b) = (shared.node_with("a", tls("ours")).await, shared.node_with("b", tls("ours")).await);
    let mut pile = b.pile(PILE).await;
    let (set, ()) = tokio::join!(a.api.sync_clock(PILE), answer_clock(&mut pile));
    set.expect("SyncClock");
    // Who trusts others than us, who trusts us with a certificate we have not signed, and who has none. Some are refused so
    // late that their call may have been sent, for all they know.
    let pretending = |config: &mut Config| {
        tls("theirs")(config);
        config.peer.tls.ca = tests_dir().join("data/tls/ours-ca.pem");
    };
    let strangers =
        [shared.node_with("x", tls("theirs")).await, shared.node_with("y", pretending).await, shared.node("z").await];
    for stranger in strangers {
        let refused = stranger.api.sync_clock(PILE).await.expect_err("refused");
        let (_, reason) = reason(&refused);
        assert!(["SESSION_LOST", "OUTCOME_UNKNOWN"].contains(&reason.as_str()), "{} {refused:?}", stranger.name);
    }
    assert!(pile.seen().await.iter().all(|frame| !matches!(frame, Frame::TimeSync(_))));
}

#[tokio::test]
async fn both_nodes_log_a_call_under_the_callers_own_names_for_it() {
    let log = Log::default();
    let written = log.clone();
    let subscriber = tracing_subscriber::fmt().with_env_filter("pileway=debug").with_ansi(false);
    subscriber.with_writer(move || written.clone()).init();

    let shared = Shared::new();
    let (a, b) = (shared.node("a").await, shared.node("b").await);
    let mut pile = b.pile(PILE).await;
    let mut request = Request::new(pb::SyncClockRequest { pile: PILE.into() });
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let metadata = request.metadata_mut();
    metadata.insert("x-request-id", "call-17".parse().expect("a header"));
    metadata.insert("traceparent", format!("00-{trace}-00f067aa0ba902b7-01").parse().expect("a header"));
    let mut piles = a.api.piles.clone();
    let (set, ()) = tokio::join!(within("SyncClock", piles.sync_clock(request)), answer_clock(&mut pile));
    assert_eq!(set.expect("SyncClock").metadata().get("x-request-id").expect("it comes back"), "call-17");

    for (node, span) in [("a", "call{"), ("b", "hop{")] {
        let line = |line: &&str| line.contains(span) && line.contains("call-17") && line.contains(trace);
        let found = || async { log.text().lines().find(line).map(str::to_owned) };
        let line = eventually("a line of the call", found).await;
        assert!(line.contains("pileway::"), "{node}: {line}");
    }
    assert!(!log.text().contains("known-to-all-of-us"), "the secret is in the log");
}

/// What is logged by everything in this process.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
