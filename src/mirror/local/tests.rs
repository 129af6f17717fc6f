use engine::UserId;

use super::*;

const OPTION: OptionId = OptionId(7);

fn lock(seat: u32, expires_at: i64) -> SoftLock {
    SoftLock {
        option: OPTION,
        seat: SeatNo(seat),
        user: UserId(42),
        first_at: Time(1),
        expires_at: Time(expires_at),
    }
}

fn batch(epoch: u64, previous: u64, op: u64, changes: Vec<MirrorOp>) -> MirrorBatch {
    MirrorBatch { option: OPTION, epoch: Epoch(epoch), previous, op, now: Time(10), changes }
}

async fn apply(mirror: &LocalMirror, batch: MirrorBatch) -> MirrorAnswer {
    mirror.apply(&[batch]).await.remove(0).unwrap()
}

fn locks(seat: u32) -> Vec<MirrorOp> {
    vec![MirrorOp::Lock(lock(seat, 100))]
}

async fn seats(mirror: &LocalMirror, epoch: u64) -> Vec<u32> {
    seats_at(mirror, epoch, 10).await
}

async fn seats_at(mirror: &LocalMirror, epoch: u64, now: i64) -> Vec<u32> {
    let locks = mirror.take_over(OPTION, Epoch(epoch), Time(now)).await.unwrap();
    let mut seats: Vec<u32> = locks.iter().map(|lock| lock.seat.0).collect();
    seats.sort_unstable();
    seats
}

/// A mirror at (epoch 3, op 5) with seat 1 locked: what each next write does to it.
#[tokio::test]
async fn writes_are_applied_only_where_they_belong() {
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
        let mirror = LocalMirror::new();
        mirror.rebuild(OPTION, Epoch(3), 5, Time(0), &[lock(1, 100)]).await.unwrap();
        let got = apply(&mirror, batch(epoch, previous, op, locks(2))).await;
        assert_eq!(got, answer, "apply {epoch}.{previous}->{op}");
        assert_eq!(seats(&mirror, 3).await, after, "after {epoch}.{previous}->{op}");
    }
}

#[tokio::test]
async fn only_a_rebuild_creates_a_copy() {
    let mirror = LocalMirror::new();
    assert_eq!(seats(&mirror, 1).await, [0u32; 0]);
    assert_eq!(apply(&mirror, batch(1, 0, 1, locks(2))).await, MirrorAnswer::Gap);
    assert_eq!(seats(&mirror, 1).await, [0u32; 0]);
}

/// A rebuild replaces, is idempotent, and neither a late nor a foreign one undoes what came after.
#[tokio::test]
async fn rebuilds() {
    let rows: [(u64, u64, MirrorAnswer, &[u32]); 5] = [
        (3, 6, MirrorAnswer::Applied, &[9]),
        (3, 5, MirrorAnswer::Applied, &[9]),
        (4, 0, MirrorAnswer::Applied, &[9]),
        (3, 4, MirrorAnswer::Applied, &[1]),
        (2, 8, MirrorAnswer::Fenced, &[1]),
    ];
    for (epoch, op, answer, after) in rows {
        let mirror = LocalMirror::new();
        mirror.rebuild(OPTION, Epoch(3), 5, Time(0), &[lock(1, 100)]).await.unwrap();
        let got = mirror.rebuild(OPTION, Epoch(epoch), op, Time(0), &[lock(9, 100)]).await.unwrap();
        assert_eq!(got, answer, "rebuild {epoch}.{op}");
        assert_eq!(seats(&mirror, 4).await, after, "after {epoch}.{op}");
    }
}

#[tokio::test]
async fn take_over_fences_the_old_owner_and_keeps_the_locks() {
    let mirror = LocalMirror::new();
    mirror.rebuild(OPTION, Epoch(3), 5, Time(0), &[lock(1, 100), lock(2, 10)]).await.unwrap();
    assert_eq!(seats(&mirror, 4).await, [1], "seat 2 ran out at 10");
    assert_eq!(apply(&mirror, batch(3, 5, 6, locks(3))).await, MirrorAnswer::Fenced);
    assert_eq!(mirror.rebuild(OPTION, Epoch(3), 6, Time(0), &[]).await.unwrap(), MirrorAnswer::Fenced);
    assert!(mirror.take_over(OPTION, Epoch(3), Time(10)).await.is_err());
    assert_eq!(seats(&mirror, 4).await, [1]);
    assert_eq!(apply(&mirror, batch(4, 0, 1, locks(3))).await, MirrorAnswer::Applied);
    assert_eq!(seats(&mirror, 4).await, [1, 3]);
}

#[tokio::test]
async fn unlocks_renewals_and_expiry() {
    let mirror = LocalMirror::new();
    mirror.rebuild(OPTION, Epoch(1), 0, Time(0), &[lock(1, 11), lock(2, 11), lock(3, 11)]).await.unwrap();
    let changes = vec![
        MirrorOp::Lock(lock(1, 500)), // renewed
        MirrorOp::Unlock { option: OPTION, seat: SeatNo(2), user: UserId(1) },
        MirrorOp::Unlock { option: OPTION, seat: SeatNo(8), user: UserId(1) }, // was never there
    ];
    let write = MirrorBatch { now: Time(11), ..batch(1, 0, 1, changes) };
    assert_eq!(apply(&mirror, write).await, MirrorAnswer::Applied);
    assert_eq!(seats_at(&mirror, 1, 10).await, [1, 3], "2 was unlocked");
    assert_eq!(seats_at(&mirror, 1, 11).await, [1], "3 has run out");
}
