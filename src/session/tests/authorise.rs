//! Cards and VINs at the pile: what is asked, what is durable, what the pile is told, and when.

mod vehicle;

use std::sync::Arc;

use super::harness::*;
use super::ledger::Mode;
use crate::domain::driver::{Card, GrantedLimits, Shown, Vin};
use crate::domain::order::{Change, Failure, Origin, StopCause};
use crate::domain::{OrderState, Serial};
use crate::session::Policy;
use crate::session::authority::{Asking, ChargeAsk, Denial, Grant, Parallel, Role, Unanswered, Verdict};
use crate::session::io::{Done, EndReason, Input, Patience};
use crate::wire::{self, Sequence};

const CARD: u64 = 0x540A_4BD1_0000_0000;

/// Logged in; the authority answers when it is told to.
fn online() -> Pile {
    let mut pile = Pile::online();
    pile.authority_waits = true;
    pile
}

/// The same, and if the authority does not answer, this counts.
fn online_with_fallback(fallback: Verdict) -> Pile {
    let asking = Asking { fallback, ..Asking::default() };
    let mut pile = Pile::online().elsewhere_with(Arc::new(Policy { asking, ..(*policy(100_000)).clone() }));
    pile.receives(0x02);
    pile.authority_waits = true;
    pile
}

impl Pile {
    /// What the authority has been asked first, and what it says to that.
    #[track_caller]
    fn authority_says(&mut self, verdict: Verdict) -> ChargeAsk {
        self.authority_ends(Ok(verdict))
    }

    #[track_caller]
    fn authority_ends(&mut self, result: Result<Verdict, Unanswered>) -> ChargeAsk {
        let ask = self.asked.pop_front().expect("the authority has been asked something");
        self.input(Input::Done(Done::Authorised(ask.serial, result)));
        ask
    }
}

fn swipes(pile: &mut Pile, gun: u64, card: u64) -> Sequence {
    pile.sends(0x31, &[("gun_no", gun), ("start_mode", 1), ("account_or_card", card)])
}

fn yes() -> Verdict {
    let limits = GrantedLimits { max_power_kw: 60, soc_percent: 80, energy: 100_000 };
    let (logical_card, balance_fen) = ([0, 0, 0, 0, 0, 0, 5, 0x73], 10_000);
    let grant = Grant { logical_card, balance_fen, limits, account: "acme".into(), ..Grant::default() };
    Verdict::Allow(Box::new(grant))
}

fn no(reason: Denial) -> Verdict {
    Verdict::Deny(reason)
}

/// A card on gun 1 that may charge.
fn granted(pile: &mut Pile) -> Serial {
    swipes(pile, 1, CARD);
    pile.authority_says(yes());
    pile.receives(0x32).serial()
}

#[test]
fn a_card_that_may_charge_is_an_order_before_the_pile_is_told_so() {
    let mut pile = online();
    let sequence = swipes(&mut pile, 1, CARD);
    pile.receives_nothing();
    assert!(pile.store.borrow().orders.is_empty(), "nobody has decided");
    pile.mode = Mode::Slow;
    let ask = pile.authority_says(yes());
    let card = Card::parse("D14B0A54").expect("a card");
    assert_eq!((ask.gun, &ask.shown, ask.password), (gun(1), &Shown::Card(card), None));
    assert_eq!(ask.pile_time.to_string(), "2023-11-15T06:13:20", "by the pile's clock");
    pile.receives_nothing();
    pile.store_returns();
    let told = pile.receives(0x32);
    assert_eq!((told.sequence, told.serial()), (sequence, ask.serial));
    assert_eq!((told.get("auth_result"), told.get("fail_reason"), told.get("balance")), (1, 0, 10_000));
    assert_eq!(told.get("logical_card") >> 56, 0x73);
    let store = pile.store.borrow();
    let order = store.order(ask.serial);
    assert_eq!((order.state, order.origin), (OrderState::Starting, Origin::Card));
    assert_eq!(order.at_pile.as_ref().expect("kept").account, "acme");
    assert_eq!(store.changes(ask.serial), [Change::Created, Change::Accepted]);
}

