//! Login, presence, tariff, heartbeat.

use super::harness::*;
use super::ledger::Mode;
use crate::domain::pile::{GunState, Presence};
use crate::session::absent::Absent;
use crate::session::io::{Done, EndReason, Input};
use crate::store::StoreError;
use crate::wire::Sequence;

#[test]
fn a_login_is_answered_only_after_the_claim() {
    let mut pile = Pile::connecting(Mode::Slow);
    pile.sends(0x03, &[("gun_no", 1)]);
    pile.receives_nothing();
    assert_eq!(pile.registered, None);
    pile.store_returns();
    let answer = pile.receives(0x02);
    assert_eq!(answer.sequence, Sequence([0x99, 0x88]), "copied from 0x01");
    assert_eq!(pile.registered, pile.store.borrow().owner);
    assert_eq!(pile.events(), ["online"]);
    pile.receives_nothing();
}

#[test]
fn a_claim_the_store_refuses_answers_nothing() {
    let mut pile = Pile::connecting(Mode::Slow);
    pile.store_says(Done::Claimed(Err(StoreError::Invalid("no".into()))));
    pile.receives_nothing();
    assert_eq!(pile.ended, Some(EndReason::StoreUnavailable));
    assert!(pile.session.is_done() && pile.absent().is_none());
}

#[test]
fn the_device_that_may_not_take_the_pile_is_turned_away_and_told_of_at_most_once() {
    let first = Pile::online();
    first.store.borrow_mut().contested = true;
    let mut second = first.elsewhere();
    assert_eq!(second.receives(0x02).get("result"), 1);
    assert_eq!((second.ended, second.duplicate), (Some(EndReason::Contested), true));
    assert!(second.session.is_done(), "nobody wants it told again");
    second.mode = Mode::LosesAnswers;
    second.input(Input::TellDuplicate);
    second.mode = Mode::Prompt;
    second.advance(2);
    assert!(second.session.is_done() && second.store.borrow().duplicates > 0);
    assert!(second.absent().is_none());
}

#[test]
fn a_login_repeated_on_the_same_connection_is_answered_and_changes_its_guns() {
    let mut pile = Pile::online();
    pile.sends_frame(Sequence([5, 6]), login_request(3));
    assert_eq!(pile.receives(0x02).sequence, Sequence([5, 6]));
    let store = pile.store.borrow();
    assert_eq!(store.pile.as_ref().expect("stored").0.guns.len(), 3);
}

#[test]
fn a_short_reconnect_is_neither_offline_nor_online() {
    let mut old = Pile::online();
    old.ends(EndReason::ConnectionClosed);
    let new = old.elsewhere();
    assert_eq!(new.events(), ["online"], "the first one only");
    let absent = old.absent().expect("somebody must watch for it");
    assert_eq!(absent.pile.presence, Presence::Online);
    assert_ne!(new.registered, Some(absent.fence));
}

#[test]
fn a_login_that_changes_nothing_but_its_port_costs_the_store_its_claim_and_no_write() {
    let mut old = Pile::online();
    let written = old.store.borrow().written;
    old.advance(5);
    old.sends(0x03, &[("gun_no", 1)]);
    old.ends(EndReason::ConnectionClosed);
    let mut new = old.elsewhere_from("10.0.0.1:4712");
    assert_eq!(new.receives(0x02).get("result"), 0);
    assert_eq!(new.store.borrow().written, written, "one script");
    new.input(Input::Reassert { anew: false });
    assert_eq!(new.store.borrow().written, written, "nor is it made good later");

    // What is written for another reason says where it calls from now.
    new.idles();
    assert_eq!(new.store.borrow().pile.as_ref().expect("stored").0.address, "10.0.0.1:4712");
}

#[test]
fn a_login_from_another_host_or_after_a_loss_is_written() {
    let old = Pile::online();
    let written = old.store.borrow().written;
    let moved = old.elsewhere_from("10.0.0.2:4711");
    assert_eq!(moved.store.borrow().written, written + 1);
    assert_eq!(moved.store.borrow().pile.as_ref().expect("stored").0.address, "10.0.0.2:4711");

    moved.store.borrow_mut().pile.as_mut().expect("stored").0.presence = Presence::Offline;
    let back = moved.elsewhere_from("10.0.0.2:4711");
    assert_eq!((back.store.borrow().written, back.events()), (written + 2, vec!["online", "online"]));
    assert_eq!(back.store.borrow().pile.as_ref().expect("stored").0.presence, Presence::Online);
}

#[test]
fn a_claim_whose_connection_went_ends_who_held_the_pile_before_and_takes_on_its_orders() {
    let mut first = Pile::online();
    let serial = first.charging();
    let mut second = first.elsewhere_slow();
    second.ends(EndReason::ConnectionClosed);
    second.store_answers();
    assert_eq!(second.evicted, first.registered, "it would go on, and be sent commands");
    let absent = second.absent().expect("nobody else holds this fence");
    let orders: Vec<_> = absent.orders.iter().map(|(order, _)| order.serial).collect();
    assert_eq!(orders, [serial], "their deadlines are its own");
}

