//! Fleets over several addresses: where piles go, what they take with them, and what is told of it.

use std::time::Duration;

use pileway::domain;
use pileway::sim::{AddressReport, Fleet, FleetConfig, Handle, PileConfig, Reconnect};
use serde_json::Value;

use crate::station::*;

/// The code of pile number `n`, from 0.
fn code(n: u64) -> domain::PileCode {
    format!("{:014}", 32_010_600_000_001 + n).parse().expect("a code")
}

/// Piles that come back quickly, and take notes.
fn fleet(stations: &[&Station], piles: u32, change: impl FnOnce(&mut PileConfig)) -> Fleet {
    let mut first = PileConfig::new(code(0));
    first.reconnect = Reconnect { min: Duration::from_millis(5), max: Duration::from_millis(50) };
    first.notes = 100;
    change(&mut first);
    let connect = stations.iter().map(|station| station.address.clone()).collect();
    Fleet::start(&FleetConfig { piles, connect_rate: 10_000, ..FleetConfig::new(connect, first) })
}

/// Which piles have logged in, by their numbers.
fn logged_in(seen: &[Seen]) -> Vec<u64> {
    let numbers = seen.iter().filter_map(|seen| match seen {
        Seen::Frame { pile, code: 0x01, .. } => (0..100).find(|n| code(*n).bcd() == pile.0),
        Seen::Frame { .. } | Seen::Closed { .. } => None,
    });
    let mut numbers: Vec<u64> = numbers.collect();
    numbers.sort_unstable();
    numbers
}

#[tokio::test]
async fn piles_spread_evenly_over_the_addresses() {
    let (a, b, c) = (Station::open(KIND).await, Station::open(KIND).await, Station::open(KIND).await);
    let fleet = fleet(&[&a, &b, &c], 7, |_| {});
    within("all logins", fleet.wait_for(0..7, |view| view.ready)).await;
    assert_eq!(logged_in(&a.seen()), [0, 3, 6]);
    assert_eq!(logged_in(&b.seen()), [1, 4]);
    assert_eq!(logged_in(&c.seen()), [2, 5]);
    let report = fleet.report();
    let online: Vec<(&str, u64)> = report.addresses.iter().map(|at| (at.address.as_str(), at.online)).collect();
    assert_eq!(online, [(a.address.as_str(), 3), (b.address.as_str(), 2), (c.address.as_str(), 2)]);
    assert_eq!((fleet.online(), report.counters.logins), (7, 7), "the sum of all addresses");
    assert_eq!(fleet.pile(code(4)).map(Handle::code), Some(code(4)));
    assert!(fleet.pile(code(7)).is_none());
    fleet.stop().await;
}

#[tokio::test]
async fn piles_of_an_address_that_closes_appear_at_the_next() {
    let (a, b, c) = (Station::open(KIND).await, Station::open(KIND).await, Station::open(KIND).await);
    let fleet = fleet(&[&a, &b, &c], 6, |_| {});
    within("all logins", fleet.wait_for(0..6, |view| view.ready)).await;
    b.close().await;
    c.until("the piles of the one that closed", |seen| logged_in(seen) == [1, 2, 4, 5]).await;
    within("all logins", fleet.until(|fleet| fleet.online() == 6)).await;
    assert_eq!(logged_in(&a.seen()), [0, 3], "who has a connection stays");
    let json = serde_json::to_value(fleet.report()).expect("JSON");
    let at = |n: usize, name: &str| json["addresses"][n][name].as_u64().expect("a number");
    assert_eq!([at(0, "online"), at(1, "online"), at(2, "online")], [2, 0, 4]);
    assert_eq!([at(0, "reconnects"), at(1, "reconnects"), at(2, "reconnects")], [0, 0, 2]);
    let lost = &json["addresses"][1]["errors"];
    let ended = ["closed_by_platform", "connection_broken"].map(|kind| lost[kind].as_u64().unwrap_or(0));
    assert_eq!(ended[0] + ended[1], 2, "{json}");
    // Without connections the figures stand still.
    fleet.hold(0..6).await;
    let report = fleet.report();
    let frames = |frames: fn(&AddressReport) -> u64| report.addresses.iter().map(frames).collect::<Vec<_>>();
    let (received, sent) = (frames(|at| at.frames_in), frames(|at| at.frames_out));
    assert!(received.iter().chain(&sent).all(|frames| *frames > 0), "{received:?}, {sent:?}");
    assert_eq!(received.iter().sum::<u64>(), report.counters.frames_in);
    assert_eq!(sent.iter().sum::<u64>(), report.counters.frames_out);
    fleet.stop().await;
}

