//! Sessions and the ingress: a command goes to whoever is believed to be the owner, and its answer back.
//!
//! A session changes its route only when its outstanding commands are answered, and has one request to
//! another node in flight: streams between nodes may overtake each other.

use std::collections::VecDeque;

use super::event::{Event, Message};
use super::node::{Hop, Incarnation, Origin, Place, Waiter};
use super::options::Canary;
use super::world::World;
use crate::command::Request;
use crate::ids::{Epoch, ReplyTo, ShardId, UserId};
use crate::outcome::{Outcome, Unavailable};
use crate::sim::auditor::Verdict;
use crate::time::Span;

/// How long an ingress waits for another node.
const HOP_PATIENCE: Span = Span::from_secs(3);

/// One user's socket, for the commands to one shard.
#[derive(Debug)]
pub struct Session {
    /// The node it is connected to.
    node: usize,
    /// Commands not sent on yet.
    queue: VecDeque<Request>,
    /// Sent on and not answered.
    outstanding: Vec<Request>,
    /// The node that the outstanding commands went to.
    route: usize,
}

impl Session {
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.outstanding.is_empty()
    }
}

impl World<'_> {
    pub(super) fn send_commands(&mut self) -> Verdict {
        if self.commands_left == 0 {
            return Ok(());
        }
        self.commands_left -= 1;
        self.disturb()?;
        let shard = self.streams.clients.below(u64::from(self.options.shards));
        let shard = ShardId(u16::try_from(shard).unwrap_or(0));
        for request in self.workloads[usize::from(shard.0)].ask() {
            self.client_asks(shard, request);
        }
        let pause = self.streams.clients.between(0, 2 * self.options.pace);
        self.schedule(pause, Event::Commands);
        Ok(())
    }

    /// A client sends a command on its socket; a new one where its node is gone.
    pub(super) fn client_asks(&mut self, shard: ShardId, request: Request) {
        let up: Vec<usize> = self.nodes.iter().filter(|node| node.up).map(|node| node.me.node).collect();
        let Some(node) = self.streams.clients.pick(&up).copied() else {
            return self.workloads[usize::from(shard.0)].lost(&request);
        };
        let user = request.caller.user;
        let fresh = || Session { node, queue: VecDeque::new(), outstanding: Vec::new(), route: node };
        let session = self.sessions.entry((shard, user)).or_insert_with(fresh);
        if !self.nodes[session.node].up {
            session.node = node;
        }
        self.audit.sends(shard, request.reply);
        session.queue.push_back(request);
        let me = self.nodes[session.node].me;
        self.schedule(0, Event::Pump(me, shard, user));
    }

    /// Sends on what may be sent on.
    pub(super) fn pump(&mut self, me: Incarnation, shard: ShardId, user: UserId) -> Verdict {
        let early = self.is(Canary::RouteChangedEarly);
        loop {
            let here = matches!(self.nodes[me.node].places.get(&shard), Some(Place::Up(_)));
            let believed = self.nodes[me.node].routes.owner(shard).map(|(_, owner)| *owner);
            let route = if here { Some(me.node) } else { believed.filter(|owner| *owner != me.node) };
            let Some(session) = self.sessions.get_mut(&(shard, user)) else { return Ok(()) };
            if session.node != me.node {
                return Ok(());
            }
            let waits = !session.outstanding.is_empty() && (route != Some(session.route) || !here) && !early;
            if waits || session.queue.is_empty() {
                return Ok(());
            }
            let Some(request) = session.queue.pop_front() else { return Ok(()) };
            session.outstanding.push(request.clone());
            let Some(route) = route else {
                let outcome = Outcome::Unavailable(Unavailable::Overloaded);
                self.client_hears(me, shard, &request, &outcome);
                continue;
            };
            if here {
                session.route = route;
                self.arrive(me, shard, [Waiter { request, from: Origin::Here }].into())?;
                if self.nodes[me.node].paused_until > self.now || !self.is_alive(me) {
                    // Events of the node wait or have died; a later pump goes on.
                    self.schedule(0, Event::Pump(me, shard, user));
                    return Ok(());
                }
            } else {
                self.forward(me, shard, route, vec![request], false);
            }
        }
    }

    /// Outstanding commands are elsewhere now, and the sessions wait for them there: a shard that moves away
    /// and comes back is another route although it is the same node.
    fn route_sessions(&mut self, shard: ShardId, requests: &[Request], to: usize) {
        for request in requests {
            if let Some(session) = self.sessions.get_mut(&(shard, request.caller.user)) {
                session.route = to;
            }
        }
    }

    /// Sends commands to another node.
    pub(super) fn forward(
        &mut self,
        me: Incarnation,
        shard: ShardId,
        to: usize,
        requests: Vec<Request>,
        rerouted: bool,
    ) {
        self.coverage.count("cluster", if rerouted { "REROUTED" } else { "FORWARDED" });
        self.route_sessions(shard, &requests, to);
        let node = &mut self.nodes[me.node];
        let hop = node.fresh_no();
        node.hops.insert(hop, Hop { shard, left: requests.clone(), rerouted });
        let until = node.clock.moment(self.now) + HOP_PATIENCE;
        self.schedule_moment(me, until, Event::HopTimeOut(me, hop));
        self.stream(me, to, Message::Forward { hop, shard, requests });
    }

    pub(super) fn forwarded(
        &mut self,
        me: Incarnation,
        from: Incarnation,
        hop: u64,
        shard: ShardId,
        requests: Vec<Request>,
    ) -> Verdict {
        self.may_pause &= requests.len() == 1;
        let waiters = requests.into_iter().map(|request| Waiter { request, from: Origin::Hop(from, hop) });
        self.arrive(me, shard, waiters.collect())
    }

    /// The owner answers a command that was forwarded.
    pub(super) fn hop_answered(&mut self, me: Incarnation, hop: u64, reply: ReplyTo, outcome: &Outcome) {
        let Some(sent) = self.nodes[me.node].hops.get_mut(&hop) else { return };
        let shard = sent.shard;
        let found = sent.left.iter().position(|request| request.reply == reply);
        let Some(request) = found.map(|at| sent.left.remove(at)) else { return };
        if sent.left.is_empty() {
            self.nodes[me.node].hops.remove(&hop);
        }
        self.client_hears(me, shard, &request, outcome);
    }

    /// Some of the commands that were forwarded went to the wrong node: once more, or not at all.
    pub(super) fn hop_refused(
        &mut self,
        me: Incarnation,
        hop: u64,
        replies: &[ReplyTo],
        route: Option<(Epoch, usize)>,
    ) -> Verdict {
        let Some(sent) = self.nodes[me.node].hops.get_mut(&hop) else { return Ok(()) };
        let (shard, rerouted) = (sent.shard, sent.rerouted);
        let (refused, left) = sent.left.drain(..).partition(|request| replies.contains(&request.reply));
        sent.left = left;
        let refused: Vec<Request> = refused;
        if sent.left.is_empty() {
            self.nodes[me.node].hops.remove(&hop);
        }
        if let Some((epoch, owner)) = route {
            self.hears_of(me, shard, epoch, owner);
        }
        let here = matches!(self.nodes[me.node].places.get(&shard), Some(Place::Up(_)));
        let owner = self.nodes[me.node].routes.owner(shard).map(|(_, owner)| *owner);
        match owner {
            _ if here && !rerouted => {
                self.may_pause = false;
                self.route_sessions(shard, &refused, me.node);
                let waiters = refused.into_iter().map(|request| Waiter { request, from: Origin::Here });
                self.arrive(me, shard, waiters.collect())?;
            }
            Some(owner) if owner != me.node && !rerouted => self.forward(me, shard, owner, refused, true),
            _ => {
                for request in refused {
                    let outcome = Outcome::Unavailable(Unavailable::Overloaded);
                    self.client_hears(me, shard, &request, &outcome);
                }
            }
        }
        Ok(())
    }

    /// The other node does not answer: nobody knows what becomes of the commands.
    pub(super) fn hop_timed_out(&mut self, me: Incarnation, hop: u64) {
        let Some(sent) = self.nodes[me.node].hops.remove(&hop) else { return };
        for request in sent.left {
            self.audit.give_up(sent.shard, request.reply);
            let outcome = Outcome::Unavailable(Unavailable::Ledger);
            self.client_hears(me, sent.shard, &request, &outcome);
        }
    }

    /// A client is answered, if it still waits.
    pub(super) fn client_hears(
        &mut self,
        me: Incarnation,
        shard: ShardId,
        request: &Request,
        outcome: &Outcome,
    ) {
        let user = request.caller.user;
        let Some(session) = self.sessions.get_mut(&(shard, user)) else { return };
        let Some(at) = session.outstanding.iter().position(|sent| sent.reply == request.reply) else {
            return;
        };
        session.outstanding.remove(at);
        self.trace.line(|| format!("    client of {} hears {outcome:?}", request.reply));
        self.audit.told(shard, outcome, &self.database.ledgers[usize::from(shard.0)]);
        self.workloads[usize::from(shard.0)].answered(request, outcome);
        self.fold(request.reply.0 << 8 | u64::from(matches!(outcome, Outcome::Granted(_))));
        self.schedule(0, Event::Pump(me, shard, user));
    }

    /// A node's sockets are gone: nobody knows what becomes of what was sent.
    pub(super) fn sessions_end(&mut self, node: usize) {
        for ((shard, _), session) in self.sessions.iter_mut().filter(|(_, session)| session.node == node) {
            let workload = &mut self.workloads[usize::from(shard.0)];
            for request in session.outstanding.drain(..) {
                self.audit.give_up(*shard, request.reply);
                workload.lost(&request);
            }
            for request in session.queue.drain(..) {
                workload.lost(&request);
            }
        }
    }
}
