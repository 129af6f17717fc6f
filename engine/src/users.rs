//! What each user has in each concert: soft locks, and a count of live reservations.
//!
//! Every click looks a user up, so a record is 16 bytes inside the table itself, one cache line away.
//! The soft locks of a user are a list through their seats; it has at most eight members.

use crate::ids::UserId;
use crate::index::mix;
use crate::limits::{CONCERTS_PER_SHARD, RESERVATIONS_PER_USER, SEATS_PER_SHARD, SOFT_LOCKS_PER_USER};
use crate::seat::{Seat, SeatRef};

/// One user in one concert. Exists only while there is something to remember: a record without soft
/// locks and reservations is an empty slot.
#[derive(Clone, Copy, Debug, Default)]
struct Record {
    user: UserId,
    /// From the low end: reservations, number of soft locks, first soft lock, concert.
    packed: u64,
}

const _: () = assert!(size_of::<Record>() == 16);

const RESERVATIONS: Field = Field { shift: 0, bits: 20 };
const LOCK_COUNT: Field = Field { shift: 20, bits: 4 };
const FIRST_LOCK: Field = Field { shift: 24, bits: 24 };
const CONCERT: Field = Field { shift: 48, bits: 16 };

// Each bound must fit into its bits.
const _: () = assert!(RESERVATIONS_PER_USER as u64 <= RESERVATIONS.max());
const _: () = assert!(SOFT_LOCKS_PER_USER as u64 <= LOCK_COUNT.max());
const _: () = assert!(SEATS_PER_SHARD as u64 - 1 <= FIRST_LOCK.max());
const _: () = assert!(CONCERTS_PER_SHARD as u64 - 1 <= CONCERT.max());

/// Some bits of a word.
#[derive(Clone, Copy)]
struct Field {
    shift: u32,
    bits: u32,
}

impl Field {
    const fn max(self) -> u64 {
        (1 << self.bits) - 1
    }

    #[expect(clippy::cast_possible_truncation, reason = "no field has more than 24 bits")]
    const fn get(self, word: u64) -> u32 {
        (word >> self.shift & self.max()) as u32
    }

    const fn with(self, word: u64, value: u32) -> u64 {
        word & !(self.max() << self.shift) | (value as u64) << self.shift
    }
}

/// By (user, concert's index in the shard): open addressing, at most three quarters full.
#[derive(Clone, Debug, Default)]
pub struct Users {
    /// The length is a power of two, or zero.
    slots: Vec<Record>,
    len: usize,
}

impl Record {
    fn new(user: UserId, concert: u32) -> Self {
        Self { user, packed: CONCERT.with(0, concert) }
    }

    const fn reservations(&self) -> u32 {
        RESERVATIONS.get(self.packed)
    }

    const fn lock_count(&self) -> u32 {
        LOCK_COUNT.get(self.packed)
    }

    const fn first_lock(&self) -> SeatRef {
        SeatRef(FIRST_LOCK.get(self.packed))
    }

    const fn concert(&self) -> u32 {
        CONCERT.get(self.packed)
    }

    const fn is_empty(&self) -> bool {
        self.lock_count() == 0 && self.reservations() == 0
    }

    fn hash(&self) -> u64 {
        hash(self.user, self.concert())
    }
}

impl Users {
    /// How many seats the user has selected in the concert.
    #[must_use]
    pub fn lock_count(&self, user: UserId, concert: u32) -> usize {
        self.find(user, concert).map_or(0, |slot| self.slots[slot].lock_count() as usize)
    }

