//! How far the mirror is behind memory at 50,000 changes a second, and what 100,000 soft locks and a gate with a million
//! people cost it.
//! `cargo bench --bench mirror`; only the gate: `cargo bench --bench mirror -- gates`
//!
//! A private Redis on the same machine, without persistence. Every millisecond fifty changes are noted, a select and
//! a release in turn, far enough apart that they do not cancel out. The lag of a select is counted from the moment
//! when it was noted to the moment when the mirror has acknowledged it, one by one.

#![allow(clippy::unwrap_used, reason = "a benchmark gives up loudly")]

use std::cell::Cell;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use actors::clock::LedgerClock;
use actors::gates::ports::{GateBatch, GateMirror};
use actors::mirror::Mirroring;
use actors::observe::Metrics;
use actors::ports::{Mirror, MirrorAnswer, MirrorBatch, MirrorError};
use async_trait::async_trait;
use engine::gate::{Draw, KeptPass, Snapshot};
use engine::{ConcertId, Epoch, MirrorOp, OptionId, PassId, SeatNo, SoftLock, Span, Time, Turn, UserId};
use hdrhistogram::Histogram;
use hotseat::mirror::local::LocalMirror;
use hotseat::mirror::redis::RedisMirror;
use servers::Redis;

use self::common::{machine, processor};

mod common;

const RATE_PER_MS: u32 = 50;
const RUN: Duration = Duration::from_secs(10);
const TTL: Span = Span(30_000_000);

fn main() {
    println!("{}", machine());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let redis = Redis::start();
    runtime.block_on(gates(&redis));
    redis.flush();
    if std::env::args().any(|arg| arg == "gates") {
        return;
    }
    for options in [1, 16, 64] {
        let url = redis.url();
        runtime.block_on(lag("redis", Arc::new(RedisMirror::new(url.parse().unwrap())), options));
        redis.flush();
    }
    runtime.block_on(lag("in process", Arc::new(LocalMirror::new()), 64));
    runtime.block_on(full(&RedisMirror::new(redis.url().parse().unwrap()), &redis));
}

/// A mirror that notes how old the selects are when they are acknowledged.
struct Watched {
    mirror: Arc<dyn Mirror>,
    base: Instant,
    lags: Mutex<Histogram<u64>>,
    batches: Mutex<(u64, u64)>,
}

impl Watched {
    fn micros(&self) -> i64 {
        i64::try_from(self.base.elapsed().as_micros()).unwrap()
    }
}

#[async_trait]
impl Mirror for Watched {
    async fn ping(&self) -> Result<(), MirrorError> {
        self.mirror.ping().await
    }

    async fn apply(&self, batches: &[MirrorBatch]) -> Vec<Result<MirrorAnswer, MirrorError>> {
        let answers = self.mirror.apply(batches).await;
        let now = self.micros();
        let mut lags = self.lags.lock().unwrap();
        for change in batches.iter().flat_map(|batch| &batch.changes) {
            if let MirrorOp::Lock(lock) = change {
                lags.record((now - lock.first_at.0).max(0).unsigned_abs()).unwrap();
            }
        }
        let mut sent = self.batches.lock().unwrap();
        sent.0 += 1;
        sent.1 += batches.iter().map(|batch| batch.changes.len() as u64).sum::<u64>();
        answers
    }

    async fn rebuild(
        &self,
        option: OptionId,
        epoch: Epoch,
        op: u64,
        now: Time,
        locks: &[SoftLock],
    ) -> Result<MirrorAnswer, MirrorError> {
        self.mirror.rebuild(option, epoch, op, now, locks).await
    }

    async fn take_over(
        &self,
        option: OptionId,
        epoch: Epoch,
        now: Time,
    ) -> Result<Vec<SoftLock>, MirrorError> {
        self.mirror.take_over(option, epoch, now).await
    }

    fn spacing(&self) -> Duration {
        self.mirror.spacing()
    }
}

async fn lag(name: &str, mirror: Arc<dyn Mirror>, options: u32) {
    let lags = Mutex::new(Histogram::new(3).unwrap());
    let watched = Arc::new(Watched { mirror, base: Instant::now(), lags, batches: Mutex::new((0, 0)) });
    let now = tokio::time::Instant::now();
    let clock = LedgerClock::new(now, now, Time(0));
    let mirroring = Mirroring::new(watched.clone(), clock, Metrics::default());
    let task = tokio::spawn(mirroring.clone().run());
    let opened: Vec<_> = (1..=options)
        .map(|option| mirroring.open(OptionId(option), Epoch(1), Vec::new(), Arc::new(|_| {})))
        .collect();
    while !mirroring.is_idle() || mirroring.away().is_some() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let (mut turn, processor_before) = (0u32, processor(std::process::id()));
    // Catches up after a late tick, so that the rate is kept.
    let mut ticks = tokio::time::interval(Duration::from_millis(1));
    let started = Instant::now();
    while started.elapsed() < RUN {
        ticks.tick().await;
        for _ in 0..RATE_PER_MS {
            let mirror = &opened[(turn % options) as usize];
            let option = OptionId(turn % options + 1);
            let round = turn / options;
            let (seat, user) = (SeatNo(round / 2 % 20_000), UserId(7));
            // A seat is selected, and released ten thousand selects of its option later.
            let change = if round.is_multiple_of(2) {
                let first_at = Time(watched.micros());
                MirrorOp::Lock(SoftLock { option, seat, user, first_at, expires_at: first_at + TTL })
            } else {
                MirrorOp::Unlock { option, seat: SeatNo((seat.0 + 10_000) % 20_000), user }
            };
            mirror.push(change);
            turn += 1;
        }
    }
    while !mirroring.is_idle() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    task.abort();
    let nanos = (processor(std::process::id()) - processor_before) * 1e9 / f64::from(turn);
    let lags = watched.lags.lock().unwrap();
    let (rounds, changes) = *watched.batches.lock().unwrap();
    let ms = |quantile: f64| f64::from(u32::try_from(lags.value_at_quantile(quantile)).unwrap()) / 1_000.0;
    println!(
        "{name}, {options} options: {:.0} changes/s noted, {changes} sent in {rounds} rounds; lag p50 {:.2} ms, p99 {:.2} ms, \
         p99.9 {:.2} ms, worst {:.2} ms; {nanos:.0} ns of this process's processor per change",
        f64::from(turn) / RUN.as_secs_f64(),
        ms(0.5),
        ms(0.99),
        ms(0.999),
        ms(1.0),
    );
}

