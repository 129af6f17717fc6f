//! The sweep: routes from the document, methods, spellings, passes.

use std::collections::BTreeSet;

use super::*;

const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PURGE"];

/// What a route of a gated concert may answer to somebody without a pass.
const SHUT: [u16; 5] = [400, 401, 403, 404, 405];

/// The ends of the paths behind which seats are sold or seen.
const SALE: [&str; 4] = ["/selections", "/holds", "/seats", "/events"];

/// The public paths that the server's document has below an option, in which seats are sold or seen.
async fn sale_paths(world: &World) -> Vec<String> {
    let document = world.client().get("/api/v1/openapi.json").await.expect(200).body;
    let paths = document["paths"].as_object().unwrap().keys();
    let below: BTreeSet<String> =
        paths.filter(|path| path.starts_with("/api/v1/options/")).cloned().collect();
    let (sale, rest): (Vec<String>, Vec<String>) =
        below.into_iter().partition(|path| SALE.iter().any(|end| path.ends_with(end)));
    // A new route must be put on one side or the other.
    assert_eq!(rest, ["/api/v1/options/{optionId}/plan"]);
    assert_eq!(sale.len(), SALE.len(), "{sale:?}");
    sale.into_iter().map(|path| path.replace("{optionId}", "1")).collect()
}

/// The path, and everything that somebody may believe to be the same.
fn spellings(path: &str) -> Vec<String> {
    let (head, last) = path.rsplit_once('/').unwrap();
    let encoded: String = last.bytes().map(|byte| format!("%{byte:02X}")).collect();
    vec![
        path.to_owned(),
        path.to_uppercase(),
        format!("{head}/{}", last.to_uppercase()),
        format!("{path}/"),
        format!("{path}//"),
        format!("/{path}"),
        path.replacen("/v1/", "/v1//", 1),
        path.replacen("/v1/", "/./v1/", 1),
        path.replacen("/v1/", "/v2/../v1/", 1),
        path.replace("/api/", "/api%2F"),
        format!("{head}/{encoded}"),
        format!("{head}%2F{last}"),
        path.replace("/1/", "/%31/"),
        path.replace("/1/", "/%2531/"),
        path.replace("/1/", "/01/"),
        path.replace("/1/", "/+1/"),
        path.replace("/1/", "/1%20/"),
        path.replace("/1/", "/1%00/"),
        path.replace("/1/", "/4294967297/"),
        format!("{path};a=b"),
        format!("{path}?"),
        format!("{path}%3F"),
        format!("{path}?since=1.0"),
        format!("{path}?optionId=2"),
        format!("{path}.json"),
    ]
}

/// What is sent along, so that the request would be a good one.
fn body_of(method: &str, path: &str) -> Option<Value> {
    let wants = ["POST", "PUT", "PATCH", "DELETE"].contains(&method);
    let path = path.to_lowercase();
    // The body of a release is optional; both are tried.
    (wants && !(method == "DELETE" && path.ends_with('/'))).then(|| json!({"seats": [0]}))
}

#[track_caller]
fn is_shut(reply: &Reply, what: &str) {
    assert!(SHUT.contains(&reply.status), "{what}: {} {}", reply.status, reply.text());
    if reply.status == 403 && !reply.bytes.is_empty() {
        assert_eq!(reply.code(), "PASS_REQUIRED", "{what}");
    }
}

#[tokio::test]
async fn no_route_of_the_sale_opens_without_a_good_pass() {
    let world = gated().await;
    let user = world.user(USER).key("k");
    let mut asked = 0;
    for path in sale_paths(&world).await {
        for (kind, pass) in bad_passes(&world) {
            let client = with_pass(&user, pass.as_deref());
            // Every spelling without a pass and with the best of the bad ones; the usual one with all.
            let all = pass.is_none() || kind == "another user's";
            for spelling in spellings(&path).into_iter().take(if all { usize::MAX } else { 1 }) {
                for method in METHODS {
                    let body = body_of(method, &spelling).map(|body| body.to_string()).unwrap_or_default();
                    let kind_of = (!body.is_empty()).then_some("application/json");
                    let reply = client.raw(method, &spelling, kind_of, body.as_bytes()).await;
                    is_shut(&reply, &format!("{method} {spelling} with {kind}"));
                    asked += 1;
                }
            }
        }
    }
    assert!(asked > 2_000, "{asked}");
    all_is_free(&world).await;
    world.stop().await;
}

