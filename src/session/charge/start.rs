//! Starting: the order becomes durable first, then the frame that opens it leaves.
//!
//! ```text
//!   a caller: StartCharging ──▶ Unsent{Opening::Remote} ──▶ Job::Create ──durable──▶ 0x34 ──▶ 0x33
//!   the pile: 0x31 ──allowed──▶ Unsent{Opening::AtPile} ──▶ Job::Create ──durable──▶ 0x32
//! ```

use std::time::Duration;

use crate::domain::command::Start;
use crate::domain::order::{Failure, Happening, StartRequest};
use crate::domain::{CommandError, Gun, Order, OrderState, Reply, Serial};
use crate::session::Now;
use crate::session::held::{Held, Opening, Unsent};
use crate::session::io::{Out, Output};
use crate::session::jobs::Job;
use crate::session::pending::{Await, CommandId, RETRY};
use crate::session::state::{Phase, Session};
use crate::session::translate;
use crate::store::ledger::StartAttempt;
use crate::wire;

impl Session {
    pub(in crate::session) fn start(
        &mut self,
        now: Now,
        id: CommandId,
        start: Start,
        deadline: Duration,
        out: &mut Out,
    ) -> Result<(), CommandError> {
        self.check_gun(start.gun)?;
        let limits = self.agreed(start.limits)?;
        let same = |h: &&Held| h.order.request.is_some_and(|request| request.id == start.request_id);
        if let Some(held) = self.orders.iter().find(same) {
            return self.join_start(id, &start, held.order.clone(), deadline, out);
        }
        if let Some(held) = self.orders.iter().find(|h| h.order.gun == start.gun && h.occupies_gun()) {
            return Err(CommandError::GunBusy { gun: start.gun, serial: held.order.serial });
        }
        if self.jobs.is_full() || !self.make_room() {
            return Err(CommandError::PileBusy {
                why: "too many orders wait for their record".into(),
                retry_after: Some(RETRY),
            });
        }
        let (serial, serials_left) = match start.serial {
            Some(serial) if self.held(serial).is_some() => return Err(CommandError::SerialTaken { serial }),
            Some(serial) => (serial, 0),
            None => (self.new_serial(now, start.gun), MORE_SERIALS),
        };
        let mut order = Order::requested(self.pile.code, start.gun, serial, now.wall);
        order.order_id.clone_from(&start.order_id);
        order.attributes.clone_from(&start.attributes);
        order.request = Some(StartRequest { id: start.request_id, arguments: start.arguments() });
        order.tariff = self.tariff_of_pile();
        order.balance_fen = Some(start.balance_fen);
        order.limits = limits;
        self.pending.push(id, Await::Start(serial), deadline, [0, 0]);
        self.create(order, Unsent { opening: Opening::Remote(Box::new(start)), deadline, serials_left });
        Ok(())
    }

    /// A retry of a start that is under way: it waits for the same answer, or gets what has become of it.
    fn join_start(
        &mut self,
        id: CommandId,
        start: &Start,
        order: Order,
        deadline: Duration,
        out: &mut Out,
    ) -> Result<(), CommandError> {
        if order.request.is_some_and(|request| request.arguments != start.arguments()) {
            return Err(CommandError::RequestReused { id: start.request_id });
        }
        if order.state == OrderState::Requested {
            self.pending.push(id, Await::Start(order.serial), deadline, [0, 0]);
        } else {
            out.list.push(Output::Reply { to: id, result: Ok(Reply::Started(Box::new(order))) });
        }
        Ok(())
    }

    /// The order, and the request id behind it if there is one, become durable before anything goes to the pile.
    pub(in crate::session) fn create(&mut self, order: Order, unsent: Unsent) {
        let (serial, attempt) = (order.serial, StartAttempt::of(&order));
        self.orders.push(Held { unsent: Some(Box::new(unsent)), ..Held::new(order) });
        self.jobs.push(Job::Create { serial, attempt });
    }

