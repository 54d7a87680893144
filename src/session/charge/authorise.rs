//! Charging with a card or a VIN: the pile asks, the authority decides, the pile is told.
//!
//! ```text
//!   0x31 ──▶ Output::Authorise ──▶ Done::Authorised ──yes──▶ Job::Create ──durable──▶ 0x32 yes: STARTING
//!    │ ▲        (started, with a deadline here)      └no───▶ 0x32 no
//!    └─┘ repeated while that goes on, or within a minute of it: the same serial, the same answer
//! ```
//!
//! A pile waits for a minute; what cannot be answered by then is not answered at all. What cannot be decided for a moment
//! – the store is away, the node hands its piles over – is left unanswered as well: piles ask again, and a "no" would
//! send the driver away.

use std::time::Duration;

use crate::domain::driver::{AtPile, Card, GrantedLimits, Shown};
use crate::domain::order::{Happening, Limits, Origin};
use crate::domain::{Energy, Gun, Order, OrderState, Serial};
use crate::session::Now;
use crate::session::asks::{Ask, AskState, Form};
use crate::session::authority::{ChargeAsk, Denial, Grant, Parallel, Password, Role, Unanswered, Verdict};
use crate::session::held::{Held, Opening, Unsent};
use crate::session::io::{Out, Output};
use crate::session::state::Session;
use crate::session::translate::{self, wire_pile, wire_serial};
use crate::wire::{self, Frame, Sequence};

/// A frame that asks, whichever it is.
struct Wish {
    gun_no: wire::GunNo,
    mode: wire::StartMode,
    password: Option<Password>,
    card: Card,
    vin: wire::VinReversed,
    form: Form,
}

/// Asking.
impl Session {
    /// 0x31, 0xA1, 0xA5, which came at `since`.
    pub(in crate::session) fn start_asked(
        &mut self,
        now: Now,
        since: Duration,
        (sequence, frame): (Sequence, &Frame),
        out: &mut Out,
    ) {
        let Some(wish) = Wish::of(frame) else { return };
        let (gun_no, form) = (wish.gun_no, wish.form);
        // Whoever takes the pile over is asked again.
        if self.draining.is_some() {
            return;
        }
        let shown = match wish.mode {
            wire::StartMode::Card => Shown::Card(wish.card),
            wire::StartMode::Vin => Shown::Vin(self.asks.vin(wish.vin.text(), wish.vin.wire_text())),
            // Declared, but no pile supports it.
            wire::StartMode::Account | wire::StartMode::Unknown(_) => {
                return out.reply(sequence, self.denial(gun_no, form, Denial::NoSuchAccount));
            }
        };
        let Some(gun) = self.gun(gun_no).filter(|gun| self.check_gun(*gun).is_ok()) else {
            return out.reply(sequence, self.denial(gun_no, form, Denial::NotOnThisPile));
        };
        if self.asked_before(now, sequence, gun, (&shown, wish.password, form), out) {
            return;
        }
        self.call_off(now, gun, out);
        let password = wish.password;
        if let Some((reason, since)) = self.denied_sibling(now, form) {
            // Whatever the gun has asked before is not answered any more.
            let (serial, state) = (Serial::NONE, AskState::Denied(reason));
            self.asks.put(Ask { gun, gun_no, shown, password, form, sequence, since, serial, state });
            out.reply(sequence, self.denial(gun_no, form, reason));
            return;
        }
        let busy = self.is_taken(gun);
        if !busy && (self.jobs.is_full() || !self.make_room()) {
            return;
        }
        let serial = self.new_serial(now, gun);
        let until = now.mono + self.policy.asking.deadline;
        let state = AskState::Deciding { until };
        let ask = ChargeAsk {
            pile: self.pile.code,
            gun,
            serial,
            shown: shown.clone(),
            password,
            parallel: form.parallel(),
            asked_at: now.wall,
            pile_time: now.wall.local(self.policy.offset),
        };
        self.asks.put(Ask { gun, gun_no, shown, password, form, sequence, since, serial, state });
        if busy {
            return self.deny(now, serial, Denial::PileUnsettled, out);
        }
        out.list.push(Output::Authorise(Box::new(ask)));
    }

