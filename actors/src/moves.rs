//! Planned moves of shards away from this node: which wait, which are under way, and how the last ones ended.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use engine::handoff::{End, Why};
use engine::{ShardId, Span, placement};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

pub use self::info::{MoveId, MoveInfo, MoveState};
use self::pace::Pace;
use self::spread::Spread;
pub use self::spread::{Spreading, Step};
use crate::clock::LedgerClock;
use crate::door::Doors;
use crate::handle::ShardStatus;
use crate::lock::lock;
use crate::peers::{Member, News, Peers, Request, Standing};
use crate::ports::Owner;
use crate::shard::Message;

mod info;
mod pace;
mod spread;

/// The moves of this node. Cheap to clone.
#[derive(Clone)]
pub struct Moves(Arc<Inner>);

struct Inner {
    me: Owner,
    clock: LedgerClock,
    doors: Doors,
    peers: Arc<dyn Peers>,
    /// How many of this node's shards its steward lets move at the same time.
    at_once: usize,
    is_draining: AtomicBool,
    /// Counts attempts, so that messages of an earlier one are told apart.
    attempts: AtomicU64,
    /// The newest of each shard.
    newest: Mutex<BTreeMap<ShardId, Move>>,
    pace: Mutex<Pace>,
    /// What this node has been asked to spread over the cluster.
    spread: Mutex<Spread>,
    ended: Notify,
}

/// A move of a shard of this node.
#[derive(Clone, Debug)]
struct Move {
    id: MoveId,
    no: u64,
    shard: ShardId,
    to: Owner,
    stage: Stage,
    /// When it came there.
    since: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Waiting,
    Moving,
    Ended(Ended),
}

/// How a move ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// The other node serves it.
    Moved,
    /// This node goes on with it.
    Stayed(&'static str),
    /// Neither: somebody else has it.
    Lost,
}

/// Why a move does not begin. Nodes are named, or by their ids where their names are not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoveError {
    #[error("shard {0} is not served by the node that was asked to give it away")]
    NotHere(ShardId),
    #[error("there is no node {0}")]
    NodeUnknown(String),
    #[error("node {0} does not answer")]
    NodeSilent(String),
    #[error("node {0} is draining: it takes no shards")]
    NodeDraining(String),
    #[error("shard {0} is moving to {1} already")]
    Moving(ShardId, String),
    #[error("no other node takes shards")]
    Nowhere,
}

impl Moves {
    pub(crate) fn new(
        me: Owner,
        clock: LedgerClock,
        doors: Doors,
        peers: Arc<dyn Peers>,
        at_once: u16,
    ) -> Self {
        let (is_draining, attempts, newest, pace, spread, ended) = Default::default();
        let at_once = at_once.into();
        Self(Arc::new(Inner {
            me,
            clock,
            doors,
            peers,
            at_once,
            is_draining,
            attempts,
            newest,
            pace,
            spread,
            ended,
        }))
    }

