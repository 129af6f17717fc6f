//! A node, its ledger and its mirror, and short ways to ask.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actors::gates::GateOptions;
use actors::handle::{Answer, Ask, ShardStatus};
use actors::observe::Metrics;
use actors::peers::Peers;
use actors::ports::{Mirror, MirrorAnswer, MirrorBatch, MirrorError};
use actors::{Handle, LeaseSettings, Options, Rebalance, System};
use async_trait::async_trait;
use engine::command::SeatList;
use engine::plan::{Layout, Run};
use engine::{
    Authority, Caller, Command, ConcertId, Epoch, Granted, MirrorOp, OptionId, Outcome, RequestKey,
    Reservation, ReservationId, SeatNo, Settings, ShardId, SoftLock, Time, UserId,
};
use tokio::time::Instant;

use super::gate_world::{GateTables, Rows, TestGateMirror};
use super::ledger::{Tables, TestLedger, lock};
use super::network::Network;

/// The shards of a test's cluster.
pub const SHARDS: u16 = 2;

/// A mirror that stands where it was told to.
#[derive(Default)]
pub struct TestMirror(Mutex<BTreeMap<OptionId, Copy>>);

#[derive(Default)]
struct Copy {
    at: (Epoch, u64),
    locks: BTreeMap<SeatNo, SoftLock>,
}

impl TestMirror {
    pub fn seats(&self, option: OptionId) -> Vec<u32> {
        let copies = self.0.lock().unwrap();
        copies.get(&option).map_or(Vec::new(), |copy| copy.locks.keys().map(|seat| seat.0).collect())
    }

    /// Forgets an option, as a Redis without persistence would.
    pub fn wipe(&self, option: OptionId) {
        self.0.lock().unwrap().remove(&option);
    }

    fn apply_one(&self, batch: &MirrorBatch) -> Result<MirrorAnswer, MirrorError> {
        let mut copies = self.0.lock().unwrap();
        let Some(copy) = copies.get_mut(&batch.option) else { return Ok(MirrorAnswer::Gap) };
        if copy.at.0 > batch.epoch {
            return Ok(MirrorAnswer::Fenced);
        }
        if copy.at >= (batch.epoch, batch.op) {
            return Ok(MirrorAnswer::Applied);
        }
        if copy.at != (batch.epoch, batch.previous) {
            return Ok(MirrorAnswer::Gap);
        }
        for change in &batch.changes {
            match change {
                MirrorOp::Lock(lock) => copy.locks.insert(lock.seat, *lock),
                MirrorOp::Unlock { seat, .. } => copy.locks.remove(seat),
            };
        }
        copy.at = (batch.epoch, batch.op);
        Ok(MirrorAnswer::Applied)
    }
}

#[async_trait]
impl Mirror for TestMirror {
    async fn ping(&self) -> Result<(), MirrorError> {
        Ok(())
    }

    async fn apply(&self, batches: &[MirrorBatch]) -> Vec<Result<MirrorAnswer, MirrorError>> {
        batches.iter().map(|batch| self.apply_one(batch)).collect()
    }

    fn spacing(&self) -> Duration {
        Duration::ZERO
    }

    async fn rebuild(
        &self,
        option: OptionId,
        epoch: Epoch,
        op: u64,
        _: Time,
        locks: &[SoftLock],
    ) -> Result<MirrorAnswer, MirrorError> {
        let mut copies = self.0.lock().unwrap();
        let copy = copies.entry(option).or_default();
        if copy.at.0 > epoch {
            return Ok(MirrorAnswer::Fenced);
        }
        *copy = Copy { at: (epoch, op), locks: locks.iter().map(|lock| (lock.seat, *lock)).collect() };
        Ok(MirrorAnswer::Applied)
    }

    async fn take_over(
        &self,
        option: OptionId,
        epoch: Epoch,
        now: Time,
    ) -> Result<Vec<SoftLock>, MirrorError> {
        let mut copies = self.0.lock().unwrap();
        let Some(copy) = copies.get_mut(&option) else { return Ok(Vec::new()) };
        copy.at = copy.at.max((epoch, 0));
        Ok(copy.locks.values().filter(|lock| lock.expires_at > now).copied().collect())
    }
}

/// What outlives a node.
pub struct World {
    pub tables: Arc<Mutex<Tables>>,
    pub mirror: Arc<TestMirror>,
    pub gates: Arc<Mutex<Rows>>,
    /// Gates cannot be set.
    pub gates_away: Arc<AtomicBool>,
    pub gate_mirror: Arc<TestGateMirror>,
    pub network: Network,
    base: Instant,
}

/// One process.
pub struct Node {
    pub owner: u64,
    pub system: System,
    pub handle: Handle,
    pub metrics: Metrics,
    pub peers: Arc<dyn Peers>,
}

static IDS: AtomicU64 = AtomicU64::new(1);

impl World {
    pub fn new() -> Self {
        Self {
            tables: Arc::default(),
            mirror: Arc::default(),
            gates: Arc::default(),
            gates_away: Arc::default(),
            gate_mirror: Arc::default(),
            network: Network::default(),
            base: Instant::now(),
        }
    }

