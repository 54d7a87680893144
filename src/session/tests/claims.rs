//! Sessions that say again that they are there: after a lapse of their node, and after the store has lost writes.

use super::harness::*;
use super::ledger::Mode;
use crate::domain::order::Change;
use crate::domain::pile::Presence;
use crate::domain::{CommandError, Order, OrderState, Reply};
use crate::session::io::{EndReason, Input, Patience, Reassertion};

#[test]
fn a_session_that_nobody_has_touched_keeps_its_fence_and_writes_nothing() {
    let mut pile = Pile::online();
    let (before, written) = (pile.registered, pile.store.borrow().written);
    pile.input(Input::Reassert { anew: false });
    assert_eq!((pile.reasserted.as_slice(), pile.registered), (&[Reassertion::Kept][..], before));
    pile.idles();
    pile.input(Input::Reassert { anew: false });
    assert_eq!(pile.store.borrow().written, written + 1, "the gun's state only");
}

#[test]
fn after_a_loss_of_writes_the_epoch_goes_up_and_what_was_lost_is_written_again() {
    let mut pile = Pile::online();
    let serial = pile.charging();
    let before = pile.registered.expect("registered");
    pile.store.borrow_mut().loses(&[serial]);
    pile.input(Input::Reassert { anew: true });
    let after = pile.registered.expect("registered");
    assert!(after.epoch > before.epoch && after.session == before.session, "{after:?}");
    assert_eq!(pile.store.borrow().owner, Some(after));
    assert_eq!(pile.order_state(serial), OrderState::Charging);
    assert!(pile.store.borrow().pile.is_some());
    // The request id is there again too: a retry on any node starts nothing.
    pile.bills(serial);
    pile.receives(0x40);
    let mut retry = pile.elsewhere();
    retry.receives(0x02);
    let id = retry.start(&request(1));
    retry.receives_nothing();
    assert_eq!(retry.reply(id), Ok(Reply::StartedBefore { serial }));
}

/// Its order is lost with what started it, and is billed while the fence is in doubt: what started it is to be put again.
fn settled_without_its_start() -> (Pile, Order) {
    let mut pile = Pile::online();
    let serial = pile.charging();
    let before = pile.store.borrow().order(serial).clone();
    pile.store.borrow_mut().loses(&[serial]);
    pile.mode = Mode::Slow;
    pile.input(Input::Reassert { anew: true });
    pile.store_answers();
    // The order turns out to be lost, and while it is put again, the fence is lost once more.
    pile.store_answers();
    pile.store.borrow_mut().loses(&[]);
    pile.store_answers();
    pile.store_answers_as(Mode::Away);
    pile.bills(serial);
    pile.store_answers();
    pile.receives(0x40);
    (pile, before)
}

#[test]
fn a_record_of_an_order_that_the_store_has_lost_settles_that_order_and_no_strangers() {
    let (mut pile, before) = settled_without_its_start();
    let store = pile.store.borrow();
    let settled = store.order(before.serial);
    assert_eq!(settled.state, OrderState::Settled);
    assert_eq!((&settled.order_id, settled.request), (&before.order_id, before.request));
    drop(store);
    pile.store_returns();
    pile.advance(2);
    let request = before.request.expect("somebody asked for it");
    assert_eq!(pile.store.borrow().attempts[&request.id].serial, before.serial, "it starts nothing again");
}

#[test]
fn a_session_that_ends_still_puts_again_what_the_store_has_lost_of_a_start() {
    for reason in [EndReason::ConnectionClosed, EndReason::TakenOver] {
        let (mut pile, before) = settled_without_its_start();
        let request = before.request.expect("somebody asked for it");
        assert!(!pile.store.borrow().attempts.contains_key(&request.id), "the fence is in doubt");
        pile.ends(reason);
        assert!(!pile.session.is_done(), "{reason:?}");
        pile.store_returns();
        assert!(pile.session.is_done(), "{reason:?}");
        assert_eq!(pile.store.borrow().attempts[&request.id].serial, before.serial, "{reason:?}");
    }
}

