//! The root of the tree: every shard of this node is being restored, expected from another node, or served. Whoever
//! halts or crashes is restored under a new epoch; whoever is lost or given away is stopped. Which shards are this
//! node's to take the steward says; whose the others are is shown at their doors.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use engine::{Epoch, ShardId};
use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::arrivals::Told;
use crate::door::{Door, Doors, Route};
use crate::feed::Hub;
use crate::followers::Followers;
use crate::inbox::Inbox;
use crate::lock::lock;
use crate::mirror::Mirroring;
use crate::observe::Metrics;
use crate::peers::Peers;
use crate::ports::Owner;
use crate::restore::{Claim, Ready, Restorer};
use crate::shard::{self, ShardActor, Start};
use crate::steward::Hints;
use crate::writer::Writer;

/// A shard that served for so long has no failures to answer for.
const FORGIVEN_AFTER: Duration = Duration::from_secs(30);

pub enum Message {
    /// Bring the shard up, unless it is here already.
    Take(ShardId, Claim),
    /// A restore is over. Nothing: the shard is somebody else's.
    Ready(ShardId, Option<Ready>),
    /// Somebody else is to be asked about the shard, or nobody.
    Rerouted(ShardId),
    /// Another node wants to give the shard, which it has in this epoch. Answered with whether it may; whoever takes it
    /// in hears then when this node wants to have it in another way, and who else has it.
    Expect { shard: ShardId, epoch: Epoch, told: mpsc::UnboundedSender<Told>, reply: oneshot::Sender<bool> },
    /// Its state is here: commands that come wait for it. Answered when they do.
    Held(ShardId, oneshot::Sender<()>),
    /// Nothing came of it.
    Declined(ShardId),
    /// The ledger gave the shard to another node.
    Moved { shard: ShardId, epoch: Epoch, next: Epoch, to: Arc<Owner> },
    /// It is this node's in a new epoch; the actor that served the old one halts.
    Raised(ShardId, Epoch),
    /// The lease is somebody else's.
    Lost(ShardId, Epoch),
    /// Nothing is restored any more. Answered with the actors that serve.
    Stop(oneshot::Sender<Vec<ActorCell>>),
}

/// For this process only: nothing of it is ever sent to a peer.
impl ractor::Message for Message {}

pub struct Supervisor;

/// What the supervisor gives its children.
pub struct Tree {
    pub restorer: Restorer,
    pub doors: Doors,
    pub writer: Writer,
    pub mirror: Mirroring,
    pub hub: Arc<Hub>,
    pub followers: Arc<Followers>,
    pub metrics: Metrics,
    pub peers: Arc<dyn Peers>,
    pub hints: Hints,
}

pub struct State {
    tree: Tree,
    me: ActorRef<Message>,
    children: BTreeMap<ShardId, Child>,
    by_actor: HashMap<ActorId, ShardId>,
    stopping: bool,
}

struct Child {
    /// Failures in a row.
    failures: u32,
    stage: Stage,
}

enum Stage {
    Restoring(AbortHandle),
    /// Another node is giving it.
    Expected(mpsc::UnboundedSender<Told>),
    Serving {
        epoch: Epoch,
        actor: ActorCell,
        since: Instant,
    },
    Stopped,
}

impl Actor for Supervisor {
    type Msg = Message;
    type State = State;
    type Arguments = Tree;

    async fn pre_start(&self, me: ActorRef<Message>, tree: Tree) -> Result<State, ActorProcessingErr> {
        let (children, by_actor) = Default::default();
        Ok(State { tree, me, children, by_actor, stopping: false })
    }

    async fn handle(
        &self,
        _me: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Take(shard, claim) => state.take(shard, claim),
            Message::Ready(shard, Some(ready)) => state.serve(shard, ready).await,
            Message::Ready(shard, None) => state.is_elsewhere(shard),
            Message::Rerouted(shard) => state.reroute(shard),
            Message::Expect { shard, epoch, told, reply } => {
                // Whoever asked may have given up.
                let _waits = reply.send(state.expect(shard, epoch, told));
            }
            Message::Held(shard, shown) => {
                state.hold(shard);
                let _waits = shown.send(());
            }
            Message::Declined(shard) => {
                if matches!(state.children.get(&shard), Some(Child { stage: Stage::Expected(_), .. })) {
                    state.is_elsewhere(shard);
                }
            }
            Message::Moved { shard, epoch, next, to } => state.give(shard, epoch, next, to),
            Message::Raised(shard, epoch) => state.raise(shard, epoch),
            Message::Lost(shard, epoch) => state.lose(shard, epoch),
            Message::Stop(reply) => {
                // Whoever asked is waiting for it in `System::shutdown`.
                let _waits = reply.send(state.stop());
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _me: ActorRef<Message>,
        event: SupervisionEvent,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorFailed(who, error) => state.died(who.get_id(), &error.to_string()),
            SupervisionEvent::ActorTerminated(who, _, why) => {
                state.died(who.get_id(), why.as_deref().unwrap_or("stopped"));
            }
            SupervisionEvent::ActorStarted(_)
            | SupervisionEvent::ProcessGroupChanged(_)
            | SupervisionEvent::PidLifecycleEvent(_) => {}
        }
        Ok(())
    }
}

