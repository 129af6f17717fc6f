//! Start and stop of everything that serves shards on this node.

use std::sync::Arc;
use std::time::Duration;

use engine::{Settings, ShardId, Time};
use ractor::{Actor, ActorRef};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::arrivals::Arrivals;
use crate::clock::LedgerClock;
use crate::door::{Door, Doors, Route};
use crate::feed::Hub;
use crate::followers::Followers;
use crate::gates::{self, GateOptions, Gates};
use crate::handle::{self, Handle};
use crate::leases::{Leases, Renewal};
use crate::mirror::Mirroring;
use crate::moves::Moves;
use crate::observe::Metrics;
use crate::peers::Peers;
use crate::ports::{Ledger, LedgerError, Mirror};
use crate::restore::{self, Restorer};
use crate::shard;
use crate::steward::{Hints, Rebalance, Steward};
use crate::supervisor::{self, Supervisor, Tree};
use crate::writer::Writer;

/// The mirror's last batch is worth this much of the grace: it only holds soft locks.
const MIRROR_PATIENCE: Duration = Duration::from_millis(500);

/// Even a shutdown without grace tries for so long to give the leases back.
const RELEASE_PATIENCE: Duration = Duration::from_millis(500);

/// What the actors are given.
#[derive(Clone)]
pub struct Options {
    pub ledger: Arc<dyn Ledger>,
    pub mirror: Arc<dyn Mirror>,
    /// How many shards the cluster has; without others this node owns them all.
    pub shards: u16,
    pub peers: Arc<dyn Peers>,
    pub rebalance: Rebalance,
    pub settings: Settings,
    pub gates: GateOptions,
    pub lease: LeaseSettings,
    /// How long a client waits for the ledger before it is told to retry its key.
    pub ledger_ack_timeout: Duration,
    /// How old a snapshot of an option's seats may be.
    pub feed_tick: Duration,
    /// How long a restore waits for the mirror's soft locks before it goes on without them.
    pub mirror_restore_timeout: Duration,
    pub metrics: Metrics,
}

/// How ownership is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseSettings {
    /// How long a lease lives without renewal.
    pub ttl: Duration,
    /// How often the leases are renewed.
    pub renew: Duration,
    /// How long before a lease may have run out the shard stops deciding.
    pub margin: Duration,
}

impl Default for LeaseSettings {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(5),
            renew: Duration::from_millis(1_500),
            margin: Duration::from_secs(1),
        }
    }
}

/// Why the system did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("shards is 0: a cluster has at least one")]
    NoShards,
    #[error(
        "lease renew ({renew:?}) must be longer than 0 and shorter than ttl - margin ({ttl:?} - {margin:?})"
    )]
    Lease { ttl: Duration, renew: Duration, margin: Duration },
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error("the supervisor did not start: {0}")]
    Supervisor(String),
}

/// What a shutdown managed within its grace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShutdownReport {
    /// Entries that the ledger had not answered; their clients were told to retry.
    pub unflushed: usize,
    /// Leases given back, so that the next owner need not wait.
    pub released: usize,
}

/// The running actors.
pub struct System {
    handle: Handle,
    doors: Doors,
    leases: Leases,
    ledger: Arc<dyn Ledger>,
    writer: Writer,
    mirror: Mirroring,
    hub: Arc<Hub>,
    moves: Moves,
    supervisor: ActorRef<supervisor::Message>,
    tasks: Vec<AbortHandle>,
}

/// The first question may wait for a connection: of so many, the one that was answered quickest tells the time.
const FIRST_SAMPLES: usize = 3;

/// The ledger's clock.
async fn read_clock(ledger: &dyn Ledger) -> Result<LedgerClock, LedgerError> {
    let mut best = read_once(ledger).await?;
    for _ in 1..FIRST_SAMPLES {
        let next = read_once(ledger).await?;
        if next.1 - next.0 < best.1 - best.0 {
            best = next;
        }
    }
    let (sent, received, now) = best;
    Ok(LedgerClock::new(sent, received, now))
}

