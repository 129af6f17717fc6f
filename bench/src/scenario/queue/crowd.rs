//! The crowd: who comes when the schedule says, and comes again when the server said so.
//!
//! A user is a record and an entry in [`Due`]; a few connections carry all requests. Some listen to events instead, and
//! have a connection of their own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::due::Due;
use super::order::Within;
use super::promises::Told;
use super::user::{Habit, State, User};
use super::wire::Standing;
use super::{gate, watching};
use crate::history::Nanos;
use crate::http::{Answer, Connection, Request};
use crate::live::Progress;
use crate::lock::lock;
use crate::pace::{Arrival, Pace};
use crate::recorder::{Op, Sample, Tape, Verdict, nanos};
use crate::run::{Worker, Workload};
use crate::target::Introduced;
use crate::wire::Problem;
use crate::workload::Draws;

/// When somebody comes again to whom the server did not say when.
const AGAIN: Duration = Duration::from_secs(1);
/// Those who give up do so within so long of coming.
const PATIENCE: Duration = Duration::from_secs(20);
/// Ranks that are compared with the log, of answers and of events each: each costs a look at everybody.
const RANKS_MAX: usize = 1_000;

/// What users do.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    pub abandon: f64,
    /// So many of the arrivals listen to events.
    pub watchers: u32,
    pub stay: Duration,
}

pub struct Crowd {
    pub at: Introduced,
    seed: u64,
    habits: Habits,
    /// From the first arrival.
    lasts: Duration,
    /// Everything before it is 0.
    epoch: Instant,
    /// The first arrival.
    zero: OnceLock<Instant>,
    pub users: Vec<Mutex<User>>,
    pub(super) due: Arc<Due>,
    pub counts: Counts,
    /// Of answers to a status, and of events.
    pub ranks: [Mutex<Vec<Told>>; 2],
    pub(super) storms: watch::Sender<Option<Instant>>,
    tasks: Mutex<JoinSet<()>>,
    pub readings: Mutex<Vec<super::windows::Reading>>,
    admin: Arc<str>,
    storm: Option<Duration>,
    connections: usize,
}

#[derive(Debug, Default)]
pub struct Counts {
    /// Who have neither gone nor fallen silent.
    open: AtomicU64,
    pub joined: AtomicU64,
    pub rate_limited: AtomicU64,
    pub overloaded: AtomicU64,
    pub storms: AtomicU64,
    /// Of requests and streams of users, both ways.
    pub bytes: AtomicU64,
    pub requests: AtomicU64,
    ranks: [AtomicU64; 2],
}

/// What a crowd is made of.
pub struct Setting {
    pub at: Introduced,
    pub seed: u64,
    pub habits: Habits,
    pub lasts: Duration,
    pub storm: Option<Duration>,
    pub admin: Arc<str>,
    pub connections: usize,
}

impl Crowd {
    pub fn new(setting: Setting, arrivals: usize) -> Self {
        let Setting { at, seed, habits, lasts, storm, admin, connections } = setting;
        let nobody: Arc<str> = "".into();
        let counts = Counts { open: AtomicU64::new(arrivals as u64), ..Counts::default() };
        Self {
            at,
            seed,
            habits,
            lasts,
            epoch: Instant::now(),
            zero: OnceLock::new(),
            users: (0..arrivals).map(|_| Mutex::new(User::new(nobody.clone()))).collect(),
            due: Arc::new(Due::new()),
            counts,
            ranks: Default::default(),
            storms: watch::Sender::new(None),
            tasks: Mutex::default(),
            readings: Mutex::default(),
            admin,
            storm,
            connections,
        }
    }

    pub fn nanos(&self, at: Instant) -> Nanos {
        nanos(at.saturating_duration_since(self.epoch))
    }

    /// When the first arrived.
    pub fn zero(&self) -> Nanos {
        self.zero.get().map_or(0, |zero| self.nanos(*zero))
    }

