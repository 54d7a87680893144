//! Charging curves.

use super::telemetry::CHARGE_MODES;
use super::{amount, coded, energy_mwh, small, timestamp};
use crate::api::pb;
use crate::domain::curve::{Demanded, Extremes, Point, has_gap};

/// Oldest first, and where something is missing in between.
pub fn points(points: &[Point]) -> Vec<pb::CurvePoint> {
    let before = std::iter::once(None).chain(points.iter().map(Some));
    let told = points.iter().zip(before);
    told.map(|(this, before)| point(this, before.is_some_and(|before| has_gap(before, this)))).collect()
}

fn point(point: &Point, gap: bool) -> pb::CurvePoint {
    let Point {
        at,
        energy,
        amount: so_far,
        soc_percent,
        voltage_mv,
        current_ma,
        cable_celsius,
        battery_max_celsius,
        demand,
        extremes,
    } = point;
    pb::CurvePoint {
        at: Some(timestamp(*at)),
        gap,
        energy_mwh: energy_mwh(*energy),
        amount: Some(amount(*so_far)),
        soc_percent: soc_percent.map(i32::from),
        voltage_mv: small(*voltage_mv),
        current_ma: small(*current_ma),
        power_w: small(point.power_w()),
        cable_celsius: cable_celsius.map(i32::from),
        battery_max_celsius: battery_max_celsius.map(i32::from),
        demand: demand.map(|Demanded { voltage_mv, current_ma, charge_mode, max_cell_voltage_mv }| pb::CurveDemand {
            voltage_mv: small(voltage_mv),
            current_ma: small(current_ma),
            charge_mode: Some(coded(charge_mode, CHARGE_MODES)),
            max_cell_voltage_mv: small(max_cell_voltage_mv),
        }),
        extremes: extremes.map(|Extremes { max_celsius, min_celsius }| pb::CurveExtremes {
            max_celsius: i32::from(max_celsius),
            min_celsius: i32::from(min_celsius),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Amount, Energy, WallMs};

    #[test]
    fn a_point_that_follows_late_says_so_and_the_first_one_does_not() {
        let at = |ms| Point {
            at: WallMs(ms),
            energy: Energy(10),
            amount: Amount(14),
            soc_percent: None,
            voltage_mv: 400_000,
            current_ma: 100_000,
            cable_celsius: Some(0),
            battery_max_celsius: None,
            demand: Some(Demanded { voltage_mv: 1, current_ma: 2, charge_mode: 2, max_cell_voltage_mv: 3 }),
            extremes: None,
        };
        let told = points(&[at(100_000), at(115_000), at(190_000), at(205_000)]);
        assert_eq!(told.iter().map(|point| point.gap).collect::<Vec<_>>(), [false, false, true, false]);
        let first = &told[0];
        assert_eq!((first.power_w, first.energy_mwh, first.cable_celsius), (40_000, 1000, Some(0)));
        let mode = first.demand.as_ref().and_then(|demand| demand.charge_mode.clone()).expect("told");
        assert_eq!((mode.code, mode.name.as_str()), (2, "constant current"));
    }
}
