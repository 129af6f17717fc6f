//! Who is dead: what connections tell, and shards that are taken from the dead.
//!
//! A process that ends closes its sessions, its machine refuses whoever knocks, and the ledger loses it too, unless
//! a wire is cut: then its end is silence. A machine that dies with it is silent altogether. And a node that lives
//! may look dead from most sides for a while, behind firewalls that refuse and reset: never from all of them.

use super::event::Event;
use super::net::End;
use super::node::{Incarnation, Node};
use super::options::Canary;
use super::world::World;
use crate::lease::{Evidence, Knock, LedgerSessions, PeerSession};
use crate::time::Span;

/// How long one waits at a port.
const KNOCK: i64 = 500_000;

/// A process that was not heard of for so long is knocked at, as one is whose session has ended.
const SILENT_AFTER: Span = Span::from_secs(4);

/// For how long evidence counts: what is known piece by piece must have been so at about the same time.
const FRESH: Span = Span::from_secs(2);

/// How long the ledger keeps a session of a process whose end it did not hear of.
const KEPT: i64 = 10_000_000;

/// A live node that looks dead.
#[derive(Clone, Copy, Debug)]
pub struct Lookalike {
    until: i64,
    ports: [Knock; 3],
}

impl World<'_> {
    /// Everybody hears of the end of a process, as far as wires are whole and its machine lives.
    pub(super) fn sockets_close(&mut self, gone: Incarnation, is_machine: bool) {
        for other in 0..self.nodes.len() {
            let me = self.nodes[other].me;
            let fate = self.net.fate(End::Node(gone.node), End::Node(other), self.now, &self.options.faults);
            if let Some(pause) = fate.filter(|_| !is_machine && other != gone.node) {
                self.schedule(pause, Event::SessionEnded(me, gone));
            }
        }
        let fate = self.net.fate(End::Node(gone.node), End::Ledger, self.now, &self.options.faults);
        let pause = fate.filter(|_| !is_machine).unwrap_or(KEPT);
        self.database.sessions_end(gone, self.now + pause);
    }

    pub(super) fn session_ended(&mut self, me: Incarnation, of: Incarnation) {
        self.nodes[me.node].sessions.insert(of, PeerSession::Ended);
        self.knock(me, of);
    }

    /// Something of the process has arrived.
    pub(super) fn hears(&mut self, me: Incarnation, from: Incarnation) {
        let node = &mut self.nodes[me.node];
        node.heard[from.node] = Some(node.clock.moment(self.now));
        node.sessions.insert(from, PeerSession::Open);
        node.dead.remove(&from);
    }

    /// Whoever has shards and is not heard of is knocked at.
    pub(super) fn look_after(&mut self, me: Incarnation, owners: impl Iterator<Item = Incarnation>) {
        for owner in owners.filter(|owner| owner.node != me.node) {
            let node = &mut self.nodes[me.node];
            let now = node.clock.moment(self.now);
            let is_silent = node.heard[owner.node].is_none_or(|at| now.since(at) >= SILENT_AFTER);
            let session = node.sessions.entry(owner).or_insert(PeerSession::Silent);
            if is_silent && *session == PeerSession::Open {
                *session = PeerSession::Silent;
            }
            if *session != PeerSession::Open {
                self.knock(me, owner);
            }
        }
    }

    fn knock(&mut self, me: Incarnation, of: Incarnation) {
        match self.knock_takes(me.node, of.node, of.node) {
            Some(pause) => self.schedule(pause, Event::Knock(me, of)),
            None => self.schedule(KNOCK, Event::Knocked(me, of, [Knock::Silent; 3])),
        }
    }

    /// A knock arrives, at the machine: a process that stands still has a kernel that answers.
    pub(super) fn knocked_at(&mut self, me: Incarnation, of: Incarnation) {
        let ports = match self.looks_of(of.node) {
            _ if self.machines_gone.contains(&of.node) => [Knock::Silent; 3],
            Some(looks) => looks.ports,
            None if self.nodes[of.node].up => [Knock::Answered; 3],
            None => [Knock::Refused; 3],
        };
        match self.knock_takes(of.node, me.node, of.node) {
            Some(pause) => self.schedule(pause, Event::Knocked(me, of, ports)),
            None => self.schedule(KNOCK, Event::Knocked(me, of, [Knock::Silent; 3])),
        }
    }

    /// How long a knock at that node, or its answer, is on its way; `None` when nobody waits so long. What is before a
    /// node that looks dead answers although nothing gets through.
    fn knock_takes(&mut self, from: usize, to: usize, at: usize) -> Option<i64> {
        if self.looks_of(at).is_some() {
            return Some(self.options.faults.latency / 2);
        }
        let fate = self.net.fate(End::Node(from), End::Node(to), self.now, &self.options.faults);
        fate.filter(|pause| *pause < KNOCK)
    }

    fn looks_of(&self, node: usize) -> Option<Lookalike> {
        self.lookalikes.get(&node).copied().filter(|looks| self.now < looks.until)
    }

    /// The evidence is complete, but for what the ledger itself looks at when a shard is taken.
    pub(super) fn knocked(&mut self, me: Incarnation, of: Incarnation, ports: [Knock; 3]) {
        let session = self.nodes[me.node].sessions.get(&of).copied().unwrap_or(PeerSession::Silent);
        let [public, ops, peer] = ports;
        let mut evidence = Evidence { public, ops, peer, session, ledger: LedgerSessions::None };
        if self.is(Canary::OnePortIsDeath) {
            (evidence.public, evidence.ops) = (peer, peer);
        }
        if self.is(Canary::SilenceIsDeath) {
            let refused = |knock| if knock == Knock::Silent { Knock::Refused } else { knock };
            let [public, ops, peer] = ports.map(refused);
            let is_over = session != PeerSession::Open;
            let session = if is_over { PeerSession::Ended } else { session };
            evidence = Evidence { public, ops, peer, session, ..evidence };
        }
        if evidence.proves_death() {
            self.coverage.count("cluster", if self.is_alive(of) { "LOOKS DEAD" } else { "KNOWN DEAD" });
            self.trace.line(|| format!("{} {me:?} finds {of:?} dead", self.now));
            let node = &mut self.nodes[me.node];
            node.dead.insert(of, node.clock.moment(self.now));
        } else {
            self.nodes[me.node].dead.remove(&of);
        }
    }

    /// Whether the process was just found dead.
    pub(super) fn is_dead(&self, me: Incarnation, of: Incarnation) -> bool {
        let node = &self.nodes[me.node];
        let now = node.clock.moment(self.now);
        node.dead.get(&of).is_some_and(|at| now.since(*at) < FRESH)
    }

    /// From most sides a node looks dead that lives: one thing at least says so.
    pub(super) fn looks_dead(&mut self, me: Incarnation) {
        let until = self.now + self.streams.crash.between(500_000, 8_000_000);
        // Not at once again: nobody could put together what each of two times lacked.
        let settled = self.now - 2 * FRESH.0;
        if self.lookalikes.get(&me.node).is_some_and(|looks| looks.until > settled) {
            return;
        }
        let missing = self.streams.crash.below(5);
        let otherwise = if self.streams.crash.chance(500) { Knock::Silent } else { Knock::Answered };
        let mut ports = [Knock::Refused; 3];
        if let Some(port) = usize::try_from(missing).ok().and_then(|missing| ports.get_mut(missing)) {
            *port = otherwise;
        }
        self.coverage.count("cluster", "LOOKALIKE");
        self.trace.line(|| format!("-- {} {me:?} looks dead until {until}, but for {missing}", self.now));
        self.lookalikes.insert(me.node, Lookalike { until, ports });
        if missing != 4 {
            self.database.sessions_reset(me);
            self.net.cut_one(End::Node(me.node), End::Ledger, until);
        }
        for other in 0..self.nodes.len() {
            let observer = self.nodes[other].me;
            if other != me.node {
                self.net.cut_one(End::Node(me.node), End::Node(other), until);
                if missing == 3 {
                    // One that had ended was open again, and was given up.
                    self.nodes[other].sessions.insert(me, PeerSession::Silent);
                } else {
                    self.schedule(0, Event::SessionEnded(observer, me));
                }
            }
        }
    }

    /// The process is over, and another will start on the node.
    pub(super) fn process_ends(&mut self, me: Incarnation, is_machine: bool) {
        self.sockets_close(me, is_machine);
        if is_machine {
            self.machines_gone.insert(me.node);
        }
        let (terms, nodes) = (self.options.terms, self.options.nodes);
        let timeline = self.database.timeline;
        self.nodes[me.node] = Node { up: false, ..Node::start(me, nodes, terms, self.now, 1_000, timeline) };
        self.sessions_end(me.node);
        let pause = self.streams.crash.between(100_000, 10_000_000);
        self.schedule(pause, Event::Start(me.node));
    }
}
