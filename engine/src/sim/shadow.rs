//! The naive twin: the rules of architecture §3 and protocol §1 once more, slowly and obviously.
//!
//! It shares no code with the shard but the types. Everything is a sorted map, every question a scan.
//! It predicts the replies and the entries of every step, and what the seats look like after it. Only
//! the numbers of entries it takes over from the shard: among entries that fall due at once their order
//! is nobody's business.

mod rows;
mod seats;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::command::{Command, Request};
use crate::effect::{Input, Reason};
use crate::entry::{Answered, Entry, Fact, RequestMark, Restored, SoftLock, Told};
use crate::ids::{ConcertId, EntryNo, OptionId, ReplyTo, RequestKey, ReservationId, SeatNo, UserId};
use crate::limits::{SOFT_LOCKS_PER_USER, WAITERS_PER_ENTRY};
use crate::option::{OptionStatus, Policy};
use crate::outcome::{Granted, Outcome, Refusal, SeatState, Unavailable};
use crate::plan::Layout;
use crate::reservation::{Kind, Reservation, Status};
use crate::settings::Settings;
use crate::shard::Load;
use crate::time::Time;

/// What the twin knows.
pub struct Shadow {
    settings: Settings,
    now: Time,
    pub options: BTreeMap<OptionId, Performance>,
    policies: BTreeMap<ConcertId, (Policy, u32)>,
    /// Seats that are not simply free.
    seats: BTreeMap<(OptionId, SeatNo), Seat>,
    /// As the ledger has them.
    pub reservations: BTreeMap<ReservationId, Reservation>,
    pub answered: BTreeMap<(UserId, RequestKey), Answered>,
    pub pending: BTreeMap<Row, Pending>,
    /// The newest entry's number.
    newest: EntryNo,
    pub halted: bool,
    predicted: Predicted,
}

