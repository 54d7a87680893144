//! Real Redis servers as child processes: one, one behind Sentinels, a Cluster. All of them end with the test binary,
//! whatever becomes of it.
#![allow(dead_code, reason = "every test binary uses its own part of it")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{LazyLock, Mutex, mpsc};
use std::time::{Duration, Instant};

use redis::{FromRedisValue, RedisResult, Value};
use tempfile::TempDir;

/// Longer than anything takes that works at all.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// One server, on a port and a directory of its own. Killed when dropped.
pub struct Redis {
    pub port: u16,
    dir: TempDir,
    options: Vec<String>,
    child: Option<Child>,
    tls: bool,
}

impl Redis {
    /// With an append-only file, as safe as our own checks want it.
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// With more lines for its configuration, which overrule ours.
    pub fn with(options: &[&str]) -> Self {
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        Self::on_free_port(TempDir::new().expect("a directory"), options, false)
    }

    /// Speaks TLS only; the certificate authority to trust is in [`Redis::ca_file`].
    pub fn with_tls() -> Self {
        let dir = TempDir::new().expect("a directory");
        let certified = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]);
        let rcgen::CertifiedKey { cert, signing_key } = certified.expect("a certificate");
        std::fs::write(dir.path().join("ca.pem"), cert.pem()).expect("writes");
        std::fs::write(dir.path().join("key.pem"), signing_key.serialize_pem()).expect("writes");
        let files = ["cert-file ca", "ca-cert-file ca", "key-file key"].map(|line| {
            let (option, file) = line.split_once(' ').expect("two words");
            format!("tls-{option} {}", dir.path().join(format!("{file}.pem")).display())
        });
        let options = files.into_iter().chain(["tls-auth-clients no".to_owned()]).collect();
        Self::on_free_port(dir, options, true)
    }

    /// Where it keeps what it keeps.
    pub fn data_dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    pub fn ca_file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    pub fn url(&self) -> String {
        if self.tls { format!("rediss://localhost:{}", self.port) } else { format!("redis://127.0.0.1:{}", self.port) }
    }

    /// SIGKILL; it is gone when this returns.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("is ours");
            child.wait().expect("is ours");
        }
    }

    /// SIGTERM; it is gone when this returns.
    pub fn stop(&mut self) {
        self.signal("TERM");
        if let Some(mut child) = self.child.take() {
            child.wait().expect("is ours");
        }
    }

    /// On the same port, with what it has kept.
    pub fn restart(&mut self) {
        self.kill();
        self.child = self.spawn();
        assert!(self.child.is_some(), "the port is taken by now");
    }

    /// Alive, and silent: nothing closes its sockets.
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    pub fn thaw(&self) {
        self.signal("CONT");
    }

    /// One command, on a connection of its own.
    pub fn cli<T: FromRedisValue>(&self, command: &[&str]) -> T {
        self.ask(command).unwrap_or_else(|error| panic!("{command:?}: {error}"))
    }

    pub fn ask<T: FromRedisValue>(&self, command: &[&str]) -> RedisResult<T> {
        let mut connection = redis::Client::open(self.url())?.get_connection_with_timeout(PATIENCE)?;
        redis::cmd(command[0]).arg(&command[1..]).query(&mut connection)
    }

    /// How often each command was carried out by now, within scripts too.
    pub fn commands(&self) -> BTreeMap<String, u64> {
        let stats: String = self.cli(&["INFO", "commandstats"]);
        let count = |line: &str| {
            let (name, stats) = line.trim().strip_prefix("cmdstat_")?.split_once(":calls=")?;
            Some((name.to_owned(), stats.split(',').next()?.parse().ok()?))
        };
        stats.lines().filter_map(count).collect()
    }

    fn on_free_port(dir: TempDir, options: Vec<String>, tls: bool) -> Self {
        let mut redis = Self { port: 0, dir, options, child: None, tls };
        while redis.child.is_none() {
            redis.port = free_port();
            redis.child = redis.spawn();
        }
        redis
    }

    /// `None` if the port is taken.
    fn spawn(&self) -> Option<Child> {
        let Self { port, dir, options, child: _, tls } = self;
        let config = dir.path().join("redis.conf");
        let ours = if *tls { format!("port 0\ntls-port {port}\n") } else { format!("port {port}\n") };
        let ours = format!("{ours}bind 127.0.0.1\ndir {}\nappendonly yes\nsave \"\"\n", dir.path().display());
        std::fs::write(&config, format!("{ours}{}\n", options.join("\n"))).expect("writes");
        spawn(&["redis-server", &config.display().to_string()], "Ready to accept connections")
    }

    fn signal(&self, signal: &str) {
        signal_to(self.child.as_ref().expect("runs"), signal);
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A master and a replica, and three Sentinels that agree on who is which.
pub struct Sentinel {
    pub servers: Vec<Redis>,
    sentinels: Vec<(u16, Child, TempDir)>,
}

impl Sentinel {
    pub fn start() -> Self {
        let master = Redis::start();
        let replica = Redis::with(&[&format!("replicaof 127.0.0.1 {}", master.port), "repl-diskless-sync-delay 0"]);
        let sentinels = (0..3).map(|_| sentinel(master.port)).collect();
        let started = Self { servers: vec![master, replica], sentinels };
        until("all Sentinels to know each other and the replica", || {
            started.sentinels.iter().all(|(port, ..)| {
                let about = ask_at::<BTreeMap<String, String>>(*port, &["SENTINEL", "MASTER", "main"]);
                let is = |field: &str, value: &str| {
                    about.as_ref().is_ok_and(|about| about.get(field).is_some_and(|found| found == value))
                };
                is("num-slaves", "1") && is("num-other-sentinels", "2") && is("flags", "master")
            })
        });
        until("the replica to have everything", || {
            started.servers[1].cli::<String>(&["INFO", "replication"]).contains("master_link_status:up")
        });
        started
    }

    pub fn url(&self) -> String {
        let hosts: Vec<_> = self.sentinels.iter().map(|(port, ..)| format!("127.0.0.1:{port}")).collect();
        format!("redis+sentinel://{}/main", hosts.join(","))
    }

    /// The first one, as long as nobody has killed it.
    pub fn kill_master(&mut self) {
        self.servers[0].kill();
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        for (_, child, _) in &mut self.sentinels {
            child.kill().expect("is ours");
            child.wait().expect("is ours");
        }
    }
}

/// Three masters with a replica each.
pub struct Cluster {
    pub servers: Vec<Redis>,
}

impl Cluster {
    pub fn start() -> Self {
        Self::of(6)
    }

    /// Nobody fails over, and it is there sooner.
    pub fn without_replicas() -> Self {
        Self::of(3)
    }

    fn of(size: usize) -> Self {
        let options = ["cluster-enabled yes", "cluster-node-timeout 1000", "repl-diskless-sync-delay 0"];
        let started = Self { servers: (0..size).map(|_| Redis::with(&options)).collect() };
        let replicas = if size == 6 { "1" } else { "0" };
        let mut create = Command::new("redis-cli");
        create.args(["--cluster", "create"]).args(started.servers.iter().map(|s| format!("127.0.0.1:{}", s.port)));
        create.args(["--cluster-replicas", replicas, "--cluster-yes"]);
        let created = create.output().expect("redis-cli is installed");
        assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stdout));
        until("the Cluster to be whole", || {
            started.servers.iter().all(|server| {
                let nodes: String = server.cli(&["CLUSTER", "NODES"]);
                let replicas = nodes.lines().filter(|line| line.contains("slave") && !line.contains("fail")).count();
                let about: String = server.cli(&["CLUSTER", "INFO"]);
                let link: String = server.cli(&["INFO", "replication"]);
                about.contains("cluster_state:ok") && replicas == size - 3 && !link.contains("link_status:down")
            })
        });
        started
    }

    /// Of one node: it tells the others.
    pub fn url(&self) -> String {
        self.servers[0].url()
    }

    pub fn seeds(&self) -> String {
        let hosts: Vec<_> = self.servers.iter().map(|server| format!("127.0.0.1:{}", server.port)).collect();
        format!("redis+cluster://{}", hosts.join(","))
    }

    /// The one that answers for this key.
    pub fn kill_master_of(&mut self, key: &str) {
        let slot: u16 = self.servers[0].cli(&["CLUSTER", "KEYSLOT", key]);
        let slots: Vec<Vec<Value>> = self.servers[0].cli(&["CLUSTER", "SLOTS"]);
        let master = slots.into_iter().find_map(|range| {
            let number = |value: &Value| u16::from_redis_value_ref(value).expect("a number");
            let Value::Array(node) = &range[2] else { panic!("a node") };
            (number(&range[0])..=number(&range[1])).contains(&slot).then(|| number(&node[1]))
        });
        let master = master.expect("every slot has a master");
        self.servers.iter_mut().find(|server| server.port == master).expect("is ours").kill();
    }
}

