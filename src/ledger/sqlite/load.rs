//! What a restore and a reader need.

use actors::ports::LedgerError;
use engine::entry::{Answered, ChainHead, RequestMark, Restored, RestoredOption, RestoredPolicy, Told};
use engine::option::Policy;
use engine::{ConcertId, OptionId, Reservation, ReservationId, ShardId, Time, UserId};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};
use uuid::Uuid;

use super::SqliteLedger;
use super::error::ledger_error;
use super::row::{self, reservation_columns};
use crate::ledger::never_served;
use crate::ledger::plans::PlanCache;

const OPTIONS: &str = "
SELECT o.option_id, o.concert_id, o.status, o.version, o.plan_hash
  FROM options o JOIN concerts c USING (concert_id)
 WHERE c.shard = ?1 AND o.status > 0 ORDER BY o.option_id";

const PLAN: &str = "SELECT body FROM plans WHERE plan_hash = ?1";

const POLICIES: &str = "
SELECT p.concert_id, p.reservations_per_user, p.gate, p.version
  FROM policies p JOIN concerts c USING (concert_id)
 WHERE c.shard = ?1 ORDER BY p.concert_id";

// The condition is that of the index `reservations_live`, word for word.
const LIVE: &str = concat!(
    "SELECT ",
    reservation_columns!(),
    " FROM reservations r WHERE r.shard = ?1 AND (r.status <= 3 OR (r.status = 4 AND r.payment_started = 1))"
);

// Those that have ended since the horizon. The condition is that of the index `reservations_ended`.
const ENDED: &str = concat!(
    "SELECT ",
    reservation_columns!(),
    " FROM reservations r WHERE r.shard = ?1 AND r.changed_at >= ?2 \
      AND (r.status >= 5 OR (r.status = 4 AND r.payment_started = 0))"
);

const RESERVATION: &str =
    concat!("SELECT ", reservation_columns!(), " FROM reservations r WHERE r.reservation_id = ?1");

const RESERVATIONS_OF: &str = concat!(
    "SELECT ",
    reservation_columns!(),
    " FROM reservations r WHERE r.user_id = ?1 AND (?2 IS NULL OR r.reservation_id < ?2) \
     ORDER BY r.reservation_id DESC LIMIT ?3"
);

// Times rise with the numbers, so the horizon is one place of the log; `at` is asked all the same.
const EVENTS_SINCE: &str = "
SELECT at, caller, request_key, request_content, reservation_id, status, version, deadline
  FROM reservation_events
 WHERE shard = ?1 AND at >= ?2
   AND event_seq >= (SELECT min(event_seq) FROM reservation_events WHERE shard = ?1 AND at >= ?2)
 ORDER BY event_seq";

const HEAD: &str = "
SELECT event_seq, hash FROM reservation_events WHERE shard = ?1 ORDER BY event_seq DESC LIMIT 1";

const NEWEST: &str = "SELECT coalesce(max(at), 0) FROM reservation_events WHERE shard = ?1";

const CLUSTER_ID: &str = "SELECT cluster_id FROM cluster_meta";

/// Shards that have events, by jumping from one to the next.
const HEADS: &str = "
WITH RECURSIVE s (shard) AS (
  SELECT min(shard) FROM reservation_events
  UNION ALL
  SELECT (SELECT min(shard) FROM reservation_events e WHERE e.shard > s.shard) FROM s
   WHERE s.shard IS NOT NULL)
SELECT e.shard, e.event_seq, e.hash FROM s JOIN reservation_events e
    ON e.shard = s.shard
   AND e.event_seq = (SELECT max(event_seq) FROM reservation_events m WHERE m.shard = s.shard)
 ORDER BY e.shard";

impl SqliteLedger {
    /// Two connections read at once, rows here and log there. A shard that is being restored is fenced, so
    /// both stand at the same head; where somebody wrote in between, one connection reads both again.
    pub(super) async fn restored(&self, shard: ShardId, horizon: Time) -> Result<Restored, LedgerError> {
        let rows = async {
            let mut tx = self.readers.begin().await?;
            let rows = state(&mut tx, &self.plans, shard, horizon).await?;
            tx.commit().await.map(|()| rows)
        };
        let log = async {
            let mut tx = self.readers.begin().await?;
            let log = log(&mut tx, shard, horizon).await?;
            tx.commit().await.map(|()| log)
        };
        let (mut rows, mut log) = tokio::try_join!(rows, log).map_err(ledger_error)?;
        if rows.head != log.head {
            let mut tx = self.readers.begin().await.map_err(ledger_error)?;
            rows = state(&mut tx, &self.plans, shard, horizon).await.map_err(ledger_error)?;
            log = self::log(&mut tx, shard, horizon).await.map_err(ledger_error)?;
            tx.commit().await.map_err(ledger_error)?;
        }
        let Restored { answered, newest_event, .. } = log;
        Ok(Restored { answered, newest_event, ..rows })
    }

    pub(super) async fn one_reservation(
        &self,
        id: ReservationId,
    ) -> Result<Option<Reservation>, LedgerError> {
        let mut connection = self.readers.acquire().await.map_err(ledger_error)?;
        reservation(&mut connection, id).await.map_err(ledger_error)
    }

    pub(super) async fn page_of_user(
        &self,
        user: UserId,
        before: Option<ReservationId>,
        limit: u32,
    ) -> Result<Vec<Reservation>, LedgerError> {
        let rows = sqlx::query(RESERVATIONS_OF)
            .bind(user.0.cast_signed())
            .bind(before.map(|id| id.0.to_be_bytes().to_vec()))
            .bind(limit)
            .fetch_all(&self.readers)
            .await
            .map_err(ledger_error)?;
        rows.iter().map(row::reservation).collect::<Result<_, _>>().map_err(ledger_error)
    }

