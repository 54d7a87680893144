//! `pileway journal`: what waits in a node's journal, and bringing it to the store by hand.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::domain::WallMs;
use crate::settings::duration;
use crate::store::document::{JournalEntry, Journaled};
use crate::store::journal::{Config, Journal, Listed, Of};
use crate::store::ledger::{Ledger, Resettled, Retention};
use crate::store::redis::{self, Redis};
use crate::store::{Partition, Store};

/// Looks into a node's journal, or brings what is in it to the store.
#[derive(clap::Args)]
pub struct JournalArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Lists what waits for the store, and the records of the last hour, which are there.
    Show {
        /// The node's data directory (`store.data_dir`). The node must not be running.
        dir: PathBuf,
        /// One JSON object per entry, one per line.
        #[arg(long)]
        json: bool,
    },
    /// Brings everything to the store, as the node would have. May be repeated. Exits with 1 if something remains.
    Replay {
        /// The node's data directory (`store.data_dir`). The node must not be running.
        dir: PathBuf,
        /// The node's `redis.url`.
        #[arg(long, value_name = "URL")]
        redis: String,
        /// Who signs its certificate, a PEM file: the node's `redis.ca_file` [default: whom the system trusts].
        #[arg(long, value_name = "FILE")]
        redis_ca: Option<PathBuf>,
        /// The node's `retention.orders`.
        #[arg(long, value_name = "DURATION", default_value = "14d", value_parser = duration::parse)]
        retention_orders: Duration,
        /// The node's `retention.tombstones`.
        #[arg(long, value_name = "DURATION", default_value = "400d", value_parser = duration::parse)]
        retention_tombstones: Duration,
    },
}

/// How entries are shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    Table,
    Json,
}

/// Entries the store has not got.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Remaining(pub usize);

