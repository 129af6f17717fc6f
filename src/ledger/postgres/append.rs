//! The write: one call of `append_batch_v1`, whose text says what it does.

use actors::ports::{AppendError, Batch, ShardAnswer};
use actors::row::EventRow;
use engine::{Epoch, ShardId};
use sqlx::Row as _;
use sqlx::postgres::{PgArguments, PgRow, Postgres};
use sqlx::query::Query;
use uuid::Uuid;

use super::PgLedger;
use super::connect::Session;
use super::sessions::once;

const APPEND: &str = "
SELECT o_shard, o_answer FROM append_batch_v1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16,
  $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27)";

type Answers = Vec<(ShardId, ShardAnswer)>;

pub(super) async fn append(ledger: &PgLedger, batch: &Batch) -> Result<Answers, AppendError> {
    let unwritten = |reason: String| AppendError::Unknown { reason, rolled_back: false };
    ledger.may_write().map_err(|error| unwritten(error.to_string()))?;
    check_order(batch)?;
    // The server gives up first, where it can.
    let patience = ledger.statement_limit() * 2;
    let written = once!(ledger.writer, patience, session => {
        let generation = session.generation;
        let timeline = session.timeline;
        let over = |(_, epoch): &(ShardId, Epoch)| timeline.is_over(*epoch);
        let (dead, living): (Vec<_>, Vec<_>) = batch.fences.iter().copied().partition(over);
        let mut answers = call(session, ledger.options.owner, batch, &living).await?;
        answers.extend(dead.iter().map(|(shard, _)| (*shard, ShardAnswer::Fenced)));
        answers.sort_unstable_by_key(|(shard, _)| *shard);
        Ok((generation, answers))
    });
    let (generation, answers) = written.await?;
    if generation != ledger.connector.generation() {
        return Err(unwritten("the server that answered is not the primary any more".to_owned()));
    }
    Ok(answers)
}

/// What the function relies on: rows by shard and number, each behind a fence.
fn check_order(batch: &Batch) -> Result<(), AppendError> {
    let ordered = batch
        .rows
        .is_sorted_by(|a, b| a.shard < b.shard || (a.shard == b.shard && a.event_seq < b.event_seq));
    let stray = batch.rows.iter().find(|row| !batch.fences.iter().any(|(shard, _)| *shard == row.shard));
    match stray {
        Some(row) => {
            Err(AppendError::Refused(format!("a row of shard {} is not behind its fence", row.shard)))
        }
        None if !ordered => Err(AppendError::Refused("the rows are not in order".to_owned())),
        None => Ok(()),
    }
}

async fn call(
    session: &mut Session,
    owner: u128,
    batch: &Batch,
    fences: &[(ShardId, Epoch)],
) -> Result<Answers, sqlx::Error> {
    if fences.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<&EventRow> =
        batch.rows.iter().filter(|row| fences.iter().any(|(shard, _)| *shard == row.shard)).collect();
    let fence_shards: Vec<i32> = fences.iter().map(|(shard, _)| shard.0.into()).collect();
    let fence_epochs: Vec<i64> = fences.iter().map(|(_, epoch)| epoch.0.cast_signed()).collect();
    let query = sqlx::query(APPEND).bind(Uuid::from_u128(owner)).bind(fence_shards).bind(fence_epochs);
    let answers = bind_rows(query, &rows).fetch_all(&mut session.connection).await?;
    answers.iter().map(answer).collect()
}

type Bound<'q> = Query<'q, Postgres, PgArguments>;

/// Column by column, in the order of the table.
fn bind_rows<'q>(query: Bound<'q>, rows: &[&EventRow]) -> Bound<'q> {
    query
        .bind(column(rows, |row| i32::from(row.shard.0)))
        .bind(column(rows, |row| row.event_seq.cast_signed()))
        .bind(column(rows, |row| row.epoch.0.cast_signed()))
        .bind(column(rows, |row| row.at))
        .bind(column(rows, |row| i16::from(row.transition)))
        .bind(column(rows, |row| row.caller.cast_signed()))
        .bind(column(rows, |row| row.request.map(|request| Uuid::from_u128(request.key.0))))
        .bind(column(rows, |row| row.request.map(|request| request.content.cast_signed())))
        .bind(column(rows, |row| row.concert.cast_signed()))
        .bind(column(rows, |row| i64::from(row.option)))
        .bind(column(rows, |row| Uuid::from_u128(row.reservation.0)))
        .bind(column(rows, |row| row.user.cast_signed()))
        .bind(column(rows, |row| i16::from(row.kind)))
        .bind(column(rows, |row| i16::from(row.status)))
        .bind(column(rows, |row| i64::from(row.version)))
        .bind(column(rows, |row| row.seats_bytes()))
        .bind(column(rows, |row| row.amount))
        .bind(column(rows, |row| row.deadline))
        .bind(column(rows, |row| row.created_at))
        .bind(column(rows, |row| row.payment_started))
        .bind(column(rows, |row| i64::from(row.reservations_per_user)))
        .bind(column(rows, |row| row.gate))
        .bind(column(rows, |row| row.prev_hash))
        .bind(column(rows, |row| row.hash))
}

fn column<T>(rows: &[&EventRow], value: impl Fn(&EventRow) -> T) -> Vec<T> {
    rows.iter().map(|row| value(row)).collect()
}

fn answer(row: &PgRow) -> Result<(ShardId, ShardAnswer), sqlx::Error> {
    let answer = match row.try_get(1)? {
        "applied" => ShardAnswer::Applied,
        "duplicate" => ShardAnswer::Duplicate,
        "fenced" => ShardAnswer::Fenced,
        other => return Err(sqlx::Error::Decode(format!("append_batch answered {other:?}").into())),
    };
    Ok((ShardId(super::row::number::<i32, _>(row, 0)?), answer))
}
