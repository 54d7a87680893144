//! `pileway frames`, `decode` and `encode`, through the binary.
#![allow(clippy::unwrap_used, reason = "a test that cannot run the binary fails")]

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

struct Ran {
    code: i32,
    out: String,
    err: String,
}

#[test]
fn frames_json_is_the_reference_without_its_remarks() {
    let table: Value = serde_json::from_str(&run(&["frames", "--json"], "").out).unwrap();
    let reference: Value = serde_json::from_str(include_str!("data/frames.json")).unwrap();
    let expected = reference.as_array().unwrap().iter().map(|frame| {
        let field = |field: &Value| json!({"name": field["name"], "offset": field["offset"], "len": field["len"]});
        let fields: Vec<Value> = frame["fields"].as_array().unwrap().iter().map(field).collect();
        let mut expected = json!({"code": frame["code"], "name": frame["name"]});
        if let Some(variant) = frame.get("variant") {
            expected["variant"] = variant.clone();
        }
        expected["direction"] = frame["direction"].clone();
        expected["body_len"] = frame["body_len"].clone();
        expected["fields"] = fields.into();
        expected
    });
    assert_eq!(table, expected.collect::<Value>());
}

#[test]
fn decode_then_encode_is_identity_for_every_good_frame() {
    let samples: Value = serde_json::from_str(include_str!("data/samples.json")).unwrap();
    let good = samples.as_array().unwrap().iter().filter_map(|sample| match sample.get("hex_corrected") {
        Some(corrected) => corrected.as_str(),
        None => (sample["crc"] != "invalid" && sample["length_ok"] == true).then(|| sample["hex"].as_str().unwrap()),
    });
    let mut input: Vec<String> = good.map(str::to_lowercase).collect();
    input.push("6806aabb0077beef0000".to_owned());
    let last = input.len() - 1;
    seal(&mut input[last]);
    let lines = input.join("\n") + "\n";
    let decoded = run(&["decode", "--json"], &lines);
    assert_eq!((decoded.code, decoded.err.as_str()), (0, ""));
    assert_eq!(decoded.out.lines().count(), input.len());
    let encoded = run(&["encode"], &decoded.out);
    assert_eq!((encoded.code, encoded.err.as_str()), (0, ""));
    assert_eq!(encoded.out, lines);
    assert_eq!(run(&["encode", decoded.out.lines().next().unwrap()], "").out.trim(), input[0]);
}

#[test]
fn a_decoded_frame_has_exactly_these_keys() {
    let json = decode_one(
        "684006010013320106000192360124051710304500013201060001923601030201100FB5045500000000000000002F512C001F0071B6020071B602008F8C030000002877",
        0,
    );
    let keys: Vec<&String> = json.as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        ["code", "name", "direction", "sequence", "length", "crc", "encrypted", "fields", "tail", "error"]
    );
    assert_eq!(json["sequence"], "0601");
    assert_eq!(json["length"], json!({"stated": 64, "actual": 64}));
    let fields = &json["fields"];
    assert_eq!(fields["pile_code"], json!({"raw": "32010600019236"}));
    assert_eq!(fields["status"], json!({"raw": 3, "label": "charging"}));
    assert_eq!(fields["output_voltage"], json!({"raw": 3856, "value": "385.6", "unit": "V"}));
    assert_eq!(fields["soc"], json!({"raw": 47, "unit": "%"}));
    assert_eq!(fields["hardware_faults"]["bits"]["door_open"], 0);
    assert!(fields["hardware_faults"]["bits"].get("reserved").is_none());
}

#[test]
fn shapes_of_other_fields() {
    let demand = decode_one(
        "68300D010023320106000192360124051710304500013201060001923601A00FF00A02100FEB0A4E112F1F00110FEA0A2C005039",
        0,
    );
    assert_eq!(
        demand["fields"]["max_cell_voltage_and_group"],
        json!({"raw": 4430, "bits": {"max_cell_voltage": 3.34, "max_cell_group": 1}})
    );
    assert_eq!(demand["fields"]["bms_current_demand"], json!({"raw": 2800, "value": "120.0", "unit": "A"}));
    let clock = decode_one("681209000056320106000192362A760F0BB10518AF6E", 0);
    assert_eq!(clock["fields"]["time"], json!({"raw": "2a760f0bb10518", "time": "2024-05-17T11:15:30.250"}));
    let vin = decode_one(
        "683710010031320106000192360103000000000000000000000000000000000000000000000000003734383438313243373831344D4156534C0DFF",
        0,
    );
    assert_eq!(vin["fields"]["vin"]["text"], "LSVAM4187C2184847");
    let idle = decode_one(
        "68401A03001300000000000000000000000000000000550314127823050100010102000000000000000000000000000000000000000000000000000000000000000 05C7A",
        0,
    );
    assert_eq!(idle["fields"]["gun_cable_temp"], json!({"raw": 0, "value": null, "unit": "°C"}));
}