impl State {
    fn take(&mut self, shard: ShardId, claim: Claim) {
        match self.children.get(&shard).map(|child| &child.stage) {
            None => self.restore(shard, claim, 0),
            Some(Stage::Expected(told)) => {
                // The state that was held is good for one way of getting the shard, and this is another.
                let _lives = told.send(Told::Acquiring);
                self.restore(shard, claim, 0);
            }
            Some(Stage::Restoring(_) | Stage::Serving { .. } | Stage::Stopped) => {}
        }
    }

    /// Starts to bring a shard up, in a task of its own.
    fn restore(&mut self, shard: ShardId, claim: Claim, failures: u32) {
        if self.stopping {
            return;
        }
        self.show(shard, Route::Starting);
        let (restorer, me) = (self.tree.restorer.clone(), self.me.clone());
        let task = tokio::spawn(async move {
            let ready = restorer.bring_up(shard, claim, failures).await;
            // Without a supervisor there is nothing to serve for.
            let _lives = me.send_message(Message::Ready(shard, ready));
        });
        self.children.insert(shard, Child { failures, stage: Stage::Restoring(task.abort_handle()) });
    }

    /// Not this node's, as far as it knows.
    fn is_elsewhere(&mut self, shard: ShardId) {
        self.children.remove(&shard);
        self.show_owner(shard);
    }

    fn reroute(&self, shard: ShardId) {
        match self.children.get(&shard) {
            None => self.show_owner(shard),
            Some(Child { stage: Stage::Expected(told), .. }) => {
                if let Some((epoch, _)) = self.elsewhere(shard) {
                    let _lives = told.send(Told::Elsewhere(epoch));
                }
            }
            Some(_) => {}
        }
    }

    /// Who else has the shard.
    fn elsewhere(&self, shard: ShardId) -> Option<(Epoch, Arc<Owner>)> {
        let me = self.tree.restorer.ledger.me().id;
        // What the ledger says is this node's is about to be brought up, or is lost already.
        self.tree.hints.owner(shard).filter(|(_, owner)| owner.id != me)
    }

    fn show_owner(&self, shard: ShardId) {
        let route = self.elsewhere(shard).map(|(epoch, owner)| Route::Elsewhere { epoch, owner });
        self.show(shard, route.unwrap_or(Route::Starting));
    }

    fn expect(&mut self, shard: ShardId, epoch: Epoch, told: mpsc::UnboundedSender<Told>) -> bool {
        let is_over = self.elsewhere(shard).is_some_and(|(known, _)| known > epoch);
        let is_free = match self.children.get(&shard).map(|child| &child.stage) {
            None => true,
            Some(Stage::Expected(earlier)) => earlier.is_closed(),
            Some(Stage::Restoring(_) | Stage::Serving { .. } | Stage::Stopped) => false,
        };
        let expects = is_free && !is_over && !self.stopping;
        if expects {
            self.children.insert(shard, Child { failures: 0, stage: Stage::Expected(told) });
        }
        expects
    }

    fn hold(&self, shard: ShardId) {
        if matches!(self.children.get(&shard), Some(Child { stage: Stage::Expected(_), .. })) {
            self.show(shard, Route::Arriving);
        }
    }

