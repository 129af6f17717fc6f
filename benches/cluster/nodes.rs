//! Three nodes on a PostgreSQL and a Redis of their own.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use servers::{Postgres, Redis};
use tempfile::TempDir;
use tokio::time::sleep;

use super::common::{Server, address, hotseat};
use super::http::{Http, With};

pub const NODES: usize = 3;
pub const SHARDS: u64 = 64;

/// The demo's stadium: 100,000 seats, and a shard of its own.
pub const CONCERT: u32 = 3;
pub const OPTION: u32 = 3;

/// As where sales matter: PostgreSQL flushes each commit.
const FLUSHING: &str = "fsync = on\nfull_page_writes = on\nshared_buffers = 512MB\nmax_wal_size = 4GB";

const SECRET: &str = "a secret of three nodes, long enough for HS256";

/// How long the cluster may take to be as it should.
const PATIENCE: Duration = Duration::from_secs(60);

const POLL: Duration = Duration::from_millis(5);

/// The servers, and the nodes' places, which outlive their processes.
pub struct Cluster {
    pub postgres: Postgres,
    url: String,
    redis: Redis,
    dir: TempDir,
    rebalance: &'static str,
    pub nodes: Vec<Node>,
}

pub struct Node {
    name: String,
    pub api: String,
    ops: String,
    peer: String,
    server: Option<Server>,
}

impl Cluster {
    /// All nodes are up. Who joins gets its share after `rebalance`: until then the first has every shard.
    pub async fn start(rebalance: &'static str) -> Self {
        let postgres = Postgres::start_with(FLUSHING);
        let node = |no| Node {
            name: format!("n{no}"),
            api: address(),
            ops: address(),
            peer: address(),
            server: None,
        };
        let mut cluster = Self {
            url: postgres.database(),
            postgres,
            redis: Redis::start(),
            dir: tempfile::tempdir().expect("a temporary directory"),
            rebalance,
            nodes: (0..NODES).map(node).collect(),
        };
        for no in 0..NODES {
            cluster.launch(no);
            cluster.until_ready(no).await;
        }
        cluster
    }

    fn data(&self, no: usize) -> PathBuf {
        self.dir.path().join(&self.nodes[no].name)
    }

    fn settings(&self, no: usize) -> Vec<(&'static str, String)> {
        let node = &self.nodes[no];
        let peers: Vec<&str> = self.nodes.iter().map(|node| node.peer.as_str()).collect();
        let of_user = |name, ours: &str| (name, std::env::var(name).unwrap_or_else(|_| ours.to_owned()));
        vec![
            ("HOTSEAT_LEDGER_URL", self.url.clone()),
            ("HOTSEAT_MIRROR_URL", self.redis.url()),
            ("HOTSEAT_AUTH_SECRET", SECRET.to_owned()),
            ("HOTSEAT_AUTH_DEV_TOKENS", "true".to_owned()),
            ("HOTSEAT_NODE_NAME", node.name.clone()),
            ("HOTSEAT_CLUSTER_LISTEN", node.peer.clone()),
            ("HOTSEAT_CLUSTER_PEERS", peers.join(" ")),
            ("HOTSEAT_CLUSTER_SHARDS", SHARDS.to_string()),
            ("HOTSEAT_REBALANCE_INTERVAL", self.rebalance.to_owned()),
            ("HOTSEAT_SALES_RESERVATIONS_PER_USER", "1000".to_owned()),
            // What the nodes say of each other's deaths is no news here.
            of_user("HOTSEAT_LOG_LEVEL", "off"),
        ]
    }

    pub fn launch(&mut self, no: usize) {
        let node = &self.nodes[no];
        let child = hotseat()
            .args(["serve", "--demo", "--listen", &node.api, "--ops-listen", &node.ops, "--data"])
            .arg(self.data(no))
            .envs(self.settings(no))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        self.nodes[no].server = Some(Server(child.expect("the server can be started")));
    }

    async fn until_ready(&self, no: usize) {
        let node = &self.nodes[no];
        until("a node is ready", async || {
            Http::to(&node.ops).get("/readyz").await.is_ok_and(|answer| answer.status == 200)
        })
        .await;
    }

    /// Starts a node again and waits until it is there; its share it gets later.
    pub async fn restart(&mut self, no: usize) {
        self.launch(no);
        self.until_ready(no).await;
    }

    /// Every shard has an owner, and every node its share.
    pub async fn until_even(&self) {
        until("the shards are spread evenly", async || {
            let mut serving = Vec::new();
            for node in &self.nodes {
                let Ok(answer) = Http::to(&node.ops).get("/readyz").await else { return false };
                serving.push(answer.json()["shards"]["serving"].as_u64().unwrap_or_default());
            }
            let share = SHARDS / NODES as u64;
            serving.iter().all(|shards| *shards >= share) && serving.iter().sum::<u64>() == SHARDS
        })
        .await;
    }

