//! The planned move of one shard from a living owner to another node, as two machines: the old owner's
//! [`Departure`] and the new owner's [`Arrival`].
//!
//! ```text
//! old owner                               ledger                      new owner
//!   Preparing   ── warm up ─────────────────────────────────────────▶  Warming: plans, connections
//!   Flushing    ◀───────────────────────────────────────────── ready   Waiting
//!     parks commands; waits until every entry is durable
//!   Copying     ── what the ledger has not ─────────────────────────▶   reads the ledger
//!   HandingOver ◀─────────────────────────────────────────── holding   Holding: the state, frozen
//!     ── epoch = e + 1, owner = new ──▶ row e+1
//!   Moved       ── parked commands, in order ──────────────────────▶   renews under e + 1: a row
//!                                                                      Serving
//! ```
//!
//! **There is no free window.** The lease row goes from one owner to the other in a single statement `where
//! epoch = e and owner = me`, so nobody who waits for a free shard gets in between, and the statement
//! cannot succeed after the old owner lost the shard in any other way.
//!
//! **Before the hand-over is sent everything can be undone**, by doing nothing: the old owner still has the
//! state, the lease and the parked commands, and decides those in their order. After it was sent, only the
//! ledger knows. When it does not say, the old owner tries to take e + 1 *for itself* under the same
//! condition: of the two statements one at most finds its row. If it is this one, the move can no longer
//! happen, not even by a hand-over that lies in a buffer somewhere, and the shard is restored under e + 1;
//! if it is not, the row says who has it.
//!
//! **While commands are parked the shard gets no Tick.** Nothing may change between the copy and the
//! hand-over, and a soft lock that runs out meanwhile runs out at the new owner.
//!
//! **A move that was given up may be tried again in the same epoch**, and messages of the first may still
//! be under way. So everything the two nodes tell each other carries the attempt's number, which rises.

mod arrival;
mod departure;

pub use arrival::{Arrival, Arrived, Dropped, Notice, Step};
pub use departure::{Departure, End, Heard, Offer, Order, Owner, Phase, Why};

use crate::time::Span;

/// How long each part of a move may take before it is given up or asked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For the new owner to warm up. Nothing is parked yet.
    pub warm: Span,
    /// For flushing and copying together: so long a click may be kept waiting by a move that fails.
    pub park: Span,
    /// For the ledger to answer a statement of the move. Then its outcome is unknown.
    pub ledger: Span,
    /// For which the new owner keeps a state that it does not own.
    pub hold: Span,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            warm: Span::from_secs(10),
            park: Span::from_secs(2),
            ledger: Span::from_secs(1),
            hold: Span::from_secs(30),
        }
    }
}

/// Which move a message belongs to. Later ones are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attempt {
    /// The old owner's epoch.
    pub epoch: crate::ids::Epoch,
    /// Counts the old owner's attempts in this epoch.
    pub no: u64,
}

/// What the ledger says to a statement that changes a lease row under a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The condition held, and the row is changed.
    Row,
    /// It did not, and nothing is changed.
    NoRow,
    /// An error, or no answer: it may be changed, now or later.
    Unknown,
}
