//! Events to groups of consumers: at least once, in order per pile, whatever becomes of consumers, nodes and stores.

mod common;
#[allow(dead_code, reason = "written for other tests too")]
#[path = "cluster/nodes.rs"]
mod nodes;
#[path = "events/reader.rs"]
mod reader;
#[path = "events/delivery.rs"]
mod delivery;
#[path = "events/share.rs"]
mod share;
#[path = "events/lists.rs"]
mod lists;
#[path = "events/loss.rs"]
mod loss;
#[path = "events/chaos.rs"]
mod chaos;
#[path = "events/killed.rs"]
mod killed;