    /// The same wish again: whatever it is answered with, it makes no second order. Also one that another session of
    /// this pile has granted, which its order tells.
    fn asked_before(
        &mut self,
        now: Now,
        sequence: Sequence,
        gun: Gun,
        (shown, password, form): (&Shown, Option<Password>, Form),
        out: &mut Out,
    ) -> bool {
        let young = |ask: &Ask| now.mono < ask.since + SAME_WISH;
        let same = |ask: &&mut Ask| ask.shown == *shown && ask.password == password && ask.form == form && young(ask);
        let (gun_no, granted) = match self.asks.of_gun(gun).filter(same) {
            Some(ask) => {
                ask.sequence = sequence;
                match ask.state {
                    AskState::Deciding { .. } | AskState::Creating => return true,
                    AskState::Denied(reason) => {
                        let gun_no = ask.gun_no;
                        out.reply(sequence, self.denial(gun_no, form, reason));
                        return true;
                    }
                    AskState::Granted => (ask.gun_no, Some(ask.serial)),
                }
            }
            None => (translate::wire_gun(gun), None),
        };
        let young = |order: &Order| now.wall.since(order.created_at) < SAME_WISH.as_millis() as u64;
        let wished = |order: &Order| order.at_pile.as_deref().is_some_and(|at_pile| granted_as(at_pile, shown, form));
        let waits = |h: &&Held| h.unsent.is_none() && h.order.gun == gun && is_untouched(&h.order);
        let order = self.orders.iter().filter(waits).map(|h| &h.order).find(|order| match granted {
            Some(serial) => order.serial == serial,
            None => young(order) && wished(order),
        });
        let Some(serial) = order.map(|order| order.serial) else { return false };
        if granted.is_none() {
            let (shown, state) = (shown.clone(), AskState::Creating);
            self.asks.put(Ask { gun, gun_no, shown, password, form, sequence, since: now.mono, serial, state });
        }
        self.confirm(now, serial, now.mono + PATIENCE, out);
        true
    }

    /// The pile asks anew, so it does not charge what it was told yes to before; should it all the same, that is a late
    /// start.
    fn call_off(&mut self, now: Now, gun: Gun, out: &mut Out) {
        let told = |h: &&Held| h.order.gun == gun && is_untouched(&h.order);
        let serials: Vec<_> = self.orders.iter().filter(told).map(|h| h.order.serial).collect();
        for serial in serials {
            self.withdraw(serial);
            self.happened(now, serial, Happening::CalledOff, out);
        }
    }

    /// Whether an order of somebody else has the gun.
    fn is_taken(&self, gun: Gun) -> bool {
        let withdrawn = |h: &Held| h.unsent.as_ref().is_some_and(|unsent| unsent.deadline.is_zero());
        self.orders.iter().any(|h| h.order.gun == gun && h.occupies_gun() && !withdrawn(h))
    }
}

/// What comes of it.
impl Session {
    /// The authority has decided, or nobody has.
    pub(in crate::session) fn authorised(
        &mut self,
        now: Now,
        serial: Serial,
        result: Result<Verdict, Unanswered>,
        out: &mut Out,
    ) {
        let Some(ask) = self.asks.of_serial(serial) else { return };
        if !matches!(ask.state, AskState::Deciding { .. }) {
            return;
        }
        // This node stood still meanwhile: the pile has given up.
        if now.mono >= ask.since + PATIENCE {
            return self.asks.forget(serial);
        }
        let gun = ask.gun;
        match result.unwrap_or_else(|_| self.policy.asking.fallback.clone()) {
            Verdict::Deny(reason) => self.deny(now, serial, reason, out),
            // Somebody has started it remotely meanwhile.
            Verdict::Allow(_) if self.is_taken(gun) => self.deny(now, serial, Denial::PileUnsettled, out),
            Verdict::Allow(_) if self.jobs.is_full() || !self.make_room() => self.asks.forget(serial),
            Verdict::Allow(grant) => self.grant(now, serial, *grant),
        }
    }

    /// What nobody has answered in time.
    pub(in crate::session) fn ask_timers(&mut self, now: Now, out: &mut Out) {
        for serial in self.asks.expired(now.mono) {
            tracing::warn!(pile = %self.pile.code, %serial, "nobody has said in time whether it may charge");
            self.authorised(now, serial, Err(Unanswered::TimedOut), out);
        }
    }

