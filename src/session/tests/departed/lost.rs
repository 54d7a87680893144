//! Orders that the store has lost and only the watch still knows.

use super::*;
use crate::domain::RequestId;
use crate::domain::order::StartRequest;

/// The store has taken over from another that had one more order: a start, which only the watch still knows.
struct Lost {
    left: Left,
    departed: Departed,
    order: Order,
    /// When the pile is to be reported.
    reported_at: Duration,
}

impl Lost {
    /// The pile has left with its session's fence, which the store may have lost, too; time has something to decide.
    async fn under(fence: impl Fn(Fence) -> Fence) -> Self {
        Self::left_with(fence, |_| {}, LATER * 2).await
    }

    /// The same, and what the store has lost charges: time alone decides nothing about that.
    async fn charging(fence: impl Fn(Fence) -> Fence) -> Self {
        let charges = |order: &mut Order| {
            let metered = Metered { at: BEGUN, energy: Energy(1), amount: Amount(1), soc_percent: 0 };
            order.apply(BEGUN, Happening::Accepted);
            order.apply(BEGUN, Happening::Charging(metered));
        };
        Self::left_with(fence, charges, LATER).await
    }

    async fn left_with(fence: impl Fn(Fence) -> Fence, change: impl Fn(&mut Order), reported_at: Duration) -> Self {
        let left = left().await;
        let mut order = Order::requested(left.pile.code, left.order.gun, Serial::from_bytes([4; 16]), BEGUN);
        order.request = Some(StartRequest { id: RequestId::from_bytes([5; 16]), arguments: 6 });
        change(&mut order);
        let (departed, fence) = (Departed::default(), fence(left.fence));
        let left = Left { fence, ..left };
        let lost = Self { left, departed, order, reported_at };
        lost.departed.left(NOW, lost.absent());
        lost
    }

    fn absent(&self) -> Absent {
        let (lost_at, reason) = (Some(self.reported_at), OfflineReason::Disconnected);
        let orders = vec![(self.left.order.clone(), 1), (self.order.clone(), 1)];
        let (fence, pile, version) = (self.left.fence, self.left.pile.clone(), Some(1));
        Absent { fence, pile, version, lost_at, reason, orders, elsewhere: false, losses: 0 }
    }

    /// Until the order and its start are there; what is told of it.
    async fn comes_back(&self) -> Watched {
        let (ledger, code, serial) = (&self.left.ledger, self.left.pile.code, self.order.serial);
        let watched = Watched::over(&self.departed, ledger).await;
        until("the start to be known again", async || {
            let known = ledger.start_attempt(code, RequestId::from_bytes([5; 16])).await.expect("reads");
            known.is_some_and(|known| known.serial == serial)
        })
        .await;
        assert!(ledger.order(code, serial).await.expect("reads").is_some());
        watched
    }
}

#[tokio::test]
async fn an_order_the_store_has_lost_is_put_again_when_it_is_known_that_writes_may_be_lost() {
    let lost = Lost::under(|fence| fence).await;
    lost.departed.doubt(|pile| pile != lost.left.pile.code);
    assert_ne!(lost.departed.next_due(), Some(Duration::ZERO), "of its own partition only");
    lost.departed.doubt(|pile| pile == lost.left.pile.code);
    let mut watched = lost.comes_back().await;
    // And judged as it was.
    let told = watched.tells(4).await;
    let failed = told.iter().filter(|kind| matches!(kind, EventKind::Order { change: Change::Failed, .. })).count();
    assert_eq!(failed, 2, "{told:?}");
}

#[tokio::test]
async fn an_order_the_store_has_lost_is_put_again_when_its_time_has_come() {
    // It still has the claim, or has lost that too, or somebody newer has the pile.
    let newer = |fence: Fence| Fence { epoch: crate::domain::Epoch(fence.epoch.0 + 1), ..fence };
    let older = |fence: Fence| Fence { epoch: crate::domain::Epoch(fence.epoch.0 - 1), ..fence };
    for fence in [&newer as &dyn Fn(Fence) -> Fence, &older, &|fence| fence] {
        Lost::under(fence).await.comes_back().await;
    }
}

