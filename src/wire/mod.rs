//! Bytes to frames and back. Pure: no socket, no clock, and nothing else of this crate.
//!
//! ```text
//!     68 0C 00 00 00 02 55 03 14 12 78 23 05 00 DA 4C
//!     │  │  │     │  │  │                       └ CRC-16/MODBUS of everything after the length, low byte first
//!     │  │  │     │  │  └ body: rows of one table, see `table`
//!     │  │  │     │  └ type
//!     │  │  │     └ encryption, 0
//!     │  │  └ sequence, two bytes a reply copies
//!     │  └ length of sequence, encryption, type and body
//!     └ start
//! ```
//!
//! Every fact about a frame is written once, as a row in the topic's file. The enum [`Frame`], decode, encode, error
//! texts, `pileway frames`, `pileway decode`, the tests and the simulator come from those rows. The order of the enum is that of
//! the protocol's reference, official frames first.

pub mod codec;
pub mod field;
pub mod table;
pub mod view;

mod cards;
mod charge;
mod live;
mod login;
mod parallel;
mod settings;
mod tariff;
mod upkeep;

pub use cards::*;
pub use charge::*;
pub use codec::{
    Codec, CrcOrder, EncodeError, LengthCounting, Outgoing, Packet, Payload, Refused, Sequence, SequenceCounter,
};
pub use field::*;
pub use live::*;
pub use login::*;
pub use parallel::*;
pub use settings::*;
pub use table::{DecodeError, Decoded, Direction, FrameSpec};
pub use tariff::*;
pub use upkeep::*;

use bytes::BytesMut;
use table::Row;

/// The enum over all rows, and what dispatches over it.
macro_rules! all_frames {
    ($($Name:ident)+) => {
        /// Any frame.
        #[derive(Clone, Debug, PartialEq)]
        #[allow(missing_docs, reason = "each variant is documented at its row")]
        pub enum Frame { $($Name($Name),)+ }

        /// Every layout, in the order of the protocol's reference.
        pub static FRAMES: [&FrameSpec; COUNT] = [$(&$Name::SPEC),+];

        const COUNT: usize = [$(stringify!($Name)),+].len();
        const SPECS: [FrameSpec; COUNT] = [$($Name::SPEC),+];

        impl Frame {
            /// What type of frame it is.
            pub fn spec(&self) -> &'static FrameSpec {
                match self { $(Self::$Name(_) => &$Name::SPEC,)+ }
            }

            /// Appends the body: never more than the layout's length, or what its variable end holds.
            pub fn encode_body(&self, out: &mut BytesMut) {
                match self { $(Self::$Name(row) => row.encode(out),)+ }
            }

            /// The pile the frame is from or for; 0x40 and 0x9C do not say.
            pub fn pile_code(&self) -> Option<PileCode> {
                match self { $(Self::$Name(row) => row.common_pile_code(),)+ }
            }

            /// The transaction the frame belongs to, if its layout has one.
            pub fn serial(&self) -> Option<Serial> {
                match self { $(Self::$Name(row) => row.common_serial(),)+ }
            }
        }

        $(impl From<$Name> for Frame {
            #[inline]
            fn from(row: $Name) -> Self {
                Self::$Name(row)
            }
        })+
    };
}

all_frames! {
    LoginRequest LoginResponse Heartbeat HeartbeatResponse TariffCheckRequest TariffCheckResponse TariffRequest
    TariffResponse RealtimeQuery RealtimeData BmsHandshake BmsParameters BmsChargeEnd BmsError BmsStop ChargerStop
    BmsDemandAndOutput BmsInfo StartRequest StartConfirm RemoteStartResponse RemoteStart RemoteStopResponse
    RemoteStop TransactionRecord TransactionRecordAck BalanceUpdateResponse BalanceUpdate CardSyncResponse CardSync
    CardClearResponse CardClear CardQueryResponse CardQuery WorkParamsResponse WorkParamsSet TimeSyncResponse
    TimeSync TariffSetResponse TariffSet GroundLockStatus GroundLockControl GroundLockResponse RebootResponse Reboot
    OtaResponse OtaCommand ParallelStartRequest ParallelStartConfirm ParallelRemoteStartResponse ParallelRemoteStart
    QrPrefixSet QrPrefixResponse TransactionRecordV14 TransactionRecordV17 StartRequestV18 StartConfirmV18
    RemoteStartResponseV18 RemoteStartV18 PowerSetV18 PowerSetResponseV18 DefaultPowerSet DefaultPowerResponse
    QrSet5a QrSetResponse59 QrSet9c QrSetResponse9b
}

