//! What nodes say to each other: the services' own types, and JSON for what the domain names.
//!
//! JSON of the domain's types, so that a new command is one variant and no conversion. Between two releases, a node skips
//! what it does not know of an answer, and refuses a command of which it does not know all: a start without its limit is
//! another start. So a field that is added to a command is left out of the JSON while nobody uses it.

use std::str::FromStr;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::domain::telemetry::Kind;
use crate::domain::{Command, CommandError, Epoch, Fence, PileCode, Reply, SessionId, Telemetry};
use crate::hub::Filter;
use crate::session::{Evicted, Eviction, Whom};

#[allow(clippy::all, clippy::pedantic, reason = "generated")]
pub mod pb {
    tonic::include_proto!("pileway.peer.v1");
}

/// What cannot be read, and why.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{what}: {reason}")]
pub struct Unreadable {
    pub what: &'static str,
    pub reason: String,
}

pub fn write<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("the domain's types have text keys only")
}

/// A command this node does not know, or not all of, is refused in words that say so.
pub fn read_command(bytes: &[u8]) -> Result<Command, CommandError> {
    let of_command = || -> Result<Command, Unreadable> {
        let (what, said) = ("a command", read::<Value>("a command", bytes)?);
        let command: Command = read(what, bytes)?;
        let understood = read(what, &write(&command))?;
        match more_in(&said, &understood) {
            None => Ok(command),
            Some(key) => Err(Unreadable { what, reason: format!("`{key}` is not known to this release") }),
        }
    };
    of_command().map_err(|error| CommandError::Unsupported { what: error.to_string() })
}

/// The first key that is not in both.
fn more_in<'a>(said: &'a Value, understood: &Value) -> Option<&'a str> {
    match (said, understood) {
        (Value::Object(said), Value::Object(understood)) => {
            said.iter().filter(|(_, value)| !value.is_null()).find_map(|(key, value)| match understood.get(key) {
                None => Some(key.as_str()),
                Some(understood) => more_in(value, understood),
            })
        }
        (Value::Array(said), Value::Array(understood)) => {
            said.iter().zip(understood).find_map(|(said, understood)| more_in(said, understood))
        }
        _ => None,
    }
}

pub fn read_reply(bytes: &[u8]) -> Result<Reply, Unreadable> {
    read("a reply", bytes)
}

pub fn read_error(bytes: &[u8]) -> Result<CommandError, Unreadable> {
    read("an error", bytes)
}

pub fn read_telemetry(bytes: &[u8]) -> Result<Telemetry, Unreadable> {
    read("a measurement", bytes)
}

pub fn read_pile(text: &str) -> Result<PileCode, Unreadable> {
    text.parse().map_err(|error: <PileCode as FromStr>::Err| Unreadable { what: "a pile", reason: error.to_string() })
}

pub fn write_fence(fence: Fence) -> pb::Fence {
    let Fence { session: SessionId { incarnation, counter }, epoch: Epoch(epoch) } = fence;
    pb::Fence { incarnation, counter, epoch }
}

pub fn read_fence(fence: Option<&pb::Fence>) -> Result<Fence, Unreadable> {
    let pb::Fence { incarnation, counter, epoch } =
        *fence.ok_or_else(|| Unreadable { what: "a fence", reason: "missing".into() })?;
    Ok(Fence { session: SessionId { incarnation, counter }, epoch: Epoch(epoch) })
}

pub fn write_eviction(eviction: &Eviction) -> pb::EvictRequest {
    let Eviction { pile, by, heard_ms_ago, whom } = *eviction;
    let everybody = match whom {
        Whom::Run(_) => false,
        Whom::Anybody => true,
    };
    pb::EvictRequest { pile: pile.to_string(), by: Some(write_fence(by)), heard_ms_ago, everybody }
}

/// `here` is the run that has been asked.
pub fn read_eviction(request: &pb::EvictRequest, here: u64) -> Result<Eviction, Unreadable> {
    let pb::EvictRequest { pile, by, heard_ms_ago, everybody } = request;
    let whom = if *everybody { Whom::Anybody } else { Whom::Run(here) };
    let by = read_fence(by.as_ref())?;
    Ok(Eviction { pile: read_pile(pile)?, by, heard_ms_ago: *heard_ms_ago, whom })
}

pub fn write_evicted(evicted: Evicted) -> pb::EvictResponse {
    let outcome = match evicted {
        Evicted::Ended => pb::EvictOutcome::Ended,
        Evicted::NotHere => pb::EvictOutcome::NotHere,
        Evicted::HeardLater => pb::EvictOutcome::HeardLater,
    };
    pb::EvictResponse { outcome: outcome.into() }
}

pub fn read_evicted(response: pb::EvictResponse) -> Result<Evicted, Unreadable> {
    match response.outcome() {
        pb::EvictOutcome::Ended => Ok(Evicted::Ended),
        pb::EvictOutcome::NotHere => Ok(Evicted::NotHere),
        pb::EvictOutcome::HeardLater => Ok(Evicted::HeardLater),
        pb::EvictOutcome::Unspecified => {
            Err(Unreadable { what: "an outcome", reason: format!("{} is none", response.outcome) })
        }
    }
}

pub fn write_filter(filter: &Filter) -> pb::WatchTelemetryRequest {
    let Filter { piles, kinds } = filter;
    let kinds = kinds.iter().map(|kind| String::from_utf8_lossy(&write(kind)).into_owned());
    pb::WatchTelemetryRequest { piles: piles.iter().map(ToString::to_string).collect(), kinds: kinds.collect() }
}

/// A kind this node does not know is one it does not measure: left out, unless nothing would be left, which means all.
pub fn read_filter(request: &pb::WatchTelemetryRequest) -> Result<Filter, Unreadable> {
    let pb::WatchTelemetryRequest { piles, kinds } = request;
    let known: Vec<Kind> = kinds.iter().filter_map(|kind| read("a kind", kind.as_bytes()).ok()).collect();
    if known.is_empty() && !kinds.is_empty() {
        return Err(Unreadable { what: "a filter", reason: "none of its kinds is known".into() });
    }
    Ok(Filter { piles: piles.iter().map(|pile| read_pile(pile)).collect::<Result<_, _>>()?, kinds: known })
}

fn read<T: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T, Unreadable> {
    serde_json::from_slice(bytes).map_err(|error| Unreadable { what, reason: error.to_string() })
}

#[cfg(test)]
mod tests;
