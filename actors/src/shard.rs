//! A shard's actor: receive → step → perform the effects, with no `.await` in between. Not one `if`
//! about a seat.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use engine::entry::Fact;
use engine::handoff::{Attempt, End, Heard};
use engine::{
    ConcertId, Effect, Effects, Entry, Input, MirrorOp, OptionId, Outcome, Reason, Request, Reservation,
    ReservationId, SeatChange, Shard, Unavailable, UserId,
};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::batch::{Batch, Owed, Part};
use crate::clock::LedgerClock;
use crate::feed::{Hub, Inlet};
use crate::followers::{Followers, Selection};
use crate::gates::LivePasses;
use crate::handle::{Answer, Ask, Memory};
use crate::inbox::Inbox;
use crate::leases::Lease;
use crate::lock::lock;
use crate::mirror::check::Selecting;
use crate::mirror::{Call, Mirroring, OptionMirror};
use crate::observe::{Metrics, Op, SAMPLE, ShardGauges};
use crate::onward;
use crate::peers::Peers;
use crate::permits::Permit;
use crate::ports::{Ledger, Owner};
use crate::replies::{Replies, Reply, Waiting};
use crate::supervisor;
use crate::wake::Wake;
use crate::writer::Writer;

use self::moving::Moving;
use self::resync::Parked;
pub use self::resync::{Order, Quiet};

mod admission;
mod moving;
mod resync;
mod views;

/// How soon a shard whose lease ran out looks again whether it may let deadlines fall due.
const LEASE_RECHECK: Duration = Duration::from_millis(100);

/// Everything a shard's mailbox may hold.
pub enum Message {
    /// There are commands in the inbox.
    Asks,
    Batch(Batch),
    /// The ledger's answers. Always applied, lease or no lease.
    Ledger(Input),
    Tick,
    Reservation {
        id: ReservationId,
        reply: oneshot::Sender<Option<Reservation>>,
        permit: Permit,
    },
    /// What the user has selected in the option.
    Selection {
        user: UserId,
        option: OptionId,
        reply: oneshot::Sender<Selection>,
        permit: Permit,
    },
    Memory {
        reply: oneshot::Sender<Memory>,
        permit: Permit,
    },
    /// Every soft lock.
    Selecting {
        reply: oneshot::Sender<Selecting>,
        permit: Permit,
    },
    /// The mirror's task wants something.
    Mirror(Call),
    /// How many entries are not durable and how many answers are owed.
    Owed(oneshot::Sender<usize>),
    Resync(Order),
    /// The gate of a concert serves, and these are its passes.
    Gate(ConcertId, Arc<LivePasses>),
    /// Give the shard to another node. Answered when it is over.
    Move {
        no: u64,
        to: Arc<Owner>,
        done: oneshot::Sender<End>,
    },
    /// News of that.
    OfMove(Attempt, Heard),
    MoveTick(Attempt),
    /// Nothing comes any more after this: pass on the rest, and end.
    Retire,
    Halt(Halt),
}

/// For this process only: a shard is asked through its handle, never by a peer.
impl ractor::Message for Message {}

/// A command under its permits.
#[derive(Debug)]
pub struct Asked {
    pub ask: Ask,
    pub deadline: Instant,
    pub reply: oneshot::Sender<Answer>,
    /// Returns when the command is decided.
    pub undecided: Permit,
    /// Returns when it is answered, or when the actor dies.
    pub owed: Option<Permit>,
}

/// Why an actor stops, to be restored under a new epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Halt {
    #[error("memory and ledger disagree: {0:?}")]
    Engine(Reason),
    #[error("the ledger knows another owner or a newer epoch")]
    Fenced,
    #[error("the ledger holds another event in that place of the chain")]
    OtherHash,
    #[error("the mirror knows a newer epoch")]
    MirrorFenced,
    #[error("a gate of the shard has stopped")]
    Gate,
    #[error("a resync found another end of the chain in the ledger")]
    Resync,
    #[error("the ledger did not say whether the shard was handed over, and left it here")]
    TakenBack,
    /// A drill, see [`crate::Handle::crash`].
    #[error("crash")]
    Crash,
}

/// The actor. All it has is in its state.
pub struct ShardActor;

