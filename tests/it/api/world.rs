//! A whole server per test, on ports of its own, with a data directory that goes when the test ends.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actors::gates::GateOptions;
use actors::handle::Handle;
use actors::observe::Metrics;
use actors::ops::{Alone, Ops};
use actors::system::{LeaseSettings, Options, System};
use engine::{Settings, Span};
use hotseat::catalogue::directory::Directory;
use hotseat::catalogue::intake::Intake;
use hotseat::config::Gate;
use hotseat::http::auth::{Role, TokenKey, Tokens};
use hotseat::http::budget::Budget;
use hotseat::http::metrics::HttpMetrics;
use hotseat::http::proxies::Proxies;
use hotseat::http::{Edge, EdgeSettings, ops_site, public_site, serve};
use hotseat::ledger::sqlite::{Access, Durability, SqliteLedger, SqliteOptions};
use hotseat::mirror::local::LocalMirror;
use hotseat::pass::{PassKey, Passes};
use hotseat::ws::origin::Origins;
use hotseat::ws::{Sockets, WsSettings};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Method, Request};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const SECRET: &str = "the secret of the tests, long enough";
const SHARDS: u16 = 4;
const TICK: Duration = Duration::from_millis(10);
/// In cents.
const PRICE: i64 = 12_000;

type Http = hyper_util::client::legacy::Client<HttpConnector, Full<Bytes>>;

/// Two sections of five rows of ten seats, one price.
pub fn plan() -> Value {
    let rows: Vec<Value> =
        (1..=5).map(|row| json!({"label": row.to_string(), "from": 1, "to": 10})).collect();
    json!({"sections": [{"code": "A", "rows": rows}, {"code": "B", "rows": rows}]})
}

pub struct World {
    system: System,
    ledger: Arc<SqliteLedger>,
    tokens: Tokens,
    http: Http,
    public: String,
    ops: String,
    closing: CancellationToken,
    leaving: CancellationToken,
    sockets: Sockets,
    pub directory: Arc<Directory>,
    _data: TempDir,
}

impl World {
    pub async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    /// A server with one concert of one option, on sale.
    pub async fn start_with(adjust: impl FnOnce(&mut EdgeSettings)) -> Self {
        Self::start_among(adjust, |alone| Arc::new(alone)).await
    }

    /// The same in a cluster: what operators hear and may ask for is what `cluster` makes of a node alone.
    pub async fn start_among(
        adjust: impl FnOnce(&mut EdgeSettings),
        cluster: impl FnOnce(Alone) -> Arc<dyn Ops>,
    ) -> Self {
        let data = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ops_listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let public = format!("http://{}", listener.local_addr().unwrap());
        let ops = format!("http://{}", ops_listener.local_addr().unwrap());
        let ledger = open_ledger(data.path(), &public).await;
        let mut registry = Registry::with_prefix("hotseat");
        let metrics = HttpMetrics::register(&mut registry);
        let system = start_system(&ledger, &mut registry).await;
        let directory = Arc::new(Directory::new());
        let tokens = Tokens::new(&TokenKey::Secret(SECRET.to_owned()), None).unwrap();
        let (closing, leaving) = (CancellationToken::new(), CancellationToken::new());
        let mut settings = settings(&public);
        let sockets = Sockets::default();
        adjust(&mut settings);
        let intake = Arc::new(Intake::new(directory.clone(), ledger.clone(), system.handle()));
        tokio::spawn({
            let (intake, stop) = (intake.clone(), closing.clone());
            async move { intake.run(stop).await }
        });
        let alone = Alone {
            handle: system.handle(),
            ledger: ledger.clone(),
            node: settings.node.clone(),
            url: public.clone(),
        };
        let edge = Edge {
            handle: system.handle(),
            ops: cluster(alone),
            directory: directory.clone(),
            catalogue: ledger.clone(),
            intake,
            gate_ledger: ledger.clone(),
            ledger: ledger.clone(),
            tokens: tokens.clone(),
            passes: passes(),
            budget: Budget::new(&Gate::default().budgets()),
            settings,
            metrics,
            sockets: sockets.clone(),
            registry: Arc::new(registry),
            shutdown: leaving.clone(),
        };
        tokio::spawn(serve(listener, public_site(edge.clone()), closing.clone()));
        tokio::spawn(serve(ops_listener, ops_site(edge.clone()), closing.clone()));
        let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build_http();
        let world = Self {
            system,
            ledger,
            tokens,
            http,
            public,
            ops,
            closing,
            leaving,
            sockets,
            directory,
            _data: data,
        };
        world.import("First").await;
        world
    }

    /// Imports a concert with one option and waits until it is on sale.
    pub async fn import(&self, title: &str) -> u64 {
        let body = json!({"title": title, "startsAt": "2027-05-01T19:00:00+09:00", "currency": "EUR",
            "prices": {"Standard": PRICE}, "plan": plan()});
        let imported = self.admin().post("/admin/v1/imports", &body).await.expect(201);
        let option = imported.body["option"]["optionId"].as_u64().unwrap();
        self.until_on_sale(option).await;
        option
    }
}

