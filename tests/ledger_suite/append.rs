//! Writes: the fence, duplicates, refusals, and that nothing of a refused batch stays.

use std::sync::Arc;

use actors::ports::{AppendError, Batch, ShardAnswer};
use engine::{ChainHead, Epoch, Status};

use crate::chain::{Chain, hold, next};
use crate::world::{OWNER, Sale, Store, T0, TTL, World};

pub async fn applies_and_answers_per_shard(world: &impl World) {
    let mut sale = Sale::new(world).await;
    let (other, mut chain) = Sale::further(&sale.store, "Tosca").await;
    let mut shards = [
        (sale.chain.shard, sale.chain.reservation(&hold(&sale.imported, 1, 42, &[1, 2]))),
        (chain.shard, chain.reservation(&hold(&other, 1, 43, &[1, 2]))),
    ];
    shards.sort_by_key(|(shard, _)| *shard);
    let mut fences = [(sale.chain.shard, sale.chain.epoch), (chain.shard, chain.epoch)];
    fences.sort();
    let batch = Batch { fences: fences.into(), rows: shards.into_iter().map(|(_, row)| row).collect() };
    let answers = sale.store.append(&batch).await.unwrap();
    assert_eq!(answers, fences.map(|(shard, _)| (shard, ShardAnswer::Applied)));
    for imported in [&sale.imported, &other] {
        let id = hold(imported, 1, 0, &[]).id;
        assert!(sale.store.reservation(id).await.unwrap().is_some());
    }
}

/// Whatever its number: a stadium has more seats than two bytes count.
pub async fn a_seat_keeps_its_number(world: &impl World) {
    let mut sale = Sale::new(world).await;
    let held = hold(&sale.imported, 1, 42, &[0, 255, 256, 65_535, 65_536, 74_636, 16_777_215, 16_777_216]);
    let row = sale.chain.reservation(&held);
    sale.chain.applied(&sale.store, vec![row]).await;
    assert_eq!(sale.store.reservation(held.id).await.unwrap(), Some(held));
}

pub async fn a_retry_of_the_same_bytes_is_a_duplicate(world: &impl World) {
    let mut sale = Sale::new(world).await;
    let first = hold(&sale.imported, 1, 42, &[1, 2]);
    let rows =
        vec![sale.chain.reservation(&first), sale.chain.reservation(&hold(&sale.imported, 2, 42, &[3]))];
    sale.chain.applied(&sale.store, rows.clone()).await;
    for _ in 0..2 {
        let again = sale.store.append(&sale.chain.batch(rows.clone())).await.unwrap();
        assert_eq!(again, [(sale.shard(), ShardAnswer::Duplicate)]);
    }
    // Also when the reservation has moved on, and in part of the batch.
    let paying = sale.chain.reservation(&next(&first, Status::Paying));
    sale.chain.applied(&sale.store, vec![paying]).await;
    let half = sale.store.append(&sale.chain.batch(rows[..1].to_vec())).await.unwrap();
    assert_eq!(half, [(sale.shard(), ShardAnswer::Duplicate)]);
    assert_eq!(sale.store.reservation(first.id).await.unwrap(), Some(next(&first, Status::Paying)));
    assert_eq!(sale.store.heads().await.unwrap(), [(sale.shard(), sale.chain.head)]);
}

pub async fn a_batch_half_known_is_completed(world: &impl World) {
    let mut sale = Sale::new(world).await;
    let known = sale.chain.reservation(&hold(&sale.imported, 1, 42, &[1]));
    sale.chain.applied(&sale.store, vec![known.clone()]).await;
    let fresh = hold(&sale.imported, 2, 42, &[2]);
    let rows = vec![known, sale.chain.reservation(&fresh)];
    sale.chain.applied(&sale.store, rows).await;
    assert_eq!(sale.store.reservation(fresh.id).await.unwrap(), Some(fresh));
    assert_eq!(sale.store.heads().await.unwrap(), [(sale.shard(), sale.chain.head)]);
}

