//! What a waiting room of a million costs: joins, memory, ticks, admissions past ghosts, a draw.
//! `cargo bench -p engine --bench gate`
//!
//! A program, not a test: it prints the machine, the numbers, each the median of several runs, and whether they
//! meet the bars. Long times are those the thread spent on its core where Linux tells them, so that neighbours count
//! less.
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a benchmark reads the clock and the machine"
)]
#![expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "sizes here are small")]

use std::alloc::System;
use std::collections::VecDeque;
use std::time::Instant;

use engine::gate::draw::{Digest, Tree, leaf, order, salt};
use engine::gate::{Effect, Effects, Gate, Input, Mode, Policy, Settings, Snapshot, State, Tick};
use engine::sim::prng::mix;
use engine::{ConcertId, Epoch, OpNo, ReplyTo, Span, Time, Turn, UserId};
use sha2::Digest as _;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

use self::common::{machine, median};

mod common;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const START: Time = Time(1_800_000_000_000_000);
const RUNS: usize = 5;
const MILLION: u64 = 1_000_000;
/// Operations between two acknowledgements of the mirror.
const BATCH: u64 = 512;
const CONCERT: ConcertId = ConcertId(1);

fn main() {
    machine();
    joins();
    longest();
    memory();
    ticks();
    ghosts(None);
    ghosts(Some(2));
    draw();
}

/// Nanoseconds of this thread on its core; by the wall where nobody tells.
struct Watch {
    core: Option<u64>,
    wall: Instant,
}

impl Watch {
    fn start() -> Self {
        Self { core: on_core(), wall: Instant::now() }
    }

    fn nanos(&self) -> f64 {
        match self.core.zip(on_core()) {
            Some((before, now)) => (now - before) as f64,
            None => self.wall.elapsed().as_nanos() as f64,
        }
    }
}

fn on_core() -> Option<u64> {
    std::fs::read_to_string("/proc/thread-self/schedstat").ok()?.split_whitespace().next()?.parse().ok()
}

fn bar(what: &str, met: bool) {
    println!("  bar: {what}: {}", if met { "met" } else { "MISSED" });
}

fn paused() -> Policy {
    Policy { state: State::Paused, per_second: Some(1_000), ..Policy::default() }
}

/// A gate and a mirror that takes everything, a batch at a time.
struct Bench {
    gate: Gate,
    effects: Effects,
    newest: OpNo,
    acked: OpNo,
    admitted: Vec<Time>,
}

impl Bench {
    fn new(policy: Policy) -> Self {
        let mut gate = Gate::new(CONCERT, Epoch(1), Settings::default());
        gate.restore(START - Span::from_secs(1), policy, &Snapshot::default());
        Self { gate, effects: Effects::new(), newest: OpNo(0), acked: OpNo(0), admitted: Vec::new() }
    }

    fn step(&mut self, now: Time, input: Input) {
        self.effects.clear();
        self.gate.step(now, input, &mut self.effects);
        for effect in &self.effects {
            match effect {
                Effect::Mirror { no, .. } => self.newest = *no,
                Effect::Admitted { .. } => self.admitted.push(now),
                _ => {}
            }
        }
    }

    fn ack(&mut self, now: Time) {
        self.acked = self.newest;
        self.step(now, Input::Mirrored { upto: self.newest });
    }

    /// Users `from..to` join.
    fn join(&mut self, now: Time, from: u64, to: u64) {
        for user in from..to {
            self.step(now, Input::Join { user: UserId(user + 1), to: ReplyTo(user) });
            if self.newest.0 - self.acked.0 >= BATCH {
                self.ack(now);
            }
        }
        self.ack(now);
    }
}

/// The heap's bytes.
fn allocated() -> i64 {
    ALLOCATOR.stats().bytes_allocated as i64 - ALLOCATOR.stats().bytes_deallocated as i64
}

fn joins() {
    const MORE: u64 = 400_000;
    let (mut fill, mut more, mut again, mut status) = (vec![], vec![], vec![], vec![]);
    let mut allocations = 0;
    for _ in 0..RUNS {
        let mut bench = Bench::new(paused());
        let started = Watch::start();
        bench.join(START, 0, MILLION);
        fill.push(started.nanos() / MILLION as f64);
        let before = ALLOCATOR.stats().allocations;
        let started = Watch::start();
        bench.join(START, MILLION, MILLION + MORE);
        more.push(started.nanos() / MORE as f64);
        allocations = ALLOCATOR.stats().allocations - before;
        for (times, what) in [(&mut again, 0u64), (&mut status, 1)] {
            let started = Watch::start();
            for nth in 0..MORE {
                let (user, to) = (UserId(1 + mix(nth + what * MORE) % MILLION), ReplyTo(nth));
                bench.step(
                    START,
                    if what == 0 { Input::Join { user, to } } else { Input::Status { user, to } },
                );
            }
            times.push(started.nanos() / MORE as f64);
        }
    }
    let rate = |nanos: f64| 1_000.0 / nanos;
    let joins = rate(median(&mut more));
    println!("joins, each answered after a batch of {BATCH} is in the mirror:");
    println!(
        "  {:.2} M/s until 1 M wait, {joins:.2} M/s beyond ({allocations} allocations in {MORE})",
        rate(median(&mut fill))
    );
    println!(
        "  again by anybody {:.0} ns; status by anybody, with its exact rank, {:.0} ns",
        median(&mut again),
        median(&mut status)
    );
    bar("1 M joins/s with 1 M waiting", joins >= 1.0);
    println!();
}

