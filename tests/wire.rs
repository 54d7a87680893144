//! Bytes to frames and back: the reference's samples, its list of ambiguities (`aNN_…`), and any bytes at all.
#![allow(clippy::unwrap_used, reason = "a test that cannot read its data fails")]

use std::fmt::Write as _;

use bytes::{Bytes, BytesMut};
use pileway::wire::field::Kind;
use pileway::wire::view::{Value, label};
use pileway::wire::*;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use serde_json::Value as Json;
use tokio_util::codec::{Decoder, Encoder};

type Item = Result<Packet, Refused>;

// ---- samples

#[test]
fn every_sample_decodes_to_its_listed_values() {
    let mut compared = 0;
    for sample in samples() {
        let at = format!("{} {}", sample["kind"], sample["hex"]);
        let printed = bytes(sample.get("hex_repaired").unwrap_or(&sample["hex"]).as_str().unwrap());
        let code = byte(sample["frame_code"].as_str().unwrap());
        let body = &printed[6..printed.len() - 2];
        let Some(listed) = sample["body"].as_object() else {
            let decoded = Frame::decode(code, body);
            match code {
                // The clear flag is missing (A32), the lock state is missing, and a frame with a wrong type byte is too long.
                0x45 => assert_eq!(card_clear(body).defect().unwrap().reason, Reason::NoClearFlag, "{at}"),
                0x61 => assert_eq!(decoded.unwrap_err().to_string(), "GroundLockStatus: `reserved` at byte 12: the body ends 1 byte too early for it"),
                _ => assert_eq!(decoded.unwrap().consumed, 10, "{at}"),
            }
            continue;
        };
        // Several layouts of one code have the same length; the sample says which it is by its fields.
        let spec = Frame::layouts(code).find(|spec| spec.fields.len() == listed.len() && spec.body_len.is_none_or(|len| len == body.len())).unwrap();
        let decoded = Frame::decode_as(spec, body).unwrap_or_else(|error| panic!("{at}: {error}"));
        assert_eq!(decoded.consumed, body.len(), "{at}");
        assert_eq!(encoded(&decoded.frame), body, "{at}");
        let values: Vec<_> = spec.values(body).collect();
        assert_eq!(values.len(), listed.len(), "{at}");
        for (field, value) in &values {
            same(&format!("{at}: {}", field.name), field, value, &listed[field.name]);
        }
        compared += 1;
    }
    assert_eq!(compared, 126);
}

#[test]
fn every_sample_arrives_as_the_reference_says() {
    for sample in samples() {
        let hex = sample.get("hex_repaired").unwrap_or(&sample["hex"]).as_str().unwrap();
        let items = decode_all(&bytes(hex));
        let sound = sample["crc"] != "invalid";
        match (&items[..], sound) {
            ([Ok(packet)], true) => {
                assert_eq!(packet.crc == CrcOrder::HighFirst, sample["crc"] == "valid_high_byte_first", "{hex}");
                assert_eq!(packet.counting == LengthCounting::BodyOnly, sample["length_ok"] == false, "{hex}");
                assert_eq!(upper(&packet.sequence.0), sample["sequence_hex"].as_str().unwrap());
            }
            ([Err(Refused::BadCrc { .. } | Refused::Garbage { .. })], false) => {}
            (items, _) => panic!("{hex}: {items:?}"),
        }
    }
}

#[test]
fn corrected_samples_are_encoded_byte_by_byte() {
    let mut corrected = 0;
    for hex in samples().iter().filter_map(|sample| sample.get("hex_corrected")?.as_str()) {
        let sent = bytes(hex);
        let [Ok(packet)] = &decode_all(&sent)[..] else { panic!("{hex}") };
        let mut out = BytesMut::new();
        Codec::new().encode(packet.clone().into(), &mut out).unwrap();
        assert_eq!(out, sent);
        corrected += 1;
    }
    assert_eq!(corrected, 49);
}

