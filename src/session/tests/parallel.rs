//! One vehicle on two guns, started by a caller: what is durable, what is written, and when.

use super::harness::*;
use super::ledger::Mode;
use crate::domain::order::{Change, Failure};
use crate::domain::{CommandError, Order, OrderState, Reply, Serial};
use crate::session::io::{EndReason, Input};

/// Asked for, durable, both 0xA4 received, not answered.
pub fn asked(pile: &mut Pile) -> (u64, [Serial; 2]) {
    let id = pile.start_parallel(&parallel_request(1));
    (id, [pile.receives(0xA4).serial(), pile.receives(0xA4).serial()])
}

/// 0xA3 of one gun: yes, or no with this reason.
pub fn answers(pile: &mut Pile, gun: u64, serial: Serial, reason: u64) {
    let yes = u64::from(reason == 0);
    pile.sends_of(serial, 0xA3, &[("gun_no", gun), ("start_result", yes), ("fail_reason", reason)]);
}

pub fn charges(pile: &mut Pile, gun: u64, serial: Serial) {
    pile.sends_of(serial, 0x13, &[("gun_no", gun), ("status", 3), ("gun_plugged", 1), ("energy", 1000)]);
}

pub fn charging(pile: &mut Pile) -> [Serial; 2] {
    let (id, serials) = asked(pile);
    for (gun, serial) in (1..).zip(serials) {
        answers(pile, gun, serial, 0);
        charges(pile, gun, serial);
    }
    both(pile, id);
    serials
}

#[track_caller]
pub fn both(pile: &mut Pile, id: u64) -> [Order; 2] {
    match pile.reply(id) {
        Ok(Reply::ParallelStarted(orders)) => *orders,
        other => panic!("not started: {other:?}"),
    }
}

pub fn states(pile: &Pile, serials: [Serial; 2]) -> [OrderState; 2] {
    serials.map(|serial| pile.order_state(serial))
}

/// The guns that are told to stop, and nothing else is told.
pub fn stopped(pile: &mut Pile) -> Vec<u64> {
    let frames = pile.all_received();
    assert!(frames.iter().all(|down| down.frame.code() == 0x36), "{frames:?}");
    frames.iter().map(|down| down.get("gun_no")).collect()
}

#[test]
fn both_orders_and_the_request_id_are_durable_in_one_batch_before_anything_is_written() {
    let mut pile = Pile::online();
    let before = pile.store.borrow().written;
    pile.mode = Mode::Slow;
    let id = pile.start_parallel(&parallel_request(1));
    pile.receives_nothing();
    pile.store_returns();
    assert_eq!(pile.store.borrow().written, before + 1);
    let [one, two] = [pile.receives(0xA4), pile.receives(0xA4)];
    assert_eq!([one.get("gun_no"), two.get("gun_no")], [1, 2]);
    assert_eq!([one.get("balance"), two.get("balance")], [10_000, 20_000]);
    let number = one.get("parallel_no").to_le_bytes();
    // 1,700,000,000 s is 2023-11-15 06:13:20 in +08:00.
    assert_eq!(number[..6], [0x23, 0x11, 0x15, 0x06, 0x13, 0x20]);
    assert_eq!(two.get("parallel_no").to_le_bytes(), number);
    let [one, two] = [one.serial(), two.serial()];
    {
        let store = pile.store.borrow();
        let other = |serial| store.order(serial).parallel.expect("it has another gun");
        assert_eq!((other(one).serial, other(two).serial), (two, one));
        assert_eq!((other(one).gun, other(two).gun), (gun(2), gun(1)));
        assert_eq!((store.attempts.len(), store.attempts.values().next().expect("one").serial), (1, one));
        assert_eq!([one, two].map(|serial| store.changes(serial)), [[Change::Created], [Change::Created]]);
    }
    answers(&mut pile, 1, one, 0);
    pile.waits_still(id);
    answers(&mut pile, 2, two, 0);
    let orders = both(&mut pile, id);
    assert_eq!(orders.map(|order| (order.serial, order.state)), [one, two].map(|s| (s, OrderState::Starting)));
    charges(&mut pile, 1, one);
    charges(&mut pile, 2, two);
    assert_eq!(states(&pile, [one, two]), [OrderState::Charging; 2]);
    pile.receives_nothing();
}

