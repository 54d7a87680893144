//! What vehicles and chargers say once of a charge.

use super::harness::*;
use super::ledger::Mode;
use crate::domain::order::Change;
use crate::domain::vehicle::{BmsReport, Flag, Missed, StopReasons, Vehicle};
use crate::domain::{EventKind, Order, OrderState, Serial};
use crate::session::io::EndReason;

impl Pile {
    /// What was told of this serial, with or without an order.
    fn told(&self, of: Serial) -> Vec<(BmsReport, Option<OrderState>)> {
        let told = |kind: &EventKind| match kind {
            EventKind::Bms { serial, report, order, gun: _ } if *serial == of => {
                Some(((**report).clone(), order.as_ref().map(|order| order.state)))
            }
            _ => None,
        };
        self.store.borrow().events.iter().filter_map(told).collect()
    }

    fn stored_vehicle(&self, serial: Serial) -> Vehicle {
        self.store.borrow().order(serial).vehicle.as_deref().cloned().expect("the vehicle has said something")
    }

    fn says(&mut self, serial: Serial, code: u8, fields: &[(&str, u64)]) {
        self.sends_of(serial, code, &[&[("gun_no", 1)], fields].concat());
    }
}

fn flag(name: &'static str, value: u8) -> Flag {
    Flag { name: name.into(), value }
}

#[test]
fn each_is_told_once_with_the_order_and_kept_on_it() {
    let mut pile = Pile::online();
    let serial = pile.charging();
    for _ in 0..2 {
        pile.says(
            serial,
            0x15,
            &[("rated_capacity", 1750), ("production_year", 40), ("bms_protocol_version", 0x01_01)],
        );
        pile.says(
            serial,
            0x17,
            &[("max_charge_current", 2500), ("soc", 333), ("nominal_energy", 600), ("max_temp", 105)],
        );
        pile.advance(15);
    }
    let [(BmsReport::Handshake(hello), Some(OrderState::Charging)), (BmsReport::Parameters(limits), Some(_))] =
        &pile.told(serial)[..]
    else {
        panic!("{:?}", pile.told(serial))
    };
    assert_eq!((hello.rated_capacity_mah, hello.production_year, hello.bms_version), (175_000, 2025, [1, 1, 0]));
    // 2500 is −150 A, and charging is what is meant.
    assert_eq!((limits.max_current_ma, limits.soc_permille, limits.nominal_energy_wh), (150_000, 333, 60_000));
    assert_eq!(limits.max_celsius, 55);
    let stored = pile.stored_vehicle(serial);
    assert_eq!(stored.handshake.expect("told").what, *hello);
    assert_eq!(stored.parameters.expect("told").what, *limits);
}

#[test]
fn an_error_with_other_contents_is_another_error() {
    let mut pile = Pile::online();
    let serial = pile.charging();
    // Bits as in the document: the second member of the third byte; six bits of "other" in the fourth.
    let first = [("cem_byte3", 0b0100), ("bem_byte4", 0b1000_0000)];
    pile.says(serial, 0x1B, &first);
    pile.says(serial, 0x1B, &first);
    pile.says(serial, 0x1B, &[("cem_byte1", 0b10)]);
    pile.says(serial, 0x1B, &first);
    let (bcl, brm) = (flag("bcl_timeout", 1), flag("brm_timeout", 2));
    let first = BmsReport::Error(Missed { by_bms: vec![flag("bms_other", 32)], by_charger: vec![bcl] });
    let second = BmsReport::Error(Missed { by_bms: vec![], by_charger: vec![brm] });
    let told: Vec<_> = pile.told(serial).into_iter().map(|(report, _)| report).collect();
    assert_eq!(told, [first.clone(), second, first.clone()]);
    assert_eq!(BmsReport::Error(pile.stored_vehicle(serial).error.expect("told").what), first, "the latest");
}

#[test]
fn why_it_ended_is_told_by_the_side_that_ended_it_and_before_the_end() {
    let mut pile = Pile::online();
    let serial = pile.charging();
    pile.says(serial, 0x1D, &[("stop_cause", 0b01), ("stop_faults", 0b10 << 8), ("stop_errors", 0b0100)]);
    pile.says(serial, 0x21, &[("stop_cause", 0b0100_0000), ("stop_faults", 0xF100)]);
    pile.says(serial, 0x19, &[("stop_soc", 80), ("output_energy", 234), ("charger_no", 7)]);
    let told = pile.told(serial);
    let vehicle = StopReasons {
        causes: vec![flag("soc_target_reached", 1)],
        faults: vec![flag("battery_over_temp", 2)],
        errors: vec![flag("voltage_abnormal", 1)],
    };
    let charger = StopReasons {
        causes: vec![flag("bms_initiated", 1)],
        // Reserved bits are set too, and mean nothing.
        faults: vec![flag("emergency_stop", 1)],
        errors: vec![],
    };
    assert_eq!(told[0], (BmsReport::BmsStop(vehicle), Some(OrderState::Charging)));
    assert_eq!(told[1], (BmsReport::ChargerStop(charger), Some(OrderState::Charging)));
    let (BmsReport::Statistics(end), Some(OrderState::Charging)) = &told[2] else { panic!("{told:?}") };
    assert_eq!((end.soc_percent, end.energy_wh, end.charger_no), (80, 23_400, 7));
    assert_eq!(pile.order_state(serial), OrderState::Finished);
    pile.bills(serial);
    assert_eq!(pile.order_state(serial), OrderState::Settled);
    assert!(pile.stored_vehicle(serial).statistics.is_some(), "the settled order has it still");
}

