//! Crashes, lost leases, and what comes back.

use std::time::Duration;

use engine::{Outcome, Refusal, ShardId, Unavailable};
use tokio::task::JoinSet;

use crate::ledger::{Fault, lock};
use crate::world::{ONE, TWO, World, buy, hold, reserved, select};

#[tokio::test(start_paused = true)]
async fn a_panic_is_restored_under_a_new_epoch_and_the_dead_are_fenced() {
    let (world, node) = World::selling(10).await;
    assert!(reserved(&buy(&node.handle, ONE, 1, 1).await).is_some());
    assert!(matches!(select(&node.handle, ONE, 2, &[2]).await, Outcome::Granted(_)));
    tokio::time::sleep(Duration::from_millis(5)).await;
    // A hold is on its way into the ledger when its actor dies, and arrives after the new epoch.
    lock(&world.tables).faults.push_back(Fault::Slow(Duration::from_secs(1)));
    let handle = node.handle.clone();
    let dying = tokio::spawn(async move { buy(&handle, ONE, 3, 3).await });
    tokio::time::sleep(Duration::from_millis(5)).await;
    node.handle.crash(ShardId(0));
    assert_eq!(dying.await.unwrap().outcome, Outcome::Unavailable(Unavailable::Ledger));
    assert_eq!(node.epoch(0), None, "back-off");
    let meanwhile = select(&node.handle, ONE, 4, &[4]).await;
    assert_eq!(meanwhile, Outcome::Unavailable(Unavailable::Overloaded));
    assert!(node.handle.snapshot(ONE).is_some(), "viewers keep what they had");
    node.handle.until_serving().await;
    assert_eq!((node.epoch(0), node.epoch(1)), (Some(2), Some(1)));
    tokio::time::sleep(Duration::from_secs(2)).await;
    {
        let tables = lock(&world.tables);
        assert_eq!(tables.reservations.len(), 1, "the dead actor's entry came out fenced");
        tables.audit();
    }
    // Soft locks came back from the mirror, the hold from the ledger, and the key may try again.
    assert!(matches!(select(&node.handle, ONE, 9, &[2]).await, Outcome::Refused(Refusal::SeatTaken(_))));
    assert!(matches!(select(&node.handle, ONE, 9, &[1]).await, Outcome::Refused(Refusal::SeatTaken(_))));
    let again = buy(&node.handle, ONE, 3, 3).await;
    assert!(reserved(&again).is_some() && !again.replayed, "{again:?}");
    assert_eq!(node.handle.inflight(), (0, 0));
    assert_eq!(node.metrics.shard_halts().get(), 1);
    lock(&world.tables).audit();
}

#[tokio::test(start_paused = true)]
async fn permits_come_back_however_a_command_ends() {
    let (world, node) = World::selling(3_000).await;
    lock(&world.tables).latency = Duration::from_millis(3);
    let mut users = JoinSet::new();
    for user in 1..=3_000_u64 {
        let handle = node.handle.clone();
        users.spawn(async move {
            tokio::time::sleep(Duration::from_millis(user)).await;
            let option = if user % 2 == 0 { ONE } else { TWO };
            if user % 7 == 0 {
                // Gives up early.
                let patience = Duration::from_millis(user % 5);
                let _gone = tokio::time::timeout(
                    patience,
                    buy(&handle, option, user, u32::try_from(user).unwrap() - 1),
                )
                .await;
                return 0;
            }
            usize::from(
                reserved(&buy(&handle, option, user, u32::try_from(user).unwrap() - 1).await).is_some(),
            )
        });
    }
    for round in 0..8 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        node.handle.crash(ShardId(round % 2));
        if round % 3 == 0 {
            lock(&world.tables).faults.extend([Fault::AnswerLost, Fault::Lost]);
        }
    }
    let sold: usize = users.join_all().await.into_iter().sum();
    node.handle.until_serving().await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(node.handle.inflight(), (0, 0));
    let tables = lock(&world.tables);
    assert!(sold > 100 && tables.reservations.len() >= sold, "{sold} of {}", tables.reservations.len());
    assert_eq!(node.metrics.shard_halts().get(), 8);
    tables.audit();
}

