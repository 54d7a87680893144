//! The supervised rules, and what a charging serial means.

use super::harness::*;
use super::ledger::Mode;
use crate::domain::order::AnomalyKind::{
    IdleWhileCharging, LateStart, RecordOverdue, StartTimeout, StopNotObeyed, UnknownSerial,
};
use crate::domain::order::{Anomaly, Change, Failure, Origin, StopCause};
use crate::domain::pile::GunState;
use crate::domain::{CommandError, EventKind, OrderState};
use crate::session::LateStart as Policy;
use crate::session::io::LedgerCall;

#[test]
fn ninety_seconds_without_an_answer_fail_the_start() {
    let mut pile = Pile::online();
    let (_, serial) = pile.starting();
    pile.advance(89);
    assert_eq!(pile.order_state(serial), OrderState::Requested);
    pile.advance(1);
    let store = pile.store.borrow();
    assert_eq!(store.order(serial).failure, Some(Failure::NoStart));
    assert_eq!(store.changes(serial), [Change::Created, Change::Anomaly(StartTimeout), Change::Failed]);
}

#[test]
fn ninety_seconds_of_charging_without_0x33_are_an_anomaly_and_the_charge_goes_on() {
    let mut pile = Pile::online();
    let (_, serial) = pile.starting();
    pile.charges(serial);
    pile.advance(90);
    assert_eq!(pile.order_state(serial), OrderState::Charging);
    let changes = [Change::Created, Change::Charging, Change::Anomaly(StartTimeout)];
    assert_eq!(pile.store.borrow().changes(serial), changes);
    pile.advance(3600);
    assert_eq!(pile.store.borrow().changes(serial), changes, "once");
}

#[test]
fn the_ninety_seconds_go_on_with_the_next_session() {
    let mut pile = Pile::online();
    let (_, serial) = pile.starting();
    pile.advance(60);
    let mut next = pile.elsewhere();
    next.advance(29);
    assert_eq!(next.order_state(serial), OrderState::Requested);
    next.advance(1);
    assert_eq!(next.order_state(serial), OrderState::Failed);
}

#[test]
fn a_record_is_due_thirty_seconds_after_the_end_and_settles_later_all_the_same() {
    let mut pile = Pile::online();
    let serial = pile.charging();
    pile.sends_of(serial, 0x19, &[("gun_no", 1)]);
    pile.advance(29);
    assert_eq!(pile.order_state(serial), OrderState::Finished);
    pile.advance(1);
    assert_eq!(pile.order_state(serial), OrderState::Abnormal);
    assert_eq!(pile.store.borrow().changes(serial).last(), Some(&Change::Anomaly(RecordOverdue)));
    // The gun is free for the next customer meanwhile.
    let next = pile.charging();
    pile.bills(serial);
    pile.receives(0x40);
    assert_eq!((pile.order_state(serial), pile.order_state(next)), (OrderState::Settled, OrderState::Charging));
}

#[test]
fn two_idle_frames_in_mid_charge_are_abnormal_and_free_the_gun() {
    let mut pile = Pile::online();
    let serial = pile.charging();
    pile.idles();
    assert_eq!(pile.order_state(serial), OrderState::Charging);
    pile.idles();
    assert_eq!(pile.order_state(serial), OrderState::Abnormal);
    assert_eq!(pile.store.borrow().changes(serial).last(), Some(&Change::Anomaly(IdleWhileCharging)));
    pile.starting();
}

