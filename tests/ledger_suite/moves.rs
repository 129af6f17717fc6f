//! Shards that go from one owner to another without a free moment.

use std::time::Duration;

use actors::ports::{Owner, ShardAnswer};
use engine::{Epoch, ShardId, Span};

use crate::chain::hold;
use crate::world::{OWNER, Sale, TTL, World};

const SHARD: ShardId = ShardId(3);

/// A process that no session at the ledger belongs to.
pub fn other() -> Owner {
    Owner {
        id: 0x99,
        node: "b".to_owned(),
        public_url: "http://127.0.0.2:8080".to_owned(),
        peer_url: "https://127.0.0.2:7400".to_owned(),
    }
}

pub async fn leases_are_listed(world: &impl World) {
    let store = world.open(OWNER, TTL).await;
    let (read_at, leases) = store.leases().await.unwrap();
    assert_eq!(leases, [], "nobody ever had a shard");
    assert!(read_at <= store.now().await.unwrap());
    for shard in [ShardId(5), SHARD, ShardId(4)] {
        store.acquire(shard).await.unwrap().unwrap();
    }
    store.release(&[(ShardId(4), Epoch(1))]).await.unwrap();
    store.hand_over(ShardId(5), Epoch(1), &other()).await.unwrap().unwrap();
    let before = store.now().await.unwrap();
    let (read_at, leases) = store.leases().await.unwrap();
    assert!((before..=store.now().await.unwrap()).contains(&read_at));
    let seen: Vec<_> = leases.iter().map(|row| (row.shard, row.epoch, row.is_released)).collect();
    assert_eq!(seen, [(SHARD, Epoch(1), false), (ShardId(4), Epoch(1), true), (ShardId(5), Epoch(2), false)]);
    let me = &leases[0].owner;
    assert_eq!((me.id, me.node.as_str(), me.public_url.as_str()), (OWNER, "a", "http://127.0.0.1:8080"));
    assert_eq!((&leases[1].owner, &leases[2].owner), (me, &other()));
    for row in &leases {
        let lives = row.expires_at > read_at && row.expires_at <= read_at + TTL;
        assert!(lives, "{row:?} at {read_at:?}");
    }
}

pub async fn a_hand_over_leaves_no_free_moment(world: &impl World) {
    let store = world.open(OWNER, TTL).await;
    store.acquire(SHARD).await.unwrap().unwrap();
    assert_eq!(store.hand_over(SHARD, Epoch(1), &other()).await.unwrap(), Some(Epoch(2)));
    assert_eq!(store.acquire(SHARD).await.unwrap(), None, "it was never free");
    assert_eq!(store.renew(&[(SHARD, Epoch(1)), (SHARD, Epoch(2))]).await.unwrap(), []);
    store.release(&[(SHARD, Epoch(1)), (SHARD, Epoch(2))]).await.unwrap();
    assert_eq!(store.acquire(SHARD).await.unwrap(), None, "and is not mine to release");
    assert_eq!(store.hand_over(SHARD, Epoch(2), &other()).await.unwrap(), None, "nor to give again");
}

pub async fn a_lease_that_was_handed_over_lives_from_then(world: &impl World) {
    let store = world.open(OWNER, Span::from_millis(1_000)).await;
    store.acquire(SHARD).await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_millis(700)).await;
    store.hand_over(SHARD, Epoch(1), &other()).await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(store.acquire(SHARD).await.unwrap(), None, "as old as the hand-over, not as the lease before");
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(store.acquire(SHARD).await.unwrap(), Some(Epoch(3)), "its owner never came");
}

pub async fn a_hand_over_fences_the_old_owner(world: &impl World) {
    let mut sale = Sale::new(world).await;
    let row = sale.chain.reservation(&hold(&sale.imported, 1, 42, &[1]));
    sale.chain.applied(&sale.store, vec![row]).await;
    let given = sale.store.hand_over(sale.shard(), sale.chain.epoch, &other()).await.unwrap();
    assert_eq!(given, Some(Epoch(2)));
    let head = sale.chain.head;
    for epoch in [sale.chain.epoch, Epoch(2)] {
        let mut chain = sale.chain.clone();
        chain.epoch = epoch;
        let row = chain.reservation(&hold(&sale.imported, 2, 42, &[2]));
        let answers = sale.store.append(&chain.batch(vec![row])).await.unwrap();
        assert_eq!(answers, [(sale.shard(), ShardAnswer::Fenced)], "{epoch}");
    }
    assert_eq!(sale.store.heads().await.unwrap(), [(sale.shard(), head)]);
}

