//! Soft locks by the time they run out.
//!
//! They nearly all live equally long, so they run out in the order they came: a queue, which costs a
//! click nothing but a push at its end. The few that do not (a renewal cut short by the longest
//! age, a restored lock) go into a heap beside it. A lock that ends early leaves its entry behind;
//! the entry is recognised as stale when its turn comes, because the seat says otherwise, and all stale
//! entries are swept out before they outnumber the live ones.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use crate::seat::{Seat, SeatRef};
use crate::time::Time;

/// How many stale entries are always tolerated, so that small queues are not swept all the time.
const STALE_ALLOWED: usize = 1_024;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    at: Time,
    seat: u32,
}

impl Entry {
    /// Whether the seat still is a soft lock that runs out then.
    fn is_live(&self, seats: &[Seat]) -> bool {
        let seat = &seats[self.seat as usize];
        seat.selected_by().is_some() && seat.soft_lock().1 == self.at
    }
}

/// The seats tell which entries are live: a lock's entry is live while the seat is SELECTING until
/// just that time.
#[derive(Clone, Debug, Default)]
pub struct SoftLocks {
    queue: VecDeque<Entry>,
    stragglers: BinaryHeap<Reverse<Entry>>,
    /// Live soft locks.
    len: usize,
}

impl SoftLocks {
    /// How many seats are SELECTING.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// A seat becomes a soft lock until `at`.
    pub fn add(&mut self, seat: SeatRef, at: Time, seats: &[Seat]) {
        self.len += 1;
        self.push(seat, at, seats);
    }

    /// A soft lock runs out at `at` instead.
    pub fn renew(&mut self, seat: SeatRef, at: Time, seats: &[Seat]) {
        let (_, until) = seats[seat.0 as usize].soft_lock();
        if until != at {
            self.push(seat, at, seats);
        }
    }

    /// A soft lock has ended.
    pub const fn remove(&mut self) {
        self.len -= 1;
    }

    /// When the next one runs out.
    #[must_use]
    pub fn next(&self, seats: &[Seat]) -> Option<Time> {
        let queued = self.queue.iter().find(|entry| entry.is_live(seats));
        let straggler = self.stragglers.peek().map(|Reverse(entry)| entry);
        queued.into_iter().chain(straggler).map(|entry| entry.at).min()
    }

    /// A soft lock that has run out by `now`, if there is one; the caller ends it.
    pub fn pop(&mut self, now: Time, seats: &[Seat]) -> Option<SeatRef> {
        loop {
            let from_queue = match (self.queue.front(), self.stragglers.peek()) {
                (Some(queued), Some(Reverse(straggler))) => queued <= straggler,
                (Some(_), None) => true,
                (None, Some(_)) => false,
                (None, None) => return None,
            };
            let entry = if from_queue { *self.queue.front()? } else { self.stragglers.peek()?.0 };
            let live = entry.is_live(seats);
            if live && entry.at > now {
                return None;
            }
            if from_queue {
                self.queue.pop_front();
            } else {
                self.stragglers.pop();
            }
            if live {
                return Some(SeatRef(entry.seat));
            }
        }
    }

    fn push(&mut self, seat: SeatRef, at: Time, seats: &[Seat]) {
        if self.queue.len() + self.stragglers.len() > 2 * self.len + STALE_ALLOWED {
            self.queue.retain(|entry| entry.is_live(seats));
            self.stragglers.retain(|Reverse(entry)| entry.is_live(seats));
        }
        let entry = Entry { at, seat: seat.0 };
        if self.queue.back().is_none_or(|last| last.at <= at) {
            self.queue.push_back(entry);
        } else {
            self.stragglers.push(Reverse(entry));
        }
    }
}