/// Waits for a condition of somebody else's making.
#[track_caller]
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let limit = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < limit, "waited {PATIENCE:?} in vain for {what}");
        // Leaves the core to whom we are waiting for.
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

fn ask_at<T: FromRedisValue>(port: u16, command: &[&str]) -> RedisResult<T> {
    let mut connection = redis::Client::open(("127.0.0.1", port))?.get_connection_with_timeout(PATIENCE)?;
    redis::cmd(command[0]).arg(&command[1..]).query(&mut connection)
}

fn sentinel(master: u16) -> (u16, Child, TempDir) {
    let dir = TempDir::new().expect("a directory");
    loop {
        let port = free_port();
        let config = dir.path().join("sentinel.conf");
        let lines = [
            format!("port {port}"),
            "bind 127.0.0.1".to_owned(),
            format!("dir {}", dir.path().display()),
            format!("sentinel monitor main 127.0.0.1 {master} 2"),
            "sentinel down-after-milliseconds main 500".to_owned(),
            "sentinel failover-timeout main 3000".to_owned(),
        ];
        std::fs::write(&config, lines.join("\n")).expect("writes");
        let command = ["redis-server", &config.display().to_string(), "--sentinel"];
        if let Some(child) = spawn(&command, "+monitor master") {
            return (port, child, dir);
        }
    }
}

