//! What only a Redis can do to a gate's mirror.

use std::time::{Duration, Instant};

use actors::ports::{MirrorAnswer, MirrorError};
use engine::gate::{Draw, KeptPass, MirrorOp, Snapshot};
use engine::{ConcertId, Epoch, PassId, Span, Turn, UserId};
use servers::{Redis, RedisCluster};

use super::{Copy, NOW, admit, in_redis, join, pass, snapshot};

/// What others may read, as the architecture has it.
#[tokio::test]
async fn keys_and_values_of_gates_are_as_documented() {
    let redis = Redis::start();
    let copy = Copy { mirror: in_redis(&redis.url()), concert: ConcertId(7) };
    copy.take_over(3).await;
    let id = PassId((3 << 32) | 12 | (1 << 60));
    let ends_at = NOW + Span::from_secs(60);
    let frozen = Draw::Frozen { first: Turn(0), upto: Turn(15) };
    let changes = vec![
        MirrorOp::Join { user: UserId(41), turn: Turn(14) },
        MirrorOp::Admit { user: UserId(42), turn: Turn(12), pass: id, ends_at },
        MirrorOp::Draw(frozen),
    ];
    assert_eq!(copy.apply(3, 0, 3, changes).await, MirrorAnswer::Applied);
    let value = format!("{{\"passId\":\"{id}\",\"turn\":12,\"endsAt\":{},\"epoch\":3}}", ends_at.0);
    assert_eq!(redis.say(&["GET", "active-user:{7}:42"]), format!("${}\r\n{value}\r\n", value.len()));
    let left: i64 = redis.say(&["PTTL", "active-user:{7}:42"])[1..].trim().parse().unwrap();
    assert!((1..=60_000).contains(&left), "{left}");
    let waiting = redis.say(&["ZRANGE", "waiting-queue:{7}", "0", "-1", "WITHSCORES"]);
    assert_eq!(waiting, "*2\r\n$2\r\n41\r\n$2\r\n14\r\n");
    let passes = redis.say(&["ZRANGE", "active-users:{7}", "0", "-1", "WITHSCORES"]);
    assert_eq!(passes, format!("*2\r\n$2\r\n42\r\n$13\r\n{}\r\n", ends_at.0));
    let gate = redis.say(&["HMGET", "gate:{7}", "epoch", "op", "next", "draw"]);
    assert_eq!(gate, "*4\r\n$1\r\n3\r\n$1\r\n3\r\n$2\r\n15\r\n$11\r\nfrozen:0:15\r\n");
    assert_eq!(redis.say(&["DBSIZE"]), ":4\r\n");
}

#[tokio::test]
async fn what_redis_forgot_of_a_gate_is_a_gap() {
    let mut redis = Redis::start();
    let copy = Copy::fresh(&in_redis(&redis.url()));
    copy.take_over(1).await;
    assert_eq!(copy.apply(1, 0, 1, vec![join(1)]).await, MirrorAnswer::Applied);
    redis.say(&["SCRIPT", "FLUSH"]);
    assert_eq!(copy.apply(1, 1, 2, vec![join(2)]).await, MirrorAnswer::Applied);
    assert_eq!(copy.line(2).await, [1, 2]);
    redis.flush();
    assert_eq!(copy.apply(2, 0, 1, vec![join(3)]).await, MirrorAnswer::Gap);
    assert_eq!(copy.rebuild(2, 2, &snapshot(&[1, 2, 3], &[4])).await, MirrorAnswer::Applied);
    assert_eq!(copy.apply(2, 2, 3, vec![join(5)]).await, MirrorAnswer::Applied);
    assert_eq!(copy.line(3).await, [1, 2, 3, 5]);
    redis.restart();
    let idle = copy.batch(3, 0, 0, Vec::new());
    // The old connection may be the first to notice.
    let answer = match copy.mirror.apply(&idle).await {
        Ok(answer) => answer,
        Err(_) => copy.mirror.apply(&idle).await.unwrap(),
    };
    assert_eq!(answer, MirrorAnswer::Gap);
    // A line that no gate vouches for does not come back.
    redis.say(&["ZADD", &format!("waiting-queue:{{{}}}", copy.concert), "1", "9"]);
    assert_eq!(copy.take_over(4).await, Snapshot::default());
    copy.apply(4, 0, 1, vec![join(1)]).await;
    assert_eq!(copy.line(5).await, [1]);
}

