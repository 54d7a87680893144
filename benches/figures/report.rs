//! The tables.

use std::fmt;

use anyhow::Context;
use serde::Serialize;

use crate::heartbeats::Side;
use crate::process::workers;
use crate::rounds::{Ratio, Speed};
use crate::{codec, events, heartbeats, logins, memory, settlements};

#[derive(Serialize)]
pub struct Report {
    pub cores: usize,
    /// Threads of either server's runtime.
    pub workers: usize,
    /// The kernel's mean number of running tasks over a minute, before and after.
    pub load: [f64; 2],
    pub codec: Vec<codec::Figure>,
    pub heartbeats: Vec<heartbeats::Figure>,
    pub memory: Vec<memory::Figure>,
    pub logins: Option<logins::Figure>,
    pub settlements: Option<settlements::Figure>,
    pub events: Option<events::Figure>,
}

impl Report {
    pub fn new() -> anyhow::Result<Self> {
        let cores = std::thread::available_parallelism()?.get();
        let load = [load()?, 0.0];
        let (codec, heartbeats, memory, logins, settlements) = (vec![], vec![], vec![], None, None);
        let events = None;
        Ok(Self { cores, workers: workers(), load, codec, heartbeats, memory, logins, settlements, events })
    }

    pub fn ended(&mut self) -> anyhow::Result<()> {
        self.load[1] = load()?;
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cores, workers, load: [before, after], codec, heartbeats, memory, logins, settlements, events } =
            self;
        writeln!(
            f,
            "\n{cores} cores, {workers} worker threads per server; load average {before} before, {after} after"
        )?;
        if !codec.is_empty() {
            codec_table(f, codec)?;
        }
        if !heartbeats.is_empty() {
            heartbeat_table(f, heartbeats)?;
        }
        if !memory.is_empty() {
            memory_table(f, memory)?;
        }
        if let Some(figure) = logins {
            login_table(f, figure)?;
        }
        if let Some(figure) = settlements {
            settlement_table(f, figure)?;
        }
        if let Some(figure) = events {
            event_table(f, figure)?;
        }
        Ok(())
    }
}

fn codec_table(f: &mut fmt::Formatter<'_>, figures: &[codec::Figure]) -> fmt::Result {
    writeln!(f, "\nCODEC                            ns/frame     best    allocations/frame")?;
    for codec::Figure { frame, what, ns, best_ns, allocations, goal } in figures {
        write!(f, "  {frame:<6}{what:<24}{ns:>9.1}{best_ns:>9.1}{allocations:>12.3}")?;
        if let Some((most_ns, most_allocations)) = goal {
            let met = ns <= most_ns && allocations <= most_allocations;
            write!(f, "         goal: at most {most_ns} ns, {most_allocations} allocations: {}", verdict(met))?;
        }
        writeln!(f)?;
    }
    Ok(())
}

fn heartbeat_table(f: &mut fmt::Formatter<'_>, figures: &[heartbeats::Figure]) -> fmt::Result {
    writeln!(f, "\nHEARTBEATS (0x03 -> 0x04, one in flight per pile, servers in turns, medians)")?;
    writeln!(
        f,
        "   piles            answers/s    p50 us    p99 us    answers per pile: least  median  most    server CPU us"
    )?;
    for heartbeats::Figure { piles, node, bare, ratio, ratios: [lowest, highest], goal } in figures {
        for (name, side) in [("node", node), ("bare", bare)] {
            let Side { per_second, p50_us, p99_us, per_pile: [least, median, most], cpu_us } = side;
            write!(f, "  {piles:>6}  {name:<6}{per_second:>15.0}{p50_us:>10.0}{p99_us:>10.0}")?;
            writeln!(f, "{least:>27}{median:>8}{most:>6}{cpu_us:>17.2}")?;
        }
        let cpu = node.cpu_us / bare.cpu_us;
        let verdict = verdict(ratio >= goal);
        write!(f, "          ratio {ratio:>14.2}   goal: at least {goal}: {verdict:<6}")?;
        writeln!(f, "   (rounds: {lowest:.2} to {highest:.2}){cpu:>16.2} x")?;
    }
    Ok(())
}

