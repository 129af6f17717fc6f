//! The write: fence → events → state of the fresh events → every count checked, or nothing at all.

use std::collections::BTreeMap;

use actors::ports::{AppendError, Batch, ShardAnswer};
use actors::row::EventRow;
use engine::entry::Transition;
use engine::{ChainHead, ShardId};
use sqlx::SqliteConnection;

use super::error::{commit_surely_failed, is_refusal, unknown};
use super::{SqliteLedger, row};

mod state;

/// Every shard of the batch, whether it is still ours, and its newest event.
const FENCE: &str = "
SELECT f.value ->> 0, l.shard IS NOT NULL, coalesce(e.event_seq, 0), coalesce(e.hash, zeroblob(32))
  FROM json_each(?1) f
  LEFT JOIN shard_lease l
    ON l.shard = f.value ->> 0 AND l.epoch = f.value ->> 1 AND l.owner = ?2
  LEFT JOIN reservation_events e
    ON e.shard = f.value ->> 0
   AND e.event_seq = (SELECT max(event_seq) FROM reservation_events WHERE shard = f.value ->> 0)";

const HASHES: &str = "
SELECT event_seq, hash FROM reservation_events
 WHERE shard = ?1 AND event_seq BETWEEN ?2 AND ?3 ORDER BY event_seq";

/// Why nothing of the batch may stay.
enum Failure {
    Refused(String),
    OtherHash(String),
    Database(sqlx::Error),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

impl Failure {
    /// The transaction is surely rolled back by whoever asks: nothing was committed yet.
    fn into_append_error(self) -> AppendError {
        match self {
            Self::Refused(reason) => AppendError::Refused(reason),
            Self::OtherHash(reason) => AppendError::OtherHash(reason),
            Self::Database(error) if is_refusal(&error) => AppendError::Refused(error.to_string()),
            Self::Database(error) => unknown(&error, true),
        }
    }
}

pub(super) async fn append(
    ledger: &SqliteLedger,
    batch: &Batch,
) -> Result<Vec<(ShardId, ShardAnswer)>, AppendError> {
    let writer = ledger
        .writer()
        .map_err(|error| AppendError::Unknown { reason: error.to_string(), rolled_back: true })?;
    let mut turn = writer.turn().await.map_err(|error| unknown(&error, true))?;
    let mut tx = turn.begin().await.map_err(|error| unknown(&error, true))?;
    match write(&mut tx, ledger.options.owner, batch).await {
        Ok(answers) => match tx.commit().await {
            Ok(()) => {
                if let Some(checkpointer) = &ledger.checkpointer {
                    checkpointer.wrote(batch.rows.len());
                }
                Ok(answers)
            }
            Err(error) => {
                turn.discard();
                Err(unknown(&error, commit_surely_failed(&error)))
            }
        },
        Err(failure) => {
            if tx.rollback().await.is_err() {
                turn.discard();
            }
            Err(failure.into_append_error())
        }
    }
}

async fn write(
    connection: &mut SqliteConnection,
    owner: u128,
    batch: &Batch,
) -> Result<Vec<(ShardId, ShardAnswer)>, Failure> {
    let heads = fence(connection, owner, batch).await?;
    let mut answers = Vec::with_capacity(batch.fences.len());
    let mut fresh: Vec<&EventRow> = Vec::with_capacity(batch.rows.len());
    let mut rest = batch.rows.as_slice();
    for (shard, _) in &batch.fences {
        let (rows, later) = rest.split_at(rest.iter().take_while(|row| row.shard == *shard).count());
        rest = later;
        let Some(head) = heads.get(shard) else {
            answers.push((*shard, ShardAnswer::Fenced));
            continue;
        };
        let new = split_fresh(connection, *head, rows).await?;
        let answer = if new.is_empty() { ShardAnswer::Duplicate } else { ShardAnswer::Applied };
        answers.push((*shard, answer));
        fresh.extend(new);
    }
    if let Some(stray) = rest.first() {
        return Err(Failure::Refused(format!("a row of shard {} is not behind its fence", stray.shard)));
    }
    if !fresh.is_empty() {
        state::insert_events(connection, &fresh).await?;
        state::change(connection, &fresh).await?;
    }
    Ok(answers)
}

/// The chain heads of those shards that are still ours.
async fn fence(
    connection: &mut SqliteConnection,
    owner: u128,
    batch: &Batch,
) -> Result<BTreeMap<ShardId, ChainHead>, Failure> {
    let pairs: Vec<(u16, u64)> = batch.fences.iter().map(|(shard, epoch)| (shard.0, epoch.0)).collect();
    let pairs = serde_json::to_string(&pairs).expect("integers always serialize");
    let rows =
        sqlx::query(FENCE).bind(pairs).bind(owner.to_be_bytes().to_vec()).fetch_all(connection).await?;
    let mut heads = BTreeMap::new();
    for found in &rows {
        if row::flag(found, 1)? {
            let head = ChainHead { event_seq: row::unsigned(found, 2)?, hash: row::hash(found, 3)? };
            heads.insert(ShardId(row::number(found, 0)?), head);
        }
    }
    Ok(heads)
}

/// One shard's rows behind its head. Those up to the head must be there already, byte for byte.
async fn split_fresh<'a>(
    connection: &mut SqliteConnection,
    head: ChainHead,
    rows: &'a [EventRow],
) -> Result<&'a [EventRow], Failure> {
    let known = rows.iter().take_while(|row| row.event_seq <= head.event_seq).count();
    let (known, fresh) = rows.split_at(known);
    if let ([first, ..], [.., last]) = (known, known) {
        compare(connection, first, last, known).await?;
    }
    let mut before = head;
    for row in fresh {
        if row.event_seq != before.event_seq + 1 {
            let (shard, seq, head) = (row.shard, row.event_seq, before.event_seq);
            return Err(Failure::Refused(format!("event {shard}/{seq} does not follow {head}")));
        }
        if row.prev_hash != before.hash {
            let (shard, seq) = (row.shard, row.event_seq);
            return Err(Failure::OtherHash(format!("event {shard}/{seq} follows another chain")));
        }
        before = ChainHead { event_seq: row.event_seq, hash: row.hash };
    }
    Ok(fresh)
}

