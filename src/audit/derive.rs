//! From events to owners, one shard at a time, believing nothing: every event is checked against those
//! before it. What breaks a rule is reported and then taken as the event says, so that one wrong event
//! is one finding.

use std::collections::{BTreeMap, HashMap};

use actors::row::EventRow;
use actors::writer::seal;
use engine::entry::Transition;
use engine::option::{OptionStatus, Policy};
use engine::reservation::Kind;
use engine::{
    ChainHead, ConcertId, Epoch, OptionId, Reservation, ReservationId, SeatNo, ShardId, Status, Time, UserId,
};

use super::report::{Finding, Report};

/// A shard as its events make it.
#[derive(Clone, Debug)]
pub struct Derivation {
    pub shard: ShardId,
    /// The newest event taken in.
    pub head: ChainHead,
    pub reservations: HashMap<ReservationId, Reservation>,
    /// Who has a seat now.
    pub owners: HashMap<(OptionId, SeatNo), ReservationId>,
    pub options: BTreeMap<OptionId, DerivedOption>,
    pub policies: BTreeMap<ConcertId, (Policy, u32)>,
    epoch: Epoch,
}

/// An option as its events make it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DerivedOption {
    pub concert: ConcertId,
    pub status: OptionStatus,
    pub version: u32,
}

impl Derivation {
    #[must_use]
    pub fn new(shard: ShardId) -> Self {
        Self {
            shard,
            head: ChainHead::default(),
            reservations: HashMap::new(),
            owners: HashMap::new(),
            options: BTreeMap::new(),
            policies: BTreeMap::new(),
            epoch: Epoch(0),
        }
    }

    /// Takes in the next event.
    pub fn push(&mut self, row: &EventRow, report: &mut Report) {
        self.check_chain(row, report);
        self.head = ChainHead { event_seq: row.event_seq, hash: row.hash };
        self.epoch = self.epoch.max(row.epoch);
        let taken = match row.transition() {
            None => Err(format!("its kind {} is unknown", row.transition)),
            Some(Transition::OptionAdded | Transition::OptionOpened | Transition::OptionClosed) => {
                self.take_option(row)
            }
            Some(Transition::PolicySet) => self.take_policy(row),
            Some(transition) => self.take_reservation(row, transition, report),
        };
        if let Err(what) = taken {
            report.found(Finding::Event { shard: row.shard, event_seq: row.event_seq, what });
        }
    }

    fn check_chain(&self, row: &EventRow, report: &mut Report) {
        let mut broken = |what: String| {
            report.found(Finding::Chain { shard: row.shard, event_seq: row.event_seq, what });
        };
        let expected = self.head.event_seq + 1;
        if row.event_seq != expected {
            broken(format!("events from {expected} are missing"));
        } else if row.prev_hash != self.head.hash {
            broken("it does not follow from the event before: that one was rewritten".to_owned());
        }
        if seal::hash(row) != row.hash {
            broken("its columns do not have its hash: it was rewritten".to_owned());
        }
        if row.epoch < self.epoch {
            broken(format!(
                "epoch {} after epoch {}: an owner wrote behind the fence",
                row.epoch, self.epoch
            ));
        }
    }

    fn take_option(&mut self, row: &EventRow) -> Result<(), String> {
        let status = OptionStatus::from_number(row.status)
            .ok_or_else(|| format!("status {} of an option is unknown", row.status))?;
        let (option, concert, version) = (OptionId(row.option), ConcertId(row.concert), row.version);
        let derived = DerivedOption { concert, status, version };
        let before = self.options.insert(option, derived);
        let version_before = before.map_or(0, |before| before.version);
        if before.is_some_and(|before| before.concert != concert) {
            return Err(format!("option {option} changes its concert"));
        }
        if version != version_before + 1 {
            return Err(format!("option {option} goes from version {version_before} to {version}"));
        }
        Ok(())
    }

    fn take_policy(&mut self, row: &EventRow) -> Result<(), String> {
        let policy = Policy { reservations_per_user: row.reservations_per_user, gate: row.gate };
        let concert = ConcertId(row.concert);
        let before = self.policies.insert(concert, (policy, row.version));
        let version_before = before.map_or(0, |(_, version)| version);
        if row.version != version_before + 1 {
            return Err(format!(
                "the policy of concert {concert} goes from version {version_before} to {}",
                row.version
            ));
        }
        Ok(())
    }

