//! The table of sessions: who is ended for whom, and the node that goes.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::Instant;

use super::harness::code;
use crate::domain::{Epoch, Fence, PileCode, SessionId, WallMs};
use crate::session::io::{EndReason, Patience, Reassertion};
use crate::session::{Evicted, Eviction, Handle, Letter, Link, Now, Reasserted, Sessions, Whom};

const HERE: u64 = 7;

fn link(started: Instant) -> Arc<Link> {
    let now = Now { mono: started.elapsed(), wall: WallMs(1_000_000) };
    Arc::new(Link::new("192.0.2.1:4711".parse().expect("an address"), 16, started, now))
}

fn fence(incarnation: u64, counter: u64, epoch: u64) -> Fence {
    Fence { session: SessionId { incarnation, counter }, epoch: Epoch(epoch) }
}

fn ended(link: &Link) -> Option<EndReason> {
    match link.mailbox.next().now_or_never().map(|letter| *letter) {
        Some(Letter::Evict { reason, .. }) => Some(reason),
        Some(_) => panic!("not an eviction"),
        None => None,
    }
}

fn live(sessions: &Sessions, fence: Fence, link: &Arc<Link>) -> Option<bool> {
    sessions.register(code(), Handle { fence, provisional: false, link: link.clone() })
}

#[tokio::test(start_paused = true)]
async fn an_eviction_by_the_store_goes_by_epochs_and_one_by_a_guess_by_who_heard_the_pile_later() {
    let (sessions, link) = (Sessions::new(HERE), link(Instant::now()));
    let ours = fence(HERE, 1, 50);
    assert_eq!(live(&sessions, ours, &link), Some(false));
    let evict = |by, whom, heard_ms_ago| sessions.evict(Eviction { pile: code(), by, whom, heard_ms_ago });
    let run = Whom::Run(HERE);
    assert_eq!(evict(fence(8, 1, 50), run, 0), Evicted::NotHere);
    assert_eq!(evict(fence(8, 1, 51), run, 9999), Evicted::Ended);
    assert_eq!(ended(&link), Some(EndReason::TakenOver));
    // The guess may be any number: clocks differ.
    tokio::time::advance(Duration::from_secs(5)).await;
    assert_eq!(evict(fence(8, 1, 10), Whom::Anybody, 5001), Evicted::HeardLater);
    assert_eq!(ended(&link), None);
    assert_eq!(evict(fence(8, 1, 10), Whom::Anybody, 4000), Evicted::Ended);
    assert_eq!(ended(&link), Some(EndReason::HeardElsewhere));
    assert_eq!(sessions.heard_ms_ago(code(), ours), Some(5000));
    assert_eq!(sessions.heard_ms_ago(code(), fence(HERE, 1, 49)), None);
    let other: PileCode = "32010600019237".parse().expect("14 digits");
    let eviction = Eviction { pile: other, by: fence(8, 1, 99), whom: run, heard_ms_ago: 0 };
    assert_eq!(sessions.evict(eviction), Evicted::NotHere);
}

#[tokio::test]
async fn of_provisional_sessions_here_the_newest_login_wins_in_whatever_order_they_find_out() {
    let (sessions, started) = (Sessions::new(HERE), Instant::now());
    let (first, second, third) = (link(started), link(started), link(started));
    assert_eq!(live(&sessions, fence(HERE, 1, 900), &first), Some(false));
    // Its clock is behind the one of whoever was there.
    let guess = sessions.register_guess(code(), fence(HERE, 3, 500), third.clone());
    assert_eq!(guess, Some(fence(HERE, 3, 901)));
    assert_eq!(ended(&first), Some(EndReason::HeardElsewhere));
    assert_eq!(sessions.register_guess(code(), fence(HERE, 2, 1000), second.clone()), None);
    assert_eq!(live(&sessions, fence(HERE, 2, 5000), &second), None, "an older login, whatever its epoch");
    sessions.end_provisional(code(), fence(HERE, 3, 500));
    assert_eq!(ended(&third), None);
    sessions.end_provisional(code(), fence(HERE, 3, 901));
    assert_eq!(ended(&third), Some(EndReason::HeardElsewhere));
    // Claimed at last, and known under its true fence.
    assert_eq!(live(&sessions, fence(HERE, 3, 902), &third), Some(false));
    assert_eq!(ended(&third), None, "it is the same session");
    sessions.end_provisional(code(), fence(HERE, 3, 902));
    assert_eq!(ended(&third), None);
    assert_eq!(live(&sessions, fence(HERE, 4, 903), &second), Some(true));
    assert_eq!(ended(&third), Some(EndReason::TakenOver));
}