    /// Gives every shard away from now on, and takes no more.
    pub fn drain(&self) {
        self.0.is_draining.store(true, Ordering::Relaxed);
        self.0.peers.say(News::Draining);
        self.line_up();
    }

    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.0.is_draining.load(Ordering::Relaxed)
    }

    /// This node's shards that are under way.
    #[must_use]
    pub fn moving(&self) -> BTreeSet<ShardId> {
        let newest = lock(&self.0.newest);
        newest.values().filter(|one| one.stage == Stage::Moving).map(|one| one.shard).collect()
    }

    /// Whether a move has come to nothing since then.
    #[must_use]
    pub fn has_failed_since(&self, since: Instant) -> bool {
        let failed = |one: &Move| {
            one.since >= since && matches!(one.stage, Stage::Ended(Ended::Stayed(_) | Ended::Lost))
        };
        lock(&self.0.newest).values().any(failed)
    }

    /// Returns when a move has ended: there is room for another.
    pub async fn ended(&self) {
        self.0.ended.notified().await;
    }

    /// What this node knows of moves: the newest of each shard that it has or had, and what it spreads.
    #[must_use]
    pub fn told(&self) -> Vec<MoveInfo> {
        let mut told = self.told_of_mine();
        told.extend(self.told_of_spread());
        newest_of_each(told)
    }

    /// Answers what an operator wants of this node, on whichever node he is.
    ///
    /// # Errors
    /// Nothing has begun.
    pub fn answer(&self, request: Request) -> Result<Vec<MoveInfo>, MoveError> {
        match request {
            Request::Move { id, shard, to } => {
                let to = self.target(|owner| owner.id == to, || format!("{to:x}"))?;
                self.begin_as(Some(id), shard, to).map(|begun| vec![begun])
            }
            Request::Drain if !self.has_takers() => Err(MoveError::Nowhere),
            Request::Drain => {
                self.drain();
                Ok(self.told_of_mine().into_iter().filter(|one| !one.state.has_ended()).collect())
            }
            Request::Moves => Ok(self.told()),
        }
    }

    /// Begins to move a shard of this node to another, or finds it on its way there.
    ///
    /// # Errors
    /// Nothing has begun.
    pub fn begin(&self, shard: ShardId, to: &str) -> Result<MoveInfo, MoveError> {
        self.begin_as(None, shard, self.target(|owner| owner.node == to, || to.to_owned())?)
    }

    /// A number for a move that no other node gives to one of its own.
    #[must_use]
    pub fn next_id(&self) -> MoveId {
        self.id_of(self.next_number())
    }

    /// The nodes that take shards, this one among them unless it drains.
    #[must_use]
    pub fn takers(&self) -> Vec<Owner> {
        let mut takers = self.others_that_take();
        if !self.is_draining() {
            takers.push(self.0.me.clone());
        }
        takers
    }

    /// Whether there is another node that takes shards.
    #[must_use]
    pub fn has_takers(&self) -> bool {
        !self.others_that_take().is_empty()
    }

    fn others_that_take(&self) -> Vec<Owner> {
        self.others(Member::takes_shards)
    }

    /// The other nodes of which this is so; none before everybody has been looked for.
    fn others(&self, is_so: impl Fn(&Member) -> bool) -> Vec<Owner> {
        let members = self.0.peers.members();
        let members = members.borrow();
        let so = members.iter().flat_map(|members| members.iter()).filter(|member| is_so(member));
        so.map(|member| member.owner.clone()).collect()
    }

    fn next_number(&self) -> u64 {
        self.0.attempts.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A node's id is random per process, so that its numbers make ids of the whole cluster. It stays a UUID of its
    /// version: a number goes where a time would be.
    fn id_of(&self, no: u64) -> MoveId {
        MoveId(self.0.me.id ^ (u128::from(no) << 80))
    }

    /// What the steward will begin by and by, operators see waiting from now on.
    fn line_up(&self) {
        let statuses: Vec<_> = self.0.doors.iter().map(|door| door.status()).collect();
        let owners: Vec<Option<&str>> =
            statuses.iter().map(|status| node_of(&self.0.me.node, status)).collect();
        let takers = self.others_that_take();
        let names: Vec<&str> = takers.iter().map(|taker| taker.node.as_str()).collect();
        let mut newest = lock(&self.0.newest);
        for wish in placement::plan(&owners, &names) {
            let is_under_way = newest.get(&wish.shard).is_some_and(|one| !one.has_ended());
            let to = takers.iter().find(|taker| taker.node == wish.to);
            let Some(to) = to.filter(|_| wish.from == self.0.me.node && !is_under_way) else { continue };
            let (no, to, since) = (self.next_number(), to.clone(), Instant::now());
            let (id, shard) = (self.id_of(no), wish.shard);
            newest.insert(shard, Move { id, no, shard, to, stage: Stage::Waiting, since });
        }
    }

    fn begin_as(&self, id: Option<MoveId>, shard: ShardId, to: Owner) -> Result<MoveInfo, MoveError> {
        let door = self.0.doors.get(usize::from(shard.0));
        let actor = door.and_then(|door| door.actor()).ok_or(MoveError::NotHere(shard))?;
        let mut newest = lock(&self.0.newest);
        let known = newest.get(&shard);
        if let Some(one) = known.filter(|one| one.stage == Stage::Moving) {
            let is_same = one.to.id == to.id;
            return if is_same {
                Ok(self.info(one, 0))
            } else {
                Err(MoveError::Moving(shard, one.to.node.clone()))
            };
        }
        let waited = known.filter(|one| one.stage == Stage::Waiting).map(|one| one.id);
        let no = self.next_number();
        let id = id.or(waited).unwrap_or_else(|| self.id_of(no));
        let (done, end) = oneshot::channel();
        let message = Message::Move { no, to: Arc::new(to.clone()), done };
        if actor.send_message(message).is_err() {
            return Err(MoveError::NotHere(shard));
        }
        tracing::info!(%shard, to = to.node, "moving the shard");
        let begun = Move { id, no, shard, to, stage: Stage::Moving, since: Instant::now() };
        let info = self.info(&begun, 0);
        newest.insert(shard, begun);
        drop(newest);
        tokio::spawn(self.clone().finish(shard, no, end));
        Ok(info)
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
            let took = one.since.elapsed();
            (one.stage, one.since) = (Stage::Ended(ended), Instant::now());
            tracing::info!(%shard, to = one.to.node, ?ended, ?took, "the move has ended");
            drop(newest);
            if ended == Ended::Moved {
                lock(&self.0.pace).note(took);
            }
        }
        self.0.ended.notify_one();
    }

    fn told_of_mine(&self) -> Vec<MoveInfo> {
        let mut newest = lock(&self.0.newest);
        for one in newest.values_mut().filter(|one| one.stage == Stage::Waiting) {
            let door = self.0.doors.get(usize::from(one.shard.0));
            if door.is_some_and(|door| door.elsewhere().is_some()) {
                (one.stage, one.since) = (Stage::Ended(Ended::Lost), Instant::now());
            }
        }
        let running = newest.values().filter(|one| one.stage == Stage::Moving).count();
        let before = |one: &Move| {
            let is_before = |other: &&Move| other.stage == Stage::Waiting && other.no < one.no;
            if one.stage == Stage::Waiting { running + newest.values().filter(is_before).count() } else { 0 }
        };
        newest.values().map(|one| self.info(one, before(one))).collect()
    }

    fn info(&self, one: &Move, before: usize) -> MoveInfo {
        let elapsed = one.since.elapsed();
        let state = match one.stage {
            Stage::Waiting => MoveState::Waiting,
            Stage::Moving => MoveState::Moving,
            Stage::Ended(Ended::Moved) => MoveState::Done,
            Stage::Ended(Ended::Stayed(why)) => MoveState::Failed(why.to_owned()),
            Stage::Ended(Ended::Lost) => MoveState::Failed("another node has taken the shard".to_owned()),
        };
        let left = match one.stage {
            Stage::Waiting => lock(&self.0.pace).left(before, self.0.at_once, Duration::ZERO),
            Stage::Moving => lock(&self.0.pace).left(0, self.0.at_once, elapsed),
            Stage::Ended(_) => None,
        };
        MoveInfo {
            id: Some(one.id),
            shard: one.shard,
            from: self.0.me.node.clone(),
            to: one.to.node.clone(),
            state,
            since: self.0.clock.now() - Span::from(elapsed),
            eta: left.map(Span::from),
        }
    }
}

impl Move {
    const fn has_ended(&self) -> bool {
        matches!(self.stage, Stage::Ended(_))
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

/// The name of the node that serves a shard.
fn node_of<'a>(me: &'a str, status: &'a ShardStatus) -> Option<&'a str> {
    match status {
        ShardStatus::Serving(_) => Some(me),
        ShardStatus::Elsewhere(_, owner) => Some(&owner.node),
        ShardStatus::Starting | ShardStatus::Stopped => None,
    }
}

/// One of each move, told by whoever knows it to be furthest; the newest first.
fn newest_of_each(told: Vec<MoveInfo>) -> Vec<MoveInfo> {
    let mut furthest: BTreeMap<Option<MoveId>, MoveInfo> = BTreeMap::new();
    for one in told {
        match furthest.get(&one.id) {
            Some(known) if known.state.rank() >= one.state.rank() => {}
            _ => drop(furthest.insert(one.id, one)),
        }
    }
    let mut moves: Vec<MoveInfo> = furthest.into_values().collect();
    moves.sort_by_key(|one| (std::cmp::Reverse(one.since), one.shard));
    moves
}
