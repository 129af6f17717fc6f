//! What clients do: mostly sensible things on few hot seats, often the wrong thing, and retries.

use std::sync::Arc;

use super::options::Options;
use super::prng::{Prng, Stream};
use crate::command::{Authority, Caller, Command, Request, SeatList};
use crate::ids::{ConcertId, OptionId, ReplyTo, RequestKey, ReservationId, SeatNo, UserId};
use crate::limits::WAITERS_PER_ENTRY;
use crate::option::{OptionStatus, Policy};
use crate::outcome::{Granted, Outcome, Refusal};
use crate::plan::{Layout, Run};

/// One imported option.
pub struct Plan {
    pub option: OptionId,
    pub concert: ConcertId,
    pub layout: Arc<Layout>,
}

/// All clients together, and what they remember.
pub struct Workload {
    prng: Prng,
    weights: Vec<u32>,
    user_count: u64,
    pub plans: Vec<Plan>,
    /// Options not yet told to the shard.
    unsold: Vec<usize>,
    /// Seats that somebody was told to have selected; may be out of date.
    selected: Vec<(UserId, OptionId, SeatNo)>,
    /// Reservations that somebody was told of, newest last.
    reservations: Vec<(UserId, ReservationId)>,
    /// Ids that went out with a hold or a block, which may never have come to life.
    attempted: Vec<(UserId, ReservationId)>,
    /// Requests with a key, newest last.
    keyed: Vec<Request>,
    /// Requests with a key that were never answered for good.
    pub unresolved: Vec<Request>,
    next_reply: u64,
    next_key: u128,
    next_reservation: u128,
}

/// How many remembered things a client picks from.
const RECENT: usize = 24;

/// The base frequency of each kind of command, in the order of [`Workload::draw`].
const BASE_WEIGHTS: [u32; super::options::KIND_COUNT] = [30, 8, 5, 24, 9, 12, 9, 6, 2, 2, 1, 2, 1, 8, 3, 1];

impl Workload {
    #[must_use]
    pub fn new(options: &Options) -> Self {
        let mut prng = Prng::new(options.seed, Stream::Workload);
        let plans: Vec<Plan> = (1..)
            .zip(&options.seat_counts)
            .map(|(no, seats)| Plan {
                option: OptionId(no),
                concert: ConcertId(1 + u64::from(no) % options.concert_count),
                layout: Arc::new(layout(&mut prng, *seats)),
            })
            .collect();
        let weights = BASE_WEIGHTS.iter().zip(options.weights).map(|(base, weight)| base * weight);
        Self {
            prng,
            weights: weights.collect(),
            user_count: options.user_count,
            unsold: (0..plans.len()).rev().collect(),
            plans,
            selected: Vec::new(),
            reservations: Vec::new(),
            attempted: Vec::new(),
            keyed: Vec::new(),
            unresolved: Vec::new(),
            next_reply: 0,
            next_key: 0,
            next_reservation: 0,
        }
    }

    /// The next requests; several at once are a burst of retries.
    pub fn ask(&mut self) -> Vec<Request> {
        if !self.unsold.is_empty() && self.prng.chance(800) {
            return vec![self.sell_next()];
        }
        let kind = self.prng.weighted(&self.weights);
        match kind {
            13 => self.retry().into_iter().collect(),
            14 => self.reuse_key().into_iter().collect(),
            15 => self.burst(),
            _ => {
                let command = self.draw(kind);
                vec![self.request(command)]
            }
        }
    }

    fn sell_next(&mut self) -> Request {
        let index = self.unsold.pop().unwrap_or_default();
        let Plan { option, concert, ref layout } = self.plans[index];
        let command = Command::AddOption { option, concert, layout: Arc::clone(layout) };
        self.address(UserId(0), Authority::Any, None, command)
    }

    /// The same request again, with a reply address of its own; a hold brings a fresh id.
    pub fn again(&mut self, first: &Request) -> Request {
        let mut request = first.clone();
        if let Command::Hold { option, reservation, .. } | Command::Block { option, reservation, .. } =
            &mut request.command
        {
            *reservation = self.fresh_reservation(*option);
        }
        request.reply = self.fresh_reply();
        request
    }

