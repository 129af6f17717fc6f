//! Three nodes on one PostgreSQL: each takes every request, and a death costs nobody what was acknowledged.

use std::net::TcpListener;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::json;
use servers::Postgres;

use crate::support::server::post;
use crate::support::{Place, Ran, Server, hotseat, request, until};

const SECRET: &str = "a secret of three nodes, long enough for HS256";

/// A node's place and ports, which outlive its process.
struct Node {
    name: String,
    place: Place,
    peer: String,
}

struct Cluster {
    url: String,
    nodes: Vec<Node>,
}

/// Nobody listens there, and nobody is given it by chance in a moment.
fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

impl Cluster {
    fn new() -> Self {
        let nodes =
            (1..=3).map(|no| Node { name: format!("n{no}"), place: Place::new(), peer: free_address() });
        Self { url: Postgres::shared().database(), nodes: nodes.collect() }
    }

    fn start(&self, no: usize, args: &[&str]) -> Server {
        let node = &self.nodes[no];
        let peers: Vec<&str> = self.nodes.iter().map(|node| node.peer.as_str()).collect();
        let peers = peers.join(" ");
        let environment = [
            ("HOTSEAT_LEDGER_URL", self.url.as_str()),
            ("HOTSEAT_AUTH_SECRET", SECRET),
            ("HOTSEAT_NODE_NAME", node.name.as_str()),
            ("HOTSEAT_CLUSTER_LISTEN", node.peer.as_str()),
            ("HOTSEAT_CLUSTER_PEERS", peers.as_str()),
            ("HOTSEAT_CLUSTER_SHARDS", "8"),
            ("HOTSEAT_REBALANCE_INTERVAL", "1s"),
        ];
        Server::start_with(&node.place.data, args, &environment)
    }

    /// What was sold is in order; no server runs any more.
    fn audit(&self) {
        let mut audit = hotseat();
        audit.args(["audit", "--data"]).arg(&self.nodes[0].place.data);
        audit.env("HOTSEAT_LEDGER_URL", &self.url).env("HOTSEAT_CLUSTER_SHARDS", "8");
        let said = Ran::of(audit.output().unwrap()).success();
        assert!(said.contains("no differences"), "{said}");
    }
}

fn token(user: u64) -> String {
    let mut command = hotseat();
    let user = user.to_string();
    command.args(["token", "--role", "USER", "--user", &user]).env("HOTSEAT_AUTH_SECRET", SECRET);
    Ran::of(command.output().unwrap()).success().trim().to_owned()
}

/// How many shards a node serves.
fn shards(server: &Server) -> u64 {
    let answer = request("GET", &format!("{}/readyz", server.ops), &[], None).unwrap();
    answer.json()["shards"]["serving"].as_u64().unwrap()
}

/// The name of the node that owns the first concert.
fn owner(server: &Server) -> String {
    let answer = server.get("/api/v1/route?concertId=1");
    answer.json()["node"].as_str().unwrap_or_default().to_owned()
}

fn select(server: &Server, token: &str, seat: u32) -> u16 {
    let body = json!({ "seats": [seat] });
    server.post("/api/v1/options/1/selections", token, "-", Some(&body)).unwrap().status
}

