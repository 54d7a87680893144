//! One vehicle on several guns: the pile asks for each of them.

use super::*;

fn online_with_guns(guns: u8) -> Pile {
    let mut pile = online();
    pile.sends_frame(Sequence([1, 1]), login_request(guns));
    assert_eq!(pile.receives(0x02).get("result"), 0);
    pile
}

fn swipes_parallel(pile: &mut Pile, gun: u64, number: u64) -> Sequence {
    let fields = [("gun_no", gun), ("start_mode", 1), ("account_or_card", CARD), ("gun_role", gun - 1)];
    let number = [("parallel_no", number)];
    pile.sends(0xA1, &[&fields[..], &number[..]].concat())
}

#[test]
fn each_gun_of_one_vehicle_is_asked_about_and_gets_an_order_of_its_own() {
    let mut pile = online();
    swipes_parallel(&mut pile, 1, 0x24);
    swipes_parallel(&mut pile, 2, 0x24);
    let first = pile.authority_says(yes());
    let second = pile.authority_says(yes());
    let number = [0x24, 0, 0, 0, 0, 0];
    assert_eq!(first.parallel, Some(Parallel { number, role: Role::Main }));
    assert_eq!(second.parallel, Some(Parallel { number, role: Role::Auxiliary }));
    for ask in [&first, &second] {
        let told = pile.receives(0xA2);
        assert_eq!((told.serial(), told.get("auth_result"), told.get("parallel_no")), (ask.serial, 1, 0x24));
        assert_eq!(pile.store.borrow().order(ask.serial).at_pile.as_ref().expect("kept").parallel_no, Some(number));
    }
    assert_eq!((first.gun, second.gun), (gun(1), gun(2)));
}

#[test]
fn a_stop_of_one_gun_stops_the_others_of_its_vehicle() {
    let mut pile = online_with_guns(3);
    for (gun, number) in [(1, 0x24), (2, 0x24), (3, 0x25)] {
        swipes_parallel(&mut pile, gun, number);
    }
    let serials = [(); 3].map(|()| pile.authority_says(yes()).serial);
    for (gun, serial) in (1..).zip(serials) {
        pile.receives(0xA2);
        pile.sends_of(serial, 0x13, &[("gun_no", gun), ("status", 3)]);
    }
    pile.stop(serials[1]);
    let stopped: Vec<_> = pile.all_received().iter().map(|down| (down.frame.code(), down.get("gun_no"))).collect();
    assert_eq!(stopped, [(0x36, 2), (0x36, 1)]);
    // One that is asked about anew takes no other with it: that is for the pile to say.
    let mut pile = online();
    for gun in [1, 2] {
        swipes_parallel(&mut pile, gun, 0x24);
        pile.authority_says(yes());
        pile.receives(0xA2);
    }
    swipes_parallel(&mut pile, 1, 0x26);
    pile.receives_nothing();
}

#[test]
fn no_number_or_one_of_long_ago_makes_no_vehicle_of_two_drivers() {
    for (number, later) in [(0, 0), (0x24, 600)] {
        let mut pile = online();
        for gun in [1, 2] {
            swipes_parallel(&mut pile, gun, number);
            let serial = pile.authority_says(yes()).serial;
            pile.receives(0xA2);
            pile.sends_of(serial, 0x13, &[("gun_no", gun), ("status", 3)]);
            pile.receives_nothing();
            // The first one ends, and never settles.
            pile.stop(serial);
            pile.receives(0x36);
            pile.idles();
            pile.advance(later);
        }
    }
}

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
fn a_no_to_one_driver_is_none_to_another_where_the_pile_gives_no_number() {
    let mut pile = online_with_guns(4);
    swipes_parallel(&mut pile, 1, 0);
    let told = pile.authority_says(yes()).serial;
    assert_eq!(pile.receives(0xA2).get("auth_result"), 1);
    for gun in [2, 3] {
        swipes_parallel(&mut pile, gun, 0);
    }
    pile.authority_says(no(Denial::InsufficientBalance));
    let denied = pile.receives(0xA2);
    assert_eq!((denied.get("gun_no"), denied.get("auth_result"), denied.get("fail_reason")), (2, 0, 3));
    pile.receives_nothing();
    assert_eq!(pile.order_state(told), OrderState::Starting, "it may charge");
    // One that was asked about before, and one that comes later.
    let asked_before = pile.authority_says(yes());
    swipes_parallel(&mut pile, 4, 0);
    let came_later = pile.authority_says(yes());
    for ask in [asked_before, came_later] {
        let granted = pile.receives(0xA2);
        assert_eq!((granted.serial(), granted.get("auth_result"), granted.get("parallel_no")), (ask.serial, 1, 0));
        assert_eq!(ask.parallel.map(|parallel| parallel.number), Some([0; 6]), "it is asked about as the pile did");
    }
    // The driver who was denied asks again.
    swipes_parallel(&mut pile, 2, 0);
    assert_eq!(pile.receives(0xA2).get("fail_reason"), 3);
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
