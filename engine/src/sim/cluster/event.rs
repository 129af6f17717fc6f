//! What happens, and what nodes tell each other.

use super::database::{Said, Statement};
use super::node::Incarnation;
use crate::command::Request;
use crate::effect::Input;
use crate::entry::SoftLock;
use crate::handoff::Attempt;
use crate::ids::{Epoch, ReplyTo, ShardId, UserId};
use crate::lease::Knock;
use crate::outcome::Outcome;
use crate::sim::pipe::Parcel;
use crate::time::Moment;

/// What happens. Events of an incarnation die with it, and wait while it stands still.
pub enum Event {
    Commands,
    /// An ingress looks what a session may send.
    Pump(Incarnation, ShardId, UserId),
    /// A client asks again, after the faults.
    Again(ShardId, Box<Request>),
    Start(usize),
    /// The node has given its shards away as far as it may.
    Stop(Incarnation),
    /// It looks whether everything is written.
    Flushed(Incarnation, u32),
    /// It has given its leases back, or will not.
    Exit(Incarnation),
    /// The session with that process ends, by a FIN or an RST.
    SessionEnded(Incarnation, Incarnation),
    /// Somebody knocks at a process's ports.
    Knock(Incarnation, Incarnation),
    Knocked(Incarnation, Incarnation, [Knock; 3]),
    /// The ledger's standby takes over.
    FailOver,
    /// The node stops standing still.
    Thaw(Incarnation),
    Beat(Incarnation),
    /// Nobody has answered this question.
    TimeOut(Incarnation, u64),
    HopTimeOut(Incarnation, u64),
    AcquireAgain(Incarnation, ShardId),
    Wake {
        me: Incarnation,
        shard: ShardId,
        epoch: Epoch,
        planned: i64,
    },
    /// A move's machines may have waited long enough.
    Alarm(Incarnation, ShardId),
    Warmed(Incarnation, ShardId, Attempt),
    Deliver {
        from: Incarnation,
        to: usize,
        message: Message,
    },
    /// A statement reaches the ledger.
    Ask(Statement),
    Commit(Statement),
    /// An answer of the ledger reaches the node.
    Said {
        to: Incarnation,
        no: u64,
        said: Said,
    },
    Mirror {
        me: Incarnation,
        shard: ShardId,
        parcel: Parcel,
    },
    MirrorFlush {
        me: Incarnation,
        shard: ShardId,
        epoch: Epoch,
    },
}

/// What nodes tell each other.
#[derive(Clone, Debug)]
pub enum Message {
    Hello {
        draining: bool,
    },
    HowIsTheLedger(Moment),
    /// `asked`: to which question this is the answer; `None` when it is pushed.
    TheLedger {
        asked: Option<Moment>,
        away: bool,
    },
    Route(ShardId, Epoch, usize),
    Warm(ShardId, Attempt),
    Ready(ShardId, Attempt),
    State(ShardId, Attempt, Vec<SoftLock>),
    Holding(ShardId, Attempt),
    Declined(ShardId, Attempt),
    HandedOver(ShardId, Attempt),
    Resumed(ShardId, Attempt),
    Forward {
        hop: u64,
        shard: ShardId,
        requests: Vec<Request>,
    },
    Reply {
        hop: u64,
        reply: ReplyTo,
        outcome: Outcome,
    },
    NotOwner {
        hop: u64,
        replies: Vec<ReplyTo>,
        route: Option<(Epoch, usize)>,
    },
}

impl Event {
    /// Whose it is, if it is one process's.
    pub const fn of(&self) -> Option<Incarnation> {
        match self {
            Self::Thaw(me)
            | Self::Stop(me)
            | Self::Flushed(me, _)
            | Self::Exit(me)
            | Self::SessionEnded(me, _)
            | Self::Knocked(me, ..)
            | Self::Pump(me, ..)
            | Self::Beat(me)
            | Self::TimeOut(me, _)
            | Self::HopTimeOut(me, _)
            | Self::AcquireAgain(me, _)
            | Self::Wake { me, .. }
            | Self::Alarm(me, _)
            | Self::Warmed(me, ..)
            | Self::Said { to: me, .. }
            | Self::MirrorFlush { me, .. } => Some(*me),
            _ => None,
        }
    }
}

/// An input in one line of a trace.
pub fn shown(input: &Input) -> String {
    match input {
        Input::Command(Request { reply, caller, key, command, .. }) => {
            let key = key.map(|key| format!("{:x}", key.0)).unwrap_or_default();
            let command = format!("{command:?}").chars().take(160).collect::<String>();
            format!("#{reply} user {} key [{key}] {command}", caller.user)
        }
        other => format!("{other:?}"),
    }
}
