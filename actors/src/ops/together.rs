//! The cluster as one of its nodes sees it. Whoever is asked, what another node owns that node moves: it is told to.

use std::sync::Arc;

use async_trait::async_trait;
use engine::{ShardId, placement};

use super::{
    Alone, LedgerReach, MoveInfo, MoveState, NodeInfo, NodeState, Ops, OpsError, Rebalance, ShardInfo,
    ShardState,
};
use crate::moves::{MoveError, Moves, Spreading, Step};
use crate::peers::{Member, Peers, Request, RequestError, Standing};
use crate::ports::Owner;
use crate::reach::Report;

/// A node among others.
pub struct Together {
    pub me: Alone,
    pub moves: Moves,
    pub peers: Arc<dyn Peers>,
}

impl Together {
    fn members(&self) -> Arc<[Member]> {
        // Nobody is known before everybody has been looked for.
        self.peers.members().borrow().clone().unwrap_or_default()
    }

    fn names(&self) -> Vec<String> {
        let named = self.members().iter().map(|member| member.owner.node.clone()).collect::<Vec<_>>();
        let mut names: Vec<String> = named.into_iter().filter(|name| !name.is_empty()).collect();
        names.push(self.me.node.clone());
        names.sort_unstable();
        names
    }

    /// The process of a name that answers.
    fn up(&self, node: &str) -> Result<Owner, OpsError> {
        if node == self.me.node {
            return Ok(self.me.ledger.me());
        }
        let members = self.members();
        let mut named = members.iter().filter(|member| member.owner.node == node).peekable();
        if named.peek().is_none() {
            return Err(OpsError::NodeUnknown { node: node.to_owned(), known: self.names() });
        }
        let up = named.find(|member| member.standing == Standing::Up);
        up.map(|member| member.owner.clone()).ok_or_else(|| OpsError::NodeSilent(node.to_owned()))
    }

    /// The process of a name that takes shards.
    fn taker(&self, node: &str) -> Result<Owner, OpsError> {
        let up = self.up(node)?;
        let takes = self.moves.takers().iter().any(|taker| taker.id == up.id);
        if takes { Ok(up) } else { Err(OpsError::NodeDraining(node.to_owned())) }
    }

    /// What evens the cluster out. Who is silent cannot give, and who drains does so by itself.
    fn plan(&self, shards: &[ShardInfo]) -> Vec<Step> {
        let owners: Vec<Option<&str>> =
            shards.iter().map(|one| one.owner.as_ref().map(|owner| owner.node.as_str())).collect();
        let takers = self.moves.takers();
        let names: Vec<&str> = takers.iter().map(|taker| taker.node.as_str()).collect();
        let named = |node: &str| takers.iter().find(|taker| taker.node == node).cloned();
        let step = |wish: placement::Move| {
            Some(Step { shard: wish.shard, from: named(&wish.from)?, to: named(&wish.to)? })
        };
        placement::plan(&owners, &names).into_iter().filter_map(step).collect()
    }

    fn refused(&self, to: &str, error: MoveError) -> OpsError {
        match error {
            MoveError::NotHere(shard) => OpsError::NotServing(shard),
            MoveError::NodeUnknown(_) => OpsError::NodeUnknown { node: to.to_owned(), known: self.names() },
            MoveError::NodeSilent(_) => OpsError::NodeSilent(to.to_owned()),
            MoveError::NodeDraining(_) => OpsError::NodeDraining(to.to_owned()),
            MoveError::Moving(shard, to) => OpsError::AlreadyMoving { shard, to },
            MoveError::Nowhere => OpsError::Nowhere,
        }
    }

    fn failed(&self, to: &str, error: RequestError) -> OpsError {
        match error {
            RequestError::NotAsked { node, why } => OpsError::NotAsked { node, why },
            RequestError::Unsure { node, why } => OpsError::Unsure { node, why },
            RequestError::Declined(error) => self.refused(to, error),
        }
    }
}

