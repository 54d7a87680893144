//! Charging with a card or a VIN, as the operator has it: a list, the example server as a process of its own, slow, dead,
//! saying no or nonsense. Whatever it does, the pile is answered as configured, and within its patience.

#[path = "../common/mod.rs"]
mod common;
mod server;

use std::time::{Duration, Instant};

use common::api::wire_serial;
use common::{Api, Node, Pile, frames, within};
use pileway::api::pb::{self, OrderOrigin, OrderState};
use pileway::sim::{Action, PileConfig};
use pileway::wire::*;
use server::Authorizer;

const A: &str = "32010600019236";
const CARD: [u8; 8] = [0, 0, 0, 0, 0xD1, 0x4B, 0x0A, 0x54];
const VIN: &str = "LSVAM4187C2184847";

/// What a pile waits for 0x32 (8.4).
const PILES_PATIENCE: Duration = Duration::from_mins(1);

fn swipe(pile: &str, gun: u8) -> StartRequest {
    StartRequest {
        pile_code: frames::code(pile),
        gun_no: GunNo::from_number(gun),
        start_mode: StartMode::Card,
        need_password: YesNo::No,
        account_or_card: Opaque(CARD),
        password: Opaque::ZERO,
        vin: VinReversed::ZERO,
    }
}

fn swipe_parallel(pile: &str, gun: u8, gun_role: GunRole) -> ParallelStartRequest {
    let StartRequest { pile_code, gun_no, start_mode, need_password, account_or_card, password, vin } =
        swipe(pile, gun);
    let parallel_no = Bcd([0x24, 0x05, 0x17, 0x10, 0x30, 0x45]);
    ParallelStartRequest {
        pile_code,
        gun_no,
        start_mode,
        need_password,
        account_or_card,
        password,
        vin,
        gun_role,
        parallel_no,
    }
}

/// A node that asks `url`.
fn node_asking(url: &str, more: &[(&str, &str)]) -> Node {
    let asking = [("AUTHORIZER__MODE", "grpc"), ("AUTHORIZER__URL", url)];
    Node::with(&[&asking[..], more].concat())
}

/// What a card on gun 1 is told, and how long that took.
async fn told(pile: &mut Pile) -> (StartConfirm, Duration) {
    let began = Instant::now();
    let asked = swipe(&pile.code, 1);
    let sequence = pile.send(asked).await;
    let (answer, echoed) = pile.expect_with_sequence::<StartConfirm>().await;
    assert_eq!(echoed, sequence);
    (answer, began.elapsed())
}

fn is_denied(answer: &StartConfirm, reason: AuthFailure) {
    assert_eq!((answer.auth_result, answer.fail_reason), (Outcome::Failure, reason));
    assert!(answer.transaction_serial.is_zero());
}

#[tokio::test]
async fn a_card_authorised_by_the_example_server_is_charged_to_a_settled_bill() {
    let mut server = Authorizer::start(&["--token", "s3cret"]);
    let node = node_asking(&server.url(), &[("AUTHORIZER__TOKEN", "s3cret")]);
    let api = Api::of(&node).await;
    let config = PileConfig { speed: 600, soc: Some(20), notes: 10, ..PileConfig::new(A.parse().expect("14 digits")) };
    let pile = pileway::sim::spawn(config, vec![node.piles.to_string()]);
    within("a pile with its tariff", pile.wait_for(|view| view.ready)).await.expect("it runs");

    pile.act(Action::Swipe(1, CARD)).await;
    let charging = within("a charge", pile.wait_for(|view| view.guns[0].charge.is_some_and(|c| c.energy > 0))).await;
    let serial = charging.expect("it runs").guns[0].charge.expect("just seen").serial.to_string();
    let order = api.order_becomes(A, &serial, OrderState::Charging).await;
    assert_eq!((order.origin(), &*order.card, &*order.vin), (OrderOrigin::Card, "00000000d14b0a54", ""));
    assert_eq!((&*order.account, &*order.attributes["authorized_by"]), ("account of card …0a54", "example"));
    pile.act(Action::Stop(1)).await;
    let order = api.order_becomes(A, &serial, OrderState::Settled).await;
    assert_eq!(order.anomalies, [], "{order:?}");
    let bill = order.bill.expect("a bill");
    assert_eq!((bill.start_type.expect("said").code, &*bill.physical_card), (0x02, "00000000d14b0a54"));
    assert!(bill.total_energy_mwh > 0);

    // The same by the vehicle.
    pile.act(Action::SwipeVin(1)).await;
    let other = |view: &pileway::sim::View| view.guns[0].charge.is_some_and(|c| c.serial.to_string() != serial);
    let charging = within("a charge", pile.wait_for(other)).await.expect("it runs");
    let by_vin = charging.guns[0].charge.expect("just seen").serial.to_string();
    let order = api.order_becomes(A, &by_vin, OrderState::Charging).await;
    assert_eq!((order.origin(), order.vin.len(), &*order.card), (OrderOrigin::Vin, 17, ""));
    pile.act(Action::Stop(1)).await;
    let settled = api.order_becomes(A, &by_vin, OrderState::Settled).await;
    assert_eq!(settled.bill.expect("a bill").vin, order.vin, "in the same order");

    let said = server.end();
    assert_eq!(said.len(), 2, "one question per charge: {said:#?}");
    assert!(said[0].ends_with("card=…0a54 allowed") && said[0].contains(&serial), "{said:#?}");
    let log = node.log();
    assert!(!log.to_lowercase().contains("d14b0a54") && !log.contains(&order.vin), "neither is clear in the log");
}

