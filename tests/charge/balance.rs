//! What the account has left, and what a pile is told of it.

use pileway::api::pb;
use pileway::wire::{Balance, BalanceResult, BalanceUpdate, BalanceUpdateResponse};
use tonic::Code;

use crate::common::api::fact;
use crate::common::{Api, Node, Pile, eventually, frames, reason, within};
use crate::{A, charging, cny, rejected, violations};

async fn update(api: &Api, serial: &str, balance: Option<pb::Money>) -> Result<pb::Order, tonic::Status> {
    let request = pb::UpdateBalanceRequest {
        pile: A.into(),
        serial: serial.into(),
        balance,
        physical_card: "00000000d14b0a54".into(),
    };
    let answer = within("UpdateBalance", api.charging.clone().update_balance(request)).await?;
    Ok(answer.into_inner().order.expect("an order"))
}

#[tokio::test]
async fn a_top_up_reaches_the_pile_and_the_order() {
    let node = Node::start();
    let api = Api::of(&node).await;
    let mut pile = Pile::login(&node, A).await;
    let (serial, wire) = charging(&api, &mut pile).await;
    assert_eq!(api.order(A, &serial).await.balance, Some(cny(50, 0)));
    for (result, code) in [(BalanceResult::Updated, None), (BalanceResult::WrongCardNumber, Some("2"))] {
        let answering = async {
            let asked = pile.expect::<BalanceUpdate>().await;
            assert_eq!(
                (asked.new_balance, asked.physical_card.to_string()),
                (Balance(12_050), "00000000d14b0a54".into())
            );
            let physical_card = asked.physical_card;
            pile.send(BalanceUpdateResponse { pile_code: frames::code(A), physical_card, result }).await;
        };
        let (answer, ()) = tokio::join!(update(&api, &serial, Some(cny(120, 500_000_000))), answering);
        match code {
            None => assert_eq!(answer.expect("the pile said yes").balance, Some(cny(120, 500_000_000))),
            Some(code) => {
                let status = answer.expect_err("the pile said no");
                assert_eq!((reason(&status), fact(&status, "code")), (rejected(), code.into()));
            }
        }
    }
    // As stored, too.
    let raised = |order: pb::Order| (order.balance == Some(cny(120, 500_000_000))).then_some(());
    eventually("the balance to be stored", || async { raised(api.orders(A).await.remove(0)) }).await;
    let status = update(&api, &serial, Some(cny(0, 1_000_000))).await.expect_err("a fraction of a fen");
    assert_eq!(violations(&status), ["balance"]);
    assert_eq!(violations(&update(&api, &serial, None).await.expect_err("none")), ["balance"]);
    pile.settle(1, wire, 10).await;
    let status = update(&api, &serial, Some(cny(1, 0))).await.expect_err("settled");
    assert_eq!(reason(&status), (Code::FailedPrecondition, "ORDER_NOT_ACTIVE".into()));
}
