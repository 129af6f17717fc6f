//! A move as operators are told of it, whichever node they ask.

use engine::{ShardId, Span, Time};

/// A shard on its way from one node to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoveInfo {
    /// `None`: only planned.
    pub id: Option<MoveId>,
    pub shard: ShardId,
    pub from: String,
    pub to: String,
    pub state: MoveState,
    /// When it came into its state.
    pub since: Time,
    /// Until it has ended, where that can be told.
    pub eta: Option<Span>,
}

/// A UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MoveId(pub u128);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MoveState {
    /// Somebody asked what would be moved.
    Planned,
    /// For its turn.
    Waiting,
    /// The new owner reads what takes long; the shard serves.
    Preparing,
    /// Commands wait until the new owner has the shard.
    Moving,
    Done,
    /// The shard serves where it was, or wherever the ledger says. The reason is a sentence for operators.
    Failed(String),
}

impl MoveState {
    /// Whether it is on its way: begun, and not ended.
    #[must_use]
    pub const fn is_under_way(&self) -> bool {
        matches!(self, Self::Preparing | Self::Moving)
    }

    #[must_use]
    pub const fn has_ended(&self) -> bool {
        matches!(self, Self::Done | Self::Failed(_))
    }

    /// How far it is: of two that tell of the same move, the one who knows more is further.
    #[must_use]
    pub const fn rank(&self) -> u8 {
        match self {
            Self::Planned => 0,
            Self::Waiting => 1,
            Self::Preparing => 2,
            Self::Moving => 3,
            Self::Done | Self::Failed(_) => 4,
        }
    }
}
