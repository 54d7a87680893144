//! Redis comes back without a start it had acknowledged, and the pile that was started is not connected.

use pileway::wire::StartFailure;

use crate::common::api::{start_request, wire_serial};
use crate::common::redis::Redis;
use crate::common::{Pile, eventually};
use crate::trio::Trio;

/// Of the two piles one hangs up before Redis loses their starts, and one right after, mostly before its node has heard of
/// the loss.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_redis_has_lost_starts_nothing_again_though_its_pile_was_gone() {
    let _alone = crate::ONE_AT_A_TIME.lock().await;
    let mut redis = Redis::with(&["appendonly no", "save \"\""]);
    let trio = Trio::start(&redis.url()).await;
    let (node, api) = (&trio.nodes[0], &trio.apis[0]);
    let mut piles = vec![];
    for code in ["32010600700001", "32010600700002"] {
        piles.push((code, Pile::login(node, code).await));
        api.session_begins(code).await;
    }
    let () = redis.cli(&["SAVE"]);
    let mut started = vec![];
    for (code, pile) in &mut piles {
        let request = start_request(code, 1);
        let (order, serial) = tokio::join!(api.start(request.clone()), pile.answer_start(StartFailure::None));
        let order = order.expect("it starts");
        assert_eq!(wire_serial(&order), serial);
        started.push((request, order.serial));
    }
    let (second, first) = (piles.pop().expect("two"), piles.pop().expect("two"));
    drop(first.1);
    api.session_ends(first.0).await;
    redis.restart();
    drop(second.1);

    for (request, serial) in started {
        // It comes back elsewhere, and the caller has lost the answer.
        let again = || async { trio.apis[1].find_order(&request.pile, &serial).await.ok() };
        eventually("the order to be known again", again).await;
        let mut pile = Pile::login(&trio.nodes[1], &request.pile).await;
        let order = trio.apis[2].start(request).await.expect("the start of before");
        assert_eq!(order.serial, serial);
        let starts = pile.seen().await.into_iter().filter(|frame| frame.code() == 0x34).count();
        assert_eq!(starts, 0, "started again");
    }
}
