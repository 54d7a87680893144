//! The order document, and the start attempt that leads to it.

use super::StartAttempt;
use super::field::{self, Unreadable, bytes, enumerated, enumeration, packed, required, small, wall};
use super::v1;
use crate::domain::driver::{AtPile, Card, GrantedLimits, Shown, Vin};
use crate::domain::order::{
    Anomaly, AnomalyKind, BalanceLow, Closing, ClosingSource, Failure, Limits, Metered, Origin, Parallel,
    RecordAfterClose, StartRequest, Stop, StopAtLogin, StopCause,
};
use crate::domain::{Amount, Energy, Order, OrderState, RequestId, WallMs};

impl From<&Order> for v1::Order {
    fn from(order: &Order) -> Self {
        let Order {
            pile,
            gun,
            serial,
            state,
            origin,
            order_id,
            attributes,
            request,
            at_pile,
            created_at,
            updated_at,
            accepted_at,
            plug_deadline,
            charging_at,
            stop,
            ended_at,
            settled_at,
            failure,
            anomalies,
            tariff,
            last,
            idle_seen,
            bill,
            vehicle,
            closing,
            record_after_close,
            stop_at_login,
            balance_fen,
            balance_low,
            limits,
            parallel,
        } = order;
        Self {
            pile: packed(&pile.bcd()),
            gun: u32::from(gun.number()),
            serial: packed(&serial.bytes()),
            state: v1::OrderState::from(*state).into(),
            origin: v1::Origin::from(*origin).into(),
            order_id: order_id.clone(),
            attributes: attributes.clone().into_iter().collect(),
            request: request.as_ref().map(Into::into),
            created_at_ms: created_at.0,
            updated_at_ms: updated_at.0,
            accepted_at_ms: accepted_at.map(|at| at.0),
            plug_deadline_ms: plug_deadline.map(|at| at.0),
            charging_at_ms: charging_at.map(|at| at.0),
            stop: stop.as_ref().map(Into::into),
            ended_at_ms: ended_at.map(|at| at.0),
            settled_at_ms: settled_at.map(|at| at.0),
            failure: failure.as_ref().map(Into::into),
            anomalies: anomalies.iter().map(Into::into).collect(),
            tariff: tariff.as_ref().map(Into::into),
            last: last.as_ref().map(Into::into),
            idle_seen: u32::from(*idle_seen),
            bill: bill.as_ref().map(Into::into),
            vehicle: vehicle.as_deref().map(Into::into),
            closing: closing.as_ref().map(Into::into),
            record_after_close: record_after_close.as_ref().map(Into::into),
            stop_at_login: stop_at_login.as_ref().map(Into::into),
            balance_fen: *balance_fen,
            balance_low: balance_low.as_ref().map(Into::into),
            limits: limits.as_ref().map(Into::into),
            at_pile: at_pile.as_deref().map(Into::into),
            parallel: parallel.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<v1::Order> for Order {
    type Error = Unreadable;

    fn try_from(stored: v1::Order) -> Result<Self, Unreadable> {
        let v1::Order {
            pile,
            gun,
            serial,
            state,
            origin,
            order_id,
            attributes,
            request,
            created_at_ms,
            updated_at_ms,
            accepted_at_ms,
            plug_deadline_ms,
            charging_at_ms,
            stop,
            ended_at_ms,
            settled_at_ms,
            failure,
            anomalies,
            tariff,
            last,
            idle_seen,
            bill,
            vehicle,
            closing,
            record_after_close,
            stop_at_login,
            balance_fen,
            balance_low,
            limits,
            at_pile,
            parallel,
        } = stored;
        Ok(Self {
            pile: field::pile(&pile)?,
            gun: field::gun(gun)?,
            serial: field::serial(&serial)?,
            state: enumerated::<v1::OrderState, _>("state", state)?,
            origin: enumerated::<v1::Origin, _>("origin", origin)?,
            order_id,
            attributes: attributes.into_iter().collect(),
            request: request.map(TryInto::try_into).transpose()?,
            created_at: WallMs(created_at_ms),
            updated_at: WallMs(updated_at_ms),
            accepted_at: wall(accepted_at_ms),
            plug_deadline: wall(plug_deadline_ms),
            charging_at: wall(charging_at_ms),
            stop: stop.map(TryInto::try_into).transpose()?,
            ended_at: wall(ended_at_ms),
            settled_at: wall(settled_at_ms),
            failure: failure.map(TryInto::try_into).transpose()?,
            anomalies: anomalies.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            tariff: tariff.map(TryInto::try_into).transpose()?,
            last: last.map(TryInto::try_into).transpose()?,
            idle_seen: small("idle_seen", idle_seen)?,
            bill: bill.map(TryInto::try_into).transpose()?,
            vehicle: vehicle.map(|said| said.try_into().map(Box::new)).transpose()?,
            closing: closing.map(TryInto::try_into).transpose()?,
            record_after_close: record_after_close.map(Into::into),
            stop_at_login: stop_at_login.map(Into::into),
            balance_fen,
            balance_low: balance_low.map(Into::into),
            limits: limits.map(TryInto::try_into).transpose()?,
            at_pile: at_pile.map(TryInto::try_into).transpose()?.map(Box::new),
            parallel: parallel.map(TryInto::try_into).transpose()?,
        })
    }
}

impl From<&StartRequest> for v1::StartRequest {
    fn from(request: &StartRequest) -> Self {
        let StartRequest { id, arguments } = *request;
        Self { id: packed(&id.bytes()), arguments }
    }
}

impl TryFrom<v1::StartRequest> for StartRequest {
    type Error = Unreadable;

    fn try_from(stored: v1::StartRequest) -> Result<Self, Unreadable> {
        let v1::StartRequest { id, arguments } = stored;
        Ok(Self { id: RequestId::from_bytes(bytes("request.id", &id)?), arguments })
    }
}

impl From<&AtPile> for v1::AtPile {
    fn from(at_pile: &AtPile) -> Self {
        let AtPile { shown, account, logical_card, balance_fen, limits, parallel_no } = at_pile;
        let GrantedLimits { max_power_kw, soc_percent, energy } = *limits;
        let shown = match shown {
            Shown::Card(card) => v1::at_pile::Shown::Card(packed(&card.0)),
            Shown::Vin(vin) => v1::at_pile::Shown::Vin(vin.0.clone()),
        };
        Self {
            shown: Some(shown),
            account: account.clone(),
            logical_card: packed(logical_card),
            balance_fen: *balance_fen,
            max_power_kw: u32::from(max_power_kw),
            soc_limit_percent: u32::from(soc_percent),
            energy_limit: energy,
            parallel_no: parallel_no.map(|number| packed(&number)),
        }
    }
}

impl TryFrom<v1::AtPile> for AtPile {
    type Error = Unreadable;

    fn try_from(stored: v1::AtPile) -> Result<Self, Unreadable> {
        let v1::AtPile {
            shown,
            account,
            logical_card,
            balance_fen,
            max_power_kw,
            soc_limit_percent,
            energy_limit,
            parallel_no,
        } = stored;
        let shown = match required("at_pile.shown", shown)? {
            v1::at_pile::Shown::Card(card) => Shown::Card(Card(bytes("at_pile.card", &card)?)),
            v1::at_pile::Shown::Vin(vin) => Shown::Vin(Vin(vin)),
        };
        let limits = GrantedLimits {
            max_power_kw: small("at_pile.max_power_kw", max_power_kw)?,
            soc_percent: small("at_pile.soc_limit_percent", soc_limit_percent)?,
            energy: energy_limit,
        };
        Ok(Self {
            shown,
            account,
            logical_card: bytes("at_pile.logical_card", &logical_card)?,
            balance_fen,
            limits,
            parallel_no: parallel_no.map(|number| bytes("at_pile.parallel_no", &number)).transpose()?,
        })
    }
}

impl From<&Parallel> for v1::Parallel {
    fn from(parallel: &Parallel) -> Self {
        let Parallel { number, gun, serial } = *parallel;
        Self { number: packed(&number), gun: u32::from(gun.number()), serial: packed(&serial.bytes()) }
    }
}

impl TryFrom<v1::Parallel> for Parallel {
    type Error = Unreadable;

    fn try_from(stored: v1::Parallel) -> Result<Self, Unreadable> {
        let v1::Parallel { number, gun, serial } = stored;
        let number = bytes("parallel.number", &number)?;
        Ok(Self { number, gun: field::gun(gun)?, serial: field::serial(&serial)? })
    }
}

impl From<&Stop> for v1::Stop {
    fn from(stop: &Stop) -> Self {
        let Stop { requested_at, last_sent_at, sent, still_charging, cause, takes_back } = *stop;
        Self {
            requested_at_ms: requested_at.0,
            last_sent_at_ms: last_sent_at.0,
            sent: u32::from(sent),
            still_charging,
            cause: v1::StopCause::from(cause).into(),
            takes_back,
        }
    }
}

impl TryFrom<v1::Stop> for Stop {
    type Error = Unreadable;

    fn try_from(stored: v1::Stop) -> Result<Self, Unreadable> {
        let v1::Stop { requested_at_ms, last_sent_at_ms, sent, still_charging, cause, takes_back } = stored;
        Ok(Self {
            requested_at: WallMs(requested_at_ms),
            last_sent_at: WallMs(last_sent_at_ms),
            sent: small("stop.sent", sent)?,
            still_charging,
            // Before there were others, nobody said so.
            cause: match cause {
                0 => StopCause::Caller,
                cause => enumerated::<v1::StopCause, _>("stop.cause", cause)?,
            },
            takes_back,
        })
    }
}

impl From<&Failure> for v1::Failure {
    fn from(failure: &Failure) -> Self {
        let plain = |kind: v1::FailureKind| Self { kind: kind.into(), code: 0, name: String::new() };
        match failure {
            Failure::Rejected { code, name } => {
                Self { code: u32::from(*code), name: name.clone(), ..plain(v1::FailureKind::Rejected) }
            }
            Failure::NotPluggedIn => plain(v1::FailureKind::NotPluggedIn),
            Failure::NoStart => plain(v1::FailureKind::NoStart),
            Failure::FailedOnPile { code, name } => {
                Self { code: u32::from(*code), name: name.clone(), ..plain(v1::FailureKind::FailedOnPile) }
            }
            Failure::NotSent => plain(v1::FailureKind::NotSent),
        }
    }
}

impl TryFrom<v1::Failure> for Failure {
    type Error = Unreadable;

    fn try_from(stored: v1::Failure) -> Result<Self, Unreadable> {
        let v1::Failure { kind, code, name } = stored;
        let kind = v1::FailureKind::try_from(kind).map_err(|_| field::bad("failure.kind", kind))?;
        let code = small("failure.code", code)?;
        match kind {
            v1::FailureKind::Rejected => Ok(Self::Rejected { code, name }),
            v1::FailureKind::NotPluggedIn => Ok(Self::NotPluggedIn),
            v1::FailureKind::NoStart => Ok(Self::NoStart),
            v1::FailureKind::FailedOnPile => Ok(Self::FailedOnPile { code, name }),
            v1::FailureKind::NotSent => Ok(Self::NotSent),
            v1::FailureKind::Unspecified => required("failure.kind", None),
        }
    }
}

impl From<&Anomaly> for v1::Anomaly {
    fn from(anomaly: &Anomaly) -> Self {
        let Anomaly { kind, at } = *anomaly;
        Self { kind: v1::AnomalyKind::from(kind).into(), at_ms: at.0 }
    }
}

impl TryFrom<v1::Anomaly> for Anomaly {
    type Error = Unreadable;

    fn try_from(stored: v1::Anomaly) -> Result<Self, Unreadable> {
        let v1::Anomaly { kind, at_ms } = stored;
        Ok(Self { kind: enumerated::<v1::AnomalyKind, _>("anomalies.kind", kind)?, at: WallMs(at_ms) })
    }
}

impl From<&Metered> for v1::Metered {
    fn from(metered: &Metered) -> Self {
        let Metered { at, energy, amount, soc_percent } = *metered;
        Self { at_ms: at.0, energy: energy.0, amount: amount.0, soc_percent: u32::from(soc_percent) }
    }
}

impl TryFrom<v1::Metered> for Metered {
    type Error = Unreadable;

    fn try_from(stored: v1::Metered) -> Result<Self, Unreadable> {
        let v1::Metered { at_ms, energy, amount, soc_percent } = stored;
        Ok(Self {
            at: WallMs(at_ms),
            energy: Energy(energy),
            amount: Amount(amount),
            soc_percent: small("last.soc_percent", soc_percent)?,
        })
    }
}

impl From<&Closing> for v1::Closing {
    fn from(closing: &Closing) -> Self {
        let Closing { at, reason, energy, amount, source } = closing;
        let source = v1::ClosingSource::from(*source).into();
        Self { at_ms: at.0, reason: reason.clone(), energy: energy.0, amount: amount.0, source }
    }
}

impl TryFrom<v1::Closing> for Closing {
    type Error = Unreadable;

    fn try_from(stored: v1::Closing) -> Result<Self, Unreadable> {
        let v1::Closing { at_ms, reason, energy, amount, source } = stored;
        let source = enumerated::<v1::ClosingSource, _>("closing.source", source)?;
        Ok(Self { at: WallMs(at_ms), reason, energy: Energy(energy), amount: Amount(amount), source })
    }
}

impl From<&RecordAfterClose> for v1::RecordAfterClose {
    fn from(more: &RecordAfterClose) -> Self {
        let RecordAfterClose { energy, amount } = *more;
        Self { energy, amount: amount.0 }
    }
}

impl From<v1::RecordAfterClose> for RecordAfterClose {
    fn from(stored: v1::RecordAfterClose) -> Self {
        let v1::RecordAfterClose { energy, amount } = stored;
        Self { energy, amount: Amount(amount) }
    }
}

impl From<&StopAtLogin> for v1::StopAtLogin {
    fn from(plan: &StopAtLogin) -> Self {
        let StopAtLogin { requested_at, expires_at } = *plan;
        Self { requested_at_ms: requested_at.0, expires_at_ms: expires_at.0 }
    }
}

impl From<v1::StopAtLogin> for StopAtLogin {
    fn from(stored: v1::StopAtLogin) -> Self {
        let v1::StopAtLogin { requested_at_ms, expires_at_ms } = stored;
        Self { requested_at: WallMs(requested_at_ms), expires_at: WallMs(expires_at_ms) }
    }
}

impl From<&Limits> for v1::Limits {
    fn from(limits: &Limits) -> Self {
        let Limits { amount, energy, duration_s, soc_percent, max_power_w, by_pile } = *limits;
        Self {
            amount: amount.map(|amount| amount.0),
            energy: energy.map(|energy| energy.0),
            duration_s,
            soc_percent: soc_percent.map(u32::from),
            max_power_w,
            by_pile,
        }
    }
}

impl TryFrom<v1::Limits> for Limits {
    type Error = Unreadable;

    fn try_from(stored: v1::Limits) -> Result<Self, Unreadable> {
        let v1::Limits { amount, energy, duration_s, soc_percent, max_power_w, by_pile } = stored;
        let soc_percent = soc_percent.map(|percent| small("limits.soc_percent", percent)).transpose()?;
        let (amount, energy) = (amount.map(Amount), energy.map(Energy));
        Ok(Self { amount, energy, duration_s, soc_percent, max_power_w, by_pile })
    }
}

impl From<&BalanceLow> for v1::BalanceLow {
    fn from(low: &BalanceLow) -> Self {
        let BalanceLow { at, eta } = *low;
        Self { at_ms: at.0, eta_ms: eta.0 }
    }
}

impl From<v1::BalanceLow> for BalanceLow {
    fn from(stored: v1::BalanceLow) -> Self {
        let v1::BalanceLow { at_ms, eta_ms } = stored;
        Self { at: WallMs(at_ms), eta: WallMs(eta_ms) }
    }
}

impl From<&StartAttempt> for v1::StartAttempt {
    fn from(attempt: &StartAttempt) -> Self {
        let StartAttempt { pile, id, arguments, serial, created_at } = *attempt;
        Self {
            pile: packed(&pile.bcd()),
            id: packed(&id.bytes()),
            arguments,
            serial: packed(&serial.bytes()),
            created_at_ms: created_at.0,
        }
    }
}

impl TryFrom<v1::StartAttempt> for StartAttempt {
    type Error = Unreadable;

    fn try_from(stored: v1::StartAttempt) -> Result<Self, Unreadable> {
        let v1::StartAttempt { pile, id, arguments, serial, created_at_ms } = stored;
        Ok(Self {
            pile: field::pile(&pile)?,
            id: RequestId::from_bytes(bytes("id", &id)?),
            arguments,
            serial: field::serial(&serial)?,
            created_at: WallMs(created_at_ms),
        })
    }
}

enumeration!(OrderState, OrderState:
    Requested WaitingForPlug Starting Charging Stopping Finished Abnormal Failed Settled ClosedWithoutRecord);
enumeration!(Origin, Origin: Platform Pile Card Vin OfflineCard);
enumeration!(AnomalyKind, AnomalyKind:
    StartTimeout IdleWhileCharging StopNotObeyed RecordOverdue LateStart UnknownSerial RecordConflict BillMismatch
    RecordAfterClose);
enumeration!(StopCause, StopCause: Caller LateStart AtLogin LimitAmount LimitEnergy LimitDuration LimitSoc OtherGun);
enumeration!(ClosingSource, ClosingSource: LastTelemetry Given);
