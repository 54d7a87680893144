//! What a charge would cost: the request as an energy curve, the answer in the words of a bill.

use jiff::SignedDuration;
use jiff::civil::DateTime;

use super::order::billed;
use super::{amount, energy_mwh, pile_time, price, to_wall};
use crate::api::error::{ApiError, Violations};
use crate::api::pb::{self, estimate_cost_request::Energy as Asked};
use crate::domain::record::{Fees, RecordedPeriod};
use crate::domain::tariff::cost::{BadCurve, Cost, Curve, LossRatio, PeriodCost};
use crate::domain::units::UtcOffset;
use crate::domain::{Energy, Period, PileCode, Tariff, WallMs};

/// A charge to be priced.
pub struct Estimate {
    pub curve: Curve,
    pub loss: LossRatio,
    /// First and last reading, on the pile's wall clock.
    span: (DateTime, DateTime),
}

/// `now` is when it starts if the request does not say so; `zone` is that of the pile's clock.
pub fn read(request: &pb::EstimateCostRequest, zone: UtcOffset, now: WallMs) -> Result<Estimate, ApiError> {
    let pb::EstimateCostRequest { pile, start_time, loss_ratio_permille, energy } = request;
    let mut wrong = Violations::default();
    if let (false, Err(bad)) = (pile.is_empty(), pile.parse::<PileCode>()) {
        wrong.add("pile", bad.reason);
    }
    let loss = u16::try_from(loss_ratio_permille.unwrap_or(0)).ok().and_then(LossRatio::from_permille);
    if loss.is_none() {
        wrong.add("loss_ratio_permille", "must be 0 to 1000");
    }
    let readings = match energy {
        None => {
            wrong.add("energy", "is required: constant or curve");
            vec![]
        }
        Some(Asked::Constant(charge)) => {
            let start = start_time.map_or(Some((now, false)), to_wall);
            if start.is_none() {
                wrong.add("start_time", NO_TIME);
            }
            constant(charge, start.map_or(now, |(at, _)| at), &mut wrong)
        }
        Some(Asked::Curve(curve)) => {
            if start_time.is_some() {
                wrong.add("start_time", "is not given with a curve, which says itself when it starts");
            }
            points(curve, &mut wrong)
        }
    };
    if !wrong.is_empty() {
        return Err(ApiError::Arguments(wrong));
    }
    let readings: Vec<_> = readings.into_iter().map(|(at, energy)| (at.local(zone), energy)).collect();
    let span = readings.first().zip(readings.last()).map(|((first, _), (last, _))| (*first, *last));
    let curve = Curve::new(readings).map_err(|bad| ApiError::Arguments(no_curve(bad)))?;
    let (Some(span), Some(loss)) = (span, loss) else { return Err(ApiError::Arguments(no_curve(BadCurve::Empty))) };
    Ok(Estimate { curve, loss, span })
}

pub fn told(estimate: &Estimate, cost: &Cost, tariff: &Tariff, zone: UtcOffset) -> pb::EstimateCostResponse {
    let part = |period: Period| {
        let PeriodCost { unit_price, energy, loss_energy, energy_fee, service_fee, amount } =
            cost.periods[period.index()];
        let fees = Fees { energy: energy_fee, service: service_fee };
        billed(period, RecordedPeriod { unit_price, energy, loss_energy, amount }, Some(fees))
    };
    let (start, end) = estimate.span;
    pb::EstimateCostResponse {
        periods: Period::ALL.map(part).into(),
        total_energy_mwh: energy_mwh(cost.energy()),
        total_loss_energy_mwh: energy_mwh(cost.loss_energy()),
        total_amount: Some(amount(cost.amount())),
        total_energy_fee: Some(amount(cost.energy_fee())),
        total_service_fee: Some(amount(cost.service_fee())),
        start_time: Some(pile_time(start, zone)),
        end_time: Some(pile_time(end, zone)),
        tariff: Some(tariff_used(tariff)),
    }
}

