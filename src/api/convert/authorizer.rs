//! Questions to the operator's authorizers, and what they answer.

use super::{pile_time, steps, timestamp};
use crate::api::pb;
use crate::domain::driver::{Card, GrantedLimits, Shown};
use crate::domain::ids::hex;
use crate::domain::units::UtcOffset;
use crate::session::authority::{ChargeAsk, Denial, Grant, Parallel, Role, Verdict};

/// `zone` is that of the pile's clock.
pub fn question(ask: ChargeAsk, zone: UtcOffset) -> pb::AuthorizeChargeRequest {
    let ChargeAsk { pile, gun, serial, shown, password, parallel, asked_at, pile_time: local } = ask;
    let shown = match shown {
        Shown::Card(card) => pb::authorize_charge_request::Shown::Card(card.reveal()),
        Shown::Vin(vin) => pb::authorize_charge_request::Shown::Vin(vin.0),
    };
    pb::AuthorizeChargeRequest {
        pile: pile.to_string(),
        gun: i32::from(gun.number()),
        serial: serial.to_string(),
        password_hash: password.map(|password| password.0.to_vec().into()),
        parallel: parallel.map(|Parallel { number, role }| pb::ParallelCharge {
            parallel_no: hex(&number),
            role: match role {
                Role::Main => pb::ParallelGunRole::Main,
                Role::Auxiliary => pb::ParallelGunRole::Auxiliary,
                Role::Unknown(_) => pb::ParallelGunRole::Unspecified,
            }
            .into(),
        }),
        requested_at: Some(timestamp(asked_at)),
        pile_time: Some(pile_time(local, zone)),
        shown: Some(shown),
    }
}

/// What cannot be meant is named, and never repaired: it is about money.
pub fn verdict(answer: pb::AuthorizeChargeResponse) -> Result<Verdict, &'static str> {
    match answer.verdict.ok_or("verdict: is missing")? {
        pb::authorize_charge_response::Verdict::Allowed(allowed) => {
            grant(allowed).map(|grant| Verdict::Allow(Box::new(grant)))
        }
        pb::authorize_charge_response::Verdict::Denied(pb::ChargeDenied { reason }) => {
            denial(reason).map(Verdict::Deny).ok_or("denied.reason: is missing, or no reason")
        }
    }
}

fn grant(allowed: pb::ChargeAllowed) -> Result<Grant, &'static str> {
    let pb::ChargeAllowed {
        balance,
        logical_card,
        order_id,
        attributes,
        account,
        max_power_w,
        soc_limit_percent,
        energy_limit_mwh,
    } = allowed;
    let fen = balance.and_then(|money| steps(&money, 100)).and_then(|fen| u32::try_from(fen).ok());
    let logical_card = match &*logical_card {
        "" => Some([0; 8]),
        text => Card::parse(text).filter(|_| text.len() == 16).map(|card| card.0),
    };
    let size: usize = attributes.iter().map(|(key, value)| key.len() + value.len()).sum();
    let short = |text: &str| text.chars().count() <= MAX_NAME;
    // Zero would be no limit, which nobody can have meant who sets one.
    let whole = |n: i64, unit: i64| (n > 0 && n % unit == 0).then_some(n / unit);
    let max_power_kw = match max_power_w {
        None => Some(0),
        Some(watts) => whole(watts, 1000).and_then(|kw| u16::try_from(kw).ok()),
    };
    let soc_percent = match soc_limit_percent {
        None => Some(0),
        Some(percent) => u8::try_from(percent).ok().filter(|percent| (1..=100).contains(percent)),
    };
    let energy = match energy_limit_mwh {
        None => Some(0),
        Some(mwh) => whole(mwh, 100).and_then(|steps| u32::try_from(steps).ok()),
    };
    if size > MAX_ATTRIBUTES {
        return Err("allowed.attributes: at most 1024 bytes");
    }
    if !short(&order_id) || !short(&account) {
        return Err("allowed.order_id, allowed.account: at most 128 characters");
    }
    Ok(Grant {
        logical_card: logical_card.ok_or("allowed.logical_card: must be 16 hex digits")?,
        balance_fen: fen.ok_or("allowed.balance: must be CNY, a whole number of 0.01, from 0 to 42949672.95")?,
        limits: GrantedLimits {
            max_power_kw: max_power_kw.ok_or("allowed.max_power_w: must be whole kW")?,
            soc_percent: soc_percent.ok_or("allowed.soc_limit_percent: must be 1 to 100")?,
            energy: energy.ok_or("allowed.energy_limit_mwh: must be a whole number of 100 mWh")?,
        },
        account,
        order_id,
        attributes: attributes.into_iter().collect(),
    })
}

