//! The only door to the shards: permit, deadline, answer.
//!
//! Mailboxes have no bound of their own, so a command takes a permit before it is sent. A click is
//! then a message and a oneshot, no task and no timer: the actor looks at the deadline when the
//! command's turn comes, and when the actor dies the oneshot says so. Only commands that wait for
//! the ledger get a timer here, because the engine goes on waiting when the client does not.

use std::sync::Arc;
use std::time::Duration;

use engine::shard::judge_ended;
use engine::{
    Caller, ChainHead, Command, Epoch, OptionId, Outcome, PassId, Refusal, RequestKey, Reservation,
    ReservationId, SeatState, ShardId, Time, Unavailable, UserId,
};
use tokio::time::Instant;

use crate::arrivals::Arrivals;
use crate::batch::{self, Sent};
use crate::clock::LedgerClock;
use crate::door::{Door, Doors, Route};
use crate::feed::{Frame, Hub, Position, Watch};
use crate::followers::{Followers, Following, ForNode, Interests, Selection};
use crate::gates::Gates;
use crate::leases::Leases;
use crate::mirror::Mirroring;
use crate::observe::{Metrics, Op};
use crate::peers::{Call, Peers, Returned};
use crate::ports::{Ledger, Owner};
use crate::reach::LedgerAway;
use crate::shard::{Halt, Message};
use crate::steward::Hints;

pub use crate::feed::Snapshot;
pub use crate::mirror::Away as MirrorAway;

/// How long another node may take to send the memory of a shard.
const MEMORY: Duration = Duration::from_secs(30);

/// Cheap to clone; one for the whole process.
#[derive(Clone)]
pub struct Handle {
    pub(crate) inner: Arc<Inner>,
}

/// What the doors share.
pub(crate) struct Inner {
    pub doors: Doors,
    pub hub: Arc<Hub>,
    pub followers: Arc<Followers>,
    pub ledger: Arc<dyn Ledger>,
    pub clock: LedgerClock,
    pub leases: Leases,
    pub mirror: Mirroring,
    /// One at a time.
    pub resyncs: tokio::sync::Mutex<()>,
    pub ledger_ack_timeout: Duration,
    pub metrics: Metrics,
    pub peers: Arc<dyn Peers>,
    pub hints: Hints,
    pub arrivals: Arrivals,
    pub gates: Gates,
}

/// A command as the edge brings it. Where the reply goes is the handle's business.
#[derive(Clone, Debug)]
pub struct Ask {
    pub caller: Caller,
    pub key: Option<RequestKey>,
    /// The pass that was shown, if its signature is good and it is the caller's. Whether it is live the owner knows.
    pub pass: Option<PassId>,
    pub command: Command,
}

/// What the shard said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub outcome: Outcome,
    /// The first answer to the key, again.
    pub replayed: bool,
}

impl Answer {
    pub(crate) const fn unavailable(unavailable: Unavailable) -> Self {
        Self { outcome: Outcome::Unavailable(unavailable), replayed: false }
    }
}

/// A shard's memory at one point of its chain, for audits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    pub shard: ShardId,
    pub epoch: Epoch,
    /// Memory is the ledger up to this event, plus soft locks and what is pending.
    pub head: ChainHead,
    pub digest: u64,
    pub pending: usize,
    pub reservations: Vec<Reservation>,
    pub options: Vec<(OptionId, Vec<SeatState>)>,
}

/// Who serves a shard, as this node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShardStatus {
    Serving(Epoch),
    /// Another node does.
    Elsewhere(Epoch, Arc<Owner>),
    /// Being restored, or nobody's at the moment.
    Starting,
    Stopped,
}

impl Handle {
    pub(crate) fn new(inner: Inner) -> Self {
        Self { inner: Arc::new(inner) }
    }

    /// The ledger's time, as this node has it.
    #[must_use]
    pub fn now(&self) -> Time {
        self.inner.clock.now()
    }

    /// The way to the gates of concerts.
    #[must_use]
    pub fn gates(&self) -> &Gates {
        &self.inner.gates
    }

    /// Asks a shard and waits for its answer, at most until `deadline`. A ledger command that the
    /// ledger has not answered by then is [`Unavailable::Ledger`]: it may still happen, and a retry with
    /// the same key learns what became of it. Transitions of reservations that left memory are
    /// answered from the ledger row.
    pub async fn ask(&self, shard: ShardId, ask: Ask, deadline: Instant) -> Answer {
        let Some(door) = self.door(shard) else { return Answer::unavailable(Unavailable::Overloaded) };
        // A click is decided here, nearly always, and its future is moved several times: what is rarer is boxed.
        match reservation_of(&ask.command) {
            None if door.is_serving() => self.decided_here(door, ask, deadline).await,
            None => Box::pin(self.decided(shard, door, ask, deadline)).await,
            Some(id) => Box::pin(self.transition(shard, door, id, ask, deadline)).await,
        }
    }

