use proptest::prelude::*;

use super::*;
use crate::domain::record::RecordedPeriod;
use crate::domain::units::Price;

const START: WallMs = WallMs(1_700_000_000_000);

/// An order and its clock. `sees` is one happening, `waits` lets time pass and ticks as a session does.
struct Life {
    order: Order,
    now: WallMs,
}

impl Life {
    fn requested() -> Self {
        Self { order: Order::requested(pile(), gun(), Serial::from_bytes([7; 16]), START), now: START }
    }

    fn sees(&mut self, what: Happening) -> Vec<Change> {
        self.order.apply(self.now, what)
    }

    fn charges(&mut self) -> Vec<Change> {
        self.sees(Happening::Charging(metered(self.now)))
    }

    /// Every change that time brings within so many seconds.
    fn waits(&mut self, seconds: u64) -> Vec<Change> {
        let until = self.now.plus_ms(seconds * 1000);
        let mut changes = vec![];
        while let Some(due) = self.order.due().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            changes.extend(self.order.apply(self.now, Happening::Tick));
            assert!(self.order.due().is_none_or(|next| next > self.now), "the timer would spin: {:?}", self.order);
        }
        self.now = until;
        changes
    }

    fn is(&self, state: OrderState) {
        assert_eq!(self.order.state, state, "{:?}", self.order);
    }
}

#[test]
fn a_charge_goes_its_way_without_anomalies() {
    let mut life = Life::requested();
    assert_eq!(life.sees(Happening::Accepted), [Change::Accepted]);
    assert_eq!(life.charges(), [Change::Charging]);
    assert_eq!(life.waits(3600), []);
    assert_eq!(life.sees(Happening::StopRequested(StopCause::Caller)), [Change::StopRequested]);
    assert_eq!(life.sees(Happening::Idle), [Change::Finished]);
    assert_eq!(life.waits(29), []);
    assert_eq!(life.sees(Happening::Recorded(record(0x41, 10))), [Change::Settled]);
    assert_eq!(life.waits(3600), []);
    assert!(life.order.anomalies.is_empty() && life.order.failure.is_none());
}

fn close(force: bool) -> Close {
    Close { reason: "lost".into(), given: None, force }
}

#[test]
fn a_record_is_owed_for_thirty_seconds_after_the_end_and_only_then_may_an_order_be_closed_without_it() {
    let overdue = |life: &Life| life.order.is_overdue(life.now);
    let mut life = Life::requested();
    for what in [Happening::Accepted, Happening::Charging(metered(START)), Happening::ChargeEnded] {
        assert!(!overdue(&life));
        life.sees(what);
    }
    assert!(!overdue(&life), "it has only just ended");
    life.waits(30);
    life.is(OrderState::Abnormal);
    assert!(overdue(&life));
    assert_eq!(life.sees(Happening::Closed(Box::new(close(false)))), [Change::Closed]);
    assert_eq!(life.sees(Happening::Closed(Box::new(close(true)))), [], "once");
    assert_eq!((life.charges(), life.waits(3600)), (vec![], vec![]));

    // A pile that went away while it charged on: nobody repeats its stop, and nobody hears of its end.
    let mut life = Life::requested();
    life.charges();
    life.sees(Happening::StopRequested(StopCause::Caller));
    life.charges();
    life.now = life.now.plus_ms(29_999);
    assert!(!overdue(&life));
    life.now = life.now.plus_ms(1);
    assert!(overdue(&life));

    let mut life = Life::requested();
    life.waits(90);
    life.is(OrderState::Failed);
    assert!(!overdue(&life), "it may have charged, and its record be on its way");
    life.waits(30);
    assert!(overdue(&life));
}

