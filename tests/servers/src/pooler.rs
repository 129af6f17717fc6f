//! A connection pooler in front of PostgreSQL, as operators put there.

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::postgres::as_postgres;
use crate::{Process, find_binary, free_port};

const PATIENCE: Duration = Duration::from_secs(30);

/// `PgBouncer`. Gone when dropped.
#[derive(Debug)]
pub struct Pooler {
    _process: Process,
    _dir: TempDir,
    port: u16,
}

impl Pooler {
    /// Pools `session`s or `transaction`s of a server of this machine.
    pub fn start(server: u16, mode: &str) -> Self {
        let binary = find_binary("pgbouncer", &["/usr/sbin".into()], "Install the package pgbouncer.");
        let dir = tempfile::tempdir().expect("a temporary directory");
        let port = free_port();
        let settings = format!(
            "[databases]\n* = host=127.0.0.1 port={server} user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = {mode}\n\
             ignore_startup_parameters = extra_float_digits\n"
        );
        let file = dir.path().join("pgbouncer.ini");
        std::fs::write(&file, settings).expect("the directory is ours");
        for path in [dir.path(), &file] {
            let readable = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(path, readable).expect("it is ours");
        }
        let mut command = Command::new(binary);
        as_postgres(&mut command).arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
        let mut process = Process::start(&mut command);
        let deadline = Instant::now() + PATIENCE;
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(process.is_running() && Instant::now() < deadline, "pgbouncer does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { _process: process, _dir: dir, port }
    }

    /// Where to reach a database through it.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }
}