/// An option.
pub struct Performance {
    pub concert: ConcertId,
    pub status: OptionStatus,
    pub version: u32,
    pub layout: Arc<Layout>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seat {
    Soft(Lock),
    /// A soft lock whose hold is on its way to the ledger.
    Holding(Lock),
    /// A free seat whose block is on its way.
    Blocking,
    /// As the ledger has it.
    Taken(ReservationId),
    /// Free, but not for this user until then.
    Cooling {
        user: UserId,
        until: Time,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Lock {
    user: UserId,
    first_at: Time,
    expires_at: Time,
}

/// What an entry changes. At most one is pending for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Row {
    Reservation(ReservationId),
    Option(OptionId),
    Policy(ConcertId),
}

/// An entry on its way, and who waits for it.
pub struct Pending {
    pub entry: Entry,
    /// The request that caused it; an expiry has none.
    request: Option<Request>,
    retries: Vec<ReplyTo>,
    /// Judged later, as of when they arrived.
    waiters: Vec<(Request, Time)>,
}

/// What a step must do.
#[derive(Debug, Default)]
pub struct Predicted {
    pub replies: Vec<(ReplyTo, Outcome, bool)>,
    /// Numbered 0: the shard's numbers are learnt by [`Shadow::number`].
    pub entries: Vec<Entry>,
    pub halt: Option<Reason>,
}

/// What becomes of a command.
enum Verdict {
    Answer(Outcome),
    /// The first answer to the key, again.
    Replay(Outcome),
    /// Told what the pending request of the same key is told.
    Retry(Row),
    /// Judged once this row's entry is durable.
    Wait(Row),
    Append(Fact),
}

fn refuse(refusal: Refusal) -> Verdict {
    Verdict::Answer(Outcome::Refused(refusal))
}

fn grant(granted: Granted) -> Verdict {
    Verdict::Answer(Outcome::Granted(granted))
}

impl Row {
    #[must_use]
    pub fn of(fact: &Fact) -> Self {
        match fact {
            Fact::Reservation(row) => Self::Reservation(row.id),
            Fact::Option { option, .. } => Self::Option(*option),
            Fact::Policy { concert, .. } => Self::Policy(*concert),
        }
    }
}

impl Shadow {
    /// What a new owner knows.
    #[must_use]
    pub fn restore(settings: Settings, now: Time, restored: &Restored) -> Self {
        let mut shadow = Self {
            settings,
            now: now.max(restored.newest_event),
            options: BTreeMap::new(),
            policies: BTreeMap::new(),
            seats: BTreeMap::new(),
            reservations: BTreeMap::new(),
            answered: BTreeMap::new(),
            pending: BTreeMap::new(),
            newest: EntryNo(0),
            halted: false,
            predicted: Predicted::default(),
        };
        for row in &restored.options {
            let layout = Arc::clone(&row.layout);
            let (concert, status, version) = (row.concert, row.status, row.version);
            shadow.options.insert(row.option, Performance { concert, status, version, layout });
        }
        for row in &restored.policies {
            shadow.policies.insert(row.concert, (row.policy, row.version));
        }
        for row in &restored.reservations {
            for seat in row.seats.iter().filter(|_| row.is_active()) {
                shadow.seats.insert((row.option, seat), Seat::Taken(row.id));
            }
            shadow.reservations.insert(row.id, row.clone());
        }
        for answered in &restored.answered {
            shadow.answered.insert((answered.caller, answered.request.key), *answered);
        }
        for lock in &restored.soft_locks {
            shadow.restore_lock(lock);
        }
        shadow.forget();
        shadow
    }

    /// The ledger overrides the mirror.
    fn restore_lock(&mut self, lock: &SoftLock) {
        let seat = (lock.option, lock.seat);
        let sells = self.options.get(&lock.option).is_some_and(|option| {
            option.status == OptionStatus::OnSale && lock.seat.0 < option.layout.seat_count()
        });
        let has_room = self
            .options
            .get(&lock.option)
            .is_some_and(|option| self.lock_count(lock.user, option.concert) < SOFT_LOCKS_PER_USER);
        if sells && has_room && lock.expires_at > self.now && !self.seats.contains_key(&seat) {
            let SoftLock { user, first_at, expires_at, .. } = *lock;
            self.seats.insert(seat, Seat::Soft(Lock { user, first_at, expires_at }));
        }
    }

    /// What the shard must do now.
    pub fn step(&mut self, now: Time, input: &Input) -> Predicted {
        if self.halted {
            return Predicted::default();
        }
        self.now = self.now.max(now);
        self.fire();
        match input {
            Input::Command(request) => self.decide(request.clone(), self.now),
            Input::Tick => {}
            Input::Applied { upto, .. } => self.applied(*upto),
            Input::Refused { entry } => self.refused(*entry),
        }
        std::mem::take(&mut self.predicted)
    }

    /// Learns the numbers that the shard gave to the entries of this step.
    pub fn number(&mut self, entries: &[&Entry]) {
        for entry in entries {
            self.newest = self.newest.max(entry.no);
            if let Some(pending) = self.pending.get_mut(&Row::of(&entry.fact)) {
                pending.entry.no = entry.no;
            }
        }
    }

    /// Everything that is due by now.
    fn fire(&mut self) {
        let now = self.now;
        self.seats.retain(|_, seat| match seat {
            Seat::Soft(lock) if lock.expires_at <= now => {
                let kept_too_long = lock.first_at + self.settings.select_max_age;
                let until = kept_too_long + crate::limits::SELECT_COOL_DOWN;
                if lock.expires_at < kept_too_long || until <= now {
                    return false;
                }
                *seat = Seat::Cooling { user: lock.user, until };
                true
            }
            Seat::Cooling { until, .. } => *until > now,
            _ => true,
        });
        let due: Vec<_> = self.reservations.values().filter(|row| self.expires(row, now)).cloned().collect();
        for row in due {
            self.expire(&row);
        }
        self.forget();
    }

    /// What the horizon allows to forget.
    fn forget(&mut self) {
        let (now, horizon) = (self.now, self.settings.idempotency_horizon);
        self.answered.retain(|_, answered| answered.at + horizon > now);
        self.reservations.retain(|_, row| !row.is_ended() || row.changed_at + horizon > now);
    }

    fn expires(&self, row: &Reservation, now: Time) -> bool {
        matches!(row.status, Status::Hold | Status::Paying)
            && row.deadline <= now
            && !self.pending.contains_key(&Row::Reservation(row.id))
    }

    fn expire(&mut self, row: &Reservation) {
        let fact = self.next_version(row, Status::Expired, self.now);
        self.append(None, Fact::Reservation(fact));
    }

    /// Judges a command as of when it arrived.
    fn decide(&mut self, request: Request, arrived: Time) {
        let to = request.reply;
        match self.verdict(&request, arrived) {
            Verdict::Answer(outcome) => self.predicted.replies.push((to, outcome, false)),
            Verdict::Replay(outcome) => self.predicted.replies.push((to, outcome, true)),
            Verdict::Append(fact) => self.append(Some(request), fact),
            Verdict::Retry(row) | Verdict::Wait(row) if self.waiter_count(row) >= WAITERS_PER_ENTRY => {
                let outcome = Outcome::Unavailable(Unavailable::Overloaded);
                self.predicted.replies.push((to, outcome, false));
            }
            Verdict::Retry(row) => self.pending_at(row).retries.push(to),
            Verdict::Wait(row) => self.pending_at(row).waiters.push((request, arrived)),
        }
    }

    fn verdict(&mut self, request: &Request, arrived: Time) -> Verdict {
        if let Some(option) = named_option(&request.command)
            && !self.options.contains_key(&option)
        {
            return refuse(Refusal::OptionUnknown);
        }
        if let Some(verdict) = self.known_key(request) {
            return verdict;
        }
        match &request.command {
            Command::Select { .. } | Command::SelectBest { .. } | Command::Release { .. } => {
                self.click(request)
            }
            _ => self.change_row(request, arrived),
        }
    }

    fn known_key(&self, request: &Request) -> Option<Verdict> {
        let key = request.key.filter(|_| request.command.reaches_ledger())?;
        let content = request.command.content();
        if let Some(answered) = self.answered.get(&(request.caller.user, key)) {
            let same = answered.request.content == content;
            return Some(if same { self.replay(answered) } else { refuse(Refusal::RequestReused) });
        }
        let mark = RequestMark { key, content };
        let (row, pending) = self.pending.iter().find(|(_, pending)| {
            pending.entry.caller == request.caller.user
                && pending.entry.request.is_some_and(|request| request.key == key)
        })?;
        let same = pending.entry.request == Some(mark);
        Some(if same { Verdict::Retry(*row) } else { refuse(Refusal::RequestReused) })
    }

    fn replay(&self, answered: &Answered) -> Verdict {
        let Told::Reservation { reservation, status, version, deadline } = answered.told else {
            return Verdict::Replay(Outcome::Granted(Granted::Done));
        };
        let mut row = self.reservations[&reservation].clone();
        (row.status, row.version, row.deadline) = (status, version, deadline);
        row.changed_at = answered.at;
        row.payment_started &= status != Status::Hold;
        let created = version == 1;
        Verdict::Replay(Outcome::Granted(Granted::Reserved { reservation: Box::new(row), created }))
    }

    fn append(&mut self, request: Option<Request>, fact: Fact) {
        let mark = request.as_ref().and_then(|request| {
            request.key.map(|key| RequestMark { key, content: request.command.content() })
        });
        let caller = request.as_ref().map_or(UserId(0), |request| request.caller.user);
        let row = Row::of(&fact);
        let entry = Entry { no: EntryNo(0), at: self.now, caller, request: mark, fact };
        self.predicted.entries.push(entry.clone());
        let pending = Pending { entry, request, retries: Vec::new(), waiters: Vec::new() };
        self.pending.insert(row, pending);
    }

    fn pending_at(&mut self, row: Row) -> &mut Pending {
        self.pending.get_mut(&row).expect("a verdict names a pending row")
    }

    fn waiter_count(&self, row: Row) -> usize {
        self.pending.get(&row).map_or(0, |pending| pending.retries.len() + pending.waiters.len())
    }

    /// How many commands and retries wait behind entries.
    #[must_use]
    pub fn waiter_total(&self) -> usize {
        self.pending.keys().map(|row| self.waiter_count(*row)).sum()
    }

    fn applied(&mut self, upto: EntryNo) {
        // Entries of this very step have no number yet.
        let fresh = self.predicted.entries.len() as u64;
        if upto.0 > self.newest.0 + fresh {
            self.halted = true;
            self.predicted.halt = Some(Reason::EntryUnknown(upto));
            return;
        }
        let mut rows: Vec<_> = self.pending.iter().map(|(row, pending)| (pending.entry.no, *row)).collect();
        rows.retain(|(no, _)| (EntryNo(1)..=upto).contains(no));
        rows.sort_unstable();
        for (_, row) in rows {
            let pending = self.pending.remove(&row).expect("listed above");
            let granted = self.apply(&pending);
            self.remember(&pending.entry);
            let outcome = Outcome::Granted(granted);
            if let Some(request) = &pending.request {
                self.predicted.replies.push((request.reply, outcome.clone(), false));
            }
            for to in pending.retries {
                self.predicted.replies.push((to, outcome.clone(), true));
            }
            for (request, arrived) in pending.waiters {
                self.decide(request, arrived);
            }
        }
        self.fire();
    }

    fn remember(&mut self, entry: &Entry) {
        let Some(request) = entry.request else { return };
        let told = match &entry.fact {
            Fact::Reservation(row) => Told::Reservation {
                reservation: row.id,
                status: row.status,
                version: row.version,
                deadline: row.deadline,
            },
            Fact::Option { .. } | Fact::Policy { .. } => Told::Done,
        };
        let answered = Answered { at: entry.at, caller: entry.caller, request, told };
        self.answered.insert((entry.caller, request.key), answered);
    }

    /// Memory and ledger disagree: the shard stops. Whoever waits for anything else is told by the
    /// shell that the shard is gone.
    fn refused(&mut self, no: EntryNo) {
        self.halted = true;
        let found = self.pending.values().find(|pending| pending.entry.no == no);
        self.predicted.halt = Some(match found {
            Some(_) => Reason::LedgerRefused(no),
            None => Reason::EntryUnknown(no),
        });
        let Some(pending) = found else { return };
        let asked = pending.request.iter().map(|request| request.reply);
        for to in asked.chain(pending.retries.iter().copied()) {
            let outcome = Outcome::Unavailable(Unavailable::Ledger);
            self.predicted.replies.push((to, outcome, false));
        }
    }

    /// When the next soft lock or reservation falls due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        let locks = self.seats.values().filter_map(|seat| match seat {
            Seat::Soft(lock) => Some(lock.expires_at),
            _ => None,
        });
        let rows = self.reservations.values().filter(|row| self.expires(row, Time::NEVER));
        locks.chain(rows.map(|row| row.deadline)).min()
    }

    /// How full the shard must say it is.
    #[must_use]
    pub fn load(&self) -> Load {
        let rows = self.reservations.values().filter(|row| row.kind == Kind::Sale);
        Load {
            soft_locks: self.seats.values().filter(|seat| matches!(seat, Seat::Soft(_))).count(),
            holds: rows.filter(|row| matches!(row.status, Status::Hold | Status::Paying)).count(),
            reservations: self.reservations.len() + self.unborn().count(),
            answered_keys: self.answered.len(),
            pending: self.pending.len(),
        }
    }

    /// Reservations whose first entry is on its way.
    fn unborn(&self) -> impl Iterator<Item = &Reservation> + '_ {
        self.pending.values().filter_map(|pending| match &pending.entry.fact {
            Fact::Reservation(row) if row.version == 1 => Some(row),
            _ => None,
        })
    }

    /// What viewers see, in seat order.
    pub fn seat_states(&self, option: OptionId) -> impl Iterator<Item = SeatState> + '_ {
        let count = self.options.get(&option).map_or(0, |option| option.layout.seat_count());
        let mut special = self.special(option).peekable();
        (0..count).map(move |seat| match special.next_if(|(no, _)| no.0 == seat) {
            Some((_, seat)) => self.public(seat),
            None => SeatState::Available,
        })
    }

    /// The soft locks, those of pending holds included, in seat order.
    pub fn soft_locks(&self, option: OptionId) -> impl Iterator<Item = SoftLock> + '_ {
        self.special(option).filter_map(move |(seat, state)| match state {
            Seat::Soft(lock) | Seat::Holding(lock) => {
                let Lock { user, first_at, expires_at } = *lock;
                Some(SoftLock { option, seat, user, first_at, expires_at })
            }
            _ => None,
        })
    }

    fn special(&self, option: OptionId) -> impl Iterator<Item = (SeatNo, &Seat)> + '_ {
        let seats = self.seats.range((option, SeatNo(0))..=(option, SeatNo(u32::MAX)));
        seats.map(|((_, seat), state)| (*seat, state))
    }

    fn public(&self, seat: &Seat) -> SeatState {
        match seat {
            Seat::Soft(_) | Seat::Holding(_) => SeatState::Selecting,
            Seat::Blocking | Seat::Cooling { .. } => SeatState::Available,
            Seat::Taken(id) => match self.reservations[id].status {
                Status::Hold | Status::Paying => SeatState::Hold,
                _ => SeatState::Confirmed,
            },
        }
    }

    fn policy(&self, concert: ConcertId) -> Policy {
        let default = Policy { reservations_per_user: self.settings.reservations_per_user, gate: false };
        self.policies.get(&concert).map_or(default, |(policy, _)| *policy)
    }
}

/// The option a command is about, where it names one that must exist.
fn named_option(command: &Command) -> Option<OptionId> {
    match command {
        Command::Select { option, .. }
        | Command::SelectBest { option, .. }
        | Command::Release { option, .. }
        | Command::Hold { option, .. }
        | Command::Block { option, .. }
        | Command::SetOptionStatus { option, .. } => Some(*option),
        _ => None,
    }
}
