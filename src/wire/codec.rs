//! The envelope: where a frame starts and ends in a byte stream, and whether it arrived whole.
//!
//! A byte stream is a sequence of sound frames and of runs of bytes that are none. Each run is one [`Refused`] item,
//! however the bytes were cut by TCP, and dropping bytes never skips a sound frame behind them.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use crc::{CRC_16_MODBUS, Crc, Table};
use tokio_util::codec::{Decoder, Encoder};

use super::table::{DecodeError, Decoded};
use super::{Frame, FrameSpec};

/// Splits bytes into frames; the same for platform and pile. An item is a frame or the reason why bytes were none: a bad
/// frame is not an error, because tokio-util ends a stream after one.
#[derive(Debug, Default)]
pub struct Codec {
    run: Option<Run>,
}

/// A frame with its envelope.
#[derive(Clone, Debug, PartialEq)]
pub struct Packet {
    /// To be copied into the reply (A5).
    pub sequence: Sequence,
    /// The frame.
    pub frame: Frame,
    /// What a dialect added behind the known body (A39).
    pub tail: Bytes,
    /// In which order the CRC came (A2).
    pub crc: CrcOrder,
    /// What the length byte counted (A7).
    pub counting: LengthCounting,
}

/// The two sequence bytes, opaque: piles disagree on their order, and some always send zero (A4, A5).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Sequence(pub [u8; 2]);

/// The order of the CRC's two bytes (A2).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum CrcOrder {
    /// As the document says.
    #[default]
    LowFirst,
    /// As some piles send it, misled by the document's listing (A3).
    HighFirst,
}

/// What a length byte counts (A7).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum LengthCounting {
    /// Sequence, encryption, type and body, as the document says.
    #[default]
    Normal,
    /// The body only, as one gateway counts.
    BodyOnly,
}

/// Bytes that are no frame, or a frame nobody can use. The stream goes on behind them.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Refused {
    /// Bytes without a frame in them.
    #[error("{bytes} bytes of garbage")]
    Garbage {
        /// How many were dropped.
        bytes: usize,
    },
    /// A run of bytes that began like a whole frame, but with a wrong CRC.
    #[error("wrong crc in a frame of type {code:#04x}, {bytes} bytes dropped")]
    BadCrc {
        /// What its type byte said.
        code: u8,
        /// How many were dropped, including what followed without a sound frame.
        bytes: usize,
    },
    /// A sound envelope whose body is said to be encrypted: no key scheme is published (A8).
    #[error("encrypted frame of type {code:#04x}")]
    Encrypted {
        /// The type byte.
        code: u8,
    },
    /// A sound envelope of a type nobody knows.
    #[error("unknown frame type {code:#04x}")]
    UnknownType {
        /// To be copied into a reply.
        sequence: Sequence,
        /// The type byte.
        code: u8,
        /// The body.
        body: Bytes,
    },
    /// A sound envelope whose body is not what its type says.
    #[error("malformed frame: {0}")]
    Malformed(#[from] DecodeError),
}

/// What to send.
#[derive(Clone, Debug, PartialEq)]
pub struct Outgoing {
    /// Exactly the request's bytes in a reply; else from a [`SequenceCounter`].
    pub sequence: Sequence,
    /// The order of the CRC: low byte first, unless a pile is known to want the other.
    pub crc: CrcOrder,
    /// What goes behind the type byte.
    pub payload: Payload,
}

/// What a frame carries.
#[expect(clippy::large_enum_variant, reason = "nearly all are frames of the table")]
#[derive(Clone, Debug, PartialEq)]
pub enum Payload {
    /// A frame of the table, and what a dialect wants behind its body.
    Frame {
        /// The frame.
        frame: Frame,
        /// Usually empty.
        tail: Bytes,
    },
    /// Any type and body, for vendor extensions.
    Raw {
        /// The type byte.
        code: u8,
        /// The body.
        body: Bytes,
    },
}

/// Why a frame was not sent.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The length byte cannot say it.
    #[error("a body of {body} bytes, at most {MAX_BODY} fit a frame")]
    TooLong {
        /// Bytes of the body.
        body: usize,
    },
    /// The socket failed.
    #[error("cannot write the frame")]
    Io(#[from] io::Error),
}

