//! When reservations fall due: expire, or leave memory once they have ended.
//!
//! A 4-ary heap whose elements know their place, so that a cancelled deadline leaves at once instead
//! of haunting the heap until it is due.

use crate::time::Time;

const NOWHERE: u32 = u32::MAX;

/// A reservation, by its handle, and its deadline. Equal deadlines go by handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Slot {
    at: Time,
    handle: u32,
}

/// At most one deadline per handle.
#[derive(Clone, Debug, Default)]
pub struct Deadlines {
    heap: Vec<Slot>,
    places: Vec<u32>,
}

impl Deadlines {
    /// When the next one is due.
    #[must_use]
    pub fn next(&self) -> Option<Time> {
        self.heap.first().map(|slot| slot.at)
    }

    /// Sets or moves a deadline.
    pub fn set(&mut self, handle: u32, at: Time) {
        let slot = Slot { at, handle };
        let place = *self.place_mut(handle);
        if place == NOWHERE {
            self.heap.push(slot);
            self.climb(self.heap.len() - 1, slot);
        } else {
            self.settle(place as usize, slot);
        }
    }

    /// Forgets a deadline, if there is one.
    pub fn clear(&mut self, handle: u32) {
        let place = std::mem::replace(self.place_mut(handle), NOWHERE);
        if place != NOWHERE {
            self.remove_at(place as usize);
        }
    }

    /// Takes one that is due at `now`, the earliest first.
    pub fn pop(&mut self, now: Time) -> Option<u32> {
        let first = *self.heap.first()?;
        if first.at > now {
            return None;
        }
        self.clear(first.handle);
        Some(first.handle)
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
        *self.place_mut(slot.handle) = place as u32;
    }

    fn place_mut(&mut self, handle: u32) -> &mut u32 {
        let index = handle as usize;
        if index >= self.places.len() {
            self.places.resize(index + 1, NOWHERE);
        }
        &mut self.places[index]
    }
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
            let handle = u32::try_from(state % 200).unwrap();
            match (state >> 32) % 4 {
                0 | 1 => {
                    let at = Time(now.0 + i64::try_from((state >> 40) % 500).unwrap());
                    deadlines.set(handle, at);
                    twin.insert(handle, at);
                }
                2 => {
                    deadlines.clear(handle);
                    twin.remove(&handle);
                }
                _ => {
                    now = Time(now.0 + 20);
                    while let Some(popped) = deadlines.pop(now) {
                        let (first, at) =
                            twin.iter().map(|(h, at)| (*h, *at)).min_by_key(|(h, at)| (*at, *h)).unwrap();
                        assert!(at <= now);
                        assert_eq!(popped, first);
                        twin.remove(&first);
                    }
                }
            }
            assert_eq!(deadlines.next(), twin.values().min().copied());
        }
    }
}
