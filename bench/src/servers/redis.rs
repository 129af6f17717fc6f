//! A Redis that forgets everything when it ends, as one for soft locks may.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Context as _;

use super::process::{self, Launch, Process};

const ADVICE: &str = "Install Redis 7 or later (Debian: apt-get install redis-server).";
const TRIES: u32 = 5;
const DATABASES: u32 = 1_000;

/// A running server.
#[derive(Debug)]
pub struct Redis {
    process: Process,
    port: u16,
    databases: AtomicU32,
}

impl Redis {
    /// # Errors
    /// It is not installed, or does not start; says what to do.
    pub fn start() -> anyhow::Result<Self> {
        let binary = process::find("redis-server", &[], ADVICE)?;
        let mut last = None;
        for _ in 0..TRIES {
            let port = process::free_port()?;
            let dir = process::directory(None)?;
            let launch = Launch { name: "Redis", binary: &binary, dir, user: None, signal: "KILL" };
            let (port_text, databases) = (port.to_string(), DATABASES.to_string());
            let args = ["--port", &port_text, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];
            let process = launch.start(args.into_iter().chain(["--databases", &databases]), &[])?;
            let ready = process.wait_for(|process| process.log().contains("Ready to accept").then_some(()));
            match ready {
                Ok(()) => return Ok(Self { process, port, databases: AtomicU32::new(0) }),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| anyhow::anyhow!("no port is free")))
    }

    /// A database that nobody else uses. Its URL: `redis://127.0.0.1:40123/0`.
    pub fn database(&self) -> String {
        let number = self.databases.fetch_add(1, Ordering::Relaxed) % DATABASES;
        format!("redis://127.0.0.1:{}/{number}", self.port)
    }

    pub fn version(&self) -> anyhow::Result<String> {
        let info: String = self.ask(redis::cmd("INFO").arg("server"))?;
        let version = info.lines().find_map(|line| line.strip_prefix("redis_version:"));
        Ok(version.context("Redis does not say its version")?.trim().to_owned())
    }

    /// `7.0.15, save="", appendonly=no`.
    pub fn facts(&self) -> anyhow::Result<String> {
        let settings: BTreeMap<String, String> =
            self.ask(redis::cmd("CONFIG").arg("GET").arg("save").arg("appendonly"))?;
        let of = |name: &str| settings.get(name).map_or("?", String::as_str);
        Ok(format!("{}, save=\"{}\", appendonly={}", self.version()?, of("save"), of("appendonly")))
    }

    pub fn pids(&self) -> Vec<u32> {
        vec![self.process.pid()]
    }

    fn ask<T: redis::FromRedisValue>(&self, command: &redis::Cmd) -> anyhow::Result<T> {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}/", self.port))?;
        command.query(&mut client.get_connection()?).context("Redis does not answer")
    }
}
