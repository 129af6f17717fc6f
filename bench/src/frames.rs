//! The feed's binary frames: compact map, changes within an epoch, and changes into the next one.
//!
//! All numbers are little-endian. Whoever only counts frames reads heads; seats are unpacked on demand.

use std::fmt;

const VERSION: u8 = 1;
/// The second byte: bits a seat of a map, or what else it is.
const MAP: u8 = 2;
const CHANGES: u8 = 0x82;
const CONTINUES: u8 = 0x83;

/// How far a map has come: the sequence counts changes, and begins anew with every owner of the seats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    pub epoch: u64,
    pub seq: u64,
}

/// What the server sent, its seats still packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// All seats, 2 bits each.
    Map { at: Position, seats: u32, packed: &'a [u8] },
    /// What is different: 4 bytes a seat.
    Changes { from: Position, to: Position, set: &'a [u8] },
}

/// Reads the bytes that are left.
struct Reader<'a>(&'a [u8]);

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.seq)
    }
}

impl<'a> Frame<'a> {
    /// `None` when the bytes are no whole frame of this version.
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        if reader.take::<1>()? != [VERSION] {
            return None;
        }
        let [kind] = reader.take()?;
        match kind {
            MAP => {
                let (at, seats) = (reader.position()?, reader.u32()?);
                let packed = reader.0;
                (packed.len() == (seats as usize).div_ceil(4)).then_some(Self::Map { at, seats, packed })
            }
            CHANGES | CONTINUES => {
                let from = reader.position()?;
                let to = if kind == CONTINUES {
                    reader.position()?
                } else {
                    Position { epoch: from.epoch, seq: reader.u64()? }
                };
                let (count, set) = (reader.u32()?, reader.0);
                (set.len() == 4 * count as usize).then_some(Self::Changes { from, to, set })
            }
            _ => None,
        }
    }

    /// As it comes over a socket, which may watch several options.
    pub fn read_of_option(bytes: &'a [u8]) -> Option<(u32, Self)> {
        let mut reader = Reader(bytes);
        Some((reader.u32()?, Self::read(reader.0)?))
    }

    /// Where a viewer is who has it.
    pub fn to(&self) -> Position {
        match *self {
            Self::Map { at, .. } => at,
            Self::Changes { to, .. } => to,
        }
    }

    /// Seats and their states: all of a map, those that are different of changes.
    pub fn states(&self) -> impl Iterator<Item = (u32, u8)> + 'a {
        let (seats, packed, set) = match *self {
            Self::Map { seats, packed, .. } => (seats, packed, &[][..]),
            Self::Changes { set, .. } => (0, &[][..], set),
        };
        let all = (0..seats).map(|seat| (seat, (packed[seat as usize / 4] >> (2 * (seat % 4))) & 3));
        let different = set.as_chunks().0.iter().map(|change| {
            let change = u32::from_le_bytes(*change);
            (change >> 2, (change & 3).to_le_bytes()[0])
        });
        all.chain(different)
    }
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn position(&mut self) -> Option<Position> {
        Some(Position { epoch: self.u64()?, seq: self.u64()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(kind: u8, numbers: &[u64], count: u32, rest: &[u8]) -> Vec<u8> {
        let mut bytes = vec![VERSION, kind];
        bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        bytes.extend(count.to_le_bytes());
        bytes.extend(rest);
        bytes
    }

    fn at(epoch: u64, seq: u64) -> Position {
        Position { epoch, seq }
    }

    fn set(changes: &[(u32, u32)]) -> Vec<u8> {
        changes.iter().flat_map(|(seat, state)| (seat << 2 | state).to_le_bytes()).collect()
    }

    #[test]
    fn frames_are_read() {
        let two = set(&[(7, 1), (99_999, 3)]);
        let cases = [
            (
                bytes(MAP, &[3, 1_042], 5, &[0b11_10_01_00, 0b01]),
                None,
                at(3, 1_042),
                &[(0, 0), (1, 1), (2, 2), (3, 3), (4, 1)][..],
            ),
            (bytes(MAP, &[3, 0], 0, &[]), None, at(3, 0), &[]),
            (
                bytes(CHANGES, &[3, 1_040, 1_042], 2, &two),
                Some(at(3, 1_040)),
                at(3, 1_042),
                &[(7, 1), (99_999, 3)],
            ),
            (bytes(CONTINUES, &[3, 1_050, 4, 1], 0, &[]), Some(at(3, 1_050)), at(4, 1), &[]),
            (
                bytes(CONTINUES, &[3, 1_050, 4, 1], 1, &set(&[(1, 2)])),
                Some(at(3, 1_050)),
                at(4, 1),
                &[(1, 2)],
            ),
        ];
        for (bytes, from, to, states) in cases {
            let frame = Frame::read(&bytes).unwrap();
            assert_eq!(frame.to(), to);
            assert_eq!(frame.states().collect::<Vec<_>>(), states);
            match frame {
                Frame::Map { seats, .. } => assert_eq!((from, seats as usize), (None, states.len())),
                Frame::Changes { from: read, .. } => assert_eq!(from, Some(read)),
            }
            let with_option = [&9u32.to_le_bytes(), &bytes[..]].concat();
            assert_eq!(Frame::read_of_option(&with_option), Some((9, frame)));
            for length in 0..bytes.len() {
                assert_eq!(Frame::read(&bytes[..length]), None, "{length} of {bytes:?}");
            }
            assert_eq!(Frame::read(&[&bytes[..], &[0]].concat()), None, "too long: {bytes:?}");
        }
    }

    #[test]
    fn what_is_no_frame_of_this_version_is_refused() {
        let good = bytes(CHANGES, &[3, 1, 2], 1, &set(&[(1, 2)]));
        let with = |place: usize, byte| {
            let mut bytes = good.clone();
            bytes[place] = byte;
            bytes
        };
        for bytes in [with(0, 2), with(0, 0), with(1, 0x84), with(1, 4), b"{\"ev\":1}".to_vec(), Vec::new()] {
            assert_eq!(Frame::read(&bytes), None, "{bytes:?}");
        }
        assert_eq!(Frame::read_of_option(&[1, 0, 0]), None);
    }

    #[test]
    fn positions_are_ordered_by_epoch_first() {
        assert!(at(3, 1_050) < at(4, 1) && at(3, 1) < at(3, 2));
        assert_eq!(at(3, 1_042).to_string(), "3.1042");
    }
}
