//! Questions to gates and what these say.

use actors::gates::ports::GateRow;
use actors::gates::{GateAsk, GateInfo, GateSaid};
use engine::gate::{Eta, Left, Load, Mode, Pass, Policy, PolicyFault, Standing, State};
use engine::{ConcertId, PassId, Span, Time, Turn, Unavailable, UserId};

use super::Unknown;
use crate::cluster::data::wire::gate as wire;

pub fn ask_out(ask: &GateAsk) -> wire::Ask {
    match ask {
        GateAsk::Join(user) => wire::Ask::Join { user: user.0 },
        GateAsk::Status(user) => wire::Ask::Status { user: user.0 },
        GateAsk::Leave(user) => wire::Ask::Leave { user: user.0 },
        GateAsk::Heartbeats(users) => wire::Ask::Heartbeats(users.iter().map(|user| user.0).collect()),
        GateAsk::Set { policy, by } => wire::Ask::Set { policy: policy_out(policy), by: by.0 },
        GateAsk::Beacon { round, value } => wire::Ask::Beacon { round: *round, value: *value },
        GateAsk::Info => wire::Ask::Info,
    }
}

pub fn ask_in(ask: wire::Ask) -> Result<GateAsk, Unknown> {
    Ok(match ask {
        wire::Ask::Join { user } => GateAsk::Join(UserId(user)),
        wire::Ask::Status { user } => GateAsk::Status(UserId(user)),
        wire::Ask::Leave { user } => GateAsk::Leave(UserId(user)),
        wire::Ask::Heartbeats(users) => GateAsk::Heartbeats(users.into_iter().map(UserId).collect()),
        wire::Ask::Set { policy, by } => GateAsk::Set { policy: policy_in(&policy)?, by: UserId(by) },
        wire::Ask::Beacon { round, value } => GateAsk::Beacon { round, value },
        wire::Ask::Info => GateAsk::Info,
    })
}

pub fn said_out(said: &Result<GateSaid, Unavailable>) -> wire::Said {
    match said {
        Ok(GateSaid::Standing { standing, durable }) => {
            wire::Said::Standing { standing: standing_out(standing), durable: *durable }
        }
        Ok(GateSaid::Left { left, durable }) => wire::Said::Left { left: left_out(*left), durable: *durable },
        Ok(GateSaid::Heard) => wire::Said::Heard,
        Ok(GateSaid::Set { changed, row }) => wire::Said::Set { changed: *changed, row: row_out(row) },
        Ok(GateSaid::Refused(fault)) => wire::Said::Refused(fault_out(*fault)),
        Ok(GateSaid::NoSuchRound) => wire::Said::NoSuchRound,
        Ok(GateSaid::Info(GateInfo { row, load, durable })) => {
            wire::Said::Info { row: row.as_ref().map(row_out), load: load_out(load), durable: *durable }
        }
        Err(Unavailable::Overloaded) => wire::Said::Overloaded,
        Err(Unavailable::Ledger) => wire::Said::LedgerUnavailable,
    }
}

pub fn said_in(said: &wire::Said) -> Result<Result<GateSaid, Unavailable>, Unknown> {
    Ok(Ok(match said {
        wire::Said::Standing { standing, durable } => {
            GateSaid::Standing { standing: standing_in(standing), durable: *durable }
        }
        wire::Said::Left { left, durable } => GateSaid::Left { left: left_in(*left)?, durable: *durable },
        wire::Said::Heard => GateSaid::Heard,
        wire::Said::Set { changed, row } => GateSaid::Set { changed: *changed, row: row_in(row)? },
        wire::Said::Refused(fault) => GateSaid::Refused(fault_in(*fault)?),
        wire::Said::NoSuchRound => GateSaid::NoSuchRound,
        wire::Said::Info { row, load, durable } => GateSaid::Info(GateInfo {
            row: row.as_ref().map(row_in).transpose()?,
            load: load_in(load),
            durable: *durable,
        }),
        wire::Said::Overloaded => return Ok(Err(Unavailable::Overloaded)),
        wire::Said::LedgerUnavailable => return Ok(Err(Unavailable::Ledger)),
    }))
}