/// What the slowest of a million joins takes: nobody waits for a table that grows.
fn longest() {
    let mut longest = Vec::new();
    for _ in 0..RUNS {
        let mut bench = Bench::new(paused());
        let mut slowest = 0.0_f64;
        for user in 0..MILLION {
            let started = Instant::now();
            bench.join(START, user, user + 1);
            slowest = slowest.max(started.elapsed().as_nanos() as f64);
        }
        longest.push(slowest / 1e6);
    }
    println!("the slowest of {MILLION} joins, by the wall:");
    println!("  {:.2} ms", median(&mut longest));
    println!();
}

fn memory() {
    let before = allocated();
    let mut bench = Bench::new(paused());
    bench.join(START, 0, MILLION);
    bench.effects = Effects::new();
    let bytes = allocated() - before;
    println!("memory of a gate where 1 M wait:");
    println!("  {:.1} MB, {:.1} bytes per waiter", bytes as f64 / 1e6, bytes as f64 / MILLION as f64);
    bar("≤ 64 bytes per waiter, ≤ 100 MB", bytes <= 64 * MILLION as i64);
    // A few more than fit into the tables of users, which have doubled one after the other.
    let most = (1 << 20) + (1 << 15);
    bench.join(START, MILLION, most);
    bench.effects = Effects::new();
    println!("  {:.1} bytes per waiter at {most}, the worst", (allocated() - before) as f64 / most as f64);
    let snapshot = bench.gate.snapshot();
    let started = Watch::start();
    let mut gate = Gate::new(CONCERT, Epoch(2), Settings::default());
    gate.restore(START, paused(), &snapshot);
    println!("  restored from a snapshot in {:.0} ms", started.nanos() / 1e6);
    println!();
}

/// What a tick costs after `admissions` from the front and as many joins at the end.
fn tick_cost(waiting: u64, admissions: u64) -> (f64, usize, usize) {
    let policy =
        Policy { state: State::Open, per_second: Some(MILLION as u32), max_active: None, ..paused() };
    let mut bench = Bench::new(paused());
    bench.join(START, 0, waiting);
    let (mut tick, mut bytes, mut times) = (Tick::default(), Vec::new(), Vec::new());
    bench.gate.cut(&mut tick);
    let (mut users, mut now) = (waiting, START);
    for round in 0..200u64 {
        now = now + Span::from_millis(50);
        bench.join(now, users, users + admissions);
        users += admissions;
        // A ceiling of exactly so many more.
        let ceiling = ((round + 1) * admissions) as u32;
        bench.step(
            now,
            Input::SetPolicy { policy: Policy { max_active: Some(ceiling), ..policy }, to: ReplyTo(1) },
        );
        bench.ack(now);
        let started = Instant::now();
        bench.gate.cut(&mut tick);
        bytes.clear();
        tick.encode(&mut bytes);
        times.push(started.elapsed().as_nanos() as f64);
    }
    (median(&mut times), tick.counts.len(), bytes.len())
}

fn ticks() {
    println!("a tick for all viewers, after 50 admissions and 50 joins:");
    let (mut within, mut costs) = (true, Vec::new());
    for waiting in [1_000, 10_000, 100_000, MILLION] {
        let (nanos, changed, bytes) = tick_cost(waiting, 50);
        println!("  {waiting:>9} waiting: {nanos:>5.0} ns, {changed} blocks changed, {bytes} bytes");
        within &= bytes <= 16 + 4 * changed;
        costs.push(nanos);
    }
    let ratio = costs[costs.len() - 1] / costs[0];
    bar(&format!("independent of N (1 M against 1,000: {ratio:.1}×)"), ratio < 2.0);
    bar("≤ 16 bytes and 4 per changed block", within);
    println!();
}

