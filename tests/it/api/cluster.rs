//! What operators hear of the cluster, and may ask of it: from a node alone, and from one among others.

use std::sync::{Arc, Mutex};

use actors::ops::{
    LedgerReach, MoveId, MoveInfo, MoveState, NodeInfo, NodeState, Ops, OpsError, Rebalance, ShardInfo,
    ShardOwner, ShardState,
};
use async_trait::async_trait;
use engine::{Epoch, ShardId, Span, Time};
use serde_json::{Value, json};

use super::world::World;

/// Three nodes of which one drains and one is silent. Moves go a step further each time they are asked for; those of
/// shard 13 fail.
#[derive(Default)]
pub struct Cluster {
    moves: Mutex<Vec<MoveInfo>>,
}

impl Cluster {
    pub async fn start() -> World {
        World::start_among(|_| (), |_| Arc::new(Self::default())).await
    }

    fn begin(&self, shard: u16, to: &str) -> MoveInfo {
        let mut moves = self.moves.lock().unwrap();
        let begun = MoveInfo {
            id: Some(MoveId(0x0198_c0de_0000_7000_8000_0000_0000_0000 + moves.len() as u128)),
            state: MoveState::Waiting,
            ..planned(shard, to)
        };
        moves.insert(0, begun.clone());
        begun
    }
}

fn planned(shard: u16, to: &str) -> MoveInfo {
    MoveInfo {
        id: None,
        shard: ShardId(shard),
        from: "hotseat-1".to_owned(),
        to: to.to_owned(),
        state: MoveState::Planned,
        since: Time(1_809_252_000_000_000),
        eta: Some(Span(1_500_001)),
    }
}

#[async_trait]
impl Ops for Cluster {
    async fn shards(&self) -> Result<Vec<ShardInfo>, OpsError> {
        let shard = |shard, epoch, node: &str, state| ShardInfo {
            shard: ShardId(shard),
            epoch: Epoch(epoch),
            owner: Some(ShardOwner {
                node: node.to_owned(),
                url: format!("http://{node}:8080"),
                expires_in: Span(4_249_001),
            }),
            state,
        };
        let free = ShardInfo { owner: None, ..shard(3, 0, "", ShardState::Free) };
        Ok(vec![
            shard(0, 3, "hotseat-1", ShardState::Serving),
            shard(1, 1_204, "hotseat-10", ShardState::Moving),
            shard(2, 1, "hotseat-1", ShardState::Starting),
            free,
        ])
    }

    async fn nodes(&self) -> Result<Vec<NodeInfo>, OpsError> {
        let node = |name: &str, state, shards, ledger| NodeInfo {
            node: name.to_owned(),
            url: format!("http://{name}:8080"),
            peer_url: if shards == 0 { String::new() } else { format!("https://{name}:7400") },
            state,
            shards,
            ledger,
        };
        Ok(vec![
            node("hotseat-1", NodeState::Up, 12, LedgerReach::Reaches),
            node("hotseat-10", NodeState::Draining, 1, LedgerReach::Away),
            node("hotseat-2", NodeState::Silent, 0, LedgerReach::Unknown),
        ])
    }

    async fn move_shard(&self, shard: ShardId, to: &str) -> Result<MoveInfo, OpsError> {
        let node = to.to_owned();
        Err(match to {
            "unknown" => OpsError::NodeUnknown { node, known: vec!["hotseat-1".into(), "hotseat-2".into()] },
            "draining" => OpsError::NodeDraining(node),
            "silent" => OpsError::NodeSilent(node),
            "busy" => OpsError::AlreadyMoving { shard, to: node },
            "there" => OpsError::AlreadyThere { shard, node },
            "asleep" => OpsError::NotServing(shard),
            "away" => OpsError::Unavailable("the disk of the primary".into()),
            "broken" => OpsError::Corrupt("column owner".into()),
            _ => return Ok(self.begin(shard.0, to)),
        })
    }

    async fn moves(&self) -> Result<Vec<MoveInfo>, OpsError> {
        let mut moves = self.moves.lock().unwrap();
        for one in moves.iter_mut() {
            one.state = match (&one.state, one.shard) {
                (MoveState::Waiting, _) => MoveState::Preparing,
                (MoveState::Preparing, _) => MoveState::Moving,
                (_, ShardId(13)) => MoveState::Failed("the ledger did not answer in time".into()),
                _ => MoveState::Done,
            };
        }
        Ok(moves.clone())
    }

    async fn rebalance(&self, rebalance: Rebalance) -> Result<Vec<MoveInfo>, OpsError> {
        let wish = |(shard, to)| match rebalance.is_dry_run {
            true => planned(shard, to),
            false => self.begin(shard, to),
        };
        Ok([(3, "hotseat-2"), (12, "hotseat-10")].map(wish).into())
    }