impl Frame {
    /// The type byte.
    pub fn code(&self) -> u8 {
        self.spec().code
    }

    /// Decodes a body by its type byte.
    #[inline]
    pub fn decode(code: u8, body: &[u8]) -> Result<Decoded, DecodeError> {
        match Self::layout(code, body.len()) {
            Some(spec) => (spec.decode)(body),
            None => Err(DecodeError { code, frame: "unknown", field: "type", byte: 0, reason: Reason::UnknownType }),
        }
    }

    /// Decodes a body with a given layout, whatever the code's other layouts say.
    pub fn decode_as(spec: &FrameSpec, body: &[u8]) -> Result<Decoded, DecodeError> {
        (spec.decode)(body)
    }

    /// The layout for a body of `len` bytes: the one of exactly that length, else the longest that fits (A33, A39). The
    /// first listed wins a tie (A31). If none fits, the shortest. `None`: nobody knows the type byte.
    #[inline]
    pub fn layout(code: u8, len: usize) -> Option<&'static FrameSpec> {
        let mut best = *FRAMES.get(usize::from(FIRST[usize::from(code)]))?;
        let mut next = usize::from(OTHER[usize::from(code)]);
        while let Some(spec) = FRAMES.get(next) {
            let (new, old) = (spec.min_body_len, best.min_body_len);
            let better = if new <= len { old > len || new > old } else { old > len && new < old };
            if better {
                best = spec;
            }
            next = COUNT;
        }
        Some(best)
    }

    /// All layouts of a type byte.
    pub fn layouts(code: u8) -> impl Iterator<Item = &'static FrameSpec> {
        FRAMES.iter().copied().filter(move |spec| spec.code == code)
    }
}

/// What [`FrameSpec::decode`] points to.
#[inline]
fn decode_row<R: Row + Into<Frame>>(body: &[u8]) -> Result<Decoded, DecodeError> {
    R::decode(body).map(|(row, consumed)| Decoded { frame: row.into(), consumed })
}

impl FrameSpec {
    /// Every layout, in the order of the protocol's reference.
    pub fn all() -> &'static [&'static FrameSpec] {
        &FRAMES
    }
}

/// Type byte → index of the first layout in [`FRAMES`]; 255: none.
const FIRST: [u8; 256] = index(0);

/// Type byte → index of the second layout; 255: none. No code has a third, which `index` checks.
const OTHER: [u8; 256] = index(1);

const fn index(nth: usize) -> [u8; 256] {
    let mut table = [255; 256];
    let mut seen = [0; 256];
    let mut i = 0;
    while i < COUNT {
        let code = SPECS[i].code as usize;
        if seen[code] == nth {
            table[code] = i as u8;
        }
        seen[code] += 1;
        assert!(seen[code] <= 2, "a type byte has more than two layouts");
        i += 1;
    }
    table
}

// Every row of every topic is in the enum, and no (code, variant) is used twice.
const _: () = {
    let rows = login::ROWS
        + live::ROWS
        + charge::ROWS
        + tariff::ROWS
        + cards::ROWS
        + settings::ROWS
        + upkeep::ROWS
        + parallel::ROWS;
    assert!(rows == COUNT, "a topic has a row that is not in `all_frames!`");
    let mut i = 0;
    while i < COUNT {
        let mut j = 0;
        while j < i {
            let twice = SPECS[i].code == SPECS[j].code && same(SPECS[i].variant, SPECS[j].variant);
            assert!(!twice, "a (code, variant) is used twice");
            j += 1;
        }
        i += 1;
    }
};

const fn same(a: Option<&str>, b: Option<&str>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => {
            let (a, b) = (a.as_bytes(), b.as_bytes());
            let mut i = 0;
            while i < a.len() && i < b.len() && a[i] == b[i] {
                i += 1;
            }
            i == a.len() && i == b.len()
        }
        (None, Some(_)) | (Some(_), None) => false,
    }
}
