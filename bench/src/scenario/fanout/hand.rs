//! Which seat a clicker clicks next. Pure.
//!
//! It selects seats that nobody else clicks, one after the other, and gives the oldest back when its hand is full: so
//! every arrival changes the map. A seat is not clicked again before the last click on it was seen, because viewers
//! are never shown what was undone before the next frame.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::board::Kind;

/// Seats in a full hand.
const FULL: usize = 4;
/// And in one that waits for its clicks to be seen: more a user may not have.
const OVERFULL: usize = 8;
/// A seat that was held this long is given back next, before its soft lock runs out after 30 s.
const OLD: Duration = Duration::from_secs(10);
/// And with this age it is given back though no click is due.
const TOO_OLD: Duration = Duration::from_secs(20);

#[derive(Clone, Debug)]
pub struct Hand {
    seats: Vec<u32>,
    next: usize,
    held: VecDeque<(u32, Instant)>,
}

impl Hand {
    /// `seats` are for this hand alone.
    pub fn new(seats: Vec<u32>) -> Self {
        Self { seats, next: 0, held: VecDeque::new() }
    }

    /// `None` when no seat's last click was seen. `is_clear` tells of one.
    pub fn choose(&mut self, now: Instant, is_clear: impl Fn(u32) -> bool) -> Option<(Kind, u32)> {
        let is_old = self.held.front().is_some_and(|(_, since)| now - *since >= OLD);
        let is_full = self.held.len() >= FULL || is_old;
        let release = self.held.iter().position(|(seat, _)| is_clear(*seat));
        if let (true, Some(place)) = (is_full, release) {
            return self.held.remove(place).map(|(seat, _)| (Kind::Release, seat));
        }
        let free = |seat| is_clear(seat) && self.held().all(|held| held != seat);
        let mut order = (self.next..self.seats.len()).chain(0..self.next);
        let select = order.find(|place| self.held.len() < OVERFULL && free(self.seats[*place]));
        if let Some(place) = select {
            self.next = (place + 1) % self.seats.len();
            self.held.push_back((self.seats[place], now));
            return Some((Kind::Select, self.seats[place]));
        }
        self.held.remove(release?).map(|(seat, _)| (Kind::Release, seat))
    }

    /// The oldest of what is held, which is not held any more.
    pub fn give_back(&mut self) -> Option<u32> {
        self.held.pop_front().map(|(seat, _)| seat)
    }

    pub fn held(&self) -> impl Iterator<Item = u32> {
        self.held.iter().map(|(seat, _)| *seat)
    }

    /// It was not granted.
    pub fn drop(&mut self, seat: u32) {
        self.held.retain(|(held, _)| *held != seat);
    }

    /// When a seat must be given back, whether or not a click is due.
    pub fn too_old_at(&self) -> Option<Instant> {
        self.held.front().map(|(_, since)| *since + TOO_OLD)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What arrivals do that come `every` so many seconds.
    fn script(seats: &[u32], every: u64, count: u64, unclear: &[u32]) -> String {
        let (mut hand, start) = (Hand::new(seats.to_vec()), Instant::now());
        let steps = (0..count).map(|number| {
            let now = start + Duration::from_secs(number * every);
            match hand.choose(now, |seat| !unclear.contains(&seat)) {
                Some((Kind::Select, seat)) => format!("s{seat}"),
                Some((Kind::Release, seat)) => format!("r{seat}"),
                None => "none".to_owned(),
            }
        });
        steps.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn seats_are_clicked_in_turn_and_given_back_in_time() {
        let many: Vec<u32> = (1..=20).collect();
        for (steps, expected) in [
            (script(&many, 0, 10, &[]), "s1 s2 s3 s4 r1 s5 r2 s6 r3 s7"),
            (script(&many, 6, 6, &[]), "s1 s2 r1 r2 s3 s4"),
            (script(&many, 12, 4, &[]), "s1 r1 s2 r2"),
            (script(&[1, 2], 0, 6, &[]), "s1 s2 r1 s1 r2 s2"),
            (script(&[1, 2, 3], 0, 4, &[2]), "s1 s3 r1 s1"),
            (script(&[1, 2], 0, 2, &[1, 2]), "none none"),
            (script(&[], 0, 1, &[]), "none"),
        ] {
            assert_eq!(steps, expected);
        }
    }

    #[test]
    fn what_was_not_seen_is_not_given_back() {
        let (mut hand, now) = (Hand::new((1..=20).collect()), Instant::now());
        // Nothing that was clicked is seen.
        for seat in 1..=8 {
            assert_eq!(hand.choose(now, |clicked| clicked >= seat), Some((Kind::Select, seat)));
        }
        assert_eq!(hand.choose(now, |clicked| clicked > 8), None);
        assert_eq!(hand.choose(now, |clicked| clicked > 8 || clicked == 3), Some((Kind::Release, 3)));
        assert_eq!(hand.choose(now, |clicked| clicked > 8), Some((Kind::Select, 9)));
    }

    #[test]
    fn a_refused_seat_is_not_held() {
        let (mut hand, now) = (Hand::new(vec![1, 2]), Instant::now());
        assert_eq!(hand.choose(now, |_| true), Some((Kind::Select, 1)));
        assert_eq!(hand.too_old_at(), Some(now + TOO_OLD));
        hand.drop(1);
        assert_eq!((hand.too_old_at(), hand.give_back()), (None, None));
    }
}