#[test]
fn a_card_start_charges_and_settles_like_any_other() {
    let mut pile = online();
    let serial = granted(&mut pile);
    pile.charges(serial);
    assert_eq!(pile.order_state(serial), OrderState::Charging);
    pile.advance(120);
    assert!(pile.store.borrow().order(serial).anomalies.is_empty(), "nobody waits for a 0x33");
    pile.bills(serial);
    pile.receives(0x40);
    assert_eq!(pile.order_state(serial), OrderState::Settled);
}

#[test]
fn a_card_start_that_does_not_charge_within_ninety_seconds_has_failed() {
    let mut pile = online();
    let serial = granted(&mut pile);
    pile.advance(89);
    assert_eq!(pile.order_state(serial), OrderState::Starting);
    pile.advance(2);
    assert_eq!(pile.store.borrow().order(serial).failure, Some(Failure::NoStart));
}

#[test]
fn one_that_is_stopped_before_it_charged_owes_no_record() {
    let mut pile = online();
    let serial = granted(&mut pile);
    pile.stop(serial);
    pile.receives(0x36);
    pile.advance(31);
    let store = pile.store.borrow();
    assert_eq!((store.order(serial).state, store.order(serial).anomalies.len()), (OrderState::Failed, 0));
}

#[test]
fn whoever_may_not_charge_hears_why_and_makes_no_order() {
    for (frame, answer) in [(0x31, 0x32), (0xA1, 0xA2), (0xA5, 0xA6)] {
        let mut pile = online();
        let sequence = pile.sends(frame, &[("gun_no", 2), ("start_mode", 1), ("account_or_card", CARD)]);
        pile.authority_says(no(Denial::AccountFrozen));
        let told = pile.receives(answer);
        assert_eq!((told.sequence, told.get("auth_result"), told.get("fail_reason")), (sequence, 0, 2));
        assert_eq!((told.serial(), told.get("gun_no")), (Serial::NONE, 2));
        assert!(pile.store.borrow().orders.is_empty());
    }
}

#[test]
fn a_v18_pile_is_told_the_limits() {
    let mut pile = online();
    pile.sends(0xA5, &[("gun_no", 1), ("start_mode", 1), ("account_or_card", CARD)]);
    pile.authority_says(yes());
    let told = pile.receives(0xA6);
    assert_eq!((told.get("auth_result"), told.get("fail_reason")), (1, 0));
    assert_eq!((told.get("max_power"), told.get("soc_limit"), told.get("energy_limit")), (60, 80, 100_000));
    assert_eq!(pile.order_state(told.serial()), OrderState::Starting);
}

#[test]
fn limits_an_older_pile_cannot_be_told_are_watched_here() {
    let mut pile = online();
    let serial = granted(&mut pile);
    pile.sends_of(serial, 0x13, &[("gun_no", 1), ("status", 3), ("energy", 99_999)]);
    pile.receives_nothing();
    pile.sends_of(serial, 0x13, &[("gun_no", 1), ("status", 3), ("energy", 100_000)]);
    pile.receives(0x36);
    let store = pile.store.borrow();
    assert_eq!(store.order(serial).stop.map(|stop| stop.cause), Some(StopCause::LimitEnergy));
}

#[test]
fn a_vehicle_is_known_by_its_vin_whichever_way_the_pile_sends_it() {
    let vin = "LSVAM4187C2184847";
    let wrote = [wire::VinReversed::new(vin), wire::VinReversed::new(&vin.chars().rev().collect::<String>())];
    for sent in wrote {
        let mut pile = online();
        let ask = wire::StartRequest {
            pile_code: crate::session::translate::wire_pile(code()),
            gun_no: wire::GunNo(1),
            start_mode: wire::StartMode::Vin,
            need_password: wire::YesNo::No,
            account_or_card: wire::Opaque::ZERO,
            password: wire::Opaque::ZERO,
            vin: sent.expect("17 characters"),
        };
        pile.sends_frame(Sequence([1, 0]), ask.into());
        let asked = pile.authority_says(yes());
        assert_eq!(asked.shown, Shown::Vin(Vin(vin.into())));
        pile.receives(0x32);
        assert_eq!(pile.store.borrow().order(asked.serial).origin, Origin::Vin);
    }
}

