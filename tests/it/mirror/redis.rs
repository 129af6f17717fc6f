//! What only a Redis can do to a mirror.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actors::ports::{Mirror, MirrorAnswer, MirrorBatch};
use engine::{Epoch, OptionId, SeatNo, SoftLock, UserId};
use nix::sys::signal::Signal;
use servers::{Redis, RedisCluster, RedisSentinels};

use super::{Copy, NOW, TTL, in_redis};

const PATIENCE: Duration = Duration::from_secs(60);

/// What others may read, as the architecture has it.
#[tokio::test]
async fn keys_and_values_are_as_documented() {
    let redis = Redis::start();
    let copy = Copy { mirror: in_redis(&redis.url()), option: OptionId(7) };
    copy.rebuild(3, 1, &[4]).await;
    copy.apply(3, 1, 2, vec![copy.select(12), copy.release(4)]).await;
    let lock = copy.lock(12, 42, TTL);
    let (first_at, expires_at) = (lock.first_at.0, lock.expires_at.0);
    let value = format!("{{\"userId\":42,\"firstAt\":{first_at},\"expiresAt\":{expires_at},\"epoch\":3}}");
    assert_eq!(redis.say(&["GET", "seat:{7}:12"]), format!("${}\r\n{value}\r\n", value.len()));
    let left: i64 = redis.say(&["PTTL", "seat:{7}:12"])[1..].trim().parse().unwrap();
    assert!((1..=60_000).contains(&left), "{left}");
    let seats = redis.say(&["ZRANGE", "seats:{7}", "0", "-1", "WITHSCORES"]);
    assert_eq!(seats, format!("*2\r\n$2\r\n12\r\n$13\r\n{expires_at}\r\n"));
    let stands = redis.say(&["HMGET", "mirror:{7}", "epoch", "op"]);
    assert_eq!(stands, "*2\r\n$1\r\n3\r\n$1\r\n2\r\n");
    assert_eq!(redis.say(&["DBSIZE"]), ":3\r\n");
}

#[tokio::test]
async fn what_redis_forgot_is_a_gap_and_its_scripts_are_said_again() {
    let mut redis = Redis::start();
    let copy = Copy::fresh(&in_redis(&redis.url()));
    copy.rebuild(1, 1, &[1]).await;
    assert_eq!(copy.apply(1, 1, 2, vec![copy.select(2)]).await, MirrorAnswer::Applied);
    redis.say(&["SCRIPT", "FLUSH"]);
    assert_eq!(copy.apply(1, 2, 3, vec![copy.select(3)]).await, MirrorAnswer::Applied);
    assert_eq!(copy.seats(1).await, [1, 2, 3]);
    redis.flush();
    assert_eq!(copy.apply(1, 3, 4, vec![copy.select(4)]).await, MirrorAnswer::Gap);
    assert_eq!(copy.seats(1).await, [0u32; 0]);
    copy.rebuild(1, 5, &[4]).await;
    redis.restart();
    let idle = || MirrorBatch {
        option: copy.option,
        epoch: Epoch(1),
        previous: 5,
        op: 5,
        now: NOW,
        changes: Vec::new(),
    };
    // The old connection may be the first to notice.
    let answer = match copy.mirror.apply(&[idle()]).await.remove(0) {
        Ok(answer) => answer,
        Err(_) => copy.apply(1, 5, 5, Vec::new()).await,
    };
    assert_eq!(answer, MirrorAnswer::Gap);
}

/// However a rebuild breaks off, there is the copy of before or the new one, as a whole.
#[tokio::test]
async fn half_a_rebuild_never_looks_whole() {
    let redis = Redis::start();
    let copy = Copy::fresh(&in_redis(&redis.url()));
    let many: Vec<SoftLock> = (10..30_010).map(|seat| copy.lock(seat, 7, TTL)).collect();
    let mut broken = 0;
    for millis in [1, 2, 4, 8, 16, 32] {
        let (epoch, before) = (millis, [1u32, 2, 3]);
        copy.rebuild(epoch, 1, &before).await;
        let rebuild = copy.mirror.rebuild(copy.option, Epoch(epoch), 2, NOW, &many);
        let done = tokio::time::timeout(Duration::from_millis(millis), rebuild).await.is_ok();
        let seats = copy.seats(epoch).await;
        if done || seats.len() == many.len() {
            assert_eq!(seats.len(), many.len());
        } else {
            broken += 1;
            assert_eq!(seats, before, "broken off after {millis} ms");
            // What is on its way when the owner goes on must not count either.
            let next = copy.apply(epoch, 1, 2, vec![copy.select(5)]).await;
            assert_ne!(next, MirrorAnswer::Fenced);
            assert_eq!(copy.rebuild(epoch, 3, &[5]).await, MirrorAnswer::Applied);
            assert_eq!(copy.seats(epoch).await, [5]);
        }
    }
    assert!(broken > 0, "30,000 soft locks were written in a millisecond");
}

