//! What viewers cost: idle ones in memory, five thousand that come back at once, bytes on the wire.
//! `cargo bench --bench feed`
//!
//! Server and viewers are processes of their own, so that the memory is the server's and each has its file
//! descriptors; ten thousand viewers need `ulimit -n` above that. They share the cores. The kernel's memory for
//! sockets is not counted.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use self::common::{Server, address, machine, median, resident_kib};

mod common;

/// The demo's stadium.
const OPTION: u32 = 3;
const IDLE: usize = 10_000;
const DROPPED: usize = 5_000;
const ROUNDS: usize = 3;
/// Of the stadium, in which seats change.
const CHANGES: u32 = 1_000;
const SEATS_PER_CLICK: u32 = 8;
/// Connections that are opened at the same time.
const AT_ONCE: usize = 256;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(measure());
}

async fn measure() {
    println!("machine: {}; server and viewers on the same cores", machine());
    let (mut sizes, mut seconds) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        // A server of its own each time: an allocator keeps what it has had.
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (public, ops) = (address(), address());
        // Selections run out while the benchmark goes on.
        let settings = [("HOTSEAT_SELECT_TTL", "2s")];
        let server = Server::start(dir.path(), &public, &ops, &["--demo"], &settings);
        until_ready(&ops).await;
        let tokens = tokens(&public).await;
        if round == 0 {
            wire(&public, &tokens).await;
        }
        sizes.push(idle(&server, &public).await);
        seconds.push(come_back(&public, &ops, &tokens).await);
        println!("{:.2} KiB, {:.2} s", sizes[round], seconds[round]);
    }
    println!(
        "an idle viewer, of {IDLE} who each got the map of a stadium: {:.2} KiB of the server (median of {ROUNDS})",
        median(&mut sizes)
    );
    println!(
        "{DROPPED} viewers dropped at once and back, all resumed without a snapshot and without a gap: {:.2} s \
         (median of {ROUNDS})",
        median(&mut seconds)
    );
}

/// The stadium's map, and a thousand changes of it.
async fn wire(public: &str, tokens: &[String]) {
    let path = format!("/api/v1/options/{OPTION}/seats");
    let map = get(public, &path, "Accept: application/octet-stream\r\n").await;
    let since = position(&map);
    click_everywhere(public, tokens).await;
    let path = format!("{path}?since={since}");
    let changes = get(public, &path, "Accept: application/octet-stream\r\n").await;
    let json = get(public, &path, "").await;
    println!(
        "the map of a stadium: {} bytes; {CHANGES} changes of it: {} bytes, {} as JSON",
        map.len(),
        changes.len(),
        json.len()
    );
    assert_eq!(changes.len(), 30 + 4 * CHANGES as usize);
}

