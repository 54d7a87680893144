//! What was agreed of an order, and what an operator has made of it.

use super::{amount, energy_mwh, timestamp};
use crate::api::pb;
use crate::domain::order::{Closing, ClosingSource, RecordAfterClose, StopAtLogin, StopCause};

pub fn stop_cause(cause: StopCause) -> pb::StopCause {
    match cause {
        StopCause::Caller => pb::StopCause::Caller,
        StopCause::LateStart => pb::StopCause::LateStart,
        StopCause::AtLogin => pb::StopCause::AtLogin,
    }
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
