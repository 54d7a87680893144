//! Ending an order whose record never comes.

use serde::{Deserialize, Serialize};

use super::{Change, Order, OrderState};
use crate::domain::record::Record;
use crate::domain::units::{Amount, Energy, WallMs};

/// What an operator says when it ends an order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Close {
    /// Why, in the operator's words.
    pub reason: String,
    /// What the charge came to; `None`: what the pile last metered.
    pub given: Option<(Energy, Amount)>,
    /// Also an order of which nobody can say that its record is overdue.
    pub force: bool,
}

/// How an order was ended without its record.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Closing {
    pub at: WallMs,
    pub reason: String,
    pub energy: Energy,
    pub amount: Amount,
    pub source: ClosingSource,
}

/// Where the amounts of a closing come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClosingSource {
    /// The last 0x13 that charged under the order's serial; zero if there was none.
    LastTelemetry,
    /// The operator.
    Given,
}

/// A record less the closing it came after: what the operator has to correct.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RecordAfterClose {
    /// In 0.0001 kWh; negative if the record says less.
    pub energy: i64,
    /// Negative if the record says less.
    pub amount: Amount,
}

impl Order {
    /// Whether an operator may end it now without insisting: its record is overdue, or a rule was broken. While it starts
    /// or charges, its record is not even due.
    pub fn is_overdue(&self, now: WallMs) -> bool {
        let owed = |since: WallMs| now >= since.plus_ms(super::machine::RECORD_MS);
        match self.state {
            OrderState::Abnormal => true,
            OrderState::Finished | OrderState::Failed => owed(self.ended_at.unwrap_or(self.updated_at)),
            OrderState::Stopping => {
                let asked = self.stop.map_or(self.updated_at, |stop| stop.last_sent_at);
                owed(self.ended_at.map_or(asked, |ended| ended.max(asked)))
            }
            OrderState::Requested
            | OrderState::WaitingForPlug
            | OrderState::Starting
            | OrderState::Charging
            | OrderState::Settled
            | OrderState::ClosedWithoutRecord => false,
        }
    }

    /// Whether it may be ended was judged before.
    pub(super) fn close(&mut self, now: WallMs, close: Close) -> Vec<Change> {
        let Close { reason, given, force: _ } = close;
        let source = if given.is_some() { ClosingSource::Given } else { ClosingSource::LastTelemetry };
        let metered = || self.last.map_or((Energy(0), Amount(0)), |last| (last.energy, last.amount));
        let (energy, amount) = given.unwrap_or_else(metered);
        if self.closed(Closing { at: now, reason, energy, amount, source }) { vec![Change::Closed] } else { vec![] }
    }

    /// Nothing ends what has ended: `false`.
    pub fn closed(&mut self, closing: Closing) -> bool {
        if matches!(self.state, OrderState::Settled | OrderState::ClosedWithoutRecord) {
            return false;
        }
        self.ended_at = self.ended_at.or(Some(closing.at));
        self.updated_at = self.updated_at.max(closing.at);
        self.closing = Some(closing);
        self.plug_deadline = None;
        self.state = OrderState::ClosedWithoutRecord;
        true
    }
}

impl Closing {
    pub(super) fn exceeded_by(&self, record: &Record) -> RecordAfterClose {
        let signed = |energy: Energy| i64::try_from(energy.0).unwrap_or(i64::MAX);
        RecordAfterClose {
            energy: signed(record.total_energy).saturating_sub(signed(self.energy)),
            amount: record.total_amount - self.amount,
        }
    }
}
