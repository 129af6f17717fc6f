//! Entries on their way to the ledger: what each will change, and which replies wait for it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::answered::ScopedKey;
use crate::command::Request;
use crate::ids::{ConcertId, EntryNo, OptionId, ReplyTo};
use crate::limits::WAITERS_PER_ENTRY;
use crate::option::{OptionStatus, Policy};
use crate::plan::Layout;
use crate::reservation::Reservation;
use crate::time::Time;

/// What becomes true when the entry is durable.
#[derive(Clone, Debug)]
pub enum Change {
    /// The reservation under this handle becomes this row.
    Reservation {
        handle: u32,
        row: Reservation,
    },
    NewOption {
        option: OptionId,
        concert: ConcertId,
        layout: Arc<Layout>,
    },
    OptionStatus {
        index: u16,
        status: OptionStatus,
        version: u32,
    },
    Policy {
        concert: ConcertId,
        policy: Policy,
        version: u32,
    },
}

/// An entry sent to the ledger and not yet known to be there.
#[derive(Clone, Debug)]
pub struct PendingEntry {
    pub at: Time,
    pub change: Change,
    /// The key and the content of the request that caused it.
    pub request: Option<(ScopedKey, u64)>,
    /// Who is told when it is durable; nobody for an expiry.
    pub reply: Option<ReplyTo>,
    /// Retries of the same key: told the same.
    retries: Vec<ReplyTo>,
    /// Commands on the same row, with the time they arrived, in order.
    waiting: VecDeque<(Time, Request)>,
}

/// In the order of their numbers, which is the order in which they become durable.
#[derive(Clone, Debug)]
pub struct Pending {
    entries: VecDeque<PendingEntry>,
    /// The number of the first entry in the queue, or of the next one to come.
    first: u64,
    keys: BTreeMap<ScopedKey, EntryNo>,
}

impl Default for Pending {
    fn default() -> Self {
        Self { entries: VecDeque::new(), first: 1, keys: BTreeMap::new() }
    }
}

impl PendingEntry {
    #[must_use]
    pub const fn new(
        at: Time,
        change: Change,
        request: Option<(ScopedKey, u64)>,
        reply: Option<ReplyTo>,
    ) -> Self {
        Self { at, change, request, reply, retries: Vec::new(), waiting: VecDeque::new() }
    }

    /// Everybody who is told what became of the entry: who caused it first, then the retries.
    pub fn replies(&self) -> impl Iterator<Item = (ReplyTo, bool)> + '_ {
        let retries = self.retries.iter().map(|reply| (*reply, true));
        self.reply.iter().map(|reply| (*reply, false)).chain(retries)
    }

    #[must_use]
    pub fn take_waiting(&mut self) -> VecDeque<(Time, Request)> {
        std::mem::take(&mut self.waiting)
    }

    fn is_full(&self) -> bool {
        self.retries.len() + self.waiting.len() >= WAITERS_PER_ENTRY
    }
}

impl Pending {
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Pending entries that carry a key: each will become an answered key.
    #[must_use]
    pub fn keyed(&self) -> usize {
        self.keys.len()
    }

    /// The number the next entry gets.
    #[must_use]
    pub fn next_no(&self) -> EntryNo {
        EntryNo(self.first + self.entries.len() as u64)
    }

    pub fn push(&mut self, entry: PendingEntry) -> EntryNo {
        let no = self.next_no();
        if let Some((key, _)) = entry.request {
            self.keys.insert(key, no);
        }
        self.entries.push_back(entry);
        no
    }

    #[must_use]
    pub fn get(&self, no: EntryNo) -> Option<&PendingEntry> {
        let place = usize::try_from(no.0.checked_sub(self.first)?).ok()?;
        self.entries.get(place)
    }

    fn get_mut(&mut self, no: EntryNo) -> Option<&mut PendingEntry> {
        let place = usize::try_from(no.0.checked_sub(self.first)?).ok()?;
        self.entries.get_mut(place)
    }

    /// The pending entry that a key belongs to.
    #[must_use]
    pub fn by_key(&self, key: ScopedKey) -> Option<EntryNo> {
        self.keys.get(&key).copied()
    }

    /// Lets a retry wait for the entry's outcome; `false` when too many wait already.
    #[must_use]
    pub fn add_retry(&mut self, no: EntryNo, reply: ReplyTo) -> bool {
        match self.get_mut(no) {
            Some(entry) if !entry.is_full() => {
                entry.retries.push(reply);
                true
            }
            _ => false,
        }
    }

    /// Lets a command wait until the entry is durable; `false` when too many wait already.
    #[must_use]
    pub fn add_waiting(&mut self, no: EntryNo, at: Time, request: Request) -> bool {
        match self.get_mut(no) {
            Some(entry) if !entry.is_full() => {
                entry.waiting.push_back((at, request));
                true
            }
            _ => false,
        }
    }

    /// Takes the oldest entry if its number is at most `upto`.
    pub fn pop(&mut self, upto: EntryNo) -> Option<PendingEntry> {
        if self.first > upto.0 {
            return None;
        }
        let entry = self.entries.pop_front()?;
        self.first += 1;
        if let Some((key, _)) = entry.request {
            self.keys.remove(&key);
        }
        Some(entry)
    }
}
