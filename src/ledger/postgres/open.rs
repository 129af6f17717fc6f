//! Opening a database: which schema it has, whose it is, and that nobody else goes by this node's name.

use std::time::Duration;

use sqlx::Row as _;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use super::connect::{Connector, Session, session_name, statement_limit};
use super::error::Failed;
use super::{Access, OpenError, PgLedger, PgOptions};

/// By version, from 1 without gaps; the same numbers as for other databases.
const MIGRATIONS: [&str; 2] = [
    include_str!("../../../migrations/postgres/0001_ledger.sql"),
    include_str!("../../../migrations/postgres/0002_gates.sql"),
];
const KNOWN_SCHEMA: i64 = MIGRATIONS.len() as i64;
/// How the comment on `cluster_meta` begins, which says whose the tables are; the version follows.
const MARK: &str = "hotseat schema ";

/// Any number that no other program in this database is likely to lock.
const MIGRATION_LOCK: &str = "SELECT pg_advisory_xact_lock(5215586417464738675)";

// Asks the tables of the catalogue, which show what another process has just made; its functions cache.
const COMMENT: &str = "
SELECT obj_description(c.oid, 'pg_class') FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relname = 'cluster_meta' AND n.nspname = current_schema()";

const CLAIM: &str = "
INSERT INTO cluster_meta (one, cluster_id, shards, created_at, opened_at)
VALUES (1, $1, $2, ledger_now_v1(), ledger_now_v1())
ON CONFLICT (one) DO UPDATE SET opened_at = excluded.opened_at";

/// Whom a commit waits for.
const STANDBYS: &str = "SELECT current_setting('synchronous_standby_names')";

const SHARDS: &str = "SELECT shards FROM cluster_meta";

/// Live leases under this node's name, by owner: the greatest expiry, and the sessions that carry its name.
const NAMESAKES: &str = "
SELECT l.owner, max(l.expires_at),
       (SELECT count(*) FROM pg_stat_activity a WHERE a.application_name = 'hotseat/' || l.owner)
  FROM shard_lease l
 WHERE l.node = $1 AND l.state = 1 AND l.owner <> $2 AND l.expires_at > ledger_now_v1()
 GROUP BY l.owner";

/// Its owner is dead: no session carries its name. Waits for nobody, since nobody is left.
const FREE: &str = "UPDATE shard_lease SET state = 0 WHERE node = $1 AND owner = $2 AND state = 1";

/// How often to look whether a former process's sessions are gone.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What a migration did to the schema: its version before and after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// `host:port/database`.
    pub server: String,
    /// 0: there was none.
    pub from: i64,
    pub to: i64,
}

/// Brings the schema of a database up to date.
///
/// # Errors
/// As [`PgLedger::open`]; a migration that fails leaves the schema at the version before.
pub async fn migrate(url: &str) -> Result<Migrated, OpenError> {
    let limit = Duration::from_secs(60);
    let connector = connector(url, Uuid::new_v4().as_u128(), limit)?;
    let mut session = connect(&connector).await?;
    migrate_on(&connector, &mut session.connection).await
}

pub(super) async fn open(options: PgOptions) -> Result<PgLedger, OpenError> {
    let connector = connector(&options.url, options.owner, statement_limit(options.lease_ttl))?;
    let mut session = connect(&connector).await?;
    refuse_pooled(&connector, &mut session).await?;
    let connection = &mut session.connection;
    match options.access {
        Access::Own | Access::Import => {
            let migrated = migrate_on(&connector, connection).await?;
            if migrated.from != migrated.to {
                tracing::info!(
                    from = migrated.from,
                    to = migrated.to,
                    "the ledger's schema is up to date now"
                );
            }
            claim(&connector, &options, connection).await?;
        }
        Access::Read => {
            let found = schema_version(&connector, connection).await?;
            if found < KNOWN_SCHEMA {
                let server = connector.server().to_owned();
                return Err(OpenError::OlderSchema { server, found, known: KNOWN_SCHEMA });
            }
            check_shards(&connector, &options, connection).await?;
        }
    }
    if options.access == Access::Own {
        free_own_leases(&connector, &options, connection).await?;
    }
    drop(session);
    Ok(PgLedger::new(options, connector))
}

fn connector(url: &str, owner: u128, limit: Duration) -> Result<Connector, OpenError> {
    Connector::new(url, owner, limit).map_err(|error| OpenError::of("", Failed::Connect(error)))
}

async fn connect(connector: &Connector) -> Result<Session, OpenError> {
    connector.connect().await.map_err(|error| OpenError::of(connector.server(), Failed::Connect(error)))
}

/// With a proxy that pools transactions, two connections meet in one session, or one changes its session.
async fn refuse_pooled(connector: &Connector, first: &mut Session) -> Result<(), OpenError> {
    let failed = |error| failed(connector, error);
    let mut second = connect(connector).await?;
    sqlx::raw_sql("BEGIN").execute(&mut second.connection).await.map_err(failed)?;
    let in_transaction = server_pid(&mut second.connection).await.map_err(failed)?;
    let now = server_pid(&mut first.connection).await.map_err(failed)?;
    if in_transaction == first.pid || now != first.pid {
        return Err(OpenError::Pooled { server: connector.server().to_owned() });
    }
    Ok(())
}

