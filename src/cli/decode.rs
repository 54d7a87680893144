//! `pileway frames`, `decode` and `encode`: frames to readable fields and back.

mod find;
mod json;
mod text;

use std::io::{self, BufRead, Write};
use std::process::ExitCode;

use serde_json::Value as Json;

use self::find::{Crc, Found, Unreadable, runs};
use crate::wire::view::Value;
use crate::wire::{CardClearResponse, DecodeError, FieldSpec, Frame, FrameSpec};

/// Prints the frame table.
#[derive(clap::Args)]
pub struct FramesArgs {
    /// One JSON array of all frames with their fields.
    #[arg(long)]
    json: bool,
}

/// Makes frames readable. Exits with 1 if one has a wrong CRC, length or body, with 2 if the input is not hex.
#[derive(clap::Args)]
pub struct DecodeArgs {
    /// One JSON object per frame, one per line.
    #[arg(long)]
    json: bool,
    /// Which layout to use where a type byte has several: `v1.8`, `qr_dialect`, or `none` for the one without a variant.
    #[arg(long)]
    variant: Option<String>,
    /// Hex, or text with hex in it; from standard input if there is none.
    hex: Vec<String>,
}

/// Makes frames from what `decode --json` prints; of each field only `raw` counts.
#[derive(clap::Args)]
pub struct EncodeArgs {
    /// The input is JSON; it always is.
    #[arg(long)]
    json: bool,
    /// JSON objects; from standard input if there is none.
    input: Vec<String>,
}

/// Runs `pileway frames`.
pub fn frames(args: &FramesArgs) -> ExitCode {
    let text = if args.json { json::table().to_string() } else { text::table() };
    exit(print(&text), Verdict::Good)
}

/// Runs `pileway decode`.
pub fn decode(args: &DecodeArgs) -> ExitCode {
    let known = |variant: &str| FrameSpec::all().iter().any(|spec| spec.variant == Some(variant)) || variant == "none";
    if let Some(variant) = args.variant.as_deref().filter(|variant| !known(variant)) {
        return complain(&format!("--variant {variant}: no frame has this variant"));
    }
    let mut worst = Verdict::Nothing;
    let mut doubt = "no hex with a frame in it (a frame starts with 68)".to_owned();
    let mut each = |line: &str| -> io::Result<()> {
        let found = match runs(line) {
            Ok(found) => found,
            Err(Unreadable::Frame(reason)) => {
                worst = worst.max(Verdict::Unreadable);
                eprintln!("pileway: {reason}");
                return Ok(());
            }
            // Any text has numbers in it: worth a word only if there is nothing else.
            Err(Unreadable::Scrap(reason)) => {
                doubt = reason;
                return Ok(());
            }
        };
        for found in &found {
            let report = Report::new(found, args.variant.as_deref());
            worst = worst.max(report.verdict());
            print(&if args.json { json::report(&report).to_string() } else { report.to_string() })?;
        }
        Ok(())
    };
    let read = if args.hex.is_empty() {
        io::stdin().lock().split(b'\n').try_for_each(|line| each(&String::from_utf8_lossy(&line?)))
    } else {
        lines(&args.hex).iter().try_for_each(|line| each(line))
    };
    if worst == Verdict::Nothing && read.is_ok() {
        return complain(&doubt);
    }
    exit(read, worst)
}

/// Runs `pileway encode`.
pub fn encode(args: &EncodeArgs) -> ExitCode {
    let EncodeArgs { json: _, input } = args;
    let text = if input.is_empty() { io::read_to_string(io::stdin().lock()) } else { Ok(input.join(" ")) };
    let text = match text {
        Ok(text) => text,
        Err(error) => return complain(&format!("cannot read the input: {error}")),
    };
    let mut any = false;
    for (n, object) in serde_json::Deserializer::from_str(&text).into_iter::<Json>().enumerate() {
        any = true;
        let hex = object.map_err(|error| format!("not JSON: {error}")).and_then(|object| from_json(&object));
        match hex {
            Ok(hex) => {
                if let Err(error) = print(&hex) {
                    return exit(Err(error), Verdict::Good);
                }
            }
            Err(reason) => return complain(&format!("frame {}: {reason}", n + 1)),
        }
    }
    if any { ExitCode::SUCCESS } else { complain("no JSON: expected what `pileway decode --json` prints") }
}

/// The frames in a line of text as `decode --json` prints them.
pub fn to_json(line: &str) -> Vec<Json> {
    let found = runs(line).unwrap_or_default();
    found.iter().map(|found| json::report(&Report::new(found, None))).collect()
}

/// A frame as hex, from what `decode --json` prints; else key, value and reason.
pub fn from_json(json: &Json) -> Result<String, String> {
    json::encode(json)
}

/// What there is to say about one frame.
struct Report<'a> {
    found: &'a Found,
    /// The layout its body was read with.
    spec: Option<&'static FrameSpec>,
    fields: Vec<(&'static FieldSpec, Value<'a>)>,
    tail: &'a [u8],
    error: Option<DecodeError>,
}

/// How the input was, the worst last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Nothing,
    Good,
    Bad,
    Unreadable,
}

impl<'a> Report<'a> {
    fn new(found: &'a Found, variant: Option<&str>) -> Self {
        let body = found.body();
        let asked = variant.map(|variant| (variant != "none").then_some(variant));
        let asked = asked.and_then(|variant| Frame::layouts(found.code()).find(|spec| spec.variant == variant));
        let spec = asked.or_else(|| Frame::layout(found.code(), body.len()));
        let Some(layout) = spec.filter(|_| !found.encrypted()) else {
            return Self { found, spec, fields: Vec::new(), tail: body, error: None };
        };
        let (known, error) = match Frame::decode_as(layout, body) {
            Ok(decoded) => {
                let error = if let Frame::CardClearResponse(row) = &decoded.frame {
                    CardClearResponse::defect(row)
                } else {
                    None
                };
                (decoded.consumed, error)
            }
            Err(error) => (body.len(), Some(error)),
        };
        let fields = layout.values(&body[..known]).collect();
        Self { found, spec, fields, tail: &body[known..], error }
    }

    fn verdict(&self) -> Verdict {
        let whole = self.found.crc() != Crc::Bad && self.found.stated() == self.found.actual() && self.error.is_none();
        if whole { Verdict::Good } else { Verdict::Bad }
    }
}

/// An argument that starts like a frame is a line of its own; others go on with the line before.
fn lines(arguments: &[String]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for argument in arguments {
        match lines.last_mut() {
            Some(line) if argument.len() <= 8 || !argument.starts_with("68") => {
                line.push(' ');
                line.push_str(argument);
            }
            Some(_) | None => lines.push(argument.clone()),
        }
    }
    lines.iter().flat_map(|text| text.lines()).map(str::to_owned).collect()
}

/// Lower-case hex.
fn hex(bytes: &[u8]) -> String {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0x0F)]).collect()
}

fn print(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(line.as_bytes())?;
    out.write_all(b"\n")?;
    out.flush()
}

/// Whoever closes our output has seen enough: no error.
fn exit(result: io::Result<()>, verdict: Verdict) -> ExitCode {
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => complain(&error.to_string()),
        Err(_) | Ok(()) => match verdict {
            Verdict::Nothing | Verdict::Good => ExitCode::SUCCESS,
            Verdict::Bad => ExitCode::from(1),
            Verdict::Unreadable => ExitCode::from(2),
        },
    }
}

fn complain(reason: &str) -> ExitCode {
    eprintln!("pileway: {reason}");
    ExitCode::from(2)
}
