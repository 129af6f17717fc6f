//! What operators see of the cluster, and what they may ask of it: which node has which shard, and that one
//! gives a shard away. The edge asks [`Ops`]; who answers depends on whether there are other nodes.

use std::sync::Arc;

use async_trait::async_trait;
use engine::{Epoch, ShardId, Span, Time};

pub use self::together::Together;
use crate::handle::{Handle, ShardStatus};
pub use crate::moves::{MoveId, MoveInfo, MoveState};
use crate::ports::{LeaseRow, Ledger, LedgerError};

mod together;

/// The cluster, as operators deal with it.
#[async_trait]
pub trait Ops: Send + Sync + 'static {
    /// Every shard of the cluster, by shard.
    ///
    /// # Errors
    /// [`OpsError::Unavailable`] and [`OpsError::Corrupt`] alone.
    async fn shards(&self) -> Result<Vec<ShardInfo>, OpsError>;

    /// Every node that is configured, by name; this one among them.
    ///
    /// # Errors
    /// [`OpsError::Unavailable`] and [`OpsError::Corrupt`] alone.
    async fn nodes(&self) -> Result<Vec<NodeInfo>, OpsError>;

    /// Begins to move a shard to the node of that name, or finds it on its way there already. Does not wait for
    /// the end: [`Ops::moves`] tells it.
    ///
    /// # Errors
    /// Any.
    async fn move_shard(&self, shard: ShardId, to: &str) -> Result<MoveInfo, OpsError>;

    /// The moves that wait or are under way, and of each shard the last that has ended, as the nodes that are up tell
    /// them: newest first.
    ///
    /// # Errors
    /// [`OpsError::Unavailable`] and [`OpsError::Corrupt`] alone.
    async fn moves(&self) -> Result<Vec<MoveInfo>, OpsError>;

    /// What spreads the shards evenly over the nodes that take any. Begun at once, unless it is only asked for.
    ///
    /// # Errors
    /// Any; nothing is begun then.
    async fn rebalance(&self, rebalance: Rebalance) -> Result<Vec<MoveInfo>, OpsError>;

    /// Has a node give all its shards away and take no more, until its process ends. The moves that this takes.
    ///
    /// # Errors
    /// Any; the node takes shards as before then.
    async fn drain(&self, node: &str) -> Result<Vec<MoveInfo>, OpsError>;
}

/// A shard, and who has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardInfo {
    pub shard: ShardId,
    /// The newest; 0 before anybody ever had the shard.
    pub epoch: Epoch,
    /// `None`: nobody has it.
    pub owner: Option<ShardOwner>,
    pub state: ShardState,
}

/// Who has a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardOwner {
    pub node: String,
    /// Where clients reach it.
    pub url: String,
    /// Until its lease runs out, unless it is renewed; 0 where it should have run out, and was not taken.
    pub expires_in: Span,
}

/// What a shard does for its buyers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShardState {
    Serving,
    /// It has an owner, who restores it.
    Starting,
    /// It is changing hands; commands wait a moment.
    Moving,
    /// Nobody has it.
    Free,
}

/// A node, as the one that is asked sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeInfo {
    pub node: String,
    /// Where clients reach it.
    pub url: String,
    /// Where other nodes reach it; empty where it does not listen for any.
    pub peer_url: String,
    pub state: NodeState,
    /// How many shards it has.
    pub shards: usize,
    pub ledger: LedgerReach,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeState {
    Up,
    /// It gives its shards away and takes no more.
    Draining,
    /// It does not answer.
    Silent,
}

/// Whether a node reaches the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LedgerReach {
    Reaches,
    Away,
    /// It has not said so lately.
    Unknown,
}

/// How to spread the shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rebalance {
    /// Only tell what would be moved.
    pub is_dry_run: bool,
    /// How many shards may be on their way at the same time; at least 1.
    pub at_once: u16,
}