#[test]
fn a_fence_the_store_does_not_know_is_no_reason_to_end_but_to_ask() {
    let mut pile = Pile::online();
    let serial = pile.charging();
    pile.store.borrow_mut().loses(&[]);
    pile.sends_of(serial, 0x19, &[("gun_no", 1)]);
    assert_eq!(pile.ended, None);
    assert_eq!(pile.order_state(serial), OrderState::Finished);
    let finished = pile.store.borrow().changes(serial).into_iter().filter(|c| *c == Change::Finished).count();
    assert_eq!(finished, 1);
}

#[test]
fn a_pile_that_was_swept_during_a_lapse_is_told_to_be_online_again() {
    let mut pile = Pile::online();
    {
        let mut store = pile.store.borrow_mut();
        store.owner = None;
        let (pile, version) = store.pile.as_mut().expect("stored");
        (pile.presence, *version) = (Presence::Offline, *version + 1);
    }
    pile.input(Input::Reassert { anew: false });
    assert_eq!(pile.reasserted, [Reassertion::Kept]);
    assert_eq!(pile.events(), ["online", "online"]);
    assert!(pile.store.borrow().pile.as_ref().is_some_and(|(pile, _)| pile.presence == Presence::Online));
    pile.input(Input::Reassert { anew: false });
    assert_eq!(pile.events().len(), 2, "once");
}

#[test]
fn an_order_that_was_settled_elsewhere_meanwhile_is_let_go() {
    let mut pile = Pile::online();
    let serial = pile.charging();
    {
        let mut store = pile.store.borrow_mut();
        let (order, version) = store.orders.get_mut(&serial).expect("stored");
        (order.state, *version) = (OrderState::ClosedWithoutRecord, 9);
    }
    pile.input(Input::Reassert { anew: true });
    assert!(pile.session.orders.is_empty());
    assert_eq!(pile.order_state(serial), OrderState::ClosedWithoutRecord);
}

#[test]
fn somebody_newer_ends_the_session() {
    let mut pile = Pile::online();
    let (id, _) = pile.starting();
    pile.store.borrow_mut().somebody_claims();
    pile.input(Input::Reassert { anew: true });
    assert_eq!((pile.reasserted.as_slice(), pile.ended), (&[Reassertion::Lost][..], Some(EndReason::TakenOver)));
    assert_eq!(pile.reply(id), Err(CommandError::SessionLost { written: true }));
    assert!(pile.session.is_done() && pile.absent().is_none());
}

#[test]
fn a_start_the_store_has_lost_starts_nothing_with_whoever_has_the_pile_by_now() {
    // It finds out by itself, or is told.
    for news in [Input::Reassert { anew: true }, Input::End(EndReason::TakenOver)] {
        let mut pile = Pile::online();
        let serial = pile.charging();
        pile.store.borrow_mut().loses(&[serial]);
        // The pile logs in elsewhere before this session has told the store of its order again.
        let mut newer = pile.elsewhere();
        newer.receives(0x02);
        pile.input(news);
        assert_eq!(pile.ended, Some(EndReason::TakenOver));
        assert!(pile.session.is_done());
        assert_eq!(pile.order_state(serial), OrderState::Charging);
        let id = newer.start(&request(1));
        newer.receives_nothing();
        assert_eq!(newer.reply(id), Ok(Reply::StartedBefore { serial }));
        // It goes on under the order it was started with.
        newer.charges(serial);
        assert_eq!(newer.session.orders.len(), 1);
        newer.bills(serial);
        newer.receives(0x40);
        assert_eq!(newer.order_state(serial), OrderState::Settled);
    }
}

