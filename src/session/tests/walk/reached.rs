//! What the walks have met, all together.

use std::collections::BTreeMap;

use super::STEPS;
use crate::domain::OrderState;
use crate::domain::order::{AnomalyKind, StopCause};

#[derive(Default)]
pub struct Reached(BTreeMap<(&'static str, String), u64>);

impl Reached {
    pub fn one(&mut self, kind: &'static str, what: &str) {
        if let Some(count) = self.0.get_mut(&(kind, what.to_owned())) {
            *count += 1;
        } else {
            self.0.insert((kind, what.to_owned()), 1);
        }
    }

    pub fn add(&mut self, other: Self) {
        for (what, count) in other.0 {
            *self.0.entry(what).or_default() += count;
        }
    }

    pub fn assert_everything(&self) {
        let steps = STEPS.iter().map(|(name, _, _)| ("step", (*name).to_owned(), 500));
        let breaches = AnomalyKind::ALL.map(|kind| ("told", format!("Anomaly({kind:?})"), 20));
        let states = OrderState::ALL.map(|state| ("state", state.name().to_owned(), 50));
        let causes = StopCause::ALL.map(|cause| ("stopped by", format!("{cause:?}"), 20));
        let others = OTHERS.iter().map(|(kind, what, least)| (*kind, (*what).to_owned(), *least));
        let wanted = steps.chain(breaches).chain(states).chain(causes).chain(others);
        let count = |kind, what: &String| self.0.get(&(kind, what.clone())).copied().unwrap_or(0);
        let seldom: Vec<_> = wanted.filter(|(kind, what, least)| count(*kind, what) < *least).collect();
        assert!(seldom.is_empty(), "met too seldom: {seldom:#?} of {:#?}", self.0);
    }
}

/// What must have been met besides, and how often at least.
const OTHERS: &[(&str, &str, u64)] = &[
    ("told", "Created", 50),
    ("told", "WaitingForPlug", 50),
    ("told", "Accepted", 50),
    ("told", "Charging", 50),
    ("told", "StopRequested", 50),
    ("told", "Finished", 50),
    ("told", "Failed", 50),
    ("told", "Settled", 50),
    ("told", "Closed", 50),
    ("told", "StopPlanned", 50),
    ("told", "StopExpired", 20),
    ("told", "BalanceLow", 20),
    ("ends as", "failed", 50),
    ("ends as", "settled", 50),
    ("ends as", "closed_without_record", 50),
    ("failure", "Rejected", 20),
    ("failure", "NotPluggedIn", 20),
    ("failure", "NoStart", 20),
    ("failure", "FailedOnPile", 20),
    ("failure", "NotSent", 20),
    ("made by", "Platform", 100),
    ("made by", "Pile", 100),
    ("made by", "Card", 100),
    ("down", "0x12", 20),
    ("down", "0x32", 50),
    ("down", "0x34", 100),
    ("down", "0x36", 100),
    ("down", "0x40", 100),
    ("down", "0x42", 20),
    ("down", "0x58", 50),
    ("down", "0xa4", 50),
    ("down", "0xa6", 50),
    ("down", "0xa8", 100),
    ("provisional", "caught up", 20),
    ("elsewhere", "serial taken", 5),
    ("reply", "started", 50),
    ("reply", "started both", 20),
    ("reply", "started before", 20),
    ("reply", "stopped by an answer", 20),
    ("reply", "stopped by a record", 20),
    ("reply", "stop planned", 50),
    ("reply", "closed", 50),
    ("reply", "balance updated", 5),
    ("error", "gun_busy", 50),
    ("error", "outcome_unknown", 50),
    ("error", "deadline_passed", 50),
    ("error", "pile_rejected", 20),
    ("error", "request_reused", 5),
    ("error", "serial_taken", 5),
    ("error", "session_lost", 50),
    ("error", "store_unavailable", 20),
    ("error", "tariff_not_current", 20),
    ("away", "watched", 50),
    ("away", "decided", 50),
    ("away", "adopted", 5),
    ("away", "released", 20),
    ("elsewhere", "closed", 20),
    ("elsewhere", "stop planned", 20),
    ("elsewhere", "settled", 20),
    ("lost", "orders", 20),
    ("lost", "and put again", 20),
    ("lost", "and remembered", 20),
    ("lost", "and watched over", 20),
    ("lost", "and left to somebody else", 20),
];
