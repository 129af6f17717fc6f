//! The shard: holds the state and routes every input to its rule. The rules are in `shard/`, one
//! command each; a rule checks everything first and only then applies.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::adjacency::Adjacency;
use crate::answered::Answered;
use crate::command::{Command, Request, SeatList};
use crate::deadlines::Deadlines;
use crate::effect::{Effect, Effects, Input, MirrorOp, Reason, SeatChange};
use crate::entry::{ChainHead, Entry, Fact, RequestMark};
use crate::ids::{ConcertId, EntryNo, Epoch, OptionId, ReplyTo, SeatNo, ShardId, UserId};
use crate::index::{Index, mix};
use crate::option::{OptionStatus, Policy};
use crate::outcome::{Conflicts, Granted, Outcome, Refusal, Unavailable};
use crate::pending::{Change, Pending, PendingEntry};
use crate::reservations::Reservations;
use crate::seat::{Phase, Seat, SeatRef};
use crate::settings::Settings;
use crate::soft_locks::SoftLocks;
use crate::time::Time;
use crate::users::Users;

pub use ended::judge_ended;
pub use restore::RestoreError;
pub use resync::Difference;
pub use views::{Load, OptionView};

mod admin;
mod best;
mod block;
mod carry;
mod digest;
mod ended;
mod expire;
mod hold;
mod keys;
mod release;
mod restore;
mod resync;
mod select;
mod transition;
mod views;

/// The seats of some concerts, and everything that is being done about them.
#[derive(Clone, Debug)]
pub struct Shard {
    id: ShardId,
    epoch: Epoch,
    settings: Settings,
    /// The latest time seen. Never goes back, whatever the caller says.
    now: Time,
    halted: bool,

    /// All options' seats in one vector; an option's begin at its `base`.
    seats: Vec<Seat>,
    options: Vec<OptionState>,
    option_index: Index,
    concerts: Vec<ConcertState>,
    concert_index: Index,
    users: Users,
    soft_locks: SoftLocks,

    reservations: Reservations,

    deadlines: Deadlines,
    answered: Answered,
    pending: Pending,
    /// Options on their way into the ledger.
    new_options: BTreeMap<OptionId, EntryNo>,
    /// Policies on their way, of concerts that may not be here yet.
    new_policies: BTreeMap<ConcertId, EntryNo>,
    head: ChainHead,
    holds: usize,
}

#[derive(Clone, Debug)]
struct OptionState {
    id: OptionId,
    /// The concert's index in the shard.
    concert: u32,
    base: u32,
    layout: Arc<crate::plan::Layout>,
    adjacency: Adjacency,
    status: OptionStatus,
    version: u32,
    pending: Option<EntryNo>,
    feed_seq: u64,
}

#[derive(Clone, Debug)]
struct ConcertState {
    id: ConcertId,
    policy: Policy,
    /// 0 until a policy of its own is set.
    policy_version: u32,
}

/// A command's fate: answered now, or when the ledger has spoken.
enum Decision {
    Now(Outcome),
    /// The first answer to the same key, again.
    Replay(Outcome),
    Later,
}

impl From<Refusal> for Decision {
    fn from(refusal: Refusal) -> Self {
        Self::Now(Outcome::Refused(refusal))
    }
}

impl From<Granted> for Decision {
    fn from(granted: Granted) -> Self {
        Self::Now(Outcome::Granted(granted))
    }
}

impl From<Unavailable> for Decision {
    fn from(unavailable: Unavailable) -> Self {
        Self::Now(Outcome::Unavailable(unavailable))
    }
}

impl Shard {
    /// An empty shard; [`Self::restore`] fills it before its first step.
    #[must_use]
    pub fn new(id: ShardId, epoch: Epoch, settings: Settings) -> Self {
        Self {
            id,
            epoch,
            settings,
            now: Time::default(),
            halted: false,
            seats: Vec::new(),
            options: Vec::new(),
            option_index: Index::default(),
            concerts: Vec::new(),
            concert_index: Index::default(),
            users: Users::default(),
            soft_locks: SoftLocks::default(),
            reservations: Reservations::default(),
            deadlines: Deadlines::default(),
            answered: Answered::default(),
            pending: Pending::default(),
            new_options: BTreeMap::new(),
            new_policies: BTreeMap::new(),
            head: ChainHead::default(),
            holds: 0,
        }
    }

    /// The only mutator. Due deadlines fire first, then the input is decided.
    pub fn step(&mut self, now: Time, input: Input, effects: &mut Effects) {
        if self.halted {
            return;
        }
        self.now = self.now.max(now);
        self.fire_due(effects);
        match input {
            Input::Tick => {}
            Input::Command(request) => self.command(self.now, request, effects),
            Input::Applied { upto, head } => self.applied(upto, head, effects),
            Input::Refused { entry } => self.refused(entry, effects),
        }
    }

    /// When the next deadline is due, and an [`Input::Tick`] with it.
    #[must_use]
    pub fn next_wake(&self) -> Option<Time> {
        if self.halted {
            return None;
        }
        let forget = self.answered.oldest().map(|at| at + self.settings.idempotency_horizon);
        let soft_lock = self.soft_locks.next(&self.seats);
        [self.deadlines.next(), soft_lock, forget].into_iter().flatten().min()
    }

