//! What a run found, as data: the text, the JSON, the histograms and the page are all made from it.
//!
//! Times are milliseconds unless a name says otherwise; rates are per second; instants of the clock are RFC 3339.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Of the JSON's shape.
pub const VERSION: u32 = 1;

/// Everything that one command found.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    pub version: u32,
    /// Of the bench.
    pub bench: String,
    /// As it was typed.
    pub command: String,
    pub started_at: String,
    pub seconds: f64,
    pub machine: Machine,
    pub scenarios: Vec<Scenario>,
    pub capacity: Option<Capacity>,
    pub comparison: Option<Comparison>,
    /// What can be said in a line, best first.
    pub headline: Vec<Headline>,
    pub verdict: Verdict,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Machine {
    pub cpu: String,
    pub cores: usize,
    pub memory_gib: f64,
    pub kernel: String,
    pub os: String,
}

/// A number for people: `100,000 seats in 14.2 s`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Headline {
    pub what: String,
    pub value: String,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    pub passed: bool,
    /// A sentence.
    pub text: String,
}

/// Who was measured.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    pub name: String,
    pub url: String,
    /// What it says of itself, or what we started: `ledger` → `PostgreSQL 15.18, fsync=on, …`.
    pub facts: BTreeMap<String, String>,
}

/// One scenario, repeated.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Scenario {
    pub name: String,
    pub target: Target,
    /// What was asked for, in words: `connections` → `64`, `schedule` → `poisson:500`, `seed` → `1`.
    pub settings: Vec<(String, String)>,
    pub runs: Vec<Run>,
}

/// One repetition.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    /// Without the warm-up.
    pub seconds: f64,
    pub warm_up_seconds: f64,
    /// Arrivals that were due; `None` in a closed loop.
    pub offered: Option<u64>,
    pub offered_per_second: Option<f64>,
    /// Requests answered, with yes or no.
    pub answered: u64,
    pub answered_per_second: f64,
    /// Arrivals that nobody had taken when the run ended.
    pub dropped: u64,
    pub failed: u64,
    pub generator: Generator,
    pub operations: Vec<Operation>,
    pub refusals: BTreeMap<String, u64>,
    pub failures: BTreeMap<String, u64>,
    pub timeline: Vec<Moment>,
    pub fanout: Option<Fanout>,
    pub queue: Option<Queue>,
    pub sale: Option<Sale>,
    pub audit: Audit,
}

/// How well the generator kept its own schedule.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Generator {
    /// How late arrivals were released: the generator's own error. `None` in a closed loop.
    pub schedule_error: Option<Distribution>,
    /// From due to sent, which includes waiting for a connection that the server keeps busy.
    pub lateness: Distribution,
    /// Sent more than a millisecond late.
    pub late_sends: u64,
}

/// Milliseconds.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Distribution {
    pub count: u64,
    pub mean: f64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
    /// `(percentile, milliseconds)`, ever closer to 100, for drawing.
    pub curve: Vec<(f64, f64)>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Operation {
    pub name: String,
    pub granted: u64,
    pub refused: u64,
    pub failed: u64,
    /// From due to answered.
    pub latency: Distribution,
    /// From sent to answered.
    pub service: Distribution,
    /// Raw, for the `.hgrm` file.
    #[serde(skip)]
    pub histogram: Histogram<u64>,
}

/// A piece of a run's time.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Moment {
    /// Where it begins, from the start of the run, warm-up included.
    pub at_seconds: f64,
    pub seconds: f64,
    /// Per second; `None` in a closed loop.
    pub offered: Option<f64>,
    /// Per second.
    pub answered: f64,
    pub failed: u64,
    pub p50: f64,
    pub p99: f64,
    pub max: f64,
    /// Whether it is measured.
    pub warm_up: bool,
}

/// What viewers saw.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Fanout {
    pub viewers: u64,
    pub changes: u64,
    pub frames: u64,
    pub bytes: u64,
    /// Frames whose `from` was not what their viewer had.
    pub gaps: u64,
    /// Viewers that were sent a snapshot in the middle.
    pub snapshots: u64,
    /// From the instant at which a click was due to the last viewer that saw it.
    pub click_to_last_viewer: Distribution,
    /// The same to the first one.
    pub click_to_first_viewer: Distribution,
    /// Raw, of the last viewer, for the `.hgrm` file.
    #[serde(skip)]
    pub histogram: Histogram<u64>,
}

