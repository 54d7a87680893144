//! Simulated piles: the other side of the protocol.
//!
//! [`Pile`] is a pile as a pure state machine; [`spawn`] runs one over TCP; [`Fleet`] runs thousands, spread over the
//! addresses of a platform, and reports. Piles that take [`Notes`] can be asked afterwards what became of every order. All
//! of it follows the protocol's description, not this crate's server: it uses [`crate::wire`] and value types of
//! [`crate::domain`] only, and works against any YKC platform.

mod config;
mod pile;
mod link;
mod gun;
mod login;
mod command;
mod charging;
mod parallel;
mod charge;
mod vehicle;
mod outbox;
mod frames;
mod clock;
mod rng;
mod view;
mod stats;
mod notes;
mod actor;
mod fleet;

pub use actor::{Handle, spawn};
pub use charge::Bill;
pub use clock::Now;
pub use config::{AutoCharge, BadBehaviour, Behaviour, PileConfig, Reconnect};
pub use fleet::{AddressReport, Fleet, FleetConfig, Percentiles, Report};
pub use notes::{CommandNote, Ledger, Notes, OrderNote};
pub use pile::{Action, Input, Output, Pile};
pub use stats::{Count, Counters, Histogram, Place, Stats, Trouble};
pub use view::{ChargeView, GunView, View};