/// Counts up from 0, little-endian, wraps to 0; one per connection (2.4).
#[derive(Debug, Default)]
pub struct SequenceCounter(u16);

/// The longest body: the length byte's 255 less sequence, encryption and type.
pub const MAX_BODY: usize = 255 - OVERHEAD;

/// The first byte of a frame.
pub const START: u8 = 0x68;

/// Sequence, encryption and type: what the length byte counts besides the body. No length can be smaller.
const OVERHEAD: usize = 4;

/// Start and length in front of what the length byte counts, and the CRC behind it.
const AROUND: usize = 4;

/// A run this long is reported though it goes on, so that a peer that sends nothing but garbage is seen.
const LONGEST_RUN: usize = 4096;

const CRC: Crc<u16, Table<16>> = Crc::<u16, Table<16>>::new(&CRC_16_MODBUS);

impl Codec {
    /// A codec at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether `buffer`, what the last decode left, holds the start of a frame. The owner of the socket limits how long
    /// that may last: the codec has no clock.
    pub fn partial(buffer: &[u8]) -> bool {
        !buffer.is_empty()
    }

    fn next(&mut self, buffer: &mut BytesMut, end_of_stream: bool) -> Option<Result<Packet, Refused>> {
        loop {
            let start = buffer.iter().position(|b| *b == START).unwrap_or(buffer.len());
            if start > 0 {
                self.drop_bytes(buffer, start, None);
            }
            let trust = if self.run.is_some() { Trust::OutOfStep } else { Trust::InStep };
            let found = match look(buffer, trust) {
                Look::Incomplete if buffer.is_empty() => return self.drained(end_of_stream),
                Look::Incomplete if end_of_stream => None,
                // Out of step, what looks like a long frame may be garbage in front of a whole one. In step, nothing may
                // be looked for within a frame: its text could carry one.
                Look::Incomplete if self.run.is_some() && hides_a_frame(buffer) => None,
                Look::Incomplete => return None,
                // With four more bytes it could be a frame whose length byte counts the body only (A7). A whole frame
                // behind this place proves otherwise, and must not wait for them.
                Look::Undecided(_) if !end_of_stream && !hides_a_frame(buffer) => return None,
                Look::Undecided(code) | Look::Bad(code) => Some(code),
                Look::Impossible => None,
                Look::Sound(envelope) => {
                    if let Some(run) = self.run.take() {
                        return Some(Err(run.refused()));
                    }
                    return Some(envelope.open(buffer));
                }
            };
            self.drop_bytes(buffer, 1, found);
            if self.run.as_ref().is_some_and(|run| run.bytes >= LONGEST_RUN) {
                return self.run.take().map(|run| Err(run.refused()));
            }
        }
    }

    /// Drops bytes that are no frame; `code`: they began like a whole frame of that type.
    fn drop_bytes(&mut self, buffer: &mut BytesMut, bytes: usize, code: Option<u8>) {
        buffer.advance(bytes);
        self.run.get_or_insert(Run { bytes: 0, code }).bytes += bytes;
    }

    /// Nothing is buffered. A run that began as a frame is over: the peer sent that frame and nothing else. Other garbage
    /// may go on, and is one item, not one per read.
    fn drained(&mut self, end_of_stream: bool) -> Option<Result<Packet, Refused>> {
        let over = |run: &mut Run| end_of_stream || run.code.is_some() || run.bytes >= LONGEST_RUN;
        self.run.take_if(over).map(|run| Err(run.refused()))
    }
}

impl Decoder for Codec {
    type Item = Result<Packet, Refused>;
    type Error = io::Error;

    fn decode(&mut self, buffer: &mut BytesMut) -> io::Result<Option<Self::Item>> {
        Ok(self.next(buffer, false))
    }

    fn decode_eof(&mut self, buffer: &mut BytesMut) -> io::Result<Option<Self::Item>> {
        Ok(self.next(buffer, true))
    }
}

impl Encoder<Outgoing> for Codec {
    type Error = EncodeError;

    fn encode(&mut self, item: Outgoing, out: &mut BytesMut) -> Result<(), EncodeError> {
        item.write(out)
    }
}

