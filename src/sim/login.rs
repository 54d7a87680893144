//! Connect, login, tariff, heartbeat: what keeps a pile on the platform (8.1, 8.2). Link timers are real time.

use std::sync::Arc;
use std::time::Duration;

use super::config::Behaviour;
use super::gun::Phase;
use super::link::{Link, Online, TariffState};
use super::pile::{Cx, Output, Pile};
use super::stats::{Count, Trouble};
use crate::domain::tariff::{Period, PricePair, Tariff};
use crate::domain::units::Price;
use crate::wire::{
    Ascii, Bcd, GunHealth, GunNo, Heartbeat, HeartbeatResponse, LoginRequest, LoginResponse, LoginResult, NetworkType,
    Operator, PeriodRate, PileType, ProtocolVersion, StopReason, TariffCheck, TariffCheckRequest, TariffCheckResponse,
    TariffNo, TariffRequest, TariffResponse, TariffSet,
};

impl Pile {
    /// Logged in.
    pub fn online(&self) -> bool {
        matches!(self.link, Link::Online(_))
    }

    /// Logged in and past the power-up sequence.
    pub fn ready(&self) -> bool {
        matches!(self.link, Link::Online(Online { ready: true, .. }))
    }

    pub(super) fn connected(&mut self, cx: &mut Cx) {
        let Link::Connecting { attempt } = self.link else {
            // Held or restarted meanwhile: this connection is nobody's.
            return cx.out.push(Output::Close);
        };
        self.restart_sequence();
        self.log_in(cx, attempt, 1);
    }

    fn log_in(&mut self, cx: &mut Cx, attempt: u32, asked: u8) {
        self.link = Link::LoggingIn { again_at: cx.now.mono + self.config.login_again, attempt, asked };
        let version = format!("SIM{}.{}", env!("CARGO_PKG_VERSION_MAJOR"), self.software);
        let login = LoginRequest {
            pile_code: self.code,
            pile_type: if self.config.dc { PileType::Dc } else { PileType::Ac },
            gun_count: self.config.guns,
            protocol_version: ProtocolVersion(self.config.protocol_version),
            software_version: Ascii::new(&version).unwrap_or(Ascii::ZERO),
            network_type: NetworkType::Lan,
            sim_card: Bcd::ZERO,
            operator: Operator::Other,
        };
        self.send(cx, login);
    }

    /// The connection is gone, or never came about: what hung on it is over, charges go on.
    pub(super) fn lost(&mut self, cx: &mut Cx) {
        let attempt = match self.link {
            Link::Away | Link::Down { .. } => return,
            // A platform that accepts connections and drops them is no better than one that is not there.
            Link::Connecting { attempt } | Link::LoggingIn { attempt, .. } => attempt,
            Link::Online(_) => {
                cx.count(Count::Offline);
                0
            }
        };
        let pause = self.config.reconnect.pause(attempt);
        let jitter = self.rng.span(pause / 2);
        self.go_down(cx, pause + jitter, attempt.saturating_add(1));
    }

    fn go_down(&mut self, cx: &mut Cx, pause: Duration, attempt: u32) {
        self.unlink(Link::Down { retry_at: cx.now.mono + pause, attempt });
    }

    fn unlink(&mut self, link: Link) {
        self.link = link;
        for gun in &mut self.guns {
            // Nobody will answer what was asked on the old connection.
            if let Phase::Asking(_) = gun.phase {
                gun.phase = Phase::Idle;
            }
        }
    }

    /// When the connection is to be dropped, when it is to be forgotten, and when the pile is to fall silent on it.
    fn planned(&self, online: &Online) -> [Option<Duration>; 3] {
        let drop = self.behaviour(|b| if let Behaviour::DropEvery(after) = b { Some(*after) } else { None });
        let forget = self.behaviour(|b| if let Behaviour::HalfOpenEvery(after) = b { Some(*after) } else { None });
        let silence = self.behaviour(|b| if let Behaviour::SilentAfter(after) = b { Some(*after) } else { None });
        [drop, forget, silence.filter(|_| !self.silent)].map(|after| after.map(|after| online.since + after))
    }

    pub(super) fn link_deadline(&self) -> Option<Duration> {
        let planned = if let Link::Online(online) = &self.link { self.planned(online) } else { [None; 3] };
        planned.into_iter().chain([self.link.deadline()]).flatten().min()
    }

    pub(super) fn drop_connection(&mut self, cx: &mut Cx) {
        if self.link.is_up() {
            cx.out.push(Output::Close);
            self.lost(cx);
        }
    }

