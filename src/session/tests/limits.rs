//! How far a charge may go: in the start where the pile understands it, watched here where it does not.

use super::harness::*;
use crate::domain::command::{NewBalance, Start};
use crate::domain::order::{Change, Limits, StopCause};
use crate::domain::{Amount, Command, CommandError, Energy, OrderState, Reply, Serial};

fn limited(limits: Limits) -> Start {
    Start { limits, ..request(1) }
}

/// Charges under these limits, on a pile of V1.6.
fn charging(pile: &mut Pile, limits: Limits) -> Serial {
    let id = pile.start(&limited(limits));
    let serial = pile.receives(0x34).serial();
    pile.accepts(serial);
    pile.started(id);
    metered(pile, serial, 0, 0, 0);
    serial
}

fn metered(pile: &mut Pile, serial: Serial, energy: u64, amount: u64, soc: u64) {
    let fields = [("gun_no", 1), ("status", 3), ("energy", energy), ("amount", amount), ("soc", soc)];
    pile.sends_of(serial, 0x13, &fields);
}

#[track_caller]
fn stopped(pile: &mut Pile, serial: Serial, cause: StopCause) {
    assert_eq!(pile.receives(0x36).get("gun_no"), 1);
    pile.receives_nothing();
    let store = pile.store.borrow();
    let order = store.order(serial);
    assert_eq!((order.state, order.stop.map(|stop| stop.cause)), (OrderState::Stopping, Some(cause)));
    assert_eq!(store.changes(serial).last(), Some(&Change::StopRequested));
}

#[test]
fn what_a_pile_of_v1_6_is_not_told_is_ended_here() {
    let amount = Limits { amount: Some(Amount(100)), ..Limits::default() };
    let energy = Limits { energy: Some(Energy(100)), ..Limits::default() };
    let soc = Limits { soc_percent: Some(80), ..Limits::default() };
    let all =
        Limits { amount: Some(Amount(100)), energy: Some(Energy(100)), soc_percent: Some(80), ..Limits::default() };
    for (limits, reached, cause) in [
        (amount, (500, 100, 99), StopCause::LimitAmount),
        (energy, (100, 500, 99), StopCause::LimitEnergy),
        (soc, (500, 500, 80), StopCause::LimitSoc),
        (all, (99, 99, 80), StopCause::LimitSoc),
    ] {
        let mut pile = Pile::online();
        let serial = charging(&mut pile, limits);
        metered(&mut pile, serial, 99, 99, 79);
        pile.receives_nothing();
        metered(&mut pile, serial, reached.0, reached.1, reached.2);
        stopped(&mut pile, serial, cause);
        // Repeated like any stop.
        metered(&mut pile, serial, 501, 501, 99);
        pile.advance(5);
        pile.receives(0x36);
        pile.bills(serial);
        pile.receives(0x40);
    }
}

#[test]
fn a_charge_lasts_as_long_as_it_may_from_its_first_energy_on_also_over_a_reconnect() {
    let limits = Limits { duration_s: Some(100), ..Limits::default() };
    let mut pile = Pile::online();
    let serial = charging(&mut pile, limits);
    pile.advance(99);
    pile.receives_nothing();
    pile.advance(1);
    stopped(&mut pile, serial, StopCause::LimitDuration);

    let mut pile = Pile::online();
    let serial = charging(&mut pile, limits);
    let mut next = pile.elsewhere();
    next.receives(0x02);
    // What its gun charges by now is not known: nothing is stopped for that.
    next.advance(100);
    next.receives_nothing();
    next.charges(serial);
    stopped(&mut next, serial, StopCause::LimitDuration);
}

#[test]
fn a_limit_stops_nobody_else_on_the_gun() {
    let limits = Limits { duration_s: Some(100), ..Limits::default() };
    let mut pile = Pile::online();
    let serial = charging(&mut pile, limits);
    pile.charges(foreign(1));
    pile.advance(100);
    pile.receives_nothing();
    let stop = pile.stop(serial);
    assert!(matches!(pile.reply(stop), Err(CommandError::OrderNotActive { .. })));
    pile.charges(serial);
    stopped(&mut pile, serial, StopCause::LimitDuration);
}

