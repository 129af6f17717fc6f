//! The auditor: what must be true whatever happens, checked after every step.
//!
//! It does not know the rules. It watches replies, entries and the feed as an outsider would, and
//! compares the core with the ledger, with the mirror and with the twin.

use std::collections::BTreeMap;

use super::ledger::Ledger;
use super::shadow::{Predicted, Row, Shadow};
use crate::command::Request;
use crate::effect::{Effect, SeatChange};
use crate::entry::{Entry, Fact};
use crate::ids::{EntryNo, OptionId, SeatNo};
use crate::outcome::{Conflicts, Granted, Outcome, Refusal, SeatState};
use crate::reservation::Reservation;
use crate::settings::Settings;
use crate::shard::Shard;
use crate::time::Time;

/// A broken invariant, in a sentence.
pub type Verdict = Result<(), String>;

/// What an outsider has seen since the last restore.
#[derive(Default)]
pub struct Auditor {
    /// A viewer's map of each option, and the feed position it stands at.
    viewers: BTreeMap<OptionId, (u64, Vec<SeatState>)>,
    /// The newest entry of this incarnation.
    newest: EntryNo,
}

macro_rules! ensure {
    ($condition:expr, $($why:tt)*) => {
        if !$condition {
            return Err(format!($($why)*));
        }
    };
}

impl Auditor {
    /// A new owner: viewers get a snapshot, entries are counted from 1.
    pub fn restored(&mut self, shard: &Shard) {
        self.newest = EntryNo(0);
        let snapshot = |option: OptionId| (0, shard.seat_states(option).collect());
        self.viewers = shard.options().map(|view| (view.option, snapshot(view.option))).collect();
    }

    /// The shard did what the twin said, no more and no less.
    pub fn check_effects(
        &mut self,
        effects: &[Effect],
        mut predicted: Predicted,
        shadow: &mut Shadow,
    ) -> Verdict {
        let mut replies = Vec::new();
        let mut entries: Vec<&Entry> = Vec::new();
        let mut halt = None;
        for effect in effects {
            ensure!(halt.is_none(), "an effect after Halt: {effect:?}");
            match effect {
                Effect::Reply { to, outcome, replayed } => replies.push((*to, outcome.clone(), *replayed)),
                Effect::Append(entry) => entries.push(entry),
                Effect::Halt(reason) => halt = Some(*reason),
                Effect::Mirror(_) | Effect::Publish(_) => {}
            }
        }
        for reply in replies.iter_mut().chain(&mut predicted.replies) {
            sort_seats(&mut reply.1);
        }
        replies.sort_by_key(|reply| reply.0);
        predicted.replies.sort_by_key(|reply| reply.0);
        ensure!(
            replies == predicted.replies,
            "replies differ\n  shard: {replies:?}\n  twin:  {:?}",
            predicted.replies
        );
        ensure!(halt == predicted.halt, "halt differs: shard {halt:?}, twin {:?}", predicted.halt);
        for entry in &entries {
            self.newest.0 += 1;
            ensure!(entry.no == self.newest, "entry {} where {} was due", entry.no, self.newest);
        }
        shadow.number(&entries);
        entries.sort_by_key(|entry| Row::of(&entry.fact));
        predicted.entries.sort_by_key(|entry| Row::of(&entry.fact));
        let same = entries.len() == predicted.entries.len()
            && entries.iter().zip(&predicted.entries).all(|(shard, twin)| same_entry(shard, twin));
        ensure!(same, "entries differ\n  shard: {entries:?}\n  twin:  {:?}", predicted.entries);
        Ok(())
    }

