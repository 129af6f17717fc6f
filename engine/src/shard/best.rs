//! Select-best: adjacent seats of the engine's choice.

use crate::adjacency::{Found, Wish};
use crate::command::{Request, SeatList};
use crate::effect::Effects;
use crate::ids::{OptionId, SeatNo};
use crate::limits::{SEATS_PER_COMMAND, SOFT_LOCKS_PER_USER};
use crate::outcome::Refusal;
use crate::shard::{Decision, Shard};

impl Shard {
    pub(super) fn select_best(
        &mut self,
        option: OptionId,
        party: u32,
        section: Option<u16>,
        category: Option<u8>,
        request: &Request,
        effects: &mut Effects,
    ) -> Decision {
        let Some(index) = self.find_option(option) else { return Refusal::OptionUnknown.into() };
        match self.find_best(index, party, section, category, request) {
            Err(refusal) => refusal.into(),
            Ok(seats) => self.grant_select(index, &seats, request.caller.user, false, effects),
        }
    }

    fn find_best(
        &self,
        option: u16,
        party: u32,
        section: Option<u16>,
        category: Option<u8>,
        request: &Request,
    ) -> Result<SeatList, Refusal> {
        self.check_open(option, request)?;
        let user = request.caller.user;
        let state = self.option(option);
        let adjacency = &state.adjacency;
        let (from, to) = adjacency.section(section).ok_or(Refusal::SeatsInvalid)?;
        let in_bounds = (1..=SEATS_PER_COMMAND).contains(&(party as usize));
        if !in_bounds || category.is_some_and(|category| !adjacency.has_category(category)) {
            return Err(Refusal::SeatsInvalid);
        }
        if self.users.lock_count(user, state.concert) + party as usize > SOFT_LOCKS_PER_USER {
            return Err(Refusal::LimitReached);
        }
        let refused = |seat| self.seat(self.seat_ref(option, seat)).is_refused_to(user, self.now);
        match adjacency.best(Wish { party, from, to, category }, refused) {
            Found::Together(first) => Ok((first.0..first.0 + party).map(SeatNo).collect()),
            Found::TooShort(longest) => Err(Refusal::NoSeatsTogether { longest }),
            Found::Refused => Err(Refusal::SelectTooLong),
        }
    }
}