async fn compare(
    connection: &mut SqliteConnection,
    first: &EventRow,
    last: &EventRow,
    rows: &[EventRow],
) -> Result<(), Failure> {
    let stored = sqlx::query(HASHES)
        .bind(first.shard.0)
        .bind(first.event_seq.cast_signed())
        .bind(last.event_seq.cast_signed())
        .fetch_all(connection)
        .await?;
    let mut hashes = BTreeMap::new();
    for found in &stored {
        hashes.insert(row::unsigned(found, 0)?, row::hash(found, 1)?);
    }
    for row in rows {
        if hashes.get(&row.event_seq) != Some(&row.hash) {
            return Err(Failure::OtherHash(format!("event {}/{}", row.shard, row.event_seq)));
        }
    }
    Ok(())
}

/// What an event does to the tables of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    /// A reservation is born, with its seats.
    Born,
    /// A reservation moves on, from one of these statuses (a bit per status number).
    Moved {
        from: i64,
        frees_seats: bool,
    },
    Option,
    Policy,
}

impl Effect {
    fn of(row: &EventRow) -> Option<Self> {
        let moved = |from: &[u8], frees_seats| Self::Moved {
            from: from.iter().fold(0, |mask, status| mask | 1 << status),
            frees_seats,
        };
        Some(match row.transition()? {
            Transition::Held | Transition::Blocked => Self::Born,
            Transition::PayingStarted => moved(&[1], false),
            Transition::Confirmed => moved(&[1, 2], false),
            Transition::Cancelled => moved(&[1, 2, 3], true),
            Transition::Refunded => moved(&[4], false),
            Transition::Expired => moved(&[1, 2], true),
            Transition::Unblocked => moved(&[3], true),
            Transition::OptionAdded | Transition::OptionOpened | Transition::OptionClosed => Self::Option,
            Transition::PolicySet => Self::Policy,
        })
    }
}
