//! A vehicle on two guns, started at the pile: what a no to one of them means for the others.

use super::authorise::*;
use crate::domain::order::Failure;
use crate::session::authority::Denial;

#[test]
fn one_gun_denied_is_all_guns_of_the_vehicle_denied() {
    let mut pile = online_with_guns(4);
    for gun in 1..=3 {
        swipes_parallel(&mut pile, gun, 0x24);
    }
    let told = pile.authority_says(yes()).serial;
    assert_eq!(pile.receives(0xA2).get("auth_result"), 1);
    pile.authority_says(no(Denial::InsufficientBalance));
    for gun in [2, 3] {
        let denied = pile.receives(0xA2);
        assert_eq!((denied.get("gun_no"), denied.get("auth_result"), denied.get("fail_reason")), (gun, 0, 3));
    }
    assert_eq!(pile.store.borrow().order(told).failure, Some(Failure::NotSent), "it will not charge");
    pile.authority_says(yes());
    pile.receives_nothing();
    // One that comes later, and one that repeats itself.
    for gun in [4, 1] {
        swipes_parallel(&mut pile, gun, 0x24);
        assert_eq!(pile.receives(0xA2).get("fail_reason"), 3, "gun {gun}");
    }
    assert!(pile.asked.is_empty());
    // Another attempt is another one.
    swipes_parallel(&mut pile, 1, 0x25);
    assert_eq!(pile.asked.len(), 1);
}

#[test]
fn a_gun_denied_with_its_vehicle_has_asked_anew_all_the_same() {
    // It was told yes for something else, or was to be.
    for told in [true, false] {
        let mut pile = online();
        swipes(&mut pile, 2, CARD + 1);
        let before = pile.asked.front().expect("asked").serial;
        if told {
            pile.authority_says(yes());
            pile.receives(0x32);
        }
        swipes_parallel(&mut pile, 1, 0x24);
        // It is the last that is answered first.
        pile.asked.rotate_right(1);
        pile.authority_says(no(Denial::AccountFrozen));
        assert_eq!(pile.receives(0xA2).get("gun_no"), 1);
        swipes_parallel(&mut pile, 2, 0x24);
        assert_eq!(pile.receives(0xA2).get("fail_reason"), 2);
        if told {
            assert_eq!(pile.store.borrow().order(before).failure, Some(Failure::NotSent), "it will not charge");
        } else {
            pile.authority_says(yes());
            pile.receives_nothing();
        }
        // A minute after the first question that is over for both.
        pile.advance(60);
        swipes_parallel(&mut pile, 2, 0x24);
        assert_eq!(pile.asked.len(), 1);
    }
}
