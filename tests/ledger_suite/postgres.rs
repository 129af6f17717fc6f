//! A database of its own on the test run's PostgreSQL.

use std::sync::Arc;

use async_trait::async_trait;
use engine::Span;
use hotseat::ledger::Access;
use hotseat::ledger::postgres::{PgLedger, PgOptions};
use servers::Postgres;

use crate::world::{OWNER, SHARDS, Store, TTL, World};

pub struct PgWorld {
    pub url: String,
}

impl PgWorld {
    pub fn new() -> Self {
        Self { url: Postgres::shared().database() }
    }

    /// What [`World::open`] opens with.
    pub fn options(&self) -> PgOptions {
        options(&self.url)
    }
}

pub fn options(url: &str) -> PgOptions {
    PgOptions {
        url: url.to_owned(),
        shards: SHARDS,
        owner: OWNER,
        node: "a".to_owned(),
        public_url: "http://127.0.0.1:8080".to_owned(),
        peer_url: String::new(),
        lease_ttl: TTL,
        access: Access::Own,
    }
}

#[async_trait]
impl World for PgWorld {
    async fn open(&self, owner: u128, lease_ttl: Span) -> Arc<dyn Store> {
        let options = PgOptions { owner, lease_ttl, ..self.options() };
        PgLedger::open(options).await.unwrap()
    }

    async fn open_wide(&self, shards: u16) -> Arc<dyn Store> {
        PgLedger::open(PgOptions { shards, ..self.options() }).await.unwrap()
    }
}
