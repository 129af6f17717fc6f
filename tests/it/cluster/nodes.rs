//! Three nodes on a PostgreSQL of their own, as many shards, and a concert in each.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use servers::{Postgres, Proxy};

use crate::support::crowd::{Crowd, SEATS, Visit};
use crate::support::{Answer, Place, Ran, Server, hotseat, request, until};

const NODES: u16 = 3;

/// Nobody is turned away for longer, once a fault is over or somebody has died: leases are shorter, and so are the
/// pauses after which a peer is dialled again, also on a machine that is busy with others.
const SOON: Duration = Duration::from_secs(20);

/// Leases that run out within a test, clients that are told soon, buyers who may buy on, and one secret.
const QUICK: [(&str, &str); 9] = [
    ("HOTSEAT_CLUSTER_SHARDS", "3"),
    ("HOTSEAT_CLUSTER_LEASE_TTL", "3s"),
    ("HOTSEAT_CLUSTER_LEASE_RENEW", "1s"),
    ("HOTSEAT_CLUSTER_LEASE_MARGIN", "500ms"),
    ("HOTSEAT_REBALANCE_INTERVAL", "1s"),
    ("HOTSEAT_LEDGER_ACK_TIMEOUT", "500ms"),
    ("HOTSEAT_EDGE_CLICK_TIMEOUT", "1s"),
    ("HOTSEAT_SALES_RESERVATIONS_PER_USER", "100000"),
    ("HOTSEAT_AUTH_SECRET", "a secret of three nodes, long enough for HS256"),
];

/// The nodes' surroundings, which outlive their processes.
pub struct Cluster {
    pub postgres: Postgres,
    database: String,
    nodes: Vec<Node>,
}

/// A node's place and addresses.
pub struct Node {
    name: String,
    place: Place,
    /// Where it listens for clients, operators and peers.
    listens: [String; 3],
    /// What the others dial instead.
    pub proxy: Option<Proxy>,
    environment: Vec<(String, String)>,
}

/// Nobody listens there. Not among those that the system gives to whoever connects to something.
pub fn free_address() -> String {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % 10_000).unwrap();
    loop {
        let port = 20_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000;
        let address = format!("127.0.0.1:{port}");
        if std::net::TcpListener::bind(&address).is_ok() {
            return address;
        }
    }
}

impl Cluster {
    /// With settings beside [`QUICK`], or in their stead.
    pub fn new(further: &[(&str, &str)]) -> Self {
        Self::with(further, |_| None)
    }

    /// The nodes reach each other through a proxy before each.
    pub fn behind_proxies(further: &[(&str, &str)]) -> Self {
        let proxy = |peer: &str| Proxy::start(peer.rsplit_once(':').unwrap().1.parse().unwrap());
        Self::with(further, |peer| Some(proxy(peer)))
    }

    fn with(further: &[(&str, &str)], proxy: impl Fn(&str) -> Option<Proxy>) -> Self {
        let postgres = Postgres::start();
        let url = postgres.database();
        let node = |no| {
            let listens = [(); 3].map(|()| free_address());
            let proxy = proxy(&listens[2]);
            Node { name: format!("n{no}"), place: Place::new(), listens, proxy, environment: Vec::new() }
        };
        let mut nodes: Vec<Node> = (1..=NODES).map(node).collect();
        let peers: Vec<String> = nodes.iter().map(Node::dialled).collect();
        let shared = [("HOTSEAT_LEDGER_URL", url.as_str()), ("HOTSEAT_CLUSTER_PEERS", &peers.join(" "))];
        for node in &mut nodes {
            let own = [
                ("HOTSEAT_NODE_NAME", node.name.clone()),
                ("HOTSEAT_CLUSTER_LISTEN", node.listens[2].clone()),
                ("HOTSEAT_CLUSTER_PEER_URL", node.dialled()),
            ];
            // The last of a name counts.
            let all = QUICK.iter().chain(&shared).chain(further);
            let all = all.map(|(name, value)| (*name, (*value).to_owned())).chain(own);
            node.environment = all.map(|(name, value)| (name.to_owned(), value)).collect();
        }
        let database = url.rsplit_once('/').unwrap().1.to_owned();
        let cluster = Self { postgres, database, nodes };
        cluster.import();
        cluster
    }