/// Returns when the server has said `ready`; `None` if it ends before.
fn spawn(command: &[&str], ready: &str) -> Option<Child> {
    let command = command.iter().map(|word| (*word).to_owned()).collect();
    let (reply, answer) = mpsc::sync_channel(1);
    SPAWNER.send((command, reply)).expect("never ends");
    let mut child = answer.recv().expect("redis-server and setpriv are installed");
    let mut said = BufReader::new(child.stdout.take().expect("is piped")).lines();
    let mut log = Vec::new();
    for line in said.by_ref() {
        let line = line.expect("text");
        if line.contains(ready) {
            // Whoever writes into a full pipe stands still.
            std::thread::spawn(move || said.for_each(drop));
            return Some(child);
        }
        log.push(line);
    }
    child.wait().expect("is ours");
    let log = log.join("\n");
    assert!(log.contains("Address already in use") || log.contains("Failed listening"), "no server:\n{log}");
    None
}

/// Servers that outlive their test belong to no test, and statics are not dropped. So each is told to end with the thread
/// that has started it, and this one ends with the process.
static SPAWNER: LazyLock<mpsc::SyncSender<Spawn>> = LazyLock::new(|| {
    let (sender, waiting) = mpsc::sync_channel::<Spawn>(1);
    std::thread::spawn(move || {
        for (command, reply) in waiting {
            let mut process = Command::new("setpriv");
            process.args(["--pdeathsig", "KILL"]).args(command);
            let child = process.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
            if let Ok(child) = child {
                // Who asked may have given up.
                let _ = reply.send(child);
            }
        }
    });
    sender
});

type Spawn = (Vec<String>, mpsc::SyncSender<Child>);

fn signal_to(child: &Child, signal: &str) {
    let sent = Command::new("kill").args([format!("-{signal}"), child.id().to_string()]).status();
    assert!(sent.expect("kill is installed").success(), "the server is gone");
}

/// Below the ports that the kernel gives to anybody, so that it is still free after a restart; with its bus port, 10,000
/// above. Nobody in this process gets it twice.
fn free_port() -> u16 {
    static NEXT: LazyLock<AtomicU16> = LazyLock::new(|| AtomicU16::new(getrandom::u32().expect("randomness") as u16));
    static TAKEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let port = 12_000 + NEXT.fetch_add(7, Ordering::Relaxed) % 10_000;
        let free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if free(port) && free(port + 10_000) && TAKEN.lock().expect("no panic").insert(port) {
            return port;
        }
    }
}
