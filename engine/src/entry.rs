//! Facts for the ledger: what happened, complete, without an encoding. The writer seals them.

use std::sync::Arc;

use crate::ids::{ConcertId, EntryNo, OptionId, RequestKey, UserId};
use crate::option::{OptionStatus, Policy};
use crate::plan::Layout;
use crate::reservation::{Kind, Reservation, Status};
use crate::time::Time;

/// One event. A shard's entries are durable in the order of their numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub no: EntryNo,
    pub at: Time,
    /// Who asked; user 0 is the shard itself (an expiry, an option it was told to add).
    pub caller: UserId,
    /// The request this answers, when it carried an idempotency key.
    pub request: Option<RequestMark>,
    pub fact: Fact,
}

/// A request's key and what it asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestMark {
    pub key: RequestKey,
    /// [`crate::command::Command::content`] of the request.
    pub content: u64,
}

/// What the entry says. Rows are given as the transition leaves them; the ledger applies them only
/// where it finds the version before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    Reservation(Reservation),
    /// `version` 1 adds an imported option to the sale.
    Option {
        option: OptionId,
        concert: ConcertId,
        status: OptionStatus,
        version: u32,
    },
    Policy {
        concert: ConcertId,
        policy: Policy,
        version: u32,
    },
}

/// What happened, as one number in the ledger. Pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Transition {
    Held = 1,
    PayingStarted = 2,
    Confirmed = 3,
    Cancelled = 4,
    Refunded = 5,
    Expired = 6,
    Blocked = 7,
    Unblocked = 8,
    OptionAdded = 9,
    OptionOpened = 10,
    OptionClosed = 11,
    PolicySet = 12,
}

impl Fact {
    /// Follows from the fact: kind, status and version say it all.
    #[must_use]
    pub const fn transition(&self) -> Transition {
        match self {
            Self::Reservation(r) => match (r.kind, r.status) {
                (Kind::Block, Status::Cancelled) => Transition::Unblocked,
                (Kind::Block, _) => Transition::Blocked,
                (Kind::Sale, Status::Hold) => Transition::Held,
                (Kind::Sale, Status::Paying) => Transition::PayingStarted,
                (Kind::Sale, Status::Confirmed) => Transition::Confirmed,
                (Kind::Sale, Status::Cancelled) => Transition::Cancelled,
                (Kind::Sale, Status::Refunded) => Transition::Refunded,
                (Kind::Sale, Status::Expired) => Transition::Expired,
            },
            Self::Option { version: 1, .. } => Transition::OptionAdded,
            Self::Option { status: OptionStatus::OnSale, .. } => Transition::OptionOpened,
            Self::Option { status: OptionStatus::Closed, .. } => Transition::OptionClosed,
            Self::Policy { .. } => Transition::PolicySet,
        }
    }
}

impl Transition {
    /// The name used in audits and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Held => "HELD",
            Self::PayingStarted => "PAYING_STARTED",
            Self::Confirmed => "CONFIRMED",
            Self::Cancelled => "CANCELLED",
            Self::Refunded => "REFUNDED",
            Self::Expired => "EXPIRED",
            Self::Blocked => "BLOCKED",
            Self::Unblocked => "UNBLOCKED",
            Self::OptionAdded => "OPTION_ADDED",
            Self::OptionOpened => "OPTION_OPENED",
            Self::OptionClosed => "OPTION_CLOSED",
            Self::PolicySet => "POLICY_SET",
        }
    }

    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Held,
            2 => Self::PayingStarted,
            3 => Self::Confirmed,
            4 => Self::Cancelled,
            5 => Self::Refunded,
            6 => Self::Expired,
            7 => Self::Blocked,
            8 => Self::Unblocked,
            9 => Self::OptionAdded,
            10 => Self::OptionOpened,
            11 => Self::OptionClosed,
            12 => Self::PolicySet,
            _ => return None,
        })
    }
}

/// The newest event of a shard: how many there are, and the hash that commits to all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChainHead {
    /// 0 when there is none.
    pub event_seq: u64,
    /// SHA-256, all zero when there is none.
    pub hash: [u8; 32],
}

/// What the ledger and the mirror know of a shard: enough to go on as if it had never stopped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    pub options: Vec<RestoredOption>,
    pub policies: Vec<RestoredPolicy>,
    /// Every reservation that is not ended, and every one named by an event inside the horizon.
    pub reservations: Vec<Reservation>,
    /// Events inside the horizon that answered a request, oldest first.
    pub answered: Vec<Answered>,
    /// From the mirror, or from the old owner of a shard that moves. Those that clash with the ledger, or have run
    /// out, are ignored, but for seats they refuse to their users: see `Shard::carry`.
    pub soft_locks: Vec<SoftLock>,
    pub head: ChainHead,
    /// When the newest event happened; the shard's time does not start below it.
    pub newest_event: Time,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoredOption {
    pub option: OptionId,
    pub concert: ConcertId,
    pub status: OptionStatus,
    pub version: u32,
    pub layout: Arc<Layout>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestoredPolicy {
    pub concert: ConcertId,
    pub policy: Policy,
    pub version: u32,
}

/// A request that was granted, and what it was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered {
    pub at: Time,
    pub caller: UserId,
    pub request: RequestMark,
    pub told: Told,
}

/// The part of a first answer that later transitions of the reservation would have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    Reservation { reservation: crate::ids::ReservationId, status: Status, version: u32, deadline: Time },
    Done,
}

/// A soft lock as the mirror keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SoftLock {
    pub option: OptionId,
    pub seat: crate::ids::SeatNo,
    pub user: UserId,
    pub first_at: Time,
    pub expires_at: Time,
}
