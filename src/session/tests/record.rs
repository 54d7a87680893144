//! Records: durable first, answered then, every copy, settled once.

use super::harness::*;
use super::ledger::Mode;
use crate::domain::order::{AnomalyKind, Change, Origin};
use crate::domain::{Amount, CommandError, Energy, OrderState};

#[test]
fn every_kind_of_record_is_answered_once_it_is_settled_and_not_before() {
    for code in [0x3B, 0x3F, 0x3D] {
        let mut pile = Pile::online();
        let serial = pile.charging();
        pile.mode = Mode::Slow;
        let sequence = pile.sends_of(serial, code, &[("gun_no", 1), ("total_amount", 55)]);
        pile.receives_nothing();
        pile.store_returns();
        let ack = pile.receives(0x40);
        assert_eq!((ack.sequence, ack.serial(), ack.get("result")), (sequence, serial, 0));
        assert_eq!(pile.order_state(serial), OrderState::Settled);
        assert_eq!(pile.store.borrow().order(serial).settled_at, Some(pile.now().wall));
        assert!(pile.session.orders.is_empty());
    }
}

#[test]
fn a_store_that_failed_leaves_the_record_with_the_pile() {
    let mut pile = Pile::online();
    let serial = pile.charging();
    pile.mode = Mode::Away;
    pile.bills(serial);
    pile.receives_nothing();
    pile.mode = Mode::Prompt;
    pile.bills(serial);
    pile.receives(0x40);
    assert_eq!(pile.store.borrow().changes(serial).iter().filter(|c| **c == Change::Settled).count(), 1);
}

#[test]
fn a_settlement_whose_answer_was_lost_happens_once() {
    let mut pile = Pile::online();
    let serial = pile.charging();
    pile.mode = Mode::LosesAnswers;
    pile.bills(serial);
    pile.receives_nothing();
    pile.mode = Mode::Prompt;
    pile.bills(serial);
    pile.receives(0x40);
    let store = pile.store.borrow();
    assert_eq!(store.records[&serial].len(), 1);
    assert_eq!(store.changes(serial).iter().filter(|c| **c == Change::Settled).count(), 1);
    assert_eq!(store.changes(serial).last(), Some(&Change::Settled));
}

#[test]
fn copies_are_all_answered_and_settle_once() {
    let mut pile = Pile::online();
    let serial = pile.charging();
    pile.mode = Mode::Slow;
    // One on its way to the store, its copies, and one after it.
    let mut sequences: Vec<_> = (0..3).map(|_| pile.bills(serial)).collect();
    pile.store_returns();
    sequences.push(pile.bills(serial));
    for sequence in sequences {
        assert_eq!(pile.receives(0x40).sequence, sequence);
    }
    assert_eq!(pile.store.borrow().records[&serial].len(), 1);
    assert_eq!(pile.store.borrow().changes(serial).iter().filter(|c| **c == Change::Settled).count(), 1);
}

#[test]
fn a_conflicting_copy_is_kept_flagged_and_answered_like_any_other() {
    let mut pile = Pile::online();
    let serial = pile.charging();
    pile.mode = Mode::Slow;
    pile.bills(serial);
    pile.sends_of(serial, 0x3B, &[("gun_no", 1), ("total_amount", 1)]);
    pile.store_returns();
    for _ in 0..2 {
        assert_eq!(pile.receives(0x40).get("result"), 0);
    }
    let store = pile.store.borrow();
    assert_eq!(store.records[&serial].len(), 2);
    let order = store.order(serial);
    assert_eq!(order.bill.as_ref().map(|bill| bill.record.total_amount.0), Some(140_000), "the first one counts");
    assert!(order.anomalies.iter().any(|anomaly| anomaly.kind == AnomalyKind::RecordConflict));
}

#[test]
fn a_record_of_a_serial_never_seen_is_settled_too() {
    let mut pile = Pile::online();
    pile.bills(foreign(1));
    pile.receives(0x40);
    assert_eq!(pile.store.borrow().order(foreign(1)).origin, Origin::Pile);
}

#[test]
fn a_record_of_a_serial_never_seen_says_itself_how_it_began() {
    let check = |start_type, origin, unknown: bool| {
        let mut pile = Pile::online();
        let fields = [("gun_no", 1), ("start_type", start_type), ("stop_reason", 0x41)];
        pile.sends_of(foreign(1), 0x3B, &fields);
        pile.receives(0x40);
        let store = pile.store.borrow();
        let order = store.order(foreign(1));
        assert_eq!((order.state, order.origin), (OrderState::Settled, origin));
        let anomalies: Vec<_> = order.anomalies.iter().map(|anomaly| anomaly.kind).collect();
        assert_eq!(anomalies, if unknown { vec![AnomalyKind::UnknownSerial] } else { vec![] }, "{start_type}");
    };
    // Without a network that is how it works: the pile knows the card, and makes the serial.
    check(4, Origin::OfflineCard, false);
    check(2, Origin::Card, true);
    check(5, Origin::Vin, true);
    check(1, Origin::Pile, true);
    check(9, Origin::Pile, true);
}

