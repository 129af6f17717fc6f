//! How one seed's cluster is made. All of it follows from the seed.

use std::fmt;

use crate::lease::Terms;
use crate::settings::Settings;
use crate::sim::options as shard;
use crate::sim::prng::{Prng, Stream, mix};
use crate::time::Span;

/// A seed's cluster. Printed when a seed fails.
#[derive(Clone, Debug)]
pub struct Options {
    pub seed: u64,
    pub nodes: usize,
    pub shards: u16,
    pub terms: Terms,
    pub settings: Settings,
    /// Commands of the first phase, all shards together.
    pub command_count: u32,
    /// The mean pause between two commands, in microseconds.
    pub pace: i64,
    pub faults: Faults,
    /// A bug planted on purpose, to prove that the rig can fail.
    pub canary: Option<Canary>,
}

/// How often things go wrong, per mille of the occasions, and how long they take, in microseconds of
/// the ledger's clock.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    /// By how much a node's clock may be slower or faster than the ledger's.
    pub drift: i64,
    pub latency: i64,
    /// A message takes very long, per message.
    pub slow: u32,
    pub lost: u32,
    /// Between nodes only, and never a client's command: those travel in streams.
    pub doubled: u32,
    pub ledger_latency: i64,
    /// How long an append keeps its lease row locked.
    pub commit: i64,
    /// A link fails, one way or both, per occasion. An occasion comes with each command.
    pub partition: u32,
    /// Nobody reaches the ledger, per occasion.
    pub outage: u32,
    /// A node stands still between two events, per occasion.
    pub pause: u32,
    /// A node stands still between two effects of a step, per step.
    pub pause_in_step: u32,
    /// A node dies, per occasion, now and then with its machine.
    pub crash: u32,
    /// A node dies between two effects, per step.
    pub crash_in_step: u32,
    /// A node dies before it does what a move orders, per order.
    pub crash_in_move: u32,
    /// A node says farewell, per occasion.
    pub farewell: u32,
    /// A node that lives looks dead from most sides, per occasion.
    pub lookalike: u32,
    /// The ledger fails over to its standby, per occasion.
    pub fail_over: u32,
    /// And the standby was not synchronous, per fail-over.
    pub behind: u32,
    /// A mirror forgets everything, per occasion.
    pub mirror_wiped: u32,
    /// A restore has to do without the mirror.
    pub mirror_silent: u32,
    /// The ledger refuses an entry though nothing is wrong with it, per batch.
    pub refused: u32,
    /// Somebody asks for a move, per occasion. Not a fault, but it stops with them.
    pub moves: u32,
}

/// A known bug, planted through the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Canary {
    FenceNotChecked,
    DeadlineNotChecked,
    DeadlineFromTheAnswer,
    AcquireDoesNotWait,
    AcquireAtOnce,
    SilenceIsAway,
    HandOverWithFreeWindow,
    UnknownIsFailure,
    StaleStateServed,
    AttemptsNotTold,
    ParkedDropped,
    ParkedReordered,
    RouteChangedEarly,
    ReadBeforeQuiet,
    RefusalsForgotten,
    SilenceIsDeath,
    OnePortIsDeath,
    SessionsNotCounted,
    SeenNotCompared,
    ReleasedWhileDeciding,
    FailOverUnnoticed,
    EpochsGivenAgain,
    DeadAtOnce,
    EndedForGood,
}

impl Canary {
    pub const ALL: [Self; 24] = [
        Self::FenceNotChecked,
        Self::DeadlineNotChecked,
        Self::DeadlineFromTheAnswer,
        Self::AcquireDoesNotWait,
        Self::AcquireAtOnce,
        Self::SilenceIsAway,
        Self::HandOverWithFreeWindow,
        Self::UnknownIsFailure,
        Self::StaleStateServed,
        Self::AttemptsNotTold,
        Self::ParkedDropped,
        Self::ParkedReordered,
        Self::RouteChangedEarly,
        Self::ReadBeforeQuiet,
        Self::RefusalsForgotten,
        Self::SilenceIsDeath,
        Self::OnePortIsDeath,
        Self::SessionsNotCounted,
        Self::SeenNotCompared,
        Self::ReleasedWhileDeciding,
        Self::FailOverUnnoticed,
        Self::EpochsGivenAgain,
        Self::DeadAtOnce,
        Self::EndedForGood,
    ];