#[async_trait]
impl Ops for Together {
    async fn shards(&self) -> Result<Vec<ShardInfo>, OpsError> {
        let moves = self.moves.everybodys().await;
        let mut shards = self.me.shards().await?;
        for shard in &mut shards {
            let moves_away = |one: &MoveInfo| {
                let is_owner = shard.owner.as_ref().is_some_and(|owner| owner.node == one.from);
                is_owner && one.shard == shard.shard && one.state.is_under_way()
            };
            if moves.iter().any(moves_away) {
                shard.state = ShardState::Moving;
            }
        }
        Ok(shards)
    }

    async fn nodes(&self) -> Result<Vec<NodeInfo>, OpsError> {
        let shards = self.me.shards().await?;
        let has = |node: &str| {
            shards.iter().filter(|one| one.owner.as_ref().is_some_and(|owner| owner.node == node)).count()
        };
        let mut nodes = self.me.nodes().await?;
        for node in &mut nodes {
            if self.moves.is_draining() {
                node.state = NodeState::Draining;
            }
            node.peer_url = self.me.ledger.me().peer_url;
        }
        for member in self.members().iter() {
            let owner = &member.owner;
            nodes.push(NodeInfo {
                node: owner.node.clone(),
                url: owner.public_url.clone(),
                peer_url: owner.peer_url.clone(),
                state: match member.standing {
                    Standing::Up if member.is_draining => NodeState::Draining,
                    Standing::Up => NodeState::Up,
                    Standing::Silent | Standing::Dead => NodeState::Silent,
                },
                shards: has(&owner.node),
                ledger: match member.ledger {
                    Report::Reaches if member.standing == Standing::Up => LedgerReach::Reaches,
                    Report::Away(_) if member.standing == Standing::Up => LedgerReach::Away,
                    Report::Silent | Report::Reaches | Report::Away(_) => LedgerReach::Unknown,
                },
            });
        }
        nodes.sort_by(|a, b| a.node.cmp(&b.node));
        Ok(nodes)
    }

    async fn move_shard(&self, shard: ShardId, to: &str) -> Result<MoveInfo, OpsError> {
        let shards = self.me.shards().await?;
        let last = shards.last().map_or(ShardId(0), |last| last.shard);
        let Some(info) = shards.get(usize::from(shard.0)) else {
            return Err(OpsError::ShardUnknown { shard, last });
        };
        let from = match &info.owner {
            None => return Err(OpsError::NotServing(shard)),
            Some(owner) if owner.node == to => {
                return Err(OpsError::AlreadyThere { shard, node: to.to_owned() });
            }
            Some(owner) => owner.node.clone(),
        };
        let from = self.up(&from).map_err(|_| OpsError::OwnerSilent { shard, node: from })?;
        let request = Request::Move { id: self.moves.next_id(), shard, to: self.taker(to)?.id };
        let begun = self.moves.ask(&from, request).await;
        let begun = begun.map_err(|error| self.failed(to, error))?;
        begun.into_iter().next().ok_or(OpsError::NotServing(shard))
    }

    async fn moves(&self) -> Result<Vec<MoveInfo>, OpsError> {
        Ok(self.moves.everybodys().await)
    }

    async fn rebalance(&self, rebalance: Rebalance) -> Result<Vec<MoveInfo>, OpsError> {
        let steps = self.plan(&self.me.shards().await?);
        if !rebalance.is_dry_run {
            let spread = self.moves.spread(steps, rebalance.at_once);
            return spread.map_err(|Spreading(left)| OpsError::Spreading(left));
        }
        let since = self.me.ledger.now().await?;
        let planned = |Step { shard, from, to }| {
            let (from, to) = (from.node, to.node);
            MoveInfo { id: None, shard, from, to, state: MoveState::Planned, since, eta: None }
        };
        Ok(steps.into_iter().map(planned).collect())
    }

    async fn drain(&self, node: &str) -> Result<Vec<MoveInfo>, OpsError> {
        let owner = self.up(node)?;
        let drained = self.moves.ask(&owner, Request::Drain).await;
        drained.map_err(|error| self.failed(node, error))
    }
}
