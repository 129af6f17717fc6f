//! What a gate has to say to its mirror's copy, in its order, and no more than may wait.

use engine::OpNo;
use engine::gate::{MirrorOp, Snapshot};
use tokio::sync::mpsc;

/// Changes that may wait for a copy. A gate whose copy lags refuses joins long before; one whose mirror was away goes on while
/// its copy is written anew, and this is for as long as that takes.
pub const ROOM: usize = 1 << 20;

/// What the gate has to say, in its order.
pub enum Change {
    Op(OpNo, MirrorOp),
    /// Everything is different.
    Rebuild(OpNo, Box<Snapshot>),
}

impl Change {
    pub const fn no(&self) -> OpNo {
        match self {
            Self::Op(no, _) | Self::Rebuild(no, _) => *no,
        }
    }
}

/// The gate's end. While nothing is copied it keeps nothing: whoever copies is handed everything first.
#[derive(Default)]
pub struct Changes(Option<mpsc::Sender<Change>>);

impl Changes {
    /// What changes from here on, for whoever has everything before it. Nobody else hears any more.
    pub fn anew(&mut self, room: usize) -> mpsc::Receiver<Change> {
        let (sender, receiver) = mpsc::channel(room);
        self.0 = Some(sender);
        receiver
    }

    /// Keeps a change, if anything is copied. Where there is no room for it the copy is given up: it ends with what waits already.
    pub fn push(&mut self, change: impl FnOnce() -> Change) {
        if self.0.as_ref().is_some_and(|copy| copy.try_send(change()).is_err()) {
            self.0 = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use engine::{Turn, UserId};

    use super::*;

    fn change(no: u64) -> Change {
        Change::Op(OpNo(no), MirrorOp::Join { user: UserId(1), turn: Turn(2) })
    }

    fn heard(copy: &mut mpsc::Receiver<Change>) -> Vec<u64> {
        std::iter::from_fn(|| copy.try_recv().ok()).map(|change| change.no().0).collect()
    }

    #[test]
    fn a_copy_that_has_no_room_ends_without_a_hole() {
        let mut changes = Changes::default();
        changes.push(|| change(1));
        let mut copy = changes.anew(2);
        (2..6).for_each(|no| changes.push(|| change(no)));
        assert_eq!(heard(&mut copy), [2, 3]);
        // There is room again, and still nothing after what is missing.
        changes.push(|| change(6));
        assert_eq!(heard(&mut copy), []);
        assert!(copy.is_closed());
        let mut next = changes.anew(2);
        changes.push(|| change(7));
        assert_eq!(heard(&mut next), [7]);
        // Nobody listens any more.
        drop(next);
        changes.push(|| change(8));
        assert!(changes.0.is_none());
    }
}
