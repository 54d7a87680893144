//! Nodes, and where piles are.

use super::{integer, timestamp};
use crate::api::pb;
use crate::cluster::{NodeSeen, Place};
use crate::domain::{Epoch, Fence, PileCode, WallMs};
use crate::store::Member;

pub fn node(seen: NodeSeen) -> pb::Node {
    let NodeSeen { member, sessions, here } = seen;
    let Member { incarnation, node, peer, version, draining, started_at_ms } = member;
    pb::Node {
        node,
        incarnation: run(incarnation),
        peer_address: peer,
        version,
        draining,
        started_at: Some(timestamp(WallMs(integer(started_at_ms)))),
        sessions: sessions.map(integer),
        self_: here,
    }
}

/// `here` is what people call the node that answers.
pub fn owner(pile: PileCode, place: Place, here: &str, last_seen: WallMs) -> pb::Owner {
    let (state, node, fence) = match place {
        Place::Here(fence) => (pb::OwnerState::Local, here.to_owned(), Some(fence)),
        Place::There(fence, member) => (pb::OwnerState::Remote, member.node, Some(fence)),
        Place::Nowhere => (pb::OwnerState::None, String::new(), None),
    };
    let told = |Fence { session, epoch: Epoch(epoch) }| (run(session.incarnation), integer(epoch));
    let (incarnation, epoch) = fence.map(told).unwrap_or_default();
    let last_seen = Some(timestamp(last_seen));
    pb::Owner { pile: pile.to_string(), state: state.into(), node, incarnation, epoch, last_seen }
}

fn run(incarnation: u64) -> String {
    format!("{incarnation:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::SessionId;

    #[test]
    fn a_pile_without_a_session_has_no_owner() {
        let pile = "32010600019236".parse().expect("code");
        let told = |place| owner(pile, place, "a", WallMs(1));
        let nowhere = told(Place::Nowhere);
        assert_eq!((nowhere.state(), nowhere.incarnation.as_str(), nowhere.epoch), (pb::OwnerState::None, "", 0));
        let fence = Fence { session: SessionId { incarnation: 0xAB, counter: 1 }, epoch: Epoch(7) };
        let here = told(Place::Here(fence));
        assert_eq!((here.state(), here.node.as_str(), here.epoch), (pb::OwnerState::Local, "a", 7));
        assert_eq!(here.incarnation, "00000000000000ab");
    }
}
