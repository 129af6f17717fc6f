//! PostgreSQL is stopped, hangs, is cut off in mid-commit, and goes away together with Redis.

use std::thread;
use std::time::Duration;

use serde_json::Value;
use servers::{Cut, Postgres, Proxy, Redis};

use super::Scene;
use crate::support::crowd::Crowd;
use crate::support::{Place, Server, until};

/// Longer than the leases of these tests live.
const LONG: Duration = Duration::from_secs(3);

/// Bytes of a request that writes holds; renewals and reads are smaller.
const A_BATCH: usize = 800;

/// What must hold while the ledger is away, and for how long it is looked at.
fn goes_on_without(server: &Server, crowd: &Crowd, long: Duration) {
    until(|| server.metric("ledger_up") == 0.0);
    thread::sleep(long);
    crowd.until_clicked(50);
    let warned = server.warnings();
    assert!(warned.contains("the ledger has not answered for"), "{warned}");
    assert!(warned.contains("clicks go on, holds wait for it"), "{warned}");
}

fn comes_back(server: &Server, crowd: &Crowd) {
    until(|| server.metric("ledger_up") == 1.0);
    crowd.until_held(30);
}

#[test]
fn postgres_stopped_in_the_middle_and_started_again() {
    let mut postgres = Postgres::start();
    let url = postgres.database();
    let scene = Scene::new(Place::new(), &[("HOTSEAT_LEDGER_URL", &url)]);
    let (server, crowd) = scene.open();
    for _ in 0..2 {
        postgres.stop_immediate();
        goes_on_without(&server, &crowd, LONG);
        postgres.start_again();
        comes_back(&server, &crowd);
    }
    assert_eq!((crowd.refused(), crowd.unanswered()), (Vec::new(), 0));
    assert_eq!(server.metric("shard_halts_total"), 0.0);
    scene.close(server, crowd);
}

#[test]
fn postgres_hanging_for_ten_seconds() {
    let postgres = Postgres::start();
    let url = postgres.database();
    let scene = Scene::new(Place::new(), &[("HOTSEAT_LEDGER_URL", &url)]);
    let (server, crowd) = scene.open();
    postgres.pause();
    goes_on_without(&server, &crowd, Duration::from_secs(10));
    postgres.resume();
    comes_back(&server, &crowd);
    assert_eq!((crowd.refused(), crowd.unanswered()), (Vec::new(), 0));
    scene.close(server, crowd);
}

#[test]
fn connections_cut_in_mid_commit() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(postgres.port());
    let url = postgres.database().replace(&format!(":{}/", postgres.port()), &format!(":{}/", proxy.port()));
    let scene = Scene::new(Place::new(), &[("HOTSEAT_LEDGER_URL", &url)]);
    let (server, crowd) = scene.open();
    for cut in [Cut::AnswerLost, Cut::Delivered, Cut::Torn].into_iter().cycle().take(15) {
        let before = proxy.cuts();
        proxy.cut_next(cut, A_BATCH);
        until(|| proxy.cuts() > before);
        crowd.until_held(10);
    }
    assert!(server.metric("ledger_unknown_total") >= 10.0, "the cuts were not in mid-commit");
    // All at once, and then nobody is let in.
    proxy.cut();
    crowd.until_held(10);
    proxy.refuse();
    goes_on_without(&server, &crowd, LONG);
    proxy.pass();
    comes_back(&server, &crowd);
    // A network that swallows everything.
    proxy.hang();
    goes_on_without(&server, &crowd, LONG);
    proxy.cut();
    proxy.pass();
    comes_back(&server, &crowd);
    assert_eq!((crowd.refused(), crowd.unanswered()), (Vec::new(), 0));
    assert_eq!(server.metric("shard_halts_total"), 0.0);
    scene.close(server, crowd);
}

#[test]
fn postgres_and_redis_away_at_once() {
    let mut postgres = Postgres::start();
    let mut redis = Redis::start();
    let (ledger, mirror) = (postgres.database(), redis.url());
    let further = [("HOTSEAT_LEDGER_URL", ledger.as_str()), ("HOTSEAT_MIRROR_URL", mirror.as_str())];
    let scene = Scene::new(Place::new(), &further);
    let (server, crowd) = scene.open();
    redis.kill();
    postgres.stop_immediate();
    goes_on_without(&server, &crowd, LONG);
    assert!(server.warnings().contains("soft locks are not mirrored"));
    postgres.start_again();
    redis.restart();
    comes_back(&server, &crowd);
    until(|| server.metric("mirror_up") == 1.0);
    assert_eq!((crowd.refused(), crowd.unanswered()), (Vec::new(), 0));
    scene.close(server, crowd);
}

#[test]
fn hotseat_killed_again_and_again_on_postgres_and_redis() {
    let redis = Redis::start();
    let (ledger, mirror) = (Postgres::shared().database(), redis.url());
    let further = [("HOTSEAT_LEDGER_URL", ledger.as_str()), ("HOTSEAT_MIRROR_URL", mirror.as_str())];
    let scene = Scene::new(Place::new(), &further);
    let (mut server, crowd) = scene.open();
    for _ in 0..4 {
        server.kill();
        server = scene.start();
        crowd.follow(vec![server.api.clone()]);
        scene.audit();
        crowd.until_held(50);
    }
    scene.close(server, crowd);
}

/// Nothing is lost with a standby that had everything; the sale pauses while every shard is taken anew.
#[test]
fn postgres_fails_over_to_another_timeline() {
    let mut postgres = Postgres::start();
    let url = postgres.database();
    let scene = Scene::new(Place::new(), &[("HOTSEAT_LEDGER_URL", &url)]);
    let (server, crowd) = scene.open();
    let epoch = || server.get("/api/v1/options/1/seats").json()["epoch"].as_u64().unwrap_or_default();
    let before = epoch();
    postgres.promote();
    // The shards are given up, and taken like strangers'.
    scene.is_fresh();
    until(|| epoch() >= before + 1_000);
    // Not all in the same moment: until its lease is lost, a shard of before serves.
    let anew = |shard: &Value| shard["epoch"].as_u64() >= Some(before + 1_000) && shard["state"] == "SERVING";
    until(|| server.list("shards").iter().all(anew));
    until(|| server.is_ready());
    comes_back(&server, &crowd);
    assert_eq!(crowd.unanswered(), 0);
    assert!(server.log().contains("failed over to another timeline"), "{}", server.log());
    scene.close(server, crowd);
}
