//! A Redis of our own, and redis-benchmark against it.

use std::collections::HashMap;
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use redis::aio::MultiplexedConnection;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::load::WINDOW;
use crate::load::turns::Turns;
use crate::process::{Process, directory, installed};

/// How it keeps what it is given: what a node asks for, at its most usual.
pub const SETTINGS: &str = "appendonly yes, appendfsync everysec";

pub struct Redis {
    port: u16,
    connection: MultiplexedConnection,
    _process: Process,
    _data: TempDir,
}

impl Redis {
    /// On a port and a directory of its own.
    pub async fn start() -> anyhow::Result<Self> {
        installed("redis-server")?;
        installed("redis-benchmark")?;
        let data = directory()?;
        // Free a moment ago; whoever has taken it since makes this fail, and nothing else.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let config = data.path().join("redis.conf");
        let settings = SETTINGS.replace(", ", "\n");
        let own = format!("port {port}\nbind 127.0.0.1\ndir {}\nsave \"\"\n{settings}\n", data.path().display());
        std::fs::write(&config, own)?;
        let mut process = Process::start("redis-server", Path::new("redis-server"), &[&config])?;
        while !process.line(START_LIMIT).await?.contains("Ready to accept connections") {}
        let client = redis::Client::open(format!("redis://127.0.0.1:{port}"))?;
        let connection = client.get_multiplexed_async_connection().await.context("redis-server does not answer")?;
        Ok(Self { port, connection, _process: process, _data: data })
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// How often each command was carried out by now, within scripts too.
    pub async fn commands(&self) -> anyhow::Result<HashMap<String, u64>> {
        let stats: String = redis::cmd("INFO").arg("commandstats").query_async(&mut self.connection.clone()).await?;
        let count = |line: &str| {
            let (name, stats) = line.trim().strip_prefix("cmdstat_")?.split_once(":calls=")?;
            Some((name.to_owned(), stats.split(',').next()?.parse().ok()?))
        };
        Ok(stats.lines().filter_map(count).collect())
    }

    /// How often one was; when it has become quiet about it.
    pub async fn settled(&self, command: &str) -> anyhow::Result<u64> {
        let of = async || anyhow::Ok(self.commands().await?.get(command).copied().unwrap_or(0));
        let (began, mut last, mut since) = (Instant::now(), of().await?, Instant::now());
        while since.elapsed() < QUIET && began.elapsed() < SETTLE_LIMIT {
            sleep(POLL).await;
            let now = of().await?;
            // A node says now and then that it is there, and looks after others.
            if now > last + BACKGROUND {
                since = Instant::now();
            }
            last = now;
        }
        Ok(last)
    }

    /// Sees every command from now on.
    pub async fn monitor(&self) -> anyhow::Result<Monitor> {
        let mut socket = TcpStream::connect(("127.0.0.1", self.port)).await?;
        socket.write_all(b"MONITOR\r\n").await?;
        let mut lines = BufReader::new(socket).lines();
        let answer = timeout(START_LIMIT, lines.next_line()).await.context("MONITOR is not answered")??;
        ensure!(answer.as_deref() == Some("+OK"), "MONITOR was answered with {answer:?}");
        Ok(Monitor { lines })
    }

    /// Its name for a script that does the same as one of the store's.
    pub fn name_of(script: &str) -> String {
        redis::Script::new(script).get_hash().to_owned()
    }

    /// Something a [`Monitor`] sees.
    pub async fn mark(&self, marker: &str) -> anyhow::Result<()> {
        let answer: String = redis::cmd("ECHO").arg(marker).query_async(&mut self.connection.clone()).await?;
        ensure!(answer == marker, "ECHO {marker} was answered with {answer:?}");
        Ok(())
    }

    /// redis-benchmark with so many clients, each with one command in flight; for about [`WINDOW`], if it carries out
    /// `pace` of them per second.
    pub async fn benchmark(&self, clients: u32, pace: f64, command: &[&str]) -> anyhow::Result<Turns> {
        let requests = (pace * WINDOW.as_secs_f64()).max(1000.0) as u64;
        self.benchmark_of(clients, requests, command).await
    }

    /// How much of it a second brings, roughly.
    pub async fn pace(&self, clients: u32, command: &[&str]) -> anyhow::Result<f64> {
        Ok(self.benchmark_of(clients, TRIAL, command).await?.per_second)
    }

    async fn benchmark_of(&self, clients: u32, requests: u64, command: &[&str]) -> anyhow::Result<Turns> {
        let (port, clients) = (self.port.to_string(), clients.to_string());
        let (count, random) = (requests.to_string(), RANDOM.to_string());
        let mut args: Vec<&str> = vec!["-p", &port, "-c", &clients, "-n", &count, "-r", &random];
        args.extend(["--precision", "3", "--csv"]);
        args.extend(command);
        let mut process = Process::start("redis-benchmark", Path::new("redis-benchmark"), &args)?;
        let lines = process.rest(BENCHMARK_LIMIT).await?;
        let last = lines.last().context("redis-benchmark said nothing")?;
        // "<command>","rps","avg","min","p50","p95","p99","max", milliseconds; the command may hold anything.
        let mut fields = last.rsplit("\",\"").map(|field| field.trim_matches('"').parse::<f64>());
        let mut field = || fields.next().and_then(Result::ok).with_context(|| format!("redis-benchmark said {last}"));
        let (_max, p99, _p95, p50) = (field()?, field()?, field()?, field()?);
        let (_min, _avg, per_second) = (field()?, field()?, field()?);
        Ok(Turns { per_second, all: requests, p50_us: p50 * 1000.0, p99_us: p99 * 1000.0 })
    }
}

/// What Redis carries out.
pub struct Monitor {
    lines: Lines<BufReader<TcpStream>>,
}

impl Monitor {
    /// The calls of scripts until [`Redis::mark`], as their words; not what the scripts did themselves.
    pub async fn scripts_until(mut self, marker: &str) -> anyhow::Result<Vec<Vec<String>>> {
        let read = async {
            let mut scripts = vec![];
            loop {
                let line = self.lines.next_line().await?.context("Redis has closed the monitor")?;
                if line.contains(" lua] ") {
                    continue;
                }
                let words = words(&line);
                match words.first().map(String::as_str) {
                    Some("ECHO") if words[1..] == [marker] => return Ok(scripts),
                    Some("EVALSHA" | "EVAL") => scripts.push(words),
                    _ => {}
                }
            }
        };
        timeout(MONITOR_LIMIT, read).await.context("the monitor does not come to an end")?
    }
}

/// Of `+<time> [<db> <address>] "<word>" "<word>"`. What is escaped stays so: no name or number of ours is.
fn words(line: &str) -> Vec<String> {
    let Some((_, quoted)) = line.split_once("] \"") else { return vec![] };
    quoted.trim_end_matches('"').split("\" \"").map(str::to_owned).collect()
}

/// What redis-benchmark puts another number for each time, of twelve digits and below [`RANDOM`].
pub const ANY_NUMBER: &str = "__rand_int__";
const RANDOM: u32 = 1_000_000_000;

const START_LIMIT: Duration = Duration::from_secs(20);
const BENCHMARK_LIMIT: Duration = Duration::from_mins(1);
const MONITOR_LIMIT: Duration = Duration::from_secs(45);
/// Commands.
const TRIAL: u64 = 5000;
const POLL: Duration = Duration::from_millis(50);
const QUIET: Duration = Duration::from_millis(250);
const SETTLE_LIMIT: Duration = Duration::from_secs(15);
/// Scripts within [`POLL`].
const BACKGROUND: u64 = 4;
