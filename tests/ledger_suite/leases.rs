//! Who owns a shard, and since when.

use std::time::Duration;

use engine::{Epoch, ShardId, Span};

use crate::world::{OWNER, TTL, World};

const SHARD: ShardId = ShardId(3);

pub async fn a_free_shard_is_acquired_once(world: &impl World) {
    let store = world.open(OWNER, TTL).await;
    assert_eq!(store.acquire(SHARD).await.unwrap(), Some(Epoch(1)));
    assert_eq!(store.acquire(SHARD).await.unwrap(), None, "whose it is does not matter");
    assert_eq!(store.acquire(ShardId(4)).await.unwrap(), Some(Epoch(1)), "each shard counts for itself");
}

pub async fn a_lease_that_ran_out_is_free(world: &impl World) {
    let store = world.open(OWNER, Span::from_millis(30)).await;
    assert_eq!(store.acquire(SHARD).await.unwrap(), Some(Epoch(1)));
    tokio::time::sleep(Duration::from_millis(60)).await;
    assert_eq!(store.acquire(SHARD).await.unwrap(), Some(Epoch(2)));
    assert_eq!(store.renew(&[(SHARD, Epoch(1))]).await.unwrap(), []);
    assert_eq!(store.renew(&[(SHARD, Epoch(2))]).await.unwrap(), [SHARD]);
}

pub async fn renewal_keeps_what_is_held(world: &impl World) {
    let store = world.open(OWNER, Span::from_millis(400)).await;
    let other = ShardId(5);
    let held = [(SHARD, Epoch(1)), (other, Epoch(1))];
    for (shard, epoch) in held {
        assert_eq!(store.acquire(shard).await.unwrap(), Some(epoch));
    }
    // Renewing one shard only, for longer than a lease lives.
    for _ in 0..6 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(store.renew(&held[..1]).await.unwrap(), [SHARD]);
    }
    assert_eq!(store.acquire(SHARD).await.unwrap(), None);
    // Late, but nobody took it: still mine.
    assert_eq!(store.renew(&held).await.unwrap(), [SHARD, other]);
    assert_eq!(store.acquire(other).await.unwrap(), None);
}

pub async fn a_lost_lease_is_not_renewed(world: &impl World) {
    let store = world.open(OWNER, TTL).await;
    for shard in [SHARD, ShardId(4)] {
        store.acquire(shard).await.unwrap().unwrap();
    }
    let asked = [(SHARD, Epoch(1)), (ShardId(4), Epoch(2)), (ShardId(5), Epoch(1)), (ShardId(4), Epoch(0))];
    assert_eq!(store.renew(&asked).await.unwrap(), [SHARD]);
    assert_eq!(store.renew(&[]).await.unwrap(), []);
}

pub async fn acquiring_again_raises_the_epoch(world: &impl World) {
    let store = world.open(OWNER, TTL).await;
    store.acquire(SHARD).await.unwrap().unwrap();
    assert_eq!(store.acquire_again(SHARD, Epoch(1)).await.unwrap(), Some(Epoch(2)));
    assert_eq!(store.acquire_again(SHARD, Epoch(1)).await.unwrap(), None, "that epoch is over");
    assert_eq!(store.renew(&[(SHARD, Epoch(1))]).await.unwrap(), []);
    assert_eq!(store.renew(&[(SHARD, Epoch(2))]).await.unwrap(), [SHARD]);
    assert_eq!(store.acquire_again(ShardId(4), Epoch(1)).await.unwrap(), None, "never mine");
}

pub async fn a_released_shard_is_free_at_once(world: &impl World) {
    let store = world.open(OWNER, TTL).await;
    for shard in [SHARD, ShardId(4)] {
        store.acquire(shard).await.unwrap().unwrap();
    }
    // An epoch that is not mine releases nothing.
    store.release(&[(SHARD, Epoch(1)), (ShardId(4), Epoch(9))]).await.unwrap();
    assert_eq!(store.renew(&[(SHARD, Epoch(1))]).await.unwrap(), []);
    assert_eq!(store.acquire_again(SHARD, Epoch(1)).await.unwrap(), None);
    assert_eq!(store.acquire(SHARD).await.unwrap(), Some(Epoch(2)));
    assert_eq!(store.acquire(ShardId(4)).await.unwrap(), None);
}

/// A process is killed; its successor waits for nothing longer than the ledger's proof of death.
pub async fn epochs_outlive_the_process(world: &impl World) {
    let store = world.open(OWNER, Span::from_millis(30)).await;
    store.acquire(SHARD).await.unwrap().unwrap();
    drop(store);
    tokio::time::sleep(Duration::from_millis(60)).await;
    let store = world.open(OWNER + 1, TTL).await;
    assert_eq!(store.acquire(SHARD).await.unwrap(), Some(Epoch(2)));
}

pub async fn time_is_the_ledgers_and_goes_on(world: &impl World) {
    let store = world.open(OWNER, TTL).await;
    let mut before = store.now().await.unwrap();
    assert!(before.0 > 1_700_000_000_000_000, "microseconds since 1970");
    for _ in 0..9 {
        let now = store.now().await.unwrap();
        assert!(now >= before);
        before = now;
    }
}
