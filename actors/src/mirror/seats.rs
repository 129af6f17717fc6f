//! A set of seats of one option, and what it is good for: the fewest changes that say the same.

use engine::{MirrorOp, SeatNo};

/// One bit a seat, as far as seats have been seen.
#[derive(Debug, Default)]
pub(super) struct SeatSet(Vec<u64>);

impl SeatSet {
    /// Whether the seat was not in it before.
    pub fn insert(&mut self, seat: SeatNo) -> bool {
        let (word, bit) = place(seat);
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        let fresh = self.0[word] & bit == 0;
        self.0[word] |= bit;
        fresh
    }

    /// Whether the seat was in it.
    pub fn remove(&mut self, seat: SeatNo) -> bool {
        let (word, bit) = place(seat);
        let Some(word) = self.0.get_mut(word) else { return false };
        let there = *word & bit != 0;
        *word &= !bit;
        there
    }

    pub fn clear(&mut self) {
        self.0.fill(0);
    }
}

const fn place(seat: SeatNo) -> (usize, u64) {
    (seat.0 as usize / 64, 1 << (seat.0 % 64))
}

/// The last change of each seat, without those that undo what the mirror never saw. `mirrored` are the seats
/// that the mirror has a soft lock for; `seen` is empty before and afterwards.
pub(super) fn coalesce(
    mut changes: Vec<MirrorOp>,
    mirrored: &mut SeatSet,
    seen: &mut SeatSet,
) -> Vec<MirrorOp> {
    changes.reverse();
    changes.retain(|change| seen.insert(seat_of(change)));
    changes.retain(|change| {
        seen.remove(seat_of(change));
        match change {
            MirrorOp::Lock(lock) => {
                mirrored.insert(lock.seat);
                true
            }
            MirrorOp::Unlock { seat, .. } => mirrored.remove(*seat),
        }
    });
    changes
}

const fn seat_of(change: &MirrorOp) -> SeatNo {
    match change {
        MirrorOp::Lock(lock) => lock.seat,
        MirrorOp::Unlock { seat, .. } => *seat,
    }
}
