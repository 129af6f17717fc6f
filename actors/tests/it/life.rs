//! Start, stop, and bounds.

use std::time::Duration;

use engine::limits::LEDGER_REPLIES;
use engine::{Command, Outcome, Refusal, ShardId, Unavailable};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::ledger::{Fault, lock};
use crate::world::{ONE, TWO, World, ask, buy, hold, reserved, select};

#[tokio::test(start_paused = true)]
async fn waiting_holds_do_not_starve_clicks() {
    let seats = u32::try_from(LEDGER_REPLIES).unwrap() + 10;
    let (world, node) = World::selling(seats).await;
    lock(&world.tables).faults.push_back(Fault::Slow(Duration::from_secs(20)));
    let mut waiting = JoinSet::new();
    for user in 1..=u64::try_from(LEDGER_REPLIES).unwrap() {
        let handle = node.handle.clone();
        waiting.spawn(async move { buy(&handle, ONE, user, u32::try_from(user).unwrap() - 1).await });
        if user % 1_000 == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(node.handle.inflight(), (0, LEDGER_REPLIES));
    let start = Instant::now();
    let one_more = buy(&node.handle, ONE, 9_999, seats - 1).await;
    assert_eq!(one_more.outcome, Outcome::Unavailable(Unavailable::Ledger));
    assert!(matches!(select(&node.handle, ONE, 9_998, &[seats - 2]).await, Outcome::Granted(_)));
    assert!(matches!(select(&node.handle, ONE, 9_997, &[0]).await, Outcome::Refused(Refusal::SeatTaken(_))));
    assert!(start.elapsed() < Duration::from_millis(10));
    // The clients leave after five seconds; the engine waits on, and with it the permits.
    for answer in waiting.join_all().await {
        assert_eq!(answer.outcome, Outcome::Unavailable(Unavailable::Ledger));
    }
    assert_eq!(node.handle.inflight(), (0, LEDGER_REPLIES));
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(node.handle.inflight(), (0, 0));
    lock(&world.tables).audit();
}

#[tokio::test(start_paused = true)]
async fn too_many_undecided_commands_are_turned_away_at_once() {
    let (_world, node) = World::selling(10).await;
    let mut users = JoinSet::new();
    for user in 1..=6_000 {
        let handle = node.handle.clone();
        // On one thread all of them are sent before the actor has its turn.
        users.spawn(async move { select(&handle, ONE, user, &[0]).await });
    }
    let answers = users.join_all().await;
    let turned_away =
        answers.iter().filter(|answer| **answer == Outcome::Unavailable(Unavailable::Overloaded)).count();
    assert!(turned_away > 0 && turned_away <= 6_000 - 4_096, "{turned_away}");
    assert_eq!(answers.iter().filter(|answer| matches!(answer, Outcome::Granted(_))).count(), 1);
    assert_eq!(node.handle.inflight(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_answers_everybody_and_the_next_node_goes_on() {
    let (world, node) = World::selling(1_000).await;
    lock(&world.tables).latency = Duration::from_millis(20);
    let mut buyers = JoinSet::new();
    for user in 1..=300_u64 {
        let handle = node.handle.clone();
        buyers.spawn(async move { (user, buy(&handle, ONE, user, u32::try_from(user).unwrap()).await) });
    }
    select(&node.handle, TWO, 7, &[1]).await;
    let held = buy(&node.handle, TWO, 8, 2).await;
    let reservation = reserved(&held).unwrap().id;
    // Waits for the entry before it, and has to be flushed as well.
    let handle = node.handle.clone();
    let pay =
        tokio::spawn(
            async move { ask(&handle, TWO, 8, Some(2), Command::StartPaying { reservation }).await },
        );
    let handle = node.handle.clone();
    let confirm =
        tokio::spawn(async move { ask(&handle, TWO, 8, Some(3), Command::Confirm { reservation }).await });
    tokio::time::sleep(Duration::from_millis(1)).await;

    let handle = node.handle.clone();
    let owner = node.owner;
    let report = node.system.shutdown(Duration::from_secs(10)).await;
    world.network.died(owner);
    assert_eq!((report.unflushed, report.released), (0, 2));
    assert!(reserved(&pay.await.unwrap()).is_some() && reserved(&confirm.await.unwrap()).is_some());
    let mut sold = Vec::new();
    for (user, answer) in buyers.join_all().await {
        match reserved(&answer) {
            Some(reservation) => sold.push((user, reservation.id)),
            None => assert!(matches!(answer.outcome, Outcome::Unavailable(_)), "{answer:?}"),
        }
    }
    assert_eq!(handle.inflight(), (0, 0));
    let late = select(&handle, ONE, 7, &[900]).await;
    assert_eq!(late, Outcome::Unavailable(Unavailable::Overloaded));
    assert!(lock(&world.tables).is_free(ShardId(0)));

    let start = Instant::now();
    let next = world.node().await;
    assert!(start.elapsed() < Duration::from_secs(1), "the leases were free");
    assert_eq!((next.epoch(0), next.epoch(1)), (Some(2), Some(2)));
    assert!(!sold.is_empty());
    for (user, id) in sold {
        let again = hold(&next.handle, ONE, user, 1, &[u32::try_from(user).unwrap()]).await;
        assert_eq!((reserved(&again).map(|row| row.id), again.replayed), (Some(id), true));
    }
    let taken = select(&next.handle, TWO, 9, &[1]).await;
    assert!(matches!(taken, Outcome::Refused(Refusal::SeatTaken(_))), "soft locks came along: {taken:?}");
    lock(&world.tables).audit();
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_does_not_wait_for_ever() {
    let (world, node) = World::selling(10).await;
    lock(&world.tables).faults.extend([Fault::Lost; 100]);
    let handle = node.handle.clone();
    let buyer = tokio::spawn(async move { buy(&handle, ONE, 1, 1).await });
    tokio::time::sleep(Duration::from_millis(1)).await;
    let start = Instant::now();
    let report = node.system.shutdown(Duration::from_secs(3)).await;
    assert!(start.elapsed() < Duration::from_secs(4));
    assert!(report.unflushed > 0 && report.released == 0, "{report:?}");
    assert_eq!(buyer.await.unwrap().outcome, Outcome::Unavailable(Unavailable::Ledger));
}
