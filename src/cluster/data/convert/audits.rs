//! What audits and resyncs tell.

use actors::mirror::check::{MirrorCheck, MirrorDifference};
use actors::resync::{Counts, Resynced};
use engine::option::{OptionStatus, Policy};
use engine::shard::Difference;
use engine::{ChainHead, ConcertId, OptionId, ReservationId, SeatNo, SeatState, UserId};

use super::{Unknown, reservation_in, reservation_out};
use crate::cluster::data::wire;

pub fn mirror_out(check: &MirrorCheck) -> wire::Returned {
    let difference = |found: &MirrorDifference| wire::MirrorDifference {
        option: found.option.0,
        seat: found.seat.0,
        memory: found.memory.map(|user| user.0),
        mirror: found.mirror.map(|user| user.0),
    };
    wire::Returned::Mirror {
        options: u32::try_from(check.options).unwrap_or(u32::MAX),
        soft_locks: check.soft_locks as u64,
        differences: check.differences.iter().map(difference).collect(),
    }
}

pub fn mirror_in(options: u32, soft_locks: u64, differences: &[wire::MirrorDifference]) -> MirrorCheck {
    let difference = |found: &wire::MirrorDifference| MirrorDifference {
        option: OptionId(found.option),
        seat: SeatNo(found.seat),
        memory: found.memory.map(UserId),
        mirror: found.mirror.map(UserId),
    };
    MirrorCheck {
        options: options as usize,
        soft_locks: count_in(soft_locks),
        differences: differences.iter().map(difference).collect(),
    }
}

pub fn resynced_out(resynced: &Resynced) -> wire::Returned {
    match resynced {
        Resynced::Compared { head, differences, counts: Counts { all, by_option } } => {
            wire::Returned::Compared {
                head: head_out(head),
                differences: differences.iter().map(difference_out).collect(),
                all: *all as u64,
                by_option: by_option.iter().map(|(option, count)| (option.0, *count as u64)).collect(),
            }
        }
        Resynced::Restored { memory, ledger } => {
            wire::Returned::Restored { memory: head_out(memory), ledger: head_out(ledger) }
        }
    }
}

pub fn compared_in(
    head: &wire::Head,
    differences: &[wire::Difference],
    all: u64,
    by_option: &[(u32, u64)],
) -> Result<Resynced, Unknown> {
    let by_option = by_option.iter().map(|(option, count)| (OptionId(*option), count_in(*count)));
    Ok(Resynced::Compared {
        head: head_in(head),
        differences: differences.iter().map(difference_in).collect::<Result<_, _>>()?,
        counts: Counts { all: count_in(all), by_option: by_option.collect() },
    })
}

fn head_out(head: &ChainHead) -> wire::Head {
    wire::Head { event_seq: head.event_seq, hash: head.hash }
}

pub fn head_in(head: &wire::Head) -> ChainHead {
    ChainHead { event_seq: head.event_seq, hash: head.hash }
}

fn count_in(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

fn difference_out(difference: &Difference) -> wire::Difference {
    let status = |said: &(OptionStatus, u32)| (said.0 as u8, said.1);
    let policy = |(policy, version): &(Policy, u32)| {
        let Policy { reservations_per_user, gate } = *policy;
        wire::Policy { reservations_per_user, gate, version: *version }
    };
    match difference {
        Difference::Reservation { id, memory, ledger } => wire::Difference::Reservation {
            id: id.0,
            memory: memory.as_deref().map(reservation_out).map(Box::new),
            ledger: ledger.as_deref().map(reservation_out).map(Box::new),
        },
        Difference::Option { option, memory, ledger } => wire::Difference::Option {
            option: option.0,
            memory: memory.as_ref().map(status),
            ledger: ledger.as_ref().map(status),
        },
        Difference::Policy { concert, memory, ledger } => wire::Difference::Policy {
            concert: concert.0,
            memory: memory.as_ref().map(policy),
            ledger: ledger.as_ref().map(policy),
        },
        Difference::Seat { option, seat, memory, ledger } => wire::Difference::Seat {
            option: option.0,
            seat: seat.0,
            memory: *memory as u8,
            ledger: *ledger as u8,
        },
        Difference::SoftLock { option, seat, user } => {
            wire::Difference::SoftLock { option: option.0, seat: seat.0, user: user.0 }
        }
    }
}

fn difference_in(difference: &wire::Difference) -> Result<Difference, Unknown> {
    let row = |said: &Option<Box<wire::Reservation>>| {
        said.as_ref().map(|row| reservation_in(row).map(Box::new)).transpose()
    };
    let status = |said: &Option<(u8, u32)>| {
        let known = |(number, version): &(u8, u32)| {
            let status = OptionStatus::from_number(*number).ok_or(Unknown("an option's status"))?;
            Ok((status, *version))
        };
        said.as_ref().map(known).transpose()
    };
    let policy = |said: &wire::Policy| {
        let wire::Policy { reservations_per_user, gate, version } = *said;
        (Policy { reservations_per_user, gate }, version)
    };
    Ok(match difference {
        wire::Difference::Reservation { id, memory, ledger } => {
            Difference::Reservation { id: ReservationId(*id), memory: row(memory)?, ledger: row(ledger)? }
        }
        wire::Difference::Option { option, memory, ledger } => {
            Difference::Option { option: OptionId(*option), memory: status(memory)?, ledger: status(ledger)? }
        }
        wire::Difference::Policy { concert, memory, ledger } => Difference::Policy {
            concert: ConcertId(*concert),
            memory: memory.as_ref().map(policy),
            ledger: ledger.as_ref().map(policy),
        },
        wire::Difference::Seat { option, seat, memory, ledger } => Difference::Seat {
            option: OptionId(*option),
            seat: SeatNo(*seat),
            memory: SeatState::from_bits(*memory),
            ledger: SeatState::from_bits(*ledger),
        },
        wire::Difference::SoftLock { option, seat, user } => {
            Difference::SoftLock { option: OptionId(*option), seat: SeatNo(*seat), user: UserId(*user) }
        }
    })
}