#[test]
fn two_vehicles_in_one_second_have_two_numbers() {
    let mut pile = Pile::online();
    let login = frame(0x01, Serial::NONE, &[("gun_count", 4), ("protocol_version", 16)]);
    pile.sends_frame(crate::wire::Sequence([1, 1]), login);
    pile.receives(0x02);
    pile.start_parallel(&parallel_request(1));
    let mut other = parallel_request(2);
    for (part, number) in other.guns.iter_mut().zip([3, 4]) {
        part.gun = gun(number);
    }
    pile.start_parallel(&other);
    let numbers: Vec<_> = pile.all_received().iter().map(|down| down.get("parallel_no")).collect();
    assert_eq!((numbers[0], numbers[2]), (numbers[1], numbers[3]));
    assert_ne!(numbers[0], numbers[2]);
}

#[test]
fn past_its_deadline_neither_is_written_and_neither_may_start() {
    let mut pile = Pile::online();
    pile.mode = Mode::Slow;
    let id = pile.start_parallel(&parallel_request(1));
    pile.advance(30);
    assert_eq!(pile.reply(id), Err(CommandError::DeadlinePassed));
    pile.store_returns();
    pile.receives_nothing();
    let store = pile.store.borrow();
    assert_eq!(store.orders.len(), 2);
    for (order, _) in store.orders.values() {
        assert_eq!((order.state, &order.failure), (OrderState::Failed, &Some(Failure::NotSent)));
    }
}

#[test]
fn a_store_that_failed_leaves_no_half_of_a_start() {
    for was_stored in [Mode::Away, Mode::LosesAnswers] {
        let mut pile = Pile::online();
        pile.mode = Mode::Slow;
        let id = pile.start_parallel(&parallel_request(1));
        pile.store_answers_as(was_stored);
        assert!(matches!(pile.reply(id), Err(CommandError::StoreUnavailable { .. })));
        let retry = pile.start_parallel(&parallel_request(1));
        pile.mode = Mode::Prompt;
        pile.advance(1);
        pile.receives_nothing();
        assert_eq!(pile.reply(retry), Err(CommandError::DeadlinePassed));
        let store = pile.store.borrow();
        let failures: Vec<_> = store.orders.values().map(|(order, _)| order.failure.clone()).collect();
        assert_eq!(failures, [Some(Failure::NotSent), Some(Failure::NotSent)], "{was_stored:?}");
    }
}

#[test]
fn what_was_not_written_is_written_of_neither_when_the_session_goes() {
    for written in [true, false] {
        let mut pile = Pile::online();
        pile.mode = Mode::Slow;
        let id = pile.start_parallel(&parallel_request(1));
        if written {
            pile.store_answers();
        }
        pile.ends(EndReason::TakenOver);
        assert_eq!(pile.reply(id), Err(CommandError::SessionLost { written }));
        pile.store_returns();
        assert_eq!(pile.received(), if written { 2 } else { 0 });
        assert_eq!(pile.store.borrow().orders.len(), 2);
        assert!(pile.session.is_done());
    }
}

