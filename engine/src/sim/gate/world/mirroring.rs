//! The world's way to the mirror.

use super::{Event, World};
use crate::gate::{Input, MirrorOp, Snapshot};
use crate::ids::{Epoch, OpNo};
use crate::sim::gate::auditor::Verdict;
use crate::sim::gate::mirror::{Batch, Change};
use crate::sim::gate::options::Canary;

impl World<'_> {
    /// Sends what is queued.
    pub(super) fn flush(&mut self, epoch: Epoch) {
        if epoch != self.epoch || self.gate.is_none() || self.pipe.away || self.pipe.queue.is_empty() {
            return;
        }
        let mut changes = std::mem::take(&mut self.pipe.queue);
        match self.options.canary {
            Some(Canary::MirrorForgetsRemove) => {
                changes.retain(|change| !matches!(change, Change::Op(MirrorOp::Remove { .. })));
            }
            Some(Canary::MirrorForgetsAdmit) => {
                changes.retain(|change| !matches!(change, Change::Op(MirrorOp::Admit { .. })));
            }
            Some(Canary::MirrorAcksEarly) => {
                let (upto, outages) = (self.pipe.newest, self.outages);
                self.schedule(0, Event::Answer { epoch, upto, back: false, outages });
            }
            _ => {}
        }
        self.send(changes, false);
    }

    fn send(&mut self, changes: Vec<Change>, back: bool) {
        let pause = self.streams.mirror.between(0, self.options.faults.mirror_latency);
        self.pipe.arrives = self.pipe.arrives.max(self.now + pause);
        let batch = Batch { epoch: self.epoch, upto: self.pipe.newest, changes, back };
        self.batches += 1;
        self.schedule(self.pipe.arrives - self.now, Event::Arrives { no: self.batches, batch });
    }

    pub(super) fn arrives(&mut self, no: u64, batch: &Batch) {
        if no < self.lost_below || !self.mirror.apply(batch) {
            return;
        }
        let pause = self.streams.mirror.between(0, self.options.faults.mirror_latency);
        let Batch { epoch, upto, back, .. } = *batch;
        let outages = self.outages;
        self.schedule(pause, Event::Answer { epoch, upto, back, outages });
    }

    pub(super) fn answer(&mut self, epoch: Epoch, upto: OpNo, back: bool, outages: u32) -> Verdict {
        if epoch != self.epoch || outages != self.outages {
            return Ok(());
        }
        self.step(if back { Input::MirrorBack { upto } } else { Input::Mirrored { upto } })
    }

    /// The mirror takes nothing any more. What is on its way arrives or does not, all of it.
    pub(super) fn mirror_away(&mut self) -> Verdict {
        if self.gate.is_none() || self.pipe.away {
            return Ok(());
        }
        self.coverage.count("world", "MIRROR AWAY");
        self.outages += 1;
        self.pipe.away = true;
        self.pipe.queue.clear();
        self.auditor.lossy = true;
        let wiped = self.streams.mirror.chance(self.options.faults.mirror_wiped);
        if wiped {
            self.coverage.count("world", "MIRROR WIPED");
            self.mirror.kept = Snapshot::default();
        }
        if wiped || self.streams.mirror.chance(500) {
            self.lost_below = self.batches + 1;
        }
        let pause = self.streams.mirror.between(0, 5_000_000);
        self.schedule(pause, Event::Rebuild { epoch: self.epoch, outages: self.outages });
        self.step(Input::MirrorAway)
    }

    /// The mirror can be reached again: everything goes there anew, and what follows after it.
    pub(super) fn rebuild(&mut self, epoch: Epoch, outages: u32) {
        if epoch != self.epoch || outages != self.outages {
            return;
        }
        let Some(gate) = &self.gate else { return };
        let whole = Change::Whole(Box::new(gate.snapshot()));
        self.pipe.away = false;
        self.send(vec![whole], true);
    }
}
