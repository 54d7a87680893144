//! Stopping: 0x36 closes the order at once, whatever the pile says to it (A24).

use super::harness::*;
use crate::domain::command::{StopProof, When};
use crate::domain::order::AnomalyKind::{RecordOverdue, StopNotObeyed};
use crate::domain::order::Change;
use crate::domain::{CommandError, OrderState, Reply};
use crate::session::io::EndReason;

#[test]
fn a_stop_closes_the_order_at_once_and_needs_no_answer() {
    let mut pile = Pile::online();
    let serial = pile.charging();
    let id = pile.stop(serial);
    assert_eq!(pile.receives(0x36).get("gun_no"), 1);
    assert_eq!(pile.order_state(serial), OrderState::Stopping);
    pile.idles();
    assert_eq!(pile.order_state(serial), OrderState::Finished);
    pile.waits_still(id);
    pile.bills(serial);
    pile.receives(0x40);
    let Ok(Reply::Stopped { order, confirmed_by }) = pile.reply(id) else { panic!("stopped") };
    assert_eq!((order.state, confirmed_by), (OrderState::Settled, StopProof::Record));
}

#[test]
fn what_0x35_says_is_what_the_caller_gets() {
    let mut pile = Pile::online();
    let serial = pile.charging();
    let id = pile.stop(serial);
    pile.sends(0x35, &[("gun_no", 1), ("fail_reason", 2)]);
    let Err(CommandError::PileRejected { frame, code, name }) = pile.reply(id) else { panic!("the pile said no") };
    assert_eq!((frame, code, &*name), (0x35, 2, "gun is not charging"));
    assert_eq!(pile.order_state(serial), OrderState::Stopping, "closed all the same");
    let id = pile.stop(serial);
    pile.sends(0x35, &[("gun_no", 1), ("stop_result", 1)]);
    let Ok(Reply::Stopped { order, confirmed_by }) = pile.reply(id) else { panic!("stopped") };
    assert_eq!((order.state, confirmed_by), (OrderState::Stopping, StopProof::Answer));
    // No record: due 30 s after the yes.
    pile.advance(30);
    assert_eq!(pile.store.borrow().changes(serial).last(), Some(&Change::Anomaly(RecordOverdue)));
}

#[test]
fn a_stop_nobody_answered_is_unknown() {
    let mut pile = Pile::online();
    let serial = pile.charging();
    let id = pile.stop(serial);
    pile.advance(10);
    assert_eq!(pile.reply(id), Err(CommandError::OutcomeUnknown { serial: Some(serial) }));
}

#[test]
fn a_pile_that_goes_on_charging_is_told_three_times_more_and_then_reported() {
    let mut pile = Pile::online();
    let serial = pile.charging();
    pile.stop(serial);
    pile.receives(0x36);
    for _ in 0..3 {
        pile.charges(serial);
        pile.advance(4);
        pile.receives_nothing();
        pile.advance(1);
        pile.receives(0x36);
    }
    pile.charges(serial);
    pile.advance(5);
    pile.receives_nothing();
    assert_eq!(pile.order_state(serial), OrderState::Abnormal);
    assert_eq!(pile.store.borrow().changes(serial).last(), Some(&Change::Anomaly(StopNotObeyed)));
    let busy = pile.start(&request(9));
    assert!(matches!(pile.reply(busy), Err(CommandError::GunBusy { .. })), "it charges still");
    pile.idles();
    pile.starting();
}