/// Nobody knows whether the hand-over was done: taking the shard again tells, whichever came first.
pub async fn an_unknown_hand_over_is_settled_by_acquiring_again(world: &impl World) {
    let store = world.open(OWNER, TTL).await;
    for shard in [SHARD, ShardId(4)] {
        store.acquire(shard).await.unwrap().unwrap();
    }
    store.hand_over(SHARD, Epoch(1), &other()).await.unwrap().unwrap();
    assert_eq!(store.acquire_again(SHARD, Epoch(1)).await.unwrap(), None, "it was done");
    assert_eq!(store.acquire_again(ShardId(4), Epoch(1)).await.unwrap(), Some(Epoch(2)), "it was not");
    assert_eq!(store.hand_over(ShardId(4), Epoch(1), &other()).await.unwrap(), None, "and will never be");
    assert_eq!(store.renew(&[(ShardId(4), Epoch(2))]).await.unwrap(), [ShardId(4)]);
}

pub async fn what_is_not_mine_is_not_handed_over(world: &impl World) {
    let store = world.open(OWNER, TTL).await;
    assert_eq!(store.hand_over(SHARD, Epoch(1), &other()).await.unwrap(), None, "nobody's");
    store.acquire(SHARD).await.unwrap().unwrap();
    for epoch in [Epoch(0), Epoch(2)] {
        assert_eq!(store.hand_over(SHARD, epoch, &other()).await.unwrap(), None, "{epoch}");
    }
    store.release(&[(SHARD, Epoch(1))]).await.unwrap();
    assert_eq!(store.hand_over(SHARD, Epoch(1), &other()).await.unwrap(), None, "released");
    assert_eq!(store.acquire(SHARD).await.unwrap(), Some(Epoch(2)), "and left as it was");
}

pub async fn what_was_handed_over_is_accepted(world: &impl World) {
    let store = world.open(OWNER, Span::from_millis(400)).await;
    assert!(!store.accepted(SHARD, Epoch(1)).await.unwrap(), "nobody's");
    store.acquire(SHARD).await.unwrap().unwrap();
    assert!(!store.accepted(SHARD, Epoch(2)).await.unwrap());
    for _ in 0..6 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(store.accepted(SHARD, Epoch(1)).await.unwrap());
    }
    assert_eq!(store.acquire(SHARD).await.unwrap(), None, "it prolongs the lease");
    store.hand_over(SHARD, Epoch(1), &other()).await.unwrap().unwrap();
    for epoch in [Epoch(1), Epoch(2)] {
        assert!(!store.accepted(SHARD, epoch).await.unwrap(), "another's");
    }
}

pub async fn a_dead_owners_shard_is_taken_before_its_time(world: &impl World) {
    let mut sale = Sale::new(world).await;
    let shard = sale.shard();
    sale.store.hand_over(shard, Epoch(1), &other()).await.unwrap().unwrap();
    assert_eq!(sale.store.take_from_dead(shard, Epoch(2), other().id).await.unwrap(), Some(Epoch(3)));
    let (read_at, leases) = sale.store.leases().await.unwrap();
    assert_eq!((leases[0].owner.id, leases[0].owner.node.as_str()), (OWNER, "a"));
    assert!(leases[0].expires_at > read_at);
    sale.chain.epoch = Epoch(3);
    let row = sale.chain.reservation(&hold(&sale.imported, 1, 42, &[1]));
    sale.chain.applied(&sale.store, vec![row]).await;
    assert_eq!(sale.store.renew(&[(shard, Epoch(3))]).await.unwrap(), [shard]);
    assert_eq!(sale.store.take_from_dead(shard, Epoch(2), other().id).await.unwrap(), None, "once");
}

pub async fn only_what_the_dead_still_have_is_taken(world: &impl World) {
    let store = world.open(OWNER, TTL).await;
    let dead = other().id;
    assert_eq!(store.take_from_dead(SHARD, Epoch(1), dead).await.unwrap(), None, "nobody ever had it");
    store.acquire(SHARD).await.unwrap().unwrap();
    assert_eq!(store.take_from_dead(SHARD, Epoch(1), OWNER).await.unwrap(), None, "its owner lives");
    assert!(store.has_session(OWNER).await.unwrap() && !store.has_session(dead).await.unwrap());
    assert_eq!(store.take_from_dead(SHARD, Epoch(1), dead).await.unwrap(), None, "another has it");
    store.hand_over(SHARD, Epoch(1), &other()).await.unwrap().unwrap();
    for epoch in [Epoch(1), Epoch(3)] {
        assert_eq!(store.take_from_dead(SHARD, epoch, dead).await.unwrap(), None, "{epoch}");
    }
    assert_eq!(store.take_from_dead(SHARD, Epoch(2), dead + 1).await.unwrap(), None, "not that one's");
    let (_, leases) = store.leases().await.unwrap();
    assert_eq!((leases[0].epoch, leases[0].owner.id), (Epoch(2), dead), "and it is as it was");
}

pub async fn the_cluster_has_an_id_of_its_own(world: &impl World) {
    let store = world.open(OWNER, TTL).await;
    let id = store.cluster_id().await.unwrap();
    assert!(!id.is_nil());
    drop(store);
    let store = world.open(OWNER + 1, TTL).await;
    assert_eq!(store.cluster_id().await.unwrap(), id, "drawn once");
}
