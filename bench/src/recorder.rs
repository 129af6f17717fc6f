//! What happened, counted, and drained by whoever draws the picture.
//!
//! A sample has three instants: when it was due, when it was sent and when it was answered. Latency is from due to
//! answered, so that a server which stalls cannot hide the requests that it kept from being sent.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::lock::lock;

/// Later than this is a late send.
pub const LATE: Duration = Duration::from_millis(1);

/// What is timed, in the order of a user's day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Op {
    Look,
    Select,
    Best,
    Release,
    Hold,
    Confirm,
    Cancel,
    /// What changed since, asked by those who poll.
    Changes,
    /// Get in line at a gate, from the first try to the yes.
    Join,
    /// A try that was refused.
    JoinRefused,
    /// How it stands, asked by those who wait.
    Status,
    /// Get out of the line, or out of the sale.
    Leave,
    /// Listen to a gate, from the wish to the first event.
    Subscribe,
}

impl Op {
    pub const ALL: [Self; 13] = [
        Self::Look,
        Self::Select,
        Self::Best,
        Self::Release,
        Self::Hold,
        Self::Confirm,
        Self::Cancel,
        Self::Changes,
        Self::Join,
        Self::JoinRefused,
        Self::Status,
        Self::Leave,
        Self::Subscribe,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Look => "look",
            Self::Select => "select",
            Self::Best => "select best",
            Self::Release => "release",
            Self::Hold => "hold",
            Self::Confirm => "confirm",
            Self::Cancel => "cancel",
            Self::Changes => "changes",
            Self::Join => "join",
            Self::JoinRefused => "join refused",
            Self::Status => "status",
            Self::Leave => "leave",
            Self::Subscribe => "subscribe",
        }
    }

    /// A decision about seats in memory.
    pub const fn is_click(self) -> bool {
        matches!(self, Self::Select | Self::Best | Self::Release)
    }
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    Granted,
    /// The code of the problem.
    Refused(&'a str),
    /// No answer, or one that means that the server could not decide.
    Failed(&'a str),
}

/// A request that is over.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    pub op: Op,
    pub due: Instant,
    pub sent: Instant,
    pub answered: Instant,
    pub verdict: Verdict<'a>,
}

/// Of one operation.
#[derive(Clone, Debug)]
pub struct Times {
    /// Nanoseconds from due to answered. Failed requests are not in it.
    pub latency: Histogram<u64>,
    /// Nanoseconds from sent to answered: what a generator that waits for its turn would have reported.
    pub service: Histogram<u64>,
    pub granted: u64,
    pub refused: u64,
    pub failed: u64,
}

/// Counts and histograms, of an interval or of a whole run.
#[derive(Clone, Debug)]
pub struct Recorder {
    times: Vec<Times>,
    /// Nanoseconds from due to sent.
    pub lateness: Histogram<u64>,
    pub late_sends: u64,
    /// By code.
    pub refusals: BTreeMap<String, u64>,
    pub failures: BTreeMap<String, u64>,
    pub users: u64,
    pub seats_sold: u64,
}

/// Nanoseconds, up to 10 minutes, 3 digits.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 600_000_000_000, 3)
        .expect("the bounds are in order and 3 digits are allowed")
}

impl Default for Times {
    fn default() -> Self {
        Self { latency: histogram(), service: histogram(), granted: 0, refused: 0, failed: 0 }
    }
}

impl Times {
    pub fn count(&self) -> u64 {
        self.granted + self.refused + self.failed
    }

    pub fn add(&mut self, other: &Self) {
        add(&mut self.latency, &other.latency);
        add(&mut self.service, &other.service);
        self.granted += other.granted;
        self.refused += other.refused;
        self.failed += other.failed;
    }

    fn clear(&mut self) {
        self.latency.reset();
        self.service.reset();
        (self.granted, self.refused, self.failed) = (0, 0, 0);
    }
}

