//! What every mirror does.

use std::sync::Arc;

use actors::ports::{Mirror, MirrorAnswer, MirrorBatch};
use engine::{Epoch, MirrorOp, Span, Time};

use super::{Copy, NOW, TTL};

pub async fn run(mirror: &Arc<dyn Mirror>) {
    mirror.ping().await.unwrap();
    writes_are_applied_only_where_they_belong(mirror).await;
    only_a_rebuild_creates_a_copy(mirror).await;
    rebuilds(mirror).await;
    take_over_fences_the_old_owner_and_keeps_the_locks(mirror).await;
    unlocks_renewals_and_expiry(mirror).await;
    options_are_answered_for_themselves(mirror).await;
    what_is_left_counts_and_not_the_clock(mirror).await;
    ten_thousand_locks_are_replaced_and_read(mirror).await;
}

/// A copy at (epoch 3, op 5) with seat 1 locked: what each next write does to it.
async fn writes_are_applied_only_where_they_belong(mirror: &Arc<dyn Mirror>) {
    let rows: [(u64, u64, u64, MirrorAnswer, &[u32]); 8] = [
        // epoch, previous, op, answer, seats afterwards (the write locks seat 2)
        (3, 5, 6, MirrorAnswer::Applied, &[1, 2]),
        (3, 5, 9, MirrorAnswer::Applied, &[1, 2]),
        (3, 4, 5, MirrorAnswer::Applied, &[1]), // doubled: a no-op
        (3, 2, 3, MirrorAnswer::Applied, &[1]), // late: a no-op
        (3, 6, 7, MirrorAnswer::Gap, &[1]),     // one was lost
        (3, 4, 6, MirrorAnswer::Gap, &[1]),     // straddles what is there
        (4, 5, 6, MirrorAnswer::Gap, &[1]),     // a new epoch rebuilds first
        (2, 5, 6, MirrorAnswer::Fenced, &[1]),
    ];
    for (epoch, previous, op, answer, after) in rows {
        let copy = Copy::fresh(mirror);
        copy.rebuild(3, 5, &[1]).await;
        let got = copy.apply(epoch, previous, op, vec![copy.select(2)]).await;
        assert_eq!(got, answer, "apply {epoch}.{previous}->{op}");
        assert_eq!(copy.seats(3).await, after, "after {epoch}.{previous}->{op}");
    }
    for (previous, answer) in [(5, MirrorAnswer::Applied), (6, MirrorAnswer::Gap)] {
        let copy = Copy::fresh(mirror);
        copy.rebuild(3, 5, &[1]).await;
        assert_eq!(
            copy.apply(3, previous, previous, Vec::new()).await,
            answer,
            "does it stand at {previous}?"
        );
    }
}

async fn only_a_rebuild_creates_a_copy(mirror: &Arc<dyn Mirror>) {
    let copy = Copy::fresh(mirror);
    assert_eq!(copy.seats(1).await, [0u32; 0]);
    assert_eq!(copy.apply(1, 0, 1, vec![copy.select(2)]).await, MirrorAnswer::Gap);
    assert_eq!(copy.apply(1, 0, 0, Vec::new()).await, MirrorAnswer::Gap);
    assert_eq!(copy.seats(1).await, [0u32; 0]);
    assert_eq!(copy.rebuild(1, 1, &[]).await, MirrorAnswer::Applied);
    assert_eq!(copy.apply(1, 1, 2, vec![copy.select(2)]).await, MirrorAnswer::Applied);
    assert_eq!(copy.seats(1).await, [2]);
}

/// A rebuild replaces, is idempotent, and neither a late nor a foreign one undoes what came after.
async fn rebuilds(mirror: &Arc<dyn Mirror>) {
    let rows: [(u64, u64, MirrorAnswer, &[u32]); 5] = [
        (3, 6, MirrorAnswer::Applied, &[9]),
        (3, 5, MirrorAnswer::Applied, &[1]), // doubled: what is at that op is there
        (4, 1, MirrorAnswer::Applied, &[9]),
        (3, 4, MirrorAnswer::Applied, &[1]),
        (2, 8, MirrorAnswer::Fenced, &[1]),
    ];
    for (epoch, op, answer, after) in rows {
        let copy = Copy::fresh(mirror);
        copy.rebuild(3, 5, &[1]).await;
        assert_eq!(copy.rebuild(epoch, op, &[9]).await, answer, "rebuild {epoch}.{op}");
        assert_eq!(copy.seats(4).await, after, "after {epoch}.{op}");
    }
}

