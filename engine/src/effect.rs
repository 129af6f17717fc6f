//! What a step asks the shell to do. Effects are values; one exhaustive match performs them, in order.

use crate::entry::{ChainHead, Entry, SoftLock};
use crate::ids::{EntryNo, OptionId, ReplyTo, SeatNo, UserId};
use crate::outcome::{Outcome, SeatState};

/// Everything that can happen to a shard.
#[derive(Clone, Debug)]
pub enum Input {
    Command(crate::command::Request),
    /// Time has passed; due deadlines fire. Every input does that first, this one does only that.
    Tick,
    /// The ledger has every entry up to and including `upto`.
    Applied {
        upto: EntryNo,
        head: ChainHead,
    },
    /// The ledger definitely refused this entry: memory and ledger disagree.
    Refused {
        entry: EntryNo,
    },
}

/// One thing for the shell to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Answer the command. `replayed`: the first answer to its key, again.
    Reply { to: ReplyTo, outcome: Outcome, replayed: bool },
    /// Write this to the ledger, in order, and report [`Input::Applied`] or [`Input::Refused`].
    Append(Box<Entry>),
    /// Tell the mirror.
    Mirror(MirrorOp),
    /// Tell the viewers.
    Publish(SeatChange),
    /// Stop: the shard must be restored from the ledger under a new epoch. Always the last effect.
    Halt(Reason),
}

/// A change of the mirror's copy of the soft locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MirrorOp {
    Lock(SoftLock),
    /// `user` had the soft lock.
    Unlock {
        option: OptionId,
        seat: SeatNo,
        user: UserId,
    },
}

/// A seat's new public state and the place of the change in its option's feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeatChange {
    pub option: OptionId,
    pub seat: SeatNo,
    pub state: SeatState,
    /// Rises by one with each change of the option within an epoch; the first is 1.
    pub feed_seq: u64,
}

/// Why a shard stops itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The ledger refused an entry that memory had allowed.
    LedgerRefused(EntryNo),
    /// The shell reported an entry that is not pending: shell and engine disagree.
    EntryUnknown(EntryNo),
}

/// The caller's buffer, reused from step to step.
pub type Effects = Vec<Effect>;
