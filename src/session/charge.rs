//! Orders of a session: watching and settling. Starting is in [`start`], on two guns in [`parallel`], stopping in [`stop`],
//! cards and VINs in [`authorise`], ending without a record in [`close`], stops that wait for the pile in [`plan`], the account's balance in
//! [`balance`], how far a charge may go in [`limits`], the tariff a start insists on in [`tariff`], curves in [`curve`].

mod start;
mod parallel;
mod authorise;
mod stop;
mod close;
mod plan;
mod curve;
mod balance;
mod limits;
mod tariff;

use super::Now;
use super::held::{Held, MAX_ORDERS, tell_operator};
use super::io::{Out, Output};
use super::jobs::{Job, Settling};
use super::pending::Await;
use super::state::Session;
use super::translate::{self, wire_serial};
use crate::domain::command::StopProof;
use crate::domain::order::{AnomalyKind, Change, Failure, Happening, Metered};
use crate::domain::pile::GunState;
use crate::domain::telemetry::Status;
use crate::domain::{CommandError, EventKind, Gun, Order, OrderState, Reply, Serial};
use crate::store::Settled;
use crate::store::ledger::SettledOrder;
use crate::wire::{self, Frame, Sequence};

/// Watching.
impl Session {
    /// What a 0x13 means for the orders of its gun.
    pub(super) fn metered(&mut self, now: Now, gun: Gun, data: &wire::RealtimeData, status: Status, out: &mut Out) {
        self.charged.retain(|(of, _)| *of != gun);
        match status {
            Status::Charging if !data.transaction_serial.is_zero() => {
                let serial = translate::serial(data.transaction_serial);
                self.charged.push((gun, serial));
                let metered = translate::metered(now.wall, data);
                if let Some(before) = self.held(serial).map(|held| held.order.last) {
                    self.happened(now, serial, Happening::Charging(metered), out);
                    self.stop_as_planned(now, serial, out);
                    self.supervise(now, serial, before, out);
                    self.keep_together(now, serial, out);
                } else {
                    self.look_up(gun, serial, metered);
                }
            }
            Status::Idle => {
                self.vehicles.leave(gun);
                let of_gun = |h: &&Held| h.order.gun == gun && h.occupies_gun();
                let serials: Vec<_> = self.orders.iter().filter(of_gun).map(|h| h.order.serial).collect();
                for serial in serials {
                    self.happened(now, serial, Happening::Idle, out);
                }
            }
            Status::Charging | Status::Fault | Status::Offline | Status::Unknown(_) => {}
        }
    }

    /// 0x19
    pub(super) fn charge_ended(&mut self, now: Now, serial: wire::Serial, out: &mut Out) {
        self.curves.end_of(now, translate::serial(serial));
        self.happened(now, translate::serial(serial), Happening::ChargeEnded, out);
    }

    /// What the gun is when it neither charges nor fails.
    pub(super) fn resting_state(&self, gun: Gun, plugged: bool) -> GunState {
        let of_gun = |h: &&Held| h.order.gun == gun && h.occupies_gun();
        match self.orders.iter().find(of_gun).map(|held| held.order.state) {
            Some(OrderState::Requested | OrderState::WaitingForPlug | OrderState::Starting) => GunState::Starting,
            Some(OrderState::Finished) => GunState::Finished,
            _ if plugged => GunState::Plugged,
            _ => GunState::Idle,
        }
    }

    /// The gun charges under a serial that is not open here: the store knows whether it is a late start, or nobody's.
    fn look_up(&mut self, gun: Gun, serial: Serial, metered: Metered) {
        if self.jobs.is_full() || !self.make_room() {
            return;
        }
        let asked = self.jobs.looked_up.iter_mut().find(|(g, _)| *g == gun);
        match asked {
            Some((_, before)) if *before == serial => return,
            Some((_, before)) => *before = serial,
            None => self.jobs.looked_up.push((gun, serial)),
        }
        self.jobs.push(Job::LookUp { gun, serial, metered });
    }

    /// What the store knows of a serial that charges: a failed order starts late, an unknown one is adopted and never
    /// stopped, a settled one is an old frame.
    pub(super) fn looked_up(
        &mut self,
        now: Now,
        (gun, serial, metered): (Gun, Serial, Metered),
        found: Option<(Order, u64)>,
        out: &mut Out,
    ) {
        if self.held(serial).is_some() {
            return;
        }
        if !self.make_room() {
            return self.jobs.looked_up.retain(|(_, asked)| *asked != serial);
        }
        match found {
            None => {
                let mut order = Order::adopted(self.pile.code, gun, serial, now.wall);
                order.tariff = self.tariff_of_pile();
                order.vehicle = self.vehicles.take(serial);
                let adopted = Change::Anomaly(AnomalyKind::UnknownSerial);
                self.orders.push(Held { dirty: true, ..Held::new(order) });
                self.tell(now, serial, &[Change::Created, adopted], out);
            }
            Some((order, _)) if matches!(order.state, OrderState::Settled | OrderState::ClosedWithoutRecord) => return,
            Some((order, version)) => {
                self.orders.push(Held::stored(order, version));
                self.vehicle_found(serial);
            }
        }
        let before = self.held(serial).and_then(|held| held.order.last);
        self.happened(now, serial, Happening::Charging(metered), out);
        self.stop_as_planned(now, serial, out);
        self.supervise(now, serial, before, out);
        self.stop_late(serial, out);
    }

