//! What was agreed of an order, and what an operator has made of it.

use super::{amount, energy_mwh, timestamp};
use crate::api::pb;
use crate::domain::order::{BalanceLow, Closing, ClosingSource, Limits, RecordAfterClose, StopAtLogin, StopCause};

pub fn stop_cause(cause: StopCause) -> pb::StopCause {
    match cause {
        StopCause::Caller => pb::StopCause::Caller,
        StopCause::LateStart => pb::StopCause::LateStart,
        StopCause::AtLogin => pb::StopCause::AtLogin,
        StopCause::LimitAmount => pb::StopCause::LimitAmount,
        StopCause::LimitEnergy => pb::StopCause::LimitEnergy,
        StopCause::LimitDuration => pb::StopCause::LimitDuration,
        StopCause::LimitSoc => pb::StopCause::LimitSoc,
        StopCause::OtherGun => pb::StopCause::OtherGun,
    }
}

pub fn limits(limits: Limits) -> pb::ChargeLimits {
    // Who holds them is in the order's own words: what was agreed.
    let Limits { amount: costs, energy, duration_s, soc_percent, max_power_w, by_pile: _ } = limits;
    pb::ChargeLimits {
        amount: costs.map(amount),
        energy_mwh: energy.map(energy_mwh),
        duration_s: duration_s.map(u32::cast_signed),
        soc_percent: soc_percent.map(i32::from),
        max_power_w: max_power_w.map(i64::from),
    }
}

pub fn balance_low(low: BalanceLow) -> pb::BalanceLow {
    let BalanceLow { at, eta } = low;
    pb::BalanceLow { at: Some(timestamp(at)), eta: Some(timestamp(eta)) }
}

pub fn stop_at_login(plan: StopAtLogin) -> pb::StopAtLogin {
    let StopAtLogin { requested_at, expires_at } = plan;
    pb::StopAtLogin { requested_at: Some(timestamp(requested_at)), expires_at: Some(timestamp(expires_at)) }
}

pub fn closing(closing: Closing) -> pb::OrderClosing {
    let Closing { at, reason, energy, amount: costs, source } = closing;
    let source = match source {
        ClosingSource::LastTelemetry => pb::ClosingSource::LastTelemetry,
        ClosingSource::Given => pb::ClosingSource::Given,
    };
    pb::OrderClosing {
        at: Some(timestamp(at)),
        reason,
        energy_mwh: energy_mwh(energy),
        amount: Some(amount(costs)),
        source: source.into(),
    }
}

pub fn record_after_close(more: RecordAfterClose) -> pb::RecordAfterClose {
    let RecordAfterClose { energy, amount: costs } = more;
    pb::RecordAfterClose { energy_mwh: energy.saturating_mul(100), amount: Some(amount(costs)) }
}
