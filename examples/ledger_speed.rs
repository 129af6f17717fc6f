//! How fast the SQLite ledger writes and restores, on a directory of the disk in question:
//! `cargo run --release --example ledger_speed [DIR]`
//!
//! Prints the commit of an empty transaction beside its numbers: that flush is the floor of every other.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actors::ports::{Batch, Ledger as _, ShardAnswer};
use actors::row::EventRow;
use actors::writer::seal::seal;
use anyhow::ensure;
use engine::entry::RequestMark;
use engine::option::OptionStatus;
use engine::reservation::Kind;
use engine::{
    ChainHead, ConcertId, Entry, EntryNo, Epoch, Fact, OptionId, RequestKey, Reservation, ReservationId,
    SeatNo, ShardId, Span, Status, Time, UserId,
};
use hotseat::catalogue::plan::{Category, Plan, Row, Seat, Section};
use hotseat::catalogue::{Catalogue as _, Import};
use hotseat::ledger::Store as _;
use hotseat::ledger::sqlite::{Access, Durability, SqliteLedger, SqliteOptions};

/// Live reservations to restore, each with three events inside the horizon.
const LIVE: u32 = 50_000;
const SEATS: u32 = 100_000;
const SHARDS: u16 = 64;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let parent = std::env::args().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = parent.join(format!("hotseat-ledger-speed-{}", std::process::id()));
    let outcome = run(&dir).await;
    std::fs::remove_dir_all(&dir)?;
    outcome
}

async fn run(dir: &std::path::Path) -> anyhow::Result<()> {
    let ledger = open(dir, 1).await?;
    let mut log = Log::begin(&ledger).await?;
    let flush = flushes(&ledger, &log).await?;
    println!("one lease renewal, a commit of one row: median {flush:.2?}");
    for size in [1, 8, 64, 512] {
        let mut times = Vec::new();
        let rounds = match size {
            512 => 25,
            _ => 500 / size,
        };
        for _ in 0..rounds {
            let rows = (0..size).map(|_| log.next_hold()).collect();
            times.push(log.write(&ledger, rows).await?);
        }
        report_batches(size, &mut times);
    }
    let mut held = log.held.clone();
    while held.len() < LIVE as usize {
        let rows: Vec<EventRow> = (0..512.min(LIVE as usize - held.len())).map(|_| log.next_hold()).collect();
        log.write(&ledger, rows).await?;
        held.clone_from(&log.held);
    }
    for status in [Status::Paying, Status::Confirmed] {
        let mut times = Vec::new();
        for chunk in held.chunks_mut(512) {
            let rows = chunk.iter_mut().map(|row| log.advance(row, status)).collect();
            times.push(log.write(&ledger, rows).await?);
        }
        println!("to {}:", status.name());
        report_batches(512, &mut times);
    }
    ledger.close().await;
    drop(ledger);
    restore(dir, log.head).await
}

/// What a restart pays to the ledger: opening, and every shard's lease and state.
async fn restore(dir: &std::path::Path, head: ChainHead) -> anyhow::Result<()> {
    let start = Instant::now();
    let ledger = open(dir, 2).await?;
    let opened = start.elapsed();
    let mut tasks = Vec::new();
    for shard in (0..SHARDS).map(ShardId) {
        let ledger = Arc::clone(&ledger);
        tasks.push(tokio::spawn(async move {
            let epoch = ledger.acquire(shard).await?;
            ensure!(epoch.is_some(), "shard {shard} is not free");
            Ok((Instant::now(), ledger.load(shard, Time(0)).await?))
        }));
    }
    let (mut reservations, mut answered, mut acquired) = (0, 0, start);
    for task in tasks {
        let (at, restored) = task.await??;
        acquired = acquired.max(at);
        reservations += restored.reservations.len();
        answered += restored.answered.len();
        ensure!(restored.head.event_seq == 0 || restored.head == head, "the head differs");
    }
    println!(
        "restore of {reservations} reservations and {answered} answered events: {:.0?} (open {opened:.0?}, last of \
         {SHARDS} leases after {:.0?})",
        start.elapsed(),
        acquired - start
    );
    Ok(())
}

async fn open(dir: &std::path::Path, owner: u128) -> anyhow::Result<Arc<SqliteLedger>> {
    let options = SqliteOptions {
        dir: dir.to_owned(),
        shards: SHARDS,
        owner,
        node: "speed".to_owned(),
        public_url: String::new(),
        peer_url: String::new(),
        lease_ttl: Span::from_secs(600),
        durability: Durability::Full,
        access: Access::Own,
    };
    Ok(SqliteLedger::open(options).await?)
}