    /// Sends several commands to a shard in one message; they are decided in their order, and a click is
    /// decided until `deadline` or not at all. For clicks and holds: a transition of a reservation that
    /// left memory is not looked up in the ledger here.
    #[must_use]
    pub fn ask_all(&self, shard: ShardId, asks: Vec<Ask>, deadline: Instant) -> Option<Sent> {
        let door = self.door(shard)?;
        if matches!(*door.route.borrow(), Route::Elsewhere { .. } | Route::Arriving) {
            return Some(self.send_there(shard, asks, deadline));
        }
        Some(self.send_here(door, asks, deadline))
    }

    pub(crate) fn send_here(&self, door: &Door, asks: Vec<Ask>, deadline: Instant) -> Sent {
        let Inner { ledger_ack_timeout, metrics, .. } = &*self.inner;
        batch::send(door, asks, deadline, *ledger_ack_timeout, metrics)
    }

    /// Listens for changes of a user's own selections, in every option.
    #[must_use]
    pub fn follow(&self, user: UserId) -> Following {
        self.inner.followers.follow(user)
    }

    /// Listens for the users of another node, whose sockets are there.
    #[must_use]
    pub fn follow_for_node(&self) -> ForNode {
        self.inner.followers.for_node()
    }

    /// Hears which users have sockets on this node.
    #[must_use]
    pub fn interests(&self) -> Interests {
        self.inner.followers.interests()
    }

    /// Tells a user's sockets on this node what another one has decided.
    pub fn tell_here(&self, user: UserId, selection: Selection) {
        self.inner.followers.tell_here(user, selection);
    }

    /// What a user has selected in an option now.
    ///
    /// # Errors
    /// The shard cannot say now.
    pub async fn selection(
        &self,
        shard: ShardId,
        user: UserId,
        option: OptionId,
    ) -> Result<Selection, Unavailable> {
        let door = self.door(shard).ok_or(Unavailable::Overloaded)?;
        if let Some((_, owner)) = door.elsewhere() {
            let selection = self.call(&owner, Call::Selection(shard, user, option)).await?;
            return match selection {
                Returned::Selection(selection) => Ok(selection),
                other => Err(odd(&other)),
            };
        }
        door.read(|reply, permit| Message::Selection { user, option, reply, permit }).await
    }

    /// A reservation, from memory or, when it ended long ago, from the ledger.
    ///
    /// # Errors
    /// The shard or the ledger cannot say now.
    pub async fn reservation(
        &self,
        shard: ShardId,
        id: ReservationId,
    ) -> Result<Option<Reservation>, Unavailable> {
        let door = self.door(shard).ok_or(Unavailable::Overloaded)?;
        match self.in_memory(shard, door, id).await? {
            Some(reservation) => Ok(Some(reservation)),
            None => self.ledger_row(door, id, Instant::now() + self.inner.ledger_ack_timeout).await,
        }
    }

    async fn in_memory(
        &self,
        shard: ShardId,
        door: &Door,
        id: ReservationId,
    ) -> Result<Option<Reservation>, Unavailable> {
        let Some((_, owner)) = door.elsewhere() else {
            return door.read(|reply, permit| Message::Reservation { id, reply, permit }).await;
        };
        match self.call(&owner, Call::Reservation(shard, id)).await? {
            Returned::Reservation(reservation) => Ok(reservation),
            other => Err(odd(&other)),
        }
    }

    /// The seats of an option, at most one tick old; `None` while nobody serves it. Never work for
    /// the shard: the feed's hub keeps its own copy, also while the shard is being restored here.
    #[must_use]
    pub fn snapshot(&self, option: OptionId) -> Option<Arc<Snapshot>> {
        self.inner.hub.snapshot(option)
    }

    /// A viewer of an option, see [`Hub::watch`].
    #[must_use]
    pub fn watch(&self, option: OptionId, since: Option<Position>) -> Option<Watch> {
        self.inner.hub.watch(option, since)
    }

    /// What brings somebody up to date who has the map of this position; `None` while nobody serves the option.
    /// Waits a moment where the position is ahead of this node.
    pub async fn changes(&self, option: OptionId, since: Position) -> Option<Arc<Frame>> {
        self.watch(option, Some(since))?.up_to_date().await
    }

    /// A shard's memory, for audits, from whoever serves it.
    ///
    /// # Errors
    /// The shard is not serving.
    pub async fn memory(&self, shard: ShardId) -> Result<Memory, Unavailable> {
        let door = self.door(shard).ok_or(Unavailable::Overloaded)?;
        let Some((_, owner)) = door.elsewhere() else {
            return door.read(|reply, permit| Message::Memory { reply, permit }).await;
        };
        match self.call_within(&owner, Call::Memory(shard), MEMORY).await? {
            Returned::Memory(memory) => Ok(*memory),
            other => Err(odd(&other)),
        }
    }

    /// Who serves a shard; `None` where there is no such shard.
    #[must_use]
    pub fn status(&self, shard: ShardId) -> Option<ShardStatus> {
        self.door(shard).map(Door::status)
    }

