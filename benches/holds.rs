//! Holds per second with group commit against one transaction per hold. `cargo bench --bench holds`
//!
//! Both go through the whole system, on SQLite and then on PostgreSQL, with every commit flushed and over the same
//! connections; the only difference is that the second cuts each batch into its entries before the ledger sees it.
//! (A shard's events are a chain: its transactions come one after the other in any case.) Rounds alternate.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use actors::ports::{AppendError, Batch, LeaseRow, Ledger, LedgerError, Owner, ShardAnswer};
use async_trait::async_trait;
use engine::entry::Restored;
use engine::{ChainHead, Command, Epoch, OptionId, Reservation, ReservationId, ShardId, Time, UserId};
use hotseat::ledger::Store;
use servers::Postgres;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use self::common::{SEATS, Stadium, machine, median, one, open, open_postgres, user};

mod common;

const CALLERS: usize = 256;
const ROUNDS: usize = 5;
/// Long enough for the file to have a few checkpoints behind it.
const ROUND: Duration = Duration::from_secs(2);

/// As a server that is sold on is set up.
const FLUSHING: &str =
    "fsync = on\nfull_page_writes = on\nshared_buffers = 512MB\nmin_wal_size = 2GB\nmax_wal_size = 4GB";

/// One that has been there for a day uses the files of its log again. A new one makes a file of 16 MiB for every 15,000
/// holds, and they wait for it: a gigabyte of nothing and a checkpoint leave as many behind as the rounds need.
const USED: &str = "SELECT count(pg_logical_emit_message(false, '', repeat('x', 1048576)))
    FROM generate_series(1, 1024); CHECKPOINT";

/// The ledger, with each commit timed and, when `cut`, each entry in a transaction of its own.
struct Timed {
    inner: Arc<dyn Store>,
    cut: bool,
    commits: Mutex<Vec<(usize, Duration)>>,
}

impl Timed {
    async fn append_timed(&self, batch: &Batch) -> Result<Vec<(ShardId, ShardAnswer)>, AppendError> {
        let started = Instant::now();
        let answer = self.inner.append(batch).await;
        self.commits.lock().expect("nobody panicked").push((batch.rows.len(), started.elapsed()));
        answer
    }
}

#[async_trait]
impl Ledger for Timed {
    async fn append(&self, batch: &Batch) -> Result<Vec<(ShardId, ShardAnswer)>, AppendError> {
        if !self.cut {
            return self.append_timed(batch).await;
        }
        let mut answers = Vec::new();
        for row in &batch.rows {
            let fences = batch.fences.iter().copied().filter(|(shard, _)| *shard == row.shard).collect();
            answers = self.append_timed(&Batch { fences, rows: vec![row.clone()] }).await?;
        }
        // One shard sells here, so the last answer is the batch's.
        Ok(answers)
    }

    fn me(&self) -> Owner {
        self.inner.me()
    }

    async fn now(&self) -> Result<Time, LedgerError> {
        self.inner.now().await
    }

    async fn acquire(&self, shard: ShardId) -> Result<Option<Epoch>, LedgerError> {
        self.inner.acquire(shard).await
    }

    async fn acquire_again(&self, shard: ShardId, mine: Epoch) -> Result<Option<Epoch>, LedgerError> {
        self.inner.acquire_again(shard, mine).await
    }

    async fn renew(&self, held: &[(ShardId, Epoch)]) -> Result<Vec<ShardId>, LedgerError> {
        self.inner.renew(held).await
    }

    async fn release(&self, held: &[(ShardId, Epoch)]) -> Result<(), LedgerError> {
        self.inner.release(held).await
    }

    async fn leases(&self) -> Result<(Time, Vec<LeaseRow>), LedgerError> {
        self.inner.leases().await
    }

    async fn hand_over(&self, shard: ShardId, mine: Epoch, to: &Owner) -> Result<Option<Epoch>, LedgerError> {
        self.inner.hand_over(shard, mine, to).await
    }

    async fn accepted(&self, shard: ShardId, epoch: Epoch) -> Result<bool, LedgerError> {
        self.inner.accepted(shard, epoch).await
    }

    async fn take_from_dead(
        &self,
        shard: ShardId,
        epoch: Epoch,
        owner: u128,
    ) -> Result<Option<Epoch>, LedgerError> {
        self.inner.take_from_dead(shard, epoch, owner).await
    }

    async fn load(&self, shard: ShardId, horizon: Time) -> Result<Restored, LedgerError> {
        self.inner.load(shard, horizon).await
    }

    async fn reservation(&self, id: ReservationId) -> Result<Option<Reservation>, LedgerError> {
        self.inner.reservation(id).await
    }

