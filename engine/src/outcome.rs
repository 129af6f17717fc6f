//! What a shard answers: granted, refused by a named rule, or unable to say.

use crate::command::SeatList;
use crate::ids::{OptionId, SeatNo};
use crate::limits::SEATS_PER_COMMAND;
use crate::reservation::{Reservation, Status};
use crate::time::Time;

/// The answer to one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Granted(Granted),
    Refused(Refusal),
    Unavailable(Unavailable),
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Granted {
    /// `renewed`: every seat was the caller's already.
    Selected {
        option: OptionId,
        seats: SeatList,
        expires_at: Time,
        renewed: bool,
    },
    Released {
        option: OptionId,
        seats: SeatList,
    },
    /// The reservation as the command left it. `created` when this command brought it to life.
    Reserved {
        reservation: Box<Reservation>,
        created: bool,
    },
    /// An option or a policy is as asked.
    Done,
}

/// Why not. Numbers are pinned and are the order of precedence: the first that applies is the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No such option in this shard.
    OptionUnknown,
    /// The same idempotency key with other content.
    RequestReused,
    /// The concert's gate is on and no live pass was shown.
    PassRequired,
    /// Not on sale.
    OptionClosed,
    /// None, too many, one twice, or one outside the plan.
    SeatsInvalid,
    /// Too many soft locks or reservations in this concert.
    LimitReached,
    /// Kept for as long as a soft lock may be kept; refused to this user for a while.
    SelectTooLong,
    /// At least one seat is somebody else's.
    SeatTaken(Conflicts),
    /// The named seats are not the caller's soft locks.
    NotSelected(SeatList),
    /// No run of free seats is that long; the longest there is.
    NoSeatsTogether { longest: u32 },
    /// Unknown, or another user's: the same answer.
    ReservationUnknown,
    /// Expired before this command arrived; answered once EXPIRED is durable.
    HoldExpired,
    /// The transition is not allowed from this status.
    ReservationState(Status),
}

impl Refusal {
    /// The pinned number, 1..=13.
    #[must_use]
    pub const fn number(&self) -> u8 {
        match self {
            Self::OptionUnknown => 1,
            Self::RequestReused => 2,
            Self::PassRequired => 3,
            Self::OptionClosed => 4,
            Self::SeatsInvalid => 5,
            Self::LimitReached => 6,
            Self::SelectTooLong => 7,
            Self::SeatTaken(_) => 8,
            Self::NotSelected(_) => 9,
            Self::NoSeatsTogether { .. } => 10,
            Self::ReservationUnknown => 11,
            Self::HoldExpired => 12,
            Self::ReservationState(_) => 13,
        }
    }

    /// The stable code of the API.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::OptionUnknown => "OPTION_UNKNOWN",
            Self::RequestReused => "REQUEST_REUSED",
            Self::PassRequired => "PASS_REQUIRED",
            Self::OptionClosed => "OPTION_CLOSED",
            Self::SeatsInvalid => "SEATS_INVALID",
            Self::LimitReached => "LIMIT_REACHED",
            Self::SelectTooLong => "SELECT_TOO_LONG",
            Self::SeatTaken(_) => "SEAT_TAKEN",
            Self::NotSelected(_) => "NOT_SELECTED",
            Self::NoSeatsTogether { .. } => "NO_SEATS_TOGETHER",
            Self::ReservationUnknown => "RESERVATION_UNKNOWN",
            Self::HoldExpired => "HOLD_EXPIRED",
            Self::ReservationState(_) => "RESERVATION_STATE",
        }
    }
}

/// The shard cannot say; nothing was decided, or what was decided is not known to be durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// A bound of the shard is reached; try again later.
    Overloaded,
    /// The ledger has not answered, or memory and ledger disagree and the shard restores itself.
    /// A retry with the same key learns the truth.
    Ledger,
}

impl Unavailable {
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Overloaded => "OVERLOADED",
            Self::Ledger => "LEDGER_UNAVAILABLE",
        }
    }
}

/// Seat states as the public sees them; blocked seats show as CONFIRMED. Two bits on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum SeatState {
    #[default]
    Available = 0,
    Selecting = 1,
    Hold = 2,
    Confirmed = 3,
}

impl SeatState {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Available => "AVAILABLE",
            Self::Selecting => "SELECTING",
            Self::Hold => "HOLD",
            Self::Confirmed => "CONFIRMED",
        }
    }

    /// The inverse of `as u8`, from the two low bits.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Self {
        match bits & 3 {
            0 => Self::Available,
            1 => Self::Selecting,
            2 => Self::Hold,
            _ => Self::Confirmed,
        }
    }
}

/// Which of the asked seats clash, and with what.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Conflicts {
    seats: SeatList,
    states: [SeatState; SEATS_PER_COMMAND],
}

impl Conflicts {
    pub fn push(&mut self, seat: SeatNo, state: SeatState) {
        if let Some(slot) = self.states.get_mut(self.seats.len()) {
            *slot = state;
            self.seats.push(seat);
        }
    }

    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.seats.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = (SeatNo, SeatState)> + '_ {
        self.seats.iter().zip(self.states)
    }
}

impl std::fmt::Debug for Conflicts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.iter().map(|(seat, state)| (seat.0, state.name()))).finish()
    }
}
