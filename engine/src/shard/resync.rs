//! Resync: what the ledger says takes the place of memory, in the midst of a sale.

use crate::effect::{Effect, Effects, MirrorOp, SeatChange};
use crate::entry::SoftLock;
use crate::ids::{ConcertId, OptionId, ReservationId, SeatNo, UserId};
use crate::option::{OptionStatus, Policy};
use crate::outcome::SeatState;
use crate::reservation::Reservation;
use crate::seat::{Phase, Seat};
use crate::shard::Shard;

/// Something about which memory and ledger disagreed. `None`: it was not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    Reservation {
        id: ReservationId,
        memory: Option<Box<Reservation>>,
        ledger: Option<Box<Reservation>>,
    },
    /// Status and version.
    Option {
        option: OptionId,
        memory: Option<(OptionStatus, u32)>,
        ledger: Option<(OptionStatus, u32)>,
    },
    /// The policy of the concert and its version.
    Policy {
        concert: ConcertId,
        memory: Option<(Policy, u32)>,
        ledger: Option<(Policy, u32)>,
    },
    /// What the seat shows, soft locks aside.
    Seat {
        option: OptionId,
        seat: SeatNo,
        memory: SeatState,
        ledger: SeatState,
    },
    /// A soft lock that the ledger leaves no room for: it has ended.
    SoftLock {
        option: OptionId,
        seat: SeatNo,
        user: UserId,
    },
}

