//! What will happen in a world, in order.

use std::collections::BTreeMap;

/// Events by their times; equal times happen in the order in which they were planned.
#[derive(Debug)]
pub struct Agenda<E> {
    events: BTreeMap<(i64, u64), E>,
    planned: u64,
}

impl<E> Default for Agenda<E> {
    fn default() -> Self {
        Self { events: BTreeMap::new(), planned: 0 }
    }
}

impl<E> Agenda<E> {
    pub fn plan(&mut self, at: i64, event: E) {
        self.planned += 1;
        self.events.insert((at, self.planned), event);
    }

    /// The next event with its time.
    pub fn next(&mut self) -> Option<(i64, E)> {
        self.events.pop_first().map(|((at, _), event)| (at, event))
    }

    /// How many were planned so far.
    #[must_use]
    pub const fn planned(&self) -> u64 {
        self.planned
    }
}
