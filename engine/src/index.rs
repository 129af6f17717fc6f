//! A hash index over records that live elsewhere: it stores their handles only, four bytes each.
//!
//! Why not the standard map: its order is random, and on the click path it costs a hash that
//! withstands attackers and an allocation per growth of every value. Keys here are our own or
//! already hashed, and nobody can iterate this index, so its order cannot leak into a result.

/// Open addressing with linear probing, at most half full; removal shifts back, leaving no tombs.
#[derive(Clone, Debug, Default)]
pub struct Index {
    /// 0 is empty, else a handle + 1. The length is a power of two, or zero.
    slots: Vec<u32>,
    len: usize,
}

/// Spreads a key over 64 bits: the finalizer of SplitMix64 (Steele, Lea, Flood).
#[must_use]
pub const fn mix(key: u64) -> u64 {
    let key = (key ^ (key >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let key = (key ^ (key >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    key ^ (key >> 31)
}

/// [`mix`] for 128-bit keys.
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "both halves are used")]
pub const fn mix_wide(key: u128) -> u64 {
    mix((key as u64) ^ mix((key >> 64) as u64))
}

impl Index {
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// The handle under `hash` that `is` the one.
    pub fn find(&self, hash: u64, is: impl Fn(u32) -> bool) -> Option<u32> {
        if self.slots.is_empty() {
            return None;
        }
        let mut slot = self.home(hash);
        loop {
            match self.slots[slot] {
                0 => return None,
                filled if is(filled - 1) => return Some(filled - 1),
                _ => slot = self.after(slot),
            }
        }
    }

    /// Adds a handle that is not there yet. `hash_of` tells the hash of any handle already inside.
    pub fn insert(&mut self, hash: u64, handle: u32, hash_of: impl Fn(u32) -> u64) {
        if (self.len + 1) * 2 > self.slots.len() {
            self.grow(hash_of);
        }
        self.place(hash, handle);
        self.len += 1;
    }

    /// Removes a handle that is there.
    pub fn remove(&mut self, hash: u64, handle: u32, hash_of: impl Fn(u32) -> u64) {
        let mut hole = self.home(hash);
        while self.slots[hole] != handle + 1 {
            assert!(self.slots[hole] != 0, "the handle to remove is in the index");
            hole = self.after(hole);
        }
        self.len -= 1;
        // Pull back whatever could not sit at its home because of the hole.
        let mut next = self.after(hole);
        while self.slots[next] != 0 {
            let home = self.home(hash_of(self.slots[next] - 1));
            let mask = self.slots.len() - 1;
            if (next.wrapping_sub(home) & mask) >= (next.wrapping_sub(hole) & mask) {
                self.slots[hole] = self.slots[next];
                hole = next;
            }
            next = self.after(next);
        }
        self.slots[hole] = 0;
    }

    fn grow(&mut self, hash_of: impl Fn(u32) -> u64) {
        let size = (self.slots.len() * 2).max(16);
        let old = std::mem::replace(&mut self.slots, vec![0; size]);
        for filled in old.into_iter().filter(|filled| *filled != 0) {
            self.place(hash_of(filled - 1), filled - 1);
        }
    }

    fn place(&mut self, hash: u64, handle: u32) {
        let mut slot = self.home(hash);
        while self.slots[slot] != 0 {
            slot = self.after(slot);
        }
        self.slots[slot] = handle + 1;
    }

    #[expect(clippy::cast_possible_truncation, reason = "masked to the table's size")]
    fn home(&self, hash: u64) -> usize {
        hash as usize & (self.slots.len() - 1)
    }

    fn after(&self, slot: usize) -> usize {
        (slot + 1) & (self.slots.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// A crowded index with colliding hashes agrees with a set through inserts and removals.
    #[test]
    fn agrees_with_a_set() {
        let hash_of = |handle: u32| u64::from(handle % 7);
        let mut index = Index::default();
        let mut set = BTreeSet::new();
        let mut state = 1u64;
        for _ in 0..20_000 {
            state = mix(state.wrapping_add(0x9e37_79b9_7f4a_7c15));
            let handle = u32::try_from(state % 97).unwrap();
            if set.remove(&handle) {
                index.remove(hash_of(handle), handle, hash_of);
            } else {
                set.insert(handle);
                index.insert(hash_of(handle), handle, hash_of);
            }
            assert_eq!(index.len(), set.len());
            for probe in 0..97 {
                assert_eq!(index.find(hash_of(probe), |h| h == probe).is_some(), set.contains(&probe));
            }
        }
    }
}
