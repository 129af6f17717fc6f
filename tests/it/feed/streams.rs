//! Server-sent events under clicks, and clients of every kind.

use std::time::Duration;

use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper_util::rt::TokioExecutor;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::viewer::{Events, Known};
use crate::api::world::{Client, World};

const EVENTS: &str = "/api/v1/options/1/events";
const SEATS: &str = "/api/v1/options/1/seats";
const SELECTIONS: &str = "/api/v1/options/1/selections";

async fn open(world: &World) -> Events {
    Events::open(world.public_url(), EVENTS, &[]).await
}

async fn known(world: &World) -> Known {
    let map = world.client().header("Accept", "application/octet-stream").get(SEATS).await.expect(200);
    Known::of_map(&map.bytes)
}

/// Clicks that look like chance and are the same in every run.
async fn click_about(user: Client, seed: u32, clicks: u32) {
    for click in 0..clicks {
        let seat = (seed * 37 + click * 7919) % 100;
        if click % 3 == 2 {
            user.delete(SELECTIONS, None).await.expect(200);
        } else if click % 17 == 4 {
            let path = "/api/v1/options/1/holds";
            let selected = user.post(SELECTIONS, &json!({"seats": [seat]})).await;
            if selected.status < 300 {
                user.key(&format!("{seed}-{click}")).post(path, &json!({"seats": [seat]})).await;
            }
        } else {
            // Taken seats are refused, which is as it should be.
            user.post(SELECTIONS, &json!({"seats": [seat]})).await;
        }
    }
}

#[tokio::test]
async fn every_viewer_ends_with_the_map_of_everybody() {
    let world = World::start().await;
    let mut viewers = Vec::new();
    for _ in 0..5 {
        let mut events = open(&world).await;
        let mut seen = Known::default();
        assert_eq!(events.follow(&mut seen).await, "snapshot");
        viewers.push((events, seen));
    }
    let clicking: Vec<_> =
        (0..6).map(|seed| tokio::spawn(click_about(world.user(100 + u64::from(seed)), seed, 60))).collect();
    for task in clicking {
        task.await.unwrap();
    }
    world.user(7).post(SELECTIONS, &json!({"best": {"party": 1}})).await.expect(201);
    // A snapshot is at most a tick old: this one has everything.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let last = known(&world).await;
    for (events, seen) in &mut viewers {
        while seen.at != last.at {
            assert_eq!(events.follow(seen).await, "changes");
        }
        assert_eq!(*seen, last);
    }
    assert_eq!(world.metric("hotseat_viewers").await, 5);
    assert_eq!(world.metric("hotseat_viewer_resets_total").await, 0);
    drop(viewers);
    world.until_metric("hotseat_viewers", 0).await;
    world.stop().await;
}

#[tokio::test]
async fn who_lost_the_connection_goes_on_where_it_was() {
    let world = World::start().await;
    let user = world.user(7);
    let mut events = open(&world).await;
    assert!(events.head.starts_with("http/1.1 200"), "{}", events.head);
    for line in ["content-type: text/event-stream", "cache-control: no-store", "x-accel-buffering: no"] {
        assert!(events.head.contains(line), "{}", events.head);
    }
    let retry = events.any().await.unwrap();
    assert!((500..3_500).contains(&retry.retry.parse::<u64>().unwrap()), "{retry:?}");
    let mut seen = Known::default();
    events.follow(&mut seen).await;
    drop(events);
    user.post(SELECTIONS, &json!({"seats": [1, 2]})).await.expect(201);
    user.delete(SELECTIONS, Some(&json!({"seats": [2]}))).await.expect(200);
    let by_query = format!("{EVENTS}?since={}", seen.at);
    let at = seen.at.clone();
    let ways: [(&str, &[(&str, &str)]); 3] = [
        (&by_query, &[]),
        (EVENTS, &[("Last-Event-ID", &at)]),
        // A browser sends both when it reconnects: the event is the newer.
        ("/api/v1/options/1/events?since=0.7", &[("Last-Event-ID", &at), ("Accept", "text/event-stream")]),
    ];
    for (path, headers) in ways {
        let mut again = seen.clone();
        let mut events = Events::open(world.public_url(), path, headers).await;
        assert_eq!(events.follow(&mut again).await, "changes", "{path}");
        events.follow_until(&mut again, 1, 1).await;
        assert_eq!(again.seats[2], 0);
    }
    assert_eq!(world.metric("hotseat_viewer_resets_total").await, 0);
    world.stop().await;
}

