//! What two guns of one vehicle owe each other: both charge or none, and both end together.

use super::harness::*;
use super::ledger::Mode;
use super::parallel::*;
use crate::domain::order::{AnomalyKind, Change, Failure, Limits, StopCause};
use crate::domain::{CommandError, Energy, OrderState, Reply};
use crate::session::io::EndReason;

#[test]
fn a_no_of_either_gun_is_the_answer_at_once_and_none_charges() {
    for no in [1, 2] {
        let mut pile = Pile::online();
        let (id, serials) = asked(&mut pile);
        let yes = 3 - no;
        answers(&mut pile, no, serials[no as usize - 1], 3);
        let orders = both(&mut pile, id);
        let failure = Some(Failure::Rejected { code: 3, name: "equipment fault".into() });
        assert_eq!(orders[no as usize - 1].failure, failure);
        assert_eq!(stopped(&mut pile), [0; 0], "it has not said yes");
        // A pile that keeps to the book says no for both; this one does not.
        let serial = serials[yes as usize - 1];
        answers(&mut pile, yes, serial, 0);
        assert_eq!(stopped(&mut pile), [yes]);
        let stop = pile.store.borrow().order(serial).stop.expect("it is stopped");
        assert_eq!(stop.cause, StopCause::OtherGun);
        // Told again while it goes on.
        charges(&mut pile, yes, serial);
        pile.advance(5);
        assert_eq!(stopped(&mut pile), [yes]);
        pile.sends_of(serial, 0x19, &[("gun_no", yes)]);
        assert_eq!(pile.order_state(serial), OrderState::Finished);
    }
}

#[test]
fn a_gun_that_has_said_yes_is_stopped_when_the_other_says_no() {
    let mut pile = Pile::online();
    let (id, [one, two]) = asked(&mut pile);
    answers(&mut pile, 1, one, 0);
    pile.waits_still(id);
    answers(&mut pile, 2, two, 2);
    both(&mut pile, id);
    assert_eq!(stopped(&mut pile), [1]);
    assert_eq!(states(&pile, [one, two]), [OrderState::Stopping, OrderState::Failed]);
    // It never charged, as it should not have: nothing is owed for it.
    pile.advance(30);
    assert_eq!(pile.order_state(one), OrderState::Failed);
    assert!(pile.store.borrow().order(one).anomalies.is_empty());
}

#[test]
fn a_pile_that_says_no_to_both_is_told_nothing_more() {
    let mut pile = Pile::online();
    let (id, serials) = asked(&mut pile);
    answers(&mut pile, 1, serials[0], 3);
    answers(&mut pile, 2, serials[1], 3);
    both(&mut pile, id);
    assert_eq!(states(&pile, serials), [OrderState::Failed; 2]);
    pile.advance(200);
    pile.receives_nothing();
}

#[test]
fn nobody_plugged_in_in_time_and_none_charges() {
    let mut pile = Pile::online();
    let (id, [one, two]) = asked(&mut pile);
    answers(&mut pile, 1, one, 5);
    answers(&mut pile, 2, two, 5);
    let orders = both(&mut pile, id);
    assert!(orders.iter().all(|order| order.state == OrderState::WaitingForPlug && order.plug_deadline.is_some()));
    // One of the two, and that a pile should not do.
    answers(&mut pile, 1, one, 0);
    charges(&mut pile, 1, one);
    pile.receives_nothing();
    pile.advance(60);
    assert_eq!(stopped(&mut pile), [1]);
    assert_eq!(states(&pile, [one, two]), [OrderState::Stopping, OrderState::Failed]);
}

#[test]
fn a_gun_that_does_not_follow_takes_the_other_with_it() {
    // It is silent, or says yes and does not charge.
    for says in [None, Some(0)] {
        let mut pile = Pile::online();
        let (id, [one, two]) = asked(&mut pile);
        answers(&mut pile, 1, one, 0);
        charges(&mut pile, 1, one);
        if let Some(reason) = says {
            answers(&mut pile, 2, two, reason);
            both(&mut pile, id);
        }
        pile.advance(31);
        if says.is_none() {
            assert_eq!(pile.reply(id), Err(CommandError::OutcomeUnknown { serial: Some(one) }));
        }
        pile.receives_nothing();
        pile.advance(60);
        assert_eq!(stopped(&mut pile), [1]);
        assert_eq!(states(&pile, [one, two]), [OrderState::Stopping, OrderState::Failed]);
        let timeout = Change::Anomaly(AnomalyKind::StartTimeout);
        assert_eq!(pile.store.borrow().changes(two).iter().filter(|change| **change == timeout).count(), 1);
    }
}

