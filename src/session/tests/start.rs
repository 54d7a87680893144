//! Starting: what is durable, what is written, and when.

use super::harness::*;
use super::ledger::Mode;
use crate::domain::command::Start;
use crate::domain::order::{Change, Failure};
use crate::domain::{CommandError, OrderState, Reply, Serial};
use crate::session::io::EndReason;

#[test]
fn order_and_request_id_are_durable_in_one_batch_before_0x34_is_written() {
    let mut pile = Pile::online();
    let before = pile.store.borrow().written;
    pile.mode = Mode::Slow;
    let id = pile.start(&request(1));
    pile.receives_nothing();
    pile.store_returns();
    assert_eq!(pile.store.borrow().written, before + 1);
    let start = pile.receives(0x34);
    assert_eq!((start.get("gun_no"), start.get("balance")), (1, 10_000));
    assert_eq!(pile.order_state(start.serial()), OrderState::Requested);
    assert_eq!(pile.store.borrow().changes(start.serial()), [Change::Created]);
    pile.waits_still(id);
}

#[test]
fn a_serial_follows_the_rule_of_the_protocol() {
    let mut pile = Pile::online();
    let (_, serial) = pile.starting();
    // 1,700,000,000 s is 2023-11-15 06:13:20 in +08:00.
    assert!(serial.to_string().starts_with("3201060001923601231115061320"), "{serial}");
}

#[test]
fn past_its_deadline_0x34_is_never_written() {
    let mut pile = Pile::online();
    pile.mode = Mode::Slow;
    let id = pile.start(&request(1));
    pile.advance(30);
    assert_eq!(pile.reply(id), Err(CommandError::DeadlinePassed), "nothing was written, and that is certain");
    pile.store_returns();
    pile.receives_nothing();
    let store = pile.store.borrow();
    let (order, _) = store.orders.values().next().expect("it was stored all the same");
    assert_eq!((order.state, &order.failure), (OrderState::Failed, &Some(Failure::NotSent)));
    assert_eq!(store.changes(order.serial), [Change::Created, Change::Failed]);
}

#[test]
fn a_start_whose_store_failed_is_never_sent_even_if_it_was_stored() {
    for was_stored in [Mode::Away, Mode::LosesAnswers] {
        let mut pile = Pile::online();
        pile.mode = Mode::Slow;
        let id = pile.start(&request(1));
        pile.store_answers_as(was_stored);
        assert!(matches!(pile.reply(id), Err(CommandError::StoreUnavailable { .. })));
        // A retry while nobody knows waits for what becomes of it.
        let retry = pile.start(&request(1));
        pile.mode = Mode::Prompt;
        pile.advance(1);
        pile.receives_nothing();
        assert_eq!(pile.reply(retry), Err(CommandError::DeadlinePassed));
        let store = pile.store.borrow();
        let (order, _) = store.orders.values().next().expect("found out by the same batch id");
        assert_eq!((order.state, &order.failure), (OrderState::Failed, &Some(Failure::NotSent)));
        assert_eq!(store.orders.len(), 1);
        assert_eq!(store.changes(order.serial), [Change::Created, Change::Failed], "{was_stored:?}");
    }
}

#[test]
fn an_order_that_waits_for_the_store_is_not_judged_by_the_ninety_seconds() {
    let mut pile = Pile::online();
    pile.mode = Mode::Away;
    pile.start(&request(1));
    pile.advance(300);
    pile.mode = Mode::Prompt;
    pile.advance(1);
    pile.receives_nothing();
    let store = pile.store.borrow();
    assert_eq!(store.orders.len(), 1);
    let (order, _) = store.orders.values().next().expect("one order");
    assert_eq!(order.failure, Some(Failure::NotSent));
    assert!(order.anomalies.is_empty(), "{:?}", order.anomalies);
}

#[test]
fn a_start_that_the_store_held_for_ninety_seconds_is_not_sent_since_the_pile_has_no_time_left() {
    let mut pile = Pile::online();
    pile.mode = Mode::Slow;
    let start = crate::domain::Command::StartCharging(Box::new(request(1)));
    let id = pile.command(start, 600);
    pile.advance(100);
    pile.store_returns();
    pile.receives_nothing();
    assert_eq!(pile.reply(id), Err(CommandError::DeadlinePassed));
}

#[test]
fn a_retry_joins_the_start_that_is_under_way_and_gets_its_answer_later() {
    let mut pile = Pile::online();
    pile.mode = Mode::Slow;
    let first = pile.start(&request(1));
    let second = pile.start(&request(1));
    pile.store_returns();
    let serial = pile.receives(0x34).serial();
    let third = pile.start(&request(1));
    pile.receives_nothing();
    pile.accepts(serial);
    for id in [first, second, third] {
        assert_eq!(pile.started(id), OrderState::Starting);
    }
    let replay = pile.start(&request(1));
    assert_eq!(pile.started(replay), OrderState::Starting);
    pile.charges(serial);
    let replay = pile.start(&request(1));
    assert_eq!(pile.started(replay), OrderState::Charging);
    pile.receives_nothing();
}

#[test]
fn one_request_id_with_other_arguments_is_refused_now_and_after_the_order_is_gone() {
    let mut pile = Pile::online();
    let (_, serial) = pile.starting();
    let mut other = request(1);
    other.balance_fen += 1;
    let id = pile.start(&other);
    assert_eq!(pile.reply(id), Err(CommandError::RequestReused { id: other.request_id }));
    pile.bills(serial);
    pile.receives(0x40);
    let id = pile.start(&other);
    assert_eq!(pile.reply(id), Err(CommandError::RequestReused { id: other.request_id }));
    let id = pile.start(&request(1));
    assert_eq!(pile.reply(id), Ok(Reply::StartedBefore { serial }));
    pile.receives_nothing();
}

