//! Which piles may log in: who is asked, and that nothing is claimed before that is known.

use std::sync::Arc;
use std::time::Duration;

use super::harness::*;
use super::ledger::Mode;
use crate::domain::order::Change;
use crate::session::Policy;
use crate::session::admission::{Admission, Admitting};
use crate::session::authority::Unanswered;
use crate::session::io::{Done, EndReason, Input};

/// Has sent 0x01 where somebody decides whether it may.
fn knocking(fallback: Admission) -> Pile {
    let admitting = Some(Admitting { deadline: Duration::from_secs(3), fallback });
    // Without a node that serves it already.
    let policy = Arc::new(Policy { admitting, ..(*policy(100_000)).clone() });
    let pile = Pile::connecting(Mode::Away).elsewhere_with(policy);
    assert!(pile.knocked && pile.calls.is_empty());
    pile
}

fn says(pile: &mut Pile, result: Result<Admission, Unanswered>) {
    pile.mode = Mode::Prompt;
    pile.input(Input::Done(Done::Admitted(result)));
}

#[test]
fn a_pile_is_claimed_once_it_may_log_in() {
    let mut pile = knocking(Admission::Refused);
    pile.sends(0x03, &[("gun_no", 1)]);
    pile.receives_nothing();
    assert_eq!((pile.registered, pile.store.borrow().owner), (None, None), "it is nobody's yet");
    says(&mut pile, Ok(Admission::Admitted));
    assert_eq!(pile.receives(0x02).get("result"), 0);
    assert!(pile.registered.is_some() && pile.store.borrow().owner.is_some());
    pile.advance(60);
    assert_eq!(pile.ended, None, "its deadline is over");
}

#[test]
fn a_pile_that_may_not_log_in_takes_nothing_from_its_owner() {
    let mut owner = Pile::online();
    let serial = owner.charging();
    let admitting = Some(Admitting { deadline: Duration::from_secs(3), fallback: Admission::Refused });
    let mut stranger = owner.elsewhere_with(Arc::new(Policy { admitting, ..(*policy(100_000)).clone() }));
    says(&mut stranger, Ok(Admission::Refused));
    assert_eq!(stranger.receives(0x02).get("result"), 1);
    assert_eq!(stranger.ended, Some(EndReason::Refused));
    assert!(stranger.session.is_done(), "nothing is left of it");
    assert!(stranger.absent().is_none());
    owner.bills(serial);
    owner.receives(0x40);
    assert_eq!(owner.store.borrow().changes(serial).last(), Some(&Change::Settled));
    assert_eq!(owner.ended, None);
}

#[test]
fn if_nobody_answers_what_is_configured_counts() {
    for (fallback, result) in [(Admission::Admitted, 0), (Admission::Refused, 1)] {
        for why in [Unanswered::TimedOut, Unanswered::Unreachable, Unanswered::Nonsense] {
            let mut pile = knocking(fallback);
            says(&mut pile, Err(why));
            assert_eq!(pile.receives(0x02).get("result"), result, "{why:?}");
        }
        // Nor does the question come back.
        let mut pile = knocking(fallback);
        pile.mode = Mode::Prompt;
        pile.advance(2);
        pile.receives_nothing();
        pile.advance(1);
        assert_eq!(pile.receives(0x02).get("result"), result);
        says(&mut pile, Ok(Admission::Admitted));
        pile.receives_nothing();
    }
}

#[test]
fn a_connection_that_went_meanwhile_claims_nothing() {
    let mut pile = knocking(Admission::Admitted);
    pile.ends(EndReason::ConnectionClosed);
    assert!(pile.session.is_done());
    says(&mut pile, Ok(Admission::Admitted));
    assert_eq!(pile.store.borrow().owner, None);
}