#[test]
fn a_pile_of_v1_8_gets_its_limits_with_the_start_and_holds_them_itself() {
    let mut pile = Pile::online();
    pile.speaks(18);
    let limits = Limits {
        amount: Some(Amount(9_000)),
        energy: Some(Energy(123_400)),
        soc_percent: Some(85),
        max_power_w: Some(60_000),
        ..Limits::default()
    };
    let id = pile.start(&limited(limits));
    let start = pile.receives(0xA8);
    let fields = ["max_power", "soc_limit", "energy_limit", "balance"].map(|field| start.get(field));
    assert_eq!(fields, [60, 85, 123_400, 10_000]);
    let serial = start.serial();
    pile.sends_of(serial, 0xA7, &[("gun_no", 1), ("start_result", 1)]);
    assert_eq!(pile.started(id), OrderState::Starting);
    metered(&mut pile, serial, 500_000, 100, 99);
    pile.receives_nothing();
    // What the frame has no room for is ended here all the same.
    metered(&mut pile, serial, 500_000, 9_000, 99);
    stopped(&mut pile, serial, StopCause::LimitAmount);

    let mut pile = Pile::online();
    pile.speaks(18);
    pile.start(&request(1));
    let start = pile.receives(0xA8);
    assert_eq!(["max_power", "soc_limit", "energy_limit"].map(|field| start.get(field)), [0, 0, 0], "none");
}

#[test]
fn a_power_limit_is_nothing_for_an_older_pile_and_nothing_is_started_then() {
    let mut pile = Pile::online();
    let id = pile.start(&limited(Limits { max_power_w: Some(1000), ..Limits::default() }));
    assert!(matches!(pile.reply(id), Err(CommandError::UnsupportedByPile { version: 16, .. })));
    pile.receives_nothing();
    assert!(pile.store.borrow().orders.is_empty());
}

#[test]
fn the_same_request_with_other_limits_is_another_wish() {
    let limits = Limits { soc_percent: Some(80), ..Limits::default() };
    let mut pile = Pile::online();
    charging(&mut pile, limits);
    let same = pile.start(&limited(limits));
    assert!(matches!(pile.reply(same), Ok(Reply::Started(_))));
    for other in
        [Limits { soc_percent: Some(81), ..limits }, Limits { duration_s: Some(80), soc_percent: None, ..limits }]
    {
        let id = pile.start(&limited(other));
        assert!(matches!(pile.reply(id), Err(CommandError::RequestReused { .. })), "{other:?}");
    }
}

#[test]
fn a_balance_that_will_soon_be_used_up_is_told_once_until_it_is_raised() {
    let low = |pile: &Pile, serial| {
        let changes = pile.store.borrow().changes(serial);
        changes.iter().filter(|change| **change == Change::BalanceLow).count()
    };
    let mut pile = Pile::online();
    // 100 CNY: 1,000,000 steps. 1 CNY a minute lasts for long; 15 CNY a minute does not.
    let serial = charging(&mut pile, Limits::default());
    pile.advance(60);
    metered(&mut pile, serial, 0, 10_000, 0);
    assert_eq!(low(&pile, serial), 0);
    for spent in [160_000, 310_000] {
        pile.advance(60);
        metered(&mut pile, serial, 0, spent, 0);
    }
    // 690,000 left at 150,000 a minute.
    assert_eq!(low(&pile, serial), 1);
    let told = pile.store.borrow().order(serial).balance_low.expect("low");
    assert_eq!((told.at, told.eta), (pile.now().wall, pile.now().wall.plus_ms(276_000)));
    pile.advance(60);
    metered(&mut pile, serial, 0, 460_000, 0);
    assert_eq!(low(&pile, serial), 1, "once");

    let update = NewBalance { serial, fen: 11_000, physical_card: [0; 8] };
    let id = pile.command(Command::UpdateBalance(update), 10);
    let sequence = pile.receives(0x42).sequence;
    pile.sends_frame(sequence, frame(0x41, Serial::NONE, &[]));
    let Ok(Reply::BalanceUpdated(order)) = pile.reply(id) else { panic!("updated") };
    assert_eq!(order.balance_low, None);
    pile.advance(60);
    metered(&mut pile, serial, 0, 610_000, 0);
    assert_eq!(low(&pile, serial), 2, "it was not raised by enough");
    pile.receives_nothing();

    let mut pile = Pile::online_with(|config| config.balance_low = std::time::Duration::ZERO);
    let serial = charging(&mut pile, Limits::default());
    pile.advance(60);
    metered(&mut pile, serial, 0, 999_999, 0);
    assert_eq!(low(&pile, serial), 0, "nobody wants to know");
}

#[test]
fn a_balance_that_is_used_up_is_told_as_well() {
    let mut pile = Pile::online();
    let serial = charging(&mut pile, Limits::default());
    pile.advance(60);
    metered(&mut pile, serial, 0, 1_000_000, 0);
    let told = pile.store.borrow().order(serial).balance_low.expect("low");
    assert_eq!((told.at, told.eta), (pile.now().wall, pile.now().wall), "now");
    assert!(pile.store.borrow().changes(serial).contains(&Change::BalanceLow));
}
