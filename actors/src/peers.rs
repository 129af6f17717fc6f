//! The other nodes of the cluster, as far as shards need them: who is there, and an owner's ear.
//!
//! A command goes to its owner as a command, not as the request that brought it: the node that a client reached
//! reads, checks and answers, so that a hot concert's owner has nothing to do but decide.

use std::sync::Arc;

use async_trait::async_trait;
use engine::handoff::Attempt;
use engine::{Epoch, OptionId, Reservation, ReservationId, ShardId, SoftLock, Unavailable, UserId};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::followers::Selection;
use crate::gates::{GateForward, GateReply};
use crate::handle::{Answer, Ask, Memory};
use crate::mirror::check::MirrorCheck;
use crate::moves::{MoveError, MoveId, MoveInfo};
use crate::ports::Owner;
use crate::reach::Report;
use crate::resync::Resynced;

/// The other nodes.
#[async_trait]
pub trait Peers: Send + Sync + 'static {
    /// Every node that is configured, as this one sees it now; without itself and those that have said farewell.
    /// Nothing until each of them has been looked for.
    fn members(&self) -> watch::Receiver<Option<Arc<[Member]>>>;

    /// Sends commands to the owner of their shard, who decides them in their order. Never waits. What comes is
    /// one [`Reply::Answer`] for each, or one of the others for all; an end without them means that nobody knows
    /// what became of the rest.
    fn ask(&self, owner: &Owner, forward: Forward) -> mpsc::UnboundedReceiver<Reply>;

    /// Asks the owner of a gate. Never waits. A channel that ends without a reply means that nobody knows what became
    /// of it.
    fn ask_gate(&self, owner: &Owner, forward: GateForward) -> oneshot::Receiver<GateReply>;

    /// Asks another node for what it knows of a shard, or for its part of a move or a repair.
    ///
    /// # Errors
    /// It did not answer, or cannot.
    async fn call(&self, node: &Owner, call: Call, deadline: Instant) -> Result<Returned, PeerError>;

    /// Asks another node for its part of what an operator wants of the cluster.
    ///
    /// # Errors
    /// It refuses, or did not answer.
    async fn request(
        &self,
        node: &Owner,
        request: Request,
        deadline: Instant,
    ) -> Result<Vec<MoveInfo>, RequestError>;

    /// Tells the others something of this node, which is so from now on.
    fn say(&self, news: News);
}

/// Another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its process. Of a node that never answered only the address is known: no id, no name.
    pub owner: Owner,
    pub standing: Standing,
    /// It gives its shards away and takes no more.
    pub is_draining: bool,
    /// What it last said about the ledger.
    pub ledger: Report,
}

impl Member {
    /// Whether it may be given shards.
    #[must_use]
    pub fn takes_shards(&self) -> bool {
        self.standing == Standing::Up && !self.is_draining
    }
}

/// How a node stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Up,
    /// It does not answer, and nobody knows why.
    Silent,
    /// Its machine answers, and says that its process is gone.
    Dead,
}

/// What a node tells the others of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// It gives its shards away and takes no more.
    Draining,
    /// Its last renewal failed.
    LedgerAway,
    /// Its last renewal was answered.
    LedgerReached,
}

/// Commands for a shard elsewhere.
#[derive(Clone, Debug)]
pub struct Forward {
    pub shard: ShardId,
    pub asks: Vec<Ask>,
    /// After it nobody waits any more.
    pub deadline: Instant,
}

/// What came of a [`Forward`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// To the command at that place.
    Answer(usize, Answer),
    /// None was decided: the shard is somebody else's, as far as the node that was asked knows.
    NotOwner(Option<(Epoch, Owner)>),
    /// None was decided: they did not leave this node.
    NotSent,
}

/// What one node asks of another beside commands.
#[derive(Clone, Debug)]
pub enum Call {
    Reservation(ShardId, ReservationId),
    Selection(ShardId, UserId, OptionId),
    /// The shard will come: read what takes long.
    Prepare(ShardId, Attempt),
    /// The shard is quiet and parks its commands: hold it for the next epoch. What the ledger has of it is read
    /// there; this is what the shard carries beside it.
    Hold(ShardId, Attempt, Vec<SoftLock>),
    /// The ledger has the hand-over.
    HandedOver(ShardId, Attempt),
    /// The old owner goes on.
    Resumed(ShardId, Attempt),
    /// For an audit.
    Memory(ShardId),
    /// Compare the shard's soft locks with the mirror's.
    CheckMirror(ShardId),
    /// Rebuild memory and mirror from the ledger.
    Resync(ShardId),
}

/// What a [`Call`] returns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Returned {
    Reservation(Option<Reservation>),
    Selection(Selection),
    Done,
    Memory(Box<Memory>),
    Mirror(MirrorCheck),
    /// The mirror cannot be read, and why.
    MirrorAway(String),
    Resynced(Resynced),
    /// The ledger contradicts itself, and how; memory is as it was.
    Contradiction(String),
}

/// Why a call returned nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    #[error("{0} does not answer")]
    Silent(String),
    #[error("the shard is not there")]
    NotOwner(Option<(Epoch, Owner)>),
    #[error("unavailable")]
    Unavailable(Unavailable),
    #[error("{0}")]
    Refused(String),
}

/// What an operator wants, as far as it is another node's to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Give a shard of yours to the process of that id; answered with the move.
    Move { id: MoveId, shard: ShardId, to: u128 },
    /// Give every shard away and take no more; answered with the moves that this takes.
    Drain,
    /// Tell your moves.
    Moves,
}

/// Why a [`Request`] was not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    #[error("{node} was not asked: {why}")]
    NotAsked { node: String, why: String },
    /// It may have done it all the same.
    #[error("whether {node} has done it is not known: {why}")]
    Unsure { node: String, why: String },
    #[error(transparent)]
    Declined(MoveError),
}

/// A node without others.
#[derive(Debug)]
pub struct Alone(watch::Sender<Option<Arc<[Member]>>>);

impl Default for Alone {
    fn default() -> Self {
        Self(watch::Sender::new(Some(Arc::default())))
    }
}

#[async_trait]
impl Peers for Alone {
    fn members(&self) -> watch::Receiver<Option<Arc<[Member]>>> {
        self.0.subscribe()
    }

    fn ask(&self, _: &Owner, _: Forward) -> mpsc::UnboundedReceiver<Reply> {
        let (replies, answers) = mpsc::unbounded_channel();
        // The receiver is here.
        let _waits = replies.send(Reply::NotSent);
        answers
    }

    fn ask_gate(&self, _: &Owner, _: GateForward) -> oneshot::Receiver<GateReply> {
        let (reply, answer) = oneshot::channel();
        // The receiver is here.
        let _waits = reply.send(GateReply::NotSent);
        answer
    }

    async fn call(&self, node: &Owner, _: Call, _: Instant) -> Result<Returned, PeerError> {
        Err(PeerError::Silent(node.node.clone()))
    }

    async fn request(&self, node: &Owner, _: Request, _: Instant) -> Result<Vec<MoveInfo>, RequestError> {
        Err(RequestError::NotAsked { node: node.node.clone(), why: "this node is alone".to_owned() })
    }

    fn say(&self, _: News) {}
}