/// KiB of the server for each of many viewers to whom nothing happens after their snapshot.
async fn idle(server: &Server, public: &str) -> f64 {
    // What ran out was cut.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let _position = current(public).await;
    let before = resident_kib(server.0.id());
    let mut viewers = connect(public, "", IDLE).await;
    for viewer in &mut viewers {
        assert_eq!(viewer.event().await.0, "snapshot");
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let after = resident_kib(server.0.id());
    drop(viewers);
    (after - before) / IDLE as f64
}

/// Seconds from the end of all connections to the last viewer being up to date again.
async fn come_back(public: &str, ops: &str, tokens: &[String]) -> f64 {
    let since = current(public).await;
    let viewers = connect(public, &format!("?since={since}"), DROPPED).await;
    let resets = resets(ops).await;
    drop(viewers);
    click_everywhere(public, tokens).await;
    let goal = current(public).await;
    let begun = Instant::now();
    let mut back = JoinSet::new();
    for viewer in connect(public, &format!("?since={since}"), DROPPED).await {
        let (mut viewer, mut at, goal) = (viewer, since.clone(), goal.clone());
        back.spawn(async move {
            while numbers(&at) < numbers(&goal) {
                let (name, data) = viewer.event().await;
                assert_ne!(name, "snapshot");
                assert!(data.contains(&format!("\"from\":\"{at}\"")), "a gap after {at}: {data}");
                at = field(&data, "to");
            }
            viewer
        });
    }
    let viewers = back.join_all().await;
    let seconds = begun.elapsed().as_secs_f64();
    assert_eq!(viewers.len(), DROPPED);
    assert_eq!(self::resets(ops).await, resets, "a viewer began anew");
    seconds
}

/// Selects a thousand seats, which run out again by themselves.
async fn click_everywhere(public: &str, tokens: &[String]) {
    let mut stream = Stream::open(public).await;
    for click in 0..CHANGES / SEATS_PER_CLICK {
        let seats: Vec<String> = (0..SEATS_PER_CLICK).map(|seat| (click * 8 + seat).to_string()).collect();
        let body = format!("{{\"seats\":[{}]}}", seats.join(","));
        let request = format!(
            "POST /api/v1/options/{OPTION}/selections HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            tokens[click as usize],
            body.len()
        );
        stream.send(&request).await;
        let (head, _) = stream.answer().await;
        assert!(head.starts_with("HTTP/1.1 20"), "{head}");
    }
    // More than a tick, and less than a selection lasts.
    tokio::time::sleep(Duration::from_millis(100)).await;
}

async fn current(public: &str) -> String {
    let path = format!("/api/v1/options/{OPTION}/seats");
    position(&get(public, &path, "Accept: application/octet-stream\r\n").await)
}

fn position(map: &[u8]) -> String {
    let number =
        |at: usize| u64::from_le_bytes(map[at..at + 8].try_into().expect("eight bytes are eight bytes"));
    format!("{}.{}", number(2), number(10))
}

/// Epoch and seq.
fn numbers(position: &str) -> (u64, u64) {
    let numbers = position.split_once('.');
    numbers.and_then(|(epoch, seq)| Some((epoch.parse().ok()?, seq.parse().ok()?))).expect("a position")
}

fn field(data: &str, name: &str) -> String {
    let after = data.split_once(&format!("\"{name}\":\"")).map(|(_, rest)| rest);
    after.and_then(|rest| rest.split('"').next()).expect("the field is there").to_owned()
}

async fn resets(ops: &str) -> String {
    let page = String::from_utf8(get(ops, "/metrics", "").await).expect("text");
    page.lines().find(|line| line.starts_with("hotseat_viewer_resets_total ")).expect("the metric").to_owned()
}

async fn tokens(public: &str) -> Vec<String> {
    let mut stream = Stream::open(public).await;
    let mut tokens = Vec::new();
    for user in 1..=CHANGES / SEATS_PER_CLICK {
        let body = format!("{{\"userId\":{user},\"role\":\"USER\"}}");
        let request = format!(
            "POST /api/v1/dev/token HTTP/1.1\r\nhost: {public}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.send(&request).await;
        let (_, answer) = stream.answer().await;
        tokens.push(field(&String::from_utf8(answer).expect("JSON"), "token"));
    }
    tokens
}

async fn get(host: &str, path: &str, header: &str) -> Vec<u8> {
    let mut stream = Stream::open(host).await;
    stream.send(&format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n{header}\r\n")).await;
    let (head, body) = stream.answer().await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    body
}

async fn until_ready(ops: &str) {
    loop {
        let mut stream = Stream::open(ops).await;
        stream.send(&format!("GET /readyz HTTP/1.1\r\nhost: {ops}\r\n\r\n")).await;
        if stream.answer().await.0.starts_with("HTTP/1.1 200") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Viewers whose streams have begun.
async fn connect(public: &str, query: &str, count: usize) -> Vec<Stream> {
    let request = format!(
        "GET /api/v1/options/{OPTION}/events{query} HTTP/1.1\r\nhost: {public}\r\naccept: text/event-stream\r\n\r\n"
    );
    // From an address of their own: the ports of those who went before are not free yet.
    static CROWDS: AtomicU8 = AtomicU8::new(2);
    let source = Ipv4Addr::new(127, 0, 0, CROWDS.fetch_add(1, Ordering::Relaxed));
    let mut opening = JoinSet::new();
    let mut viewers = Vec::with_capacity(count);
    for _ in 0..count {
        if opening.len() == AT_ONCE {
            viewers.extend(opening.join_next().await.map(|opened| opened.expect("it opens")));
        }
        let (public, request) = (public.to_owned(), request.clone());
        opening.spawn(async move {
            let mut stream = Stream::open_from(source, &public).await;
            stream.send(&request).await;
            // Whoever only connects finds the listener's queue full.
            stream.head().await;
            stream
        });
    }
    viewers.extend(opening.join_all().await);
    viewers
}

/// A connection with what it has not understood yet.
struct Stream {
    socket: TcpStream,
    raw: Vec<u8>,
}

impl Stream {
    async fn open_from(source: Ipv4Addr, host: &str) -> Self {
        let socket = TcpSocket::new_v4().expect("a file descriptor is free");
        socket.bind((source, 0).into()).expect("a port is free");
        let socket = socket.connect(host.parse().expect("an address")).await.expect("the server listens");
        Self { socket, raw: Vec::new() }
    }

    async fn open(host: &str) -> Self {
        for _ in 0..1_000 {
            if let Ok(socket) = TcpStream::connect(host).await {
                return Self { socket, raw: Vec::new() };
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{host} does not answer");
    }

    async fn send(&mut self, request: &str) {
        self.socket.write_all(request.as_bytes()).await.expect("the server reads");
    }

    async fn fill(&mut self) {
        let read = self.socket.read_buf(&mut self.raw).await.expect("the server answers");
        assert!(read > 0, "the server closed the connection");
    }

    /// Reads past these bytes and returns what came before.
    async fn until(&mut self, end: &[u8]) -> Vec<u8> {
        loop {
            if let Some(place) = self.raw.windows(end.len()).position(|window| window == end) {
                let rest = self.raw.split_off(place + end.len());
                let mut before = std::mem::replace(&mut self.raw, rest);
                before.truncate(place);
                return before;
            }
            self.fill().await;
        }
    }

    async fn head(&mut self) -> String {
        String::from_utf8(self.until(b"\r\n\r\n").await).expect("a head is ASCII")
    }

    async fn answer(&mut self) -> (String, Vec<u8>) {
        let head = self.head().await;
        let length = head.split("\r\n").find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.and_then(|length| length.parse().ok()).expect("an answer has a length");
        while self.raw.len() < length {
            self.fill().await;
        }
        let rest = self.raw.split_off(length);
        (head, std::mem::replace(&mut self.raw, rest))
    }

    /// The next event that is more than a `retry`: its name and data. Each is in a chunk of its own.
    async fn event(&mut self) -> (String, String) {
        loop {
            let size = String::from_utf8(self.until(b"\r\n").await).expect("a chunk's size is ASCII");
            let size = usize::from_str_radix(&size, 16).expect("a chunk's size is a number");
            while self.raw.len() < size + 2 {
                self.fill().await;
            }
            let rest = self.raw.split_off(size + 2);
            let event = String::from_utf8(std::mem::replace(&mut self.raw, rest)).expect("an event is UTF-8");
            let line = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
            if let (Some(name), Some(data)) = (line("event: "), line("data: ")) {
                return (name, data);
            }
        }
    }
}
