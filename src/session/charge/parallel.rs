//! One vehicle on two guns, because a caller wants it: two orders that become durable together, start together or not at
//! all, and end together.
//!
//! ```text
//!   StartParallelCharging ──▶ 2 × Unsent{Opening::Parallel} ──▶ Job::Create ──both durable──▶ 2 × 0xA4 ──▶ 2 × 0xA3
//!                                                                                               │
//!      the start of one fails, however that is found out ──▶ 0x36 to the other, if it has said yes ◀┘
//!      0x36 to one, whatever for ──▶ 0x36 to the other
//! ```
//!
//! The two hold each other's serial ([`Parallel`]), and what one owes the other is decided from what both are at that
//! moment ([`Order::ends_with`]): nothing has to be remembered between the two, over a restart or a move. An order whose
//! companion the session does not hold any more asks the store about it once.

use std::time::Duration;

use crate::domain::command::ParallelStart;
use crate::domain::order::{Happening, Limits, Parallel, StopCause};
use crate::domain::{CommandError, Gun, Order, Reply, Serial};
use crate::session::Now;
use crate::session::held::{Awaiting, Held, Opening, Unsent};
use crate::session::io::{Out, Output};
use crate::session::jobs::Job;
use crate::session::pending::{Await, CommandId};
use crate::session::state::Session;
use crate::session::translate::{wire_gun, wire_pile, wire_serial};
use crate::wire;

/// Starting.
impl Session {
    pub(in crate::session) fn start_parallel(
        &mut self,
        now: Now,
        id: CommandId,
        start: ParallelStart,
        deadline: Duration,
        out: &mut Out,
    ) -> Result<(), CommandError> {
        let version = self.pile.identity.protocol_version;
        let unsupported = |what: &'static str| CommandError::UnsupportedByPile { what: what.into(), version };
        if version < V16 {
            return Err(unsupported("parallel charging"));
        }
        for part in &start.guns {
            self.check_gun(part.gun)?;
            if part.limits.max_power_w.is_some() {
                return Err(unsupported("power limit of a parallel charge"));
            }
        }
        if let Some(serial) = self.requested(start.as_request())?.map(|order| order.serial) {
            self.join_parallel(id, serial, deadline, out);
            return Ok(());
        }
        for part in &start.guns {
            self.check_free(part.gun)?;
        }
        self.check_room(2)?;
        if let Some(expected) = start.expected_tariff
            && !self.bills_with(expected)?
        {
            self.start_after_tariff(now, id, Awaiting::Both(Box::new(start)), deadline, out);
            return Ok(());
        }
        self.create_both(now, id, &start, deadline)
    }

    fn create_both(
        &mut self,
        now: Now,
        id: CommandId,
        start: &ParallelStart,
        deadline: Duration,
    ) -> Result<(), CommandError> {
        let (number, request) = (self.new_parallel_no(now), start.as_request());
        let mut orders = vec![];
        for part in start.parts() {
            // Energy and SOC have no room in 0xA4: they are watched here, whatever the pile speaks.
            let limits = (!part.limits.is_none()).then_some(Limits { by_pile: false, ..part.limits });
            let (serial, serials_left) = self.serial_for(now, &part)?;
            orders.push((self.order_of(now, &part, (serial, request), limits), serials_left));
        }
        let beside = |other: &Order| Parallel { number, gun: other.gun, serial: other.serial };
        let others: Vec<_> = orders.iter().rev().map(|(order, _)| beside(order)).collect();
        let opening = Opening::Parallel { logical_card: start.logical_card, physical_card: start.physical_card };
        let held = orders.into_iter().zip(others).map(|((order, serials_left), other)| {
            let unsent = Unsent { opening: opening.clone(), deadline, serials_left };
            Held { unsent: Some(Box::new(unsent)), ..Held::new(Order { parallel: Some(other), ..order }) }
        });
        let held: Vec<_> = held.collect();
        let Some(leading) = held.first().map(|held| held.order.serial) else { return Ok(()) };
        self.orders.extend(held);
        self.pending.push(id, Await::Parallel(leading), deadline, [0, 0]);
        self.jobs.push(Job::Create { serial: leading });
        Ok(())
    }

