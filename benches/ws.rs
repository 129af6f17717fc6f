//! Sockets: what an idle viewer costs, clicks in lists of sixteen, and one change to a thousand viewers.
//! `cargo bench --bench ws`
//!
//! Servers are processes of their own; the client shares their cores. The thousand viewers are compared with the
//! same bytes, framed beforehand, written to raw TCP by a task per connection: what the machine allows.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use self::common::socket::{Socket, masked, token};
use self::common::{Server, address, machine, median, processor, resident_kib};

mod common;

/// The demo's stadium.
const OPTION: u32 = 3;
const IDLE: usize = 10_000;
const CLICKERS: u32 = 64;
const COMMANDS: u32 = 16;
const VIEWERS: usize = 1_000;
const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_secs(3);
/// Changes to all viewers in a round.
const CHANGES: usize = 100;
/// Longer than the feed's tick here, so that each change finds the feed quiet and is shown at once.
const QUIET: Duration = Duration::from_millis(15);

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    match arguments.iter().position(|argument| argument == "--raw") {
        Some(place) => runtime.block_on(raw(&arguments[place + 1])),
        None => runtime.block_on(all()),
    }
}

async fn all() {
    println!("machine: {}; client and server on the same cores", machine());
    idle("JSON", None).await;
    idle("binary", Some("hotseat.bin.1")).await;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (server, address) = start(dir.path()).await;
    clicks(&server.0, &address).await;
    fan_out(&server.0, &address).await;
}

async fn start(data: &Path) -> (Server, String) {
    let (address, ops) = (address(), address());
    let settings = [
        ("HOTSEAT_WS_MESSAGES_PER_SECOND", "65535"),
        ("HOTSEAT_FEED_TICK", "10ms"),
        ("HOTSEAT_SELECT_TTL", "1m"),
    ];
    let server = Server::start(data, &address, &ops, &["--demo"], &settings);
    until_ready(&ops).await;
    (server, address)
}

