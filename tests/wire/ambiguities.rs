//! The reference's list of ambiguities, as far as it concerns bytes.

use bytes::{Bytes, BytesMut};
use pileway::wire::field::Kind;
use pileway::wire::*;
use tokio_util::codec::Encoder;

use crate::*;

#[test]
fn a01_crc_is_modbus() {
    let crc = crc::Crc::<u16>::new(&crc::CRC_16_MODBUS);
    assert_eq!(crc.checksum(b"123456789"), 0x4B37);
    assert_eq!(upper(&sent(LOGIN_OK)), LOGIN_OK);
}

#[test]
fn a02_crc_byte_order() {
    let swapped = "680C000000025503141278230500 4CDA";
    let [Ok(packet)] = &decode_all(&bytes(swapped))[..] else { panic!() };
    assert_eq!(packet.crc, CrcOrder::HighFirst);
    assert_eq!(upper(&sent(swapped)), LOGIN_OK, "what we send is low byte first");
}

#[test]
fn a03_appendix_function_is_not_used() {
    assert!(upper(&sent(LOGIN_OK)).ends_with("DA4C"));
}

#[test]
fn a04_sequence_is_opaque_and_ours_is_little_endian() {
    let mut counter = SequenceCounter::default();
    assert_eq!(counter.next_sequence(), Sequence([0, 0]));
    assert_eq!(counter.next_sequence(), Sequence([1, 0]));
    let last = (2..=0xFFFF).map(|_| counter.next_sequence()).last();
    assert_eq!(last, Some(Sequence([0xFF, 0xFF])));
    assert_eq!(counter.next_sequence(), Sequence([0, 0]));
}

#[test]
fn a05_sequence_of_a_reply_is_the_requests() {
    let request = Sequence([0xE7, 0x91]);
    let mut out = BytesMut::new();
    Codec::new().encode(Outgoing::new(request, heartbeat(0)), &mut out).unwrap();
    assert_eq!(out[2..4], request.0);
}

#[test]
fn a06_lengths_up_to_255() {
    for len in [0, 1, 200, 251] {
        let mut out = BytesMut::new();
        let body = vec![0xAB; len];
        Codec::new().encode(Outgoing::raw(Sequence::default(), 0x77, body.clone()), &mut out).unwrap();
        assert_eq!(
            decode_all(&out),
            [Err(Refused::UnknownType { sequence: Sequence::default(), code: 0x77, body: body.into() })]
        );
    }
    let mut out = BytesMut::from(&b"kept"[..]);
    let error = Codec::new().encode(Outgoing::raw(Sequence::default(), 0x77, vec![0; 252]), &mut out).unwrap_err();
    assert_eq!(error.to_string(), "a body of 252 bytes, at most 251 fit a frame");
    assert_eq!(&out[..], b"kept");
}

#[test]
fn a07_length_byte_that_counts_the_body_only() {
    let good = frame_bytes(heartbeat(3));
    let mut odd = good.clone();
    odd[1] -= 4;
    for cut in 0..odd.len() {
        let items = decode_cut(&odd, cut);
        let [Ok(packet)] = &items[..] else { panic!("cut at {cut}: {items:?}") };
        assert_eq!((packet.counting, &packet.frame), (LengthCounting::BodyOnly, &heartbeat(3)));
    }
}

#[test]
fn a07_a_good_frame_never_waits_for_bytes_of_a_later_one() {
    // A frame with a bad CRC that ends where a good one does: nothing behind it is needed to see the good one.
    let good = frame_bytes(heartbeat(3));
    let mut stream = vec![0x68, (good.len() + 2) as u8, 0, 0, 0, 1];
    stream.extend(&good);
    let items = decode_open(&stream);
    assert_eq!(items.len(), 2, "{items:?}");
    assert!(matches!(&items[0], Err(Refused::BadCrc { bytes: 6, .. })), "{items:?}");
    assert_eq!(items[1].as_ref().unwrap().frame, heartbeat(3));
}

#[test]
fn a08_encrypted_bodies_are_refused_whole() {
    let mut stream = frame_bytes(heartbeat(3));
    stream[4] = 1;
    seal(&mut stream);
    stream.extend(frame_bytes(heartbeat(4)));
    let items = decode_open(&stream);
    assert_eq!(items[0], Err(Refused::Encrypted { code: 0x03 }));
    assert_eq!(items[1].as_ref().unwrap().frame, heartbeat(4));
}

#[test]
fn a09_gun_number_bcd_or_binary() {
    let number = |raw, guns| GunNo(raw).number(guns);
    assert_eq!((number(0x01, 2), number(0x09, 0)), (1, 9));
    assert_eq!((number(0x0A, 2), number(0x0F, 0)), (10, 15), "a nibble above 9 is binary");
    assert_eq!((number(0x10, 12), number(0x10, 0)), (10, 10), "no gun 16 there: BCD");
    assert_eq!(number(0x10, 16), 16, "a gun 16 there: binary, as firmwares write it");
    assert_eq!(
        (GunNo::from_number(9), GunNo::from_number(10), GunNo::from_number(19)),
        (GunNo(0x09), GunNo(0x10), GunNo(0x19))
    );
}