async fn server_pid(connection: &mut PgConnection) -> Result<i32, sqlx::Error> {
    sqlx::raw_sql("SELECT pg_backend_pid()").fetch_one(connection).await?.try_get(0)
}

/// The version of the schema, 0 when there is none; refuses what is not ours or newer than we know.
async fn schema_version(connector: &Connector, connection: &mut PgConnection) -> Result<i64, OpenError> {
    let table =
        sqlx::query(COMMENT).fetch_optional(connection).await.map_err(|error| failed(connector, error))?;
    let Some(table) = table else { return Ok(0) };
    let comment: Option<String> = table.try_get(0).map_err(|error| failed(connector, error))?;
    let server = connector.server().to_owned();
    let version = comment.as_deref().and_then(|comment| comment.strip_prefix(MARK)?.parse().ok());
    match version {
        None => {
            let reason = "its table cluster_meta is not hotseat's".to_owned();
            Err(OpenError::NotHotseat { server, reason })
        }
        Some(found) if found > KNOWN_SCHEMA => {
            Err(OpenError::NewerSchema { server, found, known: KNOWN_SCHEMA })
        }
        Some(found) => Ok(found),
    }
}

/// Several processes may try at once: they take turns.
async fn migrate_on(connector: &Connector, connection: &mut PgConnection) -> Result<Migrated, OpenError> {
    let failed = |error| failed(connector, error);
    let server = connector.server().to_owned();
    let from = schema_version(connector, connection).await?;
    if from == KNOWN_SCHEMA {
        return Ok(Migrated { server, from, to: from });
    }
    sqlx::raw_sql("BEGIN").execute(&mut *connection).await.map_err(failed)?;
    sqlx::raw_sql(MIGRATION_LOCK).execute(&mut *connection).await.map_err(failed)?;
    let from = schema_version(connector, connection).await?;
    for (version, script) in (1..).zip(MIGRATIONS) {
        if version > from {
            sqlx::raw_sql(script).execute(&mut *connection).await.map_err(failed)?;
        }
    }
    sqlx::raw_sql("COMMIT").execute(&mut *connection).await.map_err(failed)?;
    Ok(Migrated { server, from, to: schema_version(connector, connection).await? })
}

/// Writes this opening down, which proves that the server takes writes.
async fn claim(
    connector: &Connector,
    options: &PgOptions,
    connection: &mut PgConnection,
) -> Result<(), OpenError> {
    sqlx::query(CLAIM)
        .bind(Uuid::new_v4())
        .bind(i32::from(options.shards))
        .execute(&mut *connection)
        .await
        .map_err(|error| failed(connector, error))?;
    check_shards(connector, options, connection).await?;
    let standbys: String =
        sqlx::query_scalar(STANDBYS).fetch_one(connection).await.map_err(|error| failed(connector, error))?;
    if standbys.is_empty() {
        tracing::info!(
            "no synchronous standby: a fail-over of the ledger may lose what was acknowledged last"
        );
    }
    Ok(())
}

async fn check_shards(
    connector: &Connector,
    options: &PgOptions,
    connection: &mut PgConnection,
) -> Result<(), OpenError> {
    let stored: Option<i32> = sqlx::query_scalar(SHARDS)
        .fetch_optional(connection)
        .await
        .map_err(|error| failed(connector, error))?;
    match stored {
        Some(stored) if stored != i32::from(options.shards) => {
            let server = connector.server().to_owned();
            Err(OpenError::ShardCountDiffers { server, stored, configured: options.shards })
        }
        _ => Ok(()),
    }
}

/// A former process of this node may have left leases. Where no session carries its name, it is dead, and
/// its shards are free at once. Where it renews, it lives. Where it does neither, its leases run out.
async fn free_own_leases(
    connector: &Connector,
    options: &PgOptions,
    connection: &mut PgConnection,
) -> Result<(), OpenError> {
    let failed = |error| failed(connector, error);
    let mut first_seen: Vec<(Uuid, i64)> = Vec::new();
    loop {
        let namesakes = sqlx::query(NAMESAKES)
            .bind(&options.node)
            .bind(Uuid::from_u128(options.owner))
            .fetch_all(&mut *connection)
            .await
            .map_err(failed)?;
        let mut alive = 0;
        for row in &namesakes {
            let owner: Uuid = row.try_get(0).map_err(failed)?;
            let (expires_at, sessions): (i64, i64) =
                (row.try_get(1).map_err(failed)?, row.try_get(2).map_err(failed)?);
            if sessions == 0 {
                let free = sqlx::query(FREE).bind(&options.node).bind(owner);
                free.execute(&mut *connection).await.map_err(failed)?;
                tracing::info!(
                    former = session_name(owner.as_u128()),
                    "freed the leases of this node's former process"
                );
                continue;
            }
            alive += 1;
            match first_seen.iter().find(|(seen, _)| *seen == owner) {
                Some((_, first)) if expires_at > *first => {
                    let server = connector.server().to_owned();
                    return Err(OpenError::NodeNameInUse { server, node: options.node.clone() });
                }
                Some(_) => {}
                None => first_seen.push((owner, expires_at)),
            }
        }
        if alive == 0 {
            return Ok(());
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

fn failed(connector: &Connector, error: sqlx::Error) -> OpenError {
    OpenError::of(connector.server(), Failed::Sql(error))
}
