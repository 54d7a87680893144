//! One group, and what it is delivered.

use pileway::api::pb;
use pileway::store::document::{ConsumerId, Group};
use pileway::store::{Partition, document};
use tonic::Code;

use crate::common::{eventually, reason};
use crate::loss::{group_at, put};
use crate::nodes::Shared;
use crate::reader::{Reader, Teller, acknowledge, lag, now, numbers, to_join};

#[tokio::test]
async fn what_is_not_acknowledged_is_delivered_again_in_order() {
    let shared = Shared::new();
    let node = shared.node("a").await;
    let teller = Teller::on(&shared.store);
    teller.tell(1, 1..=20).await;
    teller.tell(2, 1..=20).await;

    let mut reader = Reader::join(&node.api, "billing").await;
    assert!(reader.joined.created);
    let all = reader.take(40).await;
    assert_eq!((numbers(&all, 1), numbers(&all, 2)), ((1..=20).collect(), (1..=20).collect()));
    teller.tell(1, 21..=25).await;
    assert_eq!(numbers(&reader.take(5).await, 1), [21, 22, 23, 24, 25], "and what happens meanwhile");

    let of = |pile, number| all.iter().find(|told| (told.pile, told.number) == (pile, number)).expect("delivered");
    reader.acknowledge(of(1, 15)).await;
    reader.acknowledge(of(1, 3)).await;
    reader.acknowledge(of(2, 20)).await;
    assert_eq!(lag(&node.api, "billing").await.unacknowledged, 10);
    drop(reader);

    let mut next = Reader::join(&node.api, "billing").await;
    assert!(!next.joined.created);
    let again = next.take(10).await;
    assert_eq!(numbers(&again, 1), (16..=25).collect::<Vec<_>>(), "an older one moves nothing back");
    next.acknowledge(&again[9]).await;
    assert_eq!(lag(&node.api, "billing").await.unacknowledged, 0);
}

#[tokio::test]
async fn a_group_begins_where_its_first_consumer_said() {
    let shared = Shared::new();
    let node = shared.node("a").await;
    let teller = Teller::on(&shared.store);
    let begun = now().0 / 1000 - 1000;
    let at = |seconds: i64| pileway::domain::WallMs((begun + seconds) * 1000);
    for n in 0..100 {
        teller.tell_at(1, [n], at(n.cast_signed())).await;
    }
    let join = async |request| Reader::with(&node.api, request).await;
    let mut earliest = join(to_join("earliest", pb::GroupStart::Earliest, 0)).await;
    let mut later = join(to_join("now", pb::GroupStart::Unspecified, 0)).await;
    let start_time = Some(prost_types::Timestamp { seconds: begun + 42, nanos: 0 });
    let request = pb::SubscribeRequest { start_time, ..to_join("time", pb::GroupStart::Time, 0) };
    let mut time = join(request).await;
    assert_eq!(later.joined.start(), pb::GroupStart::Now);
    assert_eq!(earliest.next().await.number, 0);
    assert_eq!(time.next().await.number, 42);
    teller.tell(1, [1000]).await;
    assert_eq!(later.next().await.number, 1000);
    // Another start of a group that is there does not move it.
    let mut other = join(to_join("now", pb::GroupStart::Earliest, 0)).await;
    assert_eq!((other.joined.created, other.joined.start()), (false, pb::GroupStart::Now));
    drop(later);
    assert_eq!(other.next().await.number, 1000);
}

#[tokio::test]
async fn who_does_not_acknowledge_is_delivered_no_more_than_it_asked_for_and_holds_up_nobody_else() {
    let shared = Shared::new();
    let node = shared.node("a").await;
    let teller = Teller::on(&shared.store);
    let mut slow = Reader::with(&node.api, to_join("slow", pb::GroupStart::Earliest, 10)).await;
    let mut fast = Reader::join(&node.api, "fast").await;
    teller.tell(1, 1..=1000).await;
    assert_eq!(fast.take(1000).await.len(), 1000);
    let some = slow.take(10).await;
    assert_eq!(lag(&node.api, "slow").await.unacknowledged, 1000);
    // Room for one is one more.
    slow.acknowledge(&some[0]).await;
    assert_eq!(slow.next().await.number, 11);
    slow.acknowledge(&some[9]).await;
    let more = slow.take(9).await;
    assert_eq!(numbers(&more, 1), (12..=20).collect::<Vec<_>>());
    let nothing = tokio::time::timeout(std::time::Duration::from_millis(300), slow.message()).await;
    assert!(nothing.is_err(), "{nothing:?}");
}