/// Runs `pileway journal`.
pub fn journal(args: &JournalArgs) -> ExitCode {
    match run(args) {
        Ok(Remaining(0)) => ExitCode::SUCCESS,
        Ok(Remaining(_)) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("pileway: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &JournalArgs) -> anyhow::Result<Remaining> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.context("cannot start the runtime")?;
    let mut out = io::stdout().lock();
    runtime.block_on(async {
        match &args.command {
            Command::Show { dir, json } => {
                let form = if *json { Form::Json } else { Form::Table };
                show(dir, now(), form, &mut out).await?;
                Ok(Remaining(0))
            }
            Command::Replay { dir, redis: url, redis_ca, retention_orders, retention_tombstones } => {
                let retention = Retention { orders: *retention_orders, tombstones: *retention_tombstones };
                if let Some(problem) = retention.problems().first() {
                    bail!("--retention-{problem}");
                }
                // First, so that a mistyped directory is not found out after minutes of connecting.
                check(dir)?;
                let store = open_store(url, redis_ca.clone()).await?;
                replay(dir, store, retention, PATIENCE, &mut out).await
            }
        }
    })
}

/// Lists the journal in `dir`: what waits first, each part in its order.
pub async fn show(dir: &Path, now: WallMs, form: Form, out: &mut impl Write) -> anyhow::Result<()> {
    let journal = open(dir).await?;
    let mut lines = Lines { now, form, out };
    lines.head()?;
    for of in [Of::Pending, Of::Settled] {
        let mut after = None;
        loop {
            let (page, next) = journal.list(of, after).await?;
            for listed in page {
                lines.entry(of, &listed)?;
            }
            match next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
    }
    journal.close().await;
    Ok(())
}

/// Brings what waits in `dir` to `store`, and then settles again the records that are kept there: a volume may have been
/// rescued from where the store has lost something too. Gives up when nothing has got there for `patience`.
pub async fn replay(
    dir: &Path,
    store: Arc<dyn Store>,
    retention: Retention,
    patience: Duration,
    out: &mut impl Write,
) -> anyhow::Result<Remaining> {
    let journal = open(dir).await?;
    let ledger = Ledger::with_journal(store.clone(), journal.clone()).keeping(retention);
    writeln!(out, "{} entries wait", ledger.journal_depth())?;
    bring(&ledger, patience, out).await?;
    if ledger.journal_depth() == 0 {
        let all = (0..store.partitions()).map(Partition).collect();
        let Resettled { records, away } = ledger.resettle(&all).await?;
        writeln!(out, "{records} settled records are settled again, where the store has lost them")?;
        bring(&ledger, patience, out).await?;
        if let Some((partition, error)) = away.first_key_value() {
            journal.close().await;
            bail!("what partition {partition} has lost is not known ({error}): replay once more");
        }
    }
    let left = ledger.journal_depth();
    match left {
        0 => writeln!(out, "nothing remains")?,
        left => writeln!(out, "{left} entries remain: `pileway journal show` lists them")?,
    }
    journal.close().await;
    Ok(Remaining(left))
}

async fn bring(ledger: &Ledger, patience: Duration, out: &mut impl Write) -> io::Result<()> {
    let (mut delivered, mut dropped, mut progress) = (0, 0, Instant::now());
    while ledger.journal_depth() > 0 {
        let round = ledger.drain_round().await;
        delivered += round.delivered;
        dropped += round.dropped;
        if round.delivered > 0 {
            progress = Instant::now();
            continue;
        }
        // What is left the store refuses, and will again.
        let Some((partition, error)) = round.away.first_key_value() else { break };
        if progress.elapsed() >= patience {
            writeln!(out, "gave up: partition {partition}: {error}")?;
            break;
        }
        sleep(PAUSE).await;
    }
    writeln!(out, "{delivered} entries brought to the store; {dropped} documents out of date and left out")
}

/// What `--redis` names. A Redis that does not answer yet is one that is away: the replay waits for it.
async fn open_store(url: &str, ca_file: Option<PathBuf>) -> anyhow::Result<Arc<dyn Store>> {
    Ok(Arc::new(Redis::open(redis::Config { ca_file, ..redis::Config::new(url) }).await?))
}

async fn open(dir: &Path) -> anyhow::Result<Journal> {
    check(dir)?;
    Ok(Journal::open(Config::new(dir)).await?)
}

/// Looked for, because opening would make one.
fn check(dir: &Path) -> anyhow::Result<()> {
    if !Journal::is_in(dir) {
        bail!("{}: there is no journal", dir.display());
    }
    Ok(())
}

/// Prints entries.
struct Lines<'a, W> {
    now: WallMs,
    form: Form,
    out: &'a mut W,
}

impl<W: Write> Lines<'_, W> {
    fn head(&mut self) -> io::Result<()> {
        match self.form {
            Form::Table => self.row(["PILE", "SEQUENCE", "KIND", "AGE", "STATE", "WHAT"]),
            Form::Json => Ok(()),
        }
    }

    fn entry(&mut self, of: Of, listed: &Listed) -> io::Result<()> {
        let Listed { pile, seq, entry } = listed;
        let state = match of {
            Of::Pending => "pending",
            Of::Settled => "settled",
        };
        let (pile, seq) = (pile.to_string(), *seq);
        match (self.form, entry) {
            (Form::Table, Ok(entry)) => {
                let age = format!("{} s", self.now.since(entry.arrived_at) / 1000);
                self.row([&pile, &seq.to_string(), kind(entry), &age, state, &what(entry)])
            }
            (Form::Table, Err(error)) => self.row([&pile, &seq.to_string(), "?", "?", state, &error.to_string()]),
            (Form::Json, Ok(entry)) => {
                let mut object = json!({
                    "pile": pile, "sequence": seq, "state": state, "kind": kind(entry),
                    "arrived_at_ms": entry.arrived_at.0, "age_ms": self.now.since(entry.arrived_at),
                });
                let more = match &entry.what {
                    Journaled::Record { record, ours: _ } => json!({
                        "serial": record.serial.to_string(), "gun": record.gun.number(),
                        "frame": format!("0x{:02X}", record.code),
                    }),
                    Journaled::Batch { batch, tried } => json!({
                        "documents": batch.put.len(), "events": batch.append.len(), "tried": tried,
                    }),
                };
                if let (Some(object), serde_json::Value::Object(more)) = (object.as_object_mut(), more) {
                    object.extend(more);
                }
                writeln!(self.out, "{object}")
            }
            (Form::Json, Err(error)) => {
                let object = json!({ "pile": pile, "sequence": seq, "state": state, "error": error.to_string() });
                writeln!(self.out, "{object}")
            }
        }
    }

    fn row(&mut self, [pile, seq, kind, age, state, what]: [&str; 6]) -> io::Result<()> {
        writeln!(self.out, "{pile:<14}  {seq:>8}  {kind:<6}  {age:>8}  {state:<7}  {what}")
    }
}

fn kind(entry: &JournalEntry) -> &'static str {
    match entry.what {
        Journaled::Batch { .. } => "batch",
        Journaled::Record { .. } => "record",
    }
}

fn what(entry: &JournalEntry) -> String {
    match &entry.what {
        Journaled::Record { record, ours: _ } => format!("gun {}, serial {}", record.gun, record.serial),
        Journaled::Batch { batch, tried } => {
            let tried = if *tried { ", may be there" } else { "" };
            format!("{} documents, {} events{tried}", batch.put.len(), batch.append.len())
        }
    }
}

fn now() -> WallMs {
    WallMs(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64)
}

/// How long a replay goes on without anything getting to the store.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(200);
