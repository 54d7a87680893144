//! What is asked of orders.

use std::time::Duration;

use super::{Fields, MAX_REASON};
use crate::api::convert::{energy, to_amount};
use crate::api::error::ApiError;
use crate::api::pb;
use crate::domain::command::{Command, GunStart, NewBalance, ParallelStart, Start};
use crate::domain::order::{Close, Limits};
use crate::domain::{Amount, Energy, PileCode, Serial};

pub fn start(request: pb::StartChargingRequest) -> Result<(PileCode, Start), ApiError> {
    let pb::StartChargingRequest {
        pile,
        gun,
        request_id,
        serial,
        order_id,
        attributes,
        logical_card,
        physical_card,
        balance,
        limits,
        expected_tariff,
    } = request;
    let mut fields = Fields::default();
    let pile = fields.pile(&pile);
    let gun = fields.gun(gun);
    let request_id = fields.parsed("request_id", &request_id);
    let serial = if serial.is_empty() { Some(None) } else { fields.serial(&serial).map(Some) };
    fields.order_id(&order_id);
    fields.attributes(&attributes);
    let logical_card = fields.card("logical_card", &logical_card);
    let physical_card = fields.card("physical_card", &physical_card);
    let balance_fen = fields.balance(balance.as_ref());
    let limits = fields.limits(limits.unwrap_or_default());
    let expected_tariff = fields.fingerprint("expected_tariff", &expected_tariff);
    let parsed = (|| {
        let start = Start {
            gun: gun?,
            request_id: request_id?,
            serial: serial?,
            order_id,
            attributes: attributes.into_iter().collect(),
            logical_card: logical_card?,
            physical_card: physical_card?,
            balance_fen: balance_fen?,
            limits,
            expected_tariff,
        };
        Some((pile?, start))
    })();
    fields.finish(parsed)
}

pub fn start_parallel(request: pb::StartParallelChargingRequest) -> Result<(PileCode, ParallelStart), ApiError> {
    let pb::StartParallelChargingRequest {
        pile,
        guns,
        request_id,
        order_id,
        attributes,
        logical_card,
        physical_card,
        expected_tariff,
    } = request;
    let mut fields = Fields::default();
    let pile = fields.pile(&pile);
    let request_id = fields.parsed("request_id", &request_id);
    let guns = fields.pair(guns);
    fields.order_id(&order_id);
    fields.attributes(&attributes);
    let logical_card = fields.card("logical_card", &logical_card);
    let physical_card = fields.card("physical_card", &physical_card);
    let expected_tariff = fields.fingerprint("expected_tariff", &expected_tariff);
    let parsed = (|| {
        let start = ParallelStart {
            guns: guns?,
            request_id: request_id?,
            order_id,
            attributes: attributes.into_iter().collect(),
            logical_card: logical_card?,
            physical_card: physical_card?,
            expected_tariff,
        };
        Some((pile?, start))
    })();
    fields.finish(parsed)
}

/// The stop, and for how long it stands if the pile is away; `None`: not at all.
pub fn stop(request: &pb::StopChargingRequest) -> Result<(PileCode, Serial, Option<Duration>), ApiError> {
    let pb::StopChargingRequest { pile, serial, when_offline, expiry } = request;
    let mut fields = Fields::default();
    let (pile, serial) = (fields.pile(pile), fields.serial(serial));
    let stands = match (pb::WhenOffline::try_from(*when_offline), expiry) {
        (Ok(pb::WhenOffline::AtLogin), expiry) => fields.expiry(expiry.as_ref()),
        (Ok(pb::WhenOffline::Unspecified | pb::WhenOffline::Fail), None) => None,
        (Ok(pb::WhenOffline::Unspecified | pb::WhenOffline::Fail), Some(_)) => {
            fields.0.add("expiry", "is for AT_LOGIN only");
            None
        }
        (Err(_), _) => {
            fields.0.add("when_offline", "is nothing that can be done");
            None
        }
    };
    fields.finish(pile.zip(serial).map(|(pile, serial)| (pile, serial, stands)))
}

pub fn update_balance(request: &pb::UpdateBalanceRequest) -> Result<(PileCode, Command), ApiError> {
    let pb::UpdateBalanceRequest { pile, serial, balance, physical_card } = request;
    let mut fields = Fields::default();
    let (pile, serial) = (fields.pile(pile), fields.serial(serial));
    let fen = fields.balance(balance.as_ref());
    let card = fields.card("physical_card", physical_card);
    let update =
        serial.zip(fen).zip(card).map(|((serial, fen), physical_card)| NewBalance { serial, fen, physical_card });
    fields.finish(pile.zip(update).map(|(pile, update)| (pile, Command::UpdateBalance(update))))
}

pub fn close_order(request: pb::CloseOrderRequest) -> Result<(PileCode, Serial, Close), ApiError> {
    let pb::CloseOrderRequest { pile, serial, reason, energy_mwh, amount, force } = request;
    let mut fields = Fields::default();
    let (pile, serial) = (fields.pile(&pile), fields.serial(&serial));
    fields.reason(&reason);
    let given = match (energy_mwh, &amount) {
        (None, None) => None,
        (Some(mwh), Some(money)) => fields.energy("energy_mwh", mwh).zip(fields.amount("amount", money)),
        (Some(_), None) => {
            fields.0.add("amount", "is required with energy_mwh");
            None
        }
        (None, Some(_)) => {
            fields.0.add("energy_mwh", "is required with amount");
            None
        }
    };
    let close = Close { reason, given, force };
    fields.finish(pile.zip(serial).map(|(pile, serial)| (pile, serial, close)))
}

