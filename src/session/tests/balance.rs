//! A new balance in mid-charge: the pile's own answer, and durable after it.

use super::harness::*;
use crate::domain::command::NewBalance;
use crate::domain::{Command, CommandError, OrderState, Reply, Serial};
use crate::wire::Sequence;

fn update(pile: &mut Pile, serial: Serial, fen: u32) -> u64 {
    pile.command(Command::UpdateBalance(NewBalance { serial, fen, physical_card: [0, 0, 0, 0, 1, 2, 3, 4] }), 10)
}

fn answer(pile: &mut Pile, sequence: Sequence, result: u64) {
    pile.sends_frame(sequence, frame(0x41, Serial::NONE, &[("result", result)]));
}

#[test]
fn a_pile_that_takes_a_new_balance_has_it_on_its_order_durably() {
    let mut pile = Pile::online();
    let serial = pile.charging();
    assert_eq!(pile.store.borrow().order(serial).balance_fen, Some(10_000));
    let id = update(&mut pile, serial, 25_000);
    let asked = pile.receives(0x42);
    assert_eq!((asked.get("gun_no"), asked.get("new_balance")), (1, 25_000));
    assert_eq!(asked.get("physical_card"), 0x0403_0201_0000_0000);
    pile.waits_still(id);
    assert_eq!(pile.store.borrow().order(serial).balance_fen, Some(10_000), "not before the pile has said yes");
    answer(&mut pile, asked.sequence, 0);
    let Ok(Reply::BalanceUpdated(order)) = pile.reply(id) else { panic!("updated") };
    assert_eq!(order.balance_fen, Some(25_000));
    assert_eq!(pile.store.borrow().order(serial).balance_fen, Some(25_000));
}

#[test]
fn what_the_pile_refuses_changes_nothing() {
    let mut pile = Pile::online();
    let serial = pile.charging();
    for (code, name) in [(1, "wrong pile code"), (2, "wrong card number"), (9, "unknown result")] {
        let id = update(&mut pile, serial, 1);
        let sequence = pile.receives(0x42).sequence;
        answer(&mut pile, sequence, code);
        let refused = CommandError::PileRejected { frame: 0x41, code: code as u8, name: name.into() };
        assert_eq!(pile.reply(id), Err(refused));
    }
    assert_eq!(pile.store.borrow().order(serial).balance_fen, Some(10_000));
}

#[test]
fn one_answer_is_awaited_at_a_time_and_a_late_one_answers_nobody() {
    let mut pile = Pile::online();
    let serial = pile.charging();
    let first = update(&mut pile, serial, 1);
    let late = pile.receives(0x42).sequence;
    let second = update(&mut pile, serial, 2);
    assert!(matches!(pile.reply(second), Err(CommandError::PileBusy { .. })));
    pile.advance(10);
    assert_eq!(pile.reply(first), Err(CommandError::OutcomeUnknown { serial: Some(serial) }));
    let third = update(&mut pile, serial, 3);
    let sequence = pile.receives(0x42).sequence;
    answer(&mut pile, late, 2);
    pile.waits_still(third);
    answer(&mut pile, sequence, 0);
    assert!(pile.reply(third).is_ok());
    assert_eq!(pile.store.borrow().order(serial).balance_fen, Some(3));
}

#[test]
fn only_what_starts_or_charges_has_a_balance_to_update() {
    let mut pile = Pile::online();
    let refused = |pile: &mut Pile, serial| {
        let id = update(pile, serial, 5);
        matches!(pile.reply(id), Err(CommandError::OrderNotActive { .. }))
    };
    assert!(refused(&mut pile, foreign(1)));
    let (_, serial) = pile.starting();
    update(&mut pile, serial, 5);
    let sequence = pile.receives(0x42).sequence;
    answer(&mut pile, sequence, 0);
    pile.accepts(serial);
    pile.charges(serial);
    pile.stop(serial);
    pile.receives(0x36);
    assert!(refused(&mut pile, serial));
    pile.idles();
    assert_eq!(pile.order_state(serial), OrderState::Finished);
    assert!(refused(&mut pile, serial));
    pile.receives_nothing();
}
