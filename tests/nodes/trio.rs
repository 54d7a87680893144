//! Three nodes on one Redis, and the piles that log in on them.

use std::time::Duration;

use pileway::sim::{Fleet, FleetConfig, PileConfig, Reconnect};

use crate::common::{Api, Node, within};

pub const NODES: usize = 3;

pub struct Trio {
    pub nodes: Vec<Node>,
    pub apis: Vec<Api>,
}

impl Trio {
    pub async fn start(redis: &str) -> Self {
        Self::with(redis, &[]).await
    }

    /// With settings as the environment names them.
    pub async fn with(redis: &str, settings: &[(&str, &str)]) -> Self {
        let nodes: Vec<_> = (1..=NODES).map(|n| node(redis, &format!("node-{n}"), settings)).collect();
        let mut apis = vec![];
        for node in &nodes {
            apis.push(Api::of(node).await);
        }
        Self { nodes, apis }
    }

    /// Where piles connect.
    pub fn addresses(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.piles.to_string()).collect()
    }

    /// `count` piles over all three nodes, logged in.
    pub async fn piles(&self, first: &str, count: u32) -> Fleet {
        let fleet = Fleet::start(&FleetConfig { piles: count, ..fleet(first, self.addresses()) });
        online(&fleet, count).await;
        fleet
    }

    /// After node `n` has been started again.
    pub async fn reconnect(&mut self, n: usize) {
        self.apis[n] = Api::of(&self.nodes[n]).await;
    }
}

pub fn node(redis: &str, id: &str, settings: &[(&str, &str)]) -> Node {
    let clustered = [
        ("REDIS__URL", redis),
        ("NODE__ID", id),
        ("PEER__LISTEN", "127.0.0.1:0"),
        ("PEER__SECRET", "a-secret-of-these-tests"),
        // Nobody balances loads here.
        ("DRAIN__SETTLE", "0s"),
    ];
    Node::with(&[&clustered, settings].concat())
}

/// Piles whose charges end by themselves after a moment, and who do not give up.
pub fn fleet(first: &str, addresses: Vec<String>) -> FleetConfig {
    let first = PileConfig {
        charge_for: Some(Duration::from_millis(500)),
        repeat_records: Some(Duration::from_secs(1)),
        reconnect: Reconnect { min: Duration::from_millis(100), max: Duration::from_secs(1) },
        notes: 10_000,
        ..PileConfig::new(first.parse().expect("a pile code"))
    };
    FleetConfig { connect_rate: 1000, ..FleetConfig::new(addresses, first) }
}

pub async fn online(fleet: &Fleet, count: u32) {
    within("all piles to be online", fleet.until(|fleet| fleet.online() == u64::from(count))).await;
}
