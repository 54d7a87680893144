//! The real binary as a child process.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::PATIENCE;

/// A node that serves, on ports and a data directory of its own. Killed when dropped.
pub struct Node {
    pub piles: SocketAddr,
    pub grpc: SocketAddr,
    process: Process,
    environment: Vec<(String, String)>,
    data: Arc<TempDir>,
}

impl Node {
    /// With the defaults.
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// With settings as the environment names them, without their prefix: `("PILE__LOST_AFTER", "5s")`.
    pub fn with(settings: &[(&str, &str)]) -> Self {
        let environment = settings.iter().map(|(k, v)| (format!("PILEWAY_{k}"), (*v).to_owned())).collect();
        let any = ([127, 0, 0, 1], 0).into();
        Self::on(Arc::new(TempDir::new().expect("a directory")), environment, any, any)
    }

    fn on(data: Arc<TempDir>, environment: Vec<(String, String)>, piles: SocketAddr, grpc: SocketAddr) -> Self {
        let (piles, grpc) = (piles.to_string(), grpc.to_string());
        let mut command = pileway(&["serve", "--pile-listen", &piles, "--grpc-listen", &grpc]);
        command.arg("--data-dir").arg(data.path().join("store")).envs(environment.iter().cloned());
        let mut process = Process::spawn(command);
        let line = process.first_line();
        let (piles, grpc) = ready(&line).unwrap_or_else(|| panic!("no node: {line:?}\n{}", process.log()));
        Self { piles, grpc, process, environment, data }
    }

    pub fn data_dir(&self) -> PathBuf {
        self.data.path().join("store")
    }

    /// Everything the node has written to standard error.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// SIGKILL; it is gone when this returns.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// SIGTERM; how it ended.
    pub fn stop(mut self) -> ExitStatus {
        self.process.terminate();
        self.process.wait(PATIENCE)
    }

    /// SIGTERM; how it ended. It can be started again.
    pub fn end(&mut self) -> ExitStatus {
        self.process.terminate();
        self.process.wait(PATIENCE)
    }

    /// SIGTERM, without waiting for the end.
    pub fn terminate(&mut self) {
        self.process.terminate();
    }

    /// SIGSTOP: it stands still, its sockets stay open.
    pub fn freeze(&self) {
        self.process.signal("STOP");
        // The signal is on its way when `kill` returns; stopped is what /proc calls T.
        let stat = format!("/proc/{}/stat", self.process.id());
        let until = Instant::now() + PATIENCE;
        while !std::fs::read_to_string(&stat).expect("a process").contains(") T ") {
            assert!(Instant::now() < until, "not stopped after {PATIENCE:?}");
            std::thread::yield_now();
        }
    }

    /// SIGCONT
    pub fn thaw(&self) {
        self.process.signal("CONT");
    }

    /// How it ended by itself.
    pub fn wait(&mut self) -> ExitStatus {
        self.process.wait(PATIENCE)
    }

    /// SIGKILL, then a new process on the same data and the same addresses.
    pub fn restart(&mut self) {
        self.kill();
        self.start_again();
    }

    /// A new process on the same data and the same addresses, after the old one has ended.
    pub fn start_again(&mut self) {
        *self = Self::on(self.data.clone(), self.environment.clone(), self.piles, self.grpc);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.process.kill();
        if std::thread::panicking() {
            // A line for each of a thousand piles tells nothing; what went wrong and how it ended does.
            let (log, tail) = (self.log(), 100);
            let lines = log.lines().count();
            let told = |(n, line): &(usize, &str)| n + tail >= lines || line.contains("WARN") || line.contains("ERROR");
            let log: Vec<_> = log.lines().enumerate().filter(told).map(|(_, line)| line).collect();
            eprintln!(
                "---- the node's log, of {lines} lines ----\n{}\n---- end of the node's log ----",
                log.join("\n")
            );
        }
    }
}

/// The binary with `arguments`, and nothing of this process's configuration.
pub fn pileway(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pileway"));
    command.args(arguments);
    for (name, _) in std::env::vars().filter(|(name, _)| ["PILEWAY_", "OTEL_"].iter().any(|p| name.starts_with(p))) {
        command.env_remove(name);
    }
    command
}

/// A child process whose output is read while it runs, so that it never blocks on it.
pub struct Process {
    child: Child,
    lines: mpsc::Receiver<String>,
    log: Arc<Mutex<String>>,
    /// Ends when the child has closed its standard error.
    reader: Option<JoinHandle<()>>,
}

impl Process {
    pub fn spawn(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let (stdout, stderr) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
        // More lines than anything prints that is asked for its output here.
        let (sender, lines) = mpsc::sync_channel(10_000);
        std::thread::spawn(move || {
            BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        let log = Arc::new(Mutex::new(String::new()));
        let reader = std::thread::spawn({
            let log = log.clone();
            move || copy(stderr, &log)
        });
        Self { child, lines, log, reader: Some(reader) }
    }

    /// The first line of its output; empty if it ends without one.
    pub fn first_line(&mut self) -> String {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => line,
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                self.wait(PATIENCE);
                String::new()
            }
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("no output in {PATIENCE:?}\n{}", self.log()),
        }
    }

    /// What it has printed after that, once it has ended.
    pub fn rest(&self) -> Vec<String> {
        self.lines.iter().collect()
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn terminate(&self) {
        self.signal("TERM");
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, name: &str) {
        // The standard library sends no signal but SIGKILL.
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().expect("a shell").success(), "{kill}");
    }

    pub fn kill(&mut self) {
        // It may have ended already, which is as good.
        let _ = self.child.kill();
        self.child.wait().expect("it is our child");
        self.read_to_end();
    }

    /// Waits for its end.
    pub fn wait(&mut self, patience: Duration) -> ExitStatus {
        let until = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                self.read_to_end();
                return status;
            }
            assert!(Instant::now() < until, "still running after {patience:?}\n{}", self.log());
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    fn read_to_end(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("reading does not panic");
        }
    }
}

fn copy(mut from: impl Read, to: &Mutex<String>) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        to.lock().unwrap_or_else(PoisonError::into_inner).push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
}

/// `ready piles=ADDR grpc=ADDR`, and ` peer=ADDR` of a node that has neighbours.
fn ready(line: &str) -> Option<(SocketAddr, SocketAddr)> {
    let (piles, rest) = line.strip_prefix("ready piles=")?.split_once(" grpc=")?;
    let grpc = rest.split_once(" peer=").map_or(rest, |(grpc, _)| grpc);
    Some((piles.parse().ok()?, grpc.parse().ok()?))
}

/// Where the tests' own files are.
pub fn tests_dir() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests"))
}
