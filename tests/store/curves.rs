//! Chunks of charging curves.

use std::sync::Arc;

use pileway::domain::curve::{Chunk, Point};
use pileway::domain::{Amount, Energy, Gun, Serial, WallMs};
use pileway::store::ledger::{Ledger, WriteError};
use pileway::store::{Claim, Store};

use crate::common::{fence, pile, session};

type Any = Arc<dyn Store>;

pub async fn a_curve_is_read_in_order_and_only_that_of_its_charge(store: Any) {
    let ledger = Ledger::new(store);
    assert_eq!(ledger.curve(pile(1), serial(1)).await, Ok(vec![]));
    // Numbers of different lengths, and of the neighbours: another charge, another pile.
    for chunk in [chunk(1, &[1_000_000, 1_000_015]), chunk(1, &[999_000]), chunk(2, &[5])] {
        ledger.keep_curve(&chunk, None, WallMs(5)).await.expect("stored");
    }
    let other = Chunk { pile: pile(2), ..chunk(1, &[7]) };
    ledger.keep_curve(&other, None, WallMs(5)).await.expect("stored");
    let expected = vec![chunk(1, &[999_000]), chunk(1, &[1_000_000, 1_000_015])];
    assert_eq!(ledger.curve(pile(1), serial(1)).await, Ok(expected));
    // The same chunk with more in it takes the place of what was there.
    let more = chunk(1, &[1_000_000, 1_000_015, 1_000_030]);
    ledger.keep_curve(&more, None, WallMs(5)).await.expect("stored");
    assert_eq!(ledger.curve(pile(1), serial(1)).await, Ok(vec![chunk(1, &[999_000]), more]));
}

pub async fn only_the_owner_stores_under_a_fence(store: Any) {
    let ledger = Ledger::new(store);
    let owner = ledger.claim(Claim::login(pile(1), session(1), WallMs(1), 1)).await.expect("claims").fence;
    let stranger = ledger.keep_curve(&chunk(1, &[1]), Some(fence(9, owner.epoch.0)), WallMs(5)).await;
    assert_eq!(stranger, Err(WriteError::Fenced));
    assert_eq!(ledger.curve(pile(1), serial(1)).await, Ok(vec![]));
    ledger.keep_curve(&chunk(1, &[1]), Some(owner), WallMs(5)).await.expect("stored");
    assert_eq!(ledger.curve(pile(1), serial(1)).await, Ok(vec![chunk(1, &[1])]));
}

pub async fn chunks_of_a_curve_expire_one_by_one(store: Any) {
    let ledger = Ledger::new(store);
    for (start, expires) in [(100, 1000), (200, 2000)] {
        ledger.keep_curve(&chunk(1, &[start]), None, WallMs(expires)).await.expect("stored");
    }
    assert_eq!(ledger.expire(WallMs(1000)).await, Ok(0));
    assert_eq!(ledger.expire(WallMs(1001)).await, Ok(1));
    assert_eq!(ledger.curve(pile(1), serial(1)).await, Ok(vec![chunk(1, &[200])]));
    assert_eq!(ledger.expire(WallMs(9000)).await, Ok(1));
    assert_eq!(ledger.curve(pile(1), serial(1)).await, Ok(vec![]));
}

fn chunk(of: u8, moments: &[i64]) -> Chunk {
    let point = |at: &i64| Point {
        at: WallMs(*at),
        energy: Energy(1),
        amount: Amount(2),
        soc_percent: Some(3),
        voltage_mv: 4,
        current_ma: 5,
        cable_celsius: None,
        battery_max_celsius: None,
        demand: None,
        extremes: None,
    };
    let gun = Gun::new(1).expect("a gun");
    Chunk { pile: pile(1), gun, serial: serial(of), points: moments.iter().map(point).collect() }
}

fn serial(n: u8) -> Serial {
    Serial::from_bytes([n; 16])
}
