//! ClusterService: which nodes there are, who holds a pile, and how a node ends.

use pileway::api::pb;
use tonic::{Code, Status};
use tonic_health::pb::health_check_response::ServingStatus;

use crate::PILE;
use crate::common::{Api, eventually, reason, within};
use crate::nodes::Shared;

#[tokio::test]
async fn every_node_lists_all_of_them_and_knows_who_holds_a_pile() {
    let shared = Shared::new();
    let (a, b) = (shared.node("a").await, shared.node("b").await);
    let _pile = b.pile(PILE).await;
    for node in [&a, &b] {
        let nodes = nodes(&node.api).await;
        let told: Vec<_> = nodes.iter().map(|n| (n.node.as_str(), n.sessions, n.self_, n.draining)).collect();
        assert_eq!(told, [("a", Some(0), node.name == "a", false), ("b", Some(1), node.name == "b", false)]);
        assert_eq!(nodes[0].peer_address, a.peer.to_string());
        assert_eq!(nodes[1].version, env!("CARGO_PKG_VERSION"));
        assert!(nodes[1].started_at.is_some());
        let owner = owner(&node.api, PILE).await.expect("GetOwner");
        let state = if node.name == "b" { pb::OwnerState::Local } else { pb::OwnerState::Remote };
        assert_eq!((owner.state(), owner.node.as_str()), (state, "b"));
        assert_eq!(owner.incarnation, nodes[1].incarnation);
        assert_eq!(owner.epoch, b.api.session(PILE).await.epoch);
        assert!(owner.last_seen.is_some());
    }
    let unknown = owner(&a.api, "99999999999999").await.expect_err("never seen");
    assert_eq!(reason(&unknown), (Code::NotFound, "PILE_UNKNOWN".into()));
}

#[tokio::test]
async fn a_node_that_is_gone_is_listed_no_more_and_owns_nothing() {
    let shared = Shared::new();
    let (a, mut b) = (shared.node("a").await, shared.node("b").await);
    let _pile = b.pile(PILE).await;
    b.kill();
    let ask = || async { (nodes(&a.api).await.len() == 1).then_some(()) };
    eventually("its lease to run out", ask).await;
    let owner = owner(&a.api, PILE).await.expect("GetOwner");
    assert_eq!((owner.state(), owner.node.as_str()), (pb::OwnerState::None, ""));
}

#[tokio::test]
async fn a_node_drains_when_another_one_is_asked_to_have_it_drain() {
    let shared = Shared::new();
    let (a, b) = (shared.node("a").await, shared.node("b").await);
    let mut pile = b.pile(PILE).await;
    let refused = drain(&a.api, "z").await.expect_err("no such node");
    assert_eq!(reason(&refused), (Code::NotFound, "NODE_UNKNOWN".into()));
    let refused = drain(&a.api, "").await.expect_err("no name");
    assert_eq!(reason(&refused), (Code::InvalidArgument, "INVALID_ARGUMENT".into()));

    let (told, ended) = tokio::join!(drain(&a.api, "b"), b.drained());
    let told = told.expect("DrainNode");
    assert_eq!((told.node.as_str(), told.draining), ("b", true));
    assert_eq!(ended, Ok(()));
    pile.closed().await;
    // At once, not when its lease would have run out.
    let left: Vec<_> = nodes(&a.api).await.into_iter().map(|node| node.node).collect();
    assert_eq!(left, ["a"]);
    let _pile = a.pile(PILE).await;
    assert_eq!(a.api.session(PILE).await.node, "a");
}

#[tokio::test]
async fn what_is_said_to_one_run_is_not_heard_by_another_that_has_its_address() {
    let shared = Shared::new();
    let (a, new) = (shared.node("a").await, shared.node("new").await);
    // As if the new one had come up where the old one was.
    let at = new.peer.to_string();
    let _old = shared.node_with("old", |config| config.peer.advertise = at).await;
    let refused = drain(&a.api, "old").await.expect_err("it is not there");
    assert_eq!(reason(&refused), (Code::Unavailable, "NODE_UNREACHABLE".into()));
    let told: Vec<_> = nodes(&a.api).await.into_iter().map(|node| (node.node, node.sessions, node.draining)).collect();
    let expected = [("a", Some(0)), ("new", Some(0)), ("old", None)].map(|(name, n)| (name.to_owned(), n, false));
    assert_eq!(told, expected);
}

#[tokio::test]
async fn a_node_that_drains_is_not_ready_but_serves_until_callers_have_had_time_to_leave() {
    let shared = Shared::new();
    let settle = std::time::Duration::from_secs(3);
    let (a, b) = (shared.node("a").await, shared.node_with("b", |config| config.drain.settle = Some(settle)).await);
    let mut pile = b.pile(PILE).await;
    let api = Api::at(b.grpc).await;
    let ready = || async {
        let mut health = tonic_health::pb::health_client::HealthClient::new(api.channel.clone());
        let request = tonic_health::pb::HealthCheckRequest { service: String::new() };
        within("health", health.check(request)).await.expect("health").into_inner().status()
    };
    assert_eq!(ready().await, ServingStatus::Serving);
    drain(&b.api, "b").await.expect("DrainNode");
    let draining = async {
        let unready = || async { (ready().await == ServingStatus::NotServing).then_some(()) };
        eventually("not to be ready", unready).await;
        let told = || async { nodes(&a.api).await.iter().any(|node| node.node == "b" && node.draining).then_some(()) };
        eventually("others to know", told).await;
        // Calls are served, from here and from there.
        for at in [&a.api, &api] {
            let (set, ()) = tokio::join!(at.sync_clock(PILE), crate::answer_clock(&mut pile));
            set.expect("still served");
        }
        pile.closed().await;
    };
    let (ended, ()) = tokio::join!(b.drained(), draining);
    assert_eq!(ended, Ok(()));
}

async fn nodes(api: &Api) -> Vec<pb::Node> {
    let mut cluster = api.cluster.clone();
    let listed = within("ListNodes", cluster.list_nodes(pb::ListNodesRequest {})).await;
    listed.expect("ListNodes").into_inner().nodes
}

async fn owner(api: &Api, pile: &str) -> Result<pb::Owner, Status> {
    let mut cluster = api.cluster.clone();
    let request = pb::GetOwnerRequest { pile: pile.to_owned() };
    Ok(within("GetOwner", cluster.get_owner(request)).await?.into_inner().owner.expect("an owner"))
}

async fn drain(api: &Api, node: &str) -> Result<pb::Node, Status> {
    let mut cluster = api.cluster.clone();
    let request = pb::DrainNodeRequest { node: node.to_owned() };
    Ok(within("DrainNode", cluster.drain_node(request)).await?.into_inner().node.expect("a node"))
}
