//! Open enumerations: named values and, for all others, the raw byte (A28).

/// The values a document names, with its words for them.
pub type Labels = &'static [(u8, &'static str)];

/// Rows of `value Variant "label"`. Values nobody has named survive decode, log and re-encode as `Unknown`.
macro_rules! open_enum {
    ($($(#[$doc:meta])* $Name:ident { $($value:literal $Variant:ident $label:literal,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum $Name {
            $(#[doc = concat!("`", stringify!($value), "` ", $label)] $Variant,)*
            /// A value without a name. Only [`Self::from_raw`] makes it, so it never holds a named one.
            Unknown(u8),
        }

        impl $Name {
            /// Every named value with its label.
            pub const LABELS: $crate::wire::field::Labels = &[$(($value, $label)),*];

            /// From the byte on the wire; never fails.
            #[inline]
            pub const fn from_raw(raw: u8) -> Self {
                match raw {
                    $($value => Self::$Variant,)*
                    other => Self::Unknown(other),
                }
            }

            /// The byte on the wire.
            #[inline]
            pub const fn raw(self) -> u8 {
                match self {
                    $(Self::$Variant => $value,)*
                    Self::Unknown(other) => other,
                }
            }

            /// The document's word for it, if it has one.
            pub const fn label(self) -> Option<&'static str> {
                match self {
                    $(Self::$Variant => Some($label),)*
                    Self::Unknown(_) => None,
                }
            }
        }

        impl $crate::wire::field::Field for $Name {
            const WIDTH: usize = 1;
            const KIND: $crate::wire::field::Kind = $crate::wire::field::Kind::Label(Self::LABELS);
            #[inline]
            fn read(bytes: &[u8]) -> Self {
                Self::from_raw(bytes[0])
            }
            #[inline]
            fn write(&self, out: &mut [u8]) {
                out[0] = self.raw();
            }
        }
    )*};
}
pub(in crate::wire) use open_enum;