    pub fn user(&self, number: u32) -> MutexGuard<'_, User> {
        lock(&self.users[number as usize])
    }

    /// Ends what goes on beside the requests.
    pub async fn disperse(&self) {
        self.due.close();
        let mut tasks = std::mem::take(&mut *lock(&self.tasks));
        tasks.shutdown().await;
    }

    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        lock(&self.tasks).spawn(task);
    }

    /// With the first arrival: the clock of those who come again, the gate's counters, and storms.
    fn begin(self: &Arc<Self>, first: Instant, pace: &Pace) {
        if self.zero.set(first).is_err() {
            return;
        }
        let (due, until, pace) = (self.due.clone(), first + self.lasts, pace.clone());
        thread::spawn(move || due.release(until, || pace.stopped()));
        self.spawn(gate::read(self.clone(), self.admin.clone()));
        if let Some(every) = self.storm {
            let crowd = self.clone();
            self.spawn(async move {
                loop {
                    tokio::time::sleep(every).await;
                    crowd.counts.storms.fetch_add(1, Ordering::Relaxed);
                    crowd.storms.send_replace(Some(Instant::now()));
                }
            });
        }
    }

    /// Every so many-th arrival listens to events, from the first to the last of them.
    fn watches(&self, number: u32) -> bool {
        let (all, watchers) = (self.users.len() as u64, u64::from(self.habits.watchers));
        (u64::from(number) + 1) * watchers / all > u64::from(number) * watchers / all
    }

    fn habit(&self, number: u32, came: Nanos) -> Habit {
        let mut draws = Draws::new(self.seed, u64::from(number));
        if self.watches(number) || draws.fraction() >= self.habits.abandon {
            return Habit::Patient;
        }
        let at = came + nanos(PATIENCE.mul_f64(draws.fraction()));
        if draws.below(2) == 0 { Habit::Leaves(at) } else { Habit::FallsSilent(at) }
    }

    /// Somebody has heard how it stands. Whether they go on, and when they are due again, unless they listen.
    pub(super) fn hear(&self, number: u32, said: &Standing, at: Within, is_stream: bool) -> State {
        let mut user = self.user(number);
        let before = user.state;
        user.hears(said, at, is_stream);
        let after = user.state;
        drop(user);
        self.counts.joined.fetch_add(
            u64::from(before == State::Coming && matches!(after, State::Waiting | State::Inside)),
            Ordering::Relaxed,
        );
        if after == State::Gone && before != State::Gone {
            self.counts.open.fetch_sub(1, Ordering::Relaxed);
        }
        if let Some(ahead) = said.ahead().filter(|_| after == State::Waiting) {
            // An event is held against what was so when it came.
            let at = if is_stream { Within { from: at.to, to: at.to } } else { at };
            self.sample(Told { user: number, at, ahead }, is_stream);
        }
        after
    }

    fn sample(&self, told: Told, is_stream: bool) {
        let which = usize::from(is_stream);
        let nth = self.counts.ranks[which].fetch_add(1, Ordering::Relaxed);
        let all = if is_stream { u64::from(self.habits.watchers) * 20 } else { self.users.len() as u64 * 2 };
        if nth.is_multiple_of((all / RANKS_MAX as u64).max(1)) {
            let mut ranks = lock(&self.ranks[which]);
            if ranks.len() < RANKS_MAX {
                ranks.push(told);
            }
        }
    }

    fn goes(&self, number: u32, how: State) {
        self.user(number).state = how;
        self.counts.open.fetch_sub(1, Ordering::Relaxed);
    }

    /// Somebody is inside now: looks whether the pass is alive in the middle of the stay, and gives it back at its end.
    pub(super) fn stays(&self, number: u32, now: Instant) {
        self.due.put(now + self.habits.stay / 2, number);
    }

    fn is_over(&self) -> bool {
        self.counts.open.load(Ordering::Relaxed) == 0
    }

    fn end_of_stay(&self, user: &User) -> Nanos {
        user.admitted.saturating_add(nanos(self.habits.stay))
    }

    fn instant(&self, at: Nanos) -> Instant {
        self.epoch + Duration::from_nanos(at)
    }
}

