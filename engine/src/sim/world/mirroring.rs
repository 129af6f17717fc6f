//! Between the shard and the mirror.

use super::{Event, World};
use crate::effect::MirrorOp;
use crate::ids::{Epoch, OptionId};
use crate::sim::auditor::Verdict;
use crate::sim::mirror::Answer;
use crate::sim::options::Canary;
use crate::sim::pipe::{Parcel, Sent};

impl World<'_> {
    pub(super) fn tell_mirror(&mut self, op: MirrorOp) {
        let forgets = self.options.canary == Some(Canary::MirrorForgetsLock);
        if forgets && matches!(op, MirrorOp::Lock(lock) if lock.seat.0 == 2) {
            return;
        }
        if self.pipe.push(op) {
            let pause = self.streams.mirror.between(0, self.options.faults.mirror_latency / 4);
            self.schedule(pause, Event::MirrorFlush(self.pipe.epoch));
        }
    }

    pub(super) fn flush_mirror(&mut self, epoch: Epoch) -> Verdict {
        if epoch == self.pipe.epoch {
            let mut sent = Sent::new();
            self.pipe.flush(&mut self.streams.mirror, &self.options.faults, &mut sent);
            self.schedule_parcels(sent);
        }
        Ok(())
    }

    fn schedule_parcels(&mut self, sent: Sent) {
        for (pause, parcel) in sent {
            self.schedule(pause, Event::Mirror(parcel));
        }
    }

    pub(super) fn mirror_parcel(&mut self, parcel: Parcel) -> Verdict {
        let (epoch, option, known) = match parcel {
            Parcel::Arrives { message, counted } => {
                let answer = self.mirror.apply(&message);
                if !counted {
                    return Ok(());
                }
                (message.epoch, message.option, answer == Answer::Applied)
            }
            Parcel::Missed { epoch, option } => (epoch, option, false),
        };
        if epoch == self.pipe.epoch {
            self.pipe.settled();
            if !known {
                self.rebuild_option(option);
            }
        }
        Ok(())
    }

    fn rebuild_option(&mut self, option: OptionId) {
        let Some(shard) = &self.shard else { return };
        let mut sent = Sent::new();
        self.pipe.rebuild(shard, option, &mut self.streams.mirror, &self.options.faults, &mut sent);
        self.schedule_parcels(sent);
    }

    pub(super) fn rebuild_mirror(&mut self) {
        let options: Vec<_> =
            self.shard.iter().flat_map(|shard| shard.options().map(|view| view.option)).collect();
        for option in options {
            self.rebuild_option(option);
        }
    }

    /// Everything is gone, and the owner will notice.
    pub(super) fn crash_mirror(&mut self) {
        self.trace.line(|| "-- the mirror is empty".to_owned());
        self.mirror.crash();
        let mut sent = Sent::new();
        let options: Vec<_> = self.shadow.options.keys().copied().collect();
        self.pipe.check_later(options.into_iter(), &mut sent);
        self.schedule_parcels(sent);
    }
}
