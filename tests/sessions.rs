//! One pile cannot hurt another; a dead pile is known dead, and a short reconnect is nothing; the newest login wins.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::api::{changes, fact};
use common::pile::{Expected, Line};
use common::{Api, Chance, Node, Pile, eventually, frames, reason, within};
use pileway::api::pb::{CommandTiming, OfflineReason, PileChange, PilePresence};
use pileway::wire::*;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::Code;

const A: &str = "32010600019236";
const B: &str = "32010600019237";
const C: &str = "55031412782305";
const UNKNOWN: &str = "99999999999999";

#[tokio::test]
async fn nothing_is_answered_before_a_login() {
    let node = Node::start();
    let mut line = Line::connect(&node).await;
    line.send(frames::heartbeat(A)).await;
    line.send(TariffRequest { pile_code: frames::code(A) }).await;
    line.send(frames::record(A, 1, Serial([7; 16]), 100)).await;
    let sequence = line.send(frames::login(A, 1)).await;
    let first = line.next().await.expect("an answer");
    assert!(LoginResponse::of(&first.frame).is_some(), "{first:?}");
    assert_eq!(first.sequence, sequence);
    line.is_served(A).await;
    let api = Api::of(&node).await;
    assert_eq!(api.session(A).await.refused_frames, 3);
    assert!(api.orders(A).await.is_empty(), "the record before the login is nobody's");
}

#[tokio::test]
async fn what_comes_in_one_segment_with_a_login_is_answered_or_counted() {
    let node = Node::start();
    let mut line = Line::connect(&node).await;
    let mut glued = bytes::BytesMut::new();
    Outgoing::new(Sequence([1, 0]), frames::login(A, 1)).write(&mut glued).expect("fits");
    Outgoing::new(Sequence([2, 0]), frames::heartbeat(A)).write(&mut glued).expect("fits");
    Outgoing::new(Sequence([3, 0]), frames::record(A, 1, Serial([7; 16]), 100)).write(&mut glued).expect("fits");
    line.send_bytes(&glued).await;
    assert_eq!(line.expect_with_sequence::<LoginResponse>().await.1, Sequence([1, 0]));
    let answered = line.so_far(A).await.len() as i64;
    assert_eq!(Api::of(&node).await.session(A).await.refused_frames + answered, 2);
}

#[tokio::test]
async fn a_connection_without_a_login_is_closed_whatever_it_sends() {
    let node = Node::with(&[("PILE__LOGIN_TIMEOUT", "1s")]);
    let mut silent = Line::connect(&node).await;
    let mut talking = Line::connect(&node).await;
    let talk = async {
        while talking.try_send(frames::heartbeat(A)).await {
            // Paced by the wait for an answer that never comes.
            if let Ok(end) = tokio::time::timeout(Duration::from_millis(100), talking.next()).await {
                assert_eq!(end, None, "nothing is answered");
                return;
            }
        }
    };
    let mut alive = Pile::login(&node, B).await;
    within("the node to close both", async { tokio::join!(silent.closed(), talk) }).await;
    alive.served().await;
}

