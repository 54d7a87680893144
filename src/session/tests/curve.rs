//! Charging curves: collected as frames come, stored in chunks.

use super::harness::*;
use super::ledger::Mode;
use crate::domain::curve::{Chunk, Demanded, Extremes, Point};
use crate::domain::{Command, Energy, Reply, Serial};
use crate::session::io::{EndReason, LedgerCall};

impl Pile {
    /// One round of a DC pile: 0x13, 0x23, 0x25, then 15 s.
    fn round(&mut self, serial: Serial, energy: u64) {
        let live =
            [("gun_no", 1), ("status", 3), ("energy", energy), ("output_voltage", 4000), ("output_current", 1000)];
        self.sends_of(serial, 0x13, &live);
        let demand = [("gun_no", 1), ("bms_voltage_demand", 4100), ("bms_current_demand", 2800), ("charge_mode", 2)];
        self.sends_of(serial, 0x23, &demand);
        self.sends_of(serial, 0x25, &[("gun_no", 1), ("max_temp", 81), ("min_temp", 45)]);
        self.advance(15);
    }

    /// The stored chunks of a charge, oldest first, as energies.
    fn chunks(&self, of: Serial) -> Vec<Vec<u64>> {
        let store = self.store.borrow();
        let chunks = store.curves.iter().filter(|((serial, _), _)| *serial == of);
        chunks.map(|(_, (chunk, _))| energies(&chunk.points)).collect()
    }

    /// What the session answers.
    fn current(&mut self, serial: Serial) -> Vec<Point> {
        let id = self.command(Command::ReadCurve { serial }, 5);
        match self.reply(id) {
            Ok(Reply::Curve(points)) => points,
            other => panic!("{other:?}"),
        }
    }
}

fn energies(points: &[Point]) -> Vec<u64> {
    points.iter().map(|point| point.energy.0).collect()
}

#[test]
fn a_moment_is_what_came_together() {
    let mut pile = Pile::online();
    let began = pile.now().wall;
    pile.round(foreign(1), 1);
    let [point] = &pile.current(foreign(1))[..] else { panic!("one moment") };
    assert_eq!((point.at, point.energy, point.power_w()), (began, Energy(1), 40_000));
    let demand = Demanded { voltage_mv: 410_000, current_ma: 120_000, charge_mode: 2, max_cell_voltage_mv: 0 };
    assert_eq!(point.demand, Some(demand));
    assert_eq!(point.extremes, Some(Extremes { max_celsius: 31, min_celsius: -5 }));
    // In whatever order the three come; and a round that is far from any 0x13 belongs to none.
    pile.sends_of(foreign(1), 0x23, &[("gun_no", 1), ("bms_voltage_demand", 1), ("bms_current_demand", 4000)]);
    pile.advance(15);
    pile.sends_of(foreign(1), 0x25, &[("gun_no", 1), ("max_temp", 50), ("min_temp", 50)]);
    pile.charges(foreign(1));
    let points = pile.current(foreign(1));
    assert_eq!((points[1].demand, points[1].extremes), (None, Some(Extremes { max_celsius: 0, min_celsius: 0 })));
}

#[test]
fn a_curve_is_stored_every_five_minutes_and_at_the_end_and_then_forgotten() {
    let mut pile = Pile::online();
    let serial = pile.charging();
    for n in 1..=45 {
        pile.round(serial, 1000 + n);
    }
    pile.sends_of(serial, 0x19, &[("gun_no", 1)]);
    let chunks = pile.chunks(serial);
    assert!(chunks.len() == 3 && chunks.iter().all(|chunk| chunk.len() <= 21), "{chunks:?}");
    let all = chunks.concat();
    assert_eq!((all.len(), all.last()), (45, Some(&1045)), "{all:?}");
    assert!(all.is_sorted(), "{all:?}");
    assert!(pile.session.curves.is_empty(), "idle sessions keep nothing");
    let store = pile.store.borrow();
    let expires: Vec<_> = store.curves.values().map(|(chunk, expires)| expires.since(chunk.points[0].at)).collect();
    let two_days = 48 * 3_600_000;
    assert!(expires.iter().all(|kept| (two_days..=two_days + 300_000).contains(kept)), "{expires:?}");
    let sizes = store.curves.values().map(|(chunk, _)| crate::store::document::put_curve(chunk, pile.now().wall).value);
    assert!(sizes.map(|value| value.len()).all(|bytes| bytes < 1500));
}

