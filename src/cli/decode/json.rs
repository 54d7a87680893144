//! The JSON of `frames`, `decode` and `encode`.

use bytes::{Bytes, BytesMut};
use serde_json::{Map, Number, Value as Json, json};

use super::{Report, hex};
use crate::wire::field::{Kind, TextKind};
use crate::wire::view::{Value, label};
use crate::wire::{BitSpec, CrcOrder, Decimal, FieldSpec, Frame, FrameSpec, Outgoing, Payload, Sequence};

/// All frames with their fields.
pub(super) fn table() -> Json {
    let fields = |spec: &FrameSpec| -> Vec<Json> {
        let field = |field: &FieldSpec| json!({"name": field.name, "offset": field.offset, "len": field.len});
        spec.fields.iter().map(field).collect()
    };
    let frame = |spec: &&FrameSpec| {
        let mut frame = Map::new();
        frame.insert("code".into(), code(spec.code));
        frame.insert("name".into(), spec.name.into());
        frame.extend(spec.variant.map(|variant| ("variant".into(), variant.into())));
        frame.insert("direction".into(), spec.direction.as_str().into());
        frame.insert("body_len".into(), json!(spec.body_len));
        frame.insert("fields".into(), fields(spec).into());
        Json::Object(frame)
    };
    FrameSpec::all().iter().map(frame).collect()
}

/// One decoded frame.
pub(super) fn report(report: &Report) -> Json {
    let Report { found, spec, fields, tail, error } = report;
    let mut json = Map::new();
    json.insert("code".into(), code(found.code()));
    json.insert("name".into(), json!(spec.map(|spec| spec.name)));
    json.extend(spec.and_then(|spec| spec.variant).map(|variant| ("variant".into(), variant.into())));
    json.insert("direction".into(), json!(spec.map(|spec| spec.direction.as_str())));
    json.insert("sequence".into(), hex(&found.sequence()).into());
    json.insert("length".into(), json!({"stated": found.stated(), "actual": found.actual()}));
    json.insert("crc".into(), found.crc().as_str().into());
    json.insert("encrypted".into(), found.encrypted().into());
    json.insert("fields".into(), object(fields));
    json.insert("tail".into(), hex(tail).into());
    let error =
        error.map(|error| json!({"field": error.field, "byte": error.byte, "reason": error.reason.to_string()}));
    json.insert("error".into(), json!(error));
    Json::Object(json)
}

/// A member of a bit field as a number, scaled if it is.
pub(super) fn bit(member: &BitSpec, raw: u16) -> Json {
    let value = member.of(raw);
    match member.scale {
        None => value.into(),
        Some((decimals, _)) => {
            let decimal = Decimal { units: i64::from(value), decimals }.to_string();
            decimal.parse::<Number>().map_or(Json::Null, Json::Number)
        }
    }
}

/// The frame of one JSON object, as hex.
pub(super) fn encode(json: &Json) -> Result<String, String> {
    let object = json.as_object().ok_or("not an object")?;
    let known =
        ["code", "name", "variant", "direction", "sequence", "length", "crc", "encrypted", "fields", "tail", "error"];
    only(object, "", &known)?;
    let code = read_code(object.get("code").ok_or("code: missing")?)?;
    if object.get("encrypted").is_some_and(|encrypted| *encrypted != json!(false)) {
        return Err("encrypted: only false can be sent, no key scheme is published".into());
    }
    if let Some(error) = object.get("error").filter(|error| !error.is_null()) {
        return Err(format!("error: {error}: a frame that could not be read whole cannot be written"));
    }
    let sequence = object.get("sequence").map_or(Ok(vec![0, 0]), |sequence| read_hex("sequence", sequence))?;
    let sequence = <[u8; 2]>::try_from(sequence).map_err(|_| "sequence: must be 4 hex digits")?;
    let crc = match object.get("crc").map(Json::as_str) {
        None | Some(Some("ok" | "bad")) => CrcOrder::LowFirst,
        Some(Some("swapped")) => CrcOrder::HighFirst,
        Some(_) => return Err(format!("crc: {}: must be \"ok\", \"swapped\" or \"bad\"", object["crc"])),
    };
    let tail = Bytes::from(object.get("tail").map_or(Ok(Vec::new()), |tail| read_hex("tail", tail))?);
    let payload = match layout(code, object)? {
        None => Payload::Raw { code, body: tail },
        Some(spec) => {
            let fields = object.get("fields").ok_or("fields: missing")?;
            let body = read_fields("fields", spec.fields, fields)?;
            let decoded =
                Frame::decode_as(spec, &body).map_err(|error| format!("fields.{}: {}", error.field, error.reason))?;
            if decoded.consumed < body.len() {
                return Err(format!("fields: {} bytes more than their count says", body.len() - decoded.consumed));
            }
            Payload::Frame { frame: decoded.frame, tail }
        }
    };
    let mut out = BytesMut::new();
    Outgoing { sequence: Sequence(sequence), crc, payload }.write(&mut out).map_err(|error| error.to_string())?;
    Ok(hex(&out))
}

