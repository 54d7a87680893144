//! Heartbeats answered by the node and by the bare server, in turns.

use std::time::Duration;

use serde::Serialize;

use crate::load::{Round, WINDOW};
use crate::process::{Process, Server};
use crate::rounds::{Ratio, median};

/// Piles that play at once.
pub const PILES: [u32; 3] = [50, 1000, 5000];

/// The node must answer at least so many of the bare server's heartbeats.
pub const GOAL: f64 = 0.7;

#[derive(Serialize)]
pub struct Figure {
    pub piles: u32,
    pub node: Side,
    pub bare: Side,
    /// The node's heartbeats per second over the bare server's: [`Ratio`].
    pub ratio: f64,
    pub ratios: [f64; 2],
    pub goal: f64,
}

/// Medians of all rounds.
#[derive(Serialize)]
pub struct Side {
    pub per_second: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub per_pile: [u32; 3],
    /// The server's own time per answer, its kernel work included. Other people's load disturbs it least.
    pub cpu_us: f64,
}

pub async fn measure(piles: u32) -> anyhow::Result<Figure> {
    let (node, bare) = (Server::node().await?, Server::bare().await?);
    let (mut node_load, mut bare_load) = (node.load(0, piles).await?, bare.load(0, piles).await?);
    tokio::time::sleep(SETTLE).await;
    let (mut node_rounds, mut bare_rounds) = (vec![], vec![]);
    for _ in 0..ROUNDS {
        node_rounds.push(play(&node, &mut node_load).await?);
        bare_rounds.push(play(&bare, &mut bare_load).await?);
    }
    let speeds = node_rounds.iter().zip(&bare_rounds).map(|((node, _), (bare, _))| (node.per_second, bare.per_second));
    let Ratio { ratio, ratios } = Ratio::of(speeds);
    Ok(Figure { piles, node: Side::of(&node_rounds), bare: Side::of(&bare_rounds), ratio, ratios, goal: GOAL })
}

/// One round, and the server's time per answer in microseconds.
async fn play(server: &Server, load: &mut Process) -> anyhow::Result<(Round, f64)> {
    let before = server.process.cpu()?;
    let round: Round = serde_json::from_str(&load.ask("play", WINDOW + ROUND_LIMIT).await?)?;
    let spent = server.process.cpu()?.saturating_sub(before);
    Ok((round, spent.as_secs_f64() * 1e6 / round.answers as f64))
}

impl Side {
    fn of(rounds: &[(Round, f64)]) -> Self {
        let middle = |value: &dyn Fn(&Round) -> f64| median(rounds.iter().map(|(round, _)| value(round)));
        Self {
            per_second: middle(&|r| r.per_second),
            p50_us: middle(&|r| r.p50_us),
            p99_us: middle(&|r| r.p99_us),
            per_pile: [0, 1, 2].map(|n| middle(&|r| f64::from(r.per_pile[n])) as u32),
            cpu_us: median(rounds.iter().map(|(_, cpu)| *cpu)),
        }
    }
}

/// Odd, so that the median is one of them.
const ROUNDS: usize = 7;
/// Until what the logins left for the store is written.
const SETTLE: Duration = Duration::from_secs(1);
const ROUND_LIMIT: Duration = Duration::from_secs(30);
