//! How long a killed server with a busy ledger takes until it is ready again. `cargo bench --bench restart`
//!
//! One concert, so one shard restores everything: 50,000 live reservations and 150,000 events that are young
//! enough for their requests to be asked again.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::{Caller, Command, Granted, ReservationId};
use hotseat::ledger::Store as _;
use tokio::task::JoinSet;

use self::common::{Server, Stadium, address, machine, median, one, open, user};

mod common;

const LIVE: u32 = 50_000;
/// Held and cancelled: two events each, beside the two (held, paying) of a live one.
const ENDED: u32 = 25_000;
const CALLERS: u32 = 500;
const RUNS: usize = 7;

fn main() {
    println!("machine: {}", machine());
    let dir = tempfile::tempdir().expect("a temporary directory");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(fill(dir.path()));
    let (listen, ops) = (address(), address());
    let mut times = Vec::new();
    for _ in 0..RUNS {
        let started = Instant::now();
        let server = Server::start(dir.path(), &listen, &ops, &[], &[]);
        while !is_ready(&ops) {
            assert!(started.elapsed() < Duration::from_secs(60), "the server does not become ready");
            std::thread::sleep(Duration::from_millis(2));
        }
        times.push(started.elapsed().as_secs_f64());
        drop(server);
    }
    println!("{LIVE} live reservations, {} events inside the horizon, killed with -9:", 2 * (LIVE + ENDED));
    println!("  start to ready: median {:.2} s of {times:.2?}", median(&mut times.clone()));
}

async fn fill(dir: &Path) {
    let ledger = open(dir).await;
    let stadium = Arc::new(Stadium::open(&ledger, ledger.clone()).await);
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let stadium = stadium.clone();
        callers.spawn(async move {
            for seat in (caller..LIVE + ENDED).step_by(CALLERS as usize) {
                buy(&stadium, user(seat), seat).await;
            }
        });
    }
    callers.join_all().await;
    Arc::into_inner(stadium).expect("every caller is done").close().await;
    ledger.close().await;
}

async fn buy(stadium: &Stadium, caller: Caller, seat: u32) {
    let key = || Some(uuid::Uuid::new_v4().as_u128());
    let (option, seats) = (stadium.option, one(seat));
    stadium.granted(caller, None, Command::Select { option, seats }).await;
    let reservation = ReservationId::stamp(uuid::Uuid::now_v7().as_u128(), option);
    stadium.granted(caller, key(), Command::Hold { option, seats, reservation }).await;
    let next =
        if seat < LIVE { Command::StartPaying { reservation } } else { Command::Cancel { reservation } };
    let granted = stadium.granted(caller, key(), next).await;
    assert!(matches!(granted, Granted::Reserved { .. }));
}

fn is_ready(ops: &str) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(ops)?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.starts_with("HTTP/1.1 200"))
    };
    ask().unwrap_or(false)
}
