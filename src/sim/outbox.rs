//! Records until they are acknowledged (8.7).

use std::time::Duration;

use crate::wire::{Frame, Serial};

/// Records that wait for 0x40.
#[derive(Debug, Default)]
pub(super) struct Outbox(Vec<Stored>);

#[derive(Debug)]
struct Stored {
    serial: Serial,
    record: Box<Frame>,
    /// Since the last login or, for a new record, since it was made.
    sends: usize,
    /// Never sent at all.
    fresh: bool,
    /// `None`: kept for the next login.
    due: Option<Duration>,
}

impl Outbox {
    /// Keeps a record, due at once. A pile's memory is finite: the oldest goes, and is returned.
    pub(super) fn keep(&mut self, serial: Serial, record: Frame, now: Duration) -> Option<Serial> {
        let lost = (self.0.len() == CAPACITY).then(|| self.0.remove(0).serial);
        self.0.push(Stored { serial, record: Box::new(record), sends: 0, fresh: true, due: Some(now) });
        lost
    }

    /// The next record due, and whether it was never sent before. Plans its repetition: `every` so long, or by the book.
    pub(super) fn next(&mut self, now: Duration, every: Option<Duration>) -> Option<(Serial, Frame, bool)> {
        let stored = self.0.iter_mut().find(|stored| stored.due.is_some_and(|due| due <= now))?;
        // A millisecond at least: what is due again at once would be sent for ever.
        let every = every.map(|every| every.max(Duration::from_millis(1)));
        stored.due = every.or_else(|| REPEAT_AFTER.get(stored.sends).copied()).map(|pause| now + pause);
        stored.sends += 1;
        let fresh = std::mem::take(&mut stored.fresh);
        Some((stored.serial, (*stored.record).clone(), fresh))
    }

    /// Everything is due again, from the first transmission on.
    pub(super) fn replay(&mut self, now: Duration) {
        for stored in &mut self.0 {
            (stored.sends, stored.due) = (0, Some(now));
        }
    }

    /// Forgets a record; whether there was one.
    pub(super) fn forget(&mut self, serial: Serial) -> bool {
        let before = self.0.len();
        self.0.retain(|stored| stored.serial != serial);
        self.0.len() < before
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn deadline(&self) -> Option<Duration> {
        self.0.iter().filter_map(|stored| stored.due).min()
    }
}

const CAPACITY: usize = 64;

/// From each transmission to the next: 30 s, three times, then once after 5 min (A26).
const REPEAT_AFTER: [Duration; 4] =
    [Duration::from_secs(30), Duration::from_secs(30), Duration::from_secs(30), Duration::from_mins(5)];
