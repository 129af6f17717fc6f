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

    /// The next event with its time; `None` when nothing is left to happen.
    ///
    /// # Errors
    /// More than so many were planned: the world finds no rest.
    pub fn next(&mut self, at_most: u64) -> Result<Option<(i64, E)>, String> {
        let Some(((at, _), event)) = self.events.pop_first() else { return Ok(None) };
        if self.planned > at_most {
            return Err(format!("no rest after {at_most} events"));
        }
        Ok(Some((at, event)))
    }
}
