//! Ends, a store that is away, and bounds.

use super::harness::*;
use super::ledger::Mode;
use crate::domain::order::{AnomalyKind, Change};
use crate::domain::{Command, CommandError, EventKind, OrderState, Serial};
use crate::session::io::EndReason;
use crate::session::io::{Done, LedgerCall};
use crate::store::ledger::WriteError;

#[test]
fn whoever_waits_learns_whether_it_was_written() {
    let mut pile = Pile::online();
    let (written, _) = pile.starting();
    let read = pile.command(Command::ReadTelemetry { gun: gun(2) }, 10);
    pile.mode = Mode::Slow;
    let mut other = request(5);
    other.gun = gun(2);
    let unwritten = pile.start(&other);
    pile.ends(EndReason::ConnectionClosed);
    assert_eq!(pile.reply(written), Err(CommandError::SessionLost { written: true }));
    assert_eq!(pile.reply(read), Err(CommandError::SessionLost { written: true }));
    assert_eq!(pile.reply(unwritten), Err(CommandError::SessionLost { written: false }));
    let late = pile.command(Command::SyncClock, 10);
    assert!(matches!(pile.reply(late), Err(CommandError::PileOffline { .. })));
}

#[test]
fn one_call_at_a_time_and_heartbeats_meanwhile() {
    let mut pile = Pile::online();
    pile.mode = Mode::Slow;
    pile.bills(foreign(1));
    pile.idles();
    pile.start(&request(1));
    for _ in 0..10 {
        pile.sends(0x03, &[("gun_no", 1)]);
        pile.receives(0x04);
    }
    assert_eq!(pile.calls.len(), 1);
    pile.store_returns();
    pile.receives(0x40);
    pile.receives(0x34);
}

#[test]
fn what_happened_while_the_store_was_away_is_told_in_order_on_its_return() {
    let mut pile = Pile::online();
    let (id, serial) = pile.starting();
    pile.mode = Mode::Away;
    pile.accepts(serial);
    assert_eq!(pile.started(id), OrderState::Starting, "callers do not wait for the store");
    pile.charges(serial);
    pile.stop(serial);
    pile.receives(0x36);
    pile.idles();
    pile.advance(20);
    pile.mode = Mode::Prompt;
    pile.advance(1);
    let told = [Change::Created, Change::Accepted, Change::Charging, Change::StopRequested, Change::Finished];
    assert_eq!(pile.store.borrow().changes(serial), told);
    assert_eq!(pile.order_state(serial), OrderState::Finished);
}

#[test]
fn a_store_that_is_asked_again_is_asked_once_a_second() {
    let mut pile = Pile::online();
    pile.mode = Mode::Slow;
    pile.idles();
    for _ in 0..5 {
        pile.store_answers_as(Mode::Away);
        assert!(pile.calls.is_empty());
        pile.sends(0x03, &[("gun_no", 1)]);
        assert!(pile.calls.is_empty(), "not with every frame");
        pile.advance(1);
    }
    assert_eq!(pile.calls.len(), 1);
}

#[test]
fn events_of_a_session_that_ended_wait_for_the_store_like_all_others() {
    let mut pile = Pile::online();
    let serial = pile.charging();
    pile.mode = Mode::Away;
    pile.sends_of(serial, 0x19, &[("gun_no", 1)]);
    pile.ends(EndReason::ConnectionClosed);
    pile.advance(3);
    assert!(!pile.session.is_done(), "or they would be lost with the first time-out");
    pile.mode = Mode::Prompt;
    pile.advance(1);
    assert!(pile.session.is_done());
    assert_eq!(pile.store.borrow().changes(serial).last(), Some(&Change::Finished));
}

#[test]
fn a_session_that_was_taken_over_writes_nothing_more() {
    let mut old = Pile::online();
    let serial = old.charging();
    old.mode = Mode::Slow;
    old.sends_of(serial, 0x19, &[("gun_no", 1)]);
    old.mode = Mode::Prompt;
    let new = old.elsewhere();
    old.mode = Mode::Slow;
    old.store_returns();
    assert_eq!(old.ended, Some(EndReason::TakenOver));
    assert!(old.session.is_done() && old.absent().is_none(), "the newer one speaks for the pile");
    assert_eq!(new.order_state(serial), OrderState::Charging);
}

