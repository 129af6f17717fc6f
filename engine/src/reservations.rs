//! A shard's reservations in memory: found by id, named by a handle that stays while they are here.

use crate::ids::{EntryNo, ReservationId};
use crate::index::{Index, mix_wide};
use crate::reservation::Reservation;

/// Reservations in pieces of this many, so that growth copies nothing and wastes at most one piece.
const CHUNK: usize = 1_024;

/// A reservation and the entry about it that is on its way to the ledger.
#[derive(Clone, Debug)]
pub struct Held {
    /// As the ledger has it; for one that is being created, as it will have it.
    pub row: Reservation,
    /// The pending entry's number, 0 for none; [`UNBORN`] is set until the first one is durable.
    entry: u64,
}

const UNBORN: u64 = 1 << 63;

/// 25,000 of them are a stadium sold out to parties of four.
const _: () = assert!(size_of::<Option<Held>>() <= 120);

impl Held {
    /// One that the ledger does not know yet; its entry's number follows.
    #[must_use]
    pub const fn unborn(row: Reservation) -> Self {
        Self { row, entry: UNBORN }
    }

    #[must_use]
    pub const fn durable(row: Reservation) -> Self {
        Self { row, entry: 0 }
    }

    #[must_use]
    pub const fn is_durable(&self) -> bool {
        self.entry & UNBORN == 0
    }

    /// The entry on its way.
    #[must_use]
    pub const fn pending(&self) -> Option<EntryNo> {
        match self.entry & !UNBORN {
            0 => None,
            no => Some(EntryNo(no)),
        }
    }

    pub const fn set_pending(&mut self, no: EntryNo) {
        self.entry = self.entry & UNBORN | no.0;
    }

    /// The ledger has this row now, and nothing is on its way.
    pub fn settle(&mut self, row: Reservation) {
        *self = Self::durable(row);
    }
}

/// By handle and by id.
#[derive(Clone, Debug, Default)]
pub struct Reservations {
    slots: Slots,
    free: Vec<u32>,
    index: Index,
}

#[derive(Clone, Debug, Default)]
struct Slots(Vec<Vec<Option<Held>>>);

impl Slots {
    fn get(&self, handle: u32) -> Option<&Held> {
        self.0.get(handle as usize / CHUNK)?.get(handle as usize % CHUNK)?.as_ref()
    }

    fn hash(&self, handle: u32) -> u64 {
        self.get(handle).map_or(0, |held| mix_wide(held.row.id.0))
    }

    fn push(&mut self, held: Held) -> u32 {
        if self.0.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.0.push(Vec::with_capacity(CHUNK));
        }
        let before = (self.0.len() - 1) * CHUNK;
        let chunk = self.0.last_mut().expect("a chunk with room was made");
        chunk.push(Some(held));
        u32::try_from(before + chunk.len() - 1).expect("fewer reservations than 2^31")
    }
}

impl Reservations {
    #[must_use]
    pub const fn len(&self) -> usize {
        self.index.len()
    }

    #[must_use]
    pub fn find(&self, id: ReservationId) -> Option<u32> {
        let is = |handle| self.slots.get(handle).is_some_and(|held| held.row.id == id);
        self.index.find(mix_wide(id.0), is)
    }

    /// The reservation of a handle in use.
    #[must_use]
    pub fn get(&self, handle: u32) -> &Held {
        self.slots.get(handle).expect("a handle in use names a reservation")
    }

    pub fn get_mut(&mut self, handle: u32) -> &mut Held {
        self.slots.0[handle as usize / CHUNK][handle as usize % CHUNK]
            .as_mut()
            .expect("a handle in use names a reservation")
    }

    /// Gives a reservation its handle.
    pub fn insert(&mut self, held: Held) -> u32 {
        let id = held.row.id;
        let handle = match self.free.pop() {
            Some(handle) => {
                self.slots.0[handle as usize / CHUNK][handle as usize % CHUNK] = Some(held);
                handle
            }
            None => self.slots.push(held),
        };
        self.index.insert(mix_wide(id.0), handle, |other| self.slots.hash(other));
        handle
    }

    pub fn remove(&mut self, handle: u32) {
        let id = self.get(handle).row.id;
        self.index.remove(mix_wide(id.0), handle, |other| self.slots.hash(other));
        self.slots.0[handle as usize / CHUNK][handle as usize % CHUNK] = None;
        self.free.push(handle);
    }

    /// Those that the ledger has, in no order that means anything.
    pub fn durable(&self) -> impl Iterator<Item = &Reservation> + '_ {
        let held = self.slots.0.iter().flatten().flatten();
        held.filter(|held| held.is_durable()).map(|held| &held.row)
    }
}