#[tokio::test]
async fn an_order_the_store_has_lost_is_put_again_when_time_has_nothing_to_decide_about_it() {
    let lost = Lost::charging(|fence| fence).await;
    let watched = lost.comes_back().await;
    watched.releases(lost.left.pile.code).await;
}

#[tokio::test]
async fn an_order_the_store_has_lost_is_put_again_when_its_session_ends_soon_after() {
    // It had not been told of the loss yet.
    let (before, after) = (Lost::charging(|fence| fence).await, Lost::charging(|fence| fence).await);
    let departed = Departed::default();
    departed.left(NOW, before.absent());
    assert_eq!(departed.next_due(), Some(before.reported_at.min(Duration::from_secs(90))));
    let departed = Departed::default();
    departed.doubt(|_| false);
    departed.left(NOW, after.absent());
    assert_eq!(departed.next_due(), Some(Duration::ZERO));
    Lost { departed, ..after }.comes_back().await;
}

#[tokio::test]
async fn when_a_pile_that_is_gone_is_reported_does_not_depend_on_what_the_store_may_have_lost() {
    let lost = Lost::under(|fence| fence).await;
    lost.departed.doubt(|_| true);
    let _watched = lost.comes_back().await;
    until("its own time to be next", async || lost.departed.next_due() == Some(lost.reported_at)).await;
}

#[tokio::test]
async fn an_order_the_store_has_lost_is_put_again_when_its_pile_has_come_back() {
    let lost = Lost::under(|fence| fence).await;
    // The new session has found what is stored.
    lost.departed.came_back(lost.left.pile.code, |order| order.serial == lost.left.order.serial);
    assert_eq!((lost.departed.watched(), lost.departed.left_behind()), (0, 1));
    lost.comes_back().await;
}

#[tokio::test]
async fn an_order_the_store_has_lost_is_put_again_when_its_pile_has_gone_elsewhere() {
    let lost = Lost::under(|fence| fence).await;
    let by = Fence { epoch: crate::domain::Epoch(lost.left.fence.epoch.0 + 1), ..lost.left.fence };
    lost.departed.claimed_elsewhere(lost.left.pile.code, by);
    assert_eq!((lost.departed.watched(), lost.departed.left_behind()), (0, 2));
    lost.comes_back().await;
    let (stored, version) =
        lost.left.ledger.order(lost.left.pile.code, lost.left.order.serial).await.expect("reads").expect("there");
    assert_eq!((stored, version), (lost.left.order.clone(), 1), "what is there is left alone");
}

#[tokio::test]
async fn an_order_the_store_has_lost_is_put_again_when_its_pile_has_left_once_more_without_it() {
    let lost = Lost::under(|fence| fence).await;
    let fence = Fence { epoch: crate::domain::Epoch(lost.left.fence.epoch.0 + 1), ..lost.left.fence };
    let (pile, version, lost_at, reason) = (lost.left.pile.clone(), Some(1), None, OfflineReason::Disconnected);
    let orders = vec![(lost.left.order.clone(), 1)];
    lost.departed.left(NOW, Absent { fence, pile, version, lost_at, reason, orders, elsewhere: false, losses: 0 });
    assert_eq!((lost.departed.watched(), lost.departed.left_behind()), (1, 1));
    lost.comes_back().await;
}

#[tokio::test]
async fn orders_left_behind_are_bounded() {
    let lost = Lost::under(|fence| fence).await;
    for _ in 0..2 {
        for _ in 0..=16_384 / 2 {
            let orders = vec![(lost.order.clone(), 1), (lost.order.clone(), 1)];
            let (pile, reason) = (lost.left.pile.clone(), OfflineReason::Disconnected);
            let (fence, version, lost_at) = (lost.left.fence, Some(1), None);
            lost.departed
                .left(NOW, Absent { fence, pile, version, lost_at, reason, orders, elsewhere: false, losses: 0 });
            lost.departed.came_back(lost.left.pile.code, |_| false);
        }
        assert_eq!(lost.departed.left_behind(), 16_384);
    }
}
