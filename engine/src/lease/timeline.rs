//! Which epochs are over. A ledger that fails over begins another timeline, and may have forgotten what it granted
//! last: so an epoch tells on which timeline it was granted.

use crate::ids::Epoch;

/// Epochs of one timeline. More than one shard can ever have on it.
const EPOCHS: u64 = 1_000_000;

/// A timeline of the ledger, counted from 1. One that never fails over has no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timeline(pub u32);

impl Timeline {
    /// The last epoch of the timelines before. Whoever acquires gets one above it, and so none that the lost end of
    /// an older timeline may have given; a process that starts only then need not have seen any of it.
    #[must_use]
    pub const fn floor(self) -> Epoch {
        Epoch(self.0.saturating_sub(1) as u64 * EPOCHS)
    }

    /// Whether the epoch was granted on an older timeline, and so has ended, whatever its row says.
    #[must_use]
    pub const fn is_over(self, epoch: Epoch) -> bool {
        epoch.0 <= self.floor().0 && self.0 > 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_ends_with_its_timeline() {
        assert_eq!((Timeline(1).floor(), Timeline(3).floor()), (Epoch(0), Epoch(2_000_000)));
        assert!(!Timeline(1).is_over(Epoch(1)));
        assert!(Timeline(2).is_over(Epoch(1)) && Timeline(2).is_over(Epoch(1_000_000)));
        assert!(!Timeline(2).is_over(Epoch(1_000_001)));
    }
}