/// Buyers go on through a death, a return and a farewell; the audit finds nothing.
#[test]
fn three_nodes_sell_as_one_and_survive_each_other() {
    let cluster = Cluster::new();
    let first = cluster.start(0, &["--demo"]);
    let mut servers = vec![Some(first), Some(cluster.start(1, &[])), Some(cluster.start(2, &[]))];
    let up = |servers: &[Option<Server>]| servers.iter().flatten().map(shards).collect::<Vec<_>>();
    until(|| up(&servers).iter().all(|shards| (2..=3).contains(shards)));
    assert_eq!(up(&servers).iter().sum::<u64>(), 8, "each shard has one owner");

    // Whoever is asked, the answer is the owner's.
    let (token, stranger) = (token(7), token(8));
    let mut held = Vec::new();
    for (seat, server) in (0..).zip(servers.iter().flatten()) {
        let answer = server.hold(1, &[seat], &token, &format!("key-{seat}"));
        assert_eq!(answer.status, 201, "{}", answer.json());
        held.push(answer.json()["reservationId"].as_str().unwrap().to_owned());
        assert_eq!(select(server, &stranger, seat), 409);
    }
    // And everybody sees it.
    for server in servers.iter().flatten() {
        until(|| server.get("/api/v1/options/1/seats").json()["counts"]["hold"] == 3);
    }

    // The owner is killed: nobody waits for its lease.
    let name = owner(servers[0].as_ref().unwrap());
    let victim = cluster.nodes.iter().position(|node| node.name == name).unwrap();
    let killed = Instant::now();
    servers[victim].take().unwrap().kill();
    let survivor = servers.iter().flatten().next().unwrap();
    let other = self::token(9);
    until(|| select(survivor, &other, 20) == 201);
    let outage = killed.elapsed();
    assert!(outage < Duration::from_secs(5), "a lease would have lasted as long: {outage:?}");
    for (seat, id) in (0..).zip(&held) {
        let again = survivor.post(
            "/api/v1/options/1/holds",
            &token,
            &format!("key-{seat}"),
            Some(&json!({ "seats": [seat] })),
        );
        assert_eq!(again.unwrap().json()["reservationId"], id.as_str(), "what was acknowledged is there");
    }

    // It comes back and gets its share.
    servers[victim] = Some(cluster.start(victim, &[]));
    until(|| up(&servers).iter().all(|shards| (2..=3).contains(shards)));

    // The next owner says farewell while buyers go on: not one of them is turned away.
    let name = owner(servers[victim].as_ref().unwrap());
    let leaving = cluster.nodes.iter().position(|node| node.name == name).unwrap();
    let buyers = clicking(servers[(leaving + 1) % 3].as_ref().unwrap(), other);
    std::thread::sleep(Duration::from_millis(500));
    servers[leaving].take().unwrap().stop();
    assert!(buyers.join().unwrap() > 20);
    until(|| up(&servers).iter().sum::<u64>() == 8);
    for server in servers.into_iter().flatten() {
        server.stop();
    }
    cluster.audit();
}

/// Somebody listens at one of its ports, so that not all of the evidence is there: its leases have to run out.
#[test]
fn a_dead_node_with_an_open_door_is_waited_for() {
    let cluster = Cluster::new();
    let mut servers = vec![Some(cluster.start(0, &["--demo"])), Some(cluster.start(1, &[]))];
    let up = |servers: &[Option<Server>]| servers.iter().flatten().map(shards).collect::<Vec<_>>();
    until(|| up(&servers) == [4, 4]);
    let name = owner(servers[0].as_ref().unwrap());
    let victim = cluster.nodes.iter().position(|node| node.name == name).unwrap();
    let dead = servers[victim].take().unwrap();
    let ops = dead.ops.strip_prefix("http://").unwrap().to_owned();
    dead.kill();
    let killed = Instant::now();
    let door = TcpListener::bind(ops).unwrap();
    let survivor = servers.into_iter().flatten().next().unwrap();
    let token = token(7);
    until(|| select(&survivor, &token, 20) == 201);
    let outage = killed.elapsed();
    assert!(outage > Duration::from_secs(2), "its leases had more than 3 s left: {outage:?}");
    drop(door);
    survivor.stop();
    cluster.audit();
}

/// Somebody who keeps a seat by clicking again and again for a while, and is never turned away. How often.
fn clicking(server: &Server, token: String) -> JoinHandle<u32> {
    let api = server.api.clone();
    std::thread::spawn(move || {
        let begun = Instant::now();
        let mut clicks = 0;
        while begun.elapsed() < Duration::from_secs(4) {
            let path = "/api/v1/options/1/selections";
            let status = post(&api, path, &token, "-", Some(&json!({ "seats": [21] }))).unwrap().status;
            assert!(matches!(status, 200 | 201), "{status} after {clicks} clicks");
            clicks += 1;
        }
        clicks
    })
}
