//! `SELECT … FOR UPDATE`: whoever wants a row waits until nobody else has it, then decides.

use super::sales::{WRITE, is_free};
use super::{Database, Refusal, Seats};

const READ: &str = concat!(
    "SELECT seat_no, ",
    is_free!(),
    " FROM seats WHERE option_id = 1 AND seat_no = ANY($1) ORDER BY seat_no FOR UPDATE"
);

pub struct Pessimistic(pub Database);

impl Seats for Pessimistic {
    fn database(&self) -> &Database {
        &self.0
    }

    async fn select(&self, user: i64, seats: &[i32]) -> Result<(), Refusal> {
        let (transaction, rows) = self.0.begin(READ, &[&seats, &user]).await?;
        let taken: Vec<i32> =
            rows.iter().filter(|row| !row.get::<_, bool>(1)).map(|row| row.get(0)).collect();
        if !taken.is_empty() {
            transaction.roll_back();
            return Err(Refusal::Taken(taken));
        }
        transaction.commit_with(WRITE, &[&seats, &user]).await
    }
}
