//! Piles that log in while the store cannot be asked.

use super::harness::*;
use super::ledger::Mode;
use crate::domain::command::{StopProof, When};
use crate::domain::order::{Change, Origin};
use crate::domain::pile::{GunState, Presence};
use crate::domain::{Command, CommandError, OrderState, Reply};
use crate::session::io::{EndReason, Input, Reassertion};
use crate::wire::Sequence;

/// Logged in while the store is away.
fn provisional() -> Pile {
    served(Pile::connecting(Mode::Away))
}

/// The same pile, whose store has gone away meanwhile.
fn again(pile: &mut Pile) -> Pile {
    pile.mode = Mode::Away;
    served(pile.elsewhere())
}

fn served(mut pile: Pile) -> Pile {
    assert_eq!(pile.receives(0x02).get("result"), 0);
    assert!(pile.registered.is_some());
    pile
}

#[test]
fn it_is_served_as_far_as_that_needs_no_store_and_judges_nothing() {
    let mut pile = provisional();
    pile.sends(0x03, &[("gun_no", 1)]);
    pile.receives(0x04);
    pile.sends(0x05, &[("tariff_model_no", 0x0102)]);
    assert_eq!(pile.receives(0x06).get("result"), 0, "same");
    pile.sends(0x05, &[]);
    pile.sends(0x09, &[]);
    pile.receives_nothing();
    pile.sends(0x31, &[("gun_no", 1), ("start_mode", 1)]);
    pile.receives_nothing();
    let read = pile.command(Command::ReadTelemetry { gun: gun(1) }, 10);
    pile.receives(0x12);
    pile.charges(foreign(1));
    assert!(matches!(pile.reply(read), Ok(Reply::Telemetry(_))));
    assert_eq!(pile.published.len(), 1);
    let clock = pile.command(Command::SyncClock, 10);
    pile.receives(0x56);
    pile.sends(0x55, &[]);
    assert!(pile.reply(clock).is_ok());
    pile.sends_frame(Sequence([5, 6]), login_request(2));
    pile.receives(0x02);
    pile.advance(600);
    pile.receives_nothing();
    let store = pile.store.borrow();
    assert!(store.events.is_empty() && store.orders.is_empty() && store.pile.is_none());
}

#[test]
fn nothing_is_started_and_the_caller_knows_why() {
    let mut pile = provisional();
    let id = pile.start(&request(1));
    assert!(matches!(pile.reply(id), Err(CommandError::StoreUnavailable { .. })));
    let stop = pile.stop(foreign(1));
    assert!(matches!(pile.reply(stop), Err(CommandError::StoreUnavailable { .. })), "it may be open");
    pile.receives_nothing();
}

#[test]
fn a_question_about_the_tariff_is_answered_once_the_store_can_be_asked() {
    // A pile that has none charges nothing until it has: waiting for it to ask again would cost a start.
    for (question, answer) in [(0x05, 0x06), (0x09, 0x0A)] {
        let mut pile = provisional();
        pile.sends(question, &[]);
        pile.receives_nothing();
        pile.mode = Mode::Prompt;
        pile.advance(2);
        let answered = pile.receives(answer);
        assert!(answer != 0x06 || answered.get("result") == 1, "differs");
    }
}

#[test]
fn it_claims_the_pile_every_second_or_so_until_the_store_is_back() {
    let mut pile = provisional();
    pile.mode = Mode::Slow;
    for _ in 0..5 {
        pile.advance(2);
        pile.store_answers_as(Mode::Away);
        assert!(pile.calls.is_empty());
    }
    pile.advance(2);
    pile.store_returns();
    assert_eq!(pile.registered, pile.store.borrow().owner);
    assert_eq!(pile.events(), ["online"]);
    pile.starting();
}

