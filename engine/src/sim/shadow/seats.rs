//! Clicks: select, select-best, release.

use super::{Lock, Seat, Shadow, Verdict, grant, refuse};
use crate::command::{Command, Request, SeatList};
use crate::ids::{ConcertId, OptionId, SeatNo, UserId};
use crate::limits::{SEATS_PER_COMMAND, SOFT_LOCKS_PER_USER};
use crate::option::OptionStatus;
use crate::outcome::{Conflicts, Granted, Refusal, SeatState};
use crate::plan::Run;

impl Shadow {
    pub(super) fn click(&mut self, request: &Request) -> Verdict {
        let user = request.caller.user;
        match &request.command {
            Command::Select { option, seats } => self.select(request, user, *option, seats),
            Command::SelectBest { option, party, section, category } => {
                self.select_best(request, *option, *party, *section, *category)
            }
            Command::Release { option, seats } => self.release(request, user, *option, seats.as_ref()),
            _ => unreachable!("not a click"),
        }
    }

    fn select(&mut self, request: &Request, user: UserId, option: OptionId, seats: &SeatList) -> Verdict {
        if let Some(refusal) = self.may_sell(request, option).or(self.seats_exist(option, seats)) {
            return refuse(refusal);
        }
        let concert = self.options[&option].concert;
        let fresh = seats.iter().filter(|seat| !self.is_mine(user, option, *seat)).count();
        if self.lock_count(user, concert) + fresh > SOFT_LOCKS_PER_USER {
            return refuse(Refusal::LimitReached);
        }
        if seats.iter().any(|seat| self.is_cooling(user, option, seat)) {
            return refuse(Refusal::SelectTooLong);
        }
        if let Some(refusal) = self.taken(user, option, seats) {
            return refuse(refusal);
        }
        self.lock(user, option, seats, fresh == 0)
    }

    /// The asked seats that are somebody else's, or already the user's for good.
    pub(super) fn taken(&self, user: UserId, option: OptionId, seats: &SeatList) -> Option<Refusal> {
        let mut conflicts = Conflicts::default();
        for seat in seats.iter().filter(|seat| !self.is_mine(user, option, *seat)) {
            match self.seats.get(&(option, seat)) {
                None | Some(Seat::Cooling { .. }) => {}
                Some(Seat::Blocking) => conflicts.push(seat, SeatState::Selecting),
                Some(other) => conflicts.push(seat, self.public(other)),
            }
        }
        (!conflicts.is_empty()).then_some(Refusal::SeatTaken(conflicts))
    }

    fn lock(&mut self, user: UserId, option: OptionId, seats: &SeatList, renewed: bool) -> Verdict {
        let mut earliest = crate::time::Time::NEVER;
        for seat in seats.iter() {
            let first_at = match self.seats.get(&(option, seat)) {
                Some(Seat::Soft(lock)) => lock.first_at,
                _ => self.now,
            };
            let expires_at =
                (self.now + self.settings.select_ttl).min(first_at + self.settings.select_max_age);
            earliest = earliest.min(expires_at);
            self.seats.insert((option, seat), Seat::Soft(Lock { user, first_at, expires_at }));
        }
        grant(Granted::Selected { option, seats: *seats, expires_at: earliest, renewed })
    }

    fn release(
        &mut self,
        request: &Request,
        user: UserId,
        option: OptionId,
        seats: Option<&SeatList>,
    ) -> Verdict {
        if let Some(refusal) = self.pass_missing(request, option) {
            return refuse(refusal);
        }
        let mine = self.soft_locks(option).map(|lock| lock.seat);
        let mine: SeatList = mine.filter(|seat| self.is_mine(user, option, *seat)).collect();
        let seats = match seats {
            None => mine,
            Some(seats) => {
                if let Some(refusal) = self.seats_exist(option, seats) {
                    return refuse(refusal);
                }
                let others: SeatList = seats.iter().filter(|seat| !mine.contains(*seat)).collect();
                if !others.is_empty() {
                    return refuse(Refusal::NotSelected(others));
                }
                *seats
            }
        };
        for seat in seats.iter() {
            self.seats.remove(&(option, seat));
        }
        grant(Granted::Released { option, seats })
    }

    fn select_best(
        &mut self,
        request: &Request,
        option: OptionId,
        party: u32,
        section: Option<u16>,
        category: Option<u8>,
    ) -> Verdict {
        let user = request.caller.user;
        if let Some(refusal) = self.may_sell(request, option) {
            return refuse(refusal);
        }
        let performance = &self.options[&option];
        let layout = &performance.layout;
        let range = match section {
            None => Some(0..layout.seat_count()),
            Some(section) => layout.section_range(section),
        };
        let category_exists = category.is_none_or(|category| usize::from(category) < layout.prices.len());
        let party_fits = usize::try_from(party).is_ok_and(|party| (1..=SEATS_PER_COMMAND).contains(&party));
        let Some(range) = range.filter(|_| category_exists && party_fits) else {
            return refuse(Refusal::SeatsInvalid);
        };
        if self.lock_count(user, performance.concert) + party as usize > SOFT_LOCKS_PER_USER {
            return refuse(Refusal::LimitReached);
        }
        let wanted = |seat: u32| {
            range.contains(&seat)
                && category.is_none_or(|category| layout.categories[seat as usize] == category)
        };
        let places = self.places(option, party, &wanted);
        let allowed =
            |first: &u32| !(*first..*first + party).any(|seat| self.is_cooling(user, option, SeatNo(seat)));
        let good: Vec<u32> = places.iter().copied().filter(allowed).collect();
        if good.is_empty() {
            return refuse(if places.is_empty() {
                Refusal::NoSeatsTogether { longest: self.longest(option, party, &wanted) }
            } else {
                Refusal::SelectTooLong
            });
        }
        let first = self.best(option, party, &good);
        let seats = (first..first + party).map(SeatNo).collect();
        self.lock(user, option, &seats, false)
    }

