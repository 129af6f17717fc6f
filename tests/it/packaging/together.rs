//! The processes of the containers on this machine: three nodes with the settings of `docker-compose.yml` and
//! certificates by its script, PostgreSQL and Redis, and nginx in front. Addresses are other ones, and nothing else.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::json;
use servers::{Nginx, Postgres, Redis, free_port};

use super::door::{Door, configuration};
use super::{NODES, ROOT, environment, services};
use crate::feed::viewer::{Events, Known};
use crate::support::server::post;
use crate::support::{Answer, Place, Ran, Server, hotseat, request, until};
use crate::ws::client::{Ws, select, watch};

const SEATS: &str = "/api/v1/options/1/seats";
const SELECTIONS: &str = "/api/v1/options/1/selections";
const HOLDS: &str = "/api/v1/options/1/holds";

/// A node's settings, and its process while it runs.
struct Node {
    place: Place,
    environment: BTreeMap<String, String>,
    server: Option<Server>,
}

/// All of it. Gone when dropped.
pub struct Together {
    nodes: Vec<Node>,
    /// Where clients come in, e.g. `http://127.0.0.1:40123`.
    pub door: String,
    nginx: Nginx,
    _redis: Redis,
    _certificates: tempfile::TempDir,
}

impl Together {
    /// Starts everything at once, as compose does, and puts a hall on sale.
    pub fn start() -> Self {
        let (url, redis, certificates) =
            (Postgres::shared().database(), Redis::start(), tempfile::tempdir().unwrap());
        // A certificate is for an address, so each has one of its own.
        let hosts = [2, 3, 4].map(|no| format!("127.0.0.{no}"));
        let peers: Vec<String> = hosts.iter().map(|host| format!("{host}:{}", free_port())).collect();
        let public: Vec<String> = hosts.iter().map(|host| format!("{host}:{}", free_port())).collect();
        let made = Command::new(format!("{ROOT}/scripts/certificates.sh"))
            .arg(certificates.path())
            .args(&hosts)
            .output();
        Ran::of(made.unwrap()).success();
        let mut nodes = Vec::new();
        for (no, node) in NODES.into_iter().enumerate() {
            let (place, mut environment) = (Place::new(), environment(node));
            let file = |name: &str| certificates.path().join(name).to_str().unwrap().to_owned();
            for (key, value) in [
                ("HOTSEAT_LEDGER_URL", url.clone()),
                ("HOTSEAT_MIRROR_URL", redis.url()),
                ("HOTSEAT_SERVER_LISTEN", public[no].clone()),
                ("HOTSEAT_NODE_PUBLIC_URL", format!("http://{}", public[no])),
                ("HOTSEAT_SERVER_OPS_LISTEN", "127.0.0.1:0".to_owned()),
                ("HOTSEAT_NODE_DATA", place.data.to_str().unwrap().to_owned()),
                ("HOTSEAT_CLUSTER_LISTEN", peers[no].clone()),
                ("HOTSEAT_CLUSTER_PEER_URL", peers[no].clone()),
                ("HOTSEAT_CLUSTER_PEERS", peers.join(" ")),
                ("HOTSEAT_CLUSTER_TLS_CA", file("ca.pem")),
                ("HOTSEAT_CLUSTER_TLS_CERT", file(&format!("{}.pem", hosts[no]))),
                ("HOTSEAT_CLUSTER_TLS_KEY", file(&format!("{}.key", hosts[no]))),
            ] {
                assert!(environment.insert(key.to_owned(), value).is_some(), "{key} is in no file");
            }
            nodes.push(Node { place, environment, server: None });
        }
        std::thread::scope(|scope| {
            for node in &mut nodes {
                scope.spawn(move || node.start());
            }
        });
        let (configuration, port) = configuration(&[&public[0], &public[1], &public[2]]);
        let nginx = Nginx::start(&configuration, port);
        let door = format!("http://127.0.0.1:{port}");
        let together = Self { nodes, door, nginx, _redis: redis, _certificates: certificates };
        together.import();
        together
    }