    pub(super) fn order_timers(&mut self, now: Now, out: &mut Out) {
        let due = |h: &Held| h.due().is_some_and(|due| due <= now.wall);
        let serials: Vec<_> = self.orders.iter().filter(|h| due(h)).map(|h| h.order.serial).collect();
        for serial in serials {
            self.happened(now, serial, Happening::Tick, out);
        }
        let charged: Vec<_> = self.charged.iter().map(|(_, serial)| *serial).collect();
        for serial in charged {
            self.stop_at_limit(now, serial, out);
        }
    }

    /// The gun whose last 0x13 charges this serial, of two the one that said so later. It need not be the one it was started on: 0x36 names a gun only, and
    /// that of a pile which counts otherwise may charge a stranger.
    pub(super) fn charged_on(&self, serial: Serial) -> Option<Gun> {
        self.charged.iter().rev().find(|(_, charged)| *charged == serial).map(|(gun, _)| *gun)
    }

    /// Moves an order on, and everything that follows from it.
    pub(super) fn happened(&mut self, now: Now, serial: Serial, what: Happening, out: &mut Out) {
        // Before 0x34 is written nothing can happen to an order, whatever a pile says of its serial.
        let sent = |h: &&mut Held| h.order.serial == serial && h.unsent.is_none();
        let Some(held) = self.orders.iter_mut().find(sent) else { return };
        let changes = held.apply(now.wall, what);
        if changes.is_empty() {
            return;
        }
        self.tell(now, serial, &changes, out);
        if changes.contains(&Change::Anomaly(AnomalyKind::LateStart)) {
            self.started_late(now, serial, out);
        }
        self.keep_together(now, serial, out);
    }

    fn tell(&mut self, now: Now, serial: Serial, changes: &[Change], out: &mut Out) {
        for change in changes.iter().copied() {
            let Some(held) = self.held(serial) else { return };
            let order = Box::new(held.order.clone());
            if change == Change::RepeatStop {
                if let Some(gun) = self.charged_on(serial) {
                    out.repeat(self.stop_frame(gun));
                }
                continue;
            }
            if change == Change::Failed {
                self.failed(&order, out);
            }
            tell_operator(&order, change);
            self.event(now, None, EventKind::Order { order, change });
        }
    }

    /// Nobody need wait for an order that has failed. Who waits for its start hears it from who found out, unless that
    /// was time.
    fn failed(&mut self, order: &Order, out: &mut Out) {
        let serial = order.serial;
        let not_active = CommandError::OrderNotActive { serial, state: order.state.name().into() };
        self.answer_stop(serial, &Err(not_active), out);
        if matches!(order.failure, Some(Failure::NoStart | Failure::NotPluggedIn)) {
            self.answer_all(Await::Start(serial), &Ok(Reply::Started(Box::new(order.clone()))), out);
        }
    }
}

/// Settling.
impl Session {
    /// 0x3B, 0x3F, 0x3D: settled first, answered then. A copy of one that waits is answered along with it.
    pub(super) fn record(&mut self, sequence: Sequence, frame: &Frame, tail: &[u8]) {
        let body = || {
            let mut body = bytes::BytesMut::new();
            frame.encode_body(&mut body);
            body.extend_from_slice(tail);
            body.to_vec()
        };
        let guns = self.pile.identity.gun_count;
        if let Some(record) = translate::record(frame, body, self.pile.code, guns) {
            self.jobs.settle(record, sequence);
        }
    }