    /// Leaves the connection as it is and takes another one, at the next address and at once.
    pub(super) fn forget_connection(&mut self, cx: &mut Cx) {
        if !self.link.is_up() {
            return;
        }
        if self.online() {
            cx.count(Count::Offline);
        }
        cx.count(Count::HalfOpen);
        cx.out.push(Output::Forget);
        self.connect_now(cx);
    }

    /// Whether the pile stays away.
    pub fn held(&self) -> bool {
        matches!(self.link, Link::Away)
    }

    pub(super) fn hold(&mut self, cx: &mut Cx) {
        if self.online() {
            cx.count(Count::Offline);
        }
        if self.link.is_up() {
            cx.out.push(Output::Close);
        }
        cx.out.push(Output::CloseForgotten);
        self.unlink(Link::Away);
    }

    pub(super) fn resume(&mut self, cx: &mut Cx) {
        if self.held() {
            self.connect_now(cx);
        }
    }

    fn connect_now(&mut self, cx: &mut Cx) {
        self.unlink(Link::Connecting { attempt: 0 });
        cx.out.push(Output::Connect);
    }

    /// Loses what is not kept without power, and comes back.
    pub(super) fn restart(&mut self, cx: &mut Cx) {
        self.restart_when_idle = false;
        for index in 0..self.guns.len() {
            self.end(cx, index, StopReason::AbortedPileLostPower);
        }
        if self.online() {
            cx.count(Count::Offline);
        }
        if self.link.is_up() {
            cx.out.push(Output::Close);
        }
        cx.count(Count::Restart);
        // Power does not end what somebody holds.
        if !self.held() {
            self.go_down(cx, RESTART, 0);
        }
    }

    pub(super) fn tick_link(&mut self, cx: &mut Cx) {
        let now = cx.now.mono;
        match self.link {
            Link::Down { retry_at, attempt } if retry_at <= now => {
                self.link = Link::Connecting { attempt };
                cx.out.push(Output::Connect);
            }
            Link::LoggingIn { again_at, attempt, asked } if again_at <= now => {
                cx.count(Count::Trouble(Trouble::LoginUnanswered));
                if asked < LOGIN_TIMES {
                    self.log_in(cx, attempt, asked + 1);
                } else {
                    self.drop_connection(cx);
                }
            }
            Link::Away | Link::Down { .. } | Link::Connecting { .. } | Link::LoggingIn { .. } => {}
            Link::Online(online) => self.tick_online(cx, online),
        }
    }

    fn tick_online(&mut self, cx: &mut Cx, mut online: Online) {
        let now = cx.now.mono;
        let [drop, forget, silence] = self.planned(&online);
        if drop.is_some_and(|at| at <= now) {
            return self.drop_connection(cx);
        }
        if forget.is_some_and(|at| at <= now) {
            return self.forget_connection(cx);
        }
        if silence.is_some_and(|at| at <= now) {
            self.silent = true;
        }
        match online.tariff {
            TariffState::Checking { again_at } if again_at <= now => {
                online.tariff = TariffState::Checking { again_at: now + self.config.login_again };
                self.send(cx, TariffCheckRequest { pile_code: self.code, tariff_model_no: self.tariff_no });
            }
            TariffState::Fetching { again_at } if again_at <= now => {
                online.tariff = TariffState::Fetching { again_at: now + self.config.login_again };
                self.send(cx, TariffRequest { pile_code: self.code });
            }
            TariffState::Checking { .. } | TariffState::Fetching { .. } | TariffState::Known => {}
        }
        // A platform that does not answer about tariffs still gets heartbeats, if a round later.
        if online.heartbeat_at > now && (online.ready || online.tariff != TariffState::Known) {
            self.link = Link::Online(online);
            return;
        }
        if online.unanswered >= MISSED && !self.silent {
            cx.count(Count::Trouble(Trouble::HeartbeatsUnanswered));
            return self.drop_connection(cx);
        }
        let first = !std::mem::replace(&mut online.ready, true);
        if !self.silent {
            online.unanswered += 1;
            online.heartbeat_sent = Some(now);
        }
        online.heartbeat_at = now + self.config.heartbeat;
        self.link = Link::Online(online);
        if first {
            self.outbox.replay(now);
            self.send_records(cx);
        }
        for index in 0..self.guns.len() {
            let gun = &self.guns[index];
            let gun_status = if gun.faults == 0 { GunHealth::Normal } else { GunHealth::Fault };
            let heartbeat = Heartbeat { pile_code: self.code, gun_no: GunNo::from_number(gun.no), gun_status };
            self.send(cx, heartbeat);
            if !self.silent {
                cx.count(Count::HeartbeatSent);
            }
        }
        if first {
            for index in 0..self.guns.len() {
                self.report(cx, index);
            }
        }
    }

