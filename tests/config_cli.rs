//! A configuration is read once and whole, before anything is opened; what is wrong with it is said all at once.

mod common;

use std::fs;
use std::net::TcpListener;
use std::process::{Command, ExitStatus};

use common::node::{Process, pileway};
use common::{Api, Node, PATIENCE, Pile};
use tempfile::TempDir;

/// How a program ends that is not expected to serve: status, output, errors.
fn end(command: Command) -> (ExitStatus, Vec<String>, String) {
    let mut process = Process::spawn(command);
    let status = process.wait(PATIENCE);
    (status, process.rest(), process.log())
}

fn serve(dir: &TempDir) -> Command {
    let mut command = pileway(&["serve", "--pile-listen", "127.0.0.1:0", "--grpc-listen", "127.0.0.1:0"]);
    command.arg("--data-dir").arg(dir.path().join("store"));
    command
}

#[test]
fn everything_that_is_wrong_is_said_at_once_and_nothing_is_opened() {
    let dir = TempDir::new().expect("a directory");
    let file = dir.path().join("pileway.toml");
    let text = "[pile]\nmailbox = 0\nlisten_on = \"x\"\nlost_after = \"1s\"\n[radish]\nurl = \"x\"\n[tariff.peak]\nenergy = \"dear\"\n";
    fs::write(&file, text).expect("written");
    let mut command = serve(&dir);
    command.arg("--config").arg(&file);
    command
        .env("PILEWAY_GRPC__START_DEADLINE", "soon")
        .env("PILEWAY_STORE__CACHE_MIB", "many")
        .env("PILEWAY_SPEED", "1");
    // The last layer counts: what it sets right is not wrong any more.
    command.env("PILEWAY_PILE__LOST_AFTER", "20s");
    let (status, output, errors) = end(command);
    assert_eq!(status.code(), Some(2), "{errors}");
    let expected = [
        ["pile.listen_on", "\"x\"", "unknown key", "pileway.toml"],
        ["radish", "url", "unknown key", "pileway.toml"],
        ["grpc.start_deadline", "\"soon\"", "duration", "PILEWAY_GRPC__START_DEADLINE"],
        ["store.cache_mib", "\"many\"", "whole number", "PILEWAY_STORE__CACHE_MIB"],
        ["environment variable", "speed", "unknown key", "PILEWAY_SPEED"],
        ["tariff.peak.energy", "\"dear\"", "price", "tariff"],
        ["pile.mailbox", "\"0\"", "must be 1 to 1024", "pileway.toml"],
    ];
    for parts in expected {
        let said = errors.lines().any(|line| parts.iter().all(|part| line.contains(part)));
        assert!(said, "{parts:?} is not in\n{errors}");
    }
    assert_eq!(errors.lines().count(), 1 + expected.len(), "{errors}");
    assert!(output.is_empty(), "{output:?}");
    assert!(!dir.path().join("store").exists(), "the store was opened");
}

#[test]
fn flags_that_are_none_are_refused() {
    for arguments in [&["serve", "--pile-listen", "nowhere"][..], &["serve", "--radish", "x"], &["sevre"], &[]] {
        let (status, output, errors) = end(pileway(arguments));
        assert_eq!((status.code(), output.len()), (Some(2), 0), "{arguments:?}: {errors}");
    }
    let (status, _, errors) = end(pileway(&["serve", "--config", "no/such/file.toml"]));
    assert_eq!(status.code(), Some(2));
    assert!(errors.contains("no/such/file.toml"), "{errors}");
    let dir = TempDir::new().expect("a directory");
    let mut beyond = pileway(&["serve", "--pile-listen", "127.0.0.1:0", "--grpc-listen", "0.0.0.0:0"]);
    beyond.arg("--data-dir").arg(dir.path().join("store"));
    let (status, _, errors) = end(beyond);
    assert_eq!(status.code(), Some(2), "{errors}");
    assert!(errors.contains("grpc.listen") && errors.contains("loopback"), "{errors}");
}

