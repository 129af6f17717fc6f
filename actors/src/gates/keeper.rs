//! Which gates are here: those of the shards that are. One task a shard.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use engine::command::{Authority, Caller};
use engine::gate::draw::Seed;
use engine::gate::{Gate, Policy, Settings, Snapshot, State};
use engine::option::PolicyChange;
use engine::{Command, ConcertId, Epoch, Granted, OpNo, Outcome, ShardId, UserId};
use ractor::{Actor, ActorRef};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::actor::{Asked, GateActor, Message, Start, TellShard, agree};
use super::draws::BeaconChain;
use super::here::{Entry, Here};
use super::hub::{Board, Hub};
use super::ports::{Fence, GateLedger, GateMirror, GateRow};
use crate::clock::LedgerClock;
use crate::door::{Doors, Route};
use crate::handle::{Ask, ShardStatus};
use crate::inbox::Inbox;
use crate::leases::Lease;
use crate::observe::{GateGauges, Metrics};
use crate::permits::Pool;
use crate::shard;

/// Questions to one gate that are not answered.
const UNANSWERED: usize = 1 << 16;

/// Gates of one shard that are read from the mirror at the same time.
const TAKE_OVERS: usize = 8;

/// How long a line may take to be read from a mirror that answers.
const READ: Duration = Duration::from_secs(60);

/// How long to wait before the ledger is asked again which gates there are.
const AGAIN: Duration = Duration::from_millis(200);

/// How long the shard may take to make durable whether its commands need a pass.
const SHARD: Duration = Duration::from_secs(5);

/// Whom a gate whose copy is fenced waits for: the shard's own end should come, or it is restored.
const FENCED: Duration = Duration::from_secs(10);

/// What gates are given.
#[derive(Clone)]
pub struct GateOptions {
    pub ledger: Arc<dyn GateLedger>,
    pub mirror: Arc<dyn GateMirror>,
    pub settings: Settings,
    /// Whose rounds decide draws; `None`: the operator is trusted.
    pub beacon: Option<BeaconChain>,
    /// 32 bytes that nobody can guess.
    pub random: fn() -> Seed,
    /// How often everybody is told where the line is.
    pub tick: Duration,
    /// How long a gate waits for a mirror that does not answer at a take-over before it begins empty.
    pub restore_timeout: Duration,
}

impl GateOptions {
    /// With every setting at its default, and no beacon.
    #[must_use]
    pub fn new(ledger: Arc<dyn GateLedger>, mirror: Arc<dyn GateMirror>, random: fn() -> Seed) -> Self {
        Self {
            ledger,
            mirror,
            settings: Settings::default(),
            beacon: None,
            random,
            tick: Duration::from_millis(500),
            restore_timeout: Duration::from_secs(5),
        }
    }
}

/// What every keeper needs.
#[derive(Clone)]
pub(super) struct Needs {
    pub options: GateOptions,
    pub doors: Doors,
    pub clock: LedgerClock,
    pub hub: Arc<Hub>,
    pub here: Arc<Here>,
    pub metrics: Metrics,
}

/// A gate that is off, or that nobody ever set, is wanted.
pub(super) struct Wish {
    pub concert: ConcertId,
    pub done: oneshot::Sender<()>,
}

/// A shard that serves here, in one epoch.
#[derive(Clone)]
struct Served {
    shard: ShardId,
    epoch: Epoch,
    actor: ActorRef<shard::Message>,
    lease: Lease,
}

/// Keeps the gates of one shard, for as long as there is somebody to wish for one.
pub(super) async fn keep(shard: ShardId, needs: Needs, mut wishes: mpsc::UnboundedReceiver<Wish>) {
    let mut route = needs.doors[usize::from(shard.0)].route.subscribe();
    loop {
        let served = match &*route.borrow_and_update() {
            Route::Serving { epoch, actor, lease, .. } => {
                Some(Served { shard, epoch: *epoch, actor: actor.clone(), lease: lease.clone() })
            }
            Route::Starting | Route::Arriving | Route::Elsewhere { .. } | Route::Stopped => None,
        };
        if let Some(served) = served {
            let (gates, ends) = (HashMap::new(), JoinSet::new());
            let mut keeping = Keeping { needs: &needs, served, gates, ends };
            let why = keeping.run(&mut route, &mut wishes).await;
            keeping.end();
            match why {
                Why::Over => {}
                Why::Unwanted => return,
            }
        } else {
            tokio::select! {
                changed = route.changed() => if changed.is_err() {
                    return;
                },
                wish = wishes.recv() => if wish.is_none() {
                    return;
                },
            }
        }
    }
}

/// Why a shard's gates are not kept any more.
enum Why {
    /// The shard serves no more, or in another epoch.
    Over,
    /// Nobody can ask for them.
    Unwanted,
}

/// One shard's gates, in one epoch.
struct Keeping<'a> {
    needs: &'a Needs,
    served: Served,
    gates: HashMap<ConcertId, (ActorRef<Message>, Arc<Board>)>,
    /// Whose actors have ended, and whether because somebody else has the mirror's copy.
    ends: JoinSet<(ConcertId, bool)>,
}