impl Packet {
    /// What its type is.
    pub fn spec(&self) -> &'static FrameSpec {
        self.frame.spec()
    }

    /// The body, tail included, byte by byte as received.
    pub fn body(&self) -> Bytes {
        let mut body = BytesMut::with_capacity(MAX_BODY);
        self.frame.encode_body(&mut body);
        body.extend_from_slice(&self.tail);
        body.freeze()
    }
}

impl Refused {
    /// The metric label.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Garbage { .. } => "garbage",
            Self::BadCrc { .. } => "bad_crc",
            Self::Encrypted { .. } => "encrypted",
            Self::UnknownType { .. } => "unknown_type",
            Self::Malformed(_) => "malformed",
        }
    }

    /// Whether a frame arrived whole all the same: its sender is alive.
    pub fn arrived_whole(&self) -> bool {
        match self {
            Self::Encrypted { .. } | Self::UnknownType { .. } | Self::Malformed(_) => true,
            Self::Garbage { .. } | Self::BadCrc { .. } => false,
        }
    }
}

impl Outgoing {
    /// A frame as the document wants it.
    pub fn new(sequence: Sequence, frame: impl Into<Frame>) -> Self {
        let payload = Payload::Frame { frame: frame.into(), tail: Bytes::new() };
        Self { sequence, crc: CrcOrder::LowFirst, payload }
    }

    /// Any type byte and body.
    pub fn raw(sequence: Sequence, code: u8, body: impl Into<Bytes>) -> Self {
        Self { sequence, crc: CrcOrder::LowFirst, payload: Payload::Raw { code, body: body.into() } }
    }

    /// Appends the frame, or nothing.
    pub fn write(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        let start = out.len();
        let code = match &self.payload {
            Payload::Frame { frame, .. } => frame.code(),
            Payload::Raw { code, .. } => *code,
        };
        let [low, high] = self.sequence.0;
        out.put_slice(&[START, 0, low, high, 0, code]);
        let body = out.len();
        match &self.payload {
            Payload::Frame { frame, tail } => {
                frame.encode_body(out);
                out.put_slice(tail);
            }
            Payload::Raw { body, .. } => out.put_slice(body),
        }
        let body = out.len() - body;
        let Ok(length) = u8::try_from(body + OVERHEAD) else {
            out.truncate(start);
            return Err(EncodeError::TooLong { body });
        };
        out[start + 1] = length;
        let crc = CRC.checksum(&out[start + 2..]);
        match self.crc {
            CrcOrder::LowFirst => out.put_u16_le(crc),
            CrcOrder::HighFirst => out.put_u16(crc),
        }
        Ok(())
    }
}

impl From<Packet> for Outgoing {
    fn from(packet: Packet) -> Self {
        let Packet { sequence, frame, tail, crc, counting: _ } = packet;
        Self { sequence, crc, payload: Payload::Frame { frame, tail } }
    }
}

impl SequenceCounter {
    /// The next number.
    pub fn next_sequence(&mut self) -> Sequence {
        let number = self.0;
        self.0 = number.wrapping_add(1);
        Sequence(number.to_le_bytes())
    }
}

/// Dropped bytes that follow each other.
#[derive(Debug)]
struct Run {
    bytes: usize,
    /// The type byte, if the run began like a whole frame.
    code: Option<u8>,
}

impl Run {
    fn refused(self) -> Refused {
        match self.code {
            Some(code) => Refused::BadCrc { code, bytes: self.bytes },
            None => Refused::Garbage { bytes: self.bytes },
        }
    }
}

/// What stands at a start byte.
enum Look {
    /// Too few bytes to say.
    Incomplete,
    /// The CRC at the stated length is wrong, the bytes for the other way of counting are not all here.
    Undecided(u8),
    /// The CRC is wrong either way.
    Bad(u8),
    /// No frame is so short.
    Impossible,
    /// A frame.
    Sound(Envelope),
}

struct Envelope {
    /// What it takes in the stream.
    total: usize,
    crc: CrcOrder,
    counting: LengthCounting,
}

