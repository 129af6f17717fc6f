//! A reservation, as the engine decides it, the ledger keeps it and a client reads it.

use crate::command::SeatList;
use crate::ids::{ConcertId, OptionId, ReservationId, UserId};
use crate::time::Time;

/// One user's seats in one option, moving HOLD → PAYING → CONFIRMED → CANCELLED → REFUNDED, or EXPIRED.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    pub id: ReservationId,
    pub kind: Kind,
    pub user: UserId,
    pub concert: ConcertId,
    pub option: OptionId,
    /// 1..=8, ascending.
    pub seats: SeatList,
    pub status: Status,
    /// 1 at birth, one more at each transition.
    pub version: u32,
    /// The sum of the seats' prices at the time of the hold, in minor units of the option's currency.
    pub amount: i64,
    /// When it expires; [`Time::NEVER`] unless HOLD or PAYING.
    pub deadline: Time,
    pub created_at: Time,
    /// When its newest event happened.
    pub changed_at: Time,
    /// Whether paying ever began, so that money may have to be given back. A hold cancelled before
    /// that has nothing to refund and ends there.
    pub payment_started: bool,
}

impl Reservation {
    /// Whether its seats are still taken.
    #[must_use]
    pub const fn is_active(&self) -> bool {
        self.status.is_active()
    }

    /// Whether no transition can follow.
    #[must_use]
    pub const fn is_ended(&self) -> bool {
        match self.status {
            Status::Hold | Status::Paying | Status::Confirmed => false,
            Status::Cancelled => !self.payment_started,
            Status::Refunded | Status::Expired => true,
        }
    }
}

/// Pinned: the ledger stores the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    Sale = 1,
    /// House seats, taken out of the sale by an admin. Born CONFIRMED.
    Block = 2,
}

/// Pinned: the ledger stores the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Status {
    Hold = 1,
    Paying = 2,
    Confirmed = 3,
    Cancelled = 4,
    Refunded = 5,
    Expired = 6,
}

impl Kind {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sale => "SALE",
            Self::Block => "BLOCK",
        }
    }

    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Sale),
            2 => Some(Self::Block),
            _ => None,
        }
    }
}

impl Status {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hold => "HOLD",
            Self::Paying => "PAYING",
            Self::Confirmed => "CONFIRMED",
            Self::Cancelled => "CANCELLED",
            Self::Refunded => "REFUNDED",
            Self::Expired => "EXPIRED",
        }
    }

    /// Whether a reservation in this status owns its seats.
    #[must_use]
    pub const fn is_active(self) -> bool {
        matches!(self, Self::Hold | Self::Paying | Self::Confirmed)
    }

    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Hold),
            2 => Some(Self::Paying),
            3 => Some(Self::Confirmed),
            4 => Some(Self::Cancelled),
            5 => Some(Self::Refunded),
            6 => Some(Self::Expired),
            _ => None,
        }
    }
}
