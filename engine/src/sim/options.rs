//! How one seed's world is made: sizes, paces and how much goes wrong. All of it follows from the seed.

use std::fmt;

use super::prng::{Prng, Stream};
use crate::settings::Settings;
use crate::time::Span;

/// How many kinds of request the workload knows; see [`super::workload`].
pub const KIND_COUNT: usize = 16;

/// A seed's world. Printed when a seed fails.
#[derive(Clone, Debug)]
pub struct Options {
    pub seed: u64,
    pub settings: Settings,
    pub user_count: u64,
    pub concert_count: u64,
    /// Seats of each option.
    pub seat_counts: Vec<u32>,
    /// Commands of the first phase.
    pub command_count: u32,
    /// The mean pause between two commands, in microseconds.
    pub pace: i64,
    /// The shard's clock moves in steps of this many microseconds: in a coarse world many things
    /// happen at the very moment when another falls due.
    pub grain: i64,
    /// How often each kind of command is drawn. Some are never drawn at all, so that rare states are
    /// not always disturbed by the same frequent commands.
    pub weights: [u32; KIND_COUNT],
    pub faults: Faults,
    /// A bug planted on purpose, to prove that the rig can fail.
    pub canary: Option<Canary>,
}

/// How often things go wrong, per mille of the occasions, and how long they take, in microseconds.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    /// A crash, per step of the shard.
    pub crash: u32,
    pub crashes_at_most: u32,
    pub ledger_latency: i64,
    /// The writer hears nothing of a batch, which was applied or not.
    pub ledger_lost: u32,
    /// The ledger refuses an entry though nothing is wrong with it.
    pub ledger_refused: u32,
    /// The shell reports an entry that is not pending.
    pub shell_confused: u32,
    /// The ledger does not answer for long.
    pub ledger_stall: u32,
    pub mirror_latency: i64,
    pub mirror_lost: u32,
    pub mirror_doubled: u32,
    /// A restore has to do without the mirror.
    pub mirror_silent: u32,
    /// The mirror forgets everything, per step of the shard.
    pub mirror_crash: u32,
    /// The shard's clock jumps forward, per command.
    pub clock_jump: u32,
    pub clock_stall: u32,
    /// The caller brings a time that lies before the one it brought last.
    pub clock_back: u32,
    /// A tick comes late by up to this many microseconds.
    pub tick_late: i64,
}

/// A known bug, planted through the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Canary {
    LedgerAppliesTwice,
    LedgerDropsAcked,
    LedgerDoesNotFence,
    RestoreForgetsKeys,
    MirrorForgetsLock,
    SeatToldTwice,
    ReplyLost,
    ChangeUnpublished,
    TickLost,
}

impl Canary {
    pub const ALL: [Self; 9] = [
        Self::LedgerAppliesTwice,
        Self::LedgerDropsAcked,
        Self::LedgerDoesNotFence,
        Self::RestoreForgetsKeys,
        Self::MirrorForgetsLock,
        Self::SeatToldTwice,
        Self::ReplyLost,
        Self::ChangeUnpublished,
        Self::TickLost,
    ];

    /// The name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::LedgerAppliesTwice => "ledger-applies-twice",
            Self::LedgerDropsAcked => "ledger-drops-acked",
            Self::LedgerDoesNotFence => "ledger-does-not-fence",
            Self::RestoreForgetsKeys => "restore-forgets-keys",
            Self::MirrorForgetsLock => "mirror-forgets-lock",
            Self::SeatToldTwice => "seat-told-twice",
            Self::ReplyLost => "reply-lost",
            Self::ChangeUnpublished => "change-unpublished",
            Self::TickLost => "tick-lost",
        }
    }

    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|canary| canary.name() == name)
    }
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, user_count, concert_count, seat_counts, command_count, pace, grain, .. } = self;
        writeln!(
            f,
            "seed {seed}: {command_count} commands, one every {pace} µs, clock in steps of {grain} µs"
        )?;
        writeln!(f, "{user_count} users, {concert_count} concerts, options of {seat_counts:?} seats")?;
        writeln!(f, "weights {:?}, canary {:?}", self.weights, self.canary.map(Canary::name))?;
        writeln!(f, "{:?}", self.settings)?;
        writeln!(f, "{:?}", self.faults)
    }
}

