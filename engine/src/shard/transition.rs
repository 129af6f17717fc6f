//! The transitions of a reservation: one table, read by the shard, by reads of ended reservations,
//! and by anybody who wants to know the rules.

use crate::command::{Authority, Caller, Command, Request};
use crate::effect::{Effect, Effects, MirrorOp};
use crate::entry::Fact;
use crate::ids::ReservationId;
use crate::outcome::{Granted, Refusal};
use crate::pending::Change;
use crate::reservation::{Kind, Reservation, Status};
use crate::seat::{Phase, Seat};
use crate::settings::Settings;
use crate::shard::{Decision, Shard};
use crate::time::Time;

/// What a command means to a reservation as it stands.
pub(super) enum Ruling {
    /// It is there already: granted again, nothing to write.
    Already,
    /// It becomes this status, with this deadline.
    Enter(Status, Time),
    /// Its time has run out and the ledger does not know yet.
    Lapsed,
    No(Refusal),
}

/// Whether a caller may know of a reservation at all.
pub(super) fn is_visible(row: &Reservation, caller: Caller) -> bool {
    caller.authority == Authority::Any || row.user == caller.user
}

/// Judges a transition that arrived at `at`.
pub(super) fn rule(row: &Reservation, command: &Command, at: Time, settings: &Settings) -> Ruling {
    use Status::{Cancelled, Confirmed, Expired, Hold, Paying, Refunded};
    if matches!(row.status, Hold | Paying) && at >= row.deadline {
        return Ruling::Lapsed;
    }
    let is_block = row.kind == Kind::Block;
    if is_block != matches!(command, Command::Unblock { .. }) {
        return Ruling::No(Refusal::ReservationState(row.status));
    }
    match (command, row.status) {
        (Command::StartPaying { .. }, Paying)
        | (Command::Confirm { .. }, Confirmed)
        | (Command::Cancel { .. } | Command::Unblock { .. }, Cancelled)
        | (Command::Refund { .. }, Refunded) => Ruling::Already,
        (Command::StartPaying { .. }, Hold) => {
            Ruling::Enter(Paying, row.deadline.max(at + settings.paying_ttl))
        }
        (Command::Confirm { .. }, Hold | Paying) => Ruling::Enter(Confirmed, Time::NEVER),
        (Command::Cancel { .. }, Hold | Paying | Confirmed) | (Command::Unblock { .. }, Confirmed) => {
            Ruling::Enter(Cancelled, Time::NEVER)
        }
        (Command::Refund { .. }, Cancelled) if row.payment_started => Ruling::Enter(Refunded, Time::NEVER),
        (Command::StartPaying { .. } | Command::Confirm { .. } | Command::Cancel { .. }, Expired) => {
            Ruling::No(Refusal::HoldExpired)
        }
        (_, status) => Ruling::No(Refusal::ReservationState(status)),
    }
}

/// The row after a transition at `now`.
fn entered(row: &Reservation, status: Status, deadline: Time, now: Time) -> Reservation {
    Reservation {
        status,
        version: row.version + 1,
        deadline,
        changed_at: now,
        payment_started: row.payment_started || matches!(status, Status::Paying | Status::Confirmed),
        ..row.clone()
    }
}

impl Shard {
    pub(super) fn transition(
        &mut self,
        at: Time,
        id: ReservationId,
        request: Request,
        effects: &mut Effects,
    ) -> Decision {
        let Some(handle) = self.reservations.find(id) else { return Refusal::ReservationUnknown.into() };
        let state = self.reservations.get(handle);
        if !is_visible(&state.row, request.caller) {
            return Refusal::ReservationUnknown.into();
        }
        if let Some(no) = state.pending() {
            return self.wait_for(no, at, request);
        }
        match rule(&state.row, &request.command, at, &self.settings) {
            Ruling::No(refusal) => refusal.into(),
            Ruling::Already => {
                let reservation = Box::new(state.row.clone());
                Granted::Reserved { reservation, created: false }.into()
            }
            Ruling::Lapsed => {
                let no = self.enter(handle, Status::Expired, Time::NEVER, None, effects);
                self.wait_for(no, at, request)
            }
            Ruling::Enter(status, deadline) => {
                self.enter(handle, status, deadline, Some(&request), effects);
                Decision::Later
            }
        }
    }

    /// Sends a reservation's next row to the ledger. Until it is there the row neither changes nor
    /// falls due.
    pub(super) fn enter(
        &mut self,
        handle: u32,
        status: Status,
        deadline: Time,
        request: Option<&Request>,
        effects: &mut Effects,
    ) -> crate::ids::EntryNo {
        let row = entered(&self.reservations.get(handle).row, status, deadline, self.now);
        let change = Change::Reservation { handle, row: row.clone() };
        let no = self.append(request, change, Fact::Reservation(row), effects);
        self.reservations.get_mut(handle).set_pending(no);
        self.deadlines.clear(handle);
        no
    }

    /// The ledger has the row: seats, counts and deadlines follow.
    pub(super) fn apply_reservation(&mut self, handle: u32, row: Reservation, effects: &mut Effects) {
        let state = self.reservations.get_mut(handle);
        let was = state.is_durable().then_some(state.row.status);
        state.settle(row.clone());
        self.count_holds(was, row.status, row.kind);
        if was.is_none_or(|was| was.is_active() != row.is_active() || row.status == Status::Confirmed) {
            self.show_seats(handle, &row, was.is_none(), effects);
        }
        let has_ended = was.is_some_and(Status::is_active) && !row.is_active();
        if has_ended
            && row.kind == Kind::Sale
            && let Some(concert) = self.find_concert(row.concert)
        {
            self.users.remove_reservation(row.user, concert);
        }
        self.set_reservation_deadline(handle);
    }

    fn show_seats(&mut self, handle: u32, row: &Reservation, is_new: bool, effects: &mut Effects) {
        let Some(index) = self.find_option(row.option) else { return };
        for no in row.seats.iter() {
            let seat = self.seat_ref(index, no);
            if is_new && row.kind == Kind::Sale {
                let (option, user) = (row.option, row.user);
                effects.push(Effect::Mirror(MirrorOp::Unlock { option, seat: no, user }));
            }
            match row.status {
                Status::Hold | Status::Paying => {
                    self.change_seat(seat, |seat| seat.settle(handle, Phase::Hold), effects);
                }
                Status::Confirmed => {
                    self.change_seat(seat, |seat| seat.settle(handle, Phase::Confirmed), effects);
                }
                Status::Cancelled | Status::Refunded | Status::Expired => {
                    self.change_seat(seat, Seat::free, effects);
                }
            }
        }
    }

    /// How many reservations of kind SALE wait for payment.
    pub(super) fn count_holds(&mut self, was: Option<Status>, is: Status, kind: Kind) {
        let waits = |status| matches!(status, Status::Hold | Status::Paying);
        if kind == Kind::Sale {
            self.holds += usize::from(waits(is));
            self.holds -= usize::from(was.is_some_and(waits));
        }
    }

    /// When the row expires, or, once it has ended, when it leaves memory.
    pub(super) fn set_reservation_deadline(&mut self, handle: u32) {
        let row = &self.reservations.get(handle).row;
        if row.is_ended() {
            let at = row.changed_at + self.settings.idempotency_horizon;
            self.deadlines.set(handle, at);
        } else if row.deadline == Time::NEVER {
            self.deadlines.clear(handle);
        } else {
            let at = row.deadline;
            self.deadlines.set(handle, at);
        }
    }
}
