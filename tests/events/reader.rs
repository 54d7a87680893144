//! A consumer of a group, and what it is told; and whoever has events to tell.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pileway::api::pb;
use pileway::api::pb::subscribe_response::Update;
use pileway::domain::{Event, EventKind, PileCode, Serial, SessionId, WallMs};
use pileway::store::ledger::{Ledger, Write};
use pileway::store::{BatchId, Store};
use tonic::{Status, Streaming};

use crate::common::{Api, within};

/// Appends events of piles, each with a number.
pub struct Teller {
    ledger: Ledger,
    session: u64,
    batch: AtomicU64,
}

impl Teller {
    pub fn on(store: &Arc<dyn Store>) -> Self {
        let session = getrandom::u64().expect("randomness");
        Self { ledger: Ledger::new(store.clone()), session, batch: AtomicU64::new(1) }
    }

    /// The events `numbers` of one pile, in this order.
    pub async fn tell(&self, pile: u64, numbers: impl IntoIterator<Item = u64>) {
        self.tell_at(pile, numbers, now()).await;
    }

    /// As if they had been recorded at `at`.
    pub async fn tell_at(&self, pile: u64, numbers: impl IntoIterator<Item = u64>, at: WallMs) {
        let pile = code(pile);
        let numbers: Vec<_> = numbers.into_iter().collect();
        for some in numbers.chunks(100) {
            let event = |n: &u64| {
                let mut serial = [0; 16];
                serial[8..].copy_from_slice(&n.to_be_bytes());
                let kind = EventKind::RecordConflict { serial: Serial::from_bytes(serial) };
                Event { pile, recorded_at: at, pile_time: None, kind }
            };
            let n = self.batch.fetch_add(1, Ordering::Relaxed);
            let session = SessionId { incarnation: self.session, counter: n };
            let (id, events) = (BatchId { session, n: 1 }, some.iter().map(event).collect());
            let write = Write { id, pile, fence: None, documents: vec![], events };
            self.ledger.write(write).await.expect("the store takes events");
        }
    }
}

pub fn code(pile: u64) -> PileCode {
    format!("{pile:014}").parse().expect("14 digits")
}

pub fn now() -> WallMs {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    WallMs(i64::try_from(since.as_millis()).expect("before the year 300,000,000"))
}

/// A stream of a consumer.
pub struct Reader {
    api: Api,
    stream: Streaming<pb::SubscribeResponse>,
    pub joined: pb::Joined,
}

/// An event of a [`Teller`], as it was delivered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Told {
    pub pile: u64,
    pub number: u64,
    pub seq: i64,
    pub cursor: String,
}

#[derive(Clone, PartialEq, Debug)]
pub enum Message {
    Event(Told),
    Gap(pb::EventGap),
}

pub fn to_join(group: &str, start: pb::GroupStart, max_in_flight: i32) -> pb::SubscribeRequest {
    pb::SubscribeRequest { group: group.to_owned(), start: start.into(), start_time: None, max_in_flight }
}

impl Reader {
    /// With room for as much as there may be.
    pub async fn join(api: &Api, group: &str) -> Self {
        Self::with(api, to_join(group, pb::GroupStart::Earliest, 10_000)).await
    }

    pub async fn with(api: &Api, request: pb::SubscribeRequest) -> Self {
        Self::try_with(api, request).await.expect("Subscribe")
    }

    pub async fn try_with(api: &Api, request: pb::SubscribeRequest) -> Result<Self, Status> {
        let mut stream = within("Subscribe", api.events.clone().subscribe(request)).await?.into_inner();
        let first = within("joined", stream.message()).await?.expect("a first message");
        let Some(Update::Joined(joined)) = first.update else { panic!("{first:?} before `joined`") };
        Ok(Self { api: api.clone(), stream, joined })
    }

    pub async fn message(&mut self) -> Result<Option<Message>, Status> {
        let Some(message) = self.stream.message().await? else { return Ok(None) };
        Ok(Some(match message.update.expect("an update") {
            Update::Event(event) => Message::Event(told(&event)),
            Update::Gap(gap) => Message::Gap(gap),
            Update::Joined(again) => panic!("{again:?} again"),
        }))
    }

    pub async fn next(&mut self) -> Told {
        match within("an event", self.message()).await.expect("the stream goes on").expect("more") {
            Message::Event(told) => told,
            Message::Gap(gap) => panic!("{gap:?}"),
        }
    }

    pub async fn take(&mut self, count: usize) -> Vec<Told> {
        let mut all = vec![];
        while all.len() < count {
            all.push(self.next().await);
        }
        all
    }

    pub async fn acknowledge(&self, told: &Told) {
        self.try_acknowledge(&told.cursor).await.expect("Acknowledge");
    }

    pub async fn try_acknowledge(&self, cursor: &str) -> Result<(), Status> {
        acknowledge(&self.api, &self.joined, cursor).await
    }
}

pub async fn acknowledge(api: &Api, joined: &pb::Joined, cursor: &str) -> Result<(), Status> {
    let (group, consumer) = (joined.group.clone(), joined.consumer.clone());
    let request = pb::AcknowledgeRequest { group, consumer, cursor: cursor.to_owned() };
    within("Acknowledge", api.events.clone().acknowledge(request)).await.map(drop)
}

pub async fn lag(api: &Api, group: &str) -> pb::GetLagResponse {
    let request = pb::GetLagRequest { group: group.to_owned() };
    within("GetLag", api.events.clone().get_lag(request)).await.expect("GetLag").into_inner()
}

/// Of each consumer, how many partitions it holds, by consumer.
pub async fn holdings(api: &Api, group: &str) -> std::collections::BTreeMap<String, usize> {
    let mut held = std::collections::BTreeMap::new();
    for partition in lag(api, group).await.partitions {
        if !partition.consumer.is_empty() {
            *held.entry(partition.consumer).or_default() += 1;
        }
    }
    held
}

pub fn told(event: &pb::Event) -> Told {
    let pb::Event { event_id, pile, epoch, seq, recorded_at, late: _, cursor, kind, pile_time: _, partition: _ } =
        event.clone();
    let Some(pb::event::Kind::RecordConflict(conflict)) = kind else { panic!("{kind:?}") };
    assert_eq!(event_id, format!("{pile}-{epoch}-{seq}"));
    assert!(recorded_at.is_some());
    let number = u64::from_str_radix(&conflict.serial, 16).expect("a number");
    Told { pile: pile.parse().expect("digits"), number, seq, cursor }
}

/// The numbers of one pile, in the order they came.
pub fn numbers(all: &[Told], pile: u64) -> Vec<u64> {
    all.iter().filter(|told| told.pile == pile).map(|told| told.number).collect()
}