/// Why something was not begun. The text tells the operator what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpsError {
    #[error("there is no shard {shard}: this cluster has 0 to {last}")]
    ShardUnknown { shard: ShardId, last: ShardId },
    #[error("there is no node {node:?}: this cluster has {known}", known = .known.join(", "))]
    NodeUnknown { node: String, known: Vec<String> },
    #[error("{0:?} is draining and takes no shards: name another node")]
    NodeDraining(String),
    #[error("{0:?} does not answer: see that it runs and is reached, or name another node")]
    NodeSilent(String),
    #[error("shard {shard} is on its way to {to:?}: wait until it is there")]
    AlreadyMoving { shard: ShardId, to: String },
    #[error("{node:?} has shard {shard}: there is nothing to move")]
    AlreadyThere { shard: ShardId, node: String },
    #[error("shard {0} does not serve now, and nobody can give it away: try again when it does")]
    NotServing(ShardId),
    #[error(
        "{node:?} has shard {shard} and does not answer: another node takes it when its lease has run out"
    )]
    OwnerSilent { shard: ShardId, node: String },
    #[error("{node:?} was not asked, and nothing was begun: {why}")]
    NotAsked { node: String, why: String },
    #[error("whether {node:?} has begun is not known: {why}; its moves tell")]
    Unsure { node: String, why: String },
    #[error("shards are being spread already: wait until the {0} that are left have moved")]
    Spreading(usize),
    #[error("no other node takes shards: see that one is up and does not drain")]
    Nowhere,
    #[error("this node is alone: there is no other node to move a shard to")]
    Alone,
    /// Try again.
    #[error("the ledger is unavailable: {0}")]
    Unavailable(String),
    #[error("the ledger holds something this version cannot read: {0}")]
    Corrupt(String),
}

impl From<LedgerError> for OpsError {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::Unavailable(why) => Self::Unavailable(why),
            LedgerError::Corrupt(why) => Self::Corrupt(why),
        }
    }
}

/// A node that knows of no others. Where other processes own shards in the same ledger, it says so, and that
/// is all it can do about them.
pub struct Alone {
    pub handle: Handle,
    pub ledger: Arc<dyn Ledger>,
    pub node: String,
    pub url: String,
}

#[async_trait]
impl Ops for Alone {
    async fn shards(&self) -> Result<Vec<ShardInfo>, OpsError> {
        let (now, leases) = self.ledger.leases().await?;
        let lease_of = |shard| leases.iter().find(|row| row.shard == shard);
        let statuses = self.handle.statuses();
        Ok(statuses.iter().map(|(shard, status)| self.shard(now, *shard, status, lease_of(*shard))).collect())
    }

    async fn nodes(&self) -> Result<Vec<NodeInfo>, OpsError> {
        let serves = |status: &ShardStatus| matches!(status, ShardStatus::Serving(_));
        let shards = self.handle.statuses().iter().filter(|(_, status)| serves(status)).count();
        let is_away = self.handle.ledger_away().is_some();
        Ok(vec![NodeInfo {
            node: self.node.clone(),
            url: self.url.clone(),
            peer_url: String::new(),
            state: NodeState::Up,
            shards,
            ledger: if is_away { LedgerReach::Away } else { LedgerReach::Reaches },
        }])
    }

    async fn move_shard(&self, shard: ShardId, _: &str) -> Result<MoveInfo, OpsError> {
        let last = self.handle.statuses().last().map_or(ShardId(0), |(last, _)| *last);
        Err(if shard > last { OpsError::ShardUnknown { shard, last } } else { OpsError::Alone })
    }

    async fn moves(&self) -> Result<Vec<MoveInfo>, OpsError> {
        Ok(Vec::new())
    }

    async fn rebalance(&self, _: Rebalance) -> Result<Vec<MoveInfo>, OpsError> {
        // One node has the even share of all shards.
        Ok(Vec::new())
    }

    async fn drain(&self, node: &str) -> Result<Vec<MoveInfo>, OpsError> {
        if node == self.node {
            return Err(OpsError::Alone);
        }
        Err(OpsError::NodeUnknown { node: node.to_owned(), known: vec![self.node.clone()] })
    }
}

impl Alone {
    fn shard(&self, now: Time, shard: ShardId, status: &ShardStatus, lease: Option<&LeaseRow>) -> ShardInfo {
        let Some(lease) = lease else {
            return ShardInfo { shard, epoch: Epoch(0), owner: None, state: ShardState::Free };
        };
        let expires_in = lease.expires_at.since(now);
        // As long as nobody took it, it is its owner's, however late that renews.
        let serves_here = *status == ShardStatus::Serving(lease.epoch);
        let state = if serves_here {
            ShardState::Serving
        } else if lease.is_released || expires_in == Span(0) {
            ShardState::Free
        } else if lease.owner.node == self.node {
            ShardState::Starting
        } else {
            ShardState::Serving
        };
        let owner = (state != ShardState::Free).then(|| ShardOwner {
            node: lease.owner.node.clone(),
            url: lease.owner.public_url.clone(),
            expires_in,
        });
        ShardInfo { shard, epoch: lease.epoch, owner, state }
    }
}
