//! The frame table is `tests/data/frames.json`, which was written by somebody else from the protocol's document.
#![allow(clippy::unwrap_used, reason = "a test that cannot read its data fails")]

use pileway::wire::field::{Kind, TextKind};
use pileway::wire::{FRAMES, FieldSpec, Labels};
use serde_json::Value;

#[test]
fn the_table_is_the_reference() {
    let reference: Value = serde_json::from_str(include_str!("data/frames.json")).unwrap();
    let reference = reference.as_array().unwrap();
    assert_eq!(reference.len(), FRAMES.len());
    for (spec, frame) in FRAMES.iter().zip(reference) {
        let name = text(frame, "name").unwrap();
        assert_eq!(spec.name, name);
        assert_eq!(format!("0x{:02X}", spec.code), text(frame, "code").unwrap(), "{name}");
        assert_eq!(spec.variant, text(frame, "variant"), "{name}");
        assert_eq!(spec.direction.as_str(), text(frame, "direction").unwrap(), "{name}");
        assert_eq!(spec.body_len, count(frame, "body_len"), "{name}");
        assert_eq!(Some(spec.min_body_len), count(frame, "min_body_len"), "{name}");
        fields(name, spec.fields, &frame["fields"]);
    }
}

fn fields(frame: &str, specs: &[FieldSpec], reference: &Value) {
    let reference = reference.as_array().unwrap();
    assert_eq!(specs.len(), reference.len(), "{frame}: number of fields");
    for (spec, field) in specs.iter().zip(reference) {
        let name = text(field, "name").unwrap();
        let at = format!("{frame}.{name}");
        assert_eq!(spec.name, name, "{at}");
        assert_eq!(Some(spec.offset), count(field, "offset"), "{at}: offset");
        // An entry's fields all have a width; a group or text of varying width has none.
        assert_eq!(spec.len, count(field, "len"), "{at}: len");
        kind(&at, spec, field);
    }
}

fn kind(at: &str, spec: &FieldSpec, field: &Value) {
    let kind_of_type = text(field, "type").unwrap();
    match spec.kind {
        Kind::Hex => assert!(matches!(kind_of_type, "bcd" | "bytes"), "{at}: {kind_of_type}"),
        Kind::Time => assert_eq!(kind_of_type, "cp56time2a", "{at}"),
        Kind::Text(order) => {
            assert_eq!(kind_of_type, "ascii", "{at}");
            assert_eq!(order == TextKind::Reversed, text(field, "byte_order") == Some("reversed"), "{at}: order");
            assert_eq!(matches!(order, TextKind::Counted(_)), field.get("len_field").is_some(), "{at}: counted");
            assert_eq!(order == TextKind::ToEnd, field.get("to_end").is_some(), "{at}: to end");
        }
        Kind::Number(scale) => {
            let widths = [("u8", 1), ("u16le", 2), ("u24le", 3), ("u32le", 4), ("u40le", 5)];
            assert!(widths.contains(&(kind_of_type, spec.len.unwrap())), "{at}: {kind_of_type}");
            assert!(field.get("enum").is_none(), "{at} has labels");
            assert_eq!(scale.unit, text(field, "unit"), "{at}: unit");
            assert_eq!(scale.decimals, field.get("scale").map(decimals), "{at}: scale");
            assert_eq!(i64::from(scale.bias), field.get("bias").map_or(0, |bias| bias.as_i64().unwrap()), "{at}: bias");
            // The two exceptions to `raw × scale + bias`: A13 and A14.
            assert_eq!(scale.zero_is_none, at.starts_with("realtime_data.") && at.ends_with("_temp"), "{at}: A13");
            assert_eq!(scale.magnitude, scale.bias == -400, "{at}: A14");
        }
        Kind::Label(labels) => {
            assert_eq!(kind_of_type, "u8", "{at}");
            same_labels(at, labels, &field["enum"]);
        }
        Kind::LabelArray(labels) => {
            assert_eq!(field["repeat"]["count"], 48, "{at}");
            same_labels(at, labels, &field["enum"]);
        }
        Kind::Bits(members) => {
            assert_eq!(kind_of_type, if spec.len == Some(1) { "bits8" } else { "bits16le" }, "{at}");
            let reference = field["bits"].as_array().unwrap();
            assert_eq!(members.len(), reference.len(), "{at}: members");
            for (member, bit) in members.iter().zip(reference) {
                let at = format!("{at}.{}", member.name);
                assert_eq!(Some(member.name), text(bit, "name"), "{at}");
                assert_eq!(
                    (Some(member.lo as usize), Some(member.len as usize)),
                    (count(bit, "lo"), count(bit, "len")),
                    "{at}"
                );
                assert_eq!(member.scale.map(|(decimals, _)| decimals), bit.get("scale").map(decimals), "{at}: scale");
                assert_eq!(member.scale.map(|(_, unit)| unit), text(bit, "unit"), "{at}: unit");
                same_labels(&at, member.labels, &bit["enum"]);
            }
        }
        Kind::Group(group) => {
            assert_eq!(kind_of_type, "group", "{at}");
            assert_eq!(Some(group.max), count(&field["repeat"], "max"), "{at}: max");
            assert_eq!(group.count_width, usize::from(field["repeat"].get("count_field").is_some()), "{at}: count");
            fields(at, group.entry, &field["fields"]);
        }
    }
}

fn same_labels(at: &str, labels: Labels, reference: &Value) {
    let number = |key: &str| match key.strip_prefix("0x") {
        Some(hex) => u8::from_str_radix(hex, 16).unwrap(),
        None => key.parse().unwrap(),
    };
    let reference = reference.as_object().into_iter().flatten();
    let reference: Vec<(u8, &str)> = reference.map(|(key, label)| (number(key), label.as_str().unwrap())).collect();
    assert_eq!(labels, reference, "{at}: labels");
}

/// 0.0001 has four decimals.
fn decimals(scale: &Value) -> u8 {
    let scale = scale.as_f64().unwrap();
    (0..=5).find(|decimals| (scale * 10f64.powi(i32::from(*decimals)) - 1.0).abs() < 1e-9).unwrap()
}

fn text<'a>(json: &'a Value, key: &str) -> Option<&'a str> {
    json.get(key).and_then(Value::as_str)
}

fn count(json: &Value, key: &str) -> Option<usize> {
    json.get(key).and_then(Value::as_u64).map(|count| usize::try_from(count).unwrap())
}