fn denial(reason: i32) -> Option<Denial> {
    match pb::ChargeDenialReason::try_from(reason).ok()? {
        pb::ChargeDenialReason::Unspecified => None,
        pb::ChargeDenialReason::NoSuchAccount => Some(Denial::NoSuchAccount),
        pb::ChargeDenialReason::AccountFrozen => Some(Denial::AccountFrozen),
        pb::ChargeDenialReason::InsufficientBalance => Some(Denial::InsufficientBalance),
        pb::ChargeDenialReason::CardUnsettled => Some(Denial::CardUnsettled),
        pb::ChargeDenialReason::PileDisabled => Some(Denial::PileDisabled),
        pb::ChargeDenialReason::NotOnThisPile => Some(Denial::NotOnThisPile),
        pb::ChargeDenialReason::WrongPassword => Some(Denial::WrongPassword),
        pb::ChargeDenialReason::NoCapacity => Some(Denial::NoCapacity),
        pb::ChargeDenialReason::VinUnknown => Some(Denial::VinUnknown),
        pb::ChargeDenialReason::PileUnsettled => Some(Denial::PileUnsettled),
        pb::ChargeDenialReason::NoCardCharging => Some(Denial::NoCardCharging),
    }
}

/// In characters.
const MAX_NAME: usize = 128;
/// Keys and values together, in bytes.
const MAX_ATTRIBUTES: usize = 1024;

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn allowed() -> pb::ChargeAllowed {
        pb::ChargeAllowed { balance: Some(super::super::balance(5_000)), ..Default::default() }
    }

    fn read(allowed: pb::ChargeAllowed) -> Result<Grant, &'static str> {
        let verdict = Some(pb::authorize_charge_response::Verdict::Allowed(allowed));
        match self::verdict(pb::AuthorizeChargeResponse { verdict })? {
            Verdict::Allow(grant) => Ok(*grant),
            Verdict::Deny(reason) => panic!("{reason:?}"),
        }
    }

    #[test]
    fn what_cannot_be_meant_is_no_answer() {
        let check = |spoil: fn(&mut pb::ChargeAllowed), field: &str| {
            let mut allowed = allowed();
            spoil(&mut allowed);
            let wrong = read(allowed).expect_err(field);
            assert!(wrong.contains(field), "{wrong}");
        };
        check(|a| a.balance = None, "balance");
        check(|a| a.balance = Some(pb::Money { currency_code: "USD".into(), units: 1, nanos: 0 }), "balance");
        check(|a| a.balance = Some(pb::Money { currency_code: "CNY".into(), units: -1, nanos: 0 }), "balance");
        check(|a| a.balance = Some(pb::Money { currency_code: "CNY".into(), units: 0, nanos: 1 }), "balance");
        check(|a| a.logical_card = "573".into(), "logical_card");
        check(|a| a.order_id = "x".repeat(129), "order_id");
        check(|a| a.account = "x".repeat(129), "account");
        check(|a| a.attributes = HashMap::from([("k".into(), "v".repeat(1024))]), "attributes");
        check(|a| a.max_power_w = Some(0), "max_power_w");
        check(|a| a.max_power_w = Some(65_536_000), "max_power_w");
        check(|a| a.soc_limit_percent = Some(101), "soc_limit_percent");
        check(|a| a.energy_limit_mwh = Some(150), "energy_limit_mwh");
        assert!(verdict(pb::AuthorizeChargeResponse { verdict: None }).is_err());
        for reason in [0, 12, -1] {
            let denied = pb::authorize_charge_response::Verdict::Denied(pb::ChargeDenied { reason });
            assert!(verdict(pb::AuthorizeChargeResponse { verdict: Some(denied) }).is_err(), "{reason}");
        }
    }

    #[test]
    fn what_is_allowed_is_read_whole() {
        let limits = pb::ChargeAllowed {
            max_power_w: Some(60_000),
            soc_limit_percent: Some(80),
            energy_limit_mwh: Some(10_000_000),
            logical_card: "0000001000000573".into(),
            account: "acme".into(),
            ..allowed()
        };
        let grant = read(limits).expect("allowed");
        assert_eq!((grant.balance_fen, grant.account.as_str(), grant.logical_card[7]), (5_000, "acme", 0x73));
        assert_eq!(grant.limits, GrantedLimits { max_power_kw: 60, soc_percent: 80, energy: 100_000 });
        assert_eq!(read(allowed()).expect("allowed").limits, GrantedLimits::default(), "unset is none");
    }

    #[test]
    fn every_reason_has_the_number_the_pile_gets() {
        for reason in 1..=11 {
            let denial = denial(reason).expect("a reason");
            let sent = crate::session::authority::Denial::code(denial);
            assert_eq!(i32::from(sent), reason, "{denial:?}");
        }
    }
}
