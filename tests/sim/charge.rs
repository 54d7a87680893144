//! What is metered, billed and reported, and what ends a charge.

use pileway::sim::Action;
use pileway::wire::*;

use crate::platform::*;

#[test]
fn a_charge_from_start_to_acknowledged_record() {
    let mut p = Platform::ready(|_| {});
    p.start(7, 100_000);
    assert_eq!(p.sent[0].1.sequence, Sequence([0xAB, 0xCD]), "a reply copies the sequence");
    assert_eq!(p.codes(), [0x33, 0x13, 0x15, 0x17, 0x23, 0x25]);
    p.wait(seconds(60));
    assert_eq!(p.codes(), [0x13, 0x23, 0x25].repeat(4));
    p.send(RealtimeQuery { pile_code: CODE, gun_no: GUN });
    let live = p.live();
    assert_eq!((live.status, live.transaction_serial), (GunStatus::Charging, Serial([7; 16])));
    // A minute of 150 A into 96 cells of 3.51 to 3.52 V.
    assert_eq!((live.output_voltage, live.output_current, live.soc), (Volts(3380), Amps(1500), Percent(21)));
    assert!((8_000..9_000).contains(&live.energy.raw()), "{:?}", live.energy);
    p.sent.clear();
    p.start(8, 100_000);
    let busy = p.last(|frame| if let Frame::RemoteStartResponse(row) = frame { Some(row.fail_reason) } else { None });
    assert_eq!(busy, StartFailure::AlreadyCharging);
    p.sent.clear();
    p.stop();
    assert_eq!(p.sent.iter().map(|(_, f)| code(f)).collect::<Vec<_>>(), [0x35, 0x21, 0x19, 0x3B, 0x13]);
    let record = p.record();
    assert_eq!((record.stop_reason, record.start_type), (StopReason::FinishedByApp, StartType::App));
    assert_eq!((record.physical_card, record.vin.text().len()), (CARD, 17));
    assert_eq!(record.total_energy, live.energy);
    assert_eq!(record.total_amount, live.amount, "what 0x13 showed is what is billed");
    assert_eq!(record.meter_end.raw() - record.meter_start.raw(), u64::from(record.total_energy.raw()));
    p.send(TransactionRecordAck { transaction_serial: Serial([7; 16]), result: RecordResult::UploadAccepted });
    assert_eq!(p.pile.unacked(), 0);
    assert_eq!(p.live().status, GunStatus::Idle);
    p.sent.clear();
    p.wait(seconds(1000));
    assert_eq!(p.codes(), [0x13, 0x13, 0x13], "idle telemetry every 5 min, no record again");
    // The meter goes on from there.
    p.start(9, 100_000);
    p.wait(seconds(60));
    p.stop();
    assert_eq!(p.record().meter_start, record.meter_end);
}

#[test]
fn the_bill_is_right_across_midnight_and_two_price_classes() {
    let mut p = Platform::ready(|config| (config.dc, config.battery_kwh) = (false, 100));
    p.send(TimeSync { pile_code: CODE, time: time(9, 23, 0) });
    p.start(1, 1_000_000);
    p.wait(seconds(3600));
    // A new tariff does not touch the running charge.
    let TariffResponse { period_rate, .. } = tariff();
    p.send(TariffResponse {
        period_rate,
        valley_energy_price: Price(999_999),
        tariff_model_no: TariffNo([2, 0]),
        ..tariff()
    });
    p.wait(seconds(3600));
    p.stop();
    let r = p.record();
    assert_eq!((r.start_time, r.end_time, r.trade_time), (time(9, 23, 0), time(10, 1, 0), time(10, 1, 0)));
    // 220 V × 32 A × 1 h = 7.04 kWh in each class; 7.04 × 0.70001 = 4.9280704.
    assert_eq!((r.peak_energy, r.peak_unit_price, r.peak_amount), (Energy(70_400), Price(160_000), Amount(112_640)));
    assert_eq!(
        (r.valley_energy, r.valley_unit_price, r.valley_amount),
        (Energy(70_400), Price(70_001), Amount(49_281))
    );
    assert_eq!((r.sharp_energy, r.flat_amount, r.total_energy), (Energy(0), Amount(0), Energy(140_800)));
    assert_eq!(r.total_amount, Amount(161_921));
    assert_eq!((r.vin.text(), p.live().soc), (String::new(), Percent(0)), "an AC pile knows nothing of the vehicle");
    assert_eq!(p.pile.view().tariff_no, [2, 0]);
}

