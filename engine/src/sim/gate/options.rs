//! How one seed's gate is made, and how much goes wrong around it. All of it follows from the seed.

use std::fmt;

use crate::gate::Settings;
use crate::ids::Turn;
use crate::sim::options as shard;
use crate::sim::prng::{Prng, Stream, mix};
use crate::time::Span;

/// What the crowd and its operator do; see `workload`.
pub const KIND_COUNT: usize = 8;

/// A seed's world. Printed when a seed fails.
#[derive(Clone, Debug)]
pub struct Options {
    pub seed: u64,
    pub settings: Settings,
    pub user_count: u64,
    /// The first turn to be given out: near the end of a block in many worlds.
    pub first: Turn,
    /// Actions of the first phase.
    pub action_count: u32,
    /// The mean pause between two actions, in microseconds.
    pub pace: i64,
    /// How often each kind of action is drawn.
    pub weights: [u32; KIND_COUNT],
    /// How often a policy asks for a draw, per mille.
    pub presale: u32,
    /// How often a policy closes the gate, per mille.
    pub closing: u32,
    /// Of the clock and the timers: the shard's, with nothing of the ledger.
    pub clock: shard::Faults,
    /// The clock moves in steps of this many microseconds.
    pub grain: i64,
    pub faults: Faults,
    /// A bug planted on purpose, to prove that the rig can fail.
    pub canary: Option<Canary>,
}

/// How often things go wrong, per mille of the occasions, and how long they take, in microseconds.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    /// A crash, per step of the gate.
    pub crash: u32,
    pub mirror_latency: i64,
    /// The mirror refuses, per action.
    pub mirror_away: u32,
    /// It has forgotten everything when it does, of the occasions on which it refuses.
    pub mirror_wiped: u32,
    /// The shell reports something mirrored that was never said, per action.
    pub shell_confused: u32,
    /// Somebody brings an order that is none, per action.
    pub false_order: u32,
}

/// A known bug, planted through the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Canary {
    MirrorAcksEarly,
    MirrorForgetsRemove,
    MirrorForgetsAdmit,
    RestoreAdmitsAtOnce,
    AdmittedTwice,
    ReplyLost,
    TickLost,
    CountUntold,
    OrderSwapped,
}

impl Canary {
    pub const ALL: [Self; 9] = [
        Self::MirrorAcksEarly,
        Self::MirrorForgetsRemove,
        Self::MirrorForgetsAdmit,
        Self::RestoreAdmitsAtOnce,
        Self::AdmittedTwice,
        Self::ReplyLost,
        Self::TickLost,
        Self::CountUntold,
        Self::OrderSwapped,
    ];

    /// The name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::MirrorAcksEarly => "mirror-acks-early",
            Self::MirrorForgetsRemove => "mirror-forgets-remove",
            Self::MirrorForgetsAdmit => "mirror-forgets-admit",
            Self::RestoreAdmitsAtOnce => "restore-admits-at-once",
            Self::AdmittedTwice => "admitted-twice",
            Self::ReplyLost => "reply-lost",
            Self::TickLost => "tick-lost",
            Self::CountUntold => "count-untold",
            Self::OrderSwapped => "order-swapped",
        }
    }

    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|canary| canary.name() == name)
    }
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, user_count, first, action_count, pace, grain, .. } = self;
        writeln!(
            f,
            "gate seed {seed}: {action_count} actions, one every {pace} µs, clock in steps of {grain} µs"
        )?;
        writeln!(f, "{user_count} users from turn {first}, canary {:?}", self.canary.map(Canary::name))?;
        writeln!(f, "weights {:?}, presale {}, {:?}", self.weights, self.presale, self.settings)?;
        writeln!(f, "{:?}", self.faults)
    }
}

impl Options {
    /// The world of this seed.
    #[must_use]
    pub fn of_seed(seed: u64) -> Self {
        let mut prng = Prng::new(mix(seed ^ 0x6761_7465), Stream::Options);
        let mut weights = [0; KIND_COUNT];
        for weight in &mut weights {
            *weight = if prng.chance(120) { 0 } else { pick(&mut prng, &[1, 2, 4, 8]) };
        }
        // Without joins nothing ever happens, and many policies would drown them.
        weights[0] += 4;
        weights[6] = pick(&mut prng, &[0, 1, 1, 2]);
        let scale = pick(&mut prng, &[100_000, 1_000_000, 10_000_000]);
        let mut span = |low, high| Span(prng.between(low, high) * scale);
        let grace = span(1, 5);
        let pass_ttl = span(1, 20);
        let settings = Settings {
            pass_ttl,
            pass_max_age: Span(pass_ttl.0 + span(0, 40).0),
            grace,
            ghost_ttl: Span(grace.0 + span(1, 20).0),
        };
        let quiet = prng.chance(150);
        Self {
            seed,
            settings,
            user_count: pick(&mut prng, &[1, 3, 6, 12, 30]),
            first: Turn(pick(&mut prng, &[0, 0, 4_090, 4_096, 3 * 4_096 - 1])),
            action_count: pick(&mut prng, &[30, 100, 300]),
            pace: pick(&mut prng, &[10_000, 100_000, 500_000]),
            weights,
            presale: pick(&mut prng, &[0, 0, 300, 900]),
            closing: pick(&mut prng, &[0, 0, 50, 300]),
            clock: if quiet { shard::Faults::none() } else { clock(&mut prng) },
            grain: if prng.chance(300) { 10_000 } else { 1 },
            faults: if quiet { Faults::none() } else { Faults::of(&mut prng) },
            canary: None,
        }
    }
}

fn clock(prng: &mut Prng) -> shard::Faults {
    shard::Faults {
        clock_jump: rare(prng, 20),
        clock_stall: rare(prng, 40),
        clock_back: rare(prng, 40),
        tick_late: pick(prng, &[0, 1_000, 1_000_000]),
        ..shard::Faults::none()
    }
}

impl Faults {
    /// A world in which everything works, at once but not instantly.
    #[must_use]
    pub const fn none() -> Self {
        Self {
            crash: 0,
            mirror_latency: 2_000,
            mirror_away: 0,
            mirror_wiped: 0,
            shell_confused: 0,
            false_order: 0,
        }
    }

    fn of(prng: &mut Prng) -> Self {
        Self {
            crash: rare(prng, 30),
            mirror_latency: pick(prng, &[500, 20_000, 1_000_000]),
            mirror_away: rare(prng, 30),
            mirror_wiped: rare(prng, 500),
            shell_confused: rare(prng, 4),
            false_order: rare(prng, 40),
        }
    }
}

/// Nothing half of the time, else up to `most`.
fn rare(prng: &mut Prng, most: u64) -> u32 {
    if prng.chance(500) { 0 } else { u32::try_from(1 + prng.below(most)).unwrap_or(1) }
}

fn pick<T: Copy>(prng: &mut Prng, items: &[T]) -> T {
    *prng.pick(items).expect("not empty")
}
