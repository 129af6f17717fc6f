//! From a click to a sale and back.

use serde_json::json;

use super::world::World;

#[tokio::test]
async fn seats_are_selected_held_paid_and_confirmed() {
    let world = World::start().await;
    let user = world.user(7);

    let selected = user.post("/api/v1/options/1/selections", &json!({"seats": [3, 4]})).await.expect(201);
    assert_eq!(selected.body["optionId"], 1);
    assert_eq!(
        selected.body["seats"],
        json!([{"seatNo": 3, "label": "A-1-4"}, {"seatNo": 4, "label": "A-1-5"}])
    );
    assert!(selected.body["expiresAt"].as_str().unwrap().ends_with('Z'));
    assert_eq!(selected.header("hotseat-owner"), world.public_url());
    assert_eq!(world.states(&[3, 4]).await, ["SELECTING", "SELECTING"]);
    user.post("/api/v1/options/1/selections", &json!({"seats": [3, 4]})).await.expect(200);

    let held = user.key("h").post("/api/v1/options/1/holds", &json!({"seats": [3, 4]})).await.expect(201);
    let reservation = held.body.clone();
    assert_eq!(reservation["status"], "HOLD");
    assert_eq!(reservation["kind"], "SALE");
    assert_eq!(reservation["userId"], 7);
    assert_eq!(reservation["amount"], 2 * world.price());
    assert_eq!(reservation["currency"], "EUR");
    assert!(reservation["holdExpiresAt"].is_string());
    let path = format!("/api/v1/reservations/{}", reservation["reservationId"].as_str().unwrap());
    assert_eq!(user.get(&path).await.expect(200).body, reservation);

    let paying = user.key("p").post_empty(&format!("{path}/paying")).await.expect(200);
    assert_eq!(paying.body["status"], "PAYING");
    assert_eq!(paying.body["paymentStarted"], true);
    let confirmed = world.payment().key("c").post_empty(&format!("{path}/confirm")).await.expect(200);
    assert_eq!(confirmed.body["status"], "CONFIRMED");
    assert!(confirmed.body["holdExpiresAt"].is_null());
    assert_eq!(world.states(&[3, 4]).await, ["CONFIRMED", "CONFIRMED"]);

    let mine = user.get("/api/v1/reservations").await.expect(200);
    assert_eq!(mine.body["items"], json!([confirmed.body]));
    assert!(mine.body["nextCursor"].is_null());

    assert_eq!(
        user.key("x").post_empty(&format!("{path}/cancel")).await.expect(200).body["status"],
        "CANCELLED"
    );
    assert_eq!(world.states(&[3, 4]).await, ["AVAILABLE", "AVAILABLE"]);
    let refunded = world.payment().key("r").post_empty(&format!("{path}/refund")).await.expect(200);
    assert_eq!(refunded.body["status"], "REFUNDED");
    world.stop().await;
}

#[tokio::test]
async fn a_retry_gets_the_first_answer_and_another_content_none() {
    let world = World::start().await;
    let user = world.user(7);
    user.post("/api/v1/options/1/selections", &json!({"seats": [1, 2]})).await.expect(201);
    let holds = "/api/v1/options/1/holds";
    let first = user.key("same").post(holds, &json!({"seats": [1, 2]})).await.expect(201);
    assert_eq!(first.header("idempotent-replay"), "");
    for seats in [json!([1, 2]), json!([2, 1])] {
        let again = user.key("same").post(holds, &json!({"seats": seats})).await.expect(201);
        assert_eq!(again.header("idempotent-replay"), "true");
        assert_eq!(again.body, first.body);
    }
    let other = user.key("same").post(holds, &json!({"seats": [1]})).await.expect(409);
    assert_eq!(other.code(), "REQUEST_REUSED");
    // The key is its user's: the same key of another is another key.
    let stranger = world.user(8).key("same").post(holds, &json!({"seats": [1, 2]})).await.expect(409);
    assert_eq!(stranger.code(), "SEAT_TAKEN");
    world.stop().await;
}

#[tokio::test]
async fn what_somebody_else_has_is_named() {
    let world = World::start().await;
    let (one, other) = (world.user(7), world.user(8));
    let selections = "/api/v1/options/1/selections";
    one.post(selections, &json!({"seats": [1, 2]})).await.expect(201);
    one.key("h").post("/api/v1/options/1/holds", &json!({"seats": [1]})).await.expect(201);
    let clash = other.post(selections, &json!({"seats": [0, 1, 2]})).await.expect(409);
    assert_eq!(clash.code(), "SEAT_TAKEN");
    let expected = json!([{"seatNo": 1, "state": "HOLD"}, {"seatNo": 2, "state": "SELECTING"}]);
    assert_eq!(clash.body["conflicts"], expected);
    assert_eq!(world.states(&[0, 1, 2]).await, ["AVAILABLE", "HOLD", "SELECTING"]);
    world.stop().await;
}

