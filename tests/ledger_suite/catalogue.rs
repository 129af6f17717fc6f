//! Concerts, options and plans.

use std::collections::BTreeSet;
use std::sync::Arc;

use engine::option::OptionStatus;
use engine::{ConcertId, OptionId, Time};
use hotseat::catalogue::{CatalogueError, Import, Imported, Plan};

use crate::chain::Chain;
use crate::world::{OWNER, SHARDS, Store, T0, TTL, World, import, plan};

pub async fn bring(
    store: &Arc<dyn Store>,
    title: &str,
    at: i64,
    seats: u32,
    own_shard: bool,
) -> Result<Imported, CatalogueError> {
    let plan = plan("Saal", seats);
    store.import(&Import { title: title.to_owned(), starts_at: Time(at), plan, own_shard }).await
}

fn refusal<T>(result: Result<T, CatalogueError>) -> String {
    match result {
        Err(CatalogueError::Refused(reason)) => reason,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was taken"),
    }
}

pub async fn an_import_comes_back(world: &impl World) {
    let store = world.open(OWNER, TTL).await;
    let imported = bring(&store, "Der Ring", T0, 50, false).await.unwrap();
    assert_eq!((imported.concert.concert, imported.option.option), (ConcertId(1), OptionId(1)));
    assert!(imported.concert.shard.0 < SHARDS);
    assert_eq!((imported.option.status, imported.option.seat_count), (None, 50));
    assert_eq!(store.concerts(None, 9).await.unwrap(), std::slice::from_ref(&imported.concert));
    assert_eq!(store.options(None, 9).await.unwrap(), std::slice::from_ref(&imported.option));

    let stored = store.plan(&imported.option.plan_hash).await.unwrap().unwrap();
    assert_eq!(Plan::from_gzip(&stored).unwrap(), *plan("Saal", 50));
    assert_eq!(imported.option.plan_hash, plan("Saal", 50).hash());
    assert_eq!(store.plan(&"0".repeat(64)).await.unwrap(), None);
}

pub async fn a_title_gets_further_options(world: &impl World) {
    let store = world.open(OWNER, TTL).await;
    let first = bring(&store, "Der Ring", T0, 50, false).await.unwrap();
    let second = bring(&store, "Der Ring", T0 + 1, 50, false).await.unwrap();
    let third = bring(&store, "Der Ring", T0 + 2, 51, false).await.unwrap();
    assert_eq!([&second.concert, &third.concert], [&first.concert; 2]);
    assert_eq!(first.option.plan_hash, second.option.plan_hash);
    assert_ne!(first.option.plan_hash, third.option.plan_hash);
    assert_eq!(store.concerts(None, 9).await.unwrap().len(), 1);
    assert_eq!(store.options(None, 9).await.unwrap(), [first.option, second.option, third.option]);
}

pub async fn the_same_start_twice_is_refused(world: &impl World) {
    let store = world.open(OWNER, TTL).await;
    bring(&store, "Der Ring", T0, 50, false).await.unwrap();
    let reason = refusal(bring(&store, "Der Ring", T0, 60, false).await);
    assert!(reason.contains("Der Ring"), "{reason}");
    assert_eq!(store.options(None, 9).await.unwrap().len(), 1);
    assert_eq!(store.plan(&plan("Saal", 60).hash()).await.unwrap(), None, "nothing of it stays");
    bring(&store, "Tosca", T0, 60, false).await.unwrap();
}

/// A concert of its own shard is never joined, and the others share what is left.
pub async fn a_shard_of_its_own(world: &impl World) {
    let store = world.open(OWNER, TTL).await;
    let mut alone = BTreeSet::new();
    for n in 0..SHARDS - 1 {
        let imported = bring(&store, &format!("hot {n}"), T0, 5, true).await.unwrap();
        assert!(alone.insert(imported.concert.shard), "{} has one already", imported.concert.shard);
    }
    for n in 0..5 {
        let shared = bring(&store, &format!("cool {n}"), T0, 5, false).await.unwrap();
        assert!(!alone.contains(&shared.concert.shard));
    }
    let reason = refusal(bring(&store, "too hot", T0, 5, true).await);
    assert!(reason.contains("shard"), "{reason}");
    let reason = refusal(bring(&store, "cool 1", T0 + 1, 5, true).await);
    assert!(reason.contains("cool 1"), "{reason}");
    bring(&store, "hot 1", T0 + 1, 5, true).await.unwrap();
    bring(&store, "hot 2", T0 + 1, 5, false).await.unwrap();
}

pub async fn ids_are_paged(world: &impl World) {
    let store = world.open(OWNER, TTL).await;
    for n in 0..5 {
        bring(&store, &format!("concert {n}"), T0, 5, false).await.unwrap();
    }
    let concerts = store.concerts(Some(ConcertId(2)), 2).await.unwrap();
    assert_eq!(concerts.iter().map(|concert| concert.concert.0).collect::<Vec<_>>(), [3, 4]);
    let options = store.options(Some(OptionId(4)), 9).await.unwrap();
    assert_eq!(options.iter().map(|option| option.option.0).collect::<Vec<_>>(), [5]);
}

/// Imported is not on sale: only the shard's own event makes it so.
pub async fn an_option_waits_for_its_shard(world: &impl World) {
    let store = world.open(OWNER, TTL).await;
    let imported = import(&store, "Der Ring").await;
    let shard = imported.concert.shard;
    assert!(store.load(shard, Time(0)).await.unwrap().options.is_empty());
    let mut chain = Chain::new(shard, store.acquire(shard).await.unwrap().unwrap());
    let added = chain.option(&imported, OptionStatus::OnSale, 1, T0);
    chain.applied(&store, vec![added]).await;
    assert_eq!(store.load(shard, Time(0)).await.unwrap().options.len(), 1);
    assert_eq!(store.options(None, 9).await.unwrap()[0].status, Some(OptionStatus::OnSale));
}