#[test]
fn a_spent_balance_ends_the_charge_and_a_new_one_prolongs_it() {
    let mut p = Platform::ready(|_| {});
    p.start(1, 100);
    p.wait(seconds(30));
    p.send(BalanceUpdate { pile_code: CODE, gun_no: GUN, physical_card: Opaque([9; 8]), new_balance: Balance(500) });
    let result =
        |p: &Platform| p.last(|f| if let Frame::BalanceUpdateResponse(row) = f { Some(row.result) } else { None });
    assert_eq!(result(&p), BalanceResult::WrongCardNumber);
    p.send(BalanceUpdate { pile_code: CODE, gun_no: GUN, physical_card: Opaque::ZERO, new_balance: Balance(200) });
    assert_eq!(result(&p), BalanceResult::Updated);
    p.wait(seconds(600));
    let record = p.record();
    assert_eq!(record.stop_reason, StopReason::AbortedInsufficientBalance);
    assert!((19_998..=20_000).contains(&record.total_amount.raw()), "{:?}: 2 CNY and no more", record.total_amount);
}

#[test]
fn a_full_battery_ends_the_charge_and_the_current_tapers() {
    let mut p = Platform::ready(|_| {});
    p.start(1, 1_000_000);
    p.wait(seconds(8 * 3600));
    assert_eq!(p.record().stop_reason, StopReason::FinishedFull);
    assert_eq!(p.record().total_energy, Energy(480_000), "80 % of 60 kWh");
    let currents: Vec<u16> = p
        .sent
        .iter()
        .filter_map(
            |(_, f)| if let Frame::RealtimeData(row) = frame(f) { Some(row.output_current.raw()) } else { None },
        )
        .collect();
    assert_eq!(currents[0], 1500);
    let lowest = *currents[..currents.len() - 12].iter().filter(|c| **c > 0).min().expect("currents");
    assert!(lowest < 200, "{lowest}");
    assert_eq!(p.last(|f| if let Frame::BmsChargeEnd(row) = f { Some(row.stop_soc) } else { None }), Percent(100));
}

#[test]
fn a_gun_pulled_in_mid_charge_ends_the_order() {
    let mut p = Platform::ready(|_| {});
    p.start(1, 100_000);
    p.wait(seconds(20));
    p.sent.clear();
    p.act(Action::Unplug(1));
    assert_eq!(p.record().stop_reason, StopReason::AbortedControlPilotDisconnected);
    assert_eq!((p.live().gun_plugged, p.live().status), (YesNo::No, GunStatus::Idle));
    p.act(Action::Plug(1));
    assert_eq!(p.live().status, GunStatus::Idle, "the next vehicle does not charge on this account");
}

#[test]
fn a_fault_ends_the_order_and_refuses_the_next() {
    let mut p = Platform::ready(|_| {});
    p.start(1, 100_000);
    p.wait(seconds(20));
    p.act(Action::Fault(1, 1));
    assert_eq!(p.record().stop_reason, StopReason::AbortedEmergencyStop);
    assert_eq!((p.live().status, p.live().hardware_faults), (GunStatus::Fault, HardwareFaults(1)));
    p.start(2, 1000);
    assert_eq!(
        p.last(|f| if let Frame::RemoteStartResponse(row) = f { Some(row.fail_reason) } else { None }),
        StartFailure::EquipmentFault
    );
    p.act(Action::Fault(1, 0));
    p.start(3, 1000);
    assert!(p.pile.view().guns[0].charge.is_some());
}

#[test]
fn speed_runs_clock_and_meter_but_not_the_link() {
    let mut p = Platform::ready(|config| (config.dc, config.speed, config.battery_kwh) = (false, 60, 100));
    p.send(TimeSync { pile_code: CODE, time: time(9, 10, 0) });
    p.start(1, 1_000_000);
    p.sent.clear();
    p.wait(seconds(60));
    assert_eq!((p.count(0x13), p.count(0x03)), (240, 6), "15 s become 250 ms, heartbeats stay");
    p.stop();
    assert_eq!((p.record().end_time, p.record().total_energy), (time(9, 11, 0), Energy(70_400)));

    let mut p = Platform::ready(|config| config.speed = 3600);
    p.start(1, 1_000_000);
    p.sent.clear();
    p.wait(seconds(1));
    assert_eq!(p.count(0x13), 5, "never more often than every 200 ms");
}

#[test]
fn records_follow_the_version() {
    for (version, expected) in [(14, 0x3F), (15, 0x3B), (16, 0x3B), (17, 0x3D)] {
        let mut p = Platform::ready(|config| config.protocol_version = version);
        p.start(1, 1000);
        p.stop();
        assert!(p.codes().contains(&expected), "version {version}");
    }
}
