//! Sessions of piles that logged in while the store could not be asked.
//!
//! Such a session answers what needs no store, passes telemetry on, settles records, which need no owner, and stops what
//! it sees charging. It judges nothing: it does not know the pile's orders, nor whether the pile is its own. What could
//! move an order or a gun is kept, and happens as of its own time once the pile is claimed.

use std::collections::VecDeque;
use std::time::Duration;

use super::{Phase, Session, login_response};
use crate::domain::command::StopProof;
use crate::domain::order::{Happening, StopCause};
use crate::domain::{CommandError, Gun, Order, Reply, Serial};
use crate::observe;
use crate::session::Now;
use crate::session::io::{Out, Output};
use crate::session::pending::{Await, CommandId};
use crate::session::translate;
use crate::wire::{self, Frame, Sequence};

/// What is kept until the pile is claimed.
#[derive(Default)]
pub struct Provisional {
    kept: VecDeque<(Now, Kept)>,
    /// What callers who stop a charge are told of it. Never stored: the store may know the order.
    known: Vec<Order>,
    /// The last question about the tariff, which only the store can answer. Its pile would repeat it, but charges nothing
    /// meanwhile.
    tariff_asked: Option<(Sequence, Box<Frame>)>,
    /// Who has asked to charge, of each gun the last: nothing starts now, but the store may be back before the pile gives
    /// up.
    starts_asked: Vec<(Now, Sequence, Box<Frame>)>,
}

enum Kept {
    Frame(Box<Frame>),
    /// 0x36 went out.
    Stop(Serial),
}

impl Session {
    /// The pile is served as far as that is possible without the store.
    pub(super) fn goes_on_provisionally(&mut self, now: Now, sequence: Sequence, out: &mut Out) {
        observe::login("provisional");
        let guess = self.guessed_fence(now);
        self.phase = Phase::Provisional(guess);
        self.provisional = Some(Box::default());
        self.claim_later(now);
        out.list.push(Output::RegisterProvisionally(guess));
        out.reply(sequence, login_response(self.pile.code));
    }

    /// What the session was registered under: another session of the pile may have had a higher epoch.
    pub fn registered_as(&mut self, guess: crate::domain::Fence) {
        if let Phase::Provisional(fence) = &mut self.phase {
            *fence = guess;
        }
    }

    /// True if that is all that may happen now.
    pub(super) fn kept_back(&mut self, now: Now, sequence: Sequence, frame: &Frame, out: &mut Out) -> bool {
        let Some(provisional) = &mut self.provisional else { return false };
        match frame {
            Frame::TariffCheckRequest(check) => {
                self.reported_tariff = translate::number_of_tariff(check.tariff_model_no);
                if self.reported_tariff == 0 {
                    provisional.tariff_asked = Some((sequence, Box::new(frame.clone())));
                } else {
                    let &wire::TariffCheckRequest { pile_code, tariff_model_no } = check;
                    let result = wire::TariffCheck::Same;
                    out.reply(sequence, wire::TariffCheckResponse { pile_code, tariff_model_no, result });
                }
                true
            }
            // Which number the tariff has on this pile is in the store.
            Frame::TariffRequest(_) => {
                provisional.tariff_asked = Some((sequence, Box::new(frame.clone())));
                true
            }
            Frame::BmsHandshake(_)
            | Frame::BmsParameters(_)
            | Frame::BmsError(_)
            | Frame::BmsStop(_)
            | Frame::ChargerStop(_) => {
                provisional.keep_once(now, frame);
                true
            }
            Frame::BmsChargeEnd(_)
            | Frame::RemoteStartResponse(_)
            | Frame::RemoteStartResponseV18(_)
            | Frame::ParallelRemoteStartResponse(_) => {
                provisional.keep(now, frame);
                true
            }
            Frame::RemoteStopResponse(answer) => {
                provisional.keep(now, frame);
                self.answer_provisional_stop(now, answer, sequence, out);
                true
            }
            Frame::StartRequest(_) | Frame::StartRequestV18(_) | Frame::ParallelStartRequest(_) => {
                provisional.starts_asked.retain(|(_, _, other)| gun_asked(other) != gun_asked(frame));
                provisional.starts_asked.push((now, sequence, Box::new(frame.clone())));
                true
            }
            // They are answered and passed on all the same.
            Frame::RealtimeData(_) => {
                provisional.keep(now, frame);
                false
            }
            Frame::Heartbeat(heartbeat) => {
                if heartbeat.gun_status == wire::GunHealth::Fault {
                    provisional.keep(now, frame);
                }
                false
            }
            _ => false,
        }
    }

