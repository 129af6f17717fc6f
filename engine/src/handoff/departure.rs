//! The old owner's half of a move.

use std::collections::VecDeque;

use super::{Answer, Attempt, Patience};
use crate::ids::Epoch;
use crate::time::Moment;

/// Moves one shard away. `C` is a command with whoever waits for its answer.
#[derive(Debug)]
pub struct Departure<C> {
    attempt: Attempt,
    patience: Patience,
    phase: Phase,
    /// When the phase is given up, or its question asked again.
    deadline: Moment,
    parked: VecDeque<C>,
    room: usize,
}

/// How far a move is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The new owner warms up; commands are decided as ever.
    Preparing,
    /// Commands are parked, entries become durable.
    Flushing,
    /// The new owner gets what the ledger does not have, and reads the rest.
    Copying,
    /// The ledger was asked to change the owner.
    HandingOver,
    /// It did not say whether it has: it was asked to leave it.
    TakingBack,
    /// It has another owner than this node in epoch e: who?
    Asking,
    Ended(End),
}

/// How a move ends. What is parked then goes, in order, to whoever the end names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The new owner has the shard: send it what is parked. This node's lease has ended.
    Moved(Epoch),
    /// Nothing has changed: decide what is parked, here and now.
    Resumed(Why),
    /// The shard is still this node's, in this new epoch: restore it, then decide what is parked.
    TakenBack(Epoch),
    /// The shard has halted: restore it as ever, then decide what is parked.
    Halted,
    /// The shard is not this node's any more, and not by this move: what is parked is answered `NotOwner`.
    Lost,
}

/// Why a move was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The new owner will not have it.
    Declined,
    /// The new owner was not ready in time.
    NotReady,
    /// Flushing and copying took longer than clicks may be kept waiting.
    TooSlow,
}

/// What the machine is told. News of another attempt are not for it: see [`Departure::attempt`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The new owner is warm.
    Ready,
    /// The new owner will not have the shard, or has dropped it.
    Declined,
    /// Every entry of the shard is durable, and the shard has been told.
    Quiet,
    /// The new owner has the whole state.
    Holding,
    /// The answer to [`Order::HandOver`].
    HandedOver(Answer),
    /// The answer to [`Order::TakeBack`].
    TookBack(Answer),
    /// The answer to [`Order::ReadRow`].
    Row(Epoch, Owner),
    /// A renewal says that this node does not own epoch e.
    NotOwner,
    /// The shard has halted.
    Halted,
}

/// Whom the lease row names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    Me,
    /// The node the shard was meant for.
    Target,
    /// Another node, or nobody.
    Other,
}

/// What the shell does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Ask the new owner to warm up, and tell it the attempt.
    Warm,
    /// Give the shard nothing any more but what the ledger answers, and say when it is quiet.
    Flush,
    /// Send the new owner what the ledger does not have: `Shard::carry`.
    Copy,
    /// `epoch + 1` and the new owner into the lease row, `where epoch = e and owner = me`.
    HandOver,
    /// `epoch + 1` and this node into the lease row, under the same condition.
    TakeBack,
    /// Who has the shard, and in which epoch?
    ReadRow,
    /// The move is over.
    End(End),
}

/// What becomes of a command that comes during a move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Offer<C> {
    /// Nothing is parked yet: decide it.
    Decide(C),
    Parked,
    /// There is no room: refuse it undecided. None that comes after it is parked either.
    Full(C),
    /// The move is over: it goes where the parked went, after them.
    Over(C),
}

impl<C> Departure<C> {
    /// A move begins. At most `room` commands are parked.
    pub fn begin(
        attempt: Attempt,
        patience: Patience,
        room: usize,
        now: Moment,
        orders: &mut Vec<Order>,
    ) -> Self {
        orders.push(Order::Warm);
        let deadline = now + patience.warm;
        Self { attempt, patience, phase: Phase::Preparing, deadline, parked: VecDeque::new(), room }
    }

    /// The move that this is. Whatever another one's messages say is to be ignored.
    #[must_use]
    pub const fn attempt(&self) -> Attempt {
        self.attempt
    }

    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// A command comes.
    pub fn offer(&mut self, command: C) -> Offer<C> {
        match self.phase {
            Phase::Preparing => Offer::Decide(command),
            Phase::Ended(_) => Offer::Over(command),
            _ if self.parked.len() >= self.room => Offer::Full(command),
            _ => {
                self.parked.push_back(command);
                Offer::Parked
            }
        }
    }

