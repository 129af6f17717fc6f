//! Columns ↔ values. PostgreSQL knows signed integers only: larger numbers are stored as their two's
//! complement, and a value outside its column's range is corruption, not a default.

use std::fmt::Display;

use actors::row::EventRow;
use engine::entry::RequestMark;
use engine::option::OptionStatus;
use engine::reservation::{Kind, Reservation, Status};
use engine::{
    ChainHead, ConcertId, Epoch, OptionId, RequestKey, ReservationId, SeatList, SeatNo, ShardId, Time, UserId,
};
use sqlx::postgres::{PgRow, Postgres};
use sqlx::{Decode, Row as _, Type, ValueRef as _};
use uuid::Uuid;

/// The columns of [`event`], in its order.
macro_rules! event_columns {
    () => {
        "shard, event_seq, epoch, at, transition, caller, request_key, request_content, concert_id, \
         option_id, reservation_id, user_id, kind, status, version, seats, amount, deadline, created_at, \
         payment_started, reservations_per_user, gate, prev_hash, hash"
    };
}
pub(super) use event_columns;

/// The columns of [`reservation`], in its order, of `reservations r`.
macro_rules! reservation_columns {
    () => {
        "r.reservation_id, r.concert_id, r.option_id, r.user_id, r.kind, r.status, r.version, r.amount, \
         r.deadline, r.payment_started, r.created_at, r.changed_at, ARRAY(SELECT s.seat_no FROM \
         reservation_seats s WHERE s.reservation_id = r.reservation_id ORDER BY s.seat_no)"
    };
}
pub(super) use reservation_columns;

pub(super) fn event(row: &PgRow) -> Result<EventRow, sqlx::Error> {
    let request = match request_key(row, 6)? {
        Some(key) => Some(RequestMark { key, content: unsigned(row, 7)? }),
        None => None,
    };
    let seats: &[u8] = row.try_get(15)?;
    Ok(EventRow {
        shard: ShardId(number::<i32, _>(row, 0)?),
        event_seq: unsigned(row, 1)?,
        epoch: Epoch(unsigned(row, 2)?),
        at: row.try_get(3)?,
        transition: number::<i16, _>(row, 4)?,
        caller: unsigned(row, 5)?,
        request,
        concert: unsigned(row, 8)?,
        option: number::<i64, _>(row, 9)?,
        reservation: reservation_id(row, 10)?,
        user: unsigned(row, 11)?,
        kind: number::<i16, _>(row, 12)?,
        status: number::<i16, _>(row, 13)?,
        version: number::<i64, _>(row, 14)?,
        seats: EventRow::seats_from_bytes(seats).ok_or_else(|| corrupt("seats", "no list of seats"))?,
        amount: row.try_get(16)?,
        deadline: row.try_get(17)?,
        created_at: row.try_get(18)?,
        payment_started: row.try_get(19)?,
        reservations_per_user: number::<i64, _>(row, 20)?,
        gate: row.try_get(21)?,
        prev_hash: hash(row, 22)?,
        hash: hash(row, 23)?,
    })
}

pub(super) fn reservation(row: &PgRow) -> Result<Reservation, sqlx::Error> {
    let seats: Vec<i64> = row.try_get(12)?;
    let seats = seats.into_iter().map(seat).collect::<Result<SeatList, _>>()?;
    Ok(Reservation {
        id: reservation_id(row, 0)?,
        concert: ConcertId(unsigned(row, 1)?),
        option: OptionId(number::<i64, _>(row, 2)?),
        user: UserId(unsigned(row, 3)?),
        kind: pinned(row, 4, Kind::from_number)?,
        status: status(row, 5)?,
        version: number::<i64, _>(row, 6)?,
        amount: row.try_get(7)?,
        deadline: Time(row.try_get(8)?),
        payment_started: row.try_get(9)?,
        created_at: Time(row.try_get(10)?),
        changed_at: Time(row.try_get(11)?),
        seats,
    })
}

/// A shard, and the number and hash of its newest event.
pub(super) fn head(row: &PgRow) -> Result<(ShardId, ChainHead), sqlx::Error> {
    let head = ChainHead { event_seq: unsigned(row, 1)?, hash: hash(row, 2)? };
    Ok((ShardId(number::<i32, _>(row, 0)?), head))
}

pub(super) fn seat(number: i64) -> Result<SeatNo, sqlx::Error> {
    number.try_into().map(SeatNo).map_err(|error| corrupt("seat_no", format_args!("{number}: {error}")))
}

pub(super) fn option_status(row: &PgRow, column: usize) -> Result<OptionStatus, sqlx::Error> {
    pinned(row, column, OptionStatus::from_number)
}

pub(super) fn status(row: &PgRow, column: usize) -> Result<Status, sqlx::Error> {
    pinned(row, column, Status::from_number)
}

pub(super) fn request_key(row: &PgRow, column: usize) -> Result<Option<RequestKey>, sqlx::Error> {
    Ok(row.try_get::<Option<Uuid>, _>(column)?.map(|key| RequestKey(key.as_u128())))
}

pub(super) fn reservation_id(row: &PgRow, column: usize) -> Result<ReservationId, sqlx::Error> {
    Ok(ReservationId(row.try_get::<Uuid, _>(column)?.as_u128()))
}

/// Stored as two's complement.
pub(super) fn unsigned(row: &PgRow, column: usize) -> Result<u64, sqlx::Error> {
    Ok(row.try_get::<i64, _>(column)?.cast_unsigned())
}

/// A number of the column's type `C`.
pub(super) fn number<'r, C, T>(row: &'r PgRow, column: usize) -> Result<T, sqlx::Error>
where
    C: Decode<'r, Postgres> + Type<Postgres> + Display + Copy + TryInto<T, Error: Display>,
{
    let value: C = row.try_get(column)?;
    value.try_into().map_err(|error| corrupt(column, format_args!("{value}: {error}")))
}

/// What a column says that may say nothing.
pub(super) fn maybe<'r, T>(
    row: &'r PgRow,
    column: usize,
    read: fn(&'r PgRow, usize) -> Result<T, sqlx::Error>,
) -> Result<Option<T>, sqlx::Error> {
    if row.try_get_raw(column)?.is_null() { Ok(None) } else { read(row, column).map(Some) }
}

pub(super) fn pinned<T>(row: &PgRow, column: usize, decode: fn(u8) -> Option<T>) -> Result<T, sqlx::Error> {
    let value: u8 = number::<i16, _>(row, column)?;
    decode(value).ok_or_else(|| corrupt(column, format_args!("{value} has no meaning")))
}

pub(super) fn hash(row: &PgRow, column: usize) -> Result<[u8; 32], sqlx::Error> {
    let hash: &[u8] = row.try_get(column)?;
    hash.try_into().map_err(|_| corrupt(column, format_args!("{} bytes instead of 32", hash.len())))
}

pub(super) fn corrupt(column: impl Display, what: impl Display) -> sqlx::Error {
    sqlx::Error::Decode(format!("column {column}: {what}").into())
}