    /// The first run that has places which leave no lone seat, and there the place nearest to the
    /// run's middle; without such a run simply the first place.
    fn best(&self, option: OptionId, party: u32, good: &[u32]) -> u32 {
        let tidy = good.iter().copied().filter(|first| !self.leaves_lone_seat(option, *first, party));
        let best = tidy.min_by_key(|first| {
            let run = self.run_of(option, *first);
            // Twice the middles, so that halves stay whole.
            let middle = 2 * run.first.0 + run.seats;
            (run.first, middle.abs_diff(2 * first + party), *first)
        });
        best.unwrap_or(good[0])
    }

    fn run_of(&self, option: OptionId, seat: u32) -> Run {
        let mut runs = self.options[&option].layout.runs.iter();
        let run = runs.find(|run| (run.first.0..run.first.0 + run.seats).contains(&seat));
        *run.expect("runs cover every seat")
    }

    /// Every first seat from which `party` wanted seats are free and side by side.
    fn places(&self, option: OptionId, party: u32, wanted: &dyn Fn(u32) -> bool) -> Vec<u32> {
        let runs = &self.options[&option].layout.runs;
        let firsts =
            runs.iter().flat_map(|run| run.first.0..(run.first.0 + run.seats + 1).saturating_sub(party));
        let free = |seat: u32| wanted(seat) && self.is_free(option, SeatNo(seat));
        firsts.filter(|first| (*first..*first + party).all(free)).collect()
    }

    fn longest(&self, option: OptionId, party: u32, wanted: &dyn Fn(u32) -> bool) -> u32 {
        (1..party).rev().find(|party| !self.places(option, *party, wanted).is_empty()).unwrap_or(0)
    }

    /// Whether a neighbour would be left free with no free seat beside it.
    fn leaves_lone_seat(&self, option: OptionId, first: u32, party: u32) -> bool {
        let run = self.run_of(option, first);
        let (begin, end) = (i64::from(run.first.0), i64::from(run.first.0 + run.seats));
        let free = |seat: i64| {
            let inside = begin <= seat && seat < end;
            inside && u32::try_from(seat).is_ok_and(|seat| self.is_free(option, SeatNo(seat)))
        };
        let (left, right) = (i64::from(first) - 1, i64::from(first + party));
        (free(left) && !free(left - 1)) || (free(right) && !free(right + 1))
    }

    /// The rules about the option: the pass, then whether it sells.
    pub(super) fn may_sell(&self, request: &Request, option: OptionId) -> Option<Refusal> {
        let closed = self.options[&option].status == OptionStatus::Closed;
        self.pass_missing(request, option).or(closed.then_some(Refusal::OptionClosed))
    }

    fn pass_missing(&self, request: &Request, option: OptionId) -> Option<Refusal> {
        let gate = self.policy(self.options[&option].concert).gate;
        (gate && !request.pass).then_some(Refusal::PassRequired)
    }

    pub(super) fn seats_exist(&self, option: OptionId, seats: &SeatList) -> Option<Refusal> {
        let count = self.options[&option].layout.seat_count();
        let in_bounds = (1..=SEATS_PER_COMMAND).contains(&seats.len());
        let inside = seats.iter().all(|seat| seat.0 < count);
        let once = seats.iter().all(|seat| seats.iter().filter(|other| *other == seat).count() == 1);
        (!(in_bounds && inside && once)).then_some(Refusal::SeatsInvalid)
    }

    pub(super) fn is_mine(&self, user: UserId, option: OptionId, seat: SeatNo) -> bool {
        matches!(self.seats.get(&(option, seat)), Some(Seat::Soft(lock)) if lock.user == user)
    }

    pub(super) fn is_free(&self, option: OptionId, seat: SeatNo) -> bool {
        matches!(self.seats.get(&(option, seat)), None | Some(Seat::Cooling { .. }))
    }

    fn is_cooling(&self, user: UserId, option: OptionId, seat: SeatNo) -> bool {
        matches!(self.seats.get(&(option, seat)), Some(Seat::Cooling { user: whom, .. }) if *whom == user)
    }

    /// The user's soft locks in the concert; those that became a pending hold count no longer.
    pub(super) fn lock_count(&self, user: UserId, concert: ConcertId) -> usize {
        let seats = self.seats.iter();
        let mine = seats.filter(|(_, seat)| matches!(seat, Seat::Soft(lock) if lock.user == user));
        mine.filter(|((option, _), _)| self.options[option].concert == concert).count()
    }
}
