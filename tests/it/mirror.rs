//! The mirrors, each as the same port: in the process and in real Redises.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use actors::ports::{Mirror, MirrorAnswer, MirrorBatch};
use engine::{Epoch, MirrorOp, OptionId, SeatNo, SoftLock, Span, Time, UserId};
use hotseat::mirror::local::LocalMirror;
use hotseat::mirror::redis::RedisMirror;
use servers::Redis;

mod gates;
mod jobs;
mod live;
mod model;
mod redis;
mod suite;

/// Some moment of the ledger, years from the wall clock's.
const NOW: Time = Time(1_000_000_000_000);

/// Long enough for the slowest machine.
const TTL: Span = Span(60_000_000);

/// An option of a mirror, as its owner talks to it.
#[derive(Clone)]
struct Copy {
    mirror: Arc<dyn Mirror>,
    option: OptionId,
}

impl Copy {
    /// Of an option that nobody has named before.
    fn fresh(mirror: &Arc<dyn Mirror>) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        Self { mirror: mirror.clone(), option: OptionId(NEXT.fetch_add(1, Ordering::Relaxed)) }
    }

    fn lock(&self, seat: u32, user: u64, left: Span) -> SoftLock {
        let expires_at = NOW + left;
        SoftLock {
            option: self.option,
            seat: SeatNo(seat),
            user: UserId(user),
            first_at: expires_at - Span(90_000_000),
            expires_at,
        }
    }

    /// User 42 has the seat for [`TTL`].
    fn select(&self, seat: u32) -> MirrorOp {
        MirrorOp::Lock(self.lock(seat, 42, TTL))
    }

    fn release(&self, seat: u32) -> MirrorOp {
        MirrorOp::Unlock { option: self.option, seat: SeatNo(seat), user: UserId(42) }
    }

    async fn apply(&self, epoch: u64, previous: u64, op: u64, changes: Vec<MirrorOp>) -> MirrorAnswer {
        let batch = MirrorBatch { option: self.option, epoch: Epoch(epoch), previous, op, now: NOW, changes };
        self.mirror.apply(&[batch]).await.remove(0).unwrap()
    }

    /// Of seats that user 42 has for [`TTL`].
    async fn rebuild(&self, epoch: u64, op: u64, seats: &[u32]) -> MirrorAnswer {
        let locks: Vec<SoftLock> = seats.iter().map(|seat| self.lock(*seat, 42, TTL)).collect();
        self.rebuild_from(epoch, op, &locks).await
    }

    async fn rebuild_from(&self, epoch: u64, op: u64, locks: &[SoftLock]) -> MirrorAnswer {
        self.mirror.rebuild(self.option, Epoch(epoch), op, NOW, locks).await.unwrap()
    }

    /// What a new owner reads, by seat.
    async fn take_over(&self, epoch: u64) -> Vec<SoftLock> {
        let mut locks = self.mirror.take_over(self.option, Epoch(epoch), NOW).await.unwrap();
        locks.sort_unstable_by_key(|lock| lock.seat);
        locks
    }

    /// The seats of [`Self::take_over`].
    async fn seats(&self, epoch: u64) -> Vec<u32> {
        self.take_over(epoch).await.iter().map(|lock| lock.seat.0).collect()
    }
}

fn local() -> Arc<dyn Mirror> {
    Arc::new(LocalMirror::new())
}

fn in_redis(url: &str) -> Arc<dyn Mirror> {
    Arc::new(RedisMirror::new(url.parse().unwrap()))
}

#[tokio::test]
async fn the_local_mirror_conforms() {
    suite::run(&local()).await;
}

#[tokio::test]
async fn redis_conforms() {
    let redis = Redis::start();
    suite::run(&in_redis(&redis.url())).await;
}

/// Lost, late, doubled and reordered writes raise no ghosts and forget no locks.
#[test]
fn the_local_mirror_follows_the_model() {
    model::run(&local(), 500);
}

#[test]
fn redis_follows_the_model() {
    let redis = Redis::start();
    model::run(&in_redis(&redis.url()), 100);
}
