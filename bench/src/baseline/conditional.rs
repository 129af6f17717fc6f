//! One `UPDATE` that only finds seats that are free.

use super::sales::{is_free, lock, numbers};
use super::{Database, Refusal, Seats};

const UPDATE: &str = concat!(
    "UPDATE seats SET ",
    lock!(),
    " WHERE option_id = 1 AND seat_no = ANY($1) AND ",
    is_free!(),
    " RETURNING seat_no"
);

pub struct Conditional(pub Database);

impl Seats for Conditional {
    fn database(&self) -> &Database {
        &self.0
    }

    async fn select(&self, user: i64, seats: &[i32]) -> Result<(), Refusal> {
        // One row is all or nothing by itself.
        if let [seat] = seats {
            let won = self.0.click(UPDATE, &[&seats, &user]).await?;
            return if won.is_empty() { Err(Refusal::Taken(vec![*seat])) } else { Ok(()) };
        }
        let (transaction, rows) = self.0.begin(UPDATE, &[&seats, &user]).await?;
        let won = numbers(&rows);
        if won.len() == seats.len() {
            return transaction.commit().await;
        }
        transaction.roll_back();
        Err(Refusal::Taken(seats.iter().copied().filter(|seat| !won.contains(seat)).collect()))
    }
}
