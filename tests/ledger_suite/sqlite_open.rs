//! Everything an operator can meet when a data directory is opened, each said in a sentence.

use std::path::Path;

use hotseat::ledger::sqlite::{
    Access, Durability, LEDGER_FILE, Migrated, OpenError, SqliteLedger, SqliteOptions, migrate,
};
use sqlx::Connection as _;

use crate::audits::{audit_of, history};
use crate::schema::FIRST_HALL;
use crate::sqlite::{SqliteWorld, options, stranger};
use crate::world::{OWNER, SHARDS, Store as _, TTL, World};

async fn error(options: SqliteOptions) -> OpenError {
    let dir = options.dir.display().to_string();
    let error = SqliteLedger::open(options).await.expect_err("it must not open");
    let text = error.to_string();
    assert!(text.contains(&dir), "{text}: it does not say where");
    assert!(text.len() > dir.len() + 40, "{text}: it does not say what to do");
    error
}

fn read(dir: &Path) -> SqliteOptions {
    SqliteOptions { access: Access::Read, ..options(dir) }
}

#[tokio::test]
async fn a_directory_in_use() {
    let world = SqliteWorld::new();
    let first = SqliteLedger::open(world.options()).await.unwrap();
    assert!(matches!(error(world.options()).await, OpenError::InUse { .. }));
    assert!(matches!(migrate(world.dir()).await, Err(OpenError::InUse { .. })));
    first.close().await;
    let log = world.dir().join(format!("{LEDGER_FILE}-wal"));
    assert!(!log.exists(), "a clean end leaves one file");
    SqliteLedger::open(world.options()).await.unwrap();
    assert!(log.exists());
}

#[tokio::test]
async fn a_newer_schema_is_left_alone() {
    let world = SqliteWorld::new();
    history(&world).await;
    world.tamper("PRAGMA user_version = 99").await;
    for options in [world.options(), read(world.dir())] {
        let error = error(options).await;
        assert!(matches!(error, OpenError::NewerSchema { found: 99, .. }), "{error}");
    }
    assert!(matches!(migrate(world.dir()).await, Err(OpenError::NewerSchema { .. })));
    world.tamper("PRAGMA user_version = 2").await;
    let store = world.open(OWNER, TTL).await;
    assert!(audit_of(&store, &[]).await.is_clean(), "nothing was touched");
}

#[tokio::test]
async fn an_older_schema_cannot_be_read_beside_a_server() {
    let world = SqliteWorld::new();
    SqliteLedger::open(world.options()).await.unwrap().close().await;
    world.tamper("PRAGMA user_version = 0").await;
    let error = error(read(world.dir())).await;
    assert!(matches!(error, OpenError::OlderSchema { found: 0, .. }), "{error}");
}

#[tokio::test]
async fn another_number_of_shards() {
    let world = SqliteWorld::new();
    SqliteLedger::open(world.options()).await.unwrap().close().await;
    for access in [Access::Own, Access::Read] {
        let error = error(SqliteOptions { shards: 64, access, ..world.options() }).await;
        let says = matches!(error, OpenError::ShardCountDiffers { stored: SHARDS, configured: 64, .. });
        assert!(says, "{error}");
    }
    SqliteLedger::open(world.options()).await.unwrap();
}

#[tokio::test]
async fn not_a_data_directory() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "a file").unwrap();
    let text = dir.path().join("text");
    std::fs::create_dir(&text).unwrap();
    for content in ["no database", &"no database, and longer than the header of one ".repeat(99)] {
        std::fs::write(text.join(LEDGER_FILE), content).unwrap();
        for options in [options(&text), read(&text)] {
            let error = error(options).await;
            assert!(matches!(error, OpenError::NotHotseat { .. }), "{error}");
        }
        assert_eq!(std::fs::read_to_string(text.join(LEDGER_FILE)).unwrap(), content);
    }
    for options in [options(&file), read(&file), read(&dir.path().join("missing"))] {
        let error = error(options).await;
        assert!(matches!(error, OpenError::NotHotseat { .. }), "{error}");
    }
    assert!(!dir.path().join("missing").exists());
}

