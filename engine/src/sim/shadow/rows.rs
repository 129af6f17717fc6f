//! Commands that reach the ledger, and what becomes true when they are there.

use std::sync::Arc;

use super::{Pending, Performance, Row, Seat, Shadow, Verdict, grant, refuse};
use crate::command::{Authority, Command, Request, SeatList};
use crate::entry::Fact;
use crate::ids::{ConcertId, OptionId, ReservationId, UserId};
use crate::option::{OptionStatus, PolicyChange};
use crate::outcome::{Conflicts, Granted, Refusal, SeatState};
use crate::plan::Layout;
use crate::reservation::{Kind, Reservation, Status};
use crate::time::Time;

impl Shadow {
    pub(super) fn change_row(&mut self, request: &Request, arrived: Time) -> Verdict {
        match &request.command {
            Command::Hold { option, seats, reservation } => self.hold(request, *option, seats, *reservation),
            Command::Block { option, seats, reservation } => {
                self.block(request, *option, seats, *reservation)
            }
            Command::StartPaying { reservation }
            | Command::Confirm { reservation }
            | Command::Cancel { reservation }
            | Command::Refund { reservation }
            | Command::Unblock { reservation } => self.transition(request, *reservation, arrived),
            Command::AddOption { option, concert, layout } => self.add_option(*option, *concert, layout),
            Command::SetOptionStatus { option, status } => self.set_status(*option, *status),
            Command::SetPolicy { concert, change } => self.set_policy(*concert, *change),
            Command::Select { .. } | Command::SelectBest { .. } | Command::Release { .. } => {
                unreachable!("a click")
            }
        }
    }

    fn hold(&mut self, request: &Request, option: OptionId, seats: &SeatList, id: ReservationId) -> Verdict {
        let user = request.caller.user;
        if let Some(refusal) = self.may_sell(request, option).or(self.seats_exist(option, seats)) {
            return refuse(refusal);
        }
        let concert = self.options[&option].concert;
        if self.sale_count(user, concert) >= self.policy(concert).reservations_per_user as usize {
            return refuse(Refusal::LimitReached);
        }
        if let Some(refusal) = self.taken(user, option, seats) {
            return refuse(refusal);
        }
        let others: SeatList = seats.iter().filter(|seat| !self.is_mine(user, option, *seat)).collect();
        if !others.is_empty() {
            return refuse(Refusal::NotSelected(others));
        }
        for seat in seats.iter() {
            if let Some(Seat::Soft(lock)) = self.seats.get(&(option, seat)).copied() {
                self.seats.insert((option, seat), Seat::Holding(lock));
            }
        }
        Verdict::Append(Fact::Reservation(self.birth(Kind::Sale, user, option, seats, id)))
    }

    fn block(&mut self, request: &Request, option: OptionId, seats: &SeatList, id: ReservationId) -> Verdict {
        if request.caller.authority == Authority::Own {
            return refuse(Refusal::ReservationUnknown);
        }
        if let Some(refusal) = self.seats_exist(option, seats) {
            return refuse(refusal);
        }
        let mut conflicts = Conflicts::default();
        for seat in seats.iter().filter(|seat| !self.is_free(option, *seat)) {
            match self.seats[&(option, seat)] {
                Seat::Blocking => conflicts.push(seat, SeatState::Selecting),
                other => conflicts.push(seat, self.public(&other)),
            }
        }
        if !conflicts.is_empty() {
            return refuse(Refusal::SeatTaken(conflicts));
        }
        for seat in seats.iter() {
            self.seats.insert((option, seat), Seat::Blocking);
        }
        let user = request.caller.user;
        Verdict::Append(Fact::Reservation(self.birth(Kind::Block, user, option, seats, id)))
    }

    fn birth(
        &self,
        kind: Kind,
        user: UserId,
        option: OptionId,
        seats: &SeatList,
        id: ReservationId,
    ) -> Reservation {
        let Performance { concert, layout, .. } = &self.options[&option];
        let price = |seat: usize| layout.prices[usize::from(layout.categories[seat])];
        let (status, deadline) = match kind {
            Kind::Sale => (Status::Hold, self.now + self.settings.hold_ttl),
            Kind::Block => (Status::Confirmed, Time::NEVER),
        };
        let mut seats = *seats;
        seats.sort();
        Reservation {
            id,
            kind,
            user,
            concert: *concert,
            option,
            seats,
            status,
            version: 1,
            amount: match kind {
                Kind::Sale => seats.iter().map(|seat| price(seat.0 as usize)).sum(),
                Kind::Block => 0,
            },
            deadline,
            created_at: self.now,
            changed_at: self.now,
            payment_started: false,
        }
    }

    fn transition(&mut self, request: &Request, id: ReservationId, arrived: Time) -> Verdict {
        let row = Row::Reservation(id);
        let unborn = self.pending.get(&row).map(|pending| &pending.entry.fact);
        let known = match (self.reservations.get(&id), unborn) {
            (Some(known), _) | (None, Some(Fact::Reservation(known))) => known.clone(),
            _ => return refuse(Refusal::ReservationUnknown),
        };
        if request.caller.authority == Authority::Own && known.user != request.caller.user {
            return refuse(Refusal::ReservationUnknown);
        }
        if self.pending.contains_key(&row) {
            return Verdict::Wait(row);
        }
        if self.expires(&known, arrived) {
            // It arrived too late, but is told so only when that is durable.
            self.expire(&known);
            return Verdict::Wait(row);
        }
        self.judge(&request.command, &known, arrived)
    }