    /// Every shard's status, by shard.
    #[must_use]
    pub fn statuses(&self) -> Vec<(ShardId, ShardStatus)> {
        (0..).map(ShardId).zip(self.inner.doors.iter().map(Door::status)).collect()
    }

    /// Since when the ledger does not answer, and why, for `/readyz`; `None` while it does.
    #[must_use]
    pub fn ledger_away(&self) -> Option<LedgerAway> {
        self.inner.leases.ledger_away()
    }

    /// Why soft locks are not mirrored, for `/readyz`; `None` while they are.
    #[must_use]
    pub fn mirror_away(&self) -> Option<MirrorAway> {
        self.inner.mirror.away()
    }

    /// Why shards are starting for long, for `/readyz`; `None` when the last that tried came up.
    #[must_use]
    pub fn restore_trouble(&self) -> Option<String> {
        self.inner.leases.trouble()
    }

    /// Returns when every shard serves, here or elsewhere, or is stopped for good.
    pub async fn until_serving(&self) {
        for door in self.inner.doors.iter() {
            let mut route = door.route.subscribe();
            // Only the end of the doors could end the watch, and this handle keeps them.
            let _came = route.wait_for(|route| !matches!(route, Route::Starting | Route::Arriving)).await;
        }
    }

    /// Makes a shard's actor panic, as a bug would. For drills: the shard must come back.
    #[doc(hidden)]
    pub fn crash(&self, shard: ShardId) {
        if let Some(actor) = self.door(shard).and_then(Door::actor) {
            // Nobody there to crash is as good.
            let _lives = actor.send_message(Message::Halt(Halt::Crash));
        }
    }

    /// Permits that are out, by pool: commands not decided, and ledger replies owed.
    #[doc(hidden)]
    #[must_use]
    pub fn inflight(&self) -> (usize, usize) {
        let gauges = self.inner.doors.iter().map(|door| &door.gauges);
        gauges.fold((0, 0), |(undecided, owed), gauges| {
            (undecided + gauges.undecided.used(), owed + gauges.owed.used())
        })
    }

    pub(crate) fn door(&self, shard: ShardId) -> Option<&Door> {
        self.inner.doors.get(usize::from(shard.0))
    }

    /// Decided by the actor on this node, if there is one.
    pub(crate) async fn decided_here(&self, door: &Door, ask: Ask, deadline: Instant) -> Answer {
        let op = Op::of(&ask.command);
        let answer = if ask.command.reaches_ledger() {
            let patience = deadline.min(Instant::now() + self.inner.ledger_ack_timeout);
            Box::pin(door.ledger_command(ask, deadline, patience)).await
        } else {
            door.click(ask, deadline).await
        };
        self.inner.metrics.command(op, &answer.outcome);
        answer
    }

    /// A reservation that ended before the horizon is not in memory: its row is the judge then.
    async fn transition(
        &self,
        shard: ShardId,
        door: &Door,
        id: ReservationId,
        ask: Ask,
        deadline: Instant,
    ) -> Answer {
        let answer = self.decided(shard, door, ask.clone(), deadline).await;
        if answer.outcome != Outcome::Refused(Refusal::ReservationUnknown) {
            return answer;
        }
        match self.ledger_row(door, id, deadline).await {
            Ok(None) => answer,
            Ok(Some(row)) => Answer { outcome: judge_ended(&row, ask.caller, &ask.command), replayed: false },
            Err(unavailable) => Answer::unavailable(unavailable),
        }
    }

    async fn ledger_row(
        &self,
        door: &Door,
        id: ReservationId,
        deadline: Instant,
    ) -> Result<Option<Reservation>, Unavailable> {
        let _owed = door.gauges.owed.take().ok_or(Unavailable::Ledger)?;
        let deadline = deadline.min(Instant::now() + self.inner.ledger_ack_timeout);
        match tokio::time::timeout_at(deadline, self.inner.ledger.reservation(id)).await {
            Ok(Ok(row)) => Ok(row),
            Ok(Err(error)) => {
                tracing::warn!(%error, reservation = %id, "cannot read a reservation");
                Err(Unavailable::Ledger)
            }
            Err(_) => Err(Unavailable::Ledger),
        }
    }
}

/// An owner answered something else than what it was asked: a bug, on one side or the other.
pub(crate) fn odd(returned: &Returned) -> Unavailable {
    tracing::error!(?returned, "a peer answered another question");
    Unavailable::Overloaded
}

/// The reservation that a transition is about.
const fn reservation_of(command: &Command) -> Option<ReservationId> {
    match command {
        Command::StartPaying { reservation }
        | Command::Confirm { reservation }
        | Command::Cancel { reservation }
        | Command::Refund { reservation }
        | Command::Unblock { reservation } => Some(*reservation),
        Command::Select { .. }
        | Command::SelectBest { .. }
        | Command::Release { .. }
        | Command::Hold { .. }
        | Command::Block { .. }
        | Command::AddOption { .. }
        | Command::SetOptionStatus { .. }
        | Command::SetPolicy { .. } => None,
    }
}
