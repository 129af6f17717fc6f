//! Memory and mirror are rebuilt from the ledger while the sale goes on.

use std::time::Duration;

use actors::resync::{ResyncError, Resynced};
use engine::shard::Difference;
use engine::{Outcome, ReservationId, SeatNo, SeatState, ShardId, Status, Unavailable, UserId};

use crate::ledger::lock;
use crate::world::{ONE, World, buy, hold, list, reserved, select};

const SHARD: ShardId = ShardId(0);

#[tokio::test(start_paused = true)]
async fn the_ledger_takes_the_place_of_memory_and_clicks_go_on() {
    let (world, node) = World::selling(10).await;
    let held = reserved(&buy(&node.handle, ONE, 8, 3).await).unwrap().clone();
    select(&node.handle, ONE, 9, &[5]).await;
    select(&node.handle, ONE, 6, &[7]).await;
    assert!(
        matches!(node.handle.resync(SHARD).await, Ok(Resynced::Compared { differences, .. }) if differences.is_empty())
    );

    // Somebody wrote into the tables: 3 is paid for, and 5 belongs to a reservation that memory never saw.
    let foreign = ReservationId::stamp(held.id.0 ^ (1 << 90), ONE);
    {
        let mut tables = lock(&world.tables);
        let row = tables.reservations.get_mut(&held.id).unwrap();
        (row.status, row.version) = (Status::Confirmed, 2);
        let mut row = row.clone();
        (row.id, row.seats) = (foreign, list(&[5]));
        tables.reservations.insert(foreign, row);
        tables.latency = Duration::from_secs(2);
    }
    // One hold is on its way when the resync begins, another comes meanwhile, and a click.
    let handle = node.handle.clone();
    let on_its_way = tokio::spawn(async move { hold(&handle, ONE, 6, 1, &[7]).await });
    tokio::time::sleep(Duration::from_millis(10)).await;
    let handle = node.handle.clone();
    let resync = tokio::spawn(async move { handle.resync(SHARD).await });
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert!(matches!(select(&node.handle, ONE, 4, &[1]).await, Outcome::Granted(_)));
    let handle = node.handle.clone();
    let parked = tokio::spawn(async move { hold(&handle, ONE, 4, 1, &[1]).await });
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert!(!resync.is_finished() && !parked.is_finished());
    lock(&world.tables).latency = Duration::ZERO;

    let Ok(Resynced::Compared { differences, .. }) = resync.await.unwrap() else { panic!("no resync") };
    assert!(reserved(&on_its_way.await.unwrap()).is_some());
    assert!(reserved(&parked.await.unwrap()).is_some());
    let rows: Vec<_> = differences
        .iter()
        .map(|difference| match difference {
            Difference::Reservation { id, memory, ledger } => {
                let status = |row: &Option<Box<engine::Reservation>>| row.as_ref().map(|row| row.status);
                format!("{} {:?} {:?}", *id == held.id, status(memory), status(ledger))
            }
            Difference::Seat { seat, memory, ledger, .. } => format!("{seat} {memory:?} {ledger:?}"),
            Difference::SoftLock { seat, user, .. } => format!("{seat} of {user}"),
            other => format!("{other:?}"),
        })
        .collect();
    let mut expected = vec![
        "true Some(Hold) Some(Confirmed)".to_owned(),
        "false None Some(Confirmed)".to_owned(),
        format!("3 {:?} {:?}", SeatState::Hold, SeatState::Confirmed),
        format!("5 {:?} {:?}", SeatState::Available, SeatState::Confirmed),
        format!("5 of {}", UserId(9)),
    ];
    if foreign < held.id {
        expected.swap(0, 1);
    }
    assert_eq!(rows, expected);
    assert_eq!(node.epoch(0), Some(1), "the shard never stopped");
    tokio::time::sleep(Duration::from_millis(100)).await;
    // Held: 7 and 1. Sold: 3 and 5. Nobody selects any more, and the mirror knows.
    assert_eq!(node.handle.snapshot(ONE).unwrap().counts, [6, 0, 2, 2]);
    assert_eq!(world.mirror.seats(ONE), [0u32; 0]);
    assert_eq!(node.handle.snapshot(ONE).unwrap().state(SeatNo(5).0 as usize), SeatState::Confirmed);
}

#[tokio::test(start_paused = true)]
async fn another_end_of_the_chain_restores_the_shard() {
    let (world, node) = World::selling(10).await;
    let held = reserved(&buy(&node.handle, ONE, 8, 3).await).unwrap().clone();
    select(&node.handle, ONE, 9, &[5]).await;
    tokio::time::sleep(Duration::from_millis(10)).await;
    {
        let mut tables = lock(&world.tables);
        tables.events.get_mut(&SHARD).unwrap().pop();
        tables.reservations.remove(&held.id);
    }
    let Ok(Resynced::Restored { memory, ledger }) = node.handle.resync(SHARD).await else {
        panic!("there was nothing to compare")
    };
    assert_eq!((memory.event_seq, ledger.event_seq), (2, 1));
    while node.epoch(0) != Some(2) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(node.handle.snapshot(ONE).unwrap().counts, [9, 1, 0, 0], "the soft lock came back");
}

#[tokio::test(start_paused = true)]
async fn without_the_ledger_memory_stays_and_nobody_is_kept_for_long() {
    let (world, node) = World::selling(10).await;
    select(&node.handle, ONE, 8, &[3]).await;
    lock(&world.tables).away = true;
    let handle = node.handle.clone();
    let resync = tokio::spawn(async move { handle.resync(SHARD).await });
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(resync.await.unwrap(), Err(ResyncError::Unavailable(Unavailable::Ledger)));
    lock(&world.tables).away = false;
    assert!(reserved(&hold(&node.handle, ONE, 8, 1, &[3]).await).is_some());
    assert_eq!(node.handle.inflight(), (0, 0));
}
