//! Group commit, and a ledger that does not answer or says no.

use std::time::Duration;

use engine::{Outcome, Refusal, Unavailable, UserId};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::ledger::{Fault, lock};
use crate::world::{ONE, TWO, World, buy, hold, reserved, select};

#[tokio::test(start_paused = true)]
async fn holds_share_commits() {
    let (world, node) = World::selling(1_000).await;
    let before = lock(&world.tables).sent.len();
    lock(&world.tables).latency = Duration::from_millis(10);
    let mut buyers = JoinSet::new();
    for user in 1..=1_000 {
        let handle = node.handle.clone();
        buyers.spawn(async move {
            reserved(&buy(&handle, ONE, user, u32::try_from(user).unwrap() - 1).await).is_some()
        });
    }
    let start = Instant::now();
    assert!(buyers.join_all().await.into_iter().all(|sold| sold));
    let tables = lock(&world.tables);
    let batches = &tables.sent[before..];
    assert!(batches.len() <= 4, "{} batches", batches.len());
    assert!(batches.iter().all(|batch| batch.rows.len() <= 512));
    assert!(start.elapsed() <= Duration::from_millis(50));
    tables.audit();
}

#[tokio::test(start_paused = true)]
async fn what_is_unknown_is_written_again_and_nothing_is_undone() {
    for fault in [Fault::Lost, Fault::AnswerLost, Fault::RolledBack] {
        let (world, node) = World::selling(10).await;
        let before = lock(&world.tables).sent.len();
        lock(&world.tables).faults.extend([fault; 3]);
        let handle = node.handle.clone();
        let buyer = tokio::spawn(async move { buy(&handle, ONE, 7, 1).await });
        tokio::time::sleep(Duration::from_millis(20)).await;
        let other = select(&node.handle, ONE, 8, &[1]).await;
        assert!(matches!(other, Outcome::Refused(Refusal::SeatTaken(_))), "the seat is kept");
        assert!(reserved(&buyer.await.unwrap()).is_some());
        let tables = lock(&world.tables);
        assert_eq!(tables.sent.len() - before, 4);
        assert!(tables.sent[before..].windows(2).all(|pair| pair[0] == pair[1]), "byte for byte");
        assert_eq!(tables.events[&engine::ShardId(0)].len(), 2);
        assert_eq!((node.metrics.ledger_unknown().get(), node.metrics.shard_halts().get()), (3, 0));
        tables.audit();
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_outage_tells_the_client_to_retry_its_key() {
    let (world, node) = World::selling(10).await;
    lock(&world.tables).faults.extend([Fault::AnswerLost; 12]);
    let start = Instant::now();
    let first = buy(&node.handle, ONE, 7, 1).await;
    assert_eq!(first.outcome, Outcome::Unavailable(Unavailable::Ledger));
    assert_eq!(start.elapsed().as_secs(), 5);
    assert!(matches!(select(&node.handle, ONE, 7, &[2]).await, Outcome::Granted(_)), "clicks go on");
    tokio::time::sleep(Duration::from_secs(30)).await;
    let again = hold(&node.handle, ONE, 7, 1, &[1]).await;
    assert!(again.replayed && reserved(&again).is_some(), "{again:?}");
    assert_eq!(node.handle.inflight(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_refused_entry_halts_its_shard_and_no_other() {
    let (world, node) = World::selling(100).await;
    {
        let mut tables = lock(&world.tables);
        tables.refused = Some(UserId(13));
        tables.latency = Duration::from_millis(5);
    }
    let mut buyers = JoinSet::new();
    for user in 1..=40 {
        for option in [ONE, TWO] {
            // The culprit is in shard 0 only.
            if (user, option) == (13, TWO) {
                continue;
            }
            let handle = node.handle.clone();
            buyers.spawn(async move {
                (user, option, buy(&handle, option, user, u32::try_from(user).unwrap()).await)
            });
        }
    }
    for (user, option, answer) in buyers.join_all().await {
        match (option == TWO, user) {
            (true, _) => assert!(reserved(&answer).is_some(), "{answer:?}"),
            (false, 13) => assert_eq!(answer.outcome, Outcome::Unavailable(Unavailable::Ledger)),
            // Before it in the same batch: sold. After it: dropped with the shard's memory.
            (false, _) => assert!(
                reserved(&answer).is_some() || answer.outcome == Outcome::Unavailable(Unavailable::Ledger)
            ),
        }
    }
    node.handle.until_serving().await;
    assert_eq!((node.epoch(0), node.epoch(1)), (Some(2), Some(1)));
    assert_eq!(node.metrics.shard_halts().get(), 1);
    let sold = lock(&world.tables).reservations.values().filter(|row| row.option == ONE).count();
    assert_eq!(sold, 12, "those before the culprit");
    // Served again; who was dropped learns it from the key and may try anew.
    let retry = buy(&node.handle, ONE, 14, 14).await;
    assert!(reserved(&retry).is_some(), "{retry:?}");
    let first = hold(&node.handle, ONE, 1, 1, &[1]).await;
    assert!(first.replayed && reserved(&first).is_some());
    assert_eq!(node.handle.inflight(), (0, 0));
    lock(&world.tables).audit();
}
