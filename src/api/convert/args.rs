//! Requests to commands and queries. Every wrong field of a request is named at once, none is repaired.

mod charging;
mod event;

use std::collections::HashMap;

pub use event::{
    Acknowledge, ListEvents, Subscribe, acknowledge, bad_cursor, group, list_events, list_groups, subscribe,
};

use super::{order, pile, steps, telemetry, to_wall};
use crate::api::error::{ApiError, Violations};
use crate::api::pb;
use crate::domain::command::{Command, When};
use crate::domain::order::OrderState;
use crate::domain::pile::Presence;
use crate::domain::{Gun, PileCode, Serial, WallMs};
use crate::hub::Filter;
use crate::store::{OrderQuery, PileQuery};

pub use charging::{close_order, start, start_parallel, stop, update_balance};

pub fn get_pile(request: &pb::GetPileRequest) -> Result<PileCode, ApiError> {
    let mut fields = Fields::default();
    let pile = fields.pile(&request.pile);
    fields.finish(pile)
}

pub fn get_owner(request: &pb::GetOwnerRequest) -> Result<PileCode, ApiError> {
    let mut fields = Fields::default();
    let pile = fields.pile(&request.pile);
    fields.finish(pile)
}

pub fn drain_node(request: &pb::DrainNodeRequest) -> Result<&str, ApiError> {
    match request.node.as_str() {
        "" => Err(ApiError::Arguments(Violations::one("node", "must be the name of a node or of a run of one"))),
        node if node.len() > MAX_NODE => Err(ApiError::Arguments(Violations::one(
            "node",
            "must be at most 253 bytes, the longest name of a machine",
        ))),
        node => Ok(node),
    }
}

pub fn list_piles(request: pb::ListPilesRequest) -> Result<PileQuery, ApiError> {
    let pb::ListPilesRequest { page_size, page_token, presence } = request;
    let mut fields = Fields::default();
    let page_size = fields.page_size(page_size);
    let presence = fields.presence(presence);
    fields.finish(Some(PileQuery { presence, page_size, page_token }))
}

pub fn watch_piles(request: &pb::WatchPilesRequest) -> Result<Vec<PileCode>, ApiError> {
    let mut fields = Fields::default();
    let piles = fields.piles(&request.piles);
    fields.finish(Some(piles))
}

pub fn reboot(request: &pb::RebootPileRequest) -> Result<(PileCode, Command), ApiError> {
    let mut fields = Fields::default();
    let (pile, when) = (fields.pile(&request.pile), fields.timing(request.timing));
    fields.finish(pile.map(|pile| (pile, Command::Reboot { when })))
}

pub fn sync_clock(request: &pb::SyncClockRequest) -> Result<(PileCode, Command), ApiError> {
    let mut fields = Fields::default();
    let pile = fields.pile(&request.pile);
    fields.finish(pile.map(|pile| (pile, Command::SyncClock)))
}

pub fn disconnect(request: &pb::DisconnectPileRequest) -> Result<(PileCode, Command), ApiError> {
    let mut fields = Fields::default();
    let (pile, when) = (fields.pile(&request.pile), fields.timing(request.timing));
    fields.finish(pile.map(|pile| (pile, Command::Disconnect { when })))
}

pub fn get_order(request: &pb::GetOrderRequest) -> Result<(PileCode, Serial), ApiError> {
    let mut fields = Fields::default();
    let (pile, serial) = (fields.pile(&request.pile), fields.serial(&request.serial));
    fields.finish(pile.zip(serial))
}

pub fn get_charging_curve(request: &pb::GetChargingCurveRequest) -> Result<(PileCode, Serial), ApiError> {
    let mut fields = Fields::default();
    let (pile, serial) = (fields.pile(&request.pile), fields.serial(&request.serial));
    fields.finish(pile.zip(serial))
}

