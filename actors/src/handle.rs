//! The only door to the shards: permit, deadline, answer.
//!
//! Mailboxes have no bound of their own, so a command takes a permit before it is sent. A click is
//! then a message and a oneshot, no task and no timer: the actor looks at the deadline when the
//! command's turn comes, and when the actor dies the oneshot says so. Only commands that wait for
//! the ledger get a timer here, because the engine goes on waiting when the client does not.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use engine::limits::{LEDGER_REPLIES, UNDECIDED_COMMANDS};
use engine::shard::judge_ended;
use engine::{
    Caller, ChainHead, Command, Epoch, OptionId, Outcome, Refusal, RequestKey, Reservation, ReservationId,
    SeatState, ShardId, Unavailable, UserId,
};
use ractor::ActorRef;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use crate::batch::{self, Sent};
use crate::feed::{Frame, Hub, Position, Watch};
use crate::followers::{Followers, Following, Selection};
use crate::inbox::Inbox;
use crate::leases::Leases;
use crate::mirror::Mirroring;
use crate::observe::{Metrics, Op, ShardGauges};
use crate::permits::{Permit, Pool};
use crate::ports::Ledger;
use crate::reach::LedgerAway;
use crate::shard::{Asked, Halt, Message};

pub use crate::feed::Snapshot;
pub use crate::mirror::Away as MirrorAway;

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
    pub leases: Leases,
    pub mirror: Mirroring,
    /// One at a time.
    pub resyncs: tokio::sync::Mutex<()>,
    pub ledger_ack_timeout: Duration,
    pub metrics: Metrics,
}

/// One door per shard, by shard.
pub(crate) type Doors = Arc<[Door]>;

/// The way into a shard, whichever actor serves it at the moment.
pub(crate) struct Door {
    pub gauges: Arc<ShardGauges>,
    /// The options that feed and mirror follow for this shard.
    pub options: Arc<Mutex<BTreeSet<OptionId>>>,
    pub route: watch::Sender<Route>,
}

/// Where commands of a shard go now.
#[derive(Clone, Debug)]
pub(crate) enum Route {
    Starting,
    Serving { epoch: Epoch, actor: ActorRef<Message>, inbox: Arc<Inbox> },
    Stopped,
}

/// A command as the edge brings it. Where the reply goes is the handle's business.
#[derive(Clone, Debug)]
pub struct Ask {
    pub caller: Caller,
    pub key: Option<RequestKey>,
    /// Whether a live pass was shown.
    pub pass: bool,
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
#[derive(Clone, Debug)]
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

/// Whether a shard serves, for `/readyz`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShardStatus {
    Serving(Epoch),
    /// Being restored, or waiting for its lease.
    Starting,
    Stopped,
}

impl Handle {
    pub(crate) fn new(inner: Inner) -> Self {
        Self { inner: Arc::new(inner) }
    }

    /// Asks a shard and waits for its answer, at most until `deadline`. A ledger command that the
    /// ledger has not answered by then is [`Unavailable::Ledger`]: it may still happen, and a retry with
    /// the same key learns what became of it. Transitions of reservations that left memory are
    /// answered from the ledger row.
    pub async fn ask(&self, shard: ShardId, ask: Ask, deadline: Instant) -> Answer {
        let op = Op::of(&ask.command);
        let answer = match self.door(shard) {
            None => Answer::unavailable(Unavailable::Overloaded),
            Some(door) if !ask.command.reaches_ledger() => door.click(ask, deadline).await,
            Some(door) => match reservation_of(&ask.command) {
                None => self.ledger_command(door, ask, deadline).await,
                Some(id) => self.transition(door, id, ask, deadline).await,
            },
        };
        self.inner.metrics.command(op, &answer.outcome);
        answer
    }

    /// Sends several commands to a shard in one message; they are decided in their order, and a click is
    /// decided until `deadline` or not at all. For clicks and holds: a transition of a reservation that
    /// left memory is not looked up in the ledger here.
    #[must_use]
    pub fn ask_all(&self, shard: ShardId, asks: Vec<Ask>, deadline: Instant) -> Option<Sent> {
        let Inner { ledger_ack_timeout, metrics, .. } = &*self.inner;
        Some(batch::send(self.door(shard)?, asks, deadline, *ledger_ack_timeout, metrics))
    }