#[test]
fn a_vehicle_that_introduces_itself_before_its_order_is_met_is_on_it() {
    let mut pile = Pile::online();
    pile.says(foreign(1), 0x15, &[("charge_cycles", 5)]);
    pile.says(foreign(1), 0x15, &[("charge_cycles", 5)]);
    pile.says(foreign(2), 0x15, &[("gun_no", 2)]);
    pile.charges(foreign(1));
    assert_eq!(pile.told(foreign(1)).len(), 1);
    assert_eq!(pile.told(foreign(1))[0].1, None, "there was no order then");
    assert_eq!(pile.stored_vehicle(foreign(1)).handshake.expect("told").what.charge_cycles, 5);
    pile.says(foreign(1), 0x15, &[("charge_cycles", 5)]);
    assert_eq!(pile.told(foreign(1)).len(), 1, "it has been told");
    assert_eq!(pile.session.vehicles.room().0, 1, "that of gun 2");
    pile.sends(0x13, &[("gun_no", 2), ("status", 2)]);
    assert_eq!(pile.session.vehicles.room(), (0, 0), "an idle pile keeps nothing");
}

#[test]
fn what_a_vehicle_has_said_is_known_to_the_next_session() {
    let mut pile = Pile::online();
    let serial = pile.charging();
    pile.says(serial, 0x15, &[]);
    let mut next = pile.elsewhere();
    next.says(serial, 0x15, &[]);
    assert_eq!(next.told(serial).len(), 1);
    next.says(serial, 0x17, &[]);
    assert_eq!(next.told(serial).len(), 2);
    assert!(next.stored_vehicle(serial).handshake.is_some());
}

#[test]
fn what_was_said_while_the_pile_was_not_ours_is_told_once_it_is() {
    let mut pile = Pile::online();
    let serial = pile.charging();
    pile.ends(EndReason::ConnectionClosed);
    let mut next = pile.elsewhere_slow();
    next.store_answers_as(Mode::Away);
    for _ in 0..100 {
        next.says(serial, 0x1B, &[("cem_byte1", 1)]);
    }
    next.says(serial, 0x19, &[("stop_soc", 80)]);
    assert_eq!(next.told(serial), []);
    next.mode = Mode::Prompt;
    next.advance(10);
    let told: Vec<_> = next.told(serial).into_iter().map(|(_, order)| order).collect();
    assert_eq!(told, [Some(OrderState::Charging); 2]);
    assert_eq!(next.order_state(serial), OrderState::Finished);
}

#[test]
fn what_comes_while_its_order_settles_is_told_without_it() {
    let mut pile = Pile::online();
    let serial = pile.charging();
    pile.mode = Mode::Slow;
    pile.bills(serial);
    pile.says(serial, 0x19, &[("stop_soc", 80)]);
    pile.store_returns();
    let told = pile.told(serial);
    assert!(matches!(told[..], [(BmsReport::Statistics(_), None)]), "nothing follows SETTLED: {told:?}");
    assert_eq!(pile.store.borrow().changes(serial).last(), Some(&Change::Settled));
}

#[test]
fn vehicles_that_never_stop_talking_cost_no_order_its_events() {
    let mut pile = Pile::online();
    let serial = pile.charging();
    pile.mode = Mode::Slow;
    pile.idles();
    pile.idles();
    for n in 0..1000 {
        pile.says(foreign(1), 0x1B, &[("cem_byte1", n % 4)]);
        pile.says(serial, 0x1B, &[("cem_byte1", n % 4)]);
    }
    pile.store_returns();
    let changes = pile.store.borrow().changes(serial);
    assert!(matches!(changes.last(), Some(Change::Anomaly(_))), "{changes:?}");
    let bytes = |order: &Order| {
        crate::store::document::put_order(order, &crate::store::document::Retention::default()).value.len()
    };
    assert!(pile.store.borrow().orders.values().all(|(order, _)| bytes(order) < 2048));
}
