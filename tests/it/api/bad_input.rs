//! Bad input gets its named error, changes no seat, and is never a 500.

use serde_json::json;

use super::world::{Reply, World};

const SELECT: &str = "/api/v1/options/1/selections";
const HOLD: &str = "/api/v1/options/1/holds";

/// What a row expects: status, code, and the pointer where there is one.
type Expected = (u16, &'static str, &'static str);

fn check(name: &str, reply: &Reply, (status, code, pointer): Expected) {
    assert_eq!(reply.status, status, "{name}: {}", reply.text());
    assert_eq!(reply.header("content-type"), "application/problem+json", "{name}");
    assert_eq!(reply.code(), code, "{name}: {}", reply.text());
    assert_eq!(reply.body["status"], status, "{name}");
    assert_eq!(reply.body["requestId"], reply.header("x-request-id"), "{name}");
    assert_eq!(reply.body["pointer"].as_str().unwrap_or_default(), pointer, "{name}: {}", reply.text());
}

#[tokio::test]
async fn bodies() {
    let world = World::start().await;
    let user = world.user(7);
    let before = world.seats().await;
    let nested = format!("{{\"seats\":{}{}}}", "[".repeat(100), "]".repeat(100));
    let unknown_nested = format!("{{\"x\":{}{}}}", "{\"x\":".repeat(100), "1".to_owned() + &"}".repeat(100));
    let abyss = "[".repeat(60_000);
    let large = format!("{{\"seats\":[{}]}}", " ".repeat(65 * 1024));
    let exact = format!("{{\"seats\":[\"x\"{}]}}", " ".repeat(64 * 1024 - 15));
    let rows: Vec<(&str, &[u8], Expected)> = vec![
        ("no body", b"", (400, "MALFORMED", "")),
        ("no json", b"seats=1", (400, "MALFORMED", "")),
        ("an array", b"[3]", (400, "MALFORMED", "")),
        ("a string", b"\"x\"", (400, "MALFORMED", "")),
        ("null", b"null", (400, "MALFORMED", "")),
        ("neither seats nor best", b"{}", (400, "MALFORMED", "")),
        ("both", br#"{"seats":[3],"best":{"party":1}}"#, (400, "MALFORMED", "")),
        ("a seat as a string", br#"{"seats":["3"]}"#, (400, "MALFORMED", "/seats/0")),
        ("a seat and a half", br#"{"seats":[3,1.5]}"#, (400, "MALFORMED", "/seats/1")),
        ("a seat that is null", br#"{"seats":[null]}"#, (400, "MALFORMED", "/seats/0")),
        ("seats that are a number", br#"{"seats":3}"#, (400, "MALFORMED", "/seats")),
        ("an unknown field", br#"{"seats":[3],"user":8}"#, (400, "MALFORMED", "/user")),
        ("a field twice", br#"{"seats":[3],"seats":[4]}"#, (400, "MALFORMED", "")),
        ("an unknown field inside", br#"{"best":{"party":1,"x":1}}"#, (400, "MALFORMED", "/best/x")),
        ("best as an array", br#"{"best":[1]}"#, (400, "MALFORMED", "/best")),
        (
            "an unknown category",
            br#"{"best":{"party":1,"category":"?"}}"#,
            (400, "MALFORMED", "/best/category"),
        ),
        ("trailing bytes", br#"{"seats":[3]}{}"#, (400, "MALFORMED", "")),
        ("cut off", br#"{"seats":[3"#, (400, "MALFORMED", "/seats")),
        ("invalid UTF-8", b"{\"seats\":[3],\"\xff\xfe\":1}", (400, "MALFORMED", "")),
        ("100 levels", nested.as_bytes(), (400, "MALFORMED", "/seats/0")),
        ("100 levels of objects", unknown_nested.as_bytes(), (400, "MALFORMED", "/x")),
        ("60,000 levels", abyss.as_bytes(), (400, "MALFORMED", "")),
        ("65 KiB", large.as_bytes(), (413, "TOO_LARGE", "")),
        ("64 KiB", exact.as_bytes(), (400, "MALFORMED", "/seats/0")),
        ("no seats", br#"{"seats":[]}"#, (422, "SEATS_INVALID", "")),
        ("nine seats", br#"{"seats":[1,2,3,4,5,6,7,8,9]}"#, (422, "SEATS_INVALID", "")),
        ("one twice", br#"{"seats":[3,3]}"#, (422, "SEATS_INVALID", "")),
        ("outside the plan", br#"{"seats":[100]}"#, (422, "SEATS_INVALID", "")),
        ("beyond 32 bits", br#"{"seats":[4294967296]}"#, (422, "SEATS_INVALID", "")),
        ("beyond 2^53", br#"{"seats":[9007199254740993]}"#, (422, "SEATS_INVALID", "")),
        ("beyond 64 bits", br#"{"seats":[99999999999999999999999]}"#, (422, "SEATS_INVALID", "")),
        ("below zero", br#"{"seats":[-1]}"#, (422, "SEATS_INVALID", "")),
        ("a party of nobody", br#"{"best":{"party":0}}"#, (422, "SEATS_INVALID", "")),
        ("a party of nine", br#"{"best":{"party":9}}"#, (422, "SEATS_INVALID", "")),
    ];
    for (name, body, expected) in &rows {
        check(name, &user.raw("POST", SELECT, Some("application/json"), body).await, *expected);
    }
    assert_eq!(world.seats().await, before);
    world.stop().await;
}

#[tokio::test]
async fn hold_bodies() {
    let world = World::start().await;
    let user = world.user(7);
    let before = world.seats().await;
    let rows: Vec<(&str, &[u8], Expected)> = vec![
        ("nothing", b"{}", (400, "MALFORMED", "")),
        ("an unknown field", br#"{"seats":[3],"userId":8}"#, (400, "MALFORMED", "/userId")),
        ("no seats", br#"{"seats":[]}"#, (422, "SEATS_INVALID", "")),
        ("nine", br#"{"seats":[1,2,3,4,5,6,7,8,9]}"#, (422, "SEATS_INVALID", "")),
        ("twice", br#"{"seats":[1,1]}"#, (422, "SEATS_INVALID", "")),
        ("outside", br#"{"seats":[5000]}"#, (422, "SEATS_INVALID", "")),
        ("not selected", br#"{"seats":[3]}"#, (409, "NOT_SELECTED", "")),
    ];
    for (name, body, expected) in &rows {
        let reply = user.key(&name.replace(' ', "-")).raw("POST", HOLD, Some("application/json"), body).await;
        check(name, &reply, *expected);
    }
    assert_eq!(world.seats().await, before);
    world.stop().await;
}

#[tokio::test]
async fn paths_and_queries() {
    let world = World::start().await;
    let user = world.user(7);
    let rows: Vec<(&str, &str, Expected)> = vec![
        ("unknown option", "/api/v1/options/99/seats", (404, "OPTION_UNKNOWN", "")),
        ("an option beyond 32 bits", "/api/v1/options/4294967296/seats", (404, "OPTION_UNKNOWN", "")),
        (
            "an option beyond 2^53",
            "/api/v1/options/9007199254740992/seats",
            (400, "MALFORMED", "/path/optionId"),
        ),
        ("option 0", "/api/v1/options/0/plan", (400, "MALFORMED", "/path/optionId")),
        ("option -1", "/api/v1/options/-1/plan", (400, "MALFORMED", "/path/optionId")),
        ("option x", "/api/v1/options/x/plan", (400, "MALFORMED", "/path/optionId")),
        ("no UTF-8", "/api/v1/options/%ff/plan", (400, "MALFORMED", "/path")),
        ("another plan", "/api/v1/options/1/plan?hash=abc", (404, "NOT_FOUND", "")),
        ("an unknown parameter", "/api/v1/options/1/plan?hush=abc", (400, "MALFORMED", "/query")),
        ("unknown concert", "/api/v1/concerts/99", (404, "NOT_FOUND", "")),
        ("concert 0", "/api/v1/concerts/0", (400, "MALFORMED", "/path/concertId")),
        ("its options", "/api/v1/concerts/99/options", (404, "NOT_FOUND", "")),
        ("a limit of 0", "/api/v1/concerts?limit=0", (400, "MALFORMED", "/query/limit")),
        ("a limit of 201", "/api/v1/concerts?limit=201", (400, "MALFORMED", "/query/limit")),
        ("a limit of x", "/api/v1/reservations?limit=x", (400, "MALFORMED", "/query/limit")),
        ("a cursor", "/api/v1/reservations?cursor=x", (400, "MALFORMED", "/query/cursor")),
        ("another cursor", "/api/v1/concerts?cursor=x", (400, "MALFORMED", "/query/cursor")),
        ("no UUID", "/api/v1/reservations/7", (400, "MALFORMED", "/path/reservationId")),
        (
            "unknown reservation",
            "/api/v1/reservations/01890000-0000-7000-8000-000000000001",
            (404, "RESERVATION_UNKNOWN", ""),
        ),
        (
            "a reservation of an unknown option",
            "/api/v1/reservations/01890000-0000-7000-8000-000000000063",
            (404, "RESERVATION_UNKNOWN", ""),
        ),
        ("route without a concert", "/api/v1/route", (400, "MALFORMED", "/query/concertId")),
        ("route to nowhere", "/api/v1/route?concertId=99", (404, "NOT_FOUND", "")),
        ("no route", "/api/v1/nothing", (404, "NOT_FOUND", "")),
        ("the root", "/", (404, "NOT_FOUND", "")),
        ("no such method", "/api/v1/options/1/holds", (405, "METHOD_NOT_ALLOWED", "")),
    ];
    for (name, path, expected) in rows {
        check(name, &user.get(path).await, expected);
    }
    assert_eq!(user.get("/api/v1/options/1/holds").await.header("allow"), "POST");
    world.stop().await;
}

#[tokio::test]
async fn headers() {
    let world = World::start().await;
    let user = world.user(7);
    let before = world.seats().await;
    let body = br#"{"seats":[3]}"#;
    for content_type in [None, Some("text/plain"), Some("application/jsonx"), Some("")] {
        let reply = user.raw("POST", SELECT, content_type, body).await;
        check(&format!("{content_type:?}"), &reply, (400, "MALFORMED", "/headers/Content-Type"));
    }
    let long = "k".repeat(256);
    let key = (400, "MALFORMED", "/headers/Idempotency-Key");
    check("no key", &user.post(HOLD, &json!({"seats": [3]})).await, key);
    for bad in ["", "a b", long.as_str()] {
        check(bad, &user.key(bad).post(HOLD, &json!({"seats": [3]})).await, key);
    }
    assert_eq!(world.seats().await, before);
    let reply = user.raw("POST", SELECT, Some("Application/JSON; charset=utf-8"), body).await;
    assert_eq!(reply.status, 201, "{}", reply.text());
    world.stop().await;
}

#[tokio::test]
async fn a_body_where_there_is_none() {
    let world = World::start().await;
    let user = world.user(7);
    let id = user.hold(&[5]).await;
    let path = format!("/api/v1/reservations/{id}/paying");
    let reply = user.key("p").post(&path, &json!({"status": "CONFIRMED"})).await;
    check("a body", &reply, (400, "MALFORMED", ""));
    assert_eq!(user.get(&format!("/api/v1/reservations/{id}")).await.body["status"], "HOLD");
    user.key("p").post(&path, &json!({})).await.expect(200);
    world.stop().await;
}