impl World {
    pub fn client(&self) -> Client {
        Client { http: self.http.clone(), base: self.public.clone(), headers: Vec::new() }
    }

    pub fn ops_client(&self) -> Client {
        Client { base: self.ops.clone(), ..self.client() }
    }

    pub fn user(&self, user: u64) -> Client {
        self.with_token(user, Role::User)
    }

    pub fn payment(&self) -> Client {
        self.with_token(1_001, Role::Payment)
    }

    pub fn admin(&self) -> Client {
        self.with_token(1_002, Role::Admin)
    }

    pub fn ops(&self) -> Client {
        self.with_token(1_003, Role::Ops)
    }

    fn with_token(&self, user: u64, role: Role) -> Client {
        self.client().authorization(Some(&format!("Bearer {}", self.issue(user, role))))
    }

    fn issue(&self, user: u64, role: Role) -> String {
        self.tokens.issue(user, role, None, Duration::from_secs(600)).unwrap().0
    }

    /// What a server writes into its `run.json`.
    pub fn run_file(&self) -> Value {
        json!({"opsUrl": self.ops, "publicUrl": self.public, "token": self.issue(1, Role::Admin), "pid": 1})
    }

    /// A token of these claims, signed with the server's secret.
    pub fn signed(&self, claims: &Value) -> String {
        Self::signed_by(SECRET, claims)
    }

    pub fn signed_by(secret: &str, claims: &Value) -> String {
        let key = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
        jsonwebtoken::encode(&jsonwebtoken::Header::default(), claims, &key).unwrap()
    }

    /// What it writes to.
    pub fn ledger(&self) -> &Arc<SqliteLedger> {
        &self.ledger
    }

    /// The door to the shards, for drills.
    pub fn handle(&self) -> Handle {
        self.system.handle()
    }

    /// A metric's value, by its name and labels as they stand on the page.
    pub async fn metric(&self, name: &str) -> u64 {
        let page = self.ops_client().get("/metrics").await.expect(200).text();
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in\n{page}")).parse().unwrap()
    }

