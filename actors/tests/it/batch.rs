//! Several commands in one message, and who hears of what they changed.

use std::time::Duration;

use actors::batch::Sent;
use actors::handle::{Answer, Ask};
use engine::limits::UNDECIDED_COMMANDS;
use engine::{
    Authority, Caller, Command, Granted, Outcome, RequestKey, ReservationId, SeatList, Status, Unavailable,
    UserId,
};
use tokio::time::Instant;

use crate::ledger::{Fault, lock};
use crate::world::{Node, ONE, World, hold, list, reserved, select, shard_of};

fn asked(user: u64, key: Option<u128>, command: Command) -> Ask {
    let caller = Caller { user: UserId(user), authority: Authority::Own };
    Ask { caller, key: key.map(RequestKey), pass: None, command }
}

fn selecting(user: u64, seats: &[u32]) -> Ask {
    asked(user, None, Command::Select { option: ONE, seats: list(seats) })
}

fn releasing(user: u64, seats: &[u32]) -> Ask {
    asked(user, None, Command::Release { option: ONE, seats: Some(list(seats)) })
}

fn holding(user: u64, seats: &[u32]) -> Ask {
    let reservation = ReservationId::stamp((7 << 76) | (2 << 62) | u128::from(seats[0]) << 80, ONE);
    asked(user, Some(1), Command::Hold { option: ONE, seats: list(seats), reservation })
}

fn send(node: &Node, asks: Vec<Ask>) -> Sent {
    node.handle.ask_all(shard_of(ONE), asks, Instant::now() + Duration::from_secs(2)).unwrap()
}

/// In a word each: granted, or why not.
fn words(answers: &[(usize, Answer)]) -> Vec<(usize, &'static str)> {
    let word = |outcome: &Outcome| match outcome {
        Outcome::Granted(Granted::Selected { .. }) => "selected",
        Outcome::Granted(Granted::Released { .. }) => "released",
        Outcome::Granted(_) => "granted",
        Outcome::Refused(refusal) => refusal.code(),
        Outcome::Unavailable(unavailable) => unavailable.code(),
    };
    answers.iter().map(|(place, answer)| (*place, word(&answer.outcome))).collect()
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_decided_in_its_order() {
    let (_world, node) = World::selling(10).await;
    let asks = vec![
        selecting(7, &[3]),
        selecting(8, &[3]),
        releasing(7, &[3]),
        selecting(8, &[3]),
        selecting(8, &[10]),
    ];
    let sent = send(&node, asks);
    assert!(sent.later.is_empty());
    let expected = ["selected", "SEAT_TAKEN", "released", "selected", "SEATS_INVALID"];
    assert_eq!(words(&sent.clicks.await.unwrap()), expected.into_iter().enumerate().collect::<Vec<_>>());
    assert_eq!(node.handle.inflight(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_hold_in_a_batch_answers_later_and_holds_nobody_up() {
    let (world, node) = World::selling(10).await;
    lock(&world.tables).faults.push_back(Fault::Slow(Duration::from_secs(1)));
    let started = Instant::now();
    let asks = vec![selecting(7, &[3]), holding(7, &[3]), selecting(8, &[3]), selecting(8, &[4])];
    let mut sent = send(&node, asks);
    let clicks = sent.clicks.await.unwrap();
    assert_eq!(words(&clicks), [(0, "selected"), (2, "SEAT_TAKEN"), (3, "selected")]);
    assert!(started.elapsed() < Duration::from_millis(500), "the clicks waited for the ledger");
    assert_eq!(node.handle.inflight(), (0, 1));
    let (place, held) = sent.later.pop().unwrap();
    assert_eq!(place, 1);
    assert_eq!(reserved(&held.await).map(|row| row.status), Some(Status::Hold));
    assert!(started.elapsed() >= Duration::from_secs(1));
    assert_eq!(node.handle.inflight(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_hold_whose_ledger_is_silent_is_unavailable_and_its_key_learns_the_truth() {
    let (world, node) = World::selling(10).await;
    lock(&world.tables).faults.push_back(Fault::Slow(Duration::from_secs(7)));
    let mut sent = send(&node, vec![selecting(7, &[3]), holding(7, &[3])]);
    let (_, held) = sent.later.pop().unwrap();
    assert_eq!(held.await.outcome, Outcome::Unavailable(Unavailable::Ledger));
    tokio::time::sleep(Duration::from_secs(5)).await;
    let again = hold(&node.handle, ONE, 7, 1, &[3]).await;
    assert!(again.replayed && reserved(&again).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_batch_beyond_the_permits_is_refused_whole() {
    let (_world, node) = World::selling(10).await;
    let mut asks = vec![holding(7, &[3])];
    asks.resize_with(UNDECIDED_COMMANDS + 1, || selecting(7, &[3]));
    let mut sent = send(&node, asks);
    assert!(sent.clicks.await.is_err());
    let (_, held) = sent.later.pop().unwrap();
    assert_eq!(held.await.outcome, Outcome::Unavailable(Unavailable::Overloaded));
    assert_eq!(node.handle.inflight(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_comes_late_decides_nothing() {
    let (_world, node) = World::selling(10).await;
    let asks = vec![selecting(7, &[3]), holding(7, &[3])];
    let sent = node.handle.ask_all(shard_of(ONE), asks, Instant::now()).unwrap();
    assert_eq!(words(&sent.clicks.await.unwrap()), [(0, "OVERLOADED")]);
    for (_, held) in sent.later {
        assert_eq!(held.await.outcome, Outcome::Unavailable(Unavailable::Overloaded));
    }
    let refused = select(&node.handle, ONE, 8, &[3]).await;
    assert!(matches!(refused, Outcome::Granted(_)), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn a_follower_hears_of_every_change_and_of_the_end() {
    let (_world, node) = World::selling(10).await;
    let mut following = node.handle.follow(UserId(7));
    let heard = async |following: &mut actors::followers::Following| {
        let news = following.next().await;
        (news.option, news.seats)
    };
    select(&node.handle, ONE, 8, &[9]).await;
    send(&node, vec![selecting(7, &[3]), selecting(7, &[1, 2]), releasing(7, &[1])]).clicks.await.unwrap();
    assert_eq!(heard(&mut following).await, (ONE, list(&[2, 3])), "a batch is told of once");
    let now = node.handle.selection(shard_of(ONE), UserId(7), ONE).await.unwrap();
    assert_eq!(now.seats, list(&[2, 3]));
    hold(&node.handle, ONE, 7, 1, &[2]).await;
    assert_eq!(heard(&mut following).await, (ONE, list(&[3])));
    let before = Instant::now();
    assert_eq!(heard(&mut following).await, (ONE, SeatList::default()), "it ran out");
    assert!(before.elapsed() > Duration::from_secs(25));
}

#[tokio::test(start_paused = true)]
async fn a_follower_hears_what_a_restore_has_lost() {
    let (world, node) = World::selling(10).await;
    let mut following = node.handle.follow(UserId(7));
    select(&node.handle, ONE, 7, &[3]).await;
    assert_eq!(following.next().await.seats, list(&[3]));
    tokio::time::sleep(Duration::from_millis(50)).await;
    world.mirror.wipe(ONE);
    node.handle.crash(shard_of(ONE));
    assert_eq!(following.next().await.seats, SeatList::default());
}
