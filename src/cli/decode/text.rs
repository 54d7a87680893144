//! Frames for people.

use std::fmt;

use super::{Report, hex, json};
use crate::wire::FrameSpec;
use crate::wire::view::{Value, label};

/// All frames, one per line.
pub(super) fn table() -> String {
    let heading = format!("{:<5} {:<31} {:<4} {:>5}  {}", "CODE", "NAME", "DIR", "BODY", "FIELDS");
    let line = |spec: &&FrameSpec| {
        let FrameSpec { code, name, direction, variant, .. } = spec;
        let body = spec.body_len.map_or_else(|| format!("{}+", spec.min_body_len), |len| len.to_string());
        let fields: Vec<&str> = spec.fields.iter().map(|field| field.name).collect();
        let variant = variant.map(|variant| format!("({variant}) ")).unwrap_or_default();
        format!("0x{code:02X}  {name:<31} {:<4} {body:>5}  {variant}{}", direction.as_str(), fields.join(" "))
    };
    let lines: Vec<String> = [heading].into_iter().chain(FrameSpec::all().iter().map(line)).collect();
    lines.join("\n")
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { found, spec, fields, tail, error } = self;
        write!(f, "0x{:02X} {}", found.code(), spec.map_or("unknown", |spec| spec.name))?;
        if let Some(variant) = spec.and_then(|spec| spec.variant) {
            write!(f, " ({variant})")?;
        }
        if let Some(spec) = spec {
            write!(f, " {}", spec.direction.as_str())?;
        }
        write!(f, "  sequence {}  length {}", hex(&found.sequence()), found.stated())?;
        if found.stated() != found.actual() {
            write!(f, " but {} bytes", found.actual())?;
        }
        write!(f, "  crc {}{}", found.crc().as_str(), if found.encrypted() { "  encrypted" } else { "" })?;
        for (field, value) in fields {
            entry(f, 2, field.name, value)?;
        }
        if !tail.is_empty() {
            write!(f, "\n  {:<28} {}", "(tail)", hex(tail))?;
        }
        match error {
            Some(error) => write!(f, "\n  error: {error}"),
            None => Ok(()),
        }
    }
}

fn entry(f: &mut fmt::Formatter<'_>, indent: usize, name: &str, value: &Value) -> fmt::Result {
    let width = 30 - indent;
    write!(f, "\n{:indent$}{name:<width$} ", "")?;
    match value {
        Value::Hex(raw) => write!(f, "{}", hex(raw)),
        Value::Text { raw, text } => write!(f, "{text:?}  ({})", hex(raw)),
        Value::Time { raw, civil: Some(civil) } => write!(f, "{civil}  ({})", hex(raw)),
        Value::Time { raw, civil: None } => write!(f, "no time  ({})", hex(raw)),
        Value::Number { raw, scaled, unit } => {
            let unit = unit.map(|unit| format!(" {unit}")).unwrap_or_default();
            match scaled {
                None => write!(f, "{raw}{unit}"),
                Some(None) => write!(f, "no value  ({raw})"),
                Some(Some(value)) => write!(f, "{value}{unit}  ({raw})"),
            }
        }
        Value::Label { raw, label } => write!(f, "{}  ({raw})", label.unwrap_or("unknown")),
        Value::LabelArray { raw, labels } => {
            let words: Vec<&str> = raw.iter().map(|raw| label(labels, *raw).unwrap_or("unknown")).collect();
            // A stretch of the day each: index 0 is midnight, one entry is half an hour.
            let clock = |half: usize| format!("{:02}:{:02}", half / 2, half % 2 * 30);
            let mut from = 0;
            for stretch in words.chunk_by(|a, b| a == b) {
                let to = from + stretch.len();
                write!(f, "{}{}–{} {}", if from == 0 { "" } else { ", " }, clock(from), clock(to), stretch[0])?;
                from = to;
            }
            Ok(())
        }
        Value::Bits { raw, members } => {
            let set = members.iter().filter(|member| member.of(*raw) != 0);
            let set = set.map(|member| match label(member.labels, member.of(*raw) as u8) {
                Some(label) => format!("{}: {label}", member.name),
                None if member.len == 1 => member.name.to_owned(),
                None => {
                    format!("{}: {}{}", member.name, json::bit(member, *raw), member.scale.map_or("", |(_, unit)| unit))
                }
            });
            let set: Vec<String> = set.collect();
            write!(f, "{}  ({raw:#06x})", if set.is_empty() { "none set".to_owned() } else { set.join(", ") })
        }
        Value::Group(entries) => {
            write!(f, "{} entries", entries.len())?;
            for (n, fields) in entries.iter().enumerate() {
                write!(f, "\n{:indent$}  [{n}]", "")?;
                fields.iter().try_for_each(|(field, value)| entry(f, indent + 4, field.name, value))?;
            }
            Ok(())
        }
    }
}
