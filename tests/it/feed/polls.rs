//! What changed since, for those who ask from time to time.

use std::time::{Duration, Instant};

use serde_json::json;

use super::viewer::Known;
use crate::api::world::{Client, Reply, World};

const SEATS: &str = "/api/v1/options/1/seats";
const SELECTIONS: &str = "/api/v1/options/1/selections";

async fn since(client: &Client, position: &str) -> Reply {
    client.get(&format!("{SEATS}?since={position}")).await
}

async fn known(world: &World) -> Known {
    let map = world.client().header("Accept", "application/octet-stream").get(SEATS).await.expect(200);
    Known::of_map(&map.bytes)
}

#[tokio::test]
async fn a_poll_gets_what_changed_and_nothing_when_nothing_did() {
    let world = World::start().await;
    let (public, user) = (world.client(), world.user(7));
    let first = known(&world).await;
    let none = since(&public, &first.at).await.expect(200);
    assert_eq!(none.header("content-type"), "application/json");
    assert_eq!(none.body, json!({"ev": "changes", "option": 1, "from": first.at, "to": first.at, "set": []}));

    user.hold(&[2]).await;
    world.until_states(&[(2, "HOLD")]).await;
    user.post(SELECTIONS, &json!({"seats": [5, 1]})).await.expect(201);
    world.until_states(&[(1, "SELECTING"), (5, "SELECTING")]).await;
    let changes = since(&public, &first.at).await.expect(200);
    assert_eq!(changes.body["set"], json!([[1, 1], [2, 2], [5, 1]]));
    let mut follows = first.clone();
    assert_eq!(follows.apply(&changes.body), "changes");
    assert_eq!(follows, known(&world).await);
    let etag = changes.header("etag").to_owned();
    assert_eq!(etag, format!("W/\"{}\"", follows.at));

    let path = format!("{SEATS}?since={}", first.at);
    public.header("If-None-Match", &etag).get(&path).await.expect(304);
    let compact = public.header("Accept", "application/octet-stream").get(&path).await.expect(200);
    assert_eq!(compact.header("content-type"), "application/octet-stream");
    assert_eq!(compact.bytes.len(), 30 + 3 * 4);
    assert_eq!(compact.bytes[..2], [1, 0x82]);
    assert_eq!(compact.bytes[30..34], (1_u32 << 2 | 1).to_le_bytes());
    assert_eq!(public.raw("HEAD", &path, None, b"").await.expect(200).bytes.len(), 0);
    assert_eq!(world.metric("hotseat_viewer_resets_total").await, 0);
    assert_eq!(world.metric("hotseat_viewers").await, 0);
    world.stop().await;
}

#[tokio::test]
async fn a_position_that_is_none_is_named() {
    let world = World::start().await;
    for text in ["", "3", "3.", ".1", "a.b", "-1.2", "1.2.3", "1.99999999999999999999", "%00", "1.2%20"] {
        let reply = since(&world.client(), text).await;
        assert_eq!((reply.status, reply.code()), (400, "MALFORMED"), "{text:?}: {}", reply.text());
        assert_eq!(reply.body["pointer"], "/query/since", "{text:?}");
    }
    let twice = world.client().get(&format!("{SEATS}?since=1.0&since=1.1")).await;
    assert_eq!((twice.status, twice.code()), (400, "MALFORMED"));
    assert_eq!(world.client().get(&format!("{SEATS}?from=1.0")).await.status, 400);
    let unknown = world.client().get("/api/v1/options/9/seats?since=1.0").await;
    assert_eq!((unknown.status, unknown.code()), (404, "OPTION_UNKNOWN"));
    world.stop().await;
}

#[tokio::test]
async fn a_position_from_the_future_is_waited_for_and_an_unknown_one_begins_anew() {
    let world = World::start().await;
    let (public, user) = (world.client(), world.user(7));
    let first = known(&world).await;
    let (epoch, seq) = first.at.split_once('.').unwrap();
    let seq: u64 = seq.parse().unwrap();
    let ahead = format!("{epoch}.{}", seq + 1);
    let (waited, _) = tokio::join!(since(&public, &ahead), async {
        user.post(SELECTIONS, &json!({"seats": [3, 4]})).await.expect(201);
    });
    // It had the first of the two changes, says its position.
    let after = known(&world).await;
    assert_eq!(waited.body["from"], ahead);
    assert_eq!(waited.body["to"], after.at);
    for unknown in [format!("{epoch}.{}", seq + 1_000), "999.0".to_owned(), "0.0".to_owned()] {
        let begun = Instant::now();
        let mut anew = Known::default();
        assert_eq!(anew.apply(&since(&public, &unknown).await.expect(200).body), "snapshot", "{unknown}");
        assert_eq!(anew, after);
        assert!(begun.elapsed() < Duration::from_secs(30));
    }
    assert_eq!(world.metric("hotseat_viewer_resets_total").await, 3);
    world.stop().await;
}