fn memory_table(f: &mut fmt::Formatter<'_>, figures: &[memory::Figure]) -> fmt::Result {
    writeln!(f, "\nMEMORY PER IDLE SESSION (growth of RssAnon: heap and stacks, without the kernel's socket buffers)")?;
    writeln!(f, "  sessions   node KiB   bare KiB   ratio")?;
    for memory::Figure { sessions, node, bare, ratio, goal } in figures {
        let (node, bare) = (node / 1024.0, bare / 1024.0);
        write!(f, "  {sessions:>8}{node:>11.2}{bare:>11.2}{ratio:>8.2}")?;
        writeln!(f, "   goal: at most {goal}: {}", verdict(ratio <= goal))?;
    }
    Ok(())
}

fn login_table(f: &mut fmt::Formatter<'_>, figure: &logins::Figure) -> fmt::Result {
    let logins::Figure { clients, redis, claims, first, again } = figure;
    writeln!(f, "\nLOGINS (connect, 0x01 -> 0x02, close; one node on Redis; {clients} clients; in turns, medians)")?;
    writeln!(f, "  Redis: {redis}; beside it redis-benchmark with the node's own claim, EVALSHA, as many clients")?;
    writeln!(
        f,
        "                       per second    p50 us    p99 us    node CPU us    scripts per login: claims  all    ratio"
    )?;
    speed(f, "redis-benchmark", claims)?;
    writeln!(f)?;
    for (name, logins::Side { speed: reached, ratio, cpu_us, claims, scripts }) in
        [("piles never seen", first), ("piles that return", again)]
    {
        speed(f, name, reached)?;
        write!(f, "{cpu_us:>15.0}{claims:>27.2}{scripts:>5.2}")?;
        one_ratio(f, ratio)?;
        writeln!(f)?;
    }
    Ok(())
}

fn settlement_table(f: &mut fmt::Formatter<'_>, figure: &settlements::Figure) -> fmt::Result {
    let settlements::Figure { clients, redis, fsync, xadd, settled } = figure;
    writeln!(f, "\nSETTLEMENTS (records durable, one in flight for each of {clients} piles; in turns, medians)")?;
    writeln!(f, "  Redis: {redis}; beside it redis-benchmark with XADD of about as many bytes, as many clients")?;
    writeln!(f, "                       per second    p50 us    p99 us    of fsync's                of XADD's")?;
    speed(f, "fsync, groups of all", fsync)?;
    writeln!(f)?;
    speed(f, "redis-benchmark XADD", xadd)?;
    writeln!(f)?;
    for settlements::Side { by, speed: reached, of_fsync, of_xadd } in settled {
        speed(f, by, reached)?;
        one_ratio(f, of_fsync)?;
        if let Some(of_xadd) = of_xadd {
            one_ratio(f, of_xadd)?;
        }
        writeln!(f)?;
    }
    Ok(())
}

fn event_table(f: &mut fmt::Formatter<'_>, figure: &events::Figure) -> fmt::Result {
    let events::Figure { redis, rows } = figure;
    writeln!(f, "\nEVENTS (one at a time, from before it is appended until a consumer has it; in turns, medians)")?;
    writeln!(f, "  Redis: {redis}; beside it XADD until a connection that blocks in XREAD has it")?;
    writeln!(f, "                          per second    p50 us    p99 us")?;
    for events::Row { what, speed: Speed { per_second, p50_us, p99_us } } in rows {
        writeln!(f, "  {what:<25}{per_second:>9.0}{p50_us:>10.0}{p99_us:>10.0}")?;
    }
    Ok(())
}

fn speed(f: &mut fmt::Formatter<'_>, name: &str, speed: &Speed) -> fmt::Result {
    let Speed { per_second, p50_us, p99_us } = speed;
    write!(f, "  {name:<22}{per_second:>9.0}{p50_us:>10.0}{p99_us:>10.0}")
}

fn one_ratio(f: &mut fmt::Formatter<'_>, Ratio { ratio, ratios: [lowest, highest] }: &Ratio) -> fmt::Result {
    write!(f, "{ratio:>8.3} ({lowest:.3} to {highest:.3})")
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "MISSED" }
}

fn load() -> anyhow::Result<f64> {
    let text = std::fs::read_to_string("/proc/loadavg")?;
    Ok(text.split_whitespace().next().context("/proc/loadavg is empty")?.parse()?)
}
