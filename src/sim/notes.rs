//! What a pile remembers of its orders and commands, for whoever wants to know afterwards whether all went right.
//!
//! Counters say how much; notes say which. Only a pile that is told to take notes does.

use std::collections::VecDeque;

use tokio::time::Instant;

use super::stats::Count;
use crate::domain::{PileCode, Serial};

/// One pile's notes, the oldest of each kind first.
#[derive(Clone, Debug, Default)]
pub struct Notes {
    /// Every order the pile has heard of, or has made.
    pub orders: VecDeque<OrderNote>,
    /// Every frame that was no answer, obeyed or not.
    pub commands: VecDeque<CommandNote>,
    /// Orders and commands that were too many, the oldest: whoever counts wants 0 here.
    pub forgotten: u64,
}

/// What became of one serial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderNote {
    /// The order.
    pub serial: Serial,
    /// 0x34, 0xA8 and 0xA4 received. More than one: the platform asked twice.
    pub starts: u32,
    /// 0x36 received while it ran.
    pub stops: u32,
    /// Times that current began to flow. More than one: somebody pays twice.
    pub charges: u32,
    /// Records made.
    pub records: u32,
    /// Transmissions of its records.
    pub sends: u32,
    /// Whether 0x40 with result 0 has come for what was recorded.
    pub acked: bool,
    /// The record made room for another, unacknowledged: it will not be sent any more.
    pub lost: bool,
}

/// A frame from the platform that was no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandNote {
    /// Its type, such as 0x34.
    pub code: u8,
    /// The order it names; of 0x36, the one that ran on its gun.
    pub serial: Option<Serial>,
    /// When the pile read it.
    pub at: Instant,
}

/// The notes of a fleet at one moment.
#[derive(Clone, Debug)]
pub struct Ledger {
    /// Every pile, in the order of their codes.
    pub piles: Vec<(PileCode, Notes)>,
}

impl Ledger {
    /// Every order of every pile.
    pub fn orders(&self) -> impl Iterator<Item = (PileCode, &OrderNote)> {
        self.piles.iter().flat_map(|(pile, notes)| notes.orders.iter().map(|order| (*pile, order)))
    }

    /// Orders that have a record.
    pub fn records(&self) -> impl Iterator<Item = (PileCode, &OrderNote)> {
        self.orders().filter(|(_, order)| order.records > 0)
    }

    /// Orders with a record that nobody has acknowledged.
    pub fn unacked(&self) -> impl Iterator<Item = (PileCode, &OrderNote)> {
        self.records().filter(|(_, order)| !order.acked)
    }

    /// Orders that the platform started more than once, or that charged more than once.
    pub fn doubled(&self) -> impl Iterator<Item = (PileCode, &OrderNote)> {
        self.orders().filter(|(_, order)| order.starts > 1 || order.charges > 1)
    }

    /// Every command of this type (0x34, say), pile by pile as they came.
    pub fn commands(&self, code: u8) -> impl Iterator<Item = (PileCode, &CommandNote)> {
        let all = self.piles.iter().flat_map(|(pile, notes)| notes.commands.iter().map(|command| (*pile, command)));
        all.filter(move |(_, command)| command.code == code)
    }

    /// What did not fit into the notes of all piles.
    pub fn forgotten(&self) -> u64 {
        self.piles.iter().map(|(_, notes)| notes.forgotten).sum()
    }
}

impl Notes {
    /// Takes note of what happened, keeping `room` of each kind.
    pub(super) fn take(&mut self, room: usize, at: Instant, count: Count) {
        match count {
            Count::Command { code, serial } => {
                if let Some(serial) = serial {
                    let starts = u32::from(STARTS.contains(&code));
                    let stops = u32::from(code == STOP);
                    if starts + stops > 0 {
                        self.order(room, serial, |order| {
                            order.starts += starts;
                            order.stops += stops;
                        });
                    }
                }
                self.forgotten += make_room(&mut self.commands, room);
                self.commands.push_back(CommandNote { code, serial, at });
            }
            Count::ChargeStarted(serial) => self.order(room, serial, |order| order.charges += 1),
            Count::RecordMade(serial) => self.order(room, serial, |order| {
                order.records += 1;
                (order.acked, order.lost) = (false, false);
            }),
            Count::RecordSent(serial) | Count::RecordRepeated(serial) => {
                self.order(room, serial, |order| order.sends += 1);
            }
            Count::RecordAcked(serial) => self.order(room, serial, |order| order.acked = true),
            Count::RecordLost(serial) => self.order(room, serial, |order| order.lost = true),
            Count::Login { .. }
            | Count::Offline
            | Count::Restart
            | Count::FrameIn
            | Count::Misdirected
            | Count::HeartbeatSent
            | Count::HeartbeatAnswered
            | Count::RoundTrip(_)
            | Count::StartAsked
            | Count::StartAccepted
            | Count::StartRefused
            | Count::StopAsked
            | Count::ChargeFinished { .. }
            | Count::RecordRefused
            | Count::HalfOpen
            | Count::Trouble(_) => {}
        }
    }

    fn order(&mut self, room: usize, serial: Serial, change: impl FnOnce(&mut OrderNote)) {
        // What is noted is mostly about the newest.
        if let Some(order) = self.orders.iter_mut().rev().find(|order| order.serial == serial) {
            return change(order);
        }
        self.forgotten += make_room(&mut self.orders, room);
        let mut order =
            OrderNote { serial, starts: 0, stops: 0, charges: 0, records: 0, sends: 0, acked: false, lost: false };
        change(&mut order);
        self.orders.push_back(order);
    }
}

/// Makes room for one more; how many had to go.
fn make_room<T>(notes: &mut VecDeque<T>, room: usize) -> u64 {
    u64::from(notes.len() >= room && notes.pop_front().is_some())
}

/// 0x34, 0xA4, 0xA8.
const STARTS: [u8; 3] = [0x34, 0xA4, 0xA8];
const STOP: u8 = 0x36;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_acknowledged_only_until_it_leaves_another_record() {
        let mut notes = Notes::default();
        let serial = Serial::from_bytes([1; 16]);
        let mut after = |count| {
            notes.take(10, Instant::now(), count);
            let order = notes.orders.back().expect("the order");
            (order.records, order.sends, order.acked, order.lost)
        };
        let steps = [
            (Count::RecordMade(serial), (1, 0, false, false)),
            (Count::RecordSent(serial), (1, 1, false, false)),
            (Count::RecordAcked(serial), (1, 1, true, false)),
            // A second charge under the same serial: nobody has that record yet.
            (Count::RecordMade(serial), (2, 1, false, false)),
            (Count::RecordSent(serial), (2, 2, false, false)),
            (Count::RecordRepeated(serial), (2, 3, false, false)),
            (Count::RecordLost(serial), (2, 3, false, true)),
        ];
        for (count, expected) in steps {
            assert_eq!(after(count), expected, "{count:?}");
        }
        assert_eq!((notes.orders.len(), notes.forgotten), (1, 0));
    }
}
