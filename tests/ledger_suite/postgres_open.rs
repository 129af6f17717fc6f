//! Everything an operator can meet when a database is opened, each said in a sentence.

use std::net::TcpListener;
use std::time::Duration;

use engine::{Epoch, ShardId, Span};
use hotseat::ledger::Access;
use hotseat::ledger::postgres::{OpenError, PgLedger, PgOptions, migrate};
use servers::{Pooler, Postgres, free_port};

use crate::audits::{audit_of, history};
use crate::postgres::{PgWorld, options};
use crate::schema::FIRST_HALL;
use crate::world::{OWNER, SHARDS, Store, TTL, World};

const PASSWORD: &str = "hunter2";

/// Whatever goes wrong is said with the server and without the password.
async fn error(options: PgOptions) -> OpenError {
    let place = options.url.rsplit_once('@').unwrap().1.to_owned();
    let error = PgLedger::open(options).await.err().expect("it must not open");
    let text = format!("{error} {error:?}");
    assert!(text.contains(&place), "{text}: it does not say where");
    assert!(error.to_string().len() > place.len() + 30, "{text}: it does not say what to do");
    assert!(!text.contains(PASSWORD), "{text}");
    error
}

fn as_user(url: &str, user: &str) -> String {
    url.replace("postgres@", &format!("{user}:{PASSWORD}@"))
}

fn sql(world: &PgWorld, sql: &str) -> String {
    Postgres::shared().sql(world.url.rsplit('/').next().unwrap(), sql)
}

#[tokio::test]
async fn nobody_there() {
    let gone = format!("postgres://postgres:{PASSWORD}@127.0.0.1:{}/x", free_port());
    let error = error(options(&gone)).await;
    assert!(matches!(error, OpenError::Unreachable { .. }) && error.may_pass(), "{error}");
}

#[tokio::test]
async fn somebody_who_does_not_answer() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgres://postgres:{PASSWORD}@{}/x", silent.local_addr().unwrap());
    let error = error(options(&url)).await;
    assert!(matches!(error, OpenError::Unreachable { .. }) && error.may_pass(), "{error}");
}

#[tokio::test]
async fn a_stranger_is_refused() {
    let world = PgWorld::new();
    let missing = world.url.rsplit_once('/').unwrap().0.to_owned() + "/missing";
    for url in [as_user(&world.url, "nobody"), missing] {
        let error = error(options(&url)).await;
        assert!(matches!(error, OpenError::Refused { .. }) && !error.may_pass(), "{error}");
    }
    let role = format!("limited_{}", world.url.rsplit('/').next().unwrap());
    sql(&world, &format!("CREATE ROLE {role} LOGIN"));
    let error = error(options(&as_user(&world.url, &role))).await;
    assert!(matches!(error, OpenError::Refused { .. }), "{error}");
    assert!(error.to_string().contains("permission denied"), "{error}");
    sql(&world, &format!("GRANT CREATE ON SCHEMA public TO {role}"));
    PgLedger::open(options(&as_user(&world.url, &role))).await.unwrap();
}

#[tokio::test]
async fn a_newer_schema_is_left_alone() {
    let world = PgWorld::new();
    drop(history(&world).await);
    sql(&world, "COMMENT ON TABLE cluster_meta IS 'hotseat schema 99'");
    for access in [Access::Own, Access::Import, Access::Read] {
        let error = error(PgOptions { access, ..world.options() }).await;
        assert!(matches!(error, OpenError::NewerSchema { found: 99, .. }), "{error}");
    }
    assert!(matches!(migrate(&world.url).await, Err(OpenError::NewerSchema { .. })));
    sql(&world, "COMMENT ON TABLE cluster_meta IS 'hotseat schema 2'");
    let store = world.open(OWNER, TTL).await;
    assert!(audit_of(&store, &[]).await.is_clean(), "nothing was touched");
}

#[tokio::test]
async fn an_empty_database_cannot_be_read() {
    let world = PgWorld::new();
    let error = error(PgOptions { access: Access::Read, ..world.options() }).await;
    assert!(matches!(error, OpenError::OlderSchema { found: 0, .. }), "{error}");
}

#[tokio::test]
async fn migrating_is_told_and_repeatable() {
    let world = PgWorld::new();
    let at_once: Vec<_> = (0..4)
        .map(|_| {
            tokio::spawn({
                let url = world.url.clone();
                async move { migrate(&url).await.unwrap().from }
            })
        })
        .collect();
    let mut from = Vec::new();
    for migrating in at_once {
        from.push(migrating.await.unwrap());
    }
    from.sort_unstable();
    assert_eq!(from, [0, 2, 2, 2], "one of them did it");
    let again = migrate(&world.url).await.unwrap();
    assert_eq!((again.from, again.to), (2, 2));
    assert!(world.url.ends_with(&again.server), "{}", again.server);
    PgLedger::open(world.options()).await.unwrap();
}

/// What the first version left is there afterwards, and nothing reads it before.
#[tokio::test]
async fn the_first_schema_is_brought_up_to_date() {
    const FIRST: &str = include_str!("../../migrations/postgres/0001_ledger.sql");
    let world = PgWorld::new();
    for script in [FIRST, FIRST_HALL] {
        sql(&world, script);
    }
    let error = error(PgOptions { access: Access::Read, ..world.options() }).await;
    assert!(matches!(error, OpenError::OlderSchema { found: 1, known: 2, .. }), "{error}");
    let migrated = migrate(&world.url).await.unwrap();
    assert_eq!((migrated.from, migrated.to), (1, 2));
    crate::schema::sells_the_first_hall(&world).await;
}