#[tokio::test]
async fn another_programs_database_is_left_alone() {
    for sql in ["CREATE TABLE notes (note TEXT)", "PRAGMA application_id = 7"] {
        let world = SqliteWorld::new();
        let mut connection = stranger(world.dir()).await;
        sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        let before = std::fs::read(world.dir().join(LEDGER_FILE)).unwrap();
        for options in [world.options(), read(world.dir())] {
            let error = error(options).await;
            assert!(matches!(error, OpenError::NotHotseat { .. }), "{error}");
        }
        assert_eq!(std::fs::read(world.dir().join(LEDGER_FILE)).unwrap(), before, "{sql}");
    }
}

/// The kernel's own directory takes files from nobody, root included.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_directory_that_cannot_be_written() {
    let error = error(options(Path::new("/sys/kernel"))).await;
    assert!(matches!(error, OpenError::ReadOnly { .. }), "{error}");
}

#[tokio::test]
async fn migrating_is_told_and_repeatable() {
    let world = SqliteWorld::new();
    let dir = world.dir().join("not/yet/there");
    assert_eq!(migrate(&dir).await.unwrap(), Migrated { from: 0, to: 2 });
    assert_eq!(migrate(&dir).await.unwrap(), Migrated { from: 2, to: 2 });
    SqliteLedger::open(options(&dir)).await.unwrap();
}

/// What the first version left is there afterwards, and nothing reads it before.
#[tokio::test]
async fn the_first_schema_is_brought_up_to_date() {
    const FIRST: &str = include_str!("../../migrations/sqlite/0001_ledger.sql");
    let world = SqliteWorld::new();
    let mut connection = stranger(world.dir()).await;
    for sql in ["PRAGMA journal_mode = WAL", FIRST, FIRST_HALL] {
        sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
    }
    connection.close().await.unwrap();
    let error = error(read(world.dir())).await;
    assert!(matches!(error, OpenError::OlderSchema { found: 1, known: 2, .. }), "{error}");
    assert_eq!(migrate(world.dir()).await.unwrap(), Migrated { from: 1, to: 2 });
    crate::schema::sells_the_first_hall(&world).await;
}

#[tokio::test]
async fn reading_beside_a_running_server() {
    let world = SqliteWorld::new();
    let mut sale = history(&world).await;
    let beside = SqliteLedger::open(read(world.dir())).await.unwrap();
    let beside: std::sync::Arc<dyn crate::world::Store> = beside;
    assert!(audit_of(&beside, &[]).await.is_clean());
    let row = sale.chain.reservation(&crate::chain::hold(&sale.imported, 20, 42, &[30]));
    sale.chain.applied(&sale.store, vec![row.clone()]).await;
    assert_eq!(beside.heads().await.unwrap(), [(sale.shard(), sale.chain.head)]);
    // It writes nothing.
    assert!(beside.acquire(engine::ShardId(7)).await.is_err());
    assert!(beside.append(&sale.chain.batch(vec![row])).await.is_err());
    crate::gates::are_read_only(&sale, &beside).await;
    // And goes on when the server has ended.
    drop(sale);
    assert!(audit_of(&beside, &[]).await.is_clean());
    drop(beside);
    let alone = SqliteLedger::open(read(world.dir())).await.unwrap();
    let alone: std::sync::Arc<dyn crate::world::Store> = alone;
    assert!(audit_of(&alone, &[]).await.is_clean());
}

#[tokio::test]
async fn relaxed_durability_sells_as_well() {
    let world = SqliteWorld::new();
    let options = SqliteOptions { durability: Durability::Relaxed, ..world.options() };
    SqliteLedger::open(options).await.unwrap().close().await;
    let sale = history(&world).await;
    assert!(audit_of(&sale.store, &[]).await.is_clean());
}