// ---- ambiguities

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
        assert_eq!(decode_all(&out), [Err(Refused::UnknownType { sequence: Sequence::default(), code: 0x77, body: body.into() })]);
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
    assert_eq!((GunNo::from_number(9), GunNo::from_number(10), GunNo::from_number(19)), (GunNo(0x09), GunNo(0x10), GunNo(0x19)));
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
    assert_eq!((TempOrNone::from_celsius(None), TempOrNone::from_celsius(Some(-80)), TempOrNone::from_celsius(Some(35))), (TempOrNone(0), TempOrNone(1), TempOrNone(85)));
}

#[test]
fn a14_currents_have_no_sign() {
    assert_eq!((AmpsOffset(3000).milliamps(), AmpsOffset(5000).milliamps(), AmpsOffset(0).milliamps()), (100_000, 100_000, 400_000));
    assert_eq!((AmpsOffset::from_milliamps(120_500), AmpsOffset::from_milliamps(999_000)), (AmpsOffset(2795), AmpsOffset(0)));
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
        assert_eq!(prices.filter(|field| matches!(field.kind, Kind::Number(scale) if scale.decimals == Some(5))).count(), 8);
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
    assert_eq!((AuthFailure::from_raw(0x0A), AuthFailure::from_raw(0x0B)), (AuthFailure::PileUnsettled, AuthFailure::NoCardCharging));
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
    assert_eq!((full.defect(), full.cards.iter().map(|(_, cleared)| cleared).collect::<Vec<_>>()), (None, vec![true, false]));
}

#[test]
fn a33_layout_of_0x51_and_0x52_by_length() {
    let name = |code, len| Frame::layout(code, len).unwrap().name;
    assert_eq!((name(0x51, 8), name(0x51, 9), name(0x51, 12)), ("work_params_response", "power_set_response_v18", "power_set_response_v18"));
    assert_eq!((name(0x52, 9), name(0x52, 13), name(0x52, 11), name(0x52, 3)), ("work_params_set", "power_set_v18", "work_params_set", "work_params_set"));
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
    assert_eq!(Cp56Time2a::from_civil(wrong_day).unwrap().0, [0x69, 0xDE, 0x29, 0x14, 0x76, 0x01, 0x19], "written with its week day");
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

// ---- counted ends

#[test]
fn counts_are_bounded_by_the_document_and_by_the_bytes() {
    let error = |code, hex| Frame::decode(code, &bytes(hex)).unwrap_err().to_string();
    assert_eq!(error(0x44, "32010600019236 10"), "CardSync: `card_count` at byte 7: 16 entries, at most 15 are allowed");
    assert_eq!(error(0x44, "32010600019236 01 00"), "CardSync: `cards` at byte 8: the body ends within `logical_card` of entry 0, 15 bytes too early");
    assert_eq!(error(0xF0, "3201060001923601FF41"), "QrPrefixSet: `prefix` at byte 9: the body ends 254 bytes too early for it");
    assert_eq!(error(0x9C, "01FFFF"), "QrSet9c: `qr_text` at byte 3: the body ends 65535 bytes too early for it");
    assert_eq!(error(0x9C, "01FF"), "QrSet9c: `qr_length` at byte 1: the body ends 1 byte too early for it");
    assert!(Counted::<CardUid, 24>::new(vec![CardUid { physical_card: Opaque::ZERO }; 25]).is_err());
    assert!(Ascii::<8>::new("123456789").is_err());
}

#[test]
fn every_shorter_body_names_the_first_field_that_is_cut() {
    for spec in FRAMES {
        for len in 0..spec.min_body_len {
            let body = vec![0x01; len];
            let error = Frame::decode_as(spec, &body).unwrap_err();
            let whole = spec.values(&body).count();
            let cut = &spec.fields[whole];
            assert_eq!((error.frame, error.field, error.byte), (spec.type_name, cut.name, cut.offset));
        }
    }
}

// ---- any bytes

proptest! {
    // Seeded: by chance, garbage can have a right CRC.
    #![proptest_config(ProptestConfig { cases: 2000, rng_seed: RngSeed::Fixed(0x68), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_frame_reads_any_body_and_writes_it_back(random in proptest::collection::vec(any::<u8>(), 251)) {
        for spec in FRAMES {
            for len in [spec.min_body_len, spec.min_body_len + 20, 251] {
                let mut body = random[..len].to_vec();
                if let Some(count) = spec.fields.iter().find(|field| field.name.ends_with("_count") && spec.body_len.is_none()) {
                    body[count.offset] %= 16;
                }
                if let Ok(decoded) = Frame::decode_as(spec, &body) {
                    let again = encoded(&decoded.frame);
                    prop_assert_eq!(&again[..], &body[..decoded.consumed], "{}", spec.name);
                    prop_assert_eq!(spec.body_len.unwrap_or(decoded.consumed), decoded.consumed);
                    prop_assert_eq!(decoded.frame.spec().name, spec.name);
                } else {
                    prop_assert!(spec.body_len.is_none(), "{}", spec.name);
                }
            }
        }
    }

    #[test]
    fn good_frames_are_found_whatever_stands_between_and_wherever_it_is_cut(
        parts in proptest::collection::vec((garbage(), any::<u8>()), 1..8),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let mut stream = Vec::new();
        let mut dropped = 0;
        for (garbage, gun) in &parts {
            stream.extend(garbage);
            dropped += garbage.len();
            stream.extend(frame_bytes(heartbeat(*gun)));
        }
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len())).collect();
        cuts.sort_unstable();
        let items = decode_in_pieces(&stream, &cuts);
        let good: Vec<u8> = items.iter().flatten().map(gun).collect();
        prop_assert_eq!(good, parts.iter().map(|(_, gun)| *gun).collect::<Vec<_>>());
        let refused: usize = items.iter().map(|item| match item {
            Err(Refused::Garbage { bytes } | Refused::BadCrc { bytes, .. }) => *bytes,
            _ => 0,
        }).sum();
        prop_assert_eq!(refused, dropped);
        let runs = items.iter().filter(|item| item.is_err()).count();
        prop_assert!(runs <= items.len(), "{:?}", items);
    }

    #[test]
    fn no_bytes_are_lost_and_nothing_panics(stream in proptest::collection::vec(prop_oneof![3 => any::<u8>(), 1 => Just(0x68u8)], 0..2000)) {
        for item in decode_all(&stream) {
            if let Ok(packet) = item {
                prop_assert!(!packet.spec().name.is_empty());
            }
        }
    }
}