    /// The table of architecture §3.
    fn judge(&self, command: &Command, row: &Reservation, arrived: Time) -> Verdict {
        use Status::{Cancelled, Confirmed, Expired, Hold, Paying, Refunded};
        let unblocks = matches!(command, Command::Unblock { .. });
        if unblocks != (row.kind == Kind::Block) {
            return refuse(Refusal::ReservationState(row.status));
        }
        let target = match command {
            Command::StartPaying { .. } => Paying,
            Command::Confirm { .. } => Confirmed,
            Command::Cancel { .. } | Command::Unblock { .. } => Cancelled,
            _ => Refunded,
        };
        if row.status == target {
            let reservation = Box::new(row.clone());
            return grant(Granted::Reserved { reservation, created: false });
        }
        let allowed = match target {
            Paying => row.status == Hold,
            Confirmed => matches!(row.status, Hold | Paying),
            Cancelled => row.is_active(),
            _ => row.status == Cancelled && row.payment_started,
        };
        if allowed {
            return Verdict::Append(Fact::Reservation(self.next_version(row, target, arrived)));
        }
        refuse(if row.status == Expired && target != Refunded {
            Refusal::HoldExpired
        } else {
            Refusal::ReservationState(row.status)
        })
    }

    /// A payment's time counts from when the command arrived.
    pub(super) fn next_version(&self, row: &Reservation, status: Status, arrived: Time) -> Reservation {
        let pays = matches!(status, Status::Paying | Status::Confirmed);
        Reservation {
            status,
            version: row.version + 1,
            changed_at: self.now,
            deadline: match status {
                Status::Paying => row.deadline.max(arrived + self.settings.paying_ttl),
                _ => Time::NEVER,
            },
            payment_started: row.payment_started || pays,
            ..row.clone()
        }
    }

    fn add_option(&self, option: OptionId, concert: ConcertId, layout: &Layout) -> Verdict {
        if self.options.contains_key(&option) {
            return grant(Granted::Done);
        }
        if self.pending.contains_key(&Row::Option(option)) {
            return Verdict::Wait(Row::Option(option));
        }
        if layout.check().is_err() {
            return refuse(Refusal::SeatsInvalid);
        }
        Verdict::Append(Fact::Option { option, concert, status: OptionStatus::OnSale, version: 1 })
    }

    fn set_status(&self, option: OptionId, status: OptionStatus) -> Verdict {
        if self.pending.contains_key(&Row::Option(option)) {
            return Verdict::Wait(Row::Option(option));
        }
        let known = &self.options[&option];
        if known.status == status {
            return grant(Granted::Done);
        }
        let (concert, version) = (known.concert, known.version + 1);
        Verdict::Append(Fact::Option { option, concert, status, version })
    }

    fn set_policy(&self, concert: ConcertId, change: PolicyChange) -> Verdict {
        if self.pending.contains_key(&Row::Policy(concert)) {
            return Verdict::Wait(Row::Policy(concert));
        }
        let known = self.policies.get(&concert);
        let before = self.policy(concert);
        let policy = before.with(change);
        if policy == before && (known.is_some() || change.reservations_per_user.is_none()) {
            return grant(Granted::Done);
        }
        let version = known.map_or(0, |(_, version)| *version) + 1;
        Verdict::Append(Fact::Policy { concert, policy, version })
    }

    /// The user's live reservations of kind SALE in the concert, those on their way included.
    fn sale_count(&self, user: UserId, concert: ConcertId) -> usize {
        let rows = self.reservations.values().chain(self.unborn());
        rows.filter(|row| row.kind == Kind::Sale && row.is_active())
            .filter(|row| row.user == user && row.concert == concert)
            .count()
    }

    /// The entry is durable: its row becomes the truth.
    pub(super) fn apply(&mut self, pending: &Pending) -> Granted {
        match &pending.entry.fact {
            Fact::Reservation(row) => self.apply_reservation(row),
            Fact::Option { option, concert, status, version } => {
                let layout = match pending.request.as_ref().map(|request| &request.command) {
                    Some(Command::AddOption { layout, .. }) => Arc::clone(layout),
                    _ => Arc::clone(&self.options[option].layout),
                };
                let (concert, status, version) = (*concert, *status, *version);
                self.options.insert(*option, Performance { concert, status, version, layout });
                if status == OptionStatus::Closed {
                    let ends = |seat: &Seat| matches!(seat, Seat::Soft(_));
                    self.seats.retain(|(other, _), seat| other != option || !ends(seat));
                }
                Granted::Done
            }
            Fact::Policy { concert, policy, version } => {
                self.policies.insert(*concert, (*policy, *version));
                Granted::Done
            }
        }
    }

    fn apply_reservation(&mut self, row: &Reservation) -> Granted {
        let was_active = self.reservations.get(&row.id).is_some_and(Reservation::is_active);
        for seat in row.seats.iter().map(|seat| (row.option, seat)) {
            match (was_active, row.is_active()) {
                (false, true) => {
                    self.seats.insert(seat, Seat::Taken(row.id));
                }
                (true, false) => {
                    self.seats.remove(&seat);
                }
                _ => {}
            }
        }
        self.reservations.insert(row.id, row.clone());
        Granted::Reserved { reservation: Box::new(row.clone()), created: row.version == 1 }
    }
}
