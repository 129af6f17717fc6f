//! Who may write to a file on the runtime's own threads.
//!
//! A batch is a few kilobytes for the kernel's cache, which takes a microsecond or two; a thread for blocking work costs
//! ten, whatever the size. But a disk that is slow or full of other writes makes `write` wait for as long as it likes, and
//! the runtime must not wait with it. So one at a time may write at once, and after a write that took long nobody may for a
//! while: whatever the disk does, one thread at most waits for it, and now and then. Everybody else hops. A write is never
//! waited for by the task that keeps the mirror's time, so that a gate whose disk hangs hears of it.

use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

/// A write that took longer waited for the disk, and not only for its turn on a busy machine.
const SLOW: Duration = Duration::from_millis(10);

/// For how many times as long everybody hops then: threads wait for a hundredth of their time at most.
const REST: u32 = 100;

#[derive(Debug, Default)]
pub(super) struct Pen {
    /// Not before. `None`: at any time.
    free_at: Mutex<Option<Instant>>,
}

/// The right to write at once.
pub(super) struct Writing<'a> {
    since: Instant,
    free_at: MutexGuard<'a, Option<Instant>>,
}

impl Pen {
    /// `None`: hop. That is also so where a runtime has one thread, or there is none.
    pub fn take(&self) -> Option<Writing<'_>> {
        let workers = Handle::try_current().map_or(0, |runtime| runtime.metrics().num_workers());
        if workers < 2 { None } else { self.take_at(Instant::now()) }
    }

    /// Forgets a slow write.
    #[cfg(test)]
    pub fn forgive(&self) {
        *self.free_at.lock().unwrap() = None;
    }

    fn take_at(&self, now: Instant) -> Option<Writing<'_>> {
        // Taken: somebody writes. A panic under it has broken nothing.
        let free_at = match self.free_at.try_lock() {
            Ok(free_at) => free_at,
            Err(std::sync::TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(std::sync::TryLockError::WouldBlock) => return None,
        };
        free_at.is_none_or(|free_at| free_at <= now).then_some(Writing { since: now, free_at })
    }
}

impl Writing<'_> {
    /// Done.
    pub fn end(self) {
        self.end_at(Instant::now());
    }

    fn end_at(mut self, now: Instant) {
        let took = now.duration_since(self.since);
        *self.free_at = (took > SLOW).then(|| now + took * REST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_nobody_for_a_while_after_a_slow_write() {
        let (pen, now) = (Pen::default(), Instant::now());
        let writing = pen.take_at(now).unwrap();
        assert!(pen.take_at(now).is_none(), "somebody writes");
        writing.end_at(now + SLOW);
        let slow = pen.take_at(now).expect("it was fast");
        let later = now + 3 * SLOW;
        slow.end_at(later);
        let rested = later + 3 * SLOW * REST;
        assert!(pen.take_at(rested - Duration::from_millis(1)).is_none(), "it was slow");
        pen.take_at(rested).expect("it has rested").end_at(rested);
        assert!(pen.take_at(rested).is_some());
    }

    #[tokio::test]
    async fn a_runtime_of_one_thread_never_waits() {
        assert!(Pen::default().take().is_none());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn one_of_two_may() {
        assert!(Pen::default().take().is_some());
    }
}
