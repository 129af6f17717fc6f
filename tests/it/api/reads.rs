//! What everybody may read: the catalogue, plans, seats, owners and chain heads.

use std::io::Read as _;

use serde_json::{Value, json};

use super::world::World;

const SEATS: &str = "/api/v1/options/1/seats";

fn unzip(bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(bytes).read_to_end(&mut plain).unwrap();
    plain
}

#[tokio::test]
async fn the_catalogue_lists_concerts_and_their_options() {
    let world = World::start().await;
    for title in ["Second", "Third"] {
        world.import(title).await;
    }
    let public = world.client();
    let first = public.get("/api/v1/concerts?limit=2").await.expect(200);
    let cursor = first.body["nextCursor"].as_str().unwrap().to_owned();
    let second = public.get(&format!("/api/v1/concerts?limit=2&cursor={cursor}")).await.expect(200);
    assert!(second.body["nextCursor"].is_null());
    let titles: Vec<&Value> = [&first, &second]
        .iter()
        .flat_map(|page| page.body["items"].as_array().unwrap())
        .map(|one| &one["title"])
        .collect();
    assert_eq!(titles, ["First", "Second", "Third"]);
    assert_eq!(public.get("/api/v1/concerts/1").await.expect(200).body["title"], "First");
    let options = public.get("/api/v1/concerts/1/options").await.expect(200);
    let option = &options.body["items"][0];
    assert_eq!(option["optionId"], 1);
    assert_eq!(option["startsAt"], "2027-05-01T10:00:00Z");
    assert_eq!(option["status"], "ON_SALE");
    assert_eq!(option["seatCount"], 100);
    world.stop().await;
}

#[tokio::test]
async fn a_snapshot_is_json_or_a_map_and_says_when_nothing_changed() {
    let world = World::start().await;
    let user = world.user(7);
    user.post("/api/v1/options/1/selections", &json!({"seats": [1]})).await.expect(201);
    user.hold(&[2]).await;
    let wanted = [(0, "AVAILABLE"), (1, "SELECTING"), (2, "HOLD")];
    world.until_states(&wanted).await;

    let public = world.client();
    let json = public.get(SEATS).await.expect(200);
    assert_eq!(json.header("content-type"), "application/json");
    assert_eq!(json.body["counts"], json!({"available": 98, "selecting": 1, "hold": 1, "confirmed": 0}));
    assert_eq!(json.body["seats"].as_array().unwrap().len(), 100);
    assert_eq!(json.body["seats"][1], json!({"seatNo": 1, "label": "A-1-2", "state": "SELECTING"}));
    let etag = json.header("etag").to_owned();
    assert_eq!(etag, format!("W/\"{}.{}\"", json.body["epoch"], json.body["seq"]));

    let same = public.header("If-None-Match", &etag).get(SEATS).await.expect(304);
    assert!(same.bytes.is_empty());
    assert_eq!(same.header("etag"), etag);
    let gzip = public.header("Accept-Encoding", "br, gzip").get(SEATS).await.expect(200);
    assert_eq!(gzip.header("content-encoding"), "gzip");
    assert_eq!(unzip(&gzip.bytes), json.bytes);
    assert_eq!(public.header("Accept-Encoding", "gzip;q=0").get(SEATS).await.header("content-encoding"), "");

    let map = public.header("Accept", "application/octet-stream").get(SEATS).await.expect(200);
    assert_eq!(map.header("content-type"), "application/octet-stream");
    assert_eq!(map.bytes.len(), 22 + 25);
    assert_eq!(map.bytes[..2], [1, 2]);
    assert_eq!(map.bytes[2..10], json.body["epoch"].as_u64().unwrap().to_le_bytes());
    assert_eq!(map.bytes[10..18], json.body["seq"].as_u64().unwrap().to_le_bytes());
    assert_eq!(map.bytes[18..22], 100_u32.to_le_bytes());
    assert_eq!(map.bytes[22], 0b10_01_00);

    user.delete("/api/v1/options/1/selections", None).await.expect(200);
    world.until_states(&[(1, "AVAILABLE")]).await;
    public.header("If-None-Match", &etag).get(SEATS).await.expect(200);
    world.stop().await;
}

#[tokio::test]
async fn a_plan_is_kept_for_ever_under_its_hash() {
    let world = World::start().await;
    let public = world.client();
    let options = public.get("/api/v1/concerts/1/options").await.expect(200);
    let hash = options.body["items"][0]["planHash"].as_str().unwrap();
    let path = format!("/api/v1/options/1/plan?hash={hash}");
    let plan = public.get(&path).await.expect(200);
    assert_eq!(plan.header("cache-control"), "public, max-age=31536000, immutable");
    assert_eq!(plan.header("etag"), format!("W/\"{hash}\""));
    assert_eq!(plan.body["sections"][0]["code"], "A");
    assert_eq!(plan.body["currency"], "EUR");
    let gzip = public.header("Accept-Encoding", "gzip").get(&path).await.expect(200);
    assert_eq!(unzip(&gzip.bytes), plan.bytes);
    let unnamed = public.get("/api/v1/options/1/plan").await.expect(200);
    assert_eq!(unnamed.bytes, plan.bytes);
    assert_eq!(unnamed.header("cache-control"), "public, max-age=60");
    public.header("If-None-Match", plan.header("etag")).get(&path).await.expect(304);
    world.stop().await;
}

#[tokio::test]
async fn owners_and_chain_heads_are_public() {
    let world = World::start().await;
    let public = world.client();
    let route = public.get("/api/v1/route?concertId=1").await.expect(200);
    assert_eq!(route.body["url"], world.public_url());
    assert!(route.body["epoch"].as_u64().unwrap() >= 1);
    let shard = &route.body["shard"];
    let head = |reply: &super::world::Reply| {
        let items = reply.body["items"].as_array().unwrap();
        items.iter().find(|item| item["shard"] == *shard).cloned().unwrap()
    };
    let before = head(&public.get("/api/v1/audit/head").await.expect(200));
    world.user(7).hold(&[3]).await;
    let after = head(&public.get("/api/v1/audit/head").await.expect(200));
    assert_eq!(after["eventSeq"].as_u64().unwrap(), before["eventSeq"].as_u64().unwrap() + 1);
    assert_ne!(after["hash"], before["hash"]);
    assert_eq!(after["hash"].as_str().unwrap().len(), 64);
    world.stop().await;
}
