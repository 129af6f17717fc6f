//! Bounds on what may wait for a shard. A permit travels inside the message it lets in and returns
//! when it is dropped, however that message ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// So many permits and no more. Never waits: who gets none is told so at once.
#[derive(Debug)]
pub struct Pool {
    used: AtomicUsize,
    bound: usize,
}

/// The right to wait, for one or several.
#[derive(Debug)]
pub struct Permit {
    pool: Arc<Pool>,
    places: usize,
}

impl Pool {
    #[must_use]
    pub fn new(bound: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), bound })
    }

    #[must_use]
    pub fn take(self: &Arc<Self>) -> Option<Permit> {
        self.take_all(1)
    }

    /// So many places, or none at all.
    #[must_use]
    pub fn take_all(self: &Arc<Self>, places: usize) -> Option<Permit> {
        if self.used.fetch_add(places, Ordering::Relaxed) + places <= self.bound {
            return Some(Permit { pool: self.clone(), places });
        }
        self.used.fetch_sub(places, Ordering::Relaxed);
        None
    }

    #[must_use]
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.pool.used.fetch_sub(self.places, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_places_are_given_together_or_not_at_all() {
        let pool = Pool::new(4);
        let three = pool.take_all(3).unwrap();
        assert!(pool.take_all(2).is_none());
        let one = pool.take().unwrap();
        assert!(pool.take().is_none());
        drop(three);
        assert_eq!(pool.used(), 1);
        drop(one);
        assert!(pool.take_all(4).is_some());
        assert_eq!(pool.used(), 0);
    }
}
