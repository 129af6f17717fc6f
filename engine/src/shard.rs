//! The shard: routes inputs to rules. (Scaffold: bodies follow.)

use crate::effect::{Effects, Input};
use crate::entry::{ChainHead, Restored, SoftLock};
use crate::ids::{ConcertId, Epoch, OptionId, ReservationId, SeatNo, ShardId};
use crate::option::OptionStatus;
use crate::outcome::SeatState;
use crate::reservation::Reservation;
use crate::settings::Settings;
use crate::time::Time;

/// One shard's state.
pub struct Shard {
    id: ShardId,
    epoch: Epoch,
}

/// Why a snapshot cannot be taken over: the ledger contradicts itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RestoreError {
    /// Two active reservations own one seat, or a seat is outside its plan.
    SeatClash { option: OptionId, seat: SeatNo, reservation: ReservationId },
    /// A reservation names an option that is not in the shard.
    OptionUnknown { option: OptionId, reservation: ReservationId },
    /// More seats than a shard may hold.
    TooManySeats,
}

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
    /// Active reservations of kind SALE that wait for payment.
    pub holds: usize,
    pub reservations: usize,
    pub answered_keys: usize,
    /// Entries sent to the ledger and not yet applied.
    pub pending: usize,
}

impl Shard {
    /// An empty shard; [`Self::restore`] fills it before its first step.
    #[must_use]
    pub fn new(id: ShardId, epoch: Epoch, _settings: Settings) -> Self {
        Self { id, epoch }
    }

    /// Takes over what the ledger and the mirror know. Call once, on a new shard.
    ///
    /// # Errors
    /// The ledger contradicts itself.
    pub fn restore(&mut self, _now: Time, _restored: Restored) -> Result<(), RestoreError> {
        todo!()
    }

    /// The only mutator. Due deadlines fire first, then the input is decided.
    pub fn step(&mut self, _now: Time, _input: Input, _effects: &mut Effects) {
        todo!()
    }

    /// When the next deadline is due, and a [`Input::Tick`] with it.
    #[must_use]
    pub fn next_wake(&self) -> Option<Time> {
        todo!()
    }

    /// Canonical, independent of history; equal after a restore from the ledger and the mirror.
    #[must_use]
    pub fn digest(&self) -> u64 {
        todo!()
    }

    #[must_use]
    pub fn id(&self) -> ShardId {
        self.id
    }

    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    #[must_use]
    pub fn head(&self) -> ChainHead {
        todo!()
    }

    #[must_use]
    pub fn load(&self) -> Load {
        todo!()
    }

    /// A reservation in memory. One that ended before the horizon is in the ledger only.
    #[must_use]
    pub fn reservation(&self, _id: ReservationId) -> Option<&Reservation> {
        todo!()
    }

    /// All reservations in memory, by id.
    pub fn reservations(&self) -> impl Iterator<Item = &Reservation> + '_ {
        std::iter::empty()
    }

    /// The options of the shard, by id.
    pub fn options(&self) -> impl Iterator<Item = OptionView> + '_ {
        std::iter::empty()
    }

    /// The public state of every seat of an option, in seat order; empty when it is unknown.
    pub fn seat_states(&self, _option: OptionId) -> impl Iterator<Item = SeatState> + '_ {
        std::iter::empty()
    }

    /// The live soft locks of an option, in seat order, to rebuild its mirror. Seats being held
    /// (entry pending) count: their soft locks leave the mirror when the hold is durable.
    pub fn soft_locks(&self, _option: OptionId) -> impl Iterator<Item = SoftLock> + '_ {
        std::iter::empty()
    }
}
