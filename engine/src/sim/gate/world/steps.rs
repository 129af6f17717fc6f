//! One step of the gate: predicted by the twin, performed effect by effect, audited after. And what viewers see.

use super::{Event, World};
use crate::gate::{Answer, Effect, Effects, Gate, Input, PolicyFault, Standing, Tick, Viewer, block_of};
use crate::ids::{ReplyTo, Turn, UserId};
use crate::sim::gate::auditor::{Auditor, Verdict};
use crate::sim::gate::draws::Published;
use crate::sim::gate::mirror::Change;
use crate::sim::gate::options::Canary;
use crate::sim::prng::mix;

/// Who asks when an operator does.
const OPERATOR: UserId = UserId(0);

impl World<'_> {
    pub(super) fn step(&mut self, input: Input) -> Verdict {
        let Some(mut gate) = self.gate.take() else { return Ok(()) };
        let given = self.clock.read(self.now, &self.options.clock);
        self.gate_now = self.gate_now.max(given);
        self.step_count += 1;
        self.trace.line(|| format!("{given} {input:?}"));
        if let Some((to, user)) = asked(&input) {
            self.waiting.insert(to, user);
        }
        let mut effects = Effects::new();
        gate.step(given, input.clone(), &mut effects);
        for effect in &effects {
            self.trace.line(|| format!("    {effect:?}"));
        }
        let predicted = self.twin.step(given, &input);
        Auditor::check_effects(&effects, &predicted)?;
        Auditor::check_state(&gate, &self.twin, self.options.user_count)?;
        Auditor::check_ceiling(&gate, &effects)?;
        self.policy = *gate.policy();
        self.gate = Some(gate);
        if self.options.canary == Some(Canary::AdmittedTwice)
            && let Some(told) = effects.iter().find(|effect| matches!(effect, Effect::Admitted { .. }))
        {
            effects.push(told.clone());
        }
        self.perform(effects)?;
        self.audit()?;
        self.schedule_wake();
        Ok(())
    }

    /// Performs the effects in order; a crash comes before any of them, or after all.
    fn perform(&mut self, effects: Effects) -> Verdict {
        let crashes = self.streams.crash.chance(self.options.faults.crash);
        let count = effects.len() as u64;
        let crash_at = crashes.then(|| self.streams.crash.below(count + 1));
        for (index, effect) in (0..).zip(effects) {
            if crash_at == Some(index) {
                self.crash();
                return Ok(());
            }
            self.perform_one(effect)?;
        }
        if crash_at == Some(count) && self.gate.is_some() {
            self.crash();
        }
        Ok(())
    }

    fn crash(&mut self) {
        self.trace.line(|| "-- crash".to_owned());
        self.crash_count += 1;
        self.coverage.count("world", if self.auditor.lossy { "LOSSY CRASH" } else { "CRASH" });
        self.end_incarnation();
    }

    fn perform_one(&mut self, effect: Effect) -> Verdict {
        self.auditor.watch(&effect, self.gate_now, &self.policy)?;
        match effect {
            Effect::Reply { to, answer, durable } => self.reply(to, answer, durable)?,
            Effect::Mirror { no, op } => {
                self.op_count += 1;
                self.fold(no.0);
                let Some(gate) = &self.gate else { return Ok(()) };
                let change = Change::of(op, gate);
                if self.pipe.push(no, change) {
                    let pause = self.streams.mirror.between(0, self.options.faults.mirror_latency / 4);
                    self.schedule(pause, Event::Flush { epoch: self.epoch });
                }
            }
            Effect::Admitted { user, pass, durable, .. } => {
                self.coverage.count("admitted", if durable { "OK" } else { "NOT DURABLE" });
                self.passes.insert(user, pass.id);
                self.fold(mix(user.0) ^ pass.id.0);
            }
            Effect::PassEnded { user, pass, why } => {
                self.coverage.count("pass", why.name());
                self.fold(mix(user.0 << 1) ^ pass.0);
            }
            Effect::Frozen { first, upto } => self.frozen(first, upto),
            Effect::Drawn => {
                self.coverage.count("draw", "DRAWN");
                self.viewers.clear();
                if let (Some(published), Some(gate)) = (&self.published, &self.gate) {
                    published.check(&gate.snapshot())?;
                }
            }
            Effect::Rejected => {
                self.coverage.count("world", "REJECTED");
                self.viewers.clear();
            }
            Effect::Halt(_) => {
                self.coverage.count("world", "HALT");
                self.end_incarnation();
            }
        }
        Ok(())
    }

    fn reply(&mut self, to: ReplyTo, answer: Answer, durable: bool) -> Verdict {
        if self.options.canary == Some(Canary::ReplyLost) && to.0 % 16 == 7 {
            return Ok(());
        }
        let Some(user) = self.waiting.remove(&to) else {
            return Err(format!("reply {to} was never asked for, or is given twice"));
        };
        self.auditor.reply(user, &answer, durable)?;
        self.coverage.count("reply", name(&answer));
        self.fold(to.0 << 1 | u64::from(durable));
        if let Answer::Standing(Standing::Waiting { turn, ahead: Some(_), .. }) = answer
            && self.streams.audit.chance(500)
            && let Some(gate) = &self.gate
        {
            let viewer = Viewer::new(turn, &gate.view(), gate.bitmap(block_of(turn)));
            self.viewers.insert(user, (turn, viewer));
        }
        Ok(())
    }

    /// The entrants are published, once; the order comes when the beacon's round is out.
    fn frozen(&mut self, first: Turn, upto: Turn) {
        let Some(gate) = &self.gate else { return };
        let known = self.published.take().filter(|draw| draw.stands(gate, first, upto));
        if known.is_some() {
            self.coverage.count("draw", "FROZEN AGAIN");
        }
        let published = known.unwrap_or_else(|| Published::of(gate, first, upto, self.streams.audit.word()));
        let mut order: Box<[Turn]> = published.order.clone().into();
        if self.options.canary == Some(Canary::OrderSwapped) && order.len() > 1 {
            order.swap(0, 1);
        }
        self.published = Some(published);
        let pause = self.streams.audit.between(0, 3_000_000);
        self.schedule(pause, Event::Order { epoch: self.epoch, first, upto, order });
    }

    /// What must be true after every step.
    fn audit(&mut self) -> Verdict {
        let Some(gate) = &self.gate else { return Ok(()) };
        self.auditor.check_promises(gate, self.gate_now)?;
        if self.twin.up && !self.pipe.away && gate.load().unmirrored == 0 {
            self.auditor.lossy = false;
            let (kept, has) = (&self.mirror.kept, gate.snapshot());
            // A mirror that is wrong on purpose must be found by what it breaks.
            if *kept != has && self.options.canary.is_none() {
                return Err(format!("the mirror has something else\n  mirror: {kept:?}\n  gate:   {has:?}"));
            }
        }
        Ok(())
    }

    fn schedule_wake(&mut self) {
        let Some(next) = self.gate.as_ref().and_then(Gate::next_wake) else { return };
        // A clock that stands still must not make the world spin.
        let due = self.clock.when(next).max(self.now + 1_000);
        let at = due.saturating_add(self.clock.late(&self.options.clock));
        if self.wake_at.is_none_or(|planned| at < planned) {
            self.wake_at = Some(at);
            self.schedule(at - self.now, Event::Wake { planned: at });
        }
    }

    /// A tick for the viewers, over the wire; then everybody counts what the owner counts.
    pub(super) fn cut(&mut self) -> Verdict {
        let Some(gate) = &mut self.gate else { return Ok(()) };
        if !gate.cut(&mut self.tick) {
            return Ok(());
        }
        let mut bytes = Vec::new();
        self.tick.encode(&mut bytes);
        let Some(mut tick) = Tick::decode(&bytes) else { return Err("a tick is not readable".to_owned()) };
        if self.options.canary == Some(Canary::CountUntold) {
            tick.counts.pop();
        }
        for (user, (turn, mut viewer)) in std::mem::take(&mut self.viewers) {
            let own = block_of(turn);
            let bitmap = tick.counts.iter().any(|count| count.block() == own).then(|| gate.bitmap(own));
            viewer.apply(&tick, bitmap.as_ref()).map_err(|_| format!("user {user} missed a tick"))?;
            let Standing::Waiting { turn: now, ahead: Some(ahead), .. } = gate.standing(user) else {
                continue;
            };
            if now == turn {
                if viewer.ahead() != ahead {
                    return Err(format!("user {user} counts {} ahead, the owner {ahead}", viewer.ahead()));
                }
                self.coverage.count("world", "VIEWED");
                self.viewers.insert(user, (turn, viewer));
            }
        }
        Ok(())
    }
}

/// Who asks, if there is anything to answer.
fn asked(input: &Input) -> Option<(ReplyTo, UserId)> {
    match input {
        Input::Join { user, to } | Input::Status { user, to } | Input::Leave { user, to } => {
            Some((*to, *user))
        }
        Input::SetPolicy { to, .. } | Input::Drawn { to, .. } => Some((*to, OPERATOR)),
        _ => None,
    }
}

fn name(answer: &Answer) -> &'static str {
    match answer {
        Answer::Standing(standing) => standing.name(),
        Answer::Left(_) => "LEFT",
        Answer::PolicySet { changed: true } => "POLICY SET",
        Answer::PolicySet { changed: false } => "POLICY AS BEFORE",
        Answer::PolicyRefused(PolicyFault::RanksTold) => "RANKS_TOLD",
        Answer::PolicyRefused(PolicyFault::DrawUnderWay) => "DRAW_UNDER_WAY",
        Answer::PolicyRefused(_) => "POLICY REFUSED",
        Answer::DrawTaken => "DRAW TAKEN",
        Answer::DrawRefused(_) => "DRAW REFUSED",
        Answer::Overloaded => "OVERLOADED",
    }
}
