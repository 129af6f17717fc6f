//! One of the other ways of selling seats, in a process of its own.

use anyhow::Context as _;

use super::process::{self, Launch, Process};
use super::{Postgres, Redis};
use crate::baseline::Idea;

#[derive(Debug)]
pub struct BaselineServer {
    process: Process,
    url: String,
}

impl BaselineServer {
    /// In databases of its own.
    ///
    /// # Errors
    /// It does not start; says what it said.
    pub fn start(idea: Idea, postgres: &Postgres, redis: &Redis, seats: u32) -> anyhow::Result<Self> {
        let binary = std::env::current_exe().context("this program does not know where it is")?;
        let (postgres, redis) = (postgres.database()?, redis.database());
        let dir = process::directory(None)?;
        let launch = Launch { name: idea.name(), binary: &binary, dir, user: None, signal: "KILL" };
        let seats = seats.to_string();
        let args = ["baseline", idea.name(), "--listen", "127.0.0.1:0", "--seats", &seats];
        let urls = ["--postgres", &postgres, "--redis", &redis];
        let process = launch.start(args.into_iter().chain(urls), &[])?;
        let url = process.wait_for(|process| {
            let log = process.log();
            let (line, _) = log.split_once('\n')?;
            Some(line.strip_prefix("listening ")?.to_owned())
        })?;
        Ok(Self { process, url })
    }

    /// `http://127.0.0.1:40123`; the option is 1.
    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn pids(&self) -> Vec<u32> {
        vec![self.process.pid()]
    }
}