    /// Stops what the pile was seen to charge under this serial in this session.
    pub(in crate::session) fn stop_provisionally(
        &mut self,
        now: Now,
        id: CommandId,
        serial: Serial,
        deadline: Duration,
        out: &mut Out,
    ) -> Result<(), CommandError> {
        let Some((gun, metered)) = self.seen_charging(serial) else {
            let reason =
                "the store cannot be asked about the order, and the pile has not been seen to charge it".into();
            return Err(CommandError::StoreUnavailable { reason });
        };
        let sequence = out.command(self.stop_frame(gun), deadline);
        self.pending.push(id, Await::Stop(gun, serial), deadline, sequence);
        let mut order = Order::adopted(self.pile.code, gun, serial, now.wall);
        order.apply(now.wall, Happening::Charging(metered));
        order.apply(now.wall, Happening::StopRequested(StopCause::Caller));
        if let Some(provisional) = &mut self.provisional {
            provisional.stopped(now, serial);
            provisional.known.retain(|known| known.serial != serial && known.gun != gun);
            provisional.known.push(order);
        }
        Ok(())
    }

    fn answer_provisional_stop(
        &mut self,
        now: Now,
        answer: &wire::RemoteStopResponse,
        sequence: Sequence,
        out: &mut Out,
    ) {
        let Some(gun) = self.gun(answer.gun_no) else { return };
        let known = self.provisional.as_mut().and_then(|p| p.known.iter_mut().find(|order| order.gun == gun));
        let Some(order) = known else { return };
        let outcome = translate::stop_outcome(answer);
        if outcome.is_ok() {
            order.apply(now.wall, Happening::StopAccepted);
        }
        let order = Box::new(order.clone());
        let result = outcome.map(|()| Reply::Stopped { order, confirmed_by: StopProof::Answer });
        self.answer(|what| matches!(what, Await::Stop(of, _) if of == gun), Some(sequence), &result, out);
    }

    /// Whether a gun was last seen to charge, while that is all that is known.
    pub(in crate::session) fn seems_to_charge(&self) -> bool {
        let Some(provisional) = &self.provisional else { return false };
        self.pile.guns.iter().any(|status| {
            provisional.latest(status.gun, self.pile.identity.gun_count).is_some_and(|data| charges(data).is_some())
        })
    }

    fn seen_charging(&self, serial: Serial) -> Option<(Gun, crate::domain::order::Metered)> {
        let provisional = self.provisional.as_ref()?;
        self.pile.guns.iter().find_map(|status| {
            let data = provisional.latest(status.gun, self.pile.identity.gun_count)?;
            (charges(data) == Some(serial)).then(|| (status.gun, translate::metered(self.pile.last_seen, data)))
        })
    }

    /// The pile is claimed: what was kept happens now, as of its own time. What the store knows of its orders counts.
    pub(super) fn catch_up(&mut self, now: Now, out: &mut Out) {
        let Some(provisional) = self.provisional.take() else { return };
        if let Some((sequence, question)) = provisional.tariff_asked {
            match *question {
                Frame::TariffCheckRequest(check) => self.tariff_check(sequence, &check, out),
                _ => self.tariff_request(sequence, out),
            }
        }
        self.catching_up = true;
        for (then, kept) in provisional.kept {
            match kept {
                Kept::Frame(frame) => self.happened_before(then, &frame, out),
                Kept::Stop(serial) if self.held(serial).is_some() => {
                    self.happened(then, serial, Happening::StopRequested(StopCause::Caller), out);
                }
                // It is being looked up.
                Kept::Stop(serial) => self.stops.push((then, serial)),
            }
        }
        self.catching_up = false;
        self.order_timers(now, out);
        self.stop_what_charges(now, out);
        for (then, sequence, frame) in provisional.starts_asked {
            if now.mono < then.mono + STILL_WAITS {
                self.start_asked(now, then.mono, (sequence, &frame), out);
            }
        }
    }

    fn happened_before(&mut self, then: Now, frame: &Frame, out: &mut Out) {
        match frame {
            Frame::RealtimeData(data) => {
                if let Some(gun) = self.gun(data.gun_no) {
                    self.observed(then, gun, data, out);
                }
            }
            Frame::Heartbeat(heartbeat) => self.faulty(then, heartbeat.gun_no),
            Frame::BmsHandshake(_)
            | Frame::BmsParameters(_)
            | Frame::BmsError(_)
            | Frame::BmsStop(_)
            | Frame::ChargerStop(_) => self.bms(then, frame),
            Frame::BmsChargeEnd(end) => {
                self.bms(then, frame);
                self.charge_ended(then, end.transaction_serial, out);
            }
            Frame::RemoteStartResponse(answer) => {
                let (serial, reason) = (answer.transaction_serial, answer.fail_reason);
                self.start_answer(then, (serial, answer.start_result, reason), out);
            }
            Frame::RemoteStartResponseV18(answer) => {
                let (serial, reason) = (answer.transaction_serial, answer.fail_reason);
                self.start_answer(then, (serial, answer.start_result, reason), out);
            }
            Frame::ParallelRemoteStartResponse(answer) => {
                let (serial, reason) = (answer.transaction_serial, answer.fail_reason);
                self.start_answer(then, (serial, answer.start_result, reason), out);
            }
            Frame::RemoteStopResponse(answer) => self.stop_accepted(then, answer, out),
            _ => {}
        }
    }