#[test]
fn a10_pile_code_is_text_of_14_digits() {
    let code: PileCode = "00000600019236".parse().unwrap();
    assert_eq!(code.to_string(), "00000600019236");
    for wrong in ["", "600019236", "000006000192360", "0000060001923g", "+0000060001923", "桩桩桩桩aa"] {
        assert!(wrong.parse::<PileCode>().is_err(), "{wrong}");
    }
}

#[test]
fn a11_serial_is_16_opaque_bytes() {
    let serial: Serial = "20231212000010000000001005713600".parse().unwrap();
    assert_eq!(serial.to_string(), "20231212000010000000001005713600");
    assert!(Serial::ZERO.is_zero() && !serial.is_zero());
}

#[test]
fn a12_fault_bit1_is_mask_1_or_shifted() {
    let faults = HardwareFaults(0x0001);
    assert_eq!((faults.emergency_stop(), faults.no_rectifier_module()), (1, 0));
    assert_eq!(HardwareFaults(0x0002).shifted(), faults);
    assert_eq!(HardwareFaults(0x8001).0, 0x8001, "vendor bits stay");
}

#[test]
fn a13_temperature_zero_is_no_value_in_0x13_only() {
    assert_eq!((TempOrNone(0).celsius(), TempOrNone(75).celsius()), (None, Some(25)));
    assert_eq!(Temp(0).celsius(), -50);
    assert_eq!(
        (TempOrNone::from_celsius(None), TempOrNone::from_celsius(Some(-80)), TempOrNone::from_celsius(Some(35))),
        (TempOrNone(0), TempOrNone(1), TempOrNone(85))
    );
}

#[test]
fn a14_currents_have_no_sign() {
    assert_eq!(
        (AmpsOffset(3000).milliamps(), AmpsOffset(5000).milliamps(), AmpsOffset(0).milliamps()),
        (100_000, 100_000, 400_000)
    );
    assert_eq!(
        (AmpsOffset::from_milliamps(120_500), AmpsOffset::from_milliamps(999_000)),
        (AmpsOffset(2795), AmpsOffset(0))
    );
}

#[test]
fn a15_lowest_bits_first() {
    let stop = BmsStopFaults(0x0100);
    assert_eq!((stop.battery_over_temp(), stop.charging_connector()), (1, 0));
    let cell = CellVoltageAndGroup(0x114E);
    assert_eq!((cell.max_cell_voltage(), cell.max_cell_group()), (334, 1));
}

#[test]
fn a16_tariff_number_is_echoed() {
    let body = bytes("32010600019236F002");
    let Frame::TariffCheckRequest(row) = Frame::decode(0x05, &body).unwrap().frame else { panic!() };
    assert_eq!(row.tariff_model_no, TariffNo([0xF0, 0x02]));
    assert_eq!(encoded(&row.into()), body);
}

#[test]
fn a17_prices_have_five_decimals_everywhere() {
    for code in [0x0A, 0x58] {
        let spec = Frame::layouts(code).next().unwrap();
        let prices = spec.fields.iter().filter(|field| field.name.ends_with("_price"));
        assert_eq!(
            prices.filter(|field| matches!(field.kind, Kind::Number(scale) if scale.decimals == Some(5))).count(),
            8
        );
    }
}

#[test]
fn a21_password_is_raw_bytes() {
    let mut body = [0xFF; 51];
    body[18] = 0x00;
    let Frame::StartRequest(row) = Frame::decode(0x31, &body).unwrap().frame else { panic!() };
    assert_eq!(row.password.0[..2], [0x00, 0xFF]);
}

#[test]
fn a22_failure_reasons_are_plain_bytes() {
    assert_eq!(
        (AuthFailure::from_raw(0x0A), AuthFailure::from_raw(0x0B)),
        (AuthFailure::PileUnsettled, AuthFailure::NoCardCharging)
    );
}

#[test]
fn a28_unknown_values_survive() {
    for raw in 0..=255 {
        assert_eq!(StopReason::from_raw(raw).raw(), raw);
        assert_eq!(StartType::from_raw(raw).raw(), raw);
    }
    assert_eq!((StartType::from_raw(9), StartType::from_raw(9).label()), (StartType::Unknown(9), None));
}

#[test]
fn a29_directions_follow_parity() {
    for spec in FRAMES {
        let expected = if spec.code % 2 == 1 { Direction::Up } else { Direction::Down };
        let swapped = matches!(spec.code, 0xF0 | 0xF1);
        assert!(spec.direction == expected || swapped, "{}", spec.name);
    }
}

