//! Crashes, restores, and the comparison of a shard with its own restore.

use super::{Event, World};
use crate::effect::{Effects, Input};
use crate::entry::Restored;
use crate::ids::{Epoch, ShardId};
use crate::shard::Shard;
use crate::sim::auditor::{Auditor, Verdict};
use crate::sim::pipe::Pipe;
use crate::sim::shadow::Shadow;
use crate::sim::writer::Writer;
use crate::time::Time;

const SHARD: ShardId = ShardId(0);

impl World<'_> {
    /// The actor or its whole process dies between two effects.
    pub(super) fn crash(&mut self) {
        self.crash_count += 1;
        self.coverage.count("world", "CRASH");
        self.trace.line(|| "-- crash".to_owned());
        if self.streams.crash.chance(500) {
            // Only the actor: the writer still has what it was given.
            if let Some(message) = self.writer.orphaned() {
                let pause = self.streams.crash.between(0, self.options.faults.ledger_latency);
                self.schedule(pause, Event::Ledger(message));
            }
        } else {
            self.clock.replace();
        }
        self.end_incarnation();
    }

    /// Nobody hears from this incarnation again; another will follow.
    pub(super) fn end_incarnation(&mut self) {
        self.shard = None;
        self.writer = Writer::new(Epoch(0));
        self.pipe = Pipe::new(Epoch(0));
        for request in std::mem::take(&mut self.waiting).into_values() {
            self.workload.lost(&request);
        }
        let pause = self.streams.crash.between(0, 2_000_000);
        self.schedule(pause, Event::Restart);
    }

    /// Acquire, raise the mirror's epoch, load, serve, rebuild the mirror.
    pub(super) fn restart(&mut self) -> Verdict {
        let epoch = self.ledger.acquire();
        let now = self.clock.read(self.now, &self.options.faults);
        let mut restored = self.ledger.load(now, &self.options.settings);
        if !self.streams.mirror.chance(self.options.faults.mirror_silent) {
            restored.soft_locks = self.mirror.take_over(epoch, now);
        }
        if !restored.soft_locks.is_empty() {
            self.coverage.count("world", "LOCKS RESTORED");
        }
        self.trace.line(|| {
            let Restored { reservations, answered, soft_locks, head, .. } = &restored;
            let (rows, keys, locks) = (reservations.len(), answered.len(), soft_locks.len());
            format!(
                "-- {now} epoch {epoch}: event {}, {rows} rows, {keys} keys, {locks} locks",
                head.event_seq
            )
        });
        self.shadow = Shadow::restore(self.options.settings, now, &restored);
        self.shard_now = now.max(restored.newest_event);
        let shard = restore(self.options.settings, epoch, now, restored)?;
        self.auditor.restored(&shard);
        self.writer = Writer::new(epoch);
        self.pipe = Pipe::new(epoch);
        self.shard = Some(shard);
        self.wake_at = None;
        self.rebuild_mirror();
        Auditor::check_ledger(&self.ledger)?;
        self.step(Input::Tick)
    }

    /// Where nothing is on its way, a restore now gives the very state that is there.
    pub(super) fn check_quiescence(&mut self) -> Verdict {
        let Some(shard) = &self.shard else { return Ok(()) };
        if shard.load().pending > 0 || !self.pipe.is_drained() || !self.writer.is_idle() {
            return Ok(());
        }
        self.coverage.count("world", "QUIESCENT");
        let now = self.shard_now;
        let mirrored = self.mirror.live(now);
        let mut locks: Vec<_> = shard.options().flat_map(|view| shard.soft_locks(view.option)).collect();
        locks.sort_unstable_by_key(|lock| (lock.option, lock.seat));
        if mirrored != locks {
            return Err(format!("the mirror differs\n  mirror: {mirrored:?}\n  memory: {locks:?}"));
        }
        for (id, row) in &self.ledger.reservations {
            if row.is_ended() || shard.reservation(*id) == Some(row) {
                continue;
            }
            return Err(format!("the ledger has {row:?}, memory {:?}", shard.reservation(*id)));
        }
        let mut restored = self.ledger.load(now, &self.options.settings);
        restored.soft_locks = mirrored;
        let mut again = restore(self.options.settings, shard.epoch(), now, restored)?;
        again.step(now, Input::Tick, &mut Effects::new());
        if again.digest() != shard.digest() {
            let (before, after) = (shard.digest(), again.digest());
            return Err(format!("the digest is {before:016x}, after a restore {after:016x}"));
        }
        let mut restored = self.ledger.load(now, &self.options.settings);
        restored.soft_locks = shard.carry();
        let mut moved = restore(self.options.settings, shard.epoch(), now, restored)?;
        moved.step(now, Input::Tick, &mut Effects::new());
        if (moved.digest(), moved.carry()) != (shard.digest(), shard.carry()) {
            let (before, after) = (shard.carry(), moved.carry());
            return Err(format!("a move changes the shard\n  before: {before:?}\n  after:  {after:?}"));
        }
        Ok(())
    }
}

fn restore(
    settings: crate::settings::Settings,
    epoch: Epoch,
    now: Time,
    restored: Restored,
) -> Result<Shard, String> {
    let mut shard = Shard::new(SHARD, epoch, settings);
    shard.restore(now, restored).map_err(|error| format!("restore fails: {error}"))?;
    Ok(shard)
}