#[test]
fn an_authority_that_does_not_answer_in_time_counts_as_configured() {
    let mut pile = online();
    swipes(&mut pile, 1, CARD);
    pile.advance(4);
    pile.receives_nothing();
    pile.advance(2);
    assert_eq!(pile.receives(0x32).get("fail_reason"), 5, "the default");
    pile.authority_says(yes());
    pile.receives_nothing();
    assert!(pile.store.borrow().orders.is_empty(), "too late");

    for why in [Unanswered::Unreachable, Unanswered::Nonsense, Unanswered::Busy] {
        let mut pile = online_with_fallback(yes());
        swipes(&mut pile, 1, CARD);
        let serial = pile.authority_ends(Err(why)).serial;
        assert_eq!(pile.receives(0x32).serial(), serial, "{why:?}");
    }
}

#[test]
fn a_repeated_question_is_the_same_one_while_it_waits_and_for_a_minute() {
    let mut pile = online();
    swipes(&mut pile, 1, CARD);
    pile.advance(2);
    let again = swipes(&mut pile, 1, CARD);
    assert_eq!(pile.asked.len(), 1, "asked once");
    pile.mode = Mode::Slow;
    let serial = pile.authority_says(yes()).serial;
    let while_written = swipes(&mut pile, 1, CARD);
    assert_ne!(again, while_written);
    pile.store_returns();
    let told = pile.receives(0x32);
    assert_eq!((told.sequence, told.serial()), (while_written, serial), "the last one that asked");
    pile.receives_nothing();
    pile.advance(57);
    let late = swipes(&mut pile, 1, CARD);
    let told = pile.receives(0x32);
    assert_eq!((told.sequence, told.serial(), told.get("auth_result")), (late, serial, 1));
    assert_eq!((pile.asked.len(), pile.store.borrow().orders.len()), (0, 1));
    assert_eq!(pile.store.borrow().changes(serial), [Change::Created, Change::Accepted], "told once");
}

#[test]
fn a_repeated_question_is_denied_as_before() {
    let mut pile = online();
    swipes(&mut pile, 1, CARD);
    pile.authority_says(no(Denial::InsufficientBalance));
    assert_eq!(pile.receives(0x32).get("fail_reason"), 3);
    pile.advance(20);
    swipes(&mut pile, 1, CARD);
    assert_eq!(pile.receives(0x32).get("fail_reason"), 3);
    assert!(pile.asked.is_empty());
    pile.advance(60);
    swipes(&mut pile, 1, CARD);
    assert_eq!(pile.asked.len(), 1, "a minute later it may be another");
}

#[test]
fn a_repeated_question_is_recognised_on_another_connection() {
    let mut pile = online();
    let serial = granted(&mut pile);
    let mut next = pile.elsewhere();
    next.authority_waits = true;
    next.receives(0x02);
    let sequence = swipes(&mut next, 1, CARD);
    let told = next.receives(0x32);
    assert_eq!((told.sequence, told.serial(), told.get("balance")), (sequence, serial, 10_000));
    assert!(next.asked.is_empty());
    assert_eq!(next.store.borrow().orders.len(), 1);
    // Of another card, or on another gun, it is another question.
    swipes(&mut next, 2, CARD);
    assert_eq!(next.asked.len(), 1);
}

#[test]
fn what_was_durable_but_not_told_is_told_when_the_pile_asks_again_elsewhere() {
    let mut pile = online();
    swipes(&mut pile, 1, CARD);
    pile.mode = Mode::LosesAnswers;
    let serial = pile.authority_says(yes()).serial;
    pile.receives_nothing();
    let store = pile.store.clone();
    assert_eq!(store.borrow().order(serial).state, OrderState::Requested);
    pile.mode = Mode::Prompt;
    let mut next = pile.elsewhere();
    next.authority_waits = true;
    next.receives(0x02);
    swipes(&mut next, 1, CARD);
    assert_eq!(next.receives(0x32).serial(), serial);
    assert_eq!(next.order_state(serial), OrderState::Starting);
}

#[test]
fn a_pile_that_asks_anew_does_not_charge_what_it_was_told_before() {
    let mut pile = online();
    let first = granted(&mut pile);
    swipes(&mut pile, 1, CARD + 1);
    assert_eq!(pile.store.borrow().order(first).failure, Some(Failure::NotSent));
    let second = pile.authority_says(yes()).serial;
    assert_eq!(pile.receives(0x32).serial(), second);
    assert_ne!(first, second);
    pile.charges(second);
    assert_eq!(pile.order_state(second), OrderState::Charging);
}