    /// The shard stands where the twin stands.
    pub fn check_state(&self, shard: &Shard, shadow: &Shadow, now: Time) -> Verdict {
        if shadow.halted {
            return Ok(());
        }
        let options = shard.options().map(|view| (view.option, view.concert, view.status, view.version));
        let mut options: Vec<_> = options.collect();
        options.sort_unstable();
        let expected = shadow.options.iter().map(|(id, row)| (*id, row.concert, row.status, row.version));
        ensure!(options.into_iter().eq(expected), "options differ");
        for option in shadow.options.keys() {
            let same = shard.seat_states(*option).eq(shadow.seat_states(*option));
            ensure!(
                same,
                "seats of option {option} differ\n  shard: {:?}\n  twin:  {:?}",
                shard.seat_states(*option).collect::<Vec<_>>(),
                shadow.seat_states(*option).collect::<Vec<_>>()
            );
            let same = shard.soft_locks(*option).eq(shadow.soft_locks(*option));
            ensure!(
                same,
                "soft locks of option {option} differ\n  shard: {:?}\n  twin:  {:?}",
                shard.soft_locks(*option).collect::<Vec<_>>(),
                shadow.soft_locks(*option).collect::<Vec<_>>()
            );
        }
        let mut rows: Vec<_> = shard.reservations().collect();
        rows.sort_unstable_by_key(|row| row.id);
        let same = rows.iter().copied().eq(shadow.reservations.values());
        ensure!(same, "reservations differ\n  shard: {rows:?}\n  twin:  {:?}", shadow.reservations);
        ensure!(shard.load() == shadow.load(), "shard {:?}, twin {:?}", shard.load(), shadow.load());
        self.check_wake(shard, shadow, now)
    }

    fn check_wake(&self, shard: &Shard, shadow: &Shadow, now: Time) -> Verdict {
        let wake = shard.next_wake();
        if let Some(deadline) = shadow.next_deadline() {
            ensure!(wake.is_some_and(|wake| wake <= deadline), "wakes at {wake:?}, but {deadline} is due");
        }
        ensure!(wake.is_none_or(|wake| wake > now), "would spin: wakes at {wake:?}, and it is {now}");
        Ok(())
    }

    /// Viewers have the shard's map, and seats are counted once.
    pub fn check_viewers(&mut self, shard: &Shard, ledger: &Ledger) -> Verdict {
        for view in shard.options() {
            let fresh = || (0, vec![SeatState::Available; view.seat_count as usize]);
            let (seq, seats) = self.viewers.entry(view.option).or_insert_with(fresh);
            ensure!(
                *seq == view.feed_seq,
                "option {}: feed at {}, viewers at {seq}",
                view.option,
                view.feed_seq
            );
            let same = shard.seat_states(view.option).eq(seats.iter().copied());
            ensure!(same, "viewers of option {} see something else", view.option);
            let taken = seats.iter().filter(|seat| **seat >= SeatState::Hold).count();
            let rows = shard.reservations().filter(|row| row.option == view.option && row.is_active());
            let reserved: usize = rows.map(|row| row.seats.len()).sum();
            ensure!(taken == reserved, "option {}: {taken} seats taken, {reserved} reserved", view.option);
        }
        for row in shard.reservations() {
            let durable = ledger.reservations.get(&row.id);
            let known = durable.is_some_and(|durable| durable.version >= row.version);
            ensure!(known, "{} version {} is in memory, the ledger has {durable:?}", row.id, row.version);
        }
        Ok(())
    }

    /// Nothing is shown before it is durable, nothing is freed before that is durable.
    pub fn publish(&mut self, change: &SeatChange, ledger: &Ledger) -> Verdict {
        let SeatChange { option, seat, state, feed_seq } = *change;
        let fresh = || (0, Vec::new());
        let (seq, seats) = self.viewers.entry(option).or_insert_with(fresh);
        *seq += 1;
        ensure!(*seq == feed_seq, "option {option}: change {feed_seq} where {seq} was due");
        let Some(shown) = seats.get_mut(seat.0 as usize) else {
            return Err(format!("option {option} has no seat {seat}"));
        };
        ensure!(*shown != state, "seat {seat} of option {option} is shown as {state:?} again");
        *shown = state;
        let owned = ledger.active.contains_key(&(option, seat));
        let taken = matches!(state, SeatState::Hold | SeatState::Confirmed);
        ensure!(
            owned == taken,
            "seat {seat} of option {option} is shown as {state:?}, in the ledger owned: {owned}"
        );
        Ok(())
    }

