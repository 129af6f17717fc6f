//! Lets arrivals go at their instants, and measures how well it does so itself.
//!
//! A thread of its own sleeps until an arrival is due and releases it; whoever is free takes it. Timers of an
//! asynchronous runtime are too coarse for that, and they are late exactly when the runtime is busy. The instant that
//! counts is always the one in the schedule, never the one at which somebody was free.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::sync::{Notify, Semaphore};

use crate::recorder::histogram;
use crate::schedule::Schedule;

/// The kernel may wake a sleeper this much late, to save power; 50 µs unless told.
const TIMER_SLACK_NANOS: u64 = 1_000;
/// How often a sleeping pacer looks whether it was stopped.
const PATIENCE: Duration = Duration::from_millis(50);

/// Something that is due now.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// Its place in the schedule.
    pub number: u64,
    /// From here latency counts.
    pub due: Instant,
}

/// Where workers get arrivals from: one for each. Cheap to clone.
#[derive(Clone)]
pub struct Pace {
    shared: Arc<Shared>,
    /// Whether this worker has asked for an arrival: then it is ready.
    asked: Arc<AtomicBool>,
}

struct Shared {
    mode: Mode,
    /// The clock stands still until everybody is ready.
    start: OnceLock<Instant>,
    /// Never has a permit: it is closed at the start, and when the run is stopped before it.
    gate: Semaphore,
    ready: AtomicUsize,
    one_more_ready: Notify,
    taken: AtomicUsize,
    stopped: AtomicBool,
}

enum Mode {
    /// As the schedule says.
    Open { schedule: Arc<Schedule>, released: Semaphore },
    /// Whenever somebody is free: measures what a server can take, and says little about latency.
    Closed { span: Duration },
}

/// The thread that releases.
pub struct Pacer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Histogram<u64>>>,
}

impl Pacer {
    /// Open loop: arrivals are due at the start plus their instant in the schedule.
    pub fn open(schedule: Arc<Schedule>) -> Self {
        Self::new(Mode::Open { schedule, released: Semaphore::new(0) })
    }

    /// Closed loop: everybody goes on as soon as the last answer is there, for so long.
    pub fn closed(span: Duration) -> Self {
        Self::new(Mode::Closed { span })
    }

    fn new(mode: Mode) -> Self {
        let shared = Shared {
            mode,
            start: OnceLock::new(),
            gate: Semaphore::new(0),
            ready: AtomicUsize::new(0),
            one_more_ready: Notify::new(),
            taken: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
        };
        Self { shared: Arc::new(shared), thread: None }
    }

    /// Waits until so many workers have asked for their first arrival. May be dropped while it waits.
    pub async fn ready(&self, workers: usize) {
        while self.shared.ready.load(Ordering::Relaxed) < workers {
            self.shared.one_more_ready.notified().await;
        }
    }

    /// Lets the clock run from an instant.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(&mut self, at: Instant) -> std::io::Result<()> {
        let start = *self.shared.start.get_or_init(|| at);
        if let Mode::Open { .. } = self.shared.mode {
            let shared = self.shared.clone();
            let pacer = thread::Builder::new().name("pacer".to_owned());
            self.thread = Some(pacer.spawn(move || release(&shared, start))?);
        }
        self.shared.gate.close();
        Ok(())
    }

    /// For one more worker.
    pub fn pace(&self) -> Pace {
        Pace { shared: self.shared.clone(), asked: Arc::default() }
    }

    /// Waits for the last arrival to be released. How late the releases were, in nanoseconds: the generator's own
    /// error; `None` in a closed loop, which has no schedule.
    pub fn finish(self) -> Option<Histogram<u64>> {
        self.thread.map(|thread| thread.join().unwrap_or_else(|_| histogram()))
    }
}

impl Pace {
    /// The next arrival, when it is due and nobody else took it; `None` when there is none any more. Who asks for the
    /// first time is ready: the run begins when everybody is.
    pub async fn next(&self) -> Option<Arrival> {
        let start = self.start().await?;
        let Shared { mode, taken, stopped, .. } = &*self.shared;
        match mode {
            Mode::Open { schedule, released } => {
                // Closed when the run is stopped or everything is released and taken.
                released.acquire().await.ok()?.forget();
                let number = taken.fetch_add(1, Ordering::Relaxed);
                let due = schedule.due(number)?;
                if number + 1 == schedule.len() {
                    released.close();
                }
                Some(Arrival { number: number as u64, due: start + due })
            }
            Mode::Closed { span } => {
                let now = Instant::now();
                let goes_on = now < start + *span && !stopped.load(Ordering::Relaxed);
                goes_on.then(|| Arrival { number: taken.fetch_add(1, Ordering::Relaxed) as u64, due: now })
            }
        }
    }

