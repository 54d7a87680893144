//! `pileway sim`: simulated piles against any platform.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::ValueEnum;
use tokio::time::{Instant, sleep_until};

use crate::domain::PileCode;
use crate::settings::duration;
use crate::sim::{AddressReport, AutoCharge, Behaviour, Fleet, FleetConfig, PileConfig, Reconnect, Report};

/// Runs simulated piles against a platform, and reports what came of it. Ends after --duration or with Ctrl-C.
///
/// One process holds one connection per pile, so it is limited by its file descriptors: raise `ulimit -n` above the number
/// of piles first. Clocks and meters of the piles run --speed times faster than real time; heartbeats, retries and other
/// link timers do not.
#[derive(clap::Args)]
pub struct SimArgs {
    /// HOST:PORT of the platform; several, separated by commas: the piles spread evenly over them, and each takes the next
    /// one whenever its connection ends or does not come about.
    #[arg(long, value_delimiter = ',', default_value = "127.0.0.1:8768", value_parser = address)]
    connect: Vec<String>,
    /// How many piles.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    piles: u32,
    /// Guns of each pile.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=99))]
    guns: u8,
    /// AC piles of 7 kW instead of DC piles of 120 kW.
    #[arg(long)]
    ac: bool,
    /// Protocol version × 10, as in 0x01: 16 is V1.6.
    #[arg(long, default_value_t = 16)]
    protocol: u8,
    /// How many times faster than real time clocks and meters run.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    speed: u32,
    /// The code of the first pile; the others count up from it.
    #[arg(long, default_value = "32010600000001")]
    first_code: PileCode,
    /// New connections per second.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// The pause before a pile connects again, like 500ms or 2s. It doubles until a login succeeds; up to half of it is
    /// added at random.
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = span)]
    reconnect_min: Duration,
    /// The pause doubles up to this; a pile whose login was rejected waits so long at once.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = span)]
    reconnect_max: Duration,
    /// Ends after so many seconds; without it, with Ctrl-C.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    duration: Option<u64>,
    /// Every gun asks to charge by card every S seconds of real time, and is stopped by hand after half of it.
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(2..))]
    charge_every: Option<u64>,
    /// Every gun asks to charge by card once a minute while it is idle, and charges until the vehicle is full.
    #[arg(long, conflicts_with = "charge_every")]
    auto_charge: bool,
    /// Every charge ends by itself after so long in real time, like 300ms or 20s.
    #[arg(long, value_name = "DURATION", value_parser = span)]
    charge_for: Option<Duration>,
    /// A way in which the piles misbehave; may be given several times.
    #[arg(long, value_name = "NAME[=VALUE]", help = behaviours())]
    behaviour: Vec<Behaviour>,
    /// How the final report is printed.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    report: Format,
}

/// A report's format.
#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// A table.
    Text,
    /// One JSON object.
    Json,
}

