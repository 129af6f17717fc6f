//! What goes wrong, drawn with each command; and moves that somebody asks for.

use super::event::Event;
use super::node::{Incarnation, Node, Place};
use super::world::World;
use crate::ids::ShardId;
use crate::sim::auditor::Verdict;
use crate::sim::pipe::Parcel;

impl World<'_> {
    pub(super) fn disturb(&mut self) -> Verdict {
        let faults = self.options.faults;
        if self.streams.crash.chance(faults.crash) {
            let me = self.any_node();
            self.crash(me);
        }
        if self.streams.crash.chance(faults.pause) {
            let me = self.any_node();
            if self.nodes[me.node].up {
                self.pause(me.node);
            }
        }
        if self.streams.clock.chance(faults.partition) {
            let cut = self.net.cut(self.options.nodes, self.now);
            self.coverage.count("cluster", "CUT");
            self.trace.line(|| cut);
        }
        if self.streams.clock.chance(faults.outage) {
            let until = self.net.outage(self.options.nodes, self.now);
            self.coverage.count("cluster", "OUTAGE");
            self.trace.line(|| format!("-- the ledger is away until {until}"));
        }
        if self.streams.crash.chance(faults.farewell) {
            let me = self.any_node();
            if self.nodes[me.node].up {
                self.farewell(me);
            }
        }
        if self.streams.crash.chance(faults.lookalike) {
            let me = self.any_node();
            if self.nodes[me.node].up {
                self.looks_dead(me);
            }
        }
        if self.streams.clock.chance(faults.fail_over) {
            self.ledger_dies();
        }
        if self.streams.mirror.chance(faults.mirror_wiped) {
            self.wipe_mirror();
        }
        if self.streams.moves.chance(faults.moves) {
            self.ask_for_a_move()?;
        }
        Ok(())
    }

    fn any_node(&mut self) -> Incarnation {
        let node = self.streams.crash.below(self.nodes.len() as u64);
        self.nodes[usize::try_from(node).unwrap_or(0)].me
    }

    /// The process dies; another will start on the same node.
    pub(super) fn crash(&mut self, me: Incarnation) {
        if !self.is_alive(me) {
            return;
        }
        self.crash_count += 1;
        self.coverage.count("cluster", "CRASH");
        self.trace.line(|| format!("-- {} {me:?} crashes", self.now));
        let is_machine = self.streams.crash.chance(200);
        self.process_ends(me, is_machine);
    }

    pub(super) fn start_node(&mut self, node: usize) {
        let rate = self.draw_rate();
        let me = Incarnation { node, start: self.nodes[node].me.start + 1 };
        self.trace.line(|| format!("-- {} {me:?} starts", self.now));
        let (terms, timeline) = (self.options.terms, self.database.timeline);
        self.machines_gone.remove(&node);
        self.nodes[node] = Node::start(me, self.options.nodes, terms, self.now, rate, timeline);
        self.schedule(0, Event::Beat(me));
    }

    /// The node stands still, for less or for much longer than a lease.
    pub(super) fn pause(&mut self, node: usize) {
        let most = *self.streams.crash.pick(&[500_000, 3_000_000, 15_000_000]).unwrap_or(&0);
        let until = self.now + self.streams.crash.between(1_000, most);
        let node = &mut self.nodes[node];
        // Who stands still already goes on when it was to.
        if node.paused_until > self.now {
            return;
        }
        node.paused_until = until;
        let me = node.me;
        self.coverage.count("cluster", "PAUSE");
        self.trace.line(|| format!("-- {} {me:?} stands still until {until}", self.now));
        self.schedule(until - self.now, Event::Thaw(me));
    }

    /// Everything is gone, and the owner will notice.
    fn wipe_mirror(&mut self) {
        let shard = self.streams.mirror.below(u64::from(self.options.shards));
        let shard = ShardId(u16::try_from(shard).unwrap_or(0));
        self.trace.line(|| format!("-- the mirror of shard {shard} is empty"));
        self.coverage.count("cluster", "WIPED");
        self.mirrors[usize::from(shard.0)].crash();
        let mut sent = Vec::<(Incarnation, i64, Parcel)>::new();
        for node in self.nodes.iter_mut().filter(|node| node.up) {
            let me = node.me;
            if let Some(Place::Up(actor)) = node.places.get_mut(&shard) {
                let options: Vec<_> = actor.shard.options().map(|view| view.option).collect();
                let mut parcels = crate::sim::pipe::Sent::new();
                actor.pipe.check_later(options.into_iter(), &mut parcels);
                sent.extend(parcels.into_iter().map(|(pause, parcel)| (me, pause, parcel)));
            }
        }
        for (me, pause, parcel) in sent {
            self.schedule(pause, Event::Mirror { me, shard, parcel });
        }
    }

    fn ask_for_a_move(&mut self) -> Verdict {
        let shard = self.streams.moves.below(u64::from(self.options.shards));
        let shard = ShardId(u16::try_from(shard).unwrap_or(0));
        let target = self.streams.moves.below(self.nodes.len() as u64);
        let target = usize::try_from(target).unwrap_or(0);
        let owner = self.database.owner(shard).1;
        match owner {
            Some(me)
                if self.is_alive(me) && me.node != target && self.nodes[me.node].paused_until <= self.now =>
            {
                self.begin_move(me, shard, target)
            }
            _ => Ok(()),
        }
    }
}
