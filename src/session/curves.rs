//! The curves of the charges that run: moments are collected as frames come, and go to the store in chunks.
//!
//! ```text
//!   0x13 charging ──▶ a moment ◀── 0x23, 0x25 close by
//!                       │ 5 min after the first, or the end of the charge
//!                       ▼
//!                     chunk ──stored──▶ forgotten
//!                       └─not stored──▶ kept, tried again a minute later, with what has come meanwhile
//! ```
//!
//! A chunk stays here until it is stored, so that a store that is away costs nothing for a while; then its oldest moments
//! go. It is not journaled: what waits there is worth money, and this is not.

use std::time::Duration;

use super::Now;
use crate::domain::curve::{Chunk, Demanded, Extremes, Point};
use crate::domain::telemetry::{Live, Status};
use crate::domain::{Gun, PileCode, Serial, WallMs};

/// At most one per gun that charges, and a few that have ended and are not stored yet. Nothing, while nothing charges.
#[derive(Default)]
pub struct Curves(Vec<Curve>);

struct Curve {
    gun: Gun,
    serial: Serial,
    points: Vec<Point>,
    /// The last 0x23 and 0x25 that found no moment to belong to.
    demand: Option<(WallMs, Demanded)>,
    extremes: Option<(WallMs, Extremes)>,
    /// When to store it; `None` while there is nothing to store.
    due: Option<Duration>,
    /// The charge has ended.
    over: bool,
}

impl Curves {
    /// 0x13
    pub fn live(&mut self, now: Now, gun: Gun, serial: Option<Serial>, live: &Live) {
        match (live.status, serial) {
            (Status::Charging, Some(serial)) => {
                self.end(now, |curve| curve.gun == gun && curve.serial != serial);
                self.of(gun, serial).measured(now, live);
                self.bound();
            }
            (Status::Charging | Status::Unknown(_), _) => {}
            (Status::Idle | Status::Fault | Status::Offline, _) => self.end(now, |curve| curve.gun == gun),
        }
    }

    /// 0x23. Of a charge of which no 0x13 has come yet, it is not kept.
    pub fn demanded(&mut self, at: WallMs, serial: Serial, demanded: Demanded) {
        let Some(curve) = self.running(serial) else { return };
        match curve.points.last_mut() {
            Some(point) if point.demand.is_none() && at.since(point.at) <= CLOSE_BY_MS => point.demand = Some(demanded),
            _ => curve.demand = Some((at, demanded)),
        }
    }

    /// 0x25, likewise.
    pub fn extremes(&mut self, at: WallMs, serial: Serial, extremes: Extremes) {
        let Some(curve) = self.running(serial) else { return };
        match curve.points.last_mut() {
            Some(point) if point.extremes.is_none() && at.since(point.at) <= CLOSE_BY_MS => {
                point.extremes = Some(extremes);
            }
            _ => curve.extremes = Some((at, extremes)),
        }
    }

    /// The charge has ended: what there is of its curve is due.
    pub fn end_of(&mut self, now: Now, serial: Serial) {
        self.end(now, |curve| curve.serial == serial);
    }

