//! Concerts, options and plans.

use std::time::Duration;

use async_trait::async_trait;
use engine::{ConcertId, OptionId, ShardId, Time};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Connection as _, Row as _};

use super::lease::now;
use super::load::body;
use super::sessions::{ask, once};
use super::{PgLedger, row};
use crate::catalogue::{Catalogue, CatalogueError, Concert, ConcertOption, Import, Imported};
use crate::ledger::place::{self, pack, place};

const READ: Duration = Duration::from_secs(10);
/// A stadium's plan over a slow line, and imports take turns.
const IMPORT: Duration = Duration::from_secs(30);

const CONCERTS: &str = "
SELECT c.concert_id, c.title, c.shard, c.created_at, coalesce(p.gate, false)
  FROM concerts c LEFT JOIN policies p USING (concert_id)
 WHERE c.concert_id > $1 ORDER BY c.concert_id LIMIT $2";

const OPTIONS: &str = "
SELECT o.option_id, o.concert_id, o.starts_at, o.status, o.plan_hash, p.seat_count
  FROM options o JOIN plans p USING (plan_hash)
 WHERE o.option_id > $1 ORDER BY o.option_id LIMIT $2";

/// Imports take turns, so that ids and shards are given out once.
const TAKE_TURN: &str = "SELECT shards FROM cluster_meta FOR UPDATE";

const CONCERT_OF_TITLE: &str = "
SELECT c.concert_id, c.title, c.shard, c.created_at, coalesce(p.gate, false), c.own_shard
  FROM concerts c LEFT JOIN policies p USING (concert_id) WHERE c.title = $1";

const SHARDS_TAKEN: &str = "SELECT shard, bool_or(own_shard) FROM concerts GROUP BY shard";

const NEXT_CONCERT: &str = "SELECT coalesce(max(concert_id), 0) + 1 FROM concerts";

const INSERT_CONCERT: &str = "
INSERT INTO concerts (concert_id, title, shard, own_shard, created_at) VALUES ($1, $2, $3, $4, $5)";

const INSERT_PLAN: &str = "
INSERT INTO plans (plan_hash, seat_count, body) VALUES ($1, $2, $3) ON CONFLICT (plan_hash) DO NOTHING";

const INSERT_OPTION: &str = "
INSERT INTO options (option_id, concert_id, starts_at, plan_hash, status, version)
SELECT coalesce(max(option_id), 0) + 1, $1, $2, $3, 0, 0 FROM options
ON CONFLICT (concert_id, starts_at) DO NOTHING
RETURNING option_id";

#[async_trait]
impl Catalogue for PgLedger {
    async fn concerts(&self, after: Option<ConcertId>, limit: u32) -> Result<Vec<Concert>, CatalogueError> {
        let page = ask!(self.readers, READ, session => {
            let rows = sqlx::query(CONCERTS)
                .bind(after.map_or(0, |concert| concert.0.cast_signed()))
                .bind(i64::from(limit))
                .fetch_all(&mut session.connection)
                .await?;
            rows.iter().map(concert).collect()
        });
        Ok(page.await?)
    }

    async fn options(
        &self,
        after: Option<OptionId>,
        limit: u32,
    ) -> Result<Vec<ConcertOption>, CatalogueError> {
        let page = ask!(self.readers, READ, session => {
            let rows = sqlx::query(OPTIONS)
                .bind(after.map_or(0, |option| i64::from(option.0)))
                .bind(i64::from(limit))
                .fetch_all(&mut session.connection)
                .await?;
            rows.iter().map(option).collect()
        });
        Ok(page.await?)
    }

    async fn plan(&self, hash: &str) -> Result<Option<Vec<u8>>, CatalogueError> {
        let plan = ask!(self.readers, READ, session => body(&mut session.connection, hash).await);
        Ok(plan.await?)
    }