    /// The name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::FenceNotChecked => "fence-not-checked",
            Self::DeadlineNotChecked => "deadline-not-checked",
            Self::DeadlineFromTheAnswer => "deadline-from-the-answer",
            Self::AcquireDoesNotWait => "acquire-does-not-wait",
            Self::AcquireAtOnce => "acquire-at-once",
            Self::SilenceIsAway => "silence-is-away",
            Self::HandOverWithFreeWindow => "hand-over-with-free-window",
            Self::UnknownIsFailure => "unknown-is-failure",
            Self::StaleStateServed => "stale-state-served",
            Self::AttemptsNotTold => "attempts-not-told",
            Self::ParkedDropped => "parked-dropped",
            Self::ParkedReordered => "parked-reordered",
            Self::RouteChangedEarly => "route-changed-early",
            Self::ReadBeforeQuiet => "read-before-quiet",
            Self::RefusalsForgotten => "refusals-forgotten",
            Self::SilenceIsDeath => "silence-is-death",
            Self::OnePortIsDeath => "one-port-is-death",
            Self::SessionsNotCounted => "sessions-not-counted",
            Self::SeenNotCompared => "seen-not-compared",
            Self::ReleasedWhileDeciding => "released-while-deciding",
            Self::FailOverUnnoticed => "fail-over-unnoticed",
            Self::EpochsGivenAgain => "epochs-given-again",
            Self::DeadAtOnce => "dead-at-once",
            Self::EndedForGood => "ended-for-good",
        }
    }

    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|canary| canary.name() == name)
    }
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, nodes, shards, command_count, pace, .. } = self;
        writeln!(f, "cluster seed {seed}: {nodes} nodes, {shards} shards")?;
        writeln!(f, "{command_count} commands, one every {pace} µs, canary {:?}", self.canary)?;
        writeln!(f, "{:?}\n{:?}\n{:?}", self.terms, self.settings, self.faults)
    }
}

impl Options {
    /// The cluster of this seed.
    #[must_use]
    pub fn of_seed(seed: u64) -> Self {
        let mut prng = Prng::new(mix(seed), Stream::Options);
        let mut span = |low, high| Span(prng.between(low, high) * 1_000_000);
        let select_ttl = span(2, 15);
        let settings = Settings {
            select_ttl,
            select_max_age: Span(select_ttl.0 + span(0, 20).0),
            hold_ttl: span(2, 30),
            paying_ttl: span(2, 30),
            idempotency_horizon: span(5, 40),
            reservations_per_user: 4,
        };
        Self {
            seed,
            nodes: pick(&mut prng, &[2, 2, 3, 3, 4]),
            shards: pick(&mut prng, &[1, 1, 2, 3]),
            terms: Terms::default(),
            settings,
            command_count: pick(&mut prng, &[40, 80, 160]),
            pace: pick(&mut prng, &[20_000, 200_000, 500_000]),
            faults: if prng.chance(100) { Faults::none() } else { Faults::of(&mut prng) },
            canary: None,
        }
    }

    /// The clients and the plans of one shard.
    #[must_use]
    pub fn shard(&self, shard: u16) -> shard::Options {
        let seed = mix(self.seed ^ mix(u64::from(shard) + 1));
        let options = shard::Options::of_seed(seed);
        let seat_counts = options.seat_counts.iter().map(|count| (*count).min(40)).collect();
        shard::Options { seat_counts, settings: self.settings, faults: self.faults.shell(), ..options }
    }
}

impl Faults {
    /// A cluster in which everything works, at once but not instantly.
    #[must_use]
    pub const fn none() -> Self {
        Self {
            drift: 0,
            latency: 1_000,
            slow: 0,
            lost: 0,
            doubled: 0,
            ledger_latency: 2_000,
            commit: 1_000,
            partition: 0,
            outage: 0,
            pause: 0,
            pause_in_step: 0,
            crash: 0,
            crash_in_step: 0,
            crash_in_move: 0,
            farewell: 0,
            lookalike: 0,
            fail_over: 0,
            behind: 0,
            mirror_wiped: 0,
            mirror_silent: 0,
            refused: 0,
            moves: 0,
        }
    }

    fn of(prng: &mut Prng) -> Self {
        Self {
            drift: pick(prng, &[0, 20, 190]),
            latency: pick(prng, &[500, 20_000, 200_000]),
            slow: rare(prng, 60),
            lost: rare(prng, 100),
            doubled: rare(prng, 100),
            ledger_latency: pick(prng, &[500, 20_000, 200_000]),
            commit: pick(prng, &[100, 5_000, 300_000, 2_400_000]),
            partition: rare(prng, 60),
            outage: rare(prng, 40),
            pause: rare(prng, 40),
            pause_in_step: rare(prng, 10),
            crash: rare(prng, 20),
            crash_in_step: rare(prng, 10),
            crash_in_move: rare(prng, 60),
            farewell: rare(prng, 20),
            lookalike: rare(prng, 40),
            fail_over: rare(prng, 12),
            behind: pick(prng, &[0, 500, 1_000]),
            mirror_wiped: rare(prng, 20),
            mirror_silent: rare(prng, 300),
            refused: rare(prng, 10),
            moves: rare(prng, 200),
        }
    }

    /// The faults of the way to the mirror. The way to the ledger is the cluster's own.
    #[must_use]
    pub const fn shell(&self) -> shard::Faults {
        let quiet = shard::Faults::none();
        shard::Faults {
            mirror_latency: if self.lost > 0 { 20_000 } else { quiet.mirror_latency },
            mirror_lost: self.lost,
            mirror_doubled: self.doubled,
            ledger_latency: 0,
            ..quiet
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
