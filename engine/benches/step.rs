//! What a click costs: time, allocations, memory. `cargo bench -p engine --bench step`
//!
//! A program, not a test: it prints the machine and the numbers, each the median of several runs.
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a benchmark reads the clock and the machine"
)]
#![expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "sizes here are small")]

use std::alloc::System;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use engine::entry::{Answered, RequestMark, RestoredOption, Told};
use engine::option::OptionStatus;
use engine::plan::{Layout, Run};
use engine::reservation::Kind;
use engine::sim::prng::mix;
use engine::{
    Authority, Caller, Command, ConcertId, Effect, Effects, Epoch, Granted, Input, OptionId, Outcome,
    Refusal, ReplyTo, Request, RequestKey, Reservation, ReservationId, Restored, SeatList, SeatNo, Settings,
    Shard, ShardId, Span, Status, Time, UserId,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

use self::common::{machine, median};

mod common;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const START: Time = Time(1_800_000_000_000_000);
const RUNS: usize = 7;
/// Commands of one run.
const COMMANDS: usize = 400_000;
/// Seats between two aisles.
const ROW: u32 = 25;

fn main() {
    machine();
    throughput();
    select_best("full of parties of 1 to 4", parties);
    select_best("full of single seats anywhere", singles);
    memory();
    flatness();
}

/// Draws by counting: the same on every run.
struct Draws(u64);

impl Draws {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 += 1;
        (((mix(self.0) >> 32) * u64::from(bound)) >> 32) as u32
    }
}

fn layout(seat_count: u32) -> Arc<Layout> {
    let run = |first: u32| Run { first: SeatNo(first), seats: ROW.min(seat_count - first) };
    Arc::new(Layout {
        categories: vec![0; seat_count as usize],
        runs: (0..seat_count).step_by(ROW as usize).map(run).collect(),
        sections: vec![SeatNo(0)],
        prices: vec![8_800],
    })
}

fn option_at(number: u32, layout: &Arc<Layout>) -> RestoredOption {
    RestoredOption {
        option: OptionId(number + 1),
        concert: ConcertId(u64::from(number) + 1),
        status: OptionStatus::OnSale,
        version: 1,
        layout: layout.clone(),
    }
}

fn shard_of(restored: Restored) -> Shard {
    let settings = Settings { select_max_age: Span::from_secs(100_000), ..Settings::default() };
    let mut shard = Shard::new(ShardId(0), Epoch(1), settings);
    shard.restore(START, restored).expect("the benchmark's ledger is consistent");
    shard
}

/// `concerts` concerts of one option each, all alike.
fn fresh(concerts: u32, seats_each: u32) -> Shard {
    let layout = layout(seats_each);
    let options = (0..concerts).map(|number| option_at(number, &layout)).collect();
    shard_of(Restored { options, ..Restored::default() })
}

fn request(user: u32, command: Command) -> Input {
    let caller = Caller { user: UserId(u64::from(user) + 1), authority: Authority::Own };
    Input::Command(Request { reply: ReplyTo(1), caller, key: None, pass: true, command })
}

fn seats(list: &[u32]) -> SeatList {
    list.iter().copied().map(SeatNo).collect()
}

/// Clicks of a crowd in a hall where about a third of the seats are SELECTING: six selects, some of them on
/// seats that are taken, to four releases; what is not released runs out.
struct Crowd {
    draws: Draws,
    concerts: u32,
    seats_each: u32,
    recent: VecDeque<(u32, u32, u32)>,
}

impl Crowd {
    fn new(concerts: u32, seats_each: u32) -> Self {
        Self { draws: Draws(0), concerts, seats_each, recent: VecDeque::new() }
    }

    fn seat_count(&self) -> u32 {
        self.concerts * self.seats_each
    }

    /// So that 0.6 selects each find the hall a third full when the first runs out.
    fn gap(&self) -> Span {
        let per_ttl = f64::from(self.seat_count()) * 1.2;
        Span((Settings::default().select_ttl.0 as f64 / per_ttl.max(1.0)) as i64)
    }

    fn click(&mut self) -> Input {
        let remembered = (self.seat_count() / 4).clamp(4, 20_000) as usize;
        if self.recent.len() >= remembered && self.draws.below(10) < 4 {
            let nth = self.draws.below(self.recent.len() as u32) as usize;
            let (user, option, seat) = self.recent.swap_remove_back(nth).expect("below the length");
            return request(
                user,
                Command::Release { option: OptionId(option + 1), seats: Some(seats(&[seat])) },
            );
        }
        let user = self.draws.below(self.seat_count().max(16));
        let (option, seat) = (self.draws.below(self.concerts), self.draws.below(self.seats_each));
        self.recent.push_back((user, option, seat));
        if self.recent.len() > remembered {
            self.recent.pop_front();
        }
        request(user, Command::Select { option: OptionId(option + 1), seats: seats(&[seat]) })
    }
}

