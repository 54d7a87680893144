//! Clients that each do one thing after the other, all at once, until a window closes.

use std::io::{BufRead, Write};
use std::time::Instant;

use anyhow::{Context, ensure};
use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::{ANSWER_LIMIT, WARM_UP, WINDOW};

/// What they came to.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub struct Turns {
    /// In the measured window.
    pub per_second: f64,
    /// Also those of the warm-up and the end: what the server's CPU time was spent on.
    pub all: u64,
    /// How long one took, of those in the window, in microseconds.
    pub p50_us: f64,
    pub p99_us: f64,
}

pub trait Client {
    /// One turn of it.
    async fn turn(&mut self) -> anyhow::Result<()>;
}

/// A round of [`Turns`] for every line that is read, which `chosen` tells the clients.
pub fn serve<C: Client>(
    runtime: &tokio::runtime::Runtime,
    mut clients: Vec<C>,
    chosen: impl Fn(&mut C, &str),
) -> anyhow::Result<()> {
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        for client in &mut clients {
            chosen(client, &line);
        }
        println!("{}", serde_json::to_string(&runtime.block_on(play(&mut clients))?)?);
        std::io::stdout().flush()?;
    }
    // Standard input has ended: so has whoever wanted this.
    Ok(())
}

pub async fn play<C: Client>(clients: &mut [C]) -> anyhow::Result<Turns> {
    let began = Instant::now();
    let each = try_join_all(clients.iter_mut().map(|client| until_closed(client, began))).await?;
    let all = each.iter().map(|(all, _)| all).sum();
    let mut took: Vec<_> = each.into_iter().flat_map(|(_, took)| took).collect();
    ensure!(!took.is_empty(), "nothing was done within the window");
    took.sort_unstable();
    let percentile = |p: usize| f64::from(took[(took.len() - 1) * p / 100]) / 1000.0;
    Ok(Turns {
        per_second: took.len() as f64 / WINDOW.as_secs_f64(),
        all,
        p50_us: percentile(50),
        p99_us: percentile(99),
    })
}

/// How many turns in all, and how long those took that ended in the window, in nanoseconds.
async fn until_closed(client: &mut impl Client, began: Instant) -> anyhow::Result<(u64, Vec<u32>)> {
    let (mut all, mut took) = (0, vec![]);
    let (opens, closes) = (began + WARM_UP, began + WARM_UP + WINDOW);
    let mut since = Instant::now();
    while since < closes {
        timeout(ANSWER_LIMIT, client.turn()).await.context("not answered in time")??;
        let now = Instant::now();
        all += 1;
        if now >= opens && now < closes {
            took.push(u32::try_from((now - since).as_nanos()).unwrap_or(u32::MAX));
        }
        since = now;
    }
    Ok((all, took))
}