#[test]
fn what_has_become_of_the_other_gun_is_asked_of_the_store_when_the_session_does_not_know() {
    // The second gun fails while the pile is on another node, or away.
    for knows in [true, false] {
        let mut pile = Pile::online();
        let (_, [one, two]) = asked(&mut pile);
        answers(&mut pile, 1, one, 0);
        charges(&mut pile, 1, one);
        pile.ends(EndReason::ConnectionClosed);
        if knows {
            let (now, no) =
                (pile.now().wall, crate::domain::order::Happening::Rejected { code: 3, name: String::new() });
            pile.store.borrow_mut().amend(two, now, no);
        }
        let mut next = pile.elsewhere();
        next.receives(0x02);
        charges(&mut next, 1, one);
        assert_eq!(stopped(&mut next), if knows { vec![1] } else { vec![] });
        charges(&mut next, 1, one);
        assert_eq!(stopped(&mut next), [0; 0], "once");
    }
}

#[test]
fn whatever_stops_one_gun_stops_the_other() {
    let mut pile = Pile::online();
    let [one, two] = charging(&mut pile);
    let id = pile.stop(two);
    assert_eq!(stopped(&mut pile), [2, 1]);
    assert_eq!(states(&pile, [one, two]), [OrderState::Stopping; 2]);
    let causes = [one, two].map(|serial| pile.store.borrow().order(serial).stop.expect("stopped").cause);
    assert_eq!(causes, [StopCause::OtherGun, StopCause::Caller]);
    pile.sends(0x35, &[("gun_no", 2), ("stop_result", 1)]);
    assert!(matches!(pile.reply(id), Ok(Reply::Stopped { order, .. }) if order.serial == two));
    // One that does not obey is told again, by itself.
    charges(&mut pile, 1, one);
    pile.advance(5);
    assert_eq!(stopped(&mut pile), [1]);

    // A limit of one gun.
    let mut pile = Pile::online();
    let mut start = parallel_request(1);
    start.guns[0].limits = Limits { energy: Some(Energy(900)), ..Limits::default() };
    pile.start_parallel(&start);
    let [one, two] = [pile.receives(0xA4).serial(), pile.receives(0xA4).serial()];
    answers(&mut pile, 1, one, 0);
    answers(&mut pile, 2, two, 0);
    charges(&mut pile, 2, two);
    pile.receives_nothing();
    charges(&mut pile, 1, one);
    assert_eq!(stopped(&mut pile), [1, 2]);
}

#[test]
fn a_stop_while_the_store_is_away_reaches_the_other_gun_once_the_pile_is_claimed() {
    let mut pile = Pile::online();
    let [one, two] = charging(&mut pile);
    pile.mode = Mode::Away;
    let mut next = pile.elsewhere();
    next.receives(0x02);
    charges(&mut next, 1, one);
    charges(&mut next, 2, two);
    next.stop(one);
    assert_eq!(stopped(&mut next), [1], "nobody knows of the other");
    next.store_returns();
    next.advance(2);
    assert_eq!(stopped(&mut next), [2]);
    assert_eq!(states(&next, [one, two]), [OrderState::Stopping; 2]);
}

#[test]
fn a_stop_of_one_gun_does_not_meet_a_stranger_on_the_other() {
    let mut pile = Pile::online();
    let [one, two] = charging(&mut pile);
    charges(&mut pile, 1, foreign(1));
    pile.stop(two);
    assert_eq!(stopped(&mut pile), [2]);
    // Should it be the vehicle's after all.
    charges(&mut pile, 1, one);
    assert_eq!(stopped(&mut pile), [1]);
}