#[test]
fn a_failed_order_that_charges_after_all_is_a_late_start() {
    let late = [Change::Created, Change::Failed, Change::Charging, Change::Anomaly(LateStart)];
    let mut pile = Pile::online_with(|config| config.late_start = Policy::Adopt);
    let (_, serial) = pile.starting();
    pile.refuses(serial, 3);
    pile.charges(serial);
    pile.charges(serial);
    assert_eq!(pile.order_state(serial), OrderState::Charging);
    assert_eq!(pile.store.borrow().changes(serial), late);
    pile.receives_nothing();

    // Unless it is wanted otherwise, it is stopped, as insistently as by a caller; and billed.
    let mut pile = Pile::online();
    let (_, serial) = pile.starting();
    pile.refuses(serial, 3);
    for _ in 0..4 {
        pile.charges(serial);
        assert_eq!(pile.receives(0x36).get("gun_no"), 1);
        pile.receives_nothing();
        pile.charges(serial);
        pile.advance(5);
    }
    pile.receives_nothing();
    let stop = pile.store.borrow().order(serial).stop.expect("a stop");
    assert_eq!((stop.cause, stop.sent), (StopCause::LateStart, 4));
    let told = pile.store.borrow().changes(serial);
    let stopped = [Change::StopRequested, Change::Anomaly(StopNotObeyed)];
    assert_eq!((&told[..4], &told[4..]), (&late[..], &stopped[..]));
    pile.bills(serial);
    pile.receives(0x40);
    assert_eq!(pile.order_state(serial), OrderState::Settled);
}

#[test]
fn a_late_start_that_only_the_store_remembers_is_stopped_too() {
    let mut pile = Pile::online();
    let (_, serial) = pile.starting();
    pile.advance(90);
    assert_eq!(pile.order_state(serial), OrderState::Failed);
    let mut next = pile.elsewhere();
    next.receives(0x02);
    next.charges(serial);
    next.receives(0x36);
    assert_eq!(next.order_state(serial), OrderState::Stopping);
}

#[test]
fn a_serial_nobody_gave_out_is_adopted_and_never_stopped() {
    let mut pile = Pile::online();
    for _ in 0..5 {
        pile.charges(foreign(1));
        pile.advance(15);
    }
    pile.advance(3600);
    pile.receives_nothing();
    {
        let store = pile.store.borrow();
        let order = store.order(foreign(1));
        assert_eq!((order.state, order.origin), (OrderState::Charging, Origin::Pile));
        assert!(matches!(order.anomalies[..], [Anomaly { kind: UnknownSerial, .. }]));
        assert_eq!(store.changes(foreign(1)), [Change::Created, Change::Anomaly(UnknownSerial), Change::Charging]);
    }
    pile.bills(foreign(1));
    pile.receives(0x40);
    pile.charges(foreign(1));
    assert_eq!(pile.order_state(foreign(1)), OrderState::Settled, "an old frame opens nothing again");
}

#[test]
fn an_old_frame_of_a_settled_order_is_ignored_by_the_next_session_too() {
    let mut pile = Pile::online();
    let serial = pile.charging();
    pile.bills(serial);
    let mut next = pile.elsewhere();
    let before = next.store.borrow().written;
    next.charges(serial);
    next.charges(serial);
    assert_eq!(next.order_state(serial), OrderState::Settled);
    assert!(next.session.orders.is_empty());
    assert_eq!(next.store.borrow().written, before, "the gun was charging already");
}

#[test]
fn a_look_up_that_failed_is_made_again() {
    let mut pile = Pile::online();
    pile.mode = Mode::Slow;
    // The gun's state is stored first.
    pile.charges(foreign(1));
    pile.store_answers();
    pile.store_answers_as(Mode::Away);
    assert!(pile.calls.is_empty());
    pile.mode = Mode::Prompt;
    pile.charges(foreign(1));
    assert_eq!(pile.order_state(foreign(1)), OrderState::Charging);
}

#[test]
fn a_serial_that_came_while_the_queue_was_full_is_looked_up_when_it_comes_again() {
    let mut pile = Pile::online();
    pile.mode = Mode::Slow;
    for n in 0..=70 {
        pile.bills(foreign(n));
    }
    pile.charges(foreign(200));
    pile.store_returns();
    assert!(!pile.store.borrow().orders.contains_key(&foreign(200)));
    pile.charges(foreign(200));
    assert_eq!(pile.order_state(foreign(200)), OrderState::Charging, "or it would charge for nobody");
}