    fn retry(&mut self) -> Option<Request> {
        let from = if self.prng.chance(500) { &self.unresolved } else { &self.keyed };
        let first = self.prng.pick(recent(from))?.clone();
        Some(self.again(&first))
    }

    fn reuse_key(&mut self) -> Option<Request> {
        let first = self.prng.pick(recent(&self.keyed))?.clone();
        let kind = self.prng.weighted(&self.weights[..13]);
        let command = self.draw(kind);
        Some(self.address(first.caller.user, first.caller.authority, first.key, command))
    }

    /// More retries than may wait behind one entry.
    fn burst(&mut self) -> Vec<Request> {
        let Some(first) = self.keyed.last().cloned() else { return Vec::new() };
        let count = if self.prng.chance(300) { WAITERS_PER_ENTRY + 6 } else { 5 };
        let mut burst = Vec::with_capacity(count);
        for _ in 0..count {
            let mut request = self.again(&first);
            if self.prng.chance(300) {
                request.key = None;
            }
            burst.push(request);
        }
        burst
    }

    /// A command of this kind; mostly another one where nothing is there for it to be about.
    fn draw(&mut self, kind: usize) -> Command {
        let kind = match kind {
            4..=7 | 9 if self.reservations.is_empty() && self.prng.chance(900) => 3,
            _ => kind,
        };
        match kind {
            3 if self.selected.is_empty() && self.prng.chance(900) => self.draw(0),
            0 => {
                let option = self.option();
                Command::Select { option, seats: self.seats(option) }
            }
            1 => self.select_best(),
            2 => self.release(),
            3 => self.hold(),
            4 => Command::StartPaying { reservation: self.reservation() },
            5 => Command::Confirm { reservation: self.reservation() },
            6 => Command::Cancel { reservation: self.reservation() },
            7 => Command::Refund { reservation: self.reservation() },
            8 => self.block(),
            9 => Command::Unblock { reservation: self.reservation() },
            10 => self.add_option(),
            11 => {
                let closed = self.prng.chance(300);
                let status = if closed { OptionStatus::Closed } else { OptionStatus::OnSale };
                Command::SetOptionStatus { option: self.option(), status }
            }
            _ => {
                let reservations_per_user = u32::from(!self.prng.chance(50)) * self.small();
                let policy = Policy { reservations_per_user, gate: self.prng.chance(200) };
                Command::SetPolicy { concert: self.concert(), change: policy.into() }
            }
        }
    }

    fn select_best(&mut self) -> Command {
        let section = self.prng.chance(300).then(|| self.prng.below(3)).map(|no| no.try_into());
        let category = self.prng.chance(300).then(|| self.prng.below(3)).map(|no| no.try_into());
        Command::SelectBest {
            option: self.option(),
            party: if self.prng.chance(50) { 9 * self.small() - 9 } else { self.small() },
            section: section.and_then(Result::ok),
            category: category.and_then(Result::ok),
        }
    }

    fn release(&mut self) -> Command {
        match self.prng.pick(recent(&self.selected)).copied() {
            Some((_, option, seat)) if self.prng.chance(700) => {
                Command::Release { option, seats: Some([seat].into_iter().collect()) }
            }
            _ if self.prng.chance(500) => Command::Release { option: self.option(), seats: None },
            _ => {
                let option = self.option();
                Command::Release { option, seats: Some(self.seats(option)) }
            }
        }
    }

    /// Mostly of what one user has selected: all of it, or a part.
    fn hold(&mut self) -> Command {
        let picked = self.prng.pick(recent(&self.selected)).copied();
        let Some((user, option, _)) = picked.filter(|_| !self.prng.chance(60)) else {
            let option = self.option();
            return Command::Hold {
                option,
                seats: self.seats(option),
                reservation: self.fresh_reservation(option),
            };
        };
        let mine = self.selected.iter().filter(|seat| (seat.0, seat.1) == (user, option));
        let mut seats: Vec<SeatNo> = mine.map(|seat| seat.2).collect();
        if self.prng.chance(300) {
            seats.truncate(usize::from(self.prng.chance(500)) + 1);
        }
        let seats = seats.into_iter().collect();
        Command::Hold { option, seats, reservation: self.fresh_reservation(option) }
    }