#[test]
fn an_order_that_is_not_active_cannot_be_stopped() {
    let mut pile = Pile::online();
    let state = |pile: &mut Pile, serial| {
        let id = pile.stop(serial);
        match pile.reply(id) {
            Err(CommandError::OrderNotActive { state, .. }) => state,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(state(&mut pile, foreign(1)), "not open");
    let serial = pile.charging();
    pile.sends_of(serial, 0x19, &[("gun_no", 1)]);
    assert_eq!(state(&mut pile, serial), "finished");
    pile.advance(30);
    assert_eq!(state(&mut pile, serial), "abnormal");
    let next = pile.charging();
    assert_eq!(state(&mut pile, serial), "abnormal", "another order has the gun");
    pile.receives_nothing();
    assert_eq!(pile.order_state(next), OrderState::Charging);
}

#[test]
fn the_0x35_of_a_gun_is_not_taken_by_an_older_order_whose_record_is_overdue() {
    let mut pile = Pile::online();
    let overdue = pile.charging();
    pile.stop(overdue);
    pile.receives(0x36);
    pile.idles();
    pile.advance(30);
    assert_eq!(pile.order_state(overdue), OrderState::Abnormal);
    let serial = pile.charging();
    let id = pile.stop(serial);
    pile.sends(0x35, &[("gun_no", 1), ("stop_result", 1)]);
    let Ok(Reply::Stopped { order, .. }) = pile.reply(id) else { panic!("stopped") };
    assert_eq!(order.serial, serial);
}

#[test]
fn a_stop_goes_to_the_gun_the_pile_charges_the_order_on_and_the_answer_is_that_guns() {
    for idle_before in [false, true] {
        let mut pile = Pile::online();
        let (_, serial) = pile.starting();
        pile.accepts(serial);
        pile.sends_of(serial, 0x13, &[("gun_no", 2), ("status", 3)]);
        let id = pile.stop(serial);
        assert_eq!(pile.receives(0x36).get("gun_no"), 2);
        pile.sends(0x35, &[("gun_no", 1), ("stop_result", 1)]);
        pile.waits_still(id);
        if idle_before {
            pile.sends(0x13, &[("gun_no", 2), ("status", 2)]);
        }
        pile.sends(0x35, &[("gun_no", 2), ("stop_result", 1)]);
        assert!(matches!(pile.reply(id), Ok(Reply::Stopped { order, .. }) if order.serial == serial));
    }
}

#[test]
fn a_late_0x35_is_not_the_answer_to_the_stop_of_the_next_order() {
    let mut pile = Pile::online();
    let serial = pile.charging();
    pile.stop(serial);
    let late = pile.receives(0x36).sequence;
    pile.advance(10);
    pile.bills(serial);
    pile.receives(0x40);
    let next = pile.charging();
    let id = pile.stop(next);
    pile.receives(0x36);
    let yes = frame(0x35, crate::domain::Serial::NONE, &[("gun_no", 1), ("stop_result", 1)]);
    pile.sends_frame(late, yes);
    pile.waits_still(id);
}

#[test]
fn a_disconnect_when_idle_waits_for_the_last_charge() {
    let mut pile = Pile::online();
    let serial = pile.charging();
    let id = pile.disconnect(When::WhenIdle);
    let second = pile.disconnect(When::WhenIdle);
    assert!(matches!(pile.reply(second), Err(CommandError::PileBusy { .. })));
    pile.sends_of(serial, 0x19, &[("gun_no", 1)]);
    pile.waits_still(id);
    pile.bills(serial);
    pile.receives(0x40);
    assert_eq!((pile.reply(id), pile.ended), (Ok(Reply::Disconnected), Some(EndReason::Disconnected)));
    assert!(pile.session.is_done());
}

#[test]
fn a_disconnect_that_waits_for_idle_guns_ends_with_its_deadline_or_at_once_if_somebody_insists() {
    let mut pile = Pile::online();
    pile.charging();
    let id = pile.disconnect(When::WhenIdle);
    pile.advance(10);
    assert_eq!(pile.reply(id), Err(CommandError::DeadlinePassed));
    assert_eq!(pile.ended, None);
    let patient = pile.disconnect(When::WhenIdle);
    let firm = pile.disconnect(When::Immediately);
    assert_eq!((pile.reply(firm), pile.reply(patient)), (Ok(Reply::Disconnected), Ok(Reply::Disconnected)));
    assert_eq!(pile.ended, Some(EndReason::Disconnected));
}

#[test]
fn an_idle_pile_is_disconnected_at_once() {
    let mut pile = Pile::online();
    let id = pile.disconnect(When::WhenIdle);
    assert_eq!((pile.reply(id), pile.ended), (Ok(Reply::Disconnected), Some(EndReason::Disconnected)));
}

#[test]
fn a_start_that_came_to_nothing_lets_the_disconnect_go_on() {
    let mut pile = Pile::online();
    pile.starting();
    let mut lasting = request(2);
    lasting.gun = gun(2);
    let id = pile.disconnect(When::WhenIdle);
    pile.waits_still(id);
    let serial = pile.session.orders[0].order.serial;
    pile.refuses(serial, 3);
    assert_eq!(pile.reply(id), Ok(Reply::Disconnected));
}

#[test]
fn after_a_stop_that_was_asked_for_again_the_record_has_its_thirty_seconds_anew() {
    let mut pile = Pile::online();
    let serial = pile.charging();
    pile.stop(serial);
    pile.sends(0x35, &[("gun_no", 1), ("stop_result", 1)]);
    pile.advance(20);
    pile.stop(serial);
    pile.advance(29);
    assert_eq!(pile.order_state(serial), OrderState::Stopping);
    let early = pile.close(serial, false);
    assert!(matches!(pile.reply(early), Err(CommandError::OrderActive { .. })), "it is not overdue yet");
    pile.advance(1);
    assert_eq!(pile.store.borrow().changes(serial).last(), Some(&Change::Anomaly(RecordOverdue)));
}

#[test]
fn what_0x35_says_is_not_said_of_an_order_whose_charge_has_ended() {
    let mut pile = Pile::online();
    let before = pile.charging();
    pile.stop(before);
    pile.sends(0x35, &[("gun_no", 1), ("stop_result", 1)]);
    pile.idles();
    pile.advance(30);
    assert_eq!(pile.order_state(before), OrderState::Abnormal, "its record is overdue");
    pile.all_received();
    let (_, serial) = pile.starting();
    let id = pile.stop(serial);
    pile.sends(0x35, &[("gun_no", 1), ("stop_result", 1)]);
    let Ok(Reply::Stopped { order, .. }) = pile.reply(id) else { panic!("stopped") };
    assert_eq!((order.serial, order.ended_at), (serial, Some(pile.now().wall)));
}
