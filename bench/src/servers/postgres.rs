//! A PostgreSQL that keeps what it acknowledges, as one that sells seats has to.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, bail, ensure};
use nix::unistd::{Uid, User};
use std::os::unix::process::CommandExt as _;

use super::process::{self, Launch, Process};

const ADVICE: &str = "Install PostgreSQL 15 or later (Debian: apt-get install postgresql).";
const TRIES: u32 = 5;

/// What a commit survives is as PostgreSQL has it unless told: said here because the comparison rests on it. The
/// memory is a quarter of a small machine's, and a checkpoint does not come in the middle of every load.
const SETTINGS: &str = "
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 600
fsync = on
synchronous_commit = on
full_page_writes = on
shared_buffers = 512MB
max_wal_size = 4GB
";
const FACTS: [&str; 5] =
    ["fsync", "synchronous_commit", "full_page_writes", "shared_buffers", "max_wal_size"];

/// A running cluster.
#[derive(Debug)]
pub struct Postgres {
    process: Process,
    bin: PathBuf,
    port: u16,
    databases: AtomicU32,
}

impl Postgres {
    /// # Errors
    /// It is not installed, or does not start; says what to do.
    pub fn start() -> anyhow::Result<Self> {
        let bin = binaries()?;
        let user = user()?;
        let mut last = None;
        for _ in 0..TRIES {
            let port = process::free_port()?;
            match launch(&bin, user.as_ref(), port) {
                Ok(process) => return Ok(Self { process, bin, port, databases: AtomicU32::new(0) }),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| anyhow::anyhow!("no port is free")))
    }

    /// Makes an empty database. Its URL: `postgres://postgres@127.0.0.1:40123/sale0`.
    pub fn database(&self) -> anyhow::Result<String> {
        let name = format!("sale{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.sql(&format!("CREATE DATABASE {name}"))?;
        Ok(self.url(&name))
    }

    pub fn version(&self) -> anyhow::Result<String> {
        self.sql("SELECT current_setting('server_version')")
    }

    /// `15.18, fsync=on, …, files on ext4`.
    pub fn facts(&self) -> anyhow::Result<String> {
        let settings = FACTS.map(|name| format!("'{name}=' || current_setting('{name}')")).join(", ");
        let settings = self.sql(&format!("SELECT concat_ws(', ', {settings})"))?;
        let files = file_system(self.process.dir()).unwrap_or_else(|| "an unknown file system".to_owned());
        Ok(format!("{}, {settings}, files on {files}", self.version()?))
    }

    /// The first process of all.
    pub fn pids(&self) -> Vec<u32> {
        vec![self.process.pid()]
    }

    fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    fn sql(&self, sql: &str) -> anyhow::Result<String> {
        let output = Command::new(self.bin.join("psql"))
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", &self.url("postgres"), "-c", sql])
            .stdin(Stdio::null())
            .output()
            .context("psql cannot be started")?;
        ensure!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}

fn launch(bin: &Path, user: Option<&User>, port: u16) -> anyhow::Result<Process> {
    let dir = process::directory(user)?;
    let data = dir.join("data");
    if let Err(error) = init(bin, user, &data) {
        // What is left of it says nothing.
        let _gone = std::fs::remove_dir_all(&dir);
        return Err(error);
    }
    // Its own children are told by QUIT to end at once.
    let launch = Launch { name: "PostgreSQL", binary: &bin.join("postgres"), dir, user, signal: "QUIT" };
    let process = launch.start(["-D", &data.to_string_lossy(), "-p", &port.to_string()], &[])?;
    process.wait_for(|process| {
        let status = std::fs::read_to_string(process.dir().join("data/postmaster.pid")).ok()?;
        status.lines().any(|line| line.trim() == "ready").then_some(())
    })?;
    Ok(process)
}

fn init(bin: &Path, user: Option<&User>, data: &Path) -> anyhow::Result<()> {
    let mut command = Command::new(bin.join("initdb"));
    command.args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "-D"]).arg(data);
    if let Some(user) = user {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    let output = command.stdin(Stdio::null()).output().context("initdb cannot be started")?;
    ensure!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr).trim());
    let conf = data.join("postgresql.conf");
    let text = std::fs::read_to_string(&conf)?;
    Ok(std::fs::write(&conf, text + SETTINGS)?)
}

/// Of the newest version where Debian puts them.
fn binaries() -> anyhow::Result<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<(u32, PathBuf)> = versions
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    versions.sort_unstable_by(|a, b| b.cmp(a));
    let directories: Vec<PathBuf> = versions.into_iter().map(|(_, directory)| directory).collect();
    let binary = process::find("postgres", &directories, ADVICE)?;
    let Some(directory) = binary.parent() else { bail!("there is no postgres. {ADVICE}") };
    Ok(directory.to_owned())
}

/// It refuses to run as root. `None` when we are somebody ourselves.
fn user() -> anyhow::Result<Option<User>> {
    if !Uid::effective().is_root() {
        return Ok(None);
    }
    let user = User::from_name("postgres").context("the users of this machine cannot be read")?;
    Ok(Some(user.with_context(|| format!("there is no user postgres. {ADVICE}"))?))
}

/// On one in memory, "durable" would mean nothing.
fn file_system(dir: &Path) -> Option<String> {
    let output = Command::new("stat").args(["-f", "-c", "%T"]).arg(dir).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