pub async fn another_event_in_the_same_place_is_told_apart(world: &impl World) {
    let mut sale = Sale::new(world).await;
    let mut twin = sale.chain.clone();
    let row = sale.chain.reservation(&hold(&sale.imported, 1, 42, &[1]));
    sale.chain.applied(&sale.store, vec![row.clone()]).await;
    let impostor = twin.reservation(&hold(&sale.imported, 1, 43, &[1]));
    let fresh = twin.reservation(&hold(&sale.imported, 2, 43, &[2]));
    for rows in [vec![impostor.clone()], vec![impostor, fresh]] {
        let answer = sale.store.append(&twin.batch(rows)).await;
        assert!(matches!(answer, Err(AppendError::OtherHash(_))), "{answer:?}");
    }
    assert_eq!(sale.store.heads().await.unwrap(), [(sale.shard(), sale.chain.head)]);
}

pub async fn a_chain_must_go_on_where_it_ended(world: &impl World) {
    let mut sale = Sale::new(world).await;
    let before = sale.chain.clone();
    // A gap: the event in between never came.
    let lost = sale.chain.reservation(&hold(&sale.imported, 1, 42, &[1]));
    let after_the_gap = sale.chain.reservation(&hold(&sale.imported, 2, 42, &[2]));
    let answer = sale.store.append(&sale.chain.batch(vec![after_the_gap.clone()])).await;
    assert!(matches!(answer, Err(AppendError::Refused(_))), "{answer:?}");
    let swapped = sale.store.append(&sale.chain.batch(vec![after_the_gap, lost])).await;
    assert!(matches!(swapped, Err(AppendError::Refused(_))), "{swapped:?}");
    // The right number behind another past.
    let mut stranger = Chain { head: ChainHead { hash: [7; 32], ..before.head }, ..before.clone() };
    let row = stranger.reservation(&hold(&sale.imported, 1, 42, &[1]));
    let answer = sale.store.append(&stranger.batch(vec![row])).await;
    assert!(matches!(answer, Err(AppendError::OtherHash(_))), "{answer:?}");
    assert_eq!(sale.store.heads().await.unwrap(), [(before.shard, before.head)]);
}

pub async fn an_old_epoch_is_fenced(world: &impl World) {
    let mut sale = Sale::new(world).await;
    let row = sale.chain.reservation(&hold(&sale.imported, 1, 42, &[1]));
    let newer = sale.store.acquire_again(sale.shard(), sale.chain.epoch).await.unwrap().unwrap();
    let late = sale.store.append(&sale.chain.batch(vec![row])).await.unwrap();
    assert_eq!(late, [(sale.shard(), ShardAnswer::Fenced)]);
    assert_eq!(sale.store.reservation(hold(&sale.imported, 1, 42, &[1]).id).await.unwrap(), None);
    // An epoch nobody gave out is no better.
    let ahead = Chain { epoch: Epoch(newer.0 + 1), ..sale.chain.clone() };
    let answers = sale.store.append(&ahead.batch(Vec::new())).await.unwrap();
    assert_eq!(answers, [(sale.shard(), ShardAnswer::Fenced)]);
}

pub async fn another_owner_is_fenced(world: &impl World) {
    let Sale { store, imported, mut chain } = Sale::new(world).await;
    drop(store);
    let store = world.open(OWNER + 1, TTL).await;
    let row = chain.reservation(&hold(&imported, 1, 42, &[1]));
    let answers = store.append(&chain.batch(vec![row])).await.unwrap();
    assert_eq!(answers, [(chain.shard, ShardAnswer::Fenced)], "the epoch is right, the owner is not");
    assert_eq!(store.renew(&[(chain.shard, chain.epoch)]).await.unwrap(), []);
    assert_eq!(store.acquire_again(chain.shard, chain.epoch).await.unwrap(), None);
}

pub async fn a_fenced_shard_does_not_hold_up_the_others(world: &impl World) {
    let mut sale = Sale::new(world).await;
    let (other, mut chain) = Sale::further(&sale.store, "Tosca").await;
    sale.store.acquire_again(chain.shard, chain.epoch).await.unwrap().unwrap();
    let mut rows = vec![
        sale.chain.reservation(&hold(&sale.imported, 1, 42, &[1])),
        chain.reservation(&hold(&other, 1, 42, &[1])),
    ];
    rows.sort_by_key(|row| row.shard);
    let mut fences = vec![(sale.chain.shard, sale.chain.epoch), (chain.shard, chain.epoch)];
    fences.sort();
    let answers = sale.store.append(&Batch { fences, rows }).await.unwrap();
    let of = |shard| answers.iter().find(|(of, _)| *of == shard).unwrap().1;
    assert_eq!(of(sale.chain.shard), ShardAnswer::Applied);
    assert_eq!(of(chain.shard), ShardAnswer::Fenced);
    assert_eq!(sale.store.reservation(hold(&other, 1, 42, &[1]).id).await.unwrap(), None);
}