#[tokio::test]
async fn who_asks_wrongly_is_told_so() {
    let world = World::start().await;
    let public = world.client();
    let rows = [
        (public.clone(), "?since=x", 400, "MALFORMED", "/query/since"),
        (public.header("Last-Event-ID", "now"), "", 400, "MALFORMED", "/headers/Last-Event-ID"),
        (public.header("Last-Event-ID", ""), "", 400, "MALFORMED", "/headers/Last-Event-ID"),
        (public.header("Last-Event-ID", "now"), "?since=1.0", 400, "MALFORMED", "/headers/Last-Event-ID"),
    ];
    for (client, query, status, code, pointer) in rows {
        let reply = client.get(&format!("{EVENTS}{query}")).await;
        assert_eq!((reply.status, reply.code()), (status, code), "{}", reply.text());
        assert_eq!(reply.body["pointer"], pointer);
    }
    let unknown = public.get("/api/v1/options/9/events").await;
    assert_eq!((unknown.status, unknown.code()), (404, "OPTION_UNKNOWN"));
    let head = public.raw("HEAD", EVENTS, None, b"").await.expect(200);
    assert_eq!((head.header("content-type"), head.bytes.len()), ("text/event-stream", 0));
    // Whoever asks for events gets events.
    let events = Events::open(world.public_url(), EVENTS, &[("Accept", "application/json")]).await;
    assert!(events.head.contains("content-type: text/event-stream"), "{}", events.head);
    drop(events);
    world.until_metric("hotseat_viewers", 0).await;
    world.stop().await;
}

/// Reads until what came has these parts, in this order.
async fn read_until(parts: &[&str], mut read: impl AsyncFnMut() -> Vec<u8>) {
    let mut text = String::new();
    let follow = |text: &str| {
        let after = |rest: usize, part: &&str| Some(text[rest..].find(part)? + rest + part.len());
        parts.iter().try_fold(0, after)
    };
    while follow(&text).is_none() {
        let more = tokio::time::timeout(Duration::from_secs(60), read()).await.expect("more comes");
        assert!(!more.is_empty(), "the stream ended after {text}");
        text.push_str(std::str::from_utf8(&more).unwrap());
    }
}

const PARTS: [&str; 4] =
    ["retry: ", "event: snapshot\nid: ", "event: changes\nid: ", ",\"set\":[[5,1]]}\n\n"];

#[tokio::test]
async fn streams_are_the_same_over_http_2() {
    let world = World::start().await;
    let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
        .http2_only(true)
        .build_http::<Empty<Bytes>>();
    let url = format!("{}{EVENTS}", world.public_url());
    let response = http.get(url.parse().unwrap()).await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    world.until_metric("hotseat_viewers", 1).await;
    world.user(7).post(SELECTIONS, &json!({"seats": [5]})).await.expect(201);
    let mut body = response.into_body();
    read_until(&PARTS, async || body.frame().await.unwrap().unwrap().into_data().unwrap().to_vec()).await;
    drop(body);
    world.until_metric("hotseat_viewers", 0).await;
    world.stop().await;
}

#[tokio::test]
async fn streams_are_the_same_over_http_1_0() {
    let world = World::start().await;
    let host = world.public_url().strip_prefix("http://").unwrap();
    let mut socket = tokio::net::TcpStream::connect(host).await.unwrap();
    let request = format!("GET {EVENTS} HTTP/1.0\r\nHost: {host}\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    world.until_metric("hotseat_viewers", 1).await;
    world.user(7).post(SELECTIONS, &json!({"seats": [5]})).await.expect(201);
    read_until(&PARTS, async || {
        let mut bytes = vec![0; 4_096];
        let read = socket.read(&mut bytes).await.unwrap();
        bytes.truncate(read);
        bytes
    })
    .await;
    drop(socket);
    world.until_metric("hotseat_viewers", 0).await;
    world.stop().await;
}

/// Makes changes until something holds: ten users take ten seats each and give them back.
async fn churn_until(world: &World, mut done: impl AsyncFnMut() -> bool) {
    let users: Vec<_> = (0..12).map(|user| world.user(200 + user)).collect();
    while !done().await {
        for (place, user) in users.iter().enumerate() {
            let seats: Vec<usize> = (0..8).map(|seat| place * 8 + seat).collect();
            user.post(SELECTIONS, &json!({"seats": seats})).await.expect(201);
        }
        tokio::time::sleep(Duration::from_millis(11)).await;
        for user in &users {
            user.delete(SELECTIONS, None).await.expect(200);
        }
        tokio::time::sleep(Duration::from_millis(11)).await;
    }
}

#[tokio::test]
async fn who_never_reads_is_let_go_and_who_reads_late_misses_nothing() {
    let world = World::start().await;
    let mut late = open(&world).await;
    let mut seen = Known::default();
    late.follow(&mut seen).await;
    let _never = Events::ask(world.public_url(), EVENTS, &[], Some(4_096)).await;
    world.until_metric("hotseat_viewers", 2).await;
    churn_until(&world, async || world.metric("hotseat_viewers_stalled_total").await == 1).await;
    world.until_metric("hotseat_viewers", 1).await;
    world.user(7).post(SELECTIONS, &json!({"seats": [99]})).await.expect(201);
    late.follow_until(&mut seen, 99, 1).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(seen, known(&world).await);
    world.stop().await;
}