#[test]
fn a_claim_whose_connection_went_is_watched_over_or_the_pile_stays_online_forever() {
    let mut second = Pile::online().elsewhere_slow();
    second.ends(EndReason::ConnectionClosed);
    assert!(!second.session.is_done(), "the claim may still be won");
    second.store_answers();
    second.receives_nothing();
    assert!(second.session.is_done());
    let owner = second.store.borrow().owner;
    let Absent { fence, pile, version, .. } = second.absent().expect("nobody else holds this fence");
    assert_eq!((Some(fence), pile.presence), (owner, Presence::Online));
    assert!(version.is_some());
}

#[test]
fn silence_is_one_event_and_the_next_frame_another() {
    let mut pile = Pile::online();
    pile.input(Input::Silent);
    pile.input(Input::Silent);
    assert_eq!(pile.events(), ["online", "offline"]);
    assert!(pile.store.borrow().pile.as_ref().is_some_and(|(pile, _)| pile.presence == Presence::Offline));
    pile.input(Input::Heard);
    pile.input(Input::Heard);
    assert_eq!(pile.events(), ["online", "offline", "online"]);
}

#[test]
fn a_heartbeat_comes_back_with_its_own_sequence_and_gun() {
    let mut pile = Pile::online();
    let sequence = pile.sends(0x03, &[("gun_no", 2)]);
    let echo = pile.receives(0x04);
    assert_eq!((echo.sequence, echo.get("gun_no"), echo.get("ack")), (sequence, 2, 0));
}

#[test]
fn a_heartbeat_speaks_of_the_fault_of_its_own_gun_only() {
    let mut pile = Pile::online();
    pile.sends(0x03, &[("gun_no", 2), ("gun_status", 1)]);
    assert_eq!((pile.gun_state(1), pile.gun_state(2)), (GunState::Offline, GunState::Fault));
    pile.sends(0x03, &[("gun_no", 2)]);
    assert_eq!(pile.gun_state(2), GunState::Fault, "only 0x13 says what it is now");
    pile.sends(0x13, &[("gun_no", 2), ("status", 2), ("gun_plugged", 1)]);
    assert_eq!(pile.gun_state(2), GunState::Plugged);
    assert_eq!(pile.events(), ["online", "gun", "gun"]);
}

#[test]
fn same_is_said_only_of_a_tariff_we_gave_under_that_number() {
    let mut pile = Pile::online();
    // A18, and any number somebody else gave.
    for reported in [[0, 0], [1, 0], [0, 1]] {
        pile.sends(0x05, &[("tariff_model_no", u16::from_le_bytes(reported).into())]);
        assert_eq!(pile.receives(0x06).get("result"), 1, "{reported:?} differs");
    }
    pile.sends(0x09, &[]);
    let given = pile.receives(0x0A).get("tariff_model_no");
    assert_ne!(given, u64::from(u16::from_le_bytes([0, 1])), "not what the pile had reported");
    pile.sends(0x09, &[]);
    assert_eq!(pile.receives(0x0A).get("tariff_model_no"), given, "repeated until it arrives");
    pile.sends(0x05, &[("tariff_model_no", given)]);
    assert_eq!(pile.receives(0x06).get("result"), 0, "same");
    assert!(pile.store.borrow().pile.as_ref().is_some_and(|(pile, _)| pile.tariff.confirmed));

    let mut again = pile.elsewhere();
    again.receives(0x02);
    again.sends(0x05, &[("tariff_model_no", given)]);
    assert_eq!(again.receives(0x06).get("result"), 0, "remembered over a reconnect");

    let mut changed = again.elsewhere_with(policy(123_456));
    changed.receives(0x02);
    changed.sends(0x05, &[("tariff_model_no", given)]);
    assert_eq!(changed.receives(0x06).get("result"), 1, "the tariff has changed");
    changed.sends(0x09, &[]);
    assert_ne!(changed.receives(0x0A).get("tariff_model_no"), given, "and its number with it");
}

#[test]
fn a_tariff_is_given_without_having_been_asked_about() {
    let mut pile = Pile::online();
    pile.sends(0x09, &[]);
    let tariff = pile.receives(0x0A);
    assert_eq!(tariff.get("flat_energy_price"), 100_000);
    assert_ne!(tariff.get("tariff_model_no"), 0);
}

#[test]
fn any_order_after_login_is_accepted() {
    let mut pile = Pile::online();
    pile.bills(foreign(1));
    pile.receives(0x40);
    pile.idles();
    pile.sends(0x09, &[]);
    pile.receives(0x0A);
    pile.sends(0x03, &[("gun_no", 1)]);
    pile.receives(0x04);
    pile.sends(0x05, &[]);
    pile.receives(0x06);
}

#[test]
fn telemetry_is_published_and_needs_no_store() {
    let mut pile = Pile::online();
    pile.mode = Mode::Away;
    pile.idles();
    pile.sends(0x23, &[("gun_no", 1)]);
    pile.sends(0x25, &[("gun_no", 1)]);
    pile.sends(0x61, &[("gun_no", 1)]);
    assert_eq!(pile.published.len(), 4);
    pile.sends(0x13, &[("gun_no", 0), ("status", 2)]);
    assert_eq!(pile.published.len(), 4, "there is no gun 0");
}

#[test]
fn an_idle_heartbeat_costs_the_store_nothing() {
    let mut pile = Pile::online();
    pile.idles();
    let before = pile.store.borrow().written;
    for _ in 0..10 {
        pile.sends(0x03, &[("gun_no", 1)]);
        pile.idles();
    }
    assert_eq!(pile.store.borrow().written, before);
}