impl Options {
    /// The world of this seed.
    #[must_use]
    pub fn of_seed(seed: u64) -> Self {
        let mut prng = Prng::new(seed, Stream::Options);
        let concert_count = 1 + prng.below(2);
        let option_count = concert_count + prng.below(2);
        let seat_high = *prng.pick(&[4, 6, 6, 16, 16, 40, 40, 150]).expect("not empty");
        let seat_counts = (0..option_count).map(|_| range(&mut prng, 2, seat_high)).collect();
        let mut weights = [0; KIND_COUNT];
        for weight in &mut weights {
            *weight = if prng.chance(120) { 0 } else { range(&mut prng, 2, 10) };
        }
        let settings = settings(&mut prng);
        let pace = pace(&mut prng, &settings);
        Self {
            seed,
            settings,
            user_count: 1 + prng.below(6),
            concert_count,
            seat_counts,
            command_count: range(&mut prng, 20, 300),
            pace,
            grain: if prng.chance(300) { 10_000 } else { 1 },
            weights,
            faults: if prng.chance(150) { Faults::none() } else { Faults::of(&mut prng) },
            canary: None,
        }
    }
}

/// From many commands within the life of a soft lock to few soft locks that live until the next command.
fn pace(prng: &mut Prng, settings: &Settings) -> i64 {
    let slowness = *prng.pick(&[1, 3, 10, 30, 100, 300]).expect("not empty");
    (settings.select_ttl.0 * slowness / 100).max(100)
}

/// Times from a few milliseconds to the defaults, so that some worlds are all deadlines.
fn settings(prng: &mut Prng) -> Settings {
    let scale = *prng.pick(&[10_000, 100_000, 1_000_000]).expect("not empty");
    let mut span = |low, high| Span(prng.between(low, high) * scale);
    let select_ttl = span(1, 30);
    Settings {
        select_ttl,
        select_max_age: Span(select_ttl.0 + span(0, 60).0),
        hold_ttl: span(1, 300),
        paying_ttl: span(1, 300),
        idempotency_horizon: span(1, 900),
        reservations_per_user: range(prng, 1, 4),
    }
}

impl Faults {
    /// A world in which everything works, at once but not instantly.
    #[must_use]
    pub const fn none() -> Self {
        Self {
            crash: 0,
            crashes_at_most: 0,
            ledger_latency: 1_000,
            ledger_lost: 0,
            ledger_refused: 0,
            shell_confused: 0,
            ledger_stall: 0,
            mirror_latency: 500,
            mirror_lost: 0,
            mirror_doubled: 0,
            mirror_silent: 0,
            mirror_crash: 0,
            clock_jump: 0,
            clock_stall: 0,
            clock_back: 0,
            tick_late: 0,
        }
    }

    fn of(prng: &mut Prng) -> Self {
        Self {
            crash: rare(prng, 40),
            crashes_at_most: range(prng, 0, 6),
            ledger_latency: *prng.pick(&[500, 20_000, 500_000, 5_000_000]).expect("not empty"),
            ledger_lost: rare(prng, 200),
            ledger_refused: rare(prng, 20),
            shell_confused: rare(prng, 4),
            ledger_stall: rare(prng, 30),
            mirror_latency: *prng.pick(&[500, 20_000, 1_000_000]).expect("not empty"),
            mirror_lost: rare(prng, 200),
            mirror_doubled: rare(prng, 200),
            mirror_silent: rare(prng, 300),
            mirror_crash: rare(prng, 10),
            clock_jump: rare(prng, 40),
            clock_stall: rare(prng, 40),
            clock_back: rare(prng, 40),
            tick_late: *prng.pick(&[0, 1_000, 1_000_000]).expect("not empty"),
        }
    }
}

/// Nothing half of the time, else up to `most`.
fn rare(prng: &mut Prng, most: u32) -> u32 {
    if prng.chance(500) { 0 } else { range(prng, 1, most) }
}

fn range(prng: &mut Prng, low: u32, high: u32) -> u32 {
    let draw = prng.below(u64::from(high - low) + 1);
    low + u32::try_from(draw).expect("drawn below a u32")
}
