//! Requests of EventService.

use super::super::event::{CURSOR, to_consumer};
use super::{Fields, MAX_PAGE};
use crate::api::error::{ApiError, Violations};
use crate::api::pb;
use crate::domain::Serial;
use crate::store::document::{ConsumerId, EventCursor, GroupStart};
use crate::store::{Begin, Partition, Position, Replay};

/// A consumer that wants to join a group.
pub struct Subscribe {
    pub group: String,
    pub start: GroupStart,
    pub max_in_flight: usize,
}

/// What is done.
pub struct Acknowledge {
    pub group: String,
    pub consumer: ConsumerId,
    pub partition: Partition,
    pub position: Position,
    /// Birth of the group, and lease.
    pub lease: (u64, u64),
}

/// Which events are wanted, and what a page token is good for.
pub struct ListEvents {
    pub replay: Replay,
    /// Empty = all.
    pub kinds: Vec<pb::EventKind>,
    pub serial: Option<Serial>,
    pub about: String,
}

pub fn subscribe(request: pb::SubscribeRequest) -> Result<Subscribe, ApiError> {
    let pb::SubscribeRequest { group, start, start_time, max_in_flight } = request;
    let mut fields = Fields::default();
    fields.group(&group);
    let at = fields.time("start_time", start_time).map(|(at, rest)| at.plus_ms(u64::from(rest)));
    let start = match (pb::GroupStart::try_from(start), at) {
        (Ok(pb::GroupStart::Time), None) => {
            fields.0.add("start_time", "is required with TIME");
            GroupStart::Now
        }
        (Ok(pb::GroupStart::Time | pb::GroupStart::Unspecified), Some(at)) => GroupStart::Time(at),
        (Ok(pb::GroupStart::Earliest | pb::GroupStart::Now), Some(_)) => {
            fields.0.add("start_time", "goes with TIME only");
            GroupStart::Now
        }
        (Ok(pb::GroupStart::Earliest), None) => GroupStart::Earliest,
        (Ok(pb::GroupStart::Now | pb::GroupStart::Unspecified), None) => GroupStart::Now,
        (Err(_), _) => {
            fields.0.add("start", "is no start of a group");
            GroupStart::Now
        }
    };
    let max_in_flight = match usize::try_from(max_in_flight) {
        Ok(0) => DEFAULT_IN_FLIGHT,
        Ok(n) if n <= MAX_IN_FLIGHT => n,
        Ok(_) | Err(_) => {
            fields.0.add("max_in_flight", format!("must be 1 to {MAX_IN_FLIGHT}, or 0 for {DEFAULT_IN_FLIGHT}"));
            DEFAULT_IN_FLIGHT
        }
    };
    fields.finish(Some(Subscribe { group, start, max_in_flight }))
}

pub fn acknowledge(request: pb::AcknowledgeRequest) -> Result<Acknowledge, ApiError> {
    let pb::AcknowledgeRequest { group, consumer, cursor } = request;
    let mut fields = Fields::default();
    fields.group(&group);
    let consumer = to_consumer(&consumer);
    if consumer.is_none() {
        fields.0.add("consumer", "must be what `joined` said");
    }
    let (partition, position, lease) = match EventCursor::open(&cursor, CURSOR) {
        Some(EventCursor { positions, lease: Some(lease) }) if positions.len() == 1 => {
            (positions[0].0, positions[0].1, lease)
        }
        Some(_) | None => {
            fields.0.add("cursor", "is not of an event that a group was delivered");
            (Partition::GLOBAL, Position::START, (0, 0))
        }
    };
    fields.finish(consumer.map(|consumer| Acknowledge { group, consumer, partition, position, lease }))
}

