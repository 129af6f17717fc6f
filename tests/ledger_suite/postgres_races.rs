//! Two owners at once, and owners who are stuck: whatever the order, one of them sells.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use actors::ports::{AppendError, Batch, ShardAnswer};
use engine::{Epoch, ShardId, Span, Time};
use hotseat::ledger::postgres::{PgLedger, PgOptions};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _};
use uuid::Uuid;

use crate::audits::audit_of;
use crate::chain::{Chain, hold};
use crate::postgres::PgWorld;
use crate::world::{OWNER, Sale, Store, TTL, World};

pub const POLL: Duration = Duration::from_millis(10);
pub const OTHER: u128 = OWNER + 1;

/// A further node of the cluster.
pub async fn node(world: &PgWorld, owner: u128, lease_ttl: Span) -> Arc<dyn Store> {
    let options = PgOptions { owner, node: format!("n{owner}"), lease_ttl, ..world.options() };
    PgLedger::open(options).await.unwrap()
}

/// A session by any name, past hotseat.
pub async fn session(world: &PgWorld, name: &str) -> PgConnection {
    let options: PgConnectOptions = world.url.parse().unwrap();
    options.application_name(name).connect().await.unwrap()
}

pub fn name_of(owner: u128) -> String {
    format!("hotseat/{}", Uuid::from_u128(owner))
}

pub async fn run(connection: &mut PgConnection, sql: impl Into<String>) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(sql.into())).execute(connection).await.map(|_| ())
}

async fn expire(connection: &mut PgConnection) {
    run(connection, "UPDATE shard_lease SET expires_at = 1").await.unwrap();
}

/// Waits until so many sessions of that name wait for a lock.
pub async fn blocked(connection: &mut PgConnection, name: &str, sessions: i64) {
    const BLOCKED: &str = "
SELECT count(*) FROM pg_stat_activity
 WHERE application_name = $1 AND wait_event_type = 'Lock' AND datname = current_database()";
    while sqlx::query_scalar::<_, i64>(BLOCKED).bind(name).fetch_one(&mut *connection).await.unwrap()
        < sessions
    {
        tokio::time::sleep(POLL).await;
    }
}

