//! A chunk of a charging curve.

use super::field::{self, Unreadable, bad, packed, required, small};
use super::v1;
use crate::domain::curve::{Chunk, Demanded, Extremes, Point};
use crate::domain::{Amount, Energy, WallMs};

impl From<&Chunk> for v1::CurveChunk {
    fn from(chunk: &Chunk) -> Self {
        let Chunk { pile, gun, serial, points } = chunk;
        let start = points.first().map_or(WallMs(0), |point| point.at);
        Self {
            pile: packed(&pile.bcd()),
            gun: u32::from(gun.number()),
            serial: packed(&serial.bytes()),
            start_ms: start.0,
            points: points.iter().map(|point| stored(point, start)).collect(),
        }
    }
}

impl TryFrom<v1::CurveChunk> for Chunk {
    type Error = Unreadable;

    fn try_from(stored: v1::CurveChunk) -> Result<Self, Unreadable> {
        let v1::CurveChunk { pile, gun, serial, start_ms, points } = stored;
        required("points", points.first())?;
        let points = points.into_iter().map(|point| read(point, WallMs(start_ms)));
        Ok(Self {
            pile: field::pile(&pile)?,
            gun: field::gun(gun)?,
            serial: field::serial(&serial)?,
            points: points.collect::<Result<_, _>>()?,
        })
    }
}

fn stored(point: &Point, start: WallMs) -> v1::CurvePoint {
    let Point {
        at,
        energy,
        amount,
        soc_percent,
        voltage_mv,
        current_ma,
        cable_celsius,
        battery_max_celsius,
        demand,
        extremes,
    } = point;
    v1::CurvePoint {
        after_ms: at.since(start),
        energy: energy.0,
        amount: amount.0,
        soc_percent: soc_percent.map(u32::from),
        voltage_mv: *voltage_mv,
        current_ma: *current_ma,
        cable_celsius: cable_celsius.map(i32::from),
        battery_max_celsius: battery_max_celsius.map(i32::from),
        demand: demand.map(|Demanded { voltage_mv, current_ma, charge_mode, max_cell_voltage_mv }| v1::CurveDemand {
            voltage_mv,
            current_ma,
            charge_mode: u32::from(charge_mode),
            max_cell_voltage_mv,
        }),
        extremes: extremes.map(|Extremes { max_celsius, min_celsius }| v1::CurveExtremes {
            max_celsius: i32::from(max_celsius),
            min_celsius: i32::from(min_celsius),
        }),
    }
}

fn read(stored: v1::CurvePoint, start: WallMs) -> Result<Point, Unreadable> {
    let v1::CurvePoint {
        after_ms,
        energy,
        amount,
        soc_percent,
        voltage_mv,
        current_ma,
        cable_celsius,
        battery_max_celsius,
        demand,
        extremes,
    } = stored;
    let demand = demand.map(|v1::CurveDemand { voltage_mv, current_ma, charge_mode, max_cell_voltage_mv }| {
        let charge_mode = small("points.demand.charge_mode", charge_mode)?;
        Ok(Demanded { voltage_mv, current_ma, charge_mode, max_cell_voltage_mv })
    });
    let extremes = extremes.map(|v1::CurveExtremes { max_celsius, min_celsius }| {
        let max_celsius = celsius("points.extremes.max_celsius", max_celsius)?;
        Ok(Extremes { max_celsius, min_celsius: celsius("points.extremes.min_celsius", min_celsius)? })
    });
    Ok(Point {
        at: start.plus_ms(after_ms),
        energy: Energy(energy),
        amount: Amount(amount),
        soc_percent: soc_percent.map(|percent| small("points.soc_percent", percent)).transpose()?,
        voltage_mv,
        current_ma,
        cable_celsius: cable_celsius.map(|at| celsius("points.cable_celsius", at)).transpose()?,
        battery_max_celsius: battery_max_celsius.map(|at| celsius("points.battery_max_celsius", at)).transpose()?,
        demand: demand.transpose()?,
        extremes: extremes.transpose()?,
    })
}

fn celsius(field: &str, value: i32) -> Result<i16, Unreadable> {
    i16::try_from(value).map_err(|_| bad(field, value))
}
