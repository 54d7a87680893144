//! How far a charge may go: told to piles that understand it, watched for the others.

use pileway::api::pb;
use pileway::api::pb::{OrderChange, OrderState, StopCause};
use pileway::wire::*;
use tonic::Code;

use crate::common::api::{fact, start_request, wire_serial};
use crate::common::pile::Line;
use crate::common::{Api, Node, Pile, frames, reason};
use crate::{A, B, cny, started, violations};

fn limits() -> pb::ChargeLimits {
    pb::ChargeLimits {
        amount: Some(cny(30, 0)),
        energy_mwh: Some(20_000_000),
        duration_s: Some(7200),
        soc_percent: Some(90),
        max_power_w: Some(60_000),
    }
}

#[tokio::test]
async fn a_pile_of_v1_8_is_started_with_its_limits_and_an_older_one_is_watched() {
    let node = Node::start();
    let api = Api::of(&node).await;
    let mut line = Line::connect(&node).await;
    let mut login = frames::login(A, 1);
    login.protocol_version = ProtocolVersion(18);
    line.send(login).await;
    line.expect::<LoginResponse>().await;
    let request = pb::StartChargingRequest { limits: Some(limits()), ..start_request(A, 1) };
    let answering = async {
        let start = line.expect::<RemoteStartV18>().await;
        assert_eq!(
            (start.max_power, start.soc_limit, start.energy_limit),
            (Kilowatts(60), Percent(90), Energy(200_000))
        );
        let RemoteStartV18 { transaction_serial, pile_code, gun_no, .. } = start;
        let (start_result, fail_reason) = (Outcome::Success, StartFailure::None);
        line.send(RemoteStartResponseV18 { transaction_serial, pile_code, gun_no, start_result, fail_reason }).await;
    };
    let (order, ()) = tokio::join!(api.start(request.clone()), answering);
    let order = order.expect("the pile said yes");
    assert_eq!((order.state(), order.limits), (OrderState::Starting, Some(limits())));
    assert_eq!(api.start(request).await.expect("the same").serial, order.serial);

    let mut pile = Pile::login(&node, B).await;
    let power = pb::StartChargingRequest { limits: Some(limits()), ..start_request(B, 1) };
    let status = api.start(power).await.expect_err("no such frame");
    assert_eq!(reason(&status), (Code::Unimplemented, "UNSUPPORTED_BY_PILE".into()));
    assert_eq!(fact(&status, "version"), "16");
    assert!(api.orders(B).await.is_empty(), "nothing was started");
    let without = pb::ChargeLimits { max_power_w: None, ..limits() };
    let request = pb::StartChargingRequest { limits: Some(without), ..start_request(B, 1) };
    let (order, _) = tokio::join!(api.start(request), pile.answer_start(StartFailure::None));
    let order = order.expect("the pile said yes");
    pile.charge(1, wire_serial(&order), 199_999).await;
    api.order_becomes(B, &order.serial, OrderState::Charging).await;
    pile.charge(1, wire_serial(&order), 200_000).await;
    pile.expect::<RemoteStop>().await;
    let order = api.order_becomes(B, &order.serial, OrderState::Stopping).await;
    assert_eq!(order.stop.expect("a stop").cause(), StopCause::LimitEnergy);
}

#[tokio::test]
async fn a_balance_that_is_nearly_used_up_is_an_event() {
    let node = Node::start();
    let api = Api::of(&node).await;
    let mut events = api.watch_orders(&[A]).await;
    let mut pile = Pile::login(&node, A).await;
    let (order, serial) = started(&api, &mut pile).await;
    // 50 CNY, of which nothing is left.
    pile.charge(1, serial, 10_000).await;
    api.order_becomes(A, &order.serial, OrderState::Charging).await;
    pile.charge(1, serial, 400_000).await;
    let seen = events.until(&order.serial, OrderChange::BalanceLow).await;
    let low = seen.last().expect("an event").order.clone().expect("an order").balance_low.expect("low");
    let (at, eta) = (low.at.expect("a time"), low.eta.expect("a time"));
    assert_eq!(eta, at);
}

#[tokio::test]
async fn limits_that_are_none_are_named() {
    let node = Node::start();
    let api = Api::of(&node).await;
    let wrong = pb::ChargeLimits {
        amount: Some(cny(0, 0)),
        energy_mwh: Some(50),
        duration_s: Some(0),
        soc_percent: Some(101),
        max_power_w: Some(1500),
    };
    let request = pb::StartChargingRequest { limits: Some(wrong), ..start_request(A, 1) };
    let named =
        ["amount", "energy_mwh", "duration_s", "soc_percent", "max_power_w"].map(|field| format!("limits.{field}"));
    assert_eq!(violations(&api.start(request).await.expect_err("wrong")), named);
}

#[tokio::test]
async fn a_start_that_insists_on_a_tariff_brings_it_first() {
    let node = Node::start();
    let api = Api::of(&node).await;
    let mut pile = Pile::login(&node, A).await;
    // Which tariff piles are given now, any of them tells.
    pile.send(TariffRequest { pile_code: frames::code(A) }).await;
    pile.expect::<TariffResponse>().await;
    let ask = || async { api.pile(A).await.tariff };
    let given = crate::common::eventually("the tariff on the pile", ask).await;
    assert!(!given.confirmed);
    let request = pb::StartChargingRequest { expected_tariff: given.fingerprint.clone(), ..start_request(A, 1) };
    for result in [Outcome::Failure, Outcome::Success] {
        let answering = async {
            let tariff = pile.expect::<TariffSet>().await;
            assert_eq!((tariff.peak_energy_price, tariff.peak_service_price), (Price(100_000), Price(40_000)));
            pile.send(TariffSetResponse { pile_code: frames::code(A), result }).await;
            if result == Outcome::Success {
                pile.answer_start(StartFailure::None).await;
            }
        };
        let (answer, ()) = tokio::join!(api.start(request.clone()), answering);
        if result == Outcome::Success {
            assert_eq!(answer.expect("started").state(), OrderState::Starting);
        } else {
            let status = answer.expect_err("the pile said no");
            assert_eq!(reason(&status), (Code::FailedPrecondition, "TARIFF_NOT_CURRENT".into()));
            assert!(api.orders(A).await.is_empty(), "nothing was started");
        }
    }
    let other = pb::StartChargingRequest { expected_tariff: "00000000000000ff".into(), ..start_request(A, 1) };
    let mut pile = Pile::login(&node, B).await;
    let other = pb::StartChargingRequest { pile: B.into(), ..other };
    let status = api.start(other).await.expect_err("not ours");
    assert_eq!((reason(&status).1, fact(&status, "current")), ("TARIFF_NOT_CURRENT".into(), given.fingerprint));
    assert!(pile.seen().await.is_empty());
}