pub fn list_orders(request: pb::ListOrdersRequest) -> Result<OrderQuery, ApiError> {
    let pb::ListOrdersRequest { page_size, page_token, pile, state, created_from, created_to } = request;
    let mut fields = Fields::default();
    let page_size = fields.page_size(page_size);
    let pile = if pile.is_empty() { None } else { fields.pile(&pile) };
    let state = fields.state(state);
    // Orders are made on a whole millisecond. Of a bound between two, the later is the first that is not before it:
    // the first inside of a lower bound, and the first outside of an upper one.
    let mut bound = |field, at| fields.time(field, at).map(|(at, rest)| at.plus_ms(u64::from(rest)));
    let (created_from, created_to) = (bound("created_from", created_from), bound("created_to", created_to));
    fields.finish(Some(OrderQuery { pile, state, created_from, created_to, page_size, page_token }))
}

pub fn watch_orders(request: &pb::WatchOrdersRequest) -> Result<Vec<PileCode>, ApiError> {
    let mut fields = Fields::default();
    let piles = fields.piles(&request.piles);
    fields.finish(Some(piles))
}

pub fn read_telemetry(request: &pb::ReadTelemetryRequest) -> Result<(PileCode, Command), ApiError> {
    let mut fields = Fields::default();
    let (pile, gun) = (fields.pile(&request.pile), fields.gun(request.gun));
    fields.finish(pile.zip(gun).map(|(pile, gun)| (pile, Command::ReadTelemetry { gun })))
}

pub fn watch_telemetry(request: &pb::WatchTelemetryRequest) -> Result<Filter, ApiError> {
    let mut fields = Fields::default();
    let piles = fields.piles(&request.piles);
    let mut kinds = Vec::new();
    for (n, kind) in request.kinds.iter().enumerate() {
        match telemetry::to_kind(*kind) {
            Some(kind) if kinds.contains(&kind) => {}
            Some(kind) => kinds.push(kind),
            None => fields.0.add(format!("kinds[{n}]"), "is no kind of telemetry"),
        }
    }
    fields.finish(Some(Filter { piles, kinds }))
}

/// Reads fields one by one and remembers what is wrong with each.
#[derive(Default)]
struct Fields(Violations);

