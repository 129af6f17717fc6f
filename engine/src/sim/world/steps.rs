//! One step of the shard: predicted by the twin, performed effect by effect, audited after.

use super::{Event, World};
use crate::command::{Command, Request};
use crate::effect::{Effect, Effects, Input};
use crate::entry::Fact;
use crate::outcome::{Granted, Outcome, Refusal};
use crate::sim::auditor::Verdict;
use crate::sim::options::Canary;

impl World<'_> {
    pub(super) fn step(&mut self, input: Input) -> Verdict {
        let Some(mut shard) = self.shard.take() else { return Ok(()) };
        let mut effects = std::mem::take(&mut self.effects);
        effects.clear();
        let given = self.clock.read(self.now, &self.options.faults);
        self.shard_now = self.shard_now.max(given);
        self.step_count += 1;
        self.trace.line(|| format!("{given} {}", shown(&input)));
        shard.step(given, input.clone(), &mut effects);
        for effect in &effects {
            self.trace.line(|| format!("    {effect:?}"));
        }
        if self.options.canary == Some(Canary::SeatToldTwice) {
            forge_grant(&mut effects, &input);
        }
        let predicted = self.shadow.step(given, &input);
        self.auditor.check_effects(&effects, predicted, &mut self.shadow)?;
        self.auditor.check_state(&shard, &self.shadow, self.shard_now)?;
        if self.shadow.waiter_total() > 0 {
            self.coverage.count("world", "WAITING");
        }
        self.shard = Some(shard);
        self.perform(&mut effects)?;
        self.effects = effects;
        if let Some(shard) = &self.shard {
            self.auditor.check_viewers(shard, &self.ledger)?;
            self.schedule_wake();
            if self.streams.audit.chance(60) {
                self.check_quiescence()?;
            }
        }
        Ok(())
    }

    /// Performs the effects in order; a crash comes before any of them, or after all.
    fn perform(&mut self, effects: &mut Effects) -> Verdict {
        let faults = self.options.faults;
        let crashes = self.crash_count < faults.crashes_at_most && self.streams.crash.chance(faults.crash);
        let crash_at = crashes.then(|| self.streams.crash.below(effects.len() as u64 + 1));
        let count = effects.len() as u64;
        for (index, effect) in (0..).zip(effects.drain(..)) {
            if crash_at == Some(index) {
                self.crash();
                return Ok(());
            }
            self.perform_one(effect)?;
        }
        if crash_at == Some(count) && self.shard.is_some() {
            self.crash();
        }
        self.send_entries();
        Ok(())
    }

    fn perform_one(&mut self, effect: Effect) -> Verdict {
        match effect {
            Effect::Reply { to, outcome, replayed } => {
                if self.options.canary == Some(Canary::ReplyLost) && to.0 % 16 == 7 {
                    return Ok(());
                }
                let Some(request) = self.waiting.remove(&to) else {
                    return Err(format!("reply {to} was never asked for, or is given twice"));
                };
                let (now, settings) = (self.shard_now, &self.options.settings);
                self.auditor.reply(&request, &outcome, replayed, &self.ledger, now, settings)?;
                self.workload.answered(&request, &outcome);
                self.coverage.reply(request.command.op(), &outcome, replayed);
                self.fold(to.0 << 8 | u64::from(code(&outcome)) << 1 | u64::from(replayed));
            }
            Effect::Append(entry) => {
                let about = match &entry.fact {
                    Fact::Reservation(row) => row.deadline.0.cast_unsigned() ^ u64::from(row.version),
                    Fact::Option { version, .. } | Fact::Policy { version, .. } => u64::from(*version),
                };
                self.coverage.count("append", entry.fact.transition().name());
                self.fold(about ^ (entry.fact.transition() as u64) << 56);
                self.writer.push(*entry);
            }
            Effect::Mirror(op) => self.tell_mirror(op),
            Effect::Publish(change) => {
                if self.options.canary == Some(Canary::ChangeUnpublished) && change.feed_seq == 5 {
                    return Ok(());
                }
                self.auditor.publish(&change, &self.ledger)?;
                self.fold(change.feed_seq << 2 | change.state as u64);
            }
            Effect::Halt(_) => {
                self.coverage.count("world", "HALT");
                self.check_halted()?;
                self.end_incarnation();
            }
        }
        Ok(())
    }

    /// A halted shard does nothing any more, whatever happens.
    fn check_halted(&mut self) -> Verdict {
        let Some(shard) = &mut self.shard else { return Ok(()) };
        let mut effects = Effects::new();
        shard.step(self.shard_now + crate::time::Span::from_secs(86_400), Input::Tick, &mut effects);
        if !effects.is_empty() || shard.next_wake().is_some() {
            return Err(format!("halted, and yet: {effects:?}, wakes at {:?}", shard.next_wake()));
        }
        Ok(())
    }

    fn schedule_wake(&mut self) {
        let next = self.shard.as_ref().and_then(crate::shard::Shard::next_wake);
        let Some(next) = next else { return };
        // A clock that stands still must not make the world spin.
        let due = self.clock.when(next).max(self.now + 1_000);
        let at = due.saturating_add(self.clock.late(&self.options.faults));
        if self.wake_at.is_none_or(|planned| at < planned) {
            self.wake_at = Some(at);
            self.schedule(at - self.now, Event::Wake { planned: at });
        }
    }
}

/// The canary: somebody is told to have a seat that is another's.
fn forge_grant(effects: &mut Effects, input: &Input) {
    let Input::Command(request) = input else { return };
    let Command::Select { option, seats } = request.command else { return };
    for effect in effects {
        if let Effect::Reply { outcome, .. } = effect
            && matches!(outcome, Outcome::Refused(Refusal::SeatTaken(_)))
        {
            let expires_at = crate::time::Time(0);
            *outcome = Outcome::Granted(Granted::Selected { option, seats, expires_at, renewed: false });
        }
    }
}

fn shown(input: &Input) -> String {
    match input {
        Input::Command(request) => {
            let Request { reply, caller, key, pass, command } = request;
            let command = match command {
                Command::AddOption { option, concert, layout } => {
                    let runs: Vec<_> = layout.runs.iter().map(|run| run.seats).collect();
                    let sections: Vec<_> = layout.sections.iter().map(|first| first.0).collect();
                    let categories = &layout.categories;
                    format!(
                        "AddOption {{ option: {option}, concert: {concert}, runs: {runs:?}, \
                         sections: {sections:?}, categories: {categories:?} }}"
                    )
                }
                other => format!("{other:?}"),
            };
            let key = key.map(|key| format!("{:x}", key.0)).unwrap_or_default();
            format!("#{reply} user {} {:?} key [{key}] pass {pass} {command}", caller.user, caller.authority)
        }
        Input::Tick => "tick".to_owned(),
        Input::Applied { upto, head } => format!("applied up to {upto}, event {}", head.event_seq),
        Input::Refused { entry } => format!("refused {entry}"),
    }
}

/// One number per kind of answer.
const fn code(outcome: &Outcome) -> u8 {
    match outcome {
        Outcome::Granted(_) => 0,
        Outcome::Refused(refusal) => refusal.number(),
        Outcome::Unavailable(_) => 99,
    }
}