/// The names of servers, never their passwords.
#[tokio::test]
async fn what_is_wrong_is_said_with_the_name_of_the_server() {
    let redis = Redis::start_with(&["--requirepass", "hunter2"]);
    let replica = Redis::start();
    replica.say(&["REPLICAOF", "127.0.0.1", "1"]);
    let nobody = servers::free_port();
    let port = redis.port;
    let rows = [
        (format!("redis://127.0.0.1:{nobody}"), "refused".to_owned()),
        (format!("redis://127.0.0.1:{port}"), "NOAUTH".to_owned()),
        (format!("redis://:wrong-hunter2@127.0.0.1:{port}"), "assword".to_owned()),
        (format!("redis://:hunter2@127.0.0.1:{port}/99"), "DB index".to_owned()),
        (format!("rediss://:hunter2@127.0.0.1:{port}"), String::new()),
        (replica.url(), "it is a read-only replica of 127.0.0.1:1".to_owned()),
        (format!("redis+cluster://:hunter2@127.0.0.1:{port}"), String::new()),
        (format!("redis+sentinel://127.0.0.1:{nobody}/hotseat"), String::new()),
    ];
    for (url, what) in rows {
        let error = in_redis(&url).ping().await.expect_err(&url).to_string();
        assert!(error.contains("redis") && error.contains("://127.0.0.1:"), "{error}");
        assert!(error.contains(&what), "{url}: {error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
    in_redis(&format!("redis://:hunter2@127.0.0.1:{port}/3")).ping().await.unwrap();
}

#[tokio::test]
async fn a_redis_that_hangs_is_an_error_in_time_and_then_a_mirror_again() {
    let redis = Redis::start();
    let mirror = in_redis(&redis.url());
    let copy = Copy::fresh(&mirror);
    copy.rebuild(1, 1, &[1]).await;
    redis.signal(Signal::SIGSTOP);
    let error = mirror.ping().await.expect_err("it hangs").to_string();
    assert!(error.contains(&redis.url()), "{error}");
    assert!(mirror.take_over(copy.option, Epoch(2), NOW).await.is_err());
    redis.signal(Signal::SIGCONT);
    until_applied(&copy, 2).await;
}

#[tokio::test]
async fn sentinels_lead_to_the_primary_also_to_the_next_one() {
    let mut set = RedisSentinels::start();
    let copy = Copy::fresh(&in_redis(&set.url()));
    assert_eq!(copy.rebuild(1, 1, &[1]).await, MirrorAnswer::Applied);
    assert_eq!(copy.apply(1, 1, 2, vec![copy.select(2)]).await, MirrorAnswer::Applied);
    assert!(set.primary.say(&["DBSIZE"]) != ":0\r\n");
    set.primary.kill();
    until_applied(&copy, 2).await;
    assert!(set.replica.say(&["ROLE"]).contains("master"));
    assert_eq!(copy.seats(2).await, [9]);
}

#[tokio::test]
async fn a_cluster_spreads_options_over_its_nodes() {
    let mut cluster = RedisCluster::start();
    let mirror = in_redis(&cluster.url());
    let copies: Vec<Copy> = (0..30).map(|_| Copy::fresh(&mirror)).collect();
    let batch = |copy: &Copy| MirrorBatch {
        option: copy.option,
        epoch: Epoch(1),
        previous: 1,
        op: 2,
        now: NOW,
        changes: vec![copy.select(2)],
    };
    let batches: Vec<MirrorBatch> = copies.iter().map(batch).collect();
    for copy in &copies {
        assert_eq!(copy.rebuild(1, 1, &[1]).await, MirrorAnswer::Applied);
    }
    for answer in mirror.apply(&batches).await {
        assert_eq!(answer.unwrap(), MirrorAnswer::Applied);
    }
    for copy in &copies {
        assert_eq!(copy.seats(2).await, [1, 2]);
    }
    for node in &cluster.nodes {
        assert_ne!(node.say(&["DBSIZE"]), ":0\r\n", "every node has a share");
    }
    // A node that is away fails its own options.
    cluster.nodes[2].kill();
    let idle =
        |copy: &Copy| MirrorBatch { epoch: Epoch(2), previous: 0, op: 0, changes: Vec::new(), ..batch(copy) };
    let batches: Vec<MirrorBatch> = copies.iter().map(idle).collect();
    let lives = |answers: &[Result<MirrorAnswer, _>]| answers.iter().filter(|answer| answer.is_ok()).count();
    let answers: Vec<Result<MirrorAnswer, actors::ports::MirrorError>> = mirror.apply(&batches).await;
    assert!((1..30).contains(&lives(&answers)), "{answers:?}");
}

/// Tries as the mirroring does until a rebuild by `epoch` is taken.
async fn until_applied(copy: &Copy, epoch: u64) {
    let started = Instant::now();
    let lock = SoftLock { seat: SeatNo(9), user: UserId(1), ..copy.lock(9, 1, TTL) };
    let mirror: &Arc<dyn Mirror> = &copy.mirror;
    for op in 1.. {
        match mirror.rebuild(copy.option, Epoch(epoch), op, NOW, &[lock]).await {
            Ok(MirrorAnswer::Applied) => return,
            said => assert!(started.elapsed() < PATIENCE, "{said:?}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