    pub(super) fn login_response(&mut self, cx: &mut Cx, row: &LoginResponse) {
        if row.result == LoginResult::Accepted {
            // A second "accepted" says nothing new.
            if self.online() {
                return;
            }
            let now = cx.now.mono;
            self.link = Link::Online(Online {
                since: now,
                tariff: TariffState::Checking { again_at: now },
                ready: false,
                heartbeat_at: now + self.config.heartbeat,
                heartbeat_sent: None,
                unanswered: 0,
            });
            let again = std::mem::replace(&mut self.was_online, true);
            cx.count(Count::Login { again });
        } else {
            if self.online() {
                cx.count(Count::Offline);
            }
            cx.count(Count::Trouble(Trouble::LoginRejected));
            cx.out.push(Output::Close);
            self.go_down(cx, self.config.reconnect.max, 0);
        }
    }

    pub(super) fn heartbeat_response(&mut self, cx: &mut Cx, _row: &HeartbeatResponse) {
        let Link::Online(online) = &mut self.link else { return };
        online.unanswered = 0;
        cx.count(Count::HeartbeatAnswered);
        // The first answer of a round is timed.
        if let Some(sent) = online.heartbeat_sent.take() {
            cx.count(Count::RoundTrip(cx.now.mono.saturating_sub(sent)));
        }
    }

    pub(super) fn tariff_check_response(&mut self, cx: &mut Cx, row: &TariffCheckResponse) {
        let Link::Online(online) = &mut self.link else { return };
        // "Same" helps nobody who has none.
        online.tariff = if row.result == TariffCheck::Same && self.tariff.is_some() {
            TariffState::Known
        } else {
            TariffState::Fetching { again_at: cx.now.mono }
        };
    }

    pub(super) fn tariff_response(&mut self, row: &TariffResponse) {
        let TariffResponse {
            pile_code,
            tariff_model_no,
            sharp_energy_price,
            sharp_service_price,
            peak_energy_price,
            peak_service_price,
            flat_energy_price,
            flat_service_price,
            valley_energy_price,
            valley_service_price,
            loss_ratio,
            period_rate,
        } = *row;
        // The same body under another code.
        let row = TariffSet {
            pile_code,
            tariff_model_no,
            sharp_energy_price,
            sharp_service_price,
            peak_energy_price,
            peak_service_price,
            flat_energy_price,
            flat_service_price,
            valley_energy_price,
            valley_service_price,
            loss_ratio,
            period_rate,
        };
        self.set_tariff(&row);
    }

    /// Stores a tariff; `false` if it has classes that do not exist.
    pub(super) fn set_tariff(&mut self, row: &TariffSet) -> bool {
        let Some(tariff) = tariff(row) else { return false };
        self.store_tariff(row.tariff_model_no, tariff);
        self.loss_percent = row.loss_ratio;
        true
    }

    fn store_tariff(&mut self, number: TariffNo, tariff: Tariff) {
        self.tariff_no = number;
        self.tariff = Some(Arc::new(tariff));
        if let Link::Online(online) = &mut self.link {
            online.tariff = TariffState::Known;
        }
    }
}

fn tariff(row: &TariffSet) -> Option<Tariff> {
    let pair = |energy: crate::wire::Price, service: crate::wire::Price| PricePair {
        energy: Price(energy.raw()),
        service: Price(service.raw()),
    };
    let prices = [
        pair(row.sharp_energy_price, row.sharp_service_price),
        pair(row.peak_energy_price, row.peak_service_price),
        pair(row.flat_energy_price, row.flat_service_price),
        pair(row.valley_energy_price, row.valley_service_price),
    ];
    let mut half_hours = [Period::Flat; 48];
    for (period, rate) in half_hours.iter_mut().zip(row.period_rate.0) {
        *period = match rate {
            PeriodRate::Sharp => Period::Sharp,
            PeriodRate::Peak => Period::Peak,
            PeriodRate::Flat => Period::Flat,
            PeriodRate::Valley => Period::Valley,
            PeriodRate::Unknown(_) => return None,
        };
    }
    Some(Tariff { prices, half_hours })
}

/// Unanswered heartbeats after which the link is dead.
const MISSED: u8 = 3;
/// Unanswered 0x01 after which the connection is as good as none.
const LOGIN_TIMES: u8 = 3;
const RESTART: Duration = Duration::from_secs(3);