/// How likely it is that a frame starts here. Two bytes of CRC in either order let one piece of garbage in 30,000 through.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// Behind a frame, or at the start of the stream.
    InStep,
    /// In garbage: the encryption flag, too, must be one that exists.
    OutOfStep,
}

/// Looks at the first byte of `buffer`, a start byte if there is one.
fn look(buffer: &[u8], trust: Trust) -> Look {
    let Some(length) = buffer.get(1) else { return Look::Incomplete };
    let length = usize::from(*length);
    if length < OVERHEAD {
        return Look::Impossible;
    }
    let total = length + AROUND;
    if buffer.len() < total {
        return Look::Incomplete;
    }
    let (flag_exists, code) = (buffer[4] <= 1, buffer[5]);
    if trust == Trust::OutOfStep && !flag_exists {
        return Look::Impossible;
    }
    let mut digest = CRC.digest();
    digest.update(&buffer[2..total - 2]);
    if let Some(crc) = order(digest.clone().finalize(), &buffer[total - 2..total]) {
        return Look::Sound(Envelope { total, crc, counting: LengthCounting::Normal });
    }
    // Counting the body only, a frame is four bytes longer than it says. Nobody is seen to do so with other than the
    // frames of the table.
    let total = total + OVERHEAD;
    if length > MAX_BODY || !flag_exists || Frame::layout(code, length).is_none_or(|spec| length < spec.min_body_len) {
        return Look::Bad(code);
    }
    if buffer.len() < total {
        return Look::Undecided(code);
    }
    digest.update(&buffer[total - 2 - OVERHEAD..total - 2]);
    match order(digest.finalize(), &buffer[total - 2..total]) {
        Some(crc) => Look::Sound(Envelope { total, crc, counting: LengthCounting::BodyOnly }),
        None => Look::Bad(code),
    }
}

/// How a single frame is sent; `None` if it is not exactly one whole frame with a right CRC.
pub fn sound(frame: &[u8]) -> Option<(CrcOrder, LengthCounting)> {
    match look(frame, Trust::InStep) {
        Look::Sound(envelope) if frame[0] == START && envelope.total == frame.len() => {
            Some((envelope.crc, envelope.counting))
        }
        Look::Sound(_) | Look::Incomplete | Look::Undecided(_) | Look::Bad(_) | Look::Impossible => None,
    }
}

/// Whether a whole sound frame starts behind the first byte.
fn hides_a_frame(buffer: &[u8]) -> bool {
    let window = &buffer[..buffer.len().min(255 + AROUND + OVERHEAD)];
    (1..window.len()).any(|at| buffer[at] == START && matches!(look(&buffer[at..], Trust::OutOfStep), Look::Sound(_)))
}

/// Both orders are accepted (A2); where they are the same, it is the document's.
fn order(crc: u16, wire: &[u8]) -> Option<CrcOrder> {
    if wire == crc.to_le_bytes() {
        Some(CrcOrder::LowFirst)
    } else if wire == crc.to_be_bytes() {
        Some(CrcOrder::HighFirst)
    } else {
        None
    }
}

impl Envelope {
    /// Takes the frame off the buffer. It is read in place: splitting the buffer would allocate.
    fn open(self, buffer: &mut BytesMut) -> Result<Packet, Refused> {
        let packet = self.read(&buffer[..self.total]);
        buffer.advance(self.total);
        packet
    }

    fn read(&self, bytes: &[u8]) -> Result<Packet, Refused> {
        let (sequence, encryption, code) = (Sequence([bytes[2], bytes[3]]), bytes[4], bytes[5]);
        let body = &bytes[6..bytes.len() - 2];
        if encryption != 0 {
            return Err(Refused::Encrypted { code });
        }
        let Some(spec) = Frame::layout(code, body.len()) else {
            return Err(Refused::UnknownType { sequence, code, body: Bytes::copy_from_slice(body) });
        };
        let Decoded { frame, consumed } = (spec.decode)(body)?;
        // Copied, so that a kept tail does not keep the read buffer; it is nearly always empty.
        let tail = Bytes::copy_from_slice(&body[consumed..]);
        Ok(Packet { sequence, frame, tail, crc: self.crc, counting: self.counting })
    }
}
