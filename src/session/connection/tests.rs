//! What depends on the moment at which a socket is looked at.

use std::io::{Read, Write};
use std::net::TcpStream as Client;
use std::time::Instant as Wall;

use tokio::net::TcpListener;
use tokio::time::Instant;

use super::*;
use crate::domain::tariff::PricePair;
use crate::domain::units::UtcOffset;
use crate::domain::{Period, Price, Tariff};
use crate::hub::Hub;
use crate::session::authority::{Asking, DenyAll};
use crate::session::{Departed, Nobody, Policy, Sessions};
use crate::store::embedded::{Config, Embedded};
use crate::store::ledger::Ledger;
use crate::wire::{GunHealth, GunNo, Heartbeat, Outgoing, Sequence};

/// A connection that nothing drives, the socket at its other end, and what the store needs.
async fn connected() -> (Connection, Client, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Embedded::open(Config::new(dir.path())).expect("opens");
    let node = Node {
        policy: policy(),
        sessions: Sessions::new(7),
        ledger: Ledger::new(Arc::new(store)),
        hub: Hub::default(),
        departed: Departed::default(),
        neighbours: Arc::new(Nobody),
        authority: Arc::new(DenyAll),
        started: Instant::now(),
    };
    node.sessions.beat(node.now().mono);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let client = Client::connect(listener.local_addr().expect("bound")).expect("connects");
    let (socket, address) = listener.accept().await.expect("accepts");
    (Connection::new(Arc::new(node), socket, address), client, dir)
}

fn policy() -> Arc<Policy> {
    let price = PricePair { energy: Price(100_000), service: Price(40_000) };
    let tariff = Tariff { prices: [price; 4], half_hours: [Period::Flat; 48] };
    let offset = UtcOffset::parse("+08:00").expect("an offset");
    Arc::new(Policy {
        config: crate::session::Config::default(),
        tariff,
        offset,
        asking: Asking::default(),
        curves_kept: Duration::from_hours(48),
    })
}

fn heartbeat() -> Frame {
    let code: PileCode = "32010600019236".parse().expect("14 digits");
    Heartbeat { pile_code: wire_pile(code), gun_no: GunNo(1), gun_status: GunHealth::Normal }.into()
}

#[tokio::test]
async fn after_standing_still_nothing_is_asked_of_a_pile_before_what_it_has_sent_is_read() {
    let (mut connection, mut client, _dir) = connected().await;
    let now = connection.node.now();
    let later = |seconds| Now { mono: now.mono + Duration::from_secs(seconds), ..now };
    assert!(connection.has_caught_up(now));
    assert!(connection.read_what_is_there(now), "nothing yet");
    let mut bytes = bytes::BytesMut::new();
    Outgoing::new(Sequence([1, 0]), heartbeat()).write(&mut bytes).expect("fits");
    client.write_all(&bytes).expect("room");
    assert!(connection.has_caught_up(now), "it has not stood still");
    // The frame lies in the socket, and the runtime has not noticed.
    assert!(!connection.has_caught_up(later(3)));
    connection.framed.get_ref().readable().await.expect("a socket");
    assert!(connection.has_caught_up(later(3)));
    assert_eq!(connection.link.frames.load(Ordering::Relaxed), 1, "it was read");

    connection.node.sessions.beat(later(3).mono);
    drop(client);
    assert!(!connection.has_caught_up(later(6)));
    connection.framed.get_ref().readable().await.expect("a socket");
    assert!(!connection.has_caught_up(later(6)));
    assert!(connection.closing.is_some(), "the pile has gone");
}

#[tokio::test]
async fn a_command_a_full_socket_does_not_take_by_its_deadline_closes_the_connection() {
    let (mut connection, _client, _dir) = connected().await;
    let began = Wall::now();
    let now = connection.node.now();
    let send = |until| Output::Send { sequence: Sequence([1, 0]), frame: heartbeat(), until };
    connection.perform(now, send(Some(now.mono + Duration::from_millis(300))), None);
    // Nobody reads, and no socket takes so much.
    for _ in 0..1_000_000 {
        connection.perform(now, send(None), None);
    }
    connection.write().await;
    assert!(connection.closing.is_some() && connection.framed.write_buffer().is_empty());
    assert!(began.elapsed() < connection.node.policy.config.write_timeout, "{:?}", began.elapsed());
}

#[tokio::test]
async fn what_may_not_be_written_any_more_is_not() {
    let (mut connection, mut client, _dir) = connected().await;
    let now = connection.node.now();
    let sequence = Sequence([1, 0]);
    connection.perform(now, Output::Send { sequence, frame: heartbeat(), until: Some(now.mono) }, None);
    connection.write().await;
    assert!(connection.closing.is_some());
    drop(connection);
    let mut received = vec![];
    client.read_to_end(&mut received).expect("an end");
    assert!(received.is_empty(), "{received:02x?}");
}