#[test]
fn a31_0x59_is_the_first_listed_unless_told() {
    let body = bytes("320106000192360101");
    assert_eq!(Frame::decode(0x59, &body).unwrap().frame.spec().name, "default_power_response");
    let dialect = Frame::layouts(0x59).find(|spec| spec.variant == Some("qr_dialect")).unwrap();
    assert!(matches!(Frame::decode_as(dialect, &body).unwrap().frame, Frame::QrSetResponse59(_)));
}

#[test]
fn a32_entries_of_0x45_without_a_clear_flag() {
    let body = bytes("3201020000000100000000D14B0A54000000000000E14C0A5401");
    let row = card_clear(&body[..25]);
    assert!(matches!(row.cards, ClearResults::NoFlag(_)));
    let row = card_clear(&bytes("3201020000000100000000D14B0A540200000000E14C0A5401"));
    let cleared: Vec<bool> = row.cards.iter().map(|(_, cleared)| cleared).collect();
    assert_eq!(cleared, [true, false]);
    let full = card_clear(&bytes("32010600019236 00000000D14B0A540100 00000000E14C0A540001"));
    assert_eq!(
        (full.defect(), full.cards.iter().map(|(_, cleared)| cleared).collect::<Vec<_>>()),
        (None, vec![true, false])
    );
}

#[test]
fn a33_layout_of_0x51_and_0x52_by_length() {
    let name = |code, len| Frame::layout(code, len).unwrap().name;
    assert_eq!(
        (name(0x51, 8), name(0x51, 9), name(0x51, 12)),
        ("work_params_response", "power_set_response_v18", "power_set_response_v18")
    );
    assert_eq!(
        (name(0x52, 9), name(0x52, 13), name(0x52, 11), name(0x52, 3)),
        ("work_params_set", "power_set_v18", "work_params_set", "work_params_set")
    );
    assert_eq!(WorkEnable::from_raw(0), WorkEnable::Normal);
}

#[test]
fn a34_ground_lock_follows_the_tables() {
    let lens = [0x61, 0x62, 0x63].map(|code| Frame::layouts(code).next().unwrap().body_len);
    assert_eq!(lens, [Some(16), Some(13), Some(13)]);
}

#[test]
fn a37_times_are_masked_and_may_be_missing() {
    // IV, SU and reserved bits set; week day 3.
    let time = Cp56Time2a([0x69, 0xDE, 0x29 | 0xC0, 0x14 | 0xE0, 0x76, 0x01 | 0xF0, 0x19 | 0x80]);
    assert_eq!(time.civil().unwrap().to_string(), "2025-01-22T20:41:56.937");
    assert_eq!(time.civil().unwrap().day_of_week, 3);
    assert_eq!((Cp56Time2a::ZERO.civil(), Cp56Time2a([0, 0, 0, 0, 30, 2, 24]).civil()), (None, None));
    let wrong_day = Civil { day_of_week: 0, ..time.civil().unwrap() };
    assert_eq!(
        Cp56Time2a::from_civil(wrong_day).unwrap().0,
        [0x69, 0xDE, 0x29, 0x14, 0x76, 0x01, 0x19],
        "written with its week day"
    );
    assert_eq!(Cp56Time2a::from_civil(Civil { month: 13, ..wrong_day }), None);
}

#[test]
fn a39_longer_keeps_the_tail_shorter_names_the_field() {
    let mut body = vec![0; 60];
    body.extend([1, 2, 3]);
    assert_eq!(Frame::decode(0x13, &body).unwrap().consumed, 60);
    let mut out = BytesMut::new();
    Outgoing::raw(Sequence::default(), 0x13, body).write(&mut out).unwrap();
    let [Ok(packet)] = &decode_all(&out)[..] else { panic!() };
    assert_eq!(packet.tail, Bytes::from_static(&[1, 2, 3]));
    let error = Frame::decode(0x13, &[0; 23]).unwrap_err();
    assert_eq!(error.to_string(), "RealtimeData: `gun_no` at byte 23: the body ends 1 byte too early for it");
}

#[test]
fn a40_bms_versions_stay_bytes() {
    let mut body = [0; 73];
    body[24..27].copy_from_slice(&[1, 1, 0]);
    body[65..70].copy_from_slice(&[0x10, 0x0A, 0x0B, 0x07, 0xDF]);
    let Frame::BmsHandshake(row) = Frame::decode(0x15, &body).unwrap().frame else { panic!() };
    assert_eq!((row.bms_protocol_version.0, &row.bms_software_version.0[3..5]), ([1, 1, 0], &[0x07, 0xDF][..]));
}

#[test]
fn energies_are_in_milliwatt_hours_as_the_api_says_them() {
    // 12.3456 kWh
    assert_eq!(pileway::wire::Energy(123_456).milliwatt_hours(), 12_345_600);
    assert_eq!(pileway::wire::Energy::from_milliwatt_hours(12_345_600).raw(), 123_456);
    assert_eq!(pileway::wire::MeterEnergy::from_milliwatt_hours(12_345_600).raw(), 123_456);
}
