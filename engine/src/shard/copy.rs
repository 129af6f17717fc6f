//! The state of a shard that moves: what a restore from the ledger and the mirror would give, from memory.

use crate::answered::Record;
use crate::entry::{Answered, RequestMark, Restored, RestoredOption, RestoredPolicy, Told};
use crate::ids::UserId;
use crate::reservation::Status;
use crate::shard::Shard;

impl Shard {
    /// Everything another node needs to go on with this shard, by [`Self::restore`]; `None` while entries
    /// are on their way to the ledger, or after a halt: then memory is not the whole truth.
    ///
    /// The positions of the feed are not in it, because a new epoch begins a new feed: [`Self::options`]
    /// tells them. Answered keys name user 0 as their caller, with the key that is the same key for user 0.
    #[must_use]
    pub fn copy(&self) -> Option<Restored> {
        if self.halted || self.pending.len() > 0 {
            return None;
        }
        let policies = self.concerts.iter().filter(|concert| concert.policy_version > 0);
        Some(Restored {
            options: self
                .options
                .iter()
                .map(|option| RestoredOption {
                    option: option.id,
                    concert: self.concerts[option.concert as usize].id,
                    status: option.status,
                    version: option.version,
                    layout: option.layout.clone(),
                })
                .collect(),
            policies: policies
                .map(|concert| RestoredPolicy {
                    concert: concert.id,
                    policy: concert.policy,
                    version: concert.policy_version,
                })
                .collect(),
            reservations: self.reservations.durable().cloned().collect(),
            answered: self.answered.iter().map(|record| self.copy_answered(record)).collect(),
            soft_locks: self.options.iter().flat_map(|option| self.soft_locks(option.id)).collect(),
            head: self.head,
            newest_event: self.now,
        })
    }

    fn copy_answered(&self, record: &Record) -> Answered {
        let told = |status: Status| Told::Reservation {
            reservation: self.reservations.get(record.reservation).row.id,
            status,
            version: record.version(),
            deadline: record.deadline,
        };
        Answered {
            at: record.at,
            caller: UserId(0),
            request: RequestMark { key: record.key.of_user(UserId(0)), content: record.content },
            told: record.status().map_or(Told::Done, told),
        }
    }
}
