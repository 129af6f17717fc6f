//! Time: what falls due, and what is forgotten.

use crate::effect::Effects;
use crate::limits::SELECT_COOL_DOWN;
use crate::reservation::Status;
use crate::seat::{Seat, SeatRef};
use crate::shard::Shard;
use crate::time::Time;

impl Shard {
    /// Fires everything due by now. Called before every input: an input never meets a seat that
    /// should be free.
    pub(super) fn fire_due(&mut self, effects: &mut Effects) {
        // Keys first: a forgotten reservation is named by no remembered key.
        self.answered.forget(self.now - self.settings.idempotency_horizon);
        while let Some(seat) = self.soft_locks.pop(self.now, &self.seats) {
            self.expire_soft_lock(seat, effects);
        }
        while let Some(handle) = self.deadlines.pop(self.now) {
            if self.reservations.get(handle).row.is_ended() {
                self.reservations.remove(handle);
            } else {
                self.enter(handle, Status::Expired, Time::NEVER, None, effects);
            }
        }
    }

    /// A soft lock that was renewed for as long as one may be leaves a mark: its user must let others
    /// have a chance first.
    fn expire_soft_lock(&mut self, seat: SeatRef, effects: &mut Effects) {
        let (first_at, until) = self.seat(seat).soft_lock();
        if until >= first_at + self.settings.select_max_age {
            self.end_soft_lock(seat, |seat| seat.free_refused(until + SELECT_COOL_DOWN), effects);
        } else {
            self.end_soft_lock(seat, Seat::free, effects);
        }
    }
}
