//! The statements of a write. Rows go in by multi-row VALUES, in runs of powers of two so that each
//! statement is prepared once: a quarter of the time of `json_each` over the same rows, whose path
//! look-ups cost more than the inserts.

use std::sync::LazyLock;

use actors::row::EventRow;
use sqlx::SqliteConnection;
use sqlx::query::Query;
use sqlx::sqlite::{Sqlite, SqliteArguments};

use super::{Effect, Failure};
use crate::ledger::sqlite::row::event_columns;

/// A statement over a list of rows: for 1, 2, 4, … rows at a time.
struct ForRows {
    head: &'static str,
    tuple: &'static str,
    tail: &'static str,
    built: LazyLock<[String; SIZES]>,
}

const SIZES: usize = 7;

type Bound = Query<'static, Sqlite, SqliteArguments>;

macro_rules! for_rows {
    ($name:ident, $head:expr, $tuple:expr, $tail:expr) => {
        static $name: ForRows = ForRows {
            head: $head,
            tuple: $tuple,
            tail: $tail,
            built: LazyLock::new(|| std::array::from_fn(|size| $name.build(1 << size))),
        };
    };
}

for_rows!(
    INSERT_EVENTS,
    concat!("INSERT INTO reservation_events (", event_columns!(), ") VALUES "),
    "(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
    ""
);
for_rows!(
    INSERT_RESERVATIONS,
    "INSERT INTO reservations (reservation_id, shard, concert_id, option_id, user_id, kind, status, version, \
     amount, deadline, payment_started, created_at, changed_at) VALUES ",
    "(?,?,?,?,?,?,?,?,?,?,?,?,?)",
    ""
);
for_rows!(
    INSERT_SEATS,
    "INSERT INTO reservation_seats (reservation_id, seat_no, option_id, active) VALUES ",
    "(?,?,?,1)",
    ""
);
// The columns of `v`: id, shard, option, user, kind, statuses before, status, version, deadline,
// payment_started, at.
for_rows!(
    UPDATE_RESERVATIONS,
    "UPDATE reservations AS r SET status = v.column7, version = v.column8, deadline = v.column9, \
     payment_started = v.column10, changed_at = v.column11 FROM (VALUES ",
    "(?,?,?,?,?,?,?,?,?,?,?)",
    ") AS v WHERE r.reservation_id = v.column1 AND r.version = v.column8 - 1 AND (v.column6 >> r.status) & 1 \
     AND r.shard = v.column2 AND r.option_id = v.column3 AND r.user_id = v.column4 AND r.kind = v.column5"
);
for_rows!(
    FREE_SEATS,
    "UPDATE reservation_seats SET active = 0 WHERE active = 1 AND reservation_id IN (VALUES ",
    "(?)",
    ")"
);

const CHANGE_OPTION: &str = "
UPDATE options SET status = ?3, version = ?4
 WHERE option_id = ?1 AND concert_id = ?2 AND version = ?4 - 1
   AND ?5 = (SELECT shard FROM concerts WHERE concert_id = ?2)";

const INSERT_POLICY: &str = "
INSERT INTO policies (concert_id, reservations_per_user, gate, version)
SELECT ?1, ?2, ?3, 1 WHERE ?4 = (SELECT shard FROM concerts WHERE concert_id = ?1)";

const CHANGE_POLICY: &str = "
UPDATE policies SET reservations_per_user = ?2, gate = ?3, version = ?4
 WHERE concert_id = ?1 AND version = ?4 - 1
   AND ?5 = (SELECT shard FROM concerts WHERE concert_id = ?1)";

impl ForRows {
    fn build(&self, rows: usize) -> String {
        let Self { head, tuple, tail, .. } = self;
        format!("{head}{}{tail}", vec![*tuple; rows].join(","))
    }

    /// Runs the statement over all rows; answers with how many rows it changed.
    async fn run<T>(
        &'static self,
        connection: &mut SqliteConnection,
        mut rows: &[T],
        bind: impl Fn(Bound, &T) -> Bound,
    ) -> Result<u64, sqlx::Error> {
        let mut changed = 0;
        while let Some(size) = (0..SIZES).rev().find(|size| rows.len() >= 1 << size) {
            let (now, later) = rows.split_at(1 << size);
            let sql: &'static str = &self.built[size];
            let statement = now.iter().fold(sqlx::query(sql), &bind);
            changed += statement.execute(&mut *connection).await?.rows_affected();
            rows = later;
        }
        Ok(changed)
    }
}

pub(super) async fn insert_events(
    connection: &mut SqliteConnection,
    rows: &[&EventRow],
) -> Result<(), Failure> {
    let inserted = INSERT_EVENTS.run(connection, rows, |query, row| bind_event(query, row)).await?;
    expect("events", rows.len(), inserted)
}