    async fn import(&self, import: &Import) -> Result<Imported, CatalogueError> {
        self.may_write()?;
        let (hash, body) = pack(import).await?;
        let imported = once!(self.control, IMPORT, session => {
            let now = now(session).await?;
            let mut tx = session.connection.begin().await?;
            match write(&mut tx, self.options.shards, import, &hash, body, now).await {
                Ok(imported) => tx.commit().await.map(|()| Ok(imported)),
                Err(NotImported::Refused(error)) => tx.rollback().await.map(|()| Err(error)),
                Err(NotImported::Database(error)) => Err(error),
            }
        });
        imported.await?
    }
}

/// Ours to say, or the database's.
enum NotImported {
    Refused(CatalogueError),
    Database(sqlx::Error),
}

impl From<sqlx::Error> for NotImported {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

async fn write(
    connection: &mut PgConnection,
    shards: u16,
    import: &Import,
    hash: &str,
    body: Vec<u8>,
    now: Time,
) -> Result<Imported, NotImported> {
    sqlx::query(TAKE_TURN).fetch_one(&mut *connection).await?;
    let concert = concert_for(connection, shards, import, now).await?;
    let seat_count = import.plan.seat_count();
    sqlx::query(INSERT_PLAN)
        .bind(hash)
        .bind(seat_count.cast_signed())
        .bind(body)
        .execute(&mut *connection)
        .await?;
    let id = sqlx::query(INSERT_OPTION)
        .bind(concert.concert.0.cast_signed())
        .bind(import.starts_at.0)
        .bind(hash)
        .fetch_optional(&mut *connection)
        .await?
        .ok_or_else(|| NotImported::Refused(place::taken(import)))?;
    let option = ConcertOption {
        option: OptionId(row::number::<i64, _>(&id, 0)?),
        concert: concert.concert,
        starts_at: import.starts_at,
        status: None,
        plan_hash: hash.to_owned(),
        seat_count,
    };
    Ok(Imported { concert, option })
}

/// The concert of that title, or a new one.
async fn concert_for(
    connection: &mut PgConnection,
    shards: u16,
    import: &Import,
    now: Time,
) -> Result<Concert, NotImported> {
    let there = sqlx::query(CONCERT_OF_TITLE).bind(&import.title).fetch_optional(&mut *connection).await?;
    if let Some(there) = there {
        if import.own_shard && !there.try_get::<bool, _>(5)? {
            return Err(NotImported::Refused(place::shared(import)));
        }
        return Ok(concert(&there)?);
    }
    let id: i64 = sqlx::query_scalar(NEXT_CONCERT).fetch_one(&mut *connection).await?;
    let taken = sqlx::query(SHARDS_TAKEN).fetch_all(&mut *connection).await?;
    let taken = taken
        .iter()
        .map(|row| Ok((ShardId(row::number::<i32, _>(row, 0)?), row.try_get(1)?)))
        .collect::<Result<Vec<_>, sqlx::Error>>()?;
    let concert = ConcertId(id.cast_unsigned());
    let shard = place(concert, shards, import.own_shard, &taken).map_err(NotImported::Refused)?;
    sqlx::query(INSERT_CONCERT)
        .bind(id)
        .bind(&import.title)
        .bind(i32::from(shard.0))
        .bind(import.own_shard)
        .bind(now.0)
        .execute(connection)
        .await?;
    Ok(Concert { concert, title: import.title.clone(), shard, created_at: now, gated: false })
}

fn concert(row: &PgRow) -> Result<Concert, sqlx::Error> {
    Ok(Concert {
        concert: ConcertId(row::unsigned(row, 0)?),
        title: row.try_get(1)?,
        shard: ShardId(row::number::<i32, _>(row, 2)?),
        created_at: Time(row.try_get(3)?),
        gated: row.try_get(4)?,
    })
}

fn option(row: &PgRow) -> Result<ConcertOption, sqlx::Error> {
    let imported_only = row.try_get::<i16, _>(3)? == 0;
    Ok(ConcertOption {
        option: OptionId(row::number::<i64, _>(row, 0)?),
        concert: ConcertId(row::unsigned(row, 1)?),
        starts_at: Time(row.try_get(2)?),
        status: if imported_only { None } else { Some(row::option_status(row, 3)?) },
        plan_hash: row.try_get(4)?,
        seat_count: row::number::<i32, _>(row, 5)?,
    })
}
