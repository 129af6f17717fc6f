//! Bad input at a gate gets its named answer, and nobody's place changes.

use std::time::Duration;

use actors::gates::GateAsk;
use engine::gate::{Policy, State};
use engine::{ConcertId, UserId};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{GATE, JOIN, LEAVE, STATUS, SUBSCRIBE, join, set, status, world};
use crate::api::world::{Reply, World};

/// What a row expects: status, code, and the pointer where there is one.
type Expected = (u16, &'static str, &'static str);

fn check(name: &str, reply: &Reply, (status, code, pointer): Expected) {
    assert_eq!((reply.status, reply.code()), (status, code), "{name}: {}", reply.text());
    assert_eq!(reply.body["pointer"].as_str().unwrap_or_default(), pointer, "{name}: {}", reply.text());
}

#[tokio::test]
async fn requests_that_make_no_sense() {
    let world = world(&json!({"state": "paused", "perSecond": 10})).await;
    let user = world.user(7);
    let before = join(&user).await;
    let bodies: [(&str, &[u8], Expected); 8] = [
        ("nothing", b"", (400, "MALFORMED", "")),
        ("no concert", b"{}", (400, "MALFORMED", "")),
        ("an array", b"[1]", (400, "MALFORMED", "")),
        ("a word", br#"{"concertId":"1"}"#, (400, "MALFORMED", "/concertId")),
        ("concert 0", br#"{"concertId":0}"#, (400, "MALFORMED", "/concertId")),
        ("a number beyond 2^53", br#"{"concertId":9007199254740992}"#, (400, "MALFORMED", "/concertId")),
        ("somebody else", br#"{"concertId":1,"userId":8}"#, (400, "MALFORMED", "/userId")),
        ("an unknown concert", br#"{"concertId":99}"#, (404, "NOT_FOUND", "")),
    ];
    for (name, body, expected) in bodies {
        check(name, &user.raw("POST", JOIN, Some("application/json"), body).await, expected);
    }
    for (method, path) in [("GET", STATUS), ("GET", SUBSCRIBE), ("DELETE", LEAVE)] {
        let path = path.split('?').next().unwrap();
        let rows = [
            ("", (400, "MALFORMED", "/query/concertId")),
            ("?concertId=x", (400, "MALFORMED", "/query/concertId")),
            ("?concertId=0", (400, "MALFORMED", "/query/concertId")),
            ("?concertId=99", (404, "NOT_FOUND", "")),
            ("?concertId=1&token=x", (400, "MALFORMED", "/query")),
        ];
        for (query, expected) in rows {
            let reply = user.raw(method, &format!("{path}{query}"), None, b"").await;
            check(&format!("{method} {path}{query}"), &reply, expected);
        }
    }
    check("a form", &user.get(&format!("{SUBSCRIBE}&form=graph")).await, (400, "MALFORMED", "/query/form"));
    let body = user.delete(LEAVE, Some(&json!({"seats": [1]}))).await;
    check("a body where there is none", &body, (400, "MALFORMED", ""));
    let nobody = world.client();
    for (method, path) in [("POST", JOIN), ("GET", STATUS), ("GET", SUBSCRIBE), ("DELETE", LEAVE)] {
        check("no token", &nobody.raw(method, path, None, b"").await, (401, "UNAUTHENTICATED", ""));
    }
    assert_eq!(status(&user).await["turn"], before["turn"]);
    assert_eq!(world.admin().get(GATE).await.expect(200).body["waiting"], 1);
    world.stop().await;
}

#[tokio::test]
async fn gates_that_make_no_sense() {
    let world = world(&json!({"state": "paused", "perSecond": 10})).await;
    let rows: Vec<(Value, Expected)> = vec![
        (json!({}), (400, "MALFORMED", "")),
        (json!({"state": "ajar"}), (400, "MALFORMED", "/state")),
        (json!({"state": "open", "mode": "auction", "perSecond": 1}), (400, "MALFORMED", "/mode")),
        (json!({"state": "open", "perSecond": -1}), (400, "MALFORMED", "/perSecond")),
        (json!({"state": "open", "perSecond": 1.5}), (400, "MALFORMED", "/perSecond")),
        (json!({"state": "open", "perSecond": 1, "opensAt": "noon"}), (400, "MALFORMED", "/opensAt")),
        (json!({"state": "open", "perSecond": 1, "speed": 1}), (400, "MALFORMED", "/speed")),
        (json!({"state": "open", "perSecond": 0}), (422, "RATE_OUT_OF_BOUNDS", "")),
        (json!({"state": "open", "perSecond": 1_000_000_000}), (422, "RATE_OUT_OF_BOUNDS", "")),
        (json!({"state": "open", "perSecond": 10_000_000_000_u64}), (422, "RATE_OUT_OF_BOUNDS", "")),
        (json!({"state": "open", "maxActive": 0}), (422, "CEILING_OUT_OF_BOUNDS", "")),
        (json!({"state": "open", "maxActive": 1_000_000_000}), (422, "CEILING_OUT_OF_BOUNDS", "")),
        (json!({"state": "open"}), (422, "NO_BOUND", "")),
        (json!({"state": "open", "mode": "presale-draw", "perSecond": 1}), (422, "OPENING_MISSING", "")),
    ];
    for (gate, expected) in rows {
        let reply = set(&world, &gate).await;
        check(&gate.to_string(), &reply, expected);
        assert!(reply.body["detail"].as_str().unwrap().ends_with('.'), "{}", reply.text());
    }
    join(&world.user(7)).await;
    let draw =
        json!({"state": "paused", "mode": "presale-draw", "perSecond": 1, "opensAt": "2099-01-01T00:00:00Z"});
    check("ranks that are known", &set(&world, &draw).await, (409, "RANKS_TOLD", ""));
    let info = world.admin().get(GATE).await.expect(200).body;
    assert_eq!((&info["version"], &info["perSecond"]), (&json!(1), &json!(10)), "{info}");

    let admin = world.admin();
    let unknown = "/admin/v1/gates/99";
    let open = br#"{"state":"open","perSecond":1}"#;
    check(
        "unknown",
        &admin.raw("PUT", unknown, Some("application/json"), open).await,
        (404, "NOT_FOUND", ""),
    );
    check("unknown", &admin.get(unknown).await, (404, "NOT_FOUND", ""));
    check("unknown", &admin.get(&format!("{unknown}/history")).await, (404, "NOT_FOUND", ""));
    check("limit", &admin.get(&format!("{GATE}/history?limit=0")).await, (400, "MALFORMED", "/query/limit"));
    check(
        "cursor",
        &admin.get(&format!("{GATE}/history?cursor=x")).await,
        (400, "MALFORMED", "/query/cursor"),
    );
    for client in [world.user(7), world.payment()] {
        check("a buyer", &client.get(GATE).await, (403, "FORBIDDEN", ""));
        check("a buyer", &client.get(&format!("{GATE}/history")).await, (403, "FORBIDDEN", ""));
        let reply = client.raw("PUT", GATE, Some("application/json"), open).await;
        check("a buyer", &reply, (403, "FORBIDDEN", ""));
    }
    world.stop().await;
}

/// The gate was set while the node was alone; what it is told then is not taken back.
#[tokio::test]
async fn a_mirror_that_others_do_not_share_is_complained_about() {
    let world = World::start_with(|settings| settings.keeps_lines = false).await;
    let reply = set(&world, &json!({"state": "open", "perSecond": 5})).await.expect(503);
    assert_eq!(reply.code(), "MIRROR_NOT_SHARED");
    let warnings = async || world.ops_client().get("/readyz").await.expect(200).body["warnings"].clone();
    assert_eq!(warnings().await, json!([]), "there is no gate yet");
    let policy = Policy { state: State::Open, per_second: Some(5), ..Policy::default() };
    let ask = GateAsk::Set { policy, by: UserId(1) };
    let patience = Instant::now() + Duration::from_secs(10);
    world.handle().gates().ask(world.shard_of(1), ConcertId(1), ask, patience).await.unwrap();
    world.directory.refresh(world.ledger().as_ref()).await.unwrap();
    let said = warnings().await.to_string();
    assert!(said.contains("1 waiting rooms lose their line") && said.contains("mirror.url"), "{said}");
    world.stop().await;
}

/// Who is not answered in time may be in line all the same, and is told so; a pass is kept by nobody on the way.
#[tokio::test]
async fn an_answer_that_did_not_come_promises_nothing() {
    let world = World::start_with(|settings| settings.click_timeout = Duration::ZERO).await;
    set(&world, &json!({"state": "open", "perSecond": 5})).await.expect(200);
    let user = world.user(7);
    for reply in [
        user.post(JOIN, &json!({"concertId": 1})).await,
        user.get(STATUS).await,
        user.delete(LEAVE, None).await,
    ] {
        assert_eq!((reply.status, reply.code(), reply.header("retry-after")), (503, "OVERLOADED", "1"));
        let detail = reply.body["detail"].as_str().unwrap();
        assert!(detail.starts_with("It may have been done all the same."), "{detail}");
    }
    world.stop().await;
}