#[test]
fn a_request_id_starts_both_once_also_over_a_restart() {
    let mut pile = Pile::online();
    let (first, [one, two]) = asked(&mut pile);
    let joined = pile.start_parallel(&parallel_request(1));
    pile.receives_nothing();
    answers(&mut pile, 1, one, 0);
    let mut next = pile.elsewhere();
    next.receives(0x02);
    let again = next.start_parallel(&parallel_request(1));
    next.waits_still(again);
    answers(&mut next, 2, two, 0);
    for id in [first, joined] {
        pile.waits_still(id);
    }
    assert_eq!(both(&mut next, again).map(|order| order.serial), [one, two]);
    next.bills(one);
    next.receives(0x40);
    let replay = next.start_parallel(&parallel_request(1));
    assert_eq!(next.reply(replay), Ok(Reply::StartedBefore { serial: one }));
    next.sends_of(two, 0x3B, &[("gun_no", 2)]);
    next.receives(0x40);
    let replay = next.start_parallel(&parallel_request(1));
    assert_eq!(next.reply(replay), Ok(Reply::StartedBefore { serial: one }));

    // The id of something else.
    let mut other = parallel_request(1);
    other.guns[1].balance_fen += 1;
    for id in [next.start_parallel(&other), next.start(&request(1))] {
        assert_eq!(next.reply(id), Err(CommandError::RequestReused { id: other.request_id }));
    }
    next.receives_nothing();
    assert_eq!(next.store.borrow().orders.len(), 2);
}

#[test]
fn a_retry_after_a_no_is_answered_on_two_guns_as_on_one() {
    let failure = Some(Failure::Rejected { code: 3, name: "equipment fault".into() });
    let mut pile = Pile::online();
    let (_, serial) = pile.starting();
    // What the store has not got yet is held, and tells by itself; after that the store does.
    pile.mode = Mode::Away;
    pile.refuses(serial, 3);
    let retry = pile.start(&request(1));
    let Ok(Reply::Started(order)) = pile.reply(retry) else { panic!("it is held") };
    assert_eq!((order.serial, order.failure), (serial, failure.clone()));
    pile.store_returns();
    pile.advance(2);
    let retry = pile.start(&request(1));
    assert_eq!(pile.reply(retry), Ok(Reply::StartedBefore { serial }));

    let mut pile = Pile::online();
    let (_, serials) = asked(&mut pile);
    pile.mode = Mode::Away;
    for (gun, serial) in (1..).zip(serials) {
        answers(&mut pile, gun, serial, 3);
    }
    let retry = pile.start_parallel(&parallel_request(1));
    assert_eq!(both(&mut pile, retry).map(|order| order.failure), [failure.clone(), failure.clone()]);
    pile.store_returns();
    pile.advance(2);
    let retry = pile.start_parallel(&parallel_request(1));
    assert_eq!(pile.reply(retry), Ok(Reply::StartedBefore { serial: serials[0] }));

    // Also stored it is held for as long as the other gun may say yes.
    let mut pile = Pile::online();
    let (_, serials) = asked(&mut pile);
    answers(&mut pile, 2, serials[1], 3);
    let retry = pile.start_parallel(&parallel_request(1));
    assert_eq!(both(&mut pile, retry).map(|order| order.failure), [None, failure]);
    answers(&mut pile, 1, serials[0], 3);
    let retry = pile.start_parallel(&parallel_request(1));
    assert_eq!(pile.reply(retry), Ok(Reply::StartedBefore { serial: serials[0] }));
    pile.receives_nothing();
}

#[test]
fn both_guns_must_be_free() {
    let mut pile = Pile::online();
    let (_, serial) = pile.starting();
    let id = pile.start_parallel(&parallel_request(2));
    assert_eq!(pile.reply(id), Err(CommandError::GunBusy { gun: gun(1), serial }));
    let mut other = parallel_request(3);
    other.guns[1].gun = gun(3);
    let id = pile.start_parallel(&other);
    assert_eq!(pile.reply(id), Err(CommandError::GunUnknown { gun: gun(3), guns: 2 }));

    let mut pile = Pile::online();
    let (_, [_, two]) = asked(&mut pile);
    let mut alone = request(2);
    alone.gun = gun(2);
    let id = pile.start(&alone);
    assert_eq!(pile.reply(id), Err(CommandError::GunBusy { gun: gun(2), serial: two }));
}

