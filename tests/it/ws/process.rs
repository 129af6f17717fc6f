//! Sockets of the real binary: what it was configured to do, and its end.

use std::time::Duration;

use serde_json::json;

use super::client::{Ws, hold, select, watch};
use crate::support::{Place, Server};

fn address(server: &Server) -> String {
    server.api.strip_prefix("http://").unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_selection_that_runs_out_is_mine_no_more() {
    let place = Place::new();
    place.import_hall(20);
    let server = Server::start_with(&place.data, &[], &[("HOTSEAT_SELECT_TTL", "1s")]);
    let token = server.token(7);
    let (mut first, mut second) =
        (Ws::with_token(&address(&server), &token).await, Ws::with_token(&address(&server), &token).await);
    for ws in [&mut first, &mut second] {
        ws.ask("p", json!({"op": "ping"})).await;
    }
    first.ask("c", select(&[3])).await;
    for ws in [&mut first, &mut second] {
        assert_eq!(ws.event("mine").await["seats"], json!([3]));
        assert_eq!(ws.event("mine").await["seats"], json!([]), "it ran out");
    }
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_answers_what_waits_says_bye_and_keeps_what_was_held() {
    let place = Place::new();
    place.import_hall(20);
    let mut server = Server::start(&place.data, &[]);
    let token = server.token(7);
    let mut ws = Ws::with_token(&address(&server), &token).await;
    let mut viewer = Ws::open(&address(&server)).await;
    viewer.ask("w", watch()).await;
    ws.ask("c1", select(&[3])).await;
    let held = ws.ask("c2", hold("key-1", &[3])).await;
    assert_eq!(held["status"], "HOLD");
    server.signal("TERM");
    for ws in [ws, viewer] {
        let end = ws.end().await;
        assert_eq!((end.reason.as_str(), end.code), ("SHUTDOWN", 1001));
    }
    let status = server.ended(Duration::from_secs(15));
    assert_eq!(status.code(), Some(0), "{}", server.log());

    let server = Server::start(&place.data, &[]);
    let mut ws = Ws::with_token(&address(&server), &token).await;
    let again = ws.ask("c1", hold("key-1", &[3])).await;
    assert_eq!((&again["replayed"], &again["reservationId"]), (&json!(true), &held["reservationId"]));
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_says_who_may_and_how_much() {
    let place = Place::new();
    place.import_hall(20);
    let environment =
        [("HOTSEAT_WS_ORIGINS", "https://seats.example.com"), ("HOTSEAT_WS_MESSAGES_PER_SECOND", "5")];
    let server = Server::start_with(&place.data, &[], &environment);
    let address = address(&server);
    Ws::try_open(&address, &[("Origin", "https://seats.example.com")]).await.unwrap();
    assert!(Ws::try_open(&address, &[("Origin", "https://evil.example.com")]).await.is_err());
    let mut ws = Ws::open(&address).await;
    for _ in 0..20 {
        ws.send(&json!({"op": "ping"})).await;
    }
    ws.ends_with("RATE_LIMITED", 1008).await;
    server.stop();
}
