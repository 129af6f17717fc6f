//! Between what the actors say and what travels. What a peer sends is checked: a number that means nothing makes the
//! message none.

use actors::followers::Selection;
use actors::handle;
use actors::peers::{Call, PeerError, Returned};
use actors::ports;
use actors::resync::Resynced;
use engine::command::{Authority, Caller, SeatList};
use engine::option::{OptionStatus, PolicyChange};
use engine::outcome::Conflicts;
use engine::reservation::Kind;
use engine::{
    Command, ConcertId, Epoch, Granted, OptionId, Outcome, PassId, Refusal, RequestKey, Reservation,
    ReservationId, SeatNo, SeatState, ShardId, SoftLock, Status, Time, Unavailable, UserId, handoff,
};

use super::wire;

mod audits;
pub mod gate;
pub mod gate_news;

/// A number that means nothing here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} that this node does not know")]
pub struct Unknown(&'static str);

pub fn seats(list: &SeatList) -> wire::Seats {
    let len = u8::try_from(list.len()).unwrap_or(u8::MAX);
    wire::Seats { seats: list.iter().map(|seat| seat.0).collect(), len }
}

pub fn seat_list(wire: &wire::Seats) -> SeatList {
    let mut list: SeatList = wire.seats.iter().copied().map(SeatNo).collect();
    // Those beyond what is kept count, so that the refusal is the engine's.
    while list.len() < usize::from(wire.len) {
        list.push(SeatNo(0));
    }
    list
}

/// `None`: the owner brings its options itself.
pub fn ask_out(ask: &handle::Ask) -> Option<wire::Ask> {
    let handle::Ask { caller, key, pass, command } = ask;
    Some(wire::Ask {
        user: caller.user.0,
        any: caller.authority == Authority::Any,
        key: key.map(|key| key.0),
        pass: pass.map(|pass| pass.0),
        command: command_out(command)?,
    })
}

pub fn ask_in(ask: wire::Ask) -> Result<handle::Ask, Unknown> {
    let authority = if ask.any { Authority::Any } else { Authority::Own };
    Ok(handle::Ask {
        caller: Caller { user: UserId(ask.user), authority },
        key: ask.key.map(RequestKey),
        pass: ask.pass.map(PassId),
        command: command_in(ask.command)?,
    })
}

fn command_out(command: &Command) -> Option<wire::Command> {
    Some(match command {
        Command::Select { option, seats: list } => {
            wire::Command::Select { option: option.0, seats: seats(list) }
        }
        Command::SelectBest { option, party, section, category } => wire::Command::SelectBest {
            option: option.0,
            party: *party,
            section: *section,
            category: *category,
        },
        Command::Release { option, seats: list } => {
            wire::Command::Release { option: option.0, seats: list.as_ref().map(seats) }
        }
        Command::Hold { option, seats: list, reservation } => {
            wire::Command::Hold { option: option.0, seats: seats(list), reservation: reservation.0 }
        }
        Command::StartPaying { reservation } => wire::Command::StartPaying { reservation: reservation.0 },
        Command::Confirm { reservation } => wire::Command::Confirm { reservation: reservation.0 },
        Command::Cancel { reservation } => wire::Command::Cancel { reservation: reservation.0 },
        Command::Refund { reservation } => wire::Command::Refund { reservation: reservation.0 },
        Command::Block { option, seats: list, reservation } => {
            wire::Command::Block { option: option.0, seats: seats(list), reservation: reservation.0 }
        }
        Command::Unblock { reservation } => wire::Command::Unblock { reservation: reservation.0 },
        Command::SetOptionStatus { option, status } => {
            wire::Command::SetOptionStatus { option: option.0, status: *status as u8 }
        }
        Command::SetPolicy { concert, change } => wire::Command::SetPolicy {
            concert: concert.0,
            reservations_per_user: change.reservations_per_user,
            gate: change.gate,
        },
        Command::AddOption { .. } => return None,
    })
}

fn command_in(command: wire::Command) -> Result<Command, Unknown> {
    use wire::Command as W;
    Ok(match command {
        W::Select { option, seats } => Command::Select { option: OptionId(option), seats: seat_list(&seats) },
        W::SelectBest { option, party, section, category } => {
            Command::SelectBest { option: OptionId(option), party, section, category }
        }
        W::Release { option, seats } => {
            Command::Release { option: OptionId(option), seats: seats.as_ref().map(seat_list) }
        }
        W::Hold { option, seats, reservation } => Command::Hold {
            option: OptionId(option),
            seats: seat_list(&seats),
            reservation: ReservationId(reservation),
        },
        W::StartPaying { reservation } => Command::StartPaying { reservation: ReservationId(reservation) },
        W::Confirm { reservation } => Command::Confirm { reservation: ReservationId(reservation) },
        W::Cancel { reservation } => Command::Cancel { reservation: ReservationId(reservation) },
        W::Refund { reservation } => Command::Refund { reservation: ReservationId(reservation) },
        W::Block { option, seats, reservation } => Command::Block {
            option: OptionId(option),
            seats: seat_list(&seats),
            reservation: ReservationId(reservation),
        },
        W::Unblock { reservation } => Command::Unblock { reservation: ReservationId(reservation) },
        W::SetOptionStatus { option, status } => Command::SetOptionStatus {
            option: OptionId(option),
            status: OptionStatus::from_number(status).ok_or(Unknown("an option's status"))?,
        },
        W::SetPolicy { concert, reservations_per_user, gate } => Command::SetPolicy {
            concert: ConcertId(concert),
            change: PolicyChange { reservations_per_user, gate },
        },
    })
}

pub fn answer_out(answer: &handle::Answer) -> wire::Answer {
    let outcome = match &answer.outcome {
        Outcome::Granted(Granted::Selected { option, seats: list, expires_at, renewed }) => {
            let (option, seats) = (option.0, seats(list));
            wire::Outcome::Selected { option, seats, expires_at: expires_at.0, renewed: *renewed }
        }
        Outcome::Granted(Granted::Released { option, seats: list }) => {
            wire::Outcome::Released { option: option.0, seats: seats(list) }
        }
        Outcome::Granted(Granted::Reserved { reservation, created }) => {
            wire::Outcome::Reserved { reservation: reservation_out(reservation), created: *created }
        }
        Outcome::Granted(Granted::Done) => wire::Outcome::Done,
        Outcome::Refused(refusal) => wire::Outcome::Refused(refusal_out(refusal)),
        Outcome::Unavailable(Unavailable::Overloaded) => wire::Outcome::Overloaded,
        Outcome::Unavailable(Unavailable::Ledger) => wire::Outcome::LedgerUnavailable,
    };
    wire::Answer { outcome, replayed: answer.replayed }
}

pub fn answer_in(answer: wire::Answer) -> Result<handle::Answer, Unknown> {
    let outcome = match answer.outcome {
        wire::Outcome::Selected { option, seats, expires_at, renewed } => {
            let (option, seats) = (OptionId(option), seat_list(&seats));
            Outcome::Granted(Granted::Selected { option, seats, expires_at: Time(expires_at), renewed })
        }
        wire::Outcome::Released { option, seats } => {
            Outcome::Granted(Granted::Released { option: OptionId(option), seats: seat_list(&seats) })
        }
        wire::Outcome::Reserved { reservation, created } => {
            let reservation = Box::new(reservation_in(&reservation)?);
            Outcome::Granted(Granted::Reserved { reservation, created })
        }
        wire::Outcome::Done => Outcome::Granted(Granted::Done),
        wire::Outcome::Refused(refusal) => Outcome::Refused(refusal_in(refusal)?),
        wire::Outcome::Overloaded => Outcome::Unavailable(Unavailable::Overloaded),
        wire::Outcome::LedgerUnavailable => Outcome::Unavailable(Unavailable::Ledger),
    };
    Ok(handle::Answer { outcome, replayed: answer.replayed })
}

fn refusal_out(refusal: &Refusal) -> wire::Refusal {
    match refusal {
        Refusal::SeatTaken(conflicts) => {
            wire::Refusal::SeatTaken(conflicts.iter().map(|(seat, state)| (seat.0, state as u8)).collect())
        }
        Refusal::NotSelected(list) => wire::Refusal::NotSelected(seats(list)),
        Refusal::NoSeatsTogether { longest } => wire::Refusal::NoSeatsTogether { longest: *longest },
        Refusal::ReservationState(status) => wire::Refusal::ReservationState(*status as u8),
        Refusal::OptionUnknown
        | Refusal::RequestReused
        | Refusal::PassRequired
        | Refusal::OptionClosed
        | Refusal::SeatsInvalid
        | Refusal::LimitReached
        | Refusal::SelectTooLong
        | Refusal::ReservationUnknown
        | Refusal::HoldExpired => wire::Refusal::Plain(refusal.number()),
    }
}

fn refusal_in(refusal: wire::Refusal) -> Result<Refusal, Unknown> {
    Ok(match refusal {
        wire::Refusal::SeatTaken(taken) => {
            let mut conflicts = Conflicts::default();
            for (seat, state) in taken {
                conflicts.push(SeatNo(seat), SeatState::from_bits(state));
            }
            Refusal::SeatTaken(conflicts)
        }
        wire::Refusal::NotSelected(seats) => Refusal::NotSelected(seat_list(&seats)),
        wire::Refusal::NoSeatsTogether { longest } => Refusal::NoSeatsTogether { longest },
        wire::Refusal::ReservationState(status) => {
            Refusal::ReservationState(Status::from_number(status).ok_or(Unknown("a status"))?)
        }
        wire::Refusal::Plain(number) => match number {
            1 => Refusal::OptionUnknown,
            2 => Refusal::RequestReused,
            3 => Refusal::PassRequired,
            4 => Refusal::OptionClosed,
            5 => Refusal::SeatsInvalid,
            6 => Refusal::LimitReached,
            7 => Refusal::SelectTooLong,
            11 => Refusal::ReservationUnknown,
            12 => Refusal::HoldExpired,
            _ => return Err(Unknown("a refusal")),
        },
    })
}

pub fn reservation_out(row: &Reservation) -> wire::Reservation {
    wire::Reservation {
        id: row.id.0,
        kind: row.kind as u8,
        user: row.user.0,
        concert: row.concert.0,
        option: row.option.0,
        seats: seats(&row.seats),
        status: row.status as u8,
        version: row.version,
        amount: row.amount,
        deadline: row.deadline.0,
        created_at: row.created_at.0,
        changed_at: row.changed_at.0,
        payment_started: row.payment_started,
    }
}

pub fn reservation_in(row: &wire::Reservation) -> Result<Reservation, Unknown> {
    Ok(Reservation {
        id: ReservationId(row.id),
        kind: Kind::from_number(row.kind).ok_or(Unknown("a kind"))?,
        user: UserId(row.user),
        concert: ConcertId(row.concert),
        option: OptionId(row.option),
        seats: seat_list(&row.seats),
        status: Status::from_number(row.status).ok_or(Unknown("a status"))?,
        version: row.version,
        amount: row.amount,
        deadline: Time(row.deadline),
        created_at: Time(row.created_at),
        changed_at: Time(row.changed_at),
        payment_started: row.payment_started,
    })
}

pub fn owner_out(owner: &ports::Owner) -> wire::Owner {
    let ports::Owner { id, node, public_url, peer_url } = owner.clone();
    wire::Owner { id, node, public_url, peer_url }
}

pub fn owner_in(owner: wire::Owner) -> ports::Owner {
    let wire::Owner { id, node, public_url, peer_url } = owner;
    ports::Owner { id, node, public_url, peer_url }
}

pub fn route_out(route: &Option<(Epoch, ports::Owner)>) -> Option<wire::Route> {
    route.as_ref().map(|(epoch, owner)| wire::Route { epoch: epoch.0, owner: owner_out(owner) })
}

pub fn route_in(route: Option<wire::Route>) -> Option<(Epoch, ports::Owner)> {
    route.map(|route| (Epoch(route.epoch), owner_in(route.owner)))
}

fn attempt_out(attempt: handoff::Attempt) -> wire::Attempt {
    wire::Attempt { epoch: attempt.epoch.0, no: attempt.no }
}

fn attempt_in(attempt: &wire::Attempt) -> handoff::Attempt {
    handoff::Attempt { epoch: Epoch(attempt.epoch), no: attempt.no }
}

pub fn call_out(from: &ports::Owner, call: Call) -> wire::Call {
    use wire::Question as Q;
    let question = match call {
        Call::Reservation(shard, id) => Q::Reservation { shard: shard.0, id: id.0 },
        Call::Selection(shard, user, option) => {
            Q::Selection { shard: shard.0, user: user.0, option: option.0 }
        }
        Call::Prepare(shard, attempt) => Q::Prepare { shard: shard.0, attempt: attempt_out(attempt) },
        Call::Hold(shard, attempt, locks) => Q::Hold {
            shard: shard.0,
            attempt: attempt_out(attempt),
            soft_locks: locks.iter().map(soft_lock_out).collect(),
        },
        Call::HandedOver(shard, attempt) => Q::HandedOver { shard: shard.0, attempt: attempt_out(attempt) },
        Call::Resumed(shard, attempt) => Q::Resumed { shard: shard.0, attempt: attempt_out(attempt) },
        Call::Memory(shard) => Q::Memory { shard: shard.0 },
        Call::CheckMirror(shard) => Q::CheckMirror { shard: shard.0 },
        Call::Resync(shard) => Q::Resync { shard: shard.0 },
    };
    wire::Call { from: owner_out(from), question }
}

pub fn call_in(question: &wire::Question) -> Call {
    use wire::Question as Q;
    match question {
        Q::Reservation { shard, id } => Call::Reservation(ShardId(*shard), ReservationId(*id)),
        Q::Selection { shard, user, option } => {
            Call::Selection(ShardId(*shard), UserId(*user), OptionId(*option))
        }
        Q::Prepare { shard, attempt } => Call::Prepare(ShardId(*shard), attempt_in(attempt)),
        Q::Hold { shard, attempt, soft_locks } => {
            let locks = soft_locks.iter().map(soft_lock_in).collect();
            Call::Hold(ShardId(*shard), attempt_in(attempt), locks)
        }
        Q::HandedOver { shard, attempt } => Call::HandedOver(ShardId(*shard), attempt_in(attempt)),
        Q::Resumed { shard, attempt } => Call::Resumed(ShardId(*shard), attempt_in(attempt)),
        Q::Memory { shard } => Call::Memory(ShardId(*shard)),
        Q::CheckMirror { shard } => Call::CheckMirror(ShardId(*shard)),
        Q::Resync { shard } => Call::Resync(ShardId(*shard)),
    }
}

fn soft_lock_out(lock: &SoftLock) -> wire::SoftLock {
    let SoftLock { option, seat, user, first_at, expires_at } = *lock;
    let (option, seat, user) = (option.0, seat.0, user.0);
    wire::SoftLock { option, seat, user, first_at: first_at.0, expires_at: expires_at.0 }
}

fn soft_lock_in(lock: &wire::SoftLock) -> SoftLock {
    SoftLock {
        option: OptionId(lock.option),
        seat: SeatNo(lock.seat),
        user: UserId(lock.user),
        first_at: Time(lock.first_at),
        expires_at: Time(lock.expires_at),
    }
}

pub fn returned_out(returned: Result<Returned, PeerError>) -> wire::Returned {
    match returned {
        Ok(Returned::Reservation(row)) => wire::Returned::Reservation(row.as_ref().map(reservation_out)),
        Ok(Returned::Selection(selection)) => wire::Returned::Selection {
            option: selection.option.0,
            seats: seats(&selection.seats),
            expires_at: selection.expires_at.0,
        },
        Ok(Returned::Done) => wire::Returned::Done,
        Ok(Returned::Memory(memory)) => wire::Returned::Memory(super::memory::head(&memory)),
        Ok(Returned::Mirror(check)) => audits::mirror_out(&check),
        Ok(Returned::MirrorAway(why)) => wire::Returned::MirrorAway(why),
        Ok(Returned::Resynced(resynced)) => audits::resynced_out(&resynced),
        Ok(Returned::Contradiction(why)) => wire::Returned::Contradiction(why),
        Err(PeerError::NotOwner(route)) => wire::Returned::NotOwner(route_out(&route)),
        Err(PeerError::Unavailable(Unavailable::Overloaded)) => wire::Returned::Overloaded,
        Err(PeerError::Unavailable(Unavailable::Ledger)) => wire::Returned::LedgerUnavailable,
        Err(error @ PeerError::Silent(_)) => wire::Returned::Refused(error.to_string()),
        Err(PeerError::Refused(why)) => wire::Returned::Refused(why),
    }
}

pub fn returned_in(returned: wire::Returned) -> Result<Returned, PeerError> {
    Ok(match returned {
        wire::Returned::Reservation(row) => {
            let row = row.as_ref().map(reservation_in).transpose().map_err(odd)?;
            Returned::Reservation(row)
        }
        wire::Returned::Selection { option, seats, expires_at } => Returned::Selection(Selection {
            option: OptionId(option),
            seats: seat_list(&seats),
            expires_at: Time(expires_at),
        }),
        wire::Returned::Done => Returned::Done,
        wire::Returned::NotOwner(route) => return Err(PeerError::NotOwner(route_in(route))),
        wire::Returned::Overloaded => return Err(PeerError::Unavailable(Unavailable::Overloaded)),
        wire::Returned::LedgerUnavailable => return Err(PeerError::Unavailable(Unavailable::Ledger)),
        wire::Returned::Refused(why) => return Err(PeerError::Refused(why)),
        wire::Returned::Memory(_) => {
            return Err(PeerError::Refused("a memory without its parts".to_owned()));
        }
        wire::Returned::Mirror { options, soft_locks, differences } => {
            Returned::Mirror(audits::mirror_in(options, soft_locks, &differences))
        }
        wire::Returned::MirrorAway(why) => Returned::MirrorAway(why),
        wire::Returned::Compared { head, differences, all, by_option } => {
            let compared = audits::compared_in(&head, &differences, all, &by_option);
            Returned::Resynced(compared.map_err(odd)?)
        }
        wire::Returned::Restored { memory, ledger } => Returned::Resynced(Resynced::Restored {
            memory: audits::head_in(&memory),
            ledger: audits::head_in(&ledger),
        }),
        wire::Returned::Contradiction(why) => Returned::Contradiction(why),
    })
}

/// An answer that makes no sense here.
pub fn odd(unknown: Unknown) -> PeerError {
    PeerError::Refused(format!("its answer names {unknown}"))
}

#[cfg(test)]
mod tests;