    /// The order becomes durable before the pile hears of it.
    fn grant(&mut self, now: Now, serial: Serial, grant: Grant) {
        let tariff = self.tariff_of_pile();
        let Some(ask) = self.asks.of_serial(serial) else { return };
        ask.state = AskState::Creating;
        let Grant { logical_card, balance_fen, limits, account, order_id, attributes } = grant;
        let mut order = Order::requested(self.pile.code, ask.gun, serial, now.wall);
        order.origin = match &ask.shown {
            Shown::Card(_) => Origin::Card,
            Shown::Vin(_) => Origin::Vin,
        };
        let (shown, parallel_no) = (ask.shown.clone(), ask.form.parallel_no());
        order.at_pile = Some(Box::new(AtPile { shown, account, logical_card, balance_fen, limits, parallel_no }));
        order.balance_fen = Some(balance_fen);
        order.limits = granted_limits(limits, ask.form == Form::V18);
        (order.order_id, order.attributes, order.tariff) = (order_id, attributes, tariff);
        let deadline = ask.since + PATIENCE;
        // No other serial: the authority knows the order by this one.
        self.create(order, Unsent { opening: Opening::AtPile, deadline, serials_left: 0 });
    }

    /// The order is durable: the pile is told yes, unless it has given up by the time that can be written.
    pub(in crate::session) fn confirm(&mut self, now: Now, serial: Serial, until: Duration, out: &mut Out) {
        let Some(order) = self.held(serial).map(|held| held.order.clone()) else { return };
        let Some(at_pile) = order.at_pile.as_deref() else { return };
        let pile = self.pile.code;
        let Some(ask) = self.asks.of_serial(serial) else { return };
        ask.state = AskState::Granted;
        let yes = Answer { pile, serial, gun_no: ask.gun_no, granted: Ok(at_pile) };
        out.list.push(Output::Send { sequence: ask.sequence, frame: yes.frame(ask.form), until: Some(until) });
        self.happened(now, serial, Happening::Confirmed, out);
    }

    /// The pile is told no, and so is every other gun of the same vehicle: it charges on all or on none.
    fn deny(&mut self, now: Now, serial: Serial, reason: Denial, out: &mut Out) {
        let Some(form) = self.refuse(serial, reason, out) else { return };
        let Some(number) = form.vehicle_no() else { return };
        let waiting: Vec<_> =
            self.asks.of_vehicle(number).filter(|ask| ask.state.is_pending()).map(|a| a.serial).collect();
        for sibling in waiting {
            self.withdraw(sibling);
            self.refuse(sibling, reason, out);
        }
        for ask in self.asks.of_vehicle(number) {
            ask.state = AskState::Denied(reason);
        }
        let of_vehicle = |h: &&Held| {
            let told = h.order.at_pile.as_deref().is_some_and(|at_pile| at_pile.parallel_no == Some(number));
            told && is_untouched(&h.order)
        };
        let granted: Vec<_> = self.orders.iter().filter(of_vehicle).map(|h| h.order.serial).collect();
        for sibling in granted {
            self.happened(now, sibling, Happening::CalledOff, out);
        }
    }

    fn refuse(&mut self, serial: Serial, reason: Denial, out: &mut Out) -> Option<Form> {
        let pile = self.pile.code;
        let ask = self.asks.of_serial(serial)?;
        ask.state = AskState::Denied(reason);
        let (gun, gun_no, form, sequence) = (ask.gun, ask.gun_no, ask.form, ask.sequence);
        tracing::info!(%pile, %gun, shown = ?ask.shown, reason = reason.name(), "not allowed to charge");
        out.reply(sequence, self.denial(gun_no, form, reason));
        Some(form)
    }

    /// Another gun of the vehicle has been denied, for what it asked then: so is this one, for as long.
    fn denied_sibling(&mut self, now: Now, form: Form) -> Option<(Denial, Duration)> {
        let mut siblings = self.asks.of_vehicle(form.vehicle_no()?);
        siblings.find_map(|ask| match ask.state {
            AskState::Denied(reason) if now.mono < ask.since + SAME_WISH => Some((reason, ask.since)),
            AskState::Denied(_) | AskState::Deciding { .. } | AskState::Creating | AskState::Granted => None,
        })
    }

    fn denial(&self, gun_no: wire::GunNo, form: Form, reason: Denial) -> Frame {
        Answer { pile: self.pile.code, serial: Serial::NONE, gun_no, granted: Err(reason) }.frame(form)
    }
}