impl Default for Recorder {
    fn default() -> Self {
        Self {
            times: Op::ALL.map(|_| Times::default()).to_vec(),
            lateness: histogram(),
            late_sends: 0,
            refusals: BTreeMap::new(),
            failures: BTreeMap::new(),
            users: 0,
            seats_sold: 0,
        }
    }
}

impl Recorder {
    /// `since` is where latency begins: before `due` where the request repeats an earlier one.
    pub fn record(&mut self, sample: &Sample<'_>, since: Instant) {
        let Sample { op, due, sent, answered, verdict } = *sample;
        let lateness = sent.saturating_duration_since(due);
        self.lateness.saturating_record(nanos(lateness));
        self.late_sends += u64::from(lateness > LATE);
        let times = &mut self.times[op as usize];
        match verdict {
            Verdict::Granted => times.granted += 1,
            Verdict::Refused(code) => {
                times.refused += 1;
                count(&mut self.refusals, code);
            }
            Verdict::Failed(why) => {
                times.failed += 1;
                count(&mut self.failures, why);
                return;
            }
        }
        times.latency.saturating_record(nanos(answered.saturating_duration_since(since)));
        times.service.saturating_record(nanos(answered.saturating_duration_since(sent)));
    }

    /// Requests of which nobody knows more than that they failed.
    pub fn fail(&mut self, why: &str, number: u64) {
        if number > 0 {
            *self.failures.entry(why.to_owned()).or_default() += number;
        }
    }

    pub fn of(&self, op: Op) -> &Times {
        &self.times[op as usize]
    }

    /// Operations that happened.
    pub fn operations(&self) -> impl Iterator<Item = (Op, &Times)> {
        Op::ALL.into_iter().zip(&self.times).filter(|(_, times)| times.count() > 0)
    }

    /// Those of several operations together.
    pub fn together(&self, which: impl Fn(Op) -> bool) -> Times {
        let mut all = Times::default();
        for (_, times) in self.operations().filter(|(op, _)| which(*op)) {
            all.add(times);
        }
        all
    }

    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.times.iter_mut().zip(&other.times) {
            // Most intervals know few operations, and a histogram is large.
            if theirs.count() > 0 {
                mine.add(theirs);
            }
        }
        if !other.lateness.is_empty() {
            add(&mut self.lateness, &other.lateness);
        }
        self.late_sends += other.late_sends;
        for (code, number) in &other.refusals {
            *self.refusals.entry(code.clone()).or_default() += number;
        }
        for (why, number) in &other.failures {
            *self.failures.entry(why.clone()).or_default() += number;
        }
        self.users += other.users;
        self.seats_sold += other.seats_sold;
    }

    pub fn clear(&mut self) {
        self.times.iter_mut().filter(|times| times.count() > 0).for_each(Times::clear);
        if !self.lateness.is_empty() {
            self.lateness.reset();
        }
        self.refusals.clear();
        self.failures.clear();
        (self.late_sends, self.users, self.seats_sold) = (0, 0, 0);
    }
}

/// What some workers write and somebody else drains. Nobody holds it for long, so that several workers may share one.
#[derive(Clone, Debug, Default)]
pub struct Tape(Arc<Mutex<Written>>);

#[derive(Debug, Default)]
struct Written {
    /// What is due before is the warm-up, and so is everything while there is no such instant.
    measured_from: Option<Instant>,
    reels: Reels,
}

/// Counts of the warm-up, and of what is measured.
#[derive(Clone, Debug, Default)]
pub struct Reels {
    pub warm_up: Recorder,
    pub measured: Recorder,
}

impl Tape {
    /// What is due from here on is measured.
    pub fn measure_from(&self, instant: Instant) {
        self.lock().measured_from = Some(instant);
    }

    pub fn record(&self, sample: &Sample<'_>) {
        self.record_since(sample, sample.due);
    }

    /// One that repeats an earlier request, which was due then and not granted.
    pub fn record_since(&self, sample: &Sample<'_>, since: Instant) {
        self.lock().of(sample.due).record(sample, since);
    }