    /// The seats the user has selected in the concert, in no order that means anything.
    pub fn locks<'a>(
        &self,
        user: UserId,
        concert: u32,
        seats: &'a [Seat],
    ) -> impl Iterator<Item = SeatRef> + 'a {
        let record = self.find(user, concert).map_or(Record::default(), |slot| self.slots[slot]);
        std::iter::successors(Some(record.first_lock()), |seat| Some(seats[seat.0 as usize].next_lock()))
            .take(record.lock_count() as usize)
    }

    /// The user's live reservations of kind SALE in the concert, pending holds included.
    #[must_use]
    pub fn reservations(&self, user: UserId, concert: u32) -> u32 {
        self.find(user, concert).map_or(0, |slot| self.slots[slot].reservations())
    }

    /// Adds a soft lock; the caller has checked the bound.
    pub fn add_lock(&mut self, user: UserId, concert: u32, seat: SeatRef, seats: &mut [Seat]) {
        let record = self.record_mut(user, concert);
        seats[seat.0 as usize].set_next_lock(record.first_lock());
        record.packed = FIRST_LOCK.with(record.packed, seat.0);
        record.packed = LOCK_COUNT.with(record.packed, record.lock_count() + 1);
    }

    pub fn remove_lock(&mut self, user: UserId, concert: u32, seat: SeatRef, seats: &mut [Seat]) {
        let Some(slot) = self.find(user, concert) else { return };
        let record = &mut self.slots[slot];
        let next = seats[seat.0 as usize].next_lock();
        if record.first_lock() == seat {
            record.packed = FIRST_LOCK.with(record.packed, next.0);
        } else {
            let mut before = record.first_lock();
            for _ in 1..record.lock_count() {
                let follower = seats[before.0 as usize].next_lock();
                if follower == seat {
                    seats[before.0 as usize].set_next_lock(next);
                    break;
                }
                before = follower;
            }
        }
        record.packed = LOCK_COUNT.with(record.packed, record.lock_count() - 1);
        self.empty_if_done(slot);
    }

    /// Adds a reservation; the caller has checked the bound.
    pub fn add_reservation(&mut self, user: UserId, concert: u32) {
        let record = self.record_mut(user, concert);
        record.packed = RESERVATIONS.with(record.packed, record.reservations() + 1);
    }

    pub fn remove_reservation(&mut self, user: UserId, concert: u32) {
        let Some(slot) = self.find(user, concert) else { return };
        let record = &mut self.slots[slot];
        record.packed = RESERVATIONS.with(record.packed, record.reservations().saturating_sub(1));
        self.empty_if_done(slot);
    }

    fn find(&self, user: UserId, concert: u32) -> Option<usize> {
        if self.slots.is_empty() {
            return None;
        }
        let mut slot = self.home(hash(user, concert));
        loop {
            let record = &self.slots[slot];
            if record.is_empty() {
                return None;
            }
            if record.user == user && record.concert() == concert {
                return Some(slot);
            }
            slot = self.after(slot);
        }
    }

    /// The user's record, or a fresh one, which the caller fills at once.
    fn record_mut(&mut self, user: UserId, concert: u32) -> &mut Record {
        let slot = self.find(user, concert).unwrap_or_else(|| {
            if (self.len + 1) * 4 > self.slots.len() * 3 {
                self.grow();
            }
            self.len += 1;
            let slot = self.free_slot(hash(user, concert));
            self.slots[slot] = Record::new(user, concert);
            slot
        });
        &mut self.slots[slot]
    }

    fn free_slot(&self, hash: u64) -> usize {
        let mut slot = self.home(hash);
        while !self.slots[slot].is_empty() {
            slot = self.after(slot);
        }
        slot
    }

    fn grow(&mut self) {
        let size = (self.slots.len() * 2).max(16);
        let old = std::mem::replace(&mut self.slots, vec![Record::default(); size]);
        for record in old.into_iter().filter(|record| !record.is_empty()) {
            let slot = self.free_slot(record.hash());
            self.slots[slot] = record;
        }
    }

    /// Removes a record that says nothing any more, pulling back what sat behind it for its sake.
    fn empty_if_done(&mut self, slot: usize) {
        if !self.slots[slot].is_empty() {
            return;
        }
        self.len -= 1;
        let mask = self.slots.len() - 1;
        let mut hole = slot;
        let mut next = self.after(hole);
        while !self.slots[next].is_empty() {
            let home = self.home(self.slots[next].hash());
            if (next.wrapping_sub(home) & mask) >= (next.wrapping_sub(hole) & mask) {
                self.slots[hole] = self.slots[next];
                hole = next;
            }
            next = self.after(next);
        }
        self.slots[hole] = Record::default();
    }

    #[expect(clippy::cast_possible_truncation, reason = "masked to the table's size")]
    fn home(&self, hash: u64) -> usize {
        hash as usize & (self.slots.len() - 1)
    }

    fn after(&self, slot: usize) -> usize {
        (slot + 1) & (self.slots.len() - 1)
    }
}

fn hash(user: UserId, concert: u32) -> u64 {
    mix(user.0 ^ (u64::from(concert) << 40))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn agrees_with_a_map() {
        let mut seats = vec![Seat::available(0, 0); 400];
        let mut users = Users::default();
        let mut twin: BTreeMap<(u64, u32), Vec<u32>> = BTreeMap::new();
        let mut owner: BTreeMap<u32, (u64, u32)> = BTreeMap::new();
        let mut state = 3u64;
        for _ in 0..40_000 {
            state = mix(state.wrapping_add(0x9e37_79b9_7f4a_7c15));
            let seat = u32::try_from(state % 400).unwrap();
            let (user, concert) = (1 + (state >> 20) % 90, u32::try_from((state >> 40) % 2).unwrap());
            if let Some((user, concert)) = owner.remove(&seat) {
                users.remove_lock(UserId(user), concert, SeatRef(seat), &mut seats);
                twin.entry((user, concert)).or_default().retain(|other| *other != seat);
            } else if twin.get(&(user, concert)).is_none_or(|seats| seats.len() < 8) {
                users.add_lock(UserId(user), concert, SeatRef(seat), &mut seats);
                twin.entry((user, concert)).or_default().push(seat);
                owner.insert(seat, (user, concert));
            }
            for ((user, concert), expected) in &twin {
                let mut locks: Vec<u32> =
                    users.locks(UserId(*user), *concert, &seats).map(|seat| seat.0).collect();
                let mut expected = expected.clone();
                locks.sort_unstable();
                expected.sort_unstable();
                assert_eq!(locks, expected);
            }
            assert_eq!(users.len, twin.values().filter(|locks| !locks.is_empty()).count());
        }
    }
}
