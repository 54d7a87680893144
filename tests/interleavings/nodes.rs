//! What nodes do.

use pileway::domain::event::OfflineReason;
use pileway::domain::pile::Presence;
use pileway::domain::{Event, EventKind, Order, PileCode, Record, SessionId};
use pileway::store::ledger::{Document, Expect, Ledger, Write, WriteError};
use pileway::store::{BatchId, Claim, Held, Orphan, Partition, Store, StoreError};

use crate::made::{attempt, event, presence};
use crate::world::{Node, Session, World};

impl World {
    pub async fn evict(&mut self) {
        if self.evictions.is_empty() {
            return;
        }
        let at = self.chance.below(self.evictions.len() as u64) as usize;
        let (pile, by, run) = self.evictions[at];
        let Some(node) = self.nodes.iter().position(|node| node.incarnation == run) else {
            self.evictions.swap_remove(at);
            return;
        };
        if !self.nodes[node].frozen {
            self.evictions.swap_remove(at);
            if self.nodes[node].sessions.get(&pile).is_some_and(|there| there.fence.epoch < by.epoch) {
                self.over(node, pile, "evicted").await;
            }
            if self.nodes[node].absent.get(&pile).is_some_and(|there| there.fence.epoch < by.epoch) {
                let absent = self.nodes[node].absent.remove(&pile).expect("there");
                self.left_behind(absent).await;
            }
        }
    }

    /// An absent pile has been away for long enough: time decides about its orders, which shows whether they are there.
    pub async fn release(&mut self, node: usize) {
        if self.nodes[node].frozen {
            return;
        }
        let Some((pile, absent)) = self.nodes[node].absent.pop_first() else { return };
        let fence = absent.fence;
        self.left_behind(absent).await;
        if self.ledger.release(pile, fence).await.expect("releases") {
            assert_eq!(self.owners.remove(&pile).unwrap_or(fence), fence, "a stale node took the pile from its owner");
            self.seen.one("released");
        }
    }

    /// The leases of frozen nodes have run out: somebody judges their piles.
    pub async fn sweep(&mut self, pile: usize) {
        let living: Vec<_> = self.nodes.iter().filter(|node| !node.frozen).map(|node| node.incarnation).collect();
        let at = Partition::of(self.piles[pile].code, self.store.partitions());
        for Orphan { pile, fence } in self.store.orphans(at, living, None, 64).await.expect("reads") {
            let stored = self.ledger.pile_versioned(pile).await.expect("reads");
            let expect = stored.map_or(Expect::Absent, |(_, version)| Expect::Version(version));
            let gone = presence(pile, Presence::Offline, self.now);
            let kind = EventKind::PileOffline { pile: Box::new(gone.clone()), reason: OfflineReason::NodeLost };
            self.runs += 1;
            let write = Write {
                id: BatchId { session: SessionId { incarnation: u64::MAX, counter: self.runs }, n: 1 },
                pile,
                fence: Some(fence),
                documents: vec![(Document::Pile(Box::new(gone)), expect)],
                events: vec![event(pile, kind, self.now)],
            };
            match self.ledger.write(write).await {
                Ok(_) => self.wrote(pile, fence),
                // Somebody has come first.
                Err(WriteError::Fenced | WriteError::Conflict { .. }) => continue,
                Err(error) => panic!("{error}"),
            }
            if self.ledger.release(pile, fence).await.expect("releases") {
                self.owners.remove(&pile);
                self.seen.one("swept");
            }
        }
    }

    /// Stands still, or goes on after it stood still for longer than its lease.
    pub async fn freeze(&mut self, node: usize) {
        self.nodes[node].frozen ^= true;
        if self.nodes[node].frozen {
            return self.seen.one("frozen");
        }
        let anew = std::mem::take(&mut self.nodes[node].behind);
        self.reassert(node, anew).await;
    }

    /// Another server answers for the partition.
    pub async fn notice(&mut self, node: usize) {
        if !self.nodes[node].frozen && std::mem::take(&mut self.nodes[node].behind) {
            self.reassert(node, true).await;
        }
    }

    pub async fn reassert(&mut self, node: usize, anew: bool) {
        for pile in self.nodes[node].sessions.keys().copied().collect::<Vec<_>>() {
            self.claim_again(node, pile, (anew, "superseded")).await;
        }
        if anew {
            for pile in self.nodes[node].absent.keys().copied().collect::<Vec<_>>() {
                self.doubt(node, pile).await;
            }
            for (record, order) in self.nodes[node].journal.clone() {
                self.settle_again(record, order).await;
            }
        }
    }

