//! Bytes to frames and back: the reference's samples, its list of ambiguities (`aNN_…`), and any bytes at all.
#![allow(clippy::unwrap_used, reason = "a test that cannot read its data fails")]

mod ambiguities;
mod any_bytes;
mod samples;

use std::fmt::Write as _;

use bytes::BytesMut;
use pileway::wire::*;
use tokio_util::codec::Decoder;

pub type Item = Result<Packet, Refused>;

pub const LOGIN_OK: &str = "680C000000025503141278230500DA4C";

pub fn heartbeat(gun: u8) -> Frame {
    Heartbeat { pile_code: PileCode([0x32, 1, 6, 0, 1, 0x92, 0x36]), gun_no: GunNo(gun), gun_status: GunHealth::Normal }
        .into()
}

pub fn gun(packet: &Packet) -> u8 {
    let Frame::Heartbeat(row) = &packet.frame else { panic!("{packet:?}") };
    row.gun_no.0
}

pub fn card_clear(body: &[u8]) -> CardClearResponse {
    let decoded = Frame::decode(0x45, body).unwrap();
    assert_eq!(encoded(&decoded.frame), body);
    let Frame::CardClearResponse(row) = decoded.frame else { panic!() };
    row
}

pub fn frame_bytes(frame: Frame) -> Vec<u8> {
    let mut out = BytesMut::new();
    Outgoing::new(Sequence([1, 2]), frame).write(&mut out).unwrap();
    out.to_vec()
}

/// Decodes one frame and sends it again as the document wants it.
pub fn sent(hex: &str) -> Vec<u8> {
    let [Ok(packet)] = &decode_all(&bytes(hex))[..] else { panic!("{hex}") };
    let mut out = BytesMut::new();
    Outgoing::new(packet.sequence, packet.frame.clone()).write(&mut out).unwrap();
    out.to_vec()
}

/// Rewrites the CRC.
pub fn seal(frame: &mut [u8]) {
    let end = frame.len() - 2;
    let crc = crc::Crc::<u16>::new(&crc::CRC_16_MODBUS).checksum(&frame[2..end]);
    frame[end..].copy_from_slice(&crc.to_le_bytes());
}

pub fn encoded(frame: &Frame) -> Vec<u8> {
    let mut out = BytesMut::new();
    frame.encode_body(&mut out);
    out.to_vec()
}

/// All items of a stream that then ends.
pub fn decode_all(stream: &[u8]) -> Vec<Item> {
    decode_in_pieces(stream, &[])
}

pub fn decode_cut(stream: &[u8], cut: usize) -> Vec<Item> {
    decode_in_pieces(stream, &[cut])
}

/// All items of a stream that stays open.
pub fn decode_open(stream: &[u8]) -> Vec<Item> {
    let (mut codec, mut buffer) = (Codec::new(), BytesMut::from(stream));
    std::iter::from_fn(|| codec.decode(&mut buffer).unwrap()).collect()
}

/// All items of a stream that arrives in pieces and then ends. `cuts` ascend.
pub fn decode_in_pieces(stream: &[u8], cuts: &[usize]) -> Vec<Item> {
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

pub fn bytes(hex: &str) -> Vec<u8> {
    let hex = hex.replace(' ', "");
    assert!(hex.len().is_multiple_of(2), "{hex}");
    (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap()).collect()
}

pub fn byte(hex: &str) -> u8 {
    u8::from_str_radix(hex.trim_start_matches("0x"), 16).unwrap()
}

pub fn upper(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02X}").unwrap();
        text
    })
}
