//! The frame table: how a row becomes a struct, its decoder, its encoder and its description.

use super::Frame;
use super::field::{FieldSpec, Reason};

/// What a frame type is: everything there is to know about it without a frame at hand.
#[derive(Clone, Copy, Debug)]
pub struct FrameSpec {
    /// The type byte.
    pub code: u8,
    /// The protocol's name, as in `realtime_data`.
    pub name: &'static str,
    /// The Rust type's name, as in `RealtimeData`: what errors say.
    pub type_name: &'static str,
    /// Tells layouts of one code apart: 0x51, 0x52 and 0x59 have two (A31, A33). Some single layouts carry one too.
    pub variant: Option<&'static str>,
    /// Who sends it.
    pub direction: Direction,
    /// Length of the body; `None` if it varies.
    pub body_len: Option<usize>,
    /// The shortest body.
    pub min_body_len: usize,
    /// The fields in the order of the wire.
    pub fields: &'static [FieldSpec],
    /// Decodes a body with this layout.
    pub decode: fn(&[u8]) -> Result<Decoded, DecodeError>,
}

/// Who sends a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The pile, to the platform.
    Up,
    /// The platform, to the pile.
    Down,
}

/// A decoded body. What lies behind `consumed` is a dialect's addition (A39).
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// The frame.
    pub frame: Frame,
    /// Bytes of the body the layout knows.
    pub consumed: usize,
}

/// A body that is not the frame its type byte says. Displays as "RealtimeData: `gun_no` at byte 23: …".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{frame}: `{field}` at byte {byte}: {reason}")]
pub struct DecodeError {
    /// The type byte.
    pub code: u8,
    /// The Rust type's name, as in `RealtimeData`.
    pub frame: &'static str,
    /// The first field that could not be read.
    pub field: &'static str,
    /// Where it starts within the body.
    pub byte: usize,
    /// What is wrong with it.
    pub reason: Reason,
}

impl Direction {
    /// `up` or `down`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// A row of the table.
pub(super) trait Row: Sized {
    const SPEC: FrameSpec;
    /// The frame, and how much of the body it took.
    fn decode(body: &[u8]) -> Result<(Self, usize), DecodeError>;
    fn encode(&self, out: &mut bytes::BytesMut);
}

impl FrameSpec {
    /// The error for a body that ends before its fixed fields do. There is at least one such field.
    #[cold]
    pub(super) fn cut(&self, have: usize) -> DecodeError {
        let cut = self.fields.iter().find(|field| field.offset + field.len.unwrap_or(0) > have);
        let (field, byte, end) = cut.map_or(("", 0, have), |f| (f.name, f.offset, f.offset + f.len.unwrap_or(0)));
        DecodeError { code: self.code, frame: self.type_name, field, byte, reason: Reason::Cut { missing: end - have } }
    }

