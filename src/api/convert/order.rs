//! Orders, bills and what happens to them.

use super::vehicle::{reported, vehicle};
use super::{amount, balance, coded, energy_mwh, pile_time, position, price, terms, timestamp};
use crate::api::pb;
use crate::domain::command::StopProof;
use crate::domain::driver::{AtPile, Shown, Vin};
use crate::domain::ids::hex;
use crate::domain::order::{Anomaly, AnomalyKind, Change, Failure, Metered, Order, OrderState, Origin, Stop};
use crate::domain::record::audit::{Check, Finding};
use crate::domain::record::{Bill, Fees, Record, RecordedPeriod};
use crate::domain::units::UtcOffset;
use crate::domain::vehicle::BmsReport;
use crate::domain::{Period, WallMs};
use crate::store::Stamped;

/// `zone` is that of the pile's clock.
pub fn order(order: Order, zone: UtcOffset) -> pb::Order {
    let parallel_no = order.parallel_no().map(|number| hex(&number)).unwrap_or_default();
    let at = |at: Option<WallMs>| at.map(timestamp);
    let Order {
        pile,
        gun,
        serial,
        state: how_far,
        origin: begun_by,
        order_id,
        attributes,
        request,
        created_at,
        updated_at,
        accepted_at,
        plug_deadline,
        charging_at,
        stop: stopping,
        ended_at,
        settled_at,
        failure: failed,
        anomalies,
        // What callers want of it is in the bill's fees.
        tariff: _,
        last,
        // A counter of the supervision.
        idle_seen: _,
        bill: billed,
        vehicle: told_by,
        closing,
        record_after_close,
        stop_at_login,
        balance_fen,
        balance_low,
        limits,
        at_pile,
        parallel,
    } = order;
    let AtThePile { card, vin, account } = AtThePile::of(at_pile);
    pb::Order {
        name: format!("piles/{pile}/orders/{serial}"),
        pile: pile.to_string(),
        gun: i32::from(gun.number()),
        serial: serial.to_string(),
        state: state(how_far).into(),
        origin: origin(begun_by).into(),
        order_id,
        attributes: attributes.into_iter().collect(),
        request_id: request.map(|request| request.id.to_string()).unwrap_or_default(),
        created_at: Some(timestamp(created_at)),
        updated_at: Some(timestamp(updated_at)),
        accepted_at: at(accepted_at),
        plug_deadline: at(plug_deadline),
        charging_at: at(charging_at),
        ended_at: at(ended_at),
        settled_at: at(settled_at),
        failure: failed.map(failure),
        stop: stopping.map(stop),
        anomalies: anomalies.into_iter().map(anomaly).collect(),
        last_metered: last.map(metered),
        bill: billed.map(|billed| bill(billed, zone)),
        vehicle: told_by.map(|told_by| vehicle(*told_by)),
        closing: closing.map(terms::closing),
        record_after_close: record_after_close.map(terms::record_after_close),
        stop_at_login: stop_at_login.map(terms::stop_at_login),
        balance: balance_fen.map(balance),
        balance_low: balance_low.map(terms::balance_low),
        limits: limits.map(terms::limits),
        card,
        vin,
        account,
        parallel_no,
        parallel_serial: parallel.map(|other| other.serial.to_string()).unwrap_or_default(),
    }
}

/// What happened to `after`, the order after the change, if callers are told of it.
pub fn event(stamped: &Stamped, what: Change, after: Order, zone: UtcOffset) -> Option<pb::OrderEvent> {
    let (change, anomaly) = change(what)?;
    Some(pb::OrderEvent {
        position: Some(position(stamped, zone)),
        change: change.into(),
        anomaly: anomaly.map_or(pb::OrderAnomalyKind::Unspecified, anomaly_kind).into(),
        order: Some(order(after, zone)),
        bms: None,
    })
}

/// What was said of the charge of `after`, the order with it.
pub fn vehicle_event(stamped: &Stamped, report: BmsReport, after: Order, zone: UtcOffset) -> pb::OrderEvent {
    let bms = reported(after.pile, after.gun, after.serial, report);
    pb::OrderEvent {
        position: Some(position(stamped, zone)),
        change: pb::OrderChange::Vehicle.into(),
        anomaly: pb::OrderAnomalyKind::Unspecified.into(),
        order: Some(order(after, zone)),
        bms: Some(bms),
    }
}

