//! A refused batch under the real writer: the one entry is found by halves, and only its shard pays for it.

use std::sync::Arc;
use std::time::Duration;

use actors::gates::GateOptions;
use actors::handle::{Ask, Handle, ShardStatus};
use actors::observe::Metrics;
use actors::{LeaseSettings, Options, System};
use engine::{
    Authority, Caller, Command, Outcome, RequestKey, ReservationId, SeatNo, Settings, ShardId, Time, UserId,
};
use hotseat::catalogue::Imported;
use hotseat::mirror::local::LocalMirror;
use servers::Postgres;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::audits::audit_of;
use crate::postgres::PgWorld;
use crate::world::{OWNER, SHARDS, Store, TTL, World, import, plan};

/// Of each concert, all at once.
const BUYERS: u32 = 30;
/// Whose seat a hand in the database has taken.
const VICTIM: u32 = 17;

async fn start(store: Arc<dyn Store>) -> System {
    let options = Options {
        peers: Arc::new(actors::peers::Alone::default()),
        rebalance: actors::Rebalance::default(),
        gates: GateOptions::new(store.clone(), Arc::new(LocalMirror::new()), || [7; 32]),
        ledger: store,
        mirror: Arc::new(LocalMirror::new()),
        shards: SHARDS,
        settings: Settings::default(),
        lease: LeaseSettings::default(),
        ledger_ack_timeout: Duration::from_secs(10),
        feed_tick: Duration::from_millis(50),
        mirror_restore_timeout: Duration::from_millis(200),
        metrics: Metrics::default(),
    };
    let system = System::start(options).await.unwrap();
    while system.handle().statuses().iter().any(|(_, status)| !matches!(status, ShardStatus::Serving(_))) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    system
}

async fn ask(handle: &Handle, shard: ShardId, user: u32, key: Option<u128>, command: Command) -> Outcome {
    let authority = if user == 0 { Authority::Any } else { Authority::Own };
    let caller = Caller { user: UserId(user.into()), authority };
    let ask = Ask { caller, key: key.map(RequestKey), pass: None, command };
    handle.ask(shard, ask, Instant::now() + Duration::from_secs(30)).await.outcome
}

/// Selects and holds a seat; once, or until it is granted. Whether it was.
async fn hold(handle: Handle, imported: Imported, user: u32, again: bool) -> (ShardId, u32, bool) {
    let (shard, option) = (imported.concert.shard, imported.option.option);
    let seats = [SeatNo(user)].into_iter().collect();
    loop {
        ask(&handle, shard, user, None, Command::Select { option, seats }).await;
        let reservation = ReservationId::stamp(uuid::Uuid::now_v7().as_u128(), option);
        let key = uuid::Uuid::new_v4().as_u128();
        let hold = Command::Hold { option, seats, reservation };
        let granted = matches!(ask(&handle, shard, user, Some(key), hold).await, Outcome::Granted(_));
        if granted || !again {
            return (shard, user, granted);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_entry_costs_no_other_shard_a_hold() {
    let world = PgWorld::new();
    let store = world.open(OWNER, TTL).await;
    let (struck, spared) = (import(&store, "Aida").await, import(&store, "Tosca").await);
    let system = start(store.clone()).await;
    let handle = system.handle();
    for imported in [&struck, &spared] {
        let (option, concert) = (imported.option.option, imported.concert.concert);
        let add = Command::AddOption { option, concert, layout: Arc::new(plan("Saal", 50).layout()) };
        let added = ask(&handle, imported.concert.shard, 0, None, add).await;
        assert!(matches!(added, Outcome::Granted(_)), "{added:?}");
    }
    let sql = format!(
        "INSERT INTO reservation_seats VALUES (gen_random_uuid(), {VICTIM}, {}, true)",
        struck.option.option
    );
    Postgres::shared().sql(world.url.rsplit('/').next().unwrap(), &sql);

    let mut buyers = JoinSet::new();
    for user in 1..=BUYERS {
        buyers.spawn(hold(handle.clone(), spared.clone(), user, false));
        buyers.spawn(hold(handle.clone(), struck.clone(), user, user != VICTIM));
    }
    for (shard, user, granted) in buyers.join_all().await {
        let refused = shard == struck.concert.shard && user == VICTIM;
        assert_eq!(granted, !refused, "user {user} in shard {shard}");
    }
    let epoch_of = |shard: ShardId| handle.statuses().into_iter().find(|(id, _)| *id == shard).unwrap().1;
    assert_eq!(epoch_of(spared.concert.shard), ShardStatus::Serving(engine::Epoch(1)), "it never halted");
    assert_ne!(epoch_of(struck.concert.shard), ShardStatus::Serving(engine::Epoch(1)), "this one did");
    system.shutdown(Duration::from_secs(10)).await;
    for (imported, sold) in [(&struck, BUYERS - 1), (&spared, BUYERS)] {
        let found = store.load(imported.concert.shard, Time(0)).await.unwrap().reservations;
        assert_eq!(found.len(), usize::try_from(sold).unwrap());
    }
    // The seat that nobody's event explains stands on its own: what the events say is as it should be.
    assert!(audit_of(&store, &[]).await.is_clean());
}
