//! The wire as the API's documents tell it, written down again on purpose. Unknown fields are fine.

use serde::Deserialize;

use crate::frames::{Frame, Position};

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

/// The OpenAPI document, as far as it says who answers.
#[derive(Debug, Deserialize)]
pub struct Document {
    pub info: Info,
}

#[derive(Debug, Deserialize)]
pub struct Info {
    pub title: String,
    pub version: String,
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
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    pub code: String,
    #[serde(default)]
    pub status: u16,
    #[serde(default)]
    pub detail: String,
    #[serde(default)]
    pub conflicts: Vec<Seat>,
    /// Of `NO_SEATS_TOGETHER`: the longest run there is.
    #[serde(default)]
    pub longest: u32,
}

impl Problem {
    /// Whether the server decided about seats. Everything else is a failure, of the server's or of ours.
    pub fn is_decision(&self) -> bool {
        matches!(self.status, 403 | 404 | 409 | 422)
    }

    /// Whether nothing was decided: the same request may be sent again.
    pub fn is_undecided(&self) -> bool {
        matches!(self.status, 429 | 500..)
    }
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

/// What every seat is, at one position of the feed.
#[derive(Clone, Debug)]
pub struct SeatMap {
    pub at: Position,
    states: Vec<State>,
}

impl SeatMap {
    /// `None` when the bytes are no compact map.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let frame = Frame::read(bytes)?;
        let Frame::Map { at, .. } = frame else { return None };
        let state = |(_, state): (u32, u8)| match state {
            0 => State::Available,
            1 => State::Selecting,
            2 => State::Hold,
            _ => State::Confirmed,
        };
        Some(Self { at, states: frame.states().map(state).collect() })
    }

    pub fn count(&self, state: State) -> usize {
        self.states.iter().filter(|s| **s == state).count()
    }

    pub fn seat_count(&self) -> usize {
        self.states.len()
    }

    /// Seats that are somebody's.
    pub fn taken(&self) -> Vec<u32> {
        (0..)
            .zip(&self.states)
            .filter(|(_, state)| **state != State::Available)
            .map(|(seat, _)| seat)
            .collect()
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
