//! What a node alone says about the shards.

use std::time::Duration;

use actors::ops::{Alone, LedgerReach, Ops, OpsError, ShardInfo, ShardState};
use engine::{Epoch, ShardId, Span};

use crate::ledger::{lock, owner};
use crate::world::{Node, World};

const SHARD: ShardId = ShardId(0);

fn alone(world: &World, node: &Node) -> Alone {
    let (handle, ledger) = (node.handle.clone(), world.ledger(1_000));
    Alone { handle, ledger, node: "me".to_owned(), url: "http://me:8080".to_owned() }
}

async fn shard(alone: &Alone) -> ShardInfo {
    alone.shards().await.unwrap().swap_remove(0)
}

#[tokio::test(start_paused = true)]
async fn a_shard_is_its_owners_as_long_as_nobody_took_it() {
    let (world, node) = World::selling(10).await;
    let alone = alone(&world, &node);
    let mine = shard(&alone).await;
    assert_eq!((mine.shard, mine.epoch, mine.state), (SHARD, Epoch(1), ShardState::Serving));
    let owner_of = mine.owner.unwrap();
    assert_eq!(owner_of.url, owner(node.owner).public_url);
    assert!(owner_of.expires_in > Span(0) && owner_of.expires_in <= Span::from_secs(5));

    // Somebody else takes it: his as long as he renews, then nobody's.
    lock(&world.tables).steal(SHARD);
    let theirs = shard(&alone).await;
    assert_eq!((theirs.epoch, theirs.state), (Epoch(2), ShardState::Serving));
    assert_eq!(theirs.owner.unwrap().node, owner(u64::MAX).node);
    node.system.shutdown(Duration::from_secs(1)).await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    let free = shard(&alone).await;
    assert_eq!((free.epoch, free.state, free.owner), (Epoch(2), ShardState::Free, None));
}

#[tokio::test(start_paused = true)]
async fn without_the_ledger_it_still_knows_itself() {
    let (world, node) = World::selling(10).await;
    let alone = alone(&world, &node);
    assert_eq!(alone.nodes().await.unwrap()[0].ledger, LedgerReach::Reaches);
    lock(&world.tables).away = true;
    assert_eq!(alone.shards().await, Err(OpsError::Unavailable("down".to_owned())));
    tokio::time::sleep(Duration::from_secs(2)).await;
    let me = alone.nodes().await.unwrap().swap_remove(0);
    assert_eq!((me.node.as_str(), me.ledger), ("me", LedgerReach::Away));
    assert!(me.shards > 0, "clicks go on");
}