/// Runs `pileway sim`.
pub fn sim(args: SimArgs) -> ExitCode {
    let SimArgs {
        connect,
        piles,
        guns,
        ac,
        protocol,
        speed,
        first_code,
        rate,
        reconnect_min,
        reconnect_max,
        duration,
        charge_every,
        auto_charge,
        charge_for,
        behaviour,
        report,
    } = args;
    if reconnect_max < reconnect_min {
        return complain(&format!(
            "--reconnect-max {reconnect_max:?}: must not be less than --reconnect-min {reconnect_min:?}"
        ));
    }
    let auto_charge = match charge_every {
        Some(every) => {
            let every = Duration::from_secs(every);
            Some(AutoCharge { every, stop_after: Some(every / 2) })
        }
        None => auto_charge.then_some(AutoCharge { every: Duration::from_mins(1), stop_after: None }),
    };
    let first = PileConfig {
        guns,
        dc: !ac,
        protocol_version: protocol,
        speed,
        auto_charge,
        charge_for,
        behaviours: behaviour,
        reconnect: Reconnect { min: reconnect_min, max: reconnect_max },
        ..PileConfig::new(first_code)
    };
    let config = FleetConfig { piles, connect_rate: rate, ..FleetConfig::new(connect, first) };
    if config.code(piles - 1).is_none() {
        return complain(&format!("--piles {piles}: the codes from --first-code {first_code} on do not suffice"));
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&format!("cannot start the runtime: {error}")),
    };
    let done = runtime.block_on(run(&config, duration.map(Duration::from_secs)));
    // Thousands of tasks need not be waited for one by one.
    runtime.shutdown_background();
    let text = match report {
        Format::Text => table(&done),
        Format::Json => serde_json::to_string(&done).unwrap_or_default(),
    };
    match writeln!(io::stdout().lock(), "{text}") {
        Ok(()) => {}
        // Whoever closes our output has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        Err(error) => return complain(&error.to_string()),
    }
    if done.logged_in == 0 {
        eprintln!("pileway sim: no pile ever logged in at {}", config.connect.join(", "));
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

async fn run(config: &FleetConfig, duration: Option<Duration>) -> Report {
    let fleet = Fleet::start(config);
    let progress = Progress { terminal: io::stderr().is_terminal() };
    let end = duration.map(|duration| Instant::now() + duration);
    let mut next = Instant::now() + EVERY;
    let mut interrupt = std::pin::pin!(super::told_to_end());
    loop {
        let wake = end.map_or(next, |end| end.min(next));
        tokio::select! {
            () = &mut interrupt => break,
            () = sleep_until(wake) => {}
        }
        if end.is_some_and(|end| end <= Instant::now()) {
            break;
        }
        next += EVERY;
        progress.show(&fleet.report());
    }
    progress.end();
    fleet.report()
}

/// A line on standard error now and then: over itself on a terminal, else line by line.
struct Progress {
    terminal: bool,
}

impl Progress {
    fn show(&self, report: &Report) {
        let errors: u64 = report.errors.values().sum();
        let line = format!(
            "{:.0} s: {}/{} online, {} charging, {} charges, {} records, {} errors",
            report.seconds,
            report.online,
            report.piles,
            report.charging,
            report.counters.charges_finished,
            report.counters.records_acked,
            errors,
        );
        if self.terminal { eprint!("\r\x1b[K{line}") } else { eprintln!("{line}") }
    }

    fn end(&self) {
        if self.terminal {
            eprint!("\r\x1b[K");
        }
    }
}

fn table(report: &Report) -> String {
    let c = &report.counters;
    let mut rows: Vec<(&str, String)> = vec![
        ("seconds", format!("{:.1}", report.seconds)),
        ("piles", report.piles.to_string()),
        ("logged in", format!("{} now, {} ever", report.online, report.logged_in)),
        ("logins", format!("{}, {} of them again", c.logins, c.reconnects)),
        ("heartbeats", format!("{} sent, {} answered", c.heartbeats_sent, c.heartbeats_answered)),
        (
            "heartbeat round trip",
            report.heartbeat_ms.map_or_else(
                || "none".to_owned(),
                |ms| format!("p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms", ms.p50, ms.p99, ms.max),
            ),
        ),
        (
            "frames",
            format!(
                "{} in, {} out, {} refused, {} misdirected",
                c.frames_in, c.frames_out, c.frames_refused, c.frames_misdirected
            ),
        ),
        (
            "starts",
            format!(
                "{} accepted, {} refused, {} asked for by card",
                c.starts_accepted, c.starts_refused, c.starts_asked
            ),
        ),
        (
            "charges",
            format!("{} started, {} finished, {} running", c.charges_started, c.charges_finished, report.charging),
        ),
        (
            "records",
            format!(
                "{} sent, {} repeated, {} acked, {} unacked",
                c.records_sent, c.records_repeated, c.records_acked, report.records_unacked
            ),
        ),
        ("energy", format!("{:.4} kWh", report.energy_kwh)),
        ("amount", format!("{:.4} CNY", report.amount_cny)),
    ];
    rows.extend(report.errors.iter().map(|(kind, count)| (*kind, count.to_string())));
    if report.errors.is_empty() {
        rows.push(("errors", "none".to_owned()));
    }
    rows.extend(report.addresses.iter().map(|at| (at.address.as_str(), address_row(at))));
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    rows.iter().map(|(name, value)| format!("{name:width$}  {value}")).collect::<Vec<_>>().join("\n")
}

fn address_row(at: &AddressReport) -> String {
    let errors: u64 = at.errors.values().sum();
    format!(
        "{} online, {} logins, {} of them again, {} refused; records {} sent, {} repeated, {} acked, {} awaiting; \
         frames {} in, {} out; {errors} errors",
        at.online,
        at.logins,
        at.reconnects,
        at.logins_refused,
        at.records_sent,
        at.records_repeated,
        at.records_acked,
        at.records_awaiting,
        at.frames_in,
        at.frames_out,
    )
}

fn span(text: &str) -> Result<Duration, String> {
    match duration::parse(text) {
        Ok(span) if span < Duration::from_millis(1) => Err("must be 1ms or more".to_owned()),
        parsed => parsed.map_err(str::to_owned),
    }
}

fn address(text: &str) -> Result<String, String> {
    let is_host = |host: &str| {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        // Without brackets the colons of an IPv6 address look like that of the port.
        !host.is_empty() && !host.contains(char::is_whitespace) && (bare.is_some() || !host.contains(':'))
    };
    let port = text.rsplit_once(':').filter(|(host, _)| is_host(host)).map(|(_, port)| port.parse::<u16>());
    match port {
        Some(Ok(1..)) => Ok(text.to_owned()),
        Some(Ok(0) | Err(_)) => Err("the port must be 1..=65535".to_owned()),
        None => Err("must be HOST:PORT, an IPv6 address in brackets".to_owned()),
    }
}

fn behaviours() -> String {
    format!("A way in which the piles misbehave; may be given several times: {}", Behaviour::SYNTAX.join(", "))
}

fn complain(reason: &str) -> ExitCode {
    eprintln!("pileway: {reason}");
    ExitCode::from(2)
}

/// Between two lines of progress.
const EVERY: Duration = Duration::from_secs(5);
