//! Which ledger a configuration means: SQLite in the data directory, or PostgreSQL at an address.

use std::path::Path;
use std::sync::Arc;

use super::public_url;
use crate::config::{Config, ConfigError, Durability, Problems};
use crate::ledger::postgres::{self, PgLedger, PgOptions};
use crate::ledger::sqlite::{self, SqliteLedger, SqliteOptions};
use crate::ledger::{Access, Store};

/// Opens the ledger of a configuration.
///
/// # Errors
/// What the adapters' `OpenError` say. A shard count that differs, an address that is none, and a node name that
/// is in use are wrong configurations ([`Problems`]).
pub async fn open_ledger(config: &Config, access: Access) -> anyhow::Result<Arc<dyn Store>> {
    if config.ledger.is_embedded() {
        open_sqlite(config, access).await
    } else {
        open_postgres(config, access).await
    }
}

/// Brings the schema up to date. Says where it is, and the versions before and after.
///
/// # Errors
/// As [`open_ledger`].
pub async fn migrate(config: &Config) -> anyhow::Result<(String, i64, i64)> {
    if !config.ledger.is_embedded() {
        let migrated = postgres::migrate(&config.ledger.url).await.map_err(of_postgres)?;
        return Ok((migrated.server, migrated.from, migrated.to));
    }
    let data: &Path = &config.node.data;
    let migrated = sqlite::migrate(data).await?;
    Ok((data.display().to_string(), migrated.from, migrated.to))
}

async fn open_sqlite(config: &Config, access: Access) -> anyhow::Result<Arc<dyn Store>> {
    let options = SqliteOptions {
        dir: config.node.data.clone(),
        shards: config.cluster.shards,
        owner: uuid::Uuid::new_v4().as_u128(),
        node: config.node.name.clone(),
        public_url: public_url(config, config.server.listen),
        peer_url: super::cluster::peer_url(config),
        lease_ttl: config.cluster.lease_ttl.into(),
        durability: match config.ledger.durability {
            Durability::Full => sqlite::Durability::Full,
            Durability::Relaxed => sqlite::Durability::Relaxed,
        },
        access,
    };
    let ledger = SqliteLedger::open(options).await.map_err(|error| match &error {
        sqlite::OpenError::ShardCountDiffers { .. } => wrong("cluster.shards", &error),
        _ => error.into(),
    });
    Ok(ledger?)
}

async fn open_postgres(config: &Config, access: Access) -> anyhow::Result<Arc<dyn Store>> {
    if access == Access::Own {
        // For the key of tokens and run.json.
        std::fs::create_dir_all(&config.node.data)
            .map_err(|error| sqlite::OpenError::from_io(&config.node.data, &error))?;
    }
    let options = PgOptions {
        url: config.ledger.url.clone(),
        shards: config.cluster.shards,
        owner: uuid::Uuid::new_v4().as_u128(),
        node: config.node.name.clone(),
        public_url: public_url(config, config.server.listen),
        peer_url: super::cluster::peer_url(config),
        lease_ttl: config.cluster.lease_ttl.into(),
        access,
    };
    let ledger = PgLedger::open(options).await.map_err(of_postgres);
    Ok(ledger?)
}

/// Whether what keeps a ledger from being opened may pass by itself.
pub(super) fn may_pass(error: &anyhow::Error) -> bool {
    error.downcast_ref().is_some_and(postgres::OpenError::may_pass)
}

fn of_postgres(error: postgres::OpenError) -> anyhow::Error {
    match &error {
        postgres::OpenError::ShardCountDiffers { .. } => wrong("cluster.shards", &error),
        postgres::OpenError::Url { .. } => wrong("ledger.url", &error),
        postgres::OpenError::NodeNameInUse { .. } => wrong("node.name", &error),
        _ => error.into(),
    }
}

fn wrong(key: &str, error: &impl ToString) -> anyhow::Error {
    Problems::from(ConfigError::new("", key, error.to_string())).into()
}
