//! What a restore and a reader need.

use std::time::Duration;

use actors::ports::LedgerError;
use engine::entry::{Answered, ChainHead, RequestMark, Restored, RestoredOption, RestoredPolicy, Told};
use engine::option::Policy;
use engine::{ConcertId, OptionId, Reservation, ReservationId, ShardId, Time, UserId};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Connection as _, Row as _};
use uuid::Uuid;

use super::PgLedger;
use super::row::{self, reservation_columns};
use super::sessions::ask;
use crate::ledger::never_served;
use crate::ledger::plans::PlanCache;

/// A restore of a shard that sold a stadium.
const RESTORE: Duration = Duration::from_secs(60);
/// Everything that somebody waits for.
const READ: Duration = Duration::from_secs(5);

/// One moment for all statements, on the primary like everything.
pub(super) const BEGIN_SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

const OPTIONS: &str = "
SELECT o.option_id, o.concert_id, o.status, o.version, o.plan_hash
  FROM options o JOIN concerts c USING (concert_id)
 WHERE c.shard = $1 AND o.status > 0 ORDER BY o.option_id";

const PLAN: &str = "SELECT body FROM plans WHERE plan_hash = $1";

const POLICIES: &str = "
SELECT p.concert_id, p.reservations_per_user, p.gate, p.version
  FROM policies p JOIN concerts c USING (concert_id)
 WHERE c.shard = $1 ORDER BY p.concert_id";

// The condition is that of the index `reservations_live`, word for word.
const LIVE: &str = concat!(
    "SELECT ",
    reservation_columns!(),
    " FROM reservations r WHERE r.shard = $1 AND (r.status <= 3 OR (r.status = 4 AND r.payment_started))"
);

// Those that have ended since the horizon. The condition is that of the index `reservations_ended`.
const ENDED: &str = concat!(
    "SELECT ",
    reservation_columns!(),
    " FROM reservations r WHERE r.shard = $1 AND r.changed_at >= $2 \
      AND (r.status >= 5 OR (r.status = 4 AND NOT r.payment_started))"
);

const RESERVATION: &str =
    concat!("SELECT ", reservation_columns!(), " FROM reservations r WHERE r.reservation_id = $1");

const RESERVATIONS_OF: &str = concat!(
    "SELECT ",
    reservation_columns!(),
    " FROM reservations r WHERE r.user_id = $1 AND ($2 IS NULL OR r.reservation_id < $2) \
     ORDER BY r.reservation_id DESC LIMIT $3"
);

// Times rise with the numbers, so the horizon is one place of the log; `at` is asked all the same.
const EVENTS_SINCE: &str = "
SELECT at, caller, request_key, request_content, reservation_id, status, version, deadline
  FROM reservation_events
 WHERE shard = $1 AND at >= $2
   AND event_seq >= (SELECT min(event_seq) FROM reservation_events WHERE shard = $1 AND at >= $2)
 ORDER BY event_seq";

const HEAD: &str = "
SELECT shard, event_seq, hash FROM reservation_events WHERE shard = $1 ORDER BY event_seq DESC LIMIT 1";

const NEWEST: &str = "SELECT coalesce(max(at), 0) FROM reservation_events WHERE shard = $1";

const CLUSTER_ID: &str = "SELECT cluster_id FROM cluster_meta";

/// Shards that have events, by jumping from one to the next.
const HEADS: &str = "
WITH RECURSIVE s (shard) AS (
  (SELECT shard FROM reservation_events ORDER BY shard LIMIT 1)
  UNION ALL
  SELECT (SELECT e.shard FROM reservation_events e WHERE e.shard > s.shard ORDER BY e.shard LIMIT 1) FROM s
   WHERE s.shard IS NOT NULL)
SELECT s.shard, e.event_seq, e.hash
  FROM s CROSS JOIN LATERAL (SELECT event_seq, hash FROM reservation_events e
                              WHERE e.shard = s.shard ORDER BY event_seq DESC LIMIT 1) e
 WHERE s.shard IS NOT NULL ORDER BY s.shard";

impl PgLedger {
    /// Two connections read at once, rows here and log there. A shard that is being restored is fenced, so
    /// both stand at the same head; where somebody wrote in between, one connection reads both again.
    pub(super) async fn restored(&self, shard: ShardId, horizon: Time) -> Result<Restored, LedgerError> {
        let rows = ask!(self.readers, RESTORE, session => {
            let mut tx = session.connection.begin_with(BEGIN_SNAPSHOT).await?;
            let rows = state(&mut tx, &self.plans, shard, horizon).await?;
            tx.commit().await.map(|()| rows)
        });
        let log = ask!(self.readers, RESTORE, session => {
            let mut tx = session.connection.begin_with(BEGIN_SNAPSHOT).await?;
            let log = log(&mut tx, shard, horizon).await?;
            tx.commit().await.map(|()| log)
        });
        let (mut rows, mut log) = tokio::try_join!(rows, log)?;
        if rows.head != log.head {
            let both = ask!(self.readers, RESTORE, session => {
                let mut tx = session.connection.begin_with(BEGIN_SNAPSHOT).await?;
                let rows = state(&mut tx, &self.plans, shard, horizon).await?;
                let log = self::log(&mut tx, shard, horizon).await?;
                tx.commit().await.map(|()| (rows, log))
            });
            (rows, log) = both.await?;
        }
        let Restored { answered, newest_event, .. } = log;
        Ok(Restored { answered, newest_event, ..rows })
    }

