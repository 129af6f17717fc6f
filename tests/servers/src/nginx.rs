//! nginx, with a configuration as operators have it.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::unistd::Uid;
use tempfile::TempDir;

use crate::{Process, find_binary};

const PATIENCE: Duration = Duration::from_secs(30);
const ADVICE: &str = "Install nginx: tests/install-servers.sh does on Debian.";

/// A running nginx. Killed with its workers when dropped.
#[derive(Debug)]
pub struct Nginx {
    process: Process,
    dir: TempDir,
}

impl Nginx {
    /// Starts with this configuration, which stays in the foreground and writes below its prefix, and waits until
    /// it listens on a port.
    pub fn start(configuration: &str, port: u16) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("nginx.conf");
        std::fs::write(&file, configuration).expect("the directory is ours");
        let log = std::fs::File::create(dir.path().join("log")).expect("the directory is ours");
        let mut command = Command::new(find_binary("nginx", &[PathBuf::from("/usr/sbin")], ADVICE));
        command.arg("-p").arg(dir.path()).args(["-e", "stderr"]).arg("-c").arg(&file).stderr(log);
        if Uid::effective().is_root() {
            // Its workers would become somebody who may not enter the directory.
            command.args(["-g", "user root;"]);
        }
        let mut nginx = Self { process: Process::start(&mut command), dir };
        let deadline = Instant::now() + PATIENCE;
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            let starts = nginx.process.is_running() && Instant::now() < deadline;
            assert!(starts, "nginx does not start: {}", nginx.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        nginx
    }

    /// What it complained about.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).expect("it was made at the start")
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its workers end with it only when it is told; killed, it would leave them behind.
        self.process.signal(nix::sys::signal::Signal::SIGTERM);
        self.process.wait(PATIENCE);
    }
}