    pub(super) async fn chain_heads(&self) -> Result<Vec<(ShardId, ChainHead)>, LedgerError> {
        let mut connection = self.readers.acquire().await.map_err(ledger_error)?;
        heads(&mut connection).await.map_err(ledger_error)
    }

    pub(super) async fn stored_cluster_id(&self) -> Result<Uuid, LedgerError> {
        let id: Option<Uuid> =
            sqlx::query_scalar(CLUSTER_ID).fetch_optional(&self.readers).await.map_err(ledger_error)?;
        id.ok_or_else(never_served)
    }
}

pub(super) async fn heads(
    connection: &mut SqliteConnection,
) -> Result<Vec<(ShardId, ChainHead)>, sqlx::Error> {
    let rows = sqlx::query(HEADS).fetch_all(connection).await?;
    rows.iter()
        .map(|row| {
            let head = ChainHead { event_seq: row::unsigned(row, 1)?, hash: row::hash(row, 2)? };
            Ok((ShardId(row::number(row, 0)?), head))
        })
        .collect()
}

async fn reservation(
    connection: &mut SqliteConnection,
    id: ReservationId,
) -> Result<Option<Reservation>, sqlx::Error> {
    let row = sqlx::query(RESERVATION).bind(id.0.to_be_bytes().to_vec()).fetch_optional(connection).await?;
    row.as_ref().map(row::reservation).transpose()
}

/// Options, policies and reservations, and the head they stand at.
async fn state(
    connection: &mut SqliteConnection,
    plans: &PlanCache,
    shard: ShardId,
    horizon: Time,
) -> Result<Restored, sqlx::Error> {
    let head = head(connection, shard).await?;
    let options = options(connection, plans, shard).await?;
    let policies = sqlx::query(POLICIES).bind(shard.0).fetch_all(&mut *connection).await?;
    let policies = policies.iter().map(policy).collect::<Result<_, _>>()?;
    let live = sqlx::query(LIVE).bind(shard.0).fetch_all(&mut *connection).await?;
    let ended = sqlx::query(ENDED).bind(shard.0).bind(horizon.0).fetch_all(connection).await?;
    let reservations = live.iter().chain(&ended).map(row::reservation).collect::<Result<_, _>>()?;
    Ok(Restored { options, policies, reservations, head, ..Restored::default() })
}

/// Answered requests and the end of the chain.
async fn log(
    connection: &mut SqliteConnection,
    shard: ShardId,
    horizon: Time,
) -> Result<Restored, sqlx::Error> {
    let events = sqlx::query(EVENTS_SINCE).bind(shard.0).bind(horizon.0).fetch_all(&mut *connection).await?;
    let mut answers = Vec::with_capacity(events.len());
    for event in &events {
        answers.extend(answered(event)?);
    }
    let head = head(connection, shard).await?;
    let newest_event = sqlx::query_scalar(NEWEST).bind(shard.0).fetch_one(connection).await?;
    Ok(Restored { answered: answers, head, newest_event: Time(newest_event), ..Restored::default() })
}

async fn head(connection: &mut SqliteConnection, shard: ShardId) -> Result<ChainHead, sqlx::Error> {
    let row = sqlx::query(HEAD).bind(shard.0).fetch_optional(connection).await?;
    row.map_or(Ok(ChainHead::default()), |row| {
        Ok(ChainHead { event_seq: row::unsigned(&row, 0)?, hash: row::hash(&row, 1)? })
    })
}

async fn options(
    connection: &mut SqliteConnection,
    plans: &PlanCache,
    shard: ShardId,
) -> Result<Vec<RestoredOption>, sqlx::Error> {
    let rows = sqlx::query(OPTIONS).bind(shard.0).fetch_all(&mut *connection).await?;
    let mut options = Vec::with_capacity(rows.len());
    for row in &rows {
        let hash = row.try_get(4)?;
        options.push(RestoredOption {
            option: OptionId(row::number(row, 0)?),
            concert: ConcertId(row::unsigned(row, 1)?),
            status: row::option_status(row, 2)?,
            version: row::number(row, 3)?,
            layout: plans.layout(hash, body(connection, hash)).await?,
        });
    }
    Ok(options)
}

/// A plan by its hash, as stored.
pub(super) async fn body(
    connection: &mut SqliteConnection,
    hash: &str,
) -> Result<Option<Vec<u8>>, sqlx::Error> {
    sqlx::query_scalar(PLAN).bind(hash.to_owned()).fetch_optional(connection).await
}

fn policy(row: &SqliteRow) -> Result<RestoredPolicy, sqlx::Error> {
    Ok(RestoredPolicy {
        concert: ConcertId(row::unsigned(row, 0)?),
        policy: Policy { reservations_per_user: row::number(row, 1)?, gate: row::flag(row, 2)? },
        version: row::number(row, 3)?,
    })
}

/// The request an event answered, if it answered one.
fn answered(event: &SqliteRow) -> Result<Option<Answered>, sqlx::Error> {
    let Some(key) = row::request_key(event, 2)? else { return Ok(None) };
    let id = row::reservation_id(event, 4)?;
    let told = if id == ReservationId(0) {
        Told::Done
    } else {
        Told::Reservation {
            reservation: id,
            status: row::status(event, 5)?,
            version: row::number(event, 6)?,
            deadline: Time(event.try_get(7)?),
        }
    };
    Ok(Some(Answered {
        at: Time(event.try_get(0)?),
        caller: UserId(row::unsigned(event, 1)?),
        request: RequestMark { key, content: row::unsigned(event, 3)? },
        told,
    }))
}
