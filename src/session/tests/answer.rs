//! What becomes of 0x34, and who hears it: A23, and whose answer is whose.

use super::harness::*;
use crate::domain::command::When;
use crate::domain::order::{Change, Failure};
use crate::domain::{Command, CommandError, OrderState, Reply, Serial};

#[test]
fn the_caller_gets_the_piles_own_answer() {
    let mut pile = Pile::online();
    let (id, serial) = pile.starting();
    pile.refuses(serial, 2);
    let Err(CommandError::PileRejected { frame, code, name }) = pile.reply(id) else { panic!("rejected") };
    assert_eq!((frame, code, &*name), (0x33, 2, "gun already charging"));
    assert_eq!(pile.order_state(serial), OrderState::Failed);
    assert!(pile.session.orders.is_empty(), "closed and stored: no memory");
    let (id, serial) = pile.starting();
    pile.accepts(serial);
    assert_eq!(pile.started(id), OrderState::Starting);
    assert_eq!(pile.order_state(serial), OrderState::Starting);
}

#[test]
fn not_plugged_in_is_no_refusal_for_sixty_seconds() {
    let mut pile = Pile::online();
    let (id, serial) = pile.starting();
    pile.refuses(serial, 5);
    let Ok(Reply::Started(order)) = pile.reply(id) else { panic!("it waits for the plug") };
    assert_eq!(order.state, OrderState::WaitingForPlug);
    assert_eq!(order.plug_deadline, Some(pile.now().wall.plus_ms(60_000)));
    pile.advance(59);
    pile.accepts(serial);
    assert_eq!(pile.order_state(serial), OrderState::Starting);

    let mut pile = Pile::online();
    let (_, serial) = pile.starting();
    pile.refuses(serial, 5);
    pile.advance(60);
    assert_eq!(pile.store.borrow().order(serial).failure, Some(Failure::NotPluggedIn));
    let (_, next) = pile.starting();
    assert_ne!(next, serial, "the gun is free");
}

#[test]
fn a_record_instead_of_0x33_is_a_refusal_with_the_stop_reason() {
    let mut pile = Pile::online();
    let (id, serial) = pile.starting();
    pile.bills_with(serial, 0x4A);
    let Err(CommandError::PileRejected { frame, code, name }) = pile.reply(id) else { panic!("rejected") };
    assert_eq!((frame, code, name.is_empty()), (0x3B, 0x4A, false));
    pile.receives(0x40);
    assert_eq!(pile.order_state(serial), OrderState::Settled);
}

#[test]
fn after_the_deadline_nobody_knows_and_a_later_0x33_still_moves_the_order() {
    let mut pile = Pile::online();
    let (id, serial) = pile.starting();
    pile.advance(30);
    assert_eq!(pile.reply(id), Err(CommandError::OutcomeUnknown { serial: Some(serial) }));
    pile.accepts(serial);
    assert_eq!(pile.order_state(serial), OrderState::Starting);
    assert_eq!(pile.store.borrow().changes(serial), [Change::Created, Change::Accepted]);
}

#[test]
fn a_patient_caller_is_told_of_the_failure_that_time_has_found() {
    let mut pile = Pile::online();
    let id = pile.command(Command::StartCharging(Box::new(request(1))), 300);
    pile.advance(90);
    assert_eq!(pile.started(id), OrderState::Failed, "the order says why");
}

#[test]
fn a_start_that_was_stopped_and_then_refused_is_not_reported_as_started() {
    let mut pile = Pile::online();
    let (start, serial) = pile.starting();
    let stop = pile.stop(serial);
    pile.receives(0x36);
    pile.refuses(serial, 3);
    assert!(matches!(pile.reply(start), Err(CommandError::PileRejected { frame: 0x33, code: 3, .. })));
    assert_eq!(pile.reply(stop), Err(CommandError::OrderNotActive { serial, state: "failed".into() }));
    assert_eq!(pile.order_state(serial), OrderState::Failed);
}