/// 100,000 soft locks of one option: written, read, and how long somebody else waits meanwhile.
async fn full(mirror: &dyn Mirror, redis: &Redis) {
    let option = OptionId(1);
    let soft_lock = |seat| {
        let expires_at = Time(0) + TTL;
        SoftLock { option, seat: SeatNo(seat), user: UserId(7), first_at: Time(0), expires_at }
    };
    let locks: Vec<SoftLock> = (0..100_000).map(soft_lock).collect();
    let other: &dyn Mirror = &RedisMirror::new(redis.url().parse().unwrap());
    let worst = Cell::new(Duration::ZERO);
    let pings = async {
        loop {
            let asked = Instant::now();
            other.ping().await.unwrap();
            worst.set(worst.get().max(asked.elapsed()));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let work = async {
        let started = Instant::now();
        mirror.rebuild(option, Epoch(1), 1, Time(0), &locks).await.unwrap();
        let written = started.elapsed();
        let started = Instant::now();
        let read = mirror.take_over(option, Epoch(2), Time(0)).await.unwrap();
        assert_eq!(read.len(), locks.len());
        (written, started.elapsed())
    };
    let (written, read) = tokio::select! {
        times = work => times,
        () = pings => unreachable!("pings have no end"),
    };
    let worst = worst.get();
    println!(
        "100,000 soft locks: rebuilt in {written:.0?}, taken over in {read:.0?}; a ping waited {worst:.0?} at most"
    );
}

/// A gate with a million people in line and 10,000 passes: written anew, filled by batches of joins, and read by its next
/// owner, which for files is another process.
async fn gates(redis: &Redis) {
    let kept = Snapshot {
        next: Turn(1_010_000),
        draw: Draw::Due,
        waiting: (10_000..1_010_000).map(|turn| (Turn(turn), UserId(u64::from(turn) + 1))).collect(),
        passes: (0..10_000).map(pass).collect(),
    };
    let dir = tempfile::tempdir().unwrap();
    let in_files = || -> Box<dyn GateMirror> { Box::new(LocalMirror::in_dir(dir.path().to_owned())) };
    gate("redis", &RedisMirror::new(redis.url().parse().unwrap()), &kept).await;
    gate("in memory", &LocalMirror::new(), &kept).await;
    gate("in files", in_files().as_ref(), &kept).await;
    let started = Instant::now();
    let read = in_files().take_over(ConcertId(1), Epoch(1_000), Time(0)).await.unwrap();
    println!("another process read {} people from a file in {:.0?}", read.waiting.len(), started.elapsed());
}

fn pass(turn: u32) -> KeptPass {
    let ends_at = Time(0) + Span::from_secs(1_800);
    KeptPass {
        user: UserId(u64::from(turn) + 1),
        turn: Turn(turn),
        id: PassId::new(Epoch(1), Turn(turn)),
        ends_at,
    }
}

async fn gate(name: &str, mirror: &dyn GateMirror, kept: &Snapshot) {
    let concert = ConcertId(1);
    let started = Instant::now();
    assert_eq!(mirror.rebuild(concert, Epoch(1), 1, Time(0), kept).await.unwrap(), MirrorAnswer::Applied);
    let written = started.elapsed();
    let started = Instant::now();
    assert!(mirror.take_over(concert, Epoch(2), Time(0)).await.unwrap() == *kept);
    let read = started.elapsed();
    println!("{name}: a gate of a million rebuilt in {written:.0?}, taken over in {read:.0?}");
    for size in [1, 50, 500] {
        let (first, batches) = (2_000_000 * size, 200_000 / (100 + size));
        let mut took = Histogram::<u64>::new(3).unwrap();
        mirror.take_over(concert, Epoch(u64::from(size) + 2), Time(0)).await.unwrap();
        for op in 0..u64::from(batches) {
            let turn = |place| Turn(first + u32::try_from(op).unwrap() * size + place);
            let join = |place| engine::gate::MirrorOp::Join {
                user: UserId(u64::from(turn(place).0) + 1),
                turn: turn(place),
            };
            let changes = (0..size).map(join).collect();
            let batch = GateBatch {
                concert,
                epoch: Epoch(u64::from(size) + 2),
                previous: op,
                op: op + 1,
                now: Time(0),
                changes,
            };
            let started = Instant::now();
            assert_eq!(mirror.apply(&batch).await.unwrap(), MirrorAnswer::Applied);
            took.record(u64::try_from(started.elapsed().as_micros()).unwrap()).unwrap();
        }
        let [p50, p99, worst] = [0.5, 0.99, 1.0].map(|quantile| took.value_at_quantile(quantile));
        println!(
            "{name}: batches of {size} joins: p50 {p50} \u{b5}s, p99 {p99} \u{b5}s, worst {worst} \u{b5}s"
        );
    }
}