    async fn serve(&mut self, shard: ShardId, ready: Ready) {
        let Some(child) = self.children.get_mut(&shard) else { return };
        if self.stopping || !matches!(child.stage, Stage::Restoring(_) | Stage::Expected(_)) {
            return;
        }
        let epoch = ready.shard.epoch();
        if !self.tree.restorer.leases.held().contains(&(shard, epoch)) {
            // Lost between the restore and now; the message about it may still be on its way.
            self.is_elsewhere(shard);
            return;
        }
        let door = &self.tree.doors[usize::from(shard.0)];
        let inbox = Arc::new(Inbox::default());
        let lease = ready.lease.clone();
        let start = Start {
            shard: ready.shard,
            inbox: inbox.clone(),
            lease: ready.lease,
            clock: self.tree.restorer.clock.clone(),
            gauges: door.gauges.clone(),
            options: door.options.clone(),
            writer: self.tree.writer.clone(),
            mirror: self.tree.mirror.clone(),
            hub: self.tree.hub.clone(),
            followers: self.tree.followers.clone(),
            metrics: self.tree.metrics.clone(),
            ledger: self.tree.restorer.ledger.clone(),
            peers: self.tree.peers.clone(),
            supervisor: self.me.clone(),
        };
        match ShardActor::spawn_linked(None, ShardActor, start, self.me.get_cell()).await {
            Ok((actor, _)) => {
                tracing::debug!(%shard, %epoch, "serving");
                child.stage = Stage::Serving { epoch, actor: actor.get_cell(), since: Instant::now() };
                self.by_actor.insert(actor.get_id(), shard);
                self.show(shard, Route::Serving { epoch, actor, inbox, lease });
            }
            Err(error) => {
                tracing::error!(%shard, %epoch, %error, "the shard's actor did not start");
                self.tree.metrics.shard_halts().inc();
                let failures = child.failures.saturating_add(1);
                self.restore(shard, Claim::Mine(epoch), failures);
            }
        }
    }

    fn died(&mut self, actor: ActorId, why: &str) {
        let Some(shard) = self.by_actor.remove(&actor) else { return };
        if self.stopping {
            return;
        }
        let Some(Child { failures, stage: Stage::Serving { epoch, since, .. } }) = self.children.get(&shard)
        else {
            return;
        };
        tracing::error!(%shard, %epoch, why, "the shard halted; restoring it under a new epoch");
        self.tree.metrics.shard_halts().inc();
        let served = since.elapsed();
        let failures = if served > FORGIVEN_AFTER { 1 } else { failures.saturating_add(1) };
        let epoch = *epoch;
        self.restore(shard, Claim::Mine(epoch), failures);
    }

    fn lose(&mut self, shard: ShardId, epoch: Epoch) {
        let Some(child) = self.children.get(&shard) else { return };
        match &child.stage {
            Stage::Serving { epoch: served, actor, .. } if *served == epoch => {
                self.by_actor.remove(&actor.get_id());
                actor.stop(Some("lost".into()));
            }
            Stage::Restoring(task) => task.abort(),
            Stage::Expected(_) | Stage::Serving { .. } | Stage::Stopped => return,
        }
        tracing::error!(%shard, %epoch, "the lease is lost; the shard stops here");
        self.close(shard, epoch);
        self.is_elsewhere(shard);
    }

    /// The actor passes on what still reaches it, and ends when nothing more can.
    fn give(&mut self, shard: ShardId, epoch: Epoch, next: Epoch, to: Arc<Owner>) {
        self.tree.restorer.leases.forget(shard, epoch);
        let Some(Child { stage: Stage::Serving { epoch: served, actor, .. }, .. }) =
            self.children.get(&shard)
        else {
            return;
        };
        if *served != epoch {
            return;
        }
        let actor = actor.clone();
        self.by_actor.remove(&actor.get_id());
        self.children.remove(&shard);
        self.close(shard, epoch);
        let door = self.door(shard).actor();
        self.tree.hints.gave(shard, next, to);
        self.show_owner(shard);
        // Behind everything that was sent before the door showed the new owner.
        if let Some(actor) = door {
            let _lives = actor.send_message(shard::Message::Retire);
        }
    }

    fn raise(&mut self, shard: ShardId, raised: Epoch) {
        if let Some(Child { stage: Stage::Serving { epoch, .. }, .. }) = self.children.get_mut(&shard) {
            *epoch = raised;
        }
    }

    /// The options of the shard are followed from elsewhere now.
    fn close(&self, shard: ShardId, epoch: Epoch) {
        let mut options = lock(&self.door(shard).options);
        for option in std::mem::take(&mut *options) {
            self.tree.mirror.close(option, epoch);
        }
    }

    fn stop(&mut self) -> Vec<ActorCell> {
        self.stopping = true;
        let mut serving = Vec::new();
        for child in self.children.values_mut() {
            match std::mem::replace(&mut child.stage, Stage::Stopped) {
                Stage::Restoring(task) => task.abort(),
                Stage::Serving { actor, .. } => serving.push(actor),
                Stage::Expected(_) | Stage::Stopped => {}
            }
        }
        serving
    }

    fn show(&self, shard: ShardId, route: Route) {
        self.door(shard).show(route);
    }

    fn door(&self, shard: ShardId) -> &Door {
        &self.tree.doors[usize::from(shard.0)]
    }
}
