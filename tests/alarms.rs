//! Faults that guns report are told as they come and go, and stand meanwhile, whatever happens to the node.

mod common;

use common::api::changes;
use common::{Api, Node, Pile, frames};
use pileway::api::pb::{self, PileChange};
use pileway::wire::{GunStatus, HardwareFaults, RealtimeData};

const A: &str = "32010600019236";

fn faulty(word: u16) -> RealtimeData {
    let status = if word == 0 { GunStatus::Idle } else { GunStatus::Fault };
    RealtimeData { status, hardware_faults: HardwareFaults(word), ..frames::idle(A, 1) }
}

fn standing(pile: &pb::Pile) -> Vec<&str> {
    pile.guns[0].alarms.iter().map(|alarm| alarm.fault.as_str()).collect()
}

#[tokio::test]
async fn an_alarm_stands_until_the_pile_says_otherwise_and_outlasts_the_node() {
    let mut node = Node::start();
    let api = Api::of(&node).await;
    let mut events = api.watch_piles().await;
    let mut pile = Pile::login(&node, A).await;
    pile.send(faulty(0b1_0000_0000_0001)).await;
    let mut seen = events.until(A, PileChange::AlarmRaised).await;
    seen.extend(events.until(A, PileChange::AlarmRaised).await);
    let raised = [PileChange::Online, PileChange::Gun, PileChange::AlarmRaised, PileChange::AlarmRaised];
    assert_eq!(changes(&seen, A), raised);
    let named: Vec<_> = seen.iter().filter_map(|event| event.alarm.as_ref()).map(|alarm| &alarm.fault[..]).collect();
    assert_eq!(named, ["emergency_stop", "door_open"]);
    let before = api.pile(A).await;
    assert_eq!(standing(&before), ["emergency_stop", "door_open"]);

    node.restart();
    let api = Api::of(&node).await;
    let mut events = api.watch_piles().await;
    let mut pile = Pile::login(&node, A).await;
    assert_eq!(api.pile(A).await.guns[0].alarms, before.guns[0].alarms, "a login says nothing of faults");
    // Word for word what it said before; then one of the two is gone.
    pile.send(faulty(0b1_0000_0000_0001)).await;
    pile.send(faulty(0b1)).await;
    let seen = events.until(A, PileChange::AlarmCleared).await;
    let told = changes(&seen, A).into_iter().filter(|change| *change == PileChange::AlarmRaised).count();
    assert_eq!(told, 0, "what stands is not raised again");
    let last = seen.last().expect("the last one");
    assert_eq!(last.alarm.as_ref().expect("its alarm").fault, "door_open");
    assert_eq!(standing(last.pile.as_ref().expect("the pile after it")), ["emergency_stop"]);
    pile.send(faulty(0)).await;
    let seen = events.until(A, PileChange::AlarmCleared).await;
    assert_eq!(standing(seen.last().and_then(|event| event.pile.as_ref()).expect("the pile after it")), [""; 0]);
}
