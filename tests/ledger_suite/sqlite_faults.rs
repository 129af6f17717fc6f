//! Crashes, power failures, a foreign writer, and hands that reach into the file.

use std::fs;
use std::path::Path;

use actors::ports::{AppendError, ShardAnswer};
use hotseat::ledger::sqlite::{LEDGER_FILE, SqliteLedger};
use sqlx::Connection as _;

use crate::audits::{audit_of, history};
use crate::chain::hold;
use crate::sqlite::{SqliteWorld, options, stranger};
use crate::world::{OWNER, Sale, T0, TTL, World};

/// The files as a crash would leave them, with the write-ahead log cut to a part of its length.
fn crash_copy(from: &Path, to: &Path, log_bytes: u64) {
    fs::create_dir_all(to).unwrap();
    fs::copy(from.join(LEDGER_FILE), to.join(LEDGER_FILE)).unwrap();
    let log = to.join(format!("{LEDGER_FILE}-wal"));
    fs::copy(from.join(format!("{LEDGER_FILE}-wal")), &log).unwrap();
    fs::File::options().write(true).open(&log).unwrap().set_len(log_bytes).unwrap();
}

/// Wherever the log ends after a power failure, what is there is whole and consistent; and when all of
/// the log is there, so is everything that was acknowledged.
#[tokio::test]
async fn a_log_cut_anywhere_is_a_clean_past() {
    let world = SqliteWorld::new();
    let sale = history(&world).await;
    let length = fs::metadata(world.dir().join(format!("{LEDGER_FILE}-wal"))).unwrap().len();
    let mut seen = Vec::new();
    for step in 0..=16 {
        let dir = world.dir().join(format!("crash{step}"));
        crash_copy(world.dir(), &dir, length * step / 16);
        let store: std::sync::Arc<dyn crate::world::Store> = SqliteLedger::open(options(&dir)).await.unwrap();
        let heads = store.heads().await.unwrap();
        if !heads.is_empty() {
            let report = audit_of(&store, &[]).await;
            assert!(report.is_clean(), "{report}");
        }
        seen.push(heads.first().map_or(0, |(_, head)| head.event_seq));
    }
    assert!(seen.is_sorted(), "{seen:?}");
    assert_eq!((seen[0], seen[16]), (0, sale.chain.head.event_seq));
    assert!(seen.iter().any(|seq| (1..sale.chain.head.event_seq).contains(seq)), "{seen:?}");
}

/// Its clock is the machine's, which may have been put back: no event is earlier than those before it.
#[tokio::test]
async fn time_never_runs_backwards() {
    let world = SqliteWorld::new();
    let mut sale = Sale::new(&world).await;
    let row = sale.chain.reservation(&hold(&sale.imported, 7, 42, &[1]));
    sale.chain.applied(&sale.store, vec![row]).await;
    drop(sale);
    let store = world.open(OWNER + 1, TTL).await;
    assert!(store.now().await.unwrap().0 >= T0 + 7);
}

/// Somebody else's transaction: the outcome is unknown, and the same bytes succeed later.
#[tokio::test]
async fn a_foreign_writer_makes_the_outcome_unknown() {
    let world = SqliteWorld::new();
    let mut sale = Sale::new(&world).await;
    let row = sale.chain.reservation(&hold(&sale.imported, 1, 42, &[1]));
    let batch = sale.chain.batch(vec![row]);
    let mut foreign = stranger(world.dir()).await;
    let blocker = foreign.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let answer = sale.store.append(&batch).await;
    assert!(matches!(answer, Err(AppendError::Unknown { rolled_back: true, .. })), "{answer:?}");
    assert!(sale.store.acquire(engine::ShardId(7)).await.is_err());
    assert_eq!(
        sale.store.load(sale.shard(), engine::Time(0)).await.unwrap().head.event_seq,
        1,
        "reads go on"
    );
    blocker.rollback().await.unwrap();
    let answer = sale.store.append(&batch).await.unwrap();
    assert_eq!(answer, [(sale.shard(), ShardAnswer::Applied)]);
}

/// A caller that gives up in the middle leaves no transaction behind, and the retry finds out.
#[tokio::test]
async fn a_write_nobody_waits_for_is_whole_or_absent() {
    let world = SqliteWorld::new();
    let mut sale = Sale::new(&world).await;
    for n in 1..=40 {
        let row = sale.chain.reservation(&hold(&sale.imported, n, 42, &[n]));
        let batch = sale.chain.batch(vec![row]);
        // Polled a few times, then dropped: each time somewhere else on its way.
        let mut write = sale.store.append(&batch);
        for _ in 0..n {
            let polled = std::future::poll_fn(|context| std::task::Poll::Ready(write.as_mut().poll(context)));
            if polled.await.is_ready() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_micros(20)).await;
        }
        drop(write);
        let answers = sale.store.append(&batch).await.unwrap();
        assert_ne!(answers[0].1, ShardAnswer::Fenced);
    }
    assert!(audit_of(&sale.store, &[]).await.is_clean());
    assert_eq!(sale.store.heads().await.unwrap(), [(sale.shard(), sale.chain.head)]);
}

/// Each line reaches into the file behind hotseat's back; the audit names the row.
#[tokio::test]
async fn hands_in_the_file_are_told() {
    let rows: [(&str, &str); 16] = [
        ("rewritten", "UPDATE reservation_events SET amount = 1 WHERE event_seq = 4"),
        ("rewritten", "UPDATE reservation_events SET hash = prev_hash WHERE event_seq = 4"),
        ("are missing", "DELETE FROM reservation_events WHERE event_seq = 4"),
        ("events say nothing; the row says", "DELETE FROM reservation_events WHERE event_seq > 18"),
        ("policy of concert", "UPDATE policies SET reservations_per_user = 99"),
        ("policy of concert", "DELETE FROM policies"),
        ("option 1", "UPDATE options SET status = 1"),
        ("option 1", "UPDATE options SET status = 0, version = 0"),
        ("reservation 01", "UPDATE reservations SET user_id = 7 WHERE status = 3"),
        ("reservation 01", "UPDATE reservations SET amount = amount - 1 WHERE status = 3"),
        ("reservation 01", "UPDATE reservations SET changed_at = 5 WHERE status = 1"),
        ("the row says nothing", "DELETE FROM reservations WHERE status = 1"),
        ("seats of", "UPDATE reservation_seats SET active = 0 WHERE seat_no = 40"),
        ("seats of", "UPDATE reservation_seats SET option_id = 9 WHERE seat_no = 40"),
        ("seats of", "DELETE FROM reservation_seats WHERE seat_no = 40"),
        ("shard", "UPDATE reservations SET shard = (shard + 1) % 8 WHERE status = 1"),
    ];
    for (expected, sql) in rows {
        let world = SqliteWorld::new();
        drop(history(&world).await);
        world.tamper(sql).await;
        let store = world.open(OWNER, TTL).await;
        let report = audit_of(&store, &[]).await;
        assert!(!report.is_clean(), "{sql}");
        assert!(report.to_string().contains(expected), "{sql}: {report}");
    }
}

/// Past the checks of the table, as a broken disk may.
#[tokio::test]
async fn gates_without_a_meaning_are_corruption() {
    for (sql, read) in crate::gates::CORRUPTIONS {
        let world = SqliteWorld::new();
        crate::gates::corruption_is_said(&world, read, async || {
            let mut connection = stranger(world.dir()).await;
            for sql in ["PRAGMA ignore_check_constraints = ON", sql] {
                sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
            }
        })
        .await;
    }
}