/// Redis's own clock ends a pass, and its set is trimmed by the gate's.
#[tokio::test]
async fn a_pass_that_redis_forgot_has_ended() {
    let redis = Redis::start();
    let copy = Copy::fresh(&in_redis(&redis.url()));
    copy.take_over(1).await;
    let soon = NOW + Span(1_000);
    let short =
        |user| MirrorOp::Admit { user: UserId(user), turn: Turn(1), pass: PassId(user), ends_at: soon };
    copy.apply(1, 0, 2, vec![admit(1), short(2), short(3)]).await;
    let key = format!("active-user:{{{}}}:2", copy.concert);
    let started = Instant::now();
    while redis.say(&["EXISTS", &key]) != ":0\r\n" {
        assert!(started.elapsed() < Duration::from_secs(60));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(copy.take_over(2).await.passes, [pass(1)]);
    let later = actors::gates::ports::GateBatch { now: soon, ..copy.batch(2, 0, 1, vec![admit(4)]) };
    copy.mirror.apply(&later).await.unwrap();
    let listed = redis.say(&["ZCARD", &format!("active-users:{{{}}}", copy.concert)]);
    assert_eq!(listed, ":2\r\n", "1 and 4");
}

/// However a rebuild breaks off, there is the copy of before or the new one, as a whole.
#[tokio::test]
async fn half_a_gate_never_looks_whole() {
    let redis = Redis::start();
    let copy = Copy::fresh(&in_redis(&redis.url()));
    let all: Vec<u64> = (10..30_010).collect();
    let many = snapshot(&all[..28_000], &all[28_000..]);
    let before = snapshot(&[1, 2], &[3]);
    let mut broken = 0;
    for millis in [1, 2, 4, 8, 16, 32, 64] {
        let epoch = 10 * millis;
        copy.rebuild(epoch, 1, &before).await;
        let rebuild = copy.mirror.rebuild(copy.concert, Epoch(epoch), 2, NOW, &many);
        let done = tokio::time::timeout(Duration::from_millis(millis), rebuild).await.is_ok();
        // What was sent before may still arrive.
        let next = copy.apply(epoch, 1, 3, vec![join(5)]).await;
        let kept = copy.take_over(epoch + 1).await;
        if done || kept.waiting.len() == many.waiting.len() {
            assert!(kept == many, "{} wait", kept.waiting.len());
        } else if next == MirrorAnswer::Applied {
            // Not even the first part had come.
            assert_eq!(kept.waiting.len(), 3);
        } else {
            broken += 1;
            assert_eq!(next, MirrorAnswer::Gap);
            assert_eq!(kept, before, "broken off after {millis} ms");
            // The rest of it is of a lower epoch now.
            assert_eq!(copy.rebuild(epoch, 2, &many).await, MirrorAnswer::Fenced);
            assert_eq!(copy.apply(epoch + 1, 0, 1, vec![join(5)]).await, MirrorAnswer::Applied);
            assert_eq!(copy.line(epoch + 2).await, [1, 2, 5]);
        }
    }
    assert!(broken > 0, "30,000 were written in a millisecond");
}

/// A later rebuild outruns the parts of one before, which come in between.
#[tokio::test]
async fn rebuilds_of_two_minds_do_not_mix() {
    let redis = Redis::start();
    let copy = Copy::fresh(&in_redis(&redis.url()));
    let all: Vec<u64> = (10..10_010).collect();
    let (old, new) = (snapshot(&all[..9_000], &all[9_000..]), snapshot(&all[..5_000], &all[5_000..6_000]));
    let to = |op, kept| copy.mirror.rebuild(copy.concert, Epoch(1), op, NOW, kept);
    let other = in_redis(&redis.url());
    let (first, second) = tokio::join!(to(2, &old), other.rebuild(copy.concert, Epoch(1), 3, NOW, &new));
    assert_ne!(first.unwrap(), MirrorAnswer::Fenced);
    assert_eq!(second.unwrap(), MirrorAnswer::Applied);
    assert!(copy.take_over(2).await == new);
}

#[tokio::test]
async fn a_value_of_another_version_is_said_and_not_lost() {
    let redis = Redis::start();
    let copy = Copy::fresh(&in_redis(&redis.url()));
    let (concert, url) = (copy.concert, redis.url());
    let key = format!("active-user:{{{concert}}}:1");
    let gate = format!("gate:{{{concert}}}");
    let rows: [&[&str]; 4] = [
        &["SET", &key, "{}"],
        &["SET", &key, "{\"passId\":\"x\",\"turn\":1,\"endsAt\":1}"],
        &["HSET", &gate, "draw", "frozen:1"],
        &["ZADD", &format!("waiting-queue:{{{concert}}}"), "1", "nobody"],
    ];
    for (epoch, row) in (1..).zip(rows) {
        copy.rebuild(epoch, 1, &snapshot(&[2], &[1])).await;
        redis.say(row);
        let error =
            copy.mirror.take_over(concert, Epoch(epoch), NOW).await.expect_err("it is wrong").to_string();
        assert!(error.contains(&format!("the gate of concert {concert} is not as")), "{error}");
        assert!(error.contains(&url), "{error}");
    }
}

/// All keys of a call are in one slot, or the nodes would refuse it.
#[tokio::test]
async fn a_cluster_spreads_gates_over_its_nodes() {
    let mut cluster = RedisCluster::start();
    let mirror = in_redis(&cluster.url());
    let copies: Vec<Copy> = (0..30).map(|_| Copy::fresh(&mirror)).collect();
    let many: Vec<u64> = (10..10_010).collect();
    for copy in &copies {
        assert_eq!(copy.take_over(1).await, Snapshot::default());
        assert_eq!(copy.apply(1, 0, 2, vec![join(1), admit(2)]).await, MirrorAnswer::Applied);
        assert_eq!(copy.take_over(2).await, snapshot(&[1], &[2]));
    }
    let kept = snapshot(&many[..9_000], &many[9_000..]);
    for copy in &copies[..5] {
        assert_eq!(copy.rebuild(2, 1, &kept).await, MirrorAnswer::Applied);
        assert!(copy.take_over(3).await == kept);
    }
    for node in &cluster.nodes {
        assert_ne!(node.say(&["DBSIZE"]), ":0\r\n", "every node has a share");
    }
    // A node that is away fails its own gates.
    cluster.nodes[2].kill();
    let mut answers: Vec<Result<MirrorAnswer, MirrorError>> = Vec::new();
    for copy in &copies[5..] {
        answers.push(copy.mirror.apply(&copy.batch(2, 0, 0, Vec::new())).await);
    }
    let lives = answers.iter().filter(|answer| answer.is_ok()).count();
    assert!((1..25).contains(&lives), "{answers:?}");
}

#[tokio::test]
async fn a_gate_without_a_redis_is_an_error_that_names_it() {
    let mut redis = Redis::start();
    let copy = Copy::fresh(&in_redis(&redis.url()));
    let kept = Snapshot { passes: vec![KeptPass { turn: Turn(1), ..pass(1) }], ..snapshot(&[2], &[1]) };
    copy.rebuild(1, 1, &kept).await;
    redis.kill();
    let (mirror, url) = (&copy.mirror, redis.url());
    let errors = [
        mirror.ping().await.unwrap_err(),
        mirror.apply(&copy.batch(1, 1, 2, vec![join(3)])).await.unwrap_err(),
        mirror.rebuild(copy.concert, Epoch(1), 2, NOW, &kept).await.unwrap_err(),
        mirror.take_over(copy.concert, Epoch(2), NOW).await.unwrap_err(),
    ];
    assert!(errors.iter().all(|error| error.to_string().contains(&url)), "{errors:?}");
}
