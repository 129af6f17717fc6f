//! Servers that are stopped, hang, lie about what they did, or come back as somebody else.

use std::sync::Arc;
use std::time::Duration;

use actors::ports::{AppendError, Owner, ShardAnswer};
use engine::{Epoch, ShardId, Span, Time};
use hotseat::ledger::postgres::{PgLedger, PgOptions};
use servers::{Cut, Postgres, Proxy};
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use crate::audits::audit_of;
use crate::chain::{Chain, hold};
use crate::moves::other;
use crate::postgres::PgWorld;
use crate::world::{OWNER, Sale, Store, World};

const POLL: Duration = Duration::from_millis(20);
const TTL: Span = Span::from_secs(3);

async fn insist(store: &Arc<dyn Store>, chain: &Chain, rows: &[actors::row::EventRow]) -> ShardAnswer {
    loop {
        match store.append(&chain.batch(rows.to_vec())).await {
            Ok(answers) => return answers[0].1,
            Err(AppendError::Unknown { .. }) => tokio::time::sleep(POLL).await,
            Err(other) => panic!("{other}"),
        }
    }
}

/// A sale with a lease that runs out soon, at an address.
async fn sale_at(url: String) -> (PgWorld, Sale) {
    let world = PgWorld { url };
    let store = world.open(OWNER, TTL).await;
    let (imported, chain) = Sale::further(&store, "Der Ring").await;
    (world, Sale { store, imported, chain })
}

/// Same epoch, same owner: the shards are still ours, however long the server was away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_stopped_finds_its_owner_again() {
    let mut postgres = Postgres::start();
    let (_world, mut sale) = sale_at(postgres.database()).await;
    let held = [(sale.shard(), sale.chain.epoch)];
    for n in 1..=3 {
        let row = sale.chain.reservation(&hold(&sale.imported, n, 42, &[n]));
        postgres.stop_immediate();
        let error = sale.store.append(&sale.chain.batch(vec![row.clone()])).await;
        assert!(matches!(error, Err(AppendError::Unknown { .. })), "{error:?}");
        assert!(sale.store.renew(&held).await.is_err());
        postgres.start_again();
        assert_eq!(insist(&sale.store, &sale.chain, &[row]).await, ShardAnswer::Applied);
        assert_eq!(sale.store.renew(&held).await.unwrap(), [held[0].0]);
    }
    assert!(audit_of(&sale.store, &[]).await.is_clean());
    // Nobody had to be restarted, readers neither.
    assert_eq!(sale.store.load(sale.shard(), Time(0)).await.unwrap().reservations.len(), 3);
}

/// It hangs with our statement in its hands, for longer than we wait; the statement is found out about later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hangs_is_given_up_and_found_again() {
    let postgres = Postgres::start();
    let (_world, mut sale) = sale_at(postgres.database()).await;
    let held = [(sale.shard(), sale.chain.epoch)];
    let row = sale.chain.reservation(&hold(&sale.imported, 1, 42, &[1]));
    postgres.pause();
    let error = sale.store.append(&sale.chain.batch(vec![row.clone()])).await;
    assert!(matches!(error, Err(AppendError::Unknown { rolled_back: false, .. })), "{error:?}");
    assert!(sale.store.renew(&held).await.is_err());
    assert!(sale.store.now().await.is_err());
    postgres.resume();
    let answer = insist(&sale.store, &sale.chain, &[row]).await;
    assert_ne!(answer, ShardAnswer::Fenced);
    while sale.store.renew(&held).await.ok() != Some(vec![held[0].0]) {
        tokio::time::sleep(POLL).await;
    }
    assert!(audit_of(&sale.store, &[]).await.is_clean());
    assert_eq!(sale.store.heads().await.unwrap(), [(sale.shard(), sale.chain.head)]);
}

