//! The memory of answered requests: a retry inside the horizon gets the first answer.

use std::collections::VecDeque;

use crate::ids::{RequestKey, UserId};
use crate::index::{Index, mix, mix_wide};
use crate::limits::ANSWERED_KEYS;
use crate::reservation::Status;
use crate::time::Time;

/// A key within its user, 128 bits: two users' equal keys are different keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ScopedKey(u128);

impl ScopedKey {
    #[must_use]
    pub const fn new(user: UserId, key: RequestKey) -> Self {
        // A bijection of the key for each user, so that keys which are hashes stay as rare to meet.
        Self(key.0 ^ scope(user))
    }

    /// Where it sorts in an index.
    #[must_use]
    pub const fn hash(self) -> u64 {
        mix_wide(self.0)
    }
}

const fn scope(user: UserId) -> u128 {
    let high = mix(user.0) as u128;
    let low = mix(user.0 ^ 0x9e37_79b9_7f4a_7c15) as u128;
    high << 64 | low
}

/// One answered request, 48 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    pub key: ScopedKey,
    /// What was asked.
    pub content: u64,
    /// When it happened.
    pub at: Time,
    /// The reservation's deadline then.
    pub deadline: Time,
    /// The reservation's handle; [`Record::NO_RESERVATION`] for options and policies.
    pub reservation: u32,
    /// The reservation's status and version then: `version << 3 | status`.
    packed: u32,
}

const _: () = assert!(size_of::<Record>() == 48);

impl Record {
    pub const NO_RESERVATION: u32 = u32::MAX;

    /// An answer about a reservation, as it stood then.
    #[must_use]
    pub const fn reservation(
        key: ScopedKey,
        content: u64,
        at: Time,
        handle: u32,
        status: Status,
        version: u32,
        deadline: Time,
    ) -> Self {
        Self { key, content, at, deadline, reservation: handle, packed: version << 3 | status as u32 }
    }

    /// An answer that says no more than "done".
    #[must_use]
    pub const fn done(key: ScopedKey, content: u64, at: Time) -> Self {
        Self { key, content, at, deadline: Time::NEVER, reservation: Self::NO_RESERVATION, packed: 0 }
    }

    /// The reservation's status then; `None` for [`Self::done`].
    #[must_use]
    pub const fn status(&self) -> Option<Status> {
        Status::from_number((self.packed & 7) as u8)
    }

    #[must_use]
    pub const fn version(&self) -> u32 {
        self.packed >> 3
    }
}

/// Records in chunks of this many, so that growth copies nothing and wastes at most one chunk.
const CHUNK: usize = 4_096;

/// Records in the order of their events, oldest first, with an index by key.
#[derive(Clone, Debug, Default)]
pub struct Answered {
    chunks: VecDeque<Vec<Record>>,
    /// How many records have been forgotten before the first chunk: handles keep counting.
    forgotten: u64,
    /// Records of the first chunk that are forgotten already.
    skip: usize,
    index: Index,
}

impl Answered {
    #[must_use]
    pub const fn len(&self) -> usize {
        self.index.len()
    }

    #[must_use]
    pub fn get(&self, key: ScopedKey) -> Option<&Record> {
        let handle = self.index.find(key.hash(), |handle| self.at(handle).key == key)?;
        Some(self.at(handle))
    }

    /// Remembers an answer. A key that is there already keeps its first answer.
    #[expect(clippy::cast_possible_truncation, reason = "handles wrap; fewer than 2^31 live at once")]
    pub fn insert(&mut self, record: Record) {
        if self.get(record.key).is_some() {
            return;
        }
        if self.chunks.back().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push_back(Vec::with_capacity(CHUNK));
        }
        let Some(chunk) = self.chunks.back_mut() else { return };
        chunk.push(record);
        let place = (self.chunks.len() - 1) * CHUNK + self.chunks.back().map_or(0, Vec::len) - 1;
        let handle = (self.forgotten + place as u64) as u32 & HANDLE_MASK;
        let mut index = std::mem::take(&mut self.index);
        index.insert(record.key.hash(), handle, |h| self.at(h).key.hash());
        self.index = index;
    }

    /// Forgets what happened at `horizon` or before.
    #[expect(clippy::cast_possible_truncation, reason = "handles wrap; fewer than 2^31 live at once")]
    pub fn forget(&mut self, horizon: Time) {
        while let Some(record) = self.chunks.front().and_then(|chunk| chunk.get(self.skip)).copied() {
            if record.at > horizon {
                return;
            }
            let handle = (self.forgotten + self.skip as u64) as u32 & HANDLE_MASK;
            let mut index = std::mem::take(&mut self.index);
            index.remove(record.key.hash(), handle, |h| self.at(h).key.hash());
            self.index = index;
            self.skip += 1;
            if self.skip == CHUNK {
                self.chunks.pop_front();
                self.forgotten += CHUNK as u64;
                self.skip = 0;
            }
        }
    }

    /// When the oldest was answered.
    #[must_use]
    pub fn oldest(&self) -> Option<Time> {
        self.chunks.front().and_then(|chunk| chunk.get(self.skip)).map(|record| record.at)
    }

    /// Oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Record> + '_ {
        self.chunks.iter().flatten().skip(self.skip)
    }

    #[expect(clippy::cast_possible_truncation, reason = "the wrapped distance fits")]
    fn at(&self, handle: u32) -> &Record {
        let place = (handle.wrapping_sub(self.forgotten as u32) & HANDLE_MASK) as usize;
        &self.chunks[place / CHUNK][place % CHUNK]
    }
}

/// Handles count modulo 2^31: the index stores handle + 1 in a u32.
const HANDLE_MASK: u32 = (1 << 31) - 1;

const _: () = assert!(ANSWERED_KEYS < HANDLE_MASK as usize / 2);

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u64) -> ScopedKey {
        ScopedKey::new(UserId(n % 10 + 1), RequestKey(u128::from(mix(n)) << 3))
    }

    #[test]
    fn keeps_the_horizon_and_no_more() {
        // Close to where handles wrap.
        let forgotten = (u64::from(HANDLE_MASK) - 5_000) & !(CHUNK as u64 - 1);
        let mut answered = Answered { forgotten, ..Answered::default() };
        for n in 0..30_000u64 {
            let at = Time(i64::try_from(n).unwrap());
            answered.insert(Record::done(key(n), n, at));
            answered.insert(Record::done(key(n), n + 1, at));
            answered.forget(Time(at.0 - 10_000));
            assert_eq!(answered.get(key(n)).map(|record| record.content), Some(n));
            if n >= 10_000 {
                assert_eq!(answered.get(key(n - 10_000)), None);
                assert_eq!(answered.get(key(n - 9_999)).map(|record| record.content), Some(n - 9_999));
                assert_eq!(answered.len(), 10_000);
            }
        }
        assert_eq!(answered.iter().count(), 10_000);
    }
}
