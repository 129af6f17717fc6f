//! Commands over sockets: the same answers as over HTTP, and `mine` for every socket of a user.

use std::time::Duration;

use serde_json::{Value, json};

use super::client::{Ws, hold, release, select, watch};
use crate::api::world::World;

const HOUR: Duration = Duration::from_secs(3_600);

async fn socket(world: &World, user: u64) -> Ws {
    Ws::with_token(world.address(), &world.token(user, HOUR)).await
}

fn seat_numbers(seats: &Value) -> Vec<u64> {
    seats.as_array().unwrap().iter().map(|seat| seat["seatNo"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn a_seat_is_selected_held_and_seen_by_http() {
    let world = World::start().await;
    let mut ws = socket(&world, 7).await;
    let selected = ws.ask("c1", select(&[3, 4])).await;
    assert_eq!(selected["ev"], "ok");
    assert_eq!(selected["optionId"], 1);
    assert_eq!(seat_numbers(&selected["seats"]), [3, 4]);
    assert_eq!(selected["seats"][0]["label"], "A-1-4");
    assert!(selected["expiresAt"].is_string() && selected.get("renewed").is_none(), "{selected}");
    let renewed = ws.ask("c2", select(&[3])).await;
    assert_eq!(renewed["renewed"], true, "{renewed}");

    let held = ws.ask("c3", hold("key-1", &[3, 4])).await;
    assert_eq!((&held["ev"], &held["status"]), (&json!("ok"), &json!("HOLD")), "{held}");
    let id = held["reservationId"].as_str().unwrap();
    let seen = world.user(7).get(&format!("/api/v1/reservations/{id}")).await.expect(200).body;
    for (field, value) in seen.as_object().unwrap() {
        assert_eq!(&held[field], value, "{field}");
    }
    world.stop().await;
}

#[tokio::test]
async fn a_retry_of_a_hold_gets_the_first_answer_also_on_another_socket_and_over_http() {
    let world = World::start().await;
    let mut ws = socket(&world, 7).await;
    ws.ask("c1", select(&[3])).await;
    let first = ws.ask("c2", hold("key-1", &[3])).await;
    assert_eq!(first.get("replayed"), None);
    drop(ws);
    let mut ws = socket(&world, 7).await;
    let again = ws.ask("c3", hold("key-1", &[3])).await;
    assert_eq!(again["replayed"], true);
    assert_eq!(again["reservationId"], first["reservationId"]);
    let other = ws.ask("c4", hold("key-1", &[4])).await;
    assert_eq!((&other["ev"], &other["code"]), (&json!("no"), &json!("REQUEST_REUSED")));
    let http = world.user(7).key("key-1").post("/api/v1/options/1/holds", &json!({"seats": [3]})).await;
    let http = http.expect(201);
    assert_eq!(http.header("idempotent-replay"), "true");
    assert_eq!(http.body["reservationId"], first["reservationId"]);
    world.stop().await;
}

#[tokio::test]
async fn refusals_are_those_of_http() {
    let world = World::start().await;
    let (mut ws, mut other) = (socket(&world, 7).await, socket(&world, 8).await);
    other.ask("o", select(&[5])).await;
    let best = |best: Value| json!({"op": "select", "option": 1, "best": best});
    let rows = [
        (
            select(&[5]),
            "SEAT_TAKEN",
            json!({"conflicts": [{"seatNo": 5, "state": "SELECTING"}], "status": 409}),
        ),
        (select(&[]), "SEATS_INVALID", json!({"status": 422})),
        (select(&[100]), "SEATS_INVALID", json!({"status": 422})),
        (release(&[5]), "NOT_SELECTED", json!({"status": 409})),
        (hold("k", &[5]), "SEAT_TAKEN", json!({})),
        (hold("k", &[6]), "NOT_SELECTED", json!({})),
        (best(json!({"party": 11})), "SEATS_INVALID", json!({})),
        (best(json!({"party": 2, "section": "Z"})), "MALFORMED", json!({"pointer": "/best/section"})),
        (json!({"op": "select", "option": 99, "seats": [1]}), "OPTION_UNKNOWN", json!({"status": 404})),
        (json!({"op": "watch", "option": 99}), "OPTION_UNKNOWN", json!({"status": 404})),
        (json!({"op": "dance"}), "MALFORMED", json!({"pointer": "/op"})),
    ];
    for (n, (message, code, more)) in rows.into_iter().enumerate() {
        let answer = ws.ask(&format!("c{n}"), message.clone()).await;
        assert_eq!((&answer["ev"], &answer["code"]), (&json!("no"), &json!(code)), "{message}: {answer}");
        for (field, value) in more.as_object().unwrap() {
            assert_eq!(&answer[field], value, "{message}: {answer}");
        }
        assert!(answer["requestId"].is_string() && answer["title"].is_string(), "{answer}");
    }
    world.stop().await;
}

#[tokio::test]
async fn the_best_seats_together_are_selected() {
    let world = World::start().await;
    let mut ws = socket(&world, 7).await;
    let message = json!({"op": "select", "option": 1, "best": {"party": 3, "section": "B"}});
    let seats = seat_numbers(&ws.ask("c1", message).await["seats"]);
    assert_eq!(seats.len(), 3);
    assert!(seats.windows(2).all(|pair| pair[0] + 1 == pair[1]) && seats[0] >= 50, "{seats:?}");
    world.stop().await;
}

#[tokio::test]
async fn a_list_is_decided_and_answered_in_its_order_and_its_holds_when_they_are_durable() {
    let world = World::start().await;
    let second = world.import("Second").await;
    let mut ws = socket(&world, 7).await;
    let named = |id: u32, mut message: Value| {
        message["id"] = json!(id);
        message
    };
    let elsewhere = json!({"op": "select", "option": second, "seats": [1]});
    let list = json!([
        named(1, select(&[3])),
        named(2, elsewhere),
        named(3, json!({"op": "ping"})),
        named(4, release(&[3])),
        named(5, hold("k", &[3])),
        named(6, select(&[3])),
        named(7, hold("l", &[3])),
        named(8, select(&[4])),
        named(9, json!({"op": "select"})),
        named(10, json!({"op": "select", "option": 99, "seats": [1]})),
        named(11, json!({"op": "ping"})),
    ]);
    ws.send(&list).await;
    let mut answers = Vec::new();
    while answers.len() < 11 {
        let answer = ws.find(|message| message["id"].is_u64()).await;
        answers.push((answer["id"].as_u64().unwrap(), answer["code"].as_str().unwrap_or("ok").to_owned()));
    }
    let of = |wanted: &dyn Fn(u64) -> bool| {
        answers
            .iter()
            .filter(|(id, _)| wanted(*id))
            .map(|(id, code)| (*id, code.as_str()))
            .collect::<Vec<_>>()
    };
    let expected = [
        (1, "ok"),
        (2, "ok"),
        (3, "ok"),
        (4, "ok"),
        (6, "ok"),
        (8, "ok"),
        (9, "MALFORMED"),
        (10, "OPTION_UNKNOWN"),
        (11, "ok"),
    ];
    assert_eq!(of(&|id| id != 5 && id != 7), expected);
    assert_eq!(of(&|id| id == 5 || id == 7), [(5, "NOT_SELECTED"), (7, "ok")]);
    world.stop().await;
}

#[tokio::test]
async fn every_socket_of_a_user_hears_what_is_mine_and_no_other() {
    let world = World::start().await;
    let (mut first, mut second) = (socket(&world, 7).await, socket(&world, 7).await);
    let mut stranger = socket(&world, 8).await;
    // A socket is the user's before it is answered anything.
    for ws in [&mut first, &mut second, &mut stranger] {
        ws.ask("p", json!({"op": "ping"})).await;
    }
    first.ask("c1", select(&[4, 3])).await;
    for ws in [&mut first, &mut second] {
        let mine = ws.event("mine").await;
        assert_eq!((&mine["option"], &mine["seats"]), (&json!(1), &json!([3, 4])));
        assert!(mine["expiresAt"].is_string());
    }
    // Also what was asked over HTTP.
    world.user(7).delete("/api/v1/options/1/selections", Some(&json!({"seats": [3]}))).await.expect(200);
    for ws in [&mut first, &mut second] {
        assert_eq!(ws.event("mine").await["seats"], json!([4]));
    }
    first.ask("c2", hold("k", &[4])).await;
    for ws in [&mut first, &mut second] {
        let mine = ws.event("mine").await;
        assert_eq!((&mine["seats"], &mine["expiresAt"]), (&json!([]), &Value::Null));
    }
    stranger.ask("p", json!({"op": "ping"})).await;
    stranger.send(&watch()).await;
    assert_eq!(stranger.next().await["ev"], "ok", "nothing else was said");
    world.stop().await;
}

#[tokio::test]
async fn who_comes_back_and_watches_learns_what_is_still_selected() {
    let world = World::start().await;
    let mut ws = socket(&world, 7).await;
    ws.ask("c1", select(&[3])).await;
    drop(ws);
    let mut ws = socket(&world, 7).await;
    ws.ask("w", watch()).await;
    assert_eq!(ws.event("mine").await["seats"], json!([3]));
    // The token may come later.
    let mut ws = Ws::open(world.address()).await;
    ws.ask("w", watch()).await;
    let token = world.token(7, HOUR);
    assert_eq!(ws.ask("a", json!({"op": "auth", "token": token})).await, json!({"ev": "ok", "id": "a"}));
    assert_eq!(ws.event("mine").await["seats"], json!([3]));
    world.stop().await;
}

#[tokio::test]
async fn a_server_that_cannot_decide_says_so() {
    let world = World::start_with(|settings| settings.click_timeout = Duration::ZERO).await;
    let mut ws = socket(&world, 7).await;
    let late = ws.ask("c1", select(&[3])).await;
    assert_eq!(
        (&late["ev"], &late["code"], &late["status"]),
        (&json!("no"), &json!("OVERLOADED"), &json!(503))
    );
    world.stop().await;
}
