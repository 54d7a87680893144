//! What the codec costs: nanoseconds and allocations per frame.

use std::hint::black_box;
use std::time::Instant;

use anyhow::{Context, ensure};
use bytes::{Bytes, BytesMut};
use crc::{CRC_16_MODBUS, Crc, Table};
use pileway::wire::{Codec, Frame, Outgoing, Sequence};
use serde::Serialize;
use tokio_util::codec::Decoder;

#[derive(Serialize)]
pub struct Figure {
    pub frame: String,
    pub what: &'static str,
    /// The median of all samples.
    pub ns: f64,
    /// The quickest sample: what it costs while nobody disturbs.
    pub best_ns: f64,
    /// The mean over a sample.
    pub allocations: f64,
    /// At most so many nanoseconds and allocations.
    pub goal: Option<(f64, f64)>,
}

/// Of 0x13, the most frequent long frame, and of 0x3B, the longest that matters.
pub fn measure() -> anyhow::Result<Vec<Figure>> {
    let mut figures = vec![];
    for (code, goal) in [(0x13, Some((60.0, 0.0))), (0x3B, None)] {
        let body = body_of(code)?;
        let frame = Frame::decode(code, &body)?.frame;
        let outgoing = Outgoing::new(Sequence::default(), frame.clone());
        let mut whole = BytesMut::new();
        outgoing.write(&mut whole)?;
        let glued = whole.repeat(FRAMES);
        let mut out = BytesMut::with_capacity(FRAMES * whole.len());
        let mut decoded = 0;

        let mut figure = |what, goal, sample: &mut dyn FnMut(&mut BytesMut)| {
            figures.push(Figure { frame: format!("{code:#04X}"), what, goal, ..sampled(&mut out, sample) });
        };
        figure("body decode", goal, &mut |_| {
            for _ in 0..FRAMES {
                black_box(Frame::decode(code, black_box(&body))).ok();
            }
        });
        figure("body encode", None, &mut |out| {
            for _ in 0..FRAMES {
                black_box(&frame).encode_body(out);
            }
        });
        figure("whole decode, glued", None, &mut |stream| {
            let mut codec = Codec::new();
            stream.extend_from_slice(&glued);
            while let Ok(Some(Ok(packet))) = codec.decode(stream) {
                black_box(&packet);
                decoded += 1;
            }
        });
        figure("whole encode", None, &mut |out| {
            for _ in 0..FRAMES {
                black_box(&outgoing).write(out).ok();
            }
        });
        figure("its CRC alone", None, &mut |_| {
            for _ in 0..FRAMES {
                black_box(CRC.checksum(black_box(&whole[2..whole.len() - 2])));
            }
        });
        ensure!(decoded == FRAMES * (SAMPLES + 2), "the codec did not find every frame of type {code:#04X}");
    }
    Ok(figures)
}

/// `sample` handles so many frames; what it appends to the buffer is forgotten before the next.
fn sampled(buffer: &mut BytesMut, sample: &mut dyn FnMut(&mut BytesMut)) -> Figure {
    let mut run = || {
        buffer.clear();
        let began = Instant::now();
        sample(buffer);
        began.elapsed().as_nanos() as f64 / FRAMES as f64
    };
    // Warms caches, and grows the buffer to its final size.
    run();
    let allocated = allocation_counter::measure(|| {
        run();
    });
    let mut nanoseconds: Vec<_> = (0..SAMPLES).map(|_| run()).collect();
    nanoseconds.sort_by(f64::total_cmp);
    Figure {
        frame: String::new(),
        what: "",
        ns: nanoseconds[SAMPLES / 2],
        best_ns: nanoseconds[0],
        allocations: allocated.count_total as f64 / FRAMES as f64,
        goal: None,
    }
}

/// The body of a captured frame, from the samples the tests replay.
fn body_of(code: u8) -> anyhow::Result<Bytes> {
    let samples: serde_json::Value = serde_json::from_str(include_str!("../../tests/data/samples.json"))?;
    let of_type =
        |sample: &&serde_json::Value| sample["kind"] == "capture" && sample["frame_code"] == format!("{code:#04X}");
    let sample = samples.as_array().and_then(|all| all.iter().find(of_type));
    let hex = sample.and_then(|sample| sample["hex"].as_str()).with_context(|| format!("no captured {code:#04X}"))?;
    let digits = hex.as_bytes().chunks(2).map(|pair| u8::from_str_radix(&String::from_utf8_lossy(pair), 16));
    let bytes = digits.collect::<Result<Vec<_>, _>>()?;
    ensure!(bytes.len() > 8, "the captured {code:#04X} is cut");
    Ok(Bytes::copy_from_slice(&bytes[6..bytes.len() - 2]))
}

const CRC: Crc<u16, Table<16>> = Crc::<u16, Table<16>>::new(&CRC_16_MODBUS);
/// Per sample: some tens of microseconds, so that most samples are not interrupted.
const FRAMES: usize = 500;
const SAMPLES: usize = 2001;
