//! Watching: a map that is right at every step, whatever happens to the socket and to the shard.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::client::{Ws, watch};
use crate::api::world::World;

/// What a client keeps: the map, and where it stands.
#[derive(Clone, Debug, Default)]
pub struct Map {
    pub at: String,
    pub states: Vec<u8>,
}

impl Map {
    /// Applies a message of the feed by the protocol's rule.
    pub fn apply(&mut self, message: &Value) {
        match message["ev"].as_str().unwrap() {
            "snapshot" => {
                let bytes = STANDARD.decode(message["map"].as_str().unwrap()).unwrap();
                *self = Self::of_compact(&bytes);
                assert_eq!(self.at, message["at"].as_str().unwrap());
            }
            "changes" | "continues" => {
                assert_eq!(message["from"], json!(self.at), "a gap: {message}");
                for change in message["set"].as_array().unwrap() {
                    let seat = usize::try_from(change[0].as_u64().unwrap()).unwrap();
                    self.states[seat] = u8::try_from(change[1].as_u64().unwrap()).unwrap();
                }
                self.at = message["to"].as_str().unwrap().to_owned();
            }
            other => panic!("{other} is not of the feed"),
        }
    }

    pub fn of_compact(bytes: &[u8]) -> Self {
        let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        assert_eq!(bytes[..2], [1, 2]);
        let seats = u32::from_le_bytes(bytes[18..22].try_into().unwrap()) as usize;
        let states = (0..seats).map(|seat| bytes[22 + seat / 4] >> (2 * (seat % 4)) & 3).collect();
        Self { at: format!("{}.{}", number(2), number(10)), states }
    }

    /// The map as everybody else reads it.
    pub async fn now(world: &World) -> Self {
        let reply = world.client().header("Accept", "application/octet-stream");
        Self::of_compact(&reply.get("/api/v1/options/1/seats").await.expect(200).bytes)
    }
}

pub fn is_feed(message: &Value) -> bool {
    ["snapshot", "changes", "continues"].iter().any(|event| message["ev"] == *event)
}

/// Reads the feed until the map is this one.
async fn follow(ws: &mut Ws, map: &mut Map, wanted: impl Fn(&Map) -> bool) {
    while !wanted(map) {
        let message = ws.find(is_feed).await;
        map.apply(&message);
    }
}

async fn click(world: &World, user: u64, seats: &[u32]) {
    world.user(user).post("/api/v1/options/1/selections", &json!({"seats": seats})).await.expect(201);
}

async fn give_back(world: &World, user: u64) {
    world.user(user).delete("/api/v1/options/1/selections", None).await.expect(200);
}

#[tokio::test]
async fn clicks_of_others_arrive_in_order_and_without_a_gap() {
    let world = World::start().await;
    let mut ws = Ws::open(world.address()).await;
    assert_eq!(ws.ask("w", watch()).await, json!({"ev": "ok", "id": "w"}));
    let mut map = Map::default();
    follow(&mut ws, &mut map, |map| !map.states.is_empty()).await;
    for round in 0..5 {
        for user in 0..10_u32 {
            click(&world, u64::from(user) + 1, &[user * 10 + round, user * 10 + round + 1]).await;
        }
        for user in 0..10 {
            if (user + u64::from(round)).is_multiple_of(3) {
                give_back(&world, user + 1).await;
            }
        }
    }
    world.user(1).post("/api/v1/options/1/selections", &json!({"seats": [9]})).await;
    let now = Map::now(&world).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let last = Map::now(&world).await;
    follow(&mut ws, &mut map, |map| map.at == last.at).await;
    assert_eq!(map.states, last.states, "{} was {}", last.at, now.at);
    world.stop().await;
}