impl Shard {
    /// Whether memory is the ledger at [`Self::head`] and nothing else is on its way: only then can the
    /// two be compared.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        !self.halted && self.pending.len() == 0
    }

    /// Takes over `ledger`, a shard of the same epoch that was restored from the ledger alone, at the same head.
    /// Soft locks stay as far as the ledger leaves room for them; viewers and mirror are told what changes.
    /// Says what was different. Call it while [`Self::is_quiet`], after a tick.
    ///
    /// # Panics
    /// Entries are on their way, or `ledger` is another shard, epoch or head.
    pub fn resync(&mut self, mut ledger: Self, effects: &mut Effects) -> Vec<Difference> {
        assert!(self.is_quiet(), "entries on their way would be forgotten");
        assert_eq!((self.id, self.epoch, self.head), (ledger.id, ledger.epoch, ledger.head));
        let mut differences = Vec::new();
        self.compare_reservations(&ledger, &mut differences);
        self.compare_options(&ledger, &mut differences);
        self.compare_policies(&ledger, &mut differences);
        self.compare_seats(&ledger, &mut differences);
        ledger.now = ledger.now.max(self.now);
        self.keep_refusals(&mut ledger);
        self.keep_soft_locks(&mut ledger, &mut differences, effects);
        self.show(&mut ledger, effects);
        // Entries go on being numbered where they were: the writer counts them within the epoch.
        std::mem::swap(&mut ledger.pending, &mut self.pending);
        *self = ledger;
        differences
    }

    fn compare_reservations(&self, ledger: &Self, differences: &mut Vec<Difference>) {
        let find = |shard: &Self, id| shard.reservation(id).map(|row| Box::new(row.clone()));
        let mut found = Vec::new();
        for row in self.reservations() {
            let stored = ledger.reservation(row.id);
            // One that ended may have left memory on one side already.
            if stored != Some(row) && !(stored.is_none() && row.is_ended()) {
                found.push(row.id);
            }
        }
        let unknown = |row: &&Reservation| self.reservation(row.id).is_none() && !row.is_ended();
        found.extend(ledger.reservations().filter(unknown).map(|row| row.id));
        found.sort_unstable();
        differences.extend(found.into_iter().map(|id| Difference::Reservation {
            id,
            memory: find(self, id),
            ledger: find(ledger, id),
        }));
    }

    fn compare_options(&self, ledger: &Self, differences: &mut Vec<Difference>) {
        let find = |shard: &Self, option| {
            let state = shard.option(shard.find_option(option)?);
            Some((state.status, state.version))
        };
        let known = self.options.iter().map(|state| state.id);
        let unknown =
            ledger.options.iter().map(|state| state.id).filter(|id| self.find_option(*id).is_none());
        for option in known.chain(unknown) {
            let (memory, ledger) = (find(self, option), find(ledger, option));
            if memory != ledger {
                differences.push(Difference::Option { option, memory, ledger });
            }
        }
    }

    fn compare_policies(&self, ledger: &Self, differences: &mut Vec<Difference>) {
        let find = |shard: &Self, concert| {
            let state = &shard.concerts[shard.find_concert(concert)? as usize];
            (state.policy_version > 0).then_some((state.policy, state.policy_version))
        };
        let known = self.concerts.iter().map(|state| state.id);
        let unknown =
            ledger.concerts.iter().map(|state| state.id).filter(|id| self.find_concert(*id).is_none());
        for concert in known.chain(unknown) {
            let (memory, ledger) = (find(self, concert), find(ledger, concert));
            if memory != ledger {
                differences.push(Difference::Policy { concert, memory, ledger });
            }
        }
    }

    fn compare_seats(&self, ledger: &Self, differences: &mut Vec<Difference>) {
        let durable = |seat: &Seat| match seat.phase() {
            Phase::Available | Phase::Selecting | Phase::Holding | Phase::Blocking => SeatState::Available,
            Phase::Hold | Phase::Confirmed => seat.phase().public(),
        };
        for (option, place, other) in self.common_seats(ledger) {
            let (memory, ledger) = (durable(&self.seats[place]), durable(&ledger.seats[other]));
            if memory != ledger {
                let seat = self.number(place);
                differences.push(Difference::Seat { option, seat, memory, ledger });
            }
        }
    }

    /// A user who had a seat for as long as one may must still let others have a chance first.
    fn keep_refusals(&self, ledger: &mut Self) {
        for (_, place, other) in self.common_seats(ledger) {
            if let Some((user, until)) = self.seats[place].refusal()
                && ledger.seats[other].phase() == Phase::Available
            {
                ledger.seats[other].refuse(user, until);
            }
        }
    }

    fn keep_soft_locks(&self, ledger: &mut Self, differences: &mut Vec<Difference>, effects: &mut Effects) {
        let options: Vec<OptionId> = self.options.iter().map(|state| state.id).collect();
        for SoftLock { option, seat, user, .. } in options
            .iter()
            .flat_map(|option| self.soft_locks(*option))
            .filter(|lock| !ledger.restore_soft_lock(lock))
        {
            differences.push(Difference::SoftLock { option, seat, user });
            effects.push(Effect::Mirror(MirrorOp::Unlock { option, seat, user }));
        }
    }

    /// Goes on with the feed where it was, with every seat that looks different now.
    fn show(&self, ledger: &mut Self, effects: &mut Effects) {
        for state in &self.options {
            if let Some(index) = ledger.find_option(state.id) {
                ledger.options[usize::from(index)].feed_seq = state.feed_seq;
            }
        }
        for (option, place, other) in self.common_seats(ledger) {
            let state = ledger.seats[other].phase().public();
            if self.seats[place].phase().public() != state {
                let option_state = &mut ledger.options[usize::from(ledger.seats[other].option())];
                option_state.feed_seq += 1;
                let (seat, feed_seq) = (self.number(place), option_state.feed_seq);
                effects.push(Effect::Publish(SeatChange { option, seat, state, feed_seq }));
            }
        }
    }

    /// The seats that both know, by their places in either.
    fn common_seats(&self, ledger: &Self) -> Vec<(OptionId, usize, usize)> {
        let mut common = Vec::with_capacity(self.seats.len());
        for state in &self.options {
            let Some(other) = ledger.find_option(state.id).map(|index| ledger.option(index)) else {
                continue;
            };
            let count = state.layout.seat_count().min(other.layout.seat_count()) as usize;
            let (here, there) = (state.base as usize, other.base as usize);
            common.extend((0..count).map(|seat| (state.id, here + seat, there + seat)));
        }
        common
    }

    fn number(&self, place: usize) -> SeatNo {
        let base = self.option(self.seats[place].option()).base;
        SeatNo(u32::try_from(place).expect("bounded by SEATS_PER_SHARD") - base)
    }
}
