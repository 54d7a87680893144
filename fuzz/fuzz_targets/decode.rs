//! Any bytes from a socket, any body of any layout, any JSON: nothing panics, and what decodes encodes to the same bytes.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use pileway::cli::decode::{from_json, to_json};
use pileway::wire::{Codec, FRAMES, Frame};
use tokio_util::codec::Decoder;

fuzz_target!(|data: &[u8]| {
    stream(data);
    body(data);
    json(data);
});

fn stream(data: &[u8]) {
    let (mut codec, mut buffer) = (Codec::new(), BytesMut::new());
    // Pieces of varying size, as TCP would cut them.
    for piece in data.chunks(1 + data.len() % 7) {
        buffer.extend_from_slice(piece);
        while let Ok(Some(_)) = codec.decode(&mut buffer) {}
    }
    while let Ok(Some(_)) = codec.decode_eof(&mut buffer) {}
    assert!(buffer.is_empty());
}

fn body(data: &[u8]) {
    let Some((which, body)) = data.split_first() else { return };
    let spec = FRAMES[usize::from(*which) % FRAMES.len()];
    let body = &body[..body.len().min(251)];
    let whole = spec.values(body).count();
    if let Ok(decoded) = Frame::decode_as(spec, body) {
        let mut again = BytesMut::new();
        decoded.frame.encode_body(&mut again);
        assert_eq!(again, body[..decoded.consumed]);
        assert_eq!(whole, spec.fields.len());
    }
}

fn json(data: &[u8]) {
    if let Ok(json) = serde_json::from_slice(data) {
        let _ = from_json(&json);
    }
    let hex: String = data.iter().map(|byte| format!("{byte:02x}")).collect();
    for json in to_json(&hex) {
        let _ = from_json(&json);
    }
}