#[test]
fn a_pile_that_reports_too_often_adds_no_more_to_its_curve() {
    let mut pile = Pile::online();
    for _ in 0..1000 {
        pile.charges(foreign(1));
    }
    assert_eq!(pile.current(foreign(1)).len(), 1);
}

#[test]
fn the_next_session_goes_on_and_overwrites_nothing() {
    let mut pile = Pile::online();
    let serial = pile.charging();
    for n in 1..=3 {
        pile.round(serial, 1000 + n);
    }
    pile.ends(EndReason::ConnectionClosed);
    assert!(pile.session.is_done(), "with all of it stored");
    let mut next = pile.elsewhere();
    for n in 4..=6 {
        next.round(serial, 1000 + n);
    }
    next.sends(0x13, &[("gun_no", 1), ("status", 2)]);
    assert_eq!(next.chunks(serial), [[1000, 1002, 1003], [1004, 1005, 1006]]);
}

#[test]
fn a_session_that_is_taken_over_stores_what_it_has_measured_beside_what_the_next_one_does() {
    let mut pile = Pile::online();
    let serial = pile.charging();
    let began = pile.now().wall;
    let mut next = pile.elsewhere();
    for n in 1..=3 {
        pile.round(serial, 1000 + n);
        next.round(serial, 1000 + n);
    }
    pile.ends(EndReason::TakenOver);
    assert!(pile.session.is_done());
    next.sends(0x13, &[("gun_no", 1), ("status", 2)]);
    assert_eq!(next.chunks(serial), [[1000, 1002, 1003].to_vec(), vec![1001, 1002, 1003]]);
    assert_eq!(next.store.borrow().curves.keys().next(), Some(&(serial, began.0.unsigned_abs())));
}

#[test]
fn a_chunk_is_refused_once_there_is_a_newer_owner_and_stored_with_the_end_of_the_session() {
    let mut pile = Pile::online();
    let serial = pile.charging();
    pile.store.borrow_mut().somebody_claims();
    for n in 1..=25 {
        pile.round(serial, 1000 + n);
    }
    assert!(pile.ended == Some(EndReason::TakenOver) && pile.session.is_done(), "{:?}", pile.ended);
    let chunks = pile.chunks(serial);
    assert!(chunks.len() == 1 && chunks[0].len() >= 20, "{chunks:?}");
}

#[test]
fn a_store_that_is_away_costs_at_most_the_oldest_of_a_curve_and_never_an_order() {
    let mut pile = Pile::online();
    let serial = pile.charging();
    for n in 1..=10 {
        pile.round(serial, 1000 + n);
    }
    // Everything but the curve is stored by now; what comes next is not.
    pile.mode = Mode::Away;
    for n in 11..=100 {
        pile.round(serial, 1000 + n);
    }
    assert_eq!(pile.chunks(serial), Vec::<Vec<u64>>::new());
    assert_eq!(pile.current(serial).len(), Chunk::MAX_POINTS);
    pile.mode = Mode::Prompt;
    pile.advance(60);
    let stored = pile.chunks(serial).concat();
    assert_eq!((stored.len(), stored.last()), (Chunk::MAX_POINTS, Some(&1100)));
    assert_eq!(pile.current(serial).len(), 0);
    let chunk = pile.store.borrow().curves.values().next().expect("stored").0.clone();
    let bytes = crate::store::document::put_curve(&chunk, pile.now().wall).value.len();
    assert!(bytes <= 8 * 1024, "{bytes} bytes of a full chunk");
}

