//! Clicks that changed the map, each until one viewer, the reference, has seen it. Pure.

use std::collections::HashMap;
use std::time::Instant;

use crate::frames::{Frame, Position};

const AVAILABLE: u8 = 0;
const SELECTING: u8 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Select,
    Release,
}

/// A click that the server granted, or has not answered yet.
#[derive(Clone, Copy, Debug)]
pub struct Click {
    pub due: Instant,
    /// Where the reference was when it had seen it.
    pub seen: Option<Position>,
    /// Whether anybody waits for it: not if it was refused, or if no arrival was behind it.
    counts: bool,
}

#[derive(Clone, Debug, Default)]
pub struct Board {
    clicks: Vec<Click>,
    /// By seat, the click that was not seen yet. There is one at most, so that a seat's state says which it was.
    open: HashMap<u32, (Kind, usize)>,
}

/// The map as the reference has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Map {
    pub at: Position,
    pub states: Vec<u8>,
}

impl Board {
    /// Whether the last click on this seat was seen, so that the next one cannot be taken for it.
    pub fn is_clear(&self, seat: u32) -> bool {
        !self.open.contains_key(&seat)
    }

    /// A click that is about to be sent; its number.
    pub fn click(&mut self, seat: u32, kind: Kind, due: Instant) -> usize {
        self.open(seat, kind, Click { due, seen: None, counts: true })
    }

    /// A seat that is given back because nobody wants it any more.
    pub fn tidy(&mut self, seat: u32) {
        self.open(seat, Kind::Release, Click { due: Instant::now(), seen: None, counts: false });
    }

    /// The click changed nothing.
    pub fn refuse(&mut self, seat: u32, number: usize) {
        self.clicks[number].counts = false;
        self.open.remove(&seat);
    }

    /// The reference has this frame now.
    pub fn show(&mut self, frame: &Frame<'_>) {
        for (seat, state) in frame.states() {
            if let Some((_, number)) = self.open.get(&seat).filter(|(kind, _)| kind.state() == state) {
                self.clicks[*number].seen = Some(frame.to());
                self.open.remove(&seat);
            }
        }
    }

    /// Whether everything was seen.
    pub fn is_quiet(&self) -> bool {
        self.open.is_empty()
    }

    /// Clicks that were due since an instant and changed the map.
    pub fn clicks(&self, since: Instant) -> impl Iterator<Item = &Click> {
        self.clicks.iter().filter(move |click| click.due >= since && click.counts)
    }

    fn open(&mut self, seat: u32, kind: Kind, click: Click) -> usize {
        let number = self.clicks.len();
        self.clicks.push(click);
        self.open.insert(seat, (kind, number));
        number
    }
}

impl Kind {
    /// What the seat is then.
    fn state(self) -> u8 {
        match self {
            Self::Select => SELECTING,
            Self::Release => AVAILABLE,
        }
    }
}

impl Map {
    pub fn apply(&mut self, frame: &Frame<'_>) {
        if let Frame::Map { seats, .. } = frame {
            self.states = vec![AVAILABLE; *seats as usize];
        }
        for (seat, state) in frame.states() {
            if let Some(mine) = self.states.get_mut(seat as usize) {
                *mine = state;
            }
        }
        self.at = frame.to();
    }

    pub fn free(&self) -> Vec<u32> {
        (0..).zip(&self.states).filter(|(_, state)| **state == AVAILABLE).map(|(seat, _)| seat).collect()
    }

    /// The first few seats that are not alike.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        if self.states.len() != other.states.len() {
            return vec![format!("{} seats, not {}", self.states.len(), other.states.len())];
        }
        (0..)
            .zip(self.states.iter().zip(&other.states))
            .filter(|(_, (mine, theirs))| mine != theirs)
            .map(|(seat, (mine, theirs)): (u32, _)| format!("seat {seat} is {mine}, not {theirs}"))
            .take(5)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seq: u64) -> Position {
        Position { epoch: 1, seq }
    }

    fn set(changes: &[(u32, u32)]) -> Vec<u8> {
        changes.iter().flat_map(|(seat, state)| (seat << 2 | state).to_le_bytes()).collect()
    }

    /// `s7` selects, `r7` releases, `t7` tidies up, `x0` says that click 0 (on seat 7) was refused, `7=1` is a frame with a state.
    /// Gives the positions at which the clicks were seen; frames are numbered from 1.
    fn seen(script: &str) -> Vec<Option<u64>> {
        let (mut board, start, mut frames) = (Board::default(), Instant::now(), 0);
        for step in script.split(' ') {
            match step.split_at(1) {
                ("s", seat) => {
                    let seat = seat.parse().unwrap();
                    assert!(board.is_clear(seat), "{script}");
                    board.click(seat, Kind::Select, start);
                }
                ("r", seat) => {
                    board.click(seat.parse().unwrap(), Kind::Release, start);
                }
                ("t", seat) => board.tidy(seat.parse().unwrap()),
                ("x", number) => board.refuse(7, number.parse().unwrap()),
                _ => {
                    let (seat, state) = step.split_once('=').unwrap();
                    let set = set(&[(seat.parse().unwrap(), state.parse().unwrap())]);
                    frames += 1;
                    board.show(&Frame::Changes { from: at(frames - 1), to: at(frames), set: &set });
                }
            }
        }
        board.clicks(start).map(|click| click.seen.map(|at| at.seq)).collect()
    }

    #[test]
    fn a_seats_state_says_which_click_it_was() {
        for (script, expected) in [
            ("s7 7=1 r7 7=0", &[Some(1), Some(2)][..]),
            ("s7 8=1 s8 7=1 8=1", &[Some(2), Some(3)]),
            ("s7", &[None]),
            // Not free again: old news.
            ("s7 7=0 7=1", &[Some(2)]),
            ("s7 7=3 7=2", &[None]),
            ("s7 7=1 7=1 r7 7=0 s7 7=1", &[Some(1), Some(3), Some(4)]),
            ("s7 x0 7=1 s7 7=1", &[Some(2)]),
            ("s7 7=1 r7 x1 7=0", &[Some(1)]),
            ("s7 7=1 t7 7=0 s7 7=1", &[Some(1), Some(3)]),
            ("s7 t7 7=1 7=0", &[None]),
        ] {
            assert_eq!(seen(script), expected, "{script}");
        }
    }

    #[test]
    fn a_map_follows_its_frames() {
        let mut map = Map::default();
        map.apply(&Frame::Map { at: at(4), seats: 5, packed: &[0b11_10_01_00, 0b01] });
        assert_eq!((map.at, &map.states[..], map.free()), (at(4), &[0, 1, 2, 3, 1][..], vec![0]));
        let set = set(&[(0, 1), (4, 0), (99, 1)]);
        map.apply(&Frame::Changes { from: at(4), to: at(6), set: &set });
        assert_eq!((map.at, &map.states[..], map.free()), (at(6), &[1, 1, 2, 3, 0][..], vec![4]));
        let other = Map { at: at(6), states: vec![1, 1, 2, 3, 3] };
        assert_eq!(map.differences(&other), ["seat 4 is 0, not 3"]);
        assert_eq!(map.differences(&map), [""; 0]);
        assert_eq!(map.differences(&Map::default()), ["5 seats, not 0"]);
    }
}