/// What a run met.
#[derive(Default)]
struct Counts {
    granted: u64,
    refused: u64,
    expired: u64,
}

struct Measured {
    nanos_per_command: f64,
    nanos_best: f64,
    allocations: usize,
    counts: Counts,
}

/// One timed run after another on the same shard, the first only to warm up.
fn run_crowd(concerts: u32, seats_each: u32) -> Measured {
    let (mut shard, mut crowd) = (fresh(concerts, seats_each), Crowd::new(concerts, seats_each));
    let (gap, mut now) = (crowd.gap(), START);
    let mut effects = Effects::with_capacity(1 << 16);
    let mut times = Vec::new();
    let (mut allocations, mut counts) = (0, Counts::default());
    for run in 0..=RUNS {
        let clicks: Vec<Input> = (0..COMMANDS).map(|_| crowd.click()).collect();
        let before = ALLOCATOR.stats().allocations + ALLOCATOR.stats().reallocations;
        let started = Instant::now();
        for click in clicks {
            now = now + gap;
            effects.clear();
            shard.step(now, click, &mut effects);
            std::hint::black_box(&effects);
            if run == RUNS {
                tally(&effects, &mut counts);
            }
        }
        let took = started.elapsed();
        let allocated = ALLOCATOR.stats().allocations + ALLOCATOR.stats().reallocations - before;
        // The last run is counted, not timed.
        if (1..RUNS).contains(&run) {
            times.push(took.as_nanos() as f64 / COMMANDS as f64);
            allocations += allocated;
        }
    }
    Measured { nanos_per_command: median(&mut times), nanos_best: times[0], allocations, counts }
}

fn tally(effects: &Effects, counts: &mut Counts) {
    let publishes = effects.iter().filter(|effect| matches!(effect, Effect::Publish(_))).count() as u64;
    let own = match effects.last() {
        Some(Effect::Reply { outcome: Outcome::Granted(granted), .. }) => {
            counts.granted += 1;
            match granted {
                Granted::Selected { renewed: false, seats, .. } | Granted::Released { seats, .. } => {
                    seats.len() as u64
                }
                _ => 0,
            }
        }
        _ => {
            counts.refused += 1;
            0
        }
    };
    counts.expired += publishes - own;
}

fn throughput() {
    let measured = run_crowd(1, 100_000);
    let Counts { granted, refused, expired } = measured.counts;
    println!("step, 100,000 seats, select/release/expire:");
    println!(
        "  {:.2} M commands/s, best run {:.2} M ({granted} granted, {refused} refused, {expired} seats ran out)",
        1_000.0 / measured.nanos_per_command,
        1_000.0 / measured.nanos_best
    );
    println!("  {} allocations in {} commands\n", measured.allocations, (RUNS - 1) * COMMANDS);
}

type Fill = fn(&mut Hall);

/// A full hall and the groups of soft locks in it, each of a user of its own.
struct Hall {
    shard: Shard,
    effects: Effects,
    draws: Draws,
    groups: Vec<(u32, SeatList)>,
    users: u32,
    taken: u32,
}

impl Hall {
    fn ask(&mut self, user: u32, command: Command) -> Outcome {
        self.effects.clear();
        self.shard.step(START, request(user, command), &mut self.effects);
        match self.effects.last() {
            Some(Effect::Reply { outcome, .. }) => outcome.clone(),
            other => panic!("a click is answered at once, not with {other:?}"),
        }
    }

    /// Selects for a new user; whether there was anything to have.
    fn select(&mut self, command: Command) -> bool {
        self.users += 1;
        let user = self.users;
        match self.ask(user, command) {
            Outcome::Granted(Granted::Selected { seats, .. }) => {
                self.taken += seats.len() as u32;
                self.groups.push((user, seats));
                true
            }
            Outcome::Refused(Refusal::NoSeatsTogether { .. } | Refusal::SeatTaken(_)) => false,
            other => panic!("unexpected: {other:?}"),
        }
    }

    fn release_one(&mut self) {
        let nth = self.draws.below(self.groups.len() as u32) as usize;
        let (user, seats) = self.groups.swap_remove(nth);
        self.taken -= seats.len() as u32;
        self.ask(user, Command::Release { option: OptionId(1), seats: Some(seats) });
    }
}

fn best(party: u32) -> Command {
    Command::SelectBest { option: OptionId(1), party, section: None, category: None }
}

fn parties(hall: &mut Hall) {
    let party = 1 + hall.draws.below(4);
    hall.select(best(party));
}

fn singles(hall: &mut Hall) {
    let seat = hall.draws.below(100_000);
    hall.select(Command::Select { option: OptionId(1), seats: seats(&[seat]) });
}