#[tokio::test]
async fn what_is_no_frame_of_this_pile_is_counted_and_disturbs_nobody() {
    let node = Node::start();
    let api = Api::of(&node).await;
    let mut other = Pile::login(&node, B).await;
    let mut pile = Pile::login(&node, A).await;
    let heartbeat = || Outgoing::new(Sequence([1, 0]), frames::heartbeat(A));
    let bytes = |outgoing: Outgoing| {
        let mut bytes = bytes::BytesMut::new();
        outgoing.write(&mut bytes).expect("fits");
        bytes.to_vec()
    };
    let spoilt = |at: usize, bits: u8| {
        let mut frame = bytes(heartbeat());
        frame[at] ^= bits;
        frame
    };
    let encrypted = {
        // The CRC must be right, so the flag is set before it is computed.
        let mut frame = bytes(heartbeat());
        frame[4] = 1;
        let end = frame.len() - 2;
        let crc = crc::Crc::<u16>::new(&crc::CRC_16_MODBUS).checksum(&frame[2..end]);
        frame[end..].copy_from_slice(&crc.to_le_bytes());
        frame
    };
    let foreign = Outgoing::new(Sequence([2, 0]), frames::heartbeat(B));
    let unknown_pile = Outgoing::new(Sequence([2, 0]), frames::record(UNKNOWN, 1, Serial([1; 16]), 100));
    let downward = Outgoing::new(Sequence([3, 0]), RemoteStop { pile_code: frames::code(A), gun_no: GunNo(1) });
    let nobody = Heartbeat { pile_code: PileCode([0xFA; 7]), gun_no: GunNo(1), gun_status: GunHealth::Normal };
    let cases: [(&str, Vec<u8>); 10] = [
        ("garbage", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        ("a wrong checksum", spoilt(8, 0xFF)),
        ("a length below the header", vec![0x68, 0x03, 0, 0, 0]),
        ("an encrypted frame", encrypted),
        ("an unknown type", bytes(Outgoing::raw(Sequence([1, 0]), 0xEE, vec![1, 2, 3]))),
        ("a body that is too short", bytes(Outgoing::raw(Sequence([1, 0]), 0x3B, vec![0; 20]))),
        ("another pile's frame", bytes(foreign)),
        ("the record of a pile nobody knows", bytes(unknown_pile)),
        ("a frame only a platform sends", bytes(downward)),
        ("a pile code that is none", bytes(Outgoing::new(Sequence([1, 0]), nobody))),
    ];
    for (n, (what, bad)) in cases.iter().enumerate() {
        pile.send_bytes(bad).await;
        let answers = pile.seen().await;
        assert!(answers.is_empty(), "{what} is answered with {answers:?}");
        assert_eq!(api.session(A).await.refused_frames, n as i64 + 1, "{what}");
        other.served().await;
    }
    let session = api.session(B).await;
    assert_eq!((session.refused_frames, session.swapped_crc_frames), (0, 0));
    assert_eq!(reason(&api.find_order(UNKNOWN, &"01".repeat(16)).await.expect_err("no order")).1, "ORDER_UNKNOWN");
}

#[tokio::test]
async fn random_bytes_end_in_a_refusal_or_a_closed_socket() {
    let mut chance = Chance::seeded();
    let node = Node::start();
    let api = Api::of(&node).await;
    let mut witness = Pile::login(&node, B).await;
    for _ in 0..50 {
        let mut line = Line::connect(&node).await;
        if chance.below(2) == 0 {
            line.login(A, 1).await;
        }
        let mut socket = line.into_socket();
        for _ in 0..chance.below(8) {
            let count = chance.below(2000) as usize;
            let mut bytes = chance.bytes(count);
            // Otherwise hardly any of it looks like the start of a frame.
            (0..bytes.len()).step_by(13).for_each(|at| bytes[at] = START);
            // The node may have closed it by now.
            let _ = within("room to send", socket.write_all(&bytes)).await;
        }
        drop(socket);
        witness.served().await;
    }
    assert_eq!(api.session(B).await.refused_frames, 0);
    // Whatever random frames said in A's name, A itself is served.
    let mut pile = Pile::login(&node, A).await;
    pile.served().await;
    assert!(node.stop().success());
}

const START: u8 = 0x68;

#[tokio::test]
async fn a_frame_that_stays_incomplete_closes_its_connection_only() {
    let node = Node::with(&[("PILE__PARTIAL_FRAME", "1s")]);
    let mut other = Pile::login(&node, B).await;
    let mut pile = Pile::login(&node, A).await;
    pile.send_bytes(&[0x68, 0x0D, 0x01, 0x00, 0x00, 0x03]).await;
    pile.closed().await;
    Api::of(&node).await.session_ends(A).await;
    other.served().await;
}

#[tokio::test]
async fn a_pile_with_a_swapped_checksum_is_served() {
    let node = Node::start();
    let api = Api::of(&node).await;
    let mut line = Line::connect(&node).await;
    let swapped = |n: u8, frame: Frame| Outgoing { crc: CrcOrder::HighFirst, ..Outgoing::new(Sequence([n, 0]), frame) };
    line.send_outgoing(swapped(1, frames::login(A, 1).into())).await;
    line.expect::<LoginResponse>().await;
    line.send_outgoing(swapped(2, frames::heartbeat(A).into())).await;
    let (_, sequence) = line.expect_with_sequence::<HeartbeatResponse>().await;
    assert_eq!(sequence, Sequence([2, 0]));
    line.is_served(A).await;
    let session = api.session(A).await;
    assert_eq!((session.swapped_crc_frames, session.refused_frames, session.frames), (2, 0, 3));
}

#[tokio::test]
async fn frames_are_answered_with_their_own_sequence_however_tcp_cuts_them() {
    let node = Node::start();
    let mut pile = Pile::login(&node, A).await;
    let sequences = [[0, 0], [0x2F, 0x01], [0x01, 0x2F], [0xFF, 0xFF], [0x68, 0x68], [0, 0x68], [0, 0]].map(Sequence);
    let mut all = bytes::BytesMut::new();
    for sequence in sequences {
        Outgoing::new(sequence, frames::heartbeat(A)).write(&mut all).expect("fits");
    }
    pile.send_bytes(&all).await;
    for sequence in sequences {
        assert_eq!(pile.next().await.expect("an answer").sequence, sequence);
    }
    for byte in &all {
        pile.send_bytes(&[*byte]).await;
    }
    for sequence in sequences {
        assert_eq!(pile.next().await.expect("an answer").sequence, sequence);
    }
}

#[tokio::test]
async fn several_piles_share_a_connection_and_leave_it_one_by_one() {
    let node = Node::with(&[("PILE__PER_CONNECTION", "3")]);
    let api = Api::of(&node).await;
    let mut line = Line::connect(&node).await;
    for pile in [A, B, C] {
        line.login(pile, 1).await;
    }
    line.send(frames::login(UNKNOWN, 1)).await;
    assert_eq!(line.expect::<LoginResponse>().await.result, LoginResult::Rejected);

    for pile in [A, B, C] {
        let (answer, ()) = tokio::join!(api.sync_clock(pile), answer_clock(&mut line, pile));
        answer.expect("the pile's own answer");
    }
    api.disconnect(A, CommandTiming::Immediately).await.expect("disconnected");
    assert!(api.pile(A).await.session.is_none());
    assert_eq!(reason(&api.sync_clock(A).await.expect_err("gone")), (Code::Unavailable, "PILE_OFFLINE".into()));
    line.is_served(B).await;
    // Its frames are another pile's now, until it logs in again.
    line.send(frames::heartbeat(A)).await;
    assert!(line.so_far(C).await.is_empty());
    line.login(A, 1).await;
    line.is_served(A).await;

    for pile in [A, B] {
        api.disconnect(pile, CommandTiming::WhenIdle).await.expect("disconnected");
        line.is_served(C).await;
    }
    api.disconnect(C, CommandTiming::WhenIdle).await.expect("disconnected");
    line.closed().await;
}

/// Waits for 0x56 for this pile, and answers it.
async fn answer_clock(line: &mut Line, pile: &str) {
    let (sync, sequence) = line.expect_with_sequence::<TimeSync>().await;
    assert_eq!(sync.pile_code, frames::code(pile));
    line.send_as(sequence, TimeSyncResponse { pile_code: sync.pile_code, time: sync.time }).await;
}

#[tokio::test]
async fn the_newest_login_takes_over_at_once_and_is_no_offline() {
    let node = Node::start();
    let api = Api::of(&node).await;
    let mut events = api.watch_piles().await;
    let mut first = Pile::login(&node, A).await;
    let before = api.session(A).await;
    let mut second = Pile::login(&node, A).await;
    first.closed().await;
    let after = api.session(A).await;
    assert!(after.epoch > before.epoch && after.session_id != before.session_id, "{before:?} {after:?}");
    let (answer, ()) = tokio::join!(api.sync_clock(A), answer_clock(&mut second, A));
    answer.expect("the newer session's answer");

    // On a shared connection only the pile that has moved is ended.
    let mut shared = Line::connect(&node).await;
    shared.login(A, 1).await;
    shared.login(B, 1).await;
    second.closed().await;
    let mut third = Pile::login(&node, A).await;
    shared.is_served(B).await;
    let (answer, ()) = tokio::join!(api.sync_clock(A), answer_clock(&mut third, A));
    answer.expect("the newest session's answer");
    shared.send(frames::heartbeat(A)).await;
    assert!(shared.so_far(B).await.is_empty(), "the old session is not served any more");

    third.idle(1).await;
    let seen = events.until(A, PileChange::Gun).await;
    assert_eq!(changes(&seen, A), [PileChange::Online, PileChange::Gun]);
}

#[tokio::test]
async fn a_command_whose_session_ends_says_so() {
    let node = Node::start();
    let api = Api::of(&node).await;
    let mut pile = Pile::login(&node, A).await;
    let goes = async {
        pile.expect::<TimeSync>().await;
        drop(pile);
    };
    let (answer, ()) = tokio::join!(api.sync_clock(A), goes);
    let status = answer.expect_err("no answer");
    // It was written: nobody may repeat it blindly.
    assert_eq!(reason(&status), (Code::Aborted, "SESSION_LOST".into()));
    assert_eq!(fact(&status, "written"), "true");
}

/// Everything that hangs on the two timers, at the same time: they cannot be made shorter.
#[tokio::test]
async fn presence_follows_the_last_valid_frame() {
    let node = Node::with(&[("PILE__LOST_AFTER", "5s"), ("PILE__CLOSE_AFTER", "8s")]);
    let api = Api::of(&node).await;
    let mut events = api.watch_piles().await;
    let (returns, leaves, garbles) = (B, C, "00000000000007");

    let mut silent = Pile::login(&node, A).await;
    let returning = Pile::login(&node, returns).await;
    let leaving = Pile::login(&node, leaves).await;
    drop(returning);
    let mut returned = Pile::login(&node, returns).await;
    let mut garbling = Pile::login(&node, garbles).await;
    drop(leaving);
    let enough = CancellationToken::new();
    let stays = tokio::spawn({
        let enough = enough.clone();
        async move {
            while !enough.is_cancelled() {
                returned.served().await;
                // Paced by the wait for something that never comes, or for the end it has coming.
                let said = tokio::time::timeout(Duration::from_millis(300), garbling.next()).await;
                assert!(matches!(said, Ok(None) | Err(_)), "{said:?}");
                garbling.try_send_bytes(b"not a frame").await;
            }
            returned
        }
    });

    let mut seen = events.until(A, PileChange::Offline).await;
    assert_eq!(seen.last().expect("one").offline_reason(), OfflineReason::Silent);
    let pile = api.pile(A).await;
    assert_eq!(pile.presence(), PilePresence::Offline);
    let status = api.sync_clock(A).await.expect_err("silent");
    assert_eq!(reason(&status), (Code::Unavailable, "PILE_OFFLINE".into()));
    assert!(!fact(&status, "last_seen").is_empty());

    // Its connection is still open: the next frame brings it back.
    silent.served().await;
    seen.extend(events.until(A, PileChange::Online).await);
    let (answer, ()) = tokio::join!(api.sync_clock(A), answer_clock(&mut silent, A));
    answer.expect("the pile's own answer");

    // Then it is silent for good: offline once more, and closed.
    seen.extend(events.until(A, PileChange::Offline).await);
    silent.closed().await;
    api.session_ends(A).await;

    enough.cancel();
    stays.await.expect("no panic").served().await;
    Pile::login(&node, "00000000000009").await;
    seen.extend(events.until("00000000000009", PileChange::Online).await);
    let (on, off) = (PileChange::Online, PileChange::Offline);
    assert_eq!(changes(&seen, A), [on, off, on, off]);
    assert_eq!(changes(&seen, returns), [on]);
    assert_eq!(changes(&seen, leaves), [on, off]);
    // Garbage is no sign of life.
    assert_eq!(changes(&seen, garbles), [on, off]);
    let why = |pile: &str| {
        let mut of_pile = seen.iter().filter(|event| common::api::of(event) == pile);
        of_pile.find(|event| event.change() == off).expect("offline").offline_reason()
    };
    assert_eq!(why(leaves), OfflineReason::Disconnected);
    assert_eq!(why(garbles), OfflineReason::Silent);
}

#[tokio::test]
async fn a_pile_that_died_with_its_node_is_reported_once() {
    let mut node = Node::with(&[("PILE__LOST_AFTER", "5s"), ("PILE__CLOSE_AFTER", "60s")]);
    let (_gone, _back) = (Pile::login(&node, A).await, Pile::login(&node, B).await);
    let known = Api::of(&node).await;
    tokio::join!(known.pile(A), known.pile(B));
    node.restart();
    let api = Api::of(&node).await;
    let mut events = api.watch_piles().await;
    let known: Vec<_> = events.snapshot.iter().map(|pile| (pile.pile.as_str(), pile.presence())).collect();
    assert_eq!(known, [(A, PilePresence::Online), (B, PilePresence::Online)]);
    let status = api.sync_clock(A).await.expect_err("not back");
    assert_eq!(reason(&status), (Code::Unavailable, "PILE_OFFLINE".into()));

    let back = Pile::login(&node, B).await;
    let mut seen = events.until(A, PileChange::Offline).await;
    assert_eq!(seen.last().expect("one").offline_reason(), OfflineReason::NodeLost);
    assert_eq!(api.pile(A).await.presence(), PilePresence::Offline);

    // B leaves now: by the time it is reported, A has been due again if it ever is.
    drop(back);
    seen.extend(events.until(B, PileChange::Offline).await);
    assert_eq!(changes(&seen, A), [PileChange::Offline]);
    assert_eq!(changes(&seen, B), [PileChange::Offline]);

    // And it is not reported by the next run again, which only C died with.
    let _c = Pile::login(&node, C).await;
    api.pile(C).await;
    node.restart();
    let api = Api::of(&node).await;
    let mut events = api.watch_piles().await;
    let seen = events.until(C, PileChange::Offline).await;
    assert_eq!((changes(&seen, A), changes(&seen, B)), (vec![], vec![]));
}

#[tokio::test]
async fn a_pile_that_does_not_read_disturbs_nobody() {
    let node = Node::with(&[("PILE__WRITE_TIMEOUT", "1s")]);
    let api = Api::of(&node).await;
    let mut other = Pile::login(&node, B).await;
    // A small window, so that the node's answers soon have no room.
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a small buffer");
    let mut line = Line::over(socket.connect(node.piles).await.expect("the node listens"));
    line.login(A, 1).await;
    let mut socket: TcpStream = line.into_socket();
    let mut requests = bytes::BytesMut::new();
    for _ in 0..100 {
        // 15 bytes that ask for 98.
        let ask = TariffRequest { pile_code: frames::code(A) };
        Outgoing::new(Sequence([0, 0]), ask).write(&mut requests).expect("fits");
    }
    let flood = tokio::spawn(async move {
        while socket.write_all(&requests).await.is_ok() {}
        socket
    });
    let ended = async {
        while api.pile(A).await.session.is_some() {
            other.served().await;
        }
    };
    within("the end of the session that does not read", ended).await;
    within("the node to close the socket", flood).await.expect("no panic");
    // The log comes through a pipe of its own, a little later.
    let said = || async { node.log().contains("reason=\"write_timeout\"").then_some(()) };
    eventually("the log to name the reason", said).await;
    Pile::login(&node, A).await.served().await;
}

#[tokio::test]
async fn a_node_that_stood_still_does_not_take_that_for_silence() {
    let node = Node::with(&[("PILE__LOST_AFTER", "5s"), ("PILE__CLOSE_AFTER", "6s")]);
    let api = Api::of(&node).await;
    let mut pile = Pile::login(&node, A).await;
    pile.served().await;
    let before = api.session(A).await.session_id;
    node.freeze();
    // Longer than the pile may be silent, and it is not: its heartbeats lie in the socket.
    assert!(tokio::time::timeout(Duration::from_secs(8), pile.served()).await.is_err(), "it stands still");
    node.thaw();
    pile.served().await;
    assert_eq!(api.session(A).await.session_id, before, "the same session goes on");
    let said = || async { (node.log().matches("pile logged in").count() == 2).then_some(()) };
    Pile::login(&node, B).await.served().await;
    eventually("the log to tell of the second pile", said).await;
    assert!(!node.log().contains("pile offline"), "{}", node.log());
}

#[tokio::test]
async fn two_devices_with_one_pile_code_are_noticed_and_one_of_them_has_to_wait() {
    let node = Node::start();
    let api = Api::of(&node).await;
    let mut events = api.watch_piles().await;
    let mut lines = vec![];
    for n in 0..4 {
        let mut line = Line::connect(&node).await;
        line.send(device(n % 2)).await;
        assert_eq!(line.expect::<LoginResponse>().await.result, LoginResult::Accepted, "login {n}");
        lines.push(line);
    }
    for again in 0..2 {
        let mut refused = Line::connect(&node).await;
        refused.send(device(0)).await;
        assert_eq!(refused.expect::<LoginResponse>().await.result, LoginResult::Rejected, "{again}");
        refused.closed().await;
    }
    let seen = events.until(A, PileChange::DuplicateCode).await;
    let duplicate = seen.last().and_then(|event| event.duplicate.clone()).expect("which device");
    assert_eq!(duplicate.iccid, "89860000000000000000");
    assert!(duplicate.address.starts_with("127.0.0.1:"), "{duplicate:?}");
    // Whoever holds the pile is served, and once is enough to tell.
    let holder = lines.last_mut().expect("four");
    holder.is_served(A).await;
    holder.send(frames::idle(A, 1)).await;
    let seen = events.until(A, PileChange::Gun).await;
    assert!(!changes(&seen, A).contains(&PileChange::DuplicateCode));
}

fn device(n: u64) -> LoginRequest {
    let sim_card = format!("8986000000000000000{n}").parse().expect("20 digits");
    LoginRequest { sim_card, ..frames::login(A, 1) }
}

#[tokio::test]
async fn a_pile_nobody_has_met_is_unknown_to_every_method() {
    let node = Node::start();
    let api = Api::of(&node).await;
    let unknown = (Code::NotFound, "PILE_UNKNOWN".to_owned());
    assert_eq!(reason(&api.sync_clock(UNKNOWN).await.expect_err("unknown")), unknown);
    assert_eq!(reason(&api.disconnect(UNKNOWN, CommandTiming::WhenIdle).await.expect_err("unknown")), unknown);
    let start = common::api::start_request(UNKNOWN, 1);
    assert_eq!(reason(&api.start(start).await.expect_err("unknown")), unknown);
    assert_eq!(reason(&api.stop(UNKNOWN, &"01".repeat(16)).await.expect_err("unknown")), unknown);
    let get = pileway::api::pb::GetPileRequest { pile: UNKNOWN.into() };
    assert_eq!(reason(&api.piles.clone().get_pile(get).await.expect_err("unknown")), unknown);
}

#[tokio::test]
async fn told_to_stop_a_node_ends_in_order_whoever_is_connected() {
    let mut node = Node::start();
    let api = Api::of(&node).await;
    let mut events = api.watch_piles().await;
    let mut pile = Pile::login(&node, A).await;
    let mut stranger = Line::connect(&node).await;
    events.until(A, PileChange::Online).await;
    node.terminate();
    pile.closed().await;
    stranger.closed().await;
    assert!(events.next().await.is_none(), "a watch ends without an error");
    assert!(node.wait().success());
}

#[tokio::test]
async fn more_connections_than_allowed_are_refused_and_the_others_served() {
    let node = Node::with(&[("PILE__MAX_CONNECTIONS", "2")]);
    let mut first = Pile::login(&node, A).await;
    let second = Pile::login(&node, B).await;
    Line::connect(&node).await.closed().await;
    first.served().await;
    drop(second);
    // The node need not notice at once.
    let mut third = eventually("room for another", || async {
        let mut line = Line::connect(&node).await;
        (line.try_send(frames::login(C, 1)).await && line.next().await.is_some()).then_some(line)
    })
    .await;
    third.is_served(C).await;
    first.served().await;
}

/// A pile that logs in again and again while callers start charges: every caller gets a definite answer, and one that is
/// told that nothing was written can rely on it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn starts_amid_takeovers_are_answered_truly() {
    let node = Node::with(&[("GRPC__START_DEADLINE", "2s")]);
    let api = Api::of(&node).await;
    let written = Arc::new(Mutex::new(BTreeSet::new()));
    let enough = CancellationToken::new();
    // Each new login ends the one before; both answer what they are told to start.
    let _first = Pile::login_with_guns(&node, A, GUNS).await;
    let mut chance = Chance::seeded();
    let storm = {
        let (piles, enough, written) = (node.piles, enough.clone(), written.clone());
        async move {
            let mut lines = JoinSet::new();
            let mut pace = Line::connect_to(piles).await;
            pace.login(B, 1).await;
            while !enough.is_cancelled() {
                let mut line = Line::connect_to(piles).await;
                line.login(A, GUNS).await;
                lines.spawn(obey(line, written.clone()));
                for _ in 0..chance.below(60) {
                    pace.is_served(B).await;
                }
            }
            lines
        }
    };
    let storm = tokio::spawn(storm);

    let mut answers = vec![];
    for gun in 1..=GUNS {
        let request = common::api::start_request(A, i32::from(gun));
        answers.push((request.request_id.clone(), api.start(request).await));
    }
    enough.cancel();
    let mut lines = storm.await.expect("no panic");
    // The storm is over: the last line of it is alone, and ends with the node.
    let orders = api.orders(A).await;
    let written = written.lock().expect("no panic").clone();
    let mut outcomes: BTreeMap<String, u32> = BTreeMap::new();
    for (request, answer) in answers {
        let order = orders.iter().find(|order| order.request_id == request);
        let was_written = order.is_some_and(|order| written.contains(&order.serial));
        let outcome = match &answer {
            Ok(order) => {
                assert!(was_written, "{order:?} was started, and no pile told");
                "started".to_owned()
            }
            Err(status) => reason(status).1,
        };
        match answer.as_ref().map_err(tonic::Status::code) {
            Ok(_) | Err(Code::Aborted | Code::DeadlineExceeded) => {}
            Err(Code::Unavailable | Code::FailedPrecondition | Code::ResourceExhausted) => {
                assert!(!was_written, "{outcome}, and yet a pile was told: {order:?}");
            }
            Err(other) => panic!("{other:?} {answer:?}"),
        }
        *outcomes.entry(outcome).or_insert(0) += 1;
    }
    eprintln!("{outcomes:?}, {} orders, {} written", orders.len(), written.len());
    drop(node);
    while lines.join_next().await.is_some() {}
}

const GUNS: u8 = 40;

/// Says yes to every 0x34 until the connection ends.
async fn obey(mut line: Line, written: Arc<Mutex<BTreeSet<String>>>) {
    while let Some(packet) = line.next().await {
        if let Frame::RemoteStart(start) = packet.frame {
            let serial = start.transaction_serial;
            let new = written.lock().expect("no panic").insert(serial.to_string());
            assert!(new, "{serial} is started twice");
            line.try_send(RemoteStartResponse {
                gun_no: start.gun_no,
                ..frames::start_answer(A, 1, serial, StartFailure::None)
            })
            .await;
        }
    }
}
