//! What the platform commands, and ways not to obey.

use std::time::Duration;

use pileway::sim::{Action, Behaviour, Input};
use pileway::wire::*;

use crate::platform::*;

#[test]
fn a_late_plug_within_60_s_starts_with_a_second_answer() {
    let answers = |p: &mut Platform| -> Vec<(Outcome, StartFailure)> {
        let pick = |(_, f): &(Duration, Outgoing)| match frame(f) {
            Frame::RemoteStartResponse(row) => Some((row.start_result, row.fail_reason)),
            _ => None,
        };
        p.take().iter().filter_map(pick).collect()
    };
    for (after, starts) in [(59, true), (61, false)] {
        let mut p = Platform::ready(|config| config.plugged = false);
        p.start(1, 1000);
        assert_eq!(answers(&mut p), [(Outcome::Failure, StartFailure::NotPluggedIn)]);
        p.wait(seconds(after));
        p.act(Action::Plug(1));
        let expected: &[_] = if starts { &[(Outcome::Success, StartFailure::None)] } else { &[] };
        assert_eq!(answers(&mut p), expected, "after {after} s");
        assert_eq!(p.pile.view().guns[0].charge.is_some(), starts);
    }
}

#[test]
fn every_command_is_answered_with_its_sequence() {
    let cards = || Counted::new(vec![CardUid { physical_card: CARD }]).expect("one card");
    let serial = Serial([3; 16]);
    let power =
        PowerSetV18 { pile_code: CODE, gun_no: GUN, max_power: Kilowatts(30), priority: 1, duration: Minutes(10) };
    let default = DefaultPowerSet {
        pile_code: CODE,
        gun_no: GUN,
        max_power: Kilowatts(30),
        start_time: Cp56Time2a::ZERO,
        end_time: Cp56Time2a::ZERO,
    };
    let lock =
        GroundLockControl { pile_code: CODE, gun_no: GunIndex(1), command: LockCommand::Lower, reserved: Opaque::ZERO };
    let sync = Counted::new(vec![SyncCard { logical_card: Bcd::ZERO, physical_card: CARD }]).expect("one card");
    let TariffResponse { pile_code, tariff_model_no, period_rate, .. } = tariff();
    let price = Price(50_000);
    let tariff_set = TariffSet {
        pile_code,
        tariff_model_no,
        sharp_energy_price: price,
        sharp_service_price: price,
        peak_energy_price: price,
        peak_service_price: price,
        flat_energy_price: price,
        flat_service_price: price,
        valley_energy_price: price,
        valley_service_price: price,
        loss_ratio: 0,
        period_rate,
    };
    let start_v18 = RemoteStartV18 {
        transaction_serial: serial,
        pile_code: CODE,
        gun_no: GUN,
        logical_card: Bcd::ZERO,
        physical_card: CARD,
        balance: Balance(1000),
        max_power: Kilowatts(20),
        soc_limit: Percent(90),
        energy_limit: Energy(0),
    };
    let ota = OtaCommand {
        pile_code: CODE,
        pile_model: PileModel::Ac,
        pile_power: 7,
        server_address: Ascii::ZERO,
        server_port: 21,
        username: Ascii::ZERO,
        password: Ascii::ZERO,
        file_path: Ascii::ZERO,
        when: When::Immediately,
        download_timeout: MinutesShort(5),
    };
    let text = |text| TextToEnd::new(text).expect("short");
    let all: Vec<(Frame, &[u8])> = vec![
        (RealtimeQuery { pile_code: CODE, gun_no: GUN }.into(), &[0x13]),
        (CardSync { pile_code: CODE, cards: sync }.into(), &[0x43]),
        (CardQuery { pile_code: CODE, cards: Counted::new(cards().to_vec()).expect("one card") }.into(), &[0x47]),
        (CardClear { pile_code: CODE, cards: cards() }.into(), &[0x45]),
        (
            WorkParamsSet { pile_code: CODE, work_enable: WorkEnable::Normal, max_power_percent: Percent(80) }.into(),
            &[0x51],
        ),
        (power.into(), &[0x51]),
        (default.into(), &[0x59]),
        (TimeSync { pile_code: CODE, time: time(1, 1, 1) }.into(), &[0x55]),
        (tariff_set.into(), &[0x57]),
        (lock.into(), &[0x63, 0x61]),
        (
            QrPrefixSet {
                pile_code: CODE,
                format: QrFormat::PrefixPile,
                prefix: CountedText::new("https://x/").expect("short"),
            }
            .into(),
            &[0xF1],
        ),
        (QrSet5a { pile_code: CODE, gun_no: GUN, qr_text: text("x") }.into(), &[0x59]),
        (QrSet9c { gun_no: GunIndex(1), qr_text: CountedText::new("x").expect("short") }.into(), &[0x9B]),
        (ota.into(), &[0x93]),
        (start_v18.into(), &[0xA7, 0x13, 0x15, 0x17, 0x23, 0x25]),
        (
            BalanceUpdate { pile_code: CODE, gun_no: GUN, physical_card: CARD, new_balance: Balance(9999) }.into(),
            &[0x41],
        ),
        (RemoteStop { pile_code: CODE, gun_no: GUN }.into(), &[0x35, 0x21, 0x19, 0x3B, 0x13]),
        (RemoteStop { pile_code: CODE, gun_no: GUN }.into(), &[0x35]),
        (Reboot { pile_code: CODE, when: When::WhenIdle }.into(), &[0x91]),
    ];
    let mut p = Platform::ready(|_| {});
    for (n, (command, answers)) in all.into_iter().enumerate() {
        let (sequence, name) = (Sequence([n as u8, 0x77]), command.spec().type_name);
        p.send_as(sequence, command.clone());
        assert_eq!(p.sent.first().map(|(_, f)| f.sequence), Some(sequence), "{name}");
        assert_eq!(p.codes(), answers, "{name}");
        p.wait(Duration::ZERO);
    }
    assert_eq!(p.wanted.pop(), Some("close"), "rebooted");
    p.wait(seconds(3));
    assert_eq!(p.wanted.pop(), Some("connect"));
}

