//! The wire as the API's documents tell it, written down again on purpose. Unknown fields are fine.

use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Page<T> {
    pub items: Vec<T>,
    pub next_cursor: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Concert {
    pub concert_id: u64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConcertOption {
    pub option_id: u64,
    pub seat_count: u32,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Token {
    pub token: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Seat {
    pub seat_no: u32,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Selection {
    pub seats: Vec<Seat>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reservation {
    pub reservation_id: String,
    pub status: String,
    pub seats: Vec<Seat>,
}

/// RFC 9457.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    pub code: String,
    #[serde(default)]
    pub detail: String,
    #[serde(default)]
    pub conflicts: Vec<Seat>,
    /// Of `NO_SEATS_TOGETHER`: the longest run there is.
    #[serde(default)]
    pub longest: u32,
}

pub fn numbers(seats: &[Seat]) -> Vec<u32> {
    let mut numbers: Vec<u32> = seats.iter().map(|seat| seat.seat_no).collect();
    numbers.sort_unstable();
    numbers
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Available,
    Selecting,
    Hold,
    Confirmed,
}

/// The compact map: `u8 version=1 | u8 bits=2 | u64 epoch | u64 seq | u32 seats | 2 bits a seat`, little-endian.
#[derive(Clone, Debug)]
pub struct SeatMap {
    states: Vec<State>,
}

impl SeatMap {
    /// `None` when the bytes are no map of this version.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (head, packed) = bytes.split_at_checked(22)?;
        let seat_count = u32::from_le_bytes(head[18..].try_into().ok()?) as usize;
        if head[..2] != [1, 2] || packed.len() != seat_count.div_ceil(4) {
            return None;
        }
        let state = |seat: usize| match (packed[seat / 4] >> (2 * (seat % 4))) & 3 {
            0 => State::Available,
            1 => State::Selecting,
            2 => State::Hold,
            _ => State::Confirmed,
        };
        Some(Self { states: (0..seat_count).map(state).collect() })
    }

    pub fn count(&self, state: State) -> usize {
        self.states.iter().filter(|s| **s == state).count()
    }

    pub fn seat_count(&self) -> usize {
        self.states.len()
    }

    /// Seats that are AVAILABLE, best first: a seat's number is its rank.
    pub fn free(&self) -> Vec<u32> {
        (0..)
            .zip(&self.states)
            .filter(|(_, state)| **state == State::Available)
            .map(|(seat, _)| seat)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_two_bits_a_seat() {
        let mut bytes = vec![1, 2];
        bytes.extend([0; 16]);
        bytes.extend(5u32.to_le_bytes());
        bytes.extend([0b11_10_01_00, 0b01]);
        let map = SeatMap::decode(&bytes).expect("the bytes are a map");
        assert_eq!(map.seat_count(), 5);
        assert_eq!(map.free(), [0]);
        assert_eq!(map.count(State::Selecting), 2);
        assert_eq!((map.count(State::Hold), map.count(State::Confirmed)), (1, 1));
        assert!(SeatMap::decode(&bytes[..23]).is_none(), "a byte is missing");
        bytes[0] = 2;
        assert!(SeatMap::decode(&bytes).is_none(), "another version");
        assert!(SeatMap::decode(b"{}").is_none());
    }
}