/// Keeps 95 of 100 seats taken while groups come and go anywhere, and asks for four together.
fn select_best(what: &str, fill: Fill) {
    let mut hall = Hall {
        shard: fresh(1, 100_000),
        effects: Effects::new(),
        draws: Draws(7),
        groups: Vec::new(),
        users: 0,
        taken: 0,
    };
    let full = 95_000;
    let (mut times, mut found) = (Vec::new(), 0u32);
    for _ in 0..100_000 {
        while hall.taken < full {
            fill(&mut hall);
        }
        while hall.taken > full {
            hall.release_one();
        }
        let started = Instant::now();
        let granted = hall.select(best(4));
        times.push(started.elapsed().as_nanos() as f64 / 1_000.0);
        found += u32::from(granted);
    }
    times.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    println!("select-best, party of 4, 95 % of 100,000 seats {what}:");
    println!(
        "  p50 {:.2} µs, p99 {:.2} µs, max {:.2} µs ({found} of {} found four together)\n",
        at(0.5),
        at(0.99),
        at(1.0),
        times.len()
    );
}

/// Bytes that `make` leaves allocated.
fn bytes_of<T>(make: impl FnOnce() -> T) -> (T, f64) {
    let net = || ALLOCATOR.stats().bytes_allocated as i64 - ALLOCATOR.stats().bytes_deallocated as i64;
    let before = net();
    let made = make();
    (made, (net() - before) as f64)
}

fn sold(number: u32) -> Reservation {
    let first = number * 4;
    Reservation {
        id: ReservationId::stamp(u128::from(number + 1) << 64, OptionId(1)),
        kind: Kind::Sale,
        user: UserId(u64::from(number) + 1),
        concert: ConcertId(1),
        option: OptionId(1),
        seats: seats(&[first, first + 1, first + 2, first + 3]),
        status: Status::Confirmed,
        version: 2,
        amount: 35_200,
        deadline: Time::NEVER,
        created_at: START,
        changed_at: START,
        payment_started: true,
    }
}

fn answered(number: u64, reservation: ReservationId) -> Answered {
    Answered {
        at: START,
        caller: UserId(number % 25_000 + 1),
        request: RequestMark {
            key: RequestKey(u128::from(mix(number)) << 64 | u128::from(number)),
            content: number,
        },
        told: Told::Reservation { reservation, status: Status::Confirmed, version: 2, deadline: Time::NEVER },
    }
}

fn memory() {
    const KEYS: u64 = 1_000_000;
    let restored = |reservations: Vec<Reservation>, answered: Vec<Answered>| Restored {
        options: vec![option_at(0, &layout(100_000))],
        reservations,
        answered,
        ..Restored::default()
    };
    let megabytes = |bytes: f64| bytes / 1e6;
    let (_, empty) = bytes_of(|| shard_of(restored(Vec::new(), Vec::new())));
    let (_, selected) = bytes_of(|| {
        let mut shard = shard_of(restored(Vec::new(), Vec::new()));
        let mut effects = Effects::new();
        for seat in 0..100_000 {
            effects.clear();
            shard.step(
                START,
                request(seat / 8, Command::Select { option: OptionId(1), seats: seats(&[seat]) }),
                &mut effects,
            );
        }
        shard
    });
    let sales: Vec<Reservation> = (0..25_000).map(sold).collect();
    let (_, sold_out) = bytes_of(|| shard_of(restored(sales.clone(), Vec::new())));
    let keys: Vec<Answered> =
        (0..KEYS).map(|number| answered(number, sales[number as usize % sales.len()].id)).collect();
    let (_, with_keys) = bytes_of(|| shard_of(restored(sales.clone(), keys.clone())));
    println!("memory of an option of 100,000 seats, its layout included:");
    println!(
        "  {:.2} MB when nobody came, {:.2} MB with every seat SELECTING, {:.2} MB sold out to 25,000 reservations",
        megabytes(empty),
        megabytes(selected),
        megabytes(sold_out)
    );
    println!(
        "  {:.1} bytes for an answered key, at 1,000,000 of them\n",
        (with_keys - sold_out) / KEYS as f64
    );
}

fn flatness() {
    println!("a click, by size (ns; the ratio is to the cheapest of its row):");
    row(
        "seats, in one concert",
        &[(1, 50), (1, 1_000), (1, 10_000), (1, 100_000), (1, 200_000)],
        |(_, seats)| seats,
    );
    row(
        "concerts, 100,000 seats in all",
        &[(1, 100_000), (10, 10_000), (100, 1_000), (1_000, 100)],
        |(concerts, _)| concerts,
    );
}

fn row(what: &str, sizes: &[(u32, u32)], size: impl Fn((u32, u32)) -> u32) {
    let costs: Vec<(u32, f64)> = sizes
        .iter()
        .map(|&(concerts, seats)| (size((concerts, seats)), run_crowd(concerts, seats).nanos_per_command))
        .collect();
    let cheapest = costs.iter().map(|(_, nanos)| *nanos).fold(f64::INFINITY, f64::min);
    println!("  {what}:");
    for (size, nanos) in costs {
        println!("    {size:>7}  {nanos:>6.1}  {:.2}×", nanos / cheapest);
    }
}