#[test]
fn limits_of_power_are_obeyed_and_out_of_service_refuses() {
    let mut p = Platform::ready(|config| config.dc = false);
    p.send(WorkParamsSet { pile_code: CODE, work_enable: WorkEnable::Normal, max_power_percent: Percent(50) });
    p.start(1, 100_000);
    assert_eq!(p.live().output_current, Amps(160));
    p.stop();
    p.send(WorkParamsSet { pile_code: CODE, work_enable: WorkEnable::OutOfService, max_power_percent: Percent(0) });
    p.start(2, 100_000);
    assert_eq!(p.live().status, GunStatus::Idle);
}

#[test]
fn a_card_charges_online_by_permission_and_offline_by_list() {
    let mut p = Platform::ready(|_| {});
    p.act(Action::Swipe(1, CARD.0));
    p.wait(seconds(15));
    assert_eq!(p.codes(), [0x31, 0x31]);
    let confirm = StartConfirm {
        transaction_serial: Serial([5; 16]),
        pile_code: CODE,
        gun_no: GUN,
        logical_card: Bcd::ZERO,
        balance: Balance(10_000),
        auth_result: Outcome::Success,
        fail_reason: AuthFailure::None,
    };
    p.send(confirm);
    assert_eq!((p.live().transaction_serial, p.live().status), (Serial([5; 16]), GunStatus::Charging));
    p.act(Action::Swipe(1, CARD.0));
    assert_eq!((p.record().start_type, p.record().stop_reason), (StartType::Card, StopReason::FinishedByHand));
    p.send(TransactionRecordAck { transaction_serial: Serial([5; 16]), result: RecordResult::UploadAccepted });

    let cards = Counted::new(vec![SyncCard { logical_card: Bcd::ZERO, physical_card: CARD }]).expect("one card");
    p.send(CardSync { pile_code: CODE, cards });
    p.apply(Input::Closed);
    p.sent.clear();
    p.act(Action::Swipe(1, CARD.0));
    p.wait(seconds(1));
    p.act(Action::Swipe(1, CARD.0));
    assert_eq!((p.codes(), p.pile.unacked()), (vec![], 1));
    p.wait(seconds(1));
    p.connect();
    p.log_in();
    p.send(TariffCheckResponse { pile_code: CODE, tariff_model_no: TariffNo([1, 0]), result: TariffCheck::Same });
    let record = p.record();
    assert_eq!((record.start_type, &record.transaction_serial.0[..7]), (StartType::OfflineCard, &CODE.0[..]));
}