#[test]
fn a_start_the_store_has_lost_starts_nothing_either_if_its_order_came_back_without_it() {
    // Billed to nobody, or found by its serial; and the session that started it has lost the pile, or gets it back.
    for (billed, back) in [(true, false), (false, false), (true, true), (false, true)] {
        let mut pile = Pile::online();
        let serial = pile.charging();
        pile.store.borrow_mut().loses(&[serial]);
        let mut newer = pile.elsewhere();
        newer.receives(0x02);
        if billed {
            newer.bills(serial);
            newer.receives(0x40);
        } else {
            newer.charges(serial);
        }
        assert_eq!(pile.store.borrow().order(serial).request, None);
        if back {
            (pile.store.borrow_mut().owner, pile.store.borrow_mut().epoch) = (None, 0);
        }
        pile.input(Input::Reassert { anew: true });
        assert_eq!(pile.ended, (!back).then_some(EndReason::TakenOver));
        let mut retry = pile.elsewhere();
        retry.receives(0x02);
        if !billed {
            // Its gun is free again.
            retry.bills(serial);
            retry.receives(0x40);
        }
        let id = retry.start(&request(1));
        retry.receives_nothing();
        assert_eq!(retry.reply(id), Ok(Reply::StartedBefore { serial }), "billed first: {billed}, back: {back}");
        assert_eq!(retry.order_state(serial), OrderState::Settled);
    }
}

#[test]
fn who_loses_the_pile_after_the_store_has_lost_its_order_puts_it_again_with_what_was_still_to_be_told() {
    for (name, news) in endings() {
        let mut pile = Pile::online();
        let serial = pile.charging();
        let told = pile.store.borrow().changes(serial).len();
        pile.mode = Mode::Away;
        pile.sends_of(serial, 0x19, &[("gun_no", 1)]);
        pile.input(news);
        pile.store.borrow_mut().loses(&[serial]);
        pile.store.borrow_mut().somebody_claims();
        pile.mode = Mode::Prompt;
        pile.advance(3);
        assert!(pile.session.has_ended() && pile.session.is_done(), "{name}");
        let store = pile.store.borrow();
        assert_eq!(store.order(serial).state, OrderState::Finished, "{name}");
        assert!(store.attempts.values().any(|attempt| attempt.serial == serial), "{name}");
        assert_eq!(store.changes(serial)[told..], [Change::Finished], "{name}");
    }
}

#[test]
fn what_was_still_to_be_told_of_an_order_somebody_else_goes_on_with_is_not_told() {
    for (name, news) in endings() {
        let mut pile = Pile::online();
        let serial = pile.charging();
        pile.mode = Mode::Away;
        pile.sends_of(serial, 0x19, &[("gun_no", 1)]);
        pile.input(news);
        pile.store.borrow_mut().somebody_claims();
        pile.mode = Mode::Prompt;
        pile.advance(3);
        assert!(pile.session.is_done(), "{name}");
        assert_eq!(pile.store.borrow().changes(serial).last(), Some(&Change::Charging), "{name}");
        assert_eq!(pile.order_state(serial), OrderState::Charging, "{name}");
    }
}

#[test]
fn an_order_that_is_put_again_under_a_session_is_watched_over_by_it_once_it_has_asked() {
    let mut old = Pile::online();
    let (_, serial) = old.starting();
    let lost = old.store.borrow().order(serial).clone();
    old.store.borrow_mut().loses(&[serial]);
    let mut pile = old.elsewhere();
    pile.receives(0x02);
    pile.store.borrow_mut().orders.insert(serial, (lost, 1));
    pile.input(Input::Reassert { anew: false });
    assert_eq!(pile.reasserted, [Reassertion::Kept]);
    pile.advance(90);
    assert_eq!(pile.order_state(serial), OrderState::Failed, "its time runs out");
}

