//! How long a killed server with a busy ledger takes until it is ready again. `cargo bench --bench restart`
//!
//! One concert, so one shard restores everything. Embedded: 50,000 live reservations and 150,000 events that are
//! young enough for their requests to be asked again. On PostgreSQL and Redis: 50,000 live reservations, and 10,000
//! soft locks that must be there again.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::{Caller, Command, Granted, ReservationId, Settings, Span};
use hotseat::ledger::Store;
use hotseat::mirror::redis::RedisMirror;
use tokio::task::JoinSet;

use self::common::{Server, Stadium, address, machine, median, one, open, open_postgres, user};

mod common;

const LIVE: u32 = 50_000;
/// Held and cancelled: two events each, beside the two (held, paying) of a live one.
const ENDED: u32 = 25_000;
const SOFT_LOCKS: u32 = 10_000;
const CALLERS: u32 = 500;
const RUNS: usize = 7;

fn main() {
    println!("machine: {}", machine());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let dir = tempfile::tempdir().expect("a temporary directory");
    runtime.block_on(fill_embedded(dir.path()));
    println!("{LIVE} live reservations, {} events inside the horizon, on SQLite:", 2 * (LIVE + ENDED));
    restart(dir.path(), &[], 0);

    let dir = tempfile::tempdir().expect("a temporary directory");
    let (postgres, redis) = (servers::Postgres::start(), servers::Redis::start());
    let (ledger_url, mirror_url) = (postgres.database(), redis.url());
    runtime.block_on(fill_servers(&ledger_url, &mirror_url));
    println!("{LIVE} live reservations, {SOFT_LOCKS} soft locks, on PostgreSQL and Redis:");
    let settings = [("HOTSEAT_LEDGER_URL", &*ledger_url), ("HOTSEAT_MIRROR_URL", &*mirror_url)];
    restart(dir.path(), &settings, SOFT_LOCKS);
}

/// Starts the server and kills it, again and again.
fn restart(data: &Path, settings: &[(&str, &str)], soft_locks: u32) {
    let (listen, ops) = (address(), address());
    let mut times = Vec::new();
    for _ in 0..RUNS {
        let started = Instant::now();
        let server = Server::start(data, &listen, &ops, &[], settings);
        while !is_ready(&ops) {
            assert!(started.elapsed() < Duration::from_secs(60), "the server does not become ready");
            std::thread::sleep(Duration::from_millis(2));
        }
        times.push(started.elapsed().as_secs_f64());
        let metrics = ask(&ops, "/metrics").expect("a server that is ready answers");
        let restored = metrics.lines().find_map(|line| line.strip_prefix("hotseat_soft_locks "));
        assert_eq!(restored, Some(&*soft_locks.to_string()), "soft locks that are there again");
        drop(server);
    }
    println!("  killed with -9, start to ready: median {:.2} s of {times:.2?}", median(&mut times.clone()));
}

async fn fill_embedded(dir: &Path) {
    let ledger = open(dir).await;
    let stadium = Arc::new(Stadium::open(ledger.clone(), ledger.clone()).await);
    everybody(&stadium, LIVE + ENDED, async |stadium: Arc<Stadium>, seat| {
        let reservation = hold(&stadium, user(seat), seat).await;
        let next =
            if seat < LIVE { Command::StartPaying { reservation } } else { Command::Cancel { reservation } };
        let granted = stadium.granted(user(seat), key(), next).await;
        assert!(matches!(granted, Granted::Reserved { .. }));
    })
    .await;
    close(stadium).await;
    ledger.close().await;
}

async fn fill_servers(ledger_url: &str, mirror_url: &str) {
    let ledger = open_postgres(ledger_url).await;
    let mirror = RedisMirror::new(mirror_url.parse().expect("a test server has a good address"));
    let long = Span::from_secs(3_600);
    let settings = Settings { select_ttl: long, select_max_age: long, hold_ttl: long, ..Settings::default() };
    let stadium = Stadium::mirrored(ledger.clone(), ledger.clone(), Arc::new(mirror), settings).await;
    let stadium = Arc::new(stadium);
    everybody(&stadium, LIVE + SOFT_LOCKS, async |stadium: Arc<Stadium>, seat| {
        if seat < LIVE {
            hold(&stadium, user(seat), seat).await;
        } else {
            let (option, seats) = (stadium.option, one(seat));
            stadium.granted(user(seat), None, Command::Select { option, seats }).await;
        }
    })
    .await;
    close(stadium).await;
    ledger.close().await;
}

/// Five hundred at once, until every one of the first `seats` had its turn.
async fn everybody<F, T>(stadium: &Arc<Stadium>, seats: u32, turn: F)
where
    F: Fn(Arc<Stadium>, u32) -> T + Copy + Send + 'static,
    T: Future<Output = ()> + Send,
{
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let stadium = stadium.clone();
        callers.spawn(async move {
            for seat in (caller..seats).step_by(CALLERS as usize) {
                turn(stadium.clone(), seat).await;
            }
        });
    }
    callers.join_all().await;
}

async fn close(stadium: Arc<Stadium>) {
    Arc::into_inner(stadium).expect("every caller is done").close().await;
}

async fn hold(stadium: &Stadium, caller: Caller, seat: u32) -> ReservationId {
    let (option, seats) = (stadium.option, one(seat));
    stadium.granted(caller, None, Command::Select { option, seats }).await;
    let reservation = ReservationId::stamp(uuid::Uuid::now_v7().as_u128(), option);
    stadium.granted(caller, key(), Command::Hold { option, seats, reservation }).await;
    reservation
}

fn key() -> Option<u128> {
    Some(uuid::Uuid::new_v4().as_u128())
}

fn is_ready(ops: &str) -> bool {
    ask(ops, "/readyz").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

fn ask(ops: &str, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(ops)?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