    /// Waits until a metric has a value.
    pub async fn until_metric(&self, name: &str, value: u64) {
        let give_up = Instant::now() + Duration::from_secs(60);
        while self.metric(name).await != value {
            assert!(Instant::now() < give_up, "{name} never was {value}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub fn public_url(&self) -> &str {
        &self.public
    }

    pub fn price(&self) -> i64 {
        PRICE
    }

    /// Every seat's state, in order.
    pub async fn seats(&self) -> Vec<String> {
        // A snapshot is at most a tick old; what a test did before must be in it.
        tokio::time::sleep(3 * TICK).await;
        let reply = self.client().get("/api/v1/options/1/seats").await.expect(200);
        let seats = reply.body["seats"].as_array().unwrap();
        seats.iter().map(|seat| seat["state"].as_str().unwrap().to_owned()).collect()
    }

    pub async fn states(&self, numbers: &[usize]) -> Vec<String> {
        let seats = self.seats().await;
        numbers.iter().map(|number| seats[*number].clone()).collect()
    }

    /// Waits until the public sees these states.
    pub async fn until_states(&self, wanted: &[(usize, &str)]) {
        let give_up = Instant::now() + Duration::from_secs(5);
        loop {
            let seats = self.seats().await;
            if wanted.iter().all(|(seat, state)| seats[*seat] == *state) {
                return;
            }
            assert!(Instant::now() < give_up, "{wanted:?} never came, but {seats:?}");
        }
    }

    pub async fn until_on_sale(&self, option: u64) {
        let give_up = Instant::now() + Duration::from_secs(20);
        let path = format!("/api/v1/options/{option}/seats");
        while self.client().get(&path).await.status != 200 {
            assert!(Instant::now() < give_up, "option {option} is not on sale");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let ready = Instant::now() + Duration::from_secs(20);
        loop {
            let reply = self.ops_client().get("/readyz").await;
            if reply.status == 200 {
                return;
            }
            assert!(Instant::now() < ready, "{}", reply.text());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// What SIGTERM does first.
    pub fn begin_shutdown(&self) {
        self.leaving.cancel();
    }

    /// Where it listens, as host and port.
    pub fn address(&self) -> &str {
        self.public.strip_prefix("http://").unwrap()
    }

    /// A user's token that lives for so long.
    pub fn token(&self, user: u64, ttl: Duration) -> String {
        self.tokens.issue(user, Role::User, None, ttl).unwrap().0
    }

    pub fn admin_token(&self, ttl: Duration) -> String {
        self.tokens.issue(1_002, Role::Admin, None, ttl).unwrap().0
    }

    pub fn shard_of(&self, option: u32) -> engine::ShardId {
        self.directory.shard_of(engine::OptionId(option)).unwrap()
    }

    /// Says goodbye to every socket.
    pub async fn end_sockets(&self) {
        self.sockets.end().await;
    }

    pub async fn stop(self) {
        self.closing.cancel();
        self.sockets.end().await;
        let report = self.system.shutdown(Duration::from_secs(5)).await;
        assert_eq!(report.unflushed, 0);
    }
}

/// As a server with this secret signs and checks them.
pub fn passes() -> Passes {
    Passes::new(&[PassKey::derived(SECRET.as_bytes())])
}

fn settings(public: &str) -> EdgeSettings {
    EdgeSettings {
        node: "test".to_owned(),
        public_url: public.to_owned(),
        confirm_role: Role::Payment,
        dev_tokens: false,
        click_timeout: Duration::from_secs(2),
        ledger_ack_timeout: Duration::from_secs(5),
        trusted_proxies: Proxies::default(),
        gate_grace: Duration::from_secs(60),
        keeps_lines: true,
        ws: WsSettings {
            origins: Origins::default(),
            send_buffer: 256 * 1024,
            stall_timeout: Duration::from_secs(15),
            max_watches: 16,
            messages_per_second: 1_000,
        },
    }
}

async fn open_ledger(dir: &Path, public: &str) -> Arc<SqliteLedger> {
    let options = SqliteOptions {
        dir: dir.to_owned(),
        shards: SHARDS,
        owner: 1,
        node: "test".to_owned(),
        public_url: public.to_owned(),
        peer_url: String::new(),
        lease_ttl: Span::from_secs(5),
        durability: Durability::Relaxed,
        access: Access::Own,
    };
    SqliteLedger::open(options).await.unwrap()
}

async fn start_system(ledger: &Arc<SqliteLedger>, registry: &mut Registry) -> System {
    let metrics = Metrics::default();
    metrics.register(registry);
    // Nothing of it is left where the process ends: the test has ended as well.
    let mirror = Arc::new(LocalMirror::new());
    let gates = GateOptions::new(ledger.clone(), mirror.clone(), || [7; 32]);
    let options = Options {
        gates: GateOptions { tick: TICK, ..gates },
        peers: Arc::new(actors::peers::Alone::default()),
        rebalance: actors::Rebalance::default(),
        ledger: ledger.clone(),
        mirror,
        shards: SHARDS,
        settings: Settings::default(),
        lease: LeaseSettings::default(),
        ledger_ack_timeout: Duration::from_secs(5),
        feed_tick: TICK,
        mirror_restore_timeout: Duration::from_millis(200),
        metrics,
    };
    System::start(options).await.unwrap()
}

/// Somebody who sends requests. Its setters make another one.
#[derive(Clone)]
pub struct Client {
    http: Http,
    base: String,
    headers: Vec<(String, String)>,
}

impl Client {
    pub fn header(&self, name: &str, value: &str) -> Self {
        let mut other = self.clone();
        other.headers.push((name.to_owned(), value.to_owned()));
        other
    }

    pub fn authorization(&self, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.header("Authorization", value),
            None => self.clone(),
        }
    }

    pub fn key(&self, key: &str) -> Self {
        self.header("Idempotency-Key", key)
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.raw("GET", path, None, b"").await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        self.raw("POST", path, Some("application/json"), body.to_string().as_bytes()).await
    }

    pub async fn post_empty(&self, path: &str) -> Reply {
        self.raw("POST", path, None, b"").await
    }

    pub async fn delete(&self, path: &str, body: Option<&Value>) -> Reply {
        match body {
            Some(body) => {
                self.raw("DELETE", path, Some("application/json"), body.to_string().as_bytes()).await
            }
            None => self.raw("DELETE", path, None, b"").await,
        }
    }

    /// Sends what it is given, and fails only where there is no answer.
    pub async fn raw(&self, method: &str, path: &str, content_type: Option<&str>, body: &[u8]) -> Reply {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        if let Some(content_type) = content_type {
            request = request.header("Content-Type", content_type);
        }
        let request = request.body(Full::new(Bytes::copy_from_slice(body))).unwrap();
        let (parts, body) = self.http.request(request).await.unwrap().into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Reply { status: parts.status.as_u16(), headers: parts.headers, bytes, body }
    }

    /// Selects seats, holds them, and says the reservation's id.
    pub async fn hold(&self, seats: &[u32]) -> String {
        self.post("/api/v1/options/1/selections", &json!({"seats": seats})).await.expect(201);
        let held = self
            .key(&format!("hold-{seats:?}").replace(' ', ""))
            .post("/api/v1/options/1/holds", &json!({"seats": seats}))
            .await
            .expect(201);
        held.body["reservationId"].as_str().unwrap().to_owned()
    }
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: hyper::HeaderMap,
    pub bytes: Bytes,
    /// Null where it is no JSON.
    pub body: Value,
}

impl Reply {
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }

    /// A header, empty where there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The problem's code, empty where it is no problem.
    pub fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// The reservations of a list.
    pub fn ids(&self) -> Vec<&str> {
        let items = self.body["items"].as_array().unwrap();
        items.iter().map(|one| one["reservationId"].as_str().unwrap()).collect()
    }
}
