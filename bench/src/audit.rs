//! After the run: is what the public can read what the server had answered?

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::task::JoinSet;

use crate::history::{Proof, prove};
use crate::report::model::{Audit, Check};
use crate::run::Measured;
use crate::scenario::rush::{Sale, Status};
use crate::session::{Patience, Session, Via};
use crate::target::Introduced;
use crate::wire::{State, numbers};

/// Differences that are printed of each check.
const DETAILS_MAX: usize = 20;

/// What is known about a sale before and after.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    /// CONFIRMED before the run began.
    pub confirmed_before: usize,
    /// Every seat must be CONFIRMED.
    pub sold_out: bool,
    /// The run was broken off: a last request may have happened without an answer.
    pub stopped: bool,
}

/// What the answers prove by themselves.
pub fn of_answers(measured: &mut Measured) -> Audit {
    let proof = prove(std::mem::take(&mut measured.events));
    let mut audit = Audit {
        refusals: proof.refusals,
        false_refusals: proof.false_refusals.len() as u64,
        double_grants: proof.double_grants.len() as u64,
        ..Audit::default()
    };
    audit.checks.extend(checks(&proof));
    audit
}

fn checks(proof: &Proof) -> [Check; 2] {
    let doubles = proof.double_grants.iter().map(|double| {
        let [one, other] = double.users;
        format!("seat {} was granted to user {one} and to user {other} at once", double.seat)
    });
    let falses = proof.false_refusals.iter().map(|refusal| {
        format!("seat {} was refused to user {} while it was free", refusal.seat, refusal.user)
    });
    [
        check("no seat was anybody else's while it was somebody's", doubles.collect()),
        check(&format!("none of {} refusals was false", proof.refusals), falses.collect()),
    ]
}

/// The rest of it, read back from the server.
pub async fn of_sales(
    audit: &mut Audit,
    at: &Introduced,
    sales: Vec<Sale>,
    expected: Expected,
    connections: usize,
) -> anyhow::Result<()> {
    let doubles = sold_twice(&sales);
    audit.double_sales = doubles.len() as u64;
    audit.checks.push(check("no seat was sold twice", doubles));
    let confirmed: usize =
        sales.iter().filter(|sale| sale.status == Status::Confirmed).map(|sale| sale.seats.len()).sum();
    let count = sales.len();
    let found = read_back(at, sales, connections).await?;
    audit
        .checks
        .push(check(&format!("all {count} acknowledged reservations are what was acknowledged"), found));
    let map = Session::new(at, Via::Http, Arc::default()).look().await?.said;
    let map = map.map_err(|problem| anyhow::anyhow!("{}: {}", problem.code, problem.detail))?;
    audit.checks.extend(counts(map.count(State::Confirmed), map.seat_count(), confirmed, expected));
    Ok(())
}

/// Sold is paid: what the map shows as CONFIRMED is what was there before and what was paid for here.
fn counts(shown: usize, seat_count: usize, confirmed: usize, expected: Expected) -> Vec<Check> {
    let Expected { confirmed_before, sold_out, stopped } = expected;
    let paid = confirmed_before + confirmed;
    let differs = if stopped { shown < paid } else { shown != paid };
    let difference = format!(
        "{shown} seats are CONFIRMED, but {confirmed_before} were before and {confirmed} were paid for here"
    );
    let mut checks = vec![check("sold is paid", differs.then_some(difference).into_iter().collect())];
    if sold_out {
        let left = seat_count - shown.min(seat_count);
        let left = (left > 0).then(|| format!("{left} seats are left"));
        checks.push(check(&format!("all {seat_count} seats are sold"), left.into_iter().collect()));
    }
    checks
}

/// Passed where nothing differs.
pub fn check(what: &str, mut differences: Vec<String>) -> Check {
    let passed = differences.is_empty();
    if let Some(more) = differences.len().checked_sub(DETAILS_MAX).filter(|more| *more > 0) {
        differences.truncate(DETAILS_MAX);
        differences.push(format!("and {more} more"));
    }
    Check { what: what.to_owned(), passed, details: differences }
}