    /// Decides a command that arrived at `at`, which is before `now` when it had to wait for an entry.
    fn command(&mut self, at: Time, request: Request, effects: &mut Effects) {
        let reply = request.reply;
        let (outcome, replayed) = match self.decide(at, request, effects) {
            Decision::Now(outcome) => (outcome, false),
            Decision::Replay(outcome) => (outcome, true),
            Decision::Later => return,
        };
        effects.push(Effect::Reply { to: reply, outcome, replayed });
    }

    fn decide(&mut self, at: Time, request: Request, effects: &mut Effects) -> Decision {
        match &request.command {
            Command::Select { option, seats } => self.select(*option, seats, &request, effects),
            Command::SelectBest { option, party, section, category } => {
                self.select_best(*option, *party, *section, *category, &request, effects)
            }
            Command::Release { option, seats } => self.release(*option, seats.as_ref(), &request, effects),
            _ => match self.known_key(&request) {
                Some(decision) => decision,
                None => self.decide_ledger_command(at, request, effects),
            },
        }
    }

    fn decide_ledger_command(&mut self, at: Time, request: Request, effects: &mut Effects) -> Decision {
        match &request.command {
            Command::Hold { option, seats, reservation } => {
                self.hold(*option, seats, *reservation, &request, effects)
            }
            Command::Block { option, seats, reservation } => {
                self.block(*option, seats, *reservation, &request, effects)
            }
            Command::StartPaying { reservation }
            | Command::Confirm { reservation }
            | Command::Cancel { reservation }
            | Command::Refund { reservation }
            | Command::Unblock { reservation } => self.transition(at, *reservation, request, effects),
            Command::AddOption { .. } => self.add_option(at, request, effects),
            Command::SetOptionStatus { option, status } => {
                self.set_option_status(at, *option, *status, request, effects)
            }
            Command::SetPolicy { concert, change } => {
                self.set_policy(at, *concert, *change, request, effects)
            }
            Command::Select { .. } | Command::SelectBest { .. } | Command::Release { .. } => {
                unreachable!("clicks do not reach the ledger")
            }
        }
    }

    /// The ledger has every entry up to `upto`. Those who waited for an entry are heard in the order
    /// they came, with the time they came; only then may the entry's row fall due.
    fn applied(&mut self, upto: EntryNo, head: ChainHead, effects: &mut Effects) {
        if upto >= self.pending.next_no() {
            self.halt(Reason::EntryUnknown(upto), effects);
            return;
        }
        if self.pending.get(upto).is_none() {
            return; // Old news: a later answer came first, and with it a later head.
        }
        self.head = head;
        while let Some(mut entry) = self.pending.pop(upto) {
            let mut waiting = entry.take_waiting();
            self.apply(entry, effects);
            while let Some((at, request)) = waiting.pop_front() {
                self.command(at, request, effects);
            }
        }
        self.fire_due(effects);
    }

    /// Makes an entry true, tells the world, and answers.
    fn apply(&mut self, entry: PendingEntry, effects: &mut Effects) {
        let replies: Vec<(ReplyTo, bool)> = entry.replies().collect();
        let (granted, handle) = match entry.change {
            Change::Reservation { handle, row } => {
                let created = row.version == 1;
                let told = Granted::Reserved { reservation: Box::new(row.clone()), created };
                self.apply_reservation(handle, row, effects);
                (told, Some(handle))
            }
            Change::NewOption { option, concert, layout } => {
                self.apply_new_option(option, concert, layout);
                (Granted::Done, None)
            }
            Change::OptionStatus { index, status, version } => {
                self.apply_option_status(index, status, version, effects);
                (Granted::Done, None)
            }
            Change::Policy { concert, policy, version } => {
                self.apply_policy(concert, policy, version);
                (Granted::Done, None)
            }
        };
        if let Some((key, content)) = entry.request {
            self.remember(key, content, entry.at, handle);
        }
        for (to, replayed) in replies {
            effects.push(Effect::Reply { to, outcome: Outcome::Granted(granted.clone()), replayed });
        }
    }

    /// Memory and ledger disagree, and the ledger is right by definition.
    fn refused(&mut self, no: EntryNo, effects: &mut Effects) {
        let Some(entry) = self.pending.get(no) else {
            self.halt(Reason::EntryUnknown(no), effects);
            return;
        };
        for (to, _) in entry.replies() {
            let outcome = Outcome::Unavailable(Unavailable::Ledger);
            effects.push(Effect::Reply { to, outcome, replayed: false });
        }
        self.halt(Reason::LedgerRefused(no), effects);
    }

    fn halt(&mut self, reason: Reason, effects: &mut Effects) {
        self.halted = true;
        effects.push(Effect::Halt(reason));
    }

