//! ListEvents.

use pileway::api::pb;
use pileway::domain::WallMs;
use tonic::Code;

use crate::common::{reason, within};
use crate::nodes::{Node, Shared};
use crate::reader::{Teller, code, now, numbers, told};

async fn list(node: &Node, request: pb::ListEventsRequest) -> pb::ListEventsResponse {
    within("ListEvents", node.api.events.clone().list_events(request)).await.expect("ListEvents").into_inner()
}

#[tokio::test]
async fn events_are_listed_by_time_page_by_page_and_from_a_cursor_on() {
    let shared = Shared::new();
    let node = shared.node("a").await;
    let teller = Teller::on(&shared.store);
    let begun = now().0 / 1000 * 1000 - 1_000_000;
    for n in 0..300_u64 {
        teller.tell_at(n % 10, [n], WallMs(begun + n.cast_signed() * 1000)).await;
    }
    let mut request = pb::ListEventsRequest { page_size: 7, ..Default::default() };
    let mut all = vec![];
    let cursor = loop {
        let page = list(&node, request.clone()).await;
        assert!(page.events.len() <= 7 && page.gaps.is_empty());
        all.extend(page.events.iter().map(told));
        if page.next_page_token.is_empty() {
            break page.cursor;
        }
        request.page_token = page.next_page_token;
    };
    assert_eq!(all.iter().map(|told| told.number).collect::<Vec<_>>(), (0..300).collect::<Vec<_>>());

    teller.tell(3, [300]).await;
    let since = list(&node, pb::ListEventsRequest { cursor, ..Default::default() }).await;
    assert_eq!(since.events.iter().map(|event| told(event).number).collect::<Vec<_>>(), [300]);

    let pile = |n| vec![code(n).to_string()];
    let of_one = pb::ListEventsRequest { page_size: 1000, piles: pile(3), ..Default::default() };
    let listed = list(&node, of_one.clone()).await;
    let one: Vec<_> = listed.events.iter().map(told).collect();
    assert_eq!(numbers(&one, 3), (0..=30).map(|n| if n == 30 { 300 } else { n * 10 + 3 }).collect::<Vec<_>>());
    assert_eq!(one.len(), 31);
    // Behind one of its events.
    let cursor = one[28].cursor.clone();
    let rest = list(&node, pb::ListEventsRequest { cursor: cursor.clone(), ..of_one.clone() }).await;
    assert_eq!(rest.events.iter().map(|event| told(event).number).collect::<Vec<_>>(), [293, 300]);
    let everybody = pb::ListEventsRequest { cursor, ..Default::default() };
    let error = node.api.events.clone().list_events(everybody).await.expect_err("it says nothing of the others");
    assert_eq!(reason(&error), (Code::InvalidArgument, "INVALID_ARGUMENT".into()));

    let at = |n: i64| Some(prost_types::Timestamp { seconds: begun / 1000 + n, nanos: 0 });
    let some = list(&node, pb::ListEventsRequest { from: at(100), to: at(104), ..Default::default() }).await;
    assert_eq!(some.events.iter().map(|event| told(event).number).collect::<Vec<_>>(), [100, 101, 102, 103]);

    let serial = format!("{:032x}", 13);
    let order = list(&node, pb::ListEventsRequest { serial, ..of_one.clone() }).await;
    assert_eq!(order.events.len(), 1);
    let kinds = vec![pb::EventKind::PileOnline.into()];
    assert_eq!(list(&node, pb::ListEventsRequest { kinds, ..of_one.clone() }).await.events, []);
    let kinds = vec![pb::EventKind::RecordConflict.into()];
    assert_eq!(list(&node, pb::ListEventsRequest { kinds, ..of_one }).await.events.len(), 31);
}

#[tokio::test]
async fn a_pile_tells_its_events_in_order_whatever_the_clocks_said() {
    let shared = Shared::new();
    let node = shared.node("a").await;
    let teller = Teller::on(&shared.store);
    let begun = now().0;
    for (n, seconds) in [5, 1, 4, 2, 3].into_iter().enumerate() {
        teller.tell_at(1, [n as u64], WallMs(begun - seconds * 1000)).await;
    }
    let listed = list(&node, pb::ListEventsRequest::default()).await;
    assert_eq!(listed.events.iter().map(|event| event.seq).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn a_cursor_older_than_what_is_kept_is_answered_with_a_gap() {
    let shared = Shared::new();
    let node = shared.node("a").await;
    let teller = Teller::on(&shared.store);
    teller.tell(1, 1..=10).await;
    let piles = vec![code(1).to_string()];
    let first = list(&node, pb::ListEventsRequest { page_size: 2, piles: piles.clone(), ..Default::default() }).await;
    let at = pileway::store::Partition::of(code(1), shared.store.partitions());
    shared.store.trim(at, 6, 100).await.expect("trims");
    let rest = pb::ListEventsRequest { cursor: first.cursor, piles, ..Default::default() };
    let rest = list(&node, rest).await;
    let gap = pb::EventGap { partition: at.0.into(), from: 3, to: 5, reason: pb::EventGapReason::Trimmed.into() };
    assert_eq!(rest.gaps, [gap]);
    assert_eq!(rest.events.iter().map(|event| told(event).number).collect::<Vec<_>>(), [6, 7, 8, 9, 10]);
}