    /// A charge that was stopped before anybody knew its order has been looked up.
    pub(in crate::session) fn stop_late(&mut self, serial: Serial, out: &mut Out) {
        let Some(at) = self.stops.iter().position(|(_, stopped)| *stopped == serial) else { return };
        let (then, _) = self.stops.swap_remove(at);
        self.happened(then, serial, Happening::StopRequested(StopCause::Caller), out);
    }
}

impl Provisional {
    /// The most that is kept: far more than happens while a store is away. What is older goes first, then stops.
    const MAX: usize = 64;

    fn keep(&mut self, now: Now, frame: &Frame) {
        if let Frame::RealtimeData(data) = frame {
            self.thin_out(data);
        }
        self.push(now, Kept::Frame(Box::new(frame.clone())));
    }

    /// What says nothing new when it comes again must not push out what does.
    fn keep_once(&mut self, now: Now, frame: &Frame) {
        let known = |(_, kept): &(Now, Kept)| matches!(kept, Kept::Frame(known) if **known == *frame);
        if !self.kept.iter().any(known) {
            self.keep(now, frame);
        }
    }

    fn stopped(&mut self, now: Now, serial: Serial) {
        let known = |(_, kept): &(Now, Kept)| matches!(kept, Kept::Stop(stopped) if *stopped == serial);
        if !self.kept.iter().any(known) {
            self.push(now, Kept::Stop(serial));
        }
    }

    fn push(&mut self, now: Now, kept: Kept) {
        if self.kept.len() >= Self::MAX {
            let frame = self.kept.iter().position(|(_, kept)| matches!(kept, Kept::Frame(_)));
            self.kept.remove(frame.unwrap_or(0));
        }
        self.kept.push_back((now, kept));
    }

    /// Of frames that say the same of a gun, the first and the last are enough: two of them are what a rule asks for.
    fn thin_out(&mut self, next: &wire::RealtimeData) {
        let of_gun = self.kept.iter().enumerate().rev().filter_map(|(at, (_, kept))| match kept {
            Kept::Frame(frame) => match &**frame {
                Frame::RealtimeData(data) if data.gun_no == next.gun_no => Some((at, says(data))),
                _ => None,
            },
            Kept::Stop(_) => None,
        });
        let newest: Vec<_> = of_gun.take(2).collect();
        if let [(last, says_last), (_, says_before)] = newest[..]
            && says_last == says(next)
            && says_before == says_last
        {
            self.kept.remove(last);
        }
    }

    fn latest(&self, gun: Gun, guns: u8) -> Option<&wire::RealtimeData> {
        self.kept.iter().rev().find_map(|(_, kept)| match kept {
            Kept::Frame(frame) => match &**frame {
                Frame::RealtimeData(data) if translate::gun(data.gun_no, guns) == Some(gun) => Some(data),
                _ => None,
            },
            Kept::Stop(_) => None,
        })
    }
}

/// The gun somebody wants to charge on.
fn gun_asked(frame: &Frame) -> Option<wire::GunNo> {
    match frame {
        Frame::StartRequest(ask) => Some(ask.gun_no),
        Frame::StartRequestV18(ask) => Some(ask.gun_no),
        Frame::ParallelStartRequest(ask) => Some(ask.gun_no),
        _ => None,
    }
}

/// A pile repeats its question, or has given up.
const STILL_WAITS: Duration = Duration::from_secs(30);

/// The serial a gun charges under.
fn charges(data: &wire::RealtimeData) -> Option<Serial> {
    let charging = data.status == wire::GunStatus::Charging && !data.transaction_serial.is_zero();
    charging.then(|| translate::serial(data.transaction_serial))
}

/// What of a 0x13 moves orders and guns.
fn says(data: &wire::RealtimeData) -> (wire::GunStatus, wire::YesNo, wire::Serial, wire::HardwareFaults) {
    (data.status, data.gun_plugged, data.transaction_serial, data.hardware_faults)
}
