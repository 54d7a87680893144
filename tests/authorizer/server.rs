//! The example server as a child process.

use std::path::PathBuf;
use std::process::Command;

use crate::common::node::Process;

/// Ends when it is dropped.
pub struct Authorizer {
    process: Process,
    address: String,
}

impl Authorizer {
    /// On a free port, unless the arguments say which.
    pub fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(program());
        if !arguments.contains(&"--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        command.args(arguments);
        let mut process = Process::spawn(command);
        let line = process.first_line();
        let address = line.strip_prefix("authorizer listens on ");
        let address = address.unwrap_or_else(|| panic!("no server: {line:?}\n{}", process.log())).to_owned();
        Self { process, address }
    }

    pub fn address(&self) -> String {
        self.address.clone()
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// It is gone when this returns; what it said, question by question.
    pub fn end(&mut self) -> Vec<String> {
        self.process.kill();
        self.process.rest()
    }
}

impl Drop for Authorizer {
    fn drop(&mut self) {
        self.process.kill();
    }
}

/// Cargo builds the examples along with the tests, beside them: `target/debug/examples` next to `target/debug/deps`.
fn program() -> PathBuf {
    let this = std::env::current_exe().expect("a test is a program");
    let profile = this.parent().and_then(|deps| deps.parent()).expect("target/PROFILE/deps");
    let program = profile.join("examples").join("authorizer");
    assert!(program.exists(), "{} is not there: build it with `cargo build --example authorizer`", program.display());
    program
}
