//! Who holds a pile, over re-assertions, contests and the ends of runs; and which runs there are.

use std::sync::Arc;
use std::time::Duration;

use pileway::domain::{Epoch, Fence, PileCode, SessionId};
use pileway::store::{Claim, Held, Lease, Member, Orphan, Store, StoreError};

use crate::common::{append, batch, claim, fence, partition, pile};

type Any = Arc<dyn Store>;

pub async fn a_session_that_says_again_that_it_is_there_keeps_its_fence(store: Any) {
    let (pile, mine) = (pile(1), fence(1, 1000));
    store.claim(claim(pile, 1, 1000)).await.expect("claims");
    let again = store.claim(held(pile, mine, false)).await.expect("nothing was lost");
    assert_eq!((again.fence, again.previous), (mine, None));
    assert_eq!(store.owner(pile).await, Ok(Some(mine)));
}

pub async fn what_the_store_has_forgotten_is_claimed_again_with_a_higher_epoch(store: Any) {
    let (pile, mine) = (pile(1), fence(1, 1000));
    // Never heard of it.
    let again = store.claim(held(pile, mine, false)).await.expect("claims");
    assert_eq!(again.fence, fence(1, 1001));
    // Remembers somebody older, as after a fail-over to a copy that was behind: who that is has to be told.
    let (older, mine) = (again.fence, fence(2, 5000));
    let again = store.claim(held(pile, mine, false)).await.expect("claims");
    assert_eq!((again.fence, again.previous), (fence(2, 5001), Some(older)));
    // Was told meanwhile that the session is gone.
    assert_eq!(store.release(pile, again.fence).await, Ok(true));
    let again = store.claim(held(pile, again.fence, false)).await.expect("claims");
    assert_eq!(again.fence, fence(2, 5002));
}

pub async fn after_a_loss_of_writes_the_epoch_goes_up_so_that_no_event_repeats_a_number(store: Any) {
    let (pile, mine) = (pile(1), fence(1, 1000));
    store.claim(claim(pile, 1, 1000)).await.expect("claims");
    let at = partition(&*store, pile);
    let event = |n| {
        let mut batch = batch(1, n);
        batch.append.push(append(pile, "event"));
        batch
    };
    store.commit(at, event(1)).await.expect("commits");
    let anew = store.claim(held(pile, mine, true)).await.expect("claims");
    assert_eq!(anew.fence, fence(1, 1001));
    store.commit(at, event(2)).await.expect("commits");
    let log = store.read_log(at, 0, 10).await.expect("reads");
    let numbers: Vec<_> = log.iter().map(|entry| (entry.epoch.0, entry.seq)).collect();
    assert_eq!(numbers, [(1000, 1), (1001, 2)]);
}

pub async fn a_session_cannot_say_that_it_is_there_once_a_newer_one_was(store: Any) {
    let (pile, mine) = (pile(1), fence(1, 1000));
    store.claim(claim(pile, 1, 1000)).await.expect("claims");
    let newer = store.claim(claim(pile, 2, 2000)).await.expect("claims").fence;
    let refused = || StoreError::Superseded { pile };
    for anew in [false, true] {
        assert_eq!(store.claim(held(pile, mine, anew)).await, Err(refused()));
        assert_eq!(store.owner(pile).await, Ok(Some(newer)));
    }
    // Also when the newer one has left: the pile was there, not here.
    assert_eq!(store.release(pile, newer).await, Ok(true));
    assert_eq!(store.claim(held(pile, mine, false)).await, Err(refused()));
    assert_eq!(store.owner(pile).await, Ok(None));
}

pub async fn a_login_that_is_sent_twice_does_not_take_the_pile_back(store: Any) {
    let pile = pile(1);
    store.claim(claim(pile, 1, 1000)).await.expect("claims");
    let second = store.claim(claim(pile, 2, 1001)).await.expect("claims").fence;
    assert_eq!(store.claim(claim(pile, 1, 1000)).await, Err(StoreError::Superseded { pile }));
    assert_eq!(store.owner(pile).await, Ok(Some(second)));
    assert_eq!(store.release(pile, second).await, Ok(true));
    for counter in [1, 2] {
        assert_eq!(store.claim(claim(pile, counter, 1000)).await, Err(StoreError::Superseded { pile }));
    }
    assert_eq!(store.owner(pile).await, Ok(None));
}

pub async fn a_reassertion_that_is_sent_twice_gets_the_same_answer(store: Any) {
    let (pile, mine) = (pile(1), fence(1, 1000));
    store.claim(claim(pile, 1, 1000)).await.expect("claims");
    let once = store.claim(held(pile, mine, true)).await.expect("claims");
    let twice = store.claim(held(pile, mine, true)).await.expect("claims");
    assert_eq!((once.fence, twice.fence), (fence(1, 1001), fence(1, 1001)));
}