/// What callers are told of a start at the pile; empty where there is nothing.
#[derive(Default)]
struct AtThePile {
    card: String,
    vin: String,
    account: String,
}

impl AtThePile {
    fn of(at_pile: Option<Box<AtPile>>) -> Self {
        let Some(at_pile) = at_pile else { return Self::default() };
        // What the pile was told, it knows. The number is told with that of other starts.
        let AtPile { shown, account, logical_card: _, balance_fen: _, limits: _, parallel_no: _ } = *at_pile;
        let (card, vin) = match shown {
            Shown::Card(card) => (card.reveal(), String::new()),
            Shown::Vin(Vin(vin)) => (String::new(), vin),
        };
        Self { card, vin, account }
    }
}

pub fn state(state: OrderState) -> pb::OrderState {
    match state {
        OrderState::Requested => pb::OrderState::Requested,
        OrderState::WaitingForPlug => pb::OrderState::WaitingForPlug,
        OrderState::Starting => pb::OrderState::Starting,
        OrderState::Charging => pb::OrderState::Charging,
        OrderState::Stopping => pb::OrderState::Stopping,
        OrderState::Finished => pb::OrderState::Finished,
        OrderState::Abnormal => pb::OrderState::Abnormal,
        OrderState::Failed => pb::OrderState::Failed,
        OrderState::Settled => pb::OrderState::Settled,
        OrderState::ClosedWithoutRecord => pb::OrderState::ClosedWithoutRecord,
    }
}

pub fn stop_proof(proof: StopProof) -> pb::StopProof {
    match proof {
        StopProof::Answer => pb::StopProof::Answer,
        StopProof::Record => pb::StopProof::Record,
    }
}

fn origin(origin: Origin) -> pb::OrderOrigin {
    match origin {
        Origin::Platform => pb::OrderOrigin::Platform,
        Origin::Pile => pb::OrderOrigin::Pile,
        Origin::Card => pb::OrderOrigin::Card,
        Origin::Vin => pb::OrderOrigin::Vin,
        Origin::OfflineCard => pb::OrderOrigin::OfflineCard,
    }
}

fn failure(failure: Failure) -> pb::StartFailure {
    let (kind, code, name) = match failure {
        Failure::Rejected { code, name } => (pb::StartFailureKind::Rejected, Some(code), name),
        Failure::NotPluggedIn => (pb::StartFailureKind::NotPluggedIn, None, String::new()),
        Failure::NoStart => (pb::StartFailureKind::NoStart, None, String::new()),
        Failure::FailedOnPile { code, name } => (pb::StartFailureKind::FailedOnPile, Some(code), name),
        Failure::NotSent => (pb::StartFailureKind::NotSent, None, String::new()),
    };
    pb::StartFailure { kind: kind.into(), code: code.map(i32::from), name }
}

fn stop(stop: Stop) -> pb::OrderStop {
    let Stop { requested_at, last_sent_at, sent, still_charging, cause, takes_back: _ } = stop;
    pb::OrderStop {
        requested_at: Some(timestamp(requested_at)),
        last_sent_at: Some(timestamp(last_sent_at)),
        sent: i32::from(sent),
        still_charging,
        cause: terms::stop_cause(cause).into(),
    }
}

fn anomaly(anomaly: Anomaly) -> pb::OrderAnomaly {
    let Anomaly { kind, at } = anomaly;
    pb::OrderAnomaly { kind: anomaly_kind(kind).into(), at: Some(timestamp(at)) }
}

/// For callers who are told of every event of the log. That a stop was sent again has no name for them.
pub(super) fn change_and_anomaly(what: Change) -> (pb::OrderChange, pb::OrderAnomalyKind) {
    let (change, anomaly) = change(what).unwrap_or((pb::OrderChange::Unspecified, None));
    (change, anomaly.map_or(pb::OrderAnomalyKind::Unspecified, anomaly_kind))
}

