//! The scripts, and how one is called: by its hash, with its text only if the server does not know it.

use std::fmt::Display;
use std::sync::LazyLock;

use redis::{Cmd, ErrorKind, RedisResult, Script, ServerErrorKind, Value};

use super::connection::Connection;

macro_rules! scripts {
    ($($name:ident = $file:literal)*) => {
        $(pub(super) static $name: LazyLock<Text> = LazyLock::new(|| {
            Text::new(concat!(include_str!("lua/lib.lua"), include_str!($file)))
        });)*
    };
}

scripts! {
    COMMIT = "lua/commit.lua"
    CLAIM = "lua/claim.lua"
    RELEASE = "lua/release.lua"
    SETTLE = "lua/settle.lua"
    LIST = "lua/list.lua"
    EXPIRE = "lua/expire.lua"
    TRIM = "lua/trim.lua"
    LOG_END = "lua/log_end.lua"
    ORPHANS = "lua/orphans.lua"
    RENEW = "lua/renew.lua"
    RETIRE = "lua/retire.lua"
    META = "lua/meta.lua"
    TRIAL = "lua/trial.lua"
}

pub(super) struct Text {
    text: &'static str,
    hash: String,
}

impl Text {
    fn new(text: &'static str) -> Self {
        Self { text, hash: Script::new(text).get_hash().to_owned() }
    }

    /// With nothing but the common beginning of the keys it works on.
    pub(super) fn on(&'static self, base: &str) -> Invocation {
        Invocation { script: self, keys: Vec::new(), arguments: vec![base.as_bytes().to_vec()] }
    }
}

/// Keys and arguments are taken by the script in the order in which they are given.
pub(super) struct Invocation {
    script: &'static Text,
    keys: Vec<Vec<u8>>,
    arguments: Vec<Vec<u8>>,
}

impl Invocation {
    pub(super) fn key(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.add_key(key);
        self
    }

    pub(super) fn arg(mut self, argument: impl Into<Vec<u8>>) -> Self {
        self.add_arg(argument);
        self
    }

    pub(super) fn number(self, argument: impl Display) -> Self {
        self.arg(format!("{argument}"))
    }

    pub(super) fn add_key(&mut self, key: impl Into<Vec<u8>>) {
        self.keys.push(key.into());
    }

    pub(super) fn add_arg(&mut self, argument: impl Into<Vec<u8>>) {
        self.arguments.push(argument.into());
    }

    pub(super) fn add_number(&mut self, argument: impl Display) {
        self.add_arg(format!("{argument}"));
    }

    pub(super) async fn send(&self, connection: &mut Connection) -> RedisResult<Value> {
        match connection.send(&self.command("EVALSHA", &self.script.hash)).await {
            // With its text it is known from now on.
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                connection.send(&self.command("EVAL", self.script.text)).await
            }
            answer => answer,
        }
    }

    fn command(&self, name: &str, script: &str) -> Cmd {
        let mut command = redis::cmd(name);
        command.arg(script).arg(self.keys.len()).arg(&self.keys).arg(&self.arguments);
        command
    }
}