async fn until_ready(ops: &str) {
    for _ in 0..1_000 {
        if let Ok(mut stream) = TcpStream::connect(ops).await {
            stream.write_all(b"GET /readyz HTTP/1.0\r\nhost: x\r\n\r\n").await.expect("the server reads");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.expect("the server answers");
            if answer.starts_with("HTTP/1.0 200") || answer.starts_with("HTTP/1.1 200") {
                return;
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{ops} is not ready");
}

/// Resident memory of ten thousand who watch a stadium of 100,000 seats and have its snapshot.
async fn idle(kind: &str, subprotocol: Option<&'static str>) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (server, address) = start(dir.path()).await;
    let before = resident_kib(server.0.id());
    let mut viewers = Vec::new();
    let started = Instant::now();
    while viewers.len() < IDLE {
        let mut opening = JoinSet::new();
        for _ in 0..100.min(IDLE - viewers.len()) {
            let address = address.clone();
            opening.spawn(async move {
                let mut viewer = Socket::open(&address, None, subprotocol).await;
                viewer.say(&format!("{{\"op\":\"watch\",\"option\":{OPTION}}}")).await;
                assert!(viewer.frame().await.starts_with(b"{\"ev\":\"ok\""));
                assert!(viewer.frame().await.len() > 25_000, "a snapshot");
                viewer.stream
            });
        }
        viewers.extend(opening.join_all().await);
    }
    let took = started.elapsed();
    // Longer than the five seconds in which a stranger must say what it wants.
    tokio::time::sleep(Duration::from_secs(8)).await;
    let each = (resident_kib(server.0.id()) - before) / IDLE as f64;
    println!("{IDLE} idle viewers of a stadium, {kind}: {each:.1} KiB resident each; all came in {took:.1?}");
}

/// Every user selects eight seats and gives them back, in one frame, over and over.
async fn clicks(server: &Child, address: &str) {
    let mut sockets = Vec::new();
    for user in 1..=CLICKERS {
        let token = token(address, user).await;
        let socket = Socket::open(address, Some(&token), None).await;
        sockets.push((socket, masked(0x81, list(user).as_bytes())));
    }
    println!(
        "\n{:>12}{:>14}   clicks in lists of {COMMANDS} over {CLICKERS} sockets",
        "clicks/s", "server µs CPU"
    );
    let mut rates = Vec::new();
    for _ in 0..ROUNDS {
        let (count, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (before, started) = (processor(server.id()), Instant::now());
        let mut tasks = JoinSet::new();
        for (mut socket, frame) in sockets.drain(..) {
            let (count, done) = (count.clone(), done.clone());
            tasks.spawn(async move {
                while !done.load(Ordering::Relaxed) {
                    socket.stream.write_all(&frame).await.expect("the server reads");
                    socket.answers(COMMANDS).await;
                    count.fetch_add(u64::from(COMMANDS), Ordering::Relaxed);
                }
                (socket, frame)
            });
        }
        tokio::time::sleep(ROUND).await;
        done.store(true, Ordering::Relaxed);
        sockets = tasks.join_all().await;
        let count = count.load(Ordering::Relaxed) as f64;
        let rate = count / started.elapsed().as_secs_f64();
        println!("{rate:>12.0}{:>14.2}", (processor(server.id()) - before) * 1e6 / count);
        rates.push(rate);
    }
    println!("clicks/s over sockets: {:.0} (median of {ROUNDS})", median(&mut rates));
}

fn list(user: u32) -> String {
    let seats = (user * 8..user * 8 + 8).map(|seat| {
        let one =
            |op| format!("{{\"op\":\"{op}\",\"id\":\"{seat}\",\"option\":{OPTION},\"seats\":[{seat}]}}");
        [one("select"), one("release")]
    });
    format!("[{}]", seats.flatten().collect::<Vec<_>>().join(","))
}

/// One change to all viewers, from the click until the last one has it.
async fn fan_out(server: &Child, address: &str) {
    let this = std::env::current_exe().expect("a program knows itself");
    let raw_address = self::common::address();
    let raw = Command::new(this).args(["--raw", &raw_address]).stdin(Stdio::null()).spawn();
    let raw = Server(raw.expect("the raw server can be started"));
    while TcpStream::connect(&raw_address).await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let token = token(address, CLICKERS + 1).await;
    let clicker = Socket::open(address, Some(&token), None).await.stream;
    let ours = Audience::gather(clicker, async || {
        let mut viewer = Socket::open(address, None, None).await;
        viewer.say(&format!("{{\"op\":\"watch\",\"option\":{OPTION}}}")).await;
        let (_ok, _snapshot) = (viewer.frame().await, viewer.frame().await);
        viewer.stream
    });
    let mut ours = ours.await;
    let control = TcpStream::connect(&raw_address).await.expect("it listens");
    let theirs = Audience::gather(control, async || {
        let mut viewer = TcpStream::connect(&raw_address).await.expect("it listens");
        viewer.write_all(b"v").await.expect("it reads");
        viewer
    });
    let mut theirs = theirs.await;
    theirs.control.write_all(b"c").await.expect("it reads");
    let click = |op| {
        let text = format!("{{\"op\":\"{op}\",\"option\":{OPTION},\"seats\":[99999]}}");
        masked(0x81, text.as_bytes())
    };
    let clicks = [click("select"), click("release")];
    println!(
        "\n{:>14}{:>14}{:>8}{:>24}   to {VIEWERS} viewers",
        "sockets/s", "raw TCP/s", "ratio", "µs CPU of each"
    );
    let (mut ratios, mut costs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (sockets, cost) = ours.round(server, &clicks).await;
        let (raw, raw_cost) = theirs.round(&raw.0, &[vec![b'!'], vec![b'!']]).await;
        println!("{sockets:>14.0}{raw:>14.0}{:>8.2}{cost:>12.2}{raw_cost:>12.2}", sockets / raw);
        ratios.push(sockets / raw);
        costs.push(raw_cost / cost);
    }
    println!("frames/s, sockets / raw TCP: {:.2} (median of {ROUNDS})", median(&mut ratios));
    println!("processor time of the server per frame, raw TCP / sockets: {:.2}", median(&mut costs));
}

/// Connections that wait for the same news, and the one that causes it.
struct Audience {
    control: TcpStream,
    heard: Arc<AtomicUsize>,
    all_heard: Arc<Notify>,
    _viewers: JoinSet<()>,
}

impl Audience {
    async fn gather(control: TcpStream, open: impl AsyncFn() -> TcpStream) -> Self {
        let (heard, all_heard) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let mut viewers = JoinSet::new();
        for _ in 0..VIEWERS {
            let (mut stream, heard, all_heard) = (open().await, heard.clone(), all_heard.clone());
            viewers.spawn(async move {
                let mut bytes = [0; 4_096];
                // Each change comes alone, and in one piece.
                while stream.read(&mut bytes).await.is_ok_and(|length| length > 0) {
                    if (heard.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(VIEWERS) {
                        all_heard.notify_one();
                    }
                }
            });
        }
        Self { control, heard, all_heard, _viewers: viewers }
    }

    /// Frames per second, the quiet between changes left out, and microseconds of the server's processor time for each.
    async fn round(&mut self, server: &Child, news: &[Vec<u8>; 2]) -> (f64, f64) {
        let before = processor(server.id());
        let mut spent = Duration::ZERO;
        for change in 0..CHANGES {
            tokio::time::sleep(QUIET).await;
            let started = Instant::now();
            self.control.write_all(&news[change % 2]).await.expect("the server reads");
            let heard = tokio::time::timeout(Duration::from_secs(10), self.all_heard.notified()).await;
            assert!(heard.is_ok(), "{} frames came", self.heard.load(Ordering::Relaxed));
            spent += started.elapsed();
            // What was said to the one who clicked.
            while self.control.try_read(&mut [0; 4_096]).is_ok_and(|length| length > 0) {}
        }
        let frames = (CHANGES * VIEWERS) as f64;
        (frames / spent.as_secs_f64(), (processor(server.id()) - before) * 1e6 / frames)
    }
}

/// Writes the same bytes to all connections whenever the control connection sends some.
async fn raw(address: &str) {
    let frame: &[u8] =
        b"\x81\x43{\"ev\":\"changes\",\"option\":3,\"from\":\"1.1040\",\"to\":\"1.1041\",\"set\":[[3,1]]}";
    let listener = TcpListener::bind(address).await.expect("the address is free");
    let (news, _) = watch::channel(());
    loop {
        let Ok((mut stream, _)) = listener.accept().await else { continue };
        stream.set_nodelay(true).expect("TCP knows TCP_NODELAY");
        let (told, mut hears) = (news.clone(), news.subscribe());
        tokio::spawn(async move {
            let mut byte = [0; 64];
            match stream.read(&mut byte[..1]).await {
                Ok(1) if byte[0] == b'c' => {
                    while stream.read(&mut byte).await.is_ok_and(|length| length > 0) {
                        told.send_replace(());
                    }
                }
                Ok(1) => while hears.changed().await.is_ok() && stream.write_all(frame).await.is_ok() {},
                _ => {}
            }
        });
    }
}