    async fn drain(&self, node: &str) -> Result<Vec<MoveInfo>, OpsError> {
        Ok(match node {
            "hotseat-1" => [7, 13].map(|shard| self.begin(shard, "hotseat-2")).into(),
            "hotseat-10" => vec![self.begin(1, "hotseat-1")],
            _ => Vec::new(),
        })
    }
}

#[tokio::test]
async fn a_node_alone_says_what_it_has_and_moves_nothing() {
    let world = World::start().await;
    let (ops, url) = (world.ops(), world.client().get("/api/v1/route?concertId=1").await.body["url"].clone());
    let shards = ops.get("/admin/v1/shards").await.expect(200);
    let items = shards.body["items"].as_array().unwrap();
    assert_eq!(shards.body["nextCursor"], Value::Null);
    let numbers: Vec<&Value> = items.iter().map(|one| &one["shard"]).collect();
    assert_eq!(numbers, [0, 1, 2, 3]);
    for one in items {
        let expected = json!({"epoch": 1, "node": "test", "url": url, "state": "SERVING"});
        for key in ["epoch", "node", "url", "state"] {
            assert_eq!(one[key], expected[key], "{one}");
        }
        assert!((1..=5_000).contains(&one["expiresInMs"].as_i64().unwrap()), "{one}");
    }
    let concerts: i64 = items.iter().map(|one| one["concerts"].as_i64().unwrap()).sum();
    assert_eq!(concerts, 1);
    let nodes = ops.get("/admin/v1/nodes").await.expect(200);
    let me =
        json!({"node": "test", "url": url, "peerUrl": null, "state": "UP", "shards": 4, "ledger": "REACHES"});
    assert_eq!(nodes.body, json!({"items": [me], "nextCursor": null}));

    let refused = ops.post("/admin/v1/moves", &json!({"shard": 3, "to": "other"})).await.expect(409);
    assert_eq!(refused.code(), "ALONE");
    let alone = "This node is alone: there is no other node to move a shard to.";
    assert_eq!(refused.body["detail"], alone);
    let refused = ops.post("/admin/v1/nodes/test/drain", &json!({})).await.expect(409);
    assert_eq!((refused.code(), &refused.body["detail"]), ("ALONE", &json!(alone)));
    let refused = ops.post("/admin/v1/moves", &json!({"shard": 4, "to": "other"})).await.expect(404);
    assert_eq!(refused.body["detail"], "There is no shard 4: this cluster has 0 to 3.");
    let refused = ops.post("/admin/v1/nodes/other/drain", &json!({})).await.expect(404);
    assert_eq!(refused.body["detail"], "There is no node \"other\": this cluster has test.");
    let plan = ops.post("/admin/v1/rebalance", &json!({"dryRun": true, "atOnce": 2})).await.expect(200);
    assert_eq!(plan.body, json!({"dryRun": true, "atOnce": 2, "moves": []}));
    let plan = ops.post("/admin/v1/rebalance", &json!({})).await.expect(202);
    assert_eq!(plan.body, json!({"dryRun": false, "atOnce": 4, "moves": []}));
    let moves = ops.get("/admin/v1/moves").await.expect(200);
    assert_eq!(moves.body, json!({"items": [], "nextCursor": null}));
    world.stop().await;
}

#[tokio::test]
async fn the_cluster_is_the_operators() {
    let world = World::start().await;
    let move_one = json!({"shard": 0, "to": "other"});
    for (method, path, body) in [
        ("GET", "/admin/v1/shards", Value::Null),
        ("GET", "/admin/v1/nodes", Value::Null),
        ("GET", "/admin/v1/moves", Value::Null),
        ("POST", "/admin/v1/moves", move_one),
        ("POST", "/admin/v1/rebalance", json!({})),
        ("POST", "/admin/v1/nodes/test/drain", json!({})),
    ] {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let content = (!body.is_empty()).then_some("application/json");
        for (client, status) in [(world.client(), 401), (world.user(7), 403), (world.payment(), 403)] {
            let reply = client.raw(method, path, content, &body).await;
            assert_eq!(reply.status, status, "{method} {path}: {}", reply.text());
        }
        let reply = world.admin().raw(method, path, content, &body).await;
        assert!(![401, 403].contains(&reply.status), "{method} {path}: {}", reply.text());
    }
    world.stop().await;
}