/// Seats that two acknowledged reservations name, of which none was given back.
pub fn sold_twice(sales: &[Sale]) -> Vec<String> {
    let mut owners: BTreeMap<u32, &Sale> = BTreeMap::new();
    let mut found = Vec::new();
    for sale in sales.iter().filter(|sale| sale.status == Status::Confirmed) {
        for seat in &sale.seats {
            if let Some(other) = owners.insert(*seat, sale) {
                found.push(format!("seat {seat} is in {} and in {}", other.reservation, sale.reservation));
            }
        }
    }
    found
}

/// Every acknowledged reservation, read again.
async fn read_back(at: &Introduced, sales: Vec<Sale>, connections: usize) -> anyhow::Result<Vec<String>> {
    let share = sales.len().div_ceil(connections.max(1)).max(1);
    let mut readers = JoinSet::new();
    for chunk in sales.chunks(share) {
        let chunk = chunk.to_vec();
        // A busy server is waited for.
        let patience =
            Patience { insists: true, survive: std::time::Duration::from_secs(30), ..Patience::default() };
        let mut session = Session::new(at, Via::Http, Arc::new(patience));
        readers.spawn(async move {
            let mut found = Vec::new();
            for sale in &chunk {
                found.extend(compare(&mut session, sale).await?);
            }
            anyhow::Ok(found)
        });
    }
    let mut found = Vec::new();
    while let Some(reader) = readers.join_next().await {
        found.extend(reader??);
    }
    Ok(found)
}

async fn compare(session: &mut Session, sale: &Sale) -> anyhow::Result<Option<String>> {
    let read = match session.reservation(&sale.reservation).await?.said {
        Ok(read) => read,
        Err(problem) if problem.code == "RESERVATION_UNKNOWN" => {
            return Ok(Some(format!("{} was acknowledged and is unknown", sale.reservation)));
        }
        Err(problem) => {
            anyhow::bail!("reading a reservation was refused: {}: {}", problem.code, problem.detail)
        }
    };
    let seats = numbers(&read.seats);
    if seats != sale.seats {
        return Ok(Some(format!("{} was for seats {:?} and has {seats:?}", sale.reservation, sale.seats)));
    }
    // What was asked without an answer may have happened; what was acknowledged must have.
    let right = match sale.status {
        Status::Held => true,
        Status::Confirmed => read.status == "CONFIRMED",
        Status::Cancelled => matches!(read.status.as_str(), "CANCELLED" | "REFUNDED"),
    };
    Ok((!right).then(|| format!("{} was acknowledged and is {}", sale.reservation, read.status)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seat_in_two_reservations_is_found() {
        let sale = |reservation: &str, seats: &[u32], status| Sale {
            reservation: reservation.to_owned(),
            seats: seats.to_vec(),
            status,
        };
        let (paid, given_back) = (Status::Confirmed, Status::Cancelled);
        assert!(sold_twice(&[sale("a", &[1, 2], paid), sale("b", &[3], paid)]).is_empty());
        assert!(sold_twice(&[sale("a", &[1, 2], given_back), sale("b", &[2], paid)]).is_empty());
        assert_eq!(
            sold_twice(&[sale("a", &[1, 2], paid), sale("b", &[2], paid)]),
            ["seat 2 is in a and in b"]
        );
    }

    #[test]
    fn what_is_shown_is_what_was_paid() {
        let passed = |shown, confirmed, sold_out, stopped| {
            let expected = Expected { confirmed_before: 10, sold_out, stopped };
            counts(shown, 100, confirmed, expected).iter().all(|check| check.passed)
        };
        assert!(passed(100, 90, true, false));
        assert!(!passed(100, 89, true, false), "somebody else's, or forgotten");
        assert!(!passed(99, 90, true, false), "forgotten");
        assert!(!passed(99, 89, true, false), "not sold out");
        assert!(passed(60, 50, false, false));
        assert!(passed(61, 50, false, true), "the last answer did not come");
        assert!(!passed(59, 50, false, true));
    }

    #[test]
    fn many_differences_are_counted() {
        let many = check("x", (0..25).map(|number| number.to_string()).collect());
        assert_eq!((many.passed, many.details.len(), many.details[20].as_str()), (false, 21, "and 5 more"));
    }
}
