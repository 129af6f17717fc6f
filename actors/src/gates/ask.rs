//! What may be asked of a gate, and what it says.

use engine::gate::{Left, Load, Policy, PolicyFault, Standing};
use engine::{ConcertId, Epoch, ShardId, Unavailable, UserId};
use tokio::time::Instant;

use super::ports::GateRow;
use crate::ports::Owner;

/// A question to the owner of a gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GateAsk {
    /// Wait in line. Again: the same turn, the same answer.
    Join(UserId),
    /// How it stands with somebody. Counts as a heartbeat.
    Status(UserId),
    Leave(UserId),
    /// These are still there.
    Heartbeats(Vec<UserId>),
    /// Set it; durable before it is answered.
    Set {
        policy: Policy,
        by: UserId,
    },
    /// The public beacon has said this in the round that the draw waits for; nothing: draw without it.
    Beacon {
        round: u64,
        value: Option<[u8; 32]>,
    },
    /// How the gate is.
    Info,
}

impl GateAsk {
    /// Whether a gate that is up answers it at once, or when the mirror has it, and looks at the deadline itself: a timer
    /// for each join would cost more than the gate does.
    pub(super) const fn is_answered_in_time(&self) -> bool {
        match self {
            Self::Join(_) | Self::Status(_) | Self::Leave(_) | Self::Heartbeats(_) | Self::Beacon { .. } => {
                true
            }
            // The ledger has a word in it, or there may be no gate yet.
            Self::Set { .. } | Self::Info => false,
        }
    }

    /// What is said where nobody knows what became of it.
    pub(super) const fn unknown(&self) -> Unavailable {
        match self {
            Self::Set { .. } => Unavailable::Ledger,
            _ => Unavailable::Overloaded,
        }
    }
}

/// Its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GateSaid {
    /// Not `durable`: the mirror is away, and a crash of the owner now would lose it.
    Standing {
        standing: Standing,
        durable: bool,
    },
    Left {
        left: Left,
        durable: bool,
    },
    /// To heartbeats and to a beacon's word.
    Heard,
    /// Not `changed`: it was so before.
    Set {
        changed: bool,
        row: GateRow,
    },
    Refused(PolicyFault),
    /// No draw waits for that round.
    NoSuchRound,
    Info(GateInfo),
}

/// A gate as operators see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GateInfo {
    /// `None`: nobody ever set it, and it is off.
    pub row: Option<GateRow>,
    pub load: Load,
    /// Whether the mirror follows.
    pub durable: bool,
}

/// A question on its way to the owner of its shard.
#[derive(Clone, Debug)]
pub struct GateForward {
    pub shard: ShardId,
    pub concert: ConcertId,
    pub ask: GateAsk,
    /// After it nobody waits any more.
    pub deadline: Instant,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GateReply {
    Said(Result<GateSaid, Unavailable>),
    /// The shard is somebody else's, as far as the node that was asked knows.
    NotOwner(Option<(Epoch, Owner)>),
    /// It did not leave this node.
    NotSent,
}
