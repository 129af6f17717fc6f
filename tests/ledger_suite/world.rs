//! What a case needs of the ledger it runs against.

use std::sync::Arc;

use async_trait::async_trait;
use engine::{ShardId, Span, Time};
use hotseat::catalogue::plan::{Category, Plan, Row, Seat, Section};
use hotseat::catalogue::{Import, Imported};
pub use hotseat::ledger::Store;

use crate::chain::Chain;

/// A database of one test.
#[async_trait]
pub trait World: Sync {
    /// Opens it as a process of its own would, with [`SHARDS`] shards. Dropping the result is killing
    /// that process; a world may refuse a second one that is alive at the same time.
    async fn open(&self, owner: u128, lease_ttl: Span) -> Arc<dyn Store>;

    /// Opens it with so many shards, as fast as it may be.
    async fn open_wide(&self, shards: u16) -> Arc<dyn Store>;
}

pub const SHARDS: u16 = 8;
pub const OWNER: u128 = 0x11;
pub const TTL: Span = Span::from_secs(60);
/// Far enough ahead to be later than any wall clock this runs under.
pub const T0: i64 = 4_000_000_000_000_000;

/// A plan of one row.
pub fn plan(name: &str, seats: u32) -> Arc<Plan> {
    let seats =
        (1..=seats).map(|n| Seat { label: format!("A-1-{n}"), category: 0, position: None }).collect();
    Arc::new(Plan {
        name: name.to_owned(),
        currency: "EUR".to_owned(),
        categories: vec![Category { name: "Parkett".to_owned(), price: 5_000 }],
        sections: vec![Section { code: "A".to_owned(), rows: vec![Row { label: "1".to_owned(), seats }] }],
    })
}

/// Imports an option of 50 seats in a shard of its own.
pub async fn import(store: &Arc<dyn Store>, title: &str) -> Imported {
    let import =
        Import { title: title.to_owned(), starts_at: Time(T0), plan: plan("Saal", 50), own_shard: true };
    store.import(&import).await.unwrap()
}

/// An open ledger with one option on sale.
pub struct Sale {
    pub store: Arc<dyn Store>,
    pub imported: Imported,
    pub chain: Chain,
}

impl Sale {
    pub async fn new(world: &impl World) -> Self {
        let store = world.open(OWNER, TTL).await;
        let (imported, chain) = Self::further(&store, "Der Ring").await;
        Self { store, imported, chain }
    }

    /// One more concert, on sale, in another shard.
    pub async fn further(store: &Arc<dyn Store>, title: &str) -> (Imported, Chain) {
        let imported = import(store, title).await;
        let shard = imported.concert.shard;
        let epoch = store.acquire(shard).await.unwrap().expect("nobody has it");
        let mut chain = Chain::new(shard, epoch);
        let added = chain.option(&imported, engine::option::OptionStatus::OnSale, 1, T0);
        chain.applied(store, vec![added]).await;
        (imported, chain)
    }

    pub fn shard(&self) -> ShardId {
        self.chain.shard
    }
}
