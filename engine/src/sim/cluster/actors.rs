//! Shards at work: commands and Ticks under a lease, entries to the ledger, soft locks to the mirror.

use std::collections::VecDeque;

use super::database::Ask;
use super::event::{Event, Message};
use super::node::{Actor, Incarnation, Origin, Place, Waiter};
use super::world::World;
use crate::effect::{Effect, Effects, Input};
use crate::entry::ChainHead;
use crate::handoff::{Arrived, Heard, Offer, Phase};
use crate::ids::{EntryNo, Epoch, OptionId, ShardId};
use crate::outcome::{Outcome, Unavailable};
use crate::sim::auditor::Verdict;
use crate::sim::pipe::{self, Parcel};
use crate::sim::writer;

/// Commands a node keeps for a shard that it holds and that is not yet its own.
const LANDING_ROOM: usize = 64;

impl World<'_> {
    /// Commands arrive at a node that should be the owner, in their order.
    pub(super) fn arrive(&mut self, me: Incarnation, shard: ShardId, waiters: VecDeque<Waiter>) -> Verdict {
        let mut refused = VecDeque::new();
        self.may_pause &= waiters.len() == 1;
        for waiter in waiters {
            if !self.is_alive(me) {
                // Its own clients are told by the crash, and other nodes' wait in vain.
                return Ok(());
            }
            refused.extend(self.arrives(me, shard, waiter)?);
        }
        self.not_mine(me, shard, refused)
    }

    /// One command arrives. It is given back if it is not this node's to decide.
    fn arrives(&mut self, me: Incarnation, shard: ShardId, waiter: Waiter) -> Result<Option<Waiter>, String> {
        let node = &mut self.nodes[me.node];
        if let Some(landing) = node.landings.get_mut(&shard)
            && matches!(landing.arrival.arrived(), Arrived::Holding(_))
            && waiter.from != Origin::Here
            && landing.parked.len() < LANDING_ROOM
        {
            landing.parked.push_back(waiter);
            return Ok(None);
        }
        let Some(actor) = node.actor(shard) else { return Ok(Some(waiter)) };
        let epoch = actor.epoch;
        let offer = match &mut actor.departure {
            Some(leaving) => leaving.departure.offer(waiter),
            None => Offer::Decide(waiter),
        };
        match offer {
            Offer::Decide(waiter) if self.allows(me, shard, epoch) => self.decide(me, shard, epoch, waiter),
            Offer::Decide(waiter) | Offer::Over(waiter) => return Ok(Some(waiter)),
            Offer::Parked => {
                self.coverage.count("cluster", "PARKED");
                Ok(())
            }
            Offer::Full(waiter) => {
                self.coverage.count("cluster", "NO ROOM");
                self.reply(me, shard, &waiter, Outcome::Unavailable(Unavailable::Overloaded));
                Ok(())
            }
        }?;
        Ok(None)
    }

    fn decide(&mut self, me: Incarnation, shard: ShardId, epoch: Epoch, waiter: Waiter) -> Verdict {
        let request = waiter.request.clone();
        self.check_decides(me, shard, epoch, Some((request.caller.user, request.reply)))?;
        if self.database.is_expired(shard, self.now) {
            self.coverage.count("cluster", "DECIDED WHILE AWAY");
        }
        if let Some(actor) = self.nodes[me.node].actor(shard) {
            actor.waiting.insert(request.reply, waiter);
        }
        self.step(me, shard, Input::Command(request))
    }

    pub(super) fn step(&mut self, me: Incarnation, shard: ShardId, input: Input) -> Verdict {
        let now = self.now;
        let node = &mut self.nodes[me.node];
        let given = node.clock.time(now);
        let Some(actor) = node.actor(shard) else { return Ok(()) };
        self.step_count += 1;
        actor.shard_now = actor.shard_now.max(given);
        let epoch = actor.epoch;
        let mut effects = Effects::new();
        self.trace
            .line(|| format!("{now} {me:?} shard {shard} epoch {epoch} {}", super::event::shown(&input)));
        actor.shard.step(given, input, &mut effects);
        for effect in &effects {
            self.trace.line(|| format!("    {effect:?}"));
        }
        let crashes = self.streams.crash.chance(self.options.faults.crash_in_step);
        let pauses =
            !crashes && self.may_pause && self.streams.crash.chance(self.options.faults.pause_in_step);
        let at = usize::try_from(self.streams.crash.below(effects.len() as u64 + 1)).unwrap_or(0);
        let rest = if crashes || pauses { effects.split_off(at) } else { Effects::new() };
        for effect in effects {
            self.perform(me, shard, epoch, effect)?;
        }
        if crashes {
            self.crash(me);
        } else if pauses {
            self.nodes[me.node].frozen.push((shard, epoch, rest));
            self.pause(me.node);
        } else {
            self.after_step(me, shard)?;
        }
        Ok(())
    }

    /// The node goes on with the effects that it stood still before.
    pub(super) fn thaw(&mut self, me: Incarnation) -> Verdict {
        for (shard, epoch, effects) in std::mem::take(&mut self.nodes[me.node].frozen) {
            for effect in effects {
                self.perform(me, shard, epoch, effect)?;
            }
            self.after_step(me, shard)?;
        }
        Ok(())
    }

    fn after_step(&mut self, me: Incarnation, shard: ShardId) -> Verdict {
        self.write(me, shard);
        self.schedule_wake(me, shard);
        if let Some(Place::Up(actor)) = self.nodes[me.node].places.get(&shard)
            && self.is_current(me, shard, actor.epoch)
        {
            let ledger = &self.database.ledgers[usize::from(shard.0)];
            let Some(Place::Up(actor)) = self.nodes[me.node].places.get_mut(&shard) else { return Ok(()) };
            actor.auditor.check_viewers(&actor.shard, ledger)?;
        }
        self.quiet(me, shard)
    }

    /// A move that waits for every entry to be durable hears of it.
    pub(super) fn quiet(&mut self, me: Incarnation, shard: ShardId) -> Verdict {
        let Some(actor) = self.nodes[me.node].actor(shard) else { return Ok(()) };
        let flushing = actor.departure.as_ref().is_some_and(|l| l.departure.phase() == Phase::Flushing);
        if flushing && actor.shard.load().pending == 0 && actor.writer.is_idle() {
            let epoch = actor.epoch;
            return self.departs(me, shard, epoch, Heard::Quiet);
        }
        Ok(())
    }

    fn perform(&mut self, me: Incarnation, shard: ShardId, epoch: Epoch, effect: Effect) -> Verdict {
        let current = self.is_current(me, shard, epoch);
        let settings = self.options.settings;
        let Some(Place::Up(actor)) = self.nodes[me.node].places.get_mut(&shard) else { return Ok(()) };
        let ledger = &self.database.ledgers[usize::from(shard.0)];
        match effect {
            Effect::Reply { to, outcome, replayed } => {
                let Some(waiter) = actor.waiting.remove(&to) else {
                    return Err(format!("reply {to} was never asked for, or is given twice"));
                };
                if current {
                    let now = actor.shard_now;
                    actor.auditor.reply(&waiter.request, &outcome, replayed, ledger, now, &settings)?;
                }
                self.coverage.reply(waiter.request.command.op(), &outcome, replayed);
                self.reply(me, shard, &waiter, outcome);
            }
            Effect::Append(entry) => actor.writer.push(*entry),
            Effect::Mirror(op) => {
                if actor.pipe.push(op) {
                    let pause = self.streams.mirror.between(0, self.options.faults.latency / 4);
                    self.schedule(pause, Event::MirrorFlush { me, shard, epoch });
                }
            }
            Effect::Publish(change) => {
                if current {
                    actor.auditor.publish(&change, ledger)?;
                }
            }
            Effect::Halt(_) => self.halted(me, shard)?,
        }
        Ok(())
    }

    /// The answer to a command, for a client of this node or of another.
    pub(super) fn reply(&mut self, me: Incarnation, shard: ShardId, waiter: &Waiter, outcome: Outcome) {
        match waiter.from {
            Origin::Here => self.client_hears(me, shard, &waiter.request, &outcome),
            Origin::Hop(from, hop) => {
                let reply = waiter.request.reply;
                self.stream(me, from.node, Message::Reply { hop, reply, outcome });
            }
        }
    }

    /// Sends the next batch of entries, if none is in flight.
    fn write(&mut self, me: Incarnation, shard: ShardId) {
        let faults = self.options.faults.shell();
        let mut sent = writer::Sent::new();
        let Some(Place::Up(actor)) = self.nodes[me.node].places.get_mut(&shard) else { return };
        actor.writer.send(&mut self.streams.ledger, &faults, &mut sent);
        self.send_batches(me, shard, sent);
    }

    /// Nobody answered: the same entries again.
    pub(super) fn write_again(&mut self, me: Incarnation, shard: ShardId, epoch: Epoch) {
        let faults = self.options.faults.shell();
        let mut sent = writer::Sent::new();
        let Some(Place::Up(actor)) = self.nodes[me.node].places.get_mut(&shard) else { return };
        if actor.epoch == epoch {
            let attempt = actor.writer.attempt();
            actor.writer.timed_out(attempt, &mut self.streams.ledger, &faults, &mut sent);
        }
        self.send_batches(me, shard, sent);
    }

    fn send_batches(&mut self, me: Incarnation, shard: ShardId, sent: writer::Sent) {
        for (_, message) in sent {
            if let writer::Message::Batch { epoch, entries, .. } = message {
                self.ask(me, Ask::Append { shard, epoch, entries });
            }
        }
    }

    pub(super) fn appended(
        &mut self,
        me: Incarnation,
        shard: ShardId,
        epoch: Epoch,
        upto: Option<(EntryNo, ChainHead)>,
        refused: Option<EntryNo>,
    ) -> Verdict {
        let Some(actor) = self.nodes[me.node].actor(shard).filter(|actor| actor.epoch == epoch) else {
            return Ok(());
        };
        let newest = refused.or(upto.map(|(no, _)| no));
        if !newest.is_some_and(|no| actor.writer.waits_for(no)) {
            return Ok(()); // The answer to an attempt that was answered before.
        }
        actor.writer.answered(refused.is_some());
        self.may_pause &= refused.is_none();
        if let Some((upto, head)) = upto {
            self.step(me, shard, Input::Applied { upto, head })?;
        }
        match refused {
            Some(entry) if self.is_alive(me) => self.step(me, shard, Input::Refused { entry }),
            _ => Ok(()),
        }
    }

    pub(super) fn schedule_wake(&mut self, me: Incarnation, shard: ShardId) {
        let now = self.now;
        let node = &mut self.nodes[me.node];
        let time = node.clock.time(now);
        let Some(Actor { epoch, shard: state, wake_at, .. }) = node.actor(shard) else { return };
        let Some(next) = state.next_wake() else { return };
        // The node's clock runs as it likes, and a Tick that comes too early comes again.
        let at = now + (next.since(time).0).max(1_000);
        if wake_at.is_none_or(|planned| at < planned) {
            *wake_at = Some(at);
            let epoch = *epoch;
            self.schedule(at - now, Event::Wake { me, shard, epoch, planned: at });
        }
    }

    /// A Tick, where there is a lease and no move has frozen the shard.
    pub(super) fn wake(&mut self, me: Incarnation, shard: ShardId, epoch: Epoch, planned: i64) -> Verdict {
        let allowed = self.allows(me, shard, epoch);
        let Some(actor) = self.nodes[me.node].actor(shard).filter(|actor| actor.epoch == epoch) else {
            return Ok(());
        };
        if actor.wake_at != Some(planned) {
            return Ok(());
        }
        let frozen =
            actor.departure.as_ref().is_some_and(|leaving| leaving.departure.phase() != Phase::Preparing);
        if !allowed || frozen {
            let at = self.now + 200_000;
            actor.wake_at = Some(at);
            self.schedule(200_000, Event::Wake { me, shard, epoch, planned: at });
            return Ok(());
        }
        actor.wake_at = None;
        self.check_decides(me, shard, epoch, None)?;
        self.step(me, shard, Input::Tick)
    }

    pub(super) fn flush_mirror(&mut self, me: Incarnation, shard: ShardId, epoch: Epoch) {
        let faults = self.options.faults.shell();
        let mut sent = pipe::Sent::new();
        if let Some(Place::Up(actor)) = self.nodes[me.node].places.get_mut(&shard)
            && actor.epoch == epoch
        {
            actor.pipe.flush(&mut self.streams.mirror, &faults, &mut sent);
        }
        self.schedule_parcels(me, shard, sent);
    }

    fn schedule_parcels(&mut self, me: Incarnation, shard: ShardId, sent: pipe::Sent) {
        for (pause, parcel) in sent {
            self.schedule(pause, Event::Mirror { me, shard, parcel });
        }
    }

    pub(super) fn mirror_parcel(&mut self, me: Incarnation, shard: ShardId, parcel: Parcel) {
        let (epoch, option, known) = match parcel {
            Parcel::Arrives { message, counted } => {
                let answer = self.mirrors[usize::from(shard.0)].apply(&message);
                if !counted {
                    return;
                }
                (message.epoch, message.option, answer == crate::sim::mirror::Answer::Applied)
            }
            Parcel::Missed { epoch, option } => (epoch, option, false),
        };
        let node = &mut self.nodes[me.node];
        if node.me != me || !node.up {
            return;
        }
        if node.paused_until > self.now {
            // It reads the answer when it goes on, and takes the safe way.
            let pause = node.paused_until - self.now;
            let parcel = Parcel::Missed { epoch, option };
            return self.schedule(pause, Event::Mirror { me, shard, parcel });
        }
        if let Some(actor) = node.actor(shard).filter(|actor| actor.epoch == epoch) {
            actor.pipe.settled();
            if !known {
                self.rebuild_option(me, shard, option);
            }
        }
    }

    fn rebuild_option(&mut self, me: Incarnation, shard: ShardId, option: OptionId) {
        let faults = self.options.faults.shell();
        let mut sent = pipe::Sent::new();
        if let Some(Place::Up(actor)) = self.nodes[me.node].places.get_mut(&shard) {
            let Actor { pipe, shard, .. } = &mut **actor;
            pipe.rebuild(shard, option, &mut self.streams.mirror, &faults, &mut sent);
        }
        self.schedule_parcels(me, shard, sent);
    }

    pub(super) fn rebuild_mirror(&mut self, me: Incarnation, shard: ShardId) {
        let Some(actor) = self.nodes[me.node].actor(shard) else { return };
        let options: Vec<_> = actor.shard.options().map(|view| view.option).collect();
        for option in options {
            self.rebuild_option(me, shard, option);
        }
    }
}