#[test]
fn an_offline_charge_that_is_seen_is_adopted_and_known_by_its_record() {
    let mut pile = Pile::online();
    pile.charges(foreign(1));
    assert_eq!(pile.store.borrow().order(foreign(1)).origin, Origin::Pile, "0x13 does not say how it began");
    pile.sends_of(foreign(1), 0x3B, &[("gun_no", 1), ("start_type", 4), ("stop_reason", 0x41)]);
    pile.receives(0x40);
    assert_eq!(pile.store.borrow().order(foreign(1)).origin, Origin::OfflineCard);
}

#[test]
fn what_was_started_here_stays_what_it_was_whatever_its_record_says() {
    let mut pile = Pile::online();
    let serial = pile.charging();
    pile.sends_of(serial, 0x3B, &[("gun_no", 1), ("start_type", 4), ("stop_reason", 0x41)]);
    pile.receives(0x40);
    assert_eq!(pile.store.borrow().order(serial).origin, Origin::Platform);
}

#[test]
fn a_bill_is_split_with_the_tariff_the_pile_was_given_before_the_charge() {
    let mut pile = Pile::online();
    pile.sends(0x09, &[]);
    pile.receives(0x0A);
    let serial = pile.charging();
    pile.bills(serial);
    assert!(pile.store.borrow().order(serial).bill.as_ref().is_some_and(|bill| bill.fees.is_some()));
}

#[test]
fn records_are_settled_by_whoever_has_them_also_when_the_session_is_over() {
    let mut pile = Pile::online();
    let serial = pile.charging();
    pile.mode = Mode::Slow;
    pile.bills(foreign(1));
    pile.bills(serial);
    pile.store.borrow_mut().owner = None;
    pile.ends(crate::session::io::EndReason::TakenOver);
    pile.store_returns();
    pile.receives_nothing();
    assert!(pile.session.is_done());
    assert_eq!((pile.order_state(serial), pile.order_state(foreign(1))), (OrderState::Settled, OrderState::Settled));
}

#[test]
fn nothing_is_told_of_an_order_after_it_was_settled() {
    let mut pile = Pile::online();
    let serial = pile.charging();
    pile.stop(serial);
    pile.mode = Mode::Slow;
    pile.bills(serial);
    // The store takes its time, and time and the pile go on.
    pile.charges(serial);
    pile.idles();
    pile.advance(31);
    pile.store_returns();
    assert_eq!(pile.store.borrow().changes(serial).last(), Some(&Change::Settled));
    assert_eq!(pile.order_state(serial), OrderState::Settled);
}

#[test]
fn a_charge_under_a_serial_that_was_settled_long_ago_opens_nothing() {
    let mut pile = Pile::online();
    let serial = pile.charging();
    pile.bills(serial);
    pile.receives(0x40);
    // The order has expired; its record is still known.
    pile.store.borrow_mut().orders.remove(&serial);
    let told = pile.store.borrow().changes(serial).len();
    pile.charges(serial);
    pile.advance(31);
    assert!(pile.session.orders.is_empty(), "it is not written again and again");
    assert!(!pile.store.borrow().orders.contains_key(&serial));
    assert_eq!(pile.store.borrow().changes(serial).len(), told);
}

#[test]
fn a_start_behind_the_record_of_its_own_serial_does_not_stall_the_queue() {
    let mut pile = Pile::online();
    pile.mode = Mode::Slow;
    pile.bills(foreign(9));
    let mut chosen = request(1);
    chosen.serial = Some(foreign(1));
    pile.bills(foreign(1));
    let id = pile.start(&chosen);
    let other = pile.bills(foreign(2));
    pile.store_returns();
    assert!(matches!(pile.reply(id), Err(CommandError::PileRejected { .. })), "the pile has billed this serial before");
    let sequences: Vec<_> = (0..3).map(|_| pile.receives(0x40).sequence).collect();
    assert_eq!(sequences[2], other);
}

#[test]
fn a_bill_is_kept_as_the_pile_has_written_it_also_if_it_names_no_gun() {
    let mut pile = Pile::online();
    let serial = pile.charging();
    let fields = [("gun_no", 0), ("total_energy", 500), ("total_loss_energy", 510), ("total_amount", 70)];
    pile.sends_of(serial, 0x3B, &fields);
    pile.receives(0x40);
    let store = pile.store.borrow();
    let record = &store.order(serial).bill.as_ref().expect("a bill").record;
    let totals = (record.total_energy, record.total_loss_energy, record.total_amount);
    assert_eq!(totals, (Energy(500), Energy(510), Amount(70)));
}