#[tokio::test]
async fn the_best_seats_are_adjacent_and_where_they_were_wished() {
    let world = World::start().await;
    let user = world.user(7);
    let selections = "/api/v1/options/1/selections";
    let best = user.post(selections, &json!({"best": {"party": 3, "section": "B"}})).await.expect(201);
    let labels: Vec<&str> =
        best.body["seats"].as_array().unwrap().iter().map(|seat| seat["label"].as_str().unwrap()).collect();
    assert_eq!(labels.len(), 3);
    assert!(labels.iter().all(|label| label.starts_with("B-")), "{labels:?}");
    user.delete(selections, None).await.expect(200);
    let nobody = user.post(selections, &json!({"best": {"party": 0}})).await.expect(422);
    assert_eq!(nobody.code(), "SEATS_INVALID");
    let unknown = user.post(selections, &json!({"best": {"party": 2, "section": "Z"}})).await.expect(400);
    assert_eq!(unknown.body["pointer"], "/best/section");
    world.stop().await;
}

#[tokio::test]
async fn seats_are_given_back() {
    let world = World::start().await;
    let user = world.user(7);
    let selections = "/api/v1/options/1/selections";
    let nothing = user.delete(selections, None).await.expect(200);
    assert_eq!(nothing.body, json!({"optionId": 1, "released": []}));
    user.post(selections, &json!({"seats": [1, 2, 3]})).await.expect(201);
    let one = user.delete(selections, Some(&json!({"seats": [2]}))).await.expect(200);
    assert_eq!(one.body["released"], json!([{"seatNo": 2, "label": "A-1-3"}]));
    let again = user.delete(selections, Some(&json!({"seats": [2]}))).await.expect(409);
    assert_eq!(again.code(), "NOT_SELECTED");
    let rest = user.delete(selections, None).await.expect(200);
    assert_eq!(rest.body["released"].as_array().unwrap().len(), 2);
    assert_eq!(world.states(&[1, 2, 3]).await, ["AVAILABLE"; 3]);
    world.stop().await;
}

#[tokio::test]
async fn another_users_reservation_is_unknown() {
    let world = World::start().await;
    let (one, other) = (world.user(7), world.user(8));
    let id = one.hold(&[5]).await;
    let path = format!("/api/v1/reservations/{id}");
    assert_eq!(other.get(&path).await.expect(404).code(), "RESERVATION_UNKNOWN");
    assert_eq!(
        other.key("x").post_empty(&format!("{path}/cancel")).await.expect(404).code(),
        "RESERVATION_UNKNOWN"
    );
    assert_eq!(other.get("/api/v1/reservations").await.expect(200).body["items"], json!([]));
    world.payment().get(&path).await.expect(200);
    one.get(&path).await.expect(200);
    world.stop().await;
}

#[tokio::test]
async fn a_transition_from_the_wrong_state_says_the_state() {
    let world = World::start().await;
    let user = world.user(7);
    let id = user.hold(&[5]).await;
    let early =
        world.payment().key("r").post_empty(&format!("/api/v1/reservations/{id}/refund")).await.expect(409);
    assert_eq!(early.code(), "RESERVATION_STATE");
    assert_eq!(early.body["state"], "HOLD");
    let confirm = format!("/api/v1/reservations/{id}/confirm");
    let first = world.payment().key("c1").post_empty(&confirm).await.expect(200);
    let again = world.payment().key("c2").post_empty(&confirm).await.expect(200);
    assert_eq!(first.body, again.body, "confirming twice is confirming once");
    world.stop().await;
}

#[tokio::test]
async fn pages_of_my_reservations_are_newest_first() {
    let world = World::start().await;
    let user = world.user(7);
    let mut ids = Vec::new();
    for seat in [10, 20, 30] {
        ids.push(user.hold(&[seat]).await);
    }
    ids.reverse();
    let first = user.get("/api/v1/reservations?limit=2").await.expect(200);
    assert_eq!(first.ids(), ids[..2]);
    let cursor = first.body["nextCursor"].as_str().unwrap();
    let second = user.get(&format!("/api/v1/reservations?limit=2&cursor={cursor}")).await.expect(200);
    assert_eq!(second.ids(), ids[2..]);
    assert!(second.body["nextCursor"].is_null());
    world.stop().await;
}