#[tokio::test(start_paused = true)]
async fn while_the_ledger_is_away_clicks_go_on_and_holds_wait() {
    let (world, node) = World::selling(10).await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!(matches!(select(&node.handle, ONE, 7, &[1]).await, Outcome::Granted(_)));
    assert_eq!((node.handle.ledger_away(), node.metrics.ledger_up().get()), (None, 1));
    lock(&world.tables).away = true;
    // Over the deadline of the leases, at every moment.
    for second in 0..20 {
        tokio::time::sleep(Duration::from_millis(999)).await;
        let clicked = select(&node.handle, ONE, 8, &[2]).await;
        assert!(matches!(clicked, Outcome::Granted(_)), "after {second} s: {clicked:?}");
    }
    assert_eq!(hold(&node.handle, ONE, 8, 1, &[2]).await.outcome, Outcome::Unavailable(Unavailable::Ledger));
    let away = node.handle.ledger_away().unwrap();
    assert!(away.since.elapsed() > Duration::from_secs(20) && away.why.contains("down"), "{away:?}");
    assert_eq!(node.metrics.ledger_up().get(), 0);
    // Soft locks run out as ever: 1 has, and 2 waits for the ledger.
    tokio::time::sleep(Duration::from_secs(40)).await;
    assert_eq!(node.handle.snapshot(ONE).unwrap().counts, [9, 1, 0, 0]);
    lock(&world.tables).away = false;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!((node.handle.ledger_away(), node.metrics.ledger_up().get()), (None, 1));
    assert_eq!(node.epoch(0), Some(1), "the lease had run out, but nobody took it");
    let again = hold(&node.handle, ONE, 8, 1, &[2]).await;
    assert!(again.replayed && reserved(&again).is_some(), "{again:?}");
    assert_eq!(node.metrics.shard_halts().get(), 0);
    lock(&world.tables).audit();
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_was_taken_while_the_ledger_was_away_stops() {
    let (world, node) = World::selling(10).await;
    lock(&world.tables).away = true;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(matches!(select(&node.handle, ONE, 8, &[2]).await, Outcome::Granted(_)));
    let handle = node.handle.clone();
    let held = tokio::spawn(async move { hold(&handle, ONE, 8, 1, &[2]).await });
    tokio::time::sleep(Duration::from_millis(1)).await;
    {
        let mut tables = lock(&world.tables);
        tables.steal(ShardId(0));
        tables.away = false;
    }
    assert_eq!(held.await.unwrap().outcome, Outcome::Unavailable(Unavailable::Ledger));
    assert_eq!((node.epoch(0), node.epoch(1)), (None, Some(1)));
    let refused = select(&node.handle, ONE, 9, &[3]).await;
    assert_eq!(refused, Outcome::Unavailable(Unavailable::Overloaded));
    let tables = lock(&world.tables);
    assert_eq!(tables.reservations.len(), 0, "what it had not written came out fenced");
    tables.audit();
}

#[tokio::test(start_paused = true)]
async fn a_lost_shard_stops_now_and_comes_back_when_its_lease_is_free() {
    let (world, node) = World::selling(10).await;
    assert!(reserved(&buy(&node.handle, ONE, 1, 1).await).is_some());
    lock(&world.tables).stolen.insert(ShardId(0));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!((node.epoch(0), node.epoch(1)), (None, Some(1)));
    assert!(node.handle.snapshot(ONE).is_some(), "whoever has it will go on from there");
    assert!(matches!(select(&node.handle, TWO, 7, &[1]).await, Outcome::Granted(_)));
    // The thief does not renew.
    tokio::time::sleep(Duration::from_secs(8)).await;
    assert_eq!(node.epoch(0), Some(3));
    let known = hold(&node.handle, ONE, 1, 1, &[1]).await;
    assert!(known.replayed && reserved(&known).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_wiped_mirror_is_rebuilt() {
    let (world, node) = World::selling(10).await;
    select(&node.handle, ONE, 7, &[1, 2]).await;
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(world.mirror.seats(ONE), [1, 2]);
    world.mirror.wipe(ONE);
    select(&node.handle, ONE, 8, &[5]).await;
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(world.mirror.seats(ONE), [1, 2, 5]);
    assert!(reserved(&hold(&node.handle, ONE, 7, 1, &[1, 2]).await).is_some());
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(world.mirror.seats(ONE), [5], "a hold that is durable leaves the mirror");
}
