//! Orders a session holds in memory.

use std::time::Duration;

use crate::domain::command::{ParallelStart, Start};
use crate::domain::order::{Change, Happening, StopAtLogin};
use crate::domain::pile::TariffOnPile;
use crate::domain::{Order, WallMs};
use crate::observe;
use crate::session::jobs::Jobs;
use crate::session::pending::CommandId;

/// An open order in memory.
pub struct Held {
    pub order: Order,
    /// As stored; `None` until it is.
    pub version: Option<u64>,
    /// Differs from what is stored.
    pub dirty: bool,
    /// What will open it, while that has not been written.
    pub unsent: Option<Box<Unsent>>,
    /// It was stored once, and the store has lost it, or what had started it: its request id has to be put again with it.
    pub lost: bool,
    /// The last planned stop that was carried out or has expired here, of which the store may not know yet.
    pub ended_plan: Option<StopAtLogin>,
    /// Of a vehicle on two guns: what became of the other one's order is known, although it is not held.
    pub companion_known: bool,
}

/// An order on its way to the store.
pub struct Unsent {
    pub opening: Opening,
    /// Past this, nothing is written any more.
    pub deadline: Duration,
    /// How many more serials may be tried if this one is taken.
    pub serials_left: u8,
}

/// A tariff on its way to the pile (0x58), and the starts that come after it.
pub struct TariffPush {
    /// What the pile had before, and keeps if it refuses.
    pub before: TariffOnPile,
    /// At most as many as wait for one pile.
    pub starts: Vec<(CommandId, Awaiting, Duration)>,
}

/// What begins once the pile has its tariff.
pub enum Awaiting {
    One(Box<Start>),
    Both(Box<ParallelStart>),
}

impl Awaiting {
    pub fn expected_tariff(&self) -> Option<u64> {
        match self {
            Self::One(start) => start.expected_tariff,
            Self::Both(start) => start.expected_tariff,
        }
    }
}

/// What tells the pile of the order, once it is durable.
#[derive(Clone)]
pub enum Opening {
    /// A caller wants it: 0x34.
    Remote(Box<Start>),
    /// A caller wants it on one of two guns: 0xA4.
    Parallel { logical_card: [u8; 8], physical_card: [u8; 8] },
    /// Somebody at the pile asks for it: 0x32, 0xA2 or 0xA6.
    AtPile,
}

impl Held {
    /// Not stored yet.
    pub fn new(order: Order) -> Self {
        let (version, dirty, unsent, lost) = (None, false, None, false);
        Self { order, version, dirty, unsent, lost, ended_plan: None, companion_known: false }
    }

    pub fn stored(order: Order, version: u64) -> Self {
        Self { version: Some(version), ..Self::new(order) }
    }

    /// When time itself moves the order on. Before it is opened it has not begun: its deadline judges it.
    pub fn due(&self) -> Option<WallMs> {
        if self.unsent.is_some() { None } else { self.order.due() }
    }

    /// Moves the order on, and says what has become of it.
    pub fn apply(&mut self, now: WallMs, what: Happening) -> Vec<Change> {
        let plan = self.order.stop_at_login;
        let changes = self.order.apply(now, what);
        self.dirty |= !changes.is_empty();
        if self.order.stop_at_login.is_none() {
            self.ended_plan = plan.or(self.ended_plan);
        }
        changes
    }

    /// What is stored is not what was written last. Ours is the newer, but for a stop that was planned while nobody knew of
    /// this session: only that is ever wished of an order that a session holds without asking the session.
    pub fn finds_stored(&mut self, stored: &Order, version: u64, jobs: &mut Jobs) {
        self.version = Some(version);
        // The other way round: it was found by its serial here, and somebody who knew what had started it put it again.
        if self.order.learns_beginning(stored) {
            self.dirty = true;
            jobs.beginning_found(stored);
        }
        // The store had lost it, and somebody found it by its serial, without learning what had started it.
        self.lost |= self.order.request.is_some() && stored.request.is_none();
        let news = |plan: &StopAtLogin| self.ended_plan.is_none_or(|ended| plan.requested_at > ended.requested_at);
        if let Some(plan) = stored.stop_at_login.filter(news) {
            self.order.stop_at_login = self.order.stop_at_login.or(Some(plan));
            jobs.plan_found(self.order.serial, plan);
        }
    }

    pub fn occupies_gun(&self) -> bool {
        self.order.occupies_gun()
    }
}

/// What an operator reads in the log of an order's life, a line per change; breaches are counted too.
pub fn tell_operator(order: &Order, change: Change) {
    let Order { pile, gun, serial, .. } = order;
    match change {
        Change::Anomaly(kind) => {
            observe::anomaly(kind.name());
            tracing::warn!(%pile, %gun, %serial, kind = kind.name(), "order anomaly");
        }
        Change::Created
        | Change::WaitingForPlug
        | Change::Accepted
        | Change::Charging
        | Change::StopRequested
        | Change::RepeatStop
        | Change::Finished
        | Change::Failed
        | Change::Settled
        | Change::Closed
        | Change::StopPlanned
        | Change::StopExpired
        | Change::BalanceLow => {
            tracing::info!(%pile, %gun, %serial, state = order.state.name(), ?change, "order changed");
        }
    }
}

/// More than a pile with broken records ever needs.
pub const MAX_ORDERS: usize = 64;
/// No document has this version: they begin at 1.
pub const NOT_STORED: u64 = 0;
