//! What is asked of orders.

use super::{Fields, MAX_REASON};
use crate::api::convert::{energy, to_amount};
use crate::api::error::ApiError;
use crate::api::pb;
use crate::domain::command::{Command, Start};
use crate::domain::order::Close;
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
        };
        Some((pile?, start))
    })();
    fields.finish(parsed)
}

pub fn stop(request: &pb::StopChargingRequest) -> Result<(PileCode, Command), ApiError> {
    let mut fields = Fields::default();
    let (pile, serial) = (fields.pile(&request.pile), fields.serial(&request.serial));
    fields.finish(pile.zip(serial).map(|(pile, serial)| (pile, Command::StopCharging { serial })))
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
    fn reason(&mut self, text: &str) {
        if text.is_empty() {
            self.0.add("reason", "is required: it is what people will want to know of the order");
        } else if text.chars().count() > MAX_REASON {
            self.0.add("reason", format!("at most {MAX_REASON} characters"));
        }
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
