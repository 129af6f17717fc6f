//! A demo server of one's own, and the bench as a command.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

/// How long a test waits for what must come, on a machine that is busy with others.
const PATIENCE: Duration = Duration::from_secs(90);

/// The demo's hall of 50 seats, and its arena of 12,000.
pub const HALL: &str = "1";
pub const ARENA: &str = "2";

static MACHINE: RwLock<()> = RwLock::new(());

/// For a test that does not mind what runs beside it.
pub fn among_others() -> RwLockReadGuard<'static, ()> {
    MACHINE.read().unwrap_or_else(PoisonError::into_inner)
}

/// For a test about latency: nothing of ours runs beside it.
pub fn alone() -> RwLockWriteGuard<'static, ()> {
    MACHINE.write().unwrap_or_else(PoisonError::into_inner)
}

/// `hotseat serve --demo`, killed when dropped.
pub struct Server {
    process: Child,
    pub url: String,
    _dir: TempDir,
}

/// What the bench said.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Server {
    pub fn start() -> Self {
        let dir = TempDir::new().unwrap();
        let data = dir.path().join("data");
        let any = "127.0.0.1:0";
        let process = Command::new(server_binary())
            .args(["serve", "--demo", "--listen", any, "--ops-listen", any, "--data"])
            .arg(&data)
            .env("HOTSEAT_SALES_RESERVATIONS_PER_USER", "1000")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut server = Self { process, url: String::new(), _dir: dir };
        let started = Instant::now();
        while server.url.is_empty() {
            assert!(started.elapsed() < PATIENCE, "the server does not start");
            thread::sleep(Duration::from_millis(20));
            let running = std::fs::read(data.join("run.json")).unwrap_or_default();
            let running: Value = serde_json::from_slice(&running).unwrap_or_default();
            server.url = running["publicUrl"].as_str().unwrap_or_default().to_owned();
        }
        server
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.process.id().try_into().unwrap()), signal).unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Whoever has ended needs no signal.
        let _ended = self.process.kill();
        let _status = self.process.wait();
    }
}

pub fn server_binary() -> PathBuf {
    let beside = Path::new(env!("CARGO_BIN_EXE_hotseat-bench")).with_file_name("hotseat");
    assert!(beside.exists(), "{} is missing: run `cargo test --workspace`", beside.display());
    beside
}

/// The bench, which nobody's settings reach.
pub fn bench(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hotseat-bench"));
    command.args(args).env_remove("HOTSEAT_BENCH_SECRET").stdin(Stdio::null());
    command
}

/// Runs to the end.
pub fn run(args: &[&str]) -> Ran {
    Ran::of(&mut bench(args))
}

/// Runs a load on a server, which may not be ready yet.
pub fn run_at(server: &Server, args: &[&str]) -> Ran {
    run(&[args, &["--url", &server.url, "--wait", "60s"]].concat())
}

impl Ran {
    pub fn of(command: &mut Command) -> Self {
        let output = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// What it printed, of a run that went well.
    #[track_caller]
    pub fn passed(self) -> String {
        assert_eq!(self.code, Some(0), "{}\n{}", self.out, self.err);
        assert!(self.out.contains("PASSED"), "{}", self.out);
        self.out
    }

    /// What it complained about, of a run that could not begin.
    #[track_caller]
    pub fn refused(self) -> String {
        assert_eq!(self.code, Some(2), "{}\n{}", self.out, self.err);
        self.err
    }
}

/// What was written with `--out`.
pub fn report(dir: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(dir.join("report.json")).unwrap()).unwrap()
}
