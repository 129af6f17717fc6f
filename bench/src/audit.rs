//! After the run: is what the public can read what the server had answered?

use std::collections::BTreeMap;
use std::sync::Arc;

use hyper::StatusCode;
use tokio::task::JoinSet;

use crate::buyer::{Sale, look};
use crate::client::{Call, Connection};
use crate::rush::{Run, failure};
use crate::wire::{Reservation, State, numbers};

/// What the audit saw.
#[derive(Debug, Default)]
pub struct Findings {
    pub seat_count: usize,
    pub confirmed: usize,
    /// CONFIRMED before the run began.
    pub confirmed_before: usize,
    pub reservations: usize,
    /// The run was stopped, so seats may be left and a last request may have happened without an answer.
    pub stopped: bool,
    /// One sentence each.
    pub differences: Vec<String>,
}

impl Findings {
    pub fn is_clean(&self) -> bool {
        self.differences.is_empty()
    }
}

pub async fn audit(
    run: &Arc<Run>,
    sales: &[Sale],
    confirmed_before: usize,
    stopped: bool,
    connections: usize,
) -> anyhow::Result<Findings> {
    let mut findings =
        Findings { reservations: sales.len(), confirmed_before, stopped, ..Findings::default() };
    findings.differences.extend(sold_twice(sales));
    findings.differences.extend(read_back(run, sales, connections).await?);
    let (map, _) = look(&mut Connection::new(&run.shared), run.option).await.map_err(failure)?;
    findings.seat_count = map.seat_count();
    findings.confirmed = map.count(State::Confirmed);
    let sold: usize = sales.iter().filter(|sale| sale.confirmed).map(|sale| sale.seats.len()).sum();
    let expected = confirmed_before + sold;
    if stopped && findings.confirmed < expected || !stopped && findings.confirmed != expected {
        findings.differences.push(format!(
            "{} seats are CONFIRMED, but {confirmed_before} were before and {sold} were sold here",
            findings.confirmed
        ));
    }
    if !stopped && findings.confirmed != findings.seat_count {
        findings.differences.push(format!("{} seats are left", findings.seat_count - findings.confirmed));
    }
    Ok(findings)
}

/// Seats that two acknowledged reservations name.
fn sold_twice(sales: &[Sale]) -> Vec<String> {
    let mut owners: BTreeMap<u32, &Sale> = BTreeMap::new();
    let mut found = Vec::new();
    for sale in sales {
        for seat in &sale.seats {
            if let Some(other) = owners.insert(*seat, sale) {
                found.push(format!("seat {seat} is in {} and in {}", other.reservation, sale.reservation));
            }
        }
    }
    found
}

/// Every acknowledged reservation, read again.
async fn read_back(run: &Arc<Run>, sales: &[Sale], connections: usize) -> anyhow::Result<Vec<String>> {
    let share = sales.len().div_ceil(connections).max(1);
    let mut readers = JoinSet::new();
    for chunk in sales.chunks(share) {
        let (run, chunk) = (run.clone(), chunk.to_vec());
        readers.spawn(async move {
            let mut connection = Connection::new(&run.shared);
            let mut found = Vec::new();
            for sale in &chunk {
                found.extend(compare(&run, &mut connection, sale).await?);
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

async fn compare(run: &Run, connection: &mut Connection<'_>, sale: &Sale) -> anyhow::Result<Option<String>> {
    let path = format!("/api/v1/reservations/{}", sale.reservation);
    let call = Call { token: Some(&run.payment_token), ..Call::get(path) };
    let answer = connection.call(&call).await.map_err(failure)?;
    if answer.status == StatusCode::NOT_FOUND {
        return Ok(Some(format!("{} was acknowledged and is unknown", sale.reservation)));
    }
    if let Some(problem) = answer.problem()? {
        anyhow::bail!("reading a reservation was refused: {}: {}", problem.code, problem.detail);
    }
    let read: Reservation = answer.json()?;
    let seats = numbers(&read.seats);
    if seats != sale.seats {
        return Ok(Some(format!("{} was for seats {:?} and has {seats:?}", sale.reservation, sale.seats)));
    }
    // A confirmation whose answer did not arrive may have happened; an acknowledged one must have.
    let right =
        read.status == "CONFIRMED" || (!sale.confirmed && matches!(read.status.as_str(), "HOLD" | "EXPIRED"));
    Ok((!right).then(|| format!("{} was acknowledged and is {}", sale.reservation, read.status)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seat_in_two_reservations_is_found() {
        let sale = |reservation: &str, seats: &[u32]| Sale {
            reservation: reservation.to_owned(),
            seats: seats.to_vec(),
            confirmed: true,
        };
        assert!(sold_twice(&[sale("a", &[1, 2]), sale("b", &[3])]).is_empty());
        assert_eq!(sold_twice(&[sale("a", &[1, 2]), sale("b", &[2])]), ["seat 2 is in a and in b"]);
    }
}