impl Fields {
    /// `value` is there unless a field it needs is wrong.
    fn finish<T>(self, value: Option<T>) -> Result<T, ApiError> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => Err(ApiError::Arguments(self.0)),
        }
    }

    fn parsed<T: std::str::FromStr<Err = crate::domain::BadId>>(&mut self, field: &str, text: &str) -> Option<T> {
        text.parse().map_err(|bad: crate::domain::BadId| self.0.add(field, bad.reason)).ok()
    }

    fn pile(&mut self, text: &str) -> Option<PileCode> {
        self.parsed("pile", text)
    }

    fn piles(&mut self, texts: &[String]) -> Vec<PileCode> {
        if texts.len() > MAX_PILES {
            self.0.add("piles", format!("at most {MAX_PILES}"));
            return vec![];
        }
        let mut piles: Vec<_> =
            texts.iter().enumerate().filter_map(|(n, text)| self.parsed(&format!("piles[{n}]"), text)).collect();
        piles.sort_unstable();
        piles.dedup();
        piles
    }

    fn gun(&mut self, number: i32) -> Option<Gun> {
        let gun = u8::try_from(number).ok().and_then(|number| Gun::new(number).ok());
        if gun.is_none() {
            self.0.add("gun", "must be 1 to 255");
        }
        gun
    }

    fn serial(&mut self, text: &str) -> Option<Serial> {
        let serial: Serial = self.parsed("serial", text)?;
        if serial.is_none() {
            self.0.add("serial", "all zero means no order");
            return None;
        }
        Some(serial)
    }

    fn order_id(&mut self, text: &str) {
        if text.chars().count() > MAX_ORDER_ID {
            self.0.add("order_id", format!("at most {MAX_ORDER_ID} characters"));
        }
    }

    fn attributes(&mut self, attributes: &HashMap<String, String>) {
        let size: usize = attributes.iter().map(|(key, value)| key.len() + value.len()).sum();
        if size > MAX_ATTRIBUTES {
            self.0.add("attributes", format!("keys and values together at most {MAX_ATTRIBUTES} bytes, not {size}"));
        }
    }

    /// 16 hex digits; none at all = no card.
    fn card(&mut self, field: &str, text: &str) -> Option<[u8; 8]> {
        if text.is_empty() {
            return Some([0; 8]);
        }
        let digits = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let card = digits.then(|| u64::from_str_radix(text, 16).ok()).flatten();
        if card.is_none() {
            self.0.add(field, "must be 16 hex digits");
        }
        card.map(u64::to_be_bytes)
    }

    /// In 0.01 CNY, as 0x34 takes it.
    fn balance(&mut self, money: Option<&pb::Money>) -> Option<u32> {
        let Some(money) = money else {
            self.0.add("balance", "is required: the pile ends the charge when it is used up");
            return None;
        };
        let fen = steps(money, 100).and_then(|fen| u32::try_from(fen).ok());
        if fen.is_none() {
            self.0.add("balance", "must be CNY, a whole number of 0.01, from 0 to 42949672.95");
        }
        fen
    }

    fn page_size(&mut self, size: i32) -> usize {
        match usize::try_from(size) {
            Ok(0) => DEFAULT_PAGE,
            Ok(size) => size.min(MAX_PAGE),
            Err(_) => {
                self.0.add("page_size", "must not be negative");
                DEFAULT_PAGE
            }
        }
    }

    fn timing(&mut self, timing: i32) -> When {
        match pb::CommandTiming::try_from(timing) {
            Ok(pb::CommandTiming::Immediately) => When::Immediately,
            Ok(pb::CommandTiming::Unspecified | pb::CommandTiming::WhenIdle) => When::WhenIdle,
            Err(_) => {
                self.0.add("timing", "is no timing");
                When::WhenIdle
            }
        }
    }

    fn presence(&mut self, wanted: i32) -> Option<Presence> {
        let known = [Presence::Online, Presence::Offline];
        let presence = known.into_iter().find(|known| i32::from(pile::presence(*known)) == wanted);
        if presence.is_none() && wanted != 0 {
            self.0.add("presence", "is no presence");
        }
        presence
    }

    fn state(&mut self, wanted: i32) -> Option<OrderState> {
        let state = OrderState::ALL.into_iter().find(|known| i32::from(order::state(*known)) == wanted);
        if state.is_none() && wanted != 0 {
            self.0.add("state", "is no state of an order");
        }
        state
    }

    fn time(&mut self, field: &str, at: Option<prost_types::Timestamp>) -> Option<(WallMs, bool)> {
        let read = to_wall(at?);
        if read.is_none() {
            self.0.add(field, "is no time of the years 1 to 9999");
        }
        read
    }
}