#[tokio::test]
async fn what_cannot_be_read_is_pointed_at() {
    let world = Cluster::start().await;
    let ops = world.ops();
    for (path, body, pointer) in [
        ("moves", json!({"shard": 65_536, "to": "b"}), "/shard"),
        ("moves", json!({"shard": -1, "to": "b"}), "/shard"),
        ("moves", json!({"shard": "1", "to": "b"}), "/shard"),
        ("moves", json!({"shard": 1, "to": 2}), "/to"),
        ("moves", json!({"shard": 1}), ""),
        ("moves", json!({"shard": 1, "to": "b", "at": "once"}), "/at"),
        ("rebalance", json!({"atOnce": 0}), "/atOnce"),
        ("rebalance", json!({"atOnce": 65}), "/atOnce"),
        ("rebalance", json!({"dryRun": "yes"}), "/dryRun"),
        ("rebalance", json!({"dry_run": true}), "/dry_run"),
        ("nodes/hotseat-1/drain", json!({"now": true}), ""),
    ] {
        let reply = ops.post(&format!("/admin/v1/{path}"), &body).await.expect(400);
        assert_eq!((reply.code(), &reply.body["pointer"]), ("MALFORMED", &json!(pointer)), "{path} {body}");
    }
    let moves = ops.get("/admin/v1/moves").await.expect(200);
    assert_eq!(moves.body["items"], json!([]), "and nothing was begun");
    world.stop().await;
}

#[tokio::test]
async fn a_move_that_cannot_be_says_why_and_what_to_do() {
    let world = Cluster::start().await;
    for (to, status, code, detail) in [
        ("unknown", 404, "NOT_FOUND", "There is no node \"unknown\": this cluster has hotseat-1, hotseat-2."),
        (
            "draining",
            409,
            "NODE_DRAINING",
            "\"draining\" is draining and takes no shards: name another node.",
        ),
        (
            "silent",
            409,
            "NODE_SILENT",
            "\"silent\" does not answer: see that it runs and is reached, or name another node.",
        ),
        ("busy", 409, "ALREADY_MOVING", "Shard 5 is on its way to \"busy\": wait until it is there."),
        ("there", 409, "ALREADY_THERE", "\"there\" has shard 5: there is nothing to move."),
        (
            "asleep",
            409,
            "SHARD_NOT_SERVING",
            "Shard 5 does not serve now, and nobody can give it away: try again when it does.",
        ),
    ] {
        let reply = world.ops().post("/admin/v1/moves", &json!({"shard": 5, "to": to})).await.expect(status);
        assert_eq!((reply.code(), &reply.body["detail"]), (code, &json!(detail)));
    }
    let away = world.ops().post("/admin/v1/moves", &json!({"shard": 5, "to": "away"})).await.expect(503);
    assert_eq!(away.code(), "LEDGER_UNAVAILABLE");
    let broken = world.ops().post("/admin/v1/moves", &json!({"shard": 5, "to": "broken"})).await.expect(500);
    assert!(broken.code() == "INTERNAL" && !broken.text().contains("column"), "{}", broken.text());
    world.stop().await;
}

#[tokio::test]
async fn moves_are_told_from_begin_to_end() {
    let world = Cluster::start().await;
    let ops = world.ops();
    let begun = ops.post("/admin/v1/moves", &json!({"shard": 17, "to": "hotseat-2"})).await.expect(202);
    let id = "0198c0de-0000-7000-8000-000000000000";
    let mut expected = json!({"moveId": id, "shard": 17, "from": "hotseat-1", "to": "hotseat-2",
        "state": "WAITING", "since": "2027-05-02T10:00:00Z", "etaMs": 1_501, "why": null});
    assert_eq!(begun.body, expected);
    for state in ["PREPARING", "MOVING", "DONE", "DONE"] {
        expected["state"] = json!(state);
        assert_eq!(ops.get("/admin/v1/moves").await.expect(200).body["items"], json!([expected]));
    }
    let plan = ops.post("/admin/v1/rebalance", &json!({"dryRun": true})).await.expect(200);
    let steps = plan.body["moves"].as_array().unwrap();
    assert_eq!((steps.len(), &steps[0]["moveId"], &steps[0]["state"]), (2, &Value::Null, &json!("PLANNED")));
    let drained = ops.post("/admin/v1/nodes/hotseat-1/drain", &json!({})).await.expect(202);
    assert_eq!(
        (&drained.body["node"], &drained.body["moves"][1]["shard"]),
        (&json!("hotseat-1"), &json!(13))
    );
    for _ in 0..3 {
        ops.get("/admin/v1/moves").await.expect(200);
    }
    let failed = ops.get("/admin/v1/moves").await.expect(200).body["items"][0].clone();
    assert_eq!(failed["why"], "the ledger did not answer in time", "newest first");
    assert_eq!(failed["state"], "FAILED");

    let shards = ops.get("/admin/v1/shards").await.expect(200);
    let free = json!({"shard": 3, "epoch": 0, "node": null, "url": null, "state": "FREE", "expiresInMs": null,
        "concerts": shards.body["items"][3]["concerts"]});
    assert_eq!(shards.body["items"][3], free);
    assert_eq!(shards.body["items"][1]["state"], "MOVING");
    world.stop().await;
}
