//! What falls due when: one ordered index over soft locks and reservations.
//!
//! A 4-ary heap whose elements know their place, so that a cancelled deadline leaves at once instead
//! of haunting the heap until it is due. Soft locks fall due in nearly the order they come, which
//! is the heap's best case: an insert climbs no level.

use crate::time::Time;

/// What falls due. The order among equals only has to be the same on every run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// A soft lock, by the seat's index in the shard.
    Seat(u32),
    /// A reservation's deadline, or the moment it leaves memory, by its handle.
    Reservation(u32),
}

const RESERVATION: u32 = 1 << 31;
const NOWHERE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Slot {
    at: Time,
    /// A seat, or with the top bit a reservation.
    code: u32,
}

/// At most one deadline per seat and per reservation.
#[derive(Clone, Debug, Default)]
pub struct Deadlines {
    heap: Vec<Slot>,
    seat_places: Vec<u32>,
    reservation_places: Vec<u32>,
}

impl Deadlines {
    /// When the next one is due.
    #[must_use]
    pub fn next(&self) -> Option<Time> {
        self.heap.first().map(|slot| slot.at)
    }

    /// Sets or moves a deadline.
    pub fn set(&mut self, due: Due, at: Time) {
        let code = code(due);
        let slot = Slot { at, code };
        let place = self.place_mut(code);
        if *place == NOWHERE {
            self.heap.push(slot);
            self.climb(self.heap.len() - 1, slot);
        } else {
            let place = *place as usize;
            self.settle(place, slot);
        }
    }

    /// Forgets a deadline, if there is one.
    pub fn clear(&mut self, due: Due) {
        let place = std::mem::replace(self.place_mut(code(due)), NOWHERE);
        if place != NOWHERE {
            self.remove_at(place as usize);
        }
    }

    /// Takes one that is due at `now`, the earliest first.
    pub fn pop(&mut self, now: Time) -> Option<Due> {
        let first = *self.heap.first()?;
        if first.at > now {
            return None;
        }
        *self.place_mut(first.code) = NOWHERE;
        self.remove_at(0);
        Some(decode(first.code))
    }

    fn remove_at(&mut self, place: usize) {
        let Some(last) = self.heap.pop() else { return };
        if place < self.heap.len() {
            self.settle(place, last);
        }
    }

    /// Puts `slot` into the hole at `place`, wherever it belongs from there.
    fn settle(&mut self, place: usize, slot: Slot) {
        if place > 0 && slot < self.heap[(place - 1) / 4] {
            self.climb(place, slot);
        } else {
            self.sink(place, slot);
        }
    }

    fn climb(&mut self, mut place: usize, slot: Slot) {
        while place > 0 {
            let parent = (place - 1) / 4;
            if self.heap[parent] <= slot {
                break;
            }
            self.put(place, self.heap[parent]);
            place = parent;
        }
        self.put(place, slot);
    }

    fn sink(&mut self, mut place: usize, slot: Slot) {
        loop {
            let first = place * 4 + 1;
            let end = (first + 4).min(self.heap.len());
            let Some(child) = (first..end).min_by_key(|child| self.heap[*child]) else { break };
            if slot <= self.heap[child] {
                break;
            }
            self.put(place, self.heap[child]);
            place = child;
        }
        self.put(place, slot);
    }

    #[expect(clippy::cast_possible_truncation, reason = "fewer deadlines than handles, which are u32")]
    fn put(&mut self, place: usize, slot: Slot) {
        self.heap[place] = slot;
        *self.place_mut(slot.code) = place as u32;
    }

    fn place_mut(&mut self, code: u32) -> &mut u32 {
        let (places, index) = if code & RESERVATION == 0 {
            (&mut self.seat_places, code as usize)
        } else {
            (&mut self.reservation_places, (code & !RESERVATION) as usize)
        };
        if index >= places.len() {
            places.resize(index + 1, NOWHERE);
        }
        &mut places[index]
    }
}

const fn code(due: Due) -> u32 {
    match due {
        Due::Seat(seat) => seat,
        Due::Reservation(handle) => handle | RESERVATION,
    }
}

const fn decode(code: u32) -> Due {
    if code & RESERVATION == 0 { Due::Seat(code) } else { Due::Reservation(code & !RESERVATION) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::index::mix;

    #[test]
    fn agrees_with_a_sorted_map() {
        let mut deadlines = Deadlines::default();
        let mut twin: BTreeMap<u32, Time> = BTreeMap::new();
        let mut state = 7u64;
        let mut now = Time(0);
        for _ in 0..50_000 {
            state = mix(state.wrapping_add(0x9e37_79b9_7f4a_7c15));
            let item = u32::try_from(state % 200).unwrap();
            let due = if item % 3 == 0 { Due::Reservation(item) } else { Due::Seat(item) };
            match (state >> 32) % 4 {
                0 | 1 => {
                    let at = Time(now.0 + i64::try_from((state >> 40) % 500).unwrap());
                    deadlines.set(due, at);
                    twin.insert(code(due), at);
                }
                2 => {
                    deadlines.clear(due);
                    twin.remove(&code(due));
                }
                _ => {
                    now = Time(now.0 + 20);
                    while let Some(popped) = deadlines.pop(now) {
                        let (first, at) =
                            twin.iter().map(|(c, at)| (*c, *at)).min_by_key(|(c, at)| (*at, *c)).unwrap();
                        assert!(at <= now);
                        assert_eq!(code(popped), first);
                        twin.remove(&first);
                    }
                }
            }
            assert_eq!(deadlines.next(), twin.values().min().copied());
        }
    }
}