#[tokio::test]
async fn an_unanswered_or_rejected_login_sends_a_pile_on() {
    let deaf = Station::open(Manners { login: Login::Ignore, ..KIND }).await;
    let hostile = Station::open(Manners { login: Login::Reject, ..KIND }).await;
    let kind = Station::open(KIND).await;
    let fleet = fleet(&[&deaf, &hostile, &kind], 1, |pile| pile.login_again = Duration::from_millis(20));
    within("a login", fleet.wait_for(0..1, |view| view.online)).await;
    deaf.until("the end of the connection", |seen| seen.contains(&Seen::Closed { line: 0 })).await;
    assert_eq!((deaf.count(0x01), hostile.count(0x01), kind.count(0x01)), (3, 1, 1));
    let report = fleet.report();
    let refused: Vec<u64> = report.addresses.iter().map(|at| at.logins_refused).collect();
    assert_eq!((refused, report.errors["login_unanswered"]), (vec![0, 1, 0], 3));
    fleet.stop().await;
}

#[tokio::test]
async fn an_unacknowledged_record_goes_to_the_next_address_until_it_is_acknowledged() {
    let a = Station::open(Manners { ack: false, starts: 1, ..KIND }).await;
    let b = Station::open(Manners { ack: false, ..KIND }).await;
    let c = Station::open(KIND).await;
    let fleet = fleet(&[&a, &b, &c], 1, |pile| pile.charge_for = Some(Duration::from_millis(50)));
    a.until("the record", |seen| count(seen, 0x3B) == 1).await;
    within("the gauge", fleet.until(|fleet| fleet.report().addresses[0].records_awaiting == 1)).await;
    let serial = fleet.ledger().unacked().next().expect("a record").1.serial;
    a.close().await;
    b.until("the record again", |seen| count(seen, 0x3B) == 1).await;
    within("the gauge", fleet.until(|fleet| fleet.report().addresses[1].records_awaiting == 1)).await;
    b.close().await;
    c.until("the record again", |seen| count(seen, 0x3B) == 1).await;
    within("the end of it", fleet.wait_for(0..1, |view| view.ready && view.unacked == 0)).await;

    // Another login brings heartbeats, which come after the records that wait: there is none.
    fleet.hold(0..1).await;
    let before = c.count(0x03);
    fleet.resume(0..1).await;
    c.until("heartbeats", |seen| count(seen, 0x03) > before).await;
    assert_eq!(c.count(0x3B), 1);

    let addresses = fleet.report().addresses;
    let told: Vec<_> = addresses
        .iter()
        .map(|at| (at.records_sent, at.records_repeated, at.records_acked, at.records_awaiting))
        .collect();
    assert_eq!(told, [(1, 0, 0, 0), (0, 1, 0, 0), (0, 1, 1, 0)]);
    let ledger = fleet.ledger();
    let (pile, order) = ledger.records().next().expect("a record");
    assert_eq!((pile, order.serial), (code(0), serial));
    assert_eq!((order.starts, order.charges, order.sends, order.acked, order.lost), (1, 1, 3, true, false));
    assert_eq!((ledger.unacked().count(), ledger.doubled().count(), ledger.forgotten()), (0, 0, 0));
    fleet.stop().await;
}

#[tokio::test]
async fn a_half_open_connection_stays_open_and_mute_while_the_pile_logs_in_elsewhere() {
    let (a, b) = (Station::open(KIND).await, Station::open(KIND).await);
    let fleet = fleet(&[&a, &b], 1, |_| {});
    within("a login", fleet.wait_for(0..1, |view| view.ready)).await;
    a.until("telemetry", |seen| count(seen, 0x13) == 1).await;
    let before = a.seen();
    fleet.piles()[0].half_open().await;
    b.until("telemetry", |seen| count(seen, 0x13) == 1).await;
    assert_eq!(a.seen(), before, "neither a frame nor an end");
    assert_eq!(fleet.report().counters.half_opens, 1);
    // That it was open until now shows in that it can be closed.
    fleet.hold(0..1).await;
    a.until("the end", |seen| seen.contains(&Seen::Closed { line: 0 })).await;
    assert_eq!(count(&a.seen(), 0x01), 1);
    fleet.stop().await;
}

#[tokio::test]
async fn held_piles_stay_away_until_they_are_resumed() {
    let station = Station::open(KIND).await;
    let fleet = fleet(&[&station], 4, |_| {});
    within("all logins", fleet.wait_for(0..4, |view| view.ready)).await;
    within("all to leave", fleet.hold(1..3)).await;
    station.until("two ends", |seen| seen.iter().filter(|seen| matches!(seen, Seen::Closed { .. })).count() == 2).await;
    assert_eq!(fleet.online(), 2);
    let held: Vec<bool> = fleet.piles().iter().map(|pile| pile.view().held).collect();
    assert_eq!(held, [false, true, true, false]);
    fleet.resume(2..3).await;
    within("one more login", fleet.until(|fleet| fleet.online() == 3)).await;
    assert_eq!(logged_in(&station.seen()), [0, 1, 2, 2, 3], "the other one is still away");
    fleet.stop().await;
}