/// Garbage that is not one run of a frame's bytes with the next frame: it may hold start bytes and lengths.
fn garbage() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(prop_oneof![4 => any::<u8>(), 1 => Just(0x68u8), 1 => 4u8..40], 0..60)
}

#[test]
fn frames_glued_and_cut_at_every_byte() {
    let stream: Vec<u8> = (1..=3).flat_map(|gun| frame_bytes(heartbeat(gun))).collect();
    for first in 0..stream.len() {
        for second in first..stream.len() {
            let guns: Vec<u8> = decode_in_pieces(&stream, &[first, second]).iter().map(|item| gun(item.as_ref().unwrap())).collect();
            assert_eq!(guns, [1, 2, 3], "cut at {first} and {second}");
        }
    }
}

#[test]
fn a_run_of_garbage_is_one_item_however_it_is_cut() {
    let mut stream = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".to_vec();
    let garbage = stream.len();
    stream.extend(frame_bytes(heartbeat(7)));
    let every: Vec<usize> = (0..stream.len()).collect();
    for cuts in [&every[..], &[], &[5], &[30, 31]] {
        let items = decode_in_pieces(&stream, cuts);
        assert_eq!(items[0], Err(Refused::Garbage { bytes: garbage }), "{cuts:?}");
        assert_eq!(items.len(), 2);
    }
}

#[test]
fn a_bad_crc_is_reported_at_once_and_the_next_frame_is_whole() {
    let mut stream = frame_bytes(heartbeat(1));
    *stream.last_mut().unwrap() ^= 0xFF;
    let len = stream.len();
    stream.extend(frame_bytes(heartbeat(2)));
    let items = decode_open(&stream);
    assert_eq!(items[0], Err(Refused::BadCrc { code: 0x03, bytes: len }));
    assert_eq!(gun(items[1].as_ref().unwrap()), 2);
    assert_eq!(items[0].as_ref().unwrap_err().reason(), "bad_crc");
}