#[test]
fn what_happened_to_guns_and_orders_is_told_after_the_claim_as_of_its_own_time() {
    let mut old = Pile::online();
    let serial = old.charging();
    let mut pile = again(&mut old);
    pile.charges(serial);
    pile.sends(0x03, &[("gun_no", 2), ("gun_status", 1)]);
    pile.receives(0x04);
    let ended = pile.now().wall;
    pile.sends_of(serial, 0x19, &[("gun_no", 1)]);
    pile.charges(foreign(1));
    pile.advance(20);
    pile.mode = Mode::Prompt;
    pile.advance(2);
    let finished = [Change::Created, Change::Accepted, Change::Charging, Change::Finished];
    assert_eq!(pile.store.borrow().changes(serial), finished);
    assert_eq!(pile.store.borrow().order(serial).ended_at, Some(ended));
    assert_eq!(pile.gun_state(2), GunState::Fault);
    assert_eq!(pile.store.borrow().order(foreign(1)).origin, Origin::Pile, "looked up, and adopted");
    assert_eq!(pile.order_state(foreign(1)), OrderState::Charging);
    pile.receives_nothing();
    // Its record is due thirty seconds after its end, wherever those were spent.
    pile.advance(8);
    assert_eq!(pile.order_state(serial), OrderState::Abnormal);
}

#[test]
fn a_charge_it_sees_is_stopped_and_the_order_the_store_knows_hears_of_it() {
    let mut old = Pile::online();
    let serial = old.charging();
    let mut pile = again(&mut old);
    pile.charges(serial);
    let id = pile.stop(serial);
    assert_eq!(pile.receives(0x36).get("gun_no"), 1);
    pile.sends(0x35, &[("gun_no", 1), ("stop_result", 1)]);
    let Ok(Reply::Stopped { order, confirmed_by }) = pile.reply(id) else { panic!("stopped") };
    assert_eq!((order.serial, order.state, confirmed_by), (serial, OrderState::Stopping, StopProof::Answer));
    pile.advance(60);
    assert_eq!(pile.order_state(serial), OrderState::Charging, "nothing is stored before the claim");
    pile.mode = Mode::Prompt;
    pile.advance(2);
    let store = pile.store.borrow();
    assert_eq!(store.order(serial).origin, Origin::Platform, "what is stored counts");
    assert!(store.changes(serial).contains(&Change::StopRequested));
}

#[test]
fn a_stop_of_a_charge_nobody_knew_is_on_its_order_once_that_is_adopted() {
    let mut pile = provisional();
    pile.charges(foreign(1));
    pile.stop(foreign(1));
    pile.receives(0x36);
    pile.mode = Mode::Prompt;
    pile.advance(2);
    let told = pile.store.borrow().changes(foreign(1));
    assert!(told.contains(&Change::StopRequested) && told.contains(&Change::Created), "{told:?}");
}

#[test]
fn a_record_is_settled_without_an_owner_or_else_not_acknowledged() {
    let mut pile = provisional();
    pile.bills(foreign(1));
    pile.receives_nothing();
    // What the journal of a node does: settling needs no store.
    pile.mode = Mode::Slow;
    pile.bills(foreign(1));
    pile.store_answers();
    pile.receives(0x40);
    assert_eq!(pile.order_state(foreign(1)), OrderState::Settled);
}

#[test]
fn a_later_claim_of_somebody_else_ends_it() {
    let mut pile = provisional();
    pile.store.borrow_mut().epoch = pile.now().wall.0.unsigned_abs() + 1;
    pile.store.borrow_mut().somebody_claims();
    pile.mode = Mode::Prompt;
    pile.advance(2);
    assert_eq!(pile.ended, Some(EndReason::TakenOver));
    assert!(pile.session.is_done() && pile.absent().is_none());
}

#[test]
fn one_that_ends_before_it_is_claimed_leaves_nothing_behind() {
    let mut pile = provisional();
    pile.charges(foreign(1));
    pile.ends(EndReason::HeardElsewhere);
    assert!(pile.session.is_done() && pile.absent().is_none());
}

#[test]
fn a_claim_that_was_won_in_vain_is_watched_over() {
    let mut old = Pile::online();
    let mut pile = again(&mut old);
    pile.mode = Mode::Slow;
    pile.advance(2);
    pile.ends(EndReason::TakenOver);
    pile.store_answers();
    let owner = pile.store.borrow().owner;
    assert_eq!(pile.absent().map(|absent| absent.fence), owner);
}

