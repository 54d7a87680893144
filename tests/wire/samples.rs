//! Every sample of `tests/data/samples.json`.

use bytes::BytesMut;
use pileway::wire::field::Kind;
use pileway::wire::view::{Value, label};
use pileway::wire::*;
use serde_json::Value as Json;
use tokio_util::codec::Encoder;

use crate::{byte, bytes, card_clear, decode_all, encoded, upper};

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
                0x61 => assert_eq!(
                    decoded.unwrap_err().to_string(),
                    "GroundLockStatus: `reserved` at byte 12: the body ends 1 byte too early for it"
                ),
                _ => assert_eq!(decoded.unwrap().consumed, 10, "{at}"),
            }
            continue;
        };
        // Several layouts of one code have the same length; the sample says which it is by its fields.
        let spec = Frame::layouts(code)
            .find(|spec| spec.fields.len() == listed.len() && spec.body_len.is_none_or(|len| len == body.len()))
            .unwrap();
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

fn samples() -> Vec<Json> {
    serde_json::from_str(include_str!("../data/samples.json")).unwrap()
}

/// A value against the reference's: bare, or an object of raw, label, value, bits, iso or wire.
fn same(at: &str, field: &FieldSpec, value: &Value, listed: &Json) {
    let listed_raw = || listed.get("raw").unwrap_or(listed).as_u64().unwrap();
    match value {
        Value::Hex(raw) => assert_eq!(upper(raw), listed.as_str().unwrap().to_uppercase(), "{at}"),
        Value::Text { text, .. } => assert_eq!(text, listed.get("value").unwrap_or(listed).as_str().unwrap(), "{at}"),
        Value::Time { civil, .. } => {
            let civil = civil.unwrap();
            assert_eq!(
                (civil.to_string().as_str(), u64::from(civil.day_of_week)),
                (listed["iso"].as_str().unwrap(), listed["day_of_week"].as_u64().unwrap()),
                "{at}"
            );
        }
        Value::Number { raw, scaled, unit } => {
            assert_eq!(*raw, listed_raw(), "{at}");
            if listed.is_object() {
                assert_eq!(*unit, listed.get("unit").and_then(Json::as_str), "{at}: unit");
                let Kind::Number(scale) = field.kind else { panic!("{at}") };
                let listed = listed["value"].as_f64().unwrap();
                let listed = if scale.magnitude { listed.abs() } else { listed };
                match scaled.unwrap() {
                    None => assert!(scale.zero_is_none && *raw == 0, "{at}: A13"),
                    Some(value) => assert!(
                        (value.to_string().parse::<f64>().unwrap() - listed).abs() < 1e-6,
                        "{at}: {value} {listed}"
                    ),
                }
            }
        }
        Value::Label { raw, label } => {
            assert_eq!(u64::from(*raw), listed_raw(), "{at}");
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
            assert_eq!(u64::from(*raw), listed_raw(), "{at}");
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
                for (field, value) in entry {
                    same(&format!("{at}.{}", field.name), field, value, &listed[field.name]);
                }
            }
        }
    }
}
