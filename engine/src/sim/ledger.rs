//! A fake ledger: rows, events and a fence, with the very conditions the real one writes under.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::options::Canary;
use super::prng::mix;
use crate::entry::{Answered, ChainHead, Entry, Fact, Restored, RestoredOption, RestoredPolicy, Told};
use crate::ids::{ConcertId, EntryNo, Epoch, OptionId, RequestKey, ReservationId, SeatNo, UserId};
use crate::option::{OptionStatus, Policy};
use crate::plan::Layout;
use crate::reservation::{Kind, Reservation, Status};
use crate::settings::Settings;
use crate::time::Time;

/// An entry with its place in the chain.
#[derive(Clone, Debug)]
pub struct Event {
    pub epoch: Epoch,
    pub head: ChainHead,
    pub entry: Entry,
}

/// What the ledger says to a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Durable, now or already before.
    Applied,
    Fenced,
    /// An entry that the rows contradict. With no fault drawn this is a bug of the shard.
    Refused(String),
}

/// What the ledger was asked, and what it said.
#[derive(Clone, Debug)]
pub enum Call {
    /// The next owner's epoch.
    Acquire(Epoch),
    Append {
        epoch: Epoch,
        entries: Vec<Entry>,
        answer: Answer,
    },
}

/// The durable truth of one shard.
#[derive(Clone, Default)]
pub struct Ledger {
    pub epoch: Epoch,
    pub head: ChainHead,
    pub events: Vec<Event>,
    pub reservations: BTreeMap<ReservationId, Reservation>,
    /// The unique index: who owns a seat.
    pub active: BTreeMap<(OptionId, SeatNo), ReservationId>,
    pub options: BTreeMap<OptionId, (ConcertId, OptionStatus, u32)>,
    pub policies: BTreeMap<ConcertId, (Policy, u32)>,
    /// The newest event of each key.
    by_key: BTreeMap<(UserId, RequestKey), usize>,
    /// Plans, as the catalogue imported them.
    layouts: BTreeMap<OptionId, Arc<Layout>>,
    pub canary: Option<Canary>,
    /// Every call in order, where somebody wants to put them to another ledger.
    pub tape: Option<Vec<Call>>,
}

impl Ledger {
    pub fn import(&mut self, option: OptionId, layout: Arc<Layout>) {
        self.layouts.insert(option, layout);
    }

    /// The plan of an option, as it was imported.
    #[must_use]
    pub fn layout(&self, option: OptionId) -> Option<&Arc<Layout>> {
        self.layouts.get(&option)
    }

    /// The next owner's epoch; what older ones have in flight is fenced from now on.
    pub fn acquire(&mut self) -> Epoch {
        self.acquire_above(self.epoch)
    }

    /// The same, in an epoch that is above that one too.
    pub fn acquire_above(&mut self, floor: Epoch) -> Epoch {
        self.epoch = Epoch(self.epoch.max(floor).0 + 1);
        if let Some(tape) = &mut self.tape {
            tape.push(Call::Acquire(self.epoch));
        }
        self.epoch
    }

    /// Writes a batch, all or nothing, behind the fence. The same entries again change nothing.
    pub fn append(&mut self, epoch: Epoch, entries: &[Entry]) -> Answer {
        let answer = self.answer_to(epoch, entries);
        if let Some(tape) = &mut self.tape {
            tape.push(Call::Append { epoch, entries: entries.to_vec(), answer: answer.clone() });
        }
        answer
    }

    fn answer_to(&mut self, epoch: Epoch, entries: &[Entry]) -> Answer {
        if epoch != self.epoch && self.canary != Some(Canary::LedgerDoesNotFence) {
            return Answer::Fenced;
        }
        if let Err(why) = entries.iter().try_for_each(|entry| self.append_one(epoch, entry)) {
            // No roll-back: the run ends here as failed.
            return Answer::Refused(why);
        }
        Answer::Applied
    }

    fn append_one(&mut self, epoch: Epoch, entry: &Entry) -> Result<(), String> {
        let written = self.events.iter().rev().find(|event| event.epoch == epoch);
        if written.is_some_and(|event| event.entry.no >= entry.no) {
            return Ok(());
        }
        let expected = written.map_or(1, |event| event.entry.no.0 + 1);
        if entry.no.0 != expected {
            return Err(format!("entry {} came where {expected} was due", entry.no));
        }
        let dropped = self.canary == Some(Canary::LedgerDropsAcked) && self.head.event_seq == 9;
        if !dropped {
            self.change(&entry.fact)?;
        }
        self.record(epoch, entry);
        if self.canary == Some(Canary::LedgerAppliesTwice) && self.head.event_seq == 9 {
            self.record(epoch, entry);
        }
        Ok(())
    }

    fn record(&mut self, epoch: Epoch, entry: &Entry) {
        let seq = self.head.event_seq + 1;
        self.head = ChainHead { event_seq: seq, hash: seal(self.head, entry) };
        if let Some(mark) = entry.request {
            self.by_key.insert((entry.caller, mark.key), self.events.len());
        }
        self.events.push(Event { epoch, head: self.head, entry: entry.clone() });
    }

    /// Whether the chain goes through that head.
    #[must_use]
    pub fn holds(&self, head: ChainHead) -> bool {
        let seq = usize::try_from(head.event_seq).unwrap_or(usize::MAX);
        seq == 0 || self.events.get(seq - 1).is_some_and(|event| event.head == head)
    }

