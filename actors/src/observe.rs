//! What the actors count and time, under the names of `protocol.md` §5.
//!
//! Handles are resolved once, at start: a click costs one atomic add, never a lookup by label. What can
//! be read at the moment of a scrape is read then.

use std::fmt;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, OnceLock};

use engine::handoff::End;
use engine::{Command, Outcome};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::permits::Pool;

pub use self::gates::GateGauges;
use self::gates::GateMetrics;

mod gates;
#[cfg(test)]
mod tests;

/// One click in this many is timed; ledger commands all are.
pub const SAMPLE: u32 = 64;

/// Cheap to clone; one for the whole process.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Inner>);

/// The operations of [`Command::op`], in the order of [`op_index`].
const OPS: [&str; 13] = [
    "select",
    "select_best",
    "release",
    "hold",
    "start_paying",
    "confirm",
    "cancel",
    "refund",
    "block",
    "unblock",
    "add_option",
    "set_option_status",
    "set_policy",
];

/// `OK`, the refusals by their number, then what is unavailable.
const CODES: [&str; 16] = [
    "OK",
    "OPTION_UNKNOWN",
    "REQUEST_REUSED",
    "PASS_REQUIRED",
    "OPTION_CLOSED",
    "SEATS_INVALID",
    "LIMIT_REACHED",
    "SELECT_TOO_LONG",
    "SEAT_TAKEN",
    "NOT_SELECTED",
    "NO_SEATS_TOGETHER",
    "RESERVATION_UNKNOWN",
    "HOLD_EXPIRED",
    "RESERVATION_STATE",
    "OVERLOADED",
    "LEDGER_UNAVAILABLE",
];

/// Why a lease is lost, as [`Metrics::lease_lost`] is told.
const REASONS: [&str; 2] = ["renewal", "taken"];

