//! A ledger that fails over: what was granted on the old timeline is over, whatever the rows say.

use super::event::Event;
use super::node::Incarnation;
use super::world::World;
use crate::ids::ShardId;
use crate::lease::Timeline;
use crate::sim::auditor::Verdict;

impl World<'_> {
    /// The primary dies, at once or after it was away for a while; its standby heard everything until then, or
    /// stopped hearing a moment before.
    pub(super) fn ledger_dies(&mut self) {
        if self.streams.clock.chance(self.options.faults.behind) {
            self.database.falls_behind();
        }
        let pause = self.streams.clock.between(0, 1_500_000);
        if self.streams.clock.chance(300) {
            let until = self.net.outage(self.options.nodes, self.now + pause);
            self.trace.line(|| format!("-- the ledger is away until {until}"));
        }
        self.schedule(pause, Event::FailOver);
    }

    pub(super) fn fail_over(&mut self) {
        let heads: Vec<_> = self.database.ledgers.iter().map(|ledger| ledger.head).collect();
        let lost = self.database.fail_over();
        let timeline = self.database.timeline;
        self.coverage.count("cluster", if lost { "FAIL-OVER WITH LOSS" } else { "FAIL-OVER" });
        self.trace.line(|| format!("-- {} the ledger fails over: {timeline:?}, loss {lost}", self.now));
        for (shard, head) in (0..).map(ShardId).zip(heads) {
            self.audit.failed_over(shard, head, &self.database.ledgers[usize::from(shard.0)]);
        }
        if lost {
            // Leases that were given and forgotten run out by themselves.
            self.lossy_until = self.now + 2 * self.options.terms.ttl.0;
        }
    }

    /// A process meets the new timeline: it begins anew with every shard.
    pub(super) fn failed_over(&mut self, me: Incarnation, timeline: Timeline) -> Verdict {
        let node = &mut self.nodes[me.node];
        if node.timeline == timeline {
            return Ok(());
        }
        node.timeline = timeline;
        // Nobody waits any more at sessions that have ended.
        node.asked.clear();
        node.acquiring.clear();
        node.heartbeats.failed();
        let was_beating = node.beat.take().is_some();
        self.coverage.count("cluster", "BEGINS ANEW");
        let shards: Vec<ShardId> = node.places.keys().copied().collect();
        for shard in shards {
            self.lose(me, shard)?;
        }
        if was_beating {
            self.not_beaten(me);
        }
        Ok(())
    }
}