impl Workload for Crowd {
    async fn work(self: Arc<Self>, worker: Worker) -> anyhow::Result<()> {
        let mut connection = Connection::new(self.at.target.clone());
        let mine = (u32::from(worker.number)..).step_by(self.connections);
        for number in mine.take_while(|number| (*number as usize) < self.users.len()) {
            let id = self.at.user(self.seed, u64::from(number));
            let token = self.at.tokens.of(&mut connection, id, "USER").await?;
            self.user(number).token = token;
        }
        let mut hand = Hand { connection, tape: worker.tape, pace: worker.pace.clone(), crowd: self.clone() };
        let mut coming = true;
        while !worker.pace.stopped() {
            tokio::select! {
                arrival = worker.pace.next(), if coming => match arrival {
                    Some(arrival) => hand.comes(arrival).await,
                    None => coming = false,
                },
                due = self.due.next() => match due {
                    Some((at, number)) => hand.goes_on(number, at).await,
                    None => break,
                },
            }
            if self.is_over() {
                worker.pace.stop();
                self.due.close();
            }
        }
        Ok(())
    }

    fn progress(&self) -> Option<Progress> {
        let all = self.users.len() as u64;
        Some(Progress { what: "users through", done: all - self.counts.open.load(Ordering::Relaxed), all })
    }
}

/// One connection, for whoever is due.
struct Hand {
    connection: Connection,
    tape: Tape,
    pace: Pace,
    crowd: Arc<Crowd>,
}

impl Hand {
    async fn comes(&mut self, Arrival { number, due }: Arrival) {
        let Ok(number) = u32::try_from(number) else { return };
        self.crowd.begin(due, &self.pace);
        self.tape.user(due);
        let came = self.crowd.nanos(due);
        let habit = self.crowd.habit(number, came);
        {
            let mut user = self.crowd.user(number);
            (user.came, user.habit) = (came, habit);
            user.watches = self.crowd.watches(number);
        }
        self.joins(number, due).await;
    }

    async fn goes_on(&mut self, number: u32, due: Instant) {
        let (state, habit, end) = {
            let user = self.crowd.user(number);
            (user.state, user.habit, self.crowd.end_of_stay(&user))
        };
        let now = self.crowd.nanos(due);
        match (state, habit) {
            (State::Coming, _) => self.joins(number, due).await,
            (State::Inside, _) if now >= end => self.leaves(number, due).await,
            (State::Waiting, Habit::Leaves(at)) if now >= at => self.leaves(number, due).await,
            (State::Waiting, Habit::FallsSilent(at)) if now >= at => self.crowd.goes(number, State::Silent),
            (State::Waiting | State::Inside, _) => self.asks(number, due).await,
            (State::Gone | State::Silent, _) => {}
        }
    }

    async fn joins(&mut self, number: u32, due: Instant) {
        let body = format!("{{\"concertId\":{}}}", self.crowd.at.concert);
        let sent = self.crowd.nanos(Instant::now());
        let token = {
            let mut user = self.crowd.user(number);
            user.asks(sent);
            user.token.clone()
        };
        let request = Request::post("/api/v1/waiting-queue/join", Some(&token), &body);
        self.hears(Op::Join, number, due, &request).await;
    }

    async fn asks(&mut self, number: u32, due: Instant) {
        let path = format!("/api/v1/waiting-queue/status?concertId={}", self.crowd.at.concert);
        let token = self.crowd.user(number).token.clone();
        let request = Request { token: Some(&token), ..Request::get(&path) };
        self.hears(Op::Status, number, due, &request).await;
    }

    async fn leaves(&mut self, number: u32, due: Instant) {
        let path = format!("/api/v1/waiting-queue/leave?concertId={}", self.crowd.at.concert);
        let token = {
            let mut user = self.crowd.user(number);
            user.left.from = user.left.from.min(self.crowd.nanos(Instant::now()));
            user.token.clone()
        };
        let request = Request::delete(&path, Some(&token));
        match self.call(Op::Leave, due, due, &request).await {
            Ok(answer) => {
                self.crowd.user(number).left.to = self.crowd.nanos(answer.answered);
                self.crowd.goes(number, State::Gone);
            }
            Err(Some(again)) => self.crowd.due.put(Instant::now() + again, number),
            Err(None) => self.crowd.goes(number, State::Gone),
        }
    }