fn anomaly_kind(kind: AnomalyKind) -> pb::OrderAnomalyKind {
    match kind {
        AnomalyKind::StartTimeout => pb::OrderAnomalyKind::StartTimeout,
        AnomalyKind::IdleWhileCharging => pb::OrderAnomalyKind::IdleWhileCharging,
        AnomalyKind::StopNotObeyed => pb::OrderAnomalyKind::StopNotObeyed,
        AnomalyKind::RecordOverdue => pb::OrderAnomalyKind::RecordOverdue,
        AnomalyKind::LateStart => pb::OrderAnomalyKind::LateStart,
        AnomalyKind::UnknownSerial => pb::OrderAnomalyKind::UnknownSerial,
        AnomalyKind::RecordConflict => pb::OrderAnomalyKind::RecordConflict,
        AnomalyKind::BillMismatch => pb::OrderAnomalyKind::BillMismatch,
        AnomalyKind::RecordAfterClose => pb::OrderAnomalyKind::RecordAfterClose,
    }
}

fn change(change: Change) -> Option<(pb::OrderChange, Option<AnomalyKind>)> {
    let change = match change {
        Change::Created => pb::OrderChange::Created,
        Change::WaitingForPlug => pb::OrderChange::WaitingForPlug,
        Change::Accepted => pb::OrderChange::Accepted,
        Change::Charging => pb::OrderChange::Charging,
        Change::StopRequested => pb::OrderChange::StopRequested,
        // No event: `stop.sent` counts it.
        Change::RepeatStop => return None,
        Change::Finished => pb::OrderChange::Finished,
        Change::Failed => pb::OrderChange::Failed,
        Change::Anomaly(kind) => return Some((pb::OrderChange::Anomaly, Some(kind))),
        Change::Settled => pb::OrderChange::Settled,
        Change::Closed => pb::OrderChange::Closed,
        Change::StopPlanned => pb::OrderChange::StopPlanned,
        Change::StopExpired => pb::OrderChange::StopExpired,
        Change::BalanceLow => pb::OrderChange::BalanceLow,
    };
    Some((change, None))
}

fn metered(metered: Metered) -> pb::MeteredValues {
    let Metered { at, energy, amount: so_far, soc_percent } = metered;
    pb::MeteredValues {
        at: Some(timestamp(at)),
        energy_mwh: energy_mwh(energy),
        amount: Some(amount(so_far)),
        // AC piles always send 0, and no vehicle charges at 0 %.
        soc_percent: (soc_percent != 0).then(|| i32::from(soc_percent)),
    }
}

fn bill(bill: Bill, zone: UtcOffset) -> pb::Bill {
    let totals = bill.total_fees();
    let Bill { record, fees, audit } = bill;
    let Record {
        // Those of the order.
        pile: _,
        gun: _,
        serial: _,
        started,
        ended,
        traded,
        periods,
        meter_start,
        meter_end,
        total_energy,
        total_loss_energy,
        total_amount,
        vin,
        start_type,
        stop_reason,
        stop_reason_name,
        physical_card,
        code,
        body,
    } = record;
    let (total_energy_fee, total_service_fee) = fee_pair(totals);
    let told = |period: Period| billed(period, periods[period.index()], fees.map(|fees| fees[period.index()]));
    let clock = |local: Option<jiff::civil::DateTime>| local.map(|local| pile_time(local, zone));
    pb::Bill {
        periods: Period::ALL.map(told).into(),
        total_energy_mwh: energy_mwh(total_energy),
        total_loss_energy_mwh: energy_mwh(total_loss_energy),
        total_amount: Some(amount(total_amount)),
        total_energy_fee,
        total_service_fee,
        meter_start_mwh: energy_mwh(meter_start),
        meter_end_mwh: energy_mwh(meter_end),
        start_time: clock(started),
        end_time: clock(ended),
        trade_time: clock(traded),
        vin,
        start_type: Some(coded(start_type, START_TYPES)),
        stop_reason: Some(pb::NamedCode { code: i32::from(stop_reason), name: stop_reason_name }),
        physical_card: if physical_card == [0; 8] { String::new() } else { hex(&physical_card) },
        raw_record: Some(pb::RawRecord { frame_code: i32::from(code), body: body.into() }),
        audit: audit.into_iter().map(finding).collect(),
    }
}