#[test]
fn a_record_after_the_closing_settles_and_tells_the_difference() {
    let mut life = Life::requested();
    life.charges();
    let given = Some((Energy(30), Amount(1)));
    life.sees(Happening::Closed(Box::new(Close { given, ..close(true) })));
    let told = life.sees(Happening::Recorded(record(0x41, 10)));
    assert_eq!(told, [Change::Settled, Change::Anomaly(AnomalyKind::RecordAfterClose)]);
    let more = life.order.record_after_close.expect("a difference");
    let billed = life.order.bill.as_ref().expect("a bill").record.total_amount;
    assert_eq!((more.energy, more.amount), (-20, billed - Amount(1)));
    assert!(life.order.closing.is_some(), "what was thought before stays");
}

#[test]
fn ninety_seconds_are_for_the_answer_and_for_the_charge() {
    use AnomalyKind::StartTimeout;
    let check = |seen: &[Happening], changes: &[Change], state| {
        let mut life = Life::requested();
        for what in seen {
            life.sees(what.clone());
        }
        assert_eq!(life.waits(89), []);
        assert_eq!(life.waits(1), changes, "{seen:?}");
        life.is(state);
        assert_eq!(life.waits(3600), [], "judged once");
    };
    check(&[], &[Change::Anomaly(StartTimeout), Change::Failed], OrderState::Failed);
    check(&[Happening::Accepted], &[Change::Anomaly(StartTimeout), Change::Failed], OrderState::Failed);
    let charging = Happening::Charging(metered(START));
    check(std::slice::from_ref(&charging), &[Change::Anomaly(StartTimeout)], OrderState::Charging);
    check(&[Happening::Accepted, charging], &[], OrderState::Charging);
}

#[test]
fn a_plug_has_sixty_seconds() {
    let not_plugged = || Happening::Rejected { code: 5, name: "gun not plugged in".into() };
    let mut late = Life::requested();
    assert_eq!(late.sees(not_plugged()), [Change::WaitingForPlug]);
    assert_eq!(late.sees(not_plugged()), [], "said twice");
    assert_eq!(late.waits(60), [Change::Failed]);
    assert_eq!(late.order.failure, Some(Failure::NotPluggedIn));
    assert_eq!(late.sees(Happening::Accepted), [], "too late to be believed: only a charge proves it");
    assert_eq!(late.charges(), [Change::Charging, Change::Anomaly(AnomalyKind::LateStart)]);

    let mut soon = Life::requested();
    soon.sees(not_plugged());
    assert_eq!(soon.waits(59), []);
    assert_eq!(soon.sees(Happening::Accepted), [Change::Accepted]);
    soon.is(OrderState::Starting);
}

#[test]
fn a_stop_is_repeated_every_five_seconds_three_times_while_the_serial_charges() {
    let mut life = charging();
    life.sees(Happening::StopRequested(StopCause::Caller));
    for _ in 0..3 {
        life.charges();
        assert_eq!(life.waits(4), []);
        assert_eq!(life.waits(1), [Change::RepeatStop]);
    }
    life.charges();
    assert_eq!(life.waits(5), [Change::Anomaly(AnomalyKind::StopNotObeyed)]);
    life.is(OrderState::Abnormal);
    life.charges();
    assert_eq!(life.waits(3600), []);
    assert_eq!(life.order.stop.map(|stop| stop.sent), Some(4));
}

#[test]
fn a_repeated_stop_after_an_old_yes_is_waited_for_again_or_the_timer_would_spin() {
    let mut life = charging();
    life.sees(Happening::StopRequested(StopCause::Caller));
    life.sees(Happening::StopAccepted);
    life.waits(29);
    life.charges();
    assert_eq!(life.order.ended_at, None, "0x35 said yes and the pile went on");
    assert_eq!(life.waits(1), [Change::RepeatStop]);
    assert_eq!(life.waits(28), [], "the repeated 0x36 has its own 30 s");
    assert_eq!(life.waits(1), [Change::Anomaly(AnomalyKind::RecordOverdue)]);
}

