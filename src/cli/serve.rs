//! `pileway serve` and `pileway config`.

use std::ffi::OsStr;
use std::io::{ErrorKind, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;

use crate::app::App;
use crate::config::{Config, DEFAULT_FILE};
use crate::observe;

/// A node: piles in, gRPC out; alone on its embedded store, or with others on a Redis.
#[derive(clap::Args)]
pub struct ServeArgs {
    /// Where piles connect [default: 0.0.0.0:8768]; port 0 takes a free one.
    #[arg(long, value_name = "ADDR:PORT")]
    pile_listen: Option<SocketAddr>,
    /// Where internal services call [default: 127.0.0.1:50051].
    #[arg(long, value_name = "ADDR:PORT")]
    grpc_listen: Option<SocketAddr>,
    /// Where other nodes call this one [default: 127.0.0.1:50052]; opened only with --redis.
    #[arg(long, value_name = "ADDR:PORT")]
    peer_listen: Option<SocketAddr>,
    /// Where other nodes reach it [default: the address listened on].
    #[arg(long, value_name = "HOST[:PORT]")]
    peer_advertise: Option<String>,
    /// What people call this node [default: the name of its machine].
    #[arg(long, value_name = "NAME")]
    node_id: Option<String>,
    /// What several nodes share, e.g. redis://10.0.0.1:6379/0 [default: none; the node stands alone].
    #[arg(long, value_name = "URL")]
    redis: Option<String>,
    /// Directory of the embedded store [default: pileway-data].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// A TOML file; `pileway config` prints one with every key.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Prints the commented default configuration.
#[derive(clap::Args)]
pub struct ConfigArgs {}

pub fn config(_: &ConfigArgs) -> ExitCode {
    // A reader that has seen enough closes the pipe, which is no failure.
    match std::io::stdout().write_all(DEFAULT_FILE.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            eprintln!("pileway: cannot print the configuration: {error}");
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

pub fn serve(args: &ServeArgs) -> ExitCode {
    let config = match args.load() {
        Ok(config) => config,
        Err(error) => {
            eprintln!("pileway: {error}");
            return ExitCode::from(2);
        }
    };
    match run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pileway: {error:#}");
            ExitCode::FAILURE
        }
    }
}

impl ServeArgs {
    fn load(&self) -> Result<Config, crate::config::ConfigError> {
        let flags = [
            ("--pile-listen", "pile.listen", self.pile_listen.map(|a| a.to_string())),
            ("--grpc-listen", "grpc.listen", self.grpc_listen.map(|a| a.to_string())),
            ("--peer-listen", "peer.listen", self.peer_listen.map(|a| a.to_string())),
            ("--peer-advertise", "peer.advertise", self.peer_advertise.clone()),
            ("--node-id", "node.id", self.node_id.clone()),
            ("--redis", "redis.url", self.redis.clone()),
            ("--data-dir", "store.data_dir", self.data_dir.as_ref().map(|d| d.display().to_string())),
        ];
        let flags = flags.into_iter().filter_map(|(flag, key, value)| Some((flag, key, value?)));
        // Other programs' variables need not be text; one of ours that is not is a bad value.
        let environment = std::env::vars_os();
        let environment = environment.map(|(name, value)| (lossy(&name), lossy(&value)));
        Config::load(self.config.as_deref(), environment, flags)
    }
}

fn lossy(text: &OsStr) -> String {
    text.to_string_lossy().into_owned()
}

fn run(config: Config) -> anyhow::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
    // Metrics are exported from the runtime, and their last ones when this guard goes, outside of it.
    let observation = runtime.block_on(async { observe::init(config.log.format, observe::NODE_FILTER) })?;
    let result = runtime.block_on(serve_until_told(config));
    drop(observation);
    // A disk that hangs must not keep a node from ending.
    runtime.shutdown_timeout(LAST_MOMENTS);
    result
}

async fn serve_until_told(config: Config) -> anyhow::Result<()> {
    // Listened for from the beginning: a node that is told to end while it starts ends in order too.
    let mut told = tokio::spawn(super::told_to_end());
    let mut app = App::start(config).await?;
    // Whoever started the node may not be listening any more; it serves all the same.
    let peer = app.peer.map(|peer| format!(" peer={peer}")).unwrap_or_default();
    let _ = writeln!(std::io::stdout(), "ready piles={} grpc={}{peer}", app.piles, app.grpc);
    let mut drain_wanted = std::pin::pin!(app.drain_wanted());
    let died = tokio::select! {
        _ = &mut told => None,
        () = &mut drain_wanted => None,
        died = app.died() => Some(died),
    };
    tracing::info!("shutting down");
    match died {
        None => Ok(app.drain().await?),
        Some(died) => {
            if let Err(unfinished) = app.shut_down().await {
                tracing::error!(%unfinished, "not everything is in the store");
            }
            Err(died.into())
        }
    }
}

/// For reads that are under way when everything else has ended.
const LAST_MOMENTS: Duration = Duration::from_secs(5);
