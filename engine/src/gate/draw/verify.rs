//! The check that anybody can make, from what was published and nothing else.

use super::{Beacon, Digest, Seed, Sha256, Tree, commitment, order};
use crate::ids::ConcertId;
use crate::time::Time;

/// Everything that is published about a draw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrawRecord {
    pub concert: ConcertId,
    /// Published when the gate was created.
    pub commitment: Digest,
    /// The entrants' leaves, by turn.
    pub leaves: Vec<Digest>,
    /// Published at the opening,
    pub root: Digest,
    /// and when. Compare it with what others have seen.
    pub root_published_at: Time,
    /// The round that was named with the root, and when it was due.
    pub beacon: Option<(Beacon, Time)>,
    /// Revealed after the round.
    pub seed: Seed,
    /// Indexes into the leaves, the first to be admitted first.
    pub order: Vec<u32>,
}

/// On what the fairness of a draw that checks out rests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// On a beacon that nobody could foretell when the root was published.
    Beacon,
    /// On the operator, who could have tried other roots.
    Operator,
}

impl Trust {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Beacon => "beacon",
            Self::Operator => "operator-trusted",
        }
    }
}

/// What does not check out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The seed is not the one that was committed to.
    Seed,
    /// The entrants are not those of the root.
    Root,
    /// The round was due when the root was published, or before: its value may have been known.
    BeaconEarly,
    /// The order is another.
    Order,
}

/// Recomputes a draw.
///
/// # Errors
/// The first thing that does not check out.
pub fn verify(sha256: Sha256, record: &DrawRecord) -> Result<Trust, Fault> {
    let DrawRecord { concert, leaves, root, seed, .. } = record;
    if commitment(sha256, *concert, seed) != record.commitment {
        return Err(Fault::Seed);
    }
    if Tree::new(sha256, leaves.clone()).root() != *root {
        return Err(Fault::Root);
    }
    let (trust, beacon) = match &record.beacon {
        Some((_, due)) if *due <= record.root_published_at => return Err(Fault::BeaconEarly),
        Some((beacon, _)) => (Trust::Beacon, Some(beacon)),
        None => (Trust::Operator, None),
    };
    let count = u32::try_from(leaves.len()).map_err(|_| Fault::Root)?;
    if order(sha256, *concert, seed, root, beacon, count) != record.order {
        return Err(Fault::Order);
    }
    Ok(trust)
}