#[test]
fn a_closed_session_that_is_fenced_later_is_watched_over_until_the_store_says_whose_the_pile_is() {
    let mut old = Pile::online();
    let fence = old.registered;
    old.mode = Mode::Slow;
    old.idles();
    old.ends(EndReason::ConnectionClosed);
    old.store.borrow_mut().owner = None;
    old.store_returns();
    assert!(old.session.is_done());
    assert_eq!(old.absent().map(|absent| absent.fence), fence, "a store that has lost the claim has nobody else");
}

#[test]
fn an_order_somebody_else_has_settled_is_let_go() {
    let mut pile = Pile::online();
    let serial = pile.charging();
    pile.mode = Mode::Slow;
    let mut elsewhere = pile.store.borrow().order(serial).clone();
    elsewhere.state = OrderState::ClosedWithoutRecord;
    pile.store.borrow_mut().orders.insert(serial, (elsewhere, 77));
    pile.sends_of(serial, 0x19, &[("gun_no", 1)]);
    pile.store_returns();
    assert!(pile.session.orders.is_empty());
    assert_eq!(pile.order_state(serial), OrderState::ClosedWithoutRecord);
    assert_eq!(pile.store.borrow().changes(serial).last(), Some(&Change::Charging), "nothing after its end");
}

#[test]
fn a_document_that_has_changed_is_written_again_on_top() {
    let mut pile = Pile::online();
    let serial = pile.charging();
    let stored = pile.store.borrow().order(serial).clone();
    pile.store.borrow_mut().orders.insert(serial, (stored, 40));
    pile.sends_of(serial, 0x19, &[("gun_no", 1)]);
    assert_eq!(pile.order_state(serial), OrderState::Finished);
    assert_eq!(pile.store.borrow().orders[&serial].1, 41);
    let finished = pile.store.borrow().changes(serial).into_iter().filter(|c| *c == Change::Finished).count();
    assert_eq!(finished, 1);
}

#[test]
fn queues_are_bounded_while_the_store_is_silent() {
    let mut pile = Pile::online();
    let serial = pile.charging();
    pile.mode = Mode::Slow;
    for n in 0..2000_u64 {
        pile.sends(0x13, &[("gun_no", 1 + n % 2), ("status", n / 2 % 2 + 1)]);
        pile.bills(Serial::from_bytes([(n % 251) as u8 + 1; 16]));
        pile.charges(Serial::from_bytes([(n % 249) as u8 + 1; 16]));
    }
    pile.store_returns();
    assert!(pile.received() <= 64 * 64, "acks {}", pile.received());
    assert!(pile.session.orders.len() <= 64);
    assert!(pile.events().len() < 1000);
    let abnormal = Change::Anomaly(AnomalyKind::IdleWhileCharging);
    assert!(pile.store.borrow().changes(serial).contains(&abnormal), "gun states are given up first, orders last");
}

#[test]
fn a_batch_stays_within_its_bytes_however_many_guns_a_pile_claims() {
    let mut pile = Pile::online();
    pile.sends_frame(crate::wire::Sequence([0, 0]), login_request(255));
    pile.mode = Mode::Slow;
    for gun in 1..=200 {
        pile.sends(0x13, &[("gun_no", gun), ("status", 2)]);
    }
    let mut told = 0;
    while let Some(LedgerCall::Write(write)) = pile.calls.front() {
        let piles = write.documents.len()
            + write.events.iter().filter(|event| matches!(event.kind, EventKind::GunChanged(_))).count();
        // A gun takes about 16 bytes in a stored pile.
        assert!(piles * 255 * 20 <= crate::store::Batch::MAX_BYTES, "{piles} piles in one batch");
        told += write.events.len();
        pile.store_answers();
    }
    assert_eq!(told, 200, "and nothing is lost");
}

#[test]
fn a_batch_the_store_cannot_take_is_not_repeated() {
    let mut pile = Pile::online();
    pile.mode = Mode::Slow;
    pile.idles();
    let refused = crate::store::StoreError::Invalid("too large".into());
    pile.store_says(Done::Written(Err(WriteError::Store(refused))));
    assert!(pile.calls.is_empty() && pile.session.due(pile.now()).is_none());
}