fn finding(finding: Finding) -> pb::BillFinding {
    let Finding { check: broken, field, expected, actual } = finding;
    pb::BillFinding { check: check(broken).into(), field: field.name().to_owned(), expected, actual }
}

fn check(check: Check) -> pb::BillCheck {
    match check {
        Check::PeriodAmount => pb::BillCheck::PeriodAmount,
        Check::EnergySum => pb::BillCheck::EnergySum,
        Check::LossEnergySum => pb::BillCheck::LossEnergySum,
        Check::AmountSum => pb::BillCheck::AmountSum,
        Check::Meter => pb::BillCheck::Meter,
        Check::LossRatio => pb::BillCheck::LossRatio,
        Check::UnitPrice => pb::BillCheck::UnitPrice,
        Check::TimeOrder => pb::BillCheck::TimeOrder,
        Check::Sightings => pb::BillCheck::Sightings,
        Check::PeriodHours => pb::BillCheck::PeriodHours,
        Check::Telemetry => pb::BillCheck::Telemetry,
        Check::Gun => pb::BillCheck::Gun,
        Check::StartType => pb::BillCheck::StartType,
        Check::Vin => pb::BillCheck::Vin,
    }
}

pub(super) fn billed(period: Period, billed: RecordedPeriod, fees: Option<Fees>) -> pb::BilledPeriod {
    let RecordedPeriod { unit_price, energy, loss_energy, amount: costs } = billed;
    let (energy_fee, service_fee) = fee_pair(fees);
    pb::BilledPeriod {
        period: tariff_period(period).into(),
        unit_price: Some(price(unit_price)),
        energy_mwh: energy_mwh(energy),
        loss_energy_mwh: energy_mwh(loss_energy),
        amount: Some(amount(costs)),
        energy_fee,
        service_fee,
    }
}

fn fee_pair(fees: Option<Fees>) -> (Option<pb::Money>, Option<pb::Money>) {
    fees.map_or((None, None), |Fees { energy, service }| (Some(amount(energy)), Some(amount(service))))
}

pub(super) fn tariff_period(period: Period) -> pb::TariffPeriod {
    match period {
        Period::Sharp => pb::TariffPeriod::Sharp,
        Period::Peak => pb::TariffPeriod::Peak,
        Period::Flat => pb::TariffPeriod::Flat,
        Period::Valley => pb::TariffPeriod::Valley,
    }
}

