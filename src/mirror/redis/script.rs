//! A Lua script, called by its hash or with its text.

use redis::Cmd;

#[derive(Debug)]
pub(super) struct Script {
    text: &'static str,
    hash: String,
}

impl Script {
    pub fn new(text: &'static str) -> Self {
        Self { text, hash: redis::Script::new(text).get_hash().to_owned() }
    }

    /// For a call that is made all the time. Redis answers `NOSCRIPT` where it does not know the text yet.
    pub fn by_hash(&self, keys: &[&str]) -> Cmd {
        call("EVALSHA", &self.hash, keys)
    }

    /// Redis knows the text from then on.
    pub fn with_text(&self, keys: &[&str]) -> Cmd {
        call("EVAL", self.text, keys)
    }
}

fn call(how: &str, script: &str, keys: &[&str]) -> Cmd {
    let mut command = redis::cmd(how);
    command.arg(script).arg(keys.len());
    keys.iter().for_each(|key| _ = command.arg(key));
    command
}
