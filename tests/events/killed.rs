//! Processes that are killed, and everything that is started again.

use std::collections::BTreeSet;
use std::sync::Arc;

use pileway::store::Store;
use pileway::store::redis::{Config, Redis};

use crate::common::redis::Redis as Server;
use crate::common::{Api, Node, eventually};
use crate::reader::{Reader, Teller, holdings, lag, numbers};

fn node(redis: &str, id: &str) -> Node {
    Node::with(&[
        ("REDIS__URL", redis),
        ("NODE__ID", id),
        ("PEER__LISTEN", "127.0.0.1:0"),
        ("PEER__SECRET", "a-secret-of-these-tests"),
        ("DRAIN__SETTLE", "0s"),
        ("CLUSTER__LEASE_TTL", "3s"),
        ("CLUSTER__RENEW_EVERY", "500ms"),
    ])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_outlives_its_nodes_killed_one_after_another_and_redis() {
    let mut server = Server::start();
    // Otherwise a Redis whose disk is busy may be killed before it has written what it has acknowledged.
    let _: String = server.cli(&["CONFIG", "SET", "appendfsync", "always"]);
    let store: Arc<dyn Store> = Arc::new(Redis::open(Config::new(server.url())).await.expect("opens"));
    let teller = Teller::on(&store);
    let (mut a, b) = (node(&server.url(), "a"), node(&server.url(), "b"));
    let (api_a, api_b) = (Api::of(&a).await, Api::of(&b).await);
    let mut dies = Reader::join(&api_a, "g").await;
    let mut lives = Reader::join(&api_b, "g").await;
    let spread = || async { (holdings(&api_b, "g").await.into_values().eq([32, 32])).then_some(()) };
    eventually("partitions to be spread", spread).await;
    for pile in 0..50 {
        teller.tell(pile, 1..=4).await;
    }
    // Acknowledged by a process that is killed then: it stays acknowledged.
    let done = dies.take(10).await;
    for told in &done {
        dies.acknowledge(told).await;
    }
    a.kill();
    let mut seen = vec![];
    let acknowledged: BTreeSet<_> = done.iter().map(|told| (told.pile, told.number)).collect();
    let mut missing: BTreeSet<_> = (0..50).flat_map(|pile| (1..=4).map(move |number| (pile, number))).collect();
    missing.retain(|one| !acknowledged.contains(one));
    while !missing.is_empty() {
        let told = lives.next().await;
        missing.remove(&(told.pile, told.number));
        lives.acknowledge(&told).await;
        seen.push(told);
    }
    for told in &done {
        assert!(!numbers(&seen, told.pile).contains(&told.number), "{told:?} was acknowledged");
    }
    for pile in 0..50 {
        assert!(numbers(&seen, pile).is_sorted(), "pile {pile}");
    }
    assert_eq!(lag(&api_b, "g").await.unacknowledged, 0);

    // Everything: the node, Redis, and another node on what is left.
    teller.tell(1, [5]).await;
    drop((lives, b));
    server.restart();
    a.start_again();
    let api = Api::of(&a).await;
    let again = || async {
        Reader::try_with(&api, crate::reader::to_join("g", pileway::api::pb::GroupStart::default(), 0)).await.ok()
    };
    let mut reader = eventually("the group", again).await;
    assert!(!reader.joined.created);
    let told = reader.next().await;
    assert_eq!((told.pile, told.number), (1, 5));
    reader.acknowledge(&told).await;
    assert_eq!(lag(&api, "g").await.unacknowledged, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_of_a_node_that_stands_alone_resumes_after_a_kill() {
    use crate::common::{Pile, within};
    use pileway::api::pb;

    let mut node = Node::start();
    let api = Api::of(&node).await;
    let pile = Pile::login_at(node.piles, "32010600019236", 1).await;
    api.session_begins("32010600019236").await;
    let join = async |api: &Api| {
        let request = crate::reader::to_join("g", pb::GroupStart::Earliest, 0);
        let mut stream = within("Subscribe", api.events.clone().subscribe(request)).await.expect("joins").into_inner();
        let first = within("joined", stream.message()).await.expect("goes on").expect("a message");
        let Some(pb::subscribe_response::Update::Joined(joined)) = first.update else { panic!("{first:?}") };
        (stream, joined)
    };
    let next = async |stream: &mut tonic::Streaming<pb::SubscribeResponse>| {
        let message = within("an event", stream.message()).await.expect("goes on").expect("a message");
        let Some(pb::subscribe_response::Update::Event(event)) = message.update else { panic!("{message:?}") };
        event
    };
    let (mut stream, joined) = join(&api).await;
    let event = next(&mut stream).await;
    let Some(pb::event::Kind::PileOnline(online)) = &event.kind else { panic!("{event:?}") };
    let there = online.pile.as_ref().expect("a pile");
    assert_eq!((there.pile.as_str(), there.presence()), ("32010600019236", pb::PilePresence::Online));
    assert_eq!((event.pile.as_str(), event.seq), ("32010600019236", 1));

    node.restart();
    drop(pile);
    let api = Api::of(&node).await;
    // A stream and a consumer of a run that is over.
    let (mut stream, again) = join(&api).await;
    assert_ne!(joined.consumer, again.consumer);
    assert_eq!(next(&mut stream).await.event_id, event.event_id, "it was never acknowledged");
}
