//! PostgreSQL clusters of one's own, on loopback, from one `initdb` per process.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid, User};

use crate::{Process, find_binary, free_port};

const PATIENCE: Duration = Duration::from_secs(60);
const ADVICE: &str = "Install PostgreSQL 15 or later: tests/install-servers.sh does on Debian.";

/// Tests run many small servers: none of them needs the disk, but where it is asked for.
const SETTINGS: &str = "
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 200
shared_buffers = 64MB
fsync = off
full_page_writes = off
autovacuum_naptime = 10s
logging_collector = off
";

/// A running cluster. Its processes and its directory go when it is dropped, or when this process dies.
#[derive(Debug)]
pub struct Postgres {
    process: Process,
    dir: PathBuf,
    port: u16,
}

impl Postgres {
    /// Starts a cluster of its own, for tests that stop, hang or kill it.
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// Starts a cluster of its own with further lines of `postgresql.conf`.
    pub fn start_with(settings: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let home = home();
        let dir = home.dir.join(format!("cluster{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
        copy(&home.template, &dir);
        let conf = dir.join("postgresql.conf");
        let text = std::fs::read_to_string(&conf).expect("initdb wrote it");
        std::fs::write(&conf, text + SETTINGS + settings + "\n").expect("it is ours");
        let (process, port) = launch(&dir);
        Self { process, dir, port }
    }

    /// The cluster of this process, for tests that only need a database.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where to reach a database, e.g. `postgres://postgres@127.0.0.1:40123/postgres`.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// Makes an empty database; its URL.
    pub fn database(&self) -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("test{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        self.url(&name)
    }

    /// Runs statements as the superuser; what they return, unaligned, without headers.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        let output = Command::new(binary("psql"))
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", &self.url(database), "-c", sql])
            .stdin(Stdio::null())
            .output()
            .expect("psql starts");
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8").trim_end().to_owned()
    }

    /// Stops it as a crash would: no goodbye, recovery at the next start.
    pub fn stop_immediate(&mut self) {
        self.process.signal(Signal::SIGQUIT);
        self.process.wait(PATIENCE);
    }

    /// Stops it well.
    pub fn stop_fast(&mut self) {
        self.process.signal(Signal::SIGINT);
        self.process.wait(PATIENCE);
    }

    /// Starts it again, on the same port, after a stop or a kill.
    pub fn start_again(&mut self) {
        self.process = launch_on(&self.dir, self.port).expect("the port was ours a moment ago");
    }

    /// `stop immediate` and start.
    pub fn restart(&mut self) {
        self.stop_immediate();
        self.start_again();
    }

    /// Every process of it hangs, those that serve somebody as well.
    pub fn pause(&self) {
        // The postmaster first: it starts no further ones then.
        self.process.signal(Signal::SIGSTOP);
        signal_all(&self.children(), Signal::SIGSTOP);
    }

    /// They go on.
    pub fn resume(&self) {
        signal_all(&self.children(), Signal::SIGCONT);
        self.process.signal(Signal::SIGCONT);
    }

    /// `kill -9` of every process of it.
    pub fn kill(&mut self) {
        let children = self.children();
        self.process.kill();
        signal_all(&children, Signal::SIGKILL);
        let deadline = Instant::now() + PATIENCE;
        while children.iter().any(|pid| kill(*pid, None).is_ok()) {
            assert!(Instant::now() < deadline, "{children:?} survive SIGKILL");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Becomes the primary of a new timeline, as a standby does that is promoted.
    pub fn promote(&mut self) {
        self.stop_fast();
        self.promote_stopped();
    }

    /// The same of a cluster that was stopped or killed.
    pub fn promote_stopped(&mut self) {
        std::fs::write(self.dir.join("standby.signal"), "").expect("the directory is ours");
        own(&self.dir.join("standby.signal"));
        self.start_again();
        let promoted = self.sql("postgres", "SELECT pg_promote(true, 60)");
        assert_eq!(promoted, "t", "{}", self.log());
    }

    /// Copies its files, to come back to this point later. It must be stopped.
    pub fn save(&self) -> PathBuf {
        let copy_dir = self.dir.with_extension("saved");
        copy(&self.dir, &copy_dir);
        copy_dir
    }

    /// Back to where it was saved, as a standby that had not received the rest. It must be stopped.
    pub fn restore(&self, saved: &Path) {
        std::fs::remove_dir_all(&self.dir).expect("the directory is ours");
        copy(saved, &self.dir);
    }

    /// What it logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.with_extension("log")).unwrap_or_default()
    }

    /// Its children, which each lead a process group of their own.
    fn children(&self) -> Vec<Pid> {
        let output = Command::new("ps")
            .args(["-o", "pid=", "--ppid", &self.process.id().to_string()])
            .output()
            .expect("ps starts");
        let text = String::from_utf8_lossy(&output.stdout);
        text.split_whitespace().filter_map(|pid| pid.parse().ok()).map(Pid::from_raw).collect()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
        // What cannot be removed now goes with the process.
        let _gone = std::fs::remove_dir_all(&self.dir);
    }
}

/// The directory of this process's clusters, and who cleans up after it.
struct Home {
    dir: PathBuf,
    template: PathBuf,
    _watchdog: (Child, ChildStdin),
}

fn home() -> &'static Home {
    static HOME: OnceLock<Home> = OnceLock::new();
    HOME.get_or_init(|| {
        let dir = tempfile::Builder::new().prefix("hotseat-pg-").tempdir().expect("a temporary directory");
        let dir = dir.keep();
        own(&dir);
        let watchdog = watch(&dir);
        let template = dir.join("template");
        let output = as_postgres(&mut Command::new(binary("initdb")))
            .args(["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "-D"])
            .arg(&template)
            .stdin(Stdio::null())
            .output()
            .expect("initdb starts");
        assert!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));
        Home { dir, template, _watchdog: watchdog }
    })
}

/// A shell that waits until this process is gone, however it goes, and then ends its clusters.
fn watch(dir: &Path) -> (Child, ChildStdin) {
    const SCRIPT: &str = r#"
        cat >/dev/null
        for file in "$0"/*/postmaster.pid; do
            pid=$(head -n 1 "$file" 2>/dev/null) || continue
            all="$pid $(ps -o pid= --ppid "$pid")"
            kill -KILL $all 2>/dev/null
        done
        rm -rf "$0"
    "#;
    let mut child = Command::new("sh")
        .args(["-c", SCRIPT])
        .arg(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .expect("a shell starts");
    let pipe = child.stdin.take().expect("it is piped");
    (child, pipe)
}

/// Takes another port when somebody was faster.
fn launch(dir: &Path) -> (Process, u16) {
    for _ in 0..10 {
        let port = free_port();
        if let Some(process) = launch_on(dir, port) {
            return (process, port);
        }
    }
    let log = std::fs::read_to_string(dir.with_extension("log")).unwrap_or_default();
    panic!("PostgreSQL does not start: {log}");
}

fn launch_on(dir: &Path, port: u16) -> Option<Process> {
    let log = std::fs::File::options().create(true).append(true).open(dir.with_extension("log"));
    let log = log.expect("the directory is ours");
    let mut command = Command::new(binary("postgres"));
    as_postgres(&mut command)
        .arg("-D")
        .arg(dir)
        .args(["-p", &port.to_string()])
        .stdout(log.try_clone().expect("a file"))
        .stderr(log);
    let mut process = Process::start(&mut command);
    let deadline = Instant::now() + PATIENCE;
    while process.is_running() {
        let port = port.to_string();
        let ready = Command::new(binary("pg_isready"))
            .args(["-q", "-h", "127.0.0.1", "-p", &port, "-t", "1"])
            .status()
            .expect("pg_isready starts");
        if ready.success() {
            return Some(process);
        }
        assert!(Instant::now() < deadline, "PostgreSQL does not get ready in {}", dir.display());
        std::thread::sleep(Duration::from_millis(20));
    }
    None
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(copied.expect("cp starts").success(), "{} cannot be copied", from.display());
}

/// PostgreSQL refuses to run as root.
pub(crate) fn as_postgres(command: &mut Command) -> &mut Command {
    if let Some(user) = postgres_user() {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    command
}

fn own(path: &Path) {
    if let Some(user) = postgres_user() {
        chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw())).expect("root may");
    }
}

/// `None` when we are somebody ourselves.
fn postgres_user() -> Option<User> {
    Uid::effective().is_root().then(|| {
        let user = User::from_name("postgres").expect("the user database can be read");
        user.unwrap_or_else(|| panic!("there is no user postgres. {ADVICE}"))
    })
}

/// Of the newest version that is installed.
fn binary(name: &str) -> PathBuf {
    let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    versions.sort_unstable_by(|a, b| b.cmp(a));
    let directories: Vec<PathBuf> = versions.into_iter().map(|(_, directory)| directory).collect();
    find_binary(name, &directories, ADVICE)
}

fn signal_all(processes: &[Pid], signal: Signal) {
    for pid in processes {
        // It may have ended since it was listed.
        let _ended = kill(*pid, signal);
    }
}