#[tokio::test(start_paused = true)]
async fn a_drain_keeps_its_pace_and_its_order() {
    let (sessions, started) = (Sessions::new(HERE), Instant::now());
    let link = link(started);
    for n in 0..1000 {
        let pile = format!("320106{n:08}").parse().expect("14 digits");
        let handle = Handle { fence: fence(HERE, n, n), provisional: false, link: link.clone() };
        sessions.register(pile, handle);
    }
    sessions.drain(500, started + Duration::from_secs(30)).await;
    assert!(started.elapsed() >= Duration::from_secs(30), "nobody ends them: it waits until its deadline");
    let mut letters = vec![];
    while let Some(letter) = link.mailbox.next().now_or_never() {
        let Letter::Drain { patience, .. } = *letter else { panic!("not a drain") };
        letters.push(patience);
    }
    assert_eq!(letters, [[Patience::Idle; 1000], [Patience::Answers; 1000]].concat());
    sessions.drain(100, Instant::now() + Duration::from_secs(1)).await;
    let told = std::iter::from_fn(|| link.mailbox.next().now_or_never()).count();
    assert!((90..=110).contains(&told), "{told} in a second");
    sessions.drain(0, Instant::now() + Duration::from_secs(1)).await;
    assert!(link.mailbox.next().now_or_never().is_none());
}

#[tokio::test(start_paused = true)]
async fn whoever_does_not_answer_in_time_leaves_it_unknown_whether_a_pile_is_kept() {
    let (sessions, link) = (Sessions::new(HERE), link(Instant::now()));
    let [kept, silent, gone, absent] =
        ["32010600000001", "32010600000002", "32010600000003", "32010600000004"].map(|p| p.parse().expect("14 digits"));
    for (n, pile) in [kept, silent, gone].into_iter().enumerate() {
        sessions.register(pile, Handle { fence: fence(HERE, n as u64, 1), provisional: false, link: link.clone() });
    }
    let connection = async {
        let mut held = vec![];
        for _ in 0..3 {
            let Letter::Reassert { pile, reply, anew, .. } = *link.mailbox.next().await else { panic!("asked") };
            assert_eq!(anew, pile == kept);
            if pile == kept {
                reply.send(Reassertion::Kept).expect("somebody waits");
            } else if pile == silent {
                held.push(reply);
            }
        }
        held
    };
    let piles = vec![(kept, true), (silent, false), (gone, false), (absent, false)];
    let (told, _held) = tokio::join!(sessions.reassert(piles), connection);
    assert_eq!(told, Reasserted { kept: 1, lost: 2, unknown: vec![silent] });
}

#[test]
fn standing_still_is_noticed_before_and_after_the_next_beat() {
    let sessions = Sessions::new(HERE);
    let at = Duration::from_millis;
    (0..10).for_each(|n| sessions.beat(at(250 * n)));
    let before = sessions.standstills(at(2400));
    assert_eq!(before, 0);
    let after = sessions.standstills(at(3700));
    assert_eq!(after, 1);
    sessions.beat(at(3700));
    assert_eq!(sessions.standstills(at(3800)), after, "the same one");
}

#[tokio::test(start_paused = true)]
async fn what_callers_asked_while_it_stood_still_is_refused_for_a_moment() {
    let (sessions, begun) = (Sessions::new(HERE), tokio::time::Instant::now());
    let pass = |ms| tokio::time::advance(Duration::from_millis(ms));
    let beat = || sessions.beat(begun.elapsed());
    pass(5000).await;
    assert!(!sessions.catches_up(), "it has not begun to beat");
    beat();
    pass(900).await;
    assert!(!sessions.catches_up());
    pass(200).await;
    assert!(sessions.catches_up(), "before anybody has noticed");
    beat();
    pass(900).await;
    beat();
    assert!(sessions.catches_up());
    pass(200).await;
    assert!(!sessions.catches_up());
}

#[test]
fn two_devices_with_one_pile_code_are_told_of_every_five_minutes_and_not_without_bound() {
    let sessions = Sessions::new(HERE);
    let at = Duration::from_secs;
    assert!(sessions.tells_duplicate(code(), at(0)));
    assert!(!sessions.tells_duplicate(code(), at(299)));
    assert!(sessions.tells_duplicate(code(), at(300)));
    let told = (0..5000).filter(|n| sessions.tells_duplicate(format!("99{n:012}").parse().expect("digits"), at(301)));
    assert_eq!(told.count(), 1023);
}