    /// A node's connection to the ledger.
    pub fn ledger(&self, owner: u64) -> Arc<TestLedger> {
        TestLedger::new(&self.tables, owner, self.base)
    }

    /// Starts a node; it owns and serves every shard.
    pub async fn node(&self) -> Node {
        let owner = IDS.fetch_add(1, Ordering::Relaxed);
        let metrics = Metrics::default();
        let peers = self.network.join(owner);
        let system = System::start(Options {
            ledger: self.ledger(owner),
            mirror: self.mirror.clone(),
            shards: SHARDS,
            peers: peers.clone(),
            rebalance: Rebalance { interval: Duration::from_secs(5), at_once: 4 },
            settings: Settings::default(),
            gates: self.gate_options(owner),
            lease: LeaseSettings::default(),
            ledger_ack_timeout: Duration::from_secs(5),
            feed_tick: Duration::from_millis(50),
            mirror_restore_timeout: Duration::from_millis(200),
            metrics: metrics.clone(),
        })
        .await
        .unwrap();
        let handle = system.handle();
        self.network.came(owner, &system);
        handle.until_serving().await;
        Node { owner, system, handle, metrics, peers }
    }

    /// What its gates are given.
    pub fn gate_options(&self, owner: u64) -> GateOptions {
        let ledger = GateTables {
            leases: self.tables.clone(),
            owner,
            rows: self.gates.clone(),
            is_away: self.gates_away.clone(),
        };
        GateOptions::new(Arc::new(ledger), self.gate_mirror.clone(), || [7; 32])
    }

    /// A node with an option of so many seats on sale in each shard: option 1 in shard 0, 2 in 1.
    pub async fn selling(seats: u32) -> (Self, Node) {
        let world = Self::new();
        let node = world.node().await;
        for shard in 0..SHARDS {
            let option = OptionId(u32::from(shard) + 1);
            let layout = Arc::new(layout(seats));
            lock(&world.tables).layouts.insert(option, layout.clone());
            let concert = ConcertId(u64::from(option.0));
            let command = Command::AddOption { option, concert, layout };
            let answer = ask(&node.handle, option, 0, None, command).await;
            assert_eq!(answer.outcome, Outcome::Granted(Granted::Done));
        }
        (world, node)
    }
}

impl Node {
    pub fn epoch(&self, shard: u16) -> Option<u64> {
        match self.handle.statuses()[usize::from(shard)].1 {
            ShardStatus::Serving(epoch) => Some(epoch.0),
            ShardStatus::Elsewhere(..) | ShardStatus::Starting | ShardStatus::Stopped => None,
        }
    }
}

fn layout(seats: u32) -> Layout {
    Layout {
        categories: vec![0; usize::try_from(seats).unwrap()],
        runs: vec![Run { first: SeatNo(0), seats }],
        sections: vec![SeatNo(0)],
        prices: vec![100],
    }
}

pub const ONE: OptionId = OptionId(1);
pub const TWO: OptionId = OptionId(2);

pub fn shard_of(option: OptionId) -> ShardId {
    ShardId(u16::try_from(option.0 - 1).unwrap())
}

pub fn list(seats: &[u32]) -> SeatList {
    seats.iter().map(|seat| SeatNo(*seat)).collect()
}

pub async fn ask(
    handle: &Handle,
    option: OptionId,
    user: u64,
    key: Option<u128>,
    command: Command,
) -> Answer {
    let authority = if user == 0 { Authority::Any } else { Authority::Own };
    let caller = Caller { user: UserId(user), authority };
    let ask = Ask { caller, key: key.map(RequestKey), pass: None, command };
    handle.ask(shard_of(option), ask, Instant::now() + Duration::from_secs(10)).await
}

pub async fn select(handle: &Handle, option: OptionId, user: u64, seats: &[u32]) -> Outcome {
    ask(handle, option, user, None, Command::Select { option, seats: list(seats) }).await.outcome
}

/// A hold under a key; each attempt brings a fresh reservation id, as the edge does.
pub async fn hold(handle: &Handle, option: OptionId, user: u64, key: u128, seats: &[u32]) -> Answer {
    let uuid = (u128::from(IDS.fetch_add(1, Ordering::Relaxed)) << 80) | (7 << 76) | (2 << 62);
    let reservation = ReservationId::stamp(uuid, option);
    ask(handle, option, user, Some(key), Command::Hold { option, seats: list(seats), reservation }).await
}

/// Selects and holds one seat.
pub async fn buy(handle: &Handle, option: OptionId, user: u64, seat: u32) -> Answer {
    let selected = select(handle, option, user, &[seat]).await;
    match selected {
        Outcome::Granted(_) => hold(handle, option, user, 1, &[seat]).await,
        outcome => Answer { outcome, replayed: false },
    }
}

pub fn reserved(answer: &Answer) -> Option<&Reservation> {
    match &answer.outcome {
        Outcome::Granted(Granted::Reserved { reservation, .. }) => Some(reservation),
        _ => None,
    }
}
