//! Whether the mirror says what memory says, beyond what is on its way.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use engine::{Epoch, OptionId, SeatNo, ShardId, SoftLock, Unavailable, UserId};

use crate::handle::{Handle, odd};
use crate::peers::{Call, Returned};
use crate::ports::MirrorError;
use crate::shard::Message;

/// How often both are read before a difference counts, and how long after each other: far more than the lag.
const READS: u32 = 5;
const BETWEEN: Duration = Duration::from_millis(200);

/// How long another node may take for all of them.
const ELSEWHERE: Duration = Duration::from_secs(20);

/// A shard's soft locks at one moment.
#[derive(Clone, Debug)]
pub struct Selecting {
    pub epoch: Epoch,
    pub options: Vec<OptionId>,
    pub locks: Vec<SoftLock>,
}

/// What was compared, and what was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MirrorCheck {
    pub options: usize,
    /// In memory, at the last look.
    pub soft_locks: usize,
    /// By option and seat.
    pub differences: Vec<MirrorDifference>,
}

/// Who has the seat in memory, and who in the mirror.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MirrorDifference {
    pub option: OptionId,
    pub seat: SeatNo,
    pub memory: Option<UserId>,
    pub mirror: Option<UserId>,
}

/// Why nothing was compared.
#[derive(Clone, Debug, thiserror::Error)]
pub enum MirrorUnchecked {
    #[error("the shard does not serve now")]
    Shard(Unavailable),
    #[error(transparent)]
    Mirror(#[from] MirrorError),
}

impl Handle {
    /// Compares the soft locks of a shard's memory with the mirror's, on the node that serves it. What is different
    /// at every look counts; what is only on its way does not.
    ///
    /// # Errors
    /// The shard is not serving, or the mirror cannot be read.
    pub async fn check_mirror(&self, shard: ShardId) -> Result<MirrorCheck, MirrorUnchecked> {
        let elsewhere = self.door(shard).and_then(|door| door.elsewhere());
        let Some((_, owner)) = elsewhere else { return self.check_mirror_here(shard).await };
        let called = self.call_within(&owner, Call::CheckMirror(shard), ELSEWHERE).await;
        match called.map_err(MirrorUnchecked::Shard)? {
            Returned::Mirror(check) => Ok(check),
            Returned::MirrorAway(why) => Err(MirrorError(why).into()),
            other => Err(MirrorUnchecked::Shard(odd(&other))),
        }
    }

    pub(crate) async fn check_mirror_here(&self, shard: ShardId) -> Result<MirrorCheck, MirrorUnchecked> {
        let mut check = MirrorCheck::default();
        let mut lasting: Option<BTreeSet<MirrorDifference>> = None;
        for look in 0..READS {
            if look > 0 {
                tokio::time::sleep(BETWEEN).await;
            }
            let before = self.selecting(shard).await?;
            let mut mirrored = Vec::new();
            for option in &before.options {
                mirrored.extend(self.inner.mirror.read(*option, before.epoch).await?);
            }
            let after = self.selecting(shard).await?;
            check.options = after.options.len();
            check.soft_locks = after.locks.len();
            let found = differences(&before.locks, &mirrored, &after.locks);
            let still: BTreeSet<_> = match lasting {
                None => found,
                Some(known) => known.intersection(&found).copied().collect(),
            };
            if still.is_empty() {
                return Ok(check);
            }
            lasting = Some(still);
        }
        check.differences = lasting.unwrap_or_default().into_iter().collect();
        Ok(check)
    }

    async fn selecting(&self, shard: ShardId) -> Result<Selecting, MirrorUnchecked> {
        let door = self.door(shard).ok_or(MirrorUnchecked::Shard(Unavailable::Overloaded))?;
        let read = door.read(|reply, permit| Message::Selecting { reply, permit }).await;
        read.map_err(MirrorUnchecked::Shard)
    }
}

/// What the mirror has that memory had neither before nor after, and what memory had all the time and the mirror
/// has not.
fn differences(before: &[SoftLock], mirrored: &[SoftLock], after: &[SoftLock]) -> BTreeSet<MirrorDifference> {
    type Seat = (OptionId, SeatNo);
    let by_seat = |locks: &[SoftLock]| -> BTreeMap<Seat, SoftLock> {
        locks.iter().map(|lock| ((lock.option, lock.seat), *lock)).collect()
    };
    let (before, mirrored, after) = (by_seat(before), by_seat(mirrored), by_seat(after));
    let user = |locks: &BTreeMap<Seat, SoftLock>, seat: &Seat| locks.get(seat).map(|lock| lock.user);
    let mut found = BTreeSet::new();
    for seat in before.keys().chain(mirrored.keys()).copied().collect::<BTreeSet<Seat>>() {
        let memory = user(&before, &seat);
        let mirror = user(&mirrored, &seat);
        let stood_still = before.get(&seat).map(|lock| (lock.user, lock.first_at))
            == after.get(&seat).map(|lock| (lock.user, lock.first_at));
        if stood_still && memory != mirror {
            found.insert(MirrorDifference { option: seat.0, seat: seat.1, memory, mirror });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use engine::Time;

    use super::*;

    #[test]
    fn what_moves_while_it_is_read_is_no_difference() {
        let lock = |(seat, user): &(u32, u64)| SoftLock {
            option: OptionId(7),
            seat: SeatNo(*seat),
            user: UserId(*user),
            first_at: Time(1),
            expires_at: Time(2),
        };
        let locks = |seats: &[(u32, u64)]| -> Vec<SoftLock> { seats.iter().map(lock).collect() };
        type Seats = &'static [(u32, u64)];
        type Found = &'static [(u32, Option<u64>, Option<u64>)];
        let rows: [(Seats, Seats, Seats, Found); 6] = [
            (&[(1, 5)], &[(1, 5)], &[(1, 5)], &[]),
            (&[(1, 5)], &[], &[], &[]),                         // released meanwhile
            (&[], &[(1, 5)], &[(1, 5)], &[]),                   // selected meanwhile
            (&[(1, 5)], &[], &[(1, 5)], &[(1, Some(5), None)]), // forgotten
            (&[], &[(1, 5)], &[], &[(1, None, Some(5))]),       // a ghost
            (&[(1, 5)], &[(1, 6)], &[(1, 5)], &[(1, Some(5), Some(6))]), // somebody else's
        ];
        for (before, mirrored, after, expected) in rows {
            let found = differences(&locks(before), &locks(mirrored), &locks(after));
            let found: Vec<_> = found
                .iter()
                .map(|found| (found.seat.0, found.memory.map(|user| user.0), found.mirror.map(|user| user.0)))
                .collect();
            assert_eq!(found, expected, "{before:?} {mirrored:?} {after:?}");
        }
    }
}
