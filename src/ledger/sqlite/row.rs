//! Columns ↔ values. SQLite knows signed 64-bit integers only: larger numbers are stored as their
//! two's complement, and a value outside its column's range is corruption, not a default.

use std::fmt::Display;

use actors::row::EventRow;
use engine::entry::RequestMark;
use engine::option::OptionStatus;
use engine::reservation::{Kind, Reservation, Status};
use engine::{
    ConcertId, Epoch, OptionId, RequestKey, ReservationId, SeatList, SeatNo, ShardId, Time, UserId,
};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, ValueRef as _};

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
         r.deadline, r.payment_started, r.created_at, r.changed_at, (SELECT group_concat(s.seat_no) FROM \
         reservation_seats s WHERE s.reservation_id = r.reservation_id)"
    };
}
pub(super) use reservation_columns;

pub(super) fn event(row: &SqliteRow) -> Result<EventRow, sqlx::Error> {
    let request = match request_key(row, 6)? {
        Some(key) => Some(RequestMark { key, content: unsigned(row, 7)? }),
        None => None,
    };
    let seats: &[u8] = row.try_get(15)?;
    Ok(EventRow {
        shard: ShardId(number(row, 0)?),
        event_seq: unsigned(row, 1)?,
        epoch: Epoch(unsigned(row, 2)?),
        at: row.try_get(3)?,
        transition: number(row, 4)?,
        caller: unsigned(row, 5)?,
        request,
        concert: unsigned(row, 8)?,
        option: number(row, 9)?,
        reservation: reservation_id(row, 10)?,
        user: unsigned(row, 11)?,
        kind: number(row, 12)?,
        status: number(row, 13)?,
        version: number(row, 14)?,
        seats: EventRow::seats_from_bytes(seats).ok_or_else(|| corrupt("seats", "no list of seats"))?,
        amount: row.try_get(16)?,
        deadline: row.try_get(17)?,
        created_at: row.try_get(18)?,
        payment_started: flag(row, 19)?,
        reservations_per_user: number(row, 20)?,
        gate: flag(row, 21)?,
        prev_hash: hash(row, 22)?,
        hash: hash(row, 23)?,
    })
}

pub(super) fn reservation(row: &SqliteRow) -> Result<Reservation, sqlx::Error> {
    let seats: Option<&str> = row.try_get(12)?;
    Ok(Reservation {
        id: reservation_id(row, 0)?,
        concert: ConcertId(unsigned(row, 1)?),
        option: OptionId(number(row, 2)?),
        user: UserId(unsigned(row, 3)?),
        kind: pinned(row, 4, Kind::from_number)?,
        status: status(row, 5)?,
        version: number(row, 6)?,
        amount: row.try_get(7)?,
        deadline: Time(row.try_get(8)?),
        payment_started: flag(row, 9)?,
        created_at: Time(row.try_get(10)?),
        changed_at: Time(row.try_get(11)?),
        seats: seat_list(seats.unwrap_or_default())?,
    })
}

/// What `group_concat(seat_no)` says, ascending.
fn seat_list(text: &str) -> Result<SeatList, sqlx::Error> {
    let mut seats = SeatList::default();
    for seat in text.split(',').filter(|seat| !seat.is_empty()) {
        seats.push(SeatNo(seat.parse().map_err(|error| corrupt("seat_no", error))?));
    }
    seats.sort();
    Ok(seats)
}

pub(super) fn option_status(row: &SqliteRow, column: usize) -> Result<OptionStatus, sqlx::Error> {
    pinned(row, column, OptionStatus::from_number)
}

pub(super) fn status(row: &SqliteRow, column: usize) -> Result<Status, sqlx::Error> {
    pinned(row, column, Status::from_number)
}

pub(super) fn request_key(row: &SqliteRow, column: usize) -> Result<Option<RequestKey>, sqlx::Error> {
    let key: Option<&[u8]> = row.try_get(column)?;
    key.map(|key| bytes("request_key", key).map(|key| RequestKey(u128::from_be_bytes(key)))).transpose()
}

pub(super) fn reservation_id(row: &SqliteRow, column: usize) -> Result<ReservationId, sqlx::Error> {
    let id: &[u8] = row.try_get(column)?;
    Ok(ReservationId(u128::from_be_bytes(bytes("reservation_id", id)?)))
}

pub(super) fn owner(row: &SqliteRow, column: usize) -> Result<u128, sqlx::Error> {
    let id: &[u8] = row.try_get(column)?;
    Ok(u128::from_be_bytes(bytes("owner", id)?))
}

pub(super) fn hash(row: &SqliteRow, column: usize) -> Result<[u8; 32], sqlx::Error> {
    bytes("hash", row.try_get(column)?)
}

/// Stored as two's complement.
pub(super) fn unsigned(row: &SqliteRow, column: usize) -> Result<u64, sqlx::Error> {
    Ok(row.try_get::<i64, _>(column)?.cast_unsigned())
}

pub(super) fn number<T: TryFrom<i64, Error: Display>>(
    row: &SqliteRow,
    column: usize,
) -> Result<T, sqlx::Error> {
    let value: i64 = row.try_get(column)?;
    value.try_into().map_err(|error| corrupt(column, format_args!("{value}: {error}")))
}

/// What a column says that may say nothing. (SQLite reads nothing as 0.)
pub(super) fn maybe<'r, T>(
    row: &'r SqliteRow,
    column: usize,
    read: fn(&'r SqliteRow, usize) -> Result<T, sqlx::Error>,
) -> Result<Option<T>, sqlx::Error> {
    if row.try_get_raw(column)?.is_null() { Ok(None) } else { read(row, column).map(Some) }
}

/// What a column says that says something in rows of this kind.
pub(super) fn surely<'r, T>(
    row: &'r SqliteRow,
    column: usize,
    read: fn(&'r SqliteRow, usize) -> Result<T, sqlx::Error>,
) -> Result<T, sqlx::Error> {
    maybe(row, column, read)?.ok_or_else(|| corrupt(column, "it is empty"))
}

pub(super) fn time(row: &SqliteRow, column: usize) -> Result<Time, sqlx::Error> {
    Ok(Time(row.try_get(column)?))
}

pub(super) fn flag(row: &SqliteRow, column: usize) -> Result<bool, sqlx::Error> {
    Ok(row.try_get::<i64, _>(column)? != 0)
}

pub(super) fn pinned<T>(
    row: &SqliteRow,
    column: usize,
    decode: fn(u8) -> Option<T>,
) -> Result<T, sqlx::Error> {
    let value: u8 = number(row, column)?;
    decode(value).ok_or_else(|| corrupt(column, format_args!("{value} has no meaning")))
}

fn bytes<const N: usize>(column: &str, value: &[u8]) -> Result<[u8; N], sqlx::Error> {
    value.try_into().map_err(|_| corrupt(column, format_args!("{} bytes instead of {N}", value.len())))
}

pub(super) fn corrupt(column: impl Display, what: impl Display) -> sqlx::Error {
    sqlx::Error::Decode(format!("column {column}: {what}").into())
}
