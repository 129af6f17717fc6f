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

/// The right to wait.
#[derive(Debug)]
pub struct Permit(Arc<Pool>);

impl Pool {
    #[must_use]
    pub fn new(bound: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), bound })
    }

    #[must_use]
    pub fn take(self: &Arc<Self>) -> Option<Permit> {
        if self.used.fetch_add(1, Ordering::Relaxed) < self.bound {
            return Some(Permit(self.clone()));
        }
        self.used.fetch_sub(1, Ordering::Relaxed);
        None
    }

    #[must_use]
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.used.fetch_sub(1, Ordering::Relaxed);
    }
}