#[test]
fn what_the_frame_cannot_carry_or_the_pile_cannot_understand_is_refused() {
    let mut pile = Pile::online();
    let mut start = parallel_request(1);
    start.guns[1].limits.max_power_w = Some(7000);
    let unsupported = |what: &'static str, version| Err(CommandError::UnsupportedByPile { what: what.into(), version });
    for version in [16, 18] {
        pile.speaks(version);
        let id = pile.start_parallel(&start);
        assert_eq!(pile.reply(id), unsupported("power limit of a parallel charge", version as u8));
    }
    pile.speaks(15);
    let id = pile.start_parallel(&parallel_request(1));
    assert_eq!(pile.reply(id), unsupported("parallel charging", 15));
    pile.receives_nothing();
}

#[test]
fn a_serial_that_is_taken_is_replaced_on_whichever_gun_it_is() {
    for at in [0, 1] {
        let mut pile = Pile::online();
        pile.mode = Mode::Slow;
        let id = pile.start_parallel(&parallel_request(1));
        let taken = pile.session.orders[at].order.serial;
        let order = Order::adopted(code(), gun(2), taken, pile.now().wall);
        pile.store.borrow_mut().orders.insert(taken, (order, 1));
        pile.store_returns();
        let [one, two] = [pile.receives(0xA4).serial(), pile.receives(0xA4).serial()];
        assert!(![one, two].contains(&taken));
        {
            let store = pile.store.borrow();
            let other = |serial| store.order(serial).parallel.expect("it has another gun").serial;
            assert_eq!((other(one), other(two)), (two, one));
        }
        answers(&mut pile, 1, one, 0);
        answers(&mut pile, 2, two, 0);
        assert_eq!(both(&mut pile, id).map(|order| order.serial), [one, two]);

        // The caller's own.
        let mut pile = Pile::online();
        let order = Order::adopted(code(), gun(2), foreign(7), pile.now().wall);
        pile.store.borrow_mut().orders.insert(foreign(7), (order, 1));
        let mut chosen = parallel_request(1);
        chosen.guns[at].serial = Some(foreign(7));
        let id = pile.start_parallel(&chosen);
        assert_eq!(pile.reply(id), Err(CommandError::SerialTaken { serial: foreign(7) }));
        assert!(pile.session.orders.is_empty());
        pile.receives_nothing();
    }
}

#[test]
fn a_start_that_insists_on_a_tariff_gets_it_to_the_pile_first() {
    let mut pile = Pile::online();
    let mut start = parallel_request(1);
    start.expected_tariff = Some(policy(100_000).tariff.fingerprint());
    let id = pile.start_parallel(&start);
    pile.receives(0x58);
    pile.receives_nothing();
    pile.sends(0x57, &[("result", 1)]);
    let [one, two] = [pile.receives(0xA4).serial(), pile.receives(0xA4).serial()];
    answers(&mut pile, 1, one, 0);
    answers(&mut pile, 2, two, 0);
    both(&mut pile, id);
}

#[test]
fn a_store_that_has_lost_both_orders_gets_both_again_and_the_request_id_once() {
    let mut pile = Pile::online();
    let [one, two] = charging(&mut pile);
    pile.store.borrow_mut().loses(&[one, two]);
    pile.input(Input::Reassert { anew: true });
    pile.advance(3);
    assert_eq!(states(&pile, [one, two]), [OrderState::Charging; 2]);
    assert_eq!(pile.store.borrow().attempts.len(), 1);
    pile.receives_nothing();
}

#[test]
fn both_orders_the_store_has_lost_are_known_to_whoever_has_the_pile_by_now() {
    let mut pile = Pile::online();
    let [one, two] = charging(&mut pile);
    pile.store.borrow_mut().loses(&[one, two]);
    let mut newer = pile.elsewhere();
    newer.receives(0x02);
    pile.input(Input::End(EndReason::TakenOver));
    assert!(pile.session.is_done());
    assert_eq!(states(&newer, [one, two]), [OrderState::Charging; 2]);
    let id = newer.start_parallel(&parallel_request(1));
    newer.receives_nothing();
    assert_eq!(newer.reply(id), Ok(Reply::StartedBefore { serial: one }));
}
