//! Selects over HTTP through the whole server against a bare axum handler. `cargo bench --bench http`
//!
//! First, the cost of a select as the concert grows from 50 to 200,000 seats. Then the comparison:
//! the whole server with its in-process mirror, the whole server with a Redis beside it, and the bare handler, which
//! reads the JSON and writes an answer of the same form with nothing behind it. All are processes of their own and
//! get the very same bytes over 64 connections. Rounds alternate; client, servers and Redis share the cores, so the
//! processor time of the server per request is printed as well: it is the ratio without the client.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::extract::{Json, Path};
use axum::http::StatusCode;
use axum::routing;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use self::common::http::{Connection, post, serve, token};
use self::common::{SEATS, Server, address, machine, median, processor};

mod common;

const CONNECTIONS: usize = 64;
const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_secs(3);
/// The demo's hall, arena and stadium, by option and seats, and the largest concert there may be.
const SIZES: [(u32, u32); 4] = [(1, 50), (2, 12_000), (STADIUM, SEATS), (4, 200_000)];
const STADIUM: u32 = 3;
const SIZE_ROUNDS: usize = 5;
/// So that a user's soft locks stay below their limit.
const SEATS_PER_USER: u32 = 4;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    match arguments.iter().position(|argument| argument == "--bare") {
        Some(place) => runtime.block_on(bare(&arguments[place + 1])),
        None => runtime.block_on(compare()),
    }
}

