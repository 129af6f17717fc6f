//! Mirroring against a mirror that obeys the protocol, and can be made to fail.

use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use engine::{MirrorOp, SeatNo, UserId};
use tokio::sync::mpsc;

use super::option::LOG_MAX;
use super::*;
use crate::ports::MirrorAnswer;

const OPTION: OptionId = OptionId(7);

/// (epoch, op) and the soft locks, as architecture §8 has them.
#[derive(Default)]
struct Book {
    stands: Mutex<Option<(Epoch, u64)>>,
    locks: Mutex<BTreeMap<SeatNo, SoftLock>>,
    batches: Mutex<Vec<Vec<MirrorOp>>>,
    /// How many calls fail before one works.
    fail: AtomicU64,
    spacing: Mutex<Duration>,
    /// Rebuilds wait for this.
    hold: Mutex<Option<Arc<Notify>>>,
}

impl Book {
    fn check(&self) -> Result<(), MirrorError> {
        let failing = self.fail.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if failing.is_ok() { Err(MirrorError("asked to fail".into())) } else { Ok(()) }
    }

    fn seats(&self) -> Vec<u32> {
        lock(&self.locks).keys().map(|seat| seat.0).collect()
    }
}

impl Book {
    fn apply_one(&self, batch: &MirrorBatch) -> Result<MirrorAnswer, MirrorError> {
        self.check()?;
        let mut stands = lock(&self.stands);
        match *stands {
            Some((epoch, _)) if epoch > batch.epoch => return Ok(MirrorAnswer::Fenced),
            Some(stands) if stands == (batch.epoch, batch.previous) => {}
            Some(stands) if stands >= (batch.epoch, batch.op) => return Ok(MirrorAnswer::Applied),
            _ => return Ok(MirrorAnswer::Gap),
        }
        *stands = Some((batch.epoch, batch.op));
        if !batch.changes.is_empty() {
            lock(&self.batches).push(batch.changes.clone());
        }
        for change in &batch.changes {
            match change {
                MirrorOp::Lock(soft_lock) => drop(lock(&self.locks).insert(soft_lock.seat, *soft_lock)),
                MirrorOp::Unlock { seat, .. } => drop(lock(&self.locks).remove(seat)),
            }
        }
        Ok(MirrorAnswer::Applied)
    }
}

#[async_trait]
impl Mirror for Book {
    async fn ping(&self) -> Result<(), MirrorError> {
        self.check()
    }

    async fn apply(&self, batches: &[MirrorBatch]) -> Vec<Result<MirrorAnswer, MirrorError>> {
        batches.iter().map(|batch| self.apply_one(batch)).collect()
    }

    async fn rebuild(
        &self,
        _: OptionId,
        epoch: Epoch,
        op: u64,
        _: Time,
        locks: &[SoftLock],
    ) -> Result<MirrorAnswer, MirrorError> {
        let hold = lock(&self.hold).clone();
        if let Some(hold) = hold {
            hold.notified().await;
        }
        self.check()?;
        let mut stands = lock(&self.stands);
        if stands.is_some_and(|(stored, _)| stored > epoch) {
            return Ok(MirrorAnswer::Fenced);
        }
        *stands = Some((epoch, op));
        *lock(&self.locks) = locks.iter().map(|lock| (lock.seat, *lock)).collect();
        Ok(MirrorAnswer::Applied)
    }

    async fn take_over(&self, _: OptionId, _: Epoch, _: Time) -> Result<Vec<SoftLock>, MirrorError> {
        Ok(lock(&self.locks).values().copied().collect())
    }

    fn spacing(&self) -> Duration {
        *lock(&self.spacing)
    }
}

fn soft_lock(seat: u32) -> SoftLock {
    SoftLock {
        option: OPTION,
        seat: SeatNo(seat),
        user: UserId(1),
        first_at: Time(0),
        expires_at: Time(30_000_000),
    }
}

fn unlock(seat: u32) -> MirrorOp {
    MirrorOp::Unlock { option: OPTION, seat: SeatNo(seat), user: UserId(1) }
}

fn start(book: &Arc<Book>) -> (Mirroring, CallShard, mpsc::UnboundedReceiver<Call>) {
    let now = Instant::now();
    let port: Arc<dyn Mirror> = Arc::clone(book) as _;
    let mirroring = Mirroring::new(port, LedgerClock::new(now, now, Time(0)), Metrics::default());
    tokio::spawn(mirroring.clone().run());
    let (calls, received) = mpsc::unbounded_channel();
    (mirroring, Arc::new(move |call| _ = calls.send(call)), received)
}

