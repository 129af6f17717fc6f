//! Starts the real binary on free ports with a data directory of its own, and talks to it as a stranger would.

pub mod crowd;
pub mod disk;
pub mod http;
pub mod server;
pub mod viewer;
pub mod wrong_clock;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

pub use self::http::{Answer, request};
pub use self::server::Server;

/// The binary, with an environment in which nobody's settings hide.
pub fn hotseat() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hotseat"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("HOTSEAT_") {
            command.env_remove(name);
        }
    }
    command
}

/// How long a test waits for what must come, on a machine that is busy with others.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Waits until something is so.
#[track_caller]
pub fn until(done: impl Fn() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < PATIENCE, "not in {PATIENCE:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Runs to the end.
pub fn run(args: &[&str]) -> Ran {
    Ran::of(hotseat().args(args).output().unwrap())
}

/// Runs to the end on a data directory.
pub fn run_on(data: &Path, args: &[&str]) -> Ran {
    Ran::of(hotseat().args(args).arg("--data").arg(data).output().unwrap())
}

/// What a command said.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ran {
    pub fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// It ended with 0; what it printed.
    #[track_caller]
    pub fn success(self) -> String {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self.out
    }

    /// It ended with this code; what it complained about.
    #[track_caller]
    pub fn failure(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self.err
    }
}

/// A data directory of its own, with a place beside it for logs, and an empty environment.
pub struct Place {
    _dir: tempfile::TempDir,
    pub data: PathBuf,
}

impl Place {
    pub fn new() -> Self {
        let dir = tempfile::TempDir::new().unwrap();
        let data = dir.path().join("data");
        Self { _dir: dir, data }
    }

    /// A file beside the data directory.
    pub fn file(&self, name: &str, text: &str) -> String {
        let path = self.data.with_file_name(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Imports a hall of some seats in one section; no server need run.
    pub fn import_hall(&self, seats: u32) -> String {
        self.import_hall_at(seats, "2027-05-01T19:00:00+09:00")
    }

    /// The same on another evening.
    pub fn import_hall_at(&self, seats: u32, at: &str) -> String {
        let plan = json!({"sections": [{"code": "A", "capacity": seats}]});
        let plan = self.file("hall.json", &plan.to_string());
        run_on(&self.data, &["import", &plan, "--concert", "Hall", "--at", at]).success()
    }
}