    fn take_reservation(
        &mut self,
        row: &EventRow,
        transition: Transition,
        report: &mut Report,
    ) -> Result<(), String> {
        let after = reservation(row)?;
        let verdict = self.check_reservation(&after, transition);
        let id = after.id;
        if let Some(before) = self.reservations.get(&id) {
            for seat in before.seats.iter() {
                if self.owners.get(&(before.option, seat)) == Some(&id) {
                    self.owners.remove(&(before.option, seat));
                }
            }
        }
        if after.is_active() {
            for seat in after.seats.iter() {
                if let Some(first) = self.owners.insert((after.option, seat), id) {
                    report.found(Finding::SoldTwice {
                        shard: row.shard,
                        event_seq: row.event_seq,
                        option: after.option,
                        seat,
                        first,
                        second: id,
                    });
                }
            }
        }
        self.reservations.insert(id, after);
        verdict
    }

    fn check_reservation(&self, after: &Reservation, transition: Transition) -> Result<(), String> {
        let id = after.id;
        let name = transition.name();
        let (kind, status, from) = shape(transition);
        if (kind.unwrap_or(after.kind), status) != (after.kind, after.status) {
            return Err(format!("{name} of {id} leaves a {} {}", after.kind.name(), after.status.name()));
        }
        let waits = matches!(after.status, Status::Hold | Status::Paying);
        if waits == (after.deadline == Time::NEVER) {
            return Err(format!("{name} of {id} has the deadline {}", after.deadline));
        }
        let Some(before) = self.reservations.get(&id) else {
            return match from {
                [] => self.check_birth(after),
                _ => Err(format!("{name} of {id}, which was never held")),
            };
        };
        if !from.contains(&before.status) {
            return Err(format!("{name} of {id}, which is {}", before.status.name()));
        }
        if after.version != before.version + 1 {
            return Err(format!("{name} of {id} goes from version {} to {}", before.version, after.version));
        }
        let moved = Reservation {
            status: after.status,
            version: after.version,
            deadline: after.deadline,
            changed_at: after.changed_at,
            payment_started: before.payment_started || after.payment_started,
            ..before.clone()
        };
        if moved != *after {
            return Err(format!("{name} of {id} changes what a transition may not change"));
        }
        Ok(())
    }

    fn check_birth(&self, after: &Reservation) -> Result<(), String> {
        let id = after.id;
        if after.version != 1 {
            return Err(format!("{id} is born in version {}", after.version));
        }
        if id.option() != after.option {
            return Err(format!("{id} is not an id of option {}", after.option));
        }
        if after.seats.is_empty() {
            return Err(format!("{id} is born without seats"));
        }
        let slice = after.seats.as_slice();
        if slice.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Err(format!("the seats of {id} are not ascending"));
        }
        match self.options.get(&after.option) {
            Some(option) if option.concert == after.concert => Ok(()),
            Some(option) => {
                Err(format!("{id} says concert {}, its option {}", after.concert, option.concert))
            }
            None => Err(format!("{id} is in option {}, which the shard never added", after.option)),
        }
    }
}

/// The kind and status a transition leaves, and the statuses it may come from; none for a birth.
const fn shape(transition: Transition) -> (Option<Kind>, Status, &'static [Status]) {
    use Status::{Cancelled, Confirmed, Expired, Hold, Paying, Refunded};
    match transition {
        Transition::Held => (Some(Kind::Sale), Hold, &[]),
        Transition::PayingStarted => (Some(Kind::Sale), Paying, &[Hold]),
        Transition::Confirmed => (Some(Kind::Sale), Confirmed, &[Hold, Paying]),
        Transition::Cancelled => (Some(Kind::Sale), Cancelled, &[Hold, Paying, Confirmed]),
        Transition::Refunded => (Some(Kind::Sale), Refunded, &[Cancelled]),
        Transition::Expired => (Some(Kind::Sale), Expired, &[Hold, Paying]),
        Transition::Blocked => (Some(Kind::Block), Confirmed, &[]),
        Transition::Unblocked => (Some(Kind::Block), Cancelled, &[Confirmed]),
        // These are no transitions of a reservation: nothing fits.
        Transition::OptionAdded
        | Transition::OptionOpened
        | Transition::OptionClosed
        | Transition::PolicySet => (None, Hold, &[]),
    }
}

/// The reservation as its event leaves it.
fn reservation(row: &EventRow) -> Result<Reservation, String> {
    let id = row.reservation;
    let kind = Kind::from_number(row.kind).ok_or_else(|| format!("kind {} of {id} is unknown", row.kind))?;
    let status =
        Status::from_number(row.status).ok_or_else(|| format!("status {} of {id} is unknown", row.status))?;
    Ok(Reservation {
        id,
        kind,
        user: UserId(row.user),
        concert: ConcertId(row.concert),
        option: OptionId(row.option),
        seats: row.seats,
        status,
        version: row.version,
        amount: row.amount,
        deadline: Time(row.deadline),
        created_at: Time(row.created_at),
        changed_at: Time(row.at),
        payment_started: row.payment_started,
    })
}
