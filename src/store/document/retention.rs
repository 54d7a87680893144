//! How long what is over is kept.

use std::time::Duration;

use super::sortable;
use crate::domain::WallMs;
use crate::settings::Problem;

/// Of the `[retention]` section. What was written under other values keeps the times it was written with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// An order that is over (settled, failed, closed) is deleted so long after its last change, and the body of its
    /// record so long after its settlement. The events are the archive.
    pub orders: Duration,
    /// What is left of a record then – pile, serial, digest – stays so long: a late copy is still known to be one, and
    /// the order is not made again.
    pub tombstones: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Self { orders: DAY * 14, tombstones: DAY * 400 }
    }
}

impl Retention {
    pub fn problems(&self) -> Vec<Problem> {
        let Self { orders, tombstones } = self;
        let check = |key, value: &Duration, (least, most), reason| {
            let is_bad = !(DAY * least..=DAY * most).contains(value);
            is_bad.then(|| Problem { key, value: format!("{value:?}"), reason })
        };
        let orders = check("orders", orders, (1, 3650), "must be 1d to 3650d");
        let tombstones = check("tombstones", tombstones, (1, 36500), "must be 1d to 36500d");
        orders.into_iter().chain(tombstones).collect()
    }

    /// For what has waited so long to be stored.
    #[must_use]
    pub fn longer_by(self, waited: Duration) -> Self {
        Self { orders: self.orders + waited, ..self }
    }

    /// When an order goes that was over at `at`.
    pub(super) fn order_goes(&self, at: WallMs) -> WallMs {
        at.plus_ms(ms(self.orders))
    }

    /// When an order goes that was closed without its record at `at`: a record that still comes is held against it.
    pub(super) fn closed_order_goes(&self, at: WallMs) -> WallMs {
        self.order_goes(at).plus_ms(ms(self.tombstones))
    }

    /// When a record that is settled at `at` shrinks, and when it goes: [`Settlement::due`](crate::store::Settlement::due).
    pub fn record_due(&self, at: WallMs) -> [String; 2] {
        let shrinks = self.order_goes(at);
        [shrinks, shrinks.plus_ms(ms(self.tombstones))].map(sortable)
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

const DAY: Duration = Duration::from_hours(24);