    /// The node that owns the stadium, as all nodes see it.
    pub async fn owner(&self) -> usize {
        let started = Instant::now();
        loop {
            let mut names = Vec::new();
            for node in &self.nodes {
                let path = format!("/api/v1/route?concertId={CONCERT}");
                let answer = Http::to(&node.api).get(&path).await;
                names.push(answer.map_or_else(|_| String::new(), |answer| text(&answer.json()["node"])));
            }
            let owner = self.nodes.iter().position(|node| node.name == names[0]);
            if let Some(owner) = owner.filter(|_| names.iter().all(|name| *name == names[0])) {
                return owner;
            }
            assert!(started.elapsed() < PATIENCE, "the nodes do not agree on an owner: {names:?}");
            sleep(POLL).await;
        }
    }

    /// Moves the stadium, and waits until that has ended.
    pub async fn move_stadium(&self, from: usize, to: usize) {
        let mut ops = Http::to(&self.nodes[from].ops);
        let run = std::fs::read(self.data(from).join("run.json")).expect("a running server wrote it");
        let run: serde_json::Value = serde_json::from_slice(&run).expect("JSON");
        let token = text(&run["token"]);
        let route = ops_route(&self.nodes[from].api).await;
        let body = format!("{{\"shard\":{route},\"to\":\"{}\"}}", self.nodes[to].name);
        let with = With { token: &token, body: &body, ..With::default() };
        let begun = ops.ask("POST", "/admin/v1/moves", with).await.expect("the owner answers");
        assert!(begun.status < 300, "{}", begun.json());
        let id = begun.json()["moveId"].clone();
        until("the move ends", async || {
            let with = With { token: &token, ..With::default() };
            let mut ops = Http::to(&self.nodes[from].ops);
            let list = ops.ask("GET", "/admin/v1/moves", with).await.expect("the owner answers").json();
            let list = list["items"].as_array().cloned().unwrap_or_default();
            let state = list.iter().find(|one| one["moveId"] == id).map(|one| text(&one["state"]));
            assert_ne!(state.as_deref(), Some("FAILED"), "{list:?}");
            state.as_deref() == Some("DONE")
        })
        .await;
    }

    fn pid(&self, no: usize) -> Pid {
        let pid = self.nodes[no].server.as_ref().expect("it runs").0.id();
        Pid::from_raw(i32::try_from(pid).expect("a pid"))
    }

    pub fn signal(&self, no: usize, signal: Signal) {
        kill(self.pid(no), signal).expect("it is our child");
    }

    /// `kill -9`. When that was.
    pub fn kill(&mut self, no: usize) -> Instant {
        let server = self.nodes[no].server.take().expect("it runs");
        let at = Instant::now();
        drop(server);
        at
    }

    /// SIGSTOP, until none of its threads runs any more. When that was.
    pub fn pause(&self, no: usize) -> Instant {
        let at = Instant::now();
        self.signal(no, Signal::SIGSTOP);
        let pid = self.pid(no);
        let stopped = waitpid(pid, Some(WaitPidFlag::WUNTRACED)).expect("it is our child");
        assert_eq!(stopped, WaitStatus::Stopped(pid, Signal::SIGSTOP));
        at
    }

    /// SIGTERM, until it has ended by itself.
    pub async fn stop(&mut self, no: usize) {
        self.signal(no, Signal::SIGTERM);
        let mut server = self.nodes[no].server.take().expect("it runs");
        let started = Instant::now();
        while server.0.try_wait().expect("our child").is_none() {
            assert!(started.elapsed() < PATIENCE, "a node does not end");
            sleep(POLL).await;
        }
    }

    /// Stops everything, and proves that what was sold is in order.
    pub async fn end(mut self) {
        for no in 0..NODES {
            self.stop(no).await;
        }
        let mut audit = hotseat();
        audit.arg("audit").arg("--data").arg(self.data(0)).envs(self.settings(0));
        let ran = audit.output().expect("the audit starts");
        let said = String::from_utf8_lossy(&ran.stdout).into_owned();
        assert!(ran.status.success() && said.contains("no differences"), "{said}");
    }
}

/// The shard of the stadium.
async fn ops_route(api: &str) -> u64 {
    let answer = Http::to(api).get(&format!("/api/v1/route?concertId={CONCERT}")).await;
    answer.expect("the owner answers").json()["shard"].as_u64().expect("a shard")
}

fn text(value: &serde_json::Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

pub async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    let started = Instant::now();
    while !is_so().await {
        assert!(started.elapsed() < PATIENCE, "not in {PATIENCE:?}: {what}");
        sleep(POLL).await;
    }
}