    /// What is known of a pile that is away is put again, and then it is judged as it is stored, if nobody newer has it.
    async fn doubt(&mut self, node: usize, pile: PileCode) {
        let mut absent = self.nodes[node].absent.remove(&pile).expect("it is away");
        let fence = absent.fence;
        self.leaves_behind(&mut absent).await;
        if self.nodes[node].sessions.contains_key(&pile) {
            return;
        }
        let claim = Claim { held: Held::Fence { fence, anew: true }, ..Claim::login(pile, fence.session, self.now, 1) };
        match self.ledger.claim(claim).await {
            Ok(login) => {
                self.owners.insert(pile, login.fence);
                let orders = login.open_orders.into_iter().map(|(order, at)| (order.serial, (order, Some(at))));
                (absent.fence, absent.orders) = (login.fence, orders.collect());
                self.nodes[node].absent.insert(pile, absent);
                self.seen.one("doubted");
            }
            Err(StoreError::Superseded { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }

    /// Either somebody newer is there, or the store has lost this session.
    pub async fn fenced(&mut self, node: usize, pile: PileCode) {
        self.claim_again(node, pile, (false, "fenced")).await;
    }

    async fn claim_again(&mut self, node: usize, pile: PileCode, (anew, why): (bool, &'static str)) {
        let Some(fence) = self.nodes[node].sessions.get(&pile).map(|session| session.fence) else { return };
        let claim = Claim { held: Held::Fence { fence, anew }, ..Claim::login(pile, fence.session, self.now, 1) };
        match self.ledger.claim(claim).await {
            Ok(login) => {
                self.owners.insert(pile, login.fence);
                let older = login.previous.filter(|_| login.fence != fence);
                self.evictions.extend(older.map(|older| (pile, login.fence, older.session.incarnation)));
                let Some(session) = self.nodes[node].sessions.get_mut(&pile) else { return };
                session.fence = login.fence;
                session.remember(&self.ledger, pile).await;
            }
            Err(StoreError::Superseded { .. }) => self.over(node, pile, why).await,
            Err(error) => panic!("{error}"),
        }
    }

    pub async fn settle_again(&mut self, record: Record, order: Option<Order>) {
        let pile = record.pile;
        self.ledger.settle(record, None, self.now).await.expect("settles");
        // The record alone would not say which request it answers.
        if let Some(attempt) = order.as_ref().and_then(attempt) {
            self.runs += 1;
            let id = BatchId { session: SessionId { incarnation: u64::MAX, counter: self.runs }, n: 1 };
            let write = Write { id, pile, fence: None, documents: vec![attempt], events: vec![] };
            match self.ledger.write(write).await {
                Ok(_) | Err(WriteError::Conflict { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// kill -9, and a new run on the same disk. Its piles have lost their connections.
    pub async fn crash(&mut self, node: usize) {
        let incarnation = self.nodes[node].incarnation;
        let there = std::mem::take(&mut self.nodes[node].sessions);
        for (pile, session) in there.into_iter().chain(std::mem::take(&mut self.nodes[node].absent)) {
            self.forget_what_only_it_knew(pile, &session).await;
        }
        let journal = std::mem::take(&mut self.nodes[node].journal);
        // Those it had to tell hear of nothing any more.
        let unsent = self.evictions.extract_if(.., |(_, by, _)| by.session.incarnation == incarnation);
        self.silenced.extend(unsent);
        for device in &mut self.piles {
            device.current = device.current.filter(|session| session.incarnation != incarnation);
        }
        self.nodes[node] = self.new_run(journal);
        self.seen.one("crash");
        // What it had not settled yet, it settles now.
        self.reassert(node, true).await;
    }
}

impl Node {
    pub fn next_session(&mut self) -> SessionId {
        self.counter += 1;
        SessionId { incarnation: self.incarnation, counter: self.counter }
    }
}

impl Session {
    pub fn write(&mut self, pile: PileCode, documents: Vec<(Document, Expect)>, events: Vec<Event>) -> Write {
        self.batches += 1;
        let id = BatchId { session: self.fence.session, n: self.batches };
        Write { id, pile, fence: Some(self.fence), documents, events }
    }

    /// After a re-assertion: what the store has forgotten of the open orders is written again.
    pub async fn remember(&mut self, ledger: &Ledger, pile: PileCode) {
        for (serial, (order, _)) in self.orders.clone() {
            if let Some((stored, version)) = ledger.order(pile, serial).await.expect("reads") {
                self.finds_stored(ledger, order, (&stored, version)).await;
            } else {
                let put = (Document::Order(Box::new(order.clone())), Expect::Absent);
                let both = [put.clone()].into_iter().chain(attempt(&order)).collect();
                let versions = match ledger.write(self.write(pile, both, vec![])).await {
                    // Another start has its request: the pile has never heard of this one.
                    Err(WriteError::Conflict { .. }) => ledger.write(self.write(pile, vec![put], vec![])).await,
                    written => written,
                };
                let versions = versions.expect("writes");
                self.orders.insert(serial, (order, Some(versions[0])));
            }
        }
    }

    /// Its own is the newer, unless the other is closed. Somebody may have found it by its serial or its bill, and does not
    /// know what started it.
    pub async fn finds_stored(&mut self, ledger: &Ledger, order: Order, (stored, version): (&Order, u64)) {
        if order.request != stored.request {
            self.leave_behind(ledger, &order).await;
        }
        if stored.state.is_open() {
            self.orders.insert(order.serial, (order, Some(version)));
        } else {
            self.orders.remove(&order.serial);
        }
    }

    /// After the end: the orders that the store may have lost are put there if they are not, whoever owns the pile. Whether
    /// one was missing.
    pub async fn leave_all_behind(&mut self, ledger: &Ledger) -> bool {
        let mut missing = false;
        for (order, _) in std::mem::take(&mut self.orders).into_values() {
            missing |= self.leave_behind(ledger, &order).await;
        }
        missing
    }

    /// The order and what started it, or that alone if the order is there.
    async fn leave_behind(&mut self, ledger: &Ledger, order: &Order) -> bool {
        let put = (Document::Order(Box::new(order.clone())), Expect::Absent);
        let mut left: Vec<_> = attempt(order).into_iter().chain([put]).collect();
        loop {
            let write = Write { fence: None, ..self.write(order.pile, left.clone(), vec![]) };
            match ledger.write(write).await {
                Ok(_) => return true,
                Err(WriteError::Conflict { at, .. }) => {
                    let known = matches!(left.remove(at).0, Document::StartAttempt(_));
                    if known || left.is_empty() {
                        return false;
                    }
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
}
