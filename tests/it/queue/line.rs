//! Joining, waiting, entering, leaving; and what operators see of it.

use serde_json::{Value, json};

use super::{GATE, JOIN, LEAVE, STATUS, enter, join, set, status, until, world};
use crate::api::world::World;

#[tokio::test]
async fn a_concert_without_a_waiting_room_needs_no_pass() {
    let world = World::start().await;
    let user = world.user(7);
    let free = json!({"concertId": 1, "status": "ACTIVE"});
    let asked = user.get(STATUS).await.expect(200);
    assert_eq!(asked.body, free);
    assert_eq!(asked.header("retry-after"), "");
    assert_eq!(asked.header("hotseat-owner"), world.public_url());
    assert_eq!(join(&user).await, free);
    user.post("/api/v1/options/1/selections", &json!({"seats": [3]})).await.expect(201);
    let info = world.admin().get(GATE).await.expect(200).body;
    assert_eq!((&info["version"], &info["state"], &info["waiting"]), (&json!(0), &json!("off"), &json!(0)));
    world.stop().await;
}

#[tokio::test]
async fn people_enter_in_their_turn_as_there_is_room() {
    let world = world(&json!({"state": "open", "maxActive": 1})).await;
    let [first, second, third] = [11, 12, 13].map(|user| world.user(user));
    enter(&first).await;
    let waits = second.post(JOIN, &json!({"concertId": 1})).await.expect(200);
    assert_eq!(
        (&waits.body["status"], &waits.body["rank"]),
        (&json!("WAITING"), &json!(1)),
        "{}",
        waits.body
    );
    assert_eq!(waits.body["ahead"], 0);
    assert!(waits.body["turn"].is_u64() && waits.body.get("pass").is_none(), "{}", waits.body);
    let retry: u64 = waits.header("retry-after").parse().unwrap();
    assert!((1..=20).contains(&retry), "{retry}: a third of the grace at most");
    assert_eq!(join(&third).await["rank"], 2);
    // Another tab gets the same turn, and nobody is pushed back by it.
    assert_eq!(join(&second).await["turn"], waits.body["turn"]);
    assert_eq!(status(&third).await["rank"], 2);

    let left = first.delete(LEAVE, None).await.expect(200).body;
    assert_eq!(left, json!({"concertId": 1, "status": "NONE", "left": "SALE"}));
    assert_eq!(first.delete(LEAVE, None).await.expect(200).body["left"], "NOTHING");
    let active = until(&second, "ACTIVE").await;
    assert!(active["pass"].is_string() && active["passExpiresAt"].is_string(), "{active}");
    assert!(active.get("rank").is_none() && active.get("turn").is_none(), "{active}");
    assert_eq!(status(&third).await["rank"], 1);
    assert_eq!(status(&first).await, json!({"concertId": 1, "status": "NONE"}));

    assert_eq!(third.delete(LEAVE, None).await.expect(200).body["left"], "LINE");
    second.delete(LEAVE, None).await.expect(200);
    assert_eq!(status(&third).await["status"], "NONE", "who has left is not let in");
    world.stop().await;
}

#[tokio::test]
async fn sold_out_is_a_status_for_who_waits_and_for_who_comes() {
    let world = world(&json!({"state": "paused", "perSecond": 10})).await;
    let [waits, comes] = [11, 12].map(|user| world.user(user));
    assert_eq!(join(&waits).await["status"], "WAITING");
    set(&world, &json!({"state": "closed"})).await.expect(200);
    for user in [&waits, &comes] {
        assert_eq!(join(user).await, json!({"concertId": 1, "status": "REJECTED"}));
        assert_eq!(status(user).await["status"], "REJECTED");
    }
    world.stop().await;
}

#[tokio::test]
async fn a_gate_is_set_once_and_its_history_says_by_whom() {
    let world = World::start().await;
    let paused = json!({"state": "paused", "perSecond": 10, "opensAt": "2020-05-01T12:00:00+02:00"});
    let setting = json!({"concertId": 1, "version": 1, "state": "paused", "mode": "fifo", "perSecond": 10,
        "maxActive": null, "opensAt": "2020-05-01T10:00:00Z", "changed": true});
    let without_time = |mut body: Value| {
        let at = body.as_object_mut().unwrap().remove("changedAt");
        assert!(at.is_some_and(|at| at.is_string()), "{body}");
        body
    };
    assert_eq!(without_time(set(&world, &paused).await.expect(200).body), setting);
    let again = without_time(set(&world, &paused).await.expect(200).body);
    assert_eq!((&again["version"], &again["changed"]), (&json!(1), &json!(false)));
    let user = world.user(7);
    assert_eq!(join(&user).await["status"], "WAITING");
    assert_eq!(world.admin().get(GATE).await.expect(200).body["waiting"], 1);
    let open = json!({"state": "open", "perSecond": 10});
    assert_eq!(set(&world, &open).await.expect(200).body["version"], 2);
    until(&user, "ACTIVE").await;
    let info = world.ops().get(GATE).await.expect(200).body;
    for (field, value) in [("waiting", 0), ("active", 1), ("admitted", 1), ("version", 2)] {
        assert_eq!(info[field], value, "{field} of {info}");
    }

    let page = |query: &str| format!("{GATE}/history{query}");
    let give_up = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let items = loop {
        let history = world.admin().get(&page("")).await.expect(200).body;
        let items = history["items"].as_array().unwrap().clone();
        if items.len() == 3 {
            assert_eq!(history["nextCursor"], Value::Null);
            break items;
        }
        assert!(std::time::Instant::now() < give_up, "no admission is noted: {history}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    };
    let whats: Vec<_> =
        items.iter().map(|item| (item["no"].as_u64().unwrap(), item["what"].as_str().unwrap())).collect();
    assert_eq!(whats, [(3, "ADMITTED"), (2, "SET"), (1, "SET")]);
    assert_eq!((&items[0]["count"], &items[2]["by"]), (&json!(1), &json!(1_002)));
    assert_eq!((&items[2]["state"], &items[2]["version"]), (&json!("paused"), &json!(1)));
    let first = world.admin().get(&page("?limit=1")).await.expect(200).body;
    assert_eq!((&first["items"][0]["no"], &first["nextCursor"]), (&json!(3), &json!("3")));
    let second = world.admin().get(&page("?limit=2&cursor=3")).await.expect(200).body;
    assert_eq!((&second["items"][1]["no"], &second["nextCursor"]), (&json!(1), &Value::Null));
    world.stop().await;
}