#[test]
fn endless_garbage_is_reported_while_it_goes_on() {
    let items = decode_open(&vec![0xAA; 10_000]);
    assert_eq!(items, [Err(Refused::Garbage { bytes: 10_000 })]);
}

#[test]
fn lengths_below_a_header_are_garbage() {
    for length in 0..4 {
        let mut stream = vec![0x68, length, 0, 0, 0, 0, 0, 0];
        stream.extend(frame_bytes(heartbeat(1)));
        let items = decode_open(&stream);
        assert_eq!(items[0], Err(Refused::Garbage { bytes: 8 }));
        assert_eq!(gun(items[1].as_ref().unwrap()), 1);
    }
}

#[test]
fn a_frame_carried_in_a_frames_text_is_text() {
    let inner = frame_bytes(heartbeat(9));
    let mut body = bytes("3201060001923601");
    body.extend(&inner);
    let mut out = BytesMut::new();
    Outgoing::raw(Sequence::default(), 0x5A, body).write(&mut out).unwrap();
    for cut in 0..out.len() {
        let items = decode_cut(&out, cut);
        assert_eq!(items.len(), 1, "cut at {cut}: {items:?}");
    }
}

// ---- helpers

const LOGIN_OK: &str = "680C000000025503141278230500DA4C";

fn samples() -> Vec<Json> {
    serde_json::from_str(include_str!("data/samples.json")).unwrap()
}

/// A value against the reference's: bare, or an object of raw, label, value, bits, iso or wire.
fn same(at: &str, field: &FieldSpec, value: &Value, listed: &Json) {
    let number = |key: &str| listed.get(key).unwrap_or(listed).as_f64().unwrap();
    match value {
        Value::Hex(raw) => assert_eq!(upper(raw), listed.as_str().unwrap().to_uppercase(), "{at}"),
        Value::Text { text, .. } => assert_eq!(text, listed.get("value").unwrap_or(listed).as_str().unwrap(), "{at}"),
        Value::Time { civil, .. } => {
            let civil = civil.unwrap();
            assert_eq!((civil.to_string().as_str(), u64::from(civil.day_of_week)), (listed["iso"].as_str().unwrap(), listed["day_of_week"].as_u64().unwrap()), "{at}");
        }
        Value::Number { raw, scaled, unit } => {
            assert_eq!(*raw as f64, number("raw"), "{at}");
            if listed.is_object() {
                assert_eq!(*unit, listed.get("unit").and_then(Json::as_str), "{at}: unit");
                let Kind::Number(scale) = field.kind else { panic!("{at}") };
                let listed = if scale.magnitude { number("value").abs() } else { number("value") };
                match scaled.unwrap() {
                    None => assert!(scale.zero_is_none && *raw == 0, "{at}: A13"),
                    Some(value) => assert!((value.to_string().parse::<f64>().unwrap() - listed).abs() < 1e-6, "{at}: {value} {listed}"),
                }
            }
        }
        Value::Label { raw, label } => {
            assert_eq!(f64::from(*raw), number("raw"), "{at}");
            if listed.is_object() {
                assert_eq!(*label, listed["label"].as_str(), "{at}");
            }
        }
        Value::LabelArray { raw, labels } => {
            let listed: Vec<u64> = listed.as_array().unwrap().iter().map(|raw| raw.as_u64().unwrap()).collect();
            assert_eq!(raw.iter().map(|raw| u64::from(*raw)).collect::<Vec<_>>(), listed, "{at}");
            assert!(raw.iter().all(|raw| *raw > 3 || label(labels, *raw).is_some()));
        }
        Value::Bits { raw, members } => {
            assert_eq!(f64::from(*raw), number("raw"), "{at}");
            let shown: Vec<_> = members.iter().filter(|member| !member.is_reserved()).collect();
            assert_eq!(shown.len(), listed["bits"].as_object().unwrap().len(), "{at}");
            for member in shown {
                let scale = member.scale.map_or(1.0, |(decimals, _)| 10f64.powi(i32::from(decimals)));
                let listed = listed["bits"][member.name].as_f64().unwrap();
                assert!((f64::from(member.of(*raw)) / scale - listed).abs() < 1e-9, "{at}.{}", member.name);
            }
        }
        Value::Group(entries) => {
            let listed = listed.as_array().unwrap();
            assert_eq!(entries.len(), listed.len(), "{at}");
            for (entry, listed) in entries.iter().zip(listed) {
                entry.iter().for_each(|(field, value)| same(&format!("{at}.{}", field.name), field, value, &listed[field.name]));
            }
        }
    }
}