    /// A concert in each shard, all alike.
    fn import(&self) {
        let node = &self.nodes[0];
        let plan = json!({"sections": [{"code": "A", "capacity": SEATS}]});
        let plan = node.place.file("hall.json", &plan.to_string());
        for concert in 1..=NODES {
            let (title, at) = (format!("Concert {concert}"), "2027-05-01T19:00:00Z");
            let args = ["import", &plan, "--concert", &title, "--at", at, "--own-shard"];
            let said = self.run(0, &args).success();
            assert!(said.starts_with(&format!("concert {concert}, option {concert}:")), "{said}");
        }
    }

    /// A further setting of one node.
    pub fn set(&mut self, no: usize, name: &str, value: &str) {
        self.nodes[no].environment.push((name.to_owned(), value.to_owned()));
    }

    /// A command on the data directory of a node.
    pub fn run(&self, no: usize, args: &[&str]) -> Ran {
        self.run_as(no, &self.nodes[no].place, args)
    }

    /// A command with the settings of a node, elsewhere.
    pub fn run_as(&self, no: usize, place: &Place, args: &[&str]) -> Ran {
        let mut command = hotseat();
        command.args(args).arg("--data").arg(&place.data).envs(self.nodes[no].environment.iter().cloned());
        Ran::of(command.output().unwrap())
    }

    /// Starts a node, and waits until it listens.
    fn start_unready(&self, no: usize) -> Server {
        let Node { place, listens, environment, .. } = &self.nodes[no];
        let [api, ops, _] = listens;
        let data = place.data.to_str().unwrap();
        let args = ["serve", "--listen", api, "--ops-listen", ops, "--data", data];
        let environment: Vec<(&str, &str)> =
            environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        Server::listening(&place.data, &args, &environment)
    }

    /// Starts a node, and waits until it is ready.
    pub fn start(&self, no: usize) -> Server {
        let mut server = self.start_unready(no);
        server.until(Server::is_ready);
        server
    }

    /// Starts all nodes, and spreads the shards until each has one.
    pub fn start_all(&self) -> Vec<Server> {
        let servers: Vec<Server> = (0..self.nodes.len()).map(|no| self.start_unready(no)).collect();
        until(|| {
            let even = is_even(&servers);
            if !even {
                // Refused while some of it is under way.
                servers.iter().for_each(|server| drop(server.operate("POST", "rebalance", Some(&json!({})))));
                std::thread::sleep(Duration::from_millis(200));
            }
            even
        });
        servers
    }

    /// Starts all nodes and lets a crowd come, who want everything everywhere.
    pub fn open(&self) -> (Vec<Server>, Crowd) {
        // Longer than a hold waits for the ledger.
        self.open_for(Duration::from_secs(2))
    }

    /// The same for a crowd of another patience.
    pub fn open_for(&self, patience: Duration) -> (Vec<Server>, Crowd) {
        let servers = self.start_all();
        let crowd = Crowd::come(Visit {
            apis: apis(&servers),
            options: (1..=u32::from(NODES)).collect(),
            token: &|user, role| self.token(user, role, &[]),
            patience,
            // Three servers and their clients share the machine with another test.
            pause: Duration::from_millis(20),
        });
        crowd.until_held(50);
        (servers, crowd)
    }

    pub fn token(&self, user: u64, role: &str, args: &[&str]) -> String {
        let user = user.to_string();
        let all = [&["token", "--role", role, "--user", &user], args].concat();
        self.run(0, &all).success().trim().to_owned()
    }

    /// What was sold is in order, seen from any node.
    #[track_caller]
    pub fn audit(&self, no: usize) {
        let said = self.run(no, &["audit"]).success();
        assert!(said.contains("no differences"), "{said}");
    }

    /// Lets the crowd go, ends all nodes, and looks at everything: what was acknowledged is in the ledger with its seats and
    /// its user, no seat is there twice, and no owner wrote anything after its successor.
    #[track_caller]
    pub fn close(&self, servers: Vec<Server>, crowd: Crowd) -> usize {
        crowd.until_held(50);
        let left = crowd.leave();
        servers.into_iter().for_each(Server::stop);
        self.audit(0);
        let sold = self.sold();
        for hold in &left.held {
            let status = if hold.confirmed { 3 } else { 1 };
            let [first, second] = hold.seats;
            let expected = format!("{}|{}|{status}|{first},{second}", hold.user, hold.option);
            assert_eq!(sold.get(&hold.id), Some(&expected), "{hold:?}");
        }
        let late = self.sql(
            "SELECT e.* FROM (SELECT shard, event_seq, epoch, lag(epoch) OVER (PARTITION BY shard ORDER BY event_seq) \
             AS before FROM reservation_events) e WHERE e.before > e.epoch",
        );
        assert_eq!(late, "", "an owner wrote after its successor had");
        left.snapshots
    }

