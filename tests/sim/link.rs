//! Login, tariff, heartbeat, retries, and what is kept over them.

use std::time::Duration;

use pileway::sim::{Action, Behaviour, Count, Input, Reconnect};
use pileway::wire::*;

use crate::platform::*;

#[test]
fn power_up_goes_login_tariff_heartbeat_telemetry() {
    let mut p = Platform::new(|config| config.guns = 2);
    p.connect();
    assert_eq!(p.sent[0].1.sequence, Sequence([0, 0]));
    assert_eq!(p.codes(), [0x01]);
    p.send(start(1, 1000));
    assert_eq!(p.codes(), NOTHING, "nothing else before the login");
    p.pass(seconds(10), true);
    assert_eq!(p.codes(), [0x01], "repeated");
    p.log_in();
    p.log_in();
    let first = p.take();
    let Frame::TariffCheckRequest(check) = frame(&first[0].1) else { panic!("0x05 after 0x02") };
    assert_eq!((first.len(), check.tariff_model_no), (1, TariffNo::ZERO));
    p.send(TariffCheckResponse { pile_code: CODE, tariff_model_no: TariffNo::ZERO, result: TariffCheck::Differs });
    p.pass(seconds(9), true);
    assert_eq!(p.codes(), [0x09]);
    p.start(1, 1000);
    let refused =
        p.last(|frame| if let Frame::RemoteStartResponse(row) = frame { Some(row.start_result) } else { None });
    assert_eq!(refused, Outcome::Failure, "without a tariff there is no charge");
    p.sent.clear();
    p.send(tariff());
    assert_eq!(p.take().iter().map(|(_, f)| code(f)).collect::<Vec<_>>(), [0x03, 0x03, 0x13, 0x13]);

    // The next login knows the number.
    p.apply(Input::Closed);
    p.wait(seconds(2));
    assert_eq!(p.wanted.pop(), Some("connect"));
    p.apply(Input::Connected);
    p.log_in();
    assert_eq!(
        p.last(|frame| if let Frame::TariffCheckRequest(row) = frame { Some(row.tariff_model_no) } else { None }),
        TariffNo([1, 0])
    );
    p.sent.clear();
    p.send(TariffCheckResponse { pile_code: CODE, tariff_model_no: TariffNo([1, 0]), result: TariffCheck::Same });
    assert_eq!(p.codes(), [0x13, 0x13]);
}

#[test]
fn a_platform_without_tariffs_still_gets_heartbeats() {
    let mut p = Platform::new(|_| {});
    p.connect();
    p.log_in();
    p.pass(seconds(20), true);
    assert_eq!((p.count(0x03), p.count(0x05)), (2, 3));
}

#[test]
fn three_unanswered_heartbeats_end_the_connection_and_a_rejection_waits_30_s() {
    let mut p = Platform::ready(|_| {});
    p.pass(seconds(29), false);
    assert_eq!(p.wanted.pop(), None);
    p.pass(seconds(1), false);
    assert_eq!(p.wanted.pop(), Some("close"));
    assert!(!p.pile.online());
    p.pass(seconds(2), false);
    assert_eq!(p.wanted.pop(), Some("connect"));
    p.apply(Input::Connected);
    p.send(LoginResponse { pile_code: CODE, result: LoginResult::Rejected });
    assert_eq!(p.wanted.pop(), Some("close"));
    p.apply(Input::Closed);
    p.pass(seconds(29), false);
    assert_eq!(p.wanted.pop(), None);
    p.pass(seconds(1), false);
    assert_eq!(p.wanted.pop(), Some("connect"));
}

#[test]
fn failed_connects_are_repeated_with_growing_pauses() {
    let mut p = Platform::new(|_| {});
    p.wait(Duration::ZERO);
    let mut pauses = Vec::new();
    for _ in 0..8 {
        assert_eq!(p.wanted.pop(), Some("connect"));
        p.apply(Input::ConnectFailed);
        let at = p.mono;
        p.wait(p.pile.deadline().expect("a retry").saturating_sub(at));
        pauses.push(p.mono.saturating_sub(at).as_secs());
    }
    assert!(pauses[0] <= 1 && pauses[7] >= 30 && pauses[7] <= 45, "{pauses:?}");
}