#[derive(Deserialize)]
struct Wanted {
    seats: Vec<u32>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Selected {
    option_id: u32,
    seats: Vec<Labelled>,
    expires_at: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Labelled {
    seat_no: u32,
    label: String,
}

/// What axum alone does with the same request and the same answer.
async fn bare(address: &str) {
    let handler = async |Path(option_id): Path<u32>, Json(wanted): Json<Wanted>| {
        let label = |seat_no| Labelled { seat_no, label: format!("{}-{}", seat_no / 100, seat_no % 100) };
        let expires_at = "2027-05-01T10:00:00.000000Z".to_owned();
        let seats = wanted.seats.into_iter().map(label).collect();
        (StatusCode::CREATED, Json(Selected { option_id, seats, expires_at }))
    };
    let router = axum::Router::new().route("/api/v1/options/{optionId}/selections", routing::post(handler));
    serve(address, router).await;
}

async fn compare() {
    println!("machine: {}; clients and servers on the same cores", machine());
    let (local, remote) = (tempfile::tempdir(), tempfile::tempdir());
    let redis = servers::Redis::start();
    let secret = ("HOTSEAT_AUTH_SECRET", "a secret of the benchmark, 32 bytes or more");
    let [whole_address, redis_address, bare_address] = [address(), address(), address()];
    let start = |dir: &std::io::Result<tempfile::TempDir>, listen: &str, settings: &[(&str, &str)]| {
        let dir = dir.as_ref().expect("a temporary directory");
        Server::start(dir.path(), listen, &address(), &["--demo"], settings)
    };
    let whole = start(&local, &whole_address, &[secret]);
    let users = SIZES.iter().map(|(_, seats)| seats.div_ceil(SEATS_PER_USER)).max().unwrap_or(0);
    let tokens = tokens(&whole_address, users).await;
    sizes(&whole, &whole_address, &tokens).await;

    let mirrored = start(&remote, &redis_address, &[secret, ("HOTSEAT_MIRROR_URL", &redis.url())]);
    let this = std::env::current_exe().expect("a program knows itself");
    let bare = std::process::Command::new(this).args(["--bare", &bare_address]).spawn();
    let bare = Server(bare.expect("the bare server can be started"));
    let requests = requests(STADIUM, SEATS, &tokens);
    let wholes = [("whole", &whole, &whole_address), ("with Redis", &mirrored, &redis_address)];
    // Every token is checked once, every page is touched.
    for address in [&whole_address, &redis_address, &bare_address] {
        load(address, &requests).await;
    }
    println!("{:>12}{:>12}{:>12}{:>10}{:>14}{:>14}", "", "/s", "bare/s", "ratio", "µs CPU", "bare µs CPU");
    let mut ratios = [Vec::new(), Vec::new()];
    let mut costs = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        let (bare_rate, bare_cost) = round(&bare, &bare_address, &requests).await;
        for (nth, (name, server, address)) in wholes.iter().enumerate() {
            let (rate, cost) = round(server, address, &requests).await;
            let ratio = rate / bare_rate;
            println!("{name:>12}{rate:>12.0}{bare_rate:>12.0}{ratio:>10.2}{cost:>14.1}{bare_cost:>14.1}");
            ratios[nth].push(ratio);
            costs[nth].push(bare_cost / cost);
        }
    }
    println!("\nmedians of {ROUNDS} rounds, against the bare axum handler:");
    for ((name, ..), (ratios, costs)) in wholes.iter().zip(ratios.iter_mut().zip(&mut costs)) {
        let (ratio, cost) = (median(ratios), median(costs));
        println!(
            "{name:>12}: {ratio:.2} of its selects/s; processor time of the server, bare / this {cost:.2}"
        );
    }
}

/// Requests per second, and microseconds of the server's processor time for each.
async fn round(server: &Server, address: &str, requests: &Arc<Vec<Vec<u8>>>) -> (f64, f64) {
    let before = processor(server.0.id());
    let started = Instant::now();
    let count = load(address, requests).await as f64;
    let rate = count / started.elapsed().as_secs_f64();
    (rate, (processor(server.0.id()) - before) * 1e6 / count)
}

/// Goes round the stadium on all connections for a round. Every answer must be a selection.
async fn load(address: &str, requests: &Arc<Vec<Vec<u8>>>) -> u64 {
    let (next, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let count = Arc::new(AtomicU64::new(0));
    let mut connections = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (requests, next, done, count) = (requests.clone(), next.clone(), done.clone(), count.clone());
        let mut connection = Connection::open(address).await;
        connections.spawn(async move {
            while !done.load(Ordering::Relaxed) {
                let seat = next.fetch_add(1, Ordering::Relaxed) % requests.len();
                let status = connection.exchange(&requests[seat]).await;
                assert!(status.starts_with("HTTP/1.1 20"), "{status}");
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    tokio::time::sleep(ROUND).await;
    done.store(true, Ordering::Relaxed);
    connections.join_all().await;
    count.load(Ordering::Relaxed)
}

/// What a select costs the server, by the size of its concert. Rounds alternate.
async fn sizes(server: &Server, address: &str, tokens: &[String]) {
    import_largest(address).await;
    let requests: Vec<_> = SIZES.iter().map(|&(option, seats)| requests(option, seats, tokens)).collect();
    for requests in &requests {
        load(address, requests).await;
    }
    let mut costs = vec![Vec::new(); SIZES.len()];
    for _ in 0..SIZE_ROUNDS {
        for (requests, costs) in requests.iter().zip(&mut costs) {
            costs.push(round(server, address, requests).await.1);
        }
    }
    let costs: Vec<f64> = costs.iter_mut().map(|costs| median(costs)).collect();
    let cheapest = costs.iter().copied().fold(f64::INFINITY, f64::min);
    println!("{:>12}{:>14}{:>8}", "seats", "select µs CPU", "ratio");
    for ((_, seats), cost) in SIZES.iter().zip(costs) {
        println!("{seats:>12}{cost:>14.1}{:>7.2}×", cost / cheapest);
    }
    println!();
}

async fn import_largest(address: &str) {
    let mut connection = Connection::open(address).await;
    let admin = token(&mut connection, 1, "ADMIN").await;
    let (option, seats) = SIZES[SIZES.len() - 1];
    let body = format!(
        "{{\"title\":\"The largest\",\"startsAt\":\"2027-05-01T19:00:00Z\",\
         \"plan\":{{\"sections\":[{{\"code\":\"F\",\"capacity\":{seats}}}]}}}}"
    );
    let answer = connection.exchange(&post("/admin/v1/imports", &admin, &body)).await.to_owned();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    // On sale once its shard has added it.
    let first = requests(option, 1, &[admin]);
    for _ in 0..1_000 {
        if connection.exchange(&first[0]).await.starts_with("HTTP/1.1 201") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the import is not on sale as option {option}: {answer}");
}

async fn tokens(address: &str, users: u32) -> Vec<String> {
    let mut connection = Connection::open(address).await;
    let mut tokens = Vec::new();
    for user in 1..=users {
        tokens.push(token(&mut connection, user, "USER").await);
    }
    tokens
}

/// A select of each seat of an option, by the user it belongs to.
fn requests(option: u32, seats: u32, tokens: &[String]) -> Arc<Vec<Vec<u8>>> {
    let path = format!("/api/v1/options/{option}/selections");
    let select = |seat: u32| {
        post(&path, &tokens[(seat / SEATS_PER_USER) as usize], &format!("{{\"seats\":[{seat}]}}"))
    };
    Arc::new((0..seats).map(select).collect())
}
