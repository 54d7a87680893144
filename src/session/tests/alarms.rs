//! Faults that appear in 0x13 and go again.

use super::harness::*;
use super::ledger::Mode;
use crate::domain::alarm::Fault;
use crate::domain::pile::GunState;
use crate::domain::{EventKind, Pile as Document};
use crate::session::io::LedgerCall;

impl Pile {
    /// 0x13 of an idle gun with this fault word.
    fn reports_faults(&mut self, gun: u64, faults: u64) {
        let status = if faults == 0 { 2 } else { 1 };
        self.sends(0x13, &[("gun_no", gun), ("status", status), ("hardware_faults", faults)]);
    }

    /// Of gun 1, as stored.
    fn standing(&self) -> Vec<Fault> {
        let store = self.store.borrow();
        let (pile, _) = store.pile.as_ref().expect("the pile is stored");
        pile.guns[0].alarms.iter().map(|alarm| alarm.fault).collect()
    }

    /// What was raised (+) and cleared (−), in the order in which it was told.
    fn told_alarms(&self) -> Vec<(char, Fault)> {
        let told = |kind: &EventKind| match kind {
            EventKind::AlarmRaised { alarm, .. } => Some(('+', alarm.fault)),
            EventKind::AlarmCleared { alarm, .. } => Some(('-', alarm.fault)),
            _ => None,
        };
        self.store.borrow().events.iter().filter_map(told).collect()
    }
}

const EMERGENCY: (char, Fault) = ('+', Fault::EmergencyStop);
const FUSE: (char, Fault) = ('+', Fault::DcFuse);

#[test]
fn every_fault_bit_is_raised_once_and_cleared_once() {
    let mut pile = Pile::online();
    pile.reports_faults(1, 1);
    let since = pile.now().wall;
    pile.advance(15);
    pile.reports_faults(1, 1);
    pile.reports_faults(1, 1 | 1 << 10);
    assert_eq!(pile.told_alarms(), [EMERGENCY, FUSE]);
    assert_eq!(pile.standing(), [Fault::EmergencyStop, Fault::DcFuse]);
    pile.reports_faults(1, 1 << 10);
    assert_eq!(pile.told_alarms(), [EMERGENCY, FUSE, ('-', Fault::EmergencyStop)]);
    let store = pile.store.borrow();
    let Some(EventKind::AlarmCleared { pile: after, gun: of, alarm }) = store.events.last() else {
        panic!("the last thing told: {:?}", store.events.last())
    };
    assert_eq!((*of, alarm.raised_at), (gun(1), since), "it stood since it was first reported");
    assert_eq!(after.guns[0].alarms.len(), 1, "the pile after the change");
}

#[test]
fn reserved_bits_are_in_the_fault_word_and_raise_nothing() {
    let mut pile = Pile::online();
    pile.reports_faults(1, 0xE000);
    assert_eq!(pile.told_alarms(), []);
    assert_eq!(pile.store.borrow().pile.as_ref().expect("stored").0.guns[0].faults, 0xE000);
}

#[test]
fn a_login_neither_clears_nor_raises_what_stands() {
    let mut pile = Pile::online();
    pile.reports_faults(1, 1);
    let mut next = pile.elsewhere();
    assert_eq!(next.standing(), [Fault::EmergencyStop]);
    next.reports_faults(1, 1);
    assert_eq!(next.told_alarms(), [EMERGENCY], "it stands since before");
    next.reports_faults(1, 0);
    assert_eq!(next.told_alarms(), [EMERGENCY, ('-', Fault::EmergencyStop)]);
    assert_eq!(next.standing(), []);
}

#[test]
fn a_heartbeat_that_reports_a_fault_raises_no_alarm_and_clears_none() {
    let mut pile = Pile::online();
    pile.reports_faults(1, 1);
    pile.sends(0x03, &[("gun_no", 1), ("gun_status", 1)]);
    pile.sends(0x03, &[("gun_no", 2), ("gun_status", 1)]);
    assert_eq!((pile.told_alarms(), pile.standing()), (vec![EMERGENCY], vec![Fault::EmergencyStop]));
    assert_eq!(pile.gun_state(2), GunState::Fault);
}

#[test]
fn alarms_of_a_gun_that_the_pile_no_longer_has_are_cleared() {
    let mut pile = Pile::online();
    pile.reports_faults(2, 1);
    pile.sends_frame(crate::wire::Sequence([0, 0]), login_request(1));
    assert_eq!(pile.told_alarms(), [EMERGENCY, ('-', Fault::EmergencyStop)]);
}

#[test]
fn what_happened_while_the_pile_was_not_ours_is_raised_and_cleared_all_the_same() {
    let mut pile = Pile::connecting(Mode::Away);
    pile.reports_faults(1, 1);
    pile.advance(15);
    pile.reports_faults(1, 0);
    assert_eq!(pile.told_alarms(), []);
    pile.mode = Mode::Prompt;
    pile.advance(10);
    assert_eq!(pile.told_alarms(), [EMERGENCY, ('-', Fault::EmergencyStop)]);
}

#[test]
fn alarms_are_bounded_and_so_is_a_batch_with_them() {
    let mut pile = Pile::online();
    pile.sends_frame(crate::wire::Sequence([0, 0]), login_request(255));
    pile.mode = Mode::Slow;
    for gun in 1..=99 {
        pile.reports_faults(gun, 0x1FFF);
        while let Some(LedgerCall::Write(write)) = pile.calls.front() {
            let bytes: usize =
                write.events.iter().map(|event| crate::store::document::append(event).payload.len()).sum();
            // The documents of such a batch are the pile's, if any.
            assert!(bytes <= crate::store::Batch::MAX_BYTES * 3 / 4, "{bytes} bytes of events");
            pile.store_answers();
        }
    }
    assert_eq!(pile.told_alarms().len(), Document::MAX_ALARMS);
    // There is room for others once these are gone.
    pile.store_returns();
    pile.reports_faults(1, 0);
    pile.reports_faults(90, 0x1FFF);
    assert_eq!(pile.told_alarms().len(), Document::MAX_ALARMS + 2 * 13);
}

#[test]
fn a_pile_that_flaps_while_the_store_is_silent_costs_gun_states_and_alarms_before_anything_else() {
    let mut pile = Pile::online();
    let serial = pile.charging();
    pile.mode = Mode::Slow;
    for n in 0..1000 {
        pile.reports_faults(2, n % 2);
    }
    pile.sends_of(serial, 0x19, &[("gun_no", 1)]);
    for n in 0..1000 {
        pile.reports_faults(2, n % 2);
    }
    pile.store_returns();
    let told = pile.store.borrow().changes(serial);
    assert_eq!(told.last(), Some(&crate::domain::order::Change::Finished), "{told:?}");
}
