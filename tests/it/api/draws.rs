//! The public record of a draw, an entrant's entry, and the beacon's word.

use actors::gates::draws::{BeaconChain, Settled, commit, freeze, order};
use actors::gates::ports::{DrawRow, Drawn, Fence, GateLedger, Written};
use actors::handle::ShardStatus;
use engine::{ConcertId, Span, Time, Turn, UserId};
use serde_json::{Value, json};

use super::world::World;

const RECORD: &str = "/api/v1/draws/1";
const ENTRY: &str = "/api/v1/draws/1/entry";
/// 2027-05-01T10:00:00Z.
pub const OPENING: Time = Time(1_809_165_600_000_000);
const CHAIN: BeaconChain = BeaconChain { genesis: Time(1_692_803_367_000_000), period: Span::from_secs(3) };
pub const BEACON: [u8; 32] = [0xbe; 32];

pub fn committed() -> DrawRow {
    commit(ConcertId(1), 1, OPENING - Span::from_secs(3_600), [1; 32], [2; 32])
}

/// Users 100 to 110, in turns 10 to 20.
pub fn frozen(chain: bool) -> DrawRow {
    let entrants = (0..11).map(|n| (Turn(10 + n), UserId(100 + u64::from(n)))).collect();
    let settled = Settled { first: Turn(10), upto: Turn(21), entrants };
    freeze(&committed(), &settled, || OPENING, chain.then_some(CHAIN))
}

pub fn drawn(chain: bool, beacon: Option<[u8; 32]>) -> DrawRow {
    let at = OPENING + Span::from_secs(60);
    DrawRow { drawn: Some(Drawn { at, beacon }), ..frozen(chain) }
}

impl World {
    /// Saves a draw of the concert as its gate's owner would.
    pub async fn save(&self, row: &DrawRow) {
        let shard = self.shard_of(1);
        let ShardStatus::Serving(epoch) = self.handle().status(shard).unwrap() else {
            panic!("the shard does not serve");
        };
        let written = self.ledger().save_draw(Fence { shard, epoch }, row).await.unwrap();
        assert_eq!(written, Written::Done);
    }