    /// A grant that was told is durable, and a key is answered the same as the first time.
    pub fn reply(
        &self,
        request: &Request,
        outcome: &Outcome,
        replayed: bool,
        ledger: &Ledger,
        now: Time,
        settings: &Settings,
    ) -> Verdict {
        if let Outcome::Granted(Granted::Reserved { reservation, .. }) = outcome {
            let durable = ledger.events.iter().rev().any(|event| match &event.entry.fact {
                Fact::Reservation(row) => {
                    (row.id, row.version, row.status)
                        == (reservation.id, reservation.version, reservation.status)
                }
                _ => false,
            });
            let row = ledger.reservations.get(&reservation.id);
            let kept = row.is_some_and(|row| row.version >= reservation.version);
            ensure!(durable && kept, "told, but not in the ledger: {reservation:?}");
        }
        let Some(key) = request.key.filter(|_| request.command.reaches_ledger()) else { return Ok(()) };
        let first = ledger.answer(request.caller.user, key, now, settings.idempotency_horizon);
        let Some((first, mark)) = first.and_then(|first| Some((&first.entry, first.entry.request?))) else {
            return Ok(());
        };
        match outcome {
            Outcome::Unavailable(_) => Ok(()),
            Outcome::Refused(refusal) => {
                let reused = mark.content != request.command.content();
                let names_it = matches!(refusal, Refusal::RequestReused | Refusal::OptionUnknown);
                let expected = reused && names_it;
                ensure!(expected, "a granted key is refused: {refusal:?}");
                Ok(())
            }
            Outcome::Granted(granted) => {
                ensure!(mark.content == request.command.content(), "a key is granted for other content");
                let Granted::Reserved { reservation, created } = granted else { return Ok(()) };
                let Fact::Reservation(told) = &first.fact else {
                    return Err(format!("first told {:?}, now {reservation:?}", first.fact));
                };
                let same = told == &**reservation && *created == (told.version == 1);
                ensure!(same, "replayed: {replayed}; first told {told:?}, now {reservation:?}");
                Ok(())
            }
        }
    }

    /// The ledger in itself: the chain, the epochs, and the rows as the events tell them.
    pub fn check_ledger(ledger: &Ledger) -> Verdict {
        let mut rows: BTreeMap<_, Reservation> = BTreeMap::new();
        let (mut seq, mut epoch) = (0, crate::ids::Epoch(0));
        for event in &ledger.events {
            seq += 1;
            ensure!(event.head.event_seq == seq, "event {} where {seq} was due", event.head.event_seq);
            ensure!(event.epoch >= epoch, "event {seq}: the epoch fell from {epoch} to {}", event.epoch);
            epoch = event.epoch;
            if let Fact::Reservation(row) = &event.entry.fact {
                let before = rows.insert(row.id, row.clone()).map_or(0, |row| row.version);
                ensure!(row.version == before + 1, "event {seq}: version {} after {before}", row.version);
            }
        }
        ensure!(rows == ledger.reservations, "the rows are not what the events tell");
        let mut active: BTreeMap<(OptionId, SeatNo), _> = BTreeMap::new();
        for row in rows.values().filter(|row| row.is_active()) {
            for seat in row.seats.iter() {
                let other = active.insert((row.option, seat), row.id);
                ensure!(other.is_none(), "seat {seat} of option {} was sold twice", row.option);
            }
        }
        ensure!(active == ledger.active, "the seat index is not what the events tell");
        Ok(())
    }
}

fn same_entry(shard: &Entry, twin: &Entry) -> bool {
    (shard.at, shard.caller, shard.request, &shard.fact) == (twin.at, twin.caller, twin.request, &twin.fact)
}

/// In which order an answer names seats is nobody's business.
fn sort_seats(outcome: &mut Outcome) {
    match outcome {
        Outcome::Granted(Granted::Selected { seats, .. } | Granted::Released { seats, .. })
        | Outcome::Refused(Refusal::NotSelected(seats)) => seats.sort(),
        Outcome::Refused(Refusal::SeatTaken(conflicts)) => {
            let mut pairs: Vec<_> = conflicts.iter().collect();
            pairs.sort_unstable();
            *conflicts = Conflicts::default();
            for (seat, state) in pairs {
                conflicts.push(seat, state);
            }
        }
        _ => {}
    }
}