    /// The record is durable: only now may 0x40 leave.
    pub(super) fn settled(&mut self, now: Now, settling: Settling, settled: SettledOrder, out: &mut Out) {
        let Settling { record, acks } = settling;
        if self.fence().is_some() {
            for sequence in acks {
                // A conflicting copy is kept beside the first and answered like any other (A27).
                let ack = wire::TransactionRecordAck {
                    transaction_serial: wire_serial(record.serial),
                    result: wire::RecordResult::UploadAccepted,
                };
                out.reply(sequence, ack);
            }
        }
        if let Some(lost) = self.held(record.serial).filter(|held| held.lost) {
            // Settled as what it was, but what started it was to be put again with it.
            let lost = Box::new(lost.order.clone());
            self.jobs.push(Job::Remember(lost, vec![]));
        }
        self.forget(record.serial);
        // What happened to it meanwhile has come too late to be told: nothing follows SETTLED.
        self.jobs.drop_events_of(record.serial);
        let Some(order) = settled.order.map(Box::new) else { return };
        if settled.outcome == Settled::First {
            tell_operator(&order, Change::Settled);
        }
        self.answer_close(&order, out);
        let failed = order.accepted_at.is_none() && order.charging_at.is_none();
        let started = if failed {
            let (code, name) = (record.stop_reason, record.stop_reason_name);
            Err(CommandError::PileRejected { frame: record.code, code, name })
        } else {
            Ok(Reply::Started(order.clone()))
        };
        self.answer_all(Await::Start(order.serial), &started, out);
        let stopped = Reply::Stopped { order: order.clone(), confirmed_by: StopProof::Record };
        self.answer_stop(order.serial, &Ok(stopped), out);
        self.companion_settled(now, &order, out);
        self.forget_closed();
    }

    /// An order that is closed and stored needs no memory, unless it is a reason to stop the other gun of its vehicle, of
    /// which more may be heard: then the store may be away, or behind.
    pub(super) fn forget_closed(&mut self) {
        let goes_on = |order: &Order| order.stop.is_none() && order.may_be_stopped();
        let others = self.orders.iter().filter(|h| goes_on(&h.order)).filter_map(|h| h.order.parallel);
        let needed: Vec<_> = others.map(|other| other.serial).collect();
        self.orders.retain(|h| {
            let tells = h.order.never_came_about() && needed.contains(&h.order.serial);
            h.order.state.is_open() || h.dirty || h.unsent.is_some() || tells
        });
    }

    /// Room for one more order. Those that only wait for a record that may never come need no memory: they are stored,
    /// and the record finds them there.
    fn make_room(&mut self) -> bool {
        self.make_room_for(1)
    }

    fn make_room_for(&mut self, orders: usize) -> bool {
        while self.orders.len() + orders > MAX_ORDERS {
            let stored = |h: &&Held| !h.occupies_gun() && !h.dirty && h.unsent.is_none() && h.version.is_some();
            let oldest = self.orders.iter().filter(stored).min_by_key(|h| h.order.created_at);
            let Some(serial) = oldest.map(|h| h.order.serial) else { return false };
            self.forget(serial);
            // Should it charge again after all, it is read again.
            self.jobs.looked_up.retain(|(_, asked)| *asked != serial);
        }
        true
    }

    pub(super) fn forget(&mut self, serial: Serial) -> Option<Held> {
        let at = self.orders.iter().position(|h| h.order.serial == serial)?;
        Some(self.orders.swap_remove(at))
    }

    pub(super) fn held(&self, serial: Serial) -> Option<&Held> {
        self.orders.iter().find(|h| h.order.serial == serial)
    }
}

/// Callers who wait.
impl Session {
    /// The deadline of a command has come.
    pub(super) fn gave_up(&self, what: Await) -> CommandError {
        let serial = match what {
            Await::Start(serial)
            | Await::Parallel(serial)
            | Await::Stop(_, serial)
            | Await::Balance(serial, _)
            | Await::Close(serial)
            | Await::Plan(serial) => Some(serial),
            Await::Tariff | Await::Telemetry(_) | Await::Reboot | Await::Clock => None,
        };
        if self.was_written(what) { CommandError::OutcomeUnknown { serial } } else { CommandError::DeadlinePassed }
    }

    /// Everything but a start is written as soon as it is asked for.
    pub(super) fn was_written(&self, what: Await) -> bool {
        match what {
            Await::Start(serial) | Await::Parallel(serial) => {
                self.held(serial).is_none_or(|held| held.unsent.is_none())
            }
            // The tariff was, and the start it is for was not.
            Await::Tariff => false,
            Await::Stop(..)
            | Await::Close(_)
            | Await::Plan(_)
            | Await::Balance(..)
            | Await::Telemetry(_)
            | Await::Reboot
            | Await::Clock => true,
        }
    }

    fn answer_all(&mut self, what: Await, result: &Result<Reply, CommandError>, out: &mut Out) {
        for to in self.pending.take(|waiting| waiting == what, None) {
            out.list.push(Output::Reply { to, result: result.clone() });
        }
    }

    /// The tariff the pile bills with, as far as we know: the one we have given it.
    fn tariff_of_pile(&self) -> Option<crate::domain::Tariff> {
        let tariff = &self.policy.tariff;
        (self.pile.tariff.fingerprint == tariff.fingerprint()).then(|| tariff.clone())
    }
}
