//! What operators ask of a node, and another has to do.

use actors::moves::Step;
use actors::ops::{Alone, MoveInfo, MoveState, Ops, OpsError, Rebalance, Together};
use actors::resync::Resynced;
use engine::ShardId;

use crate::cluster::{elsewhere, owned, two, until};
use crate::ledger::{lock, owner};
use crate::world::{Node, World, buy, reserved};

fn together(world: &World, node: &Node) -> Together {
    let (handle, ledger, me) = (node.handle.clone(), world.ledger(node.owner), owner(node.owner));
    let me = Alone { handle, ledger, node: me.node, url: me.public_url };
    Together { me, moves: node.system.moves(), peers: node.peers.clone() }
}

fn name(node: &Node) -> String {
    owner(node.owner).node
}

/// The move as that node tells it, when it has ended.
async fn ended(ops: &Together, begun: &MoveInfo) -> MoveInfo {
    loop {
        let moves = ops.moves().await.unwrap();
        let told = moves.into_iter().find(|one| one.id == begun.id).expect("it is not forgotten");
        if told.state.has_ended() {
            return told;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_shard_is_moved_by_whoever_is_asked() {
    let (world, first, second) = two().await;
    let third = world.node().await;
    let (theirs, option) = elsewhere(&first);
    let shard = ShardId(theirs);
    assert!(reserved(&buy(&first.handle, option, 7, 1).await).is_some());

    // The third has the second give a shard to the first.
    let ops = together(&world, &third);
    let begun = ops.move_shard(shard, &name(&first)).await.unwrap();
    assert_eq!((begun.from.clone(), begun.to.clone()), (name(&second), name(&first)));
    assert_eq!(ended(&ops, &begun).await.state, MoveState::Done);
    assert_eq!((owned(&first), owned(&second)), (2, 0));
    // All tell the same of it.
    let told = ops.moves().await.unwrap();
    for node in [&first, &second] {
        let moves = together(&world, node).moves().await.unwrap();
        let ids =
            |moves: &[MoveInfo]| moves.iter().map(|one| (one.id, one.state.clone())).collect::<Vec<_>>();
        assert_eq!(ids(&moves), ids(&told));
    }
    // It is told how long it will take, since the owner has given away a shard before.
    let begun = ops.move_shard(shard, &name(&second)).await.unwrap();
    assert_eq!(begun.state, MoveState::Moving);
    assert!(begun.eta.is_some(), "{begun:?}");
    assert_eq!(ended(&ops, &begun).await.state, MoveState::Done);
    lock(&world.tables).audit();
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_moved_is_said_as_the_owner_would() {
    let (world, first, second) = two().await;
    let third = world.node().await;
    let ops = together(&world, &third);
    let (shard, _) = elsewhere(&first);
    let shard = ShardId(shard);
    let to = |node: &str| node.to_owned();
    let refused = async |node: &str| ops.move_shard(shard, node).await.unwrap_err();
    let known = vec![name(&first), name(&second), name(&third)];
    assert_eq!(refused("nobody").await, OpsError::NodeUnknown { node: to("nobody"), known });
    assert_eq!(refused(&name(&second)).await, OpsError::AlreadyThere { shard, node: name(&second) });
    let unknown = ops.move_shard(ShardId(9), &name(&first)).await.unwrap_err();
    assert_eq!(unknown, OpsError::ShardUnknown { shard: ShardId(9), last: ShardId(1) });
    first.system.moves().drain();
    assert_eq!(refused(&name(&first)).await, OpsError::NodeDraining(name(&first)));
    world.network.died(second.owner);
    assert_eq!(refused(&name(&third)).await, OpsError::OwnerSilent { shard, node: name(&second) });
    assert_eq!(ops.drain(&name(&second)).await, Err(OpsError::NodeSilent(name(&second))));
}

#[tokio::test(start_paused = true)]
async fn shards_are_spread_a_few_at_a_time_and_the_plan_is_told_first() {
    let (world, first) = World::selling(100).await;
    let second = world.node().await;
    let ops = together(&world, &second);
    let rebalance = |is_dry_run| Rebalance { is_dry_run, at_once: 1 };
    let plan = ops.rebalance(rebalance(true)).await.unwrap();
    assert_eq!(plan.len(), 1);
    assert_eq!((&plan[0].state, plan[0].id, &plan[0].from), (&MoveState::Planned, None, &name(&first)));
    assert_eq!(owned(&first), 2, "it was only asked");

    // More than balance asks for: both, of which one waits for the other.
    let step = |shard, from: &Node, to: &Node| {
        let (from, to) = (owner(from.owner), owner(to.owner));
        Step { shard: ShardId(shard), from, to }
    };
    let moves = second.system.moves();
    let there = [0, 1].map(|shard| step(shard, &first, &second));
    let begun = moves.spread(there.into(), 1).unwrap();
    assert_eq!(begun.iter().map(|one| &one.state).collect::<Vec<_>>(), [&MoveState::Waiting; 2]);
    assert_eq!(ops.rebalance(rebalance(false)).await, Err(OpsError::Spreading(2)));
    until("both have moved", || {
        let told = moves.told();
        assert!(told.iter().filter(|one| one.state.is_under_way()).count() <= 1, "{told:?}");
        told.iter().all(|one| one.state == MoveState::Done)
    })
    .await;
    assert_eq!((owned(&first), owned(&second)), (0, 2));

    // How long those took says how long the way back takes, and the second waits for the first.
    let back = [0, 1].map(|shard| step(shard, &second, &first));
    let etas: Vec<_> = moves.spread(back.into(), 1).unwrap().iter().map(|one| one.eta.unwrap().0).collect();
    assert!(etas[0] > 0 && etas[1] == 2 * etas[0], "{etas:?}");
    until("both are back", || owned(&first) == 2).await;
    lock(&world.tables).audit();
}

#[tokio::test(start_paused = true)]
async fn a_spread_says_which_owner_did_not_do_its_part() {
    let (world, first, second) = two().await;
    let (theirs, _) = elsewhere(&first);
    let step = Step { shard: ShardId(theirs), from: owner(second.owner), to: owner(first.owner) };
    let stranger = Step { shard: ShardId(theirs), from: owner(first.owner), to: owner(second.owner) };
    world.network.died(second.owner);
    let moves = first.system.moves();
    moves.spread(vec![step, stranger], 4).unwrap();
    until("both have ended", || moves.told().iter().all(|one| one.state.has_ended())).await;
    let mut whys: Vec<String> = moves.told().iter().map(|one| format!("{:?}", one.state)).collect();
    whys.sort();
    let (there, here) = (format!("{} was not asked: it is away", name(&second)), "does not answer");
    assert!(whys.iter().any(|why| why.contains(&there)), "{whys:?}");
    assert!(whys.iter().any(|why| why.contains(here)), "{whys:?}");
}

#[tokio::test(start_paused = true)]
async fn a_node_is_drained_by_another_and_its_moves_are_told_before_they_begin() {
    let (world, first, second) = two().await;
    let ops = together(&world, &first);
    let moves = ops.drain(&name(&second)).await.unwrap();
    assert_eq!(moves.len(), 1);
    assert_eq!((&moves[0].from, &moves[0].state), (&name(&second), &MoveState::Waiting));
    assert_eq!(
        ended(&ops, &moves[0]).await.state,
        MoveState::Done,
        "the move that was told is the one that was made"
    );
    assert_eq!((owned(&first), owned(&second)), (2, 0));
    assert_eq!(ops.drain(&name(&second)).await, Ok(Vec::new()), "again");
    assert_eq!(together(&world, &second).drain(&name(&first)).await, Err(OpsError::Nowhere));
    assert!(!first.system.moves().is_draining());
}

#[tokio::test(start_paused = true)]
async fn what_another_node_remembers_is_told_and_mended_here() {
    let (world, first, second) = two().await;
    let (theirs, option) = elsewhere(&first);
    let shard = ShardId(theirs);
    assert!(reserved(&buy(&first.handle, option, 7, 1).await).is_some());
    let memory = first.handle.memory(shard).await.unwrap();
    assert_eq!(memory.reservations.len(), 1);
    assert_eq!(memory, second.handle.memory(shard).await.unwrap());
    let check = first.handle.check_mirror(shard).await.unwrap();
    assert_eq!((check.options, check.differences.len()), (1, 0));
    let resynced = first.handle.resync(shard).await.unwrap();
    assert!(matches!(resynced, Resynced::Compared { counts, .. } if counts.all == 0));
    world.network.died(second.owner);
    assert!(first.handle.memory(shard).await.is_err());
    assert!(first.handle.check_mirror(shard).await.is_err());
    assert!(first.handle.resync(shard).await.is_err());
}
