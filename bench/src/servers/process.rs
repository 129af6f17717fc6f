//! A server as a child, with a shell between us and it that outlives us and cleans up.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::unistd::User;

use super::cpu;

/// For a server to come up. They need milliseconds, unless the machine is busy.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(10);
/// What of a log is worth showing.
const LOG_TAIL: usize = 1_000;

/// The server reads nothing and logs into its directory. `cat` ends when we close the pipe or are gone: then the
/// server is killed, even one that is stopped, and its directory removed.
const SHELL: &str = r#"
    dir=$0 signal=$1; shift
    "$@" </dev/null >"$dir/log" 2>&1 &
    echo $!
    cat >/dev/null
    kill "-$signal" $! 2>/dev/null; kill -CONT $! 2>/dev/null
    wait
    rm -rf "$dir"
"#;

/// A running server and its directory. Both go when it is dropped.
#[derive(Debug)]
pub struct Process {
    name: &'static str,
    pid: u32,
    shell: Child,
    pipe: Option<ChildStdin>,
    dir: PathBuf,
}

/// How to start one.
pub struct Launch<'a> {
    pub name: &'static str,
    pub binary: &'a Path,
    pub dir: PathBuf,
    pub user: Option<&'a User>,
    /// That ends it without delay: KILL, unless it has children to end itself.
    pub signal: &'static str,
}

impl Launch<'_> {
    pub fn start<A: AsRef<OsStr>>(
        self,
        args: impl IntoIterator<Item = A>,
        environment: &[(&str, &str)],
    ) -> anyhow::Result<Process> {
        let mut shell = Command::new("sh");
        shell.args(["-c", SHELL]).arg(&self.dir).arg(self.signal).arg(self.binary).args(args);
        shell.envs(environment.iter().copied()).stdin(Stdio::piped()).stdout(Stdio::piped());
        // Ctrl-C is for us: we still have things to say, and to ask the server.
        shell.process_group(0);
        if let Some(user) = self.user {
            shell.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        let mut shell = shell.spawn().context("no shell can be started")?;
        let pipe = shell.stdin.take();
        let mut line = String::new();
        if let Some(stdout) = shell.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let pid = line.trim().parse().with_context(|| format!("{} was not started", self.name))?;
        Ok(Process { name: self.name, pid, shell, pipe, dir: self.dir })
    }
}

impl Process {
    pub fn pid(&self) -> u32 {
        self.pid
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// Asks until there is an answer.
    ///
    /// # Errors
    /// The server ended or is too slow: with the end of its log.
    pub fn wait_for<T>(&self, mut answer: impl FnMut(&Self) -> Option<T>) -> anyhow::Result<T> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // In this order: it may end after its answer.
            let running = cpu::is_running(self.pid);
            if let Some(answer) = answer(self) {
                return Ok(answer);
            }
            if !running || Instant::now() > deadline {
                let log = self.log();
                let from = log.char_indices().map(|(at, _)| at).find(|at| log.len() - at <= LOG_TAIL);
                bail!("{} does not start: {}", self.name, log[from.unwrap_or(0)..].trim());
            }
            std::thread::sleep(PAUSE);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.pipe.take());
        // Nobody could do anything about it.
        let _ended = self.shell.wait();
    }
}

/// A directory that belongs to the server. Whoever starts it removes it.
pub fn directory(user: Option<&User>) -> anyhow::Result<PathBuf> {
    let dir = tempfile::Builder::new().prefix("hotseat-bench-").tempdir();
    let dir = dir.context("there is no room for a temporary directory")?.keep();
    if let Some(user) = user {
        chown(&dir, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
    }
    Ok(dir)
}

/// A port of loopback that nobody listens on. Somebody else may be faster: who starts a server tries again.
pub fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("no port of 127.0.0.1 is free")?;
    Ok(listener.local_addr()?.port())
}

/// The first of the directories that has the program, and then those of PATH.
pub fn find(name: &str, directories: &[PathBuf], advice: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut candidates =
        directories.iter().cloned().chain(std::env::split_paths(&path)).map(|dir| dir.join(name));
    candidates.find(|candidate| candidate.is_file()).with_context(|| format!("there is no {name}. {advice}"))
}
