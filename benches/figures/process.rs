//! Children: the servers, the load and the tools, how they are talked to, and what the kernel says of them.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

/// Killed when it is dropped.
pub struct Process {
    name: &'static str,
    child: Child,
    input: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

/// One of the two that are compared.
pub struct Server {
    pub process: Process,
    pub piles: SocketAddr,
    /// The node's store.
    _data: Option<TempDir>,
}

impl Process {
    pub fn load(server: SocketAddr, first: u32, count: u32) -> anyhow::Result<Self> {
        Self::role("the load client", &["load", &server.to_string(), &first.to_string(), &count.to_string()])
    }

    /// This program again, as something else.
    fn role(name: &'static str, args: &[impl AsRef<OsStr>]) -> anyhow::Result<Self> {
        Self::start(name, &std::env::current_exe()?, args)
    }

    pub fn start(name: &'static str, program: &Path, args: &[impl AsRef<OsStr>]) -> anyhow::Result<Self> {
        let mut command = Command::new("sh");
        command.args(["-c", LAUNCH]).arg(program).args(args);
        let ours = |key: &OsStr| ["OTEL_", "PILEWAY_", "RUST_LOG"].iter().any(|p| key.to_string_lossy().starts_with(p));
        for (key, _) in std::env::vars_os().filter(|(key, _)| ours(key)) {
            command.env_remove(key);
        }
        command.env("RUST_LOG", "warn").env("TOKIO_WORKER_THREADS", workers().to_string());
        // Idle is what is measured, not how an idle pile is given up.
        command.env("PILEWAY_PILE__LOST_AFTER", "1h").env("PILEWAY_PILE__CLOSE_AFTER", "2h");
        // Only a node that is given a Redis opens the port this is for.
        command.env("PILEWAY_PEER__LISTEN", "127.0.0.1:0").env("PILEWAY_PEER__SECRET", "of-this-benchmark");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        let input = child.stdin.take().context("no pipe to a child")?;
        let lines = BufReader::new(child.stdout.take().context("no pipe from a child")?).lines();
        Ok(Self { name, child, input, lines })
    }

    /// The next line it prints.
    pub async fn line(&mut self, limit: Duration) -> anyhow::Result<String> {
        let name = self.name;
        let line = timeout(limit, self.lines.next_line())
            .await
            .with_context(|| format!("{name} said nothing for {limit:?}"))?;
        line?.with_context(|| format!("{name} has died, see above"))
    }

    /// Writes a line to it, and reads what it answers.
    pub async fn ask(&mut self, question: &str, limit: Duration) -> anyhow::Result<String> {
        self.input.write_all(format!("{question}\n").as_bytes()).await?;
        self.line(limit).await
    }

    /// All it still prints, until it ends.
    pub async fn rest(&mut self, limit: Duration) -> anyhow::Result<Vec<String>> {
        let name = self.name;
        let rest = async {
            let mut lines = vec![];
            while let Some(line) = self.lines.next_line().await? {
                lines.push(line);
            }
            let status = self.child.wait().await?;
            ensure!(status.success(), "{name} has failed ({status}): {}", lines.join(" | "));
            anyhow::Ok(lines)
        };
        timeout(limit, rest).await.with_context(|| format!("{name} was not done after {limit:?}"))?
    }

    /// User and system time so far.
    pub fn cpu(&self) -> anyhow::Result<Duration> {
        let stat = self.read("stat")?;
        // Behind the name, which may hold spaces, utime and stime are fields 12 and 13, in ticks of 10 ms.
        let fields = stat.rsplit_once(')').context("no name in /proc/PID/stat")?.1;
        let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
        Ok(Duration::from_millis(10 * ticks))
    }

    /// Heap and stacks that are in memory, in bytes: `RssAnon`. It leaves out the program's own code, mapped files, and
    /// what the kernel keeps for sockets, which is the same for every server.
    pub fn memory(&self) -> anyhow::Result<u64> {
        let status = self.read("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB")).context("no RssAnon in /proc/PID/status")?;
        Ok(kib.parse::<u64>()? * 1024)
    }

    fn read(&self, file: &str) -> anyhow::Result<String> {
        let Some(id) = self.child.id() else { bail!("{} has died", self.name) };
        let path = format!("/proc/{id}/{file}");
        std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
    }
}

impl Server {
    /// `pileway serve` with its defaults and an empty store.
    pub async fn node() -> anyhow::Result<Self> {
        Self::node_with("the node", &[]).await
    }

    /// The same, as the only one of a cluster.
    pub async fn node_on(redis: &str) -> anyhow::Result<Self> {
        Self::node_with("the node on Redis", &["--redis", redis]).await
    }

    async fn node_with(name: &'static str, more: &[&str]) -> anyhow::Result<Self> {
        let data = directory()?;
        let path = data.path().to_string_lossy();
        let args = ["serve", "--pile-listen", "127.0.0.1:0", "--grpc-listen", "127.0.0.1:0", "--data-dir", &path];
        let process = Process::start(name, Path::new(env!("CARGO_BIN_EXE_pileway")), &[&args, more].concat())?;
        Self::ready(process, Some(data)).await
    }

    pub async fn bare() -> anyhow::Result<Self> {
        Self::ready(Process::role("the bare server", &["bare"])?, None).await
    }

    async fn ready(mut process: Process, data: Option<TempDir>) -> anyhow::Result<Self> {
        let line = process.line(START_LIMIT).await?;
        let address = line.split_whitespace().find_map(|word| word.strip_prefix("piles="));
        let piles = address.with_context(|| format!("{} is not ready: {line}", process.name))?.parse()?;
        Ok(Self { process, piles, _data: data })
    }

    /// So many piles, logged in.
    pub async fn load(&self, first: u32, count: u32) -> anyhow::Result<Process> {
        let mut load = Process::load(self.piles, first, count)?;
        let line = load.line(LOGIN_LIMIT).await?;
        ensure!(line == "ready", "{} is not ready: {line}", load.name);
        Ok(load)
    }

    /// So many clients that do one thing after the other, `what` they are for: `logins` or `records`.
    pub async fn clients(&self, what: &str, count: u32) -> anyhow::Result<Process> {
        let mut load = Process::role("the load client", &[what, &self.piles.to_string(), &count.to_string()])?;
        let line = load.line(LOGIN_LIMIT).await?;
        ensure!(line == "ready", "{} is not ready: {line}", load.name);
        Ok(load)
    }
}

/// An empty one, where cargo builds: what the system has for temporary files may be memory, where fsync costs nothing.
pub fn directory() -> anyhow::Result<TempDir> {
    TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).context("no directory for a store")
}

/// A tool of the system's.
pub fn installed(program: &str) -> anyhow::Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = std::env::split_paths(&path).any(|directory| directory.join(program).is_file());
    ensure!(there, "{program} is not installed; `make setup-redis` installs it, as `make bench` does");
    Ok(())
}

/// Threads of either server's runtime.
pub fn workers() -> usize {
    let asked = std::env::var("TOKIO_WORKER_THREADS").ok().and_then(|n| n.parse().ok());
    asked.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
}

/// The limit on open files that a process starts with is often 1,024. Where there is setpriv, no child outlives a parent
/// that was killed. `exec` keeps the process id.
const LAUNCH: &str = r#"
    ulimit -n "$(ulimit -Hn)" || exit
    if command -v setpriv >/dev/null; then exec setpriv --pdeathsig KILL "$0" "$@"; fi
    exec "$0" "$@"
"#;
const START_LIMIT: Duration = Duration::from_secs(20);
const LOGIN_LIMIT: Duration = Duration::from_mins(1);
