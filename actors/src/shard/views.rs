//! What others see of a shard: what its users have selected, and its memory for audits.

use engine::{OptionId, UserId};

use super::Serving;
use crate::followers::Selection;
use crate::handle::Memory;
use crate::mirror::check::Selecting;

impl Serving {
    /// Once for each message, however many of its commands changed the same selection.
    pub(super) fn tell_followers(&mut self) {
        let mut touched = std::mem::take(&mut self.touched);
        for (user, option) in touched.drain(..) {
            self.start.followers.tell(user, self.selection(user, option));
        }
        self.touched = touched;
    }

    /// Soft locks that were not restored are gone for whoever had them.
    pub(super) fn tell_what_was_restored(&self) {
        for (user, option) in self.start.followers.shown() {
            if self.outlet(option).is_some() {
                self.start.followers.tell(user, self.selection(user, option));
            }
        }
    }

    pub(super) fn selection(&self, user: UserId, option: OptionId) -> Selection {
        let (seats, expires_at) = self.start.shard.selection(user, option);
        Selection { option, seats, expires_at }
    }

    pub(super) fn memory(&self) -> Memory {
        let shard = &self.start.shard;
        Memory {
            shard: shard.id(),
            epoch: shard.epoch(),
            head: shard.head(),
            digest: shard.digest(),
            pending: shard.load().pending,
            reservations: shard.reservations().cloned().collect(),
            options: shard
                .options()
                .map(|view| (view.option, shard.seat_states(view.option).collect()))
                .collect(),
        }
    }

    pub(super) fn selecting(&self) -> Selecting {
        let shard = &self.start.shard;
        let options: Vec<OptionId> = shard.options().map(|view| view.option).collect();
        let locks = options.iter().flat_map(|option| shard.soft_locks(*option)).collect();
        Selecting { epoch: shard.epoch(), options, locks }
    }
}
