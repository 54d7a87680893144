//! Which piles may log in: every one, those of a list, or whom the example server admits.

use pileway::wire::{Heartbeat, LoginResponse, LoginResult};

use crate::common::pile::Line;
use crate::common::{Api, Node, Pile, frames};
use crate::server::Authorizer;

const A: &str = "32010600019236";
const STRANGER: &str = "99010600019236";

/// What 0x01 is answered with, on a connection of its own.
async fn knock(node: &Node, pile: &str) -> (LoginResult, Line) {
    let mut line = Line::connect(node).await;
    line.send(frames::login(pile, 1)).await;
    let answer = line.expect::<LoginResponse>().await;
    assert_eq!(answer.pile_code, frames::code(pile));
    (answer.result, line)
}

#[tokio::test]
async fn only_registered_piles_log_in_and_strangers_are_told_so_and_hung_up_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("piles");
    std::fs::write(&file, "# the ones at the harbour\n32010600019236\n").expect("written");
    let file = file.to_str().expect("text");
    let node = Node::with(&[("LOGIN__MODE", "registered"), ("LOGIN__PILES", "5503, 44"), ("LOGIN__PILES_FILE", file)]);
    let api = Api::of(&node).await;
    for pile in [A, "55031412782305"] {
        let mut pile = Pile::login(&node, pile).await;
        pile.served().await;
    }
    for _ in 0..20 {
        let (result, mut line) = knock(&node, STRANGER).await;
        assert_eq!(result, LoginResult::Rejected);
        // It is closed by the node, whatever the pile still sends.
        line.try_send(frames::heartbeat(STRANGER)).await;
        line.closed().await;
    }
    let known = api.piles.clone().get_pile(pileway::api::pb::GetPileRequest { pile: STRANGER.into() }).await;
    assert!(known.is_err(), "nothing is kept of it");
    let told = node.log().lines().filter(|line| line.contains(STRANGER)).count();
    assert_eq!(told, 1, "it is logged once, however often it tries:\n{}", node.log());
}

#[tokio::test]
async fn the_server_says_who_may_log_in_and_what_it_said_is_remembered() {
    let mut server = Authorizer::start(&["--refuse", "99"]);
    let url = server.url();
    let node = Node::with(&[("LOGIN__MODE", "grpc"), ("LOGIN__URL", &url)]);
    let api = Api::of(&node).await;
    let mut pile = Pile::login(&node, A).await;
    api.session_begins(A).await;
    for _ in 0..5 {
        let (result, mut line) = knock(&node, STRANGER).await;
        assert_eq!(result, LoginResult::Rejected);
        line.closed().await;
    }
    pile.served().await;
    // What it said is remembered: of the pile, which logs in again, and of the stranger.
    let mut again = Pile::login(&node, A).await;
    again.served().await;
    let said = server.end();
    assert_eq!(said.len(), 2, "{said:#?}");
    assert!(said[0].contains(A) && said[0].ends_with("login allowed"), "{said:#?}");
    assert!(said[1].contains(STRANGER) && said[1].ends_with("login denied"), "{said:#?}");
}

#[tokio::test]
async fn a_server_that_does_not_answer_counts_as_configured() {
    let check = |name: &'static str, server: Authorizer, dead: bool| async move {
        let mut server = server;
        let url = server.url();
        if dead {
            server.end();
        }
        let settings = [("LOGIN__MODE", "grpc"), ("LOGIN__URL", &*url), ("LOGIN__DEADLINE", "300ms")];
        for (on_failure, expected) in [("deny", LoginResult::Rejected), ("allow", LoginResult::Accepted)] {
            let node = Node::with(&[&settings[..], &[("LOGIN__ON_FAILURE", on_failure)]].concat());
            let (result, _line) = knock(&node, A).await;
            assert_eq!(result, expected, "{name}");
        }
    };
    check("slow", Authorizer::start(&["--slow", "30s"]), false).await;
    check("dead", Authorizer::start(&[]), true).await;
    check("nonsense", Authorizer::start(&["--nonsense"]), false).await;
}

#[tokio::test]
async fn before_it_may_a_pile_is_not_heard() {
    let server = Authorizer::start(&["--slow", "1s"]);
    let url = server.url();
    let node = Node::with(&[("LOGIN__MODE", "grpc"), ("LOGIN__URL", &url)]);
    let mut line = Line::connect(&node).await;
    line.send(frames::login(A, 1)).await;
    let heartbeat: Heartbeat = frames::heartbeat(A);
    line.send(heartbeat).await;
    let first = line.next().await.expect("an answer");
    assert_eq!(first.frame.code(), 0x02, "to the login first");
    line.is_served(A).await;
}