    /// A retry, of which one order at least is held.
    fn join_parallel(&mut self, id: CommandId, serial: Serial, deadline: Duration, out: &mut Out) {
        let leading = self.leading(serial);
        if self.both(serial).is_none() {
            // What has become of the other is in the store.
            return out.list.push(Output::Reply { to: id, result: Ok(Reply::StartedBefore { serial: leading }) });
        }
        self.pending.push(id, Await::Parallel(leading), deadline, [0, 0]);
        self.answer_both(serial, None, out);
    }

    /// 0xA4
    pub(in crate::session) fn parallel_start(
        &self,
        order: &Order,
        (logical_card, physical_card): ([u8; 8], [u8; 8]),
    ) -> wire::ParallelRemoteStart {
        wire::ParallelRemoteStart {
            transaction_serial: wire_serial(order.serial),
            pile_code: wire_pile(self.pile.code),
            gun_no: wire_gun(order.gun),
            logical_card: wire::Bcd(logical_card),
            physical_card: wire::Opaque(physical_card),
            balance: wire::Balance(order.balance_fen.unwrap_or(0)),
            parallel_no: wire::Bcd(order.parallel_no().unwrap_or_default()),
        }
    }

    /// `YYMMDDhhmmss` of the pile's clock; a second later for each that is in use, so that four guns are not one vehicle.
    fn new_parallel_no(&self, now: Now) -> [u8; 6] {
        let used = |number| self.orders.iter().any(|held| held.order.parallel_no() == Some(number));
        let of = |second| Serial::clock(now.wall.plus_ms(1000 * second).local(self.policy.offset));
        let numbers = (0..=self.orders.len() as u64).map(of);
        numbers.into_iter().find(|number| !used(*number)).unwrap_or_default()
    }

    /// The orders that are created with this one, itself first; it leads.
    pub(in crate::session) fn created_with(&self, serial: Serial) -> Vec<Serial> {
        let other = self.held(serial).and_then(|held| held.order.parallel).map(|other| other.serial);
        [serial].into_iter().chain(other).collect()
    }

    /// The one under which callers wait.
    fn leading(&self, serial: Serial) -> Serial {
        let order = self.held(serial).map(|held| &held.order);
        let other = order.filter(|order| !order.leads()).and_then(|order| order.parallel);
        other.map_or(serial, |other| other.serial)
    }

    /// Both orders of a vehicle, by gun, if this session holds both.
    fn both(&self, serial: Serial) -> Option<[&Order; 2]> {
        let order = &self.held(serial)?.order;
        let other = &self.held(order.parallel?.serial)?.order;
        Some(if order.leads() { [order, other] } else { [other, order] })
    }
}

/// Staying together.
impl Session {
    /// Something has become of this order, or the pile charges it: whoever waits for the start of both is told, and
    /// whichever has to end ends.
    pub(in crate::session) fn keep_together(&mut self, now: Now, serial: Serial, out: &mut Out) {
        let Some(order) = self.held(serial).map(|held| &held.order) else { return };
        if order.parallel_no().is_none() {
            return;
        }
        let of_vehicle = |h: &&Held| h.order.serial != serial && h.order.is_beside(order);
        let others: Vec<_> = self.orders.iter().filter(of_vehicle).map(|h| h.order.serial).collect();
        self.answer_both(serial, None, out);
        for other in others {
            for (one, companion) in [(other, serial), (serial, other)] {
                if let Some(companion) = self.held(companion).map(|held| held.order.clone()) {
                    self.end_with(now, one, &companion, out);
                }
            }
        }
        self.ask_for_companion(serial);
    }

    /// What has said yes without its companion's order being held here: the store knows what has become of that.
    fn ask_for_companion(&mut self, serial: Serial) {
        let begun = |order: &Order| order.may_be_stopped() && order.stop.is_none() && order.is_answered();
        let asks = |held: &&Held| !held.companion_known && held.unsent.is_none() && begun(&held.order);
        let Some(other) = self.held(serial).filter(asks).and_then(|held| held.order.parallel) else { return };
        if self.held(other.serial).is_none() && !self.jobs.is_full() && !self.jobs.asks_for_companion(serial) {
            self.jobs.push(Job::LookUpCompanion { serial, companion: other.serial });
        }
    }

