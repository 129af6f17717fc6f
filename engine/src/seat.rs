//! The packed record of a seat. It knows no command and no other seat.

use crate::ids::UserId;
use crate::outcome::SeatState;
use crate::time::Time;

/// A seat's index in its shard, over all options.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SeatRef(pub u32);

/// Half a cache line, aligned so that no click ever touches two.
#[derive(Clone, Copy, Debug)]
#[repr(align(32))]
pub struct Seat {
    /// Meaning by phase: the soft lock's user; the reservation's handle; while AVAILABLE the user to
    /// whom the seat is refused, 0 if nobody.
    who: u64,
    /// When the present soft lock began. Kept while *holding*, for the mirror.
    first_at: Time,
    /// When the soft lock ends, or the refusal.
    until: Time,
    /// The next soft lock of the same user, while the list is that long.
    next_lock: SeatRef,
    /// The option's index in the shard.
    option: u16,
    category: u8,
    phase: Phase,
}

/// What the owner knows; the public sees less, see [`Phase::public`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    Available,
    Selecting,
    /// Soft locks whose hold is on its way to the ledger.
    Holding,
    /// Free seats whose block is on its way to the ledger.
    Blocking,
    /// HOLD or PAYING, durable.
    Hold,
    /// CONFIRMED or blocked, durable.
    Confirmed,
}

impl Phase {
    /// What viewers see: nothing is shown before it is durable.
    #[must_use]
    pub const fn public(self) -> SeatState {
        match self {
            Self::Available | Self::Blocking => SeatState::Available,
            Self::Selecting | Self::Holding => SeatState::Selecting,
            Self::Hold => SeatState::Hold,
            Self::Confirmed => SeatState::Confirmed,
        }
    }

    /// What somebody who asked for the seat is told. A seat about to be blocked is spoken for.
    #[must_use]
    pub const fn as_conflict(self) -> SeatState {
        match self {
            Self::Blocking => SeatState::Selecting,
            other => other.public(),
        }
    }
}

impl Seat {
    #[must_use]
    pub const fn available(option: u16, category: u8) -> Self {
        Self {
            who: 0,
            first_at: Time(0),
            until: Time(0),
            next_lock: SeatRef(0),
            option,
            category,
            phase: Phase::Available,
        }
    }

    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    #[must_use]
    pub const fn option(&self) -> u16 {
        self.option
    }

    #[must_use]
    pub const fn category(&self) -> u8 {
        self.category
    }

    /// When the soft lock began and when it ends; meant for SELECTING and *holding* seats.
    #[must_use]
    pub const fn soft_lock(&self) -> (Time, Time) {
        (self.first_at, self.until)
    }

    #[must_use]
    pub const fn next_lock(&self) -> SeatRef {
        self.next_lock
    }

    pub const fn set_next_lock(&mut self, next: SeatRef) {
        self.next_lock = next;
    }

    /// The user of the soft lock, if it is one.
    #[must_use]
    pub const fn selected_by(&self) -> Option<UserId> {
        match self.phase {
            Phase::Selecting => Some(UserId(self.who)),
            _ => None,
        }
    }

    /// The handle of the reservation that has the seat, durable or on its way.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "stored from a u32")]
    pub const fn reservation(&self) -> Option<u32> {
        match self.phase {
            Phase::Available | Phase::Selecting => None,
            _ => Some(self.who as u32),
        }
    }

    /// Whether the seat is free, but not for this user yet.
    #[must_use]
    pub fn is_refused_to(&self, user: UserId, now: Time) -> bool {
        self.refusal().is_some_and(|(refused, until)| refused == user && until > now)
    }

    /// To whom a free seat is refused, and until when.
    #[must_use]
    pub const fn refusal(&self) -> Option<(UserId, Time)> {
        match self.phase {
            Phase::Available if self.who != 0 => Some((UserId(self.who), self.until)),
            _ => None,
        }
    }

    pub fn select(&mut self, user: UserId, first_at: Time, until: Time) {
        debug_assert!(matches!(self.phase, Phase::Available | Phase::Selecting));
        *self = Self { who: user.0, first_at, until, phase: Phase::Selecting, ..*self };
    }

    /// Frees a seat, whatever it was.
    pub fn free(&mut self) {
        *self = Self::available(self.option, self.category);
    }

    /// Frees a soft lock that was kept as long as one may be: refused to its user until then.
    pub fn free_refused(&mut self, until: Time) {
        debug_assert!(self.phase == Phase::Selecting);
        *self = Self { who: self.who, until, ..Self::available(self.option, self.category) };
    }

    /// Refuses a free seat to a user until then.
    pub fn refuse(&mut self, user: UserId, until: Time) {
        debug_assert!(self.phase == Phase::Available);
        (self.who, self.until) = (user.0, until);
    }

    /// Gives the seat to a reservation whose entry is on its way. The TTL stops.
    pub fn claim(&mut self, reservation: u32) {
        self.phase = match self.phase {
            Phase::Selecting => Phase::Holding,
            Phase::Available => Phase::Blocking,
            other => unreachable!("a {other:?} seat cannot be claimed"),
        };
        self.who = reservation.into();
    }

    /// Shows what the ledger has.
    pub fn settle(&mut self, reservation: u32, phase: Phase) {
        debug_assert!(matches!(phase, Phase::Hold | Phase::Confirmed));
        self.who = reservation.into();
        self.phase = phase;
    }
}

const _: () = assert!(size_of::<Seat>() == 32);