fn tariff_used(tariff: &Tariff) -> pb::TariffUsed {
    let class = |period: Period| pb::TariffClass {
        period: super::order::tariff_period(period).into(),
        energy_price: Some(price(tariff.prices_of(period).energy)),
        service_price: Some(price(tariff.prices_of(period).service)),
    };
    pb::TariffUsed {
        classes: Period::ALL.map(class).into(),
        half_hours: tariff.half_hours.iter().map(|period| super::order::tariff_period(*period).into()).collect(),
        fingerprint: format!("{:016x}", tariff.fingerprint()),
    }
}

fn constant(charge: &pb::ConstantCharge, start: WallMs, wrong: &mut Violations) -> Vec<(WallMs, Energy)> {
    let pb::ConstantCharge { energy_mwh, power_w } = *charge;
    let total = energy(energy_mwh);
    if total.is_none() {
        wrong.add("constant.energy_mwh", ENERGY);
    }
    let power = u64::try_from(power_w).ok().filter(|power| (1..=MAX_POWER_W).contains(power));
    if power.is_none() {
        wrong.add("constant.power_w", "must be 1 to 10000000");
    }
    let (Some(total), Some(power)) = (total, power) else { return vec![] };
    // 1 mWh is 3.6 J. Not less than it takes, so that the power is not exceeded.
    let takes_ms = (total.mwh() * 3600).div_ceil(power);
    if takes_ms > MAX_MS {
        wrong.add("constant", TOO_LONG);
    }
    let end = (total != Energy(0)).then(|| (start.plus_ms(takes_ms), total));
    [(start, Energy(0))].into_iter().chain(end).collect()
}

fn points(curve: &pb::EnergyCurve, wrong: &mut Violations) -> Vec<(WallMs, Energy)> {
    let pb::EnergyCurve { points } = curve;
    if points.is_empty() || points.len() > MAX_POINTS {
        wrong.add("curve.points", "must be 1 to 10000");
        return vec![];
    }
    let mut readings: Vec<(WallMs, Energy)> = vec![];
    for (n, pb::EnergyPoint { time, energy_mwh }) in points.iter().enumerate() {
        let (at, energy) = (time.and_then(to_wall), energy(*energy_mwh));
        if at.is_none() {
            wrong.add(format!("curve.points[{n}].time"), NO_TIME);
        }
        if energy.is_none() {
            wrong.add(format!("curve.points[{n}].energy_mwh"), ENERGY);
        }
        let (Some((at, _)), Some(energy)) = (at, energy) else { return vec![] };
        readings.push((at, energy));
    }
    let span = readings.first().zip(readings.last()).map_or(0, |((first, _), (last, _))| last.since(*first));
    if span > MAX_MS {
        wrong.add("curve.points", TOO_LONG);
    }
    readings
}

fn energy(mwh: i64) -> Option<Energy> {
    let mwh = u64::try_from(mwh).ok().filter(|mwh| *mwh <= MAX_ENERGY_MWH && mwh % 100 == 0)?;
    Some(Energy(mwh / 100))
}

fn no_curve(bad: BadCurve) -> Violations {
    let (field, why) = match bad {
        BadCurve::Empty => ("curve.points".to_owned(), "must be 1 to 10000"),
        BadCurve::TimeStands { at } => (format!("curve.points[{at}].time"), "must be later than the one before"),
        BadCurve::EnergyFalls { at } => (format!("curve.points[{at}].energy_mwh"), "must not be less than before"),
        BadCurve::TooLong { at } => (format!("curve.points[{at}].time"), TOO_LONG),
    };
    let mut violations = Violations::default();
    violations.add(field, why);
    violations
}

const MAX_POINTS: usize = 10_000;
/// 10 MWh
const MAX_ENERGY_MWH: u64 = 10_000_000_000;
/// 10 MW
const MAX_POWER_W: u64 = 10_000_000;
const MAX_MS: u64 = SignedDuration::from_hours(7 * 24).as_millis() as u64;
const TOO_LONG: &str = "must not take longer than 7 days";
const ENERGY: &str = "must be 0 to 10000000000, in whole 100";
const NO_TIME: &str = "is no time of the years 1 to 9999";
