//! Nodes as processes, seen from the parent.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde_json::Value;

use super::child::{Config, FLAG, Order};

/// How long a test waits for what must come, on a machine that is busy with others.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A running node; killed when it is dropped.
pub struct Node {
    pub config: Config,
    child: Child,
    orders: ChildStdin,
    heard: Arc<(Mutex<Heard>, Condvar)>,
}

/// What a node has said so far.
#[derive(Default)]
struct Heard {
    lines: Vec<Value>,
    /// The last one with members.
    members: Value,
    log: String,
}

/// Ports that are free now.
pub fn ports<const N: usize>() -> [SocketAddr; N] {
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    listeners.map(|listener| listener.local_addr().expect("bound"))
}

/// A node of cluster 1 that dials `peers`.
pub fn config(node: &str, id: u64, listen: SocketAddr, peers: &[SocketAddr]) -> Config {
    let peers = peers.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    Config { node: node.to_owned(), id, listen, peers, cluster: 1, protocol: (1, 1), tls: None }
}

/// Nodes `a`, `b`, … with the ids 1, 2, …, each of which lists them all, itself too.
pub fn cluster<const N: usize>(tls: impl Fn(usize) -> Option<[PathBuf; 3]>) -> Vec<Node> {
    let ports = ports::<N>();
    let nodes =
        ["a", "b", "c"].iter().zip(1..).zip(ports).map(|((node, id), port)| config(node, id, port, &ports));
    nodes.enumerate().map(|(n, config)| Node::start(Config { tls: tls(n), ..config })).collect()
}

impl Node {
    pub fn start(config: Config) -> Self {
        let flag = format!("{FLAG}{}", serde_json::to_string(&config).expect("JSON"));
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .arg(flag)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("this program again");
        let heard = Arc::new((Mutex::new(Heard::default()), Condvar::new()));
        let note = {
            let heard = heard.clone();
            move |note: &dyn Fn(&mut Heard)| {
                note(&mut heard.0.lock().expect("no panic"));
                heard.1.notify_all();
            }
        };
        let (out, err) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
        let orders = child.stdin.take().expect("piped");
        let noted = note.clone();
        thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                let line: Value = serde_json::from_str(&line).expect("a child writes JSON");
                noted(&|heard| {
                    if line.get("members").is_some() {
                        heard.members = line.clone();
                    } else {
                        heard.lines.push(line.clone());
                    }
                });
            }
        });
        thread::spawn(move || {
            for line in BufReader::new(err).lines().map_while(Result::ok) {
                note(&|heard| heard.log += &format!("{line}\n"));
            }
        });
        let node = Self { config, child, orders, heard };
        node.until("listens or fails", |heard| !heard.lines.is_empty());
        node
    }

    #[track_caller]
    fn until(&self, what: &str, is_so: impl Fn(&Heard) -> bool) -> Duration {
        let started = Instant::now();
        let (heard, changed) = &*self.heard;
        let heard = heard.lock().expect("no panic");
        let (heard, waited) =
            changed.wait_timeout_while(heard, PATIENCE, |heard| !is_so(heard)).expect("no panic");
        let (name, members, log) = (&self.config.node, &heard.members, &heard.log);
        assert!(!waited.timed_out(), "{name}: not in {PATIENCE:?}: {what}\n{members}\n{log}");
        started.elapsed()
    }

    /// Waits until the node sees a peer so. How long that took.
    #[track_caller]
    pub fn sees(&self, peer: &str, state: &str) -> Duration {
        self.until(&format!("{peer} is {state}"), |heard| {
            states(heard, peer).iter().any(|seen| seen == state)
        })
    }

    /// Waits until something about a member is so.
    #[track_caller]
    pub fn sees_that(&self, peer: &str, is_so: impl Fn(&Value) -> bool) -> Duration {
        let of = |heard: &Heard| {
            members(heard).into_iter().filter(|member| member["node"] == peer).collect::<Vec<_>>()
        };
        self.until(&format!("something about {peer}"), |heard| of(heard).iter().any(&is_so))
    }

    pub fn states(&self, peer: &str) -> Vec<String> {
        states(&self.heard.0.lock().expect("no panic"), peer)
    }

    /// Waits until an address is unmet for a reason.
    #[track_caller]
    pub fn misses(&self, address: &str, why: &str) {
        self.until(&format!("{address}: {why}"), |heard| {
            let unmet = heard.members["unmet"].as_array().cloned().unwrap_or_default();
            unmet
                .iter()
                .any(|unmet| unmet[0] == address && unmet[1].as_str().is_some_and(|said| said.contains(why)))
        });
    }

    /// Waits for a line that has this key.
    #[track_caller]
    pub fn says(&self, key: &str) -> Value {
        self.until(key, |heard| heard.lines.iter().any(|line| line.get(key).is_some()));
        let heard = self.heard.0.lock().expect("no panic");
        let said = heard.lines.iter().rev().find_map(|line| line.get(key).cloned());
        said.expect("it was just there")
    }

    /// Waits until the log has this in it as often. There may be no more of it.
    #[track_caller]
    pub fn logs(&self, text: &str, times: usize) {
        self.until(text, |heard| heard.log.matches(text).count() >= times);
        let count = self.heard.0.lock().expect("no panic").log.matches(text).count();
        assert_eq!(count, times, "{text}");
    }

    pub fn order(&mut self, order: &Order) {
        let line = serde_json::to_string(order).expect("JSON");
        writeln!(self.orders, "{line}").expect("the node reads");
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("it is our child");
    }

    /// Returns when none of its threads runs any more.
    pub fn pause(&self) {
        self.signal(Signal::SIGSTOP);
        let stopped = waitpid(self.pid(), Some(WaitPidFlag::WUNTRACED)).expect("it is our child");
        assert_eq!(stopped, WaitStatus::Stopped(self.pid(), Signal::SIGSTOP));
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a pid"))
    }

    /// Waits for the process to end by itself.
    pub fn wait(&mut self) {
        let ended = self.child.wait().expect("our child");
        assert!(ended.success(), "{ended}");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended already, by itself or by the test's hand.
        if self.child.kill().is_ok() {
            self.child.wait().expect("our child");
        }
    }
}

fn members(heard: &Heard) -> Vec<Value> {
    heard.members["members"].as_array().cloned().unwrap_or_default()
}

fn states(heard: &Heard, peer: &str) -> Vec<String> {
    let members = members(heard).into_iter().filter(|member| member["node"] == peer);
    members.filter_map(|member| Some(member["state"].as_str()?.to_owned())).collect()
}
