//! What the events make of a shard, beside what the ledger's rows and a server's memory say.

use engine::{Reservation, SeatState, Status};

use super::derive::Derivation;
use super::memory::{Remembered, ShardMemory};
use super::report::{Finding, Report};
use super::{StoredOption, StoredPolicy, StoredReservation, StoredSeat};

impl Derivation {
    /// Compares a stored reservation and takes it off the list of those that must be there.
    pub(super) fn compare_reservation(&mut self, stored: &StoredReservation, report: &mut Report) {
        let derived = self.reservations.remove(&stored.reservation.id);
        let row = format!("reservation {}", stored.reservation.id);
        if derived.as_ref() != Some(&stored.reservation) {
            report.found(Finding::Ledger {
                row: row.clone(),
                events: derived.as_ref().map(describe),
                stored: Some(describe(&stored.reservation)),
            });
        }
        let Some(derived) = derived else { return };
        let active = derived.is_active();
        let seats: Vec<StoredSeat> =
            derived.seats.iter().map(|seat| StoredSeat { option: derived.option, seat, active }).collect();
        if seats != stored.seats {
            report.found(Finding::Ledger {
                row: format!("seats of {row}"),
                events: Some(describe_seats(&seats)),
                stored: Some(describe_seats(&stored.seats)),
            });
        }
    }

    /// What is left after every stored reservation was compared is missing.
    pub(super) fn report_missing(&mut self, report: &mut Report) {
        let mut missing: Vec<_> = self.reservations.drain().map(|(_, row)| row).collect();
        missing.sort_unstable_by_key(|row| row.id);
        for row in missing {
            let events = Some(describe(&row));
            report.found(Finding::Ledger { row: format!("reservation {}", row.id), events, stored: None });
        }
    }

    pub(super) fn compare_options(&self, stored: &[StoredOption], report: &mut Report) {
        let stored: Vec<_> = stored.iter().filter(|option| option.shard == self.shard).collect();
        let derived: Vec<_> = self
            .options
            .iter()
            .map(|(option, derived)| StoredOption {
                shard: self.shard,
                option: *option,
                concert: derived.concert,
                status: derived.status,
                version: derived.version,
            })
            .collect();
        let describe = |row: &StoredOption| {
            format!("{} of concert {} in version {}", row.status.name(), row.concert, row.version)
        };
        for row in &derived {
            let there = stored.iter().find(|stored| stored.option == row.option);
            if there != Some(&row) {
                report.found(Finding::Ledger {
                    row: format!("option {}", row.option),
                    events: Some(describe(row)),
                    stored: there.map(|there| describe(there)),
                });
            }
        }
        for row in stored.iter().filter(|row| !self.options.contains_key(&row.option)) {
            report.found(Finding::Ledger {
                row: format!("option {}", row.option),
                events: None,
                stored: Some(describe(row)),
            });
        }
    }

    pub(super) fn compare_policies(&self, stored: &[StoredPolicy], report: &mut Report) {
        let describe = |policy: &engine::option::Policy, version: u32| {
            let gate = if policy.gate { "on" } else { "off" };
            format!("{} per user, gate {gate}, version {version}", policy.reservations_per_user)
        };
        let stored: Vec<_> = stored.iter().filter(|policy| policy.shard == self.shard).collect();
        for (concert, (policy, version)) in &self.policies {
            let there = stored.iter().find(|stored| stored.concert == *concert);
            if there.map(|there| (there.policy, there.version)) != Some((*policy, *version)) {
                report.found(Finding::Ledger {
                    row: format!("policy of concert {concert}"),
                    events: Some(describe(policy, *version)),
                    stored: there.map(|there| describe(&there.policy, there.version)),
                });
            }
        }
        for row in stored.iter().filter(|row| !self.policies.contains_key(&row.concert)) {
            report.found(Finding::Ledger {
                row: format!("policy of concert {}", row.concert),
                events: None,
                stored: Some(describe(&row.policy, row.version)),
            });
        }
    }

