//! Hand-overs beside writers and thieves, and owners of whom something still lives.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actors::ports::{Owner, ShardAnswer};
use engine::{Epoch, ShardId, Time};
use servers::{Postgres, Proxy};

use crate::audits::audit_of;
use crate::chain::{Chain, hold};
use crate::moves::other;
use crate::postgres::PgWorld;
use crate::postgres_races::{OTHER, POLL, blocked, name_of, node, run, session};
use crate::world::{OWNER, Sale, Store, TTL, World};

/// How the leases of [`node`] name it.
fn owner(id: u128) -> Owner {
    Owner { id, node: format!("n{id}"), ..other() }
}

/// What came too late was not done, and is asked for again.
async fn until_given(store: &Arc<dyn Store>, shard: ShardId, mine: Epoch, to: &Owner) -> Epoch {
    loop {
        if let Ok(given) = store.hand_over(shard, mine, to).await {
            return given.expect("it is ours");
        }
        tokio::time::sleep(POLL).await;
    }
}

/// The receiver never acquired the shard, and sells, renews and gives it back like one that did.
#[tokio::test]
async fn the_receiver_sells_under_the_epoch_it_was_given() {
    let world = PgWorld::new();
    let mut sale = Sale::new(&world).await;
    let shard = sale.shard();
    let receiver = node(&world, OTHER, TTL).await;
    assert!(!receiver.accepted(shard, Epoch(2)).await.unwrap(), "not yet");
    let given = until_given(&sale.store, shard, Epoch(1), &owner(OTHER)).await;
    assert!(receiver.accepted(shard, given).await.unwrap());
    assert!(!sale.store.accepted(shard, given).await.unwrap(), "it is not the giver's");
    sale.chain.epoch = given;
    let row = sale.chain.reservation(&hold(&sale.imported, 1, 42, &[1]));
    sale.chain.applied(&receiver, vec![row]).await;
    assert_eq!(receiver.renew(&[(shard, given)]).await.unwrap(), [shard]);
    let back = until_given(&receiver, shard, given, &owner(OWNER)).await;
    assert_eq!(back, Epoch(3));
    assert!(sale.store.accepted(shard, back).await.unwrap());
    sale.chain.epoch = back;
    let row = sale.chain.reservation(&hold(&sale.imported, 2, 42, &[2]));
    sale.chain.applied(&sale.store, vec![row]).await;
}

/// The writer has its fence when the hand-over comes: what it commits is there when the receiver loads.
#[tokio::test]
async fn a_hand_over_waits_for_a_commit() {
    let world = PgWorld::new();
    let mut sale = Sale::new(&world).await;
    let shard = sale.shard();
    let (mut gate, mut admin) = (session(&world, "gate").await, session(&world, "admin").await);
    run(&mut gate, "BEGIN; LOCK TABLE reservations IN EXCLUSIVE MODE").await.unwrap();
    let row = sale.chain.reservation(&hold(&sale.imported, 1, 42, &[1]));
    let batch = sale.chain.batch(vec![row]);
    let writing = tokio::spawn({
        let (store, batch) = (sale.store.clone(), batch.clone());
        async move { store.append(&batch).await }
    });
    blocked(&mut admin, &name_of(OWNER), 1).await;
    let giving = tokio::spawn({
        let store = sale.store.clone();
        async move { until_given(&store, shard, Epoch(1), &owner(OTHER)).await }
    });
    blocked(&mut admin, &name_of(OWNER), 2).await;
    run(&mut gate, "COMMIT").await.unwrap();
    assert_eq!(writing.await.unwrap().unwrap(), [(shard, ShardAnswer::Applied)]);
    assert_eq!(giving.await.unwrap(), Epoch(2));
    let receiver = node(&world, OTHER, TTL).await;
    assert_eq!(receiver.load(shard, Time(0)).await.unwrap().head, sale.chain.head);
    let late = sale.store.append(&batch).await.unwrap();
    assert_eq!(late, [(shard, ShardAnswer::Fenced)]);
}

