//! What audits read: one transaction, so that everything in it belongs together.

use actors::ports::LedgerError;
use actors::row::EventRow;
use async_trait::async_trait;
use engine::option::Policy;
use engine::{ChainHead, ConcertId, OptionId, ReservationId, SeatNo, ShardId};
use sqlx::sqlite::{Sqlite, SqliteRow};
use sqlx::{Row as _, Transaction};

use super::error::ledger_error;
use super::row::{self, event_columns, reservation_columns};
use super::{SqliteLedger, load};
use crate::audit::{Events, Snapshot, StoredOption, StoredPolicy, StoredReservation, StoredSeat};

const EVENTS: &str = concat!(
    "SELECT ",
    event_columns!(),
    " FROM reservation_events WHERE shard = ?1 AND event_seq > ?2 ORDER BY event_seq LIMIT ?3"
);

const COUNT: &str = "SELECT count(*) FROM reservations";

const RESERVATIONS: &str = concat!(
    "SELECT ",
    reservation_columns!(),
    ", r.shard, (SELECT group_concat(s.seat_no || ' ' || s.option_id || ' ' || s.active) FROM \
     reservation_seats s WHERE s.reservation_id = r.reservation_id) FROM reservations r \
     WHERE r.reservation_id > ?1 ORDER BY r.reservation_id LIMIT ?2"
);

const OPTIONS: &str = "
SELECT c.shard, o.option_id, o.concert_id, o.status, o.version
  FROM options o JOIN concerts c USING (concert_id) WHERE o.status > 0 ORDER BY o.option_id";

const POLICIES: &str = "
SELECT c.shard, p.concert_id, p.reservations_per_user, p.gate, p.version
  FROM policies p JOIN concerts c USING (concert_id) ORDER BY p.concert_id";

struct SqliteSnapshot {
    tx: Transaction<'static, Sqlite>,
}

#[async_trait]
impl Events for SqliteLedger {
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>, LedgerError> {
        let mut tx = self.readers.begin().await.map_err(ledger_error)?;
        // A deferred transaction begins with its first read.
        load::heads(&mut tx).await.map_err(ledger_error)?;
        Ok(Box::new(SqliteSnapshot { tx }))
    }
}

#[async_trait]
impl Snapshot for SqliteSnapshot {
    async fn heads(&mut self) -> Result<Vec<(ShardId, ChainHead)>, LedgerError> {
        load::heads(&mut self.tx).await.map_err(ledger_error)
    }

    async fn events(&mut self, shard: ShardId, after: u64, limit: u32) -> Result<Vec<EventRow>, LedgerError> {
        let rows = sqlx::query(EVENTS)
            .bind(shard.0)
            .bind(after.cast_signed())
            .bind(limit)
            .fetch_all(&mut *self.tx)
            .await
            .map_err(ledger_error)?;
        rows.iter().map(row::event).collect::<Result<_, _>>().map_err(ledger_error)
    }

    async fn reservation_count(&mut self) -> Result<u64, LedgerError> {
        let row = sqlx::query(COUNT).fetch_one(&mut *self.tx).await.map_err(ledger_error)?;
        row::unsigned(&row, 0).map_err(ledger_error)
    }

    async fn reservations(
        &mut self,
        after: Option<ReservationId>,
        limit: u32,
    ) -> Result<Vec<StoredReservation>, LedgerError> {
        let rows = sqlx::query(RESERVATIONS)
            .bind(after.map_or(Vec::new(), |id| id.0.to_be_bytes().to_vec()))
            .bind(limit)
            .fetch_all(&mut *self.tx)
            .await
            .map_err(ledger_error)?;
        rows.iter().map(stored).collect::<Result<_, _>>().map_err(ledger_error)
    }

    async fn options(&mut self) -> Result<Vec<StoredOption>, LedgerError> {
        let rows = sqlx::query(OPTIONS).fetch_all(&mut *self.tx).await.map_err(ledger_error)?;
        rows.iter().map(option).collect::<Result<_, _>>().map_err(ledger_error)
    }

    async fn policies(&mut self) -> Result<Vec<StoredPolicy>, LedgerError> {
        let rows = sqlx::query(POLICIES).fetch_all(&mut *self.tx).await.map_err(ledger_error)?;
        rows.iter().map(policy).collect::<Result<_, _>>().map_err(ledger_error)
    }
}

fn stored(row: &SqliteRow) -> Result<StoredReservation, sqlx::Error> {
    let seats: Option<&str> = row.try_get(14)?;
    let mut seats = seats
        .unwrap_or_default()
        .split(',')
        .filter(|seat| !seat.is_empty())
        .map(seat)
        .collect::<Result<Vec<_>, _>>()?;
    seats.sort_unstable_by_key(|seat| seat.seat);
    Ok(StoredReservation {
        shard: ShardId(row::number(row, 13)?),
        reservation: row::reservation(row)?,
        seats,
    })
}

/// `seat_no option_id active`.
fn seat(text: &str) -> Result<StoredSeat, sqlx::Error> {
    let mut numbers = text.split(' ').map(str::parse::<u32>);
    match (numbers.next(), numbers.next(), numbers.next()) {
        (Some(Ok(seat)), Some(Ok(option)), Some(Ok(active))) => {
            Ok(StoredSeat { option: OptionId(option), seat: SeatNo(seat), active: active != 0 })
        }
        _ => Err(sqlx::Error::Decode(format!("reservation_seats: {text}").into())),
    }
}

fn option(row: &SqliteRow) -> Result<StoredOption, sqlx::Error> {
    Ok(StoredOption {
        shard: ShardId(row::number(row, 0)?),
        option: OptionId(row::number(row, 1)?),
        concert: ConcertId(row::unsigned(row, 2)?),
        status: row::option_status(row, 3)?,
        version: row::number(row, 4)?,
    })
}

fn policy(row: &SqliteRow) -> Result<StoredPolicy, sqlx::Error> {
    Ok(StoredPolicy {
        shard: ShardId(row::number(row, 0)?),
        concert: ConcertId(row::unsigned(row, 1)?),
        policy: Policy { reservations_per_user: row::number(row, 2)?, gate: row::flag(row, 3)? },
        version: row::number(row, 4)?,
    })
}
