//! Release: give soft locks back. Always allowed, whatever the option's status.

use crate::command::{Request, SeatList};
use crate::effect::Effects;
use crate::ids::{OptionId, SeatNo, UserId};
use crate::outcome::{Granted, Refusal};
use crate::seat::Seat;
use crate::shard::{Decision, Shard};

impl Shard {
    pub(super) fn release(
        &mut self,
        option: OptionId,
        seats: Option<&SeatList>,
        request: &Request,
        effects: &mut Effects,
    ) -> Decision {
        let Some(index) = self.find_option(option) else { return Refusal::OptionUnknown.into() };
        match self.find_released(index, seats, request) {
            Err(refusal) => refusal.into(),
            Ok(seats) => {
                for seat in seats.iter() {
                    self.end_soft_lock(self.seat_ref(index, seat), Seat::free, effects);
                }
                Granted::Released { option, seats }.into()
            }
        }
    }

    fn find_released(
        &self,
        option: u16,
        seats: Option<&SeatList>,
        request: &Request,
    ) -> Result<SeatList, Refusal> {
        self.check_pass(option, request)?;
        match seats {
            None => Ok(self.selected_in(option, request.caller.user)),
            Some(seats) => {
                self.check_seats(option, seats)?;
                self.check_selected(option, seats, request.caller.user)?;
                Ok(*seats)
            }
        }
    }

    /// Every seat the user has selected in the option, ascending.
    fn selected_in(&self, option: u16, user: UserId) -> SeatList {
        let state = self.option(option);
        let range = state.base..state.base + state.layout.seat_count();
        let locks = self.users.locks(user, state.concert, &self.seats).filter(|seat| range.contains(&seat.0));
        let mut seats: SeatList = locks.map(|seat| SeatNo(seat.0 - state.base)).collect();
        seats.sort();
        seats
    }

    /// Every seat is a soft lock of the user's; otherwise the ones that are not.
    pub(super) fn check_selected(&self, option: u16, seats: &SeatList, user: UserId) -> Result<(), Refusal> {
        let is_mine = |no: &SeatNo| self.seat(self.seat_ref(option, *no)).selected_by() == Some(user);
        let others: SeatList = seats.iter().filter(|no| !is_mine(no)).collect();
        if others.is_empty() { Ok(()) } else { Err(Refusal::NotSelected(others)) }
    }
}
