//! The line as server-sent events: for clients that are told, and for those that count.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use engine::Turn;
use engine::gate::{Bitmap, Tick, Viewer};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

use super::{LEAVE, SUBSCRIBE, enter, join, set, status, world};
use crate::api::world::World;
use crate::feed::viewer::{Event, Events};

async fn subscribe(world: &World, user: u64, query: &str) -> Events {
    let token = format!("Bearer {}", world.token(user, Duration::from_secs(600)));
    let path = format!("{SUBSCRIBE}{query}");
    let events = Events::open(world.public_url(), &path, &[("Authorization", &token)]).await;
    assert!(events.head.starts_with("http/1.1 200"), "{}", events.head);
    for line in ["content-type: text/event-stream", "cache-control: no-store", "x-accel-buffering: no"] {
        assert!(events.head.contains(line), "{}", events.head);
    }
    events
}

fn data(event: &Event) -> Value {
    serde_json::from_str(&event.data).unwrap_or_else(|error| panic!("{error}: {event:?}"))
}

/// The next event but keep-alives: its name and its data. Those do not make a wait longer.
async fn next(events: &mut Events) -> (String, Value) {
    let told = async {
        loop {
            let event = events.next().await.expect("the stream goes on");
            if event.name != "KEEPALIVE" {
                return (event.name.clone(), data(&event));
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), told).await.expect("an event comes")
}

/// The next event of this name; ranks may be told before it.
async fn find(events: &mut Events, name: &str) -> Value {
    loop {
        let (found, data) = next(events).await;
        if found == name {
            return data;
        }
        assert_eq!(found, "RANK_UPDATE", "{data} while {name} was waited for");
    }
}

#[tokio::test]
async fn who_waits_hears_of_every_step_in_every_tab() {
    let world = world(&json!({"state": "open", "maxActive": 1})).await;
    let [first, second, third] = [11, 12, 13].map(|user| world.user(user));
    enter(&first).await;
    join(&second).await;
    let joined = join(&third).await;
    let mut tabs = [subscribe(&world, 13, "").await, subscribe(&world, 13, "&form=ranks").await];
    for tab in &mut tabs {
        let (name, init) = next(tab).await;
        assert_eq!(name, "INIT");
        for field in ["concertId", "status", "turn", "rank", "ahead"] {
            assert_eq!(init[field], joined[field], "{field} of {init}");
        }
    }
    second.delete(LEAVE, None).await.expect(200);
    for tab in &mut tabs {
        let (name, update) = next(tab).await;
        assert_eq!((name.as_str(), &update["rank"], &update["ahead"]), ("RANK_UPDATE", &json!(1), &json!(0)));
    }
    first.delete(LEAVE, None).await.expect(200);
    let mut passes = Vec::new();
    for tab in &mut tabs {
        let active = find(tab, "ACTIVE").await;
        assert_eq!(active["status"], "ACTIVE", "{active}");
        assert!(active["passExpiresAt"].is_string(), "{active}");
        passes.push(active["pass"].as_str().unwrap().to_owned());
    }
    assert_eq!(passes[0], passes[1]);
    third.delete(LEAVE, None).await.expect(200);
    for tab in &mut tabs {
        assert_eq!(next(tab).await, ("ENDED".to_owned(), json!({"why": "GIVEN_BACK"})));
    }
    world.stop().await;
}

#[tokio::test]
async fn another_policy_is_heard_by_who_waits_and_by_who_comes() {
    let world = world(&json!({"state": "paused", "perSecond": 10})).await;
    join(&world.user(11)).await;
    let mut waits = subscribe(&world, 11, "").await;
    let mut strolls = subscribe(&world, 12, "").await;
    assert_eq!(next(&mut waits).await.1["status"], "WAITING");
    assert_eq!(next(&mut strolls).await, ("INIT".to_owned(), json!({"concertId": 1, "status": "NONE"})));
    set(&world, &json!({"state": "closed"})).await.expect(200);
    for events in [&mut waits, &mut strolls] {
        let rejected = ("REJECTED".to_owned(), json!({"concertId": 1, "status": "REJECTED"}));
        assert_eq!(next(events).await, rejected);
    }
    set(&world, &json!({"state": "off"})).await.expect(200);
    for events in [&mut waits, &mut strolls] {
        let free = ("INIT".to_owned(), json!({"concertId": 1, "status": "ACTIVE"}));
        assert_eq!(next(events).await, free);
    }
    world.stop().await;
}

/// A client that counts itself, as `docs/protocol.md` says.
async fn counted(events: &mut Events, viewer: &mut Option<Viewer>, turn: Turn) -> u32 {
    let bytes = |data: &Value| BASE64_STANDARD.decode(data["bytes"].as_str().unwrap()).unwrap();
    let mut block: Option<Bitmap> = None;
    loop {
        let (name, data) = next(events).await;
        match name.as_str() {
            "BLOCK" => {
                let mut words = [0; 64];
                for (word, bytes) in words.iter_mut().zip(bytes(&data).chunks_exact(8)) {
                    *word = u64::from_le_bytes(bytes.try_into().unwrap());
                }
                block = Some(Bitmap(words));
            }
            "VIEW" => {
                let view = Tick::decode(&bytes(&data)).unwrap();
                return viewer.insert(Viewer::new(turn, &view, block.unwrap())).ahead();
            }
            "TICK" => {
                let tick = Tick::decode(&bytes(&data)).unwrap();
                let viewer = viewer.as_mut().expect("a view comes first");
                viewer.apply(&tick, block.as_ref()).expect("no tick is missing");
                return viewer.ahead();
            }
            other => panic!("{other} {data}"),
        }
    }
}

#[tokio::test]
async fn who_counts_by_ticks_is_where_the_owner_says() {
    let world = world(&json!({"state": "paused", "perSecond": 10})).await;
    let ahead: Vec<_> = (100..120).map(|user| world.user(user)).collect();
    for user in &ahead {
        join(user).await;
    }
    let me = world.user(7);
    let turn = Turn(u32::try_from(join(&me).await["turn"].as_u64().unwrap()).unwrap());
    let mut events = subscribe(&world, 7, "&form=ticks").await;
    assert_eq!(next(&mut events).await.1["ahead"], 20);
    let mut viewer = None;
    while counted(&mut events, &mut viewer, turn).await != 20 {}
    for user in &ahead[3..10] {
        user.delete(LEAVE, None).await.expect(200);
    }
    while counted(&mut events, &mut viewer, turn).await != 13 {}
    assert_eq!(status(&me).await["ahead"], 13);
    world.stop().await;
}

#[tokio::test]
async fn the_stream_is_the_same_over_http_2_and_ends_with_the_server() {
    let world = world(&json!({"state": "paused", "perSecond": 10})).await;
    join(&world.user(7)).await;
    let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
        .http2_only(true)
        .build_http::<Empty<Bytes>>();
    let token = format!("Bearer {}", world.token(7, Duration::from_secs(600)));
    let url = format!("{}{SUBSCRIBE}", world.public_url());
    let request = hyper::Request::get(url).header("Authorization", token).body(Empty::new()).unwrap();
    let mut body = http.request(request).await.unwrap().into_body();
    let mut over_http_1 = subscribe(&world, 7, "").await;
    assert_eq!(next(&mut over_http_1).await.0, "INIT");
    world.begin_shutdown();
    assert!(over_http_1.next().await.is_none(), "it ends as HTTP wants it");
    let mut text = String::new();
    while let Some(frame) = tokio::time::timeout(Duration::from_secs(30), body.frame()).await.expect("an end")
    {
        text.push_str(std::str::from_utf8(&frame.unwrap().into_data().unwrap()).unwrap());
    }
    assert!(
        text.starts_with("retry: ") && text.contains("\n\nevent: INIT\ndata: {\"concertId\":1,"),
        "{text}"
    );
    world.stop().await;
}
