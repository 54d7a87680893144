//! What piles and callers do.

use pileway::domain::order::{Change, Happening, Metered, StartRequest};
use pileway::domain::{Amount, Energy, Order, RequestId, Serial};
use pileway::store::Claim;
use pileway::store::ledger::{Document, Expect, WriteError};

use crate::made::{attempt, gun, of, record};
use crate::world::{Session, World};

impl World {
    pub async fn login(&mut self, pile: usize, node: usize) {
        if self.nodes[node].frozen {
            return;
        }
        let code = self.piles[pile].code;
        let session = self.nodes[node].next_session();
        self.hang_up(pile).await;
        // The clocks of nodes differ, and no promise rests on them.
        let clock = self.now.plus_ms(node as u64 * CLOCKS_APART_MS);
        let login = self.ledger.claim(Claim::login(code, session, clock, 1)).await.expect("claims");
        self.owners.insert(code, login.fence);
        self.seen.one("login");
        if self.chance.below(8) == 0 {
            // The answer is lost, the connection too: nobody knows of this session but the store.
            let known = self.nodes[node].absent.remove(&code).map(|absent| absent.orders).unwrap_or_default();
            self.nodes[node].absent.insert(code, Session { fence: login.fence, batches: 0, orders: known });
            self.silenced.extend(login.previous.map(|previous| (code, login.fence, previous.session.incarnation)));
            return;
        }
        let orders = login.open_orders.into_iter().map(|(order, version)| (order.serial, (order, Some(version))));
        let new = Session { fence: login.fence, batches: 0, orders: orders.collect() };
        let mut before = self.nodes[node].absent.remove(&code);
        if let Some(before) = &mut before {
            let known =
                |order: &Order| new.orders.get(&order.serial).is_some_and(|(new, _)| new.knows_beginning_of(order));
            before.orders.retain(|_, (order, _)| !known(order));
        }
        if let Some(older) = self.nodes[node].sessions.insert(code, new) {
            self.left_behind(older).await;
        }
        if let Some(before) = before {
            self.left_behind(before).await;
        }
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
        let order_put = (Document::Order(Box::new(order.clone())), Expect::Absent);
        let documents = attempt(&order).into_iter().chain([order_put]).collect();
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
            Err(WriteError::Fenced) => self.fenced(node, code).await,
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
        // Also one that the store has lost: it is settled as what it was.
        let latest = latest.map(|(order, version)| (order, version.unwrap_or(NOT_STORED)));
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
        let known = session.orders.values().next().cloned();
        let here = self.piles[pile].current == Some(session.fence.session);
        let charges = self.piles[pile].unbilled.last().filter(|_| here && known.is_none());
        let (mut order, version) = match (known, charges) {
            (Some(known), _) => known,
            (None, Some(serial)) => match self.ledger.order(code, *serial).await.expect("reads") {
                None => {
                    self.seen.one("adopted");
                    (Order::adopted(code, gun(), *serial, now), None)
                }
                Some((stored, version)) if stored.state.is_open() => (stored, Some(version)),
                Some(_) => return,
            },
            (None, None) => return,
        };
        let metered = Metered { at: now, energy: Energy(1), amount: Amount(1), soc_percent: 1 };
        order.apply(now, Happening::Charging(metered));
        let expect = version.map_or(Expect::Absent, Expect::Version);
        // What the store has lost is put again with its request.
        let attempt = version.is_none().then(|| attempt(&order)).flatten();
        let documents = [(Document::Order(Box::new(order.clone())), expect)].into_iter().chain(attempt).collect();
        let write = session.write(code, documents, vec![]);
        let fence = session.fence;
        match self.ledger.write(write).await {
            Ok(versions) => {
                session.orders.insert(order.serial, (order, Some(versions[0])));
                self.wrote(code, fence);
            }
            Err(WriteError::Fenced) => self.fenced(node, code).await,
            Err(WriteError::Conflict { current: Some((Document::Order(stored), version)), .. }) => {
                session.finds_stored(&self.ledger, order, (&stored, version)).await;
            }
            // What started it is known by now.
            Err(WriteError::Conflict { current: Some(_), .. }) => {}
            Err(WriteError::Conflict { current: None, .. }) => drop(session.orders.insert(order.serial, (order, None))),
            Err(error) => panic!("{error}"),
        }
    }

    pub async fn hang_up(&mut self, pile: usize) {
        let (node, code) = (self.node_of(pile), self.piles[pile].code);
        // A frozen node does not notice: its session stays, half open.
        if let Some(node) = node.filter(|node| !self.nodes[*node].frozen && self.chance.below(2) == 0)
            && let Some(session) = self.nodes[node].sessions.remove(&code)
            && let Some(before) = self.nodes[node].absent.insert(code, session)
        {
            self.left_behind(before).await;
        }
        self.piles[pile].current = None;
    }
}

/// Of each pile: few, so that callers repeat them.
const REQUESTS: u64 = 8;
/// No document has it: versions begin at 1.
const NOT_STORED: u64 = 0;
const CLOCKS_APART_MS: u64 = 5000;
