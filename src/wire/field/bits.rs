//! Bit fields: the first listed member has the lowest bits; two-byte fields are little-endian (A15).

use super::Labels;

/// One member of a bit field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BitSpec {
    /// Lowest bit.
    pub lo: u8,
    /// Number of bits.
    pub len: u8,
    /// Name.
    pub name: &'static str,
    /// Named values, if it has any.
    pub labels: Labels,
    /// Decimals and unit of a scaled member.
    pub scale: Option<(u8, &'static str)>,
}

impl BitSpec {
    /// This member's value in the raw field.
    pub const fn of(&self, raw: u16) -> u16 {
        raw >> self.lo & (((1u32 << self.len) - 1) as u16)
    }

    /// Reserved members are kept but not shown.
    pub fn is_reserved(&self) -> bool {
        self.name.starts_with("reserved")
    }
}

/// Rows of `lowest-bit width name`, then `: LABELS` or `= decimals "unit"`. Members must follow each other without a gap.
macro_rules! bits {
    ($($(#[$doc:meta])* $Name:ident: $raw:ty {
        $($lo:literal $len:literal $member:ident $(: $labels:ident)? $(= $decimals:literal $unit:literal)?,)*
    })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
        pub struct $Name(pub $raw);

        impl $Name {
            /// The members, lowest bits first.
            pub const MEMBERS: &'static [$crate::wire::field::BitSpec] = &[$($crate::wire::field::BitSpec {
                lo: $lo,
                len: $len,
                name: stringify!($member),
                labels: bits!(@labels $($labels)?),
                scale: bits!(@scale $($decimals $unit)?),
            }),*];

            $(
                #[doc = concat!("Bits from ", stringify!($lo), ", ", stringify!($len), " wide", $(", in ", stringify!($unit), " with ", stringify!($decimals), " decimals",)? ".")]
                pub const fn $member(self) -> $raw {
                    self.0 >> $lo & (((1u32 << $len) - 1) as $raw)
                }
            )*
        }

        const _: () = {
            let mut next = 0;
            $(
                assert!(next == $lo, concat!(stringify!($Name), ": `", stringify!($member), "` does not start where the member before it ends"));
                next += $len;
            )*
            assert!(next == <$raw>::BITS, concat!(stringify!($Name), ": the members do not add up to its width"));
        };

        impl $crate::wire::field::Field for $Name {
            const WIDTH: usize = size_of::<$raw>();
            const KIND: $crate::wire::field::Kind = $crate::wire::field::Kind::Bits(Self::MEMBERS);
            #[inline]
            fn read(bytes: &[u8]) -> Self {
                Self(<$raw as $crate::wire::field::Field>::read(bytes))
            }
            #[inline]
            fn write(&self, out: &mut [u8]) {
                self.0.write(out);
            }
        }
    )*};
    (@labels) => { &[] };
    (@labels $labels:ident) => { $labels };
    (@scale) => { None };
    (@scale $decimals:literal $unit:literal) => { Some(($decimals, $unit)) };
}
pub(in crate::wire) use bits;
