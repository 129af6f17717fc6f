//! Reads: a good signature opens them on any node, until the pass ends whatever happens.

use hyper_util::client::legacy::Client as Http;
use hyper_util::rt::TokioExecutor;

use super::*;

#[tokio::test]
async fn seats_open_to_whoever_has_a_pass_and_to_operators() {
    let world = gated().await;
    let pass = signed(&world, CONCERT, USER, LONG);
    let pass = Some(pass.as_str());
    let status = async |client: &Client| client.get(SEATS).await.status;
    assert_eq!(status(&with_pass(&world.user(USER), pass)).await, 200);
    assert_eq!(status(&with_pass(&world.client(), pass)).await, 200, "whoever has it");
    assert_eq!(status(&with_pass(&world.user(USER + 1), pass)).await, 403, "another user's");
    assert_eq!(status(&with_pass(&world.payment(), pass)).await, 403, "another user's as well");
    for (role, client, expected) in [
        ("ADMIN", world.admin(), 200),
        ("OPS", world.ops(), 200),
        ("PAYMENT", world.payment(), 403),
        ("USER", world.user(USER), 403),
        ("nobody", world.client(), 403),
    ] {
        assert_eq!(status(&client).await, expected, "{role}");
    }
    let lapsed = with_pass(&world.client().authorization(Some("Bearer x")), pass);
    assert_eq!(status(&lapsed).await, 401);

    let viewer = with_pass(&world.client(), pass);
    let whole = viewer.get(SEATS).await.expect(200);
    let at = format!("{}.{}", whole.body["epoch"], whole.body["seq"]);
    viewer.get(&format!("{SEATS}?since={at}")).await.expect(200);
    assert_eq!(world.client().get(&format!("{SEATS}?since={at}")).await.code(), "PASS_REQUIRED");
    // Whoever has seen it learns nothing without a pass, not even that nothing has changed.
    let etag = whole.header("etag").to_owned();
    assert_eq!(world.client().header("If-None-Match", &etag).get(SEATS).await.status, 403);
    assert_eq!(viewer.header("If-None-Match", &etag).get(SEATS).await.status, 304);

    // What is for sale is no secret.
    for path in ["/api/v1/concerts", "/api/v1/concerts/1/options", "/api/v1/options/1/plan"] {
        world.client().get(path).await.expect(200);
    }
    switch(&world, false).await;
    world.client().get(SEATS).await.expect(200);
    world.user(USER).post("/api/v1/options/1/selections", &json!({"seats": [0]})).await.expect(201);
    world.stop().await;
}

#[tokio::test]
async fn a_stream_ends_with_its_pass() {
    let world = gated().await;
    let left = Duration::from_millis(1_500);
    for (version, is_2) in [("HTTP/1.1", false), ("HTTP/2", true)] {
        for by_query in [false, true] {
            let pass = signed(&world, CONCERT, USER, left);
            let query = if by_query { format!("?pass={pass}") } else { String::new() };
            let uri = format!("{}/api/v1/options/1/events{query}", world.public_url());
            let mut request = hyper::Request::get(uri);
            if !by_query {
                request = request.header("Hotseat-Pass", &pass);
            }
            let http = Http::builder(TokioExecutor::new()).http2_only(is_2).build_http();
            let request = request.body(http_body_util::Empty::<hyper::body::Bytes>::new()).unwrap();
            let opened = Instant::now();
            let response = http.request(request).await.unwrap();
            assert_eq!(response.status(), 200, "{version}");
            let body = http_body_util::BodyExt::collect(response.into_body());
            let body = tokio::time::timeout(LONG / 20, body).await.expect("the stream goes on").unwrap();
            let text = String::from_utf8(body.to_bytes().to_vec()).unwrap();
            assert!(text.contains("event: snapshot"), "{version}: {text}");
            let took = opened.elapsed();
            assert!(took > left / 2 && took < Duration::from_secs(10), "{version}: {took:?}");
        }
    }
    world.stop().await;
}

#[tokio::test]
async fn a_socket_that_watches_ends_with_its_pass_unless_there_is_a_later_one() {
    let world = gated().await;
    let left = Duration::from_millis(1_500);
    let pass = |left| json!({"op": "pass", "pass": signed(&world, CONCERT, USER, left)});

    let mut short = Ws::open(world.address()).await;
    assert_eq!(short.ask("p", pass(left)).await["ev"], "ok");
    assert_eq!(short.ask("w", watch()).await["ev"], "ok");
    short.event("snapshot").await;

    let mut renewed = Ws::open(world.address()).await;
    assert_eq!(renewed.ask("p", pass(left)).await["ev"], "ok");
    assert_eq!(renewed.ask("w", watch()).await["ev"], "ok");
    assert_eq!(renewed.ask("q", pass(LONG)).await["ev"], "ok");

    let header = signed(&world, CONCERT, USER, LONG);
    let mut operator = Ws::with_token(world.address(), &world.admin_token(LONG)).await;
    assert_eq!(operator.ask("w", watch()).await["ev"], "ok");
    let mut opened = Ws::try_open(world.address(), &[("Hotseat-Pass", &header)]).await.unwrap().0;
    assert_eq!(opened.ask("w", watch()).await["ev"], "ok");
    let mut asked = Ws::try_open_at(world.address(), &format!("?pass={header}"), &[]).await.unwrap().0;
    assert_eq!(asked.ask("w", watch()).await["ev"], "ok");

    short.ends_with("PASS_ENDED", 1008).await;
    for socket in [&mut renewed, &mut operator, &mut opened, &mut asked] {
        assert_eq!(socket.ask("ping", json!({"op": "ping"})).await["ev"], "ok");
    }
    world.stop().await;
}

/// Who watches already goes on when a gate is switched on; the sale is shut at once.
#[tokio::test]
async fn a_gate_that_is_switched_on_later_leaves_viewers_alone() {
    let world = World::start().await;
    let mut viewer = Ws::with_token(world.address(), &world.token(USER, LONG)).await;
    assert_eq!(viewer.ask("w", watch()).await["ev"], "ok");
    viewer.event("snapshot").await;
    switch(&world, true).await;
    assert_eq!(viewer.ask("s", select(&[0])).await["code"], "PASS_REQUIRED");
    assert_eq!(viewer.ask("ping", json!({"op": "ping"})).await["ev"], "ok");
    assert_eq!(viewer.ask("again", watch()).await["code"], "PASS_REQUIRED");
    world.stop().await;
}