/// Two nodes pass a shard to and fro while it sells, and a third tries to take it at every moment. A sale of the
/// old owner is there for the new one, or was fenced.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hand_over_races_a_sale_and_a_thief() {
    const SEATS: u32 = 49;
    const EVEN: u64 = 50;
    let world = PgWorld::new();
    let Sale { store, imported, mut chain } = Sale::new(&world).await;
    let shard = chain.shard;
    let nodes = [(OWNER, store), (OTHER, node(&world, OTHER, TTL).await)];
    let done = Arc::new(AtomicBool::new(false));
    let thief = tokio::spawn({
        let (done, thief) = (done.clone(), node(&world, OTHER + 1, TTL).await);
        async move {
            let mut tries = 0;
            while !done.load(Ordering::Relaxed) {
                assert_eq!(thief.acquire(shard).await.unwrap(), None, "it was free for a moment");
                tries += 1;
            }
            tries
        }
    });
    let (mut sold, mut fenced) = (0, 0);
    // When the sale starts, in milliseconds; the hand-over starts `EVEN - start` after the beginning. Who won starts
    // later the next time, so that on any machine both soon win by a hair.
    let mut start = EVEN / 2;
    for seat in 1..=SEATS {
        let turn = usize::try_from(seat).unwrap();
        let ((_, giver), (id, receiver)) = (&nodes[(turn + 1) % 2], &nodes[turn % 2]);
        let mut sale = chain.clone();
        let row = sale.reservation(&hold(&imported, seat, 42, &[seat]));
        let batch = sale.batch(vec![row]);
        let selling = async {
            tokio::time::sleep(Duration::from_millis(start)).await;
            giver.append(&batch).await.unwrap()
        };
        let to = owner(*id);
        let giving = async {
            tokio::time::sleep(Duration::from_millis(EVEN - start)).await;
            until_given(giver, shard, chain.epoch, &to).await
        };
        let (answers, given) = tokio::join!(selling, giving);
        assert_eq!(given, Epoch(chain.epoch.0 + 1));
        assert!(receiver.accepted(shard, given).await.unwrap());
        match answers[0].1 {
            ShardAnswer::Applied => {
                sold += 1;
                start = EVEN.min(start + 1);
                chain = sale;
            }
            ShardAnswer::Fenced => {
                fenced += 1;
                start = start.saturating_sub(1);
            }
            ShardAnswer::Duplicate => panic!("it was written once"),
        }
        assert_eq!(receiver.load(shard, Time(0)).await.unwrap().head, chain.head, "seat {seat}");
        chain = Chain { epoch: given, ..chain };
    }
    done.store(true, Ordering::Relaxed);
    let tries = thief.await.unwrap();
    assert!(sold > 0 && fenced > 0 && tries > 0, "{sold} sold, {fenced} fenced, {tries} tries");
    assert!(audit_of(&nodes[0].1, &[]).await.is_clean());
}

/// A server that was frozen finds the statement in its hands when its sender has long settled otherwise.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_late_moves_nothing() {
    let proxy = Proxy::start(Postgres::shared().port());
    let url = Postgres::shared().database();
    let through =
        format!("postgres://postgres@127.0.0.1:{}/{}", proxy.port(), url.rsplit('/').next().unwrap());
    let store = PgWorld { url: through }.open(OWNER, TTL).await;
    let (mine, theirs) = (ShardId(1), ShardId(2));
    for shard in [mine, theirs, ShardId(3), ShardId(4)] {
        store.acquire(shard).await.unwrap().unwrap();
    }
    // So that no statement has to be prepared.
    for shard in [theirs, ShardId(3)] {
        store.hand_over(shard, Epoch(1), &other()).await.unwrap().unwrap();
    }
    store.take_from_dead(ShardId(3), Epoch(2), other().id).await.unwrap().unwrap();
    // The answer that says when it was sent, and then the statement itself: together more than a second.
    proxy.delay(Duration::from_millis(600));
    let late = store.hand_over(mine, Epoch(1), &other()).await;
    assert!(late.is_err(), "{late:?}: it is still ours, but that is not what a late answer can say");
    assert_eq!(store.take_from_dead(theirs, Epoch(2), other().id).await.unwrap(), None);
    proxy.pass();
    assert_eq!(store.acquire_again(mine, Epoch(1)).await.unwrap(), Some(Epoch(2)));
    assert_eq!(store.take_from_dead(theirs, Epoch(2), other().id).await.unwrap(), Some(Epoch(3)));
}

/// Whatever a witness says: while one session of the owner is left, nobody takes its shard before its time.
#[tokio::test]
async fn an_owner_with_a_session_left_is_not_dead() {
    let world = PgWorld::new();
    let sale = Sale::new(&world).await;
    let shard = sale.shard();
    let successor = node(&world, OTHER, TTL).await;
    assert_eq!(successor.take_from_dead(shard, Epoch(1), OWNER).await.unwrap(), None);
    let mut left = session(&world, &name_of(OWNER)).await;
    sale.store.close().await;
    drop(sale);
    assert_eq!(successor.take_from_dead(shard, Epoch(1), OWNER).await.unwrap(), None, "one is left");
    assert!(successor.has_session(OWNER).await.unwrap());
    run(&mut left, "SELECT 1").await.expect("and it is not ended for that");
    drop(left);
    // The server takes a moment to see that the last is gone.
    let taken = loop {
        if let Some(epoch) = successor.take_from_dead(shard, Epoch(1), OWNER).await.unwrap() {
            break epoch;
        }
        tokio::time::sleep(POLL).await;
    };
    assert_eq!(taken, Epoch(2));
    assert!(!successor.has_session(OWNER).await.unwrap());
    assert_eq!(successor.renew(&[(shard, taken)]).await.unwrap(), [shard]);
}
