//! Commands on their way to one actor. The first to come sends the actor a message; whatever else has come by
//! the time of its turn is decided in the same turn.
//!
//! A message of its own for each command costs a boxed envelope, a wake-up and a turn of the actor's loop, several
//! times what the decision costs. Under load this is one of each for all the commands that are there.

use std::sync::Mutex;

use crate::lock::lock;

/// One for each actor, so that what a dead one left is dropped with it: permits return, and who waits hears of it.
#[derive(Debug)]
pub struct Inbox<T>(Mutex<Vec<T>>);

impl<T> Default for Inbox<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Inbox<T> {
    /// Whether the actor must be told: nothing was there.
    #[must_use]
    pub fn push(&self, asked: T) -> bool {
        let mut waiting = lock(&self.0);
        waiting.push(asked);
        waiting.len() == 1
    }

    /// Takes everything, in the order in which it came, and leaves an empty buffer behind.
    pub fn take_into(&self, buffer: &mut Vec<T>) {
        debug_assert!(buffer.is_empty(), "what was taken before is decided");
        std::mem::swap(&mut *lock(&self.0), buffer);
    }

    /// Nobody will come for it any more.
    pub fn clear(&self) {
        let left = std::mem::take(&mut *lock(&self.0));
        // Outside of the lock: each drop wakes somebody.
        drop(left);
    }
}