async fn until_acquired(store: &Arc<dyn Store>, shard: ShardId) -> Epoch {
    loop {
        // An error is a wait that took too long.
        if let Ok(Some(epoch)) = store.acquire(shard).await {
            return epoch;
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Writes the same bytes until the answer is definite.
async fn insist(store: &Arc<dyn Store>, batch: &Batch) -> ShardAnswer {
    loop {
        match store.append(batch).await {
            Ok(answers) => return answers[0].1,
            Err(AppendError::Unknown { .. }) => tokio::time::sleep(POLL).await,
            Err(other) => panic!("{other}"),
        }
    }
}

/// The owner locked its fence and went to sleep. Nobody else's sessions end for that.
#[tokio::test]
async fn a_paused_writer_does_not_hold_up_its_successor() {
    let world = PgWorld::new();
    let sale = Sale::new(&world).await;
    let (shard, lock) = (sale.shard(), "BEGIN; SELECT FROM shard_lease FOR KEY SHARE");
    let mut paused = session(&world, &name_of(OWNER)).await;
    let mut stranger = session(&world, "psql").await;
    run(&mut paused, lock).await.unwrap();
    let mut admin = session(&world, "admin").await;
    expire(&mut admin).await;
    let successor = node(&world, OTHER, TTL).await;
    assert_eq!(until_acquired(&successor, shard).await, Epoch(2));
    assert!(run(&mut paused, "SELECT 1").await.is_err(), "it was ended");
    sale.store.now().await.expect("its other sessions were in nobody's way");

    // Nor does a live lease: the session that keeps the owner from its own row may be anybody's.
    run(&mut stranger, lock).await.unwrap();
    expire(&mut admin).await;
    let third = node(&world, OTHER + 1, TTL).await;
    let waiting = third.acquire(shard).await;
    assert!(!matches!(waiting, Ok(Some(_))), "{waiting:?}");
    run(&mut stranger, "ROLLBACK").await.expect("it is nobody's we may end");
    assert_eq!(until_acquired(&third, shard).await, Epoch(3));
}

/// The writer has its fence when the successor comes: it commits first, or not at all.
#[tokio::test]
async fn a_take_over_waits_for_a_commit() {
    let world = PgWorld::new();
    let mut sale = Sale::new(&world).await;
    let shard = sale.shard();
    let (mut gate, mut admin) = (session(&world, "gate").await, session(&world, "admin").await);
    run(&mut gate, "BEGIN; LOCK TABLE reservations IN EXCLUSIVE MODE").await.unwrap();
    let row = sale.chain.reservation(&hold(&sale.imported, 1, 42, &[1]));
    let batch = sale.chain.batch(vec![row]);
    let writing = tokio::spawn({
        let (store, batch) = (sale.store.clone(), batch.clone());
        async move { store.append(&batch).await }
    });
    blocked(&mut admin, &name_of(OWNER), 1).await;
    expire(&mut admin).await;
    let successor = node(&world, OTHER, TTL).await;
    let taking = tokio::spawn({
        let successor = successor.clone();
        async move { until_acquired(&successor, shard).await }
    });
    blocked(&mut admin, &name_of(OTHER), 1).await;
    run(&mut gate, "COMMIT").await.unwrap();
    assert_eq!(taking.await.unwrap(), Epoch(2));
    let found = successor.load(shard, Time(0)).await.unwrap();
    match writing.await.unwrap() {
        Ok(answers) => {
            assert_eq!(answers, [(shard, ShardAnswer::Applied)]);
            assert_eq!((found.reservations.len(), found.head), (1, sale.chain.head));
        }
        // It was too slow, and was ended.
        Err(AppendError::Unknown { .. }) => assert_eq!(found.reservations, []),
        Err(other) => panic!("{other}"),
    }
    let late = sale.store.append(&batch).await.unwrap();
    assert_eq!(late, [(shard, ShardAnswer::Fenced)]);
}

/// The successor has the row when the writer comes: the writer waits, and is fenced if the other commits.
#[tokio::test]
async fn a_commit_waits_for_a_take_over() {
    let world = PgWorld::new();
    let mut sale = Sale::new(&world).await;
    let shard = sale.shard();
    let (mut taker, mut admin) = (session(&world, "taker").await, session(&world, "admin").await);
    for (end, seat, expected) in [("ROLLBACK", 1, ShardAnswer::Applied), ("COMMIT", 2, ShardAnswer::Fenced)] {
        run(&mut taker, "BEGIN; SELECT FROM shard_lease FOR UPDATE").await.unwrap();
        run(&mut taker, "UPDATE shard_lease SET epoch = epoch + 1").await.unwrap();
        let row = sale.chain.reservation(&hold(&sale.imported, seat, 42, &[seat]));
        let batch = sale.chain.batch(vec![row]);
        let store = sale.store.clone();
        let writing = tokio::spawn(async move { store.append(&batch).await });
        blocked(&mut admin, &name_of(OWNER), 1).await;
        run(&mut taker, end).await.unwrap();
        assert_eq!(writing.await.unwrap().unwrap(), [(shard, expected)], "{end}");
    }
}

/// Nodes take the shard from each other again and again, and each sells until it is fenced.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn incarnations_that_fight_sell_each_seat_once() {
    const SEATS: u32 = 48;
    let world = PgWorld::new();
    let sale = Sale::new(&world).await;
    let (shard, imported) = (sale.shard(), sale.imported.clone());
    let next = Arc::new(AtomicU32::new(1));
    let fight = |store: Arc<dyn Store>| {
        let (next, imported) = (next.clone(), imported.clone());
        tokio::spawn(async move {
            let mut acknowledged = Vec::new();
            let mut last = Epoch(0);
            while next.load(Ordering::Relaxed) <= SEATS {
                let epoch = until_acquired(&store, shard).await;
                assert!(epoch > last, "{epoch} after {last}");
                last = epoch;
                let head = store.load(shard, Time(0)).await.unwrap().head;
                let mut chain = Chain { head, ..Chain::new(shard, epoch) };
                loop {
                    let seat = next.fetch_add(1, Ordering::Relaxed);
                    if seat > SEATS {
                        break;
                    }
                    let row = chain.reservation(&hold(&imported, seat, 42, &[seat]));
                    match insist(&store, &chain.batch(vec![row])).await {
                        ShardAnswer::Fenced => break,
                        ShardAnswer::Applied | ShardAnswer::Duplicate => acknowledged.push(seat),
                    }
                }
            }
            acknowledged
        })
    };
    let fighters: Vec<_> =
        [node(&world, OTHER, TTL).await, node(&world, OTHER + 1, TTL).await].into_iter().map(fight).collect();
    let mut admin = session(&world, "admin").await;
    while next.load(Ordering::Relaxed) <= SEATS {
        expire(&mut admin).await;
        tokio::time::sleep(POLL).await;
    }
    // Whoever waits for the shard now gets it, and sees that everything is sold.
    let mut sold = Vec::new();
    for fighter in fighters {
        while !fighter.is_finished() {
            expire(&mut admin).await;
            tokio::time::sleep(POLL).await;
        }
        sold.extend(fighter.await.unwrap());
    }
    sold.sort_unstable();
    let found = sale.store.load(shard, Time(0)).await.unwrap();
    let mut seats: Vec<u32> =
        found.reservations.iter().flat_map(|row| row.seats.iter().map(|seat| seat.0)).collect();
    seats.sort_unstable();
    assert_eq!(seats, sold, "what was acknowledged is what is there");
    assert!(audit_of(&sale.store, &[]).await.is_clean());
}

/// Writers' locks are in no renewal's way; a row that somebody else keeps locked costs that shard only.
#[tokio::test]
async fn a_locked_row_costs_one_shard() {
    let world = PgWorld::new();
    let store = world.open(OWNER, TTL).await;
    let held = [(ShardId(3), Epoch(1)), (ShardId(4), Epoch(1))];
    for (shard, epoch) in held {
        assert_eq!(store.acquire(shard).await.unwrap(), Some(epoch));
    }
    let mut other = session(&world, "psql").await;
    run(&mut other, "BEGIN; SELECT FROM shard_lease FOR KEY SHARE").await.unwrap();
    assert_eq!(store.renew(&held).await.unwrap(), [ShardId(3), ShardId(4)]);
    run(&mut other, "SELECT FROM shard_lease WHERE shard = 3 FOR UPDATE").await.unwrap();
    assert_eq!(store.renew(&held).await.unwrap(), [ShardId(4)]);
    run(&mut other, "ROLLBACK").await.unwrap();
    assert_eq!(store.renew(&held).await.unwrap(), [ShardId(3), ShardId(4)], "it was skipped, not lost");
}

#[tokio::test]
async fn time_is_the_servers() {
    const NOW: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
    let world = PgWorld::new();
    let store = world.open(OWNER, TTL).await;
    let mut admin = session(&world, "admin").await;
    let before: i64 = sqlx::query_scalar(NOW).fetch_one(&mut admin).await.unwrap();
    let now = store.now().await.unwrap();
    let after: i64 = sqlx::query_scalar(NOW).fetch_one(&mut admin).await.unwrap();
    assert!((before..=after).contains(&now.0), "{before} {now:?} {after}");
}

/// By its name a successor knows whether a process lives.
#[tokio::test]
async fn every_session_of_a_process_carries_its_name() {
    let world = PgWorld::new();
    let mut sale = Sale::new(&world).await;
    let row = sale.chain.reservation(&hold(&sale.imported, 1, 42, &[1]));
    sale.chain.applied(&sale.store, vec![row]).await;
    sale.store.renew(&[(sale.shard(), sale.chain.epoch)]).await.unwrap();
    let _snapshot = sale.store.snapshot().await.unwrap();
    let mut admin = session(&world, "admin").await;
    let names: Vec<(String, i64)> = sqlx::query_as(
        "SELECT application_name, count(*) FROM pg_stat_activity
          WHERE datname = current_database() AND pid <> pg_backend_pid() GROUP BY 1",
    )
    .fetch_all(&mut admin)
    .await
    .unwrap();
    let [(name, sessions)] = &names[..] else { panic!("{names:?}") };
    assert_eq!(*name, name_of(OWNER));
    assert!(*sessions >= 4, "{sessions}: one to write, one to renew, to acquire, to read");
    drop(sale);
}

/// Sessions end under the writer's hands. The same bytes, written again until the answer is definite, are there
/// once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_outcome_is_found_out() {
    let world = PgWorld::new();
    let mut sale = Sale::new(&world).await;
    let done = Arc::new(AtomicBool::new(false));
    let mut admin = session(&world, "admin").await;
    let ending = tokio::spawn({
        let done = done.clone();
        async move {
            let mut ended = 0;
            while !done.load(Ordering::Relaxed) {
                let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                            WHERE datname = current_database() AND query LIKE '%append_batch%' AND state = 'active'
                              AND pid <> pg_backend_pid()";
                ended += sqlx::query_scalar::<_, i64>(sql).fetch_one(&mut admin).await.unwrap();
                tokio::time::sleep(Duration::from_millis(3)).await;
            }
            ended
        }
    });
    let mut duplicates = 0;
    let mut n = 0;
    // Until it has happened that the reply was lost but not the commit.
    while n < 49 {
        n += 1;
        let row = sale.chain.reservation(&hold(&sale.imported, n, 42, &[n]));
        match insist(&sale.store, &sale.chain.batch(vec![row])).await {
            ShardAnswer::Applied => {}
            ShardAnswer::Duplicate => duplicates += 1,
            ShardAnswer::Fenced => panic!("nobody took the shard"),
        }
    }
    done.store(true, Ordering::Relaxed);
    let ended = ending.await.unwrap();
    assert_eq!(
        sale.store.heads().await.unwrap(),
        [(sale.shard(), sale.chain.head)],
        "{ended} ended, {duplicates} twice"
    );
    assert!(audit_of(&sale.store, &[]).await.is_clean());
}
