//! `make bench`: pileway's figures, each beside what it is measured against, and its goal.
//!
//! Absolute speeds say little about a machine nobody knows, so nearly everything is a ratio of two things measured in
//! turns in one run: the node against the least a server can do with the same codec, [`bare`]; against redis-benchmark
//! on the same Redis; against fsync on the same disk. The load comes from a process of its own, [`load`], the same for
//! both. This program is all of them but Redis and its benchmark: it runs itself again for each role.
//!
//! It is bounded in time, stays on the loopback, and ends its children when it ends. Its exit code says whether
//! everything could be measured, not whether the goals were met: a busy machine misses some.

#![expect(clippy::cast_precision_loss, reason = "counts and nanoseconds are far below 2^52")]

mod bare;
mod codec;
mod events;
mod heartbeats;
mod load;
mod logins;
mod memory;
mod process;
mod redis;
mod report;
mod rounds;
mod settlements;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Parser, Subcommand, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

use report::Report;

/// pileway's figures: codec, heartbeats against a bare server, memory per idle session, logins against redis-benchmark,
/// settlements against fsync, events to consumers against XREAD.
#[derive(Parser)]
#[command(name = "make bench")]
struct Args {
    /// One JSON object instead of tables.
    #[arg(long)]
    json: bool,
    /// Measure this only; may be repeated.
    #[arg(long, value_enum, value_name = "PART")]
    only: Vec<Part>,
    /// What cargo adds to every benchmark's arguments.
    #[arg(long, hide = true)]
    bench: bool,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Part {
    Codec,
    Heartbeats,
    Memory,
    Logins,
    Settlements,
    Events,
}

/// What this program is when it has run itself again.
#[derive(Subcommand)]
enum Role {
    /// The bare server.
    #[command(hide = true)]
    Bare,
    /// The piles `first..first + count`, connected to `server`.
    #[command(hide = true)]
    Load { server: SocketAddr, first: u32, count: u32 },
    /// So many clients that log piles in at `server`.
    #[command(hide = true)]
    Logins { server: SocketAddr, clients: u32 },
    /// So many piles that have bills to settle at `server`.
    #[command(hide = true)]
    Records { server: SocketAddr, clients: u32 },
}

fn main() -> ExitCode {
    let args = Args::parse();
    let result = match args.role {
        Some(Role::Bare) => bare::run(),
        Some(Role::Load { server, first, count }) => load::run(server, first, count),
        Some(Role::Logins { server, clients }) => load::logins::run(server, clients),
        Some(Role::Records { server, clients }) => load::records::run(server, clients),
        None => measure(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(args: &Args) -> anyhow::Result<()> {
    let wanted = |part| args.only.is_empty() || args.only.contains(&part);
    let mut report = Report::new()?;
    if wanted(Part::Codec) {
        eprintln!("codec ...");
        report.codec = codec::measure()?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            measured = measure_processes(&wanted, &mut report) => measured,
            () = tokio::time::sleep(TIME_LIMIT) => bail!("not done after {TIME_LIMIT:?}: this machine is too busy to measure on"),
            _ = tokio::signal::ctrl_c() => bail!("interrupted"),
            _ = terminate.recv() => bail!("terminated"),
        }
    })?;
    report.ended()?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{report}");
    }
    Ok(())
}

/// The children end with the future that holds them.
async fn measure_processes(wanted: &impl Fn(Part) -> bool, report: &mut Report) -> anyhow::Result<()> {
    if wanted(Part::Heartbeats) {
        for piles in heartbeats::PILES {
            eprintln!("heartbeats, {piles} piles ...");
            let figure = heartbeats::measure(piles).await;
            report.heartbeats.push(figure.with_context(|| format!("heartbeats of {piles} piles not measured"))?);
        }
    }
    if wanted(Part::Memory) {
        eprintln!("memory ...");
        report.memory = memory::measure().await.context("memory not measured")?;
    }
    if wanted(Part::Logins) {
        eprintln!("logins ...");
        report.logins = Some(logins::measure().await.context("logins not measured")?);
    }
    if wanted(Part::Settlements) {
        eprintln!("settlements ...");
        report.settlements = Some(settlements::measure().await.context("settlements not measured")?);
    }
    if wanted(Part::Events) {
        eprintln!("events ...");
        report.events = Some(events::measure().await.context("events not measured")?);
    }
    Ok(())
}

const TIME_LIMIT: Duration = Duration::from_mins(8);
