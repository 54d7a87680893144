//! Stops that wait for the pile: durable before they are told, carried out when the pile is seen to charge the order.

use super::harness::*;
use super::ledger::Mode;
use crate::domain::order::{Change, Happening, StopCause};
use crate::domain::{Command, CommandError, OrderState, Reply, Serial, WallMs};
use crate::session::io::Input;

fn plan(pile: &mut Pile, serial: Serial, seconds: u64) -> u64 {
    let expires_at = pile.now().wall.plus_ms(seconds * 1000);
    pile.command(Command::StopAtLogin { serial, expires_at }, 10)
}

/// As whoever is asked while the pile has no session.
fn wish(pile: &Pile, serial: Serial, expires_at: WallMs) {
    pile.store.borrow_mut().amend(serial, pile.now().wall, Happening::StopPlanned { expires_at });
}

fn planned(changes: &[Change]) -> usize {
    changes.iter().filter(|change| **change == Change::StopPlanned).count()
}

#[test]
fn the_next_session_asks_what_charges_and_stops_it_if_it_is_the_order() {
    let mut pile = Pile::online();
    let serial = pile.charging();
    wish(&pile, serial, pile.now().wall.plus_ms(60_000));
    let mut next = pile.elsewhere();
    next.receives(0x02);
    assert_eq!(next.receives(0x12).get("gun_no"), 1);
    next.receives_nothing();
    next.idles();
    next.receives_nothing();
    next.charges(serial);
    next.receives(0x36);
    let order = next.store.borrow().order(serial).clone();
    assert_eq!((order.state, order.stop_at_login), (OrderState::Stopping, None));
    assert_eq!(order.stop.map(|stop| stop.cause), Some(StopCause::AtLogin));
    // Once: what follows is what follows any stop.
    next.charges(serial);
    next.receives_nothing();
    next.advance(5);
    next.receives(0x36);
}

#[test]
fn a_start_that_had_not_begun_is_stopped_when_it_charges() {
    let mut pile = Pile::online();
    let (_, serial) = pile.starting();
    wish(&pile, serial, pile.now().wall.plus_ms(60_000));
    let mut next = pile.elsewhere();
    next.receives(0x02);
    next.receives(0x12);
    next.accepts(serial);
    next.receives_nothing();
    next.charges(serial);
    next.receives(0x36);
}

#[test]
fn a_stranger_on_the_gun_is_not_stopped() {
    let mut pile = Pile::online();
    let serial = pile.charging();
    wish(&pile, serial, pile.now().wall.plus_ms(60_000));
    let mut next = pile.elsewhere();
    next.receives(0x02);
    next.receives(0x12);
    for _ in 0..3 {
        next.charges(foreign(1));
        next.advance(15);
    }
    next.receives_nothing();
    let id = plan(&mut next, serial, 60);
    assert!(matches!(next.reply(id), Err(CommandError::OrderNotActive { .. })), "its gun is somebody else's");
}

#[test]
fn a_stop_that_expires_is_told_once_and_stops_nothing() {
    let mut pile = Pile::online();
    let serial = pile.charging();
    wish(&pile, serial, pile.now().wall.plus_ms(60_000));
    let mut next = pile.elsewhere();
    next.receives(0x02);
    next.receives(0x12);
    next.advance(60);
    next.charges(serial);
    next.advance(60);
    next.receives_nothing();
    assert_eq!(next.order_state(serial), OrderState::Charging);
    let changes = next.store.borrow().changes(serial);
    assert_eq!(changes[changes.len() - 2..], [Change::StopPlanned, Change::StopExpired]);
}

#[test]
fn a_silent_pile_keeps_its_stop_and_the_caller_hears_that_it_is_durable() {
    let mut pile = Pile::online();
    let serial = pile.charging();
    pile.input(Input::Silent);
    let stop = pile.stop(serial);
    assert!(matches!(pile.reply(stop), Err(CommandError::PileOffline { .. })));
    pile.mode = Mode::Slow;
    let first = plan(&mut pile, serial, 60);
    let same = plan(&mut pile, serial, 60);
    pile.waits_still(first);
    pile.store_returns();
    let Ok(Reply::StopPlanned(order)) = pile.reply(first) else { panic!("planned") };
    assert!(order.stop_at_login.is_some());
    assert!(pile.reply(same).is_ok());
    let again = plan(&mut pile, serial, 60);
    assert!(pile.reply(again).is_ok(), "it stands");
    assert_eq!(planned(&pile.store.borrow().changes(serial)), 1);
    pile.input(Input::Heard);
    pile.charges(serial);
    let frames: Vec<_> = pile.all_received().iter().map(|down| down.frame.code()).collect();
    assert_eq!(frames, [0x12, 0x12, 0x12, 0x36]);
}

#[test]
fn a_stop_that_was_planned_elsewhere_while_the_session_began_is_found_with_its_next_write() {
    let mut pile = Pile::online();
    let serial = pile.charging();
    wish(&pile, serial, pile.now().wall.plus_ms(60_000));
    // The session has the order as it was before. It learns it as soon as it is told the same.
    let id = plan(&mut pile, serial, 60);
    assert!(matches!(pile.reply(id), Ok(Reply::StopPlanned(_))));
    assert_eq!(pile.receives(0x12).get("gun_no"), 1);
    pile.charges(serial);
    pile.receives(0x36);

    // Or by itself.
    let mut pile = Pile::online();
    let (id, serial) = pile.starting();
    wish(&pile, serial, pile.now().wall.plus_ms(60_000));
    pile.accepts(serial);
    pile.started(id);
    pile.charges(serial);
    pile.receives(0x36);
}

#[test]
fn what_cannot_be_stopped_cannot_wait_to_be() {
    let mut pile = Pile::online();
    let id = plan(&mut pile, foreign(1), 60);
    assert_eq!(pile.reply(id), Err(CommandError::OrderNotHeld { serial: foreign(1) }));
    let serial = pile.charging();
    pile.sends_of(serial, 0x19, &[("gun_no", 1)]);
    let id = plan(&mut pile, serial, 60);
    assert!(matches!(pile.reply(id), Err(CommandError::OrderNotActive { .. })));
    pile.bills(serial);
    pile.receives(0x40);
    pile.receives_nothing();
}
