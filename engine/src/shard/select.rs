//! Select: soft-lock named seats, all or none; the owner's second select renews.

use crate::command::{Request, SeatList};
use crate::effect::{Effect, Effects, MirrorOp};
use crate::entry::SoftLock;
use crate::ids::{OptionId, UserId};
use crate::limits::SOFT_LOCKS_PER_USER;
use crate::outcome::{Conflicts, Granted, Refusal};
use crate::seat::{Phase, SeatRef};
use crate::shard::{Decision, Shard};
use crate::time::Time;

impl Shard {
    pub(super) fn select(
        &mut self,
        option: OptionId,
        seats: &SeatList,
        request: &Request,
        effects: &mut Effects,
    ) -> Decision {
        let Some(index) = self.find_option(option) else { return Refusal::OptionUnknown.into() };
        let checked = self
            .check_open(index, request)
            .and_then(|()| self.check_seats(index, seats))
            .and_then(|()| self.check_selectable(index, seats, request.caller.user));
        match checked {
            Err(refusal) => refusal.into(),
            Ok(renewed) => self.grant_select(index, seats, request.caller.user, renewed, effects),
        }
    }

    /// Whether the user may have all the seats; the answer tells whether all are theirs already.
    fn check_selectable(&self, option: u16, seats: &SeatList, user: UserId) -> Result<bool, Refusal> {
        let mut mine = 0;
        let mut refused = false;
        let mut conflicts = Conflicts::default();
        for no in seats.iter() {
            let seat = self.seat(self.seat_ref(option, no));
            match seat.phase() {
                Phase::Available => refused |= seat.is_refused_to(user, self.now),
                Phase::Selecting if seat.selected_by() == Some(user) => mine += 1,
                phase => conflicts.push(no, phase.as_conflict()),
            }
        }
        let held = self.users.lock_count(user, self.option(option).concert);
        if held + seats.len() - mine > SOFT_LOCKS_PER_USER {
            Err(Refusal::LimitReached)
        } else if refused {
            Err(Refusal::SelectTooLong)
        } else if !conflicts.is_empty() {
            Err(Refusal::SeatTaken(conflicts))
        } else {
            Ok(mine == seats.len())
        }
    }

    pub(super) fn grant_select(
        &mut self,
        option: u16,
        seats: &SeatList,
        user: UserId,
        renewed: bool,
        effects: &mut Effects,
    ) -> Decision {
        let mut expires_at = Time::NEVER;
        for no in seats.iter() {
            let seat = self.seat_ref(option, no);
            expires_at = expires_at.min(self.soft_lock(seat, user, effects));
        }
        Granted::Selected { option: self.option(option).id, seats: *seats, expires_at, renewed }.into()
    }

    /// Locks a free seat or renews a soft lock of the user's; tells when it ends.
    fn soft_lock(&mut self, seat: SeatRef, user: UserId, effects: &mut Effects) -> Time {
        let record = self.seat(seat);
        let option = self.option(record.option());
        let (id, concert, no) = (option.id, option.concert, crate::ids::SeatNo(seat.0 - option.base));
        let (ttl, max_age) = (self.settings.select_ttl, self.settings.select_max_age);
        let renewed = record.phase() == Phase::Selecting;
        let first_at = if renewed { record.soft_lock().0 } else { self.now };
        let expires_at = (self.now + ttl).min(first_at + max_age);
        if renewed {
            self.soft_locks.renew(seat, expires_at, &self.seats);
        } else {
            self.users.add_lock(user, concert, seat, &mut self.seats);
            self.soft_locks.add(seat, expires_at, &self.seats);
        }
        let lock = SoftLock { option: id, seat: no, user, first_at, expires_at };
        effects.push(Effect::Mirror(MirrorOp::Lock(lock)));
        self.change_seat(seat, |seat| seat.select(user, first_at, expires_at), effects);
        expires_at
    }
}