async fn take_over_fences_the_old_owner_and_keeps_the_locks(mirror: &Arc<dyn Mirror>) {
    let copy = Copy::fresh(mirror);
    copy.rebuild(3, 5, &[1]).await;
    assert_eq!(copy.seats(4).await, [1]);
    assert_eq!(copy.apply(3, 5, 6, vec![copy.select(3)]).await, MirrorAnswer::Fenced);
    assert_eq!(copy.rebuild(3, 6, &[]).await, MirrorAnswer::Fenced);
    assert!(mirror.take_over(copy.option, Epoch(3), NOW).await.is_err());
    assert_eq!(copy.seats(4).await, [1]);
    assert_eq!(copy.apply(4, 0, 1, vec![copy.select(3)]).await, MirrorAnswer::Applied);
    assert_eq!(copy.seats(4).await, [1, 3]);
}

async fn unlocks_renewals_and_expiry(mirror: &Arc<dyn Mirror>) {
    let copy = Copy::fresh(mirror);
    copy.rebuild(1, 1, &[1, 2, 3]).await;
    let renewed = copy.lock(1, 42, Span(120_000_000));
    let changes = vec![
        MirrorOp::Lock(renewed),
        copy.release(2),
        copy.release(8), // was never there
    ];
    assert_eq!(copy.apply(1, 1, 2, changes).await, MirrorAnswer::Applied);
    assert_eq!(copy.seats(1).await, [1, 3], "2 was unlocked");
    let later = NOW + TTL;
    let locks = mirror.take_over(copy.option, Epoch(1), later).await.unwrap();
    assert_eq!(locks.iter().map(|lock| lock.seat.0).collect::<Vec<_>>(), [1], "3 has run out");
}

async fn options_are_answered_for_themselves(mirror: &Arc<dyn Mirror>) {
    let copies: Vec<Copy> = (0..40).map(|_| Copy::fresh(mirror)).collect();
    for copy in copies.iter().skip(1) {
        copy.rebuild(2, 1, &[]).await;
    }
    let batch = |(number, copy): (u64, &Copy)| MirrorBatch {
        option: copy.option,
        epoch: Epoch(if number == 1 { 1 } else { 2 }),
        previous: 1,
        op: 2,
        now: NOW,
        changes: vec![copy.select(u32::try_from(number).unwrap())],
    };
    let batches: Vec<_> = (0..).zip(&copies).map(batch).collect();
    let answers: Vec<_> = mirror.apply(&batches).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(answers[..2], [MirrorAnswer::Gap, MirrorAnswer::Fenced]);
    assert!(answers[2..].iter().all(|answer| *answer == MirrorAnswer::Applied));
    assert_eq!(copies[39].seats(2).await, [39]);
}

/// The next owner's clock may say anything.
async fn what_is_left_counts_and_not_the_clock(mirror: &Arc<dyn Mirror>) {
    let copy = Copy::fresh(mirror);
    let lock = copy.lock(7, 99, TTL);
    copy.rebuild_from(1, 1, &[lock]).await;
    let read = copy.take_over(2).await;
    let [read] = read.as_slice() else { panic!("{read:?}") };
    assert_eq!((read.option, read.seat, read.user), (copy.option, lock.seat, lock.user));
    assert!(read.expires_at <= lock.expires_at + Span(1_000), "{read:?}");
    assert!(read.expires_at > NOW, "{read:?}");
    assert_eq!(read.expires_at.since(read.first_at), lock.expires_at.since(lock.first_at));
}

async fn ten_thousand_locks_are_replaced_and_read(mirror: &Arc<dyn Mirror>) {
    let copy = Copy::fresh(mirror);
    let even: Vec<u32> = (0..10_000).map(|seat| 2 * seat).collect();
    assert_eq!(copy.rebuild(1, 1, &even).await, MirrorAnswer::Applied);
    assert_eq!(copy.seats(1).await, even);
    let odd: Vec<u32> = (0..9_999).map(|seat| 2 * seat + 1).collect();
    assert_eq!(copy.rebuild(1, 2, &odd).await, MirrorAnswer::Applied);
    assert_eq!(copy.seats(2).await, odd);
    let never: Time = NOW + Span(1_000 * TTL.0);
    assert_eq!(mirror.take_over(copy.option, Epoch(2), never).await.unwrap(), []);
}
