//! One run of a load: workers, warm-up, the picture of it while it lasts.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use anyhow::Context;
use hdrhistogram::Histogram;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep_until};

use crate::history::{Event, Nanos, What};
use crate::live::{Live, Progress, Snapshot};
use crate::lock::lock;
use crate::pace::{Pace, Pacer};
use crate::recorder::{Recorder, Reels, Tape, nanos};
use crate::report::{self, model};
use crate::schedule::{Schedule, Shape};

/// From the instant at which everybody is ready to the first of the schedule.
const LEAD: Duration = Duration::from_millis(20);
/// How long arrivals that wait for a connection may still be taken when the time is over.
const DRAIN: Duration = Duration::from_secs(5);
/// How long those under way may take to end when nothing new begins.
const LAST_ANSWERS: Duration = Duration::from_secs(10);
/// The picture is taken so often.
const TICK: Duration = Duration::from_millis(250);
/// Runs that are longer are drawn by the second.
const LONG_RUN: Duration = Duration::from_secs(60);
/// Workers share so many tapes: each is drained several times a second, and histograms are large.
const TAPES: usize = 4;

/// What is asked of a run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// `None` is a closed loop: everybody goes on as soon as the last answer is there.
    pub shape: Option<Shape>,
    /// What is measured.
    pub span: Duration,
    /// For so long more what began is carried on, though nobody arrives; measured as well.
    pub after: Duration,
    /// Comes before, and is not counted.
    pub warm_up: Duration,
    pub connections: u16,
    pub seed: u64,
}

/// What a worker is given. It is one connection, and takes arrivals until there are none.
#[derive(Clone)]
pub struct Worker {
    pub number: u16,
    pub pace: Pace,
    pub tape: Tape,
    pub journal: Journal,
}

/// What everybody was told about each seat.
#[derive(Clone, Default)]
pub struct Journal {
    /// Everything before it is 0.
    start: Arc<OnceLock<Instant>>,
    events: Arc<Mutex<Vec<Event>>>,
}

/// A load. Whatever a worker does before it asks for its first arrival (tokens, connections) is not measured: the clock
/// runs when all of them have asked. An error breaks the run off, as one that everybody would meet; what the server
/// merely fails to do is recorded.
pub trait Workload: Send + Sync + 'static {
    fn work(self: Arc<Self>, worker: Worker) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// How far it is, where the clock does not say.
    fn progress(&self) -> Option<Progress> {
        None
    }
}

/// What came of it.
pub struct Measured {
    /// Without the warm-up.
    pub recorder: Recorder,
    /// With the warm-up.
    pub events: Vec<Event>,
    pub timeline: Vec<model::Moment>,
    /// Nanoseconds by which arrivals were released late; `None` in a closed loop.
    pub schedule_error: Option<Histogram<u64>>,
    /// Arrivals that were due and measured, and how many of them in a second of the schedule.
    pub offered: Option<u64>,
    pub offered_per_second: Option<f64>,
    /// Arrivals that nobody took before the end.
    pub dropped: u64,
    /// The end of the warm-up.
    pub measured_from: Instant,
    pub seconds: f64,
    pub warm_up_seconds: f64,
    pub interrupted: bool,
    /// What a worker could not go on with.
    pub failed: Option<anyhow::Error>,
}

impl Journal {
    /// The seats are the user's, for so long at least.
    pub fn granted(&self, seats: &[u32], user: u64, sent: Instant, answered: Instant, lasts: Duration) {
        let until = self.nanos(sent).saturating_add(nanos(lasts));
        self.note(seats, user, sent, Some(answered), What::Granted { until });
    }

    /// `answered` is `None` when no answer came.
    pub fn note(&self, seats: &[u32], user: u64, sent: Instant, answered: Option<Instant>, what: What) {
        let (sent, answered) = (self.nanos(sent), answered.map_or(Nanos::MAX, |at| self.nanos(at)));
        let mut events = lock(&self.events);
        events.extend(seats.iter().map(|seat| Event { seat: *seat, user, sent, answered, what }));
    }

    fn nanos(&self, at: Instant) -> Nanos {
        self.start.get().map_or(0, |start| nanos(at.saturating_duration_since(*start)))
    }

    fn take(&self) -> Vec<Event> {
        std::mem::take(&mut lock(&self.events))
    }
}