fn heartbeat(gun: u8) -> Frame {
    Heartbeat { pile_code: PileCode([0x32, 1, 6, 0, 1, 0x92, 0x36]), gun_no: GunNo(gun), gun_status: GunHealth::Normal }.into()
}

fn gun(packet: &Packet) -> u8 {
    let Frame::Heartbeat(row) = &packet.frame else { panic!("{packet:?}") };
    row.gun_no.0
}

fn card_clear(body: &[u8]) -> CardClearResponse {
    let decoded = Frame::decode(0x45, body).unwrap();
    assert_eq!(encoded(&decoded.frame), body);
    let Frame::CardClearResponse(row) = decoded.frame else { panic!() };
    row
}

fn frame_bytes(frame: Frame) -> Vec<u8> {
    let mut out = BytesMut::new();
    Outgoing::new(Sequence([1, 2]), frame).write(&mut out).unwrap();
    out.to_vec()
}

/// Decodes one frame and sends it again as the document wants it.
fn sent(hex: &str) -> Vec<u8> {
    let [Ok(packet)] = &decode_all(&bytes(hex))[..] else { panic!("{hex}") };
    let mut out = BytesMut::new();
    Outgoing::new(packet.sequence, packet.frame.clone()).write(&mut out).unwrap();
    out.to_vec()
}

/// Rewrites the CRC.
fn seal(frame: &mut [u8]) {
    let end = frame.len() - 2;
    let crc = crc::Crc::<u16>::new(&crc::CRC_16_MODBUS).checksum(&frame[2..end]);
    frame[end..].copy_from_slice(&crc.to_le_bytes());
}

fn encoded(frame: &Frame) -> Vec<u8> {
    let mut out = BytesMut::new();
    frame.encode_body(&mut out);
    out.to_vec()
}

/// All items of a stream that then ends.
fn decode_all(stream: &[u8]) -> Vec<Item> {
    decode_in_pieces(stream, &[])
}

fn decode_cut(stream: &[u8], cut: usize) -> Vec<Item> {
    decode_in_pieces(stream, &[cut])
}

/// All items of a stream that stays open.
fn decode_open(stream: &[u8]) -> Vec<Item> {
    let (mut codec, mut buffer) = (Codec::new(), BytesMut::from(stream));
    std::iter::from_fn(|| codec.decode(&mut buffer).unwrap()).collect()
}

/// All items of a stream that arrives in pieces and then ends. `cuts` ascend.
fn decode_in_pieces(stream: &[u8], cuts: &[usize]) -> Vec<Item> {
    let (mut codec, mut buffer, mut items, mut from) = (Codec::new(), BytesMut::new(), Vec::new(), 0);
    for to in cuts.iter().copied().chain([stream.len()]) {
        buffer.extend_from_slice(&stream[from..to]);
        from = to;
        while let Some(item) = codec.decode(&mut buffer).unwrap() {
            items.push(item);
        }
    }
    while let Some(item) = codec.decode_eof(&mut buffer).unwrap() {
        items.push(item);
    }
    assert!(buffer.is_empty(), "nothing is left at the end of a stream");
    items
}

fn bytes(hex: &str) -> Vec<u8> {
    let hex = hex.replace(' ', "");
    assert!(hex.len().is_multiple_of(2), "{hex}");
    (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap()).collect()
}

fn byte(hex: &str) -> u8 {
    u8::from_str_radix(hex.trim_start_matches("0x"), 16).unwrap()
}

fn upper(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02X}").unwrap();
        text
    })
}
