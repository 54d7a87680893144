//! Numbers with a scale: `value = raw × scale + bias`, in integers end to end.

use std::fmt;

use super::{Field, Kind};

/// How a raw number becomes a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    /// The value has this many decimals; `None`: the number is shown as it is.
    pub decimals: Option<u8>,
    /// Added to the scaled number, in whole units.
    pub bias: i32,
    /// Unit, if there is one.
    pub unit: Option<&'static str>,
    /// The sign means nothing (A14).
    pub magnitude: bool,
    /// Raw 0 means "no value" (A13).
    pub zero_is_none: bool,
}

impl Scale {
    /// A number that is just a number.
    pub const PLAIN: Self = Self { decimals: None, bias: 0, unit: None, magnitude: false, zero_is_none: false };

    /// The exact value of `raw`; `None` for "no value".
    pub fn value(&self, raw: u64) -> Option<Decimal> {
        if self.zero_is_none && raw == 0 {
            return None;
        }
        let decimals = self.decimals.unwrap_or(0);
        // Raw values have at most 40 bits.
        let mut units = raw.cast_signed() + i64::from(self.bias) * 10i64.pow(u32::from(decimals));
        if self.magnitude {
            units = units.abs();
        }
        Some(Decimal { units, decimals })
    }
}

/// An exact decimal number: `units` × 10^−`decimals`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decimal {
    /// The number without its decimal point.
    pub units: i64,
    /// Digits behind the decimal point.
    pub decimals: u8,
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.units < 0 { "-" } else { "" };
        let (width, one) = (usize::from(self.decimals), 10u64.pow(u32::from(self.decimals)));
        let units = self.units.unsigned_abs();
        if width == 0 { write!(f, "{sign}{units}") } else { write!(f, "{sign}{}.{:0width$}", units / one, units % one) }
    }
}