const DEFAULT_PAGE: usize = 50;
const MAX_PAGE: usize = 1000;
/// How many piles a watch may name.
const MAX_PILES: usize = 1000;
/// In characters.
const MAX_ORDER_ID: usize = 128;
/// Keys and values together, in bytes.
const MAX_ATTRIBUTES: usize = 1024;
/// Of a closing, in characters.
const MAX_REASON: usize = 256;
/// In bytes.
const MAX_NODE: usize = 253;

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> pb::StartChargingRequest {
        pb::StartChargingRequest {
            pile: "32010600019236".into(),
            gun: 1,
            request_id: "0f8fad5b-d9cb-469f-a165-70867728950e".into(),
            balance: Some(super::super::balance(10_050)),
            ..Default::default()
        }
    }

    /// The fields that are refused, in order.
    fn refused<T>(result: Result<T, ApiError>) -> Vec<String> {
        match result {
            Ok(_) => vec![],
            Err(ApiError::Arguments(violations)) => violations.fields().map(str::to_owned).collect(),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn a_start_is_read_whole() {
        let mut request = good();
        request.physical_card = "00000000D14B0A54".into();
        let (pile, start) = start(request).expect("good");
        assert_eq!(pile.to_string(), "32010600019236");
        assert_eq!((start.balance_fen, start.serial, start.logical_card), (10_050, None, [0; 8]));
        assert_eq!(start.physical_card, [0, 0, 0, 0, 0xD1, 0x4B, 0x0A, 0x54]);
    }

    #[test]
    fn each_bad_argument_is_named() {
        let check = |spoil: fn(&mut pb::StartChargingRequest), fields: &[&str]| {
            let mut request = good();
            spoil(&mut request);
            assert_eq!(refused(start(request)), fields);
        };
        let money = |r: &mut pb::StartChargingRequest| r.balance.get_or_insert_default().clone();
        check(|_| {}, &[]);
        check(|r| r.pile = "3201060001923".into(), &["pile"]);
        check(|r| r.pile = "3201060001923a".into(), &["pile"]);
        check(|r| r.gun = 0, &["gun"]);
        check(|r| r.gun = 256, &["gun"]);
        check(|r| r.request_id.clear(), &["request_id"]);
        check(|r| r.request_id = "not-a-uuid".into(), &["request_id"]);
        check(|r| r.serial = "12".into(), &["serial"]);
        check(|r| r.serial = "0".repeat(32), &["serial"]);
        check(|r| r.serial = "a".repeat(32), &[]);
        check(|r| r.order_id = "订".repeat(128), &[]);
        check(|r| r.order_id = "x".repeat(129), &["order_id"]);
        check(|r| r.attributes = HashMap::from([("k".into(), "v".repeat(1023))]), &[]);
        check(|r| r.attributes = HashMap::from([("k".into(), "v".repeat(1024))]), &["attributes"]);
        check(|r| r.logical_card = "1000000573".into(), &["logical_card"]);
        check(|r| r.physical_card = "+000000D14B0A54".into(), &["physical_card"]);
        check(|r| r.physical_card = "+0000000D14B0A54".into(), &["physical_card"]);
        check(|r| r.balance = None, &["balance"]);
        check(|r| r.balance = Some(pb::Money { units: -1, ..r.balance.take().unwrap_or_default() }), &["balance"]);
        check(|r| r.balance.get_or_insert_default().nanos = 1_000_000, &["balance"]);
        check(|r| r.balance.get_or_insert_default().currency_code = "EUR".into(), &["balance"]);
        check(|r| r.balance.get_or_insert_default().units = 42_949_673, &["balance"]);
        check(|r| r.balance = Some(pb::Money { units: 0, nanos: 0, currency_code: "CNY".into() }), &[]);
        assert_eq!(money(&mut good()).units, 100);
    }

    #[test]
    fn each_bad_argument_of_a_start_on_two_guns_is_named() {
        let gun = |gun| pb::ParallelGun { gun, balance: good().balance, ..Default::default() };
        let check = |spoil: &dyn Fn(&mut pb::StartParallelChargingRequest), fields: &[&str]| {
            let pb::StartChargingRequest { pile, request_id, .. } = good();
            let guns = vec![gun(2), gun(1)];
            let mut request = pb::StartParallelChargingRequest { pile, request_id, guns, ..Default::default() };
            spoil(&mut request);
            let parsed = start_parallel(request);
            if let Ok((_, start)) = &parsed {
                assert_eq!(start.guns.map(|gun| gun.gun.number()), [1, 2], "in the order of their numbers");
            }
            assert_eq!(refused(parsed), fields);
        };
        check(&|_| {}, &[]);
        check(&|r| r.guns.clear(), &["guns"]);
        check(&|r| r.guns.truncate(1), &["guns"]);
        check(&|r| r.guns.push(gun(3)), &["guns"]);
        check(&|r| r.guns = vec![gun(2), gun(2)], &["guns[1].gun"]);
        check(&|r| r.guns[0].gun = 0, &["guns[0].gun"]);
        check(&|r| r.guns[1].balance = None, &["guns[1].balance"]);
        check(&|r| r.guns[1].serial = "12".into(), &["guns[1].serial"]);
        check(&|r| r.guns.iter_mut().for_each(|gun| gun.serial = "a".repeat(32)), &["guns[1].serial"]);
        let limits = pb::ChargeLimits { soc_percent: Some(101), ..Default::default() };
        check(&|r| r.guns[1].limits = Some(limits.clone()), &["guns[1].limits.soc_percent"]);
        check(&|r| r.logical_card = "1000000573".into(), &["logical_card"]);
        check(&|r| r.expected_tariff = "x".into(), &["expected_tariff"]);
        let all = ["pile", "request_id", "guns"];
        assert_eq!(refused(start_parallel(pb::StartParallelChargingRequest::default())), all);
    }

    #[test]
    fn all_bad_arguments_are_named_at_once() {
        let all = ["pile", "gun", "request_id", "balance"];
        assert_eq!(refused(start(pb::StartChargingRequest::default())), all);
        assert_eq!(refused(stop(&pb::StopChargingRequest::default())), ["pile", "serial"]);
        assert_eq!(refused(read_telemetry(&pb::ReadTelemetryRequest::default())), ["pile", "gun"]);
        let bad = pb::WatchTelemetryRequest { piles: vec!["1".into()], kinds: vec![1, 0, 9] };
        assert_eq!(refused(watch_telemetry(&bad)), ["piles[0]", "kinds[1]", "kinds[2]"]);
    }

    #[test]
    fn lists_have_bounds() {
        let page = |page_size| list_piles(pb::ListPilesRequest { page_size, ..Default::default() });
        let size = |page_size| page(page_size).expect("page").page_size;
        assert_eq!([0, 1, 1000, 1001, i32::MAX].map(size), [50, 1, 1000, 1000, 1000]);
        assert_eq!(refused(page(-1)), ["page_size"]);
        let bad = pb::ListOrdersRequest {
            page_size: -1,
            pile: "x".into(),
            state: 99,
            created_to: Some(prost_types::Timestamp { seconds: i64::MAX, nanos: 0 }),
            ..Default::default()
        };
        assert_eq!(refused(list_orders(bad)), ["page_size", "pile", "state", "created_to"]);
        let many = pb::WatchPilesRequest { piles: vec!["32010600019236".into(); 1001] };
        assert_eq!(refused(watch_piles(&many)), ["piles"]);
        let twice = pb::WatchPilesRequest { piles: vec!["32010600019236".into(); 2] };
        assert_eq!(watch_piles(&twice).expect("good").len(), 1);
    }

    #[test]
    fn orders_are_listed_from_a_moment_to_before_a_moment() {
        // Which milliseconds a bound leaves out: the ledger takes `created_from` in and leaves `created_to` out.
        let check = |nanos, first_not_before| {
            let at = Some(prost_types::Timestamp { seconds: 1, nanos });
            let query = pb::ListOrdersRequest { created_from: at, created_to: at, ..Default::default() };
            let query = list_orders(query).expect("good");
            let bound = Some(WallMs(first_not_before));
            assert_eq!((query.created_from, query.created_to), (bound, bound), "{nanos}");
        };
        check(0, 1000);
        check(1, 1001); // made at 1000: before it
        check(999_999, 1001);
        check(1_000_000, 1001);
        check(999_999_999, 2000);
    }

    #[test]
    fn disruptive_commands_wait_for_idle_unless_told_otherwise() {
        let timed = |timing| {
            reboot(&pb::RebootPileRequest { pile: "32010600019236".into(), timing }).map(|(_, command)| command)
        };
        assert_eq!(timed(0).expect("good"), Command::Reboot { when: When::WhenIdle });
        assert_eq!(timed(1).expect("good"), Command::Reboot { when: When::WhenIdle });
        assert_eq!(timed(2).expect("good"), Command::Reboot { when: When::Immediately });
        assert_eq!(refused(timed(3)), ["timing"]);
    }
}
