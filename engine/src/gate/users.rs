//! In which turn a user waits.
//!
//! The shard's index keeps four bytes a record and asks the record for everything else. Here records are a million and far
//! apart: each question would be a cache miss, and a table that grows would ask all of them at once, in the midst of
//! a step. So half of the hash stands beside the turn, eight bytes in all; a record is looked at to confirm a match.
//!
//! And the table is many small ones, which grow one after the other: one of a million would keep everybody waiting for
//! five milliseconds when it does, and need three times its memory meanwhile.

use crate::ids::Turn;

/// Of a hash, its uppermost bits as far as it is kept.
const PART_BITS: u32 = 6;

#[derive(Clone, Debug)]
pub struct Users {
    parts: [Part; 1 << PART_BITS],
    len: usize,
}

/// Open addressing with linear probing, at most half full; removal shifts back, leaving no tombs.
#[derive(Clone, Debug, Default)]
struct Part {
    /// The length is a power of two, or zero.
    slots: Vec<Slot>,
    len: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// The low half of the user's hash. Its lowest bits are the slot's home.
    hash: u32,
    /// 0 is empty, else a turn + 1.
    turn: u32,
}

impl Default for Users {
    fn default() -> Self {
        Self { parts: std::array::from_fn(|_| Part::default()), len: 0 }
    }
}

impl Users {
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// The turn under `hash` that `is` the one.
    pub fn find(&self, hash: u64, is: impl Fn(Turn) -> bool) -> Option<Turn> {
        let hash = low(hash);
        self.parts[part(hash)].find(hash, is)
    }

    /// Adds a turn that is not there yet.
    pub fn insert(&mut self, hash: u64, turn: Turn) {
        let hash = low(hash);
        self.parts[part(hash)].insert(Slot { hash, turn: turn.0 + 1 });
        self.len += 1;
    }

    /// Removes a turn that is there.
    pub fn remove(&mut self, hash: u64, turn: Turn) {
        let hash = low(hash);
        self.parts[part(hash)].remove(hash, turn);
        self.len -= 1;
    }
}

impl Part {
    fn find(&self, hash: u32, is: impl Fn(Turn) -> bool) -> Option<Turn> {
        let mut at = hash as usize & self.mask()?;
        loop {
            let slot = self.slots[at];
            if slot.turn == 0 {
                return None;
            }
            if slot.hash == hash && is(Turn(slot.turn - 1)) {
                return Some(Turn(slot.turn - 1));
            }
            at = self.after(at);
        }
    }

    fn insert(&mut self, slot: Slot) {
        if (self.len + 1) * 2 > self.slots.len() {
            let size = (self.slots.len() * 2).max(16);
            let old = std::mem::replace(&mut self.slots, vec![Slot::default(); size]);
            for slot in old.into_iter().filter(|slot| slot.turn != 0) {
                self.place(slot);
            }
        }
        self.place(slot);
        self.len += 1;
    }

    fn remove(&mut self, hash: u32, turn: Turn) {
        let Some(mask) = self.mask() else { return };
        let mut hole = hash as usize & mask;
        while self.slots[hole].turn != turn.0 + 1 {
            assert!(self.slots[hole].turn != 0, "the turn to remove is in the index");
            hole = self.after(hole);
        }
        self.len -= 1;
        // Pull back whatever could not sit at its home because of the hole.
        let mut next = self.after(hole);
        while self.slots[next].turn != 0 {
            let home = self.slots[next].hash as usize & mask;
            if (next.wrapping_sub(home) & mask) >= (next.wrapping_sub(hole) & mask) {
                self.slots[hole] = self.slots[next];
                hole = next;
            }
            next = self.after(next);
        }
        self.slots[hole].turn = 0;
    }

    fn place(&mut self, slot: Slot) {
        let mut at = slot.hash as usize & (self.slots.len() - 1);
        while self.slots[at].turn != 0 {
            at = self.after(at);
        }
        self.slots[at] = slot;
    }

    const fn mask(&self) -> Option<usize> {
        self.slots.len().checked_sub(1)
    }

    fn after(&self, at: usize) -> usize {
        (at + 1) & (self.slots.len() - 1)
    }
}

const fn part(hash: u32) -> usize {
    (hash >> (u32::BITS - PART_BITS)) as usize
}

#[expect(clippy::cast_possible_truncation, reason = "the low half")]
const fn low(hash: u64) -> u32 {
    hash as u32
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::index::mix;

    /// Crowded tables with colliding hashes agree with a map through inserts and removals.
    #[test]
    fn agrees_with_a_map() {
        let hash_of = |user: u64| (user % 7) | ((user % 3) << 32) | ((user % 2) << 31);
        let (mut users, mut twin) = (Users::default(), BTreeMap::new());
        for round in 0..20_000u64 {
            let user = mix(round) % 97;
            match twin.remove(&user) {
                Some(turn) => users.remove(hash_of(user), turn),
                None => {
                    let turn = Turn(u32::try_from(round).unwrap());
                    twin.insert(user, turn);
                    users.insert(hash_of(user), turn);
                }
            }
            assert_eq!(users.len(), twin.len());
            for probe in 0..97 {
                let is = |turn| twin.get(&probe) == Some(&turn);
                assert_eq!(users.find(hash_of(probe), is), twin.get(&probe).copied());
            }
        }
    }
}