/// Runs a load to its end, or until somebody presses Ctrl-C; then what there is until there is returned.
///
/// # Errors
/// The run could not begin.
pub async fn measure<W: Workload>(plan: &Plan, workload: Arc<W>, live: &Live) -> anyhow::Result<Measured> {
    let (mut pacer, schedule) = pacer(plan)?;
    let (pace, journal) = (pacer.pace(), Journal::default());
    let tapes: Vec<Tape> = (0..TAPES).map(|_| Tape::default()).collect();
    let mut workers = JoinSet::new();
    for number in 0..plan.connections {
        let tape = tapes[usize::from(number) % TAPES].clone();
        let worker = Worker { number, pace: pacer.pace(), tape, journal: journal.clone() };
        workers.spawn(workload.clone().work(worker));
    }
    everybody_ready(&pacer, &mut workers, plan).await?;
    // From here on the signal is ours: it is never lost between two looks at it.
    let mut interrupts = signal(SignalKind::interrupt())?;
    // In a closed loop whoever is ready goes at once.
    let lead = if schedule.is_some() { LEAD } else { Duration::ZERO };
    let start = *journal.start.get_or_init(|| Instant::now() + lead);
    tapes.iter().for_each(|tape| tape.measure_from(start + plan.warm_up));
    pacer.start(start).context("a thread for the schedule")?;
    let mut picture = Picture::new(plan, start, schedule.clone(), tapes);
    let whole = plan.warm_up + plan.span + plan.after;
    let watch = Watch { end: start + whole, pace: &pace, live };
    let ending = watch.over(&mut workers, &mut interrupts, &mut picture, &*workload).await;
    let ended = start.elapsed();
    // Those that are left wait for an answer that does not come.
    picture.all.measured.fail("no answer when the run ended", workers.len() as u64);
    workers.shutdown().await;
    pace.stop();
    picture.take(live, workload.progress());
    live.finish();
    // A schedule that was worked off lasted as long as it says.
    let lasted = if ending.is_early { ended } else { ended.max(whole) };
    let due = |schedule: &Arc<Schedule>| schedule.due_before(ended) as u64;
    let taken = pace.taken() as u64;
    let offered = schedule.as_ref().map(|schedule| {
        let span = lasted.min(plan.warm_up + plan.span).saturating_sub(plan.warm_up);
        let offered = schedule.due_before(plan.warm_up + span) - schedule.due_before(plan.warm_up);
        (offered as u64, per_second(offered, span.as_secs_f64()))
    });
    Ok(Measured {
        recorder: picture.all.measured,
        events: journal.take(),
        timeline: picture.timeline,
        schedule_error: pacer.finish(),
        offered: offered.map(|(arrivals, _)| arrivals),
        offered_per_second: offered.map(|(_, rate)| rate),
        // A load that is over by itself, as a sale that is sold out, leaves nothing undone.
        dropped: if ending.is_sated { 0 } else { schedule.as_ref().map_or(0, due).saturating_sub(taken) },
        measured_from: start + plan.warm_up,
        seconds: lasted.saturating_sub(plan.warm_up).as_secs_f64(),
        warm_up_seconds: lasted.min(plan.warm_up).as_secs_f64(),
        interrupted: ending.interrupted,
        failed: ending.failed,
    })
}

fn pacer(plan: &Plan) -> anyhow::Result<(Pacer, Option<Arc<Schedule>>)> {
    let Some(shape) = plan.shape else {
        return Ok((Pacer::closed(plan.warm_up + plan.span), None));
    };
    let schedule = Schedule::after_warm_up(shape, plan.warm_up, plan.span, plan.seed);
    let schedule = Arc::new(schedule.map_err(anyhow::Error::msg)?);
    Ok((Pacer::open(schedule.clone()), Some(schedule)))
}

/// Nobody has a reason to end before the start but that it cannot begin.
async fn everybody_ready(
    pacer: &Pacer,
    workers: &mut JoinSet<anyhow::Result<()>>,
    plan: &Plan,
) -> anyhow::Result<()> {
    tokio::select! {
        () = pacer.ready(plan.connections.into()) => Ok(()),
        Some(worked) = workers.join_next() => worked?.and(Err(anyhow::anyhow!("a worker left before the start"))),
    }
}

/// Whoever looks on while the others work.
struct Watch<'a> {
    /// Of the schedule.
    end: Instant,
    pace: &'a Pace,
    live: &'a Live,
}

/// How a run ended.
#[derive(Default)]
struct Ending {
    interrupted: bool,
    failed: Option<anyhow::Error>,
    /// Before its time.
    is_early: bool,
    /// By itself.
    is_sated: bool,
}

impl Watch<'_> {
    /// Until everybody is done. When the time is up, or somebody presses Ctrl-C or fails for good, nothing new begins,
    /// and those under way have a while to end.
    async fn over<W: Workload>(
        &self,
        workers: &mut JoinSet<anyhow::Result<()>>,
        interrupts: &mut Signal,
        picture: &mut Picture,
        workload: &W,
    ) -> Ending {
        let mut ending = Ending::default();
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let give_up = sleep_until((self.end + DRAIN).into());
        tokio::pin!(give_up);
        let (mut stopping, mut everybody_left) = (false, false);
        while !everybody_left {
            let mut stop = false;
            tokio::select! {
                worked = workers.join_next() => match worked {
                    None => everybody_left = true,
                    Some(worked) => if let Err(error) = worked.unwrap_or_else(|error| Err(error.into())) {
                        ending.failed = ending.failed.or(Some(error));
                        stop = true;
                    },
                },
                _ = ticks.tick() => picture.tick(self.live, workload.progress()),
                // Who presses twice does not want to wait.
                _ = interrupts.recv() => match ending.interrupted {
                    true => break,
                    false => (ending.interrupted, stop) = (true, true),
                },
                () = &mut give_up => match stopping {
                    true => break,
                    false => stop = true,
                },
            }
            if !stopping && (stop || self.pace.stopped()) {
                stopping = true;
                ending.is_sated = !stop;
                ending.is_early = Instant::now() < self.end;
                self.pace.stop();
                give_up.as_mut().reset((Instant::now() + LAST_ANSWERS).into());
            }
        }
        ending
    }
}