#[test]
fn an_order_found_by_its_serial_learns_who_wanted_it_whichever_session_is_first() {
    for stored_first in [false, true] {
        let mut pile = Pile::online();
        let serial = pile.charging();
        let before = pile.store.borrow().order(serial).clone();
        pile.store.borrow_mut().loses(&[serial]);
        let mut newer = pile.elsewhere();
        newer.receives(0x02);
        newer.mode = Mode::Slow;
        newer.charges(serial);
        while newer.session.orders.is_empty() {
            newer.store_answers();
        }
        assert!(!newer.session.has(&before), "it does not know how the order began");
        if stored_first {
            newer.store_returns();
        }
        pile.input(Input::End(EndReason::TakenOver));
        newer.store_returns();
        newer.sends_of(serial, 0x19, &[("gun_no", 1)]);
        {
            let store = newer.store.borrow();
            let order = store.order(serial);
            assert_eq!(order.state, OrderState::Finished);
            assert_eq!((order.request, &order.order_id), (before.request, &before.order_id), "{stored_first}");
        }
        newer.bills(serial);
        newer.receives(0x40);
        assert_eq!(newer.store.borrow().order(serial).request, before.request, "{stored_first}");
    }
}

#[test]
fn an_order_that_is_known_to_be_lost_is_put_again_by_who_loses_the_pile_before_it_could() {
    let mut pile = Pile::online();
    let serial = pile.charging();
    let owner = pile.store.borrow().owner;
    pile.store.borrow_mut().loses(&[serial]);
    pile.store.borrow_mut().owner = owner;
    pile.mode = Mode::Slow;
    pile.sends_of(serial, 0x19, &[("gun_no", 1)]);
    pile.store_answers();
    assert!(pile.session.orders.iter().all(|held| held.lost), "it was not there");
    pile.store_answers_as(Mode::Away);
    pile.store.borrow_mut().somebody_claims();
    pile.input(Input::Reassert { anew: true });
    pile.mode = Mode::Prompt;
    pile.store_returns();
    pile.advance(3);
    assert_eq!(pile.ended, Some(EndReason::TakenOver));
    assert_eq!(pile.order_state(serial), OrderState::Finished);
}

#[test]
fn a_charge_whose_order_was_taken_for_failed_meanwhile_goes_on() {
    let mut pile = Pile::online();
    let (_, serial) = pile.starting();
    if let Some((order, version)) = pile.store.borrow_mut().orders.get_mut(&serial) {
        (order.state, *version) = (OrderState::Failed, *version + 1);
    }
    pile.accepts(serial);
    pile.charges(serial);
    assert_eq!(pile.session.orders.len(), 1);
    assert_eq!(pile.order_state(serial), OrderState::Charging);
}

#[test]
fn who_hands_the_pile_over_puts_its_order_again_if_the_store_has_lost_it() {
    // Drained, or hung up before that: nobody here watches over the pile then.
    for (patience, then) in [(Patience::Answers, None), (Patience::Idle, Some(EndReason::ConnectionClosed))] {
        let mut pile = Pile::online();
        let serial = pile.charging();
        pile.store.borrow_mut().loses(&[serial]);
        pile.input(Input::Drain(patience));
        if let Some(reason) = then {
            pile.ends(reason);
        }
        assert!(pile.session.is_done());
        assert_eq!(pile.order_state(serial), OrderState::Charging);
        assert!(pile.absent().is_none());
    }
}