    /// Where the chain stood after this entry, if it is durable.
    #[must_use]
    pub fn head_of(&self, epoch: Epoch, no: EntryNo) -> Option<ChainHead> {
        let of_epoch = self.events.iter().rev().take_while(|event| event.epoch >= epoch);
        of_epoch
            .filter(|event| event.epoch == epoch)
            .find(|event| event.entry.no == no)
            .map(|event| event.head)
    }

    /// Changes the rows the fact names, if they stand exactly one version before.
    fn change(&mut self, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Reservation(new) => self.change_reservation(new),
            Fact::Option { option, concert, status, version } => {
                let before = self.options.insert(*option, (*concert, *status, *version));
                version_follows(before.map_or(0, |(_, _, version)| version), *version)
            }
            Fact::Policy { concert, policy, version } => {
                let before = self.policies.insert(*concert, (*policy, *version));
                version_follows(before.map_or(0, |(_, version)| version), *version)
            }
        }
    }

    fn change_reservation(&mut self, new: &Reservation) -> Result<(), String> {
        let before = self.reservations.get(&new.id);
        version_follows(before.map_or(0, |row| row.version), new.version)?;
        if !transition_is_legal(before, new) {
            return Err(format!("{:?} cannot follow {:?}", new, before.map(|row| row.status)));
        }
        let was_active = before.is_some_and(Reservation::is_active);
        for seat in new.seats.iter().map(|seat| (new.option, seat)) {
            match (was_active, new.is_active()) {
                (false, true) => {
                    if let Some(owner) = self.active.insert(seat, new.id) {
                        return Err(format!("seat {} is {owner}'s already", seat.1));
                    }
                }
                (true, false) => {
                    self.active.remove(&seat);
                }
                _ => {}
            }
        }
        self.reservations.insert(new.id, new.clone());
        Ok(())
    }

    /// The newest event that answered this key, if it is inside the horizon.
    #[must_use]
    pub fn answer(
        &self,
        user: UserId,
        key: RequestKey,
        now: Time,
        horizon: crate::time::Span,
    ) -> Option<&Event> {
        let event = &self.events[*self.by_key.get(&(user, key))?];
        (event.entry.at + horizon > now).then_some(event)
    }

    /// What a new owner starts from, without the mirror's part.
    #[must_use]
    pub fn load(&self, now: Time, settings: &Settings) -> Restored {
        let recent = |at: Time| at + settings.idempotency_horizon > now;
        let option = |(option, row): (&OptionId, &(ConcertId, OptionStatus, u32))| RestoredOption {
            option: *option,
            concert: row.0,
            status: row.1,
            version: row.2,
            layout: self.layouts.get(option).map(Arc::clone).unwrap_or_default(),
        };
        let policy = |(concert, row): (&ConcertId, &(Policy, u32))| RestoredPolicy {
            concert: *concert,
            policy: row.0,
            version: row.1,
        };
        let answered = self.events.iter().filter(|event| recent(event.entry.at)).filter_map(answered);
        Restored {
            options: self.options.iter().map(option).collect(),
            policies: self.policies.iter().map(policy).collect(),
            reservations: self
                .reservations
                .values()
                .filter(|row| !row.is_ended() || recent(row.changed_at))
                .cloned()
                .collect(),
            answered: if self.canary == Some(Canary::RestoreForgetsKeys) {
                Vec::new()
            } else {
                answered.collect()
            },
            soft_locks: Vec::new(),
            head: self.head,
            newest_event: self.events.last().map_or(Time(0), |event| event.entry.at),
        }
    }
}

fn answered(event: &Event) -> Option<Answered> {
    let Entry { at, caller, request, ref fact, .. } = event.entry;
    let told = match fact {
        Fact::Reservation(row) => Told::Reservation {
            reservation: row.id,
            status: row.status,
            version: row.version,
            deadline: row.deadline,
        },
        Fact::Option { .. } | Fact::Policy { .. } => Told::Done,
    };
    Some(Answered { at, caller, request: request?, told })
}

fn version_follows(before: u32, version: u32) -> Result<(), String> {
    if version == before + 1 { Ok(()) } else { Err(format!("version {version} cannot follow {before}")) }
}

/// The table of architecture §3, from the ledger's side.
fn transition_is_legal(before: Option<&Reservation>, new: &Reservation) -> bool {
    use Status::{Cancelled, Confirmed, Expired, Hold, Paying, Refunded};
    let Some(old) = before else {
        return matches!((new.kind, new.status), (Kind::Sale, Hold) | (Kind::Block, Confirmed));
    };
    let same_row = (old.kind, old.user, old.option, old.seats, old.amount, old.created_at)
        == (new.kind, new.user, new.option, new.seats, new.amount, new.created_at);
    let moves = match old.kind {
        Kind::Block => matches!((old.status, new.status), (Confirmed, Cancelled)),
        Kind::Sale => matches!(
            (old.status, new.status),
            (Hold, Paying)
                | (Hold | Paying, Confirmed | Expired)
                | (Hold | Paying | Confirmed, Cancelled)
                | (Cancelled, Refunded)
        ),
    };
    same_row && moves
}

/// A stand-in for SHA-256: the engine only carries the hash.
fn seal(previous: ChainHead, entry: &Entry) -> [u8; 32] {
    let mut word = [0; 8];
    word.copy_from_slice(&previous.hash[..8]);
    let mut hash = mix(u64::from_le_bytes(word));
    for part in [previous.event_seq, entry.no.0, entry.at.0.cast_unsigned(), entry.caller.0] {
        hash = mix(hash ^ part);
    }
    let mut sealed = [0; 32];
    sealed[..8].copy_from_slice(&hash.to_le_bytes());
    sealed
}