    async fn reservations_of(
        &self,
        user: UserId,
        before: Option<ReservationId>,
        limit: u32,
    ) -> Result<Vec<Reservation>, LedgerError> {
        self.inner.reservations_of(user, before, limit).await
    }

    async fn heads(&self) -> Result<Vec<(ShardId, ChainHead)>, LedgerError> {
        self.inner.heads().await
    }
}

/// Milliseconds, but for the rate and the size.
struct Round {
    holds_per_second: f64,
    hold_p50: f64,
    hold_p99: f64,
    commit: f64,
    entries: f64,
}

fn main() {
    println!("machine: {}; every commit is flushed, {CALLERS} callers, one concert", machine());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    compare(&runtime, "SQLite", None);
    let postgres = Postgres::start_with(FLUSHING);
    compare(&runtime, "PostgreSQL over loopback, new", Some(&postgres));
    postgres.sql("postgres", USED);
    compare(&runtime, "PostgreSQL over loopback, in use", Some(&postgres));
}

fn compare(runtime: &Runtime, name: &str, postgres: Option<&Postgres>) {
    println!("\n{name}");
    println!(
        "{:<26}{:>10}{:>12}{:>12}{:>12}{:>10}",
        "", "holds/s", "p50 ms", "p99 ms", "commit ms", "entries"
    );
    let (mut ratios, mut tails) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let group = runtime.block_on(round(postgres, false));
        print_round("group commit", &group);
        let single = runtime.block_on(round(postgres, true));
        print_round("one transaction per hold", &single);
        ratios.push(group.holds_per_second / single.holds_per_second);
        tails.push(group.hold_p99 / group.commit);
    }
    println!("\ngroup commit / one transaction per hold: {:.1}× (median of {ROUNDS})", median(&mut ratios));
    println!("p99 of a hold / median commit of its round: {:.1}×", median(&mut tails));
}

fn print_round(name: &str, round: &Round) {
    let Round { holds_per_second, hold_p50, hold_p99, commit, entries } = round;
    println!(
        "{name:<26}{holds_per_second:>10.0}{hold_p50:>12.2}{hold_p99:>12.2}{commit:>12.2}{entries:>10.0}"
    );
}

async fn round(postgres: Option<&Postgres>, cut: bool) -> Round {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let inner: Arc<dyn Store> = match postgres {
        Some(postgres) => open_postgres(&postgres.database()).await,
        None => open(dir.path()).await,
    };
    let ledger = Arc::new(Timed { inner: inner.clone(), cut, commits: Mutex::new(Vec::new()) });
    let stadium = Arc::new(Stadium::open(inner.clone(), ledger.clone()).await);
    ledger.commits.lock().expect("nobody panicked").clear();
    let next = Arc::new(AtomicU32::new(0));
    let started = Instant::now();
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        callers.spawn(call(stadium.clone(), next.clone(), started));
    }
    let mut times: Vec<f64> = callers.join_all().await.into_iter().flatten().collect();
    let took = started.elapsed().as_secs_f64();
    let commits = std::mem::take(&mut *ledger.commits.lock().expect("nobody panicked"));
    let mut commit_times: Vec<f64> = commits.iter().map(|(_, took)| took.as_secs_f64() * 1_000.0).collect();
    let holds = times.len();
    times.sort_unstable_by(f64::total_cmp);
    let round = Round {
        holds_per_second: holds as f64 / took,
        hold_p50: times[holds / 2],
        hold_p99: times[holds * 99 / 100],
        commit: median(&mut commit_times),
        entries: holds as f64 / commits.len() as f64,
    };
    Arc::into_inner(stadium).expect("every caller is done").close().await;
    inner.close().await;
    round
}

/// Selects the next seat and holds it, until the time is up or the stadium is full. Milliseconds of each hold.
async fn call(stadium: Arc<Stadium>, next: Arc<AtomicU32>, started: Instant) -> Vec<f64> {
    let mut times = Vec::new();
    while started.elapsed() < ROUND {
        let seat = next.fetch_add(1, Ordering::Relaxed);
        if seat >= SEATS {
            break;
        }
        let (caller, seats, option) = (user(seat), one(seat), stadium.option);
        stadium.granted(caller, None, Command::Select { option, seats }).await;
        let reservation = ReservationId::stamp(uuid::Uuid::now_v7().as_u128(), OptionId(option.0));
        let asked = Instant::now();
        let key = uuid::Uuid::new_v4().as_u128();
        stadium.granted(caller, Some(key), Command::Hold { option, seats, reservation }).await;
        times.push(asked.elapsed().as_secs_f64() * 1_000.0);
    }
    times
}