#[tokio::test]
async fn whoever_the_server_denies_hears_why() {
    let server = Authorizer::start(&["--deny", "D14B0A54", "--reason", "account-frozen"]);
    let node = node_asking(&server.url(), &[]);
    let api = Api::of(&node).await;
    let mut pile = Pile::login(&node, A).await;
    let (answer, _) = told(&mut pile).await;
    is_denied(&answer, AuthFailure::AccountFrozen);
    assert!(api.orders(A).await.is_empty());
}

#[tokio::test]
async fn a_server_that_is_slow_dead_or_answers_nonsense_counts_as_configured_and_in_time() {
    let deny = [("AUTHORIZER__DEADLINE", "500ms")];
    let allow = [
        ("AUTHORIZER__DEADLINE", "500ms"),
        ("AUTHORIZER__ON_FAILURE", "allow"),
        ("AUTHORIZER__ON_FAILURE_BALANCE", "20.00"),
    ];
    let check = |name: &'static str, server: Authorizer, why: &'static str, dead: bool| async move {
        let mut server = server;
        let url = server.url();
        if dead {
            server.end();
        }
        for settings in [&deny[..], &allow[..]] {
            let node = node_asking(&url, settings);
            let api = Api::of(&node).await;
            let mut pile = Pile::login(&node, A).await;
            let (answer, took) = told(&mut pile).await;
            if settings.len() == 1 {
                is_denied(&answer, AuthFailure::PileDisabled);
                assert!(api.orders(A).await.is_empty(), "{name}");
            } else {
                assert_eq!((answer.auth_result, answer.balance), (Outcome::Success, Balance(2_000)), "{name}");
                let serial = answer.transaction_serial.to_string();
                api.order_becomes(A, &serial, OrderState::Starting).await;
            }
            assert!(took < PILES_PATIENCE / 2, "{name}: {took:?}");
            let log = node.log();
            assert!(log.contains(why), "{name}: {why} is not in {log}");
        }
    };
    check("slow", Authorizer::start(&["--slow", "30s"]), "timed_out", false).await;
    check("dead", Authorizer::start(&[]), "unreachable", true).await;
    check("nonsense", Authorizer::start(&["--nonsense"]), "cannot be meant", false).await;
    check("needs a token", Authorizer::start(&["--token", "t"]), "failed", false).await;
}

#[tokio::test]
async fn a_server_that_comes_back_is_asked_again() {
    let mut server = Authorizer::start(&[]);
    let address = server.address();
    let node = node_asking(&server.url(), &[]);
    let mut pile = Pile::login_with_guns(&node, A, 2).await;
    server.end();
    is_denied(&told(&mut pile).await.0, AuthFailure::PileDisabled);
    let _server = Authorizer::start(&["--listen", &address]);
    let asked = swipe(A, 2);
    pile.send(asked).await;
    assert_eq!(pile.expect::<StartConfirm>().await.auth_result, Outcome::Success);
}

#[tokio::test]
async fn a_repeated_question_makes_one_order_and_one_call() {
    let mut server = Authorizer::start(&["--slow", "1s"]);
    let node = node_asking(&server.url(), &[]);
    let api = Api::of(&node).await;
    let mut pile = Pile::login(&node, A).await;
    for _ in 0..2 {
        let asked = swipe(A, 1);
        pile.send(asked).await;
    }
    let first = pile.expect::<StartConfirm>().await;
    assert_eq!(first.auth_result, Outcome::Success);
    // After its answer, and on another connection.
    assert_eq!(told(&mut pile).await.0, first);
    drop(pile);
    let mut pile = Pile::login(&node, A).await;
    assert_eq!(told(&mut pile).await.0, first);
    let orders = api.orders(A).await;
    assert_eq!(orders.len(), 1, "{orders:#?}");
    assert_eq!(wire_serial(&orders[0]), first.transaction_serial);
    pile.charge(1, first.transaction_serial, 1000).await;
    api.order_becomes(A, &orders[0].serial, OrderState::Charging).await;
    pile.settle(1, first.transaction_serial, 1000).await;
    assert_eq!(server.end().len(), 1);
}