#[test]
fn a_request_id_starts_once_over_a_restart() {
    let mut pile = Pile::online();
    let (_, serial) = pile.starting();
    let mut next = pile.elsewhere();
    next.receives(0x02);
    // Still open: it waits for the pile's answer like the first one.
    let joined = next.start(&request(1));
    next.receives_nothing();
    next.refuses(serial, 3);
    assert!(matches!(next.reply(joined), Err(CommandError::PileRejected { frame: 0x33, code: 3, .. })));
    let again = next.start(&request(1));
    assert_eq!(next.reply(again), Ok(Reply::StartedBefore { serial }));
    next.receives_nothing();
    assert_eq!(next.store.borrow().orders.len(), 1);
}

#[test]
fn a_gun_has_one_order() {
    let mut pile = Pile::online();
    let (_, serial) = pile.starting();
    let id = pile.start(&request(2));
    assert_eq!(pile.reply(id), Err(CommandError::GunBusy { gun: gun(1), serial }));
    let mut other_gun = request(3);
    other_gun.gun = gun(2);
    pile.start(&other_gun);
    assert_eq!(pile.receives(0x34).get("gun_no"), 2);
    other_gun.gun = gun(3);
    let id = pile.start(&other_gun);
    assert_eq!(pile.reply(id), Err(CommandError::GunUnknown { gun: gun(3), guns: 2 }));
}

#[test]
fn a_serial_that_is_taken_is_replaced_unless_the_caller_chose_it() {
    let mut pile = Pile::online();
    pile.mode = Mode::Slow;
    let id = pile.start(&request(1));
    // Somebody else's order has these very digits.
    let taken = open_serial(&pile);
    let order = crate::domain::Order::adopted(code(), gun(2), taken, pile.now().wall);
    pile.store.borrow_mut().orders.insert(taken, (order, 1));
    pile.store_returns();
    let serial = pile.receives(0x34).serial();
    assert_ne!(serial, taken);
    pile.accepts(serial);
    assert_eq!(pile.started(id), OrderState::Starting);

    let mut chosen = request(2);
    (chosen.gun, chosen.serial) = (gun(2), Some(taken));
    let id = pile.start(&chosen);
    assert_eq!(pile.reply(id), Err(CommandError::SerialTaken { serial: taken }));
    chosen.serial = Some(foreign(7));
    pile.start(&chosen);
    assert_eq!(pile.receives(0x34).serial(), foreign(7));
    pile.receives_nothing();
}

#[test]
fn a_pile_that_names_a_serial_before_0x34_moves_nothing() {
    let mut pile = Pile::online();
    pile.mode = Mode::Slow;
    let mut chosen = request(1);
    chosen.serial = Some(foreign(1));
    let id = pile.start(&chosen);
    pile.accepts(foreign(1));
    pile.charges(foreign(1));
    pile.waits_still(id);
    pile.store_returns();
    pile.receives(0x34);
    assert_eq!(pile.store.borrow().changes(foreign(1)), [Change::Created]);
}

#[test]
fn what_was_not_written_is_not_written_when_the_session_goes() {
    // Queued behind a record, on its way to the store, written.
    let check = |prepare: fn(&mut Pile), written: bool, orders: usize| {
        let mut pile = Pile::online();
        pile.mode = Mode::Slow;
        prepare(&mut pile);
        let id = pile.start(&request(1));
        if written {
            pile.store_answers();
        }
        pile.ends(EndReason::TakenOver);
        assert_eq!(pile.reply(id), Err(CommandError::SessionLost { written }));
        pile.store_returns();
        assert_eq!(pile.received(), usize::from(written));
        assert_eq!(pile.store.borrow().orders.len(), orders);
        assert!(pile.session.is_done());
    };
    check(
        |pile| {
            pile.bills(foreign(1));
        },
        false,
        1,
    );
    check(|_| {}, false, 1);
    check(|_| {}, true, 1);
}

#[test]
fn a_fenced_session_says_of_an_unsent_start_that_nothing_was_written() {
    let mut pile = Pile::online();
    pile.mode = Mode::Slow;
    pile.sends(0x03, &[("gun_no", 1), ("gun_status", 1)]);
    let id = pile.start(&request(1));
    pile.receives(0x04);
    // Somebody else has claimed the pile.
    pile.store.borrow_mut().somebody_claims();
    pile.store_returns();
    assert_eq!(pile.ended, Some(EndReason::TakenOver));
    assert_eq!(pile.reply(id), Err(CommandError::SessionLost { written: false }), "it waited behind a gun's state");
    pile.receives_nothing();
    assert!(pile.session.is_done() && pile.absent().is_none());
}

#[test]
fn a_serial_that_was_settled_elsewhere_is_taken_while_somebody_still_waits_for_its_start() {
    let mut pile = Pile::online();
    let (id, serial) = pile.starting();
    let bill = frame(0x3B, serial, &[("gun_no", 1), ("stop_reason", 0x41)]);
    let bill = crate::session::translate::record(&bill, Vec::new, code(), 2).expect("a record");
    let now = pile.now().wall;
    pile.store.borrow_mut().settle(&bill, None, now);
    pile.charges(serial);
    assert!(pile.session.orders.is_empty(), "its settlement was met");
    pile.mode = Mode::Slow;
    let again = pile.start(&Start { serial: Some(serial), ..request(2) });
    assert_eq!(pile.reply(again), Err(CommandError::SerialTaken { serial }));
    pile.advance(30);
    assert_eq!(pile.reply(id), Err(CommandError::OutcomeUnknown { serial: Some(serial) }), "it was written");
}

fn open_serial(pile: &Pile) -> Serial {
    pile.session.orders.first().expect("an order").order.serial
}