/// 0x3B `start_type`.
const START_TYPES: &[(u8, &str)] = &[(0x01, "app"), (0x02, "card"), (0x04, "offline card"), (0x05, "VIN")];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::convert::to_amount;
    use crate::domain::tariff::{PricePair, Tariff};
    use crate::domain::{Amount, Energy, Gun, Price, Serial};

    fn zone() -> UtcOffset {
        UtcOffset::parse("+08:00").expect("offset")
    }

    fn example() -> Order {
        let pile = "32010600019236".parse().expect("code");
        Order::requested(pile, Gun::new(1).expect("gun"), Serial::from_bytes([0xab; 16]), WallMs(1000))
    }

    fn record() -> Record {
        let peak = RecordedPeriod {
            unit_price: Price(140_000),
            energy: Energy(20_000),
            loss_energy: Energy(20_000),
            amount: Amount(28_000),
        };
        let mut periods = [RecordedPeriod::default(); 4];
        periods[Period::Peak.index()] = peak;
        Record {
            pile: example().pile,
            gun: example().gun,
            serial: example().serial,
            started: Some(jiff::civil::date(2026, 5, 17).at(10, 30, 45, 0)),
            ended: None,
            traded: None,
            periods,
            meter_start: Energy(1 << 39),
            meter_end: Energy((1 << 39) + 20_000),
            total_energy: Energy(20_000),
            total_loss_energy: Energy(20_000),
            total_amount: Amount(28_000),
            vin: String::new(),
            start_type: 9,
            stop_reason: 0x40,
            stop_reason_name: "Finished: stopped remotely from the app".into(),
            physical_card: [0; 8],
            code: 0x3B,
            body: vec![1, 2, 3],
        }
    }

    #[test]
    fn a_bill_closes_to_the_last_step() {
        let tariff = Tariff {
            prices: [PricePair { energy: Price(100_000), service: Price(40_000) }; 4],
            half_hours: [Period::Peak; 48],
        };
        let told = bill(Bill::new(record(), Some(&tariff), vec![]), zone());
        let steps = |money: &Option<pb::Money>| money.as_ref().and_then(to_amount).expect("money").0;
        assert_eq!(steps(&told.total_energy_fee) + steps(&told.total_service_fee), steps(&told.total_amount));
        let peak = &told.periods[1];
        assert_eq!(peak.period, pb::TariffPeriod::Peak as i32);
        assert_eq!((steps(&peak.energy_fee), steps(&peak.service_fee)), (20_000, 8_000));
        assert_eq!(told.meter_end_mwh - told.meter_start_mwh, told.total_energy_mwh);
        assert_eq!(told.start_time.expect("start").text, "2026-05-17T10:30:45.000");
        assert_eq!((told.end_time, told.physical_card.as_str()), (None, ""));
        assert_eq!(told.start_type, Some(pb::NamedCode { code: 9, name: String::new() }));
    }

    #[test]
    fn without_a_known_tariff_there_are_no_fees() {
        let told = bill(Bill::new(record(), None, vec![]), zone());
        assert_eq!((told.total_energy_fee, told.periods[1].energy_fee.clone()), (None, None));
        assert_eq!(told.raw_record, Some(pb::RawRecord { frame_code: 0x3B, body: vec![1, 2, 3].into() }));
    }

    #[test]
    fn a_failed_start_says_why() {
        let check = |failed, kind: pb::StartFailureKind, code| {
            let told = order(Order { failure: Some(failed), ..example() }, zone()).failure.expect("failure");
            assert_eq!((told.kind, told.code), (kind.into(), code));
        };
        let name = String::from("equipment fault");
        check(Failure::Rejected { code: 3, name: name.clone() }, pb::StartFailureKind::Rejected, Some(3));
        check(Failure::FailedOnPile { code: 0x4A, name }, pb::StartFailureKind::FailedOnPile, Some(0x4A));
        check(Failure::NotPluggedIn, pb::StartFailureKind::NotPluggedIn, None);
        check(Failure::NoStart, pb::StartFailureKind::NoStart, None);
        check(Failure::NotSent, pb::StartFailureKind::NotSent, None);
    }

    #[test]
    fn every_change_is_told_but_that_0x36_was_repeated() {
        let anomaly = Change::Anomaly(AnomalyKind::LateStart);
        let all = [
            Change::Created,
            Change::WaitingForPlug,
            Change::Accepted,
            Change::Charging,
            Change::StopRequested,
            Change::Finished,
            Change::Failed,
            anomaly,
            Change::Settled,
            Change::Closed,
            Change::BalanceLow,
            Change::StopPlanned,
            Change::StopExpired,
        ];
        // In the order of the enumeration: each has its own value, and none is left over.
        let told = all.into_iter().filter_map(change).map(|(told, _)| i32::from(told));
        // What a vehicle said is an event of its own kind.
        let told: Vec<_> = told.chain([pb::OrderChange::Vehicle.into()]).collect();
        assert_eq!(told, (1..=99).filter(|n| pb::OrderChange::try_from(*n).is_ok()).collect::<Vec<_>>());
        assert_eq!(change(anomaly), Some((pb::OrderChange::Anomaly, Some(AnomalyKind::LateStart))));
        assert_eq!(change(Change::RepeatStop), None);
    }

    #[test]
    fn every_state_and_anomaly_has_a_name_of_its_own() {
        // The names on both sides are the same words.
        for s in OrderState::ALL {
            let told = state(s).as_str_name();
            assert_eq!(told, format!("ORDER_STATE_{}", s.name().to_uppercase()));
        }
        for kind in AnomalyKind::ALL {
            let told = anomaly_kind(kind).as_str_name();
            assert_eq!(told, format!("ORDER_ANOMALY_KIND_{}", kind.name().to_uppercase()));
        }
        for kind in Check::ALL {
            assert_eq!(check(kind).as_str_name(), format!("BILL_CHECK_{}", kind.name().to_uppercase()));
        }
        assert_eq!(order(example(), zone()).name, "piles/32010600019236/orders/abababababababababababababababab");
    }
}
