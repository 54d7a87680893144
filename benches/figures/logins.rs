//! Logins on one node that keeps its piles in Redis, and redis-benchmark on the same Redis, in turns.
//!
//! What redis-benchmark calls is the node's own claim, as the node was seen to send it: the same script with the same
//! arguments, but for the session, which is a new one each time, as it is at a login. It is always the same pile, which
//! to a server with one thread is as good as many. redis-benchmark has a connection for each client, and the node one
//! for all. Where there are few cores, node and load take them from Redis, as redis-benchmark alone does not.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde::Serialize;

use crate::load::WINDOW;
use crate::load::turns::Turns;
use crate::process::{Process, Server};
use crate::redis::{ANY_NUMBER, Redis, SETTINGS};
use crate::rounds::{Ratio, Speed, median};

#[derive(Serialize)]
pub struct Figure {
    pub clients: u32,
    /// Its settings.
    pub redis: &'static str,
    /// redis-benchmark's.
    pub claims: Speed,
    /// Of piles that nobody has seen: what is stored of them is stored for the first time.
    pub first: Side,
    /// Of piles that have been there a moment ago.
    pub again: Side,
}

#[derive(Serialize)]
pub struct Side {
    #[serde(flatten)]
    pub speed: Speed,
    /// Logins over redis-benchmark's claims.
    #[serde(flatten)]
    pub ratio: Ratio,
    /// The node's own time per login, its kernel work and the end of the connection included.
    pub cpu_us: f64,
    /// Calls of the claim's script per login.
    pub claims: f64,
    /// Calls of any script per login: also what is written of the pile's presence, and what the node does by itself.
    pub scripts: f64,
}

pub async fn measure() -> anyhow::Result<Figure> {
    let redis = Redis::start().await?;
    let node = Server::node_on(&redis.url()).await?;
    let mut piles = node.clients("logins", CLIENTS).await?;
    redis.settled(SCRIPTS).await?;

    let (first_claims, _) = watched(&redis, &mut piles, "first").await?;
    let (again_claims, claim) = watched(&redis, &mut piles, "again").await?;
    let claim = with_any_session(&claim)?;
    let claim: Vec<_> = claim.iter().map(String::as_str).collect();
    let pace = redis.pace(CLIENTS, &claim).await?;

    let (mut claims, mut first, mut again) = (vec![], vec![], vec![]);
    for _ in 0..ROUNDS {
        let before = redis.settled(WRITES).await?;
        let round = redis.benchmark(CLIENTS, pace, &claim).await?;
        let written = redis.settled(WRITES).await?.saturating_sub(before);
        ensure!(written >= round.all, "{} claims of redis-benchmark made only {written} owners", round.all);
        claims.push(round);
        first.push(round_of(&redis, &node, &mut piles, "first").await?);
        again.push(round_of(&redis, &node, &mut piles, "again").await?);
    }
    Ok(Figure {
        clients: CLIENTS,
        redis: SETTINGS,
        claims: Speed::of(&claims),
        first: Side::of(&first, &claims, first_claims),
        again: Side::of(&again, &claims, again_claims),
    })
}

impl Side {
    fn of(rounds: &[Round], beside: &[Turns], claims: f64) -> Self {
        let turns: Vec<_> = rounds.iter().map(|round| round.turns).collect();
        Self {
            speed: Speed::of(&turns),
            ratio: Ratio::of_turns(&turns, beside),
            cpu_us: median(rounds.iter().map(|round| round.cpu_us)),
            claims,
            scripts: median(rounds.iter().map(|round| round.scripts)),
        }
    }
}

struct Round {
    turns: Turns,
    cpu_us: f64,
    scripts: f64,
}

async fn round_of(redis: &Redis, node: &Server, piles: &mut Process, which: &str) -> anyhow::Result<Round> {
    let (cpu, scripts) = (node.process.cpu()?, redis.settled(SCRIPTS).await?);
    let turns = play(piles, which).await?;
    let scripts = redis.settled(SCRIPTS).await?.saturating_sub(scripts);
    let cpu = node.process.cpu()?.saturating_sub(cpu);
    let logins = turns.all as f64;
    Ok(Round { turns, cpu_us: cpu.as_secs_f64() * 1e6 / logins, scripts: scripts as f64 / logins })
}

/// A round that does not count, since to be watched makes Redis slow: claims per login, and one of them.
async fn watched(redis: &Redis, piles: &mut Process, which: &str) -> anyhow::Result<(f64, Vec<String>)> {
    let monitor = redis.monitor().await?;
    let play = async {
        let turns = play(piles, which).await?;
        redis.settled(SCRIPTS).await?;
        redis.mark(which).await?;
        anyhow::Ok(turns)
    };
    let (turns, mut scripts) = tokio::try_join!(play, monitor.scripts_until(which))?;
    let name = Redis::name_of(CLAIM);
    scripts.retain(|words| words.get(1) == Some(&name));
    let claims = scripts.len() as f64 / turns.all as f64;
    Ok((claims, scripts.pop().context("no login has claimed its pile in Redis")?))
}

async fn play(piles: &mut Process, which: &str) -> anyhow::Result<Turns> {
    Ok(serde_json::from_str(&piles.ask(which, WINDOW + ROUND_LIMIT).await?)?)
}

/// The claim of a session of the same run of the node, and never the same one.
fn with_any_session(claim: &[String]) -> anyhow::Result<Vec<String>> {
    let mut claim = claim.to_vec();
    let sessions: Vec<_> = claim.iter_mut().filter(|word| is_session(word)).collect();
    let [session] = <[_; 1]>::try_from(sessions).ok().context("a login's claim names not one session")?;
    session.truncate(RUN + 1);
    session.push_str(ANY_NUMBER);
    Ok(claim)
}

/// The run in so many hex digits, a hyphen, the number of the session in this run.
fn is_session(word: &str) -> bool {
    let hex = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    word.split_once('-').is_some_and(|(run, counter)| run.len() == RUN && hex(run) && hex(counter))
}

/// As the node sends it: all its scripts begin with the same part.
const CLAIM: &str =
    concat!(include_str!("../../src/store/redis/lua/lib.lua"), include_str!("../../src/store/redis/lua/claim.lua"));
const RUN: usize = 16;
/// How Redis counts what calls scripts, and what a claim writes.
const SCRIPTS: &str = "evalsha";
const WRITES: &str = "hset";
const CLIENTS: u32 = 64;
/// Odd, so that the median is one of them.
const ROUNDS: usize = 5;
const ROUND_LIMIT: Duration = Duration::from_secs(30);