/// How moves end.
const ENDS: [&str; 5] = ["MOVED", "RESUMED", "TAKEN_BACK", "HALTED", "LOST"];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CommandLabels {
    op: &'static str,
    code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OpLabels {
    op: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

#[derive(Debug)]
struct Inner {
    commands: Family<CommandLabels, Counter>,
    command_handles: Vec<[Counter; CODES.len()]>,
    command_seconds: Family<OpLabels, Histogram, fn() -> Histogram>,
    command_seconds_handles: Vec<Histogram>,
    lease_renew_seconds: Histogram,
    forward_seconds: Histogram,
    lease_lost: Family<ReasonLabels, Counter>,
    moves: Family<OutcomeLabels, Counter>,
    ledger_commit_seconds: Histogram,
    ledger_batch_entries: Histogram,
    ledger_backlog: Gauge,
    ledger_unknown: Counter,
    ledger_fenced: Counter,
    ledger_up: Gauge,
    mirror_lag_seconds: Histogram,
    mirror_backlog: Gauge,
    mirror_up: Gauge,
    shard_halts: Counter,
    feed_lag_seconds: Histogram,
    viewers: Gauge,
    viewer_resets: Counter,
    expired: Family<KindLabels, Counter>,
    expired_handles: [Counter; 2],
    gates: GateMetrics,
    shards: OnceLock<Arc<[Arc<ShardGauges>]>>,
}

/// What a scrape reads of one shard; keeping it costs the shard a store, not a shared counter.
#[derive(Debug)]
pub struct ShardGauges {
    pub shard: u16,
    /// Commands not decided.
    pub(crate) undecided: Arc<Pool>,
    /// Ledger replies owed.
    pub(crate) owed: Arc<Pool>,
    pub soft_locks: AtomicUsize,
    pub holds: AtomicUsize,
    /// The epoch served here; 0 while none is.
    pub epoch: AtomicU64,
}

/// Bounds from a microsecond to ten seconds, four to a decade.
fn seconds() -> Histogram {
    const BOUNDS: [f64; 29] = [
        1e-6, 1.8e-6, 3.2e-6, 5.6e-6, 1e-5, 1.8e-5, 3.2e-5, 5.6e-5, 1e-4, 1.8e-4, 3.2e-4, 5.6e-4, 1e-3,
        1.8e-3, 3.2e-3, 5.6e-3, 1e-2, 1.8e-2, 3.2e-2, 5.6e-2, 0.1, 0.18, 0.32, 0.56, 1.0, 1.8, 3.2, 5.6,
        10.0,
    ];
    Histogram::new(BOUNDS)
}

/// Powers of two up to the cap of a batch.
fn entries() -> Histogram {
    Histogram::new([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0])
}

impl Default for Metrics {
    fn default() -> Self {
        let commands = Family::<CommandLabels, Counter>::default();
        let counter = |op, code| commands.get_or_create_owned(&CommandLabels { op, code });
        let command_handles = OPS.map(|op| CODES.map(|code| counter(op, code))).into();
        let command_seconds = Family::<OpLabels, Histogram, fn() -> Histogram>::new_with_constructor(seconds);
        let command_seconds_handles =
            OPS.map(|op| command_seconds.get_or_create_owned(&OpLabels { op })).into();
        let expired = Family::<KindLabels, Counter>::default();
        let expired_handles =
            ["SOFT_LOCK", "HOLD"].map(|kind| expired.get_or_create_owned(&KindLabels { kind }));
        // A counter that comes into being with its first event shows no rise then.
        let lease_lost = Family::<ReasonLabels, Counter>::default();
        let moves = Family::<OutcomeLabels, Counter>::default();
        for reason in REASONS {
            lease_lost.get_or_create_owned(&ReasonLabels { reason });
        }
        for outcome in ENDS {
            moves.get_or_create_owned(&OutcomeLabels { outcome });
        }
        Self(Arc::new(Inner {
            commands,
            command_handles,
            command_seconds,
            command_seconds_handles,
            lease_renew_seconds: seconds(),
            forward_seconds: seconds(),
            lease_lost,
            moves,
            ledger_commit_seconds: seconds(),
            ledger_batch_entries: entries(),
            ledger_backlog: Gauge::default(),
            ledger_unknown: Counter::default(),
            ledger_fenced: Counter::default(),
            ledger_up: Gauge::default(),
            mirror_lag_seconds: seconds(),
            mirror_backlog: Gauge::default(),
            mirror_up: Gauge::default(),
            shard_halts: Counter::default(),
            feed_lag_seconds: seconds(),
            viewers: Gauge::default(),
            viewer_resets: Counter::default(),
            expired,
            expired_handles,
            gates: GateMetrics::default(),
            shards: OnceLock::new(),
        }))
    }
}

impl Metrics {
    /// Puts every metric into the registry, which brings the `hotseat_` before each name.
    #[rustfmt::skip]
    pub fn register(&self, registry: &mut Registry) {
        let m = &self.0;
        let r = registry;
        r.register("commands", "Commands decided, by operation and verdict", m.commands.clone());
        r.register_with_unit("command", "From arrival at the owner to the answer; clicks are sampled", Unit::Seconds, m.command_seconds.clone());
        r.register_with_unit("lease_renew", "One renewal of all leases", Unit::Seconds, m.lease_renew_seconds.clone());
        r.register_with_unit("forward", "Commands whose shard another node owns, from sent to answered", Unit::Seconds, m.forward_seconds.clone());
        r.register("lease_lost", "Leases lost, by reason", m.lease_lost.clone());
        r.register("moves", "Planned moves of shards away from this node, by how they ended", m.moves.clone());
        r.register_with_unit("ledger_commit", "One batch, from sent to committed", Unit::Seconds, m.ledger_commit_seconds.clone());
        r.register("ledger_batch_entries", "Entries of a committed batch", m.ledger_batch_entries.clone());
        r.register("ledger_backlog", "Entries that the ledger has not answered", m.ledger_backlog.clone());
        r.register("ledger_unknown", "Batches whose outcome was unknown and that were written again", m.ledger_unknown.clone());
        r.register("ledger_fenced", "Shards' parts of batches that came out fenced", m.ledger_fenced.clone());
        r.register("ledger_up", "1 while the ledger answers renewals", m.ledger_up.clone());
        r.register_with_unit("mirror_lag", "From a change in memory to the mirror's acknowledgement", Unit::Seconds, m.mirror_lag_seconds.clone());
        r.register("mirror_backlog", "Changes that the mirror has not acknowledged", m.mirror_backlog.clone());
        r.register("mirror_up", "1 while the mirror answers", m.mirror_up.clone());
        r.register("shard_halts", "Shards that stopped themselves and were restored", m.shard_halts.clone());
        r.register_with_unit("feed_lag", "From a change that somebody watches to the frame that shows it", Unit::Seconds, m.feed_lag_seconds.clone());
        r.register("viewers", "Watches of options, however they are watched", m.viewers.clone());
        r.register("viewer_resets", "Snapshots for viewers who had something and could not go on from there", m.viewer_resets.clone());
        r.register("expired", "Soft locks and holds that ran out", m.expired.clone());
        m.gates.register(r);
        r.register_collector(Box::new(Scrape(self.clone())));
    }

    /// Called once, when the shards are known. A second system under the same metrics, as in a test,
    /// leaves the first one's gauges.
    pub(crate) fn watch(&self, shards: Arc<[Arc<ShardGauges>]>) {
        let _first = self.0.shards.set(shards);
    }

    /// A command was decided, or answered later with `outcome`.
    pub fn command(&self, op: Op, outcome: &Outcome) {
        self.0.command_handles[op.0][code_index(outcome)].inc();
    }

    /// How long a command took at its owner, in seconds.
    pub fn command_seconds(&self, op: Op) -> &Histogram {
        &self.0.command_seconds_handles[op.0]
    }

    #[must_use]
    pub fn forward_seconds(&self) -> &Histogram {
        &self.0.forward_seconds
    }

    #[must_use]
    pub fn lease_renew_seconds(&self) -> &Histogram {
        &self.0.lease_renew_seconds
    }

    /// A shard's lease was lost; `reason` is one of a few fixed words.
    pub fn lease_lost(&self, reason: &'static str) {
        self.0.lease_lost.get_or_create_owned(&ReasonLabels { reason }).inc();
    }

    /// A planned move of a shard away from here has ended.
    pub(crate) fn moved(&self, end: End) {
        let outcome = match end {
            End::Moved(_) => "MOVED",
            End::Resumed(_) => "RESUMED",
            End::TakenBack(_) => "TAKEN_BACK",
            End::Halted => "HALTED",
            End::Lost => "LOST",
        };
        self.0.moves.get_or_create_owned(&OutcomeLabels { outcome }).inc();
    }

    #[must_use]
    pub fn ledger_commit_seconds(&self) -> &Histogram {
        &self.0.ledger_commit_seconds
    }

    #[must_use]
    pub fn ledger_batch_entries(&self) -> &Histogram {
        &self.0.ledger_batch_entries
    }

    #[must_use]
    pub fn ledger_backlog(&self) -> &Gauge {
        &self.0.ledger_backlog
    }

    #[must_use]
    pub fn ledger_unknown(&self) -> &Counter {
        &self.0.ledger_unknown
    }

    #[must_use]
    pub fn ledger_fenced(&self) -> &Counter {
        &self.0.ledger_fenced
    }

    #[must_use]
    pub fn ledger_up(&self) -> &Gauge {
        &self.0.ledger_up
    }

    #[must_use]
    pub fn mirror_lag_seconds(&self) -> &Histogram {
        &self.0.mirror_lag_seconds
    }

    #[must_use]
    pub fn mirror_backlog(&self) -> &Gauge {
        &self.0.mirror_backlog
    }

    #[must_use]
    pub fn mirror_up(&self) -> &Gauge {
        &self.0.mirror_up
    }

    #[must_use]
    pub fn shard_halts(&self) -> &Counter {
        &self.0.shard_halts
    }

    #[must_use]
    pub fn feed_lag_seconds(&self) -> &Histogram {
        &self.0.feed_lag_seconds
    }

    #[must_use]
    pub fn viewers(&self) -> &Gauge {
        &self.0.viewers
    }

    #[must_use]
    pub fn viewer_resets(&self) -> &Counter {
        &self.0.viewer_resets
    }

    /// A soft lock ran out.
    #[must_use]
    pub fn expired_soft_locks(&self) -> &Counter {
        &self.0.expired_handles[0]
    }

    /// A hold expired.
    #[must_use]
    pub fn expired_holds(&self) -> &Counter {
        &self.0.expired_handles[1]
    }
}

/// An operation, resolved to its handles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Op(usize);

impl Op {
    #[must_use]
    pub const fn of(command: &Command) -> Self {
        Self(match command {
            Command::Select { .. } => 0,
            Command::SelectBest { .. } => 1,
            Command::Release { .. } => 2,
            Command::Hold { .. } => 3,
            Command::StartPaying { .. } => 4,
            Command::Confirm { .. } => 5,
            Command::Cancel { .. } => 6,
            Command::Refund { .. } => 7,
            Command::Block { .. } => 8,
            Command::Unblock { .. } => 9,
            Command::AddOption { .. } => 10,
            Command::SetOptionStatus { .. } => 11,
            Command::SetPolicy { .. } => 12,
        })
    }
}

#[derive(Debug)]
struct Scrape(Metrics);

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let shards: &[Arc<ShardGauges>] = self.0.0.shards.get().map_or(&[], |shards| shards);
        let serving = || shards.iter().filter(|shard| shard.epoch.load(Relaxed) != 0);
        let soft_locks: usize = serving().map(|shard| shard.soft_locks.load(Relaxed)).sum();
        let holds: usize = serving().map(|shard| shard.holds.load(Relaxed)).sum();
        let totals = [
            ("shards_owned", "Shards this node serves", serving().count()),
            ("soft_locks", "Seats SELECTING on this node", soft_locks),
            ("holds", "Reservations waiting for payment on this node", holds),
        ];
        for (name, help, value) in totals {
            let gauge = ConstGauge::new(value as u64);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        let help = "Commands sent to a shard and not yet decided, and ledger replies it owes";
        let mut family = encoder.encode_descriptor("shard_inflight", help, None, MetricType::Gauge)?;
        for shard in serving() {
            let gauge = ConstGauge::new((shard.undecided.used() + shard.owed.used()) as u64);
            gauge.encode(family.encode_family(&[("shard", shard.shard)])?)?;
        }
        Ok(())
    }
}

fn code_index(outcome: &Outcome) -> usize {
    match outcome {
        Outcome::Granted(_) => 0,
        Outcome::Refused(refusal) => refusal.number().into(),
        Outcome::Unavailable(engine::Unavailable::Overloaded) => 14,
        Outcome::Unavailable(engine::Unavailable::Ledger) => 15,
    }
}