/// A clash in one shard: nothing of the other shard's rows stays either.
pub async fn a_taken_seat_refuses_the_whole_batch(world: &impl World) {
    let mut sale = Sale::new(world).await;
    let (other, mut chain) = Sale::further(&sale.store, "Tosca").await;
    let first = sale.chain.reservation(&hold(&sale.imported, 1, 42, &[4, 5]));
    sale.chain.applied(&sale.store, vec![first]).await;
    let before = sale.store.heads().await.unwrap();
    let mut rows = vec![
        sale.chain.reservation(&hold(&sale.imported, 2, 43, &[1])),
        sale.chain.reservation(&hold(&sale.imported, 3, 43, &[5, 6])),
        chain.reservation(&hold(&other, 1, 43, &[9])),
    ];
    rows.sort_by_key(|row| (row.shard, row.event_seq));
    let mut fences = vec![(sale.chain.shard, sale.chain.epoch), (chain.shard, chain.epoch)];
    fences.sort();
    let answer = sale.store.append(&Batch { fences, rows }).await;
    assert!(matches!(answer, Err(AppendError::Refused(_))), "{answer:?}");
    assert_eq!(sale.store.heads().await.unwrap(), before);
    for id in
        [hold(&sale.imported, 2, 0, &[]).id, hold(&sale.imported, 3, 0, &[]).id, hold(&other, 1, 0, &[]).id]
    {
        assert_eq!(sale.store.reservation(id).await.unwrap(), None);
    }
}

pub async fn a_wrong_version_refuses_the_whole_batch(world: &impl World) {
    let mut sale = Sale::new(world).await;
    let first = hold(&sale.imported, 1, 42, &[1]);
    let row = sale.chain.reservation(&first);
    sale.chain.applied(&sale.store, vec![row]).await;
    let before = sale.chain.head;
    for version in [1, 3] {
        let mut wrong = next(&first, Status::Confirmed);
        wrong.version = version;
        let rows =
            vec![sale.chain.reservation(&hold(&sale.imported, 2, 43, &[2])), sale.chain.reservation(&wrong)];
        sale.chain.refused(&sale.store, before, rows).await;
    }
    let unborn = next(&hold(&sale.imported, 9, 42, &[9]), Status::Confirmed);
    let rows = vec![sale.chain.reservation(&unborn)];
    sale.chain.refused(&sale.store, before, rows).await;
    assert_eq!(sale.store.reservation(first.id).await.unwrap(), Some(first));
    assert_eq!(sale.store.reservation(hold(&sale.imported, 2, 0, &[]).id).await.unwrap(), None);
    assert_eq!(sale.store.heads().await.unwrap(), [(sale.shard(), before)]);
}

pub async fn an_illegal_transition_is_refused(world: &impl World) {
    let mut sale = Sale::new(world).await;
    let first = hold(&sale.imported, 1, 42, &[1]);
    let refunded = next(&first, Status::Refunded);
    let row = sale.chain.reservation(&first);
    sale.chain.applied(&sale.store, vec![row]).await;
    let before = sale.chain.head;
    let rows = vec![sale.chain.reservation(&refunded)];
    sale.chain.refused(&sale.store, before, rows).await;
    let twice = vec![sale.chain.reservation(&first)];
    sale.chain.refused(&sale.store, before, twice).await;
    // A row that changes hands on its way.
    let mut stolen = next(&first, Status::Confirmed);
    stolen.user.0 += 1;
    let rows = vec![sale.chain.reservation(&stolen)];
    sale.chain.refused(&sale.store, before, rows).await;
    assert_eq!(sale.store.reservation(first.id).await.unwrap(), Some(first));
}