/// What a restored shard is started with.
pub struct Start {
    pub shard: Box<Shard>,
    pub inbox: Arc<Inbox<Asked>>,
    pub lease: Lease,
    pub clock: LedgerClock,
    pub gauges: Arc<ShardGauges>,
    /// Where the options that feed and mirror follow are noted.
    pub options: Arc<Mutex<BTreeSet<OptionId>>>,
    pub writer: Writer,
    pub mirror: Mirroring,
    pub hub: Arc<Hub>,
    pub followers: Arc<Followers>,
    pub metrics: Metrics,
    /// For moves.
    pub ledger: Arc<dyn Ledger>,
    pub peers: Arc<dyn Peers>,
    pub supervisor: ActorRef<supervisor::Message>,
}

/// Where an option's changes go.
struct Outlet {
    feed: Inlet,
    mirror: Arc<OptionMirror>,
}

/// A shard that serves.
pub struct Serving {
    start: Start,
    me: ActorRef<Message>,
    effects: Effects,
    replies: Replies,
    /// By option.
    outlets: Vec<(OptionId, Outlet)>,
    /// Whether an option is on its way into the ledger, so that its outlet must be opened.
    options_due: bool,
    /// Whose selections somebody follows and this message has changed.
    touched: Vec<(UserId, OptionId)>,
    /// Ledger commands that wait for the end of a resync.
    parked: Option<Parked>,
    moving: Option<Moving>,
    /// By concert.
    gates: BTreeMap<ConcertId, Arc<LivePasses>>,
    wake: Wake,
    clicks: u32,
    /// What was taken from the inbox; empty between turns.
    asked: Vec<Asked>,
}

impl Actor for ShardActor {
    type Msg = Message;
    type State = Serving;
    type Arguments = Start;

    async fn pre_start(&self, me: ActorRef<Message>, start: Start) -> Result<Serving, ActorProcessingErr> {
        let shard = &start.shard;
        start.gauges.epoch.store(shard.epoch().0, Ordering::Relaxed);
        start.writer.open(shard.id(), shard.epoch(), shard.head(), me.clone());
        let mut serving = Serving {
            wake: Wake::new(me.clone(), || Message::Tick),
            start,
            me,
            effects: Effects::new(),
            replies: Replies::default(),
            outlets: Vec::new(),
            options_due: false,
            touched: Vec::new(),
            parked: None,
            moving: None,
            gates: BTreeMap::new(),
            clicks: 0,
            asked: Vec::new(),
        };
        serving.open_outlets();
        serving.tell_what_was_restored();
        serving.rearm(Instant::now());
        Ok(serving)
    }

    async fn handle(
        &self,
        _me: ActorRef<Message>,
        message: Message,
        serving: &mut Serving,
    ) -> Result<(), ActorProcessingErr> {
        Ok(serving.receive(message)?)
    }
}

impl Serving {
    fn receive(&mut self, message: Message) -> Result<(), Halt> {
        let now = Instant::now();
        match message {
            Message::Asks => self.ask_inbox(now)?,
            Message::Batch(batch) => self.ask_all(now, batch)?,
            Message::Ledger(input) => {
                self.step(now, input)?;
                if std::mem::take(&mut self.options_due) {
                    self.open_outlets();
                }
            }
            Message::Tick => {
                self.wake.fired();
                if self.start.lease.allows(now) && !self.is_frozen() {
                    self.step(now, Input::Tick)?;
                }
            }
            // Whoever asked may have stopped waiting: the answer is then dropped with its permit.
            Message::Reservation { id, reply, permit: _permit } => {
                let _waits = reply.send(self.start.shard.reservation(id).cloned());
            }
            Message::Selection { user, option, reply, permit: _permit } => {
                let _waits = reply.send(self.selection(user, option));
            }
            Message::Memory { reply, permit: _permit } => {
                let _waits = reply.send(self.memory());
            }
            Message::Selecting { reply, permit: _permit } => {
                let _waits = reply.send(self.selecting());
            }
            Message::Owed(reply) => {
                let parked = self.parked.as_ref().map_or(0, Parked::len);
                let _waits = reply.send(self.start.shard.load().pending + self.replies.len() + parked);
            }
            Message::Mirror(Call::Rebuild(option)) => {
                if let Some(outlet) = self.outlet(option) {
                    outlet.mirror.rebuild(self.start.shard.soft_locks(option).collect());
                }
            }
            // What is being given away is compared by its next owner.
            Message::Resync(_) if self.moving.is_some() => {}
            Message::Resync(order) => self.resync(now, order)?,
            Message::Gate(concert, passes) => drop(self.gates.insert(concert, passes)),
            Message::Move { no, to, done } => self.begin_move(now, no, to, done),
            Message::OfMove(attempt, heard) => self.hear_of_move(now, attempt, heard)?,
            Message::MoveTick(attempt) => self.tick_move(now, attempt)?,
            Message::Retire => {
                self.ask_inbox(now)?;
                self.me.stop(Some("given away".to_owned()));
            }
            Message::Mirror(Call::Fenced(_)) => return Err(Halt::MirrorFenced),
            Message::Halt(Halt::Crash) => panic!("a crash was asked for"),
            Message::Halt(halt) => return Err(halt),
        }
        self.tell_if_quiet();
        self.tell_move_if_quiet(now)?;
        self.tell_followers();
        self.rearm(now);
        Ok(())
    }