#[test]
fn a_pile_told_to_beat_faster_finds_a_dead_link_sooner() {
    let mut p = Platform::ready(|config| config.heartbeat = seconds(2));
    p.wait(seconds(60));
    assert_eq!((p.count(0x03), p.wanted.len()), (30, 0));
    p.pass(seconds(7), false);
    assert_eq!(p.wanted, [""; 0]);
    p.pass(seconds(1), false);
    assert_eq!(p.wanted, ["close"]);
}

/// What ends a pile's attempt at a connection, or the connection.
type Loss = dyn Fn(&mut Platform);

#[test]
fn the_pause_before_a_connect_doubles_to_its_bound_and_begins_anew_after_a_login() {
    let mut p = Platform::new(|config| {
        config.reconnect = Reconnect { min: millis(100), max: millis(800) };
        config.login_again = millis(10);
    });
    // From the loss to the next connect; up to half is chance.
    let pause = |p: &mut Platform, lose: &Loss| {
        lose(p);
        p.wanted.clear();
        let at = p.mono;
        p.wait(p.pile.deadline().expect("a retry").saturating_sub(at));
        assert_eq!(p.wanted.pop(), Some("connect"));
        p.mono.saturating_sub(at)
    };
    let fail = |p: &mut Platform| p.apply(Input::ConnectFailed);
    let close_before_login = |p: &mut Platform| {
        p.apply(Input::Connected);
        p.apply(Input::Closed);
    };
    let never_answer = |p: &mut Platform| {
        p.sent.clear();
        p.apply(Input::Connected);
        p.wait(millis(30));
        assert_eq!((p.codes().as_slice(), p.wanted.pop()), ([0x01; 3].as_slice(), Some("close")));
    };
    let log_in_and_close = |p: &mut Platform| {
        p.apply(Input::Connected);
        p.log_in();
        p.apply(Input::Closed);
    };
    let reject = |p: &mut Platform| {
        p.apply(Input::Connected);
        p.send(LoginResponse { pile_code: CODE, result: LoginResult::Rejected });
    };
    p.wait(Duration::ZERO);
    assert_eq!(p.wanted.pop(), Some("connect"));
    let cases: [(&str, &Loss, u64); 10] = [
        ("first", &fail, 100),
        ("second", &close_before_login, 200),
        ("third", &never_answer, 400),
        ("fourth", &fail, 800),
        ("no more than the bound", &fail, 800),
        ("anew after a login", &log_in_and_close, 100),
        ("anew after every login", &log_in_and_close, 100),
        ("growing again", &fail, 200),
        ("a rejection waits the longest", &reject, 800),
        ("and is a beginning", &fail, 100),
    ];
    for (name, lose, least) in cases {
        let took = pause(&mut p, lose);
        assert!((millis(least)..=millis(least * 3 / 2)).contains(&took), "{name}: {took:?}");
    }
}

#[test]
fn a_forgotten_connection_is_not_closed_and_the_next_is_made_at_once() {
    let mut p = Platform::ready(|config| config.behaviours = vec![Behaviour::HalfOpenEvery(seconds(60))]);
    p.wait(seconds(59));
    assert_eq!(p.wanted, [""; 0]);
    p.wait(seconds(1));
    assert_eq!(p.wanted, ["forget", "connect"]);
    assert!(!p.pile.online());
    p.apply(Input::Connected);
    assert_eq!(p.count(0x01), 1);
    p.log_in();
    p.act(Action::HalfOpen);
    assert_eq!(p.wanted, ["forget", "connect", "forget", "connect"]);
}

