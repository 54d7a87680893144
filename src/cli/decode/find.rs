//! Finds frames in text: hex runs first, then frames in their bytes.

use std::ops::Range;

use bytes::BytesMut;
use tokio_util::codec::Decoder;

use crate::wire::codec::START;
use crate::wire::{Codec, CrcOrder, LengthCounting, Refused};

/// A frame found in text, sound or not.
pub(super) struct Found {
    bytes: Vec<u8>,
    crc: Crc,
}

/// What is to be said about a CRC.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Crc {
    Ok,
    Swapped,
    Bad,
}

impl Crc {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Swapped => "swapped",
            Self::Bad => "bad",
        }
    }
}

/// Start, length, sequence, encryption, type and CRC: less is no frame.
const SHORTEST: usize = 8;

impl Found {
    pub(super) fn sequence(&self) -> [u8; 2] {
        [self.bytes[2], self.bytes[3]]
    }

    pub(super) fn encrypted(&self) -> bool {
        self.bytes[4] != 0
    }

    pub(super) fn code(&self) -> u8 {
        self.bytes[5]
    }

    pub(super) fn body(&self) -> &[u8] {
        &self.bytes[6..self.bytes.len() - 2]
    }

    pub(super) fn crc(&self) -> Crc {
        self.crc
    }

    /// What the length byte says.
    pub(super) fn stated(&self) -> usize {
        usize::from(self.bytes[1])
    }

    /// What it should say.
    pub(super) fn actual(&self) -> usize {
        self.bytes.len() - 4
    }
}

/// Hex that is not one frame or several.
pub(super) enum Unreadable {
    /// Long enough to be meant as a frame.
    Frame(String),
    /// Too short for one: any text has numbers in it.
    Scrap(String),
}

/// The frames in a line of text.
pub(super) fn runs(line: &str) -> Result<Vec<Found>, Unreadable> {
    let Some(digits) = longest_run(line) else { return Ok(Vec::new()) };
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        let reason = format!("{} hex digits are an odd number: {digits}", digits.len());
        return Err(if pairs.len() < SHORTEST { Unreadable::Scrap(reason) } else { Unreadable::Frame(reason) });
    }
    let nibble = |digit: u8| char::from(digit).to_digit(16).unwrap_or(0) as u8;
    let bytes: Vec<u8> = pairs.iter().map(|[high, low]| nibble(*high) << 4 | nibble(*low)).collect();
    let found = frames(&bytes);
    if found.is_empty() {
        return Err(Unreadable::Scrap(format!("{} bytes are too few for a frame: {digits}", bytes.len())));
    }
    Ok(found)
}

/// The longest run of hex words in a line that holds a start byte, without the spaces. Where a word has an odd number of
/// digits the pairs cannot be told, so the run then starts with the first word that starts like a frame.
fn longest_run(line: &str) -> Option<String> {
    let mut best: Option<String> = None;
    let mut words: Vec<&str> = Vec::new();
    // A word that is not hex ends a run, and so does the end of the line.
    for word in line
        .split(|c: char| !c.is_alphanumeric() && !c.is_whitespace())
        .flat_map(|part| part.split_whitespace().chain([""]))
    {
        if !word.is_empty() && word.bytes().all(|b| b.is_ascii_hexdigit()) {
            words.push(word);
            continue;
        }
        if let Some(run) = run(&words).filter(|run| best.as_ref().is_none_or(|best| best.len() < run.len())) {
            best = Some(run);
        }
        words.clear();
    }
    best
}

fn run(words: &[&str]) -> Option<String> {
    let starts = |word: &&str| word.starts_with("68");
    let first =
        if words.iter().all(|word| word.len().is_multiple_of(2)) { 0 } else { words.iter().position(starts)? };
    let digits = words[first..].concat();
    let start = digits.as_bytes().chunks(2).position(|pair| pair == b"68")?;
    Some(digits[start * 2..].to_owned())
}

/// Frames by CRC; a stretch between them that starts like a frame is one with a wrong CRC.
fn frames(bytes: &[u8]) -> Vec<Found> {
    let mut found = Vec::new();
    let bad = |range: Range<usize>, found: &mut Vec<Found>| {
        let stretch = &bytes[range];
        let start = stretch.iter().position(|byte| *byte == START);
        let frame = start.map(|start| &stretch[start..]).filter(|frame| frame.len() >= SHORTEST);
        found.extend(frame.map(|frame| Found { bytes: frame.to_vec(), crc: Crc::Bad }));
    };
    let mut codec = Codec::new();
    let mut rest = BytesMut::from(bytes);
    let mut done = 0;
    // What the codec drops it reports in front of the frame behind it, so `done` is where that frame starts.
    while let Ok(Some(item)) = codec.decode_eof(&mut rest) {
        let dropped = match &item {
            Err(Refused::Garbage { bytes } | Refused::BadCrc { bytes, .. }) => Some(*bytes),
            Ok(_) | Err(Refused::Encrypted { .. } | Refused::UnknownType { .. } | Refused::Malformed(_)) => None,
        };
        if let Some(dropped) = dropped {
            bad(done..done + dropped, &mut found);
            done += dropped;
            continue;
        }
        let frame = bytes[done..bytes.len() - rest.len()].to_vec();
        done = bytes.len() - rest.len();
        found.push(Found { crc: order(&frame), bytes: frame });
    }
    found
}

/// In which order the CRC of a sound frame is.
fn order(frame: &[u8]) -> Crc {
    match crate::wire::codec::sound(frame) {
        Some((CrcOrder::LowFirst, LengthCounting::Normal | LengthCounting::BodyOnly)) => Crc::Ok,
        Some((CrcOrder::HighFirst, LengthCounting::Normal | LengthCounting::BodyOnly)) => Crc::Swapped,
        None => Crc::Bad,
    }
}