#[test]
fn answers_are_told_apart_by_type_gun_and_serial() {
    let mut pile = Pile::online();
    let (start, serial) = pile.starting();
    let read = pile.command(Command::ReadTelemetry { gun: gun(2) }, 10);
    let again = pile.command(Command::ReadTelemetry { gun: gun(2) }, 10);
    let clock = pile.command(Command::SyncClock, 10);
    assert_eq!(pile.receives(0x12).get("gun_no"), 2);
    pile.receives(0x56);
    pile.receives_nothing();
    pile.accepts(foreign(1));
    pile.idles();
    for id in [start, read, again, clock] {
        pile.waits_still(id);
    }
    pile.sends(0x13, &[("gun_no", 2), ("status", 2)]);
    assert!(
        matches!(pile.reply(read), Ok(Reply::Telemetry(_))) && matches!(pile.reply(again), Ok(Reply::Telemetry(_)))
    );
    pile.sends(0x55, &[]);
    assert_eq!(pile.reply(clock), Ok(Reply::Clock { pile_time: None }));
    pile.accepts(serial);
    assert_eq!(pile.started(start), OrderState::Starting);
}

#[test]
fn the_late_answer_to_one_command_is_not_the_answer_to_the_next() {
    let check = |command: &Command, asked, answered, yes: &[(&str, u64)]| {
        let mut pile = Pile::online();
        let first = pile.command(command.clone(), 5);
        let late = pile.receives(asked).sequence;
        let busy = pile.command(command.clone(), 5);
        assert!(matches!(pile.reply(busy), Err(CommandError::PileBusy { .. })));
        pile.advance(5);
        assert_eq!(pile.reply(first), Err(CommandError::OutcomeUnknown { serial: None }));
        let second = pile.command(command.clone(), 5);
        let sequence = pile.receives(asked).sequence;
        pile.sends_frame(late, frame(answered, Serial::NONE, yes));
        pile.waits_still(second);
        pile.sends_frame(sequence, frame(answered, Serial::NONE, yes));
        assert!(pile.reply(second).is_ok());
    };
    check(&Command::Reboot { when: When::WhenIdle }, 0x92, 0x91, &[("result", 1)]);
    check(&Command::SyncClock, 0x56, 0x55, &[]);
}

#[test]
fn a_reboot_the_pile_refuses_says_so() {
    let mut pile = Pile::online();
    let id = pile.command(Command::Reboot { when: When::Immediately }, 5);
    pile.sends(0x91, &[]);
    assert!(matches!(pile.reply(id), Err(CommandError::PileRejected { frame: 0x91, code: 0, .. })));
}

#[test]
fn commands_are_refused_while_the_pile_is_lost_late_or_crowded() {
    let mut pile = Pile::online();
    let id = pile.command(Command::SyncClock, 0);
    assert_eq!(pile.reply(id), Err(CommandError::DeadlinePassed));
    let waiting: Vec<_> = (0..16).map(|_| pile.command(Command::ReadTelemetry { gun: gun(1) }, 10)).collect();
    let id = pile.command(Command::SyncClock, 10);
    assert!(matches!(pile.reply(id), Err(CommandError::PileBusy { .. })));
    pile.idles();
    for id in waiting {
        assert!(pile.reply(id).is_ok());
    }
    pile.input(crate::session::io::Input::Silent);
    let id = pile.command(Command::SyncClock, 10);
    assert!(matches!(pile.reply(id), Err(CommandError::PileOffline { last_seen: Some(_) })));
    pile.receives(0x12);
    pile.receives_nothing();
}

#[test]
fn cards_and_vins_are_denied() {
    let mut pile = Pile::online();
    for (asked, answered) in [(0x31, 0x32), (0xA1, 0xA2)] {
        let sequence = pile.sends(asked, &[("gun_no", 2)]);
        let denial = pile.receives(answered);
        assert_eq!((denial.sequence, denial.get("auth_result"), denial.get("gun_no")), (sequence, 0, 2));
        assert_ne!(denial.get("fail_reason"), 0);
    }
    pile.sends(0xA5, &[("gun_no", 1)]);
    assert_eq!(pile.receives(0xA6).get("auth_result"), 0);
    assert!(pile.store.borrow().orders.is_empty());
}

#[test]
fn not_plugged_in_said_again_does_not_make_the_sixty_seconds_longer() {
    let mut pile = Pile::online();
    let (_, serial) = pile.starting();
    pile.refuses(serial, 5);
    pile.advance(40);
    pile.refuses(serial, 5);
    pile.advance(19);
    assert_eq!(pile.order_state(serial), OrderState::WaitingForPlug);
    pile.advance(1);
    assert_eq!(pile.order_state(serial), OrderState::Failed);
}