#[test]
fn a_held_pile_charges_on_and_comes_back_only_when_resumed() {
    let mut p = Platform::ready(|config| config.charge_for = Some(seconds(90)));
    p.start(1, 100_000);
    p.act(Action::Hold);
    assert_eq!(p.wanted, ["close", "close forgotten"]);
    assert!(p.pile.view().held && !p.pile.online());
    p.sent.clear();
    p.wait(seconds(3600));
    p.act(Action::Restart);
    p.wait(seconds(3600));
    assert_eq!((p.wanted.len(), p.take().len()), (2, 0), "neither a connect nor a frame");
    assert_eq!(p.pile.unacked(), 1, "the charge has ended by itself");
    p.act(Action::Resume);
    assert_eq!(p.wanted.pop(), Some("connect"));
    p.apply(Input::Connected);
    p.log_in();
    p.send(TariffCheckResponse { pile_code: CODE, tariff_model_no: TariffNo([1, 0]), result: TariffCheck::Same });
    assert_eq!(p.record().stop_reason, StopReason::FinishedTime);
    // A connection that comes up when the pile no longer wants one is closed.
    p.act(Action::Drop);
    p.wait(seconds(2));
    assert_eq!(p.wanted.pop(), Some("connect"));
    p.act(Action::Hold);
    p.wanted.clear();
    p.apply(Input::Connected);
    assert_eq!(p.wanted, ["close"]);
}

#[test]
fn a_stubborn_pile_repeats_its_record_until_it_is_acknowledged() {
    let mut p = Platform::ready(|config| config.repeat_records = Some(seconds(10)));
    p.start(1, 100_000);
    p.wait(seconds(30));
    p.stop();
    p.wait(seconds(1000));
    assert_eq!(p.count(0x3B), 101);
    p.send(TransactionRecordAck { transaction_serial: Serial([1; 16]), result: RecordResult::UploadAccepted });
    p.wait(seconds(1000));
    assert_eq!(p.count(0x3B), 101);
}

#[test]
fn a_full_memory_loses_its_oldest_record_and_says_so() {
    let mut p = Platform::ready(|_| {});
    for serial in 1..=65 {
        p.start(serial, 100_000);
        p.stop();
    }
    let lost: Vec<&Count> = p.counts.iter().filter(|count| matches!(count, Count::RecordLost(_))).collect();
    assert_eq!(lost, [&Count::RecordLost(pileway::domain::Serial::from_bytes([1; 16]))]);
    assert_eq!(p.pile.unacked(), 64);
}

#[test]
fn a_record_is_repeated_by_the_book_and_replayed_after_a_login() {
    let mut p = Platform::ready(|_| {});
    p.start(1, 100_000);
    p.wait(seconds(30));
    p.stop();
    let at = p.mono;
    p.wait(seconds(3600));
    let sent = |p: &mut Platform| -> Vec<u64> {
        p.take().iter().filter(|(_, f)| code(f) == 0x3B).map(|(when, _)| when.saturating_sub(at).as_secs()).collect()
    };
    assert_eq!(sent(&mut p), [0, 30, 60, 90, 390]);
    // Refused is not stored: it is kept.
    p.send(TransactionRecordAck { transaction_serial: Serial([1; 16]), result: RecordResult::IllegalRecord });
    assert_eq!(p.pile.unacked(), 1);
    p.act(Action::Drop);
    assert_eq!(p.wanted.pop(), Some("close"));
    p.wait(seconds(2));
    p.connect();
    p.log_in();
    assert_eq!(sent(&mut p), [0u64; 0], "not before the tariff");
    p.send(TariffCheckResponse { pile_code: CODE, tariff_model_no: TariffNo([1, 0]), result: TariffCheck::Same });
    assert_eq!(sent(&mut p).len(), 1);
    p.send(TransactionRecordAck { transaction_serial: Serial([1; 16]), result: RecordResult::UploadAccepted });
    p.wait(seconds(1000));
    assert_eq!(sent(&mut p), [0u64; 0]);
}

#[test]
fn a_charge_outlives_its_connection() {
    let mut p = Platform::ready(|_| {});
    p.start(1, 100_000);
    p.apply(Input::Closed);
    p.sent.clear();
    p.wait(seconds(2));
    p.connect();
    p.log_in();
    p.wait(seconds(1));
    p.sent.clear();
    p.send(TariffCheckResponse { pile_code: CODE, tariff_model_no: TariffNo([1, 0]), result: TariffCheck::Same });
    assert_eq!((p.live().transaction_serial, p.live().status), (Serial([1; 16]), GunStatus::Charging));
}

fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}
