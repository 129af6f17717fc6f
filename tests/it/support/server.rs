//! A running server.

use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::http::request_within;
use super::{Answer, hotseat, request, run_on};

const PATIENCE: Duration = Duration::from_secs(60);

/// Lines of its log that a failed test shows.
const LAST: usize = 40;

/// Killed when dropped.
pub struct Server {
    child: Child,
    pub data: PathBuf,
    /// The API, e.g. `http://127.0.0.1:40123`.
    pub api: String,
    /// Health and administration.
    pub ops: String,
    /// Of its `run.json`.
    pub admin: String,
    log: PathBuf,
    out: PathBuf,
}

impl Server {
    /// Starts and waits until it is ready.
    pub fn start(data: &Path, args: &[&str]) -> Self {
        Self::start_with(data, args, &[])
    }

    /// Starts with an environment and waits until it is ready.
    pub fn start_with(data: &Path, args: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut server = Self::start_unready(data, args, environment);
        server.wait(|server| server.is_ready());
        server
    }

    /// Starts with an environment and waits until it listens.
    pub fn start_unready(data: &Path, args: &[&str], environment: &[(&str, &str)]) -> Self {
        let on = data.to_str().unwrap();
        let serve = ["serve", "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--data", on];
        Self::listening(data, &[&serve, args].concat(), environment)
    }

    /// Starts with an environment that says where the data is, and these arguments alone, and waits until it is ready.
    pub fn start_in(data: &Path, args: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut server = Self::listening(data, args, environment);
        server.wait(|server| server.is_ready());
        server
    }

    /// Starts with an environment and these arguments alone, and waits until it listens.
    pub fn listening(data: &Path, args: &[&str], environment: &[(&str, &str)]) -> Self {
        let log = data.with_extension("log");
        let out = data.with_extension("out");
        let append = |path| std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        let _ = std::fs::remove_file(data.join("run.json"));
        let child = hotseat()
            .args(args)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(append(&out))
            .stderr(append(&log))
            .spawn()
            .unwrap();
        let mut server = Self {
            child,
            data: data.to_owned(),
            api: String::new(),
            ops: String::new(),
            admin: String::new(),
            log,
            out,
        };
        server.wait(Self::find);
        server
    }

    fn find(&mut self) -> bool {
        let Ok(text) = std::fs::read(self.data.join("run.json")) else { return false };
        let run: Value = serde_json::from_slice(&text).unwrap();
        let text = |key: &str| run[key].as_str().unwrap().to_owned();
        (self.api, self.ops, self.admin) = (text("publicUrl"), text("opsUrl"), text("token"));
        assert_eq!(run["pid"], self.child.id());
        true
    }

    pub fn is_ready(&self) -> bool {
        request("GET", &format!("{}/readyz", self.ops), &[], None).is_ok_and(|answer| answer.status == 200)
    }

    /// Waits until something holds.
    #[track_caller]
    pub fn until(&mut self, done: impl Fn(&Self) -> bool) {
        self.wait(|server| done(server));
    }