/// The layout an object means, by code and then variant or name; `None`: a type nobody knows.
fn layout(code: u8, object: &Map<String, Json>) -> Result<Option<&'static FrameSpec>, String> {
    let text = |key: &str| match object.get(key) {
        None | Some(Json::Null) => Ok(None),
        Some(Json::String(text)) => Ok(Some(text.as_str())),
        Some(other) => Err(format!("{key}: {other}: must be text")),
    };
    let (name, variant) = (text("name")?, text("variant")?);
    if Frame::layouts(code).next().is_none() {
        return match object.get("fields").and_then(Json::as_object) {
            Some(fields) if !fields.is_empty() => {
                Err(format!("code: 0x{code:02X}: no frame has this type byte, so it has no fields"))
            }
            Some(_) | None => Ok(None),
        };
    }
    let fits = |spec: &&FrameSpec| {
        name.is_none_or(|name| spec.name == name) && variant.is_none_or(|variant| spec.variant == Some(variant))
    };
    let spec = Frame::layouts(code).find(fits);
    let spec = spec.ok_or_else(|| {
        let (key, value) = if variant.is_some() { ("variant", variant) } else { ("name", name) };
        format!("{key}: {}: no layout of 0x{code:02X} is called so", value.unwrap_or_default())
    })?;
    if text("direction")?.is_some_and(|direction| direction != spec.direction.as_str()) {
        return Err(format!("direction: {}: 0x{code:02X} goes {}", object["direction"], spec.direction.as_str()));
    }
    Ok(Some(spec))
}

