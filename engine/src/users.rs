//! What each user has in each concert: soft locks, and a count of live reservations.

use crate::ids::UserId;
use crate::index::{Index, mix};
use crate::limits::SOFT_LOCKS_PER_USER;
use crate::seat::SeatRef;

/// One user in one concert. Exists only while there is something to remember.
#[derive(Clone, Copy, Debug)]
struct Record {
    user: UserId,
    concert: u32,
    reservations: u32,
    lock_count: u8,
    locks: [SeatRef; SOFT_LOCKS_PER_USER],
}

/// By (user, concert's index in the shard).
#[derive(Clone, Debug, Default)]
pub struct Users {
    records: Vec<Record>,
    free: Vec<u32>,
    index: Index,
}

impl Users {
    /// The user's soft locks in the concert, in no order that means anything.
    #[must_use]
    pub fn locks(&self, user: UserId, concert: u32) -> &[SeatRef] {
        self.find(user, concert).map_or(&[], |handle| {
            let record = &self.records[handle as usize];
            &record.locks[..usize::from(record.lock_count)]
        })
    }

    /// The user's live reservations of kind SALE in the concert, pending holds included.
    #[must_use]
    pub fn reservations(&self, user: UserId, concert: u32) -> u32 {
        self.find(user, concert).map_or(0, |handle| self.records[handle as usize].reservations)
    }

    /// Adds a soft lock; the caller has checked the bound.
    pub fn add_lock(&mut self, user: UserId, concert: u32, seat: SeatRef) {
        let record = self.record_mut(user, concert);
        record.locks[usize::from(record.lock_count)] = seat;
        record.lock_count += 1;
    }

    pub fn remove_lock(&mut self, user: UserId, concert: u32, seat: SeatRef) {
        let Some(handle) = self.find(user, concert) else { return };
        let record = &mut self.records[handle as usize];
        let count = usize::from(record.lock_count);
        let Some(place) = record.locks[..count].iter().position(|lock| *lock == seat) else { return };
        record.locks[place] = record.locks[count - 1];
        record.lock_count -= 1;
        self.drop_if_empty(handle);
    }

    pub fn add_reservation(&mut self, user: UserId, concert: u32) {
        self.record_mut(user, concert).reservations += 1;
    }

    pub fn remove_reservation(&mut self, user: UserId, concert: u32) {
        let Some(handle) = self.find(user, concert) else { return };
        let record = &mut self.records[handle as usize];
        record.reservations = record.reservations.saturating_sub(1);
        self.drop_if_empty(handle);
    }

    fn find(&self, user: UserId, concert: u32) -> Option<u32> {
        self.index.find(hash(user, concert), |handle| {
            let record = &self.records[handle as usize];
            record.user == user && record.concert == concert
        })
    }

    #[expect(clippy::cast_possible_truncation, reason = "no more records than seats and reservations")]
    fn record_mut(&mut self, user: UserId, concert: u32) -> &mut Record {
        let handle = self.find(user, concert).unwrap_or_else(|| {
            let record = Record {
                user,
                concert,
                reservations: 0,
                lock_count: 0,
                locks: [SeatRef(0); SOFT_LOCKS_PER_USER],
            };
            let handle = match self.free.pop() {
                Some(handle) => {
                    self.records[handle as usize] = record;
                    handle
                }
                None => {
                    self.records.push(record);
                    self.records.len() as u32 - 1
                }
            };
            let records = &self.records;
            self.index.insert(hash(user, concert), handle, |h| hash_of(records, h));
            handle
        });
        &mut self.records[handle as usize]
    }

    fn drop_if_empty(&mut self, handle: u32) {
        let record = self.records[handle as usize];
        if record.lock_count == 0 && record.reservations == 0 {
            let records = &self.records;
            self.index.remove(hash(record.user, record.concert), handle, |h| hash_of(records, h));
            self.free.push(handle);
        }
    }
}

fn hash(user: UserId, concert: u32) -> u64 {
    mix(user.0 ^ (u64::from(concert) << 53))
}

fn hash_of(records: &[Record], handle: u32) -> u64 {
    let record = &records[handle as usize];
    hash(record.user, record.concert)
}
