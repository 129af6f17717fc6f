//! What a client sees when nothing is wrong, and when it comes late.

use std::time::Duration;

use engine::{Command, Granted, Outcome, Refusal, SeatState, Status};
use tokio::time::Instant;

use crate::ledger::lock;
use crate::world::{ONE, World, ask, buy, hold, list, reserved, select, shard_of};

#[tokio::test(start_paused = true)]
async fn a_seat_is_sold() {
    let (world, node) = World::selling(10).await;
    let handle = &node.handle;
    assert!(matches!(select(handle, ONE, 7, &[3, 4]).await, Outcome::Granted(Granted::Selected { .. })));
    assert!(matches!(select(handle, ONE, 8, &[4]).await, Outcome::Refused(Refusal::SeatTaken(_))));
    let held = hold(handle, ONE, 7, 1, &[3, 4]).await;
    let reservation = reserved(&held).unwrap().id;
    let again = hold(handle, ONE, 7, 1, &[3, 4]).await;
    assert_eq!((reserved(&again).map(|r| r.id), again.replayed), (Some(reservation), true));
    for (command, status) in [
        (Command::StartPaying { reservation }, Status::Paying),
        (Command::Confirm { reservation }, Status::Confirmed),
    ] {
        let answer = ask(handle, ONE, 7, Some(10 + status as u128), command).await;
        assert_eq!(reserved(&answer).unwrap().status, status);
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    let snapshot = handle.snapshot(ONE).unwrap();
    assert_eq!((snapshot.counts, snapshot.state(3)), ([8, 0, 0, 2], SeatState::Confirmed));
    let row = handle.reservation(shard_of(ONE), reservation).await.unwrap().unwrap();
    assert_eq!(Some(&row), lock(&world.tables).reservations.get(&reservation));
    let memory = handle.memory(shard_of(ONE)).await.unwrap();
    assert_eq!((memory.pending, memory.head.event_seq, memory.reservations.len()), (0, 4, 1));
    assert_eq!(handle.inflight(), (0, 0));
    lock(&world.tables).audit();
}

#[tokio::test(start_paused = true)]
async fn soft_locks_and_holds_run_out_by_themselves() {
    let (world, node) = World::selling(10).await;
    select(&node.handle, ONE, 7, &[1]).await;
    let held = buy(&node.handle, ONE, 8, 2).await;
    assert!(reserved(&held).is_some());
    tokio::time::sleep(Duration::from_secs(31)).await;
    assert_eq!(node.handle.snapshot(ONE).unwrap().counts, [9, 0, 1, 0]);
    tokio::time::sleep(Duration::from_secs(271)).await;
    assert_eq!(node.handle.snapshot(ONE).unwrap().counts, [10, 0, 0, 0]);
    assert_eq!((node.metrics.expired_soft_locks().get(), node.metrics.expired_holds().get()), (1, 1));
    assert!(lock(&world.tables).reservations.values().all(|row| row.status == Status::Expired));
}

#[tokio::test(start_paused = true)]
async fn what_left_memory_is_judged_from_its_row() {
    let (_world, node) = World::selling(10).await;
    let handle = &node.handle;
    let reservation = reserved(&buy(handle, ONE, 7, 1).await).unwrap().id;
    let cancel = Command::Cancel { reservation };
    assert!(reserved(&ask(handle, ONE, 7, Some(2), cancel.clone()).await).is_some());
    tokio::time::sleep(Duration::from_secs(16 * 60)).await;
    assert!(handle.memory(shard_of(ONE)).await.unwrap().reservations.is_empty());

    let again = ask(handle, ONE, 7, Some(3), cancel.clone()).await;
    assert_eq!(reserved(&again).map(|row| row.status), Some(Status::Cancelled));
    let confirm = ask(handle, ONE, 7, Some(4), Command::Confirm { reservation }).await;
    assert_eq!(confirm.outcome, Outcome::Refused(Refusal::ReservationState(Status::Cancelled)));
    let stranger = ask(handle, ONE, 8, Some(5), cancel).await;
    assert_eq!(stranger.outcome, Outcome::Refused(Refusal::ReservationUnknown));
    let row = handle.reservation(shard_of(ONE), reservation).await.unwrap();
    assert_eq!(row.map(|row| row.status), Some(Status::Cancelled));
}

#[tokio::test(start_paused = true)]
async fn nobody_decides_what_nobody_waits_for() {
    let (_world, node) = World::selling(10).await;
    let handle = &node.handle;
    // Sent, and given up before the actor's turn.
    tokio::select! {
        biased;
        _ = select(handle, ONE, 7, &[1]) => panic!("decided without a turn"),
        () = std::future::ready(()) => {}
    }
    // Its deadline has passed when its turn comes.
    let late = actors::handle::Ask {
        caller: engine::Caller { user: engine::UserId(7), authority: engine::Authority::Own },
        key: None,
        pass: None,
        command: Command::Select { option: ONE, seats: list(&[2]) },
    };
    let answer = handle.ask(shard_of(ONE), late, Instant::now()).await;
    assert_eq!(answer.outcome, Outcome::Unavailable(engine::Unavailable::Overloaded));
    let memory = handle.memory(shard_of(ONE)).await.unwrap();
    assert!(memory.options[0].1.iter().all(|state| *state == SeatState::Available));
    assert_eq!(handle.inflight(), (0, 0));
}
