//! Planned moves: the shells of both machines.

use std::collections::VecDeque;

use super::database::Ask;
use super::event::{Event, Message};
use super::node::{Incarnation, Landing, Leaving, Origin, Place, Waiter};
use super::options::Canary;
use super::world::World;
use crate::command::Request;
use crate::entry::{Restored, SoftLock};
use crate::handoff::{
    Answer, Arrival, Arrived, Attempt, Departure, End, Heard, Notice, Order, Owner, Patience, Step,
};
use crate::ids::{Epoch, ShardId};
use crate::shard::Shard;
use crate::sim::auditor::Verdict;
use crate::time::{Moment, Span};

/// Commands that a move parks.
const ROOM: usize = 12;

/// How often the new owner asks the ledger whether it is the owner.
const ASK_EVERY: Span = Span::from_millis(200);

impl World<'_> {
    pub(super) fn begin_move(&mut self, me: Incarnation, shard: ShardId, target: usize) -> Verdict {
        let untold = self.is(Canary::AttemptsNotTold);
        let node = &mut self.nodes[me.node];
        let now = node.clock.moment(self.now);
        let Some(actor) = node.actor(shard).filter(|actor| actor.departure.is_none()) else {
            return Ok(());
        };
        actor.attempts += u64::from(!untold || actor.attempts == 0);
        let attempt = Attempt { epoch: actor.epoch, no: actor.attempts };
        let mut orders = Vec::new();
        let departure = Departure::begin(attempt, Patience::default(), ROOM, now, &mut orders);
        actor.departure = Some(Leaving { departure, target, holder: None, take_back_sent: None });
        self.coverage.count("cluster", "MOVE BEGUN");
        self.trace.line(|| format!("{} {me:?} moves shard {shard} to node {target}: {attempt:?}", self.now));
        self.obey(me, shard, orders)
    }

    /// The machine of this epoch's move hears something, if there is one.
    pub(super) fn departs(&mut self, me: Incarnation, shard: ShardId, epoch: Epoch, heard: Heard) -> Verdict {
        let node = &mut self.nodes[me.node];
        let now = node.clock.moment(self.now);
        let Some(actor) = node.actor(shard).filter(|actor| actor.epoch == epoch) else { return Ok(()) };
        let Some(leaving) = &mut actor.departure else { return Ok(()) };
        let mut orders = Vec::new();
        leaving.departure.hear(now, heard, &mut orders);
        self.trace.line(|| format!("    {me:?} shard {shard} hears {heard:?}: {orders:?}"));
        self.obey(me, shard, orders)
    }

    pub(super) fn target_says(
        &mut self,
        me: Incarnation,
        from: Incarnation,
        shard: ShardId,
        attempt: Attempt,
        heard: Heard,
    ) -> Verdict {
        let Some(actor) = self.nodes[me.node].actor(shard) else { return Ok(()) };
        let Some(leaving) = &mut actor.departure else { return Ok(()) };
        if leaving.departure.attempt() != attempt || leaving.target != from.node {
            return Ok(());
        }
        if heard == Heard::Holding && leaving.holder.is_none() {
            leaving.holder = Some(from);
        }
        self.departs(me, shard, attempt.epoch, heard)
    }

    /// Who has the shard, says the ledger.
    pub(super) fn row_read(
        &mut self,
        me: Incarnation,
        shard: ShardId,
        epoch: Epoch,
        owner: Option<Incarnation>,
    ) -> Verdict {
        let Some(actor) = self.nodes[me.node].actor(shard) else { return Ok(()) };
        let (mine, Some(leaving)) = (actor.epoch, &actor.departure) else { return Ok(()) };
        let owner = match owner {
            Some(owner) if owner == me => Owner::Me,
            Some(owner) if leaving.holder == Some(owner) => Owner::Target,
            _ => Owner::Other,
        };
        self.departs(me, shard, mine, Heard::Row(epoch, owner))
    }

    fn obey(&mut self, me: Incarnation, shard: ShardId, orders: Vec<Order>) -> Verdict {
        for order in orders {
            if self.streams.crash.chance(self.options.faults.crash_in_move) {
                self.coverage.count("cluster", "CRASH IN A MOVE");
                self.crash(me);
                return Ok(());
            }
            self.obey_one(me, shard, order)?;
        }
        let alarm = self.nodes[me.node]
            .actor(shard)
            .and_then(|actor| actor.departure.as_ref().and_then(|leaving| leaving.departure.next_wake()));
        if let Some(alarm) = alarm {
            self.schedule_moment(me, alarm, Event::Alarm(me, shard));
        }
        Ok(())
    }

    fn obey_one(&mut self, me: Incarnation, shard: ShardId, order: Order) -> Verdict {
        let now = self.nodes[me.node].clock.moment(self.now);
        let failure = self.is(Canary::UnknownIsFailure);
        let Some(actor) = self.nodes[me.node].actor(shard) else { return Ok(()) };
        let epoch = actor.epoch;
        let Some(leaving) = &mut actor.departure else { return Ok(()) };
        let (attempt, target) = (leaving.departure.attempt(), leaving.target);
        match order {
            Order::Warm => self.tell(me, target, Message::Warm(shard, attempt)),
            Order::Flush => return self.quiet(me, shard),
            Order::Copy => {
                let mut carried = actor.shard.carry();
                let now = actor.shard.now();
                self.audit.leaves(attempt, &actor.shard);
                if self.is(Canary::RefusalsForgotten) {
                    carried.retain(|lock| lock.expires_at > now);
                }
                self.tell(me, target, Message::State(shard, attempt, carried));
            }
            Order::HandOver => {
                let to = leaving.holder.ok_or("nobody holds the state")?;
                self.ask(me, Ask::HandOver { shard, epoch, to });
            }
            Order::TakeBack if failure => {
                return self.move_ends(me, shard, End::Resumed(crate::handoff::Why::TooSlow));
            }
            Order::TakeBack => {
                leaving.take_back_sent.get_or_insert(now);
                self.coverage.count("cluster", "TAKE BACK");
                self.ask(me, Ask::TakeBack { shard, epoch });
            }
            Order::ReadRow => {
                self.ask(me, Ask::ReadRow { shard });
            }
            Order::End(end) => return self.move_ends(me, shard, end),
        }
        Ok(())
    }

    fn move_ends(&mut self, me: Incarnation, shard: ShardId, end: End) -> Verdict {
        let Some(actor) = self.nodes[me.node].actor(shard) else { return Ok(()) };
        let Some(mut leaving) = actor.departure.take() else { return Ok(()) };
        let mut parked = leaving.departure.take_parked();
        let (attempt, target) = (leaving.departure.attempt(), leaving.target);
        self.trace.line(|| format!("{} {me:?} shard {shard}: {end:?}, {} parked", self.now, parked.len()));
        if self.is(Canary::ParkedDropped) {
            parked.clear();
        }
        if self.is(Canary::ParkedReordered) {
            parked = parked.into_iter().rev().collect();
        }
        match end {
            End::Moved(epoch) => self.moved(me, shard, epoch, target, attempt, parked),
            End::Resumed(_) => {
                self.coverage.count("cluster", "RESUMED");
                self.tell(me, target, Message::Resumed(shard, attempt));
                self.schedule_wake(me, shard);
                self.arrive(me, shard, parked)
            }
            End::TakenBack(epoch) => {
                self.coverage.count("cluster", "TAKEN BACK");
                self.tell(me, target, Message::Resumed(shard, attempt));
                let sent = leaving.take_back_sent.ok_or("taken back without a statement")?;
                self.nodes[me.node].leases.forget(shard, attempt.epoch);
                self.nodes[me.node].places.remove(&shard);
                self.owns(me, shard, epoch, sent, parked)
            }
            // The shard ends as ever; see `halted` and `lose`.
            End::Halted => Err("a halted shard tells its move".to_owned()),
            End::Lost => {
                self.tell(me, target, Message::Resumed(shard, attempt));
                self.lose(me, shard)?;
                self.not_mine(me, shard, parked)
            }
        }
    }

    fn moved(
        &mut self,
        me: Incarnation,
        shard: ShardId,
        epoch: Epoch,
        target: usize,
        attempt: Attempt,
        parked: VecDeque<Waiter>,
    ) -> Verdict {
        self.coverage.count("cluster", "MOVED");
        self.nodes[me.node].leases.forget(shard, attempt.epoch);
        if let Some(Place::Up(actor)) = self.nodes[me.node].places.remove(&shard)
            && !actor.waiting.is_empty()
        {
            return Err(format!("a quiet shard owes answers: {:?}", actor.waiting.keys()));
        }
        self.hears_of(me, shard, epoch, target);
        self.tell(me, target, Message::HandedOver(shard, attempt));
        self.tell_all(me, &Message::Route(shard, epoch, target));
        let (here, hops): (VecDeque<Waiter>, VecDeque<Waiter>) =
            parked.into_iter().partition(|waiter| waiter.from == Origin::Here);
        if !here.is_empty() {
            self.coverage.count("cluster", "PARKED FORWARDED");
            let requests: Vec<Request> = here.into_iter().map(|waiter| waiter.request).collect();
            self.forward(me, shard, target, requests, false);
        }
        self.not_mine(me, shard, hops)
    }

    pub(super) fn alarm(&mut self, me: Incarnation, shard: ShardId) -> Verdict {
        let node = &mut self.nodes[me.node];
        let now = node.clock.moment(self.now);
        if let Some(leaving) = node.actor(shard).and_then(|actor| actor.departure.as_mut()) {
            let mut orders = Vec::new();
            leaving.departure.tick(now, &mut orders);
            if !orders.is_empty() {
                self.obey(me, shard, orders)?;
            }
        }
        if let Some(landing) = self.nodes[me.node].landings.get_mut(&shard) {
            let mut steps = Vec::new();
            landing.arrival.tick(now, &mut steps);
            if !steps.is_empty() {
                self.follow(me, shard, now, steps)?;
            }
        }
        Ok(())
    }

    /// Somebody wants to move a shard here.
    pub(super) fn asked_to_warm(
        &mut self,
        me: Incarnation,
        from: Incarnation,
        shard: ShardId,
        attempt: Attempt,
    ) {
        self.forget_acquires(me);
        let untold = self.is(Canary::AttemptsNotTold);
        let node = &mut self.nodes[me.node];
        let now = node.clock.moment(self.now);
        let known = node.landings.get(&shard).map(|landing| landing.arrival.attempt());
        if known.is_some_and(|known| known > attempt || (known == attempt && !untold)) {
            return;
        }
        if node.stopping || node.places.contains_key(&shard) || node.acquiring.contains_key(&shard) {
            return self.tell(me, from.node, Message::Declined(shard, attempt));
        }
        let mut steps = Vec::new();
        let arrival = Arrival::begin(attempt, Patience::default(), ASK_EVERY, now, &mut steps);
        let landing = Landing { arrival, from, carried: Vec::new(), warm: None, parked: VecDeque::new() };
        let former = node.landings.insert(shard, landing);
        let takes = self.streams.moves.between(0, 2 * self.options.faults.latency);
        self.schedule(takes, Event::Warmed(me, shard, attempt));
        if let Some(former) = former {
            // Those who came too early for a move that failed.
            let _refused: Verdict = self.not_mine(me, shard, former.parked);
        }
    }

    pub(super) fn warmed(&mut self, me: Incarnation, shard: ShardId, attempt: Attempt) -> Verdict {
        let node = &mut self.nodes[me.node];
        let at = node.clock.time(self.now);
        match node.landings.get_mut(&shard) {
            Some(landing) if landing.arrival.attempt() == attempt => {
                let from = landing.from;
                if self.options.canary == Some(Canary::ReadBeforeQuiet) {
                    let ledger = &self.database.ledgers[usize::from(shard.0)];
                    landing.warm = Some(Box::new(ledger.load(at, &self.options.settings)));
                }
                self.lands(me, from, shard, Notice::Warm)
            }
            _ => Ok(()),
        }
    }

    /// The old owner is quiet: now the ledger has everything but what it carries over.
    pub(super) fn hold(
        &mut self,
        me: Incarnation,
        from: Incarnation,
        shard: ShardId,
        attempt: Attempt,
        carried: Vec<SoftLock>,
    ) -> Verdict {
        let node = &mut self.nodes[me.node];
        let at = node.clock.time(self.now);
        let is_it = |landing: &&mut Landing| landing.from == from && landing.arrival.attempt() == attempt;
        let Some(landing) = node.landings.get_mut(&shard).filter(is_it) else { return Ok(()) };
        landing.carried = carried;
        match landing.warm.take() {
            Some(warm) => self.held(me, shard, attempt, *warm),
            None => {
                self.ask(me, Ask::Load { shard, at, arrival: Some(attempt) });
                Ok(())
            }
        }
    }

    /// The ledger was read for a shard that comes.
    pub(super) fn held(
        &mut self,
        me: Incarnation,
        shard: ShardId,
        attempt: Attempt,
        mut restored: Restored,
    ) -> Verdict {
        let node = &mut self.nodes[me.node];
        let now = node.clock.time(self.now);
        let is_it = |landing: &&mut Landing| landing.arrival.attempt() == attempt;
        let Some(landing) = node.landings.get_mut(&shard).filter(is_it) else { return Ok(()) };
        let from = landing.from;
        restored.soft_locks.clone_from(&landing.carried);
        let mut state = Box::new(Shard::new(shard, Epoch(attempt.epoch.0 + 1), self.options.settings));
        state.restore(now, restored).map_err(|error| format!("shard {shard}: {error}"))?;
        self.lands(me, from, shard, Notice::State(attempt, state))
    }

    /// The machine of a move to here hears something.
    pub(super) fn lands(
        &mut self,
        me: Incarnation,
        from: Incarnation,
        shard: ShardId,
        notice: Notice<Box<Shard>>,
    ) -> Verdict {
        let node = &mut self.nodes[me.node];
        let now = node.clock.moment(self.now);
        let Some(landing) = node.landings.get_mut(&shard).filter(|landing| landing.from == from) else {
            return Ok(());
        };
        let mut steps = Vec::new();
        landing.arrival.hear(now, notice, &mut steps);
        self.follow(me, shard, now, steps)
    }

    /// The answer to the question whether the shard is this node's.
    pub(super) fn renewed_one(
        &mut self,
        me: Incarnation,
        sent: Moment,
        shard: ShardId,
        epoch: Epoch,
        answer: Answer,
    ) -> Verdict {
        let node = &mut self.nodes[me.node];
        let now = node.clock.moment(self.now);
        let of_epoch = |landing: &&mut Landing| landing.arrival.attempt().epoch.0 + 1 == epoch.0;
        let Some(landing) = node.landings.get_mut(&shard).filter(of_epoch) else { return Ok(()) };
        let mut steps = Vec::new();
        landing.arrival.hear(now, Notice::Renewed(answer), &mut steps);
        self.follow(me, shard, sent, steps)
    }

    /// `sent`: when the renewal was sent, for a lease that begins.
    fn follow(
        &mut self,
        me: Incarnation,
        shard: ShardId,
        sent: Moment,
        steps: Vec<Step<Box<Shard>>>,
    ) -> Verdict {
        for step in steps {
            if self.streams.crash.chance(self.options.faults.crash_in_move) {
                self.coverage.count("cluster", "CRASH IN A MOVE");
                self.crash(me);
                return Ok(());
            }
            let Some(landing) = self.nodes[me.node].landings.get(&shard) else { return Ok(()) };
            let (from, attempt) = (landing.from, landing.arrival.attempt());
            match step {
                Step::Warm => {}
                Step::TellReady => self.tell(me, from.node, Message::Ready(shard, attempt)),
                Step::TellHolding => self.tell(me, from.node, Message::Holding(shard, attempt)),
                Step::TellDeclined => self.tell(me, from.node, Message::Declined(shard, attempt)),
                Step::Renew(epoch) => {
                    self.ask(me, Ask::RenewOne { shard, epoch });
                }
                Step::Serve(_, state) => self.landed(me, sent, *state)?,
            }
        }
        let Some(landing) = self.nodes[me.node].landings.get_mut(&shard) else { return Ok(()) };
        if let Arrived::Dropped(why) = *landing.arrival.arrived() {
            self.trace.line(|| format!("{} {me:?} drops shard {shard}: {why:?}", self.now));
            let parked = std::mem::take(&mut landing.parked);
            self.not_mine(me, shard, parked)?;
        } else if let Some(alarm) = landing.arrival.next_wake() {
            self.schedule_moment(me, alarm, Event::Alarm(me, shard));
        }
        Ok(())
    }

    /// The shard is here, and this node's.
    fn landed(&mut self, me: Incarnation, sent: Moment, shard: Shard) -> Verdict {
        self.coverage.count("cluster", "LANDED");
        let (id, epoch, now) = (shard.id(), shard.epoch(), shard.now());
        let node = &mut self.nodes[me.node];
        let Some(landing) = node.landings.remove(&id) else { return Ok(()) };
        node.leases.granted(id, epoch, sent);
        if self.is_current(me, id, epoch) {
            self.check_moved(landing.arrival.attempt(), &shard)?;
        }
        self.mirrors[usize::from(id.0)].take_over(epoch, now);
        self.hears_of(me, id, epoch, me.node);
        self.tell_all(me, &Message::Route(id, epoch, me.node));
        self.serve(me, id, shard, landing.parked)
    }
}
