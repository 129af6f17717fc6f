//! Joins at a gate over HTTP against a bare axum handler, and holds beside a flood of joins. `cargo bench --bench queue`
//!
//! First, joins: the whole server with its in-process mirror, the whole server with a Redis beside it, and the bare
//! handler, which reads the JSON and writes an answer of the same form. All are processes of their own and get the very
//! same bytes over 64 connections: each request is another user's first join at a gate that is paused, so that each is
//! a change that the mirror acknowledges. Rounds alternate; client, servers and Redis share the cores. Tokens are
//! checked once before; what a token costs that is new is shown as well.
//!
//! Then, holds: users who are inside hold seats by a schedule, and nobody else comes, or ten times as many join.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::extract::Json;
use axum::http::StatusCode;
use axum::routing;
use hdrhistogram::Histogram;
use jsonwebtoken::{EncodingKey, Header, encode};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::sleep_until;

use self::common::http::{Connection, post, serve};
use self::common::{SEATS, Server, address, machine, median, processor};

mod common;

const CONNECTIONS: usize = 64;
/// Of joins, which take a third of a second each; and of holds.
const ROUNDS: usize = 15;
const HOLD_ROUNDS: usize = 7;
/// Of a round; each user joins once at each server.
const JOINS: u32 = 30_000;
/// The demo's stadium, and its option.
const CONCERT: u32 = 3;
const OPTION: u32 = 3;

/// Users inside, each on a connection of their own.
const INSIDE: u32 = 64;
/// So often each of them holds a seat.
const EVERY: Duration = Duration::from_millis(200);
/// The seat is selected so long before.
const BEFORE: Duration = Duration::from_millis(100);
const HOLDS: u32 = 20;
/// Joins for each hold.
const FLOOD: u32 = 10;
const FLOOD_CONNECTIONS: u32 = 64;