    /// The parked commands in the order they came; for when the move is over.
    pub fn take_parked(&mut self) -> VecDeque<C> {
        std::mem::take(&mut self.parked)
    }

    /// When [`Self::tick`] is due; `None` when the move is over.
    #[must_use]
    pub const fn next_wake(&self) -> Option<Moment> {
        if matches!(self.phase, Phase::Ended(_)) { None } else { Some(self.deadline) }
    }

    /// Something is known now. What does not belong to the phase is ignored: it is late.
    pub fn hear(&mut self, now: Moment, heard: Heard, orders: &mut Vec<Order>) {
        match self.phase {
            Phase::Preparing => self.preparing(now, heard, orders),
            Phase::Flushing | Phase::Copying => self.parking(now, heard, orders),
            Phase::HandingOver | Phase::TakingBack | Phase::Asking => self.deciding(now, heard, orders),
            Phase::Ended(_) => {}
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Moment, orders: &mut Vec<Order>) {
        if now < self.deadline {
            return;
        }
        match self.phase {
            Phase::Preparing => self.end(End::Resumed(Why::NotReady), orders),
            Phase::Flushing | Phase::Copying => self.end(End::Resumed(Why::TooSlow), orders),
            Phase::HandingOver | Phase::TakingBack => self.take_back(now, orders),
            Phase::Asking => self.ask(now, orders),
            Phase::Ended(_) => {}
        }
    }

    fn preparing(&mut self, now: Moment, heard: Heard, orders: &mut Vec<Order>) {
        match heard {
            Heard::Ready => {
                self.deadline = now + self.patience.park;
                self.phase = Phase::Flushing;
                orders.push(Order::Flush);
            }
            _ => self.undone(heard, orders),
        }
    }

    fn parking(&mut self, now: Moment, heard: Heard, orders: &mut Vec<Order>) {
        match (self.phase, heard) {
            (Phase::Flushing, Heard::Quiet) => {
                self.phase = Phase::Copying;
                orders.push(Order::Copy);
            }
            (Phase::Copying, Heard::Holding) => {
                self.phase = Phase::HandingOver;
                self.deadline = now + self.patience.ledger;
                orders.push(Order::HandOver);
            }
            _ => self.undone(heard, orders),
        }
    }

    /// What ends a move that the ledger does not know of yet.
    fn undone(&mut self, heard: Heard, orders: &mut Vec<Order>) {
        match heard {
            Heard::Declined => self.end(End::Resumed(Why::Declined), orders),
            Heard::NotOwner => self.end(End::Lost, orders),
            Heard::Halted => self.end(End::Halted, orders),
            _ => {}
        }
    }

    /// The hand-over was sent: from here on only the ledger's word counts.
    fn deciding(&mut self, now: Moment, heard: Heard, orders: &mut Vec<Order>) {
        let next = Epoch(self.attempt.epoch.0 + 1);
        match (self.phase, heard) {
            (_, Heard::HandedOver(Answer::Row)) => self.end(End::Moved(next), orders),
            (_, Heard::TookBack(Answer::Row)) => self.end(End::TakenBack(next), orders),
            (Phase::HandingOver, Heard::HandedOver(Answer::Unknown)) => self.take_back(now, orders),
            (Phase::HandingOver, Heard::HandedOver(Answer::NoRow) | Heard::NotOwner)
            | (Phase::TakingBack, Heard::TookBack(Answer::NoRow) | Heard::NotOwner) => self.ask(now, orders),
            (Phase::Asking, Heard::Row(epoch, owner)) => match owner {
                Owner::Target if epoch == next => self.end(End::Moved(next), orders),
                Owner::Me if epoch == next => self.end(End::TakenBack(next), orders),
                Owner::Me if epoch == self.attempt.epoch => self.take_back(now, orders),
                _ => self.end(End::Lost, orders),
            },
            // An unknown outcome of a question that is asked again anyway, when its time is over.
            _ => {}
        }
    }

    fn take_back(&mut self, now: Moment, orders: &mut Vec<Order>) {
        self.phase = Phase::TakingBack;
        self.deadline = now + self.patience.ledger;
        orders.push(Order::TakeBack);
    }

    fn ask(&mut self, now: Moment, orders: &mut Vec<Order>) {
        self.phase = Phase::Asking;
        self.deadline = now + self.patience.ledger;
        orders.push(Order::ReadRow);
    }

    fn end(&mut self, end: End, orders: &mut Vec<Order>) {
        self.phase = Phase::Ended(end);
        orders.push(Order::End(end));
    }
}

#[cfg(test)]
mod tests;
