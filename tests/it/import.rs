//! From an import to a sale, over a real ledger and real shards.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use actors::gates::GateOptions;
use actors::handle::Ask;
use actors::observe::Metrics;
use actors::{LeaseSettings, Options, System};
use engine::option::OptionStatus;
use engine::{Authority, Caller, Command, Outcome, SeatNo, Settings, Span, Time, UserId};
use hotseat::catalogue::directory::{Directory, OptionEntry};
use hotseat::catalogue::intake::Intake;
use hotseat::catalogue::{Catalogue, Import, demo};
use hotseat::ledger::Store as _;
use hotseat::ledger::sqlite::{Access, Durability, LEDGER_FILE, SqliteLedger, SqliteOptions};
use hotseat::mirror::local::LocalMirror;
use tempfile::TempDir;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const SHARDS: u16 = 4;

async fn open(dir: &TempDir) -> Arc<SqliteLedger> {
    let options = SqliteOptions {
        dir: dir.path().to_owned(),
        shards: SHARDS,
        owner: 1,
        node: "n1".to_owned(),
        public_url: "http://127.0.0.1:1".to_owned(),
        peer_url: String::new(),
        lease_ttl: Span::from_secs(5),
        durability: Durability::Relaxed,
        access: Access::Own,
    };
    SqliteLedger::open(options).await.unwrap()
}

struct World {
    ledger: Arc<SqliteLedger>,
    system: System,
    directory: Arc<Directory>,
    intake: Arc<Intake>,
    stop: CancellationToken,
}

impl World {
    async fn start(ledger: Arc<SqliteLedger>) -> Self {
        let mirror = Arc::new(LocalMirror::new());
        let gates = GateOptions::new(ledger.clone(), mirror.clone(), || [7; 32]);
        let system = System::start(Options {
            gates,
            peers: Arc::new(actors::peers::Alone::default()),
            rebalance: actors::Rebalance::default(),
            ledger: ledger.clone(),
            mirror,
            shards: SHARDS,
            settings: Settings::default(),
            lease: LeaseSettings::default(),
            ledger_ack_timeout: Duration::from_secs(5),
            feed_tick: Duration::from_millis(10),
            mirror_restore_timeout: Duration::from_millis(200),
            metrics: Metrics::default(),
        })
        .await
        .unwrap();
        let directory = Arc::new(Directory::new());
        let intake = Arc::new(Intake::new(directory.clone(), ledger.clone(), system.handle()));
        let stop = CancellationToken::new();
        let (worker, token) = (intake.clone(), stop.clone());
        tokio::spawn(async move { worker.run(token).await });
        Self { ledger, system, directory, intake, stop }
    }

    /// Waits until so many options are in the directory and none waits.
    async fn all_on_sale(&self, options: usize) -> Vec<Arc<OptionEntry>> {
        let waiting = async {
            loop {
                let concerts = self.directory.concerts();
                let all = concerts.iter().flat_map(|concert| self.directory.options_of(concert.concert));
                let all: Vec<_> = all.collect();
                if all.len() == options && self.intake.pending() == 0 {
                    return all;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), waiting).await.expect("the options are on sale")
    }

    async fn end(self) {
        self.stop.cancel();
        self.system.shutdown(Duration::from_secs(5)).await;
        self.ledger.close().await;
    }
}

#[tokio::test]
async fn what_is_imported_goes_on_sale() {
    let dir = TempDir::new().unwrap();
    let ledger = open(&dir).await;
    let imported = demo::fill(ledger.as_ref()).await.unwrap();
    let world = World::start(ledger).await;

    let entries = world.all_on_sale(3).await;
    for (entry, imported) in entries.iter().zip(&imported) {
        assert_eq!(entry.option, imported.option.option);
        assert_eq!(entry.status, Some(OptionStatus::OnSale));
        assert_eq!(entry.plan_hash, imported.option.plan_hash);
        assert_eq!(entry.seat_count(), imported.option.seat_count);
        assert_eq!(world.directory.shard_of(entry.option), Some(imported.concert.shard));
        assert_eq!(*world.directory.concert(entry.concert).unwrap(), imported.concert);
    }
    assert_eq!(entries[2].label(SeatNo(99_999)), "U40-35-40");
    let others = [entries[0].shard, entries[1].shard];
    assert!(!others.contains(&entries[2].shard), "the stadium has a shard of its own");

    // A further date with the same plan: the poll is not waited for, and the plan is shared.
    let again = Import {
        title: imported[2].concert.title.clone(),
        starts_at: Time(imported[2].option.starts_at.0 + 86_400_000_000),
        plan: Arc::new(demo::stadium()),
        own_shard: false,
    };
    world.ledger.import(&again).await.unwrap();
    world.intake.wake();
    let entries = world.all_on_sale(4).await;
    assert!(Arc::ptr_eq(&entries[2].plan, &entries[3].plan));
    assert_eq!(entries[3].shard, entries[2].shard);

    // Closed by an admin: the directory learns it by itself.
    let ask = Ask {
        caller: Caller { user: UserId(0), authority: Authority::Any },
        key: None,
        pass: None,
        command: Command::SetOptionStatus { option: entries[0].option, status: OptionStatus::Closed },
    };
    let deadline = Instant::now() + Duration::from_secs(5);
    let answer = world.system.handle().ask(entries[0].shard, ask, deadline).await;
    assert!(matches!(answer.outcome, Outcome::Granted(_)), "{answer:?}");
    let closed = async {
        while world.directory.option(entries[0].option).unwrap().status != Some(OptionStatus::Closed) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), closed).await.expect("the directory follows the status");
    world.end().await;
}

#[tokio::test]
async fn a_plan_that_cannot_be_read_hides_only_its_own_options() {
    use sqlx::{ConnectOptions, Connection};

    let dir = TempDir::new().unwrap();
    let ledger = open(&dir).await;
    let imported = demo::fill(ledger.as_ref()).await.unwrap();
    ledger.close().await;
    drop(ledger);
    let file = dir.path().join(LEDGER_FILE);
    let mut raw = sqlx::sqlite::SqliteConnectOptions::new().filename(file).connect().await.unwrap();
    let spoilt = sqlx::query("UPDATE plans SET body = x'00' WHERE plan_hash = ?1")
        .bind(imported[0].option.plan_hash.clone())
        .execute(&mut raw)
        .await
        .unwrap();
    assert_eq!(spoilt.rows_affected(), 1);
    raw.close().await.unwrap();

    let world = World::start(open(&dir).await).await;
    let entries = world.all_on_sale(2).await;
    assert_eq!(entries[0].option, imported[1].option.option);
    assert!(world.directory.option(imported[0].option.option).is_none());
    assert_eq!(world.directory.concerts().len(), 3);
    world.end().await;
}
