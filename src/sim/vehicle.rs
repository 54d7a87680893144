//! The vehicle on a gun: what it takes at which state of charge.

/// A battery, and how it is charged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Vehicle {
    pub(super) dc: bool,
    /// 0.0001 kWh.
    pub(super) capacity: u64,
    /// When the charge began, in 0.1 %.
    pub(super) start_soc: u32,
}

/// What flows at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flow {
    /// 0.1 %.
    pub(super) soc: u32,
    pub(super) millivolts: u32,
    pub(super) milliamps: u32,
    /// °C.
    pub(super) battery_temp: i16,
    /// °C.
    pub(super) cable_temp: i16,
    /// The vehicle asks for constant voltage.
    pub(super) constant_voltage: bool,
}

impl Vehicle {
    /// What a DC pile can give, in W.
    pub(super) const DC_POWER: u32 = 120_000;
    /// What an AC pile can give: 220 V × 32 A, in W.
    pub(super) const AC_POWER: u32 = 7_040;
    /// The most the battery takes, in mA.
    pub(super) const MAX_CURRENT: u32 = 150_000;
    /// Cells in series.
    pub(super) const CELLS: u32 = 96;

    /// Energy from the start of the charge to a state of charge in 0.1 %, in 0.0001 kWh.
    pub(super) fn energy_to(&self, soc: u32) -> u64 {
        self.capacity * u64::from(soc.saturating_sub(self.start_soc)) / 1000
    }

    /// What flows after `energy` (0.0001 kWh) while the pile gives at most `limit` W.
    ///
    /// DC: constant current up to 80 %, from there the current falls linearly to a twelfth, as the cells are held at their
    /// highest voltage. AC: the on-board charger takes what the socket gives.
    pub(super) fn flow(&self, energy: u64, limit: u32) -> Flow {
        let soc = (self.start_soc + (energy * 1000 / self.capacity.max(1)) as u32).min(1000);
        let warmth = ((soc - self.start_soc.min(soc)) / 50) as i16;
        let (battery_temp, cable_temp) = (25 + warmth, 28 + warmth / 2);
        if !self.dc {
            let milliamps = limit.min(Self::AC_POWER) * 10 / 220 * 100;
            return Flow {
                soc,
                millivolts: 220_000,
                milliamps: milliamps / 100 * 100,
                battery_temp,
                cable_temp,
                constant_voltage: false,
            };
        }
        // 3.35 V per cell when empty, 4.15 V when full.
        let millivolts = Self::CELLS * (3350 + soc * 800 / 1000);
        let wanted = if soc <= 800 {
            Self::MAX_CURRENT
        } else {
            Self::MAX_CURRENT / 12 + Self::MAX_CURRENT / 12 * 11 / 200 * (1000 - soc)
        };
        let possible = (u64::from(limit.min(Self::DC_POWER)) * 1_000_000 / u64::from(millivolts)) as u32;
        // Whole tenths, so that the current shown is the current billed.
        let milliamps = wanted.min(possible) / 100 * 100;
        Flow { soc, millivolts, milliamps, battery_temp, cable_temp, constant_voltage: soc > 800 }
    }
}

impl Flow {
    /// W.
    pub(super) fn watts(&self) -> u64 {
        u64::from(self.millivolts) * u64::from(self.milliamps) / 1_000_000
    }
}
