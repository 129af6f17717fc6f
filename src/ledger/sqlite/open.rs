//! Opening a data directory: whose it is, which schema it has, and that nobody else serves it.

use std::fs::{self, File, TryLockError};
use std::io::Read as _;
use std::path::Path;
use std::sync::OnceLock;

use engine::Time;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, SqlitePool};

use super::writer::{BUSY_TIMEOUT, Writer};
use super::{
    Access, Checkpointer, Clock, Durability, LEDGER_FILE, LOCK_FILE, OpenError, PlanCache, SqliteLedger,
    SqliteOptions, wall_clock,
};

/// By version, from 1 without gaps; the same numbers as for other databases.
const MIGRATIONS: [&str; 2] = [
    include_str!("../../../migrations/sqlite/0001_ledger.sql"),
    include_str!("../../../migrations/sqlite/0002_gates.sql"),
];
const KNOWN_SCHEMA: i64 = MIGRATIONS.len() as i64;
/// What the migrations set as `application_id`: "HotS".
const APPLICATION_ID: i64 = 0x486f_7453;

const READERS: u32 = 4;
/// Rows a reader's thread may be ahead of whoever decodes them.
const ROWS_AHEAD: usize = 1_024;
/// Pages of the write-ahead log before a commit folds what the checkpointer has left of them: 128 MiB.
const CHECKPOINT_PAGES: &str = "32000";
const JOURNAL_BYTES_KEPT: &str = "134217728";
/// Negative: KiB.
const CACHE_SIZE: &str = "-65536";

/// What a migration did to the schema: its version before and after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// 0: there was none.
    pub from: i64,
    pub to: i64,
}

/// Brings the schema of a data directory up to date, making both where they are missing. No server
/// may run on it.
///
/// # Errors
/// As [`SqliteLedger::open`]; a migration that fails leaves the schema at the version before.
pub async fn migrate(dir: &Path) -> Result<Migrated, OpenError> {
    let _lock = take_lock(dir, dir)?;
    let mut connection = connect_to_write(dir, &write_options(dir, Durability::Full)).await?;
    let migrated = migrate_on(dir, &mut connection).await?;
    connection.close().await.map_err(|error| OpenError::from_sqlx(dir, &error))?;
    Ok(migrated)
}

pub(super) async fn open(options: SqliteOptions) -> Result<SqliteLedger, OpenError> {
    match options.access {
        Access::Own | Access::Import => open_to_own(options).await,
        Access::Read => open_to_read(options).await,
    }
}

async fn open_to_own(options: SqliteOptions) -> Result<SqliteLedger, OpenError> {
    let dir = options.dir.as_path();
    let lock = take_lock(dir, dir)?;
    let write = write_options(dir, options.durability);
    let mut connection = connect_to_write(dir, &write).await?;
    let migrated = migrate_on(dir, &mut connection).await?;
    if migrated.from != migrated.to {
        tracing::info!(from = migrated.from, to = migrated.to, "the ledger's schema is up to date now");
    }
    let newest = claim(&options, &mut connection).await?;
    let readers = readers(dir).await?;
    let beside =
        write.clone().pragma("wal_autocheckpoint", "0").thread_name(|id| format!("ledger-fold-{id}"));
    let beside = beside.connect().await.map_err(|error| OpenError::from_sqlx(dir, &error))?;
    Ok(SqliteLedger {
        clock: Clock::start(newest),
        writer: Some(Writer::new(write, connection)),
        checkpointer: Some(Checkpointer::start(beside)),
        readers,
        plans: PlanCache::default(),
        public_url: OnceLock::new(),
        lock: Some(lock),
        options,
    })
}

