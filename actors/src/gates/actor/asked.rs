//! Questions and their answers.

use engine::gate::{Answer, Input};
use engine::{ReplyTo, Unavailable};
use tokio::time::Instant;

use super::{Asked, Halt, Serving};
use crate::gates::ask::{GateAsk, GateInfo, GateSaid};

impl Serving {
    /// Decides everything that has come. What is left after a halt is dropped, and who asked hears of it.
    pub(super) fn ask_inbox(&mut self, now: Instant) -> Result<(), Halt> {
        let mut asked = std::mem::take(&mut self.asked);
        self.inbox.take_into(&mut asked);
        let decided = asked.drain(..).try_for_each(|asked| self.ask(now, asked));
        self.asked = asked;
        decided
    }

    fn ask(&mut self, now: Instant, asked: Asked) -> Result<(), Halt> {
        if asked.reply.is_closed() {
            return Ok(());
        }
        if now >= asked.deadline || !self.lease.allows(now) {
            let _waits = asked.reply.send(Err(Unavailable::Overloaded));
            return Ok(());
        }
        self.catch_up(now)?;
        let Asked { ask, deadline, reply, permit } = asked;
        match ask {
            // It would have to be told a rank that the draw takes away.
            GateAsk::Join(_) if self.setting.begins_draw() => {
                let _waits = reply.send(Err(Unavailable::Overloaded));
                Ok(())
            }
            GateAsk::Join(user) => {
                let to = self.replies.insert(deadline, reply, permit);
                self.step(now, Input::Join { user, to })
            }
            GateAsk::Status(user) => {
                let to = self.replies.insert(deadline, reply, permit);
                self.step(now, Input::Status { user, to })
            }
            GateAsk::Leave(user) => {
                let to = self.replies.insert(deadline, reply, permit);
                self.step(now, Input::Leave { user, to })
            }
            GateAsk::Heartbeats(users) => {
                let beats = users.into_iter().try_for_each(|user| self.step(now, Input::Heartbeat { user }));
                let _waits = reply.send(Ok(GateSaid::Heard));
                beats
            }
            GateAsk::Set { policy, by } => {
                self.begin_set(policy, by, (reply, permit));
                Ok(())
            }
            GateAsk::Beacon { round, value } => {
                let is_heard = self.draws.beacon(round, value);
                let _waits = reply.send(Ok(if is_heard { GateSaid::Heard } else { GateSaid::NoSuchRound }));
                Ok(())
            }
            GateAsk::Info => {
                let info = GateInfo { row: self.row, load: self.gate.load(), durable: self.away.is_none() };
                let _waits = reply.send(Ok(GateSaid::Info(info)));
                Ok(())
            }
        }
    }

    pub(super) fn answer(&mut self, to: ReplyTo, answer: Answer, durable: bool) {
        let said = match answer {
            Answer::Standing(standing) => Ok(GateSaid::Standing { standing, durable }),
            Answer::Left(left) => Ok(GateSaid::Left { left, durable }),
            Answer::Overloaded => Err(Unavailable::Overloaded),
            Answer::PolicySet { .. } => return self.policy_answered(None),
            Answer::PolicyRefused(fault) => return self.policy_answered(Some(fault)),
            Answer::DrawTaken | Answer::DrawRefused(_) => {
                let concert = self.gate.concert();
                tracing::info!(%concert, ?answer, durable, "the gate was told the order of its draw");
                return;
            }
        };
        self.replies.answer(to, said);
    }
}
