//! Somebody else's client: Python, with Google's own libraries and nothing of ours but the reflection service.
//!
//! `make test` sets the interpreter up and names it in `PILEWAY_TEST_PYTHON`.

mod common;

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use common::{Api, Node, Pile};
use pileway::sim::{Behaviour, PileConfig};

const GOOD: &str = "32010600000001";
const REFUSES: &str = "32010600000002";
const IGNORES: &str = "32010600000003";
const OFFLINE: &str = "32010600000004";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_knows_only_reflection_charges_and_reads_every_error() {
    let python = interpreter();
    let node = Node::start();
    let mut piles = vec![];
    for (code, behaviours) in
        [(GOOD, vec![]), (REFUSES, vec![Behaviour::RefuseStart(3)]), (IGNORES, vec![Behaviour::Ignore(0x34)])]
    {
        // Fast, so that energy flows while the test looks on.
        let config = PileConfig { behaviours, speed: 60, ..PileConfig::new(code.parse().expect("14 digits")) };
        piles.push(pileway::sim::spawn(config, vec![node.piles.to_string()]));
    }
    let api = Api::of(&node).await;
    drop(Pile::login(&node, OFFLINE).await);
    for code in [GOOD, REFUSES, IGNORES] {
        api.session_begins(code).await;
    }
    api.session_ends(OFFLINE).await;

    let names = serde_json::json!({ "good": GOOD, "refuses": REFUSES, "ignores": IGNORES, "offline": OFFLINE });
    let address = node.grpc.to_string();
    let said = tokio::task::spawn_blocking(move || run(&python, &address, &names.to_string())).await;
    if let Err(said) = said.expect("no panic") {
        panic!("the client is not content:\n{said}");
    }
    for pile in piles {
        pile.stop().await;
    }
}

/// What it said, as an error if it was not content.
fn run(python: &PathBuf, address: &str, piles: &str) -> Result<String, String> {
    let mut command = Command::new(python);
    command.arg(common::node::tests_dir().join("python/client.py")).arg(address);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // Calls to this machine go to no proxy.
    command.env("no_proxy", "127.0.0.1").env("no_grpc_proxy", "127.0.0.1");
    let mut client = command.spawn().expect("the interpreter answered a moment ago");
    client.stdin.take().expect("piped").write_all(piles.as_bytes()).expect("it reads");
    let output = client.wait_with_output().expect("it is our child");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() { Ok(said) } else { Err(said) }
}

/// The one `make test` has set up; else any that can do it.
fn interpreter() -> PathBuf {
    const NEEDS: &str = "import grpc, grpc_reflection.v1alpha, grpc_status, google.rpc.error_details_pb2";
    let named = std::env::var_os("PILEWAY_TEST_PYTHON").map(PathBuf::from);
    let candidate = named.unwrap_or_else(|| "python3".into());
    match Command::new(&candidate).args(["-c", NEEDS]).output() {
        Ok(output) if output.status.success() => candidate,
        other => panic!(
            "{} cannot be used: run `make test`, which sets up an interpreter with grpcio, or `make setup-python` and \
             name it in PILEWAY_TEST_PYTHON ({other:?})",
            candidate.display()
        ),
    }
}
