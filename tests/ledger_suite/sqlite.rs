//! SQLite in a directory of its own.

use std::sync::Arc;

use async_trait::async_trait;
use engine::Span;
use hotseat::ledger::sqlite::{Access, Durability, SqliteLedger, SqliteOptions};
use tempfile::TempDir;

use crate::world::{SHARDS, Store, World};

pub struct SqliteWorld {
    dir: TempDir,
}

impl SqliteWorld {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }
}

#[async_trait]
impl World for SqliteWorld {
    async fn open(&self, owner: u128, lease_ttl: Span) -> Arc<dyn Store> {
        let options = SqliteOptions {
            dir: self.dir.path().to_owned(),
            shards: SHARDS,
            owner,
            node: "a".to_owned(),
            public_url: "http://127.0.0.1:8080".to_owned(),
            peer_url: String::new(),
            lease_ttl,
            durability: Durability::Full,
            access: Access::Own,
        };
        SqliteLedger::open(options).await.unwrap()
    }
}
