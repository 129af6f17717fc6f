//! Who may open a socket, and for how long it stays open.

use std::time::{Duration, Instant};

use hotseat::ws::origin::Origins;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::client::{Ws, select, watch};
use crate::api::world::World;

/// The problem with which an opening was refused.
async fn refused(world: &World, headers: &[(&str, &str)]) -> (u16, Value) {
    match Ws::try_open(world.address(), headers).await {
        Err(Error::Http(response)) => {
            let body = response.body().clone().unwrap_or_default();
            (response.status().as_u16(), serde_json::from_slice(&body).unwrap_or_default())
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("opened with {headers:?}"),
    }
}

#[tokio::test]
async fn a_page_of_another_host_opens_no_socket_unless_it_is_listed() {
    let world = World::start_with(|settings| {
        settings.ws.origins = Origins::new("https://seats.example.com");
    })
    .await;
    let own = format!("http://{}", world.address());
    for origin in ["https://seats.example.com", &own] {
        Ws::try_open(world.address(), &[("Origin", origin)]).await.unwrap();
    }
    for origin in ["https://evil.example.com", "null", "http://seats.example.com"] {
        let (status, problem) = refused(&world, &[("Origin", origin)]).await;
        assert_eq!((status, &problem["code"]), (403, &json!("FORBIDDEN")), "{origin}");
    }
    world.stop().await;
}

#[tokio::test]
async fn a_token_that_proves_nothing_opens_no_socket() {
    let world = World::start().await;
    for value in ["Bearer x", "Basic x", "Bearer "] {
        let (status, problem) = refused(&world, &[("Authorization", value)]).await;
        assert_eq!((status, &problem["code"]), (401, &json!("UNAUTHENTICATED")), "{value}");
    }
    world.stop().await;
}

#[tokio::test]
async fn what_is_no_handshake_is_told_what_is_missing() {
    let world = World::start().await;
    let plain = world.client().get("/api/v1/ws").await.expect(400);
    assert_eq!((plain.code(), &plain.body["pointer"]), ("MALFORMED", &json!("/headers/upgrade")));
    let rows = [
        ("Sec-WebSocket-Version", "8", "/headers/sec-websocket-version"),
        ("Sec-WebSocket-Key", "short", "/headers/sec-websocket-key"),
    ];
    for (name, value, pointer) in rows {
        let (status, problem) = refused(&world, &[(name, value)]).await;
        assert_eq!((status, &problem["pointer"]), (400, &json!(pointer)));
    }
    world.stop().await;
}

#[tokio::test]
async fn the_subprotocol_is_chosen_where_it_is_known_and_deflate_never() {
    let world = World::start().await;
    let extensions = ("Sec-WebSocket-Extensions", "permessage-deflate");
    let (_ws, response) =
        Ws::try_open(world.address(), &[("Sec-WebSocket-Protocol", "other, hotseat.bin.1"), extensions])
            .await
            .unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "hotseat.bin.1");
    assert!(!response.headers().contains_key("sec-websocket-extensions"));
    let (_ws, response) = Ws::try_open(world.address(), &[extensions]).await.unwrap();
    assert!(!response.headers().contains_key("sec-websocket-protocol"));
    world.stop().await;
}

#[tokio::test]
async fn a_click_needs_a_token_and_watching_none() {
    let world = World::start().await;
    let mut ws = Ws::open(world.address()).await;
    let refused = ws.ask("c1", select(&[3])).await;
    assert_eq!((&refused["ev"], &refused["code"]), (&json!("no"), &json!("UNAUTHENTICATED")));
    assert_eq!(ws.ask("w1", watch()).await["ev"], "ok");
    let bad = ws.ask("a1", json!({"op": "auth", "token": "x"})).await;
    assert_eq!(bad["code"], "UNAUTHENTICATED");
    let token = world.token(7, Duration::from_secs(600));
    assert_eq!(ws.ask("a2", json!({"op": "auth", "token": token})).await["ev"], "ok");
    assert_eq!(ws.ask("c2", select(&[3])).await["ev"], "ok");
    let token = world.token(8, Duration::from_secs(600));
    assert_eq!(ws.ask("a3", json!({"op": "auth", "token": token})).await["code"], "FORBIDDEN");
    world.stop().await;
}

#[tokio::test]
async fn who_says_nothing_is_closed() {
    let world = World::start().await;
    let silent = Ws::open(world.address()).await;
    silent.ends_with("SILENT", 1008).await;
    world.stop().await;
}

#[tokio::test]
async fn a_socket_ends_with_its_token_in_the_middle_of_the_stream() {
    let world = World::start().await;
    let opened = Instant::now();
    let mut ending = Ws::with_token(world.address(), &world.token(7, Duration::from_secs(1))).await;
    let mut renewed = Ws::with_token(world.address(), &world.token(8, Duration::from_secs(1))).await;
    for ws in [&mut ending, &mut renewed] {
        ws.ask("w", watch()).await;
        assert_eq!(ws.event("snapshot").await["option"], 1);
    }
    let token = world.token(8, Duration::from_secs(600));
    renewed.ask("a", json!({"op": "auth", "token": token})).await;
    let end = ending.end().await;
    assert_eq!((end.reason.as_str(), end.code), ("TOKEN_ENDED", 1008));
    // With the leeway that clocks are given.
    assert!(opened.elapsed() >= Duration::from_secs(5), "{:?}", opened.elapsed());
    assert_eq!(renewed.ask("p", json!({"op": "ping"})).await["ev"], "ok");
    world.stop().await;
}

#[tokio::test]
async fn a_client_may_say_goodbye_and_may_ping() {
    let world = World::start().await;
    let mut ws = Ws::open(world.address()).await;
    ws.ask("w", watch()).await;
    ws.event("snapshot").await;
    ws.send_message(Message::Ping(b"abc".to_vec().into())).await;
    loop {
        match ws.message().await.unwrap().unwrap() {
            Message::Pong(payload) => {
                assert_eq!(&payload[..], b"abc");
                break;
            }
            other => assert!(other.is_text(), "{other:?}"),
        }
    }
    ws.send_message(Message::Close(None)).await;
    assert_eq!(ws.end().await.reason, "", "a goodbye is answered, not explained");
    world.stop().await;
}

#[tokio::test]
async fn a_server_that_goes_down_spreads_those_who_come_back() {
    let world = World::start().await;
    let mut sockets = Vec::new();
    for _ in 0..8 {
        let mut ws = Ws::open(world.address()).await;
        ws.ask("w", watch()).await;
        sockets.push(tokio::spawn(ws.end()));
    }
    world.end_sockets().await;
    let mut delays = Vec::new();
    for ws in sockets {
        let end = ws.await.unwrap();
        assert_eq!((end.reason.as_str(), end.code), ("SHUTDOWN", 1001));
        delays.push(end.retry_after_ms);
    }
    delays.sort_unstable();
    assert!(delays.windows(2).all(|pair| pair[1] - pair[0] >= 200), "{delays:?}");
    assert!(delays.last() < Some(&5_000), "{delays:?}");
    world.stop().await;
}
