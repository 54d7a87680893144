//! What piles and callers do.

use pileway::domain::order::{Change, Happening, Metered, StartRequest};
use pileway::domain::{Amount, Energy, Order, RequestId, Serial};
use pileway::store::Claim;
use pileway::store::ledger::{Document, Expect, StartAttempt, WriteError};

use crate::made::{gun, of, record};
use crate::world::{Session, World};

impl World {
    pub async fn login(&mut self, pile: usize, node: usize) {
        if self.nodes[node].frozen {
            return;
        }
        let code = self.piles[pile].code;
        let session = self.nodes[node].next_session();
        self.hang_up(pile);
        // The clocks of nodes differ, and no promise rests on them.
        let clock = self.now.plus_ms(node as u64 * CLOCKS_APART_MS);
        let login = self.ledger.claim(Claim::login(code, session, clock, 1)).await.expect("claims");
        self.owners.insert(code, login.fence);
        self.seen.one("login");
        if self.chance.below(8) == 0 {
            // The answer is lost, the connection too: nobody knows of this session but the store.
            self.nodes[node].absent.insert(code, login.fence);
            self.silenced.extend(login.previous.map(|previous| (code, login.fence, previous.session.incarnation)));
            return;
        }
        let orders = login.open_orders.into_iter().map(|(order, version)| (order.serial, (order, Some(version))));
        let new = Session { fence: login.fence, batches: 0, orders: orders.collect() };
        self.nodes[node].absent.remove(&code);
        self.nodes[node].sessions.insert(code, new);
        self.piles[pile].current = Some(session);
        if let Some(previous) = login.previous {
            self.evictions.push((code, login.fence, previous.session.incarnation));
        }
    }

    /// A caller wants a charge and asks a node that believes to hold the pile, be it right or wrong.
    pub async fn start(&mut self, pile: usize, node: usize) {
        let code = self.piles[pile].code;
        let mut id = [0; 16];
        id[..7].copy_from_slice(&code.bcd());
        id[15] = self.chance.below(REQUESTS) as u8;
        let request = RequestId::from_bytes(id);
        // What a node has in its journal comes back to the store only with the node.
        let behind = self.nodes.iter().any(|node| node.behind) && self.piles[pile].started.contains_key(&request);
        if self.nodes[node].frozen || behind || self.piles[pile].forgotten.contains(&request) {
            return;
        }
        let mut serial = [0; 16];
        serial[..7].copy_from_slice(&code.bcd());
        serial[8..].copy_from_slice(&self.chance.next().to_be_bytes());
        let serial = Serial::from_bytes(serial);
        let now = self.now;
        let Some(session) = self.nodes[node].sessions.get_mut(&code) else { return };
        if session.orders.values().any(|(order, _)| order.request.is_some_and(|r| r.id == request)) {
            return self.seen.one("start joined");
        }
        if session.orders.values().any(|(order, _)| order.state.is_open()) {
            return;
        }
        let mut order = Order::requested(code, gun(), serial, now);
        order.request = Some(StartRequest { id: request, arguments: 1 });
        let attempt = StartAttempt { pile: code, id: request, arguments: 1, serial, created_at: now };
        let documents = vec![
            (Document::StartAttempt(attempt), Expect::Absent),
            (Document::Order(Box::new(order.clone())), Expect::Absent),
        ];
        let write = session.write(code, documents, vec![of(&order, Change::Created, now)]);
        match self.ledger.write(write).await {
            Ok(versions) => {
                let fence = session.fence;
                session.orders.insert(serial, (order, Some(versions[1])));
                self.wrote(code, fence);
                // 0x34 leaves by this session's socket, and only one socket is the pile's.
                if self.piles[pile].current == Some(fence.session) {
                    self.piles[pile].started.entry(request).or_default().push(serial);
                    self.piles[pile].unbilled.push(serial);
                    self.seen.one("start");
                }
            }
            Err(WriteError::Conflict { .. }) => self.seen.one("start joined"),
            Err(WriteError::Fenced) => self.over(node, code, "fenced").await,
            Err(error) => panic!("{error}"),
        }
    }

    /// A finished charge, or a bill that has not been acknowledged, goes to where the pile is logged in.
    pub async fn bill(&mut self, pile: usize) {
        let device = &mut self.piles[pile];
        if let Some(serial) = device.unbilled.pop() {
            device.bills.push((record(device.code, serial), false));
        }
        let waiting: Vec<_> = (0..device.bills.len()).filter(|n| !device.bills[*n].1).collect();
        let Some(which) = waiting.get(self.chance.below(waiting.len().max(1) as u64) as usize) else { return };
        let (code, record) = (device.code, device.bills[*which].0.clone());
        let Some(node) = self.node_of(pile).filter(|node| !self.nodes[*node].frozen) else { return };
        let node = &mut self.nodes[node];
        let Some(session) = node.sessions.get_mut(&code) else { return };
        let latest = session.orders.remove(&record.serial);
        let latest = latest.and_then(|(order, version)| Some((order, version?)));
        node.journal.push((record.clone(), latest.as_ref().map(|(order, _)| order.clone())));
        if self.chance.below(6) == 0 {
            // Fsynced, and then the answer got lost: it is sent again.
            return;
        }
        self.ledger.settle(record, latest, self.now).await.expect("settles");
        self.piles[pile].bills[*which].1 = true;
        self.seen.one("bill");
    }

    /// 0x13: what any holder of the pile, right or wrong, writes all the time.
    pub async fn meter(&mut self, pile: usize, node: usize) {
        let (code, now) = (self.piles[pile].code, self.now);
        if self.nodes[node].frozen {
            return;
        }
        let Some(session) = self.nodes[node].sessions.get_mut(&code) else { return };
        let Some((mut order, version)) = session.orders.values().next().cloned() else { return };
        let metered = Metered { at: now, energy: Energy(1), amount: Amount(1), soc_percent: 1 };
        order.apply(now, Happening::Charging(metered));
        let expect = version.map_or(Expect::Absent, Expect::Version);
        let write = session.write(code, vec![(Document::Order(Box::new(order.clone())), expect)], vec![]);
        let fence = session.fence;
        match self.ledger.write(write).await {
            Ok(versions) => {
                session.orders.insert(order.serial, (order, Some(versions[0])));
                self.wrote(code, fence);
            }
            Err(WriteError::Fenced) => self.over(node, code, "fenced").await,
            Err(WriteError::Conflict { current, .. }) => match current {
                Some((Document::Order(stored), version)) if stored.state.is_open() => {
                    session.orders.insert(order.serial, (*stored, Some(version)));
                }
                // Settled by another node, or forgotten by the store.
                Some(_) => drop(session.orders.remove(&order.serial)),
                None => drop(session.orders.insert(order.serial, (order, None))),
            },
            Err(error) => panic!("{error}"),
        }
    }

    pub fn hang_up(&mut self, pile: usize) {
        let (node, code) = (self.node_of(pile), self.piles[pile].code);
        // A frozen node does not notice: its session stays, half open.
        if let Some(node) = node.filter(|node| !self.nodes[*node].frozen && self.chance.below(2) == 0)
            && let Some(session) = self.nodes[node].sessions.remove(&code)
        {
            self.nodes[node].absent.insert(code, session.fence);
        }
        self.piles[pile].current = None;
    }
}

/// Of each pile: few, so that callers repeat them.
const REQUESTS: u64 = 4;
const CLOCKS_APART_MS: u64 = 5000;