    /// Sends a change to the ledger; it becomes true when it is applied.
    fn append(
        &mut self,
        request: Option<&Request>,
        change: Change,
        fact: Fact,
        effects: &mut Effects,
    ) -> EntryNo {
        let mark = request.and_then(|request| {
            request.key.map(|key| RequestMark { key, content: request.command.content() })
        });
        let scoped = request.and_then(|request| keys::scoped(request).zip(mark.map(|mark| mark.content)));
        let entry = Entry {
            no: self.pending.next_no(),
            at: self.now,
            caller: request.map_or(UserId(0), |request| request.caller.user),
            request: mark,
            fact,
        };
        effects.push(Effect::Append(Box::new(entry)));
        let reply = request.map(|request| request.reply);
        self.pending.push(PendingEntry::new(self.now, change, scoped, reply))
    }

    /// Lets a command wait for an entry on the same row.
    fn wait_for(&mut self, no: EntryNo, at: Time, request: Request) -> Decision {
        if self.pending.add_waiting(no, at, request) {
            Decision::Later
        } else {
            Unavailable::Overloaded.into()
        }
    }

    fn find_option(&self, option: OptionId) -> Option<u16> {
        let found = self.option_index.find(mix(option.0.into()), |i| self.options[i as usize].id == option);
        found.and_then(|index| u16::try_from(index).ok())
    }

    fn option(&self, index: u16) -> &OptionState {
        &self.options[usize::from(index)]
    }

    fn find_concert(&self, concert: ConcertId) -> Option<u32> {
        self.concert_index.find(mix(concert.0), |index| self.concerts[index as usize].id == concert)
    }

    /// The gate and the option's status, for commands that want seats.
    fn check_open(&self, option: u16, request: &Request) -> Result<(), Refusal> {
        self.check_pass(option, request)?;
        match self.option(option).status {
            OptionStatus::OnSale => Ok(()),
            OptionStatus::Closed => Err(Refusal::OptionClosed),
        }
    }

    fn check_pass(&self, option: u16, request: &Request) -> Result<(), Refusal> {
        let concert = &self.concerts[self.option(option).concert as usize];
        if concert.policy.gate && !request.pass { Err(Refusal::PassRequired) } else { Ok(()) }
    }

    /// 1..=8 seats of the plan, none twice.
    fn check_seats(&self, option: u16, seats: &SeatList) -> Result<(), Refusal> {
        let list = seats.as_slice();
        let count = self.option(option).layout.seat_count();
        let fits = !list.is_empty() && seats.len() == list.len();
        let inside = list.iter().all(|seat| seat.0 < count);
        let once = (1..list.len()).all(|i| !list[..i].contains(&list[i]));
        if fits && inside && once { Ok(()) } else { Err(Refusal::SeatsInvalid) }
    }

    /// No seat is anybody's but `mine`; otherwise the ones that are.
    fn check_not_taken(&self, option: u16, seats: &SeatList, mine: Option<UserId>) -> Result<(), Refusal> {
        let mut conflicts = Conflicts::default();
        for no in seats.iter() {
            let seat = self.seat(self.seat_ref(option, no));
            let is_mine = mine.is_some() && seat.selected_by() == mine;
            if seat.phase() != Phase::Available && !is_mine {
                conflicts.push(no, seat.phase().as_conflict());
            }
        }
        if conflicts.is_empty() { Ok(()) } else { Err(Refusal::SeatTaken(conflicts)) }
    }

    fn seat(&self, seat: SeatRef) -> &Seat {
        &self.seats[seat.0 as usize]
    }

    fn seat_ref(&self, option: u16, seat: SeatNo) -> SeatRef {
        SeatRef(self.option(option).base + seat.0)
    }

    /// Changes a seat, keeps the free bits true, and tells the viewers if they can see a difference.
    fn change_seat(&mut self, seat: SeatRef, change: impl FnOnce(&mut Seat), effects: &mut Effects) {
        let record = &mut self.seats[seat.0 as usize];
        let before = record.phase();
        change(record);
        let after = record.phase();
        if before == after {
            return;
        }
        let option = &mut self.options[usize::from(record.option())];
        let seat = SeatNo(seat.0 - option.base);
        if before == Phase::Available {
            option.adjacency.set_free(seat, false);
        } else if after == Phase::Available {
            option.adjacency.set_free(seat, true);
        }
        if before.public() != after.public() {
            option.feed_seq += 1;
            effects.push(Effect::Publish(SeatChange {
                option: option.id,
                seat,
                state: after.public(),
                feed_seq: option.feed_seq,
            }));
        }
    }

    /// Ends a soft lock in memory and in the mirror; `free` says how the seat is left.
    fn end_soft_lock(&mut self, seat: SeatRef, free: impl FnOnce(&mut Seat), effects: &mut Effects) {
        let record = self.seat(seat);
        let Some(user) = record.selected_by() else { return };
        let option = self.option(record.option());
        let (id, concert, no) = (option.id, option.concert, SeatNo(seat.0 - option.base));
        self.users.remove_lock(user, concert, seat, &mut self.seats);
        self.soft_locks.remove();
        effects.push(Effect::Mirror(MirrorOp::Unlock { option: id, seat: no, user }));
        self.change_seat(seat, free, effects);
    }
}
