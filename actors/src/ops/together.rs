//! The cluster as one of its nodes sees it. What this node owns it moves itself; what another node owns, that node
//! is to be asked for, and the refusal says which one.

use std::sync::Arc;

use async_trait::async_trait;
use engine::{ShardId, Span, Time, placement};

use super::{
    Alone, LedgerReach, MoveId, MoveInfo, MoveState, NodeInfo, NodeState, Ops, OpsError, Rebalance,
    ShardInfo, ShardState,
};
use crate::moves::{Ended, Move, MoveError, Moves};
use crate::peers::{Member, Peers, Standing};
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

    /// The names of the nodes that take shards.
    fn takers(&self) -> Vec<String> {
        let members = self.members();
        let takes = |member: &&Member| member.standing == Standing::Up && !member.is_draining;
        let mut takers: Vec<String> =
            members.iter().filter(takes).map(|one| one.owner.node.clone()).collect();
        if !self.moves.is_draining() {
            takers.push(self.me.node.clone());
        }
        takers
    }

    fn info(&self, now: Time, one: &Move) -> MoveInfo {
        let (state, since) = match &one.ended {
            None => (MoveState::Moving, one.began.elapsed()),
            Some((Ended::Moved, took)) => (MoveState::Done, one.began.elapsed().saturating_sub(*took)),
            Some((Ended::Stayed(why), took)) => {
                (MoveState::Failed((*why).to_owned()), one.began.elapsed().saturating_sub(*took))
            }
            Some((Ended::Lost, took)) => {
                let why = "another node has taken the shard".to_owned();
                (MoveState::Failed(why), one.began.elapsed().saturating_sub(*took))
            }
        };
        let since = now - Span(i64::try_from(since.as_micros()).unwrap_or(i64::MAX));
        let (from, to) = (self.me.node.clone(), one.to.node.clone());
        MoveInfo { id: Some(MoveId(one.no.into())), shard: one.shard, from, to, state, since, eta: None }
    }

    fn refused(&self, shard: ShardId, to: &str, error: MoveError) -> OpsError {
        match error {
            MoveError::NotHere(shard) => OpsError::NotServing(shard),
            MoveError::NodeUnknown(_) => OpsError::NodeUnknown { node: to.to_owned(), known: self.names() },
            MoveError::NodeSilent(_) => OpsError::NodeSilent(to.to_owned()),
            MoveError::NodeDraining(_) => OpsError::NodeDraining(to.to_owned()),
            MoveError::Moving(_) => OpsError::AlreadyMoving { shard, to: to.to_owned() },
        }
    }
}

#[async_trait]
impl Ops for Together {
    async fn shards(&self) -> Result<Vec<ShardInfo>, OpsError> {
        let mut shards = self.me.shards().await?;
        let moving = self.moves.list();
        for shard in &mut shards {
            if moving.iter().any(|one| one.shard == shard.shard && one.ended.is_none()) {
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
        match &info.owner {
            None => return Err(OpsError::NotServing(shard)),
            Some(owner) if owner.node == to => {
                return Err(OpsError::AlreadyThere { shard, node: to.to_owned() });
            }
            Some(owner) if owner.node != self.me.node => {
                return Err(OpsError::AskOwner { shard, node: owner.node.clone(), url: owner.url.clone() });
            }
            Some(_) => {}
        }
        let no = self.moves.begin(shard, to).map_err(|error| self.refused(shard, to, error))?;
        let now = self.me.ledger.now().await?;
        let begun = self.moves.list().into_iter().find(|one| one.no == no);
        begun.map(|one| self.info(now, &one)).ok_or(OpsError::NotServing(shard))
    }

    async fn moves(&self) -> Result<Vec<MoveInfo>, OpsError> {
        let now = self.me.ledger.now().await?;
        let mut moves = self.moves.list();
        moves.sort_by_key(|one| std::cmp::Reverse(one.no));
        Ok(moves.iter().map(|one| self.info(now, one)).collect())
    }

    async fn rebalance(&self, rebalance: Rebalance) -> Result<Vec<MoveInfo>, OpsError> {
        let now = self.me.ledger.now().await?;
        let shards = self.me.shards().await?;
        let owners: Vec<Option<&str>> =
            shards.iter().map(|one| one.owner.as_ref().map(|owner| owner.node.as_str())).collect();
        let takers = self.takers();
        let names: Vec<&str> = takers.iter().map(String::as_str).collect();
        let plan = placement::plan(&owners, &names);
        let planned = |wish: &placement::Move| MoveInfo {
            id: None,
            shard: wish.shard,
            from: wish.from.clone(),
            to: wish.to.clone(),
            state: MoveState::Planned,
            since: now,
            eta: None,
        };
        if rebalance.is_dry_run {
            return Ok(plan.iter().map(planned).collect());
        }
        // The others give away what is theirs by themselves, once the cluster has been the same for a while.
        let room = usize::from(rebalance.at_once).saturating_sub(self.moves.running());
        let mut begun = Vec::new();
        for wish in plan.iter().filter(|wish| wish.from == self.me.node).take(room) {
            begun.push(self.move_shard(wish.shard, &wish.to).await?);
        }
        Ok(begun)
    }

    async fn drain(&self, node: &str) -> Result<Vec<MoveInfo>, OpsError> {
        if node == self.me.node {
            if !self.moves.has_takers() {
                return Err(OpsError::Alone);
            }
            self.moves.drain();
            return self.moves().await;
        }
        let members = self.members();
        let Some(member) = members.iter().find(|member| member.owner.node == node) else {
            return Err(OpsError::NodeUnknown { node: node.to_owned(), known: self.names() });
        };
        Err(OpsError::AskNode { node: node.to_owned(), url: member.owner.public_url.clone() })
    }
}
