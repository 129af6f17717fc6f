//! What follows the click where soft locks are rows: release, hold, confirm, cancel, and the map. One statement each.

use tokio_postgres::Row;
use tokio_postgres::error::SqlState;
use uuid::Uuid;

use super::database::Database;
use super::{CONFIRMED, Refusal, Reservation};

/// Whether a user ($2) may have a seat.
macro_rules! is_free {
    () => {
        "(status = 0 OR status = 1 AND (user_id = $2 OR locked_until < now()))"
    };
}

/// The seat becomes the user's ($2), or stays so for longer.
macro_rules! lock {
    () => {
        "status = 1, user_id = $2, locked_until = now() + interval '30 s', version = version + 1"
    };
}

pub(super) use {is_free, lock};

/// Which of the seats ($1) the user ($2) cannot have.
pub const READ_TAKEN: &str =
    concat!("SELECT seat_no FROM seats WHERE option_id = 1 AND seat_no = ANY($1) AND NOT ", is_free!());

/// Without a condition: whoever has read that they are free, and sees to it that they stay so, may.
pub const WRITE: &str = concat!("UPDATE seats SET ", lock!(), " WHERE option_id = 1 AND seat_no = ANY($1)");

const RELEASE: &str = "
UPDATE seats SET status = 0, version = version + 1
WHERE option_id = 1 AND seat_no = ANY($1) AND status = 1 AND user_id = $2
RETURNING seat_no";

/// All or nothing: the table refuses a reservation with fewer seats.
const HOLD: &str = "
WITH held AS (
    UPDATE seats SET status = 2, version = version + 1
    WHERE option_id = 1 AND seat_no = ANY($2) AND status = 1 AND user_id = $3 AND locked_until > now()
    RETURNING seat_no
)
INSERT INTO reservations (id, user_id, seats, held) SELECT $1, $3, $2, count(*) FROM held";

const CONFIRM: &str = "
WITH sold AS (
    UPDATE reservations SET status = 3 WHERE id = $1 AND status = 2 RETURNING user_id, seats, status
), seats_of_it AS (
    UPDATE seats SET status = 3, version = version + 1 FROM sold
    WHERE option_id = 1 AND seat_no = ANY(sold.seats)
)
SELECT user_id, seats, status FROM sold";

const CANCEL: &str = "
WITH freed AS (
    UPDATE reservations SET status = 4 WHERE id = $1 AND status IN (2, 3) RETURNING user_id, seats, status
), seats_of_it AS (
    UPDATE seats SET status = 0, version = version + 1 FROM freed
    WHERE option_id = 1 AND seat_no = ANY(freed.seats)
)
SELECT user_id, seats, status FROM freed";

const RESERVATION: &str = "SELECT user_id, seats, status FROM reservations WHERE id = $1";

const MAP: &str = "
SELECT seat_no, status FROM seats
WHERE option_id = 1 AND (status > 1 OR status = 1 AND locked_until >= now())";

impl Database {
    pub async fn release(&self, user: i64, seats: &[i32]) -> Result<Vec<i32>, Refusal> {
        Ok(numbers(&self.click(RELEASE, &[&seats, &user]).await?))
    }

    pub async fn hold(&self, user: i64, seats: &[i32]) -> Result<Reservation, Refusal> {
        self.hold_by(HOLD, user, seats).await
    }

    /// By a statement that fails where it must not be. The id is new, $1; then the seats and the user.
    pub async fn hold_by(&self, sql: &str, user: i64, seats: &[i32]) -> Result<Reservation, Refusal> {
        let id = Uuid::now_v7();
        match self.sale(sql, &[&id, &seats, &user]).await? {
            Ok(_) => Ok(Reservation { id, user, seats: seats.to_vec(), status: super::HOLD }),
            Err(error) if error.code() == Some(&SqlState::CHECK_VIOLATION) => Err(Refusal::NotSelected),
            Err(error) if error.code() == Some(&SqlState::UNIQUE_VIOLATION) => {
                Err(Refusal::Taken(seats.to_vec()))
            }
            Err(error) => Err(error.into()),
        }
    }

    pub async fn confirm(&self, id: Uuid) -> Result<Reservation, Refusal> {
        self.transition(CONFIRM, id, CONFIRMED).await
    }

    pub async fn cancel(&self, id: Uuid) -> Result<Reservation, Refusal> {
        self.transition(CANCEL, id, super::CANCELLED).await
    }

    /// By a statement that returns the reservation if it did anything. Who asks again gets the same answer.
    pub async fn transition(&self, sql: &str, id: Uuid, to: i16) -> Result<Reservation, Refusal> {
        if let Some(row) = self.sale(sql, &[&id]).await??.first() {
            return Ok(read(id, row));
        }
        let reservation = self.reservation(id).await?;
        if reservation.status == to { Ok(reservation) } else { Err(Refusal::State) }
    }

    pub async fn reservation(&self, id: Uuid) -> Result<Reservation, Refusal> {
        let rows = self.sale(RESERVATION, &[&id]).await??;
        rows.first().map(|row| read(id, row)).ok_or(Refusal::ReservationUnknown)
    }

    /// Not in a line: clicks would wait behind it.
    pub async fn map(&self) -> Result<Vec<(i32, i16)>, Refusal> {
        let rows = self.sale(MAP, &[]).await??;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }
}

/// The first column.
pub fn numbers(rows: &[Row]) -> Vec<i32> {
    rows.iter().map(|row| row.get(0)).collect()
}

fn read(id: Uuid, row: &Row) -> Reservation {
    Reservation { id, user: row.get(0), seats: row.get(1), status: row.get(2) }
}