    /// A user came.
    pub fn user(&self, due: Instant) {
        self.lock().of(due).users += 1;
    }

    /// Seats were paid for.
    pub fn sold(&self, due: Instant, seats: u64) {
        self.lock().of(due).seats_sold += seats;
    }

    /// Adds what was recorded since the last time to `into`, and begins anew.
    pub fn drain(&self, into: &mut Reels) {
        let Written { reels, .. } = &mut *self.lock();
        into.add(reels);
        reels.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Written> {
        lock(&self.0)
    }
}

impl Written {
    fn of(&mut self, due: Instant) -> &mut Recorder {
        let is_measured = self.measured_from.is_some_and(|from| due >= from);
        if is_measured { &mut self.reels.measured } else { &mut self.reels.warm_up }
    }
}

impl Reels {
    pub fn add(&mut self, other: &Self) {
        self.warm_up.add(&other.warm_up);
        self.measured.add(&other.measured);
    }

    pub fn clear(&mut self) {
        self.warm_up.clear();
        self.measured.clear();
    }
}

fn add(to: &mut Histogram<u64>, from: &Histogram<u64>) {
    to.add(from).expect("all histograms have the same bounds");
}

fn count(counts: &mut BTreeMap<String, u64>, code: &str) {
    match counts.get_mut(code) {
        Some(count) => *count += 1,
        None => {
            counts.insert(code.to_owned(), 1);
        }
    }
}

pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_counts_from_the_schedule_and_service_from_the_send() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let tape = Tape::default();
        tape.measure_from(start);
        let sample = Sample {
            op: Op::Select,
            due: at(0),
            sent: at(40),
            answered: at(50),
            verdict: Verdict::Refused("SEAT_TAKEN"),
        };
        tape.record(&sample);
        tape.record(&Sample { verdict: Verdict::Failed("no answer"), ..sample });
        tape.record(&Sample { due: at(40), op: Op::Hold, verdict: Verdict::Granted, ..sample });
        tape.record(&Sample { due: start - Duration::from_secs(1), ..sample });
        let mut reels = Reels::default();
        tape.drain(&mut reels);
        tape.drain(&mut reels);
        assert_eq!(reels.warm_up.of(Op::Select).count(), 1);
        let all = reels.measured;
        let select = all.of(Op::Select);
        assert_eq!((select.granted, select.refused, select.failed), (0, 1, 1));
        assert_eq!(select.latency.max() / 1_000_000, 50);
        assert_eq!(select.service.max() / 1_000_000, 10);
        assert_eq!(select.latency.len(), 1, "failures have no latency");
        assert_eq!(all.late_sends, 2);
        assert_eq!(all.refusals["SEAT_TAKEN"], 1);
        assert_eq!(all.together(|op| op.is_click()).count(), 2);
        assert_eq!(all.operations().count(), 2);
    }

    #[test]
    fn what_is_asked_again_takes_as_long_as_all_of_it() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        // Due, sent and answered, since when; latency, service, and whether it was sent late.
        for ([due, sent, answered, since], latency, service, late) in [
            ([0, 0, 10, 0], 10, 10, 0),
            ([2_000, 2_000, 2_010, 0], 2_010, 10, 0),
            ([2_000, 2_040, 2_050, 1_000], 1_050, 10, 1),
        ] {
            let (op, verdict) = (Op::Join, Verdict::Granted);
            let mut recorder = Recorder::default();
            let sample = Sample { op, due: at(due), sent: at(sent), answered: at(answered), verdict };
            recorder.record(&sample, at(since));
            let join = recorder.of(Op::Join);
            // A histogram has three digits.
            let took = join.latency.max() / 1_000_000;
            assert!(took.abs_diff(latency) <= 2, "{due}: {took}");
            assert_eq!((join.service.max() / 1_000_000, recorder.late_sends), (service, late), "{due}");
        }
    }
}