#[test]
fn a_chunk_whose_answer_was_lost_is_stored_again_with_what_came_meanwhile_in_its_place() {
    let mut pile = Pile::online();
    let serial = pile.charging();
    for n in 1..=19 {
        pile.round(serial, 1000 + n);
    }
    pile.mode = Mode::LosesAnswers;
    pile.round(serial, 1020);
    pile.mode = Mode::Prompt;
    for n in 21..=26 {
        pile.round(serial, 1000 + n);
    }
    let chunks = pile.chunks(serial);
    assert_eq!(chunks.len(), 1, "{chunks:?}");
    assert!(chunks[0].len() > 20 && chunks[0].is_sorted(), "{chunks:?}");
}

#[test]
fn a_session_that_ends_while_a_chunk_waits_to_be_tried_again_tries_at_once_and_only_once_more() {
    for (mode, stored) in [(Mode::Prompt, 1), (Mode::Away, 0)] {
        let mut pile = Pile::online();
        let serial = pile.charging();
        for n in 1..=19 {
            pile.round(serial, 1000 + n);
        }
        pile.mode = Mode::Away;
        pile.round(serial, 1020);
        pile.mode = Mode::Prompt;
        pile.advance(5);
        assert_eq!(pile.chunks(serial).len(), 0);
        pile.mode = mode;
        pile.ends(EndReason::ConnectionClosed);
        assert!(pile.session.is_done());
        assert_eq!(pile.chunks(serial).len(), stored, "{mode:?}");
    }
}

#[test]
fn changes_and_records_go_before_curves() {
    let mut pile = Pile::online();
    let serial = pile.charging();
    pile.round(serial, 1001);
    pile.mode = Mode::Slow;
    // Something is under way when the end comes, and all at once waits behind it.
    pile.idles();
    pile.sends_of(serial, 0x19, &[("gun_no", 1)]);
    pile.bills(serial);
    let mut asked = vec![];
    while let Some(call) = pile.calls.front() {
        asked.push(match call {
            LedgerCall::Write(_) => "write",
            LedgerCall::Settle { .. } => "settle",
            LedgerCall::KeepCurve { .. } => "curve",
            other @ (LedgerCall::Claim(_) | LedgerCall::LookUp { .. } | LedgerCall::TellDuplicate { .. }) => {
                panic!("{}", matches!(other, LedgerCall::Claim(_)))
            }
        });
        pile.store_answers();
    }
    assert_eq!(asked, ["write", "write", "settle", "curve"]);
}

#[test]
fn what_came_while_the_pile_was_not_ours_is_on_the_curve_too() {
    let mut pile = Pile::connecting(Mode::Away);
    for n in 1..=30 {
        pile.round(foreign(1), n);
    }
    assert_eq!(pile.current(foreign(1)).len(), 30);
    assert_eq!(pile.chunks(foreign(1)), Vec::<Vec<u64>>::new(), "nobody but the owner stores any");
    pile.mode = Mode::Prompt;
    pile.advance(60);
    assert_eq!(pile.chunks(foreign(1)).concat(), (1..=30).collect::<Vec<_>>());
}

#[test]
fn a_record_ends_the_curve_of_its_charge_too() {
    let mut pile = Pile::online();
    let serial = pile.charging();
    pile.round(serial, 1001);
    pile.bills(serial);
    assert!(pile.session.curves.is_empty());
    assert_eq!(pile.chunks(serial), [[1000]]);
}

#[test]
fn a_pile_that_names_another_charge_with_every_frame_keeps_little() {
    let mut pile = Pile::online();
    pile.mode = Mode::Slow;
    for n in 0..=250 {
        pile.charges(foreign(n));
    }
    let kept: usize = (0..=250).map(|n| pile.session.curves.points(foreign(n)).len()).sum();
    assert!(kept <= 20, "{kept}");
    pile.store_returns();
    pile.idles();
    assert!(pile.session.curves.is_empty());
}