#[test]
fn a_session_whose_pile_was_heard_elsewhere_is_watched_over_with_doubt() {
    let mut pile = Pile::online();
    pile.ends(EndReason::HeardElsewhere);
    assert!(pile.absent().is_some_and(|absent| absent.elsewhere));
}

#[test]
fn silence_before_the_claim_is_told_after_it_if_anybody_thinks_otherwise() {
    let mut pile = provisional();
    pile.input(Input::Silent);
    let id = pile.command(Command::SyncClock, 10);
    assert!(matches!(pile.reply(id), Err(CommandError::PileOffline { .. })));
    pile.input(Input::Heard);
    pile.input(Input::Silent);
    pile.mode = Mode::Prompt;
    pile.advance(2);
    assert!(pile.events().is_empty(), "nobody has heard of it");
    pile.input(Input::Heard);
    assert_eq!(pile.events(), ["online"]);

    let mut pile = again(&mut pile);
    pile.input(Input::Silent);
    pile.mode = Mode::Prompt;
    pile.advance(2);
    assert_eq!(pile.events(), ["online", "offline"]);
    assert!(pile.store.borrow().pile.as_ref().is_some_and(|(pile, _)| pile.presence == Presence::Offline));
}

#[test]
fn what_it_keeps_is_bounded_and_says_enough() {
    let mut pile = provisional();
    for n in 0..500_u64 {
        pile.sends(0x13, &[("gun_no", 1 + n % 2), ("status", n / 2 % 2 + 1)]);
        pile.sends_of(foreign((n % 250) as u8), 0x19, &[("gun_no", 1)]);
    }
    for _ in 0..500 {
        pile.charges(foreign(1));
        pile.advance(15);
    }
    let id = pile.stop(foreign(1));
    pile.waits_still(id);
    pile.mode = Mode::Prompt;
    pile.advance(2);
    assert!(pile.events().len() < 100, "{}", pile.events().len());
    assert_eq!(pile.order_state(foreign(1)), OrderState::Stopping);
}

#[test]
fn a_disconnect_when_idle_waits_for_what_seems_to_charge() {
    let mut pile = provisional();
    pile.charges(foreign(1));
    let id = pile.disconnect(When::WhenIdle);
    pile.waits_still(id);
    pile.idles();
    assert_eq!((pile.reply(id), pile.ended), (Ok(Reply::Disconnected), Some(EndReason::Disconnected)));
}

#[test]
fn whether_it_is_still_ours_nobody_knows() {
    let mut pile = provisional();
    pile.input(Input::Reassert { anew: true });
    assert_eq!(pile.reasserted, [Reassertion::Unknown]);
}

#[test]
fn what_failed_and_charges_after_all_before_the_pile_is_claimed_is_stopped_then() {
    let mut pile = Pile::online();
    let (_, serial) = pile.starting();
    let mut pile = again(&mut pile);
    pile.refuses(serial, 3);
    pile.charges(serial);
    pile.receives_nothing();
    pile.store_returns();
    pile.advance(2);
    assert_eq!(pile.receives(0x36).get("gun_no"), 1);
    assert_eq!(pile.order_state(serial), OrderState::Stopping);
}

#[test]
fn no_stranger_is_stopped_for_what_a_gun_of_a_vehicle_did_before_the_pile_was_claimed() {
    let mut pile = Pile::online();
    pile.start_parallel(&parallel_request(1));
    let [one, two] = [0; 2].map(|_| pile.receives(0xA4).serial());
    for serial in [one, two] {
        pile.sends_of(serial, 0xA3, &[("start_result", 1)]);
    }
    let mut pile = again(&mut pile);
    let charges = |pile: &mut Pile, serial| {
        pile.sends_of(serial, 0x13, &[("gun_no", 2), ("status", 3), ("gun_plugged", 1)]);
    };
    charges(&mut pile, two);
    pile.sends_of(one, 0xA3, &[("fail_reason", 2)]);
    charges(&mut pile, foreign(1));
    pile.store_returns();
    pile.advance(2);
    pile.receives_nothing();
    assert_eq!(pile.order_state(one), OrderState::Failed);
}
