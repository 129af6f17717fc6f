//! Two nodes and the shards between them.

use std::time::Duration;

use actors::handle::ShardStatus;
use engine::{Epoch, Granted, OptionId, Outcome, Refusal, ShardId, Unavailable};
use tokio::time::Instant;

use crate::ledger::lock;
use crate::world::{Node, ONE, TWO, World, buy, reserved, select};

const SECOND: Duration = Duration::from_secs(1);

pub async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(60), "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The first node has everything, the second comes and gets its share.
pub async fn two() -> (World, Node, Node) {
    let (world, first) = World::selling(100).await;
    assert_eq!((first.epoch(0), first.epoch(1)), (Some(1), Some(1)));
    let second = world.node().await;
    until("each has one", || owned(&first) == 1 && owned(&second) == 1).await;
    (world, first, second)
}

/// The shard that the other node has, and its option.
pub fn elsewhere(node: &Node) -> (u16, OptionId) {
    let theirs = (0..2).find(|shard| node.epoch(*shard).is_none()).unwrap();
    (theirs, [ONE, TWO][usize::from(theirs)])
}

pub fn owned(node: &Node) -> usize {
    (0..2).filter(|shard| node.epoch(*shard).is_some()).count()
}

#[tokio::test(start_paused = true)]
async fn a_node_that_joins_gets_its_share_and_both_answer_for_both() {
    let (world, first, second) = two().await;
    let mut seat = 0;
    for node in [&first, &second] {
        for option in [ONE, TWO] {
            seat += 1;
            let answer = buy(&node.handle, option, 7 + u64::from(seat), seat).await;
            assert!(reserved(&answer).is_some(), "{answer:?}");
            let there = if node.owner == first.owner { &second } else { &first };
            let taken = select(&there.handle, option, 99, &[seat]).await;
            assert!(matches!(taken, Outcome::Refused(Refusal::SeatTaken(_))), "{taken:?}");
        }
    }
    assert_eq!((first.handle.inflight(), second.handle.inflight()), ((0, 0), (0, 0)));
    lock(&world.tables).audit();
}

#[tokio::test(start_paused = true)]
async fn a_move_loses_nothing_and_soft_locks_come_along() {
    let (world, first) = World::selling(100).await;
    select(&first.handle, ONE, 5, &[50]).await;
    select(&first.handle, TWO, 5, &[50]).await;
    let second = world.node().await;
    let mut clicks = 0;
    let mut seat = 0;
    // Clicks and holds go on all the while, through both nodes.
    while !(owned(&first) == 1 && owned(&second) == 1) {
        for (node, option) in [(&first, ONE), (&second, TWO), (&second, ONE), (&first, TWO)] {
            let answer = buy(&node.handle, option, 1_000 + clicks, seat % 50).await;
            assert!(!matches!(answer.outcome, Outcome::Unavailable(_)), "{answer:?} after {clicks}");
            clicks += 1;
        }
        seat += 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(clicks < 4_000, "nothing moves");
    }
    for option in [ONE, TWO] {
        let taken = select(&second.handle, option, 6, &[50]).await;
        let mine = select(&second.handle, option, 5, &[50]).await;
        // It ran out, or it is there still.
        assert!(matches!(taken, Outcome::Refused(_) | Outcome::Granted(_)), "{taken:?}");
        assert!(matches!(mine, Outcome::Granted(Granted::Selected { .. }) | Outcome::Refused(_)), "{mine:?}");
    }
    lock(&world.tables).audit();
}

#[tokio::test(start_paused = true)]
async fn a_dead_nodes_shards_are_taken_at_once_and_a_silent_ones_when_their_leases_run_out() {
    let (world, first, second) = two().await;
    let (theirs, option) = elsewhere(&first);
    let held = buy(&second.handle, option, 7, 1).await;
    assert!(reserved(&held).is_some());
    let start = Instant::now();
    second.system.kill();
    lock(&world.tables).dead.insert(second.owner);
    world.network.died(second.owner);
    until("it is taken", || first.epoch(theirs).is_some()).await;
    assert!(start.elapsed() < SECOND, "{:?}", start.elapsed());
    let taken = select(&first.handle, option, 8, &[1]).await;
    assert!(matches!(taken, Outcome::Refused(Refusal::SeatTaken(_))), "{taken:?}");
    lock(&world.tables).audit();
}

#[tokio::test(start_paused = true)]
async fn a_node_that_drains_gives_everything_away() {
    let (world, first, second) = two().await;
    second.system.moves().drain();
    until("the first has both", || owned(&first) == 2).await;
    assert_eq!(owned(&second), 0);
    for option in [ONE, TWO] {
        assert!(reserved(&buy(&second.handle, option, 7, 9).await).is_some());
    }
    assert!(!lock(&world.tables).is_free(ShardId(0)));
    lock(&world.tables).audit();
}

/// Nobody takes what has run out here: the one node is late and silent, the other takes no shards.
#[tokio::test(start_paused = true)]
async fn an_owner_that_was_late_is_found_again_in_the_same_epoch() {
    let (world, first) = World::selling(100).await;
    let second = world.node().await;
    second.system.moves().drain();
    world.network.fell_silent(first.owner);
    let status = || second.handle.statuses().remove(0).1;
    until("the owner is known", || matches!(status(), ShardStatus::Elsewhere(Epoch(1), _))).await;
    until("nobody is to be asked", || {
        lock(&world.tables).run_out();
        status() == ShardStatus::Starting
    })
    .await;
    until("it has renewed", || matches!(status(), ShardStatus::Elsewhere(Epoch(1), _))).await;
}

/// When the ledger comes back, some read the leases before their owners have renewed them.
#[tokio::test(start_paused = true)]
async fn an_owner_that_is_up_is_asked_though_its_lease_ran_out() {
    let (world, _first) = World::selling(100).await;
    let second = world.node().await;
    second.system.moves().drain();
    let is_known = || matches!(second.handle.statuses().remove(0).1, ShardStatus::Elsewhere(Epoch(1), _));
    until("the owner is known", is_known).await;
    for _ in 0..60 {
        lock(&world.tables).run_out();
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(is_known());
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_knows_an_owner_that_fell_silent() {
    let (world, first, second) = two().await;
    let (_, option) = elsewhere(&first);
    world.network.died(second.owner);
    let answer = select(&first.handle, option, 7, &[1]).await;
    assert_eq!(answer, Outcome::Unavailable(Unavailable::Overloaded));
}