#[test]
fn a_gun_that_charges_is_denied_to_the_next_card() {
    let mut pile = online();
    let serial = pile.charging();
    swipes(&mut pile, 1, CARD);
    assert_eq!(pile.receives(0x32).get("fail_reason"), 0x0A);
    assert!(pile.asked.is_empty(), "nobody need be asked");
    pile.bills(serial);
    pile.receives(0x40);
    pile.advance(60);
    granted(&mut pile);
}

#[test]
fn a_gun_that_a_caller_starts_meanwhile_is_denied() {
    let mut pile = online();
    swipes(&mut pile, 1, CARD);
    pile.starting();
    pile.authority_says(yes());
    assert_eq!(pile.receives(0x32).get("fail_reason"), 0x0A);
    assert_eq!(pile.store.borrow().orders.len(), 1);
}

#[test]
fn a_store_that_fails_leaves_the_question_to_the_piles_next_try() {
    for mode in [Mode::Away, Mode::LosesAnswers] {
        let mut pile = online();
        swipes(&mut pile, 1, CARD);
        pile.mode = mode;
        let first = pile.authority_says(yes()).serial;
        pile.mode = Mode::Prompt;
        pile.advance(15);
        pile.receives_nothing();
        assert_eq!(pile.store.borrow().order(first).failure, Some(Failure::NotSent), "{mode:?}");
        assert_ne!(granted(&mut pile), first);
    }
}

#[test]
fn nothing_is_told_to_a_pile_that_has_given_up() {
    let mut pile = online();
    swipes(&mut pile, 1, CARD);
    pile.mode = Mode::Slow;
    let serial = pile.authority_says(yes()).serial;
    pile.advance(56);
    pile.store_returns();
    pile.receives_nothing();
    assert_eq!(pile.store.borrow().order(serial).failure, Some(Failure::NotSent));

    let mut pile = online();
    swipes(&mut pile, 1, CARD);
    pile.ends(EndReason::ConnectionClosed);
    pile.authority_says(yes());
    assert!(pile.store.borrow().orders.is_empty(), "the session has ended");
}

#[test]
fn while_the_store_cannot_be_asked_nothing_starts_and_nobody_is_sent_away() {
    let mut pile = Pile::connecting(Mode::Away);
    pile.receives(0x02);
    pile.authority_waits = true;
    let sequence = swipes(&mut pile, 1, CARD);
    pile.receives_nothing();
    assert!(pile.asked.is_empty());
    pile.mode = Mode::Prompt;
    pile.advance(2);
    pile.authority_says(yes());
    assert_eq!(pile.receives(0x32).sequence, sequence);

    let mut pile = Pile::connecting(Mode::Away);
    pile.receives(0x02);
    pile.authority_waits = true;
    swipes(&mut pile, 1, CARD);
    pile.advance(31);
    pile.mode = Mode::Prompt;
    pile.advance(2);
    assert!(pile.asked.is_empty(), "the pile repeats it, or has given up");
}

#[test]
fn a_node_that_goes_leaves_the_question_to_the_next_one_and_waits_for_an_answer() {
    let mut pile = online();
    swipes(&mut pile, 1, CARD);
    pile.input(Input::Drain(Patience::Answers));
    assert_eq!(pile.ended, None, "its answer is on its way");
    swipes(&mut pile, 2, CARD);
    assert_eq!(pile.asked.len(), 1, "the next owner is asked");
    pile.authority_says(yes());
    pile.receives(0x32);
    assert_eq!(pile.ended, Some(EndReason::Drained));
}

#[test]
fn a_gun_the_pile_does_not_have_and_a_way_nobody_knows_are_denied() {
    let mut pile = online();
    for (gun, mode, reason) in [(3, 1, 6), (0, 1, 6), (1, 2, 1), (1, 9, 1)] {
        pile.sends(0x31, &[("gun_no", gun), ("start_mode", mode)]);
        assert_eq!(pile.receives(0x32).get("fail_reason"), reason, "gun {gun}, mode {mode}");
    }
    assert!(pile.asked.is_empty());
}
