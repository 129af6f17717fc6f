//! Setting a gate: the ledger first, then the shard, whose commands need a pass from then on or do no more, then the
//! gate itself. One at a time: whoever comes in between is told to come again.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use engine::gate::{Input, Mode, Policy, PolicyFault, State};
use engine::{ConcertId, ReplyTo, Unavailable, UserId};
use tokio::time::Instant;

use super::{Halt, Message, Reply, Serving};
use crate::gates::ask::GateSaid;
use crate::gates::ports::{Fence, GateLedger, GateRow, Written};
use crate::permits::Permit;

/// How long to wait before ledger or shard are asked again.
const AGAIN: Duration = Duration::from_millis(200);

/// The shard of a gate.
#[async_trait]
pub trait TellShard: Send + Sync + 'static {
    /// Makes durable whether commands for a concert's seats need a pass. `false`: try again.
    async fn needs_pass(&self, concert: ConcertId, needs: bool) -> bool;
}

/// Who waits to hear what came of it.
type Asker = (Reply, Permit);

/// What came of writing a row.
pub struct Setting {
    row: Option<GateRow>,
    asker: Option<Asker>,
    is_fenced: bool,
}

/// What is under way.
#[derive(Default)]
pub(super) struct UnderWay {
    /// A policy is being written, or the shard is being told again.
    is_busy: bool,
    begins_draw: bool,
    /// Who waits for the machine's answer, which comes within the step.
    asker: Option<Asker>,
}

impl UnderWay {
    /// Whether a policy is on its way that takes ranks from whoever would get one now.
    pub const fn begins_draw(&self) -> bool {
        self.begins_draw
    }
}

impl Serving {
    pub(super) fn begin_set(&mut self, policy: Policy, by: UserId, asker: Asker) {
        let said = if self.setting.is_busy {
            Err(Unavailable::Overloaded)
        } else if let Err(fault) = self.gate.check_policy(&policy) {
            Ok(GateSaid::Refused(fault))
        } else if let Some(row) = self.row.filter(|row| row.policy == policy) {
            Ok(GateSaid::Set { changed: false, row })
        } else {
            return self.write_row(policy, by, Some(asker));
        };
        let _waits = asker.0.send(said);
    }

    fn write_row(&mut self, policy: Policy, by: UserId, asker: Option<Asker>) {
        self.setting.is_busy = true;
        self.setting.begins_draw = policy.mode == Mode::PresaleDraw && self.gate.policy().mode == Mode::Fifo;
        let version = self.row.map_or(0, |row| row.version) + 1;
        let changed_at = self.clock.at(Instant::now());
        let row = GateRow { concert: self.gate.concert(), version, policy, changed_at };
        let (ledger, shard, fence, me) =
            (self.ledger.clone(), self.shard.clone(), self.fence, self.me.clone());
        tokio::spawn(async move {
            // Only the owner writes, one row at a time: where another row stands, somebody else is the owner.
            let is_fenced = write(ledger.as_ref(), fence, &row, by).await != Written::Done;
            if !is_fenced {
                agree(shard, row.concert, policy.state).await;
            }
            // A gate that is gone finds the row when it is restored.
            let _lives = me.send_message(Message::Set(Setting { row: Some(row), asker, is_fenced }));
        });
    }

    pub(super) fn set(&mut self, now: Instant, setting: Setting) -> Result<(), Halt> {
        let Setting { row, asker, is_fenced } = setting;
        (self.setting.is_busy, self.setting.begins_draw) = (false, false);
        if is_fenced {
            if let Some((reply, _permit)) = asker {
                let _waits = reply.send(Err(Unavailable::Overloaded));
            }
            return Err(Halt::Fenced);
        }
        let Some(row) = row else { return Ok(()) };
        self.row = Some(row);
        self.setting.asker = asker;
        // Nobody has that number: the answer comes within the step.
        let to = ReplyTo(0);
        self.step(now, Input::SetPolicy { policy: row.policy, to })
    }

    /// What the machine said to the row that the ledger has.
    pub(super) fn policy_answered(&mut self, refused: Option<PolicyFault>) {
        let (asker, row) = (self.setting.asker.take(), self.row);
        let said = match refused {
            Some(fault) => {
                // Somebody joined while the ledger was written, so that it must not stand there.
                self.write_row(*self.gate.policy(), UserId(0), None);
                GateSaid::Refused(fault)
            }
            None => {
                self.begin_anew();
                let Some(row) = row else { return };
                GateSaid::Set { changed: true, row }
            }
        };
        if let Some((reply, _permit)) = asker {
            let _waits = reply.send(Ok(said));
        }
    }

    /// A crash may have come between the row and the shard's policy. Nothing is set before they agree.
    pub(super) fn agree_with_shard(&mut self) {
        if let Some(GateRow { concert, policy, .. }) = self.row {
            self.setting.is_busy = true;
            let (shard, me) = (self.shard.clone(), self.me.clone());
            tokio::spawn(async move {
                agree(shard, concert, policy.state).await;
                let _lives =
                    me.send_message(Message::Set(Setting { row: None, asker: None, is_fenced: false }));
            });
        }
    }
}

/// Until it is known what became of it: the same row again is no harm.
async fn write(ledger: &dyn GateLedger, fence: Fence, row: &GateRow, by: UserId) -> Written {
    loop {
        match ledger.set_gate(fence, row, by).await {
            Ok(written) => return written,
            Err(error) => tracing::warn!(%error, concert = %row.concert, "a gate cannot be set yet"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Tells the shard until it is durable, or somebody else's to tell.
pub async fn agree(shard: Arc<dyn TellShard>, concert: ConcertId, state: State) {
    while !shard.needs_pass(concert, state != State::Off).await {
        tokio::time::sleep(AGAIN).await;
    }
}
