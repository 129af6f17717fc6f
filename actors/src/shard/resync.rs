//! The actor's part of a resync: it parks ledger commands, says when memory is quiet, and changes places.

use engine::Input;
use engine::shard::Difference;
use engine::{ChainHead, Epoch, Settings, Shard, Time};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Halt, Serving};
use crate::handle::Ask;
use crate::permits::Permit;
use crate::replies::Reply;

/// What a resync wants of the actor.
pub enum Order {
    /// Put ledger commands aside, and say when nothing is on its way to the ledger. Clicks go on.
    Park(oneshot::Sender<Quiet>),
    /// Take this over, if memory still is where it was; `None` when it is not.
    Adopt { ledger: Box<Shard>, reply: oneshot::Sender<Option<Vec<Difference>>> },
    /// Go on with what was put aside.
    Resume,
}

/// Memory is the ledger at `head`.
pub struct Quiet {
    pub epoch: Epoch,
    pub head: ChainHead,
    pub now: Time,
    pub settings: Settings,
}

/// Ledger commands that wait for the end of a resync. As many as there are permits.
#[derive(Default)]
pub(super) struct Parked {
    commands: Vec<(Ask, Reply, Option<Permit>)>,
    quiet: Option<oneshot::Sender<Quiet>>,
}

impl Parked {
    pub fn push(&mut self, ask: Ask, reply: Reply, owed: Option<Permit>) {
        self.commands.push((ask, reply, owed));
    }

    pub fn len(&self) -> usize {
        self.commands.len()
    }
}

impl Serving {
    pub(super) fn resync(&mut self, now: Instant, order: Order) -> Result<(), Halt> {
        match order {
            Order::Park(quiet) => self.parked.get_or_insert_default().quiet = Some(quiet),
            Order::Adopt { ledger, reply } => {
                let differences = self.adopt(now, *ledger)?;
                // Who asked may have given up; memory is right all the same.
                let _waits = reply.send(differences);
            }
            Order::Resume => {
                for (ask, reply, owed) in self.parked.take().unwrap_or_default().commands {
                    let is_awaited = match &reply {
                        Reply::To(reply) => !reply.is_closed(),
                        Reply::Together(_) => true,
                    };
                    if is_awaited {
                        self.decide(now, ask, reply, owed)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Answers a resync that waits for the ledger to have everything.
    pub(super) fn tell_if_quiet(&mut self) {
        let shard = &self.start.shard;
        if let Some(parked) = &mut self.parked
            && shard.is_quiet()
            && let Some(quiet) = parked.quiet.take()
        {
            let (epoch, head, now) = (shard.epoch(), shard.head(), shard.now());
            let _waits = quiet.send(Quiet { epoch, head, now, settings: shard.settings() });
        }
    }

    fn adopt(&mut self, now: Instant, ledger: Shard) -> Result<Option<Vec<Difference>>, Halt> {
        // What falls due by itself goes to the ledger too.
        self.step(now, Input::Tick)?;
        let shard = &mut self.start.shard;
        if !shard.is_quiet() || shard.head() != ledger.head() {
            return Ok(None);
        }
        let differences = shard.resync(ledger, &mut self.effects);
        self.perform(now)?;
        self.open_outlets();
        for (option, outlet) in &self.outlets {
            outlet.mirror.rebuild(self.start.shard.soft_locks(*option).collect());
        }
        Ok(Some(differences))
    }
}
