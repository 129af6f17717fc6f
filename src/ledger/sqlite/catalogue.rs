//! Concerts, options and plans.

use async_trait::async_trait;
use engine::{ConcertId, OptionId, ShardId, Time};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};

use super::error::{is_refusal, ledger_error};
use super::{SqliteLedger, body, row};
use crate::catalogue::{Catalogue, CatalogueError, Concert, ConcertOption, Import, Imported};
use crate::ledger::place::{self, pack, place};

const CONCERTS: &str = "
SELECT c.concert_id, c.title, c.shard, c.created_at, coalesce(p.gate, 0)
  FROM concerts c LEFT JOIN policies p USING (concert_id)
 WHERE c.concert_id > ?1 ORDER BY c.concert_id LIMIT ?2";

const OPTIONS: &str = "
SELECT o.option_id, o.concert_id, o.starts_at, o.status, o.plan_hash, p.seat_count
  FROM options o JOIN plans p USING (plan_hash)
 WHERE o.option_id > ?1 ORDER BY o.option_id LIMIT ?2";

const CONCERT_OF_TITLE: &str = "
SELECT c.concert_id, c.title, c.shard, c.created_at, coalesce(p.gate, 0), c.own_shard
  FROM concerts c LEFT JOIN policies p USING (concert_id) WHERE c.title = ?1";

const SHARDS_TAKEN: &str = "SELECT shard, max(own_shard) FROM concerts GROUP BY shard";

const NEXT_CONCERT: &str = "SELECT coalesce(max(concert_id), 0) + 1 FROM concerts";

const INSERT_CONCERT: &str = "
INSERT INTO concerts (concert_id, title, shard, own_shard, created_at) VALUES (?1, ?2, ?3, ?4, ?5)";

const INSERT_PLAN: &str = "
INSERT INTO plans (plan_hash, seat_count, body) VALUES (?1, ?2, ?3) ON CONFLICT (plan_hash) DO NOTHING";

const INSERT_OPTION: &str = "
INSERT INTO options (concert_id, starts_at, plan_hash, status, version) VALUES (?1, ?2, ?3, 0, 0)
ON CONFLICT (concert_id, starts_at) DO NOTHING
RETURNING option_id";

#[async_trait]
impl Catalogue for SqliteLedger {
    async fn concerts(&self, after: Option<ConcertId>, limit: u32) -> Result<Vec<Concert>, CatalogueError> {
        let rows = sqlx::query(CONCERTS)
            .bind(after.map_or(0, |concert| concert.0.cast_signed()))
            .bind(limit)
            .fetch_all(&self.readers)
            .await
            .map_err(failed)?;
        rows.iter().map(concert).collect::<Result<_, _>>().map_err(failed)
    }

    async fn options(
        &self,
        after: Option<OptionId>,
        limit: u32,
    ) -> Result<Vec<ConcertOption>, CatalogueError> {
        let rows = sqlx::query(OPTIONS)
            .bind(after.map_or(0, |option| option.0))
            .bind(limit)
            .fetch_all(&self.readers)
            .await
            .map_err(failed)?;
        rows.iter().map(option).collect::<Result<_, _>>().map_err(failed)
    }

    async fn plan(&self, hash: &str) -> Result<Option<Vec<u8>>, CatalogueError> {
        let mut connection = self.readers.acquire().await.map_err(failed)?;
        body(&mut connection, hash).await.map_err(failed)
    }

    async fn import(&self, import: &Import) -> Result<Imported, CatalogueError> {
        let (hash, body) = pack(import).await?;
        let now = self.clock.now();
        let mut turn = self.writer()?.turn().await.map_err(failed)?;
        let mut tx = turn.begin().await.map_err(failed)?;
        match write(&mut tx, self.options.shards, import, (hash, body), now).await {
            Ok(imported) => match tx.commit().await {
                Ok(()) => Ok(imported),
                Err(error) => {
                    turn.discard();
                    Err(failed(error))
                }
            },
            Err(error) => {
                if tx.rollback().await.is_err() {
                    turn.discard();
                }
                Err(error)
            }
        }
    }
}

