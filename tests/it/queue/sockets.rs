//! The line over a WebSocket: the same answers and events, beside clicks.

use std::time::Duration;

use serde_json::{Value, json};

use super::{LEAVE, enter, join, status, world};
use crate::api::world::World;
use crate::ws::client::{Ws, select};

async fn socket(world: &World, user: u64) -> Ws {
    Ws::with_token(world.address(), &world.token(user, Duration::from_secs(600))).await
}

fn op(op: &str) -> Value {
    json!({"op": op, "concert": 1})
}

/// The next event of the line but its keep-alives.
async fn heard(ws: &mut Ws, event: &str) -> Value {
    let told = ws.find(|message| message["ev"] == "queue" && message["event"] != "KEEPALIVE");
    let told = tokio::time::timeout(Duration::from_secs(60), told).await.expect("an event comes");
    assert_eq!((&told["event"], &told["concert"]), (&json!(event), &json!(1)), "{told}");
    told
}

#[tokio::test]
async fn the_line_is_joined_followed_and_left_over_one_socket() {
    let world = world(&json!({"state": "open", "maxActive": 1})).await;
    let inside = world.user(11);
    enter(&inside).await;
    let mut ws = socket(&world, 7).await;
    assert_eq!(ws.ask("q", op("queue")).await, json!({"ev": "ok", "id": "q"}));
    assert_eq!(heard(&mut ws, "INIT").await["status"], "NONE");
    let joined = ws.ask("j", op("join")).await;
    assert_eq!(
        (&joined["ev"], &joined["status"], &joined["rank"]),
        (&json!("ok"), &json!("WAITING"), &json!(1))
    );
    let init = heard(&mut ws, "INIT").await;
    assert_eq!((&init["status"], &init["turn"]), (&json!("WAITING"), &joined["turn"]), "{init}");
    assert_eq!(ws.ask("s", op("queue-status")).await["turn"], joined["turn"]);
    assert_eq!(join(&world.user(7)).await["turn"], joined["turn"], "the same over HTTP");

    inside.delete(LEAVE, None).await.expect(200);
    let active = heard(&mut ws, "ACTIVE").await;
    assert!(active["pass"].is_string(), "{active}");
    // Its pass is the socket's from now on.
    let selected = ws.ask("c", select(&[3])).await;
    assert_eq!(selected["ev"], "ok", "{selected}");
    let mut other = socket(&world, 7).await;
    let refused = other.ask("c", select(&[4])).await;
    assert_eq!(refused["code"], "PASS_REQUIRED", "{refused}");
    assert_eq!(other.ask("j", op("join")).await["status"], "ACTIVE");
    assert_eq!(other.ask("c2", select(&[4])).await["ev"], "ok", "an answer brings it too");

    let left = ws.ask("l", op("leave")).await;
    assert_eq!((&left["ev"], &left["left"]), (&json!("ok"), &json!("SALE")), "{left}");
    assert_eq!(ws.ask("c3", select(&[5])).await["code"], "PASS_REQUIRED");
    assert_eq!(status(&world.user(7)).await["status"], "NONE");
    world.stop().await;
}

#[tokio::test]
async fn who_unsubscribes_hears_nothing_more() {
    let world = world(&json!({"state": "open", "maxActive": 1})).await;
    let inside = world.user(11);
    enter(&inside).await;
    let mut ws = socket(&world, 7).await;
    ws.ask("j", op("join")).await;
    ws.ask("q", op("queue")).await;
    heard(&mut ws, "INIT").await;
    assert_eq!(ws.ask("u", op("unqueue")).await["ev"], "ok");
    inside.delete(LEAVE, None).await.expect(200);
    super::until(&world.user(7), "ACTIVE").await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(ws.ask("p", json!({"op": "ping"})).await["ev"], "ok");
    ws.send(&json!({"op": "ping", "id": "last"})).await;
    assert_eq!(ws.next().await["id"], "last", "nothing else came");
    world.stop().await;
}

#[tokio::test]
async fn what_makes_no_sense_is_named() {
    let world = world(&json!({"state": "paused", "perSecond": 10})).await;
    let mut stranger = Ws::open(world.address()).await;
    for name in ["join", "queue-status", "leave", "queue"] {
        assert_eq!(stranger.ask(name, op(name)).await["code"], "UNAUTHENTICATED", "{name}");
    }
    let mut ws = socket(&world, 7).await;
    for name in ["join", "queue-status", "leave", "queue"] {
        let unknown = ws.ask(name, json!({"op": name, "concert": 99})).await;
        assert_eq!((&unknown["ev"], &unknown["code"]), (&json!("no"), &json!("NOT_FOUND")), "{name}");
    }
    let form = ws.ask("f", json!({"op": "queue", "concert": 1, "form": "graph"})).await;
    assert_eq!((&form["code"], &form["pointer"]), (&json!("MALFORMED"), &json!("/form")));
    world.stop().await;
}
