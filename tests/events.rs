//! Events to groups of consumers: at least once, in order per pile, whatever becomes of consumers, nodes and stores.

mod common;
#[allow(dead_code, reason = "written for other tests too")]
#[path = "cluster/nodes.rs"]
mod nodes;
#[path = "events/reader.rs"]
mod reader;
#[path = "events/delivery.rs"]
mod delivery;
