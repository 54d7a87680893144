//! Memory per idle session: the node's beside the bare server's.
//!
//! Every pile has logged in, had one heartbeat answered, and says nothing more. The growth is divided by the sessions, so
//! it holds whatever they brought about: tasks, buffers, the table of sessions, what the store's cache keeps of them. It
//! counts from a few sessions on, not from none: those wake what a process has once, such as the store's first pages and
//! the allocator's arenas.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::process::{Process, Server};

/// Idle sessions, cumulative.
pub const SESSIONS: [u32; 2] = [2000, 8000];

/// A session may take so many times what the bare server needs for a connection.
pub const GOAL: f64 = 2.5;

#[derive(Serialize)]
pub struct Figure {
    pub sessions: u32,
    /// Bytes per session.
    pub node: f64,
    pub bare: f64,
    pub ratio: f64,
    pub goal: f64,
}

pub async fn measure() -> anyhow::Result<Vec<Figure>> {
    let node = growth(Server::node().await?).await?;
    let bare = growth(Server::bare().await?).await?;
    let both = SESSIONS.iter().zip(node.iter().zip(&bare));
    Ok(both
        .map(|(&sessions, (&node, &bare))| Figure { sessions, node, bare, ratio: node / bare, goal: GOAL })
        .collect())
}

/// Bytes per session at each of [`SESSIONS`].
async fn growth(server: Server) -> anyhow::Result<Vec<f64>> {
    let (mut connected, mut loads, mut growth) = (FIRST, vec![server.load(0, FIRST).await?], vec![]);
    let before = settled(&server.process).await?;
    for sessions in SESSIONS {
        loads.push(server.load(connected, sessions - connected).await?);
        connected = sessions;
        let grown = settled(&server.process).await?.saturating_sub(before);
        growth.push(grown as f64 / f64::from(sessions - FIRST));
    }
    Ok(growth)
}

/// What it is once it has not changed for a while.
async fn settled(process: &Process) -> anyhow::Result<u64> {
    let began = Instant::now();
    let (mut last, mut since) = (process.memory()?, Instant::now());
    while since.elapsed() < QUIET && began.elapsed() < SETTLE_LIMIT {
        tokio::time::sleep(POLL).await;
        let memory = process.memory()?;
        if memory != last {
            (last, since) = (memory, Instant::now());
        }
    }
    Ok(last)
}

/// Sessions that are not counted.
const FIRST: u32 = 200;
const POLL: Duration = Duration::from_millis(100);
const QUIET: Duration = Duration::from_millis(1500);
const SETTLE_LIMIT: Duration = Duration::from_secs(15);
