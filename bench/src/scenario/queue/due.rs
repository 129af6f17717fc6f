//! When users do something again: hundreds of thousands, of whom each is a few bytes here and no task.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use crate::lock::lock;

/// Due instants are looked at so often; what is due then counts from its own instant.
const LOOK: Duration = Duration::from_micros(500);

/// Users by the instant at which they are due, and those who are due now.
pub struct Due {
    later: Mutex<BinaryHeap<Reverse<(Instant, u32)>>>,
    now: Mutex<VecDeque<(Instant, u32)>>,
    released: Semaphore,
}

impl Due {
    pub fn new() -> Self {
        Self { later: Mutex::default(), now: Mutex::default(), released: Semaphore::new(0) }
    }

    pub fn put(&self, at: Instant, user: u32) {
        lock(&self.later).push(Reverse((at, user)));
    }

    /// The next who is due; `None` when it is over. Cancel-safe.
    pub async fn next(&self) -> Option<(Instant, u32)> {
        self.released.acquire().await.ok()?.forget();
        lock(&self.now).pop_front()
    }

    /// Nobody is due any more.
    pub fn close(&self) {
        self.released.close();
    }

    /// Lets those go who are due, until an instant, or until it is stopped or closed. For a thread of its own: timers of
    /// a runtime that is busy are late.
    pub fn release(&self, until: Instant, stopped: impl Fn() -> bool) {
        while !self.released.is_closed() {
            let now = Instant::now();
            if now >= until || stopped() {
                self.close();
            }
            let mut later = lock(&self.later);
            let mut count = 0;
            while later.peek().is_some_and(|Reverse((at, _))| *at <= now) {
                lock(&self.now).extend(later.pop().map(|Reverse(due)| due));
                count += 1;
            }
            drop(later);
            self.released.add_permits(count);
            thread::sleep(LOOK);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn who_is_due_comes_in_order_and_never_early() {
        let due = Arc::new(Due::new());
        let start = Instant::now();
        for (user, millis) in [(1, 30), (2, 10), (3, 20), (4, 60_000)] {
            due.put(start + Duration::from_millis(millis), user);
        }
        let releasing = due.clone();
        let thread = thread::spawn(move || releasing.release(start + Duration::from_millis(200), || false));
        for expected in [2, 3, 1] {
            let (at, user) = due.next().await.unwrap();
            assert_eq!(user, expected);
            assert!(at <= Instant::now());
        }
        assert_eq!(due.next().await, None, "the time is over");
        thread.join().unwrap();
    }
}
