//! What one consumer is delivered, and what keeps it waiting.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::memory::{Glass, Memory, PARTITIONS};
use super::{GROUP, Seat, id, settles};
use crate::domain::{PileCode, WallMs};
use crate::groups::cursor::{self, Acknowledged};
use crate::groups::error::GroupError;
use crate::groups::flight::Delivery;
use crate::store::document::{GroupCursor, group_cursor_key, put_group_cursor};
use crate::store::{Gap, GapReason, Partition, Position, Store};

fn code(pile: u64) -> PileCode {
    format!("{pile:014}").parse().expect("14 digits")
}

fn at(pile: u64) -> Partition {
    Partition::of(code(pile), PARTITIONS)
}

fn tell(memory: &Memory, pile: u64, numbers: std::ops::RangeInclusive<u64>) {
    for number in numbers {
        // Each at another time, as numbers of another hundred are.
        memory.tell(code(pile), number, WallMs(1_000_000 + number.cast_signed()));
    }
}

/// A pile of whose partition the seat is to have.
fn pile_of(memory: &Memory, seat: &Seat) -> u64 {
    let group = memory.group(GROUP).expect("a group");
    (1..10_000).find(|pile| group.assigned[usize::from(at(*pile).0)] == Some(seat.id)).expect("one of many")
}

struct Given {
    partition: Partition,
    position: Position,
    birth: u64,
    lease: u64,
}

impl Seat {
    async fn next(&mut self) -> Result<Given, Gap> {
        let delivery = timeout(Duration::from_secs(30), self.deliveries.recv()).await.expect("in time");
        match delivery.expect("goes on").expect("no error") {
            Delivery::Event { entry, position, birth, lease } => {
                Ok(Given { partition: entry.partition, position, birth, lease })
            }
            Delivery::Gap(gap) => Err(gap),
        }
    }

    async fn event(&mut self) -> Given {
        self.next().await.expect("an event")
    }

    /// Whether nothing comes for long.
    async fn has_nothing(&mut self) -> bool {
        timeout(Duration::from_secs(30), self.deliveries.recv()).await.is_err()
    }

    async fn acknowledge(&self, given: &Given) -> Result<(), GroupError> {
        self.consumer.acknowledge(&self.registry, GROUP, given.partition, given.lease, given.position).await
    }

    /// Through a node that knows nothing of this consumer.
    async fn acknowledge_elsewhere(&self, memory: &Arc<Memory>, given: &Given) {
        let Given { partition, position, birth, lease } = *given;
        let what = Acknowledged { name: GROUP, birth, partition, consumer: self.id, lease, position, delivered: 0 };
        cursor::acknowledge(&*Glass::on(memory, 0), what, None).await.expect("any node takes it");
    }
}