#[test]
fn records_that_never_come_do_not_keep_a_pile_from_starting() {
    let mut pile = Pile::online();
    for _ in 0..100 {
        let serial = pile.charging();
        pile.sends_of(serial, 0x19, &[("gun_no", 1)]);
        pile.advance(30);
    }
    assert!(pile.session.orders.len() <= 64, "{}", pile.session.orders.len());
    let store = pile.store.clone();
    assert!(store.borrow().orders.values().all(|(order, _)| order.state == OrderState::Abnormal));
    // The first of them is out of memory; its record finds it in the store.
    let first = *store.borrow().orders.keys().next().expect("a hundred");
    pile.bills(first);
    pile.receives(0x40);
    assert_eq!(store.borrow().order(first).state, OrderState::Settled);
    assert_eq!(store.borrow().order(first).origin, Origin::Platform);
}

#[test]
fn an_adopted_order_that_was_put_out_of_memory_has_its_gun_again_when_it_charges_again() {
    let mut pile = Pile::online();
    pile.charges(foreign(1));
    pile.idles();
    pile.idles();
    for _ in 0..64 {
        pile.advance(1);
        let serial = pile.charging();
        pile.sends_of(serial, 0x19, &[("gun_no", 1)]);
        pile.advance(30);
    }
    assert!(pile.session.orders.iter().all(|held| held.order.serial != foreign(1)));
    pile.charges(foreign(1));
    let id = pile.start(&request(200));
    assert_eq!(pile.reply(id), Err(CommandError::GunBusy { gun: gun(1), serial: foreign(1) }));
}

#[test]
fn both_orders_of_a_gun_hear_that_it_is_idle() {
    let mut pile = Pile::online();
    let ours = pile.charging();
    pile.charges(foreign(1));
    pile.idles();
    pile.idles();
    assert_eq!((pile.order_state(ours), pile.order_state(foreign(1))), (OrderState::Abnormal, OrderState::Abnormal));
}

#[test]
fn a_guns_state_is_what_0x13_and_its_order_say_and_is_told_on_change() {
    let mut pile = Pile::online();
    let check = |pile: &mut Pile, status, plugged, state| {
        pile.sends(0x13, &[("gun_no", 1), ("status", status), ("gun_plugged", plugged)]);
        assert_eq!(pile.gun_state(1), state);
    };
    check(&mut pile, 2, 0, GunState::Idle);
    check(&mut pile, 2, 1, GunState::Plugged);
    check(&mut pile, 1, 1, GunState::Fault);
    check(&mut pile, 0, 0, GunState::Offline);
    let (_, serial) = pile.starting();
    check(&mut pile, 2, 1, GunState::Starting);
    pile.charges(serial);
    assert_eq!(pile.gun_state(1), GunState::Charging);
    pile.sends_of(serial, 0x19, &[("gun_no", 1)]);
    check(&mut pile, 2, 1, GunState::Finished);
    pile.bills(serial);
    check(&mut pile, 2, 1, GunState::Plugged);
    check(&mut pile, 2, 1, GunState::Plugged);
    let told = pile.store.borrow().events.iter().filter(|e| matches!(e, EventKind::GunChanged(_))).count();
    assert_eq!(told, 8);
    assert_eq!(pile.gun_state(2), GunState::Offline, "never heard of");
}

#[test]
fn the_store_is_asked_about_a_serial_once_however_often_the_pile_repeats_it() {
    let mut pile = Pile::online();
    let serial = pile.charging();
    pile.bills(serial);
    pile.mode = Mode::Slow;
    let mut asked = 0;
    for _ in 0..3 {
        pile.charges(serial);
        while let Some(call) = pile.calls.front() {
            asked += usize::from(matches!(call, LedgerCall::LookUp { .. }));
            pile.store_answers();
        }
        pile.advance(15);
    }
    assert_eq!(asked, 1);
}

#[test]
fn room_is_made_only_by_what_is_stored_as_it_is() {
    let mut pile = Pile::online();
    for n in 0..64 {
        pile.charges(foreign(n));
        pile.idles();
        pile.idles();
        pile.advance(1);
    }
    assert_eq!(pile.session.orders.len(), 64);
    // The oldest charges once more and ends while the store is slow: another one makes room.
    pile.mode = Mode::Slow;
    pile.charges(foreign(0));
    pile.idles();
    let ended = Some(pile.now().wall);
    pile.charges(foreign(64));
    pile.store_returns();
    pile.charges(foreign(64));
    assert_eq!(pile.store.borrow().order(foreign(0)).ended_at, ended);
}