#[tokio::test]
async fn two_guns_of_one_vehicle_get_an_order_each_or_none() {
    let node_and_server = |arguments: &[&str]| {
        let server = Authorizer::start(arguments);
        (node_asking(&server.url(), &[]), server)
    };
    let (node, mut server) = node_and_server(&[]);
    let api = Api::of(&node).await;
    let mut pile = Pile::login_with_guns(&node, A, 2).await;
    for (gun, role) in [(1, GunRole::Main), (2, GunRole::Auxiliary)] {
        let asked = swipe_parallel(A, gun, role);
        pile.send(asked).await;
    }
    let mut serials = vec![];
    for _ in 0..2 {
        let told = pile.expect::<ParallelStartConfirm>().await;
        assert_eq!((told.auth_result, told.parallel_no.to_string().as_str()), (Outcome::Success, "240517103045"));
        let gun = told.gun_no.number(2);
        pile.charge(gun, told.transaction_serial, 1000).await;
        pile.settle(gun, told.transaction_serial, 1000).await;
        let order = api.order_becomes(A, &told.transaction_serial.to_string(), OrderState::Settled).await;
        assert_eq!((order.gun, &*order.parallel_no), (i32::from(gun), "240517103045"));
        serials.push(order.serial);
    }
    assert_ne!(serials[0], serials[1]);
    assert_eq!(server.end().len(), 2, "one question per gun");

    let (node, _server) = node_and_server(&["--deny-gun", "2"]);
    let api = Api::of(&node).await;
    let mut pile = Pile::login_with_guns(&node, A, 2).await;
    let asked = swipe_parallel(A, 1, GunRole::Main);
    pile.send(asked).await;
    let first = pile.expect::<ParallelStartConfirm>().await;
    assert_eq!(first.auth_result, Outcome::Success);
    let asked = swipe_parallel(A, 2, GunRole::Auxiliary);
    pile.send(asked).await;
    let second = pile.expect::<ParallelStartConfirm>().await;
    assert_eq!((second.auth_result, second.fail_reason), (Outcome::Failure, AuthFailure::InsufficientBalance));
    let failed = api.order_becomes(A, &first.transaction_serial.to_string(), OrderState::Failed).await;
    assert_eq!(failed.failure.expect("said").kind(), pb::StartFailureKind::NotSent);
    assert_eq!(api.orders(A).await.len(), 1);
}

#[tokio::test]
async fn the_cards_and_vins_of_a_list_may_charge() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("allow.toml");
    // As it is printed on the card; this pile reports the bytes of the UID the other way round.
    let list = format!(
        "[[allow]]\ncard = \"540A4BD1\"\nbalance = \"12.34\"\naccount = \"acme\"\nlogical_card = \"0000001000000573\"\n\
         [[allow]]\nvin = \"{VIN}\"\nbalance = \"50\"\n"
    );
    std::fs::write(&path, list).expect("written");
    let path = path.to_str().expect("text");
    let node = Node::with(&[("AUTHORIZER__MODE", "allow-list"), ("AUTHORIZER__ALLOW_LIST", path)]);
    let api = Api::of(&node).await;
    let mut pile = Pile::login_with_guns(&node, A, 2).await;
    let (answer, _) = told(&mut pile).await;
    assert_eq!((answer.auth_result, answer.balance), (Outcome::Success, Balance(1_234)));
    assert_eq!(answer.logical_card.to_string(), "0000001000000573");
    let order = api.order_becomes(A, &answer.transaction_serial.to_string(), OrderState::Starting).await;
    assert_eq!(order.account, "acme");
    for (vin, result) in [(VIN, Outcome::Success), ("LSVAM4187C2184848", Outcome::Failure)] {
        let vin = VinReversed::new(vin).expect("17 characters");
        let by_vin = StartRequest { start_mode: StartMode::Vin, account_or_card: Opaque::ZERO, vin, ..swipe(A, 2) };
        pile.send(by_vin).await;
        assert_eq!(pile.expect::<StartConfirm>().await.auth_result, result);
    }
}

#[test]
fn a_list_that_cannot_be_used_keeps_the_node_from_starting() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("allow.toml");
    std::fs::write(&path, "[[allow]]\ncard = \"xyz\"\nbalance = \"1\"\n").expect("written");
    let mut command = common::node::pileway(&["serve", "--pile-listen", "127.0.0.1:0", "--grpc-listen", "127.0.0.1:0"]);
    command.arg("--data-dir").arg(dir.path().join("store"));
    command.env("PILEWAY_AUTHORIZER__MODE", "allow-list").env("PILEWAY_AUTHORIZER__ALLOW_LIST", &path);
    let output = command.output().expect("the program starts");
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    for part in ["authorizer.allow_list", "allow.toml", "allow[1].card = \"xyz\"", "hex digits"] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
}
