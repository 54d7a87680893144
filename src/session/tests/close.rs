//! Ending an order whose record never comes: durable before it is told, and never against a record.

use super::harness::*;
use super::ledger::Mode;
use crate::domain::order::{AnomalyKind, Change, Close, ClosingSource, Happening, RecordAfterClose};
use crate::domain::{Amount, Command, CommandError, Energy, OrderState, Reply};
use crate::session::io::EndReason;

#[test]
fn an_order_whose_record_is_overdue_is_closed_with_what_was_last_metered() {
    let mut pile = Pile::online();
    let serial = pile.charging();
    pile.sends_of(serial, 0x13, &[("gun_no", 1), ("status", 3), ("energy", 777), ("amount", 888)]);
    pile.sends_of(serial, 0x19, &[("gun_no", 1)]);
    let early = pile.close(serial, false);
    let active = CommandError::OrderActive { serial, state: "finished".into() };
    assert_eq!(pile.reply(early), Err(active), "its record may be on its way");
    pile.advance(30);
    assert_eq!(pile.order_state(serial), OrderState::Abnormal);

    pile.mode = Mode::Slow;
    let id = pile.close(serial, false);
    pile.waits_still(id);
    pile.store_returns();
    let Ok(Reply::Closed(order)) = pile.reply(id) else { panic!("closed") };
    assert_eq!(order.state, OrderState::ClosedWithoutRecord);
    let closing = order.closing.expect("how it was closed");
    assert_eq!((closing.energy, closing.amount), (Energy(777), Amount(888)));
    assert_eq!((closing.source, &*closing.reason), (ClosingSource::LastTelemetry, "never billed"));
    assert_eq!(pile.order_state(serial), OrderState::ClosedWithoutRecord);
    assert_eq!(pile.store.borrow().changes(serial).last(), Some(&Change::Closed));
    assert!(pile.session.orders.is_empty());
    pile.receives_nothing();
}

#[test]
fn what_still_charges_is_closed_by_force_only_and_its_gun_is_free() {
    let mut pile = Pile::online();
    let serial = pile.charging();
    let refused = pile.close(serial, false);
    assert!(matches!(pile.reply(refused), Err(CommandError::OrderActive { .. })));
    let stop = pile.stop(serial);
    pile.receives(0x36);
    let given = Some((Energy(10_000), Amount(14_000)));
    let close = Box::new(Close { reason: "the pile burnt down".into(), given, force: true });
    let id = pile.command(Command::CloseOrder { serial, close }, 10);
    let Ok(Reply::Closed(order)) = pile.reply(id) else { panic!("closed") };
    assert_eq!(order.closing.map(|closing| closing.source), Some(ClosingSource::Given));
    assert!(matches!(pile.reply(stop), Err(CommandError::OrderNotActive { .. })), "nobody waits for it any more");
    pile.charges(serial);
    assert_eq!(pile.order_state(serial), OrderState::ClosedWithoutRecord, "whatever the pile says of it");
    pile.starting();
}

#[test]
fn a_record_settles_a_closed_order_and_says_what_is_left_to_correct_once() {
    let mut pile = Pile::online();
    let serial = pile.charging();
    let id = pile.close(serial, true);
    assert!(pile.reply(id).is_ok());
    for _ in 0..2 {
        pile.bills(serial);
        pile.receives(0x40);
    }
    let changes = pile.store.borrow().changes(serial);
    assert_eq!(changes[changes.len() - 2..], [Change::Settled, Change::Anomaly(AnomalyKind::RecordAfterClose)]);
    assert_eq!(changes.iter().filter(|change| **change == Change::Settled).count(), 1);
    let order = pile.store.borrow().order(serial).clone();
    assert_eq!((order.state, order.closing.is_some()), (OrderState::Settled, true));
    let more = RecordAfterClose { energy: 100_000 - 1000, amount: Amount(140_000) };
    assert_eq!(order.record_after_close, Some(more));
}

#[test]
fn whoever_closes_what_is_being_closed_gets_the_same_and_a_record_that_is_first_wins() {
    let mut pile = Pile::online();
    let serial = pile.charging();
    pile.mode = Mode::Slow;
    let (first, second) = (pile.close(serial, true), pile.close(serial, false));
    pile.store_returns();
    assert_eq!(pile.reply(first), pile.reply(second));

    let serial = pile.charging();
    pile.mode = Mode::Slow;
    pile.bills(serial);
    let id = pile.close(serial, true);
    pile.waits_still(id);
    pile.store_returns();
    pile.receives(0x40);
    let settled = CommandError::OrderNotActive { serial, state: "settled".into() };
    assert_eq!(pile.reply(id), Err(settled));
    let order = pile.store.borrow().order(serial).clone();
    assert_eq!((order.state, order.closing, order.record_after_close), (OrderState::Settled, None, None));
}

#[test]
fn what_somebody_else_has_closed_meanwhile_is_forgotten() {
    let mut pile = Pile::online();
    let serial = pile.charging();
    let close = Close { reason: "elsewhere".into(), given: None, force: true };
    pile.store.borrow_mut().amend(serial, pile.now().wall, Happening::Closed(Box::new(close)));
    let id = pile.close(serial, true);
    let Ok(Reply::Closed(order)) = pile.reply(id) else { panic!("closed") };
    assert_eq!(order.closing.map(|closing| closing.reason), Some("elsewhere".into()));
    assert!(pile.session.orders.is_empty());
    let changes = pile.store.borrow().changes(serial);
    assert_eq!(changes.iter().filter(|change| **change == Change::Closed).count(), 1);
}

#[test]
fn what_a_session_does_not_hold_is_for_others_to_close_and_a_silent_pile_is_no_reason_to_wait() {
    let mut pile = Pile::online();
    let id = pile.close(foreign(1), true);
    assert_eq!(pile.reply(id), Err(CommandError::OrderNotHeld { serial: foreign(1) }));
    let serial = pile.charging();
    pile.input(crate::session::io::Input::Silent);
    let id = pile.close(serial, true);
    assert!(matches!(pile.reply(id), Ok(Reply::Closed(_))));
}

#[test]
fn a_session_that_ends_brings_the_closing_to_the_store_and_says_that_it_does_not_know() {
    let mut pile = Pile::online();
    let serial = pile.charging();
    pile.mode = Mode::Slow;
    let id = pile.close(serial, true);
    pile.ends(EndReason::ConnectionClosed);
    assert_eq!(pile.reply(id), Err(CommandError::SessionLost { written: true }));
    pile.store_returns();
    assert_eq!(pile.order_state(serial), OrderState::ClosedWithoutRecord);
}