async fn open_to_read(options: SqliteOptions) -> Result<SqliteLedger, OpenError> {
    let dir = options.dir.as_path();
    if !dir.join(LEDGER_FILE).is_file() {
        let reason = format!("there is no {LEDGER_FILE} in it");
        return Err(OpenError::NotHotseat { dir: dir.to_owned(), reason });
    }
    check_header(dir)?;
    let readers = readers(dir).await?;
    let failed = |error| OpenError::from_sqlx(dir, &error);
    let mut connection = readers.acquire().await.map_err(failed)?;
    let found = schema_version(dir, &mut connection).await?;
    if found < KNOWN_SCHEMA {
        return Err(OpenError::OlderSchema { dir: dir.to_owned(), found, known: KNOWN_SCHEMA });
    }
    check_shards(&options, &mut connection).await?;
    let newest = newest_event(&mut connection).await.map_err(failed)?;
    drop(connection);
    Ok(SqliteLedger {
        clock: Clock::start(newest),
        writer: None,
        checkpointer: None,
        readers,
        plans: PlanCache::default(),
        public_url: OnceLock::new(),
        lock: None,
        options,
    })
}

/// Makes a directory and locks it, for as long as the file is open. What goes wrong is said of the data directory.
///
/// # Errors
/// Another process has it, or the disk's.
pub fn take_lock(dir: &Path, data: &Path) -> Result<File, OpenError> {
    let failed = |error| OpenError::from_io(data, &error);
    fs::create_dir_all(dir).map_err(failed)?;
    let lock = File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(dir.join(LOCK_FILE))
        .map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse { dir: data.to_owned() }),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// Looks at the file before SQLite does: a stranger's database must not even change its journal mode.
fn check_header(dir: &Path) -> Result<(), OpenError> {
    let not_ours = |reason: &str| {
        Err(OpenError::NotHotseat { dir: dir.to_owned(), reason: format!("its {LEDGER_FILE} {reason}") })
    };
    let mut header = Vec::new();
    match File::open(dir.join(LEDGER_FILE)) {
        Ok(file) => {
            file.take(100).read_to_end(&mut header).map_err(|error| OpenError::from_io(dir, &error))?;
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(OpenError::from_io(dir, &error)),
    }
    if header.is_empty() {
        return Ok(());
    }
    let Some(application_id) = header.get(68..72) else {
        return not_ours("is no SQLite database");
    };
    if !header.starts_with(b"SQLite format 3\0") {
        return not_ours("is no SQLite database");
    }
    // 0: ours too, if it died before its first checkpoint. The tables tell.
    let application_id = application_id.iter().fold(0, |id, byte| (id << 8) | i64::from(*byte));
    if application_id != 0 && application_id != APPLICATION_ID {
        return not_ours("belongs to another program");
    }
    Ok(())
}

fn write_options(dir: &Path, durability: Durability) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(dir.join(LEDGER_FILE))
        .create_if_missing(true)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        .synchronous(match durability {
            Durability::Full => SqliteSynchronous::Full,
            Durability::Relaxed => SqliteSynchronous::Normal,
        })
        .pragma("temp_store", "MEMORY")
        .pragma("cache_size", CACHE_SIZE)
        .pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
        .pragma("journal_size_limit", JOURNAL_BYTES_KEPT)
        .thread_name(|id| format!("ledger-write-{id}"))
        .disable_statement_logging()
}

async fn connect_to_write(dir: &Path, options: &SqliteConnectOptions) -> Result<SqliteConnection, OpenError> {
    check_header(dir)?;
    let failed = |error| OpenError::from_sqlx(dir, &error);
    let mut connection = options.connect().await.map_err(failed)?;
    if schema_version(dir, &mut connection).await? == 0 {
        // The mode stays with the file.
        let mode: String = sqlx::query_scalar("PRAGMA journal_mode = WAL")
            .fetch_one(&mut connection)
            .await
            .map_err(failed)?;
        if mode != "wal" {
            let reason = format!("its file system allows no write-ahead log (journal mode {mode})");
            return Err(OpenError::Io { dir: dir.to_owned(), reason });
        }
    }
    Ok(connection)
}

