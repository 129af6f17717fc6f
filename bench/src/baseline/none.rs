//! No lock: reads the row and then writes it. Two who do so at once both have the seat.

use super::sales::{READ_TAKEN, WRITE, numbers};
use super::{Database, Refusal, Reservation, SELECTING, Seats};

const READ: &str = "SELECT seat_no, status FROM seats WHERE option_id = 1 AND seat_no = ANY($1)";

/// Without any condition: it was free a moment ago.
const WRITE_HOLD: &str = "
WITH held AS (
    UPDATE seats SET status = 2, user_id = $3 WHERE option_id = 1 AND seat_no = ANY($2) RETURNING seat_no
)
INSERT INTO reservations (id, user_id, seats, held) SELECT $1, $3, $2, count(*) FROM held";

pub struct Unlocked(pub Database);

impl Seats for Unlocked {
    fn database(&self) -> &Database {
        &self.0
    }

    async fn select(&self, user: i64, seats: &[i32]) -> Result<(), Refusal> {
        let taken = numbers(&self.0.click(READ_TAKEN, &[&seats, &user]).await?);
        if !taken.is_empty() {
            return Err(Refusal::Taken(taken));
        }
        self.0.click(WRITE, &[&seats, &user]).await?;
        Ok(())
    }

    /// A seat that is SELECTING was selected by this user: whoever asks knows its number from us.
    async fn hold(&self, user: i64, seats: &[i32]) -> Result<Reservation, Refusal> {
        let rows = self.0.click(READ, &[&seats]).await?;
        let is = |wanted: fn(i16) -> bool| rows.iter().any(|row| wanted(row.get(1)));
        if is(|status| status > SELECTING) {
            return Err(Refusal::Taken(seats.to_vec()));
        }
        if is(|status| status < SELECTING) {
            return Err(Refusal::NotSelected);
        }
        self.0.hold_by(WRITE_HOLD, user, seats).await
    }
}
