//! A fingerprint of the state that must survive: equal before a crash and after the restore.

use crate::answered::Record;
use crate::index::{mix, mix_wide};
use crate::reservation::Reservation;
use crate::seat::Phase;
use crate::shard::Shard;

/// Folds words in order; items are then summed, so that the order of containers cannot matter.
struct Item(u64);

impl Item {
    const fn new(kind: u64) -> Self {
        Self(mix(kind))
    }

    const fn word(self, word: u64) -> Self {
        Self(mix(self.0.rotate_left(5) ^ word))
    }

    const fn time(self, time: crate::time::Time) -> Self {
        self.word(time.0.cast_unsigned())
    }
}

impl Shard {
    /// Canonical, independent of history; equal after a restore from the ledger and the mirror.
    ///
    /// Covers reservations, seats as the ledger has them, options, policies, answered keys and the
    /// chain head; soft locks as (seat, user). Entries on their way are not covered.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let head = self
            .head
            .hash
            .as_chunks::<8>()
            .0
            .iter()
            .fold(Item::new(1).word(self.head.event_seq), |item, word| item.word(u64::from_be_bytes(*word)));
        [head.0, self.digest_rows(), self.digest_seats(), self.digest_answered()]
            .into_iter()
            .fold(0, u64::wrapping_add)
    }

    fn digest_rows(&self) -> u64 {
        let reservations = self.reservations.durable().map(|reservation| row(reservation).0);
        let options = self.options.iter().map(|option| {
            Item::new(3).word(option.id.0.into()).word(option.status as u64).word(option.version.into()).0
        });
        let policies = self.concerts.iter().filter(|concert| concert.policy_version > 0).map(|concert| {
            Item::new(4)
                .word(concert.id.0)
                .word(concert.policy_version.into())
                .word(concert.policy.reservations_per_user.into())
                .word(concert.policy.gate.into())
                .0
        });
        reservations.chain(options).chain(policies).fold(0, u64::wrapping_add)
    }

    /// Seats of durable reservations with their state, soft locks with their user. A seat *holding*
    /// still is a soft lock to ledger and mirror.
    fn digest_seats(&self) -> u64 {
        let mut sum = 0u64;
        for (index, seat) in (0u32..).zip(&self.seats) {
            let option = self.option(seat.option());
            let item = Item::new(5).word(option.id.0.into()).word((index - option.base).into());
            let item = match seat.phase() {
                Phase::Available | Phase::Blocking => continue,
                Phase::Selecting | Phase::Holding => {
                    item.word(1).word(self.soft_lock_user(seat).map_or(0, |user| user.0))
                }
                Phase::Hold | Phase::Confirmed => item.word(seat.phase().public() as u64),
            };
            sum = sum.wrapping_add(item.0);
        }
        sum
    }

    fn digest_answered(&self) -> u64 {
        self.answered.iter().map(|record| self.answered_item(record).0).fold(0, u64::wrapping_add)
    }

    fn answered_item(&self, record: &Record) -> Item {
        let item = Item::new(6).word(record.key.hash()).word(record.content).time(record.at);
        match record.status() {
            None => item,
            Some(status) => item
                .word(mix_wide(self.reservations.get(record.reservation).row.id.0))
                .word(status as u64)
                .word(record.version().into())
                .time(record.deadline),
        }
    }
}

fn row(row: &Reservation) -> Item {
    let item = Item::new(2)
        .word(mix_wide(row.id.0))
        .word(row.kind as u64)
        .word(row.user.0)
        .word(row.concert.0)
        .word(row.option.0.into())
        .word(row.status as u64)
        .word(row.version.into())
        .word(row.amount.cast_unsigned())
        .time(row.deadline)
        .time(row.created_at)
        .time(row.changed_at)
        .word(row.payment_started.into());
    row.seats.iter().fold(item, |item, seat| item.word(seat.0.into()))
}