    /// The session has ended: also what waited to be tried again is due.
    pub fn end_all(&mut self, now: Now) {
        for curve in &mut self.0 {
            (curve.over, curve.due) = (true, Some(now.mono));
        }
        self.forget(|curve| curve.points.is_empty());
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is not stored yet of one charge.
    pub fn points(&self, serial: Serial) -> Vec<Point> {
        let of_charge = self.0.iter().filter(|curve| curve.serial == serial);
        of_charge.flat_map(|curve| curve.points.iter().cloned()).collect()
    }

    /// When the next chunk is to be stored.
    pub fn due(&self) -> Option<Duration> {
        self.0.iter().filter_map(|curve| curve.due).min()
    }

    /// A chunk that is due.
    pub fn next(&self, now: Now, pile: PileCode) -> Option<Chunk> {
        let curve = self.0.iter().find(|curve| curve.due.is_some_and(|due| due <= now.mono))?;
        Some(Chunk { pile, gun: curve.gun, serial: curve.serial, points: curve.points.clone() })
    }

    /// This chunk is stored. What has come meanwhile begins the next one.
    pub fn stored(&mut self, now: Now, chunk: &Chunk) {
        let until = chunk.points.last().map(|point| point.at);
        for curve in self.0.iter_mut().filter(|curve| curve.gun == chunk.gun && curve.serial == chunk.serial) {
            curve.points.retain(|point| Some(point.at) > until);
            curve.due = (!curve.points.is_empty()).then(|| if curve.over { now.mono } else { now.mono + CHUNK });
        }
        self.forget(|curve| curve.points.is_empty());
    }

    /// It could not be stored. An ended session does not wait for that.
    pub fn not_stored(&mut self, now: Now, chunk: &Chunk, session_over: bool) {
        let this = |curve: &Curve| curve.gun == chunk.gun && curve.serial == chunk.serial;
        if session_over {
            return self.forget(this);
        }
        for curve in self.0.iter_mut().filter(|curve| this(curve)) {
            curve.due = Some(now.mono + AGAIN);
        }
    }

    fn running(&mut self, serial: Serial) -> Option<&mut Curve> {
        self.0.iter_mut().find(|curve| curve.serial == serial && !curve.over)
    }

    fn of(&mut self, gun: Gun, serial: Serial) -> &mut Curve {
        let at = self.0.iter().position(|curve| curve.gun == gun && curve.serial == serial);
        let at = at.unwrap_or_else(|| {
            self.0.push(Curve { gun, serial, points: vec![], demand: None, extremes: None, due: None, over: false });
            self.0.len() - 1
        });
        let curve = &mut self.0[at];
        curve.over = false;
        curve
    }

    fn end(&mut self, now: Now, which: impl Fn(&Curve) -> bool) {
        for curve in self.0.iter_mut().filter(|curve| !curve.over && which(curve)) {
            curve.over = true;
            curve.due = Some(now.mono);
        }
        self.forget(|curve| curve.over && curve.points.is_empty());
    }

    /// A pile that names another charge with every frame must not cost more than one that does not.
    fn bound(&mut self) {
        let ended = self.0.iter().filter(|curve| curve.over).count();
        if ended > MAX_ENDED
            && let Some(oldest) = self.0.iter().position(|curve| curve.over)
        {
            self.0.remove(oldest);
        }
    }

    fn forget(&mut self, which: impl Fn(&Curve) -> bool) {
        self.0.retain(|curve| !which(curve));
        if self.0.is_empty() {
            // Idle sessions are many.
            self.0.shrink_to_fit();
        }
    }
}

impl Curve {
    fn measured(&mut self, now: Now, live: &Live) {
        if self.points.last().is_some_and(|last| now.wall.since(last.at) < APART_MS) {
            return;
        }
        if self.points.len() >= Chunk::MAX_POINTS {
            self.points.remove(0);
        }
        let close_by = |at: WallMs| now.wall.since(at) <= CLOSE_BY_MS;
        self.points.push(Point {
            at: now.wall,
            energy: live.energy,
            amount: live.amount,
            soc_percent: live.soc_percent,
            voltage_mv: live.voltage_mv,
            current_ma: live.current_ma,
            cable_celsius: live.cable_celsius,
            battery_max_celsius: live.battery_max_celsius,
            demand: self.demand.take().filter(|(at, _)| close_by(*at)).map(|(_, demand)| demand),
            extremes: self.extremes.take().filter(|(at, _)| close_by(*at)).map(|(_, extremes)| extremes),
        });
        self.due = self.due.or(Some(now.mono + CHUNK));
    }
}

/// From the first moment of a chunk to its end.
const CHUNK: Duration = Duration::from_mins(5);
/// Between two moments: a little less than the 15 s at which piles report, so that a frame that comes early counts.
const APART_MS: u64 = 12_000;
/// Frames of one round come together.
const CLOSE_BY_MS: u64 = 5_000;
/// After a chunk could not be stored.
const AGAIN: Duration = Duration::from_mins(1);
/// Charges that have ended and are not stored yet.
const MAX_ENDED: usize = 16;
