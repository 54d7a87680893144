//! Bodies of any content and length, streams of any bytes.

use bytes::BytesMut;
use pileway::wire::*;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use crate::*;

#[test]
fn counts_are_bounded_by_the_document_and_by_the_bytes() {
    let error = |code, hex| Frame::decode(code, &bytes(hex)).unwrap_err().to_string();
    assert_eq!(
        error(0x44, "32010600019236 10"),
        "CardSync: `card_count` at byte 7: 16 entries, at most 15 are allowed"
    );
    assert_eq!(
        error(0x44, "32010600019236 01 00"),
        "CardSync: `cards` at byte 8: the body ends within `logical_card` of entry 0, 15 bytes too early"
    );
    assert_eq!(
        error(0xF0, "3201060001923601FF41"),
        "QrPrefixSet: `prefix` at byte 9: the body ends 254 bytes too early for it"
    );
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
        for packet in decode_all(&stream).into_iter().flatten() {
            prop_assert!(!packet.spec().name.is_empty());
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
            let guns: Vec<u8> =
                decode_in_pieces(&stream, &[first, second]).iter().map(|item| gun(item.as_ref().unwrap())).collect();
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