    /// Compares a server's memory with the events up to the one that memory has seen.
    pub(super) fn compare_memory(&self, memory: &ShardMemory, report: &mut Report) {
        let shard = self.shard;
        let mut differs = |what: String, events: Option<String>, memory: Option<String>| {
            report.found(Finding::Memory { shard, what, events, memory });
        };
        if memory.head != self.head {
            let say = |head: &engine::ChainHead| format!("event {} {}", head.event_seq, hex(&head.hash));
            differs("chain head".to_owned(), Some(say(&self.head)), Some(say(&memory.head)));
            return;
        }
        for (id, remembered) in &memory.reservations {
            let derived = self.reservations.get(id).map(remember);
            if derived.as_ref() != Some(remembered) {
                let derived = derived.as_ref().map(tell);
                differs(format!("reservation {id}"), derived, Some(tell(remembered)));
            }
        }
        let forgotten = |row: &&Reservation| !row.is_ended() && !memory.reservations.contains_key(&row.id);
        let mut missing: Vec<_> = self.reservations.values().filter(forgotten).collect();
        missing.sort_unstable_by_key(|row| row.id);
        for row in missing {
            differs(format!("reservation {}", row.id), Some(describe(row)), None);
        }
        for option in self.options.keys().filter(|option| !memory.options.contains_key(option)) {
            differs(format!("option {option}"), Some("it is on sale".to_owned()), None);
        }
        for option in memory.options.keys().filter(|option| !self.options.contains_key(option)) {
            differs(format!("option {option}"), None, Some("it is on sale".to_owned()));
        }
        self.compare_seats(memory, &mut differs);
    }

    fn compare_seats(
        &self,
        memory: &ShardMemory,
        differs: &mut impl FnMut(String, Option<String>, Option<String>),
    ) {
        let mut seen = 0;
        for (option, states) in &memory.options {
            for (seat, state) in (0..).map(engine::SeatNo).zip(states) {
                let owner = self.owners.get(&(*option, seat)).and_then(|id| self.reservations.get(id));
                seen += usize::from(owner.is_some());
                let fits = match owner.map(|owner| owner.status) {
                    Some(Status::Confirmed) => *state == SeatState::Confirmed,
                    Some(_) => *state == SeatState::Hold,
                    None => matches!(state, SeatState::Available | SeatState::Selecting),
                };
                if !fits {
                    let owner = owner.map(|owner| format!("{} of {}", owner.status.name(), owner.id));
                    differs(format!("seat {seat} of option {option}"), owner, Some(state.name().to_owned()));
                }
            }
        }
        // Owners of seats outside the plan were met by no seat of memory.
        if seen != self.owners.len() {
            let outside = self.owners.len() - seen;
            differs(
                "seats".to_owned(),
                Some(format!("{outside} owned seats are outside of memory's plans")),
                None,
            );
        }
    }
}

/// A derived reservation as a server would tell it.
fn remember(row: &Reservation) -> Remembered {
    Remembered {
        kind: row.kind.name().to_owned(),
        user_id: row.user.0,
        option_id: row.option.0,
        seats: row.seats.iter().map(|seat| seat.0).collect(),
        status: row.status.name().to_owned(),
        version: row.version,
    }
}

fn tell(row: &Remembered) -> String {
    let Remembered { kind, user_id, option_id, seats, status, version } = row;
    format!("{kind} {status} v{version} user {user_id} option {option_id} seats {seats:?}")
}

fn describe(row: &Reservation) -> String {
    let Reservation { amount, deadline, created_at, changed_at, payment_started, .. } = row;
    let deadline = if *deadline == engine::Time::NEVER { "never".to_owned() } else { deadline.to_string() };
    format!(
        "{} concert {} amount {amount} deadline {deadline} created {created_at} changed {changed_at}{}",
        tell(&remember(row)),
        row.concert,
        if *payment_started { " payment started" } else { "" }
    )
}

fn describe_seats(seats: &[StoredSeat]) -> String {
    let one = |seat: &StoredSeat| {
        let state = if seat.active { "taken" } else { "free" };
        format!("{}:{} {state}", seat.option, seat.seat)
    };
    seats.iter().map(one).collect::<Vec<_>>().join(", ")
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
