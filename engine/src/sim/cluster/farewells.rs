//! A node that is stopped: it gives its shards away, stops deciding, writes what it owes, gives its leases back.

use super::database::Ask;
use super::event::{Event, Message};
use super::node::{Incarnation, Place};
use super::options::Canary;
use super::world::World;

/// How often a node that stops looks whether everything is written, and how often it looks at most.
const LOOK: i64 = 50_000;
const LOOKS: u32 = 60;

/// How long it waits for its leases to be given back.
const RELEASE: i64 = 500_000;

impl World<'_> {
    pub(super) fn farewell(&mut self, me: Incarnation) {
        let node = &mut self.nodes[me.node];
        if node.draining || node.paused_until > self.now {
            return;
        }
        node.draining = true;
        self.coverage.count("cluster", "FAREWELL");
        self.trace.line(|| format!("-- {} {me:?} says farewell", self.now));
        self.tell_all(me, &Message::Hello { draining: true });
        let pause = self.streams.crash.between(0, 8_000_000);
        self.schedule(pause, Event::Stop(me));
    }

    pub(super) fn stop(&mut self, me: Incarnation) {
        if self.is(Canary::ReleasedWhileDeciding) {
            return self.release(me);
        }
        self.nodes[me.node].stopping = true;
        self.schedule(0, Event::Flushed(me, 0));
    }

    /// Leases are given back once nothing is on its way; what is when patience ends may still be written, and
    /// the leases run out by themselves.
    pub(super) fn flushed(&mut self, me: Incarnation, looks: u32) {
        let owes = |place: &Place| match place {
            Place::Up(actor) => !actor.writer.is_idle() || !actor.waiting.is_empty(),
            Place::Loading { .. } | Place::Raising { .. } => false,
        };
        if !self.nodes[me.node].places.values().any(owes) {
            self.release(me);
        } else if looks < LOOKS {
            self.schedule(LOOK, Event::Flushed(me, looks + 1));
        } else {
            self.coverage.count("cluster", "UNFLUSHED");
            self.exit(me);
        }
    }

    fn release(&mut self, me: Incarnation) {
        for (shard, epoch) in self.nodes[me.node].leases.held() {
            self.coverage.count("cluster", "RELEASED");
            self.ask(me, Ask::Release { shard, epoch });
        }
        self.schedule(RELEASE, Event::Exit(me));
    }

    pub(super) fn exit(&mut self, me: Incarnation) {
        self.trace.line(|| format!("-- {} {me:?} ends", self.now));
        self.process_ends(me, false);
    }
}
