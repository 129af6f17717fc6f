//! The draw of a presale, from the commitment to the order: what is published when, and made how.
//!
//! The engine has the arithmetic ([`engine::gate::draw`]) and wants a hash; here it gets SHA-256. Every function is pure:
//! time, randomness and the beacon's word come from outside. What is published stands in a [`DrawRow`] and nowhere else,
//! so that whoever restores the gate, on any node, goes on with the same draw. `driver` keeps the row.
//!
//! On one core with SHA instructions a million entrants take 0.9 s to hash into leaves and root, and 0.15 s to shuffle:
//! work for a blocking thread, never for a gate's actor.

use engine::gate::draw::{self, Beacon, Digest, Salt, Seed, Tree, Trust};
use engine::{ConcertId, Span, Time, Turn, UserId};
use sha2::Digest as _;

pub use self::driver::{Draws, DrawsOptions, Ordered};
use super::ports::{DrawRow, Frozen};

mod driver;
#[cfg(test)]
mod tests;

/// A public source of randomness with a round every `period`, such as drand. Round 1 is due at `genesis`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BeaconChain {
    pub genesis: Time,
    /// More than nothing.
    pub period: Span,
}

impl BeaconChain {
    /// The first round that is due two periods after `published`, or later, and when: so that a round which the
    /// beacon's own clock has early is still to come when the root is out.
    #[must_use]
    pub fn round_after(&self, published: Time) -> (u64, Time) {
        let period = self.period.0.max(1);
        let since = (published + Span(period.saturating_mul(2))).since(self.genesis).0;
        let rounds = since / period + i64::from(since % period != 0);
        (rounds.unsigned_abs() + 1, self.genesis + Span(rounds.saturating_mul(period)))
    }
}

/// The entrants that a gate has settled, as it says them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    pub first: Turn,
    pub upto: Turn,
    /// By turn.
    pub entrants: Vec<(Turn, UserId)>,
}

/// SHA-256 of the parts, one behind the other.
#[must_use]
pub fn sha256(parts: &[&[u8]]) -> Digest {
    let mut hash = sha2::Sha256::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}

/// The beginning of a concert's draw `no`: what its [`commitment`] promises. `seed` and `salt_key` are random.
#[must_use]
pub const fn commit(concert: ConcertId, no: u32, now: Time, seed: Seed, salt_key: Seed) -> DrawRow {
    DrawRow { concert, no, seed, salt_key, committed_at: now, frozen: None, drawn: None }
}

/// What is published of the seed before it is revealed.
#[must_use]
pub fn commitment(row: &DrawRow) -> Digest {
    draw::commitment(sha256, row.concert, &row.seed)
}

/// Whether what was published holds for what a gate says now. The same bounds mean the same draw, whoever has left since
/// or was brought back; unless somebody's turn is another's by now: then the mirror had forgotten everything, and turns
/// began anew.
#[must_use]
pub fn stands(published: &Frozen, settled: &Settled) -> bool {
    if (published.first, published.upto) != (settled.first, settled.upto) {
        return false;
    }
    let mut now = settled.entrants.iter().peekable();
    published.entrants.iter().all(|(turn, user)| {
        while now.next_if(|(other, _)| other < turn).is_some() {}
        now.next_if(|(other, _)| other == turn).is_none_or(|(_, other)| other == user)
    })
}

/// Settles who takes part, and which round decides. `now` is asked once the root is known, for a crowd takes a moment to
/// hash. A draw whose entrants are settled stays as it is.
#[must_use]
pub fn freeze(
    row: &DrawRow,
    settled: &Settled,
    now: impl FnOnce() -> Time,
    beacon: Option<BeaconChain>,
) -> DrawRow {
    let mut row = row.clone();
    if row.frozen.is_none() {
        let Settled { first, upto, ref entrants } = *settled;
        let root = Tree::new(sha256, leaves(&row, entrants)).root();
        let published_at = now();
        let round = beacon.map(|chain| chain.round_after(published_at));
        row.frozen = Some(Frozen { first, upto, entrants: entrants.clone(), root, published_at, round });
    }
    row
}

/// What an entrant is told, and nobody else.
#[must_use]
pub fn salt(row: &DrawRow, user: UserId) -> Salt {
    draw::salt(sha256, &row.salt_key, row.concert, user)
}

/// Entrants of the draw as they are published.
#[must_use]
pub fn leaves(row: &DrawRow, entrants: &[(Turn, UserId)]) -> Vec<Digest> {
    let leaf = |&(turn, user): &(Turn, UserId)| draw::leaf(sha256, row.concert, turn, user, &salt(row, user));
    entrants.iter().map(leaf).collect()
}

/// The beacon's word that decided; `None` as well before the draw.
#[must_use]
pub fn beacon(row: &DrawRow) -> Option<Beacon> {
    let (round, _) = row.frozen.as_ref()?.round?;
    Some(Beacon { round, value: row.drawn?.beacon? })
}

/// On what the fairness of the draw rests; `None` before it is drawn.
#[must_use]
pub fn trust(row: &DrawRow) -> Option<Trust> {
    row.drawn.map(|_| if beacon(row).is_some() { Trust::Beacon } else { Trust::Operator })
}

/// The order, as indexes into the leaves; `None` before it is drawn.
#[must_use]
pub fn indexes(row: &DrawRow) -> Option<Vec<u32>> {
    let (frozen, _) = row.frozen.as_ref().zip(row.drawn)?;
    // Turns are 32 bits, and nobody has two.
    let count = u32::try_from(frozen.entrants.len()).ok()?;
    Some(draw::order(sha256, row.concert, &row.seed, &frozen.root, beacon(row).as_ref(), count))
}

/// The order as the gate takes it, the first to be admitted first; `None` before it is drawn.
#[must_use]
pub fn order(row: &DrawRow) -> Option<Vec<Turn>> {
    let entrants = &row.frozen.as_ref()?.entrants;
    Some(indexes(row)?.into_iter().map(|index| entrants[index as usize].0).collect())
}