/// When it was asked and when it answered, and what.
async fn read_once(ledger: &dyn Ledger) -> Result<(Instant, Instant, Time), LedgerError> {
    let sent = Instant::now();
    let now = ledger.now().await?;
    Ok((sent, Instant::now(), now))
}

/// How often a shutdown looks whether everything is flushed.
const FLUSH_POLL: Duration = Duration::from_millis(5);

impl System {
    /// Starts to serve. Shards come up in the background: [`Handle::statuses`] tells which serve.
    ///
    /// # Errors
    /// Settings that contradict each other, or a ledger that does not tell the time.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        options.check()?;
        let Options { ledger, metrics, lease, peers, .. } = options.clone();
        let clock = read_clock(ledger.as_ref()).await?;
        let doors: Doors = (0..options.shards).map(|shard| Door::new(ShardId(shard))).collect();
        metrics.watch(doors.iter().map(|door| door.gauges.clone()).collect());

        let leases = Leases::new(lease);
        let writer = Writer::start(ledger.clone(), metrics.clone());
        let mirror = Mirroring::new(options.mirror.clone(), clock.clone(), metrics.clone());
        let mirror_task = tokio::spawn(mirror.clone().run()).abort_handle();
        let hub = Arc::new(Hub::new(options.feed_tick, metrics.clone()));
        let pulse = tokio::spawn(hub.clone().run()).abort_handle();
        let followers = Arc::new(Followers::default());
        let restorer = options.restorer(&mirror, &clock, &leases);
        let (hints, at_once) = (Hints::default(), options.rebalance.at_once);
        let moves = Moves::new(ledger.me(), clock.clone(), doors.clone(), peers.clone(), at_once);
        let tree = Tree {
            restorer: restorer.clone(),
            peers: peers.clone(),
            doors: doors.clone(),
            writer: writer.clone(),
            mirror: mirror.clone(),
            hub: hub.clone(),
            followers: followers.clone(),
            metrics: metrics.clone(),
            hints: hints.clone(),
        };
        let (supervisor, _) = Supervisor::spawn(None, Supervisor, tree)
            .await
            .map_err(|error| StartError::Supervisor(error.to_string()))?;
        let renewal = Renewal {
            ledger: ledger.clone(),
            leases: leases.clone(),
            clock: clock.clone(),
            metrics: metrics.clone(),
            peers: peers.clone(),
        };
        let renewal = tokio::spawn(renewal.run(lease, supervisor.clone())).abort_handle();
        let steward = options.steward(&leases, &supervisor, &moves, &hints);
        let steward = tokio::spawn(steward.run()).abort_handle();
        let common = gates::Common {
            doors: doors.clone(),
            clock: clock.clone(),
            peers: peers.clone(),
            hints: hints.clone(),
            metrics: metrics.clone(),
        };
        let gates = Gates::start(&options.gates, common);
        let handle = Handle::new(handle::Inner {
            doors: doors.clone(),
            hub: hub.clone(),
            followers,
            ledger: ledger.clone(),
            clock,
            leases: leases.clone(),
            mirror: mirror.clone(),
            resyncs: tokio::sync::Mutex::default(),
            ledger_ack_timeout: options.ledger_ack_timeout,
            metrics,
            peers,
            hints,
            arrivals: Arrivals::new(restorer, supervisor.clone()),
            gates,
        });
        let tasks = vec![mirror_task, renewal, pulse, steward];
        Ok(Self { handle, moves, doors, leases, ledger, writer, mirror, hub, supervisor, tasks })
    }

    /// The door to the shards.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Moves of shards from this node to others.
    #[must_use]
    pub fn moves(&self) -> Moves {
        self.moves.clone()
    }

    /// Stops deciding, flushes, answers what waits, gives the leases back. Takes at most about `grace`.
    pub async fn shutdown(self, grace: Duration) -> ShutdownReport {
        let deadline = Instant::now() + grace;
        self.leases.stop();
        self.hub.end();
        let actors: Vec<_> = self.doors.iter().filter_map(Door::actor).collect();
        for door in self.doors.iter() {
            door.show(Route::Stopped);
        }
        let (reply, serving) = oneshot::channel();
        if self.supervisor.send_message(supervisor::Message::Stop(reply)).is_err() {
            tracing::error!("the supervisor is gone");
        }
        let cells = serving.await.unwrap_or_default();

        // A command that waited for an entry may add one when its turn comes: ask until all is quiet.
        let mut unflushed = self.owed(&actors, deadline).await;
        while unflushed > 0 && Instant::now() < deadline {
            tokio::time::sleep(FLUSH_POLL).await;
            unflushed = self.owed(&actors, deadline).await;
        }
        for cell in cells {
            cell.stop(Some("shutdown".into()));
        }
        let mirror_deadline = deadline.min(Instant::now() + MIRROR_PATIENCE);
        while !self.mirror.is_idle() && Instant::now() < mirror_deadline {
            tokio::time::sleep(FLUSH_POLL).await;
        }
        for task in &self.tasks {
            task.abort();
        }
        self.supervisor.stop(None);
        let released = if unflushed == 0 { self.release(deadline).await } else { 0 };
        ShutdownReport { unflushed, released }
    }

    /// Ends as a process that is killed. For drills: nothing is flushed, nobody is told.
    #[doc(hidden)]
    pub fn kill(self) {
        for task in &self.tasks {
            task.abort();
        }
        self.leases.stop();
        self.supervisor.kill();
    }

    /// Entries that are not durable and answers that are owed.
    async fn owed(&self, actors: &[ActorRef<shard::Message>], deadline: Instant) -> usize {
        let mut owed = 0;
        for actor in actors {
            let (reply, answer) = oneshot::channel();
            // A shard that died owes nothing: its clients have been told.
            if actor.send_message(shard::Message::Owed(reply)).is_ok() {
                owed += match tokio::time::timeout_at(deadline, answer).await {
                    Ok(answer) => answer.unwrap_or(0),
                    Err(_) => 1,
                };
            }
        }
        let backlog = tokio::time::timeout_at(deadline, self.writer.backlog()).await;
        owed.max(backlog.unwrap_or(owed))
    }

    /// Not after an incomplete flush: what is in flight would then race the next owner to its fence.
    async fn release(&self, deadline: Instant) -> usize {
        let held = self.leases.held();
        let patience = deadline.max(Instant::now() + RELEASE_PATIENCE);
        match tokio::time::timeout_at(patience, self.ledger.release(&held)).await {
            Ok(Ok(())) => held.len(),
            Ok(Err(error)) => {
                tracing::warn!(%error, "the leases were not given back; they run out by themselves");
                0
            }
            Err(_) => {
                tracing::warn!("the leases were not given back in time; they run out by themselves");
                0
            }
        }
    }
}

