//! Viewers across new epochs: a shard that is restored, a server that ends well or badly.

use std::time::Duration;

use engine::ShardId;
use serde_json::json;

use super::viewer::{Events, Known};
use crate::api::world::World;
use crate::support::{Place, Server};

const EVENTS: &str = "/api/v1/options/1/events";
const SELECTIONS: &str = "/api/v1/options/1/selections";

async fn shard(world: &World) -> ShardId {
    let route = world.client().get("/api/v1/route?concertId=1").await.expect(200);
    ShardId(u16::try_from(route.body["shard"].as_u64().unwrap()).unwrap())
}

#[tokio::test]
async fn a_restored_shard_goes_on_for_viewers_who_stay_and_who_come_back() {
    let world = World::start().await;
    let user = world.user(7);
    let mut events = Events::open(world.public_url(), EVENTS, &[]).await;
    let mut seen = Known::default();
    events.follow(&mut seen).await;
    user.hold(&[2]).await;
    events.follow_until(&mut seen, 2, 2).await;
    let left = seen.clone();
    world.handle().crash(shard(&world).await);
    while events.follow(&mut seen).await != "continues" {}
    assert_ne!(left.at.split('.').next(), seen.at.split('.').next());
    world.handle().until_serving().await;
    user.post(SELECTIONS, &json!({"seats": [5]})).await.expect(201);
    events.follow_until(&mut seen, 5, 1).await;
    assert_eq!(seen.seats[2], 2);

    let mut again = left.clone();
    let mut back = Events::open(world.public_url(), EVENTS, &[("Last-Event-ID", &left.at)]).await;
    assert_eq!(back.follow(&mut again).await, "continues");
    back.follow_until(&mut again, 5, 1).await;
    assert_eq!(again, seen);
    let poll = world.client().get(&format!("/api/v1/options/1/seats?since={}", left.at)).await.expect(200);
    let mut polled = left;
    assert_eq!(polled.apply(&poll.body), "continues");
    assert_eq!(world.metric("hotseat_viewer_resets_total").await, 0);
    world.stop().await;
}

/// Follows a server of its own until a seat is held.
async fn follow_a_hold(server: &Server, seat: u32, events: &mut Events, seen: &mut Known) {
    let answer = server.hold(1, &[seat], &server.token(7), &format!("key-{seat}"));
    assert_eq!(answer.status, 201, "{answer:?}");
    events.follow_until(seen, seat as usize, 2).await;
}

#[tokio::test]
async fn a_server_that_ends_tells_its_viewers_and_one_that_comes_back_shows_them_the_map() {
    let place = Place::new();
    place.import_hall(40);
    let mut server = Server::start(&place.data, &[]);
    let mut events = Events::open(&server.api, EVENTS, &[]).await;
    let mut seen = Known::default();
    events.follow(&mut seen).await;
    follow_a_hold(&server, 3, &mut events, &mut seen).await;
    server.signal("TERM");
    assert_eq!(events.next().await, None, "an end, not a break");
    assert_eq!(server.ended(Duration::from_secs(15)).code(), Some(0), "{}", server.log());

    let server = Server::start(&place.data, &[]);
    let mut events = Events::open(&server.api, EVENTS, &[("Last-Event-ID", &seen.at)]).await;
    let before = seen.clone();
    assert_eq!(events.follow(&mut seen).await, "snapshot");
    assert_eq!(seen.seats, before.seats);
    assert_ne!(seen.at, before.at);
    follow_a_hold(&server, 4, &mut events, &mut seen).await;
    server.kill();

    let server = Server::start(&place.data, &[]);
    let mut events = Events::open(&server.api, EVENTS, &[("Last-Event-ID", &seen.at)]).await;
    let before = seen.clone();
    assert_eq!(events.follow(&mut seen).await, "snapshot");
    assert_eq!(seen.seats, before.seats);
    server.stop();
}