    /// `None` when it was stopped before.
    async fn start(&self) -> Option<Instant> {
        if self.shared.start.get().is_none() {
            if !self.asked.swap(true, Ordering::Relaxed) {
                self.shared.ready.fetch_add(1, Ordering::Relaxed);
                self.shared.one_more_ready.notify_one();
            }
            // An error is what is waited for.
            let _closed = self.shared.gate.acquire().await;
        }
        self.shared.start.get().copied()
    }

    /// No arrival after this; those under way end as they may.
    pub fn stop(&self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        self.shared.gate.close();
        if let Mode::Open { released, .. } = &self.shared.mode {
            released.close();
        }
    }

    pub fn stopped(&self) -> bool {
        self.shared.stopped.load(Ordering::Relaxed)
    }

    /// Arrivals that somebody took.
    pub fn taken(&self) -> usize {
        let taken = self.shared.taken.load(Ordering::Relaxed);
        match &self.shared.mode {
            Mode::Open { schedule, .. } => taken.min(schedule.len()),
            Mode::Closed { .. } => taken,
        }
    }
}

fn release(shared: &Shared, start: Instant) -> Histogram<u64> {
    let mut late = histogram();
    let Mode::Open { schedule, released } = &shared.mode else { return late };
    // Without it the releases are only a little less exact.
    let _coarse = nix::sys::prctl::set_timerslack(TIMER_SLACK_NANOS);
    if schedule.len() == 0 {
        released.close();
    }
    let mut number = 0;
    while let Some(due) = schedule.due(number) {
        if shared.stopped.load(Ordering::Relaxed) {
            break;
        }
        let now = Instant::now();
        let due = start + due;
        if due > now {
            thread::sleep((due - now).min(PATIENCE));
            continue;
        }
        let until = schedule.due_before(now - start).max(number + 1);
        for due in (number..until).filter_map(|number| schedule.due(number)) {
            late.saturating_record(nanos(now - (start + due)));
        }
        released.add_permits(until - number);
        number = until;
    }
    late
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(rate: f64, millis: u64) -> Pacer {
        let shape = crate::schedule::Shape::Constant { rate };
        let schedule = Schedule::new(shape, Duration::from_millis(millis), 1).unwrap();
        let mut pacer = Pacer::open(Arc::new(schedule));
        pacer.start(Instant::now()).unwrap();
        pacer
    }

    #[tokio::test]
    async fn every_arrival_is_taken_once_and_never_early() {
        let pacer = open(2_000.0, 100);
        let workers: Vec<_> = (0..4)
            .map(|_| {
                let pace = pacer.pace();
                tokio::spawn(async move {
                    let mut numbers = Vec::new();
                    while let Some(arrival) = pace.next().await {
                        assert!(arrival.due <= Instant::now());
                        numbers.push(arrival.number);
                    }
                    numbers
                })
            })
            .collect();
        let mut numbers = Vec::new();
        for worker in workers {
            numbers.extend(worker.await.unwrap());
        }
        numbers.sort_unstable();
        assert_eq!(numbers, (0..200).collect::<Vec<_>>());
        assert_eq!(pacer.finish().unwrap().len(), 200);
    }

    #[tokio::test]
    async fn whoever_is_late_still_counts_from_the_schedule() {
        let pacer = open(1_000.0, 50);
        tokio::time::sleep(Duration::from_millis(80)).await;
        let pace = pacer.pace();
        let first = pace.next().await.unwrap();
        assert!(first.due.elapsed() >= Duration::from_millis(75));
    }

    #[tokio::test]
    async fn a_stopped_run_has_no_further_arrivals() {
        let pacer = open(10.0, 60_000);
        let pace = pacer.pace();
        assert!(pace.next().await.is_some());
        pace.stop();
        assert!(pace.next().await.is_none());
        assert!(pacer.finish().is_some(), "the thread notices");
        let mut closed = Pacer::closed(Duration::from_secs(60));
        closed.start(Instant::now()).unwrap();
        let closed = closed.pace();
        assert!(closed.next().await.is_some());
        closed.stop();
        assert!(closed.next().await.is_none());
    }
    #[tokio::test]
    async fn the_clock_stands_still_until_everybody_is_ready() {
        let shape = crate::schedule::Shape::Constant { rate: 1_000.0 };
        let schedule = Schedule::new(shape, Duration::from_millis(10), 1).unwrap();
        let mut pacer = Pacer::open(Arc::new(schedule));
        let workers: Vec<_> = (0..3)
            .map(|_| {
                let pace = pacer.pace();
                tokio::spawn(async move { pace.next().await })
            })
            .collect();
        pacer.ready(3).await;
        assert!(workers.iter().all(|worker| !worker.is_finished()));
        let start = Instant::now();
        pacer.start(start).unwrap();
        for worker in workers {
            assert!(worker.await.unwrap().unwrap().due >= start);
        }
        // Who asks after the start is not waited for, and nobody is who stops before it.
        let stopped = Pacer::closed(Duration::from_secs(60));
        stopped.pace().stop();
        assert!(stopped.pace().next().await.is_none());
    }
}