    /// 0x36, if what has become of the other gun's order demands it.
    fn end_with(&mut self, now: Now, serial: Serial, companion: &Order, out: &mut Out) {
        let Some(held) = self.held(serial).filter(|held| held.unsent.is_none()) else { return };
        let gun = self.gun_to_stop(&held.order);
        if self.catching_up || self.has_ended() || self.meets_stranger(gun, serial) || !held.order.ends_with(companion)
        {
            return;
        }
        out.repeat(self.stop_frame(gun));
        let stopped = Happening::StopRequested(StopCause::OtherGun);
        let why = if companion.never_came_about() { Happening::TakenBack } else { stopped };
        self.happened(now, serial, why, out);
    }

    /// What the store says of it; `None` if it does not know it, or any more.
    pub(in crate::session) fn companion_looked_up(
        &mut self,
        now: Now,
        serial: Serial,
        companion: Option<&Order>,
        out: &mut Out,
    ) {
        if let Some(companion) = companion {
            self.end_with(now, serial, companion, out);
        }
        if let Some(held) = self.orders.iter_mut().find(|held| held.order.serial == serial) {
            // A store that is behind says what it was before it was answered, and what is a reason to stop this one may not
            // have been: it has not begun, or a stranger charges there. Then the store is asked again.
            held.companion_known = companion.is_some_and(Order::is_no_reason_to_end);
        }
    }

    /// One of them is settled, and not held any more.
    pub(in crate::session) fn companion_settled(&mut self, now: Now, settled: &Order, out: &mut Out) {
        let Some(other) = settled.parallel.map(|other| other.serial) else { return };
        self.answer_as_it_stays(settled, out);
        self.end_with(now, other, settled, out);
        if let Some(held) = self.orders.iter_mut().find(|held| held.order.serial == other) {
            // Otherwise it may still be one to stop what has not answered yet, or charges again.
            held.companion_known |= settled.is_no_reason_to_end();
        }
    }

    /// One of them is as it will stay: whoever waits for the start of both need not wait for more.
    pub(in crate::session) fn answer_as_it_stays(&mut self, order: &Order, out: &mut Out) {
        let Some(other) = order.parallel.map(|other| other.serial) else { return };
        self.answer_both(other, Some(order), out);
        // A retry finds this one in the store.
        let leading = if order.leads() { order.serial } else { other };
        let unknown = Err(CommandError::OutcomeUnknown { serial: Some(leading) });
        self.answer(|what| what == Await::Parallel(leading), None, &unknown, out);
    }

    /// As soon as both guns have answered, or the start of one has failed.
    fn answer_both(&mut self, serial: Serial, settled: Option<&Order>, out: &mut Out) {
        let orders = match (settled, self.held(serial)) {
            (Some(settled), Some(held)) if settled.leads() => [settled, &held.order],
            (Some(settled), Some(held)) => [&held.order, settled],
            (Some(_), None) => return,
            (None, _) => match self.both(serial) {
                Some(both) => both,
                None => return,
            },
        };
        let leading = orders[0].serial;
        if !self.pending.holds(|what| what == Await::Parallel(leading)) {
            return;
        }
        let failed = orders.iter().any(|order| order.never_came_about());
        if failed || orders.iter().all(|order| order.is_answered()) {
            let reply = Reply::ParallelStarted(Box::new(orders.map(Clone::clone)));
            self.answer(|what| what == Await::Parallel(leading), None, &Ok(reply), out);
        }
    }

    /// An error unless the gun may have a new order.
    pub(in crate::session) fn check_free(&self, gun: Gun) -> Result<(), CommandError> {
        match self.orders.iter().find(|h| h.order.gun == gun && h.occupies_gun()) {
            Some(held) => Err(CommandError::GunBusy { gun, serial: held.order.serial }),
            None => Ok(()),
        }
    }
}

/// The first protocol version with 0xA4.
const V16: u8 = 16;