    fn block(&mut self) -> Command {
        let option = self.option();
        Command::Block { option, seats: self.seats(option), reservation: self.fresh_reservation(option) }
    }

    fn add_option(&mut self) -> Command {
        if self.prng.chance(100) {
            let layout = Layout { categories: vec![0], ..Layout::default() };
            return Command::AddOption {
                option: OptionId(98),
                concert: ConcertId(1),
                layout: Arc::new(layout),
            };
        }
        let plan = self.prng.pick(&self.plans).expect("there is an option");
        let Plan { option, mut concert, ref layout } = *plan;
        let layout = Arc::clone(layout);
        if self.prng.chance(100) {
            concert = ConcertId(77);
        }
        Command::AddOption { option, concert, layout }
    }

    /// By whoever is likely to be allowed to, with a key where one makes sense.
    fn request(&mut self, command: Command) -> Request {
        let owner = match &command {
            Command::Hold { option, seats, .. } | Command::Release { option, seats: Some(seats) } => {
                let first = seats.iter().next();
                self.selected
                    .iter()
                    .rev()
                    .find(|seat| (seat.1, Some(seat.2)) == (*option, first))
                    .map(|seat| seat.0)
            }
            Command::StartPaying { reservation }
            | Command::Confirm { reservation }
            | Command::Cancel { reservation }
            | Command::Refund { reservation }
            | Command::Unblock { reservation } => {
                let mut known = self.reservations.iter().chain(&self.attempted).rev();
                known.find(|known| known.1 == *reservation).map(|known| known.0)
            }
            _ => None,
        };
        let user = match owner {
            Some(owner) if !self.prng.chance(70) => owner,
            _ => UserId(1 + self.prng.below(self.user_count)),
        };
        let admin = matches!(command, Command::Block { .. } | Command::AddOption { .. });
        let any = self.prng.chance(if admin { 900 } else { 150 });
        let authority = if any { Authority::Any } else { Authority::Own };
        let key = (command.reaches_ledger() && !self.prng.chance(100)).then(|| self.fresh_key());
        self.address(user, authority, key, command)
    }

    fn address(
        &mut self,
        user: UserId,
        authority: Authority,
        key: Option<RequestKey>,
        command: Command,
    ) -> Request {
        let caller = Caller { user, authority };
        let pass = self.prng.chance(800);
        let request = Request { reply: self.fresh_reply(), caller, key, pass, command };
        if let Command::Hold { reservation, .. } | Command::Block { reservation, .. } = request.command {
            self.attempted.push((user, reservation));
        }
        if request.command.reaches_ledger() && key.is_some() {
            self.keyed.push(request.clone());
        }
        request
    }

    /// A client reads its answer.
    pub fn answered(&mut self, request: &Request, outcome: &Outcome) {
        let user = request.caller.user;
        match outcome {
            Outcome::Granted(Granted::Selected { option, seats, .. }) => {
                self.forget_seats(*option, seats);
                self.selected.extend(seats.iter().map(|seat| (user, *option, seat)));
            }
            Outcome::Granted(Granted::Released { option, seats }) => self.forget_seats(*option, seats),
            Outcome::Granted(Granted::Reserved { reservation, created: true }) => {
                self.forget_seats(reservation.option, &reservation.seats);
                self.reservations.push((reservation.user, reservation.id));
            }
            Outcome::Refused(Refusal::NotSelected(seats)) => {
                if let Command::Hold { option, .. } | Command::Release { option, .. } = request.command {
                    self.selected
                        .retain(|seat| (seat.0, seat.1) != (user, option) || !seats.contains(seat.2));
                }
            }
            Outcome::Unavailable(_) => return self.lost(request),
            Outcome::Granted(_) | Outcome::Refused(_) => {}
        }
        self.unresolved.retain(|first| first.key.is_none() || first.key != request.key);
    }