impl Keeping<'_> {
    async fn run(
        &mut self,
        route: &mut watch::Receiver<Route>,
        wishes: &mut mpsc::UnboundedReceiver<Wish>,
    ) -> Why {
        let Served { shard, epoch, .. } = self.served;
        let begun = tokio::select! {
            begun = self.begin() => begun,
            () = over(route, epoch) => return Why::Over,
        };
        if let Err(NotStarted(concert)) = begun {
            return self.restore_shard(concert, false, route).await;
        }
        self.needs.here.set_whole(shard, Some(epoch));
        let (concert, is_fenced) = loop {
            tokio::select! {
                () = over(route, epoch) => return Why::Over,
                wish = wishes.recv() => {
                    let Some(Wish { concert, done }) = wish else { return Why::Unwanted };
                    if self.fulfil(concert).await.is_err() {
                        break (concert, false);
                    }
                    let _waits = done.send(());
                }
                Some(Ok(ended)) = self.ends.join_next(), if !self.ends.is_empty() => break ended,
            }
        };
        self.restore_shard(concert, is_fenced, route).await
    }

    /// Brings up every gate that is set and not off.
    async fn begin(&mut self) -> Result<(), NotStarted> {
        let rows = loop {
            match self.needs.options.ledger.gates(self.served.shard).await {
                Ok(rows) => break rows,
                Err(error) => {
                    tracing::warn!(shard = %self.served.shard, %error, "the gates of the shard cannot be read");
                    sleep(AGAIN).await;
                }
            }
        };
        // All of them wait for the mirror together.
        let until = Instant::now() + self.needs.options.restore_timeout;
        let room = Arc::new(Semaphore::new(TAKE_OVERS));
        let mut copies = JoinSet::new();
        for row in rows {
            if row.policy.state == State::Off {
                tokio::spawn(agree(Arc::new(self.door()), row.concert, State::Off));
                continue;
            }
            let (needs, epoch, room) = (self.needs.clone(), self.served.epoch, room.clone());
            copies.spawn(async move {
                // The semaphore is never closed; without a permit there is only less order.
                let _room = room.acquire_owned().await;
                (row, take_over(&needs, row.concert, epoch, until).await)
            });
        }
        while let Some(Ok((row, copy))) = copies.join_next().await {
            self.bring_up(row.concert, Some(row), copy).await?;
        }
        Ok(())
    }

    /// Brings up a gate that is off, or that nobody ever set.
    async fn fulfil(&mut self, concert: ConcertId) -> Result<(), NotStarted> {
        if self.gates.contains_key(&concert) {
            return Ok(());
        }
        match self.needs.options.ledger.gate(concert).await {
            Ok(row) => {
                let until = Instant::now() + self.needs.options.restore_timeout;
                let copy = take_over(self.needs, concert, self.served.epoch, until).await;
                self.bring_up(concert, row, copy).await
            }
            Err(error) => {
                // Whoever wished finds nothing, and may wish again.
                tracing::warn!(%concert, %error, "how a gate is set cannot be read");
                Ok(())
            }
        }
    }

    async fn bring_up(
        &mut self,
        concert: ConcertId,
        row: Option<GateRow>,
        copy: Copied,
    ) -> Result<(), NotStarted> {
        let Needs { options, clock, hub, here, metrics, .. } = self.needs;
        let Served { shard, epoch, lease, actor, .. } = &self.served;
        let (snapshot, copied) = copy;
        let mut gate = Box::new(Gate::new(concert, *epoch, options.settings));
        let policy = row.map_or_else(Policy::default, |row| row.policy);
        let left_out = gate.restore(clock.now(), policy, &snapshot);
        if left_out > 0 {
            tracing::warn!(%concert, left_out, "not everything that the mirror kept of a gate fits it");
        }
        drop(snapshot);
        let inbox = Arc::new(Inbox::default());
        let (live, mut passes) = oneshot::channel();
        let is_fenced = Arc::new(AtomicBool::new(false));
        let board = hub.board(*shard, concert);
        let start = Start {
            gate,
            row,
            settings: options.settings,
            fence: Fence { shard: *shard, epoch: *epoch },
            copied,
            inbox: inbox.clone(),
            lease: lease.clone(),
            clock: clock.clone(),
            board: board.clone(),
            mirror: options.mirror.clone(),
            ledger: options.ledger.clone(),
            shard: Arc::new(self.door()),
            gauges: GateGauges::new(metrics, concert),
            beacon: options.beacon,
            random: options.random,
            tick: options.tick,
            live,
            is_fenced: is_fenced.clone(),
        };
        let (gate, ended) = GateActor::spawn(None, GateActor, start).await.map_err(|error| {
            tracing::error!(%concert, %error, "a gate did not start");
            NotStarted(concert)
        })?;
        self.ends.spawn(end_of(concert, ended, inbox.clone(), is_fenced));
        self.gates.insert(concert, (gate.clone(), board));
        // A gate that has started has sent them.
        if let Ok(passes) = passes.try_recv() {
            // A shard that is gone takes its gates with it.
            let _lives = actor.send_message(shard::Message::Gate(concert, passes));
        }
        here.open(concert, Entry { epoch: *epoch, actor: gate, inbox, room: Pool::new(UNANSWERED) });
        Ok(())
    }

    /// A gate that has stopped comes back with its shard, under a new epoch. Where its copy is fenced, the shard is on its
    /// way to another node, or there: that it ends here is then not the gate's business.
    async fn restore_shard(
        &mut self,
        concert: ConcertId,
        is_fenced: bool,
        route: &mut watch::Receiver<Route>,
    ) -> Why {
        let Served { shard, epoch, .. } = self.served;
        // First of all: a gate that is not there is not one that is off.
        self.needs.here.set_whole(shard, None);
        self.needs.here.close(concert, epoch);
        let patience = if is_fenced { FENCED } else { Duration::ZERO };
        if timeout(patience, over(route, epoch)).await.is_ok() {
            return Why::Over;
        }
        tracing::error!(%shard, %concert, "a gate has stopped; restoring it with its shard");
        let _lives = self.served.actor.send_message(shard::Message::Halt(shard::Halt::Gate));
        over(route, epoch).await;
        Why::Over
    }

    fn door(&self) -> ShardDoor {
        ShardDoor { shard: self.served.shard, epoch: self.served.epoch, doors: self.needs.doors.clone() }
    }

    fn end(self) {
        let Served { shard, epoch, .. } = self.served;
        self.needs.here.set_whole(shard, None);
        for (concert, (gate, board)) in self.gates {
            self.needs.here.close(concert, epoch);
            board.serve(false);
            gate.stop(Some("the shard has ended".to_owned()));
        }
    }
}