impl Fields {
    /// Two guns that one vehicle can have, by number.
    fn pair(&mut self, guns: Vec<pb::ParallelGun>) -> Option<[GunStart; 2]> {
        let Ok([one, other]) = <[_; 2]>::try_from(guns) else {
            self.0.add("guns", "must be two");
            return None;
        };
        let (one, other) = (self.of_pair("guns[0]", one), self.of_pair("guns[1]", other));
        let (one, other) = one.zip(other)?;
        if one.gun == other.gun {
            self.0.add("guns[1].gun", "must be another one than that of guns[0]");
        }
        if one.serial.is_some() && one.serial == other.serial {
            self.0.add("guns[1].serial", "must be another one than that of guns[0]");
        }
        Some(if one.gun < other.gun { [one, other] } else { [other, one] })
    }

    fn of_pair(&mut self, name: &str, part: pb::ParallelGun) -> Option<GunStart> {
        let pb::ParallelGun { gun, serial, balance, limits } = part;
        let mut fields = Self::default();
        let gun = fields.gun(gun);
        let serial = if serial.is_empty() { Some(None) } else { fields.serial(&serial).map(Some) };
        let balance_fen = fields.balance(balance.as_ref());
        let limits = fields.limits(limits.unwrap_or_default());
        self.0.add_all(name, fields.0);
        Some(GunStart { gun: gun?, serial: serial?, balance_fen: balance_fen?, limits })
    }

    fn reason(&mut self, text: &str) {
        if text.is_empty() {
            self.0.add("reason", "is required: it is what people will want to know of the order");
        } else if text.chars().count() > MAX_REASON {
            self.0.add("reason", format!("at most {MAX_REASON} characters"));
        }
    }

    fn expiry(&mut self, expiry: Option<&prost_types::Duration>) -> Option<Duration> {
        let read = expiry.and_then(|expiry| Duration::try_from(*expiry).ok());
        let good = read.filter(|expiry| (Duration::from_secs(1)..=MAX_EXPIRY).contains(expiry));
        if good.is_none() {
            self.0.add("expiry", "must be 1s to 7 days");
        }
        good
    }

    /// 16 hex digits; none at all = any tariff.
    fn fingerprint(&mut self, field: &str, text: &str) -> Option<u64> {
        let digits = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let fingerprint = digits.then(|| u64::from_str_radix(text, 16).ok()).flatten();
        if fingerprint.is_none() && !text.is_empty() {
            self.0.add(field, "must be 16 hex digits, as in Pile.tariff.fingerprint");
        }
        fingerprint
    }

    /// Those that are wrong are left out, and named.
    fn limits(&mut self, limits: pb::ChargeLimits) -> Limits {
        let pb::ChargeLimits { amount, energy_mwh, duration_s, soc_percent, max_power_w } = limits;
        let amount = amount.and_then(|money| {
            let positive = to_amount(&money).filter(|amount| amount.0 > 0);
            self.must("limits.amount", positive, "must be CNY, a whole number of 0.0001, more than 0")
        });
        let energy = energy_mwh.and_then(|mwh| {
            let fits = energy(mwh).filter(|energy| energy.0 > 0 && u32::try_from(energy.0).is_ok());
            self.must("limits.energy_mwh", fits, "must be a whole number of 100 mWh, from 100 to 429496729500")
        });
        let duration_s = duration_s.and_then(|seconds| {
            let fits = u32::try_from(seconds).ok().filter(|seconds| (1..=MAX_CHARGE_S).contains(seconds));
            self.must("limits.duration_s", fits, "must be 1 to 604800")
        });
        let soc_percent = soc_percent.and_then(|percent| {
            let fits = u8::try_from(percent).ok().filter(|percent| (1..=100).contains(percent));
            self.must("limits.soc_percent", fits, "must be 1 to 100")
        });
        let max_power_w = max_power_w.and_then(|watts| {
            let fits = u32::try_from(watts).ok().filter(|w| w % 1000 == 0 && (1..=65_535).contains(&(w / 1000)));
            self.must("limits.max_power_w", fits, "must be whole kW, from 1000 to 65535000")
        });
        Limits { amount, energy, duration_s, soc_percent, max_power_w, by_pile: false }
    }

    fn must<T>(&mut self, field: &str, value: Option<T>, reason: &str) -> Option<T> {
        if value.is_none() {
            self.0.add(field, reason);
        }
        value
    }

    fn energy(&mut self, field: &str, mwh: i64) -> Option<Energy> {
        let steps = energy(mwh);
        if steps.is_none() {
            self.0.add(field, "must be a whole number of 100 mWh, not negative");
        }
        steps
    }

    fn amount(&mut self, field: &str, money: &pb::Money) -> Option<Amount> {
        let amount = to_amount(money).filter(|amount| amount.0 >= 0);
        if amount.is_none() {
            self.0.add(field, "must be CNY, a whole number of 0.0001, not negative");
        }
        amount
    }
}

/// A week.
const MAX_CHARGE_S: u32 = 604_800;
/// A stop that waits for longer than this stops somebody else's idea of the charge.
const MAX_EXPIRY: Duration = Duration::from_hours(7 * 24);