async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn follows_memory_and_cancels_out() {
    let book = Arc::new(Book::default());
    let (mirroring, shard, _calls) = start(&book);
    let option = mirroring.open(OPTION, Epoch(1), vec![soft_lock(1)], shard);
    settle().await;
    assert_eq!(book.seats(), [1]);
    option.push(MirrorOp::Lock(soft_lock(2)));
    option.push(MirrorOp::Lock(soft_lock(3)));
    option.push(unlock(3));
    option.push(unlock(1));
    settle().await;
    assert_eq!(book.seats(), [2]);
    assert_eq!(*lock(&book.batches), [vec![unlock(1), MirrorOp::Lock(soft_lock(2))]], "3 is nothing");
}

#[tokio::test(start_paused = true)]
async fn a_wiped_mirror_is_noticed_without_a_change_and_rebuilt() {
    let book = Arc::new(Book::default());
    let (mirroring, shard, mut calls) = start(&book);
    let option = mirroring.open(OPTION, Epoch(1), vec![soft_lock(1)], shard);
    settle().await;
    *lock(&book.stands) = None;
    lock(&book.locks).clear();
    assert_eq!(calls.recv().await, Some(Call::Rebuild(OPTION)));
    // Changes until the shard answers are part of its answer.
    option.push(MirrorOp::Lock(soft_lock(2)));
    option.rebuild(vec![soft_lock(1), soft_lock(2)]);
    option.push(unlock(1));
    settle().await;
    assert_eq!(book.seats(), [2]);
}

