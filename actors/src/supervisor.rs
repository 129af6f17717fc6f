//! The root of the tree: every shard is being restored or served. Whoever halts or crashes is restored
//! under a new epoch; whoever is lost is stopped now and waits for its lease like any other node.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use engine::{Epoch, ShardId};
use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::feed::Hub;
use crate::followers::Followers;
use crate::handle::{Door, Doors, Route};
use crate::inbox::Inbox;
use crate::lock::lock;
use crate::mirror::Mirroring;
use crate::observe::Metrics;
use crate::restore::{Ready, Restorer};
use crate::shard::{ShardActor, Start};
use crate::writer::Writer;

/// A shard that served for so long has no failures to answer for.
const FORGIVEN_AFTER: Duration = Duration::from_secs(30);

pub enum Message {
    /// A restore is done.
    Ready(ShardId, Ready),
    /// The lease is somebody else's.
    Lost(ShardId, Epoch),
    /// Nothing is restored any more. Answered with the actors that serve.
    Stop(oneshot::Sender<Vec<ActorCell>>),
}

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
    Serving { epoch: Epoch, actor: ActorCell, since: Instant },
    Stopped,
}

impl Actor for Supervisor {
    type Msg = Message;
    type State = State;
    type Arguments = Tree;

    async fn pre_start(&self, me: ActorRef<Message>, tree: Tree) -> Result<State, ActorProcessingErr> {
        let mut state =
            State { tree, me, children: BTreeMap::new(), by_actor: HashMap::new(), stopping: false };
        let shards = state.tree.doors.len();
        for (shard, _) in (0..).map(ShardId).zip(0..shards) {
            state.restore(shard, None, 0);
        }
        Ok(state)
    }

    async fn handle(
        &self,
        _me: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Ready(shard, ready) => state.serve(shard, ready).await,
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
            SupervisionEvent::ActorStarted(_) | SupervisionEvent::ProcessGroupChanged(_) => {}
        }
        Ok(())
    }
}

impl State {
    /// Starts to bring a shard up, in a task of its own.
    fn restore(&mut self, shard: ShardId, mine: Option<Epoch>, failures: u32) {
        self.show(shard, Route::Starting);
        let (restorer, me) = (self.tree.restorer.clone(), self.me.clone());
        let task = tokio::spawn(async move {
            let ready = restorer.bring_up(shard, mine, failures).await;
            // Without a supervisor there is nothing to serve for.
            let _lives = me.send_message(Message::Ready(shard, ready));
        });
        self.children.insert(shard, Child { failures, stage: Stage::Restoring(task.abort_handle()) });
    }

    async fn serve(&mut self, shard: ShardId, ready: Ready) {
        let Some(child) = self.children.get_mut(&shard) else { return };
        if self.stopping || !matches!(child.stage, Stage::Restoring(_)) {
            return;
        }
        let epoch = ready.shard.epoch();
        if !self.tree.restorer.leases.held().contains(&(shard, epoch)) {
            // Lost between the restore and now; the message about it may still be on its way.
            let failures = child.failures;
            self.restore(shard, None, failures);
            return;
        }
        let door = &self.tree.doors[usize::from(shard.0)];
        let inbox = Arc::new(Inbox::default());
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
        };
        match ShardActor::spawn_linked(None, ShardActor, start, self.me.get_cell()).await {
            Ok((actor, _)) => {
                tracing::debug!(%shard, %epoch, "serving");
                child.stage = Stage::Serving { epoch, actor: actor.get_cell(), since: Instant::now() };
                self.by_actor.insert(actor.get_id(), shard);
                self.show(shard, Route::Serving { epoch, actor, inbox });
            }
            Err(error) => {
                tracing::error!(%shard, %epoch, %error, "the shard's actor did not start");
                self.tree.metrics.shard_halts().inc();
                let failures = child.failures.saturating_add(1);
                self.restore(shard, Some(epoch), failures);
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
        self.restore(shard, Some(epoch), failures);
    }

    fn lose(&mut self, shard: ShardId, epoch: Epoch) {
        let Some(child) = self.children.get(&shard) else { return };
        match &child.stage {
            Stage::Serving { epoch: served, actor, .. } if *served == epoch => {
                self.by_actor.remove(&actor.get_id());
                actor.stop(Some("lost".into()));
            }
            Stage::Restoring(task) => task.abort(),
            Stage::Serving { .. } | Stage::Stopped => return,
        }
        tracing::error!(%shard, %epoch, "the lease is lost; the shard stops here");
        let mut options = lock(&self.door(shard).options);
        for option in std::mem::take(&mut *options) {
            self.tree.hub.close(option, epoch);
            self.tree.mirror.close(option, epoch);
        }
        drop(options);
        self.restore(shard, None, 0);
    }

    fn stop(&mut self) -> Vec<ActorCell> {
        self.stopping = true;
        let mut serving = Vec::new();
        for child in self.children.values_mut() {
            match std::mem::replace(&mut child.stage, Stage::Stopped) {
                Stage::Restoring(task) => task.abort(),
                Stage::Serving { actor, .. } => serving.push(actor),
                Stage::Stopped => {}
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
