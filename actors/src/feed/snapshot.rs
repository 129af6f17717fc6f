//! All seats of an option at one point of its feed.

use engine::{Epoch, OptionId, SeatState};

use super::Position;

/// Bytes of the compact map's head: version, bits, epoch, seq, seats.
pub(super) const COMPACT_HEAD: usize = 22;

/// The public state of an option's seats at one point of its feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    pub option: OptionId,
    pub epoch: Epoch,
    pub feed_seq: u64,
    pub seat_count: u32,
    /// Seats per state, indexed by `SeatState as usize`.
    pub counts: [u32; 4],
    /// Two bits a seat, seat i in bits 2·(i mod 4) of byte i/4.
    pub map: Vec<u8>,
}

impl Snapshot {
    pub(super) fn new(option: OptionId, at: Position, states: impl Iterator<Item = SeatState>) -> Self {
        let mut snapshot = Self {
            option,
            epoch: at.epoch,
            feed_seq: at.seq,
            seat_count: 0,
            counts: [0; 4],
            map: Vec::new(),
        };
        for (seat, state) in states.enumerate() {
            if seat % 4 == 0 {
                snapshot.map.push(0);
            }
            snapshot.map[seat / 4] |= (state as u8) << (2 * (seat % 4));
            snapshot.seat_count += 1;
            snapshot.counts[state as usize] += 1;
        }
        snapshot
    }

    /// A map of two bits a seat, as it comes from another node.
    pub(super) fn packed(option: OptionId, at: Position, states: &[SeatState]) -> Self {
        Self::new(option, at, states.iter().copied())
    }

    /// Where in the feed this is.
    #[must_use]
    pub const fn position(&self) -> Position {
        Position { epoch: self.epoch, seq: self.feed_seq }
    }

    /// The state of a seat below `seat_count`.
    #[must_use]
    pub fn state(&self, seat: usize) -> SeatState {
        SeatState::from_bits(self.map[seat / 4] >> (2 * (seat % 4)))
    }

    /// The compact map: `u8 version=1 | u8 bits=2 | u64 epoch | u64 seq | u32 seats | map`, little-endian.
    #[must_use]
    pub fn compact(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(COMPACT_HEAD + self.map.len());
        self.write_compact(&mut bytes);
        bytes
    }

    pub(super) fn write_compact(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&[1, 2]);
        bytes.extend_from_slice(&self.epoch.0.to_le_bytes());
        bytes.extend_from_slice(&self.feed_seq.to_le_bytes());
        bytes.extend_from_slice(&self.seat_count.to_le_bytes());
        bytes.extend_from_slice(&self.map);
    }

    /// Gives a seat another state.
    pub(super) fn set(&mut self, seat: usize, state: SeatState) {
        let before = self.state(seat);
        self.counts[before as usize] -= 1;
        self.counts[state as usize] += 1;
        let shift = 2 * (seat % 4);
        let byte = &mut self.map[seat / 4];
        *byte = *byte & !(3 << shift) | (state as u8) << shift;
    }
}
