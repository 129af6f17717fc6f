//! What a move carries: whatever the shard knows and the ledger does not.

use crate::entry::SoftLock;
use crate::ids::SeatNo;
use crate::limits::SELECT_COOL_DOWN;
use crate::seat::Phase;
use crate::shard::Shard;

impl Shard {
    /// The soft locks, by option and seat, and those that ran out at their longest so lately that their seats
    /// are still refused to their users: by them [`Self::restore`] knows whom to refuse. Everything else the
    /// new owner reads from the ledger.
    #[must_use]
    pub fn carry(&self) -> Vec<SoftLock> {
        let mut locks = Vec::with_capacity(self.soft_locks.len());
        for state in &self.options {
            locks.extend(self.soft_locks(state.id));
            let kept_too_long =
                (0..).map(SeatNo).zip(self.seats_of(state.id)).filter_map(|(seat, record)| {
                    let (user, until) = record.refusal().filter(|(_, until)| *until > self.now)?;
                    let expires_at = until - SELECT_COOL_DOWN;
                    let first_at = expires_at - self.settings.select_max_age;
                    Some(SoftLock { option: state.id, seat, user, first_at, expires_at })
                });
            locks.extend(kept_too_long);
        }
        locks.sort_unstable_by_key(|lock| (lock.option, lock.seat));
        locks
    }

    /// A soft lock that was kept for as long as one may be, and has run out: its seat is refused to its user.
    pub(super) fn restore_refusal(&mut self, lock: &SoftLock) {
        let until = lock.expires_at + SELECT_COOL_DOWN;
        let was_longest = lock.expires_at >= lock.first_at + self.settings.select_max_age;
        let Some(index) = self.find_option(lock.option).filter(|_| was_longest && until > self.now) else {
            return;
        };
        if lock.seat.0 < self.option(index).layout.seat_count() {
            let seat = self.seat_ref(index, lock.seat).0 as usize;
            if self.seats[seat].phase() == Phase::Available {
                self.seats[seat].refuse(lock.user, until);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::command::{Authority, Caller, Command, Request};
    use crate::effect::{Effect, Effects, Input};
    use crate::entry::{Restored, RestoredOption};
    use crate::ids::{ConcertId, Epoch, OptionId, ReplyTo, ShardId, UserId};
    use crate::option::OptionStatus;
    use crate::outcome::{Outcome, Refusal};
    use crate::plan::{Layout, Run};
    use crate::settings::Settings;
    use crate::time::{Span, Time};

    const OPTION: OptionId = OptionId(7);

    /// A shard of one row of four seats, where every soft lock is kept for as long as one may be.
    fn shard(epoch: u64, now: Time, soft_locks: Vec<SoftLock>) -> Shard {
        let longest = Span::from_secs(5);
        let settings = Settings { select_ttl: longest, select_max_age: longest, ..Settings::default() };
        let layout = Layout {
            categories: vec![0; 4],
            runs: vec![Run { first: SeatNo(0), seats: 4 }],
            sections: vec![SeatNo(0)],
            prices: vec![100],
        };
        let option = RestoredOption {
            option: OPTION,
            concert: ConcertId(70),
            status: OptionStatus::OnSale,
            version: 1,
            layout: Arc::new(layout),
        };
        let mut shard = Shard::new(ShardId(0), Epoch(epoch), settings);
        shard.restore(now, Restored { options: vec![option], soft_locks, ..Restored::default() }).unwrap();
        shard
    }

    fn select(shard: &mut Shard, now: Time, user: u64, seat: u32) -> Outcome {
        let command = Command::Select { option: OPTION, seats: [SeatNo(seat)].into_iter().collect() };
        let caller = Caller { user: UserId(user), authority: Authority::Own };
        let request = Request { reply: ReplyTo(1), caller, key: None, pass: false, command };
        let mut effects = Effects::new();
        shard.step(now, Input::Command(request), &mut effects);
        let outcome = effects.into_iter().find_map(|effect| match effect {
            Effect::Reply { outcome, .. } => Some(outcome),
            _ => None,
        });
        outcome.unwrap()
    }

    #[test]
    fn whom_a_seat_is_refused_to_moves_with_the_soft_locks() {
        let at = |seconds| Time(1_000_000) + Span::from_secs(seconds);
        let refused = Outcome::Refused(Refusal::SelectTooLong);
        let mut old = shard(1, at(0), Vec::new());
        assert!(matches!(select(&mut old, at(0), 1, 0), Outcome::Granted(_)));
        assert!(matches!(select(&mut old, at(6), 2, 1), Outcome::Granted(_)));
        assert_eq!(select(&mut old, at(6), 1, 0), refused);
        let carried = old.carry();
        assert_eq!(
            carried.iter().map(|lock| (lock.seat, lock.user.0)).collect::<Vec<_>>(),
            [(SeatNo(0), 1), (SeatNo(1), 2),]
        );

        let mut new = shard(2, at(7), carried.clone());
        assert_eq!(new.carry(), carried);
        assert_eq!(select(&mut new, at(14), 1, 0), refused);
        assert_eq!(select(&mut new, at(14), 2, 1), refused, "it ran out after the move");
        assert!(matches!(select(&mut new, at(14), 3, 0), Outcome::Granted(_)), "anybody else may have it");

        // What runs out on the way counts too, and nothing for longer than it should.
        let mut late = shard(3, at(12), carried.clone());
        assert_eq!(select(&mut late, at(12), 2, 1), refused);
        assert_eq!(shard(4, at(21), carried).carry(), []);
    }
}
