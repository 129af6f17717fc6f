//! Hold: turn soft locks into a reservation that waits for payment.

use crate::command::{Request, SeatList};
use crate::effect::Effects;
use crate::entry::Fact;
use crate::ids::{OptionId, ReservationId};
use crate::limits::RESERVATIONS_PER_USER;
use crate::outcome::Refusal;
use crate::pending::Change;
use crate::reservation::{Kind, Reservation, Status};
use crate::reservations::Held;
use crate::shard::{Decision, Shard};
use crate::time::Time;

impl Shard {
    pub(super) fn hold(
        &mut self,
        option: OptionId,
        seats: &SeatList,
        id: ReservationId,
        request: &Request,
        effects: &mut Effects,
    ) -> Decision {
        let Some(index) = self.find_option(option) else { return Refusal::OptionUnknown.into() };
        if let Err(refusal) = self.check_hold(index, seats, request) {
            return refusal.into();
        }
        let deadline = self.now + self.settings.hold_ttl;
        let row = self.new_reservation(id, Kind::Sale, index, seats, request, deadline);
        let concert = self.option(index).concert;
        for no in row.seats.iter() {
            let seat = self.seat_ref(index, no);
            self.users.remove_lock(row.user, concert, seat, &mut self.seats);
            self.soft_locks.remove();
        }
        self.users.add_reservation(row.user, concert);
        self.create(index, row, request, effects)
    }

    fn check_hold(&self, option: u16, seats: &SeatList, request: &Request) -> Result<(), Refusal> {
        self.check_open(option, request)?;
        self.check_seats(option, seats)?;
        let concert = self.option(option).concert;
        let policy = self.concerts[concert as usize].policy;
        let allowed = policy.reservations_per_user.min(RESERVATIONS_PER_USER);
        if self.users.reservations(request.caller.user, concert) >= allowed {
            return Err(Refusal::LimitReached);
        }
        self.check_not_taken(option, seats, Some(request.caller.user))?;
        self.check_selected(option, seats, request.caller.user)
    }

    /// The first row of a reservation, seats ascending.
    pub(super) fn new_reservation(
        &self,
        id: ReservationId,
        kind: Kind,
        option: u16,
        seats: &SeatList,
        request: &Request,
        deadline: Time,
    ) -> Reservation {
        let state = self.option(option);
        let mut seats = *seats;
        seats.sort();
        let price = |no| state.layout.prices[usize::from(self.seat(self.seat_ref(option, no)).category())];
        Reservation {
            id,
            kind,
            user: request.caller.user,
            concert: self.concerts[state.concert as usize].id,
            option: state.id,
            seats,
            status: match kind {
                Kind::Sale => Status::Hold,
                Kind::Block => Status::Confirmed,
            },
            version: 1,
            amount: match kind {
                Kind::Sale => seats.iter().map(price).sum(),
                Kind::Block => 0,
            },
            deadline,
            created_at: self.now,
            changed_at: self.now,
            payment_started: false,
        }
    }

    /// Takes the seats from everybody and sends the reservation to the ledger.
    pub(super) fn create(
        &mut self,
        option: u16,
        row: Reservation,
        request: &Request,
        effects: &mut Effects,
    ) -> Decision {
        let handle = self.reservations.insert(Held::unborn(row.clone()));
        for no in row.seats.iter() {
            self.change_seat(self.seat_ref(option, no), |seat| seat.claim(handle), effects);
        }
        let change = Change::Reservation { handle, row: row.clone() };
        let no = self.append(Some(request), change, Fact::Reservation(row), effects);
        self.reservations.get_mut(handle).set_pending(no);
        Decision::Later
    }
}