/// Drains the tapes, moment by moment.
struct Picture {
    start: Instant,
    warm_up: Duration,
    span: Duration,
    moment: Duration,
    schedule: Option<Arc<Schedule>>,
    tapes: Vec<Tape>,
    all: Reels,
    /// Of the moment; kept because histograms are large.
    fresh: Reels,
    timeline: Vec<model::Moment>,
    /// Where the next moment begins, from the start.
    from: Duration,
    failed: u64,
}

impl Picture {
    fn new(plan: &Plan, start: Instant, schedule: Option<Arc<Schedule>>, tapes: Vec<Tape>) -> Self {
        let whole = plan.warm_up + plan.span + plan.after;
        Self {
            start,
            warm_up: plan.warm_up,
            span: plan.span + plan.after,
            moment: if whole > LONG_RUN { Duration::from_secs(1) } else { TICK },
            schedule,
            tapes,
            all: Reels::default(),
            fresh: Reels::default(),
            timeline: Vec::new(),
            from: Duration::ZERO,
            failed: 0,
        }
    }

    /// A tick that comes a little early is not a moment of its own.
    fn tick(&mut self, live: &Live, progress: Option<Progress>) {
        if self.start.elapsed() >= self.from + self.moment.mul_f64(0.9) {
            self.take(live, progress);
        }
    }

    fn take(&mut self, live: &Live, progress: Option<Progress>) {
        let elapsed = self.start.elapsed();
        let Self { fresh, tapes, .. } = self;
        fresh.clear();
        tapes.iter().for_each(|tape| tape.drain(fresh));
        let mut together = fresh.warm_up.together(|_| true);
        together.add(&fresh.measured.together(|_| true));
        let seconds = elapsed.saturating_sub(self.from).as_secs_f64();
        let offered = self.schedule.as_ref().map(|schedule| {
            per_second(schedule.due_before(elapsed) - schedule.due_before(self.from), seconds)
        });
        let percentile = |quantile| millis(together.latency.value_at_quantile(quantile));
        let answered = usize::try_from(together.granted + together.refused).unwrap_or(usize::MAX);
        self.failed += together.failed;
        let moment = model::Moment {
            at_seconds: self.from.as_secs_f64(),
            seconds,
            offered,
            answered: per_second(answered, seconds),
            failed: together.failed,
            p50: percentile(0.5),
            p99: percentile(0.99),
            max: millis(together.latency.max()),
            warm_up: self.from < self.warm_up,
        };
        live.moment(&Snapshot {
            elapsed,
            total: progress.is_none().then_some(self.warm_up + self.span),
            offered,
            answered: moment.answered,
            p50: moment.p50,
            p99: moment.p99,
            failed: self.failed,
            progress,
        });
        self.timeline.push(moment);
        self.all.add(&self.fresh);
        self.from = elapsed;
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
fn per_second(count: usize, seconds: f64) -> f64 {
    if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
}

#[expect(clippy::cast_precision_loss, reason = "a time for people")]
fn millis(nanos: u64) -> f64 {
    nanos as f64 / 1e6
}

impl Measured {
    /// For the report.
    pub fn into_run(self, audit: model::Audit) -> model::Run {
        let operation = |(op, times): (crate::recorder::Op, &crate::recorder::Times)| model::Operation {
            name: op.name().to_owned(),
            granted: times.granted,
            refused: times.refused,
            failed: times.failed,
            latency: report::distribution(&times.latency),
            service: report::distribution(&times.service),
            histogram: times.latency.clone(),
        };
        let all = self.recorder.together(|_| true);
        let answered = all.granted + all.refused;
        let rate = |count: u64| per_second(usize::try_from(count).unwrap_or(usize::MAX), self.seconds);
        model::Run {
            seconds: self.seconds,
            warm_up_seconds: self.warm_up_seconds,
            offered: self.offered,
            offered_per_second: self.offered_per_second,
            answered,
            answered_per_second: rate(answered),
            dropped: self.dropped,
            failed: self.recorder.failures.values().sum(),
            generator: model::Generator {
                schedule_error: self.schedule_error.as_ref().map(report::distribution),
                lateness: report::distribution(&self.recorder.lateness),
                late_sends: self.recorder.late_sends,
            },
            operations: self.recorder.operations().map(operation).collect(),
            refusals: self.recorder.refusals.clone(),
            failures: self.recorder.failures.clone(),
            timeline: self.timeline,
            fanout: None,
            queue: None,
            sale: None,
            audit,
        }
    }
}