fn standing_out(standing: &Standing) -> wire::Standing {
    match standing {
        Standing::Waiting { turn, ahead, eta } => {
            let eta = eta.map(|Eta { low, high }| (low.0, high.0));
            wire::Standing::Waiting { turn: turn.0, ahead: *ahead, eta }
        }
        Standing::Active(pass) => wire::Standing::Active(pass_out(pass)),
        Standing::Free => wire::Standing::Free,
        Standing::Rejected => wire::Standing::Rejected,
        Standing::Absent => wire::Standing::Absent,
    }
}

fn standing_in(standing: &wire::Standing) -> Standing {
    match standing {
        wire::Standing::Waiting { turn, ahead, eta } => {
            let eta = eta.map(|(low, high)| Eta { low: Span(low), high: Span(high) });
            Standing::Waiting { turn: Turn(*turn), ahead: *ahead, eta }
        }
        wire::Standing::Active(pass) => Standing::Active(pass_in(pass)),
        wire::Standing::Free => Standing::Free,
        wire::Standing::Rejected => Standing::Rejected,
        wire::Standing::Absent => Standing::Absent,
    }
}

pub fn pass_out(pass: &Pass) -> wire::Pass {
    wire::Pass { id: pass.id.0, expires_at: pass.expires_at.0, ends_at: pass.ends_at.0 }
}

pub fn pass_in(pass: &wire::Pass) -> Pass {
    Pass { id: PassId(pass.id), expires_at: Time(pass.expires_at), ends_at: Time(pass.ends_at) }
}

fn policy_out(policy: &Policy) -> wire::Policy {
    let Policy { state, mode, per_second, max_active, opens_at } = *policy;
    let (state, mode) = (state.number(), mode.number());
    wire::Policy { state, mode, per_second, max_active, opens_at: opens_at.map(|opening| opening.0) }
}

fn policy_in(policy: &wire::Policy) -> Result<Policy, Unknown> {
    let wire::Policy { state, mode, per_second, max_active, opens_at } = *policy;
    let state = State::from_number(state).ok_or(Unknown("a gate's state"))?;
    let mode = Mode::from_number(mode).ok_or(Unknown("a gate's mode"))?;
    Ok(Policy { state, mode, per_second, max_active, opens_at: opens_at.map(Time) })
}

fn row_out(row: &GateRow) -> wire::Row {
    let GateRow { concert, version, policy, changed_at } = row;
    wire::Row { concert: concert.0, version: *version, policy: policy_out(policy), changed_at: changed_at.0 }
}

fn row_in(row: &wire::Row) -> Result<GateRow, Unknown> {
    let wire::Row { concert, version, policy, changed_at } = row;
    let (concert, policy) = (ConcertId(*concert), policy_in(policy)?);
    Ok(GateRow { concert, version: *version, policy, changed_at: Time(*changed_at) })
}

fn load_out(load: &Load) -> wire::Load {
    let Load { waiting, passes, admitted, unmirrored } = *load;
    wire::Load { waiting: waiting as u64, passes: passes as u64, admitted, unmirrored }
}

fn load_in(load: &wire::Load) -> Load {
    let wire::Load { waiting, passes, admitted, unmirrored } = *load;
    let count = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
    Load { waiting: count(waiting), passes: count(passes), admitted, unmirrored }
}

const fn left_out(left: Left) -> u8 {
    match left {
        Left::Line => 1,
        Left::Sale => 2,
        Left::Nothing => 3,
    }
}

const fn left_in(number: u8) -> Result<Left, Unknown> {
    Ok(match number {
        1 => Left::Line,
        2 => Left::Sale,
        3 => Left::Nothing,
        _ => return Err(Unknown("what was left")),
    })
}

const fn fault_out(fault: PolicyFault) -> u8 {
    match fault {
        PolicyFault::RateOutOfBounds => 1,
        PolicyFault::CeilingOutOfBounds => 2,
        PolicyFault::NoBound => 3,
        PolicyFault::OpeningMissing => 4,
        PolicyFault::RanksTold => 5,
        PolicyFault::DrawUnderWay => 6,
    }
}

const fn fault_in(number: u8) -> Result<PolicyFault, Unknown> {
    Ok(match number {
        1 => PolicyFault::RateOutOfBounds,
        2 => PolicyFault::CeilingOutOfBounds,
        3 => PolicyFault::NoBound,
        4 => PolicyFault::OpeningMissing,
        5 => PolicyFault::RanksTold,
        6 => PolicyFault::DrawUnderWay,
        _ => return Err(Unknown("a policy's fault")),
    })
}

#[cfg(test)]
mod tests;
