//! What audits read: one transaction, so that everything in it belongs together.

use actors::ports::LedgerError;
use actors::row::EventRow;
use async_trait::async_trait;
use engine::option::Policy;
use engine::{ChainHead, ConcertId, OptionId, ReservationId, ShardId};
use sqlx::Row as _;
use sqlx::postgres::{PgConnection, PgRow};
use uuid::Uuid;

use super::PgLedger;
use super::error::Failed;
use super::load::{self, BEGIN_SNAPSHOT};
use super::row::{self, event_columns, reservation_columns};
use super::sessions::InUse;
use crate::audit::{Events, Snapshot, StoredOption, StoredPolicy, StoredReservation, StoredSeat};

/// An audit thinks between two pages, and a page may be slow.
const LIMITS: &str =
    "SET LOCAL idle_in_transaction_session_timeout = '5min'; SET LOCAL statement_timeout = '1min'";

const EVENTS: &str = concat!(
    "SELECT ",
    event_columns!(),
    " FROM reservation_events WHERE shard = $1 AND event_seq > $2 ORDER BY event_seq LIMIT $3"
);

const COUNT: &str = "SELECT count(*) FROM reservations";

const RESERVATIONS: &str = concat!(
    "SELECT ",
    reservation_columns!(),
    ", r.shard, ARRAY(SELECT s.option_id FROM reservation_seats s WHERE s.reservation_id = r.reservation_id \
     ORDER BY s.seat_no), ARRAY(SELECT s.active FROM reservation_seats s WHERE s.reservation_id = \
     r.reservation_id ORDER BY s.seat_no) FROM reservations r WHERE $1 IS NULL OR r.reservation_id > $1 \
     ORDER BY r.reservation_id LIMIT $2"
);

const OPTIONS: &str = "
SELECT c.shard, o.option_id, o.concert_id, o.status, o.version
  FROM options o JOIN concerts c USING (concert_id) WHERE o.status > 0 ORDER BY o.option_id";

const POLICIES: &str = "
SELECT c.shard, p.concert_id, p.reservations_per_user, p.gate, p.version
  FROM policies p JOIN concerts c USING (concert_id) ORDER BY p.concert_id";

/// Its connection is closed with it, which ends the transaction.
struct PgSnapshot {
    used: InUse,
}

#[async_trait]
impl Events for PgLedger {
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>, LedgerError> {
        let mut used = self.readers.take().await?;
        let connection = &mut used.session().connection;
        sqlx::raw_sql(BEGIN_SNAPSHOT).execute(&mut *connection).await.map_err(failed)?;
        sqlx::raw_sql(LIMITS).execute(&mut *connection).await.map_err(failed)?;
        // The first read makes the snapshot.
        load::heads(connection).await.map_err(failed)?;
        Ok(Box::new(PgSnapshot { used }))
    }
}

impl PgSnapshot {
    fn connection(&mut self) -> &mut PgConnection {
        &mut self.used.session().connection
    }
}

#[async_trait]
impl Snapshot for PgSnapshot {
    async fn heads(&mut self) -> Result<Vec<(ShardId, ChainHead)>, LedgerError> {
        load::heads(self.connection()).await.map_err(failed)
    }

    async fn events(&mut self, shard: ShardId, after: u64, limit: u32) -> Result<Vec<EventRow>, LedgerError> {
        let rows = sqlx::query(EVENTS)
            .bind(i32::from(shard.0))
            .bind(after.cast_signed())
            .bind(i64::from(limit))
            .fetch_all(self.connection())
            .await
            .map_err(failed)?;
        rows.iter().map(row::event).collect::<Result<_, _>>().map_err(failed)
    }

    async fn reservation_count(&mut self) -> Result<u64, LedgerError> {
        let row = sqlx::query(COUNT).fetch_one(self.connection()).await.map_err(failed)?;
        row::unsigned(&row, 0).map_err(failed)
    }

    async fn reservations(
        &mut self,
        after: Option<ReservationId>,
        limit: u32,
    ) -> Result<Vec<StoredReservation>, LedgerError> {
        let rows = sqlx::query(RESERVATIONS)
            .bind(after.map(|id| Uuid::from_u128(id.0)))
            .bind(i64::from(limit))
            .fetch_all(self.connection())
            .await
            .map_err(failed)?;
        rows.iter().map(stored).collect::<Result<_, _>>().map_err(failed)
    }

    async fn options(&mut self) -> Result<Vec<StoredOption>, LedgerError> {
        let rows = sqlx::query(OPTIONS).fetch_all(self.connection()).await.map_err(failed)?;
        rows.iter().map(option).collect::<Result<_, _>>().map_err(failed)
    }

    async fn policies(&mut self) -> Result<Vec<StoredPolicy>, LedgerError> {
        let rows = sqlx::query(POLICIES).fetch_all(self.connection()).await.map_err(failed)?;
        rows.iter().map(policy).collect::<Result<_, _>>().map_err(failed)
    }
}

fn failed(error: sqlx::Error) -> LedgerError {
    Failed::Sql(error).into()
}

fn stored(row: &PgRow) -> Result<StoredReservation, sqlx::Error> {
    let reservation = row::reservation(row)?;
    let (options, active): (Vec<i64>, Vec<bool>) = (row.try_get(14)?, row.try_get(15)?);
    let seats = reservation.seats.iter().zip(options).zip(active).map(|((seat, option), active)| {
        let option = u32::try_from(option).map_err(|error| sqlx::Error::Decode(error.into()))?;
        Ok(StoredSeat { option: OptionId(option), seat, active })
    });
    let seats = seats.collect::<Result<_, sqlx::Error>>()?;
    Ok(StoredReservation { shard: ShardId(row::number::<i32, _>(row, 13)?), reservation, seats })
}

fn option(row: &PgRow) -> Result<StoredOption, sqlx::Error> {
    Ok(StoredOption {
        shard: ShardId(row::number::<i32, _>(row, 0)?),
        option: OptionId(row::number::<i64, _>(row, 1)?),
        concert: ConcertId(row::unsigned(row, 2)?),
        status: row::option_status(row, 3)?,
        version: row::number::<i64, _>(row, 4)?,
    })
}

fn policy(row: &PgRow) -> Result<StoredPolicy, sqlx::Error> {
    Ok(StoredPolicy {
        shard: ShardId(row::number::<i32, _>(row, 0)?),
        concert: ConcertId(row::unsigned(row, 1)?),
        policy: Policy { reservations_per_user: row::number::<i64, _>(row, 2)?, gate: row.try_get(3)? },
        version: row::number::<i64, _>(row, 4)?,
    })
}