/// A million wait, nine of ten never heard of again; the others beat every 15 s. Steps as a shell would: when the gate
/// wants to wake, and when the mirror has acknowledged, which takes it `latency` milliseconds.
fn ghosts(latency: Option<i64>) {
    const RATE: u32 = 1_000;
    const SECONDS: i64 = 90;
    let mut bench = Bench::new(paused());
    bench.join(START, 0, MILLION);
    let is_there = |user: u64| mix(user).is_multiple_of(10);
    let present: Vec<u64> = (0..MILLION).filter(|user| is_there(*user)).collect();
    let begin = START + Span::from_secs(61);
    for user in &present {
        bench.step(begin, Input::Heartbeat { user: UserId(user + 1) });
    }
    let policy = Policy { state: State::Open, per_second: Some(RATE), ..Policy::default() };
    let mut acks: VecDeque<(Time, OpNo)> = VecDeque::new();
    let started = Watch::start();
    bench.step(begin, Input::SetPolicy { policy, to: ReplyTo(1) });
    let mut beats = 0;
    for millis in 0..SECONDS * 1_000 {
        let now = begin + Span::from_millis(millis);
        while let Some((_, upto)) = acks.pop_front_if(|(at, _)| *at <= now) {
            bench.step(now, Input::Mirrored { upto });
        }
        for _ in 0..present.len() / 15_000 {
            let user = UserId(present[beats % present.len()] + 1);
            bench.step(now, Input::Heartbeat { user });
            beats += 1;
        }
        if bench.gate.next_wake().is_some_and(|wake| wake <= now) {
            bench.step(now, Input::Tick);
        }
        if bench.newest > acks.back().map_or(bench.acked, |(_, upto)| *upto) {
            bench.acked = bench.newest;
            acks.push_back((now + Span::from_millis(latency.unwrap_or(0)), bench.newest));
        }
        if latency.is_none() {
            while let Some((_, upto)) = acks.pop_front() {
                bench.step(now, Input::Mirrored { upto });
            }
        }
    }
    let micros = started.nanos() / 1e3 / bench.admitted.len() as f64;
    let most = most_in_a_second(&bench.admitted);
    let share = bench.admitted.len() as f64 / (SECONDS as f64 * f64::from(RATE));
    println!(
        "admissions at {RATE}/s for {SECONDS} s, 1 M waiting, 900,000 of them away; the mirror answers {}:",
        latency.map_or("at once".to_owned(), |latency| format!("after {latency} ms"))
    );
    println!(
        "  {} admitted, {:.2} % of the rate; at most {most} in any second; {micros:.2} µs of work for each, heartbeats \
         of the others included",
        bench.admitted.len(),
        share * 100.0
    );
    bar("never above the rate, at least 99 % of it", most <= RATE as usize && share >= 0.99);
    println!();
}

fn most_in_a_second(times: &[Time]) -> usize {
    let mut from = 0;
    let mut most = 0;
    for (index, at) in times.iter().enumerate() {
        while times[from] + Span::from_secs(1) <= *at {
            from += 1;
        }
        most = most.max(index + 1 - from);
    }
    most
}

fn sha256(parts: &[&[u8]]) -> Digest {
    let mut hash = sha2::Sha256::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}

fn draw() {
    let opens_at = Some(START + Span::from_secs(10));
    let policy =
        Policy { state: State::Open, mode: Mode::PresaleDraw, per_second: Some(1_000), opens_at, ..paused() };
    let mut bench = Bench::new(policy);
    bench.join(START, 0, MILLION);
    let now = START + Span::from_secs(10);
    bench.step(now, Input::Tick);
    bench.ack(now);
    let started = Watch::start();
    let entrants: Vec<(Turn, UserId)> = bench.gate.entrants().collect();
    let listed = started.nanos();
    let key = [7; 32];
    let leaves = entrants
        .iter()
        .map(|(turn, user)| leaf(sha256, CONCERT, *turn, *user, &salt(sha256, &key, CONCERT, *user)));
    let root = Tree::new(sha256, leaves.collect()).root();
    let hashed = started.nanos() - listed;
    let order = order(sha256, CONCERT, &key, &root, None, entrants.len() as u32);
    let shuffled = started.nanos() - listed - hashed;
    let order = order.iter().map(|index| entrants[*index as usize].0).collect();
    let started = Watch::start();
    bench.step(now, Input::Drawn { first: Turn(0), upto: Turn(MILLION as u32), order, to: ReplyTo(1) });
    let taken = started.nanos();
    let [listed, hashed, shuffled, taken] = [listed, hashed, shuffled, taken].map(|nanos| nanos / 1e6);
    println!("a draw of 1 M entrants, ms:");
    println!(
        "  list {listed:.0}, leaves and tree {hashed:.0}, order {shuffled:.0}, taken by the gate {taken:.0}"
    );
}
