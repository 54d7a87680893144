//! What pileway talks about, apart from how it is said on any wire or kept in any store.
//!
//! PURE: no I/O, no clock (`now` is always an argument), no wire, nothing else of ours. The words are those of the
//! field: a pile has guns, an order is one charge, a record is the pile's bill for it.

pub mod ids;
pub mod units;
pub mod driver;
pub mod tariff;
pub mod record;
pub mod vehicle;
pub mod order;
pub mod alarm;
pub mod pile;
pub mod telemetry;
pub mod curve;
pub mod command;
pub mod event;

pub use command::{Command, CommandError, Reply};
pub use event::{Event, EventKind};
pub use ids::{BadId, Epoch, Fence, Gun, PileCode, RequestId, Serial, SessionId};
pub use order::{Order, OrderState};
pub use pile::Pile;
pub use record::{Bill, Record};
pub use tariff::{Period, Tariff};
pub use telemetry::Telemetry;
pub use units::{Amount, Energy, Price, WallMs};