/// Rows of `Name: raw type, width; decimals, bias, "unit"`, then the accessors in an integer unit:
/// `getter setter type × factor + offset`.
macro_rules! quantity {
    ($($(#[$doc:meta])* $Name:ident: $raw:ty; $decimals:expr, $bias:literal, $unit:expr
        $(, [$get:ident $from:ident $out:ty = raw * $factor:literal + $offset:literal])?;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
        pub struct $Name(pub $raw);

        #[allow(clippy::cast_sign_loss, reason = "setters check the range before they cast")]
        impl $Name {
            /// The number on the wire.
            pub const fn raw(self) -> $raw {
                self.0
            }

            $(
                #[doc = concat!("In the unit it is named after: raw × ", stringify!($factor), " + ", stringify!($offset), ".")]
                pub const fn $get(self) -> $out {
                    self.0 as $out * $factor + $offset
                }

                /// Rounded down to the wire's resolution; what the field cannot hold becomes its nearest end.
                pub const fn $from(value: $out) -> Self {
                    let raw = (value as i128 - $offset) / $factor;
                    if raw < 0 { Self(0) } else if raw > <$raw>::MAX as i128 { Self(<$raw>::MAX) } else { Self(raw as $raw) }
                }
            )?
        }

        impl Field for $Name {
            const WIDTH: usize = <$raw as Field>::WIDTH;
            const KIND: Kind = Kind::Number(Scale { decimals: $decimals, bias: $bias, unit: $unit, ..Scale::PLAIN });
            #[inline]
            fn read(bytes: &[u8]) -> Self {
                Self(<$raw as Field>::read(bytes))
            }
            #[inline]
            fn write(&self, out: &mut [u8]) {
                self.0.write(out);
            }
        }
    )*};
}

quantity! {
    /// Voltage, 0.1 V.
    Volts: u16; Some(1), 0, Some("V"), [millivolts from_millivolts u32 = raw * 100 + 0];
    /// Voltage of one cell, 0.01 V.
    CellVolts: u16; Some(2), 0, Some("V"), [millivolts from_millivolts u32 = raw * 10 + 0];
    /// Current, 0.1 A: 0x13 only; everywhere else it is [`AmpsOffset`].
    Amps: u16; Some(1), 0, Some("A"), [milliamps from_milliamps u32 = raw * 100 + 0];
    /// Temperature, 1 °C, raw 0 = −50 °C.
    Temp: u8; Some(0), -50, Some("°C"), [celsius from_celsius i16 = raw * 1 + -50];
    /// Energy, 0.0001 kWh.
    Energy: u32; Some(4), 0, Some("kWh"), [milliwatt_hours from_milliwatt_hours u64 = raw * 100 + 0];
    /// Energy, 0.1 kWh: 0x17 and 0x19.
    EnergyTenths: u16; Some(1), 0, Some("kWh"), [watt_hours from_watt_hours u32 = raw * 100 + 0];
    /// Charge, 0.1 Ah.
    AmpHours: u16; Some(1), 0, Some("Ah");
    /// Price, 0.00001 CNY per kWh (A17).
    Price: u32; Some(5), 0, Some("CNY/kWh");
    /// An amount of a session, 0.0001 CNY.
    Amount: u32; Some(4), 0, Some("CNY");
    /// An account's balance, 0.01 CNY.
    Balance: u32; Some(2), 0, Some("CNY");
    /// Per cent, 1 %.
    Percent: u8; None, 0, Some("%");
    /// Per cent, 0.1 %: the SOC of 0x17.
    PercentTenths: u16; Some(1), 0, Some("%");
    /// A time span in minutes.
    Minutes: u16; None, 0, Some("min");
    /// A time span in minutes, one byte.
    MinutesShort: u8; None, 0, Some("min");
    /// Power, 1 kW.
    Kilowatts: u16; None, 0, Some("kW");
    /// Protocol version × 10: 0x10 is V1.6.
    ProtocolVersion: u8; Some(1), 0, None;
    /// A year, raw 0 = 1985.
    ProductionYear: u8; Some(0), 1985, None;
    /// The number of a cell or probe, raw 0 = number 1.
    Ordinal: u8; Some(0), 1, None;
}

/// Current with an offset, 0.1 A, raw 4000 = 0 A.
///
/// Devices do not agree on the sign of a charging current, so the value is its size, and what is sent is on the side
/// GB/T 27930 prescribes: raw = (400 − I) × 10 (A14).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct AmpsOffset(pub u16);

impl AmpsOffset {
    /// The size of the current in mA.
    pub const fn milliamps(self) -> u32 {
        self.0.abs_diff(4000) as u32 * 100
    }

    /// A charging current of 0..=400 A; more becomes 400 A.
    pub const fn from_milliamps(milliamps: u32) -> Self {
        let tenths = milliamps / 100;
        if tenths > 4000 { Self(0) } else { Self(4000 - tenths as u16) }
    }
}

impl Field for AmpsOffset {
    const WIDTH: usize = 2;
    const KIND: Kind =
        Kind::Number(Scale { decimals: Some(1), bias: -400, unit: Some("A"), magnitude: true, zero_is_none: false });
    #[inline]
    fn read(bytes: &[u8]) -> Self {
        Self(u16::read(bytes))
    }
    #[inline]
    fn write(&self, out: &mut [u8]) {
        self.0.write(out);
    }
}

/// Temperature of 0x13: 1 °C with −50 °C at raw 0, but raw 0 itself means "no value" (A13).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct TempOrNone(pub u8);

impl TempOrNone {
    /// −49..=205 °C.
    pub const fn celsius(self) -> Option<i16> {
        if self.0 == 0 { None } else { Some(self.0 as i16 - 50) }
    }

    /// What the field cannot hold becomes its nearest end.
    pub fn from_celsius(celsius: Option<i16>) -> Self {
        Self(celsius.map_or(0, |c| c.saturating_add(50).clamp(1, 255).cast_unsigned() as u8))
    }
}

impl Field for TempOrNone {
    const WIDTH: usize = 1;
    const KIND: Kind =
        Kind::Number(Scale { decimals: Some(0), bias: -50, unit: Some("°C"), magnitude: false, zero_is_none: true });
    #[inline]
    fn read(bytes: &[u8]) -> Self {
        Self(bytes[0])
    }
    #[inline]
    fn write(&self, out: &mut [u8]) {
        out[0] = self.0;
    }
}

/// A meter reading, five bytes, 0.0001 kWh.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct MeterEnergy(u64);

impl MeterEnergy {
    /// The reading in mWh.
    pub const fn milliwatt_hours(self) -> u64 {
        self.0 * 100
    }

    /// Rounded down to 0.0001 kWh.
    pub const fn from_milliwatt_hours(milliwatt_hours: u64) -> Self {
        Self::from_raw(milliwatt_hours / 100)
    }
}

/// A number of three bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct U24(u32);

macro_rules! odd_width {
    ($Name:ident: $raw:ty, $width:literal, $kind:expr) => {
        impl $Name {
            /// The largest number it can hold.
            pub const MAX: $raw = (1 << ($width * 8)) - 1;

            /// From the number on the wire; a larger one becomes [`Self::MAX`].
            pub const fn from_raw(raw: $raw) -> Self {
                if raw > Self::MAX { Self(Self::MAX) } else { Self(raw) }
            }

            /// The number on the wire.
            pub const fn raw(self) -> $raw {
                self.0
            }
        }

        impl Field for $Name {
            const WIDTH: usize = $width;
            const KIND: Kind = $kind;
            #[inline]
            fn read(bytes: &[u8]) -> Self {
                let mut raw = [0; size_of::<$raw>()];
                raw[..$width].copy_from_slice(bytes);
                Self(<$raw>::from_le_bytes(raw))
            }
            #[inline]
            fn write(&self, out: &mut [u8]) {
                out.copy_from_slice(&self.0.to_le_bytes()[..$width]);
            }
        }
    };
}
odd_width!(MeterEnergy: u64, 5, Kind::Number(Scale { decimals: Some(4), unit: Some("kWh"), ..Scale::PLAIN }));
odd_width!(U24: u32, 3, Kind::PLAIN);