pub async fn a_reservation_of_another_shard_is_refused(world: &impl World) {
    let mut sale = Sale::new(world).await;
    let (_, mut chain) = Sale::further(&sale.store, "Tosca").await;
    let first = hold(&sale.imported, 1, 42, &[1]);
    let row = sale.chain.reservation(&first);
    sale.chain.applied(&sale.store, vec![row]).await;
    let before = chain.head;
    let rows = vec![chain.reservation(&next(&first, Status::Confirmed))];
    chain.refused(&sale.store, before, rows).await;
    let closed = vec![chain.option(&sale.imported, engine::option::OptionStatus::Closed, 2, T0 + 1)];
    chain.refused(&sale.store, before, closed).await;
}

pub async fn an_unknown_option_is_refused(world: &impl World) {
    let mut sale = Sale::new(world).await;
    let before = sale.chain.head;
    let mut nowhere = sale.imported.clone();
    nowhere.option.option.0 += 1_000;
    let rows = vec![sale.chain.reservation(&hold(&nowhere, 1, 42, &[1]))];
    sale.chain.refused(&sale.store, before, rows).await;
    assert_eq!(sale.store.heads().await.unwrap(), [(sale.shard(), before)]);
}

pub async fn heads_follow_the_chain(world: &impl World) {
    let mut sale = Sale::new(world).await;
    for n in 1..=3 {
        let row = sale.chain.reservation(&hold(&sale.imported, n, 42, &[n]));
        sale.chain.applied(&sale.store, vec![row]).await;
        assert_eq!(sale.store.heads().await.unwrap(), [(sale.shard(), sale.chain.head)]);
    }
    assert_eq!(sale.chain.head.event_seq, 4);
    let (_, chain) = Sale::further(&sale.store, "Tosca").await;
    let mut both = vec![(sale.shard(), sale.chain.head), (chain.shard, chain.head)];
    both.sort_by_key(|(shard, _)| *shard);
    assert_eq!(sale.store.heads().await.unwrap(), both);
}

/// 512 entries over three shards, births and moves mixed, with counts that are no powers of two.
pub async fn a_full_batch_of_many_shards(world: &impl World) {
    let store = world.open(OWNER, TTL).await;
    let mut concerts = Vec::new();
    for title in ["Aida", "Carmen", "Fidelio"] {
        concerts.push(Sale::further(&store, title).await);
    }
    concerts.sort_by_key(|(_, chain)| chain.shard);
    for status in [Status::Hold, Status::Paying, Status::Confirmed, Status::Cancelled] {
        let mut batch = Batch { fences: Vec::new(), rows: Vec::new() };
        for (imported, chain) in &mut concerts {
            batch.fences.push((chain.shard, chain.epoch));
            for n in 1..=43 {
                let row = at_status(hold(imported, n, 42, &[n]), status);
                batch.rows.push(chain.reservation(&row));
            }
        }
        let answers = store.append(&batch).await.unwrap();
        assert!(answers.iter().all(|(_, answer)| *answer == ShardAnswer::Applied), "{answers:?}");
        for (imported, _) in &concerts {
            for n in [1, 43] {
                let row = at_status(hold(imported, n, 42, &[n]), status);
                assert_eq!(store.reservation(row.id).await.unwrap(), Some(row));
            }
        }
    }
}

fn at_status(row: engine::Reservation, status: Status) -> engine::Reservation {
    [Status::Paying, Status::Confirmed, Status::Cancelled]
        .into_iter()
        .filter(|step| *step <= status)
        .fold(row, |row, step| next(&row, step))
}

/// Writers, readers and renewals at once, as in a server.
pub async fn callers_at_once_do_not_mix(world: &impl World) {
    let mut sale = Sale::new(world).await;
    let held = [(sale.shard(), sale.chain.epoch)];
    let store: Arc<dyn Store> = Arc::clone(&sale.store);
    let renewals = tokio::spawn(async move {
        for _ in 0..20 {
            assert_eq!(store.renew(&held).await.unwrap(), [held[0].0]);
        }
    });
    let store = Arc::clone(&sale.store);
    let shard = sale.shard();
    let readers = tokio::spawn(async move {
        for _ in 0..20 {
            let loaded = store.load(shard, engine::Time(0)).await.unwrap();
            assert_eq!(loaded.reservations.len() + 1, usize::try_from(loaded.head.event_seq).unwrap());
        }
    });
    for n in 1..=40 {
        let row = sale.chain.reservation(&hold(&sale.imported, n, 42, &[n]));
        sale.chain.applied(&sale.store, vec![row]).await;
    }
    renewals.await.unwrap();
    readers.await.unwrap();
}