#[tokio::test]
async fn another_number_of_shards() {
    let world = PgWorld::new();
    world.open(OWNER, TTL).await.close().await;
    for access in [Access::Own, Access::Import, Access::Read] {
        let error = error(PgOptions { shards: 64, access, ..world.options() }).await;
        let says = matches!(error, OpenError::ShardCountDiffers { stored, configured: 64, .. } if stored == i32::from(SHARDS));
        assert!(says, "{error}");
    }
}

#[tokio::test]
async fn another_programs_tables_are_left_alone() {
    let world = PgWorld::new();
    sql(&world, "CREATE TABLE cluster_meta (note text)");
    for access in [Access::Own, Access::Read] {
        let error = error(PgOptions { access, ..world.options() }).await;
        assert!(matches!(error, OpenError::NotHotseat { .. }), "{error}");
    }
    assert_eq!(sql(&world, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"), "1");
}

#[tokio::test]
async fn a_server_that_cannot_be_written() {
    let world = PgWorld::new();
    let name = world.url.rsplit('/').next().unwrap();
    sql(&world, &format!("ALTER DATABASE {name} SET default_transaction_read_only = on"));
    let error = error(world.options()).await;
    assert!(matches!(error, OpenError::ReadOnly { .. }) && error.may_pass(), "{error}");
}

/// Renews, so it lives: who goes by its name is told.
#[tokio::test]
async fn a_node_name_in_use() {
    const SHARD: ShardId = ShardId(3);
    let world = PgWorld::new();
    let first = world.open(OWNER, Span::from_secs(5)).await;
    let epoch = first.acquire(SHARD).await.unwrap().unwrap();
    let renewing = tokio::spawn({
        let first = first.clone();
        async move {
            loop {
                assert_eq!(first.renew(&[(SHARD, epoch)]).await.unwrap(), [SHARD]);
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    });
    let same_name = PgOptions { owner: OWNER + 1, ..world.options() };
    let error = error(same_name.clone()).await;
    assert!(matches!(&error, OpenError::NodeNameInUse { node, .. } if node == "a"), "{error}");
    assert!(error.to_string().starts_with("NODE_NAME_IN_USE"), "{error}");
    let beside: std::sync::Arc<dyn Store> =
        PgLedger::open(PgOptions { node: "b".to_owned(), ..same_name }).await.unwrap();
    assert_eq!(beside.acquire(SHARD).await.unwrap(), None);
    renewing.abort();
    assert_eq!(first.renew(&[(SHARD, epoch)]).await.unwrap(), [SHARD], "nothing was taken from it");
}

/// Its sessions are there, but nobody renews: as after the loss of a machine. Its leases run out.
#[tokio::test]
async fn a_former_process_that_is_silent_is_waited_for() {
    const SHARD: ShardId = ShardId(3);
    let world = PgWorld::new();
    let first = world.open(OWNER, Span::from_millis(700)).await;
    first.acquire(SHARD).await.unwrap().unwrap();
    let store = world.open(OWNER + 1, TTL).await;
    assert_eq!(store.acquire(SHARD).await.unwrap(), Some(Epoch(2)));
    assert_eq!(first.renew(&[(SHARD, Epoch(1))]).await.unwrap(), []);
}

/// Who pools transactions hides who lives. Who pools sessions does not.
#[tokio::test]
async fn a_proxy_that_pools_transactions_is_refused() {
    let world = PgWorld::new();
    let name = world.url.rsplit('/').next().unwrap();
    let transactions = Pooler::start(Postgres::shared().port(), "transaction");
    for access in [Access::Own, Access::Read] {
        let error = error(PgOptions { access, ..options(&transactions.url(name)) }).await;
        assert!(matches!(error, OpenError::Pooled { .. }) && !error.may_pass(), "{error}");
    }
    let sessions = Pooler::start(Postgres::shared().port(), "session");
    let through = PgWorld { url: sessions.url(name) };
    assert!(audit_of(&history(&through).await.store, &[]).await.is_clean());
}

#[tokio::test]
async fn reading_beside_a_running_server() {
    let world = PgWorld::new();
    let mut sale = history(&world).await;
    let read = PgOptions { access: Access::Read, owner: OWNER + 1, ..world.options() };
    let beside: std::sync::Arc<dyn Store> = PgLedger::open(read).await.unwrap();
    assert!(audit_of(&beside, &[]).await.is_clean());
    let row = sale.chain.reservation(&crate::chain::hold(&sale.imported, 20, 42, &[30]));
    sale.chain.applied(&sale.store, vec![row.clone()]).await;
    assert_eq!(beside.heads().await.unwrap(), [(sale.shard(), sale.chain.head)]);
    // It writes nothing.
    assert!(beside.acquire(ShardId(7)).await.is_err());
    assert!(beside.append(&sale.chain.batch(vec![row])).await.is_err());
    crate::gates::are_read_only(&sale, &beside).await;
}

/// An import takes no lease and disturbs no server, of whatever name.
#[tokio::test]
async fn importing_beside_a_running_server() {
    let world = PgWorld::new();
    let sale = history(&world).await;
    let import = PgOptions { access: Access::Import, owner: OWNER + 1, ..world.options() };
    let beside: std::sync::Arc<dyn Store> = PgLedger::open(import).await.unwrap();
    crate::world::import(&beside, "Tosca").await;
    assert_eq!(sale.store.concerts(None, 9).await.unwrap().len(), 2);
    let held = [(sale.shard(), sale.chain.epoch)];
    assert_eq!(sale.store.renew(&held).await.unwrap(), [sale.shard()]);
}
