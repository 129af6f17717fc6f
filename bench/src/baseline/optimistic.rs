//! A version for each row: who writes says which version was read, and writes nothing when there is a newer one.

use tokio_postgres::Row;

use super::database::Params;
use super::sales::{is_free, lock};
use super::{Database, Refusal, Seats};

const TRIES: u32 = 3;

const READ: &str = concat!(
    "SELECT seat_no, version, ",
    is_free!(),
    " FROM seats WHERE option_id = 1 AND seat_no = ANY($1) ORDER BY seat_no"
);

const WRITE: &str = concat!(
    "UPDATE seats SET ",
    lock!(),
    " FROM unnest($1::int[], $3::int[]) AS known (seat, version_of_seat)
    WHERE option_id = 1 AND seat_no = seat AND version = version_of_seat
    RETURNING seat_no"
);

pub struct Optimistic(pub Database);

impl Seats for Optimistic {
    fn database(&self) -> &Database {
        &self.0
    }

    async fn select(&self, user: i64, seats: &[i32]) -> Result<(), Refusal> {
        for _ in 0..TRIES {
            let rows = self.0.click(READ, &[&seats, &user]).await?;
            let taken: Vec<i32> = rows.iter().filter(|row| !is_free(row)).map(|row| row.get(0)).collect();
            if !taken.is_empty() {
                return Err(Refusal::Taken(taken));
            }
            let versions: Vec<i32> = rows.iter().map(|row| row.get(1)).collect();
            if self.write(seats.len(), &[&seats, &user, &versions]).await? {
                return Ok(());
            }
        }
        Err(Refusal::Conflict)
    }
}

impl Optimistic {
    /// Whether all of them were as they had been read; otherwise nothing is written.
    async fn write(&self, seats: usize, params: Params<'_>) -> Result<bool, Refusal> {
        // One row is all or nothing by itself.
        if seats == 1 {
            return Ok(self.0.click(WRITE, params).await?.len() == 1);
        }
        let (transaction, rows) = self.0.begin(WRITE, params).await?;
        let all = rows.len() == seats;
        if all {
            transaction.commit().await?;
        } else {
            transaction.roll_back();
        }
        Ok(all)
    }
}

fn is_free(row: &Row) -> bool {
    row.get(2)
}
