//! Gates that change while their shard changes hands: one of the two is first.

use actors::gates::ports::Written;
use engine::Epoch;

use crate::gates::{OPERATOR, admitted, fence, gate};
use crate::postgres::PgWorld;
use crate::postgres_races::{blocked, name_of, run, session};
use crate::world::{OWNER, Sale};

/// The change has its fence when the successor comes: it ends first.
#[tokio::test]
async fn a_new_epoch_waits_for_a_change_of_a_gate() {
    let world = PgWorld::new();
    let sale = Sale::new(&world).await;
    let (shard, epoch, concert) = (sale.shard(), sale.chain.epoch, sale.imported.concert.concert);
    let (mut lock, mut admin) = (session(&world, "lock").await, session(&world, "admin").await);
    run(&mut lock, "BEGIN; LOCK TABLE gates IN EXCLUSIVE MODE").await.unwrap();
    let (store, mine) = (sale.store.clone(), fence(&sale));
    let setting = tokio::spawn(async move { store.set_gate(mine, &gate(concert, 1), OPERATOR).await });
    blocked(&mut admin, &name_of(OWNER), 1).await;
    let store = sale.store.clone();
    let raising = tokio::spawn(async move { store.acquire_again(shard, epoch).await });
    blocked(&mut admin, &name_of(OWNER), 2).await;
    run(&mut lock, "COMMIT").await.unwrap();
    assert_eq!(setting.await.unwrap().unwrap(), Written::Done);
    assert_eq!(raising.await.unwrap().unwrap(), Some(Epoch(2)));
    assert_eq!(sale.store.set_gate(mine, &gate(concert, 2), OPERATOR).await.unwrap(), Written::Fenced);
}

/// The successor has the row when the change comes: the change waits, and is fenced if the other commits.
#[tokio::test]
async fn a_change_of_a_gate_waits_for_a_new_epoch() {
    let world = PgWorld::new();
    let sale = Sale::new(&world).await;
    let concert = sale.imported.concert.concert;
    let (mut taker, mut admin) = (session(&world, "taker").await, session(&world, "admin").await);
    for (end, expected) in [("ROLLBACK", Written::Done), ("COMMIT", Written::Fenced)] {
        run(&mut taker, "BEGIN; UPDATE shard_lease SET epoch = epoch + 1").await.unwrap();
        let version = sale.store.gate(concert).await.unwrap().map_or(1, |row| row.version + 1);
        let (store, mine) = (sale.store.clone(), fence(&sale));
        let writing = tokio::spawn(async move {
            let set = store.set_gate(mine, &gate(concert, version), OPERATOR).await.unwrap();
            (set, store.note_admitted(mine, concert, admitted(0, 10, version)).await.unwrap())
        });
        blocked(&mut admin, &name_of(OWNER), 1).await;
        run(&mut taker, end).await.unwrap();
        assert_eq!(writing.await.unwrap(), (expected, expected), "{end}");
    }
    assert_eq!(sale.store.gate_history(concert, None, 9).await.unwrap().len(), 2);
}
