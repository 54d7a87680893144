//! Starting: the order becomes durable first, then the frame that opens it leaves.
//!
//! ```text
//!   a caller: StartCharging [──▶ 0x58 ──▶ 0x57, if it insists on a tariff] ──▶ Unsent{Opening::Remote} ──▶ Job::Create ──durable──▶ 0x34 ──▶ 0x33
//!   the pile: 0x31 ──allowed──▶ Unsent{Opening::AtPile} ──▶ Job::Create ──durable──▶ 0x32
//! ```

use std::time::Duration;

use crate::domain::command::Start;
use crate::domain::order::{Failure, Happening, Limits, StartRequest};
use crate::domain::{CommandError, Gun, Order, OrderState, Reply, Serial};
use crate::session::Now;
use crate::session::held::{Awaiting, Held, Opening, Unsent};
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
        let request = start.as_request();
        if let Some(order) = self.requested(request)?.cloned() {
            self.join_start(id, order, deadline, out);
            return Ok(());
        }
        self.check_free(start.gun)?;
        self.check_room(1)?;
        if let Some(expected) = start.expected_tariff
            && !self.bills_with(expected)?
        {
            self.start_after_tariff(now, id, Awaiting::One(Box::new(start)), deadline, out);
            return Ok(());
        }
        let (serial, serials_left) = self.serial_for(now, &start)?;
        let order = self.order_of(now, &start, (serial, request), limits);
        self.pending.push(id, Await::Start(serial), deadline, [0, 0]);
        self.create(order, Unsent { opening: Opening::Remote(Box::new(start)), deadline, serials_left });
        Ok(())
    }

    /// An order that this request has led to already; an error if its id was another wish's.
    pub(super) fn requested(&self, request: StartRequest) -> Result<Option<&Order>, CommandError> {
        let StartRequest { id, arguments: _ } = request;
        let same_id = |h: &&Held| h.order.request.is_some_and(|before| before.id == id);
        let before = self.orders.iter().find(same_id).map(|held| &held.order);
        if before.is_some_and(|order| order.request != Some(request)) {
            return Err(CommandError::RequestReused { id });
        }
        Ok(before)
    }

    /// An error unless there is room for so many new orders.
    pub(super) fn check_room(&mut self, orders: usize) -> Result<(), CommandError> {
        if self.jobs.is_full() || !self.make_room_for(orders) {
            return Err(CommandError::PileBusy {
                why: "too many orders wait for their record".into(),
                retry_after: Some(RETRY),
            });
        }
        Ok(())
    }

    /// The serial of a new order, and how many more may be tried if that is taken.
    pub(super) fn serial_for(&mut self, now: Now, start: &Start) -> Result<(Serial, u8), CommandError> {
        match start.serial {
            Some(serial) if self.held(serial).is_some() => Err(CommandError::SerialTaken { serial }),
            // It was settled elsewhere, and somebody is still to hear what has become of it.
            Some(serial) if self.is_awaited(serial) => Err(CommandError::SerialTaken { serial }),
            Some(serial) => Ok((serial, 0)),
            None => Ok((self.new_serial(now, start.gun), MORE_SERIALS)),
        }
    }

    fn is_awaited(&self, serial: Serial) -> bool {
        self.pending.holds(|what| matches!(what, Await::Start(of) | Await::Parallel(of) if of == serial))
    }

    /// The order a caller wants, who may have wanted more with the same request.
    pub(super) fn order_of(
        &self,
        now: Now,
        start: &Start,
        (serial, request): (Serial, StartRequest),
        limits: Option<Limits>,
    ) -> Order {
        let mut order = Order::requested(self.pile.code, start.gun, serial, now.wall);
        order.order_id.clone_from(&start.order_id);
        order.attributes.clone_from(&start.attributes);
        order.request = Some(request);
        order.tariff = self.tariff_of_pile();
        order.balance_fen = Some(start.balance_fen);
        order.limits = limits;
        order
    }

    /// A retry of a start that is under way: it waits for the same answer, or gets what has become of it.
    fn join_start(&mut self, id: CommandId, order: Order, deadline: Duration, out: &mut Out) {
        if order.state == OrderState::Requested {
            self.pending.push(id, Await::Start(order.serial), deadline, [0, 0]);
        } else {
            out.list.push(Output::Reply { to: id, result: Ok(Reply::Started(Box::new(order))) });
        }
    }

    /// The order, and the request id behind it if there is one, become durable before anything goes to the pile.
    pub(in crate::session) fn create(&mut self, order: Order, unsent: Unsent) {
        let serial = order.serial;
        self.orders.push(Held { unsent: Some(Box::new(unsent)), ..Held::new(order) });
        self.jobs.push(Job::Create { serial });
    }

    /// The order is durable, and so is that of the other gun if there is one: what opens them goes out, unless it is too
    /// late for it. Of what was written, orders come last.
    pub(in crate::session) fn created(&mut self, now: Now, serial: Serial, versions: &[u64], out: &mut Out) {
        let live = matches!(self.phase, Phase::Live(_));
        let serials = self.created_with(serial);
        let versions = &versions[versions.len().saturating_sub(serials.len())..];
        let mut opening = vec![];
        for (at, serial) in serials.into_iter().enumerate() {
            let Some(held) = self.orders.iter_mut().find(|h| h.order.serial == serial) else { return };
            held.version = Some(versions.get(at).copied().unwrap_or(1));
            let Some(unsent) = held.unsent.take() else { return };
            // A store that took 90 s has used up the time the pile has for its answer.
            let too_late = now.mono >= unsent.deadline || held.order.due().is_some_and(|due| due <= now.wall);
            opening.push((serial, unsent, live && !too_late));
        }
        if opening.iter().any(|(_, _, in_time)| !in_time) {
            // First: an order that was not sent says so to nobody who waits.
            self.start_failed(serial, &CommandError::DeadlinePassed, out);
            for (serial, _, _) in opening {
                self.happened(now, serial, Happening::NotSent, out);
            }
            return;
        }
        for (serial, unsent, _) in opening {
            match unsent.opening {
                Opening::Remote(start) => {
                    out.command(self.remote_start(serial, &start), unsent.deadline);
                }
                Opening::Parallel { logical_card, physical_card } => {
                    if let Some(held) = self.held(serial) {
                        let frame = self.parallel_start(&held.order, (logical_card, physical_card));
                        out.command(frame, unsent.deadline);
                    }
                }
                Opening::AtPile => self.confirm(now, serial, unsent.deadline, out),
            }
        }
    }

    /// The store holds something else under the serial `taken`, that of the new order `serial` or of the one created with
    /// it: another one is tried, unless the caller chose it.
    pub(in crate::session) fn serial_taken(&mut self, now: Now, serial: Serial, taken: Serial, out: &mut Out) {
        let of_taken = |h: &&mut Held| h.order.serial == taken;
        let Some(held) = self.orders.iter_mut().find(of_taken) else { return };
        let Some(unsent) = held.unsent.as_mut() else { return };
        let error = if unsent.serials_left == 0 {
            Some(CommandError::SerialTaken { serial: taken })
        } else {
            (now.mono >= unsent.deadline).then_some(CommandError::DeadlinePassed)
        };
        if let Some(error) = error {
            self.start_failed(serial, &error, out);
            return self.forget_created(serial);
        }
        unsent.serials_left -= 1;
        let (gun, together) = (held.order.gun, self.created_with(serial));
        let another = self.new_serial(now, gun);
        for held in self.orders.iter_mut().filter(|h| together.contains(&h.order.serial)) {
            (held.order.created_at, held.order.updated_at) = (now.wall, now.wall);
            if held.order.serial == taken {
                held.order.serial = another;
            } else if let Some(other) = &mut held.order.parallel {
                other.serial = another;
            }
        }
        let leading = if serial == taken { another } else { serial };
        self.pending.rename(Await::Start(serial), Await::Start(leading));
        self.pending.rename(Await::Parallel(serial), Await::Parallel(leading));
        self.jobs.push(Job::Create { serial: leading });
    }

    /// It has not become an order, nor has the one that was created with it.
    pub(in crate::session) fn forget_created(&mut self, serial: Serial) {
        for serial in self.created_with(serial) {
            self.forget(serial);
        }
    }

    /// This request_id has been used before.
    pub(in crate::session) fn attempt_exists(&mut self, serial: Serial, before: &StartAttempt, out: &mut Out) {
        let Some(request) = self.held(serial).map(|held| held.order.request) else { return };
        self.forget_created(serial);
        let same = request.is_some_and(|request| request.arguments == before.arguments);
        let result = if same {
            Ok(Reply::StartedBefore { serial: before.serial })
        } else {
            Err(CommandError::RequestReused { id: before.id })
        };
        self.answer_start(serial, &result, out);
    }

    /// Its caller has been told that the store failed: should it turn out to be stored, it fails unsent.
    pub(in crate::session) fn withdraw(&mut self, serial: Serial) {
        let together = self.created_with(serial);
        for held in self.orders.iter_mut().filter(|h| together.contains(&h.order.serial)) {
            if let Some(unsent) = held.unsent.as_mut() {
                unsent.deadline = Duration::ZERO;
            }
        }
    }

    /// Whoever waits for the start that this order is, or leads.
    fn answer_start(&mut self, serial: Serial, result: &Result<Reply, CommandError>, out: &mut Out) {
        self.answer_all(Await::Start(serial), result, out);
        self.answer_all(Await::Parallel(serial), result, out);
    }

    /// Nobody waits for this start any more.
    pub(in crate::session) fn start_failed(&mut self, serial: Serial, error: &CommandError, out: &mut Out) {
        self.answer_start(serial, &Err(error.clone()), out);
        // Nor does a driver: the pile asks again.
        if self.asks.of_serial(serial).is_some_and(|ask| ask.state.is_pending()) {
            self.asks.forget(serial);
        }
    }

    /// 0x33, or 0xA3 of one gun. A success may follow "not plugged in"; one that never comes is judged by the order's own deadlines (A23).
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