/// Where the usual request is refused, it is for want of a pass and not for something else.
#[tokio::test]
async fn what_is_missing_is_the_pass() {
    let world = gated().await;
    let requests: [(&str, &str, Option<Value>); 7] = [
        ("POST", "/api/v1/options/1/selections", Some(json!({"seats": [0]}))),
        ("POST", "/api/v1/options/1/selections", Some(json!({"best": {"party": 2}}))),
        ("DELETE", "/api/v1/options/1/selections", Some(json!({"seats": [0]}))),
        ("DELETE", "/api/v1/options/1/selections", None),
        ("POST", "/api/v1/options/1/holds", Some(json!({"seats": [0]}))),
        ("GET", SEATS, None),
        ("GET", "/api/v1/options/1/events", None),
    ];
    for (kind, pass) in bad_passes(&world) {
        for (method, path, body) in &requests {
            let client = with_pass(&world.user(USER).key("k"), pass.as_deref());
            let text = body.as_ref().map(Value::to_string).unwrap_or_default();
            let content_type = body.as_ref().map(|_| "application/json");
            let reply = client.raw(method, path, content_type, text.as_bytes()).await;
            assert_eq!((reply.status, reply.code()), (403, "PASS_REQUIRED"), "{method} {path} with {kind}");
        }
        // A router's spelling of a click, which the express lane does not take.
        let client = with_pass(&world.user(USER), pass.as_deref());
        let reply = client.post("/api/v1/options/%31/selections", &json!({"seats": [0]})).await;
        assert_eq!(reply.code(), "PASS_REQUIRED", "{kind}");
        if let Some(pass) = pass {
            let query = format!("/api/v1/options/1/events?pass={pass}");
            assert_eq!(world.user(USER).get(&query).await.code(), "PASS_REQUIRED", "{kind} in the query");
        }
    }
    all_is_free(&world).await;
    world.stop().await;
}

/// In a query a pass opens streams, which browsers cannot open otherwise, and nothing else.
#[tokio::test]
async fn a_pass_in_a_query_opens_streams_only() {
    let world = gated().await;
    let pass = signed(&world, CONCERT, USER, LONG);
    let user = world.user(USER).key("k");
    let body = json!({"seats": [0]});
    for path in ["/api/v1/options/1/selections", "/api/v1/options/1/holds"] {
        let reply = user.post(&format!("{path}?pass={pass}"), &body).await;
        assert_eq!(reply.code(), "PASS_REQUIRED", "{path}");
    }
    assert_eq!(user.get(&format!("{SEATS}?pass={pass}")).await.code(), "MALFORMED");
    all_is_free(&world).await;
    world.stop().await;
}

/// A good signature is not enough to buy: no gate knows this pass.
#[tokio::test]
async fn a_pass_that_is_not_live_sells_nothing() {
    let world = gated().await;
    let client = with_pass(&world.user(USER).key("k"), Some(&signed(&world, CONCERT, USER, LONG)));
    let body = json!({"seats": [0]});
    for path in ["/api/v1/options/1/selections", "/api/v1/options/1/holds"] {
        let reply = client.post(path, &body).await;
        assert!([403, 503].contains(&reply.status), "{path}: {}", reply.text());
    }
    let reply = client.delete("/api/v1/options/1/selections", None).await;
    assert!([403, 503].contains(&reply.status), "{}", reply.text());
    all_is_free(&world).await;
    world.stop().await;
}

#[tokio::test]
async fn a_socket_opens_nothing_without_a_good_pass() {
    let world = gated().await;
    let token = format!("Bearer {}", world.token(USER, LONG));
    let messages = [
        select(&[0]),
        json!({"op": "select", "option": 1, "best": {"party": 2}}),
        release(&[0]),
        json!({"op": "release", "option": 1}),
        hold("k", &[0]),
        watch(),
        json!({"op": "watch", "option": 1, "since": "1.0"}),
    ];
    for (kind, pass) in bad_passes(&world) {
        let mut headers = vec![("Authorization", token.as_str())];
        headers.extend(pass.as_deref().map(|pass| ("Hotseat-Pass", pass)));
        let mut by_header = Ws::try_open(world.address(), &headers).await.unwrap().0;
        let query = pass.as_deref().map(|pass| format!("?pass={pass}")).unwrap_or_default();
        let mut by_query = Ws::try_open_at(world.address(), &query, &headers[..1]).await.unwrap().0;
        let mut by_message = Ws::try_open(world.address(), &headers[..1]).await.unwrap().0;
        if let Some(pass) = &pass {
            let answer = by_message.ask("p", json!({"op": "pass", "pass": pass})).await;
            // Of another concert or user it is a pass all the same.
            let is_one = kind.starts_with("another");
            assert_eq!(answer["ev"], if is_one { "ok" } else { "no" }, "{kind}: {answer}");
        }
        for socket in [&mut by_header, &mut by_query, &mut by_message] {
            for (n, message) in messages.iter().enumerate() {
                let answer = socket.ask(&n.to_string(), message.clone()).await;
                assert_eq!(answer["code"], "PASS_REQUIRED", "{message} with {kind}: {answer}");
            }
        }
    }
    all_is_free(&world).await;
    world.stop().await;
}

/// Spelled otherwise it is no socket at all.
#[tokio::test]
async fn a_socket_has_one_address() {
    let world = gated().await;
    for path in ["/api/v1/WS", "/api/v1/ws/", "/API/v1/ws", "//api/v1/ws", "/api/v1/%77s", "/api/v1/./ws"] {
        let reply = world.user(USER).get(path).await;
        assert_eq!(reply.status, 404, "{path}: {}", reply.text());
    }
    assert_eq!(world.user(USER).get("/api/v1/ws?passes=x").await.status, 400);
    world.stop().await;
}
