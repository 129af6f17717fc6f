//! What only the inside can arrange: a full disk. Everything else is in `tests/ledger_suite`.

use std::sync::Arc;

use actors::ports::{AppendError, Batch, Ledger as _, LedgerError, ShardAnswer};
use actors::row::EventRow;
use actors::writer::seal::seal;
use engine::option::Policy;
use engine::{ChainHead, Entry, EntryNo, Epoch, Fact, ShardId, UserId};

use super::*;
use crate::catalogue::plan::{Category, Plan, Row, Seat, Section};
use crate::catalogue::{Catalogue as _, CatalogueError, Import, Imported};

async fn ledger(dir: &tempfile::TempDir) -> Arc<SqliteLedger> {
    let options = SqliteOptions {
        dir: dir.path().to_owned(),
        shards: 4,
        owner: 1,
        node: String::new(),
        public_url: String::new(),
        peer_url: String::new(),
        lease_ttl: Span::from_secs(60),
        durability: Durability::Full,
        access: Access::Own,
    };
    SqliteLedger::open(options).await.unwrap()
}

fn import(title: &str, seats: u32) -> Import {
    // Labels that do not compress.
    let label = |n: u32| format!("{:08x}", n.wrapping_mul(0x9e37_79b1) ^ (n << 7));
    let seats = (0..seats).map(|n| Seat { label: label(n), category: 0, position: None }).collect();
    let plan = Plan {
        name: "Saal".to_owned(),
        currency: "EUR".to_owned(),
        categories: vec![Category { name: "all".to_owned(), price: 1 }],
        sections: vec![Section { code: "A".to_owned(), rows: vec![Row { label: "1".to_owned(), seats }] }],
    };
    Import { title: title.to_owned(), starts_at: Time(1), plan: Arc::new(plan), own_shard: false }
}

/// The disk has room for `pages` more pages of 4 KiB; `None`: for all the world.
async fn leave_room(ledger: &SqliteLedger, pages: Option<i64>) {
    let mut turn = ledger.writer().unwrap().turn().await.unwrap();
    let mut tx = turn.begin().await.unwrap();
    let used: i64 = sqlx::query_scalar("PRAGMA page_count").fetch_one(&mut *tx).await.unwrap();
    let limit = pages.map_or(1 << 30, |pages| used + pages);
    let sql = sqlx::AssertSqlSafe(format!("PRAGMA max_page_count = {limit}"));
    let set: i64 = sqlx::query_scalar(sql).fetch_one(&mut *tx).await.unwrap();
    assert_eq!(set, limit);
    tx.commit().await.unwrap();
}

/// The next change of the policy.
fn policies(imported: &Imported, epoch: Epoch, head: &mut ChainHead) -> Batch {
    let shard = imported.concert.shard;
    let version = u32::try_from(head.event_seq).unwrap() + 1;
    let fact = Fact::Policy {
        concert: imported.concert.concert,
        policy: Policy { reservations_per_user: version, gate: false },
        version,
    };
    let entry = Entry { no: EntryNo(1), at: Time(1), caller: UserId(1), request: None, fact };
    let mut row = EventRow::unsealed(shard, epoch, &entry);
    *head = seal(&mut row, *head);
    Batch { fences: vec![(shard, epoch)], rows: vec![row] }
}

#[tokio::test]
async fn a_full_disk_loses_nothing_and_heals() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = ledger(&dir).await;
    let imported = ledger.import(&import("Der Ring", 5)).await.unwrap();
    let shard = imported.concert.shard;
    let epoch = ledger.acquire(shard).await.unwrap().unwrap();
    leave_room(&ledger, Some(2)).await;

    let mut head = ChainHead::default();
    let (stuck, before) = loop {
        let before = head;
        let batch = policies(&imported, epoch, &mut head);
        match ledger.append(&batch).await {
            Ok(answers) => assert_eq!(answers, [(shard, ShardAnswer::Applied)]),
            Err(AppendError::Unknown { rolled_back, .. }) => {
                assert!(rolled_back, "nothing was committed");
                break (batch, before);
            }
            Err(other) => panic!("{other}"),
        }
        assert!(head.event_seq < 1_000, "the disk never filled");
    };
    assert!(before.event_seq > 0, "some were written before");
    assert_eq!(ledger.heads().await.unwrap(), [(shard, before)]);
    assert_eq!(ledger.load(shard, Time(0)).await.unwrap().head, before, "reads go on");

    // SQLite rolled back by itself: the connection may be a new one, with room again.
    leave_room(&ledger, Some(1)).await;
    let error = ledger.import(&import("Tosca", 20_000)).await;
    assert!(matches!(error, Err(CatalogueError::Unavailable(_))), "{error:?}");
    assert_eq!(ledger.concerts(None, 9).await.unwrap().len(), 1);

    leave_room(&ledger, None).await;
    assert_eq!(ledger.append(&stuck).await.unwrap(), [(shard, ShardAnswer::Applied)]);
    assert_eq!(ledger.heads().await.unwrap(), [(shard, head)]);
    ledger.import(&import("Tosca", 20_000)).await.unwrap();
}

/// The error is SQLite's own; the sentence is ours.
#[tokio::test]
async fn a_full_disk_is_said_when_opening() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = ledger(&dir).await;
    leave_room(&ledger, Some(1)).await;
    let mut turn = ledger.writer().unwrap().turn().await.unwrap();
    let mut tx = turn.begin().await.unwrap();
    let error =
        sqlx::query("CREATE TABLE more AS SELECT zeroblob(100000)").execute(&mut *tx).await.unwrap_err();
    let error = OpenError::from_sqlx(dir.path(), &error);
    assert!(matches!(error, OpenError::DiskFull { .. }), "{error}");
    let error = OpenError::from_io(dir.path(), &std::io::ErrorKind::StorageFull.into());
    assert!(matches!(error, OpenError::DiskFull { .. }), "{error}");
}

/// Nothing in the file says what to do with it: an error, not a guess.
#[tokio::test]
async fn values_without_a_meaning_are_corruption() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = ledger(&dir).await;
    let imported = ledger.import(&import("Der Ring", 5)).await.unwrap();
    let shard = imported.concert.shard;
    let tampers = [
        "UPDATE options SET status = 1, version = 1; UPDATE plans SET body = x'00'",
        "PRAGMA foreign_keys = OFF; UPDATE concerts SET shard = 700000",
    ];
    for tamper in tampers {
        let mut turn = ledger.writer().unwrap().turn().await.unwrap();
        let mut tx = turn.begin().await.unwrap();
        sqlx::raw_sql(tamper).execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
    }
    let error = ledger.concerts(None, 9).await;
    assert!(matches!(error, Err(CatalogueError::Corrupt(_))), "{error:?}");
    let mut turn = ledger.writer().unwrap().turn().await.unwrap();
    let mut tx = turn.begin().await.unwrap();
    sqlx::query("UPDATE concerts SET shard = ?1").bind(shard.0).execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    let error = ledger.load(shard, Time(0)).await;
    assert!(matches!(error, Err(LedgerError::Corrupt(_))), "{error:?}");
    assert!(ledger.load(ShardId(shard.0 ^ 1), Time(0)).await.is_ok());
}