#[tokio::test]
async fn the_ledger_tells_doubled_starts_and_when_commands_came() {
    let station = Station::open(Manners { starts: 2, stop: true, ..KIND }).await;
    let began = tokio::time::Instant::now();
    let fleet = fleet(&[&station], 2, |_| {});
    let settled = |fleet: &Fleet| fleet.ledger().records().filter(|(_, order)| order.acked).count() == 2;
    within("two settled orders", fleet.until(settled)).await;
    let ledger = fleet.ledger();
    for (_, order) in ledger.orders() {
        assert_eq!((order.starts, order.charges, order.stops, order.records), (2, 1, 1, 1), "{order:?}");
    }
    assert_eq!(ledger.doubled().map(|(pile, _)| pile).collect::<Vec<_>>(), [code(0), code(1)]);
    for (command, times) in [(0x34, 4), (0x36, 2), (0x02, 0), (0x40, 0)] {
        assert_eq!(ledger.commands(command).count(), times, "{command:#04x}");
    }
    for (_, stop) in ledger.commands(0x36) {
        let (_, start) = ledger.commands(0x34).find(|(_, start)| start.serial == stop.serial).expect("its start");
        assert!(began < start.at && start.at <= stop.at && stop.at < tokio::time::Instant::now());
    }
    fleet.stop().await;
}

#[tokio::test]
async fn notes_have_a_limit_and_say_what_went() {
    let station = Station::open(Manners { starts: 3, stop: true, ..KIND }).await;
    let fleet = fleet(&[&station], 2, |pile| pile.notes = 2);
    within("two settled orders", fleet.until(|fleet| fleet.report().counters.records_acked == 2)).await;
    let ledger = fleet.ledger();
    assert_eq!(ledger.forgotten(), 4, "two of four commands each");
    assert_eq!((ledger.commands(0x34).count(), ledger.commands(0x36).count(), ledger.records().count()), (2, 2, 2));
    fleet.stop().await;
}

#[tokio::test]
async fn the_command_reports_every_address_in_json_and_in_the_table() {
    let (a, b) = (Station::open(KIND).await, Station::open(KIND).await);
    for format in ["json", "text"] {
        let connect = format!("{},{}", a.address, b.address);
        let arguments = ["sim", "--piles", "3", "--duration", "2", "--connect", &connect, "--report", format];
        let run = tokio::process::Command::new(env!("CARGO_BIN_EXE_pileway")).args(arguments).output();
        let done = within("a report", run).await.expect("the binary runs");
        let text = String::from_utf8(done.stdout).expect("text");
        if format == "text" {
            assert!(text.contains(&format!("{}  ", a.address)) && text.contains("2 online, 2 logins"), "{text}");
            continue;
        }
        let report: Value = serde_json::from_str(&text).expect("JSON");
        let told = report["addresses"].as_array().expect("a list").iter();
        let told: Vec<(&str, u64)> =
            told.map(|at| (at["address"].as_str().expect("text"), at["logins"].as_u64().expect("a number"))).collect();
        assert_eq!(told, [(a.address.as_str(), 2), (b.address.as_str(), 1)]);
    }
}

#[tokio::test]
async fn a_bad_argument_is_named_with_its_reason() {
    let cases = [
        (["--connect", "node-a:8768,node-b"], "'node-b' for '--connect <CONNECT>'", "must be HOST:PORT"),
        (["--connect", "node-a:8768,,node-b:1"], "'' for '--connect <CONNECT>'", "must be HOST:PORT"),
        (["--connect", "::1:8768"], "'::1:8768' for '--connect <CONNECT>'", "an IPv6 address in brackets"),
        (["--connect", "node-a:0,node-b:1"], "'node-a:0' for '--connect <CONNECT>'", "the port must be 1..=65535"),
        (["--connect", "a:1,b:70000"], "'b:70000' for '--connect <CONNECT>'", "the port must be 1..=65535"),
        (["--reconnect-min", "soon"], "'soon' for '--reconnect-min <DURATION>'", "must be a duration like 10s"),
        (["--reconnect-min", "0s"], "'0s' for '--reconnect-min <DURATION>'", "must be 1ms or more"),
        (["--reconnect-max", "500ms"], "--reconnect-max 500ms", "must not be less than --reconnect-min 1s"),
    ];
    for (arguments, named, reason) in cases {
        let run = tokio::process::Command::new(env!("CARGO_BIN_EXE_pileway")).arg("sim").args(arguments).output();
        let done = within("an end", run).await.expect("the binary runs");
        let said = String::from_utf8(done.stderr).expect("text");
        assert_eq!(done.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(named) && said.contains(reason), "{arguments:?}: {said}");
    }
}