#[test]
fn each_gun_settles_by_itself_and_a_start_that_failed_on_the_pile_stops_the_other() {
    let mut pile = Pile::online();
    let [one, two] = charging(&mut pile);
    pile.bills(one);
    pile.receives(0x40);
    charges(&mut pile, 2, two);
    pile.receives_nothing();
    assert_eq!(states(&pile, [one, two]), [OrderState::Settled, OrderState::Charging]);
    pile.bills(two);
    pile.receives(0x40);
    assert_eq!(pile.order_state(two), OrderState::Settled);

    // A record instead of 0xA3.
    for yes_before in [true, false] {
        let mut pile = Pile::online();
        let (id, [one, two]) = asked(&mut pile);
        if yes_before {
            answers(&mut pile, 2, two, 0);
        }
        pile.bills_with(one, 0x59);
        pile.receives(0x40);
        let [failed, _] = both(&mut pile, id);
        assert!(failed.never_came_about() && failed.state == OrderState::Settled);
        if !yes_before {
            assert_eq!(stopped(&mut pile), [0; 0]);
            answers(&mut pile, 2, two, 0);
        }
        assert_eq!(stopped(&mut pile), [2]);
    }
}

#[test]
fn answers_that_come_while_the_store_is_away_count_once_the_pile_is_claimed() {
    for reason in [0, 3] {
        let mut pile = Pile::online();
        let (_, [one, two]) = asked(&mut pile);
        pile.mode = Mode::Away;
        let mut next = pile.elsewhere();
        next.receives(0x02);
        answers(&mut next, 1, one, 0);
        answers(&mut next, 2, two, reason);
        next.receives_nothing();
        next.store_returns();
        next.advance(2);
        let two_is = if reason == 0 { OrderState::Starting } else { OrderState::Failed };
        assert_eq!(next.order_state(two), two_is);
        // What was is only judged; what charges now is stopped.
        charges(&mut next, 1, one);
        assert_eq!(stopped(&mut next), if reason == 0 { vec![] } else { vec![1] });
    }
}

#[test]
fn a_gun_that_was_stopped_with_the_other_owes_its_record_like_that_one() {
    let mut pile = Pile::online();
    let (id, serials) = asked(&mut pile);
    answers(&mut pile, 1, serials[0], 0);
    answers(&mut pile, 2, serials[1], 0);
    both(&mut pile, id);
    pile.stop(serials[1]);
    assert_eq!(stopped(&mut pile), [2, 1]);
    pile.advance(30);
    assert_eq!(states(&pile, serials), [OrderState::Abnormal; 2]);
    for serial in serials {
        let kinds: Vec<_> = pile.store.borrow().order(serial).anomalies.iter().map(|anomaly| anomaly.kind).collect();
        assert_eq!(kinds, [AnomalyKind::RecordOverdue]);
    }
}

#[test]
fn a_gun_that_is_closed_before_it_has_answered_is_the_answer_and_the_other_does_not_charge_alone() {
    let mut pile = Pile::online();
    let (id, [one, two]) = asked(&mut pile);
    let close = pile.close(one, true);
    assert!(matches!(pile.reply(close), Ok(Reply::Closed(_))));
    assert_eq!(both(&mut pile, id)[0].state, OrderState::ClosedWithoutRecord);
    let again = pile.close(one, true);
    assert_eq!(pile.reply(again), Err(CommandError::OrderNotHeld { serial: one }), "nothing is left to write");
    assert_eq!(stopped(&mut pile), [0; 0], "it has not said yes");
    answers(&mut pile, 2, two, 0);
    assert_eq!(stopped(&mut pile), [2]);

    // It had said yes: it may charge, and so may the other.
    let mut pile = Pile::online();
    let (id, [one, two]) = asked(&mut pile);
    answers(&mut pile, 1, one, 0);
    let close = pile.close(one, true);
    assert!(matches!(pile.reply(close), Ok(Reply::Closed(_))));
    assert_eq!(pile.reply(id), Err(CommandError::OutcomeUnknown { serial: Some(one) }));
    answers(&mut pile, 2, two, 0);
    assert_eq!(stopped(&mut pile), [0; 0]);
}