pub async fn a_pile_code_used_by_two_devices_stops_going_back_and_forth(store: Any) {
    let pile = pile(1);
    let login = |counter, now_ms, identity| Claim { identity, ..claim(pile, counter, now_ms) };
    // Four logins of two devices in turn: three takeovers.
    for (counter, identity) in [(1, 1), (2, 2), (3, 1), (4, 2)] {
        store.claim(login(counter, 1000 + counter, identity)).await.expect("claims");
    }
    let fourth = store.owner(pile).await.expect("reads").expect("an owner");
    assert_eq!(store.claim(login(5, 2000, 1)).await, Err(StoreError::Contested { pile }));
    assert_eq!(store.owner(pile).await, Ok(Some(fourth)), "who is there stays");
    // The device that is there may reconnect as often as it likes.
    let again = store.claim(login(6, 2001, 2)).await.expect("claims").fence;
    // Nobody is refused a pile that nobody holds, and five minutes are enough.
    assert_eq!(store.release(pile, again).await, Ok(true));
    store.claim(login(7, 2002, 1)).await.expect("claims");
    assert_eq!(store.claim(login(8, 2003, 2)).await, Err(StoreError::Contested { pile }));
    store.claim(login(9, 1002 + Claim::CONTEST_MS, 2)).await.expect("claims");
}

pub async fn what_ended_runs_have_left_is_found_in_pieces_and_nothing_else(store: Any) {
    let here = partition(&*store, pile(1));
    let piles: Vec<_> = (1..2000).map(pile).filter(|pile| partition(&*store, *pile) == here).take(9).collect();
    for (n, pile) in piles.iter().enumerate() {
        // Runs 1, 2 and 3 have three piles each.
        let session = SessionId { incarnation: n as u64 % 3 + 1, counter: n as u64 };
        store.claim(Claim { session, ..claim(*pile, 0, 1000) }).await.expect("claims");
    }
    // Taken over by run 2, and released by run 3: neither is run 1's or run 3's any more.
    let moved = SessionId { incarnation: 2, counter: 99 };
    store.claim(Claim { session: moved, ..claim(piles[0], 0, 1000) }).await.expect("claims");
    let gone = store.owner(piles[2]).await.expect("reads").expect("an owner");
    assert_eq!(store.release(piles[2], gone).await, Ok(true));

    let all = |living: &[u64]| {
        let (store, living) = (store.clone(), living.to_vec());
        async move {
            let (mut found, mut after) = (vec![], None::<Orphan>);
            loop {
                let piece = store.orphans(here, living.clone(), after, 2).await.expect("reads");
                after = piece.last().copied();
                found.extend(piece.iter().map(|orphan| orphan.pile));
                if piece.len() < 2 {
                    return found;
                }
            }
        }
    };
    assert_eq!(all(&[2]).await, [piles[3], piles[6], piles[5], piles[8]]);
    assert_eq!(all(&[1, 3]).await, [piles[0], piles[1], piles[4], piles[7]]);
    assert_eq!(all(&[1, 2, 3]).await, []);
    let orphans = store.orphans(here, vec![1, 3], None, 1).await.expect("reads");
    let fence = Fence { session: moved, epoch: Epoch(1001) };
    assert_eq!(orphans, [Orphan { pile: piles[0], fence }]);
}

pub async fn runs_are_known_while_they_renew_their_lease(store: Any) {
    let lease = |incarnation: u64, ttl| Lease {
        member: Member {
            incarnation,
            node: format!("node-{incarnation}"),
            peer: format!("127.0.0.1:{incarnation}"),
            version: "1.2.3".to_owned(),
            draining: false,
            started_at_ms: 1,
        },
        ttl,
    };
    let (minute, moment) = (Duration::from_mins(1), Duration::from_millis(50));
    let large = u64::MAX - 1;
    let first = store.renew(lease(large, minute)).await.expect("renews");
    assert!(first.fresh);
    assert_eq!(first.members, [lease(large, minute).member]);
    let short = store.renew(lease(2, moment)).await.expect("renews");
    assert_eq!(short.members.len(), 2);
    let mut draining = lease(large, minute);
    draining.member.draining = true;
    let again = store.renew(draining.clone()).await.expect("renews");
    assert!(!again.fresh);
    assert!(again.members.contains(&draining.member));

    // The short lease runs out by the store's clock.
    let until = std::time::Instant::now() + crate::common::PATIENCE;
    while store.renew(draining.clone()).await.expect("renews").members.len() > 1 {
        assert!(std::time::Instant::now() < until, "still there");
    }
    assert!(store.renew(lease(2, minute)).await.expect("renews").fresh, "it had run out");
    store.retire(large).await.expect("retires");
    let left = store.renew(lease(2, minute)).await.expect("renews");
    assert_eq!(left.members, [lease(2, minute).member]);
}

pub async fn the_lineage_names_every_partition_and_stays_what_it_is(store: Any) {
    let lineage = store.lineage().await.expect("reads");
    assert_eq!(lineage.len(), usize::from(store.partitions()));
    assert_eq!(store.lineage().await, Ok(lineage));
}

fn held(pile: PileCode, fence: Fence, anew: bool) -> Claim {
    Claim { session: fence.session, held: Held::Fence { fence, anew }, ..claim(pile, 0, 1) }
}