    /// Decides everything that has come. What is left after a halt is dropped, and its callers hear of it.
    fn ask_inbox(&mut self, now: Instant) -> Result<(), Halt> {
        let mut asked = std::mem::take(&mut self.asked);
        self.start.inbox.take_into(&mut asked);
        let decided = asked.drain(..).try_for_each(|asked| self.ask(now, asked));
        self.asked = asked;
        decided
    }

    fn ask(&mut self, now: Instant, asked: Asked) -> Result<(), Halt> {
        let asked = match self.moving {
            None => asked,
            Some(_) => match self.offer(asked.into()) {
                Some(onward::Parked::One(asked)) => asked,
                _ => return Ok(()),
            },
        };
        let Asked { ask, deadline, reply, undecided, owed } = asked;
        if reply.is_closed() {
            return Ok(());
        }
        if now >= deadline || !self.start.lease.allows(now) {
            let outcome = Outcome::Unavailable(Unavailable::Overloaded);
            let _waits = reply.send(Answer { outcome, replayed: false });
            return Ok(());
        }
        let stepped = self.decide(now, ask, Reply::To(reply), owed);
        drop(undecided);
        stepped
    }

    /// One after the other, and one answer to all clicks. A halt in between answers what was decided.
    fn ask_all(&mut self, now: Instant, batch: Batch) -> Result<(), Halt> {
        let batch = match self.moving {
            None => batch,
            Some(_) => match self.offer(batch.into()) {
                Some(onward::Parked::Several(batch)) => batch,
                _ => return Ok(()),
            },
        };
        let Batch { parts, deadline, clicks, undecided: _undecided } = batch;
        if clicks.is_closed() {
            return Ok(());
        }
        let in_time = now < deadline && self.start.lease.allows(now);
        let mut stepped = Ok(());
        for Part { place, ask, later } in parts {
            let (reply, owed) = match later {
                None => (Reply::Together(place), None),
                Some(Owed { reply, permit }) => (Reply::To(reply), Some(permit)),
            };
            if in_time && stepped.is_ok() {
                stepped = self.decide(now, ask, reply, owed);
            } else {
                let waiting = Waiting { reply, owed, op: Op::of(&ask.command), since: None };
                let to = self.replies.insert(waiting);
                self.replies.answer(to, Answer::unavailable(Unavailable::Overloaded), &self.start.metrics);
            }
        }
        self.tell_followers();
        let _waits = clicks.send(self.replies.take_together());
        stepped
    }

    fn decide(&mut self, now: Instant, ask: Ask, reply: Reply, owed: Option<Permit>) -> Result<(), Halt> {
        if let Some(parked) = &mut self.parked
            && ask.command.reaches_ledger()
        {
            parked.push(ask, reply, owed);
            return Ok(());
        }
        self.clicks = self.clicks.wrapping_add(1);
        let is_timed = owed.is_some() || self.clicks.is_multiple_of(SAMPLE);
        let since = is_timed.then_some(now);
        let waiting = Waiting { reply, owed, op: Op::of(&ask.command), since };
        let reply = self.replies.insert(waiting);
        let Some(pass) = self.is_admitted(now, &ask) else {
            self.replies.answer(reply, Answer::unavailable(Unavailable::Overloaded), &self.start.metrics);
            return Ok(());
        };
        let Ask { caller, key, command, .. } = ask;
        self.step(now, Input::Command(Request { reply, caller, key, pass, command }))
    }

