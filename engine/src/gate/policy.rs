//! What an operator may ask of a gate, and what makes no sense.

use crate::limits::{GATE_PASSES, GATE_PER_SECOND};
use crate::time::{Span, Time};

/// Whether a gate lets anybody in. The numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// In turn, as the policy says.
    Open = 1,
    /// Nobody; the line grows and keeps its order.
    Paused = 2,
    /// Everybody, without a pass.
    Off = 3,
    /// Nobody any more: sold out. Whoever waits is rejected, and whoever comes.
    Closed = 4,
}

impl State {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Paused => "paused",
            Self::Off => "off",
            Self::Closed => "closed",
        }
    }

    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Open),
            2 => Some(Self::Paused),
            3 => Some(Self::Off),
            4 => Some(Self::Closed),
            _ => None,
        }
    }
}

/// In which order people are let in. The numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// As they came.
    Fifo = 1,
    /// Whoever came before the opening is shuffled at the opening; the others queue behind, as they came.
    PresaleDraw = 2,
}

impl Mode {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fifo => "fifo",
            Self::PresaleDraw => "presale-draw",
        }
    }

    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Fifo),
            2 => Some(Self::PresaleDraw),
            _ => None,
        }
    }
}

/// A gate's policy. The shell has made it durable before the gate hears of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    pub state: State,
    pub mode: Mode,
    /// Admissions in any second, at most.
    pub per_second: Option<u32>,
    /// Live passes, at most.
    pub max_active: Option<u32>,
    /// Nobody is admitted earlier.
    pub opens_at: Option<Time>,
}

impl Default for Policy {
    fn default() -> Self {
        Self { state: State::Off, mode: Mode::Fifo, per_second: None, max_active: None, opens_at: None }
    }
}

/// Why a policy is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PolicyFault {
    /// `per_second` is not in 1..=[`GATE_PER_SECOND`]. To let nobody in there is `paused`.
    RateOutOfBounds,
    /// `max_active` is not in 1..=[`GATE_PASSES`].
    CeilingOutOfBounds,
    /// Neither a rate nor a ceiling: such a gate is `off`.
    NoBound,
    /// A draw needs a time at which it closes.
    OpeningMissing,
    /// People wait who know their rank: a draw would take it from them.
    RanksTold,
    /// The entrants of a draw are settled, and it is not drawn yet: neither mode nor opening may change.
    DrawUnderWay,
}

impl PolicyFault {
    /// The stable name, for clients and logs.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::RateOutOfBounds => "RATE_OUT_OF_BOUNDS",
            Self::CeilingOutOfBounds => "CEILING_OUT_OF_BOUNDS",
            Self::NoBound => "NO_BOUND",
            Self::OpeningMissing => "OPENING_MISSING",
            Self::RanksTold => "RANKS_TOLD",
            Self::DrawUnderWay => "DRAW_UNDER_WAY",
        }
    }
}

impl Policy {
    /// Whether the policy makes sense in itself.
    ///
    /// # Errors
    /// The first fault found.
    pub fn check(&self) -> Result<(), PolicyFault> {
        if self.per_second.is_some_and(|rate| rate == 0 || rate > GATE_PER_SECOND) {
            return Err(PolicyFault::RateOutOfBounds);
        }
        if self.max_active.is_some_and(|ceiling| ceiling == 0 || ceiling > GATE_PASSES) {
            return Err(PolicyFault::CeilingOutOfBounds);
        }
        let unbounded = self.per_second.is_none() && self.max_active.is_none();
        if unbounded && matches!(self.state, State::Open | State::Paused) {
            return Err(PolicyFault::NoBound);
        }
        if self.mode == Mode::PresaleDraw && self.opens_at.is_none() {
            return Err(PolicyFault::OpeningMissing);
        }
        Ok(())
    }

    /// Live passes, at most.
    #[must_use]
    pub fn ceiling(&self) -> u32 {
        self.max_active.unwrap_or(GATE_PASSES)
    }

    /// Whether people are admitted at `now`, if nothing else is in the way.
    #[must_use]
    pub fn is_open(&self, now: Time) -> bool {
        self.state == State::Open && self.opens_at.is_none_or(|opening| opening <= now)
    }
}

/// The tunable durations of a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long a pass lives without activity.
    pub pass_ttl: Span,
    /// How long a pass lives at most. This is signed into it.
    pub pass_max_age: Span,
    /// Who was not heard of for so long is passed over at admission.
    pub grace: Span,
    /// Who was not heard of for so long is removed, at the next whole second.
    pub ghost_ttl: Span,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            pass_ttl: Span::from_secs(300),
            pass_max_age: Span::from_secs(30 * 60),
            grace: Span::from_secs(60),
            ghost_ttl: Span::from_secs(10 * 60),
        }
    }
}