    /// Listens for changes of a user's own selections on this node, in every option.
    #[must_use]
    pub fn follow(&self, user: UserId) -> Following {
        self.inner.followers.follow(user)
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
        let in_memory = door.read(|reply, permit| Message::Reservation { id, reply, permit }).await?;
        match in_memory {
            Some(reservation) => Ok(Some(reservation)),
            None => self.ledger_row(door, id, Instant::now() + self.inner.ledger_ack_timeout).await,
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

    /// A shard's memory, for audits.
    ///
    /// # Errors
    /// The shard is not serving.
    pub async fn memory(&self, shard: ShardId) -> Result<Memory, Unavailable> {
        let door = self.door(shard).ok_or(Unavailable::Overloaded)?;
        door.read(|reply, permit| Message::Memory { reply, permit }).await
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

    /// Returns when every shard serves, or is stopped for good.
    pub async fn until_serving(&self) {
        for door in self.inner.doors.iter() {
            let mut route = door.route.subscribe();
            // Only the end of the doors could end the watch, and this handle keeps them.
            let _came = route.wait_for(|route| !matches!(route, Route::Starting)).await;
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

    async fn ledger_command(&self, door: &Door, ask: Ask, deadline: Instant) -> Answer {
        let patience = deadline.min(Instant::now() + self.inner.ledger_ack_timeout);
        door.ledger_command(ask, deadline, patience).await
    }

    /// A reservation that ended before the horizon is not in memory: its row is the judge then.
    async fn transition(&self, door: &Door, id: ReservationId, ask: Ask, deadline: Instant) -> Answer {
        let answer = self.ledger_command(door, ask.clone(), deadline).await;
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

impl Door {
    pub fn new(shard: ShardId) -> Self {
        let gauges = ShardGauges {
            shard: shard.0,
            undecided: Pool::new(UNDECIDED_COMMANDS),
            owed: Pool::new(LEDGER_REPLIES),
            soft_locks: AtomicUsize::new(0),
            holds: AtomicUsize::new(0),
            epoch: AtomicU64::new(0),
        };
        Self { gauges: Arc::new(gauges), options: Arc::default(), route: watch::Sender::new(Route::Starting) }
    }

    /// Where commands go from now on.
    pub fn show(&self, route: Route) {
        if !matches!(route, Route::Serving { .. }) {
            self.gauges.epoch.store(0, Ordering::Relaxed);
            self.gauges.soft_locks.store(0, Ordering::Relaxed);
            self.gauges.holds.store(0, Ordering::Relaxed);
        }
        self.route.send_replace(route);
    }

    pub fn actor(&self) -> Option<ActorRef<Message>> {
        match &*self.route.borrow() {
            Route::Serving { actor, .. } => Some(actor.clone()),
            Route::Starting | Route::Stopped => None,
        }
    }

    fn status(&self) -> ShardStatus {
        match &*self.route.borrow() {
            Route::Serving { epoch, .. } => ShardStatus::Serving(*epoch),
            Route::Starting => ShardStatus::Starting,
            Route::Stopped => ShardStatus::Stopped,
        }
    }

    async fn click(&self, ask: Ask, deadline: Instant) -> Answer {
        let Some(undecided) = self.gauges.undecided.take() else {
            return Answer::unavailable(Unavailable::Overloaded);
        };
        let (reply, answer) = oneshot::channel();
        self.ask(Asked { ask, deadline, reply, undecided, owed: None });
        answer.await.unwrap_or_else(|_| Answer::unavailable(Unavailable::Overloaded))
    }

    async fn ledger_command(&self, ask: Ask, deadline: Instant, patience: Instant) -> Answer {
        let Some(owed) = self.gauges.owed.take() else { return Answer::unavailable(Unavailable::Ledger) };
        let Some(undecided) = self.gauges.undecided.take() else {
            return Answer::unavailable(Unavailable::Overloaded);
        };
        let (reply, answer) = oneshot::channel();
        if !self.ask(Asked { ask, deadline, reply, undecided, owed: Some(owed) }) {
            return Answer::unavailable(Unavailable::Overloaded);
        }
        match tokio::time::timeout_at(patience, answer).await {
            Ok(Ok(answer)) => answer,
            // The actor died with the command: whether it was decided is for the key to tell.
            Ok(Err(_)) | Err(_) => Answer::unavailable(Unavailable::Ledger),
        }
    }

    pub async fn read<T>(
        &self,
        message: impl FnOnce(oneshot::Sender<T>, Permit) -> Message,
    ) -> Result<T, Unavailable> {
        let permit = self.gauges.undecided.take().ok_or(Unavailable::Overloaded)?;
        let (reply, answer) = oneshot::channel();
        self.send(message(reply, permit));
        answer.await.map_err(|_| Unavailable::Overloaded)
    }

    /// Whether somebody is there to decide it.
    fn ask(&self, asked: Asked) -> bool {
        match &*self.route.borrow() {
            Route::Serving { actor, inbox, .. } => {
                let told = !inbox.push(asked) || actor.send_message(Message::Asks).is_ok();
                if !told {
                    inbox.clear();
                }
                told
            }
            Route::Starting | Route::Stopped => false,
        }
    }

    /// Whether somebody was there to take it. A message that nobody takes is dropped with its permits.
    pub fn send(&self, message: Message) -> bool {
        match &*self.route.borrow() {
            Route::Serving { actor, .. } => actor.send_message(message).is_ok(),
            Route::Starting | Route::Stopped => false,
        }
    }
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