#[tokio::test(start_paused = true)]
async fn acknowledgements_that_go_through_another_node_make_room_at_once() {
    let memory = Memory::new();
    let mut seat = Seat::take(&memory, 1, 2).await;
    tell(&memory, 1, 1..=100);
    let began = Instant::now();
    for _ in 0..50 {
        let some = [seat.event().await, seat.event().await];
        seat.acknowledge_elsewhere(&memory, &some[1]).await;
    }
    assert!(began.elapsed() < Duration::from_secs(5), "100 events, 2 in flight, took {:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_nothing_is_looked_after_no_more_often_than_every_second() {
    let memory = Memory::new();
    let mut seat = Seat::take(&memory, 1, 1).await;
    tell(&memory, 1, 1..=100);
    let one = seat.event().await;
    seat.acknowledge_elsewhere(&memory, &one).await;
    seat.event().await;
    sleep(Duration::from_secs(30)).await;
    let before = seat.glass.reads_of(&group_cursor_key(GROUP, at(1)));
    sleep(Duration::from_secs(30)).await;
    let reads = seat.glass.reads_of(&group_cursor_key(GROUP, at(1))) - before;
    assert!(reads <= 62, "{reads} reads of its cursor within 30 s");
}

#[tokio::test(start_paused = true)]
async fn no_more_is_in_flight_than_was_asked_for_while_partitions_move() {
    let memory = Memory::new();
    let mut first = Seat::take(&memory, 1, 10).await;
    settles(&memory, std::slice::from_ref(&first), "alone").await;
    for pile in 0..200 {
        tell(&memory, pile, 1..=1);
    }
    let mut open = vec![];
    for _ in 0..10 {
        open.push(first.event().await);
    }
    let second = Seat::take(&memory, 2, 10).await;
    // What it has of partitions that it is to give back it may still acknowledge, so that it counts.
    sleep(Duration::from_millis(1500)).await;
    assert!(first.deliveries.try_recv().is_err(), "ten are in flight");
    let group = memory.group(GROUP).expect("a group");
    let is_its = |given: &&Given| group.assigned[usize::from(given.partition.0)] == Some(id(1));
    let (its, moved): (Vec<_>, Vec<_>) = open.iter().partition(is_its);
    assert!(!its.is_empty() && !moved.is_empty(), "{} stay, {} move", its.len(), moved.len());
    for given in &moved {
        first.acknowledge(given).await.expect("it still holds it");
    }
    for _ in &moved {
        let given = first.event().await;
        assert!(is_its(&&given), "{} is to be the other's", given.partition);
    }
    assert!(first.deliveries.try_recv().is_err(), "and no more");
    drop(second);
}

#[tokio::test(start_paused = true)]
async fn what_the_client_has_not_been_given_need_not_be_acknowledged_before_a_partition_moves() {
    let memory = Memory::new();
    let mut first = Seat::take(&memory, 1, 1000).await;
    settles(&memory, std::slice::from_ref(&first), "alone").await;
    // One event of each partition.
    let mut partitions = BTreeSet::new();
    for pile in (0..1000).filter(|pile| partitions.insert(at(*pile))) {
        tell(&memory, pile, 1..=1);
    }
    assert_eq!(partitions.len(), 64);
    // The client reads some, and as many wait for it in the queue, and no more.
    let first_one = first.event().await;
    sleep(Duration::from_millis(100)).await;
    let second = Seat::take(&memory, 2, 1000).await;
    sleep(Duration::from_millis(1800)).await;
    let moved = super::held(&memory).get(&id(2)).map_or(0, BTreeSet::len);
    assert!(moved >= 32 - 17, "{moved} of 32 have moved: all but what the client was given of them");
    drop((second, first_one));
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_fails_or_hangs_keeps_no_other_waiting() {
    for hangs in [false, true] {
        let memory = Memory::new();
        let glass = Glass::on(&memory, 1);
        let bad: BTreeSet<_> = (0..21).map(Partition).collect();
        let broken = if hangs { &glass.hangs } else { &glass.broken };
        let good: Vec<_> = (0..200).filter(|pile| !bad.contains(&at(*pile))).collect();
        for pile in 0..200 {
            tell(&memory, pile, 1..=2);
        }
        let mut seat = Seat::behind(glass.clone(), 1, 10_000).await;
        broken.lock().expect("held briefly").clone_from(&bad);
        let began = Instant::now();
        for _ in 0..2 * good.len() {
            let given = seat.event().await;
            assert!(!bad.contains(&given.partition));
            seat.acknowledge(&given).await.expect("it holds it");
        }
        assert!(began.elapsed() < Duration::from_secs(2), "hangs {hangs}: took {:?}", began.elapsed());
        // And again, when they break while they are held.
        glass.broken.lock().expect("held briefly").clear();
        glass.hangs.lock().expect("held briefly").clear();
        for _ in 0..2 * (200 - good.len()) {
            let given = seat.event().await;
            assert!(bad.contains(&given.partition));
        }
        broken.lock().expect("held briefly").clone_from(&bad);
        // So much that the feed does not keep up, and the logs have to be read.
        for pile in 0..200 {
            tell(&memory, pile, 3..=60);
        }
        let began = Instant::now();
        let mut left = 58 * good.len();
        while left > 0 {
            let given = seat.event().await;
            left -= usize::from(!bad.contains(&given.partition));
        }
        assert!(began.elapsed() < Duration::from_secs(2), "hangs {hangs}: took {:?}", began.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_loss_that_another_consumer_has_told_is_not_told_again_and_moves_no_cursor_back() {
    let memory = Memory::new();
    let mut seat = Seat::take(&memory, 1, 100).await;
    tell(&memory, 1, 1..=10);
    for _ in 0..10 {
        seat.event().await;
    }
    // Another had it, found that the log was lost, told so, and went on in what is there now; and has gone.
    memory.lose_log(at(1));
    tell(&memory, 1, 101..=105);
    let held = memory.cursor(GROUP, at(1)).expect("it is held");
    let last = seat.glass.read_log(at(1), 2, 1).await.expect("reads");
    let position = Position::behind(&last[0], WallMs(1_000_103));
    let moved = GroupCursor { holder: None, lease: held.lease + 2, acknowledged: position, delivered: 3, ..held };
    memory.put(put_group_cursor(GROUP, at(1), &moved));
    let given = seat.event().await;
    assert_eq!(given.position.offset, 4, "on behind what the other has acknowledged, and no gap");
    assert_eq!(memory.cursor(GROUP, at(1)).expect("there").acknowledged.offset, 3);
}

#[tokio::test(start_paused = true)]
async fn a_group_that_is_lost_is_restored_with_whoever_was_in_it_and_each_tells_what_it_misses() {
    let memory = Memory::new();
    let (mut first, mut second) = (Seat::take(&memory, 1, 100).await, Seat::take(&memory, 2, 100).await);
    let (one, other) = {
        let seats = [first, second];
        settles(&memory, &seats, "both").await;
        [first, second] = seats;
        (pile_of(&memory, &first), pile_of(&memory, &second))
    };
    for (seat, pile) in [(&mut first, one), (&mut second, other)] {
        tell(&memory, pile, 1..=10);
        for _ in 0..10 {
            let given = seat.event().await;
            seat.acknowledge(&given).await.expect("it holds it");
        }
    }
    memory.lose();
    for (seat, pile) in [(&mut first, one), (&mut second, other)] {
        tell(&memory, pile, 101..=120);
        let gap = seat.next().await.err().expect("a gap first");
        assert_eq!((gap.partition, gap.to, gap.reason), (at(pile), 10, GapReason::Lost));
        for number in 1..=20 {
            assert_eq!(seat.event().await.position.offset, number);
        }
    }
    assert_eq!(memory.group(GROUP).expect("restored").consumers.len(), 2);
    assert!(first.has_nothing().await && second.has_nothing().await, "told once");
}