#[test]
fn an_order_that_was_stopped_before_the_pile_said_no_has_failed() {
    let mut life = Life::requested();
    life.sees(Happening::StopRequested(StopCause::Caller));
    let no = Happening::Rejected { code: 3, name: "equipment fault".into() };
    assert_eq!(life.sees(no), [Change::Failed], "it would have waited for a record nobody owes");
    assert!(matches!(life.order.failure, Some(Failure::Rejected { code: 3, .. })));
}

#[test]
fn an_order_that_was_stopped_before_it_began_does_not_wait_for_its_record_forever() {
    for heard in [None, Some(Happening::Idle)] {
        let mut life = Life::requested();
        life.sees(Happening::Rejected { code: 5, name: "gun not plugged in".into() });
        life.sees(Happening::StopRequested(StopCause::Caller));
        assert_eq!(life.order.plug_deadline, None);
        if let Some(what) = heard {
            life.sees(what);
        }
        assert_eq!(life.waits(30), [Change::Failed]);
        life.is(OrderState::Failed);
    }
}

#[test]
fn an_abnormal_order_gives_its_gun_back_when_the_charge_is_seen_to_end() {
    let disobeyed = || {
        let mut life = charging();
        life.sees(Happening::StopRequested(StopCause::Caller));
        while life.order.state == OrderState::Stopping {
            life.charges();
            life.waits(5);
        }
        life
    };
    for end in [Happening::Idle, Happening::ChargeEnded] {
        let mut life = disobeyed();
        assert_eq!(life.order.ended_at, None, "it still charges");
        assert_eq!(life.sees(end.clone()), [Change::Finished]);
        assert_eq!(life.order.ended_at, Some(life.now));
        assert_eq!(life.sees(end), [], "told once");
        life.is(OrderState::Abnormal);
        life.charges();
        assert_eq!(life.order.ended_at, None, "it has the gun again");
    }
}

#[test]
fn two_idle_frames_in_mid_charge_are_one_anomaly() {
    let mut life = charging();
    assert_eq!(life.sees(Happening::Idle), []);
    life.charges();
    assert_eq!(life.sees(Happening::Idle), [], "one in between counts anew");
    assert_eq!(life.sees(Happening::Idle), [Change::Anomaly(AnomalyKind::IdleWhileCharging)]);
    life.is(OrderState::Abnormal);
    assert_eq!(life.sees(Happening::Idle), []);
}

#[test]
fn a_record_that_does_not_fit_settles_and_is_one_anomaly() {
    let mut life = charging();
    let mut wrong = record(0x41, 10);
    wrong.total_amount = Amount(11);
    let mismatch = Change::Anomaly(AnomalyKind::BillMismatch);
    assert_eq!(life.sees(Happening::Recorded(wrong.clone())), [Change::Settled, mismatch]);
    life.is(OrderState::Settled);
    let found: Vec<_> = life.order.bill.iter().flat_map(|bill| &bill.audit).map(|f| f.field.name()).collect();
    assert_eq!(found, ["total_amount"]);
    assert_eq!(life.sees(Happening::Recorded(wrong)), [], "judged once");

    // Nothing is known of an order that its record makes, but what the record says itself.
    let mut adopted = Order::adopted(pile(), gun(), Serial::from_bytes([7; 16]), START);
    assert_eq!(adopted.apply(START, Happening::Recorded(record(0x41, 10))), [Change::Settled]);
    let failed = Happening::Recorded(record(0x4A, 0));
    assert_eq!(Life::requested().sees(failed), [Change::Settled], "a failed start fits");
}

#[test]
fn a_record_settles_any_state_and_says_why_a_start_failed() {
    let mut life = Life::requested();
    assert_eq!(life.sees(Happening::Recorded(record(0x4A, 0))), [Change::Settled]);
    assert!(matches!(life.order.failure, Some(Failure::FailedOnPile { code: 0x4A, .. })));
    assert_eq!(life.sees(Happening::ConflictingRecord), [Change::Anomaly(AnomalyKind::RecordConflict)]);
    assert_eq!(life.sees(Happening::ConflictingRecord), [], "flagged once");
    life.is(OrderState::Settled);
}

