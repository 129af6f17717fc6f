//! The actor's part of a move: the shell around [`engine::handoff::Departure`]. It parks commands, has each order
//! carried out by a task of its own, and passes on what was parked to whoever the end names.

use std::sync::Arc;
use std::time::Duration;

use engine::handoff::{Answer, Attempt, Departure, End, Heard, Offer, Order, Owner as Whom, Patience, Phase};
use engine::limits::UNDECIDED_COMMANDS;
use engine::{Epoch, Moment, ShardId, SoftLock};
use ractor::ActorRef;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::{Asked, Halt, Message, Serving};
use crate::batch::Batch;
use crate::onward::{self, Parked};
use crate::peers::{Call, PeerError, Peers, Returned};
use crate::ports::{Ledger, LedgerError, Owner};
use crate::reach::micros;
use crate::supervisor;

/// How long the new owner may take to answer one call.
const CALL: Duration = Duration::from_secs(10);

/// A move of this shard.
pub(super) struct Moving {
    machine: Departure<Parked>,
    to: Arc<Owner>,
    base: Instant,
    done: Option<oneshot::Sender<End>>,
    /// Once the shard is the new owner's.
    onward: Option<mpsc::UnboundedSender<Parked>>,
}

impl Moving {
    /// Whether nothing may change: the state is being copied, or is somebody else's.
    fn is_frozen(&self) -> bool {
        self.machine.phase() != Phase::Preparing
    }

    fn now(&self, now: Instant) -> Moment {
        Moment(micros(now.saturating_duration_since(self.base)))
    }
}

impl Serving {
    pub(super) fn is_frozen(&self) -> bool {
        self.moving.as_ref().is_some_and(Moving::is_frozen)
    }

    pub(super) fn begin_move(&mut self, now: Instant, no: u64, to: Arc<Owner>, done: oneshot::Sender<End>) {
        if self.moving.is_some() || self.parked.is_some() {
            // Dropped, which says that the move has ended: another one, or a resync, is under way.
            return;
        }
        if let Some(concert) = self.unmirrored_gate() {
            tracing::warn!(shard = %self.start.shard.id(), %concert, "the shard stays: the mirror does not have its gate's line");
            return;
        }
        let mut orders = Vec::new();
        let attempt = Attempt { epoch: self.start.shard.epoch(), no };
        let patience = Patience::default();
        let machine = Departure::begin(attempt, patience, UNDECIDED_COMMANDS, Moment(0), &mut orders);
        self.moving = Some(Moving { machine, to, base: now, done: Some(done), onward: None });
        // The first order changes nothing here.
        for order in orders {
            self.carry_out(order);
        }
        self.watch_move();
    }

    pub(super) fn hear_of_move(&mut self, now: Instant, attempt: Attempt, heard: Heard) -> Result<(), Halt> {
        self.turn_move(now, attempt, |moving, at, orders| moving.machine.hear(at, heard, orders))
    }

    pub(super) fn tick_move(&mut self, now: Instant, attempt: Attempt) -> Result<(), Halt> {
        self.turn_move(now, attempt, |moving, at, orders| moving.machine.tick(at, orders))
    }

    /// Everything is durable, if the move waits for that.
    pub(super) fn tell_move_if_quiet(&mut self, now: Instant) -> Result<(), Halt> {
        let flushing = self.moving.as_ref().filter(|moving| moving.machine.phase() == Phase::Flushing);
        match flushing.map(|moving| moving.machine.attempt()) {
            Some(attempt) if self.start.shard.is_quiet() => self.hear_of_move(now, attempt, Heard::Quiet),
            _ => Ok(()),
        }
    }

    fn turn_move(
        &mut self,
        now: Instant,
        attempt: Attempt,
        turn: impl FnOnce(&mut Moving, Moment, &mut Vec<Order>),
    ) -> Result<(), Halt> {
        let mut orders = Vec::new();
        match self.moving.as_mut().filter(|moving| moving.machine.attempt() == attempt) {
            Some(moving) => {
                let at = moving.now(now);
                turn(moving, at, &mut orders);
            }
            None => return Ok(()),
        }
        for order in orders {
            match order {
                Order::End(end) => self.end_move(now, end)?,
                order => self.carry_out(order),
            }
        }
        self.watch_move();
        Ok(())
    }

    /// A command that comes during a move; it comes back where it is to be decided here and now.
    pub(super) fn offer(&mut self, parked: Parked) -> Option<Parked> {
        let Some(moving) = &mut self.moving else { return Some(parked) };
        match moving.machine.offer(parked) {
            Offer::Decide(parked) => Some(parked),
            Offer::Parked => None,
            Offer::Full(parked) => {
                parked.refuse();
                None
            }
            Offer::Over(parked) => {
                match &moving.onward {
                    // The task lives as long as the sender.
                    Some(onward) => drop(onward.send(parked)),
                    None => parked.refuse(),
                }
                None
            }
        }
    }

    fn carry_out(&self, order: Order) {
        let Some(moving) = &self.moving else { return };
        let errand = Errand {
            ledger: self.start.ledger.clone(),
            peers: self.start.peers.clone(),
            to: moving.to.clone(),
            shard: self.start.shard.id(),
            attempt: moving.machine.attempt(),
            me: self.me.clone(),
        };
        match order {
            // What is parked from now on the machine knows; that all is durable the next message says.
            Order::Flush => drop(self.me.send_message(Message::MoveTick(moving.machine.attempt()))),
            Order::Copy => drop(tokio::spawn(errand.copy(self.start.shard.carry()))),
            Order::Warm => drop(tokio::spawn(errand.warm())),
            Order::HandOver => drop(tokio::spawn(errand.hand_over())),
            Order::TakeBack => drop(tokio::spawn(errand.take_back())),
            Order::ReadRow => drop(tokio::spawn(errand.read_row())),
            Order::End(_) => {}
        }
    }