/// Wherever the line is cut around a commit: the same bytes again are there once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_cut_around_a_commit() {
    let proxy = Proxy::start(Postgres::shared().port());
    let url = Postgres::shared().database();
    let database = url.rsplit('/').next().unwrap();
    let through = format!("postgres://postgres@127.0.0.1:{}/{database}", proxy.port());
    let (_world, mut sale) = sale_at(through).await;
    let mut duplicates = 0;
    for (n, cut) in
        (1..).zip([Cut::Torn, Cut::Delivered, Cut::AnswerLost, Cut::Torn, Cut::Delivered, Cut::AnswerLost])
    {
        let row = sale.chain.reservation(&hold(&sale.imported, n, 42, &[n]));
        proxy.cut_next(cut, 400);
        let error = sale.store.append(&sale.chain.batch(vec![row.clone()])).await;
        assert!(matches!(error, Err(AppendError::Unknown { rolled_back: false, .. })), "{n}: {error:?}");
        match insist(&sale.store, &sale.chain, &[row]).await {
            ShardAnswer::Duplicate => duplicates += 1,
            ShardAnswer::Applied => {}
            ShardAnswer::Fenced => panic!("nobody took the shard"),
        }
    }
    assert!(duplicates >= 2, "answers that were thrown away were answers to commits");
    assert_eq!(sale.store.heads().await.unwrap(), [(sale.shard(), sale.chain.head)]);
    assert!(audit_of(&sale.store, &[]).await.is_clean());
}

/// A server that was frozen finds statements in its hands whose senders have long given up: it must not take a shard
/// for them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acquisition_that_comes_late_takes_nothing() {
    let proxy = Proxy::start(Postgres::shared().port());
    let url = Postgres::shared().database();
    let through =
        format!("postgres://postgres@127.0.0.1:{}/{}", proxy.port(), url.rsplit('/').next().unwrap());
    let store = PgWorld { url: through }.open(OWNER, TTL).await;
    // So that a session is there, and no statement has to be prepared.
    assert_eq!(store.acquire(ShardId(1)).await.unwrap(), Some(Epoch(1)));
    // The answer that says when it was sent, and then the statement itself: together more than a second.
    proxy.delay(Duration::from_millis(600));
    assert_eq!(store.acquire(ShardId(2)).await.unwrap(), None, "nobody has it, but it is too late");
    proxy.pass();
    assert_eq!(store.acquire(ShardId(2)).await.unwrap(), Some(Epoch(1)));
}

/// A standby was promoted that has everything: every epoch ends, and the next are far above.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fail_over_takes_every_shard_anew() {
    let mut postgres = Postgres::start();
    let (_world, mut sale) = sale_at(postgres.database()).await;
    let shard = sale.shard();
    let row = sale.chain.reservation(&hold(&sale.imported, 1, 42, &[1]));
    sale.chain.applied(&sale.store, vec![row]).await;
    postgres.promote();
    after_a_fail_over(&mut sale, 1).await;
    assert!(sale.chain.epoch >= Epoch(1_001), "{}", sale.chain.epoch);
    assert_eq!(sale.store.renew(&[(shard, sale.chain.epoch)]).await.unwrap(), [shard]);
}

/// A standby was promoted that lacks the last commits, the acquisition of the shard among them. What it lacks is
/// lost; what was in flight does not come back under an epoch that was in use.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fail_over_that_lost_something_is_survived() {
    let mut postgres = Postgres::start();
    let url = postgres.database();
    let (world, mut sale) = sale_at(url).await;
    postgres.stop_fast();
    let saved = postgres.save();
    postgres.start_again();
    let shard = sale.shard();
    // Lost below: an epoch, and a sale under it. One session of those that ended is enough to know of all.
    sale.chain.epoch = loop {
        if let Ok(epoch) = sale.store.acquire_again(shard, sale.chain.epoch).await {
            break epoch.expect("it is ours");
        }
    };
    let forgotten = ShardId(if shard.0 == 0 { 1 } else { 0 });
    assert_eq!(sale.store.acquire(forgotten).await.unwrap(), Some(Epoch(1)));
    let before = sale.chain.head;
    let row = sale.chain.reservation(&hold(&sale.imported, 1, 42, &[1]));
    sale.chain.applied(&sale.store, vec![row]).await;
    postgres.stop_immediate();
    postgres.restore(&saved);
    postgres.promote_stopped();
    let lost = sale.chain.epoch;
    sale.chain.head = before;
    after_a_fail_over(&mut sale, 0).await;
    assert!(sale.chain.epoch.0 >= lost.0 + 1_000, "{} after {lost}", sale.chain.epoch);
    // Whoever comes later counts on from there.
    drop(sale.store);
    let later = PgLedger::open(PgOptions { owner: OWNER + 1, ..world.options() }).await.unwrap();
    let later: Arc<dyn Store> = later;
    assert_eq!(later.acquire(shard).await.unwrap(), Some(Epoch(sale.chain.epoch.0 + 1)));
    // Nor does it give an epoch again of which nothing is left.
    assert_eq!(later.acquire(forgotten).await.unwrap(), Some(Epoch(1_000_001)));
}