/// Nobody scans its seats for a mirror that is away: the shard is asked once, when it is back.
#[tokio::test(start_paused = true)]
async fn an_outage_ends_in_a_rebuild() {
    let book = Arc::new(Book::default());
    let (mirroring, shard, mut calls) = start(&book);
    let option = mirroring.open(OPTION, Epoch(1), Vec::new(), shard);
    settle().await;
    assert_eq!(mirroring.away(), None);
    book.fail.store(3, Ordering::SeqCst);
    option.push(MirrorOp::Lock(soft_lock(4)));
    settle().await;
    assert_eq!(mirroring.away(), Some(Away { why: "asked to fail".to_owned(), since_start: false }));
    assert_eq!(calls.recv().await, Some(Call::Rebuild(OPTION)));
    assert_eq!(book.fail.load(Ordering::SeqCst), 0);
    option.rebuild(vec![soft_lock(4)]);
    settle().await;
    assert_eq!(book.seats(), [4]);
    assert_eq!(mirroring.away(), None);
    assert!(calls.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_mirror_that_was_never_reached_says_so() {
    let book = Arc::new(Book::default());
    book.fail.store(4, Ordering::SeqCst);
    let (mirroring, ..) = start(&book);
    settle().await;
    assert!(mirroring.away().is_some_and(|away| away.since_start));
    tokio::time::sleep(BACK_OFF.0 * 16).await;
    assert_eq!(mirroring.away(), None);
}

/// Another option, and changes of its own, do not wait for a long rebuild; its own go after it.
#[tokio::test(start_paused = true)]
async fn a_rebuild_holds_nobody_up() {
    let book = Arc::new(Book::default());
    let turn = Arc::new(Notify::new());
    *lock(&book.hold) = Some(Arc::clone(&turn));
    let (mirroring, shard, _calls) = start(&book);
    let option = mirroring.open(OPTION, Epoch(1), vec![soft_lock(1)], shard);
    settle().await;
    option.push(MirrorOp::Lock(soft_lock(2)));
    settle().await;
    assert!(!mirroring.is_idle());
    assert_eq!(book.seats(), [0u32; 0]);
    turn.notify_one();
    settle().await;
    assert_eq!(book.seats(), [1, 2]);
    assert!(mirroring.is_idle());
}

/// The log outlives the actor, so what it noted last is not lost with it.
#[tokio::test(start_paused = true)]
async fn a_take_over_waits_for_what_a_dead_actor_noted() {
    let book = Arc::new(Book::default());
    *lock(&book.spacing) = Duration::from_millis(20);
    let (mirroring, shard, _calls) = start(&book);
    let option = mirroring.open(OPTION, Epoch(1), vec![soft_lock(1)], shard);
    settle().await;
    // Too soon after the last round.
    option.push(MirrorOp::Lock(soft_lock(2)));
    let read = mirroring.take_over(OPTION, Epoch(2), Time(0)).await.unwrap();
    assert_eq!(read, [soft_lock(1), soft_lock(2)]);
}

#[tokio::test(start_paused = true)]
async fn a_full_log_is_given_up_for_a_rebuild() {
    let book = Arc::new(Book::default());
    let (mirroring, shard, mut calls) = start(&book);
    let option = mirroring.open(OPTION, Epoch(1), Vec::new(), shard);
    settle().await;
    for seat in 0..=u32::try_from(LOG_MAX).unwrap() {
        option.push(MirrorOp::Lock(soft_lock(seat)));
    }
    assert_eq!(calls.recv().await, Some(Call::Rebuild(OPTION)));
    option.rebuild(vec![soft_lock(9)]);
    settle().await;
    assert_eq!(book.seats(), [9]);
}

#[tokio::test(start_paused = true)]
async fn a_higher_epoch_ends_it() {
    let book = Arc::new(Book::default());
    let (mirroring, shard, mut calls) = start(&book);
    let option = mirroring.open(OPTION, Epoch(1), Vec::new(), shard);
    settle().await;
    *lock(&book.stands) = Some((Epoch(2), 1));
    option.push(MirrorOp::Lock(soft_lock(4)));
    assert_eq!(calls.recv().await, Some(Call::Fenced(OPTION)));
    settle().await;
    assert_eq!(book.seats(), Vec::<u32>::new());
}

/// Loses, doubles and delays what it is given, by a seed, until it is told to be good.
struct Hostile {
    book: Arc<Book>,
    state: Mutex<(u64, Vec<MirrorBatch>)>,
    is_good: AtomicBool,
}

impl Hostile {
    fn draw(&self, sides: u64) -> u64 {
        let mut state = lock(&self.state);
        state.0 = state.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state.0 >> 33) % sides
    }

    fn suffer(&self, batch: &MirrorBatch) -> Result<MirrorAnswer, MirrorError> {
        let silent = || Err(MirrorError("silence".into()));
        if self.is_good.load(Ordering::SeqCst) {
            return self.book.apply_one(batch);
        }
        // What was late arrives now, whatever it does.
        if self.draw(4) == 0 {
            let late = std::mem::take(&mut lock(&self.state).1);
            late.iter().rev().for_each(|late| drop(self.book.apply_one(late)));
        }
        match self.draw(8) {
            0 => silent(),
            1 => self.book.apply_one(batch).and_then(|_| silent()),
            2 => {
                lock(&self.state).1.push(batch.clone());
                silent()
            }
            3 => {
                lock(&self.state).1.push(batch.clone());
                self.book.apply_one(batch)
            }
            _ => self.book.apply_one(batch),
        }
    }
}

#[async_trait]
impl Mirror for Hostile {
    async fn ping(&self) -> Result<(), MirrorError> {
        Ok(())
    }

    async fn apply(&self, batches: &[MirrorBatch]) -> Vec<Result<MirrorAnswer, MirrorError>> {
        batches.iter().map(|batch| self.suffer(batch)).collect()
    }

    async fn rebuild(
        &self,
        option: OptionId,
        epoch: Epoch,
        op: u64,
        now: Time,
        locks: &[SoftLock],
    ) -> Result<MirrorAnswer, MirrorError> {
        if !self.is_good.load(Ordering::SeqCst) && self.draw(4) == 0 {
            return Err(MirrorError("silence".into()));
        }
        self.book.rebuild(option, epoch, op, now, locks).await
    }

    async fn take_over(&self, _: OptionId, _: Epoch, _: Time) -> Result<Vec<SoftLock>, MirrorError> {
        Ok(Vec::new())
    }

    fn spacing(&self) -> Duration {
        Duration::ZERO
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_is_lost_late_or_doubled_the_copy_ends_as_memory() {
    for seed in 0..200 {
        let book = Arc::new(Book::default());
        let state = Mutex::new((seed, Vec::new()));
        let hostile = Arc::new(Hostile { book: Arc::clone(&book), state, is_good: AtomicBool::new(false) });
        let now = Instant::now();
        let clock = LedgerClock::new(now, now, Time(0));
        let mirroring = Mirroring::new(hostile.clone(), clock, Metrics::default());
        let task = tokio::spawn(mirroring.clone().run());
        let (calls, mut received) = mpsc::unbounded_channel();
        let option = mirroring.open(OPTION, Epoch(1), Vec::new(), Arc::new(move |call| _ = calls.send(call)));
        let mut memory = BTreeMap::new();
        let mut answer = |memory: &BTreeMap<u32, SoftLock>| {
            while let Ok(call) = received.try_recv() {
                assert_eq!(call, Call::Rebuild(OPTION));
                option.rebuild(memory.values().copied().collect());
            }
        };
        for _ in 0..150 {
            let seat = u32::try_from(hostile.draw(20)).unwrap();
            if memory.remove(&seat).is_some() {
                option.push(unlock(seat));
            } else {
                memory.insert(seat, soft_lock(seat));
                option.push(MirrorOp::Lock(soft_lock(seat)));
            }
            if hostile.draw(3) == 0 {
                tokio::time::sleep(Duration::from_millis(hostile.draw(300))).await;
                answer(&memory);
            }
        }
        hostile.is_good.store(true, Ordering::SeqCst);
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            answer(&memory);
        }
        assert_eq!(book.seats(), memory.keys().copied().collect::<Vec<_>>(), "seed {seed}");
        assert_eq!(mirroring.away(), None);
        task.abort();
    }
}