async fn flushes(ledger: &SqliteLedger, log: &Log) -> anyhow::Result<Duration> {
    let mut times = Vec::new();
    for _ in 0..200 {
        let start = Instant::now();
        ledger.renew(&[(log.shard, log.epoch)]).await?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    Ok(times[times.len() / 2])
}

fn report_batches(size: usize, times: &mut [Duration]) {
    times.sort_unstable();
    let median = times[times.len() / 2];
    let entries = size as f64 * times.len() as f64 / times.iter().sum::<Duration>().as_secs_f64();
    println!(
        "  batches of {size:>3}: median {median:.2?}, p95 {:.2?}, slowest {:.2?}, {entries:.0} entries/s",
        times[times.len() * 95 / 100],
        times[times.len() - 1]
    );
}

/// One shard's chain and what it has sold.
struct Log {
    shard: ShardId,
    epoch: Epoch,
    option: OptionId,
    concert: ConcertId,
    head: ChainHead,
    held: Vec<Reservation>,
}

impl Log {
    async fn begin(ledger: &SqliteLedger) -> anyhow::Result<Self> {
        let seats =
            (0..SEATS).map(|n| Seat { label: format!("A-{n}"), category: 0, position: None }).collect();
        let plan = Plan {
            name: "Stadion".to_owned(),
            currency: "EUR".to_owned(),
            categories: vec![Category { name: "all".to_owned(), price: 5_000 }],
            sections: vec![Section {
                code: "A".to_owned(),
                rows: vec![Row { label: "1".to_owned(), seats }],
            }],
        };
        let import =
            Import { title: "Speed".to_owned(), starts_at: Time(0), plan: Arc::new(plan), own_shard: false };
        let imported = ledger.import(&import).await?;
        let (shard, concert) = (imported.concert.shard, imported.concert.concert);
        let epoch = ledger.acquire(shard).await?.ok_or_else(|| anyhow::anyhow!("the shard is not free"))?;
        let option = imported.option.option;
        let mut log = Self { shard, epoch, option, concert, head: ChainHead::default(), held: Vec::new() };
        let added = Fact::Option { option, concert, status: OptionStatus::OnSale, version: 1 };
        let row = log.seal(None, added);
        log.write(ledger, vec![row]).await?;
        Ok(log)
    }

    /// Two neighbouring seats for a user of their own.
    fn next_hold(&mut self) -> EventRow {
        let n = u32::try_from(self.held.len()).unwrap_or(u32::MAX);
        let at = Time(1_800_000_000_000_000 + i64::from(n));
        let row = Reservation {
            id: ReservationId::stamp(u128::from(n) << 80 | 0x7000_8000_0000_0000_0000, self.option),
            kind: Kind::Sale,
            user: UserId(1 + u64::from(n)),
            concert: self.concert,
            option: self.option,
            seats: [SeatNo(2 * n), SeatNo(2 * n + 1)].into_iter().collect(),
            status: Status::Hold,
            version: 1,
            amount: 10_000,
            deadline: at + Span::from_secs(300),
            created_at: at,
            changed_at: at,
            payment_started: false,
        };
        self.held.push(row.clone());
        self.seal(Some(u128::from(n)), Fact::Reservation(row))
    }

    fn advance(&mut self, row: &mut Reservation, status: Status) -> EventRow {
        row.status = status;
        row.version += 1;
        row.payment_started = true;
        if status == Status::Confirmed {
            row.deadline = Time::NEVER;
        }
        self.seal(Some(row.id.0 ^ u128::from(row.version)), Fact::Reservation(row.clone()))
    }

    fn seal(&mut self, key: Option<u128>, fact: Fact) -> EventRow {
        let request = key.map(|key| RequestMark { key: RequestKey(key), content: 7 });
        let no = EntryNo(self.head.event_seq + 1);
        let entry = Entry { no, at: Time(1_800_000_000_000_000), caller: UserId(9), request, fact };
        let mut row = EventRow::unsealed(self.shard, self.epoch, &entry);
        self.head = seal(&mut row, self.head);
        row
    }

    async fn write(&self, ledger: &SqliteLedger, rows: Vec<EventRow>) -> anyhow::Result<Duration> {
        let batch = Batch { fences: vec![(self.shard, self.epoch)], rows };
        let start = Instant::now();
        let answers = ledger.append(&batch).await?;
        ensure!(answers == [(self.shard, ShardAnswer::Applied)], "{answers:?}");
        Ok(start.elapsed())
    }
}
