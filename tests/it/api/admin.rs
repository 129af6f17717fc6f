//! What runs the sale: imports, blocks, closing, limits, audits, health.

use serde_json::{Value, json};

use super::world::{World, plan};

#[tokio::test]
async fn house_seats_are_blocked_and_given_back() {
    let world = World::start().await;
    let admin = world.admin();
    let seats: Vec<u32> = (10..30).collect();
    let blocks = "/admin/v1/options/1/blocks";
    let blocked = admin.key("b").post(blocks, &json!({"seats": seats})).await.expect(201);
    let items = blocked.body["items"].as_array().unwrap();
    let sizes: Vec<usize> = items.iter().map(|one| one["seats"].as_array().unwrap().len()).collect();
    assert_eq!(sizes, [8, 8, 4]);
    assert!(items.iter().all(|one| one["kind"] == "BLOCK"));
    world.until_states(&[(9, "AVAILABLE"), (10, "CONFIRMED"), (29, "CONFIRMED"), (30, "AVAILABLE")]).await;
    let again = admin.key("b").post(blocks, &json!({"seats": seats})).await.expect(201);
    assert_eq!(again.header("idempotent-replay"), "true");
    assert_eq!(again.body, blocked.body);

    let path = format!("/admin/v1/blocks/{}", items[2]["reservationId"].as_str().unwrap());
    let freed = admin.key("u").raw("DELETE", &path, None, b"").await.expect(200);
    assert_eq!(freed.body["status"], "CANCELLED");
    world.until_states(&[(25, "CONFIRMED"), (26, "AVAILABLE"), (29, "AVAILABLE")]).await;
    world.stop().await;
}

#[tokio::test]
async fn a_block_that_clashes_says_what_was_blocked_and_what_was_not() {
    let world = World::start().await;
    world.user(7).hold(&[12]).await;
    let admin = world.admin();
    let blocks = "/admin/v1/options/1/blocks";
    let seats: Vec<u32> = (10..26).collect();
    let clash = admin.key("b").post(blocks, &json!({"seats": seats})).await.expect(409);
    assert_eq!(clash.code(), "SEAT_TAKEN");
    assert_eq!(clash.body["conflicts"], json!([{"seatNo": 12, "state": "HOLD"}]));
    let blocked: Vec<&Value> =
        clash.body["blocked"][0]["seats"].as_array().unwrap().iter().map(|seat| &seat["seatNo"]).collect();
    assert_eq!(blocked, [18, 19, 20, 21, 22, 23, 24, 25]);
    world.until_states(&[(10, "AVAILABLE"), (17, "AVAILABLE"), (18, "CONFIRMED")]).await;

    let before = world.seats().await;
    for seats in [
        json!([]),
        json!([1, 1]),
        json!([1, 2, 3, 4, 5, 6, 7, 8, 9, 1]),
        json!([1, 2, 3, 4, 5, 6, 7, 8, 900]),
    ] {
        let reply =
            admin.key(&format!("k{}", seats.to_string().len())).post(blocks, &json!({"seats": seats})).await;
        assert_eq!(reply.expect(422).code(), "SEATS_INVALID", "{seats}");
    }
    assert_eq!(world.seats().await, before);
    world.stop().await;
}