    /// The error for a tail that starts at `offset`; the tail is the last field, its count the one before.
    #[cold]
    pub(super) fn cut_tail(&self, offset: usize, error: super::field::TailError) -> DecodeError {
        let mut fields = self.fields.iter().rev();
        let field = if error.in_count { fields.nth(1) } else { fields.next() };
        DecodeError {
            code: self.code,
            frame: self.type_name,
            field: field.map_or("", |f| f.name),
            byte: offset + error.at,
            reason: error.reason,
        }
    }
}

/// The frame table. A frame is a heading – code, direction, type, body length – over rows of `offset name: Type`.
///
/// Gaps, overlaps and lengths that do not add up stop the build. The variable end of a body is a last row behind `..`:
/// its count field in brackets, if it has one, then name and [`Tail`](super::field::Tail) type.
macro_rules! frames {
    ($(
        $(#[$doc:meta])*
        $code:literal $direction:ident $Name:ident $(($variant:literal))? [$($len:tt)+] { $($rows:tt)+ }
    )+) => {
        /// How many frames this topic has.
        pub(super) const ROWS: usize = [$($code),+].len();

        $($crate::wire::table::frame! {
            $(#[$doc])*
            ($code $direction $Name [$($variant)?] $($len)+) $($rows)+
        })+
    };
}
pub(super) use frames;

/// One frame of [`frames!`].
macro_rules! frame {
    // Fixed length.
    (
        $(#[$doc:meta])*
        ($code:literal $direction:ident $Name:ident [$($variant:literal)?] $len:literal)
        $($offset:literal $field:ident: $Type:ty,)+
    ) => {
        #[doc = concat!("`", stringify!($code), "`, ", stringify!($direction), ", ", stringify!($len), " bytes.")]
        ///
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq)]
        #[allow(missing_docs, reason = "the field names are the protocol's")]
        pub struct $Name { $(pub $field: $Type,)+ }

        $crate::wire::table::adds_up!($Name $len; $($offset $field $Type,)+);

        impl $crate::wire::table::Row for $Name {
            const SPEC: $crate::wire::table::FrameSpec = $crate::wire::table::FrameSpec {
                code: $code,
                name: $crate::wire::table::snake_case!($Name),
                type_name: stringify!($Name),
                variant: $crate::wire::table::optional!($($variant)?),
                direction: $crate::wire::table::Direction::$direction,
                body_len: Some($len),
                min_body_len: $len,
                fields: &[$($crate::wire::table::fixed_field!($offset $field $Type)),+],
                decode: $crate::wire::decode_row::<Self>,
            };

            #[inline]
            fn decode(body: &[u8]) -> Result<(Self, usize), $crate::wire::table::DecodeError> {
                use $crate::wire::field::Field;
                let Some(body) = body.first_chunk::<$len>() else { return Err(Self::SPEC.cut(body.len())) };
                Ok((Self { $($field: <$Type>::read(&body[$offset..$offset + <$Type as Field>::WIDTH]),)+ }, $len))
            }

            fn encode(&self, out: &mut bytes::BytesMut) {
                use $crate::wire::field::Field;
                let mut body = [0; $len];
                $(self.$field.write(&mut body[$offset..$offset + <$Type as Field>::WIDTH]);)+
                out.extend_from_slice(&body);
            }
        }

        $crate::wire::table::common!($Name $($field)+);
    };

    // Variable end.
    (
        $(#[$doc:meta])*
        ($code:literal $direction:ident $Name:ident [$($variant:literal)?] $min:literal ..)
        $($offset:literal $field:ident: $Type:ty,)+
        .. $tail_offset:literal $([$count:ident])? $tail:ident: $Tail:ty,
    ) => {
        #[doc = concat!("`", stringify!($code), "`, ", stringify!($direction), ", at least ", stringify!($min), " bytes.")]
        ///
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq)]
        #[allow(missing_docs, reason = "the field names are the protocol's")]
        pub struct $Name { $(pub $field: $Type,)+ pub $tail: $Tail }

        $crate::wire::table::adds_up!($Name $tail_offset; $($offset $field $Type,)+);

        const _: () = assert!(
            $tail_offset + <$Tail as $crate::wire::field::Tail>::COUNT_WIDTH == $min,
            concat!(stringify!($Name), ": the shortest body is not where its variable end starts")
        );

        impl $crate::wire::table::Row for $Name {
            const SPEC: $crate::wire::table::FrameSpec = $crate::wire::table::FrameSpec {
                code: $code,
                name: $crate::wire::table::snake_case!($Name),
                type_name: stringify!($Name),
                variant: $crate::wire::table::optional!($($variant)?),
                direction: $crate::wire::table::Direction::$direction,
                body_len: None,
                min_body_len: $min,
                fields: &[
                    $($crate::wire::table::fixed_field!($offset $field $Type),)+
                    $($crate::wire::field::FieldSpec {
                        name: stringify!($count),
                        offset: $tail_offset,
                        len: Some(<$Tail as $crate::wire::field::Tail>::COUNT_WIDTH),
                        kind: $crate::wire::field::Kind::PLAIN,
                    },)?
                    $crate::wire::field::FieldSpec {
                        name: stringify!($tail),
                        offset: $min,
                        len: None,
                        kind: <$Tail as $crate::wire::field::Tail>::KIND,
                    },
                ],
                decode: $crate::wire::decode_row::<Self>,
            };

            fn decode(body: &[u8]) -> Result<(Self, usize), $crate::wire::table::DecodeError> {
                use $crate::wire::field::{Field, Tail};
                let Some((fixed, rest)) = body.split_first_chunk::<$tail_offset>() else { return Err(Self::SPEC.cut(body.len())) };
                let ($tail, taken) = <$Tail>::decode(rest).map_err(|error| Self::SPEC.cut_tail($tail_offset, error))?;
                Ok((Self {
                    $($field: <$Type>::read(&fixed[$offset..$offset + <$Type as Field>::WIDTH]),)+
                    $tail,
                }, $tail_offset + taken))
            }

            fn encode(&self, out: &mut bytes::BytesMut) {
                use $crate::wire::field::{Field, Tail};
                let mut fixed = [0; $tail_offset];
                $(self.$field.write(&mut fixed[$offset..$offset + <$Type as Field>::WIDTH]);)+
                out.extend_from_slice(&fixed);
                self.$tail.encode(out);
            }
        }

        $crate::wire::table::common!($Name $($field)+);
    };
}
pub(super) use frame;

/// One entry of a repeated group: rows like a frame's.
macro_rules! entry {
    (
        $(#[$doc:meta])*
        $Name:ident [$len:literal] { $($offset:literal $field:ident: $Type:ty,)+ }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "the field names are the protocol's")]
        pub struct $Name { $(pub $field: $Type,)+ }

        $crate::wire::table::adds_up!($Name $len; $($offset $field $Type,)+);

        impl $crate::wire::field::Entry for $Name {
            const WIDTH: usize = $len;
            const FIELDS: &'static [$crate::wire::field::FieldSpec] = &[$($crate::wire::table::fixed_field!($offset $field $Type)),+];

            fn read(bytes: &[u8]) -> Self {
                use $crate::wire::field::Field;
                Self { $($field: <$Type>::read(&bytes[$offset..$offset + <$Type as Field>::WIDTH]),)+ }
            }

            fn write(&self, out: &mut bytes::BytesMut) {
                use $crate::wire::field::Field;
                let mut entry = [0; $len];
                $(self.$field.write(&mut entry[$offset..$offset + <$Type as Field>::WIDTH]);)+
                out.extend_from_slice(&entry);
            }
        }
    };
}
pub(super) use entry;

