//! What a restore and a reader get back.

use engine::entry::{RequestMark, Told};
use engine::option::{OptionStatus, Policy};
use engine::reservation::Kind;
use engine::{ChainHead, Fact, RequestKey, Reservation, ShardId, Status, Time, UserId};

use crate::chain::{hold, id, next};
use crate::world::{OWNER, Sale, T0, TTL, World};

pub async fn an_empty_shard(world: &impl World) {
    let store = world.open(OWNER, TTL).await;
    let loaded = store.load(ShardId(2), Time(0)).await.unwrap();
    assert!(loaded.options.is_empty() && loaded.policies.is_empty() && loaded.reservations.is_empty());
    assert!(loaded.answered.is_empty() && loaded.soft_locks.is_empty());
    assert_eq!((loaded.head, loaded.newest_event), (ChainHead::default(), Time(0)));
    assert_eq!(store.heads().await.unwrap(), []);
}

/// Extreme values of every column, through the ledger and back.
pub async fn every_field_comes_back(world: &impl World) {
    let mut sale = Sale::new(world).await;
    let concert = sale.imported.concert.concert;
    let policy = Policy { reservations_per_user: 7, gate: true };
    let big = Reservation {
        user: UserId(engine::ids::PUBLIC_ID_MAX),
        amount: i64::MAX,
        deadline: Time(i64::MAX - 1),
        payment_started: true,
        ..hold(&sale.imported, u32::MAX, 1, &[0, 1, 2, 3, 4, 5, 6, 49])
    };
    let request = RequestMark { key: RequestKey(u128::MAX), content: u64::MAX };
    let small = Reservation { amount: 0, created_at: Time(0), ..hold(&sale.imported, 0, 1, &[10]) };
    let rows = vec![
        sale.chain.policy(concert, policy, 1, T0 + 1),
        sale.chain.seal(big.changed_at.0, 77, Some(request), Fact::Reservation(big.clone())),
        sale.chain.seal(small.changed_at.0, 0, None, Fact::Reservation(small.clone())),
    ];
    sale.chain.applied(&sale.store, rows.clone()).await;

    let loaded = sale.store.load(sale.shard(), Time(0)).await.unwrap();
    let option = &loaded.options[0];
    assert_eq!((option.option, option.concert), (sale.imported.option.option, concert));
    assert_eq!((option.status, option.version), (OptionStatus::OnSale, 1));
    assert_eq!((option.layout.seat_count(), &option.layout.prices[..]), (50, &[5_000][..]));
    let stored = &loaded.policies[0];
    assert_eq!((stored.concert, stored.policy, stored.version), (concert, policy, 1));
    let mut reservations = loaded.reservations;
    reservations.sort_by_key(|row| row.id);
    assert_eq!(reservations, [small.clone(), big.clone()]);
    let told =
        Told::Reservation { reservation: big.id, status: Status::Hold, version: 1, deadline: big.deadline };
    let answered: Vec<_> = loaded.answered.iter().map(|a| (a.at, a.caller, a.request, a.told)).collect();
    let policy_mark = RequestMark { key: RequestKey(1), content: 5 };
    assert_eq!(
        answered,
        [(Time(T0 + 1), UserId(900), policy_mark, Told::Done), (big.changed_at, UserId(77), request, told),]
    );
    assert_eq!(loaded.head, sale.chain.head);
    assert_eq!(loaded.newest_event, big.changed_at);

    let mut snapshot = sale.store.snapshot().await.unwrap();
    assert_eq!(snapshot.events(sale.shard(), 1, 9).await.unwrap(), rows);
    assert_eq!(snapshot.events(sale.shard(), 2, 1).await.unwrap(), rows[1..2]);
    assert_eq!(snapshot.heads().await.unwrap(), [(sale.shard(), sale.chain.head)]);
}

/// Ended reservations leave, unless an event inside the horizon names them.
pub async fn the_horizon_cuts_what_is_over(world: &impl World) {
    let mut sale = Sale::new(world).await;
    let held = hold(&sale.imported, 1, 42, &[1]);
    let expired = next(&hold(&sale.imported, 2, 42, &[2]), Status::Expired);
    let paid = next(&hold(&sale.imported, 3, 42, &[3]), Status::Confirmed);
    let owed = next(&paid, Status::Cancelled);
    let cancelled = next(&hold(&sale.imported, 4, 42, &[4]), Status::Cancelled);
    let confirmed = next(&hold(&sale.imported, 5, 42, &[5]), Status::Confirmed);
    let block = Reservation {
        kind: Kind::Block,
        status: Status::Confirmed,
        deadline: Time::NEVER,
        ..hold(&sale.imported, 6, 42, &[6])
    };
    let mut rows: Vec<_> =
        (1..=5).map(|n| sale.chain.reservation(&hold(&sale.imported, n, 42, &[n]))).collect();
    rows.push(sale.chain.reservation(&block));
    sale.chain.applied(&sale.store, rows).await;
    // All of these happen at T0 + 1,002 … 1,005 (owed: 2,003).
    for row in [&expired, &paid, &cancelled, &confirmed, &owed] {
        let row = sale.chain.reservation(row);
        sale.chain.applied(&sale.store, vec![row]).await;
    }
    let live = [held.id, owed.id, confirmed.id, block.id];
    let horizons = [
        (T0, vec![expired.id, cancelled.id], 11),
        (T0 + 1_002, vec![expired.id, cancelled.id], 5),
        (T0 + 1_003, vec![cancelled.id], 4),
        (T0 + 1_004, vec![cancelled.id], 3),
        (T0 + 1_005, vec![], 2),
        (T0 + 2_003, vec![], 1),
        (T0 + 2_004, vec![], 0),
    ];
    for (horizon, ended, answers) in horizons {
        let loaded = sale.store.load(sale.shard(), Time(horizon)).await.unwrap();
        let mut ids: Vec<_> = loaded.reservations.iter().map(|row| row.id).collect();
        ids.sort();
        let mut expected = [&live[..], &ended[..]].concat();
        expected.sort();
        assert_eq!(ids, expected, "horizon T0 + {}", horizon - T0);
        assert_eq!(loaded.answered.len(), answers, "horizon T0 + {}", horizon - T0);
        assert_eq!(loaded.newest_event, Time(T0 + 2_003));
    }
}