/// Brings the tables of state to where the events say they are.
pub(super) async fn change(connection: &mut SqliteConnection, rows: &[&EventRow]) -> Result<(), Failure> {
    let mut born = Vec::new();
    let mut moved = Vec::new();
    let mut freed = Vec::new();
    let mut freed_seats = 0;
    for row in rows {
        match Effect::of(row) {
            Some(Effect::Born) => born.push(*row),
            Some(Effect::Moved { from, frees_seats }) => {
                moved.push((*row, from));
                if frees_seats {
                    freed.push(*row);
                    freed_seats += row.seats.len();
                }
            }
            Some(Effect::Option) => change_option(connection, row).await?,
            Some(Effect::Policy) => change_policy(connection, row).await?,
            None => {
                let (shard, seq, transition) = (row.shard, row.event_seq, row.transition);
                return Err(Failure::Refused(format!("event {shard}/{seq} is of unknown kind {transition}")));
            }
        }
    }
    let inserted = INSERT_RESERVATIONS.run(connection, &born, |query, row| bind_birth(query, row)).await?;
    expect("new reservations", born.len(), inserted)?;
    let updated = UPDATE_RESERVATIONS.run(connection, &moved, bind_move).await?;
    expect("reservations in the state before", moved.len(), updated)?;
    let deactivated = FREE_SEATS.run(connection, &freed, |query, row| query.bind(id(row))).await?;
    expect("seats to free", freed_seats, deactivated)?;
    let seats: Vec<_> =
        born.iter().flat_map(|row| row.seats.iter().map(|seat| (id(row), seat.0, row.option))).collect();
    let taken = INSERT_SEATS
        .run(connection, &seats, |query, (id, seat, option)| query.bind(id.clone()).bind(*seat).bind(*option))
        .await?;
    expect("seats to take", seats.len(), taken)
}

async fn change_option(connection: &mut SqliteConnection, row: &EventRow) -> Result<(), Failure> {
    let changed = sqlx::query(CHANGE_OPTION)
        .bind(row.option)
        .bind(row.concert.cast_signed())
        .bind(row.status)
        .bind(row.version)
        .bind(row.shard.0)
        .execute(connection)
        .await?;
    expect(format_args!("option {} in the version before", row.option), 1, changed.rows_affected())
}

async fn change_policy(connection: &mut SqliteConnection, row: &EventRow) -> Result<(), Failure> {
    let statement = if row.version == 1 {
        sqlx::query(INSERT_POLICY)
            .bind(row.concert.cast_signed())
            .bind(row.reservations_per_user)
            .bind(row.gate)
            .bind(row.shard.0)
    } else {
        sqlx::query(CHANGE_POLICY)
            .bind(row.concert.cast_signed())
            .bind(row.reservations_per_user)
            .bind(row.gate)
            .bind(row.version)
            .bind(row.shard.0)
    };
    let changed = statement.execute(connection).await?;
    expect(
        format_args!("policy of concert {} in the version before", row.concert),
        1,
        changed.rows_affected(),
    )
}

fn expect(what: impl std::fmt::Display, wanted: usize, found: u64) -> Result<(), Failure> {
    if u64::try_from(wanted).is_ok_and(|wanted| wanted == found) {
        return Ok(());
    }
    Err(Failure::Refused(format!("state differs: {found} of {wanted} {what}")))
}

fn id(row: &EventRow) -> Vec<u8> {
    row.reservation.0.to_be_bytes().to_vec()
}

fn bind_event(query: Bound, row: &EventRow) -> Bound {
    query
        .bind(row.shard.0)
        .bind(row.event_seq.cast_signed())
        .bind(row.epoch.0.cast_signed())
        .bind(row.at)
        .bind(row.transition)
        .bind(row.caller.cast_signed())
        .bind(row.request_key_bytes().map(Vec::from))
        .bind(row.request.map(|request| request.content.cast_signed()))
        .bind(row.concert.cast_signed())
        .bind(row.option)
        .bind(id(row))
        .bind(row.user.cast_signed())
        .bind(row.kind)
        .bind(row.status)
        .bind(row.version)
        .bind(row.seats_bytes())
        .bind(row.amount)
        .bind(row.deadline)
        .bind(row.created_at)
        .bind(row.payment_started)
        .bind(row.reservations_per_user)
        .bind(row.gate)
        .bind(row.prev_hash.to_vec())
        .bind(row.hash.to_vec())
}

fn bind_birth(query: Bound, row: &EventRow) -> Bound {
    query
        .bind(id(row))
        .bind(row.shard.0)
        .bind(row.concert.cast_signed())
        .bind(row.option)
        .bind(row.user.cast_signed())
        .bind(row.kind)
        .bind(row.status)
        .bind(row.version)
        .bind(row.amount)
        .bind(row.deadline)
        .bind(row.payment_started)
        .bind(row.created_at)
        .bind(row.at)
}

fn bind_move(query: Bound, (row, from): &(&EventRow, i64)) -> Bound {
    query
        .bind(id(row))
        .bind(row.shard.0)
        .bind(row.option)
        .bind(row.user.cast_signed())
        .bind(row.kind)
        .bind(*from)
        .bind(row.status)
        .bind(row.version)
        .bind(row.deadline)
        .bind(row.payment_started)
        .bind(row.at)
}
