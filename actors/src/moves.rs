//! Planned moves of shards away from this node: which are under way, and how the last ones ended.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use engine::ShardId;
use engine::handoff::{End, Why};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::door::Doors;
use crate::lock::lock;
use crate::peers::{Member, News, Peers, Standing};
use crate::ports::Owner;
use crate::shard::Message;

/// The moves of this node. Cheap to clone.
#[derive(Clone)]
pub struct Moves(Arc<Inner>);

struct Inner {
    doors: Doors,
    peers: Arc<dyn Peers>,
    is_draining: AtomicBool,
    /// Counts attempts, so that messages of an earlier one are told apart.
    attempts: AtomicU64,
    /// The newest of each shard.
    newest: Mutex<BTreeMap<ShardId, Move>>,
}

/// A move of a shard.
#[derive(Clone, Debug)]
pub struct Move {
    pub no: u64,
    pub shard: ShardId,
    pub to: Owner,
    pub began: Instant,
    /// `None` while it is under way.
    pub ended: Option<(Ended, Duration)>,
}

/// How a move ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The other node serves it.
    Moved,
    /// This node goes on with it.
    Stayed(&'static str),
    /// Neither: somebody else has it.
    Lost,
}

/// Why a move does not begin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoveError {
    #[error("shard {0} is not served by this node")]
    NotHere(ShardId),
    #[error("there is no node {0}")]
    NodeUnknown(String),
    #[error("node {0} does not answer")]
    NodeSilent(String),
    #[error("node {0} is draining: it takes no shards")]
    NodeDraining(String),
    #[error("shard {0} is moving already")]
    Moving(ShardId),
}

impl Moves {
    pub(crate) fn new(doors: Doors, peers: Arc<dyn Peers>) -> Self {
        let (is_draining, attempts, newest) = Default::default();
        Self(Arc::new(Inner { doors, peers, is_draining, attempts, newest }))
    }

    /// Gives every shard away from now on, and takes no more.
    pub fn drain(&self) {
        self.0.is_draining.store(true, Ordering::Relaxed);
        self.0.peers.say(News::Draining);
    }

    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.0.is_draining.load(Ordering::Relaxed)
    }

    /// Moves that are under way.
    #[must_use]
    pub fn running(&self) -> usize {
        lock(&self.0.newest).values().filter(|one| one.ended.is_none()).count()
    }

    /// Whether a move that began after that came to nothing.
    #[must_use]
    pub fn has_failed_since(&self, since: Instant) -> bool {
        let failed =
            |one: &Move| one.began >= since && one.ended.is_some_and(|(ended, _)| ended != Ended::Moved);
        lock(&self.0.newest).values().any(failed)
    }

    /// The newest move of each shard, by shard.
    #[must_use]
    pub fn list(&self) -> Vec<Move> {
        lock(&self.0.newest).values().cloned().collect()
    }

    /// Begins to move a shard of this node to another; its number.
    ///
    /// # Errors
    /// Nothing has begun.
    pub fn begin(&self, shard: ShardId, to: &str) -> Result<u64, MoveError> {
        self.begin_with(shard, self.target(|owner| owner.node == to, || format!("{to:?}"))?)
    }

    /// The same, to a process that is named by its id.
    ///
    /// # Errors
    /// Nothing has begun.
    pub fn begin_to(&self, shard: ShardId, to: u128) -> Result<u64, MoveError> {
        self.begin_with(shard, self.target(|owner| owner.id == to, || format!("{to:x}"))?)
    }

    /// Whether there is another node that takes shards.
    #[must_use]
    pub fn has_takers(&self) -> bool {
        let members = self.0.peers.members();
        let members = members.borrow();
        let takes = |member: &Member| member.standing == Standing::Up && !member.is_draining;
        members.iter().flat_map(|members| members.iter()).any(takes)
    }

    fn begin_with(&self, shard: ShardId, to: Owner) -> Result<u64, MoveError> {
        let door = self.0.doors.get(usize::from(shard.0));
        let actor = door.and_then(|door| door.actor()).ok_or(MoveError::NotHere(shard))?;
        let no = self.0.attempts.fetch_add(1, Ordering::Relaxed) + 1;
        let mut newest = lock(&self.0.newest);
        if newest.get(&shard).is_some_and(|one| one.ended.is_none()) {
            return Err(MoveError::Moving(shard));
        }
        let (done, end) = oneshot::channel();
        let to = Arc::new(to);
        if actor.send_message(Message::Move { no, to: to.clone(), done }).is_err() {
            return Err(MoveError::NotHere(shard));
        }
        let began = Instant::now();
        newest.insert(shard, Move { no, shard, to: Owner::clone(&to), began, ended: None });
        drop(newest);
        tracing::info!(%shard, to = to.node, "moving the shard");
        tokio::spawn(self.clone().finish(shard, no, end));
        Ok(no)
    }

    fn target(&self, is_it: impl Fn(&Owner) -> bool, name: impl Fn() -> String) -> Result<Owner, MoveError> {
        let members = self.0.peers.members();
        let members = members.borrow();
        let mut named = members
            .iter()
            .flat_map(|members| members.iter())
            .filter(|member| is_it(&member.owner))
            .peekable();
        if named.peek().is_none() {
            return Err(MoveError::NodeUnknown(name()));
        }
        let up = named.find(|member| member.standing == Standing::Up);
        let member = up.ok_or_else(|| MoveError::NodeSilent(name()))?;
        if member.is_draining {
            return Err(MoveError::NodeDraining(name()));
        }
        Ok(member.owner.clone())
    }

    async fn finish(self, shard: ShardId, no: u64, end: oneshot::Receiver<End>) {
        // An actor that died with the move is restored, here or by whoever has the lease then.
        let ended = end.await.map_or(Ended::Stayed("the shard halted"), Ended::of);
        let mut newest = lock(&self.0.newest);
        if let Some(one) = newest.get_mut(&shard).filter(|one| one.no == no) {
            let took = one.began.elapsed();
            one.ended = Some((ended, took));
            tracing::info!(%shard, to = one.to.node, ?ended, ?took, "the move has ended");
        }
    }
}

impl Ended {
    const fn of(end: End) -> Self {
        match end {
            End::Moved(_) => Self::Moved,
            End::Resumed(Why::Declined) => Self::Stayed("the other node declined"),
            End::Resumed(Why::NotReady) => Self::Stayed("the other node was not ready in time"),
            End::Resumed(Why::TooSlow) => Self::Stayed("commands would have waited too long"),
            End::TakenBack(_) => Self::Stayed("the ledger did not answer"),
            End::Halted => Self::Stayed("the shard halted"),
            End::Lost => Self::Lost,
        }
    }
}
