//! Whoever comes, goes and is taken for dead: when that ends, every partition is held by the one whose it is to be.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::memory::{Glass, Memory};
use super::{GROUP, Seat, held, id, settles};
use crate::store::Partition;
use crate::store::document::group_cursor_key;

#[tokio::test(start_paused = true)]
async fn who_began_to_take_everything_when_it_was_alone_takes_nothing_from_one_that_has_come_meanwhile() {
    let memory = Memory::new();
    let glass = Glass::on(&memory, 1);
    // What the other is going to have; one that has the group's document in hand does not get to read where it begins.
    let other: BTreeSet<_> = (0..64).map(|partition| group_cursor_key(GROUP, Partition(partition))).collect();
    glass.held_up.send_replace(other);
    let first = Seat::behind(glass.clone(), 1, 10).await;
    sleep(Duration::from_millis(1)).await;
    let second = Seat::take(&memory, 2, 10).await;
    let began = Instant::now();
    while held(&memory).get(&id(2)).is_none_or(|its| its.len() < 32) {
        assert!(began.elapsed() < Duration::from_secs(10), "the second has its share: {:?}", held(&memory));
        sleep(Duration::from_millis(10)).await;
    }
    glass.held_up.send_replace(BTreeSet::new());
    settles(&memory, &[first, second], "one came while the other took everything").await;
}

#[tokio::test(start_paused = true)]
async fn one_that_is_wrongly_taken_for_dead_has_its_partitions_again() {
    let memory = Memory::new();
    let seats = [Seat::take(&memory, 1, 10).await, Seat::take(&memory, 2, 10).await];
    settles(&memory, &seats, "two").await;
    seats[0].takes_for_dead(&[id(2)]);
    sleep(Duration::from_secs(3)).await;
    seats[0].takes_for_dead(&[]);
    settles(&memory, &seats, "one was taken for dead").await;
}

#[tokio::test(start_paused = true)]
async fn whatever_happens_partitions_come_to_rest() {
    for seed in 0..60 {
        let memory = Memory::new();
        let mut chance = seed + 1_u64;
        let mut below = |bound: u64| {
            chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (chance >> 33) % bound
        };
        let mut seats = vec![];
        let mut next = 1;
        for _ in 0..40 {
            match below(4) {
                0 if seats.len() < 5 => {
                    let glass = Glass::on(&memory, below(1 << 30));
                    seats.push(Seat::behind(glass.clone(), next, 10).await);
                    glass.slow_ms.store([1, 20, 300, 2000][below(4) as usize], Ordering::Relaxed);
                    next += 1;
                }
                1 if seats.len() > 1 => {
                    let seat = seats.swap_remove(below(seats.len() as u64) as usize);
                    seat.glass.slow_ms.store(1, Ordering::Relaxed);
                    seat.leave().await;
                }
                2 if !seats.is_empty() => {
                    let dead: Vec<_> = seats.iter().map(|seat: &Seat| seat.id).filter(|_| below(3) == 0).collect();
                    seats[below(seats.len() as u64) as usize].takes_for_dead(&dead);
                }
                _ => sleep(Duration::from_millis(below(1500))).await,
            }
        }
        if seats.is_empty() {
            seats.push(Seat::take(&memory, next, 10).await);
        }
        for seat in &seats {
            seat.takes_for_dead(&[]);
            seat.glass.slow_ms.store(5, Ordering::Relaxed);
        }
        settles(&memory, &seats, &format!("walk {seed}")).await;
    }
}
