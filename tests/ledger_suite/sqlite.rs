//! SQLite in a directory of its own.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use engine::Span;
use hotseat::ledger::sqlite::{Access, Durability, LEDGER_FILE, SqliteLedger, SqliteOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use tempfile::TempDir;

use crate::world::{OWNER, SHARDS, Store, TTL, World};

pub struct SqliteWorld {
    dir: TempDir,
}

impl SqliteWorld {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// What [`World::open`] opens with.
    pub fn options(&self) -> SqliteOptions {
        options(self.dir.path())
    }

    /// Runs statements past hotseat, as anybody with the file can.
    pub async fn tamper(&self, sql: &'static str) {
        let mut connection = stranger(self.dir.path()).await;
        sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }
}

pub fn options(dir: &Path) -> SqliteOptions {
    SqliteOptions {
        dir: dir.to_owned(),
        shards: SHARDS,
        owner: OWNER,
        node: "a".to_owned(),
        public_url: "http://127.0.0.1:8080".to_owned(),
        peer_url: String::new(),
        lease_ttl: TTL,
        durability: Durability::Full,
        access: Access::Own,
    }
}

/// A connection that is none of hotseat's.
pub async fn stranger(dir: &Path) -> SqliteConnection {
    SqliteConnectOptions::new()
        .filename(dir.join(LEDGER_FILE))
        .create_if_missing(true)
        .foreign_keys(false)
        .connect()
        .await
        .unwrap()
}

#[async_trait]
impl World for SqliteWorld {
    async fn open(&self, owner: u128, lease_ttl: Span) -> Arc<dyn Store> {
        let options = SqliteOptions { owner, lease_ttl, ..self.options() };
        SqliteLedger::open(options).await.unwrap()
    }

    async fn open_wide(&self, shards: u16) -> Arc<dyn Store> {
        let options = SqliteOptions { shards, durability: Durability::Relaxed, ..self.options() };
        SqliteLedger::open(options).await.unwrap()
    }
}