/// What a crowd at a gate saw. Every count is of this run's users.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Queue {
    /// What the gate was set to.
    pub per_second: Option<u32>,
    pub max_active: Option<u32>,
    pub arrived: u64,
    pub joined: u64,
    /// Of those who joined while they arrived; the others joined after it.
    pub joins_per_second: f64,
    /// Requests answered with 429, and with 503: nothing was decided, and they came again.
    pub rate_limited: u64,
    pub overloaded: u64,
    pub admitted: u64,
    pub left: u64,
    pub silent: u64,
    pub watchers: u64,
    pub storms: u64,
    /// By the gate's counter, over the seconds in which more waited than could be let in and there was room,
    /// and in the slowest of them; `None`: there were none.
    pub admitted_per_second: Option<f64>,
    pub slowest_second: Option<f64>,
    /// How many seconds these were; those of them in which the counter was not read, which have their part of what it had
    /// grown by at the next reading; and those that had to be left out, as nobody knows.
    pub full_seconds: u64,
    pub unread_seconds: u64,
    pub left_out_seconds: u64,
    /// The most that were admitted within a second for certain: by the gate's counter, and by what users were told.
    pub most_counted: u64,
    pub most_told: u64,
    /// The most that had a pass at one instant for certain.
    pub most_inside: u64,
    /// Kendall's τ-b of the order of joining and that of being let in, of all and of those who listened to events: these
    /// know it at once.
    pub tau: Option<f64>,
    pub tau_watchers: Option<f64>,
    /// Pairs of whom one certainly joined first and was certainly let in last.
    pub overtaken: u64,
    /// All pairs of whom both is certain: nothing is proved of the others.
    pub told_apart: u64,
    /// How far ranks lie outside of what the log of the answers allows: answers to a status, and events.
    pub status_ranks: RankError,
    pub event_ranks: RankError,
    pub ranks_rose: u64,
    /// First estimates of those who were let in, and how many were kept.
    pub estimates: u64,
    pub estimates_kept: u64,
    pub bytes_per_waiter: f64,
    pub requests_per_waiter: f64,
    pub double_passes: u64,
    pub lost_places: u64,
    pub lost_passes: u64,
    pub seconds: Vec<GateSecond>,
}

/// Of a sample.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RankError {
    pub samples: u64,
    pub wrong: u64,
    pub worst: u64,
}

/// A second at the gate, from the first arrival.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GateSecond {
    pub at: u64,
    /// By the gate's counter, per second, evenly between two readings; `None` where nobody knows.
    pub admitted: Option<f64>,
    /// `None` in a second in which it was not read.
    pub waiting: Option<u64>,
    pub active: Option<u64>,
    /// Users who learned in this second that they may enter.
    pub learned: u64,
}

/// What was sold.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sale {
    pub seats: u64,
    pub reservations: u64,
    pub users: u64,
    /// Purchases that their users gave up, on purpose.
    pub abandoned: u64,
    /// From the first arrival to the last confirmation.
    pub seconds: f64,
    pub sold_out: bool,
}

/// What public reads say afterwards, and what the answers prove.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Audit {
    pub checks: Vec<Check>,
    pub refusals: u64,
    pub false_refusals: u64,
    pub double_grants: u64,
    pub double_sales: u64,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// `no seat was sold twice`.
    pub what: String,
    pub passed: bool,
    /// Of a failed check, the first few, one sentence each; or what was counted.
    pub details: Vec<String>,
}

/// How far it goes.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Capacity {
    pub objective: String,
    /// Closed loop, by users at once.
    pub closed: Vec<ClosedPoint>,
    /// Open loop, in the order of the search.
    pub open: Vec<OpenPoint>,
    /// `X(N) = λN / (1 + σ(N-1) + κN(N-1))` over the closed loop (Gunther 1993).
    pub law: Option<Law>,
    /// The highest rate that kept the objective, below one that broke it.
    pub knee: Option<f64>,
    /// A sentence: the knee, or why there is none.
    pub conclusion: String,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClosedPoint {
    pub users: u32,
    pub per_second: f64,
    pub p50: f64,
    pub p99: f64,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OpenPoint {
    pub offered: f64,
    pub achieved: f64,
    pub p50: f64,
    pub p99: f64,
    pub failed: u64,
    pub kept: bool,
    /// The generator could not offer this rate: it says nothing about the server.
    pub generator_limited: bool,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Law {
    /// What one user gets.
    pub lambda: f64,
    /// Contention.
    pub sigma: f64,
    /// Coherency.
    pub kappa: f64,
    /// Users at which throughput is highest; `None` where it only rises.
    pub peak_users: Option<f64>,
    pub peak_per_second: f64,
    /// Share of the variance that the law explains.
    pub r_squared: f64,
}

/// Ways of selling seats, side by side.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Comparison {
    pub seats: u32,
    pub connections: u16,
    pub rounds: u32,
    /// What was started: `PostgreSQL` → `15.18, fsync=on, …`.
    pub facts: BTreeMap<String, String>,
    pub contenders: Vec<Contender>,
    /// In the order of the table.
    pub loads: Vec<Load>,
    pub bars: Vec<Bar>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Contender {
    /// `pessimistic`.
    pub name: String,
    /// How it sells, in a sentence.
    pub idea: String,
}

/// One kind of load on every contender.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Load {
    pub name: String,
    pub what: String,
    /// By contender, in their order; `None` where its idea cannot do that.
    pub results: Vec<Option<LoadResult>>,
}

/// Of the rounds, rates and times are medians, and counts are sums.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LoadResult {
    pub clicks_per_second: f64,
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
    /// Only where holds are made.
    pub holds_per_second: Option<f64>,
    pub cpu_seconds_per_seat: Option<f64>,
    pub refused: u64,
    pub failed: u64,
    pub double_grants: u64,
    pub double_sales: u64,
    pub false_refusals: u64,
}

/// A promise, and whether it was kept.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Bar {
    pub what: String,
    /// `≥ 8×`.
    pub bar: String,
    pub measured: String,
    pub met: bool,
}
