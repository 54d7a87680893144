//! A start that insists on a tariff.

use super::harness::*;
use crate::domain::command::Start;
use crate::domain::{CommandError, OrderState, Reply, Serial};
use crate::session::io::EndReason;

fn insisting(n: u8, gun_no: u8) -> Start {
    let fingerprint = policy(100_000).tariff.fingerprint();
    Start { gun: gun(gun_no), expected_tariff: Some(fingerprint), ..request(n) }
}

fn answers(pile: &mut Pile, result: u64) {
    pile.sends(0x57, &[("result", result)]);
}

#[test]
fn a_pile_gets_the_tariff_before_the_start_and_once_for_all_who_wait() {
    let mut pile = Pile::online();
    let (first, retry, other) =
        (pile.start(&insisting(1, 1)), pile.start(&insisting(1, 1)), pile.start(&insisting(2, 2)));
    let given = pile.receives(0x58);
    assert_eq!((given.get("peak_energy_price"), given.get("peak_service_price")), (100_000, 40_000));
    pile.receives_nothing();
    assert!(pile.store.borrow().orders.is_empty(), "nothing is begun");
    answers(&mut pile, 1);
    let (one, two) = (pile.receives(0x34), pile.receives(0x34));
    assert_eq!((one.get("gun_no"), two.get("gun_no")), (1, 2));
    pile.accepts(one.serial());
    assert_eq!((pile.started(first), pile.started(retry)), (OrderState::Starting, OrderState::Starting));
    pile.waits_still(other);
    let store = pile.store.borrow();
    let tariff = store.pile.as_ref().expect("stored").0.tariff;
    assert!(tariff.confirmed);
    assert_eq!(store.order(one.serial()).tariff, Some(policy(100_000).tariff.clone()), "its bill can be split");
}

#[test]
fn a_pile_that_has_confirmed_it_is_started_at_once() {
    let mut pile = Pile::online();
    pile.start(&insisting(1, 1));
    pile.receives(0x58);
    answers(&mut pile, 1);
    let serial = pile.receives(0x34).serial();
    pile.refuses(serial, 3);
    let mut next = pile.elsewhere();
    next.receives(0x02);
    next.start(&insisting(2, 1));
    next.receives(0x34);
}

#[test]
fn a_pile_that_refuses_it_starts_nothing_and_keeps_what_it_had() {
    let mut pile = Pile::online();
    let before = pile.session.pile.tariff;
    let id = pile.start(&insisting(1, 1));
    pile.receives(0x58);
    answers(&mut pile, 0);
    assert!(matches!(pile.reply(id), Err(CommandError::TariffNotCurrent { .. })));
    assert_eq!(pile.session.pile.tariff, before);
    assert!(pile.store.borrow().orders.is_empty());
    pile.receives_nothing();
    let id = pile.start(&Start { expected_tariff: Some(7), ..request(2) });
    let current = policy(100_000).tariff.fingerprint();
    assert_eq!(pile.reply(id), Err(CommandError::TariffNotCurrent { expected: 7, current }));
    pile.receives_nothing();
}

#[test]
fn a_tariff_that_is_not_answered_in_time_starts_nothing_even_if_the_answer_comes_later() {
    let mut pile = Pile::online();
    let id = pile.start(&insisting(1, 1));
    pile.receives(0x58);
    pile.advance(30);
    assert_eq!(pile.reply(id), Err(CommandError::DeadlinePassed), "nothing was started");
    answers(&mut pile, 1);
    pile.receives_nothing();
    // It is confirmed all the same.
    pile.start(&insisting(1, 1));
    pile.receives(0x34);

    let mut pile = Pile::online();
    let id = pile.start(&insisting(1, 1));
    pile.ends(EndReason::ConnectionClosed);
    assert_eq!(pile.reply(id), Err(CommandError::SessionLost { written: false }));
}

#[test]
fn a_late_no_is_not_the_answer_to_the_next_question() {
    let mut pile = Pile::online();
    pile.start(&insisting(1, 1));
    let given_up = pile.receives(0x58).sequence;
    pile.advance(30);
    let id = pile.start(&insisting(2, 1));
    let asked = pile.receives(0x58).sequence;
    assert_ne!(given_up, asked);
    pile.sends_frame(given_up, frame(0x57, Serial::NONE, &[("result", 0)]));
    pile.waits_still(id);
    pile.sends_frame(asked, frame(0x57, Serial::NONE, &[("result", 1)]));
    let serial = pile.receives(0x34).serial();
    pile.accepts(serial);
    assert!(matches!(pile.reply(id), Ok(Reply::Started(_))));
}

#[test]
fn a_no_to_a_question_nobody_waits_for_is_a_no() {
    let mut pile = Pile::online();
    let before = pile.session.pile.tariff;
    pile.start(&insisting(1, 1));
    let given_up = pile.receives(0x58).sequence;
    pile.advance(30);
    pile.sends_frame(given_up, frame(0x57, Serial::NONE, &[("result", 0)]));
    assert_eq!(pile.session.pile.tariff, before);
    pile.start(&insisting(1, 1));
    pile.receives(0x58);
}

#[test]
fn a_gun_that_was_taken_meanwhile_is_busy() {
    let mut pile = Pile::online();
    let id = pile.start(&insisting(1, 1));
    pile.receives(0x58);
    let plain = pile.start(&request(2));
    let serial: Serial = pile.receives(0x34).serial();
    answers(&mut pile, 1);
    assert!(matches!(pile.reply(id), Err(CommandError::GunBusy { .. })));
    pile.accepts(serial);
    assert!(matches!(pile.reply(plain), Ok(Reply::Started(_))));
}