fn charging() -> Life {
    let mut life = Life::requested();
    life.sees(Happening::Accepted);
    life.charges();
    life
}

fn pile() -> PileCode {
    "32010600019236".parse().expect("14 digits")
}

fn gun() -> Gun {
    Gun::new(1).expect("a gun")
}

fn metered(at: WallMs) -> Metered {
    Metered { at, energy: Energy(1), amount: Amount(1), soc_percent: 50 }
}

/// At 1 CNY/kWh.
fn record(stop_reason: u8, energy: u64) -> Box<Record> {
    let mut periods = [RecordedPeriod::default(); 4];
    periods[1] = RecordedPeriod {
        unit_price: Price(100_000),
        energy: Energy(energy),
        loss_energy: Energy(energy),
        amount: Amount(energy.cast_signed()),
    };
    Box::new(Record {
        pile: pile(),
        gun: gun(),
        serial: Serial::from_bytes([7; 16]),
        started: None,
        ended: None,
        traded: None,
        periods,
        meter_start: Energy(0),
        meter_end: Energy(energy),
        total_energy: Energy(energy),
        total_loss_energy: Energy(energy),
        total_amount: Amount(energy.cast_signed()),
        vin: String::new(),
        start_type: 1,
        stop_reason,
        stop_reason_name: "named".into(),
        physical_card: [0; 8],
        code: 0x3B,
        body: vec![stop_reason],
    })
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        3 => Just(Happening::Accepted),
        3 => prop_oneof![Just(5_u8), Just(3)].prop_map(|code| Happening::Rejected { code, name: String::new() }),
        6 => Just(Happening::Charging(metered(START))),
        3 => Just(Happening::Idle),
        3 => Just(Happening::ChargeEnded),
        3 => Just(Happening::StopRequested(StopCause::Caller)),
        3 => Just(Happening::StopAccepted),
        3 => Just(Happening::NotSent),
        6 => Just(Happening::Tick),
        1 => Just(Happening::ConflictingRecord),
        1 => any::<bool>().prop_map(|force| Happening::Closed(Box::new(close(force)))),
        1 => Just(Happening::Recorded(record(0x41, 1))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever comes in whatever order, and however late the timer is.
    #[test]
    fn settled_is_absorbing_anomalies_come_once_and_time_never_stands_still(
        steps in proptest::collection::vec((happening(), 0..120_000_u64), 1..60),
    ) {
        let mut order = Order::requested(pile(), gun(), Serial::from_bytes([7; 16]), START);
        let (mut now, mut settled, mut stops) = (START, 0, 0);
        for (what, pause) in steps {
            now = now.plus_ms(pause);
            let (before, tick) = (order.clone(), what == Happening::Tick);
            let asked = what == Happening::StopRequested(StopCause::Caller);
            let changes = order.apply(now, what);
            if before.state == OrderState::Settled {
                prop_assert_eq!(order.state, OrderState::Settled);
                prop_assert_eq!(&order.bill, &before.bill);
            }
            if tick {
                prop_assert!(order.due().is_none_or(|due| due > now), "due in the past: {:?}", order);
            }
            let unseen = changes.is_empty() && before.state != order.state;
            prop_assert!(!unseen, "{:?} became {:?} and nobody is told", before.state, order.state);
            settled += changes.iter().filter(|c| **c == Change::Settled).count();
            stops += changes.iter().filter(|c| **c == Change::RepeatStop).count();
            stops = if asked { 0 } else { stops };
            prop_assert!(stops <= 3, "0x36 repeated {} times", stops);
        }
        let mut kinds: Vec<_> = order.anomalies.iter().map(|a| a.kind.name()).collect();
        kinds.sort_unstable();
        kinds.dedup();
        prop_assert_eq!(kinds.len(), order.anomalies.len(), "an anomaly came twice: {:?}", order.anomalies);
        prop_assert!(settled <= 1);
    }
}