#[tokio::test]
async fn a_closed_option_sells_nothing_until_it_is_opened() {
    let world = World::start().await;
    let (admin, user) = (world.admin(), world.user(7));
    let select = json!({"seats": [3]});
    let status = "/admin/v1/options/1/status";
    let closed = admin.key("c").raw("PUT", status, Some("application/json"), br#"{"status":"CLOSED"}"#).await;
    assert_eq!(closed.expect(200).body, json!({"optionId": 1, "status": "CLOSED"}));
    let shown = user.get("/api/v1/concerts/1/options").await.expect(200);
    assert_eq!(shown.body["items"][0]["status"], "CLOSED");
    let refused = user.post("/api/v1/options/1/selections", &select).await.expect(409);
    assert_eq!(refused.code(), "OPTION_CLOSED");
    let bad = admin.key("x").raw("PUT", status, Some("application/json"), br#"{"status":"OPEN"}"#).await;
    assert_eq!(bad.expect(400).body["pointer"], "/status");
    admin.key("o").raw("PUT", status, Some("application/json"), br#"{"status":"ON_SALE"}"#).await.expect(200);
    user.post("/api/v1/options/1/selections", &select).await.expect(201);
    world.stop().await;
}

#[tokio::test]
async fn a_policy_limits_what_one_user_may_have() {
    let world = World::start().await;
    let path = "/admin/v1/concerts/1/policy";
    let set = world
        .ops()
        .key("p")
        .raw("PUT", path, Some("application/json"), br#"{"reservationsPerUser":1}"#)
        .await;
    assert_eq!(set.expect(200).body, json!({"concertId": 1, "reservationsPerUser": 1}));
    let user = world.user(7);
    user.hold(&[3]).await;
    user.post("/api/v1/options/1/selections", &json!({"seats": [5]})).await;
    let second = user.key("second").post("/api/v1/options/1/holds", &json!({"seats": [5]})).await.expect(409);
    assert_eq!(second.code(), "LIMIT_REACHED");
    world.stop().await;
}

#[tokio::test]
async fn an_import_is_for_sale_at_once_and_a_bad_one_leaves_nothing() {
    let world = World::start().await;
    let admin = world.admin();
    let concerts = |body: &Value| body["items"].as_array().unwrap().len();
    let good =
        json!({"title": "New", "startsAt": "2027-06-01T19:00:00+09:00", "currency": "JPY", "plan": plan()});
    let imported = admin.post("/admin/v1/imports", &good).await.expect(201);
    assert_eq!(imported.body["option"]["startsAt"], "2027-06-01T10:00:00Z");
    assert_eq!(imported.body["option"]["currency"], "JPY");
    let option = imported.body["option"]["optionId"].as_u64().unwrap();
    world.until_on_sale(option).await;
    let before = concerts(&admin.get("/api/v1/concerts").await.body);

    let with = |key: &str, value: Value| {
        let mut body = good.clone();
        body[key] = value;
        body
    };
    let twice = json!({"sections": [{"code": "A", "rows": [{"label": "1", "from": 1, "to": 2}, {"label": "1", "from": 2, "to": 3}]}]});
    for (name, body, pointer) in [
        ("no title", with("title", json!("")), "/title"),
        ("no date", with("startsAt", json!("tomorrow")), "/startsAt"),
        ("no offset", with("startsAt", json!("2027-06-01T19:00:00")), "/startsAt"),
        ("unknown field", with("x", json!(1)), "/x"),
        ("no currency", with("currency", json!("EURO")), "/currency"),
        ("no plan", with("plan", json!({})), "/plan"),
        ("an empty plan", with("plan", json!({"sections": []})), "/plan"),
        ("a seat twice", with("plan", twice), "/plan"),
    ] {
        let reply = admin.post("/admin/v1/imports", &body).await;
        assert_eq!(reply.status, 400, "{name}: {}", reply.text());
        assert_eq!(reply.code(), "MALFORMED", "{name}");
        let at = reply.body["pointer"].as_str().unwrap();
        assert!(at.starts_with(pointer), "{name}: {at}");
    }
    assert_eq!(concerts(&admin.get("/api/v1/concerts").await.body), before);
    world.stop().await;
}

#[tokio::test]
async fn a_shards_memory_is_told_at_one_event() {
    let world = World::start().await;
    let id = world.user(7).hold(&[3]).await;
    let shard = world.client().get("/api/v1/route?concertId=1").await.expect(200).body["shard"].clone();
    let memory = world.ops().get(&format!("/admin/v1/audit/memory?shard={shard}")).await.expect(200);
    let heads = world.client().get("/api/v1/audit/head").await.expect(200);
    let head = heads.body["items"].as_array().unwrap().iter().find(|one| one["shard"] == shard).unwrap();
    assert_eq!(memory.body["eventSeq"], head["eventSeq"]);
    assert_eq!(memory.body["hash"], head["hash"]);
    assert_eq!(memory.body["pending"], 0);
    let reservation = &memory.body["reservations"][0];
    assert_eq!(reservation["reservationId"], id);
    assert_eq!(reservation["seats"], json!([3]));
    assert_eq!(reservation["status"], "HOLD");
    let option = &memory.body["options"][0];
    assert_eq!((&option["optionId"], &option["seatCount"]), (&json!(1), &json!(100)));
    for (shard, status, code) in
        [("x", 400, "MALFORMED"), ("-1", 400, "MALFORMED"), ("9999", 404, "NOT_FOUND")]
    {
        let reply = world.ops().get(&format!("/admin/v1/audit/memory?shard={shard}")).await.expect(status);
        assert_eq!(reply.code(), code, "{shard}");
    }
    world.stop().await;
}

#[tokio::test]
async fn the_ops_listener_knows_health_metrics_and_admin_and_nothing_else() {
    let world = World::start().await;
    world.user(7).post("/api/v1/options/1/selections", &json!({"seats": [3]})).await.expect(201);
    let ops = world.ops_client();
    assert_eq!(ops.get("/healthz").await.expect(200).text(), "ok\n");
    let ready = ops.get("/readyz").await.expect(200);
    assert_eq!(ready.body["ready"], true);
    assert_eq!(ready.body["reasons"], json!([]));
    let metrics = ops.get("/metrics").await.expect(200);
    let line = "hotseat_http_requests_seconds_count{\
                route=\"POST /api/v1/options/{optionId}/selections\",status=\"201\"} 1";
    assert!(metrics.text().contains(line), "{}", metrics.text());
    ops.get("/admin/v1/audit/memory?shard=0").await.expect(401);
    ops.get("/api/v1/concerts").await.expect(404);
    world.client().get("/readyz").await.expect(404);
    world.begin_shutdown();
    let leaving = ops.get("/readyz").await.expect(503);
    assert_eq!(leaving.body["shuttingDown"], true);
    assert_eq!(leaving.body["reasons"], json!(["the server is shutting down"]));
    world.stop().await;
}
