//! A fake mirror of one gate, and the way to it: batches in order, late, and not at all while it is away.

use crate::gate::{Gate, KeptPass, MirrorOp, Snapshot};
use crate::ids::{Epoch, OpNo};

/// What is on its way to the mirror.
#[derive(Clone, Debug)]
pub struct Batch {
    pub epoch: Epoch,
    /// The newest operation in it.
    pub upto: OpNo,
    pub changes: Vec<Change>,
    /// The owner waits to hear that the mirror is back.
    pub back: bool,
}

#[derive(Clone, Debug)]
pub enum Change {
    Op(MirrorOp),
    /// Everything, as it was when this was sent.
    Whole(Box<Snapshot>),
}

impl Change {
    /// What a gate wants changed.
    pub fn of(op: MirrorOp, gate: &Gate) -> Self {
        match op {
            MirrorOp::Rebuild => Self::Whole(Box::new(gate.snapshot())),
            op => Self::Op(op),
        }
    }
}

/// What survives a crash.
#[derive(Clone, Debug, Default)]
pub struct Mirror {
    /// Of the owner; what comes from another one is refused.
    pub epoch: Epoch,
    pub kept: Snapshot,
}

impl Mirror {
    /// Whether it took the batch.
    pub fn apply(&mut self, batch: &Batch) -> bool {
        if batch.epoch != self.epoch {
            return false;
        }
        for change in &batch.changes {
            match change {
                Change::Op(op) => self.change(op),
                Change::Whole(snapshot) => self.kept = (**snapshot).clone(),
            }
        }
        true
    }

    fn change(&mut self, op: &MirrorOp) {
        let kept = &mut self.kept;
        match *op {
            MirrorOp::Join { user, turn } => {
                kept.waiting.retain(|(other, _)| *other != turn);
                kept.waiting.push((turn, user));
                kept.waiting.sort_unstable();
                kept.next.0 = kept.next.0.max(turn.0 + 1);
            }
            MirrorOp::Remove { turn, .. } => kept.waiting.retain(|(other, _)| *other != turn),
            MirrorOp::Admit { user, turn, pass, ends_at } => {
                kept.waiting.retain(|(other, _)| *other != turn);
                kept.passes.retain(|other| other.user != user);
                kept.passes.push(KeptPass { user, turn, id: pass, ends_at });
                kept.passes.sort_unstable_by_key(|other| other.user);
            }
            MirrorOp::End { user, pass } => {
                kept.passes.retain(|other| (other.user, other.id) != (user, pass));
            }
            MirrorOp::Draw(draw) => kept.draw = draw,
            MirrorOp::Rebuild => unreachable!("the world copies the whole instead"),
        }
    }
}

/// The owner's side.
#[derive(Debug, Default)]
pub struct Pipe {
    pub queue: Vec<Change>,
    pub newest: OpNo,
    /// The mirror takes nothing.
    pub away: bool,
    /// When the last batch arrives: the next is no earlier.
    pub arrives: i64,
}

impl Pipe {
    /// Queues a change; `true` when a flush is due, because it is the first.
    pub fn push(&mut self, no: OpNo, change: Change) -> bool {
        self.newest = no;
        if self.away {
            return false;
        }
        self.queue.push(change);
        self.queue.len() == 1
    }
}