#[test]
fn a_peer_port_for_everybody_needs_a_secret_and_no_error_repeats_it() {
    let dir = TempDir::new().expect("a directory");
    let with = |listen: &str, secret: &str| {
        let mut command = serve(&dir);
        command.args(["--redis", "redis://:hunter2@127.0.0.1:1", "--peer-listen", listen]);
        command.args(["--peer-advertise", "10.1.2.3"]).env("PILEWAY_PEER__SECRET", secret);
        command
    };
    for secret in ["", "hunter two"] {
        let (status, _, errors) = end(with("0.0.0.0:0", secret));
        assert_eq!(status.code(), Some(2), "{errors}");
        let key = if secret.is_empty() { "peer.listen" } else { "peer.secret" };
        assert!(errors.contains(key) && !errors.contains("hunter"), "{errors}");
    }
    // Without a common store there are no other nodes, and no port for them.
    let mut alone = serve(&dir);
    alone.args(["--peer-listen", "0.0.0.0:0", "--node-id", "alone"]);
    let mut node = Process::spawn(alone);
    let line = node.first_line();
    assert!(line.starts_with("ready ") && !line.contains("peer="), "{line:?} {}", node.log());
    node.kill();
}

#[test]
fn what_else_is_in_the_environment_does_not_matter() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let dir = TempDir::new().expect("a directory");
    let mut command = serve(&dir);
    command.env("NO_TEXT", OsStr::from_bytes(b"\xff\xfe")).env("PILEWAY_TEST_ANYTHING", "x");
    let mut node = Process::spawn(command);
    assert!(node.first_line().starts_with("ready "), "{}", node.log());
    node.kill();
    // Of ours, it is wrong like any other value.
    let mut command = serve(&dir);
    command.env("PILEWAY_LOG__FORMAT", OsStr::from_bytes(b"\xff"));
    let (status, _, errors) = end(command);
    assert_eq!(status.code(), Some(2), "{errors}");
    assert!(errors.contains("log.format"), "{errors}");
}

#[test]
fn what_config_prints_is_what_holds_without_it() {
    let (status, output, errors) = end(pileway(&["config"]));
    assert!(status.success(), "{errors}");
    let printed = output.join("\n");
    let dir = TempDir::new().expect("a directory");
    let file = dir.path().join("pileway.toml");
    fs::write(&file, &printed).expect("written");
    let loaded = pileway::config::Config::load(Some(&file), [], []).expect("it loads");
    assert_eq!(loaded, pileway::config::Config::defaults());
    let mut command = serve(&dir);
    command.arg("--config").arg(&file);
    let mut node = Process::spawn(command);
    assert!(node.first_line().starts_with("ready piles=127.0.0.1:"), "{}", node.log());
    node.terminate();
    assert!(node.wait(PATIENCE).success());
}

#[tokio::test]
async fn a_data_directory_belongs_to_one_process() {
    let node = Node::start();
    let mut pile = Pile::login(&node, "32010600019236").await;
    let mut second = pileway(&["serve", "--pile-listen", "127.0.0.1:0", "--grpc-listen", "127.0.0.1:0"]);
    second.arg("--data-dir").arg(node.data_dir());
    let (status, output, errors) = end(second);
    assert_eq!((status.code(), output.len()), (Some(1), 0), "{errors}");
    let last = errors.lines().last().expect("an error");
    assert!(last.contains(&node.data_dir().display().to_string()), "{errors}");
    assert!(last.contains("another process"), "{errors}");
    pile.served().await;
    Api::of(&node).await.session("32010600019236").await;
}

#[test]
fn an_address_that_is_taken_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address").to_string();
    for (flag, key) in [("--pile-listen", "pile.listen"), ("--grpc-listen", "grpc.listen")] {
        let dir = TempDir::new().expect("a directory");
        let mut command = pileway(&["serve"]);
        for other in ["--pile-listen", "--grpc-listen"] {
            command.args([other, if other == flag { &address } else { "127.0.0.1:0" }]);
        }
        command.arg("--data-dir").arg(dir.path().join("store"));
        let (status, output, errors) = end(command);
        assert_eq!((status.code(), output.len()), (Some(1), 0), "{errors}");
        assert!(errors.contains(key) && errors.contains(&address) && errors.contains("in use"), "{errors}");
    }
}

#[test]
fn a_collector_that_does_not_answer_is_no_reason_not_to_serve() {
    let dir = TempDir::new().expect("a directory");
    let mut command = serve(&dir);
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1");
    let mut process = Process::spawn(command);
    let line = process.first_line();
    assert!(line.starts_with("ready "), "{line:?} {}", process.log());
    process.terminate();
    assert!(process.wait(PATIENCE).success(), "{}", process.log());
}