async fn readers(dir: &Path) -> Result<SqlitePool, OpenError> {
    let options = SqliteConnectOptions::new()
        .filename(dir.join(LEDGER_FILE))
        .read_only(true)
        .busy_timeout(BUSY_TIMEOUT)
        .row_buffer_size(ROWS_AHEAD)
        .pragma("temp_store", "MEMORY")
        .thread_name(|id| format!("ledger-read-{id}"))
        .disable_statement_logging();
    SqlitePoolOptions::new()
        .max_connections(READERS)
        .test_before_acquire(false)
        .connect_with(options)
        .await
        .map_err(|error| OpenError::from_sqlx(dir, &error))
}

/// The version of the schema, 0 when there is none; refuses what is not ours or newer than we know.
async fn schema_version(dir: &Path, connection: &mut SqliteConnection) -> Result<i64, OpenError> {
    let (application_id, version, tables): (i64, i64, i64) = sqlx::query_as(
        "SELECT (SELECT application_id FROM pragma_application_id), (SELECT user_version FROM \
         pragma_user_version), (SELECT count(*) FROM sqlite_schema)",
    )
    .fetch_one(connection)
    .await
    .map_err(|error| OpenError::from_sqlx(dir, &error))?;
    let ours = application_id == APPLICATION_ID || (application_id == 0 && tables == 0);
    if !ours {
        let reason = format!("its {LEDGER_FILE} belongs to another program");
        return Err(OpenError::NotHotseat { dir: dir.to_owned(), reason });
    }
    if version > KNOWN_SCHEMA {
        return Err(OpenError::NewerSchema { dir: dir.to_owned(), found: version, known: KNOWN_SCHEMA });
    }
    Ok(version)
}

async fn migrate_on(dir: &Path, connection: &mut SqliteConnection) -> Result<Migrated, OpenError> {
    let failed = |error| OpenError::from_sqlx(dir, &error);
    let from = schema_version(dir, connection).await?;
    for (version, script) in (1..).zip(MIGRATIONS) {
        if version > from {
            let mut tx = connection.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
            sqlx::raw_sql(script).execute(&mut *tx).await.map_err(failed)?;
            tx.commit().await.map_err(failed)?;
        }
    }
    Ok(Migrated { from, to: schema_version(dir, connection).await? })
}

/// Writes this opening down, which proves that the disk takes writes, and frees the leases of owners
/// who must be dead because we hold the lock. Answers with the time of the newest event.
async fn claim(options: &SqliteOptions, connection: &mut SqliteConnection) -> Result<Time, OpenError> {
    let failed = |error| OpenError::from_sqlx(&options.dir, &error);
    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
    let now = wall_clock();
    sqlx::query(
        "INSERT INTO cluster_meta (one, cluster_id, shards, created_at, opened_at) VALUES (1, ?1, ?2, ?3, ?3) \
         ON CONFLICT (one) DO UPDATE SET opened_at = excluded.opened_at",
    )
    .bind(uuid::Uuid::new_v4().as_bytes().to_vec())
    .bind(options.shards)
    .bind(now.0)
    .execute(&mut *tx)
    .await
    .map_err(failed)?;
    check_shards(options, &mut tx).await?;
    sqlx::query("UPDATE shard_lease SET state = 0 WHERE state = 1 AND owner <> ?1")
        .bind(options.owner.to_be_bytes().to_vec())
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
    let newest = newest_event(&mut tx).await.map_err(failed)?;
    tx.commit().await.map_err(failed)?;
    Ok(newest)
}

async fn check_shards(options: &SqliteOptions, connection: &mut SqliteConnection) -> Result<(), OpenError> {
    let stored: Option<u16> = sqlx::query_scalar("SELECT shards FROM cluster_meta")
        .fetch_optional(connection)
        .await
        .map_err(|error| OpenError::from_sqlx(&options.dir, &error))?;
    match stored {
        Some(stored) if stored != options.shards => {
            Err(OpenError::ShardCountDiffers { dir: options.dir.clone(), stored, configured: options.shards })
        }
        _ => Ok(()),
    }
}

async fn newest_event(connection: &mut SqliteConnection) -> Result<Time, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT coalesce(max((SELECT max(at) FROM reservation_events e WHERE e.shard = l.shard)), 0) FROM \
         shard_lease l",
    )
    .fetch_one(connection)
    .await
    .map(Time)
}
