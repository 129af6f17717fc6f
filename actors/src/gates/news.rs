//! What a gate tells everybody who looks, on every node.

use engine::gate::{Bitmap, Pace, Pass, PassEnd, Tick};
use engine::{PassId, UserId};

/// In the order in which it happened.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// Where a listener begins: every block with anybody in it, and its bitmap. What was known before is void, and
    /// whoever waits asks how it stands.
    View(Line),
    /// What changed since the tick before, and the bitmaps of the blocks that are named.
    Tick(Line),
    /// Somebody may enter.
    Admitted { user: UserId, pass: Pass, durable: bool },
    /// A pass is dead.
    Ended { user: UserId, pass: PassId, why: PassEnd },
}

/// The line, or what changed of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    pub tick: Tick,
    /// Of the blocks in `tick.counts`, in their order.
    pub bitmaps: Vec<Bitmap>,
    pub pace: Option<Pace>,
    /// Whether ranks mean anything: not before the draw of a presale.
    pub has_ranks: bool,
}