const SECRET: &str = "a secret of the benchmark, 32 bytes or more";
const ADMIN: u32 = 4_000_000_000;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    match arguments.iter().position(|argument| argument == "--bare") {
        Some(place) => runtime.block_on(bare(&arguments[place + 1])),
        None => runtime.block_on(async {
            println!("machine: {}; clients and servers on the same cores", machine());
            joins().await;
            holds().await;
        }),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Join {
    concert_id: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Waiting {
    concert_id: u64,
    status: &'static str,
    turn: u64,
    rank: u64,
    ahead: u64,
    eta_seconds: [u64; 2],
}

/// What axum alone does with the same request and the same answer.
async fn bare(address: &str) {
    let turns = Arc::new(AtomicU64::new(0));
    let join = async move |Json(Join { concert_id }): Json<Join>| {
        let turn = turns.fetch_add(1, Ordering::Relaxed);
        let eta_seconds = [turn, turn * 2];
        let waiting =
            Waiting { concert_id, status: "WAITING", turn, rank: turn + 1, ahead: turn, eta_seconds };
        (StatusCode::OK, [("retry-after", "20")], Json(waiting))
    };
    let status = async || {
        Json(Waiting { concert_id: 0, status: "NONE", turn: 0, rank: 0, ahead: 0, eta_seconds: [0; 2] })
    };
    let router = axum::Router::new()
        .route("/api/v1/waiting-queue/join", routing::post(join))
        .route("/api/v1/waiting-queue/status", routing::get(status));
    serve(address, router).await;
}

/// A server that lets as many join as come, from one address.
fn start(dir: &std::path::Path, listen: &str, more: &[(&str, &str)]) -> Server {
    let all = "10000000/s burst 10000000";
    let mut settings = vec![
        ("HOTSEAT_AUTH_SECRET", SECRET),
        ("HOTSEAT_GATE_JOINS_PER_SECOND", all),
        ("HOTSEAT_GATE_JOINS_PER_IP", all),
        ("HOTSEAT_GATE_JOINS_PER_USER", all),
        ("HOTSEAT_SALES_RESERVATIONS_PER_USER", "1000"),
    ];
    settings.extend(more);
    Server::start(dir, listen, &address(), &["--demo"], &settings)
}

async fn joins() {
    let (local, remote) = (tempfile::tempdir(), tempfile::tempdir());
    let [local, remote] = [&local, &remote].map(|dir| dir.as_ref().expect("a temporary directory").path());
    let redis = servers::Redis::start();
    let [whole_address, redis_address, bare_address] = [address(), address(), address()];
    let whole = start(local, &whole_address, &[]);
    let mirrored = start(remote, &redis_address, &[("HOTSEAT_MIRROR_URL", &redis.url())]);
    let this = std::env::current_exe().expect("a program knows itself");
    let bare = std::process::Command::new(this).args(["--bare", &bare_address]).spawn();
    let bare = Server(bare.expect("the bare server can be started"));
    for address in [&whole_address, &redis_address] {
        set(address, r#"{"state":"paused","perSecond":1}"#).await;
    }
    let all = [
        ("bare", &bare, &bare_address),
        ("whole", &whole, &whole_address),
        ("with Redis", &mirrored, &redis_address),
    ];
    println!("{:>8}{:>12}{:>12}{:>12}{:>10}{:>14}", "tokens", "", "joins/s", "bare/s", "ratio", "µs CPU");
    let mut ratios = [[Vec::new(), Vec::new()], [Vec::new(), Vec::new()]];
    let mut users = 1..;
    for _ in 0..ROUNDS {
        for (known, tokens) in ["new", "known"].into_iter().enumerate() {
            let tokens_of: Vec<String> =
                users.by_ref().take(JOINS as usize).map(|user| token(user, "USER")).collect();
            let joins = Arc::new(tokens_of.iter().map(|token| join(token)).collect::<Vec<_>>());
            let mut bare_rate = 0.0;
            for (nth, (name, server, address)) in all.iter().enumerate() {
                if known == 1 {
                    let looks = tokens_of.iter().map(|token| look(token)).collect::<Vec<_>>();
                    load(address, &Arc::new(looks)).await;
                }
                let before = processor(server.0.id());
                let rate = load(address, &joins).await;
                let cost = (processor(server.0.id()) - before) * 1e6 / f64::from(JOINS);
                if nth == 0 {
                    bare_rate = rate;
                } else {
                    ratios[known][nth - 1].push(rate / bare_rate);
                }
                let ratio = rate / bare_rate;
                println!("{tokens:>8}{name:>12}{rate:>12.0}{bare_rate:>12.0}{ratio:>10.2}{cost:>14.1}");
            }
        }
    }
    println!("\nmedians of {ROUNDS} rounds, against the bare axum handler:");
    for (tokens, ratios) in ["new", "known"].into_iter().zip(&mut ratios) {
        let [whole, mirrored] = ratios.each_mut().map(|ratios| median(ratios));
        println!("{tokens:>8} tokens: {whole:.2} of its joins/s, {mirrored:.2} with Redis");
    }
}

/// Sends each of them once over all connections, as fast as they are answered; how many in a second.
async fn load(address: &str, requests: &Arc<Vec<Vec<u8>>>) -> f64 {
    let next = Arc::new(AtomicUsize::new(0));
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(Connection::open(address).await);
    }
    let started = Instant::now();
    let mut senders = JoinSet::new();
    for mut connection in connections {
        let (requests, next) = (requests.clone(), next.clone());
        senders.spawn(async move {
            while let Some(request) = requests.get(next.fetch_add(1, Ordering::Relaxed)) {
                let answer = connection.exchange(request).await;
                assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            }
        });
    }
    senders.join_all().await;
    requests.len() as f64 / started.elapsed().as_secs_f64()
}

/// The p99 of a hold of those inside, without a flood and with it.
async fn holds() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let address = address();
    let _server = start(dir.path(), &address, &[]);
    set(&address, &format!(r#"{{"state":"open","maxActive":{INSIDE}}}"#)).await;
    let mut inside = Vec::new();
    for user in 1..=INSIDE {
        inside.push(Inside::enter(&address, user).await);
    }
    let per_second = f64::from(INSIDE * FLOOD) / EVERY.as_secs_f64();
    println!("\n{:>12}{:>16}{:>16}{:>10}{:>12}", "", "alone, p99 ms", "flood, p99 ms", "ratio", "joins/s");
    let (seat, mut ratios) = (Arc::new(AtomicU32::new(0)), Vec::new());
    let mut users = INSIDE + 1..;
    // The first round touches every page.
    for round in 0..=HOLD_ROUNDS {
        let mut p99 = [0.0; 2];
        let mut joined = 0.0;
        for (flooded, p99) in p99.iter_mut().enumerate() {
            let over = Arc::new(AtomicBool::new(flooded == 0));
            let flood = flood(&address, &mut users, per_second, over.clone()).await;
            let started = Instant::now();
            *p99 = hold_all(&mut inside, &seat).await;
            over.store(true, Ordering::Relaxed);
            joined =
                f64::from(flood.join_all().await.into_iter().sum::<u32>()) / started.elapsed().as_secs_f64();
        }
        let ratio = p99[1] / p99[0];
        println!(
            "{:>12}{:>16.2}{:>16.2}{ratio:>10.2}{joined:>12.0}",
            if round == 0 { "warm-up" } else { "" },
            p99[0],
            p99[1]
        );
        if round > 0 {
            ratios.push(ratio);
        }
    }
    println!(
        "\nmedian of {HOLD_ROUNDS} rounds: p99 of a hold beside {FLOOD} joins for each, {:.2}×",
        median(&mut ratios)
    );
}

/// Somebody with a pass.
struct Inside {
    connection: Connection,
    user: u32,
    token: String,
    pass: String,
}

impl Inside {
    async fn enter(address: &str, user: u32) -> Self {
        let mut connection = Connection::open(address).await;
        let token = token(user, "USER");
        let mut request = join(&token);
        for _ in 0..1_000 {
            let answer = connection.exchange(&request).await;
            let pass = answer.split_once("\"pass\":\"").and_then(|(_, rest)| rest.split('"').next());
            if let Some(pass) = pass.map(str::to_owned) {
                return Self { connection, user, token, pass };
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            request = look(&token);
        }
        panic!("user {user} was not let in");
    }

    /// Selects a seat and holds it at an instant; how long that took from then on.
    async fn hold(&mut self, seat: u32, due: Instant) -> Duration {
        sleep_until((due - BEFORE).into()).await;
        self.granted("selections", seat).await;
        sleep_until(due.into()).await;
        self.granted("holds", seat).await;
        due.elapsed()
    }

    async fn granted(&mut self, what: &str, seat: u32) {
        let more = format!("Hotseat-Pass: {}\r\nidempotency-key: {}-{seat}\r\n", self.pass, self.user);
        let path = format!("/api/v1/options/{OPTION}/{what}");
        let request = with(&more, &post(&path, &self.token, &format!("{{\"seats\":[{seat}]}}")));
        let answer = self.connection.exchange(&request).await;
        assert!(answer.starts_with("HTTP/1.1 201"), "{what}: {answer}");
    }
}

/// Everybody holds seats by their schedule. The 99th percentile, in milliseconds.
async fn hold_all(inside: &mut Vec<Inside>, seat: &Arc<AtomicU32>) -> f64 {
    let start = Instant::now() + BEFORE * 2;
    let mut holders = JoinSet::new();
    for mut holder in inside.drain(..) {
        let seat = seat.clone();
        holders.spawn(async move {
            let mut times = Vec::new();
            for nth in 0..HOLDS {
                let due = start + EVERY * nth + EVERY * holder.user / INSIDE;
                times.push(holder.hold(seat.fetch_add(1, Ordering::Relaxed) % SEATS, due).await);
            }
            (holder, times)
        });
    }
    let mut all = Histogram::<u64>::new(3).expect("3 digits are allowed");
    for (holder, times) in holders.join_all().await {
        inside.push(holder);
        for time in times {
            all.record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)).expect("the histogram grows");
        }
    }
    all.value_at_quantile(0.99) as f64 / 1e6
}

/// Others who join, so many in a second, until it is over; each connection says how many did.
async fn flood(
    address: &str,
    users: &mut impl Iterator<Item = u32>,
    per_second: f64,
    over: Arc<AtomicBool>,
) -> JoinSet<u32> {
    let mut flood = JoinSet::new();
    if over.load(Ordering::Relaxed) {
        return flood;
    }
    let pause = Duration::from_secs_f64(f64::from(FLOOD_CONNECTIONS) / per_second);
    // Half as many again as a round needs.
    let each = HOLDS * FLOOD * INSIDE / FLOOD_CONNECTIONS * 3 / 2;
    for nth in 0..FLOOD_CONNECTIONS {
        let joins: Vec<Vec<u8>> = users.take(each as usize).map(|user| join(&token(user, "USER"))).collect();
        let (over, mut connection) = (over.clone(), Connection::open(address).await);
        flood.spawn(async move {
            let start = Instant::now() + pause * nth / FLOOD_CONNECTIONS;
            let mut count = 0;
            for join in &joins {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                sleep_until((start + pause * count).into()).await;
                // Refused politely or put in line: each costs the server something.
                let answer = connection.exchange(join).await;
                assert!(["200", "429", "503"].contains(&&answer[9..12]), "{answer}");
                count += 1;
            }
            count
        });
    }
    flood
}

/// Sets the gate of the stadium, once the server serves it.
async fn set(address: &str, body: &str) {
    let mut connection = Connection::open(address).await;
    let put = post(&format!("/admin/v1/gates/{CONCERT}"), &token(ADMIN, "ADMIN"), body);
    let put = [b"PUT", &put[b"POST".len()..]].concat();
    let mut said = String::new();
    for _ in 0..1_000 {
        said = connection.exchange(&put).await.to_owned();
        if said.starts_with("HTTP/1.1 200") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the gate cannot be set: {said}");
}

#[derive(Serialize)]
struct Claims {
    sub: u32,
    role: &'static str,
    exp: u64,
}

fn token(user: u32, role: &'static str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_secs();
    let claims = Claims { sub: user, role, exp: now + 86_400 };
    encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET.as_bytes()))
        .expect("claims are JSON")
}

fn join(token: &str) -> Vec<u8> {
    post("/api/v1/waiting-queue/join", token, &format!("{{\"concertId\":{CONCERT}}}"))
}

/// How it stands with a user.
fn look(token: &str) -> Vec<u8> {
    format!(
        "GET /api/v1/waiting-queue/status?concertId={CONCERT} HTTP/1.1\r\nhost: bench\r\n\
         authorization: Bearer {token}\r\n\r\n"
    )
    .into_bytes()
}

/// The request with more headers.
fn with(headers: &str, request: &[u8]) -> Vec<u8> {
    let end = request.windows(2).position(|pair| pair == b"\r\n").expect("a request has lines") + 2;
    [&request[..end], headers.as_bytes(), &request[end..]].concat()
}