#[tokio::test]
async fn what_was_delivered_under_a_lease_that_is_over_cannot_be_acknowledged() {
    let shared = Shared::new();
    let (a, b) = (shared.node("a").await, shared.node("b").await);
    let teller = Teller::on(&shared.store);
    teller.tell(1, 1..=10).await;
    let mut first = Reader::join(&a.api, "g").await;
    let all = first.take(10).await;
    let joined = first.joined.clone();
    drop(first);
    let mut second = Reader::join(&b.api, "g").await;
    let again = second.take(10).await;
    for node in [&a, &b] {
        let error = acknowledge(&node.api, &joined, &all[9].cursor).await.expect_err("stale");
        assert_eq!(reason(&error), (Code::FailedPrecondition, "CURSOR_NOT_YOURS".into()));
        let error = acknowledge(&node.api, &second.joined, &all[9].cursor).await.expect_err("not of this lease");
        assert_eq!(reason(&error), (Code::FailedPrecondition, "CURSOR_NOT_YOURS".into()));
    }
    assert_eq!(lag(&a.api, "g").await.unacknowledged, 10);
    // Whichever node is asked.
    acknowledge(&a.api, &second.joined, &again[4].cursor).await.expect("it holds it");
    second.acknowledge(&again[6]).await;
    assert_eq!(lag(&a.api, "g").await.unacknowledged, 3);
}

#[tokio::test]
async fn acknowledgements_at_another_node_make_room() {
    let shared = Shared::new();
    let (a, b) = (shared.node("a").await, shared.node("b").await);
    let teller = Teller::on(&shared.store);
    teller.tell(1, 1..=30).await;
    let mut reader = Reader::with(&a.api, to_join("g", pb::GroupStart::Earliest, 3)).await;
    for n in 0..10 {
        let some = reader.take(3).await;
        assert_eq!(numbers(&some, 1), [3 * n + 1, 3 * n + 2, 3 * n + 3]);
        acknowledge(&b.api, &reader.joined, &some[2].cursor).await.expect("any node takes it");
    }
    assert_eq!(lag(&a.api, "g").await.unacknowledged, 0);
}

#[tokio::test]
async fn groups_are_listed_and_forgotten() {
    let shared = Shared::new();
    let (a, b) = (shared.node("a").await, shared.node("b").await);
    let teller = Teller::on(&shared.store);
    teller.tell(1, 1..=3).await;
    let mut reader = Reader::join(&a.api, "one").await;
    reader.take(3).await;
    drop(Reader::join(&b.api, "two").await);

    let list = async |page_size, page_token: &str| {
        let request = pb::ListGroupsRequest { page_size, page_token: page_token.to_owned() };
        b.api.events.clone().list_groups(request).await.expect("ListGroups").into_inner()
    };
    let idle = || async { list(0, "").await.groups.pop().filter(|group| group.idle_since.is_some()) };
    assert_eq!(eventually("the other group to be idle", idle).await.group, "two");
    let page = list(1, "").await;
    assert_eq!(page.groups[0].group, "one");
    assert_eq!(page.groups[0].consumers.len(), 1);
    assert_eq!(page.groups[0].consumers[0].partitions, 64);
    assert_eq!(list(1, &page.next_page_token).await.groups[0].group, "two");

    let delete = |group: &str| pb::DeleteGroupRequest { group: group.to_owned() };
    let mut events = b.api.events.clone();
    events.delete_group(delete("one")).await.expect("DeleteGroup");
    let error = crate::common::within("the end", reader.message()).await.expect_err("its group is gone");
    assert_eq!(reason(&error), (Code::NotFound, "GROUP_UNKNOWN".into()));
    let error = events.delete_group(delete("one")).await.expect_err("gone");
    assert_eq!(reason(&error), (Code::NotFound, "GROUP_UNKNOWN".into()));
    let error = events.get_lag(pb::GetLagRequest { group: "one".into() }).await.expect_err("gone");
    assert_eq!(reason(&error), (Code::NotFound, "GROUP_UNKNOWN".into()));
    // One of the same name begins anew.
    let mut anew = Reader::join(&b.api, "one").await;
    assert!(anew.joined.created);
    assert_eq!(numbers(&anew.take(3).await, 1), [1, 2, 3]);
}

#[tokio::test]
async fn a_group_of_a_thousand_consumers_takes_no_more() {
    let shared = Shared::new();
    let node = shared.node("a").await;
    let full = Group {
        consumers: (1..=1000).map(|number| ConsumerId { incarnation: 4711, number }).collect(),
        ..group_at("g", 0)
    };
    put(&shared.store, Partition::GLOBAL, document::put_group(&full, now())).await;
    let refused = Reader::try_with(&node.api, to_join("g", pb::GroupStart::Earliest, 0)).await.err().expect("full");
    assert_eq!(reason(&refused), (Code::ResourceExhausted, "GROUP_FULL".into()));
    // One has left.
    let left = Group { consumers: full.consumers[1..].to_vec(), ..full };
    put(&shared.store, Partition::GLOBAL, document::put_group(&left, now())).await;
    Reader::join(&node.api, "g").await;
}
