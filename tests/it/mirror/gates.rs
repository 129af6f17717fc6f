//! The mirrors of gates, each as the same port: in the process, in files, and in real Redises.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use actors::gates::ports::{GateBatch, GateMirror};
use actors::ports::MirrorAnswer;
use engine::gate::{Draw, KeptPass, MirrorOp, Snapshot};
use engine::{ConcertId, Epoch, PassId, Span, Turn, UserId};
use hotseat::mirror::local::LocalMirror;
use hotseat::mirror::redis::RedisMirror;
use servers::Redis;
use tempfile::TempDir;

use super::NOW;

mod files;
mod redis;
mod suite;
mod walk;

/// Until a pass ends whatever happens.
const AGE: Span = Span::from_secs(1_800);

/// A gate of a mirror, as its owner talks to it.
#[derive(Clone)]
struct Copy {
    mirror: Arc<dyn GateMirror>,
    concert: ConcertId,
}

impl Copy {
    /// Of a concert that nobody has named before.
    fn fresh(mirror: &Arc<dyn GateMirror>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self { mirror: mirror.clone(), concert: ConcertId(NEXT.fetch_add(1, Ordering::Relaxed)) }
    }

    fn batch(&self, epoch: u64, previous: u64, op: u64, changes: Vec<MirrorOp>) -> GateBatch {
        GateBatch { concert: self.concert, epoch: Epoch(epoch), previous, op, now: NOW, changes }
    }

    async fn apply(&self, epoch: u64, previous: u64, op: u64, changes: Vec<MirrorOp>) -> MirrorAnswer {
        self.mirror.apply(&self.batch(epoch, previous, op, changes)).await.unwrap()
    }

    async fn rebuild(&self, epoch: u64, op: u64, snapshot: &Snapshot) -> MirrorAnswer {
        self.mirror.rebuild(self.concert, Epoch(epoch), op, NOW, snapshot).await.unwrap()
    }

    async fn take_over(&self, epoch: u64) -> Snapshot {
        self.mirror.take_over(self.concert, Epoch(epoch), NOW).await.unwrap()
    }

    /// Who waits, by turn, after a take-over.
    async fn line(&self, epoch: u64) -> Vec<u64> {
        self.take_over(epoch).await.waiting.iter().map(|(_, user)| user.0).collect()
    }
}

/// User n in turn n + 100.
fn join(user: u64) -> MirrorOp {
    MirrorOp::Join { user: UserId(user), turn: turn(user) }
}

fn remove(user: u64) -> MirrorOp {
    MirrorOp::Remove { user: UserId(user), turn: turn(user) }
}

fn admit(user: u64) -> MirrorOp {
    let KeptPass { user, turn, id, ends_at } = pass(user);
    MirrorOp::Admit { user, turn, pass: id, ends_at }
}

fn end(user: u64) -> MirrorOp {
    MirrorOp::End { user: UserId(user), pass: pass(user).id }
}

fn turn(user: u64) -> Turn {
    Turn(u32::try_from(user + 100).unwrap())
}

/// The pass of user n has an id that no double holds.
fn pass(user: u64) -> KeptPass {
    KeptPass { user: UserId(user), turn: turn(user), id: PassId(u64::MAX - user), ends_at: NOW + AGE }
}

/// Of a gate that has given out turns up to the last of these users'.
fn snapshot(waiting: &[u64], passes: &[u64]) -> Snapshot {
    let next = waiting.iter().chain(passes).map(|user| turn(*user).0 + 1).max().unwrap_or(0);
    Snapshot {
        next: Turn(next),
        draw: Draw::Due,
        waiting: waiting.iter().map(|user| (turn(*user), UserId(*user))).collect(),
        passes: passes.iter().map(|user| pass(*user)).collect(),
    }
}

fn local() -> Arc<dyn GateMirror> {
    Arc::new(LocalMirror::new())
}

fn in_dir(dir: &TempDir) -> Arc<dyn GateMirror> {
    Arc::new(LocalMirror::in_dir(dir.path().join("gates")))
}

fn in_redis(url: &str) -> Arc<dyn GateMirror> {
    Arc::new(RedisMirror::new(url.parse().unwrap()))
}

#[tokio::test]
async fn gates_in_memory_conform() {
    suite::run(&local()).await;
}

#[tokio::test]
async fn gates_in_files_conform() {
    let dir = TempDir::new().unwrap();
    suite::run(&in_dir(&dir)).await;
}

/// Where a runtime has several threads, most batches are written by the one that has them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gates_in_files_that_are_written_at_once_conform() {
    let dir = TempDir::new().unwrap();
    suite::run(&in_dir(&dir)).await;
    for seed in 0..20 {
        let dir = TempDir::new().unwrap();
        walk::run(|| in_dir(&dir), seed).await;
    }
}

#[tokio::test]
async fn gates_in_redis_conform() {
    let redis = Redis::start();
    suite::run(&in_redis(&redis.url())).await;
}

#[tokio::test]
async fn gates_in_files_follow_the_engine() {
    for seed in 0..40 {
        let dir = TempDir::new().unwrap();
        // Nothing is kept from one owner to the next but the files.
        walk::run(|| in_dir(&dir), seed).await;
    }
}

#[tokio::test]
async fn gates_in_redis_follow_the_engine() {
    let redis = Redis::start();
    let mirror = in_redis(&redis.url());
    for seed in 100..120 {
        walk::run(|| mirror.clone(), seed).await;
    }
}