    /// Sends a join or a status, and does what follows from the answer.
    async fn hears(&mut self, op: Op, number: u32, due: Instant, request: &Request<'_>) {
        // Whoever was told to come again waits since they came: a join is not quick because refusals are.
        let since = if op == Op::Join { self.crowd.instant(self.crowd.user(number).came) } else { due };
        let again = match self.call(op, due, since, request).await {
            Ok(answer) => match answer.json::<Standing>() {
                Ok(said) => return self.heard(number, &said, &answer),
                Err(_) => AGAIN,
            },
            Err(Some(again)) => again,
            // Told no, for good.
            Err(None) => return self.crowd.goes(number, State::Gone),
        };
        self.crowd.due.put(Instant::now() + again, number);
    }

    fn heard(&self, number: u32, said: &Standing, answer: &Answer) {
        let crowd = &self.crowd;
        let at = Within { from: crowd.nanos(answer.sent), to: crowd.nanos(answer.answered) };
        let before = crowd.user(number).state;
        let state = crowd.hear(number, said, at, false);
        let (habit, watches, end) = {
            let user = crowd.user(number);
            (user.habit, user.watches, crowd.end_of_stay(&user))
        };
        match state {
            State::Waiting if watches => {
                crowd.spawn(watching::watch(crowd.clone(), number, answer.answered, self.tape.clone()));
            }
            State::Waiting => {
                let poll = answer.answered + answer.retry_after.unwrap_or(AGAIN);
                let due = match habit {
                    Habit::Leaves(at) | Habit::FallsSilent(at) => {
                        poll.min(crowd.instant(at).max(answer.answered))
                    }
                    Habit::Patient => poll,
                };
                crowd.due.put(due, number);
            }
            State::Inside if before == State::Inside => crowd.due.put(crowd.instant(end), number),
            State::Inside => crowd.stays(number, answer.answered),
            State::Coming | State::Gone | State::Silent => {}
        }
    }

    /// A successful answer, whose latency counts from `since`; or after how long to try again; or nothing, for good.
    async fn call(
        &mut self,
        op: Op,
        due: Instant,
        since: Instant,
        request: &Request<'_>,
    ) -> Result<Answer, Option<Duration>> {
        let counts = &self.crowd.counts;
        counts.requests.fetch_add(1, Ordering::Relaxed);
        let sent = Instant::now();
        let answer = match self.connection.call(request).await {
            Ok(answer) => answer,
            Err(_) => {
                let verdict = Verdict::Failed("no answer");
                self.tape.record(&Sample { op, due, sent, answered: Instant::now(), verdict });
                return Err(Some(AGAIN));
            }
        };
        let Answer { sent, answered, wire, .. } = answer;
        counts.bytes.fetch_add(wire, Ordering::Relaxed);
        let sample = Sample { op, due, sent, answered, verdict: Verdict::Granted };
        if answer.is_success() {
            self.tape.record_since(&sample, since);
            return Ok(answer);
        }
        let problem = answer.json::<Problem>();
        let code = problem.as_ref().map_or("no problem document", |problem| problem.code.as_str());
        self.tape.record(&Sample { op: refused(op), verdict: Verdict::Refused(code), ..sample });
        match answer.status {
            429 => counts.rate_limited.fetch_add(1, Ordering::Relaxed),
            500.. => counts.overloaded.fetch_add(1, Ordering::Relaxed),
            _ => return Err(None),
        };
        Err(Some(answer.retry_after.unwrap_or(AGAIN)))
    }
}

/// What a refusal counts as: those of joins are apart, so that many quick ones do not make joins look quick.
fn refused(op: Op) -> Op {
    if op == Op::Join { Op::JoinRefused } else { op }
}