pub fn list_events(request: pb::ListEventsRequest) -> Result<ListEvents, ApiError> {
    let pb::ListEventsRequest { page_size, page_token, piles, kinds, serial, from, to, cursor } = request;
    let mut fields = Fields::default();
    // What a page token belongs to: all but the size of the page.
    let about = format!("list {piles:?} {kinds:?} {serial} {from:?} {to:?} {cursor}");
    let page_size = fields.page_size(page_size);
    let piles = fields.piles(&piles);
    if piles.len() > MAX_LISTED_PILES {
        fields.0.add("piles", format!("at most {MAX_LISTED_PILES}"));
    }
    let kinds = kinds.iter().enumerate().filter_map(|(n, kind)| match pb::EventKind::try_from(*kind) {
        Ok(pb::EventKind::Unspecified) | Err(_) => {
            fields.0.add(format!("kinds[{n}]"), "is no kind of event");
            None
        }
        Ok(kind) => Some(kind),
    });
    let kinds = kinds.collect();
    let serial = if serial.is_empty() { None } else { fields.serial(&serial) };
    if serial.is_some() && piles.len() != 1 {
        fields.0.add("piles", "must name the pile of `serial`, and no other");
    }
    let mut bound = |field, at| fields.time(field, at).map(|(at, rest)| at.plus_ms(u64::from(rest)));
    let (from, to) = (bound("from", from), bound("to", to));
    if from.is_some() && !cursor.is_empty() {
        fields.0.add("cursor", "does not go with `from`");
    }
    let mut behind = |field, text: &str, about: &str| {
        let cursor = EventCursor::open(text, about);
        if cursor.is_none() {
            fields.0.add(field, "is not from an event or a page of this list with these filters");
        }
        Begin::Behind(cursor.unwrap_or_default().positions)
    };
    let begin = match (&page_token[..], &cursor[..]) {
        ("", "") => Begin::Earliest,
        ("", cursor) => behind("cursor", cursor, CURSOR),
        (token, _) => behind("page_token", token, &about),
    };
    fields.finish(Some(ListEvents { replay: Replay { piles, begin, from, to, page_size }, kinds, serial, about }))
}

/// Behind which group, and how many.
pub fn list_groups(request: &pb::ListGroupsRequest) -> Result<(String, usize), ApiError> {
    let mut fields = Fields::default();
    let page_size = fields.page_size(request.page_size);
    if !request.page_token.is_empty() && !is_group(&request.page_token) {
        fields.0.add("page_token", "is not from a page of this list");
    }
    fields.finish(Some((request.page_token.clone(), page_size.min(MAX_PAGE))))
}

pub fn group(name: &str) -> Result<&str, ApiError> {
    let mut fields = Fields::default();
    fields.group(name);
    fields.finish(Some(name))
}

impl Fields {
    fn group(&mut self, name: &str) {
        if !is_group(name) {
            self.0.add("group", "must be 1 to 64 of a to z, 0 to 9, -, _ and .");
        }
    }
}

/// That a cursor says nothing about a partition is found out where it is read.
pub fn bad_cursor() -> ApiError {
    ApiError::Arguments(Violations::one("cursor", "is not from an event of these piles, or a list with these filters"))
}

fn is_group(name: &str) -> bool {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.');
    (1..=64).contains(&name.len()) && name.bytes().all(fits)
}