#[tokio::test]
async fn who_comes_back_gets_what_was_missed_and_no_more() {
    let world = World::start().await;
    let mut ws = Ws::open(world.address()).await;
    ws.send(&watch()).await;
    let mut map = Map::default();
    follow(&mut ws, &mut map, |map| !map.states.is_empty()).await;
    drop(ws);
    click(&world, 7, &[3, 4]).await;
    tokio::time::sleep(Duration::from_millis(50)).await;

    let mut ws = Ws::open(world.address()).await;
    ws.send(&json!({"op": "watch", "option": 1, "since": map.at})).await;
    let missed = ws.find(is_feed).await;
    assert_eq!((&missed["ev"], &missed["set"]), (&json!("changes"), &json!([[3, 1], [4, 1]])));
    map.apply(&missed);
    drop(ws);

    // Nothing missed: nothing comes but what happens next.
    let mut ws = Ws::open(world.address()).await;
    ws.ask("w", json!({"op": "watch", "option": 1, "since": map.at})).await;
    give_back(&world, 7).await;
    let next = ws.find(is_feed).await;
    assert_eq!((&next["from"], &next["set"]), (&json!(map.at), &json!([[3, 0], [4, 0]])));

    let mut ws = Ws::open(world.address()).await;
    ws.send(&json!({"op": "watch", "option": 1, "since": "0.17"})).await;
    assert_eq!(ws.find(is_feed).await["ev"], "snapshot", "a position that nobody was ever at");
    world.stop().await;
}

#[tokio::test]
async fn a_crash_of_the_shard_is_continued() {
    let world = World::start().await;
    let mut ws = Ws::open(world.address()).await;
    ws.send(&watch()).await;
    let mut map = Map::default();
    follow(&mut ws, &mut map, |map| !map.states.is_empty()).await;
    let epoch = |at: &str| at.split_once('.').unwrap().0.parse::<u64>().unwrap();
    let before = epoch(&map.at);
    for (shard, _) in world.handle().statuses() {
        world.handle().crash(shard);
    }
    world.handle().until_serving().await;
    follow(&mut ws, &mut map, |map| epoch(&map.at) > before).await;
    click(&world, 7, &[3]).await;
    follow(&mut ws, &mut map, |map| map.states[3] == 1).await;
    world.stop().await;
}

#[tokio::test]
async fn the_binary_feed_says_the_same() {
    let world = World::start().await;
    let headers = [("Sec-WebSocket-Protocol", "hotseat.bin.1")];
    let mut ws = Ws::try_open(world.address(), &headers).await.unwrap().0;
    ws.send(&watch()).await;
    let binary = async |ws: &mut Ws| loop {
        match ws.message().await.unwrap().unwrap() {
            Message::Binary(bytes) => return bytes,
            Message::Text(text) => assert!(text.contains("\"ok\""), "{text}"),
            other => panic!("{other:?}"),
        }
    };
    let snapshot = binary(&mut ws).await;
    assert_eq!(snapshot[..4], [1, 0, 0, 0]);
    let map = Map::of_compact(&snapshot[4..]);
    assert_eq!((map.states.len(), &map.at), (100, &Map::now(&world).await.at));
    click(&world, 7, &[3]).await;
    let changes = binary(&mut ws).await;
    assert_eq!(changes[..6], [1, 0, 0, 0, 1, 0x82]);
    assert_eq!(changes[30..], [1, 0, 0, 0, 3 << 2 | 1, 0, 0, 0]);
    world.stop().await;
}

#[tokio::test]
async fn options_are_watched_side_by_side_until_they_are_not() {
    let world = World::start().await;
    let second = world.import("Second").await;
    let mut ws = Ws::open(world.address()).await;
    ws.send(&json!([{"op": "watch", "option": 1}, {"op": "watch", "option": second}])).await;
    for option in [1, second] {
        ws.find(|message| message["ev"] == "snapshot" && message["option"] == option).await;
    }
    ws.ask("u", json!({"op": "unwatch", "option": 1})).await;
    click(&world, 7, &[3]).await;
    let path = format!("/api/v1/options/{second}/selections");
    world.user(7).post(&path, &json!({"seats": [5]})).await.expect(201);
    let changes = ws.find(is_feed).await;
    assert_eq!((&changes["option"], &changes["set"]), (&json!(second), &json!([[5, 1]])));
    world.stop().await;
}