    /// One step and everything that follows from it. What fell due is counted apart from what was asked.
    fn step(&mut self, now: Instant, input: Input) -> Result<(), Halt> {
        let time = self.start.clock.at(now);
        if !self.is_frozen() && self.start.shard.next_wake().is_some_and(|due| due <= time) {
            self.start.shard.step(time, Input::Tick, &mut self.effects);
            self.count_expired();
            self.perform(now)?;
        }
        if !matches!(input, Input::Tick) {
            self.start.shard.step(time, input, &mut self.effects);
            self.perform(now)?;
        }
        Ok(())
    }

    fn perform(&mut self, now: Instant) -> Result<(), Halt> {
        let mut effects = std::mem::take(&mut self.effects);
        let mut halt = None;
        for effect in effects.drain(..) {
            match effect {
                Effect::Reply { to, outcome, replayed } => {
                    self.give_back_if_bought(&outcome);
                    self.replies.answer(to, Answer { outcome, replayed }, &self.start.metrics);
                }
                Effect::Append(entry) => self.append(entry),
                Effect::Mirror(op) => self.mirror(op),
                Effect::Publish(change) => self.publish(now, change),
                Effect::Halt(reason) => halt = Some(Halt::Engine(reason)),
            }
        }
        self.effects = effects;
        halt.map_or(Ok(()), Err)
    }

    fn append(&mut self, entry: Box<Entry>) {
        self.options_due |= matches!(entry.fact, Fact::Option { version: 1, .. });
        self.start.writer.append(self.start.shard.id(), self.start.shard.epoch(), entry);
    }

    fn publish(&self, now: Instant, change: SeatChange) {
        // Every option of the shard has an outlet before its first change.
        if let Some(outlet) = self.outlet(change.option) {
            outlet.feed.apply(now, &change);
        }
    }

    fn mirror(&mut self, op: MirrorOp) {
        let (user, option) = match op {
            MirrorOp::Lock(lock) => (lock.user, lock.option),
            MirrorOp::Unlock { option, user, .. } => (user, option),
        };
        if !self.start.followers.is_empty() {
            self.touch(user, option);
        }
        if let Some(outlet) = self.outlet(option) {
            outlet.mirror.push(op);
        }
    }

    fn outlet(&self, option: OptionId) -> Option<&Outlet> {
        let place = self.outlets.binary_search_by_key(&option, |(option, _)| *option).ok()?;
        Some(&self.outlets[place].1)
    }

    fn touch(&mut self, user: UserId, option: OptionId) {
        if !self.touched.contains(&(user, option)) && self.start.followers.has(user) {
            self.touched.push((user, option));
        }
    }

    /// Opens feed and mirror of the options that have none yet.
    fn open_outlets(&mut self) {
        let shard = &self.start.shard;
        let epoch = shard.epoch();
        let mut served = lock(&self.start.options);
        for view in shard.options() {
            let option = view.option;
            let Err(place) = self.outlets.binary_search_by_key(&option, |(option, _)| *option) else {
                continue;
            };
            let feed = self.start.hub.open(option, epoch, view.feed_seq, shard.seat_states(option));
            let me = self.me.clone();
            let call = Arc::new(move |call| {
                // An actor that is gone opens its mirror anew when it is restored.
                let _lives = me.send_message(Message::Mirror(call));
            });
            let mirror = self.start.mirror.open(option, epoch, shard.soft_locks(option).collect(), call);
            self.outlets.insert(place, (option, Outlet { feed, mirror }));
            served.insert(option);
        }
    }

    /// A tick frees soft locks and sends expiries to the ledger; nothing else.
    fn count_expired(&self) {
        for effect in &self.effects {
            match effect {
                Effect::Mirror(MirrorOp::Unlock { .. }) => {
                    self.start.metrics.expired_soft_locks().inc();
                }
                Effect::Append(_) => {
                    self.start.metrics.expired_holds().inc();
                }
                _ => {}
            }
        }
    }

    /// Asks for the next tick and shows the scrape where the shard stands.
    fn rearm(&mut self, now: Instant) {
        let load = self.start.shard.load();
        self.start.gauges.soft_locks.store(load.soft_locks, Ordering::Relaxed);
        self.start.gauges.holds.store(load.holds, Ordering::Relaxed);
        let Some(due) = self.start.shard.next_wake().filter(|due| self.wake.is_needed(*due)) else { return };
        let mut at = now + Duration::from(due.since(self.start.clock.at(now)));
        if !self.start.lease.allows(now) {
            at = at.max(now + LEASE_RECHECK);
        }
        self.wake.arm(due, at);
    }
}