fn parallel_command(gun: u8) -> ParallelRemoteStart {
    ParallelRemoteStart {
        transaction_serial: Serial([gun; 16]),
        pile_code: CODE,
        gun_no: GunNo(gun),
        logical_card: Bcd::ZERO,
        physical_card: CARD,
        balance: Balance(100_000),
        parallel_no: Bcd([1; 6]),
    }
}

fn parallel_answers(p: &Platform) -> Vec<(GunNo, Outcome, GunRole)> {
    let pick = |f: &Frame| {
        if let Frame::ParallelRemoteStartResponse(r) = f { Some((r.gun_no, r.start_result, r.gun_role)) } else { None }
    };
    p.sent.iter().filter_map(|(_, f)| pick(frame(f))).collect()
}

#[test]
fn both_guns_of_a_parallel_charge_start_and_end_together() {
    let (command, answers) = (parallel_command, parallel_answers);
    let mut p = Platform::ready(|config| config.guns = 2);
    p.act(Action::Unplug(2));
    p.send(command(1));
    assert_eq!(answers(&p), []);
    p.send(command(2));
    assert_eq!(
        answers(&p),
        [(GunNo(1), Outcome::Failure, GunRole::Main), (GunNo(2), Outcome::Failure, GunRole::Auxiliary)]
    );
    p.sent.clear();
    p.wait(seconds(30));
    p.act(Action::Plug(2));
    assert_eq!(
        answers(&p),
        [(GunNo(1), Outcome::Success, GunRole::Main), (GunNo(2), Outcome::Success, GunRole::Auxiliary)]
    );
    p.sent.clear();
    p.stop();
    assert_eq!(p.count(0x3B), 2);
}

#[test]
fn a_start_on_two_guns_is_misbehaved_about_as_one_on_one_gun_is() {
    let asked = |behaviours: &[&str]| {
        let mut p = Platform::ready(|config| {
            config.guns = 2;
            config.behaviours = behaviours.iter().map(|text| text.parse().expect(text)).collect();
        });
        p.send(parallel_command(1));
        p.send(parallel_command(2));
        p
    };
    let charging = |p: &Platform| {
        let of = |gun: u8| {
            let live = |f: &Frame| match f {
                Frame::RealtimeData(row) if row.gun_no == GunNo(gun) => Some(row.status == GunStatus::Charging),
                _ => None,
            };
            p.sent.iter().rev().find_map(|(_, f)| live(frame(f))).unwrap_or(false)
        };
        [of(1), of(2)]
    };
    let (yes, no) = (Outcome::Success, Outcome::Failure);
    let both = |first, second| vec![(GunNo(1), first, GunRole::Main), (GunNo(2), second, GunRole::Auxiliary)];

    let p = asked(&["refuse-start=3"]);
    assert_eq!((parallel_answers(&p), charging(&p)), (both(no, no), [false, false]));
    let p = asked(&["refuse-start=3", "charge-although-refused"]);
    assert_eq!((parallel_answers(&p), charging(&p)), (both(no, no), [true, true]));
    let p = asked(&["refuse-second=3"]);
    let answers: Vec<_> = both(yes, no).into_iter().rev().collect();
    assert_eq!((parallel_answers(&p), charging(&p)), (answers, [true, false]));

    let mut p = asked(&["late-start=20"]);
    p.wait(seconds(19));
    assert_eq!(parallel_answers(&p), []);
    p.wait(seconds(1));
    assert_eq!((parallel_answers(&p), charging(&p)), (both(yes, yes), [true, true]));

    let p = asked(&["fail-start=0x52"]);
    assert_eq!((parallel_answers(&p), p.count(0x3B)), (vec![], 2));
    let p = asked(&["ignore=0xA4"]);
    assert_eq!((parallel_answers(&p), p.count(0x13)), (vec![], 0));

    // Stopped before it has begun: nothing begins.
    let mut p = asked(&["late-start=20"]);
    p.stop();
    p.wait(seconds(30));
    assert_eq!((parallel_answers(&p), charging(&p)), (vec![], [false, false]));
}

