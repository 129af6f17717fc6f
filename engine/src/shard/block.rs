//! Block: take free seats out of the sale, as a reservation of kind BLOCK.

use crate::command::{Authority, Request, SeatList};
use crate::effect::Effects;
use crate::ids::{OptionId, ReservationId};
use crate::outcome::Refusal;
use crate::reservation::Kind;
use crate::shard::{Decision, Shard};
use crate::time::Time;

impl Shard {
    pub(super) fn block(
        &mut self,
        option: OptionId,
        seats: &SeatList,
        id: ReservationId,
        request: &Request,
        effects: &mut Effects,
    ) -> Decision {
        let Some(index) = self.find_option(option) else { return Refusal::OptionUnknown.into() };
        if let Err(refusal) = self.check_block(index, seats, request) {
            return refusal.into();
        }
        let row = self.new_reservation(id, Kind::Block, index, seats, request, Time::NEVER);
        self.create(index, row, request, effects)
    }

    /// House seats are an admin's business at any time, so neither the gate nor the status matters.
    fn check_block(&self, option: u16, seats: &SeatList, request: &Request) -> Result<(), Refusal> {
        if request.caller.authority != Authority::Any {
            return Err(Refusal::ReservationUnknown);
        }
        self.check_seats(option, seats)?;
        self.check_not_taken(option, seats, None)
    }
}
