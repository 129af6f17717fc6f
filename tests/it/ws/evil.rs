//! Clients that send what no client may, or read nothing, or vanish.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use actors::handle::Ask;
use engine::{Authority, Caller, Command, OptionId, SeatNo, UserId};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use super::client::{PATIENCE, Ws, watch};
use super::feed::{Map, is_feed};
use crate::api::world::World;

/// A connection that was upgraded and now says what it likes. It takes next to nothing off the wire by itself.
async fn raw(world: &World) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let mut stream = socket.connect(world.address().parse().unwrap()).await.unwrap();
    let request = format!(
        "GET /api/v1/ws HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
        world.address()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(timeout(PATIENCE, stream.read_u8()).await.unwrap().unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    stream
}

/// A masked frame; the mask is all zeros, which is as good as any.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first, 0x80 | 127];
    bytes.extend_from_slice(&(payload.len() as u64).to_be_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(payload);
    bytes
}

fn text(message: &str) -> Vec<u8> {
    frame(0x81, message.as_bytes())
}

/// What the server's frames say until it closes.
async fn rest(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset after the goodbye would be one too early: it could overtake it.
    timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.unwrap().unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Sends, as far as it is taken, and compares the goodbye.
async fn check(world: &World, bytes: &[u8], reason: &str) {
    let mut stream = raw(world).await;
    let _taken = timeout(PATIENCE, stream.write_all(bytes)).await.unwrap();
    let rest = rest(stream).await;
    assert!(rest.contains(&format!("{{\"ev\":\"bye\",\"reason\":\"{reason}\"")), "{reason}: {rest}");
}

#[tokio::test]
async fn what_no_client_may_send_is_named_and_ends_the_socket() {
    let world = World::start().await;
    let ten_megabytes = vec![b'x'; 10 << 20];
    let fragments = [frame(0x01, &ten_megabytes[..60_000]), frame(0x00, &ten_megabytes[..60_000])].concat();
    let unmasked = [&[0x81, 2][..], b"{}"].concat();
    let rows: [(&[u8], &str); 9] = [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "PROTOCOL_ERROR"),
        (&unmasked, "PROTOCOL_ERROR"),
        (&frame(0x83, b"x"), "PROTOCOL_ERROR"),
        (&frame(0x80, b"x"), "PROTOCOL_ERROR"),
        (&frame(0x89, &ten_megabytes[..200]), "PROTOCOL_ERROR"),
        (&frame(0x81, b"\xff\xfe\x00"), "NOT_UTF8"),
        (&frame(0x81, &ten_megabytes), "TOO_LARGE"),
        (&frame(0x82, &ten_megabytes), "TOO_LARGE"),
        (&fragments, "TOO_LARGE"),
    ];
    for (bytes, reason) in rows {
        check(&world, bytes, reason).await;
    }
    assert_eq!(world.client().get("/api/v1/concerts").await.status, 200);
    world.stop().await;
}

#[tokio::test]
async fn garbage_is_answered_for_a_while() {
    let world = World::start().await;
    let mut ws = Ws::open(world.address()).await;
    for garbage in ["", "garbage", "{", "7", "[]", "{\"op\":7}", "\u{0}"] {
        ws.send_text(garbage).await;
        let answer = ws.next().await;
        assert_eq!((&answer["ev"], &answer["code"]), (&json!("no"), &json!("MALFORMED")), "{garbage:?}");
    }
    ws.send_message(Message::binary(vec![1, 2, 3])).await;
    assert_eq!(ws.next().await["code"], "MALFORMED");
    for _ in 0..4 {
        ws.send_text("garbage").await;
    }
    ws.ends_with("BAD_FRAMES", 1008).await;
    world.stop().await;
}

#[tokio::test]
async fn too_many_watches_end_the_socket() {
    let world = World::start_with(|settings| settings.ws.max_watches = 2).await;
    for title in ["Second", "Third"] {
        world.import(title).await;
    }
    let mut ws = Ws::open(world.address()).await;
    for option in 1..=2 {
        ws.ask("w", json!({"op": "watch", "option": option})).await;
    }
    ws.send(&json!({"op": "watch", "option": 3})).await;
    ws.ends_with("TOO_MANY_WATCHES", 1008).await;
    world.stop().await;
}

#[tokio::test]
async fn ten_thousand_frames_a_second_end_the_socket_and_nobody_else() {
    let world = World::start().await;
    let mut other = Ws::open(world.address()).await;
    other.ask("w", watch()).await;
    let flood = text("{\"op\":\"ping\"}").repeat(10_000);
    check(&world, &flood, "RATE_LIMITED").await;
    let pings = frame(0x89, b"x").repeat(10_000);
    check(&world, &pings, "RATE_LIMITED").await;
    assert_eq!(other.ask("p", json!({"op": "ping"})).await["ev"], "ok");
    world.stop().await;
}

#[tokio::test]
async fn a_client_that_never_reads_its_answers_is_closed() {
    let world = World::start_with(|settings| {
        settings.ws.messages_per_second = u16::MAX;
        settings.ws.send_buffer = 16 * 1024;
        settings.ws.stall_timeout = Duration::from_secs(1);
    })
    .await;
    let mut stream = raw(&world).await;
    let id = "x".repeat(60);
    let pings = text(&format!("{{\"op\":\"ping\",\"id\":\"{id}\"}}")).repeat(100);
    stream.write_all(&text(&watch().to_string())).await.unwrap();
    let started = Instant::now();
    // Until the server reads no more, and then until it closes.
    while let Ok(taken) = timeout(PATIENCE, stream.write_all(&pings)).await {
        assert!(started.elapsed() < PATIENCE, "the server goes on reading");
        if taken.is_err() {
            assert_eq!(metric(&world, "hotseat_viewers_stalled_total").await, 1.0);
            world.stop().await;
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the server neither reads nor closes");
}

/// Selects and gives back most of the hall, over and over.
async fn bustle(world: &World, stop: Arc<AtomicBool>) {
    let option = OptionId(1);
    let mut is_select = true;
    while !stop.load(Ordering::Relaxed) {
        for user in 0..12_u32 {
            let seats = (user * 8..user * 8 + 8).map(SeatNo).collect();
            let command = if is_select {
                Command::Select { option, seats }
            } else {
                Command::Release { option, seats: None }
            };
            let caller = Caller { user: UserId(u64::from(user) + 1), authority: Authority::Own };
            let ask = Ask { caller, key: None, pass: None, command };
            let deadline = tokio::time::Instant::now() + PATIENCE;
            world.handle().ask(world.shard_of(1), ask, deadline).await;
        }
        is_select = !is_select;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn metric(world: &World, name: &str) -> f64 {
    let text = world.ops_client().get("/metrics").await.expect(200).text();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
    line.unwrap_or_else(|| panic!("{name} is not in\n{text}")).parse().unwrap()
}

#[tokio::test]
async fn a_viewer_that_does_not_read_loses_its_backlog_and_ends_with_the_right_map() {
    let world = World::start_with(|settings| settings.ws.send_buffer = 16 * 1024).await;
    let mut ws = Ws::open_narrow(world.address()).await;
    ws.send(&watch()).await;
    let mut map = Map::default();
    map.apply(&ws.find(is_feed).await);
    let stop = Arc::new(AtomicBool::new(false));
    let lazy = async {
        let started = Instant::now();
        let (mut pause, mut is_reset) = (Duration::from_secs(1), false);
        while !is_reset {
            assert!(started.elapsed() < 2 * PATIENCE, "it gets every change");
            tokio::time::sleep(pause).await;
            let until = Instant::now() + Duration::from_millis(500);
            while !is_reset && Instant::now() < until {
                let message = ws.find(is_feed).await;
                is_reset = message["ev"] == "snapshot";
                map.apply(&message);
            }
            pause *= 2;
        }
        stop.store(true, Ordering::Relaxed);
    };
    tokio::join!(bustle(&world, stop.clone()), lazy);
    assert!(metric(&world, "hotseat_viewer_resets_total").await >= 1.0);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let last = Map::now(&world).await;
    while map.at != last.at {
        map.apply(&ws.find(is_feed).await);
    }
    assert_eq!(map.states, last.states);
    world.stop().await;
}

#[tokio::test]
async fn clients_that_vanish_leave_nothing_behind() {
    let world = World::start().await;
    let viewers = "hotseat_viewers";
    for round in 0..3 {
        let mut streams = Vec::new();
        for _ in 0..20 {
            let mut stream = raw(&world).await;
            let message = match round {
                0 => json!({"op": "watch", "option": 1}),
                1 => json!([{"op": "watch", "option": 1}, {"op": "ping"}]),
                _ => Value::Array(vec![watch(); 8]),
            };
            stream.write_all(&text(&message.to_string())).await.unwrap();
            streams.push(stream);
        }
        wait_for(&world, viewers, 20.0).await;
        for stream in streams {
            // Reset, not closed: the client is gone without a word.
            let stream = stream.into_std().unwrap();
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        }
        wait_for(&world, viewers, 0.0).await;
    }
    world.stop().await;
}

async fn wait_for(world: &World, name: &str, value: f64) {
    let started = Instant::now();
    while metric(world, name).await != value {
        assert!(started.elapsed() < PATIENCE, "{name} is {}", metric(world, name).await);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
