//! What can be read from a shard.

use crate::command::SeatList;
use crate::entry::{ChainHead, SoftLock};
use crate::ids::{ConcertId, Epoch, OptionId, ReservationId, SeatNo, ShardId, UserId};
use crate::option::OptionStatus;
use crate::outcome::SeatState;
use crate::reservation::Reservation;
use crate::seat::{Phase, Seat};
use crate::settings::Settings;
use crate::shard::Shard;
use crate::time::Time;

/// An option as the shard knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionView {
    pub option: OptionId,
    pub concert: ConcertId,
    pub status: OptionStatus,
    pub version: u32,
    pub seat_count: u32,
    /// The newest change of its feed in this epoch; 0 when there was none.
    pub feed_seq: u64,
}

/// How full the shard is, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    pub soft_locks: usize,
    /// Reservations of kind SALE that wait for payment.
    pub holds: usize,
    pub reservations: usize,
    pub answered_keys: usize,
    /// Entries sent to the ledger and not yet applied.
    pub pending: usize,
}

impl Shard {
    #[must_use]
    pub const fn id(&self) -> ShardId {
        self.id
    }

    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The newest event that is known to be durable.
    #[must_use]
    pub const fn head(&self) -> ChainHead {
        self.head
    }

    #[must_use]
    pub const fn settings(&self) -> Settings {
        self.settings
    }

    /// The latest time seen.
    #[must_use]
    pub const fn now(&self) -> Time {
        self.now
    }

    #[must_use]
    pub fn load(&self) -> Load {
        Load {
            soft_locks: self.soft_locks.len(),
            holds: self.holds,
            reservations: self.reservations.len(),
            answered_keys: self.answered.len(),
            pending: self.pending.len(),
        }
    }

    /// A reservation in memory, as the ledger has it. One that ended before the horizon is in the
    /// ledger only.
    #[must_use]
    pub fn reservation(&self, id: ReservationId) -> Option<&Reservation> {
        let state = self.reservations.get(self.reservations.find(id)?);
        state.is_durable().then_some(&state.row)
    }

    /// All reservations in memory, as the ledger has them, in no order that means anything.
    pub fn reservations(&self) -> impl Iterator<Item = &Reservation> + '_ {
        self.reservations.durable()
    }

    /// The options of the shard, in the order they came.
    pub fn options(&self) -> impl Iterator<Item = OptionView> + '_ {
        self.options.iter().map(|option| OptionView {
            option: option.id,
            concert: self.concerts[option.concert as usize].id,
            status: option.status,
            version: option.version,
            seat_count: option.layout.seat_count(),
            feed_seq: option.feed_seq,
        })
    }

    /// The option's concert, where selling commands need a pass of its gate.
    #[must_use]
    pub fn gate_of(&self, option: OptionId) -> Option<ConcertId> {
        let concert = &self.concerts[self.option(self.find_option(option)?).concert as usize];
        concert.policy.gate.then_some(concert.id)
    }

    /// The public state of every seat of an option, in seat order; empty when it is unknown.
    pub fn seat_states(&self, option: OptionId) -> impl Iterator<Item = SeatState> + '_ {
        self.seats_of(option).iter().map(|seat| seat.phase().public())
    }

    /// The soft locks of an option, in seat order, to rebuild its mirror. Seats being held count:
    /// their soft locks leave the mirror when the hold is durable.
    pub fn soft_locks(&self, option: OptionId) -> impl Iterator<Item = SoftLock> + '_ {
        (0..).map(SeatNo).zip(self.seats_of(option)).filter_map(move |(no, seat)| {
            let user = self.soft_lock_user(seat)?;
            let (first_at, expires_at) = seat.soft_lock();
            Some(SoftLock { option, seat: no, user, first_at, expires_at })
        })
    }

    /// What a user has selected in an option, in seat order, and when the first of it runs out;
    /// [`Time::NEVER`] where it is nothing. Seats being held count no more.
    #[must_use]
    pub fn selection(&self, user: UserId, option: OptionId) -> (SeatList, Time) {
        let mut seats = SeatList::default();
        let mut expires_at = Time::NEVER;
        let Some(index) = self.find_option(option) else { return (seats, expires_at) };
        let state = self.option(index);
        for seat in self.users.locks(user, state.concert, &self.seats) {
            let record = self.seat(seat);
            if record.option() == index {
                seats.push(SeatNo(seat.0 - state.base));
                expires_at = expires_at.min(record.soft_lock().1);
            }
        }
        seats.sort();
        (seats, expires_at)
    }

    /// Whose soft lock a seat is, also while it is being held.
    pub(super) fn soft_lock_user(&self, seat: &Seat) -> Option<UserId> {
        match seat.phase() {
            Phase::Selecting => seat.selected_by(),
            Phase::Holding => seat.reservation().map(|handle| self.reservations.get(handle).row.user),
            Phase::Available | Phase::Blocking | Phase::Hold | Phase::Confirmed => None,
        }
    }

    pub(super) fn seats_of(&self, option: OptionId) -> &[Seat] {
        self.find_option(option).map_or(&[], |index| {
            let state = self.option(index);
            &self.seats[state.base as usize..][..state.layout.seat_count() as usize]
        })
    }
}