    /// The record in a stage, once this node has read it.
    pub async fn record(&self, stage: &str) -> Value {
        for _ in 0..100 {
            let reply = self.client().get(RECORD).await;
            if reply.body["stage"] == stage {
                return reply.body;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        panic!("the record is never {stage}");
    }
}

#[tokio::test]
async fn a_record_grows_and_tells_the_seed_last() {
    let world = World::start().await;
    assert_eq!(world.client().get(RECORD).await.expect(404).code(), "NO_DRAW");
    assert_eq!(world.user(100).get(ENTRY).await.expect(404).code(), "NO_DRAW");
    assert_eq!(world.client().get("/api/v1/draws/9").await.expect(404).code(), "NOT_FOUND");
    assert_eq!(world.client().get("/api/v1/draws/x").await.expect(400).code(), "MALFORMED");

    world.save(&committed()).await;
    let before = world.record("COMMITTED").await;
    assert_eq!(before.as_object().unwrap().len(), 5, "{before}");
    assert_eq!(before["committedAt"], "2027-05-01T09:00:00Z");
    assert_eq!(world.user(100).get(ENTRY).await.expect(404).code(), "NO_ENTRY");

    world.save(&frozen(true)).await;
    let opened = world.record("FROZEN").await;
    assert_eq!(opened["entrants"], 11);
    assert_eq!(opened["rootPublishedAt"], "2027-05-01T10:00:00Z");
    assert!(opened["round"]["round"].as_u64().unwrap() > 1_000_000, "{opened}");
    for secret in ["seed", "order", "beacon", "trust", "drawnAt"] {
        assert!(opened.get(secret).is_none(), "{secret} in {opened}");
    }
    assert!(!opened.to_string().contains(&"01".repeat(32)) && !opened.to_string().contains(&"02".repeat(32)));

    world.save(&drawn(true, Some(BEACON))).await;
    let record = world.record("DRAWN").await;
    assert_eq!(record["commitment"], before["commitment"]);
    assert_eq!(record["seed"], "01".repeat(32));
    assert_eq!(record["beacon"], "be".repeat(32));
    assert_eq!(record["trust"], "beacon");
    assert!(!record.to_string().contains(&"02".repeat(32)), "the salts' key");
    world.stop().await;
}

#[tokio::test]
async fn a_record_that_is_known_is_not_sent_again() {
    let world = World::start().await;
    world.save(&frozen(false)).await;
    world.record("FROZEN").await;
    let first = world.client().get(RECORD).await.expect(200);
    assert!(first.body["round"].is_null() && first.body.get("round").is_some());
    let etag = first.header("etag").to_owned();
    world.client().header("if-none-match", &etag).get(RECORD).await.expect(304);
    world.save(&drawn(false, None)).await;
    assert_eq!(world.record("DRAWN").await["trust"], "operator-trusted");
    let later = world.client().header("if-none-match", &etag).get(RECORD).await.expect(200);
    assert_ne!(later.header("etag"), etag);
    world.stop().await;
}

#[tokio::test]
async fn a_draw_stays_in_sight_when_another_follows() {
    let world = World::start().await;
    world.save(&drawn(true, Some(BEACON))).await;
    world.save(&DrawRow { no: 2, seed: [3; 32], ..committed() }).await;
    let newest = world.record("COMMITTED").await;
    assert_eq!(newest["no"], 2);
    assert_eq!(world.client().get(&format!("{RECORD}?no=2")).await.expect(200).body, newest);
    let first = world.client().get(&format!("{RECORD}?no=1")).await.expect(200);
    assert_eq!((&first.body["no"], &first.body["stage"]), (&json!(1), &json!("DRAWN")));
    let etag = first.header("etag").to_owned();
    world.client().header("if-none-match", &etag).get(&format!("{RECORD}?no=1")).await.expect(304);
    world.client().header("if-none-match", &etag).get(RECORD).await.expect(200);
    assert_eq!(world.user(105).get(ENTRY).await.expect(404).code(), "NO_ENTRY");
    assert_eq!(world.user(105).get(&format!("{ENTRY}?no=1")).await.expect(200).body["no"], 1);
    for no in ["3", "4294967296", "4294967297"] {
        assert_eq!(world.client().get(&format!("{RECORD}?no={no}")).await.expect(404).code(), "NO_DRAW");
        assert_eq!(world.user(105).get(&format!("{ENTRY}?no={no}")).await.expect(404).code(), "NO_DRAW");
    }
    for wrong in ["no=0", "no=x", "no=-1", "no=", "number=1"] {
        assert_eq!(world.client().get(&format!("{RECORD}?{wrong}")).await.expect(400).code(), "MALFORMED");
    }
    world.stop().await;
}

#[tokio::test]
async fn an_entrant_sees_its_own_entry_and_nobody_elses() {
    let world = World::start().await;
    let row = drawn(true, Some(BEACON));
    world.save(&row).await;
    let record = world.record("DRAWN").await;
    world.client().get(ENTRY).await.expect(401);
    assert_eq!(world.user(99).get(ENTRY).await.expect(404).code(), "NO_ENTRY");
    let order = order(&row).unwrap();
    for n in 0..11 {
        let reply = world.user(100 + n).get(ENTRY).await.expect(200);
        assert_eq!(reply.header("cache-control"), "no-store");
        let entry = reply.body;
        assert_eq!(
            (&entry["userId"], &entry["turn"], &entry["index"]),
            (&json!(100 + n), &json!(10 + n), &json!(n))
        );
        assert_eq!((&entry["root"], &entry["entrants"]), (&record["root"], &json!(11)));
        let place = usize::try_from(entry["place"].as_u64().unwrap()).unwrap();
        assert_eq!(u64::from(order[place - 1].0), 10 + n);
    }
    world.stop().await;
}

#[tokio::test]
async fn a_beacons_word_is_an_operators_and_said_in_full() {
    let world = World::start().await;
    let path = "/admin/v1/gates/1/beacon";
    let put = async |client: super::world::Client, path: &str, body: &Value| {
        client.raw("PUT", path, Some("application/json"), body.to_string().as_bytes()).await
    };
    let word = json!({"round": 5, "value": "be".repeat(32)});
    assert_eq!(put(world.client(), path, &word).await.status, 401);
    assert_eq!(put(world.user(7), path, &word).await.status, 403);
    assert_eq!(put(world.ops(), "/admin/v1/gates/9/beacon", &word).await.code(), "NOT_FOUND");
    for wrong in [
        json!({"round": 5}),
        json!({"value": null}),
        json!({"round": 5, "value": "be"}),
        json!({"round": 5, "value": "zz".repeat(32)}),
        json!({"round": -1, "value": null}),
        json!({"round": 5, "value": null, "chain": "x"}),
    ] {
        let reply = put(world.ops(), path, &wrong).await;
        assert_eq!((reply.status, reply.code()), (400, "MALFORMED"), "{wrong}");
    }
    world.stop().await;
}