    /// By reservation: whose it is, and which seats of which option.
    fn sold(&self) -> BTreeMap<String, String> {
        let rows = self.sql(
            "SELECT r.reservation_id, r.user_id, r.option_id, r.status, \
             (SELECT string_agg(s.seat_no::text, ',' ORDER BY s.seat_no) FROM reservation_seats s \
             WHERE s.reservation_id = r.reservation_id AND s.active) FROM reservations r",
        );
        let row = |row: &str| row.split_once('|').map(|(id, rest)| (id.to_owned(), rest.to_owned()));
        rows.lines().filter_map(row).collect()
    }

    pub fn sql(&self, sql: &str) -> String {
        self.postgres.sql(&self.database, sql)
    }

    /// Every lease: shard, epoch and node.
    pub fn leases(&self) -> String {
        self.sql("SELECT shard, epoch, node FROM shard_lease ORDER BY shard")
    }

    /// The number of the node that has the concert's shard, as a server sees it; `None` while nobody has.
    pub fn owner(&self, server: &Server, concert: u32) -> Option<usize> {
        let route = server.get(&format!("/api/v1/route?concertId={concert}")).json();
        self.nodes.iter().position(|node| route["node"] == node.name.as_str())
    }

    /// The number of the node that has the concert's shard, once a server knows it, other than that one.
    #[track_caller]
    pub fn other_owner(&self, server: &Server, concert: u32, than: usize) -> usize {
        until(|| self.owner(server, concert).is_some_and(|owner| owner != than));
        self.owner(server, concert).expect("it had one")
    }

    /// As in `cluster.peers`.
    pub fn peers(&self) -> String {
        self.nodes.iter().map(Node::dialled).collect::<Vec<_>>().join(" ")
    }

    pub fn node(&self, no: usize) -> &Node {
        &self.nodes[no]
    }

    /// Has its owner move the shard of a concert.
    pub fn move_to(&self, owner: &Server, concert: u32, to: &str) -> Answer {
        let route = owner.get(&format!("/api/v1/route?concertId={concert}")).json();
        owner.operate("POST", "moves", Some(&json!({ "shard": route["shard"], "to": to })))
    }

    /// Waits until each of these sells every concert, whoever has it.
    #[track_caller]
    pub fn until_sold_everywhere<'a>(&self, servers: impl IntoIterator<Item = &'a Server>) {
        let began = Instant::now();
        let token = self.token(1_001, "USER", &[]);
        let body = json!({ "seats": [SEATS - 1] });
        for server in servers {
            for option in 1..=NODES {
                let path = format!("/api/v1/options/{option}/selections");
                let click = || server.post(&path, &token, "-", Some(&body)).unwrap();
                until(|| {
                    let clicked = click();
                    assert!(began.elapsed() < SOON, "option {option} at {}: {clicked:?}", server.api);
                    clicked.status < 202
                });
            }
        }
    }
}

impl Node {
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn place(&self) -> &Place {
        &self.place
    }

    /// What the others dial.
    fn dialled(&self) -> String {
        self.proxy
            .as_ref()
            .map_or_else(|| self.listens[2].clone(), |proxy| format!("127.0.0.1:{}", proxy.port()))
    }
}

pub fn apis(servers: &[Server]) -> Vec<String> {
    servers.iter().map(|server| server.api.clone()).collect()
}

/// How many shards a node serves.
pub fn shards(server: &Server) -> u64 {
    let answer = request("GET", &format!("{}/readyz", server.ops), &[], None).unwrap();
    answer.json()["shards"]["serving"].as_u64().unwrap()
}

/// Waits until each node has a shard, and knows who has the others.
#[track_caller]
pub fn until_even(servers: &[Server]) {
    until(|| is_even(servers));
}

fn is_even(servers: &[Server]) -> bool {
    servers.iter().all(|server| shards(server) == 1 && server.is_ready())
}
