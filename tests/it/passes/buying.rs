//! The way through the gate: who was let in buys, with a pass that lives, and nobody else with it.

use super::*;

const JOIN: &str = "/api/v1/waiting-queue/join";
const STATUS: &str = "/api/v1/waiting-queue/status?concertId=1";
const SELECTIONS: &str = "/api/v1/options/1/selections";
const HOLDS: &str = "/api/v1/options/1/holds";

/// A server whose concert lets in whoever comes.
async fn open() -> World {
    let world = World::start().await;
    let gate = json!({"state": "open", "mode": "fifo", "maxActive": 10}).to_string();
    let admin = world.admin();
    admin.raw("PUT", "/admin/v1/gates/1", Some("application/json"), gate.as_bytes()).await.expect(200);
    let give_up = Instant::now() + Duration::from_secs(20);
    while world.client().get(SEATS).await.status != 403 {
        assert!(Instant::now() < give_up, "seats stay open");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    world
}

/// Joins and waits to be let in; the pass.
async fn enter(world: &World, user: u64) -> String {
    let client = world.user(user);
    client.post(JOIN, &json!({"concertId": CONCERT})).await.expect(200);
    let give_up = Instant::now() + Duration::from_secs(20);
    loop {
        let status = client.get(STATUS).await.expect(200).body;
        if status["status"] == "ACTIVE" {
            return status["pass"].as_str().unwrap().to_owned();
        }
        assert!(Instant::now() < give_up, "{status}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_live_pass_buys_for_its_user_and_for_nobody_else() {
    let world = open().await;
    let pass = enter(&world, USER).await;
    let other = enter(&world, USER + 1).await;
    let mine = with_pass(&world.user(USER), Some(&pass));

    // Read by the router and by the express lane.
    mine.get(SEATS).await.expect(200);
    mine.post(SELECTIONS, &json!({"seats": [0, 1]})).await.expect(201);
    mine.post("/api/v1/options/%31/selections", &json!({"seats": [2]})).await.expect(201);
    mine.delete(SELECTIONS, Some(&json!({"seats": [2]}))).await.expect(200);

    // Whoever has it is not who it is for; and no pass is as bad as another's.
    for stranger in [world.user(USER + 2), world.user(USER + 1)] {
        let reply = with_pass(&stranger, Some(&pass)).post(SELECTIONS, &json!({"seats": [5]})).await;
        assert_eq!(reply.code(), "PASS_REQUIRED");
    }
    let bare = world.user(USER).post(SELECTIONS, &json!({"seats": [5]})).await;
    assert_eq!(bare.code(), "PASS_REQUIRED");
    let swapped = with_pass(&world.user(USER), Some(&other)).post(SELECTIONS, &json!({"seats": [5]})).await;
    assert_eq!(swapped.code(), "PASS_REQUIRED");

    let held = mine.key("h").post(HOLDS, &json!({"seats": [0, 1]})).await.expect(201);
    let reservation = held.body["reservationId"].as_str().unwrap().to_owned();

    // Paying for what one has needs no pass; what is bought gives it back, and it is dead at once.
    let path = format!("/api/v1/reservations/{reservation}");
    world.user(USER).key("p").post_empty(&format!("{path}/paying")).await.expect(200);
    world.payment().key("c").post_empty(&format!("{path}/confirm")).await.expect(200);
    let reply = mine.post(SELECTIONS, &json!({"seats": [7]})).await;
    assert_eq!(reply.code(), "PASS_REQUIRED", "given back: {}", reply.text());
    mine.get(SEATS).await.expect(200);
    world.stop().await;
}

#[tokio::test]
async fn a_socket_clicks_with_the_pass_that_it_was_shown() {
    let world = open().await;
    let pass = enter(&world, USER).await;
    let token = format!("Bearer {}", world.token(USER, LONG));
    let authorized = [("Authorization", token.as_str())];
    let mut by_header =
        Ws::try_open(world.address(), &[authorized[0], ("Hotseat-Pass", &pass)]).await.unwrap().0;
    let query = format!("?pass={pass}");
    let mut by_query = Ws::try_open_at(world.address(), &query, &authorized).await.unwrap().0;
    let mut by_message = Ws::try_open(world.address(), &authorized).await.unwrap().0;
    assert_eq!(by_message.ask("s", select(&[9])).await["code"], "PASS_REQUIRED");
    assert_eq!(by_message.ask("p", json!({"op": "pass", "pass": pass})).await["ev"], "ok");

    for (seat, socket) in (0..).zip([&mut by_header, &mut by_query, &mut by_message]) {
        for message in [watch(), select(&[seat]), release(&[seat]), select(&[seat])] {
            let answer = socket.ask("m", message.clone()).await;
            assert_eq!(answer["ev"], "ok", "{message}: {answer}");
        }
        let held = socket.ask("h", hold(&format!("k{seat}"), &[seat])).await;
        assert_eq!(held["ev"], "ok", "{held}");
    }
    // It is not the next user's.
    let stranger = format!("Bearer {}", world.token(USER + 1, LONG));
    let headers = [("Authorization", stranger.as_str()), ("Hotseat-Pass", &pass)];
    let mut replayed = Ws::try_open(world.address(), &headers).await.unwrap().0;
    for message in [select(&[50]), hold("x", &[0]), watch()] {
        assert_eq!(replayed.ask("m", message.clone()).await["code"], "PASS_REQUIRED", "{message}");
    }
    world.stop().await;
}