    /// A client never hears what became of its request.
    pub fn lost(&mut self, request: &Request) {
        if let Command::AddOption { option, .. } = request.command {
            self.unsold.extend(self.plans.iter().position(|plan| plan.option == option));
        }
        let known = self.unresolved.iter().any(|first| first.key == request.key);
        if request.key.is_some() && !known {
            self.unresolved.push(request.clone());
        }
    }

    fn forget_seats(&mut self, option: OptionId, seats: &SeatList) {
        self.selected.retain(|seat| seat.1 != option || !seats.contains(seat.2));
    }

    fn option(&mut self) -> OptionId {
        if self.prng.chance(15) {
            return OptionId(99);
        }
        self.prng.pick(&self.plans).expect("there is an option").option
    }

    fn concert(&mut self) -> ConcertId {
        if self.prng.chance(30) {
            return ConcertId(77);
        }
        self.prng.pick(&self.plans).expect("there is an option").concert
    }

    fn reservation(&mut self) -> ReservationId {
        let from = if self.prng.chance(80) { &self.attempted } else { &self.reservations };
        match self.prng.pick(recent(from)) {
            Some((_, reservation)) if !self.prng.chance(20) => *reservation,
            _ => ReservationId::stamp(7 << 32, OptionId(1)),
        }
    }

    /// Mostly one to four hot seats of an option, now and then nonsense.
    fn seats(&mut self, option: OptionId) -> SeatList {
        let plan = self.plans.iter().find(|plan| plan.option == option);
        let seat_count = plan.map_or(9, |plan| plan.layout.seat_count());
        let count = match self.prng.below(100) {
            0 => 0,
            1 => 9,
            2 => 200,
            3..=9 => 8,
            _ => self.prng.between(1, 4),
        };
        let invalid = self.prng.chance(20);
        let mut seats = SeatList::default();
        let mut misses = 0;
        while (seats.len() as i64) < count && misses < 40 {
            let bound = u64::from(seat_count) + u64::from(invalid) * 3;
            let seat = SeatNo(self.prng.skewed(bound).try_into().unwrap_or(u32::MAX));
            if invalid || !seats.contains(seat) || count > 8 {
                seats.push(seat);
            } else {
                misses += 1;
            }
        }
        seats
    }

    fn small(&mut self) -> u32 {
        1 + u32::try_from(self.prng.skewed(8)).unwrap_or_default()
    }

    fn fresh_reply(&mut self) -> ReplyTo {
        self.next_reply += 1;
        ReplyTo(self.next_reply)
    }

    fn fresh_key(&mut self) -> RequestKey {
        // Users now and then draw the same key: keys are theirs alone.
        self.next_key += u128::from(!self.prng.chance(100));
        RequestKey(self.next_key << 60 | 5)
    }

    fn fresh_reservation(&mut self, option: OptionId) -> ReservationId {
        self.next_reservation += 1;
        ReservationId::stamp(self.next_reservation << 70 | 0xabc << 40, option)
    }
}

fn recent<T>(items: &[T]) -> &[T] {
    &items[items.len().saturating_sub(RECENT)..]
}

/// Rows of a few seats with aisles, up to three sections and price categories.
fn layout(prng: &mut Prng, seat_count: u32) -> Layout {
    let mut runs = Vec::new();
    let mut first = 0;
    while first < seat_count {
        let width = 1 + u32::try_from(prng.below(12)).unwrap_or_default();
        let seats = width.min(seat_count - first);
        runs.push(Run { first: SeatNo(first), seats });
        first += seats;
    }
    let category_count = 1 + prng.below(3);
    let category = |_| u8::try_from(prng.below(category_count)).unwrap_or_default();
    let categories = (0..seat_count).map(category).collect();
    let mut sections = vec![SeatNo(0)];
    for run in runs.iter().skip(1) {
        if sections.len() < 3 && prng.chance(300) {
            sections.push(run.first);
        }
    }
    let prices = (0..category_count).map(|_| prng.between(0, 90_000)).collect();
    Layout { categories, runs, sections, prices }
}