#[test]
fn defects_are_told_and_exit_with_1() {
    let clear = decode_one("680D000700453201020000000100000000D14B0A540000000000E14C0A54006890", 1);
    assert_eq!((&clear["crc"], &clear["length"]), (&json!("bad"), &json!({"stated": 13, "actual": 29})));
    assert_eq!(clear["fields"]["cards"].as_array().unwrap().len(), 2);
    assert_eq!((&clear["error"]["field"], &clear["error"]["byte"]), (&json!("cards"), &json!(15)));
    assert!(clear["error"]["reason"].as_str().unwrap().contains("clear flag"));
    let lock = decode_one("6814000100613201020000000101000000000000006890", 1);
    assert_eq!((&lock["error"]["field"], &lock["error"]["byte"]), (&json!("reserved"), &json!(12)));
    assert_eq!(lock["fields"]["alarm"]["raw"], 0);
}

#[test]
fn odd_but_readable_frames_exit_with_0() {
    let swapped = decode_one("680C0000000255031412782305004CDA", 0);
    assert_eq!(swapped["crc"], "swapped");
    let mut unknown = "68 06 AABB 00 76 BEEF 0000".replace(' ', "");
    seal(&mut unknown);
    let unknown = decode_one(&unknown, 0);
    assert_eq!((&unknown["code"], &unknown["name"], &unknown["tail"]), (&json!("0x76"), &Value::Null, &json!("beef")));
    let variant = run(&["decode", "--json", "--variant", "qr_dialect", "680D14010059320106000192360101 0000"], "");
    assert!(variant.out.contains("qr_set_response_59"), "{}", variant.out);
}

#[test]
fn hex_is_found_in_any_text() {
    let log =
        "2025-01-22 10:30:45 [5] recv <- 68 0C 00 00 00 02 55 03 14 12 78 23 05 00 DA 4C (ok)\nnothing here, 42\n";
    let ran = run(&["decode", "--json"], log);
    assert_eq!((ran.code, ran.out.lines().count()), (0, 1));
    let spaced: Vec<&str> = "decode 68 0C 00 00 00 02 55 03 14 12 78 23 05 00 DA 4C".split(' ').collect();
    assert!(run(&spaced, "").out.starts_with("0x02 login_response down"));
    let glued = format!("{0}{0}", "680C000000025503141278230500DA4C");
    assert_eq!(run(&["decode", "--json", &glued], "").out.lines().count(), 2);
    let bad_between =
        "680C000000025503141278230500DA4C680C000000025503141278230500DA4D680C000000025503141278230500DA4C";
    let ran = run(&["decode", "--json", bad_between], "");
    assert_eq!((ran.code, ran.out.lines().count()), (1, 3));
}

#[test]
fn bad_input_exits_with_2_and_says_why() {
    let check = |args: &[&str], input: &str, expected: &str| {
        let ran = run(args, input);
        assert_eq!(ran.code, 2, "{args:?}");
        assert!(ran.err.contains(expected), "{args:?}: {}", ran.err);
    };
    check(&["decode", "hello"], "", "no hex");
    check(&["decode", ""], "", "no hex");
    check(&["decode", "680C000000025503141278230500DA4"], "", "odd number");
    check(&["decode", "--variant", "v9", "68"], "", "--variant v9");
    check(&["encode"], "", "no JSON");
    check(&["encode"], "{", "not JSON");
    check(&["encode"], r#"{"code":"0x02","nam":"x"}"#, "nam: unknown key");
    check(
        &["encode"],
        r#"{"code":"0x02","fields":{"pile_code":"32010600019236","result":{"raw":300}}}"#,
        "fields.result: 300: must be a whole number from 0 to 255",
    );
    check(
        &["encode"],
        r#"{"code":"0x02","fields":{"pile_code":"3201","result":0}}"#,
        "fields.pile_code: 2 bytes, must be 7",
    );
    check(&["encode"], r#"{"code":"0x02","fields":{"pile_code":"32010600019236"}}"#, "fields.result: missing");
    check(
        &["encode"],
        r#"{"code":"0x48","fields":{"pile_code":"32010600019236","card_count":0,"cards":[{"physical_card":"0000000000000001"}]}}"#,
        "more than their count says",
    );
}

#[test]
fn a_closed_pipe_is_no_panic() {
    let mut child =
        binary(&["decode"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut stdin = child.stdin.take().unwrap();
    // Writing fails once the child has gone.
    while stdin.write_all(b"680C000000025503141278230500DA4C\n").is_ok() {}
    let out = child.wait_with_output().unwrap();
    assert_eq!((out.status.code(), String::from_utf8_lossy(&out.stderr).as_ref()), (Some(0), ""));
}

fn decode_one(hex: &str, code: i32) -> Value {
    let ran = run(&["decode", "--json", hex], "");
    assert_eq!((ran.code, ran.err.as_str()), (code, ""), "{hex}");
    serde_json::from_str(&ran.out).unwrap()
}

/// Puts the right CRC at the end.
fn seal(hex: &mut String) {
    let bytes: Vec<u8> =
        (2..hex.len() / 2 - 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap()).collect();
    let crc = crc::Crc::<u16>::new(&crc::CRC_16_MODBUS).checksum(&bytes).swap_bytes();
    hex.replace_range(hex.len() - 4.., &format!("{crc:04x}"));
}

fn run(args: &[&str], input: &str) -> Ran {
    let mut child = binary(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    // A thread, because the child may write before it has read everything; it may also not read at all.
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let out = child.wait_with_output().unwrap();
    let _ = writer.join().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: out.status.code().unwrap(), out: text(out.stdout), err: text(out.stderr) }
}

fn binary(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pileway"));
    command.args(args);
    command
}
