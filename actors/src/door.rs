//! The way into a shard, whoever serves it at the moment.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use engine::limits::{LEDGER_REPLIES, UNDECIDED_COMMANDS};
use engine::{Epoch, OptionId, ShardId, Unavailable};
use ractor::ActorRef;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use crate::handle::{Answer, Ask, ShardStatus};
use crate::inbox::Inbox;
use crate::leases::Lease;
use crate::observe::ShardGauges;
use crate::permits::{Permit, Pool};
use crate::ports::Owner;
use crate::shard::{Asked, Message};

/// One door per shard, by shard.
pub(crate) type Doors = Arc<[Door]>;

/// The door of one shard.
pub(crate) struct Door {
    pub gauges: Arc<ShardGauges>,
    /// The options that feed and mirror follow for this shard.
    pub options: Arc<Mutex<BTreeSet<OptionId>>>,
    pub route: watch::Sender<Route>,
}

/// Where commands of a shard go now.
#[derive(Clone, Debug)]
pub(crate) enum Route {
    /// Nobody serves it, as far as this node knows, or this node is restoring it.
    Starting,
    /// It is about to serve here: another node is giving it.
    Arriving,
    Serving {
        epoch: Epoch,
        actor: ActorRef<Message>,
        inbox: Arc<Inbox<Asked>>,
        lease: Lease,
    },
    /// Another node has it.
    Elsewhere {
        epoch: Epoch,
        owner: Arc<Owner>,
    },
    Stopped,
}

impl Door {
    pub fn new(shard: ShardId) -> Self {
        let gauges = ShardGauges {
            shard: shard.0,
            undecided: Pool::new(UNDECIDED_COMMANDS),
            owed: Pool::new(LEDGER_REPLIES),
            soft_locks: AtomicUsize::new(0),
            holds: AtomicUsize::new(0),
            epoch: AtomicU64::new(0),
        };
        Self { gauges: Arc::new(gauges), options: Arc::default(), route: watch::Sender::new(Route::Starting) }
    }

    /// Where commands go from now on.
    pub fn show(&self, route: Route) {
        if !matches!(route, Route::Serving { .. }) {
            self.gauges.epoch.store(0, Ordering::Relaxed);
            self.gauges.soft_locks.store(0, Ordering::Relaxed);
            self.gauges.holds.store(0, Ordering::Relaxed);
        }
        self.route.send_replace(route);
    }

    pub fn actor(&self) -> Option<ActorRef<Message>> {
        match &*self.route.borrow() {
            Route::Serving { actor, .. } => Some(actor.clone()),
            Route::Starting | Route::Arriving | Route::Elsewhere { .. } | Route::Stopped => None,
        }
    }

    /// Whether it is served here.
    pub fn is_serving(&self) -> bool {
        matches!(*self.route.borrow(), Route::Serving { .. })
    }

    /// Whom to ask instead.
    pub fn elsewhere(&self) -> Option<(Epoch, Arc<Owner>)> {
        match &*self.route.borrow() {
            Route::Elsewhere { epoch, owner } => Some((*epoch, owner.clone())),
            Route::Starting | Route::Arriving | Route::Serving { .. } | Route::Stopped => None,
        }
    }

    /// Waits while the shard is about to serve here, at most until `deadline`.
    pub async fn arrived(&self, deadline: Instant) {
        if matches!(*self.route.borrow(), Route::Arriving) {
            // Late or gone: the command is then answered as if nobody served.
            self.wait_for(|route| !matches!(route, Route::Arriving), deadline).await;
        }
    }

    /// Waits for a route that is so, at most until `deadline`.
    pub async fn wait_for(&self, is_so: impl FnMut(&Route) -> bool, deadline: Instant) {
        let mut route = self.route.subscribe();
        // Whoever waits looks at the route anew.
        let _came = tokio::time::timeout_at(deadline, route.wait_for(is_so)).await;
    }

    pub fn status(&self) -> ShardStatus {
        match &*self.route.borrow() {
            Route::Serving { epoch, .. } => ShardStatus::Serving(*epoch),
            Route::Starting | Route::Arriving => ShardStatus::Starting,
            Route::Elsewhere { epoch, owner } => ShardStatus::Elsewhere(*epoch, owner.clone()),
            Route::Stopped => ShardStatus::Stopped,
        }
    }

    pub async fn click(&self, ask: Ask, deadline: Instant) -> Answer {
        let Some(undecided) = self.gauges.undecided.take() else {
            return Answer::unavailable(Unavailable::Overloaded);
        };
        let (reply, answer) = oneshot::channel();
        self.ask(Asked { ask, deadline, reply, undecided, owed: None });
        answer.await.unwrap_or_else(|_| Answer::unavailable(Unavailable::Overloaded))
    }

    pub async fn ledger_command(&self, ask: Ask, deadline: Instant, patience: Instant) -> Answer {
        let Some(owed) = self.gauges.owed.take() else { return Answer::unavailable(Unavailable::Ledger) };
        let Some(undecided) = self.gauges.undecided.take() else {
            return Answer::unavailable(Unavailable::Overloaded);
        };
        let (reply, answer) = oneshot::channel();
        if !self.ask(Asked { ask, deadline, reply, undecided, owed: Some(owed) }) {
            return Answer::unavailable(Unavailable::Overloaded);
        }
        match tokio::time::timeout_at(patience, answer).await {
            Ok(Ok(answer)) => answer,
            // The actor died with the command: whether it was decided is for the key to tell.
            Ok(Err(_)) | Err(_) => Answer::unavailable(Unavailable::Ledger),
        }
    }

    pub async fn read<T>(
        &self,
        message: impl FnOnce(oneshot::Sender<T>, Permit) -> Message,
    ) -> Result<T, Unavailable> {
        let permit = self.gauges.undecided.take().ok_or(Unavailable::Overloaded)?;
        let (reply, answer) = oneshot::channel();
        self.send(message(reply, permit));
        answer.await.map_err(|_| Unavailable::Overloaded)
    }

    /// Whether somebody is there to decide it.
    fn ask(&self, asked: Asked) -> bool {
        match &*self.route.borrow() {
            Route::Serving { actor, inbox, .. } => {
                let told = !inbox.push(asked) || actor.send_message(Message::Asks).is_ok();
                if !told {
                    inbox.clear();
                }
                told
            }
            Route::Starting | Route::Arriving | Route::Elsewhere { .. } | Route::Stopped => false,
        }
    }

    /// Whether somebody was there to take it. A message that nobody takes is dropped with its permits.
    pub fn send(&self, message: Message) -> bool {
        match &*self.route.borrow() {
            Route::Serving { actor, .. } => actor.send_message(message).is_ok(),
            Route::Starting | Route::Arriving | Route::Elsewhere { .. } | Route::Stopped => false,
        }
    }
}