/// Stops the build unless each field starts where the one before it ends and all of them fill the length.
macro_rules! adds_up {
    ($Name:ident $len:literal; $($offset:literal $field:ident $Type:ty,)+) => {
        const _: () = {
            let mut next = 0;
            $(
                assert!(next == $offset, concat!(stringify!($Name), ": `", stringify!($field), "` does not start where the field before it ends"));
                next += <$Type as $crate::wire::field::Field>::WIDTH;
            )+
            assert!(next == $len, concat!(stringify!($Name), ": the widths do not add up to the length"));
        };
    };
}
pub(super) use adds_up;

macro_rules! fixed_field {
    ($offset:literal $field:ident $Type:ty) => {
        $crate::wire::field::FieldSpec {
            name: stringify!($field),
            offset: $offset,
            len: Some(<$Type as $crate::wire::field::Field>::WIDTH),
            kind: <$Type as $crate::wire::field::Field>::KIND,
        }
    };
}
pub(super) use fixed_field;

/// What many frames carry, found by field name.
macro_rules! common {
    ($Name:ident $($field:ident)+) => {
        impl $Name {
            pub(super) fn common_pile_code(&self) -> Option<$crate::wire::field::PileCode> {
                $crate::wire::table::pick!(self pile_code: $($field)+)
            }

            pub(super) fn common_serial(&self) -> Option<$crate::wire::field::Serial> {
                $crate::wire::table::pick!(self transaction_serial: $($field)+)
            }
        }
    };
}
pub(super) use common;

macro_rules! pick {
    ($this:ident pile_code: pile_code $($rest:ident)*) => { Some($this.pile_code) };
    ($this:ident transaction_serial: transaction_serial $($rest:ident)*) => { Some($this.transaction_serial) };
    ($this:ident $wanted:ident: $other:ident $($rest:ident)*) => { $crate::wire::table::pick!($this $wanted: $($rest)*) };
    ($this:ident $wanted:ident:) => { None };
}
pub(super) use pick;

macro_rules! optional {
    () => {
        None
    };
    ($value:literal) => {
        Some($value)
    };
}
pub(super) use optional;

/// `RealtimeData` → `"realtime_data"`, at compile time.
macro_rules! snake_case {
    ($Name:ident) => {{
        const NAME: &str = stringify!($Name);
        const SNAKE: [u8; $crate::wire::table::snake_len(NAME)] = $crate::wire::table::snake_bytes(NAME);
        match core::str::from_utf8(&SNAKE) {
            Ok(name) => name,
            Err(_) => panic!("type names are ASCII"),
        }
    }};
}
pub(super) use snake_case;

pub(super) const fn snake_len(name: &str) -> usize {
    let name = name.as_bytes();
    let (mut len, mut i) = (0, 0);
    while i < name.len() {
        len += 1 + breaks_before(name, i) as usize;
        i += 1;
    }
    len
}

pub(super) const fn snake_bytes<const N: usize>(name: &str) -> [u8; N] {
    let name = name.as_bytes();
    let mut snake = [b'_'; N];
    let (mut to, mut i) = (0, 0);
    while i < name.len() {
        to += breaks_before(name, i) as usize;
        snake[to] = name[i].to_ascii_lowercase();
        to += 1;
        i += 1;
    }
    snake
}

/// A word starts at an upper-case letter, and at a digit that follows a lower-case letter.
const fn breaks_before(name: &[u8], i: usize) -> bool {
    i > 0 && (name[i].is_ascii_uppercase() || name[i].is_ascii_digit() && name[i - 1].is_ascii_lowercase())
}
