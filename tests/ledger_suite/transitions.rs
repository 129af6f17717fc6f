//! What each event does to the tables of state.

use engine::option::{OptionStatus, Policy};
use engine::reservation::Kind;
use engine::{Reservation, Status, Time};

use crate::chain::{hold, next};
use crate::world::{Sale, T0, World};

pub async fn a_sale_from_hold_to_refund(world: &impl World) {
    let mut sale = Sale::new(world).await;
    let mut row = hold(&sale.imported, 1, 42, &[3, 9, 4]);
    row.seats.sort();
    let steps = [Status::Hold, Status::Paying, Status::Confirmed, Status::Cancelled, Status::Refunded];
    for status in steps {
        if status != Status::Hold {
            row = next(&row, status);
        }
        let event = sale.chain.reservation(&row);
        sale.chain.applied(&sale.store, vec![event]).await;
        assert_eq!(sale.store.reservation(row.id).await.unwrap().as_ref(), Some(&row), "{status:?}");
    }
    assert!(row.payment_started);
}

pub async fn a_cancelled_seat_is_sold_again(world: &impl World) {
    let mut sale = Sale::new(world).await;
    freed_and_sold_again(&mut sale, Status::Cancelled).await;
}

pub async fn an_expired_seat_is_sold_again(world: &impl World) {
    let mut sale = Sale::new(world).await;
    freed_and_sold_again(&mut sale, Status::Expired).await;
}

async fn freed_and_sold_again(sale: &mut Sale, end: Status) {
    let first = hold(&sale.imported, 1, 42, &[1, 2]);
    let row = sale.chain.reservation(&first);
    sale.chain.applied(&sale.store, vec![row]).await;
    let second = hold(&sale.imported, 2, 43, &[2, 3]);
    let before = sale.chain.head;
    let rows = vec![sale.chain.reservation(&second)];
    sale.chain.refused(&sale.store, before, rows).await;
    let ended = next(&first, end);
    // The end and the next sale of the seat, in one batch.
    let rows = vec![sale.chain.reservation(&ended), sale.chain.reservation(&second)];
    sale.chain.applied(&sale.store, rows).await;
    assert_eq!(sale.store.reservation(first.id).await.unwrap(), Some(ended), "its seats stay on record");
    assert_eq!(sale.store.reservation(second.id).await.unwrap(), Some(second));
    let before = sale.chain.head;
    let rows = vec![sale.chain.reservation(&hold(&sale.imported, 3, 44, &[3]))];
    sale.chain.refused(&sale.store, before, rows).await;
}

pub async fn a_block_and_its_end(world: &impl World) {
    let mut sale = Sale::new(world).await;
    let block = Reservation {
        kind: Kind::Block,
        status: Status::Confirmed,
        amount: 0,
        deadline: Time::NEVER,
        ..hold(&sale.imported, 1, 900, &[1, 2])
    };
    let row = sale.chain.reservation(&block);
    sale.chain.applied(&sale.store, vec![row]).await;
    assert_eq!(sale.store.reservation(block.id).await.unwrap(), Some(block.clone()));
    let before = sale.chain.head;
    let rows = vec![sale.chain.reservation(&hold(&sale.imported, 2, 42, &[2]))];
    sale.chain.refused(&sale.store, before, rows).await;

    let unblocked = next(&block, Status::Cancelled);
    let unblocked = Reservation { payment_started: false, ..unblocked };
    let rows =
        vec![sale.chain.reservation(&unblocked), sale.chain.reservation(&hold(&sale.imported, 2, 42, &[2]))];
    sale.chain.applied(&sale.store, rows).await;
    assert_eq!(sale.store.reservation(block.id).await.unwrap(), Some(unblocked));
}

pub async fn options_open_and_close(world: &impl World) {
    let mut sale = Sale::new(world).await;
    let status = async |sale: &Sale| sale.store.options(None, 9).await.unwrap()[0].status;
    assert_eq!(status(&sale).await, Some(OptionStatus::OnSale));
    let steps = [(OptionStatus::Closed, 2), (OptionStatus::OnSale, 3), (OptionStatus::Closed, 4)];
    for (to, version) in steps {
        let row = sale.chain.option(&sale.imported, to, version, T0 + i64::from(version));
        sale.chain.applied(&sale.store, vec![row]).await;
        assert_eq!(status(&sale).await, Some(to));
    }
    let loaded = sale.store.load(sale.shard(), Time(0)).await.unwrap();
    assert_eq!((loaded.options[0].status, loaded.options[0].version), (OptionStatus::Closed, 4));
    for version in [1, 4, 6] {
        let before = sale.chain.head;
        let rows = vec![sale.chain.option(&sale.imported, OptionStatus::OnSale, version, T0 + 9)];
        sale.chain.refused(&sale.store, before, rows).await;
    }
}

pub async fn policies_are_set_and_changed(world: &impl World) {
    let mut sale = Sale::new(world).await;
    let concert = sale.imported.concert.concert;
    let policies = [
        Policy { reservations_per_user: 2, gate: false },
        Policy { reservations_per_user: u32::MAX, gate: true },
    ];
    for (version, policy) in (1..).zip(policies) {
        let row = sale.chain.policy(concert, policy, version, T0 + i64::from(version));
        sale.chain.applied(&sale.store, vec![row]).await;
        let loaded = sale.store.load(sale.shard(), Time(0)).await.unwrap();
        let stored = loaded.policies.iter().map(|row| (row.concert, row.policy, row.version));
        assert_eq!(stored.collect::<Vec<_>>(), [(concert, policy, version)]);
    }
    for version in [1, 2, 4] {
        let before = sale.chain.head;
        let rows = vec![sale.chain.policy(concert, policies[0], version, T0 + 9)];
        sale.chain.refused(&sale.store, before, rows).await;
    }
}
