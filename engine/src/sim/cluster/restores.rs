//! From a lease to a shard that serves, and from a shard to nothing.

use std::collections::VecDeque;

use super::database::Ask;
use super::event::{Event, Message};
use super::node::{Actor, Incarnation, Origin, Place, Waiter};
use super::options::Canary;
use super::world::World;
use crate::entry::Restored;
use crate::handoff::{Answer, End, Heard, Order};
use crate::ids::{Epoch, ReplyTo, ShardId};
use crate::lease;
use crate::outcome::{Outcome, Unavailable};
use crate::shard::Shard;
use crate::sim::auditor::{Auditor, Verdict};
use crate::sim::pipe::Pipe;
use crate::sim::writer::{self, Writer};
use crate::time::Moment;

impl World<'_> {
    /// The answer to an acquire, or to one of a shard that was this node's already.
    pub(super) fn acquired(
        &mut self,
        me: Incarnation,
        sent: Moment,
        shard: ShardId,
        epoch: Option<Epoch>,
        ask: &Ask,
    ) -> Verdict {
        let again = matches!(ask, Ask::AcquireAgain { .. });
        let node = &mut self.nodes[me.node];
        node.acquiring.remove(&shard);
        let Some(epoch) = epoch else {
            let raising = matches!(node.places.get(&shard), Some(Place::Raising { .. }));
            return if again && raising { self.drop_place(me, shard) } else { Ok(()) };
        };
        let holds =
            node.landings.contains_key(&shard) && self.options.canary == Some(Canary::StaleStateServed);
        if holds && !again {
            return self.renewed_one(me, sent, shard, epoch, Answer::Row);
        }
        let parked = match node.places.remove(&shard) {
            Some(Place::Raising { parked, epoch: former }) => {
                node.leases.forget(shard, former);
                parked
            }
            Some(place) => {
                // This node has it in another way by now, and the later epoch counts.
                if epoch_of(&place) >= epoch {
                    node.places.insert(shard, place);
                    return Ok(());
                }
                node.places.insert(shard, place);
                self.lose(me, shard)?;
                VecDeque::new()
            }
            None => VecDeque::new(),
        };
        let came = match ask {
            Ask::AcquireAgain { .. } => "RAISED",
            Ask::TakeFromDead { owner, .. } if owner.node == me.node => "RECLAIMED",
            Ask::TakeFromDead { .. } => "TAKEN FROM DEAD",
            Ask::Acquire { anew: true, .. } => "TAKEN ANEW",
            _ => "ACQUIRED",
        };
        self.coverage.count("cluster", came);
        self.trace.line(|| format!("{} {me:?} acquires shard {shard}, epoch {epoch}", self.now));
        self.nodes[me.node].landings.remove(&shard);
        self.owns(me, shard, epoch, sent, parked)
    }

    /// The ledger says that the shard is this node's: load it.
    pub(super) fn owns(
        &mut self,
        me: Incarnation,
        shard: ShardId,
        epoch: Epoch,
        sent: Moment,
        parked: VecDeque<Waiter>,
    ) -> Verdict {
        self.nodes[me.node].leases.granted(shard, epoch, sent);
        self.nodes[me.node].places.insert(shard, Place::Loading { epoch, parked });
        self.hears_of(me, shard, epoch, me.node);
        self.tell_all(me, &Message::Route(shard, epoch, me.node));
        self.load(me, shard);
        Ok(())
    }

    pub(super) fn load(&mut self, me: Incarnation, shard: ShardId) {
        if matches!(self.nodes[me.node].places.get(&shard), Some(Place::Loading { .. })) {
            let at = self.nodes[me.node].clock.time(self.now);
            self.ask(me, Ask::Load { shard, at, arrival: None });
        }
    }

    /// Back from a halt: a new epoch first.
    pub(super) fn raise(&mut self, me: Incarnation, shard: ShardId) {
        if let Some(Place::Raising { epoch, .. }) = self.nodes[me.node].places.get(&shard) {
            let mine = *epoch;
            self.ask_for_shard(me, shard, Ask::AcquireAgain { shard, mine });
        }
    }

    pub(super) fn loaded(&mut self, me: Incarnation, shard: ShardId, mut restored: Restored) -> Verdict {
        let node = &mut self.nodes[me.node];
        let epoch = match node.places.get(&shard) {
            Some(Place::Loading { epoch, .. }) => *epoch,
            _ => return Ok(()),
        };
        let now = node.clock.time(self.now);
        if !self.streams.mirror.chance(self.options.faults.mirror_silent) {
            restored.soft_locks = self.mirrors[usize::from(shard.0)].take_over(epoch, now);
        }
        let Some(Place::Loading { parked, .. }) = self.nodes[me.node].places.remove(&shard) else {
            return Ok(());
        };
        let now = now.max(restored.newest_event);
        let mut actor = Shard::new(shard, epoch, self.options.settings);
        actor.restore(now, restored).map_err(|error| format!("shard {shard}: {error}"))?;
        self.serve(me, shard, actor, parked)
    }

    /// The shard is up; what waited for it is decided in its order.
    pub(super) fn serve(
        &mut self,
        me: Incarnation,
        id: ShardId,
        shard: Shard,
        parked: VecDeque<Waiter>,
    ) -> Verdict {
        let epoch = shard.epoch();
        self.trace.line(|| format!("{} {me:?} serves shard {id}, epoch {epoch}", self.now));
        let mut auditor = Auditor::default();
        auditor.restored(&shard);
        let shard_now = shard.now();
        let actor = Actor {
            epoch,
            shard,
            writer: Writer::new(epoch),
            pipe: Pipe::new(epoch),
            auditor,
            shard_now,
            waiting: std::collections::BTreeMap::new(),
            departure: None,
            attempts: 0,
            wake_at: None,
        };
        self.nodes[me.node].places.insert(id, Place::Up(Box::new(actor)));
        self.rebuild_mirror(me, id);
        self.schedule_wake(me, id);
        self.arrive(me, id, parked)
    }

    /// The actor has halted, and nothing is known of what it did not answer.
    pub(super) fn halted(&mut self, me: Incarnation, shard: ShardId) -> Verdict {
        self.coverage.count("cluster", "HALT");
        let Some(Place::Up(actor)) = self.nodes[me.node].places.remove(&shard) else { return Ok(()) };
        // After a refusal the writer drops what it still has.
        let Actor { epoch, mut departure, waiting, .. } = *actor;
        let now = self.nodes[me.node].clock.moment(self.now);
        let mut parked = VecDeque::new();
        if let Some(leaving) = &mut departure {
            let mut orders = Vec::new();
            leaving.departure.hear(now, Heard::Halted, &mut orders);
            if orders != [Order::End(End::Halted)] {
                return Err(format!("a shard that was quiet halts: {orders:?}"));
            }
            parked = leaving.departure.take_parked();
            self.tell(me, leaving.target, Message::Resumed(shard, leaving.departure.attempt()));
        }
        self.nodes[me.node].places.insert(shard, Place::Raising { epoch, parked });
        for waiter in waiting.into_values() {
            self.unknown(me, shard, &waiter);
        }
        let pause = self.streams.crash.between(0, 500_000);
        self.schedule(pause, Event::AcquireAgain(me, shard));
        Ok(())
    }

    /// A renewal says that the shard is not this node's, unless a move knows better.
    pub(super) fn lost(&mut self, me: Incarnation, shard: ShardId, epoch: Epoch) -> Verdict {
        let place = self.nodes[me.node].places.get(&shard);
        // A shard that is being raised waits for the answer to that.
        if place.map(epoch_of) != Some(epoch) || matches!(place, Some(Place::Raising { .. })) {
            return Ok(());
        }
        let leaving = self.nodes[me.node].actor(shard).is_some_and(|actor| actor.departure.is_some());
        if leaving {
            return self.departs(me, shard, epoch, Heard::NotOwner);
        }
        self.lose(me, shard)
    }

    /// Somebody else writes in a later epoch.
    pub(super) fn fenced(&mut self, me: Incarnation, shard: ShardId, epoch: Epoch) -> Verdict {
        self.coverage.count("cluster", "FENCED");
        self.nodes[me.node].leases.forget(shard, epoch);
        self.lost(me, shard, epoch)
    }

    /// The shard is not this node's any more.
    pub(super) fn lose(&mut self, me: Incarnation, shard: ShardId) -> Verdict {
        let Some(place) = self.nodes[me.node].places.get(&shard) else { return Ok(()) };
        let epoch = epoch_of(place);
        self.trace.line(|| format!("{} {me:?} loses shard {shard}, epoch {epoch}", self.now));
        self.nodes[me.node].leases.forget(shard, epoch);
        self.drop_place(me, shard)
    }

    fn drop_place(&mut self, me: Incarnation, shard: ShardId) -> Verdict {
        let parked = match self.nodes[me.node].places.remove(&shard) {
            Some(Place::Up(mut actor)) => {
                self.orphan(me, shard, &mut actor.writer);
                for waiter in std::mem::take(&mut actor.waiting).into_values() {
                    self.unknown(me, shard, &waiter);
                }
                actor.departure.map(|mut leaving| leaving.departure.take_parked()).unwrap_or_default()
            }
            Some(Place::Loading { parked, .. } | Place::Raising { parked, .. }) => parked,
            None => VecDeque::new(),
        };
        self.not_mine(me, shard, parked)
    }

    /// Commands that nobody here will decide: clients are told, and other nodes' ingresses send theirs
    /// elsewhere. Those of one request stay together, so that they stay in order.
    pub(super) fn not_mine(&mut self, me: Incarnation, shard: ShardId, waiters: VecDeque<Waiter>) -> Verdict {
        let mut hops: Vec<(Incarnation, u64, Vec<ReplyTo>)> = Vec::new();
        for waiter in waiters {
            let reply = waiter.request.reply;
            match waiter.from {
                Origin::Here => {
                    let outcome = Outcome::Unavailable(Unavailable::Overloaded);
                    self.client_hears(me, shard, &waiter.request, &outcome);
                }
                Origin::Hop(from, no) => match hops.iter_mut().find(|hop| (hop.0, hop.1) == (from, no)) {
                    Some(hop) => hop.2.push(reply),
                    None => hops.push((from, no, vec![reply])),
                },
            }
        }
        let route = self.nodes[me.node].routes.owner(shard).map(|(epoch, owner)| (epoch, *owner));
        let route = route.filter(|(_, owner)| *owner != me.node);
        for (from, hop, replies) in hops {
            self.stream(me, from.node, Message::NotOwner { hop, replies, route });
        }
        Ok(())
    }

    /// Nobody knows what becomes of a command that was decided.
    fn unknown(&mut self, me: Incarnation, shard: ShardId, waiter: &Waiter) {
        self.reply(me, shard, waiter, Outcome::Unavailable(Unavailable::Ledger));
    }

    /// The actor is dead and the process lives: what was given to the writer may still be written, until
    /// it is fenced.
    fn orphan(&mut self, me: Incarnation, shard: ShardId, writer: &mut Writer) {
        if let Some(writer::Message::Batch { epoch, entries, .. }) = writer.orphaned()
            && !self.nodes[me.node].timeline.is_over(epoch)
        {
            self.ask(me, Ask::Append { shard, epoch, entries });
        }
    }

    /// Whether the node may decide for the shard now.
    pub(super) fn allows(&self, me: Incarnation, shard: ShardId, epoch: Epoch) -> bool {
        let node = &self.nodes[me.node];
        let deadline = node.leases.deadline(shard, epoch);
        let in_time = lease::allows(deadline, node.clock.moment(self.now));
        (in_time || self.is(Canary::DeadlineNotChecked)) && !node.stopping
    }
}

fn epoch_of(place: &Place) -> Epoch {
    match place {
        Place::Loading { epoch, .. } | Place::Raising { epoch, .. } => *epoch,
        Place::Up(actor) => actor.epoch,
    }
}