    /// The order is durable: what opens it goes out, unless it is too late for it.
    pub(in crate::session) fn created(&mut self, now: Now, serial: Serial, version: u64, out: &mut Out) {
        let live = matches!(self.phase, Phase::Live(_));
        let Some(held) = self.orders.iter_mut().find(|h| h.order.serial == serial) else { return };
        held.version = Some(version);
        let Some(unsent) = held.unsent.take() else { return };
        // A store that took 90 s has used up the time the pile has for its answer.
        let too_late = now.mono >= unsent.deadline || held.order.due().is_some_and(|due| due <= now.wall);
        if !live || too_late {
            self.happened(now, serial, Happening::NotSent, out);
            self.start_failed(serial, &CommandError::DeadlinePassed, out);
            return;
        }
        match unsent.opening {
            Opening::Remote(start) => {
                out.command(self.remote_start(serial, &start), unsent.deadline);
            }
            Opening::AtPile => self.confirm(now, serial, out),
        }
    }

    /// The store holds something else under this serial: another one is tried, unless the caller chose it.
    pub(in crate::session) fn serial_taken(&mut self, now: Now, serial: Serial, out: &mut Out) {
        let Some(mut held) = self.forget(serial) else { return };
        let Some(mut unsent) = held.unsent.take().filter(|unsent| unsent.serials_left > 0) else {
            return self.start_failed(serial, &CommandError::SerialTaken { serial }, out);
        };
        if now.mono >= unsent.deadline {
            return self.start_failed(serial, &CommandError::DeadlinePassed, out);
        }
        unsent.serials_left -= 1;
        let another = self.new_serial(now, held.order.gun);
        self.pending.rename(Await::Start(serial), Await::Start(another));
        self.create(Order { serial: another, created_at: now.wall, updated_at: now.wall, ..held.order }, *unsent);
    }

    /// This request_id has been used before.
    pub(in crate::session) fn attempt_exists(&mut self, serial: Serial, before: &StartAttempt, out: &mut Out) {
        let Some(held) = self.forget(serial) else { return };
        let same = held.order.request.is_some_and(|request| request.arguments == before.arguments);
        let result = if same {
            Ok(Reply::StartedBefore { serial: before.serial })
        } else {
            Err(CommandError::RequestReused { id: before.id })
        };
        self.answer_all(Await::Start(serial), &result, out);
    }

    /// Its caller has been told that the store failed: should it turn out to be stored, it fails unsent.
    pub(in crate::session) fn withdraw(&mut self, serial: Serial) {
        let held = self.orders.iter_mut().find(|h| h.order.serial == serial);
        if let Some(unsent) = held.and_then(|held| held.unsent.as_mut()) {
            unsent.deadline = Duration::ZERO;
        }
    }

    /// Nobody waits for this start any more.
    pub(in crate::session) fn start_failed(&mut self, serial: Serial, error: &CommandError, out: &mut Out) {
        self.answer_all(Await::Start(serial), &Err(error.clone()), out);
        // Nor does a driver: the pile asks again.
        if self.asks.of_serial(serial).is_some_and(|ask| ask.state.is_pending()) {
            self.asks.forget(serial);
        }
    }

    /// 0x33. A success may follow "not plugged in"; one that never comes is judged by the order's own deadlines (A23).
    pub(in crate::session) fn start_answer(
        &mut self,
        now: Now,
        (serial, result, reason): (wire::Serial, wire::Outcome, wire::StartFailure),
        out: &mut Out,
    ) {
        let serial = translate::serial(serial);
        let happening = match result {
            wire::Outcome::Success => Happening::Accepted,
            wire::Outcome::Failure | wire::Outcome::Unknown(_) => {
                let name = reason.label().unwrap_or("unknown reason").to_owned();
                Happening::Rejected { code: reason.raw(), name }
            }
        };
        self.happened(now, serial, happening, out);
        let Some(held) = self.held(serial).filter(|held| held.unsent.is_none()) else { return };
        let result = match &held.order.failure {
            Some(Failure::Rejected { code, name }) => {
                Err(CommandError::PileRejected { frame: 0x33, code: *code, name: name.clone() })
            }
            _ => Ok(Reply::Started(Box::new(held.order.clone()))),
        };
        self.answer_all(Await::Start(serial), &result, out);
    }

    pub(super) fn new_serial(&mut self, now: Now, gun: Gun) -> Serial {
        // The digits need only differ from those of other nodes.
        let salt = self.any_number();
        Serial::compose(self.pile.code, gun, now.wall.local(self.policy.offset), salt)
    }
}

/// Four random digits seldom collide; after so many collisions something else is wrong.
const MORE_SERIALS: u8 = 4;