impl Options {
    fn restorer(&self, mirror: &Mirroring, clock: &LedgerClock, leases: &Leases) -> Restorer {
        Restorer {
            ledger: self.ledger.clone(),
            mirror: mirror.clone(),
            clock: clock.clone(),
            leases: leases.clone(),
            settings: self.settings,
            mirror_restore_timeout: self.mirror_restore_timeout,
            metrics: self.metrics.clone(),
            room: Arc::new(Semaphore::new(restore::CONCURRENT)),
        }
    }

    fn steward(
        &self,
        leases: &Leases,
        supervisor: &ActorRef<supervisor::Message>,
        moves: &Moves,
        hints: &Hints,
    ) -> Steward {
        Steward {
            me: self.ledger.me(),
            ledger: self.ledger.clone(),
            peers: self.peers.clone(),
            leases: leases.clone(),
            supervisor: supervisor.clone(),
            moves: moves.clone(),
            hints: hints.clone(),
            shards: self.shards,
            ttl: self.lease.ttl,
            rebalance: self.rebalance,
        }
    }

    fn check(&self) -> Result<(), StartError> {
        let LeaseSettings { ttl, renew, margin } = self.lease;
        if self.shards == 0 {
            return Err(StartError::NoShards);
        }
        if renew.is_zero() || renew + margin >= ttl {
            return Err(StartError::Lease { ttl, renew, margin });
        }
        Ok(())
    }
}