fn object(fields: &[(&'static FieldSpec, Value)]) -> Json {
    Json::Object(fields.iter().map(|(field, value)| (field.name.to_owned(), value_json(value))).collect())
}

fn value_json(value: &Value) -> Json {
    match value {
        Value::Hex(raw) => json!({"raw": hex(raw)}),
        Value::Text { raw, text } => json!({"raw": hex(raw), "text": text}),
        Value::Time { raw, civil } => json!({"raw": hex(raw), "time": civil.map(|civil| civil.to_string())}),
        Value::Number { raw, scaled, unit } => {
            let mut number = Map::new();
            number.insert("raw".into(), json!(raw));
            number.extend(scaled.map(|value| ("value".into(), json!(value.map(|value| value.to_string())))));
            number.extend(unit.map(|unit| ("unit".into(), unit.into())));
            Json::Object(number)
        }
        Value::Label { raw, label } => json!({"raw": raw, "label": label}),
        Value::LabelArray { raw, labels } => {
            raw.iter().map(|raw| json!({"raw": raw, "label": label(labels, *raw)})).collect()
        }
        Value::Bits { raw, members } => {
            let shown = members.iter().filter(|member| !member.is_reserved());
            let bits: Map<String, Json> = shown.map(|member| (member.name.to_owned(), bit(member, *raw))).collect();
            json!({"raw": raw, "bits": bits})
        }
        Value::Group(entries) => entries.iter().map(|entry| object(entry)).collect(),
    }
}

/// The bytes of an object's fields, each key of which must be one.
fn read_fields(path: &str, specs: &[FieldSpec], json: &Json) -> Result<Vec<u8>, String> {
    let object = json.as_object().ok_or_else(|| format!("{path}: must be an object"))?;
    let names: Vec<&str> = specs.iter().map(|field| field.name).collect();
    only(object, path, &names)?;
    let mut body = Vec::new();
    for field in specs {
        let path = format!("{path}.{}", field.name);
        let json = object.get(field.name).ok_or_else(|| format!("{path}: missing"))?;
        body.extend(read_field(&path, field, json)?);
    }
    Ok(body)
}

fn read_field(path: &str, field: &FieldSpec, json: &Json) -> Result<Vec<u8>, String> {
    match field.kind {
        Kind::Hex
        | Kind::Time
        | Kind::Text(TextKind::Plain | TextKind::Reversed | TextKind::Counted(_) | TextKind::ToEnd) => {
            let bytes = read_hex(path, raw(path, json)?)?;
            match field.len {
                Some(len) if len != bytes.len() => Err(format!("{path}: {} bytes, must be {len}", bytes.len())),
                Some(_) | None => Ok(bytes),
            }
        }
        Kind::Number(_) | Kind::Label(_) | Kind::Bits(_) => read_number(path, field.len.unwrap_or(1), raw(path, json)?),
        Kind::LabelArray(_) => {
            let items = list(path, json)?;
            if field.len != Some(items.len()) {
                return Err(format!("{path}: {} entries, must be {}", items.len(), field.len.unwrap_or(0)));
            }
            let each = |(n, item)| read_number(&format!("{path}[{n}]"), 1, raw(&format!("{path}[{n}]"), item)?);
            Ok(items.iter().enumerate().map(each).collect::<Result<Vec<_>, String>>()?.concat())
        }
        Kind::Group(group) => {
            let each = |(n, item)| read_fields(&format!("{path}[{n}]"), group.entry, item);
            Ok(list(path, json)?.iter().enumerate().map(each).collect::<Result<Vec<_>, String>>()?.concat())
        }
    }
}

/// A field's `raw`; a bare value is one.
fn raw<'a>(path: &str, json: &'a Json) -> Result<&'a Json, String> {
    let Some(object) = json.as_object() else { return Ok(json) };
    only(object, path, &["raw", "value", "unit", "label", "text", "time", "bits"])?;
    object.get("raw").ok_or_else(|| format!("{path}.raw: missing"))
}

fn list<'a>(path: &str, json: &'a Json) -> Result<&'a Vec<Json>, String> {
    json.as_array().ok_or_else(|| format!("{path}: must be an array"))
}

fn only(object: &Map<String, Json>, path: &str, known: &[&str]) -> Result<(), String> {
    match object.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(format!(
            "{path}{}{key}: unknown key, known are {}",
            if path.is_empty() { "" } else { "." },
            known.join(", ")
        )),
        None => Ok(()),
    }
}

fn read_number(path: &str, width: usize, json: &Json) -> Result<Vec<u8>, String> {
    let max = u64::MAX >> (64 - 8 * width.clamp(1, 8));
    let number = json.as_u64().filter(|number| *number <= max);
    let number = number.ok_or_else(|| format!("{path}: {json}: must be a whole number from 0 to {max}"))?;
    Ok(number.to_le_bytes()[..width].to_vec())
}

fn read_hex(path: &str, json: &Json) -> Result<Vec<u8>, String> {
    let digits = json.as_str().ok_or_else(|| format!("{path}: {json}: must be hex digits in quotes"))?;
    let nibbles: Option<Vec<u8>> = digits.chars().map(|c| c.to_digit(16).map(|nibble| nibble as u8)).collect();
    let nibbles = nibbles.ok_or_else(|| format!("{path}: {json}: not hex"))?;
    let (pairs, rest) = nibbles.as_chunks::<2>();
    if rest.is_empty() {
        Ok(pairs.iter().map(|[high, low]| high << 4 | low).collect())
    } else {
        Err(format!("{path}: {json}: an odd number of hex digits"))
    }
}

fn read_code(json: &Json) -> Result<u8, String> {
    let text = json.as_str().and_then(|text| text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")));
    let code = text.and_then(|digits| u8::from_str_radix(digits, 16).ok());
    code.ok_or_else(|| format!("code: {json}: must be like \"0x13\""))
}

fn code(code: u8) -> Json {
    format!("0x{code:02X}").into()
}