fn failed(error: sqlx::Error) -> CatalogueError {
    if is_refusal(&error) { CatalogueError::Refused(error.to_string()) } else { ledger_error(error).into() }
}

async fn write(
    connection: &mut SqliteConnection,
    shards: u16,
    import: &Import,
    (hash, body): (String, Vec<u8>),
    now: Time,
) -> Result<Imported, CatalogueError> {
    let concert = concert_for(connection, shards, import, now).await?;
    let seat_count = import.plan.seat_count();
    sqlx::query(INSERT_PLAN)
        .bind(hash.clone())
        .bind(seat_count)
        .bind(body)
        .execute(&mut *connection)
        .await
        .map_err(failed)?;
    let id = sqlx::query(INSERT_OPTION)
        .bind(concert.concert.0.cast_signed())
        .bind(import.starts_at.0)
        .bind(hash.clone())
        .fetch_optional(&mut *connection)
        .await
        .map_err(failed)?
        .ok_or_else(|| place::taken(import))?;
    let option = ConcertOption {
        option: OptionId(row::number(&id, 0).map_err(failed)?),
        concert: concert.concert,
        starts_at: import.starts_at,
        status: None,
        plan_hash: hash,
        seat_count,
    };
    Ok(Imported { concert, option })
}

/// The concert of that title, or a new one.
async fn concert_for(
    connection: &mut SqliteConnection,
    shards: u16,
    import: &Import,
    now: Time,
) -> Result<Concert, CatalogueError> {
    let there = sqlx::query(CONCERT_OF_TITLE)
        .bind(import.title.clone())
        .fetch_optional(&mut *connection)
        .await
        .map_err(failed)?;
    if let Some(there) = there {
        if import.own_shard && !row::flag(&there, 5).map_err(failed)? {
            return Err(place::shared(import));
        }
        return concert(&there).map_err(failed);
    }
    let id: i64 = sqlx::query_scalar(NEXT_CONCERT).fetch_one(&mut *connection).await.map_err(failed)?;
    let taken = sqlx::query(SHARDS_TAKEN).fetch_all(&mut *connection).await.map_err(failed)?;
    let taken = taken
        .iter()
        .map(|row| Ok((ShardId(row::number(row, 0)?), row::flag(row, 1)?)))
        .collect::<Result<Vec<_>, sqlx::Error>>()
        .map_err(failed)?;
    let shard = place(ConcertId(id.cast_unsigned()), shards, import.own_shard, &taken)?;
    sqlx::query(INSERT_CONCERT)
        .bind(id)
        .bind(import.title.clone())
        .bind(shard.0)
        .bind(import.own_shard)
        .bind(now.0)
        .execute(connection)
        .await
        .map_err(failed)?;
    Ok(Concert {
        concert: ConcertId(id.cast_unsigned()),
        title: import.title.clone(),
        shard,
        created_at: now,
        gated: false,
    })
}

fn concert(row: &SqliteRow) -> Result<Concert, sqlx::Error> {
    Ok(Concert {
        concert: ConcertId(row::unsigned(row, 0)?),
        title: row.try_get(1)?,
        shard: ShardId(row::number(row, 2)?),
        created_at: Time(row.try_get(3)?),
        gated: row::flag(row, 4)?,
    })
}

fn option(row: &SqliteRow) -> Result<ConcertOption, sqlx::Error> {
    let imported_only = row.try_get::<i64, _>(3)? == 0;
    Ok(ConcertOption {
        option: OptionId(row::number(row, 0)?),
        concert: ConcertId(row::unsigned(row, 1)?),
        starts_at: Time(row.try_get(2)?),
        status: if imported_only { None } else { Some(row::option_status(row, 3)?) },
        plan_hash: row.try_get(4)?,
        seat_count: row::number(row, 5)?,
    })
}