impl Wish {
    fn of(frame: &Frame) -> Option<Self> {
        let (gun_no, mode, need_password, card, password, vin, form) = match frame {
            Frame::StartRequest(ask) => {
                let &wire::StartRequest {
                    pile_code: _,
                    gun_no,
                    start_mode,
                    need_password,
                    account_or_card,
                    password,
                    vin,
                } = ask;
                (gun_no, start_mode, need_password, account_or_card, password, vin, Form::V16)
            }
            Frame::StartRequestV18(ask) => {
                let &wire::StartRequestV18 {
                    pile_code: _,
                    gun_no,
                    start_mode,
                    need_password,
                    account_or_card,
                    password,
                    vin,
                } = ask;
                (gun_no, start_mode, need_password, account_or_card, password, vin, Form::V18)
            }
            Frame::ParallelStartRequest(ask) => {
                let &wire::ParallelStartRequest {
                    pile_code: _,
                    gun_no,
                    start_mode,
                    need_password,
                    account_or_card,
                    password,
                    vin,
                    gun_role,
                    parallel_no,
                } = ask;
                let form = Form::Parallel(Parallel { number: parallel_no.0, role: Role::of(gun_role) });
                (gun_no, start_mode, need_password, account_or_card, password, vin, form)
            }
            _ => return None,
        };
        let password = (need_password == wire::YesNo::Yes).then_some(Password(password.0));
        Some(Self { gun_no, mode, password, card: Card(card.0), vin, form })
    }
}

/// 0x32, 0xA2 or 0xA6.
struct Answer<'a> {
    pile: crate::domain::PileCode,
    serial: Serial,
    gun_no: wire::GunNo,
    granted: Result<&'a AtPile, Denial>,
}

impl Answer<'_> {
    fn frame(&self, form: Form) -> Frame {
        let (transaction_serial, pile_code, gun_no) = (wire_serial(self.serial), wire_pile(self.pile), self.gun_no);
        let (auth_result, fail_reason) = match self.granted {
            Ok(_) => (wire::Outcome::Success, wire::AuthFailure::None),
            Err(reason) => (wire::Outcome::Failure, wire::AuthFailure::from_raw(reason.code())),
        };
        let at_pile = self.granted.ok();
        let logical_card = wire::Bcd(at_pile.map_or([0; 8], |at_pile| at_pile.logical_card));
        let balance = wire::Balance(at_pile.map_or(0, |at_pile| at_pile.balance_fen));
        let limits = at_pile.map(|at_pile| at_pile.limits).unwrap_or_default();
        match form {
            Form::V16 => wire::StartConfirm {
                transaction_serial,
                pile_code,
                gun_no,
                logical_card,
                balance,
                auth_result,
                fail_reason,
            }
            .into(),
            Form::V18 => wire::StartConfirmV18 {
                transaction_serial,
                pile_code,
                gun_no,
                logical_card,
                balance,
                max_power: wire::Kilowatts(limits.max_power_kw),
                soc_limit: wire::Percent(limits.soc_percent),
                energy_limit: wire::Energy(limits.energy),
                auth_result,
                fail_reason,
            }
            .into(),
            Form::Parallel(parallel) => wire::ParallelStartConfirm {
                transaction_serial,
                pile_code,
                gun_no,
                logical_card,
                balance,
                auth_result,
                fail_reason,
                parallel_no: wire::Bcd(parallel.number),
            }
            .into(),
        }
    }
}

fn granted_as(at_pile: &AtPile, shown: &Shown, form: Form) -> bool {
    at_pile.shown == *shown && at_pile.parallel_no == form.parallel_no()
}

/// What a V1.8 pile is told, it keeps by itself; for any other it is watched here, but for the power, which only a pile can
/// hold.
fn granted_limits(granted: GrantedLimits, by_pile: bool) -> Option<Limits> {
    let GrantedLimits { max_power_kw, soc_percent, energy } = granted;
    let limits = Limits {
        energy: (energy > 0).then_some(Energy(energy.into())),
        soc_percent: (soc_percent > 0).then_some(soc_percent),
        max_power_w: (by_pile && max_power_kw > 0).then_some(u32::from(max_power_kw) * 1000),
        ..Limits::default()
    };
    (!limits.is_none()).then_some(Limits { by_pile, ..limits })
}

/// The pile was told yes, or will be, and has not charged under it.
fn is_untouched(order: &Order) -> bool {
    order.origin.is_confirmed() && matches!(order.state, OrderState::Requested | OrderState::Starting)
}

/// For so long the same wish on the same gun is the same one.
const SAME_WISH: Duration = Duration::from_mins(1);
/// How long after its first question a pile may still be answered: a little less than it waits.
const PATIENCE: Duration = Duration::from_secs(55);
