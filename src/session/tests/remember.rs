//! How an order that the store may have lost is put again.

use super::harness::*;
use super::ledger::Store;
use crate::domain::order::{Change, Happening, Limits, Metered, Parallel, StartRequest};
use crate::domain::{Amount, Energy, Event, EventKind, Gun, Order, RequestId, Serial, SessionId, WallMs};
use crate::session::remember::Putting;
use crate::store::BatchId;
use crate::store::ledger::StartAttempt;

const NOW: WallMs = WallMs(1_700_000_000_000);
/// More than one batch holds.
const UNTOLD: usize = 40;

fn order() -> Order {
    let mut order = Order::requested(code(), Gun::new(1).expect("a gun"), Serial::from_bytes([7; 16]), NOW);
    order.request = Some(StartRequest { id: RequestId::from_bytes([8; 16]), arguments: 9 });
    order
}

fn untold(order: &Order) -> Vec<Event> {
    let event = |n: usize| {
        let order = Box::new(Order { updated_at: NOW.plus_ms(n as u64), ..order.clone() });
        let kind = EventKind::Order { order, change: Change::StopPlanned };
        Event { pile: code(), recorded_at: NOW, pile_time: None, kind }
    };
    (0..UNTOLD).map(event).collect()
}

/// To its end; `meanwhile` happens before each batch.
fn put(store: &mut Store, order: &Order, meanwhile: impl Fn(&mut Store, u64)) -> u64 {
    let id = |n| BatchId { session: SessionId { incarnation: 3, counter: 4 }, n };
    let mut left = Some(Putting::of(Box::new(order.clone()), untold(order), id(1), NOW));
    let mut n = 0;
    while let Some(putting) = left {
        n += 1;
        assert!(n < 100, "for ever");
        meanwhile(store, n);
        left = putting.answered(store.write(&putting.write()), (id(n + 1), NOW)).expect("a store that answers");
    }
    n
}

fn times(store: &Store) -> Vec<u64> {
    let at = |kind: &EventKind| match kind {
        EventKind::Order { order, .. } => Some(order.updated_at.since(NOW)),
        _ => None,
    };
    store.events.iter().filter_map(at).collect()
}

#[test]
fn whatever_was_untold_of_an_order_that_is_put_again_is_told_in_order() {
    let (mut store, order) = (Store::default(), order());
    assert!(put(&mut store, &order, |_, _| {}) > 1);
    assert_eq!(times(&store), (0..UNTOLD as u64).collect::<Vec<_>>());
    assert_eq!(store.order(order.serial), &order);
    assert_eq!(store.attempts.values().next(), StartAttempt::of(&order).as_ref());
}

#[test]
fn the_rest_is_not_told_once_somebody_else_has_written_the_order() {
    let (mut store, order) = (Store::default(), order());
    put(&mut store, &order, |store, batch| {
        if batch == 2 {
            store.orders.values_mut().for_each(|(_, version)| *version += 1);
        }
    });
    let told = times(&store);
    assert!(!told.is_empty() && told.len() < UNTOLD, "{told:?}");
}

#[test]
fn nothing_is_done_if_it_is_all_there() {
    let (mut store, order) = (Store::default(), order());
    store.attempts.insert(RequestId::from_bytes([8; 16]), StartAttempt::of(&order).expect("a start"));
    store.orders.insert(order.serial, (order.clone(), 5));
    assert_eq!(put(&mut store, &order, |_, _| {}), 1, "and one question says so");
    assert_eq!((store.order(order.serial), times(&store)), (&order, vec![]));
}

#[test]
fn an_order_is_put_again_though_its_request_has_led_to_another_one_since() {
    let (mut store, order) = (Store::default(), order());
    let other = StartAttempt { serial: Serial::from_bytes([1; 16]), ..StartAttempt::of(&order).expect("a start") };
    store.attempts.insert(other.id, other);
    put(&mut store, &order, |_, _| {});
    assert_eq!(store.order(order.serial), &order);
    assert_eq!(times(&store).len(), UNTOLD);
    assert_eq!(store.attempts[&other.id].serial, other.serial);
}

#[test]
fn an_order_found_by_its_serial_learns_how_it_began_however_often_it_changes_meanwhile() {
    let (mut store, order) = (Store::default(), order());
    let found = Order::adopted(order.pile, order.gun, order.serial, NOW);
    store.orders.insert(order.serial, (found, 1));
    put(&mut store, &order, |store, batch| {
        if batch < 4 {
            store.orders.values_mut().for_each(|(_, version)| *version += 1);
        }
    });
    assert_eq!(store.order(order.serial).request, order.request);
    assert_eq!((store.attempts.len(), times(&store)), (1, vec![]), "its life is told by who has it");
}

#[test]
fn all_of_its_beginning_is_learnt_and_nothing_of_what_has_happened_since_is_lost() {
    let (mut store, mut order) = (Store::default(), order());
    let later = NOW.plus_ms(60_000);
    order.order_id = "the first".into();
    order.parallel = Some(Parallel { number: [1; 6], gun: gun(2), serial: foreign(1) });
    order.limits = Some(Limits { soc_percent: Some(80), ..Limits::default() });
    order.balance_fen = Some(10_000);
    order.tariff = Some(policy(1).tariff.clone());
    order.apply(NOW.plus_ms(1000), Happening::Accepted);
    order.apply(NOW.plus_ms(2000), Happening::StopPlanned { expires_at: later.plus_ms(1) });
    let mut found = Order::adopted(order.pile, order.gun, order.serial, later);
    let metered = Metered { at: later, energy: Energy(5), amount: Amount(6), soc_percent: 7 };
    found.apply(later, Happening::Charging(metered));
    store.orders.insert(order.serial, (found.clone(), 1));
    put(&mut store, &order, |_, _| {});
    let anomalies = found.anomalies.clone();
    let (state, charging_at, last, updated_at) = (found.state, found.charging_at, found.last, later);
    let whole = Order { state, updated_at, charging_at, anomalies, last, ..order.clone() };
    assert_eq!(store.order(order.serial), &whole);
}