    pub(super) async fn one_reservation(
        &self,
        id: ReservationId,
    ) -> Result<Option<Reservation>, LedgerError> {
        let row = ask!(self.readers, READ, session => {
            let query = sqlx::query(RESERVATION).bind(Uuid::from_u128(id.0));
            let row = query.fetch_optional(&mut session.connection).await?;
            row.as_ref().map(row::reservation).transpose()
        });
        Ok(row.await?)
    }

    pub(super) async fn page_of_user(
        &self,
        user: UserId,
        before: Option<ReservationId>,
        limit: u32,
    ) -> Result<Vec<Reservation>, LedgerError> {
        let page = ask!(self.readers, READ, session => {
            let rows = sqlx::query(RESERVATIONS_OF)
                .bind(user.0.cast_signed())
                .bind(before.map(|id| Uuid::from_u128(id.0)))
                .bind(i64::from(limit))
                .fetch_all(&mut session.connection)
                .await?;
            rows.iter().map(row::reservation).collect()
        });
        Ok(page.await?)
    }

    pub(super) async fn chain_heads(&self) -> Result<Vec<(ShardId, ChainHead)>, LedgerError> {
        let heads = ask!(self.readers, READ, session => heads(&mut session.connection).await);
        Ok(heads.await?)
    }

    pub(super) async fn stored_cluster_id(&self) -> Result<Uuid, LedgerError> {
        let id = ask!(self.readers, READ, session => {
            sqlx::query_scalar(CLUSTER_ID).fetch_optional(&mut session.connection).await
        });
        id.await?.ok_or_else(never_served)
    }
}

pub(super) async fn heads(connection: &mut PgConnection) -> Result<Vec<(ShardId, ChainHead)>, sqlx::Error> {
    sqlx::query(HEADS).fetch_all(connection).await?.iter().map(row::head).collect()
}

/// Options, policies and reservations, and the head they stand at.
async fn state(
    connection: &mut PgConnection,
    plans: &PlanCache,
    shard: ShardId,
    horizon: Time,
) -> Result<Restored, sqlx::Error> {
    let id = i32::from(shard.0);
    let head = head(connection, shard).await?;
    let options = options(connection, plans, shard).await?;
    let policies = sqlx::query(POLICIES).bind(id).fetch_all(&mut *connection).await?;
    let policies = policies.iter().map(policy).collect::<Result<_, _>>()?;
    let live = sqlx::query(LIVE).bind(id).fetch_all(&mut *connection).await?;
    let ended = sqlx::query(ENDED).bind(id).bind(horizon.0).fetch_all(connection).await?;
    let reservations = live.iter().chain(&ended).map(row::reservation).collect::<Result<_, _>>()?;
    Ok(Restored { options, policies, reservations, head, ..Restored::default() })
}

/// Answered requests and the end of the chain.
async fn log(connection: &mut PgConnection, shard: ShardId, horizon: Time) -> Result<Restored, sqlx::Error> {
    let id = i32::from(shard.0);
    let events = sqlx::query(EVENTS_SINCE).bind(id).bind(horizon.0).fetch_all(&mut *connection).await?;
    let mut answers = Vec::with_capacity(events.len());
    for event in &events {
        answers.extend(answered(event)?);
    }
    let head = head(connection, shard).await?;
    let newest_event = sqlx::query_scalar(NEWEST).bind(id).fetch_one(connection).await?;
    Ok(Restored { answered: answers, head, newest_event: Time(newest_event), ..Restored::default() })
}

async fn head(connection: &mut PgConnection, shard: ShardId) -> Result<ChainHead, sqlx::Error> {
    let row = sqlx::query(HEAD).bind(i32::from(shard.0)).fetch_optional(connection).await?;
    row.map_or(Ok(ChainHead::default()), |row| row::head(&row).map(|(_, head)| head))
}

async fn options(
    connection: &mut PgConnection,
    plans: &PlanCache,
    shard: ShardId,
) -> Result<Vec<RestoredOption>, sqlx::Error> {
    let rows = sqlx::query(OPTIONS).bind(i32::from(shard.0)).fetch_all(&mut *connection).await?;
    let mut options = Vec::with_capacity(rows.len());
    for row in &rows {
        let hash = row.try_get(4)?;
        options.push(RestoredOption {
            option: OptionId(row::number::<i64, _>(row, 0)?),
            concert: ConcertId(row::unsigned(row, 1)?),
            status: row::option_status(row, 2)?,
            version: row::number::<i64, _>(row, 3)?,
            layout: plans.layout(hash, body(connection, hash)).await?,
        });
    }
    Ok(options)
}

/// A plan by its hash, as stored.
pub(super) async fn body(connection: &mut PgConnection, hash: &str) -> Result<Option<Vec<u8>>, sqlx::Error> {
    sqlx::query_scalar(PLAN).bind(hash).fetch_optional(connection).await
}

fn policy(row: &PgRow) -> Result<RestoredPolicy, sqlx::Error> {
    Ok(RestoredPolicy {
        concert: ConcertId(row::unsigned(row, 0)?),
        policy: Policy { reservations_per_user: row::number::<i64, _>(row, 1)?, gate: row.try_get(2)? },
        version: row::number::<i64, _>(row, 3)?,
    })
}

/// The request an event answered, if it answered one.
fn answered(event: &PgRow) -> Result<Option<Answered>, sqlx::Error> {
    let Some(key) = row::request_key(event, 2)? else { return Ok(None) };
    let id = row::reservation_id(event, 4)?;
    let told = if id == ReservationId(0) {
        Told::Done
    } else {
        Told::Reservation {
            reservation: id,
            status: row::status(event, 5)?,
            version: row::number::<i64, _>(event, 6)?,
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