    /// Asks for the machine's next tick. One too many finds nothing to do.
    fn watch_move(&self) {
        let Some(moving) = &self.moving else { return };
        let Some(due) = moving.machine.next_wake() else { return };
        let (me, attempt) = (self.me.clone(), moving.machine.attempt());
        let at = moving.base + Duration::from_micros(due.0);
        tokio::spawn(async move {
            tokio::time::sleep_until(at).await;
            let _lives = me.send_message(Message::MoveTick(attempt));
        });
    }

    fn end_move(&mut self, now: Instant, end: End) -> Result<(), Halt> {
        let Some(mut moving) = self.moving.take() else { return Ok(()) };
        let (shard, epoch) = (self.start.shard.id(), self.start.shard.epoch());
        let parked = moving.machine.take_parked();
        let attempt = moving.machine.attempt();
        self.start.metrics.moved(end);
        if let Some(done) = moving.done.take() {
            let _waits = done.send(end);
        }
        match end {
            End::Moved(next) => {
                let onward = onward::start(shard, moving.to.clone(), self.start.peers.clone());
                for one in parked {
                    // The task lives as long as the sender.
                    drop(onward.send(one));
                }
                let call = Call::HandedOver(shard, attempt);
                tell(self.start.peers.clone(), moving.to.clone(), call);
                let to = moving.to.clone();
                self.tell_supervisor(supervisor::Message::Moved { shard, epoch, next, to });
                moving.onward = Some(onward);
                self.moving = Some(moving);
                Ok(())
            }
            End::Resumed(_) => {
                tell(self.start.peers.clone(), moving.to, Call::Resumed(shard, attempt));
                for one in parked {
                    match one {
                        Parked::One(asked) => self.ask(now, asked)?,
                        Parked::Several(batch) => self.ask_all(now, batch)?,
                    }
                }
                Ok(())
            }
            End::TakenBack(next) => {
                self.tell_supervisor(supervisor::Message::Raised(shard, next));
                Err(Halt::TakenBack)
            }
            End::Halted => Ok(()),
            End::Lost => {
                self.tell_supervisor(supervisor::Message::Lost(shard, epoch));
                parked.into_iter().for_each(Parked::refuse);
                Ok(())
            }
        }
    }

    fn tell_supervisor(&self, message: supervisor::Message) {
        // It outlives its children.
        let _lives = self.start.supervisor.send_message(message);
    }
}

/// Tells the new owner something that it also finds out by itself.
fn tell(peers: Arc<dyn Peers>, to: Arc<Owner>, call: Call) {
    tokio::spawn(async move {
        if let Err(error) = peers.call(&to, call, Instant::now() + CALL).await {
            tracing::debug!(%error, node = to.node, "the new owner was not told");
        }
    });
}

/// What carries out an order, and says what came of it.
struct Errand {
    ledger: Arc<dyn Ledger>,
    peers: Arc<dyn Peers>,
    to: Arc<Owner>,
    shard: ShardId,
    attempt: Attempt,
    me: ActorRef<Message>,
}

impl Errand {
    async fn warm(self) {
        let call = Call::Prepare(self.shard, self.attempt);
        self.call(call, Heard::Ready).await;
    }

    async fn copy(self, locks: Vec<SoftLock>) {
        let call = Call::Hold(self.shard, self.attempt, locks);
        self.call(call, Heard::Holding).await;
    }

    async fn call(self, call: Call, done: Heard) {
        match self.peers.call(&self.to, call, Instant::now() + CALL).await {
            Ok(Returned::Done) => self.say(done),
            Ok(_) | Err(PeerError::Refused(_)) => self.say(Heard::Declined),
            // It may have heard: the machine waits as long as it has patience.
            Err(error) => tracing::debug!(%error, shard = %self.shard, "no word from the new owner"),
        }
    }

    async fn hand_over(self) {
        let answer = answered(self.ledger.hand_over(self.shard, self.attempt.epoch, &self.to).await);
        self.say(Heard::HandedOver(answer));
    }

    async fn take_back(self) {
        let answer = answered(self.ledger.acquire_again(self.shard, self.attempt.epoch).await);
        self.say(Heard::TookBack(answer));
    }

    async fn read_row(self) {
        let Ok((_, rows)) = self.ledger.leases().await else { return };
        let Some(row) = rows.iter().find(|row| row.shard == self.shard) else { return };
        let me = self.ledger.me().id;
        let owner = match row.owner.id {
            id if row.is_released || (id != me && id != self.to.id) => Whom::Other,
            id if id == me => Whom::Me,
            _ => Whom::Target,
        };
        self.say(Heard::Row(row.epoch, owner));
    }

    fn say(&self, heard: Heard) {
        // An actor that died takes the move with it.
        let _lives = self.me.send_message(Message::OfMove(self.attempt, heard));
    }
}

fn answered(answer: Result<Option<Epoch>, LedgerError>) -> Answer {
    match answer {
        Ok(Some(_)) => Answer::Row,
        Ok(None) => Answer::NoRow,
        Err(error) => {
            tracing::warn!(%error, "what became of the hand-over is not known yet");
            Answer::Unknown
        }
    }
}

impl From<Asked> for Parked {
    fn from(asked: Asked) -> Self {
        Self::One(asked)
    }
}

impl From<Batch> for Parked {
    fn from(batch: Batch) -> Self {
        Self::Several(batch)
    }
}