#[test]
fn behaviours_are_misbehaviours() {
    let with = |text: &str| Platform::ready(|config| config.behaviours = vec![text.parse().expect(text)]);
    let mut p = with("ignore=0x34");
    p.start(1, 1000);
    assert_eq!(p.codes(), NOTHING);

    let mut p = with("late-start=20");
    p.start(1, 1000);
    p.wait(seconds(19));
    assert_eq!(p.codes(), NOTHING);
    p.wait(seconds(1));
    assert_eq!(p.codes()[..2], [0x33, 0x13]);

    let mut p =
        Platform::ready(|config| config.behaviours = vec![Behaviour::RefuseStart(3), Behaviour::ChargeAlthoughRefused]);
    p.start(1, 1000);
    assert_eq!(
        p.last(|f| if let Frame::RemoteStartResponse(row) = f { Some(row.start_result) } else { None }),
        Outcome::Failure
    );
    assert_eq!(p.live().status, GunStatus::Charging);

    let mut p = with("fail-start=0x52");
    p.start(1, 1000);
    assert_eq!(p.record().stop_reason, StopReason::StartFailedBmsNotReady);
    assert_eq!(p.codes(), [0x3B]);

    let mut p = with("never-stop");
    p.start(1, 1_000_000);
    p.stop();
    p.wait(seconds(15));
    assert_eq!(p.live().status, GunStatus::Charging);

    let mut p = with("swapped-crc");
    p.wait(seconds(10));
    assert!(p.sent.iter().all(|(_, f)| f.crc == CrcOrder::HighFirst));

    let mut p = with("silent-after=5");
    p.pass(seconds(120), false);
    assert!(p.codes().is_empty() && p.wanted.is_empty() && p.pile.online());

    let mut p = with("drop-every=3");
    p.wait(seconds(2));
    assert!(p.pile.online());
    p.wait(seconds(1));
    assert_eq!(p.wanted.pop(), Some("close"), "when it is time, not with the next heartbeat");

    let mut p = with("bms-error");
    p.start(1, 100_000);
    p.sent.clear();
    p.stop();
    assert_eq!(p.sent.iter().map(|(_, f)| code(f)).collect::<Vec<_>>(), [0x35, 0x1B, 0x21, 0x19, 0x3B, 0x13]);

    let mut p = with("overcharge=7");
    p.start(1, 100_000);
    p.wait(seconds(60));
    p.stop();
    let r = p.record();
    assert_eq!(r.total_amount.raw(), r.peak_amount.raw() + r.valley_amount.raw() + 7);

    for text in [
        "ignore=0x34",
        "late-start=20",
        "refuse-second=3",
        "drop-every=60",
        "no-record",
        "record-twice",
        "report-idle",
        "zero-sequence",
        "bms-error",
    ] {
        assert_eq!(text.parse::<Behaviour>().expect(text).to_string(), text);
    }
    for bad in ["ignore", "ignore=256", "never-stop=1", "late-start=soon", "sing"] {
        let error = bad.parse::<Behaviour>().expect_err(bad).to_string();
        assert!(error.contains(bad), "{error}");
    }
}