fn endings() -> [(&'static str, Input); 4] {
    [
        ("told to go", Input::End(EndReason::TakenOver)),
        ("found out by itself", Input::Reassert { anew: true }),
        ("hung up", Input::End(EndReason::ConnectionClosed)),
        ("drained", Input::Drain(Patience::Answers)),
    ]
}

#[test]
fn while_the_store_does_not_say_it_is_asked_once_a_second_and_the_pile_is_served() {
    let mut pile = Pile::online();
    pile.mode = Mode::Away;
    pile.input(Input::Reassert { anew: true });
    assert_eq!(pile.reasserted, [Reassertion::Unknown]);
    pile.sends(0x03, &[("gun_no", 1)]);
    pile.receives(0x04);
    pile.advance(3);
    assert_eq!(pile.reasserted.len(), 4);
    pile.mode = Mode::Prompt;
    let before = pile.registered;
    pile.advance(1);
    assert_eq!(pile.reasserted.last(), Some(&Reassertion::Kept));
    assert_ne!(pile.registered, before, "it was anew that was asked for");
}

#[test]
fn a_claim_whose_session_ended_meanwhile_has_somebody_behind_it() {
    let mut pile = Pile::online();
    pile.mode = Mode::Slow;
    pile.input(Input::Reassert { anew: true });
    pile.ends(EndReason::ConnectionClosed);
    assert!(!pile.session.is_done());
    pile.store_answers();
    let owner = pile.store.borrow().owner;
    assert_eq!(pile.absent().map(|absent| absent.fence), owner);
}

#[test]
fn a_drained_session_goes_when_its_guns_are_idle_and_is_reported_by_nobody_here() {
    let mut pile = Pile::online();
    let serial = pile.charging();
    pile.input(Input::Drain(Patience::Idle));
    assert_eq!(pile.ended, None, "it charges");
    let start = pile.start(&request(9));
    assert_eq!(pile.reply(start), Err(CommandError::SessionLost { written: false }), "whoever is next starts it");
    pile.sends_of(serial, 0x19, &[("gun_no", 1)]);
    pile.bills(serial);
    assert_eq!(pile.ended, Some(EndReason::Drained));
    assert!(pile.session.is_done());
    assert_eq!(pile.order_state(serial), OrderState::Settled);
    assert_eq!(pile.events().iter().filter(|name| **name == "offline").count(), 0);
    assert!(pile.absent().is_none());
}

#[test]
fn a_drained_session_waits_for_a_start_or_stop_that_is_being_answered() {
    let mut pile = Pile::online();
    let (start, serial) = pile.starting();
    pile.input(Input::Drain(Patience::Answers));
    assert_eq!(pile.ended, None);
    pile.accepts(serial);
    assert_eq!((pile.started(start), pile.ended), (OrderState::Starting, Some(EndReason::Drained)));

    let mut pile = Pile::online();
    let serial = pile.charging();
    let stop = pile.stop(serial);
    pile.input(Input::Drain(Patience::Answers));
    pile.advance(9);
    assert_eq!(pile.ended, None);
    pile.advance(1);
    assert_eq!(pile.reply(stop), Err(CommandError::OutcomeUnknown { serial: Some(serial) }));
    assert_eq!(pile.ended, Some(EndReason::Drained), "no longer than its deadline");
    Pile::online().input(Input::Drain(Patience::Idle));
}

#[test]
fn a_start_that_met_a_lost_fence_leaves_its_gun_free() {
    let mut pile = Pile::online();
    pile.store.borrow_mut().owner = None;
    let id = pile.start(&request(1));
    assert_eq!(pile.reply(id), Err(CommandError::SessionLost { written: false }));
    pile.receives_nothing();
    pile.starting();
}

#[test]
fn what_is_remembered_is_put_again_until_the_store_takes_it() {
    let mut pile = Pile::online();
    let serial = pile.charging();
    pile.store.borrow_mut().loses(&[serial]);
    pile.mode = Mode::Away;
    pile.ends(EndReason::TakenOver);
    assert!(!pile.session.is_done());
    pile.mode = Mode::Prompt;
    pile.advance(2);
    assert_eq!(pile.order_state(serial), OrderState::Charging);
    assert!(pile.session.is_done());
}

#[test]
fn a_bill_that_waits_when_somebody_newer_turns_out_to_be_there_is_settled_all_the_same() {
    let mut pile = Pile::online();
    let serial = pile.charging();
    pile.mode = Mode::Slow;
    pile.input(Input::Reassert { anew: false });
    pile.bills(serial);
    pile.store.borrow_mut().somebody_claims();
    pile.store_answers();
    assert_eq!(pile.ended, Some(EndReason::TakenOver));
    pile.store_returns();
    assert_eq!(pile.order_state(serial), OrderState::Settled);
}
