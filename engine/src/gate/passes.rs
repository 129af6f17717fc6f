//! Passes: who may enter, and until when.

use super::effect::Pass;
use super::line::JoinTime;
use crate::deadlines::Deadlines;
use crate::ids::{PassId, Turn, UserId};
use crate::index::{Index, mix};
use crate::time::{Span, Time};

/// A user's pass. Until it is told, nobody may use it, and only its longest age runs.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    pub user: UserId,
    pub turn: Turn,
    pub pass: Pass,
    pub joined: Option<JoinTime>,
    pub told: bool,
}

/// At most one per user.
#[derive(Debug, Default)]
pub struct Passes {
    entries: Vec<Entry>,
    free: Vec<u32>,
    by_user: Index,
    /// No later than a pass runs out. Activity only writes the pass; its deadline follows when it is due.
    deadlines: Deadlines,
}

impl Passes {
    /// Those that are not told yet included.
    pub const fn len(&self) -> usize {
        self.by_user.len()
    }

    pub fn find(&self, user: UserId) -> Option<&Entry> {
        self.slot(user).map(|slot| &self.entries[slot as usize])
    }

    /// The user has no pass.
    pub fn insert(&mut self, entry: Entry) {
        let slot = match self.free.pop() {
            Some(slot) => {
                self.entries[slot as usize] = entry;
                slot
            }
            None => {
                self.entries.push(entry);
                u32::try_from(self.entries.len() - 1).expect("bounded by GATE_PASSES")
            }
        };
        let entries = &self.entries;
        self.by_user.insert(mix(entry.user.0), slot, |slot| mix(entries[slot as usize].user.0));
        self.deadlines.set(slot, entry.pass.expires_at);
    }

    /// The pass is told at `now`, and its TTL begins; `None` when it has ended before.
    pub fn tell(&mut self, user: UserId, pass: PassId, now: Time, ttl: Span) -> Option<Entry> {
        let slot = self.slot(user)?;
        let entry = &mut self.entries[slot as usize];
        if entry.pass.id != pass {
            return None;
        }
        entry.told = true;
        entry.pass.expires_at = (now + ttl).min(entry.pass.ends_at);
        let told = *entry;
        self.deadlines.set(slot, told.pass.expires_at);
        Some(told)
    }

    /// The pass was used at `now`.
    pub fn renew(&mut self, user: UserId, pass: PassId, now: Time, ttl: Span) {
        let Some(slot) = self.slot(user) else { return };
        let entry = &mut self.entries[slot as usize];
        if entry.told && entry.pass.id == pass {
            entry.pass.expires_at = (now + ttl).min(entry.pass.ends_at);
        }
    }

    pub fn remove(&mut self, user: UserId) -> Option<Entry> {
        let slot = self.slot(user)?;
        let entries = &self.entries;
        self.by_user.remove(mix(user.0), slot, |slot| mix(entries[slot as usize].user.0));
        self.deadlines.clear(slot);
        self.free.push(slot);
        Some(self.entries[slot as usize])
    }

    /// Removes one that has run out at `now`.
    pub fn pop_expired(&mut self, now: Time) -> Option<Entry> {
        while let Some(slot) = self.deadlines.pop(now) {
            let entry = self.entries[slot as usize];
            if entry.pass.expires_at <= now {
                return self.remove(entry.user);
            }
            self.deadlines.set(slot, entry.pass.expires_at);
        }
        None
    }

    /// When one may run out; none does earlier.
    pub fn next(&self) -> Option<Time> {
        self.deadlines.next()
    }

    /// All of them, by user.
    pub fn sorted(&self) -> Vec<Entry> {
        let mut free = self.free.clone();
        free.sort_unstable();
        let live = (0..).zip(&self.entries).filter(|(slot, _)| free.binary_search(slot).is_err());
        let mut sorted: Vec<Entry> = live.map(|(_, entry)| *entry).collect();
        sorted.sort_unstable_by_key(|entry| entry.user);
        sorted
    }

    fn slot(&self, user: UserId) -> Option<u32> {
        self.by_user.find(mix(user.0), |slot| self.entries[slot as usize].user == user)
    }
}