pub async fn answers_come_back_oldest_first(world: &impl World) {
    let mut sale = Sale::new(world).await;
    // The same instant for all: only the order of the events is left.
    for n in [3, 1, 2] {
        let row = Reservation { changed_at: Time(T0 + 5), ..hold(&sale.imported, n, 42, &[n]) };
        let row = sale.chain.reservation(&row);
        sale.chain.applied(&sale.store, vec![row]).await;
    }
    let loaded = sale.store.load(sale.shard(), Time(T0 + 5)).await.unwrap();
    let order: Vec<_> = loaded
        .answered
        .iter()
        .map(|answered| match answered.told {
            Told::Reservation { reservation, .. } => reservation,
            Told::Done => panic!("these are reservations"),
        })
        .collect();
    let option = sale.imported.option.option;
    assert_eq!(order, [id(option, 3), id(option, 1), id(option, 2)]);
}

pub async fn other_shards_stay_out(world: &impl World) {
    let mut sale = Sale::new(world).await;
    let row = sale.chain.reservation(&hold(&sale.imported, 1, 42, &[1]));
    sale.chain.applied(&sale.store, vec![row]).await;
    let (other, chain) = Sale::further(&sale.store, "Tosca").await;
    let loaded = sale.store.load(chain.shard, Time(0)).await.unwrap();
    let options: Vec<_> = loaded.options.iter().map(|option| option.option).collect();
    assert_eq!(options, [other.option.option]);
    assert!(loaded.reservations.is_empty() && loaded.answered.is_empty());
    assert_eq!(loaded.head, chain.head);
}

pub async fn a_killed_process_loses_nothing(world: &impl World) {
    let mut sale = Sale::new(world).await;
    let mut rows = Vec::new();
    for n in 1..=9 {
        let row = hold(&sale.imported, n, 42, &[n]);
        let event = sale.chain.reservation(&row);
        sale.chain.applied(&sale.store, vec![event]).await;
        rows.push(row);
    }
    let Sale { store, mut chain, imported } = sale;
    drop(store);
    let store = world.open(OWNER + 1, TTL).await;
    let mut loaded = store.load(chain.shard, Time(0)).await.unwrap();
    loaded.reservations.sort_by_key(|row| row.id);
    assert_eq!((loaded.reservations, loaded.head), (rows, chain.head));
    // And it goes on from there.
    chain.epoch = store.acquire(chain.shard).await.unwrap().unwrap();
    let row = chain.reservation(&hold(&imported, 10, 42, &[10]));
    chain.applied(&store, vec![row]).await;
}

pub async fn one_reservation_however_old(world: &impl World) {
    let mut sale = Sale::new(world).await;
    let row = hold(&sale.imported, 1, 42, &[2, 1]);
    let event = sale.chain.reservation(&row);
    sale.chain.applied(&sale.store, vec![event]).await;
    let found = sale.store.reservation(row.id).await.unwrap().unwrap();
    let seats: Vec<_> = found.seats.iter().map(|seat| seat.0).collect();
    assert_eq!(seats, [1, 2], "ascending, however they came");
    assert_eq!(sale.store.reservation(id(row.option, 2)).await.unwrap(), None);
}

pub async fn pages_of_a_user(world: &impl World) {
    let mut sale = Sale::new(world).await;
    for n in 1..=7 {
        let user = if n == 4 { 43 } else { 42 };
        let row = sale.chain.reservation(&hold(&sale.imported, n, user, &[n]));
        sale.chain.applied(&sale.store, vec![row]).await;
    }
    let option = sale.imported.option.option;
    let mut before = None;
    let mut pages = Vec::new();
    loop {
        let page = sale.store.reservations_of(UserId(42), before, 4).await.unwrap();
        let Some(last) = page.last() else { break };
        before = Some(last.id);
        pages.push(page.iter().map(|row| row.id).collect::<Vec<_>>());
    }
    assert_eq!(pages, [[7, 6, 5, 3].map(|n| id(option, n)).to_vec(), [2, 1].map(|n| id(option, n)).to_vec()]);
    let other = sale.store.reservations_of(UserId(43), None, 9).await.unwrap();
    assert_eq!(other, [hold(&sale.imported, 4, 43, &[4])]);
    assert_eq!(sale.store.reservations_of(UserId(44), None, 9).await.unwrap(), []);
}
