//! What both ledgers say of gates: kinds of history, and entrants as one column.

use actors::gates::ports::DrawRow;
use engine::{Turn, UserId};

/// What a line of a gate's history is of, as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineKind {
    Set = 1,
    Admitted = 2,
}

impl LineKind {
    pub(super) const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Set),
            2 => Some(Self::Admitted),
            _ => None,
        }
    }
}

/// A turn and a user, big-endian.
const ENTRANT: usize = 4 + 8;

pub(super) fn entrants_bytes(entrants: &[(Turn, UserId)]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(entrants.len() * ENTRANT);
    for (turn, user) in entrants {
        bytes.extend(turn.0.to_be_bytes());
        bytes.extend(user.0.to_be_bytes());
    }
    bytes
}

/// `None`: that is no list of entrants.
pub(super) fn entrants_from_bytes(bytes: &[u8]) -> Option<Vec<(Turn, UserId)>> {
    let (entrants, rest) = bytes.as_chunks::<ENTRANT>();
    let entrants = entrants.iter().map(|[a, b, c, d, user @ ..]| {
        (Turn(u32::from_be_bytes([*a, *b, *c, *d])), UserId(u64::from_be_bytes(*user)))
    });
    rest.is_empty().then(|| entrants.collect())
}

/// Whether the stages of a draw follow from one another, as those of every draw that is stored do.
pub(super) fn is_sound(draw: &DrawRow) -> bool {
    let Some(frozen) = &draw.frozen else { return draw.drawn.is_none() };
    let bounds = frozen.first..frozen.upto;
    let beacon = draw.drawn.is_some_and(|drawn| drawn.beacon.is_some());
    (frozen.round.is_some() || !beacon)
        && frozen.entrants.iter().all(|(turn, _)| bounds.contains(turn))
        && frozen.entrants.is_sorted_by(|(before, _), (turn, _)| before < turn)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entrants_have_pinned_bytes() {
        let entrants = [(Turn(1), UserId(0x0203)), (Turn(u32::MAX), UserId(u64::MAX))];
        let bytes = entrants_bytes(&entrants);
        assert_eq!(bytes[..12], [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 2, 3]);
        assert_eq!(bytes[12..], [0xff; 12]);
        assert_eq!(entrants_from_bytes(&bytes).unwrap(), entrants);
        assert_eq!(entrants_from_bytes(&[]).unwrap(), []);
        assert_eq!(entrants_from_bytes(&bytes[..23]), None);
    }
}