    fn import(&self) {
        let plan = self.nodes[0].place.file("hall.json", r#"{"sections":[{"code":"A","capacity":50}]}"#);
        self.exec(0, &["import", &plan, "--concert", "Hall", "--at", "2027-05-01T19:00:00Z"]);
        until(|| self.servers().all(|server| server.get(SEATS).status == 200));
    }

    /// `docker compose exec`.
    pub fn exec(&self, node: usize, args: &[&str]) -> String {
        Ran::of(hotseat().args(args).envs(&self.nodes[node].environment).output().unwrap()).success()
    }

    pub fn servers(&self) -> impl Iterator<Item = &Server> {
        self.nodes.iter().filter_map(|node| node.server.as_ref())
    }

    pub fn token(&self, user: u64) -> String {
        self.exec(0, &["token", "--role", "USER", "--user", &user.to_string()]).trim().to_owned()
    }

    pub fn get(&self, path: &str) -> Answer {
        request("GET", &format!("{}{path}", self.door), &[], None).unwrap()
    }

    /// Asks for a seat at the door.
    pub fn click(&self, path: &str, token: &str, seat: u32) -> Answer {
        let key = format!("key-{seat}");
        post(&self.door, path, token, &key, Some(&json!({ "seats": [seat] }))).unwrap()
    }

    /// The same until it is granted as wanted. Until all nodes know of a new owner, some say that nobody is there.
    fn insist(&self, path: &str, token: &str, seat: u32, is_wanted: impl Fn(&Answer) -> bool) {
        until(|| {
            let answer = self.click(path, token, seat);
            let granted = matches!(answer.status, 200 | 201) && is_wanted(&answer);
            assert!(granted || answer.code() == "OVERLOADED", "{answer:?}");
            granted
        });
    }

    fn kill(&mut self, name: &str) {
        let node = self.nodes.iter_mut().find(|node| node.environment["HOTSEAT_NODE_NAME"] == name);
        node.unwrap().server.take().unwrap().kill();
    }

    /// The address of the door.
    fn address(&self) -> &str {
        self.door.strip_prefix("http://").unwrap()
    }
}

impl Node {
    fn start(&mut self) {
        let environment: Vec<(&str, &str)> =
            self.environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        self.server = Some(Server::start_in(&self.place.data, &["serve"], &environment));
    }
}

/// Answers by a node whose metrics count them.
fn answered(server: &Server, route: &str) -> bool {
    let page = request("GET", &format!("{}/metrics", server.ops), &[], None).unwrap();
    let counted = format!("hotseat_http_requests_seconds_count{{route=\"{route}\"");
    String::from_utf8(page.body).unwrap().lines().any(|line| line.starts_with(&counted))
}

#[test]
fn the_containers_sell_through_nginx() {
    let mut together = Together::start();
    let buyers: Vec<String> = (0..9).map(|user| together.token(100 + user)).collect();
    for (seat, buyer) in (0..).zip(&buyers) {
        assert_eq!(together.click(SELECTIONS, buyer, seat).status, 201);
        assert_eq!(together.click(HOLDS, buyer, seat).status, 201);
    }
    for server in together.servers() {
        assert!(answered(server, "POST /api/v1/options/{optionId}/holds"), "a node was never asked");
    }
    let dev =
        request("POST", &format!("{}/api/v1/dev/token", together.door), &[], Some(&json!({"userId": 7})));
    assert_eq!(dev.unwrap().status, 404, "tokens for whoever asks");
    for path in ["/metrics", "/readyz", "/healthz"] {
        assert_eq!(together.get(path).status, 404, "{path} is for operators");
    }
    assert!(together.exec(1, &["audit"]).contains("no differences"));

    // The owner dies: the others go on, and nobody hears a word that is not hotseat's.
    let route = together.get("/api/v1/route?concertId=1").json();
    together.kill(route["node"].as_str().unwrap());
    for _ in 0..20 {
        let seen = together.get(SEATS);
        assert!(seen.status == 200 || seen.code() == "OVERLOADED", "{seen:?}");
    }
    together.insist(SELECTIONS, &buyers[0], 20, |_| true);
    for (seat, buyer) in (0..).zip(&buyers) {
        together.insist(HOLDS, buyer, seat, |answer| answer.has_header("idempotent-replay: true"));
    }
    let log = together.nginx.log();
    assert!(!log.contains("[emerg]") && !log.contains("[crit]"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_pass_through_nginx() {
    let together = tokio::task::spawn_blocking(Together::start).await.unwrap();
    let token = together.token(7);
    let mut events = Events::open(&together.door, "/api/v1/options/1/events", &[]).await;
    let mut known = Known::default();
    events.follow(&mut known).await;
    let (mut viewer, mut buyer) =
        (Ws::open(together.address()).await, Ws::with_token(together.address(), &token).await);
    viewer.ask("w", watch()).await;
    viewer.event("snapshot").await;
    for seat in [3, 4] {
        assert_eq!(buyer.ask("c", select(&[seat])).await["ev"], "ok");
        // One by one: nginx gathers nothing.
        events.follow_until(&mut known, seat as usize, 1).await;
        viewer.find(|message| message["set"] == json!([[seat, 1]])).await;
    }
    // A page of this door may open sockets, one from elsewhere may not.
    Ws::try_open(together.address(), &[("Origin", &together.door)]).await.unwrap();
    assert!(Ws::try_open(together.address(), &[("Origin", "https://evil.example.com")]).await.is_err());
    tokio::task::spawn_blocking(|| drop(together)).await.unwrap();
}

/// Nobody is there to answer: nginx says it as hotseat would.
#[test]
fn without_nodes_the_door_asks_for_patience() {
    let nowhere = NODES.map(|_| format!("127.0.0.1:{}", free_port()));
    let (configuration, port) = configuration(&[&nowhere[0], &nowhere[1], &nowhere[2]]);
    let _nginx = Nginx::start(&configuration, port);
    let api = format!("http://127.0.0.1:{port}");
    let answer = post(&api, SELECTIONS, "token", "-", Some(&json!({ "seats": [1] }))).unwrap();
    assert_eq!((answer.status, answer.code().as_str()), (503, "OVERLOADED"));
    assert!(
        answer.has_header("retry-after: 1") && answer.has_header("content-type: application/problem+json")
    );
    let id = answer.json()["requestId"].as_str().unwrap().to_owned();
    assert!(answer.has_header(&format!("x-request-id: {id}")), "{answer:?}");
    let known = hotseat::http::error::Problem::Unavailable(engine::Unavailable::Overloaded);
    let known: serde_json::Value = serde_json::from_slice(&known.body(&id)).unwrap();
    for key in ["type", "title", "status", "code"] {
        assert_eq!(answer.json()[key], known[key], "{key}");
    }
}

/// As its container's health check asks, on the same port.
#[test]
fn nginx_is_healthy_for_itself() {
    let check = services()["nginx"]["healthcheck"]["test"].to_string();
    assert!(check.contains(&format!("http://127.0.0.1:{}/", Door::HEALTH)), "{check}");
    let nowhere = format!("127.0.0.1:{}", free_port());
    let door = Door::open(&nowhere);
    until(|| {
        request("GET", &format!("{}/", door.health), &[], None).is_ok_and(|answer| answer.status == 204)
    });
}
