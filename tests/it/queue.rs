//! Waiting rooms over a real listener: who waits, who is let in, and who hears of it.

mod bad_input;
mod line;
mod sockets;
mod streams;

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::api::world::{Client, Reply, World};

const JOIN: &str = "/api/v1/waiting-queue/join";
const STATUS: &str = "/api/v1/waiting-queue/status?concertId=1";
const LEAVE: &str = "/api/v1/waiting-queue/leave?concertId=1";
const SUBSCRIBE: &str = "/api/v1/waiting-queue/subscribe?concertId=1";
const GATE: &str = "/admin/v1/gates/1";

/// Sets the gate of concert 1.
async fn set(world: &World, gate: &Value) -> Reply {
    world.admin().raw("PUT", GATE, Some("application/json"), gate.to_string().as_bytes()).await
}

/// A server whose concert 1 has a gate.
async fn world(gate: &Value) -> World {
    let world = World::start().await;
    set(&world, gate).await.expect(200);
    world
}

async fn join(client: &Client) -> Value {
    let reply = client.post(JOIN, &json!({"concertId": 1})).await.expect(200);
    assert_eq!(reply.header("cache-control"), "no-store", "it may carry a pass");
    reply.body
}

async fn status(client: &Client) -> Value {
    let reply = client.get(STATUS).await.expect(200);
    assert_eq!(reply.header("cache-control"), "no-store", "it may carry a pass");
    reply.body
}

/// Asks until it stands so, and says how.
async fn until(client: &Client, wanted: &str) -> Value {
    let give_up = Instant::now() + Duration::from_secs(30);
    loop {
        let now = status(client).await;
        if now["status"] == wanted {
            return now;
        }
        assert!(Instant::now() < give_up, "never {wanted}, but {now}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Joins and waits to be let in; the pass.
async fn enter(client: &Client) -> String {
    join(client).await;
    until(client, "ACTIVE").await["pass"].as_str().unwrap().to_owned()
}
