//! Restore: the ledger's rows are taken over, the mirror's soft locks added where nothing contradicts.

use crate::answered::{Record, ScopedKey};
use crate::entry::{Answered, Restored, RestoredOption, SoftLock, Told};
use crate::ids::{OptionId, ReservationId, SeatNo};
use crate::limits::{CONCERTS_PER_SHARD, OPTIONS_PER_SHARD, SEATS_PER_SHARD, SOFT_LOCKS_PER_USER};
use crate::option::OptionStatus;
use crate::reservation::{Kind, Reservation, Status};
use crate::reservations::Held;
use crate::seat::{Phase, SeatRef};
use crate::shard::Shard;
use crate::time::Time;

/// Why a snapshot cannot be taken over: the ledger contradicts itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RestoreError {
    /// Two active reservations own one seat, or a seat is outside its plan.
    SeatClash { option: OptionId, seat: SeatNo, reservation: ReservationId },
    /// A reservation names an option that is not in the shard.
    OptionUnknown { option: OptionId, reservation: ReservationId },
    /// An answered request names a reservation that was not loaded with it.
    ReservationMissing { reservation: ReservationId },
    /// A layout breaks its rules, or there are more seats or options than a shard may hold.
    OptionInvalid { option: OptionId },
}

impl std::fmt::Display for RestoreError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::SeatClash { option, seat, reservation } => write!(
                f,
                "seat {seat} of option {option} is outside the plan or has a second owner, {reservation}"
            ),
            Self::OptionUnknown { option, reservation } => {
                write!(f, "reservation {reservation} names option {option}, which is not in the shard")
            }
            Self::ReservationMissing { reservation } => {
                write!(f, "an event names reservation {reservation}, which is not in the ledger")
            }
            Self::OptionInvalid { option } => {
                write!(f, "the layout of option {option} is broken or too large for the shard")
            }
        }
    }
}

impl std::error::Error for RestoreError {}

impl Shard {
    /// Takes over what the ledger and the mirror know. Call once, on a new shard.
    ///
    /// # Errors
    /// The ledger contradicts itself; the shard must not serve.
    pub fn restore(&mut self, now: Time, restored: Restored) -> Result<(), RestoreError> {
        self.now = self.now.max(now).max(restored.newest_event);
        self.head = restored.head;
        for option in restored.options {
            self.restore_option(option)?;
        }
        for policy in restored.policies {
            self.apply_policy(policy.concert, policy.policy, policy.version);
        }
        let horizon = self.now - self.settings.idempotency_horizon;
        for row in restored.reservations {
            if !row.is_ended() || row.changed_at > horizon {
                self.restore_reservation(row)?;
            }
        }
        for answered in restored.answered {
            if answered.at > horizon {
                self.restore_answered(&answered)?;
            }
        }
        for lock in restored.soft_locks {
            self.restore_soft_lock(&lock);
        }
        Ok(())
    }

    fn restore_option(&mut self, option: RestoredOption) -> Result<(), RestoreError> {
        let RestoredOption { option, concert, status, version, layout } = option;
        let seats = self.seats.len() + layout.categories.len();
        let fits = seats <= SEATS_PER_SHARD as usize
            && self.options.len() < OPTIONS_PER_SHARD
            && self.concerts.len() < CONCERTS_PER_SHARD;
        if !fits || layout.check().is_err() || self.find_option(option).is_some() {
            return Err(RestoreError::OptionInvalid { option });
        }
        self.insert_option(option, concert, layout, status, version);
        Ok(())
    }

    fn restore_reservation(&mut self, row: Reservation) -> Result<(), RestoreError> {
        let (id, option) = (row.id, row.option);
        let Some(index) = self.find_option(option) else {
            return Err(RestoreError::OptionUnknown { option, reservation: id });
        };
        let seat_count = self.option(index).layout.seat_count();
        let (seats, status, kind) = (row.seats, row.status, row.kind);
        let (user, active) = (row.user, row.is_active());
        let handle = self.reservations.insert(Held::durable(row));
        self.count_holds(None, status, kind);
        if active {
            let phase = if status == Status::Confirmed { Phase::Confirmed } else { Phase::Hold };
            for no in seats.iter() {
                let free = no.0 < seat_count && self.option(index).adjacency.is_free(no);
                if !free {
                    return Err(RestoreError::SeatClash { option, seat: no, reservation: id });
                }
                let seat = self.seat_ref(index, no);
                self.seats[seat.0 as usize].settle(handle, phase);
                self.options[usize::from(index)].adjacency.set_free(no, false);
            }
            if kind == Kind::Sale {
                self.users.add_reservation(user, self.option(index).concert);
            }
        }
        self.set_reservation_deadline(handle);
        Ok(())
    }

    fn restore_answered(&mut self, answered: &Answered) -> Result<(), RestoreError> {
        let key = ScopedKey::new(answered.caller, answered.request.key);
        let content = answered.request.content;
        let record = match answered.told {
            Told::Done => Record::done(key, content, answered.at),
            Told::Reservation { reservation, status, version, deadline } => {
                let Some(handle) = self.reservations.find(reservation) else {
                    return Err(RestoreError::ReservationMissing { reservation });
                };
                Record::reservation(key, content, answered.at, handle, status, version, deadline)
            }
        };
        self.answered.insert(record);
        Ok(())
    }

    /// The mirror is a hint: whatever clashes with the ledger or has run out is left out, and then this is false.
    pub(super) fn restore_soft_lock(&mut self, lock: &SoftLock) -> bool {
        if lock.expires_at <= self.now {
            self.restore_refusal(lock);
            return false;
        }
        let Some(index) = self.find_option(lock.option) else { return false };
        let state = self.option(index);
        let concert = state.concert;
        let is_free = lock.seat.0 < state.layout.seat_count() && state.adjacency.is_free(lock.seat);
        let on_sale = state.status == OptionStatus::OnSale;
        let has_room = self.users.lock_count(lock.user, concert) < SOFT_LOCKS_PER_USER;
        if !is_free || !on_sale || !has_room {
            return false;
        }
        let seat = SeatRef(state.base + lock.seat.0);
        self.users.add_lock(lock.user, concert, seat, &mut self.seats);
        self.soft_locks.add(seat, lock.expires_at, &self.seats);
        self.seats[seat.0 as usize].select(lock.user, lock.first_at, lock.expires_at);
        self.options[usize::from(index)].adjacency.set_free(lock.seat, false);
        true
    }
}