#[test]
fn a_no_counts_for_the_other_gun_also_if_the_store_is_away_by_the_time_that_says_yes() {
    let mut pile = Pile::online();
    let (id, [one, two]) = asked(&mut pile);
    answers(&mut pile, 1, one, 3);
    both(&mut pile, id);
    // It does not hold its gun.
    pile.start(&request(2));
    let next = pile.receives(0x34).serial();
    pile.mode = Mode::Away;
    answers(&mut pile, 2, two, 0);
    assert_eq!(stopped(&mut pile), [2]);
    pile.store_returns();
    pile.advance(2);
    let mut held: Vec<_> = pile.session.orders.iter().map(|held| held.order.serial).collect();
    held.sort();
    let mut needed = [two, next];
    needed.sort();
    assert_eq!(held, needed, "what needs no memory is forgotten");
}

#[test]
fn a_store_that_does_not_know_yet_what_has_become_of_the_other_gun_is_asked_again() {
    let mut pile = Pile::online();
    let (_, [one, two]) = asked(&mut pile);
    pile.session.orders.retain(|held| held.order.serial != one);
    answers(&mut pile, 2, two, 0);
    assert_eq!(stopped(&mut pile), [0; 0], "it may still say yes");
    let no = crate::domain::order::Happening::Rejected { code: 3, name: String::new() };
    pile.store.borrow_mut().amend(one, pile.now().wall, no);
    charges(&mut pile, 2, two);
    assert_eq!(stopped(&mut pile), [2]);
}

#[test]
fn each_order_is_stopped_on_the_gun_that_charges_it() {
    let mut pile = Pile::online();
    let (_, [one, two]) = asked(&mut pile);
    answers(&mut pile, 1, one, 0);
    answers(&mut pile, 2, two, 0);
    // The pile counts its guns otherwise.
    charges(&mut pile, 1, two);
    charges(&mut pile, 2, one);
    pile.stop(one);
    assert_eq!(stopped(&mut pile), [2, 1]);
    assert_eq!(states(&pile, [one, two]), [OrderState::Stopping; 2]);
}

#[test]
fn a_gun_that_charges_again_ends_with_the_other_also_if_that_has_settled_meanwhile() {
    // It had ended, as far as anybody could see; or a stranger was where its 0x36 would have gone.
    for stranger in [false, true] {
        let mut pile = Pile::online();
        let [one, two] = charging(&mut pile);
        if stranger {
            charges(&mut pile, 1, foreign(1));
        } else {
            pile.idles();
            pile.idles();
        }
        pile.stop(two);
        assert_eq!(stopped(&mut pile), [2]);
        pile.bills(two);
        pile.receives(0x40);
        pile.advance(1);
        pile.receives_nothing();
        charges(&mut pile, 1, one);
        assert_eq!(stopped(&mut pile), [1]);
        charges(&mut pile, 1, one);
        assert_eq!(stopped(&mut pile), [0; 0], "once");
    }
}

#[test]
fn a_gun_whose_companion_failed_elsewhere_is_stopped_once_no_stranger_is_in_the_way() {
    let mut pile = Pile::online();
    let (_, [one, two]) = asked(&mut pile);
    pile.session.orders.retain(|held| held.order.serial != one);
    let no = crate::domain::order::Happening::Rejected { code: 3, name: String::new() };
    pile.store.borrow_mut().amend(one, pile.now().wall, no);
    charges(&mut pile, 2, foreign(1));
    answers(&mut pile, 2, two, 0);
    assert_eq!(stopped(&mut pile), [0; 0], "a stranger charges there");
    charges(&mut pile, 2, two);
    assert_eq!(stopped(&mut pile), [2]);
}

#[test]
fn a_gun_that_waited_for_its_plug_when_the_store_was_asked_does_not_charge_alone_later() {
    let mut pile = Pile::online();
    let (_, [one, two]) = asked(&mut pile);
    pile.bills_with(one, 0x4B);
    pile.receives(0x40);
    answers(&mut pile, 2, two, 5);
    pile.receives_nothing();
    charges(&mut pile, 2, two);
    assert_eq!(stopped(&mut pile), [2]);
}