const DEFAULT_IN_FLIGHT: usize = 256;
const MAX_IN_FLIGHT: usize = 10_000;
/// Each may be in another partition.
const MAX_LISTED_PILES: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::WallMs;

    /// The fields that are refused, in order.
    fn refused<T>(result: Result<T, ApiError>) -> Vec<String> {
        match result {
            Ok(_) => vec![],
            Err(ApiError::Arguments(violations)) => violations.fields().map(str::to_owned).collect(),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn nonsense_of_a_subscription_is_named() {
        let check = |spoil: fn(&mut pb::SubscribeRequest), fields: &[&str]| {
            let mut request = pb::SubscribeRequest { group: "billing-2.a_b".into(), ..Default::default() };
            spoil(&mut request);
            assert_eq!(refused(subscribe(request)), fields);
        };
        let at = prost_types::Timestamp { seconds: 1_700_000_000, nanos: 0 };
        check(|_| {}, &[]);
        check(|r| r.group.clear(), &["group"]);
        check(|r| r.group = "x".repeat(64), &[]);
        check(|r| r.group = "x".repeat(65), &["group"]);
        check(|r| r.group = "Billing".into(), &["group"]);
        check(|r| r.group = "a b".into(), &["group"]);
        check(|r| r.max_in_flight = 10_000, &[]);
        check(|r| r.max_in_flight = 10_001, &["max_in_flight"]);
        check(|r| r.max_in_flight = -1, &["max_in_flight"]);
        check(|r| r.start = 9, &["start"]);
        check(|r| r.start = 3, &["start_time"]);
        check(|r| (r.start, r.max_in_flight) = (3, -1), &["start_time", "max_in_flight"]);
        let with = |start: pb::GroupStart| {
            let (group, start) = ("g".to_owned(), start.into());
            subscribe(pb::SubscribeRequest { group, start, start_time: Some(at), max_in_flight: 0 })
        };
        assert_eq!(refused(with(pb::GroupStart::Earliest)), ["start_time"]);
        for start in [pb::GroupStart::Time, pb::GroupStart::Unspecified] {
            let read = with(start).expect("a time");
            assert_eq!(read.start, GroupStart::Time(WallMs(1_700_000_000_000)));
            assert_eq!(read.max_in_flight, DEFAULT_IN_FLIGHT);
        }
    }

    #[test]
    fn only_what_a_group_was_delivered_can_be_acknowledged() {
        let position = Position { offset: 7, mark: None, at: WallMs(5) };
        let cursor = |lease| EventCursor { positions: vec![(Partition(3), position)], lease };
        let id = ConsumerId { incarnation: 0xAB, number: 12 };
        let request = |cursor: String| pb::AcknowledgeRequest {
            group: "g".into(),
            consumer: super::super::super::event::consumer_name(id),
            cursor,
        };
        let good = cursor(Some((1, 2))).seal(CURSOR);
        let read = acknowledge(request(good.clone())).expect("good");
        assert_eq!((read.consumer, read.partition, read.position, read.lease), (id, Partition(3), position, (1, 2)));
        assert_eq!(refused(acknowledge(request(cursor(None).seal(CURSOR)))), ["cursor"], "of a list");
        assert_eq!(refused(acknowledge(request(cursor(Some((1, 2))).seal("else")))), ["cursor"]);
        assert_eq!(refused(acknowledge(request(good.replace(&good[..2], "00")))), ["cursor"], "damaged");
        assert_eq!(refused(acknowledge(request(String::new()))), ["cursor"]);
        let stranger = pb::AcknowledgeRequest { consumer: "me".into(), ..request(good) };
        assert_eq!(refused(acknowledge(stranger)), ["consumer"]);
    }

    #[test]
    fn nonsense_of_a_list_is_named() {
        let check = |spoil: fn(&mut pb::ListEventsRequest), fields: &[&str]| {
            let mut request = pb::ListEventsRequest::default();
            spoil(&mut request);
            assert_eq!(refused(list_events(request)), fields);
        };
        check(|_| {}, &[]);
        check(|r| r.page_size = -1, &["page_size"]);
        check(|r| r.piles = vec!["1".into()], &["piles[0]"]);
        check(|r| r.kinds = vec![10, 0, 999], &["kinds[1]", "kinds[2]"]);
        check(|r| r.serial = "a".repeat(32), &["piles"]);
        check(|r| (r.serial, r.piles) = ("a".repeat(32), vec!["32010600019236".into()]), &[]);
        check(|r| r.page_token = "00".into(), &["page_token"]);
        check(|r| r.cursor = "zz".into(), &["cursor"]);
        check(
            |r| (r.cursor, r.from) = (EventCursor::default().seal(CURSOR), Some(prost_types::Timestamp::default())),
            &["cursor"],
        );
        // A token is of its own list only.
        let token = |kinds: &[i32]| {
            let about = list_events(pb::ListEventsRequest { kinds: kinds.to_vec(), ..Default::default() });
            EventCursor::default().seal(&about.expect("good").about)
        };
        let page = |kinds, page_token| list_events(pb::ListEventsRequest { kinds, page_token, ..Default::default() });
        assert_eq!(refused(page(vec![10], token(&[10]))), [""; 0]);
        assert_eq!(refused(page(vec![11], token(&[10]))), ["page_token"]);
    }
}