    #[track_caller]
    fn wait(&mut self, mut done: impl FnMut(&mut Self) -> bool) {
        let started = Instant::now();
        while !done(self) {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the server ended with {status}:\n{}", self.log());
            }
            assert!(started.elapsed() < PATIENCE, "the server is not ready:\n{}", self.log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it said on standard error, since the first start on this directory.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Waits until standard output has this, and returns all of it.
    pub fn printed(&mut self, part: &str) -> String {
        let read = |server: &Self| std::fs::read_to_string(&server.out).unwrap();
        self.wait(|server| read(server).contains(part));
        read(self)
    }

    /// A signal by its name: `TERM`, `INT`, `KILL`.
    pub fn signal(&self, name: &str) {
        let status = std::process::Command::new("kill")
            .args([&format!("-{name}"), &self.child.id().to_string()])
            .status();
        assert!(status.unwrap().success());
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for its end.
    pub fn ended(&mut self, within: Duration) -> ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(started.elapsed() < within, "the server still runs:\n{}", self.log());
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends it well.
    pub fn stop(mut self) {
        self.signal("TERM");
        let status = self.ended(Duration::from_secs(15));
        assert_eq!(status.code(), Some(0), "{}", self.log());
    }

    /// Ends it as a power cut would, but for the disk.
    pub fn kill(mut self) {
        self.die();
    }

    /// The same of one whose place stays.
    pub fn die(&mut self) {
        self.signal("KILL");
        self.ended(Duration::from_secs(15));
    }

    /// A buyer's token.
    pub fn token(&self, user: u64) -> String {
        let user = user.to_string();
        run_on(&self.data, &["token", "--role", "USER", "--user", &user]).success().trim().to_owned()
    }

    /// A metric's value.
    pub fn metric(&self, name: &str) -> f64 {
        let page = request("GET", &format!("{}/metrics", self.ops), &[], None).unwrap();
        let page = String::from_utf8(page.body).unwrap();
        let line = page.lines().find_map(|line| line.strip_prefix(&format!("hotseat_{name} ")));
        line.unwrap_or_else(|| panic!("no {name} in\n{page}")).parse().unwrap()
    }

    /// The warnings of a server that is ready.
    #[track_caller]
    pub fn warnings(&self) -> String {
        let ready = request("GET", &format!("{}/readyz", self.ops), &[], None).unwrap();
        assert_eq!(ready.status, 200, "{ready:?}");
        ready.json()["warnings"].to_string().trim_matches(['[', ']']).to_owned()
    }

    /// What operators are told of all of a kind, such as "shards".
    #[track_caller]
    pub fn list(&self, what: &str) -> Vec<Value> {
        let answer = self.operate("GET", what, None);
        assert_eq!(answer.status, 200, "{what}: {answer:?}");
        answer.json()["items"].as_array().unwrap().clone()
    }

    /// Asks the admin API, as its operator.
    #[track_caller]
    pub fn operate(&self, method: &str, what: &str, body: Option<&Value>) -> Answer {
        let bearer = format!("Bearer {}", self.admin);
        let url = format!("{}/admin/v1/{what}", self.ops);
        request(method, &url, &[("Authorization", &bearer)], body).unwrap()
    }

    pub fn get(&self, path: &str) -> Answer {
        request("GET", &format!("{}{path}", self.api), &[], None).unwrap()
    }

    pub fn post(&self, path: &str, token: &str, key: &str, body: Option<&Value>) -> std::io::Result<Answer> {
        post(&self.api, path, token, key, body)
    }

    /// Selects and holds seats of an option.
    pub fn hold(&self, option: u32, seats: &[u32], token: &str, key: &str) -> Answer {
        let body = json!({ "seats": seats });
        let selected = self.post(&format!("/api/v1/options/{option}/selections"), token, "-", Some(&body));
        assert_eq!(selected.unwrap().status, 201);
        self.post(&format!("/api/v1/options/{option}/holds"), token, key, Some(&body)).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = self.log();
            let from = log.len()
                - log.lines().rev().take(LAST).map(|line| line.len() + 1).sum::<usize>().min(log.len());
            eprintln!("the last that {} said:\n{}", self.data.display(), &log[from..]);
        }
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A request that changes something.
///
/// # Errors
/// As [`request`].
pub fn post(api: &str, path: &str, token: &str, key: &str, body: Option<&Value>) -> std::io::Result<Answer> {
    post_within(Duration::from_secs(30), api, path, token, key, body)
}

/// The same by somebody who waits so long.
///
/// # Errors
/// As [`request_within`].
pub fn post_within(
    patience: Duration,
    api: &str,
    path: &str,
    token: &str,
    key: &str,
    body: Option<&Value>,
) -> std::io::Result<Answer> {
    let bearer = format!("Bearer {token}");
    let headers = [("Authorization", bearer.as_str()), ("Idempotency-Key", key)];
    request_within(patience, "POST", &format!("{api}{path}"), &headers, body)
}
