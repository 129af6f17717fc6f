//! Questions to gates that another node owns: they go there, and come back with its answer.

use engine::Unavailable;
use tokio::time::Instant;

use super::ask::{GateAsk, GateForward, GateReply, GateSaid};
use super::{Gates, Way};
use crate::door::Route;
use crate::forward::NEWS;
use crate::ports::Owner;

impl Gates {
    /// The owner's answer, wherever it is. What is asked of a gate may be asked twice, so that a question whose owner fell
    /// silent is sent again until the caller's deadline; but not how it is to be set, which somebody else may have done since.
    pub(super) async fn answered(&self, forward: GateForward) -> Result<GateSaid, Unavailable> {
        loop {
            let owner = match self.way(forward.shard) {
                Some(Way::Here(epoch)) => return self.answered_here(epoch, forward).await,
                Some(Way::There(owner)) => owner,
                None => {
                    self.other_than(&forward, None).await;
                    if self.way(forward.shard).is_none() {
                        return Err(Unavailable::Overloaded);
                    }
                    continue;
                }
            };
            match self.inner.peers.ask_gate(&owner, forward.clone()).await {
                Ok(GateReply::Said(said)) => return said,
                Ok(GateReply::NotOwner(hint)) => self.inner.hints.tell(forward.shard, hint),
                Ok(GateReply::NotSent) => return Err(Unavailable::Overloaded),
                Err(_) => {
                    self.inner.hints.tell(forward.shard, None);
                    if matches!(forward.ask, GateAsk::Set { .. }) {
                        return Err(forward.ask.unknown());
                    }
                }
            }
            self.other_than(&forward, Some(&owner)).await;
        }
    }

    /// Decides for another node what it forwards; `say` hears the answer.
    pub fn decide_for(&self, forward: GateForward, say: impl FnOnce(GateReply) + Send + 'static) {
        match self.way(forward.shard) {
            Some(Way::Here(epoch)) => {
                let gates = self.clone();
                tokio::spawn(async move {
                    say(GateReply::Said(gates.answered_here(epoch, forward).await));
                });
            }
            Some(Way::There(owner)) => {
                let door = &self.inner.doors[usize::from(forward.shard.0)];
                let elsewhere = door.elsewhere().map(|(epoch, _)| (epoch, Owner::clone(&owner)));
                say(GateReply::NotOwner(elsewhere));
            }
            None => say(GateReply::NotOwner(None)),
        }
    }

    /// Waits a moment for another way than to that owner, or than none.
    async fn other_than(&self, forward: &GateForward, owner: Option<&Owner>) {
        let Some(door) = self.inner.doors.get(usize::from(forward.shard.0)) else { return };
        let is_news = |route: &Route| match (route, owner) {
            (Route::Elsewhere { owner: known, .. }, Some(owner)) => known.id != owner.id,
            (Route::Serving { .. } | Route::Elsewhere { .. }, _) => true,
            (Route::Starting | Route::Arriving | Route::Stopped, _) => false,
        };
        door.wait_for(is_news, forward.deadline.min(Instant::now() + NEWS)).await;
    }
}