/// A bug kept a gate's actor from starting: the shard is restored, which tries again.
struct NotStarted(ConcertId);

/// Returns when the shard serves no more, or in another epoch.
async fn over(route: &mut watch::Receiver<Route>, epoch: Epoch) {
    let is_over = |route: &Route| !matches!(route, Route::Serving { epoch: now, .. } if *now == epoch);
    // Without doors it is over as well.
    drop(route.wait_for(is_over).await);
}

async fn end_of(
    concert: ConcertId,
    ended: JoinHandle<()>,
    inbox: Arc<Inbox<Asked>>,
    is_fenced: Arc<AtomicBool>,
) -> (ConcertId, bool) {
    // However it ended.
    let _ended = ended.await;
    // Whatever the keeper waits for: nobody looks at a deadline here any more. Who comes later finds the door shut.
    inbox.clear();
    (concert, is_fenced.load(Ordering::Acquire))
}

/// What the mirror has of a gate, and where its copy stands then; without it, nothing, and why.
type Copied = (Snapshot, Result<OpNo, String>);

async fn take_over(needs: &Needs, concert: ConcertId, epoch: Epoch, until: Instant) -> Copied {
    let mirror = &needs.options.mirror;
    let mut why = "it does not answer".to_owned();
    loop {
        match timeout_at(until, mirror.ping()).await {
            // It is there: a line of a million may take longer than one waits for somebody who is not.
            Ok(Ok(())) => match timeout(READ, mirror.take_over(concert, epoch, needs.clock.now())).await {
                Ok(Ok(snapshot)) => return (snapshot, Ok(OpNo(0))),
                Ok(Err(error)) => why = error.0,
                Err(_) => why = "a line takes for ever".to_owned(),
            },
            Ok(Err(error)) => why = error.0,
            Err(_) => break,
        }
        if timeout_at(until, sleep(AGAIN)).await.is_err() {
            break;
        }
    }
    tracing::error!(%concert, why, "the gate begins without what its mirror kept");
    (Snapshot::default(), Err(why))
}

/// The way to a gate's shard on this node, in the gate's epoch.
struct ShardDoor {
    shard: ShardId,
    epoch: Epoch,
    doors: Doors,
}

#[async_trait]
impl TellShard for ShardDoor {
    async fn needs_pass(&self, concert: ConcertId, needs: bool) -> bool {
        let door = &self.doors[usize::from(self.shard.0)];
        if !matches!(door.status(), ShardStatus::Serving(epoch) if epoch == self.epoch) {
            // Whoever serves it next agrees with its own shard.
            return true;
        }
        let change = PolicyChange { reservations_per_user: None, gate: Some(needs) };
        let command = Command::SetPolicy { concert, change };
        let caller = Caller { user: UserId(0), authority: Authority::Any };
        let ask = Ask { caller, key: None, pass: None, command };
        let patience = Instant::now() + SHARD;
        let answer = door.ledger_command(ask, patience, patience).await;
        matches!(answer.outcome, Outcome::Granted(Granted::Done))
    }
}
