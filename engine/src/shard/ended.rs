//! Transitions of reservations that left memory, judged from the ledger's row.

use crate::command::{Caller, Command};
use crate::outcome::{Granted, Outcome, Refusal};
use crate::reservation::Reservation;
use crate::settings::Settings;
use crate::shard::transition::{Ruling, is_visible, rule};
use crate::time::Time;

/// What a transition of a reservation that ended before the horizon is answered. Whatever is not
/// ended is in its shard's memory: meeting such a row here means that the shard has just changed, and
/// the caller asks the shard again.
#[must_use]
pub fn judge_ended(row: &Reservation, caller: Caller, command: &Command) -> Outcome {
    if !is_visible(row, caller) {
        return Outcome::Refused(Refusal::ReservationUnknown);
    }
    match rule(row, command, Time(i64::MIN), &Settings::default()) {
        Ruling::Already => {
            Outcome::Granted(Granted::Reserved { reservation: Box::new(row.clone()), created: false })
        }
        Ruling::No(refusal) => Outcome::Refused(refusal),
        Ruling::Enter(..) | Ruling::Lapsed => Outcome::Unavailable(crate::outcome::Unavailable::Overloaded),
    }
}