/// The receiver of a shard did not acquire it, and knows all the same that its epoch ended with the timeline.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fail_over_ends_what_was_handed_over() {
    let mut postgres = Postgres::start();
    let (world, mut sale) = sale_at(postgres.database()).await;
    let shard = sale.shard();
    let options = PgOptions { owner: OWNER + 1, node: "b".to_owned(), ..world.options() };
    let to = Owner { id: options.owner, ..other() };
    let receiver: Arc<dyn Store> = PgLedger::open(options).await.unwrap();
    sale.chain.epoch = sale.store.hand_over(shard, sale.chain.epoch, &to).await.unwrap().expect("it is ours");
    assert!(receiver.accepted(shard, sale.chain.epoch).await.unwrap());
    sale.store = receiver;
    let row = sale.chain.reservation(&hold(&sale.imported, 1, 42, &[1]));
    sale.chain.applied(&sale.store, vec![row]).await;
    postgres.promote();
    after_a_fail_over(&mut sale, 1).await;
    assert!(sale.chain.epoch >= Epoch(1_002), "{}", sale.chain.epoch);
}

/// What was granted before is over; the shard is there to be taken at once, and sells on.
async fn after_a_fail_over(sale: &mut Sale, reservations: usize) {
    let shard = sale.shard();
    let mut old = sale.chain.clone();
    let late = old.reservation(&hold(&sale.imported, 9, 42, &[9]));
    assert_eq!(insist(&sale.store, &old, &[late]).await, ShardAnswer::Fenced);
    assert_eq!(sale.store.renew(&[(shard, old.epoch)]).await.unwrap(), []);
    assert_eq!(sale.store.acquire_again(shard, old.epoch).await.unwrap(), None);
    assert_eq!(sale.store.hand_over(shard, old.epoch, &other()).await.unwrap(), None);
    assert!(!sale.store.accepted(shard, old.epoch).await.unwrap());
    sale.chain.epoch = sale.store.acquire(shard).await.unwrap().expect("it was ours, so it is free for us");
    let found = sale.store.load(shard, Time(0)).await.unwrap();
    assert_eq!((found.reservations.len(), found.head), (reservations, sale.chain.head));
    let row = sale.chain.reservation(&hold(&sale.imported, 20, 42, &[20]));
    sale.chain.applied(&sale.store, vec![row]).await;
    assert!(audit_of(&sale.store, &[]).await.is_clean());
}

/// Past the checks of the tables, as a broken disk may.
#[tokio::test]
async fn gates_without_a_meaning_are_corruption() {
    const NO_CHECKS: &str = "
DO $$ DECLARE c record; BEGIN
  FOR c IN SELECT conrelid::regclass AS t, conname FROM pg_constraint
            WHERE contype = 'c' AND conrelid::regclass::text LIKE 'gate%' LOOP
    EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', c.t, c.conname);
  END LOOP;
END $$";
    for (sql, read) in crate::gates::CORRUPTIONS {
        let world = PgWorld::new();
        crate::gates::corruption_is_said(&world, read, async || {
            let mut connection = PgConnection::connect(&world.url).await.unwrap();
            for sql in [NO_CHECKS, sql] {
                sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
            }
        })
        .await;
    }
}
