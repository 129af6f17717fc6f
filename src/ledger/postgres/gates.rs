//! How gates are set, what they did, and their draws. Each write is one call of a function in the migration
//! `0002_gates.sql`, whose text says what it does.

use std::time::Duration;

use actors::gates::ports::{
    Admitted, DrawRow, DrawStage, Drawn, Fence, Frozen, GateLedger, GateRow, History, HistoryRow, Written,
};
use actors::ports::LedgerError;
use async_trait::async_trait;
use engine::gate::{Mode, Policy, State};
use engine::{ConcertId, ShardId, Time, Turn, UserId};
use sqlx::Row as _;
use sqlx::postgres::{PgArguments, PgRow, Postgres};

use super::PgLedger;
use super::lease::PATIENCE;
use super::row::{self, corrupt, maybe};
use super::sessions::ask;
use crate::ledger::gates::{LineKind, entrants_bytes, entrants_from_bytes, is_sound};

/// Everything that somebody waits for.
const READ: Duration = Duration::from_secs(5);
/// A million entrants over a slow line.
const DRAWS: Duration = Duration::from_secs(30);

/// The columns of [`gate`], in its order, of `gates g`.
macro_rules! gate_columns {
    () => {
        "g.concert_id, g.version, g.state, g.mode, g.per_second, g.max_active, g.opens_at, g.changed_at"
    };
}

const GATES: &str = concat!(
    "SELECT ",
    gate_columns!(),
    " FROM gates g JOIN concerts c USING (concert_id) WHERE c.shard = $1 ORDER BY g.concert_id"
);

const GATE: &str = concat!("SELECT ", gate_columns!(), " FROM gates g WHERE g.concert_id = $1");

const SET: &str = "SELECT set_gate_v1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";

const NOTE_ADMITTED: &str = "SELECT note_admitted_v1($1, $2, $3, $4, $5, $6, $7)";

const HISTORY: &str = "
SELECT concert_id, version, state, mode, per_second, max_active, opens_at, at, no, kind, changed_by, admitted_since,
       admitted
  FROM gate_history WHERE concert_id = $1 AND no < $2 ORDER BY no DESC LIMIT $3";

const DRAW: &str = "
SELECT concert_id, no, seed, salt_key, committed_at, root, first_turn, upto_turn, published_at, beacon_round,
       beacon_due, entrants, drawn_at, beacon_value
  FROM gate_draws WHERE concert_id = $1 AND ($2::bigint IS NULL OR no = $2) ORDER BY no DESC LIMIT 1";

const DRAW_STAGE: &str = "
SELECT no, root IS NOT NULL, drawn_at IS NOT NULL FROM gate_draws WHERE concert_id = $1 ORDER BY no DESC LIMIT 1";

const SAVE_DRAW: &str =
    "SELECT save_draw_v1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)";

type Query<'q> = sqlx::query::Query<'q, Postgres, PgArguments>;

#[async_trait]
impl GateLedger for PgLedger {
    async fn gates(&self, shard: ShardId) -> Result<Vec<GateRow>, LedgerError> {
        let gates = ask!(self.readers, READ, session => {
            let asked = sqlx::query(GATES).bind(i32::from(shard.0));
            asked.fetch_all(&mut session.connection).await?.iter().map(gate).collect()
        });
        Ok(gates.await?)
    }

    async fn gate(&self, concert: ConcertId) -> Result<Option<GateRow>, LedgerError> {
        let found = ask!(self.readers, READ, session => {
            let asked = sqlx::query(GATE).bind(concert.0.cast_signed());
            asked.fetch_optional(&mut session.connection).await?.as_ref().map(gate).transpose()
        });
        Ok(found.await?)
    }

    async fn set_gate(&self, fence: Fence, row: &GateRow, by: UserId) -> Result<Written, LedgerError> {
        let set = |query: Query<'static>| {
            query
                .bind(row.concert.0.cast_signed())
                .bind(row.version.cast_signed())
                .bind(i16::from(row.policy.state.number()))
                .bind(i16::from(row.policy.mode.number()))
                .bind(row.policy.per_second.map(i64::from))
                .bind(row.policy.max_active.map(i64::from))
                .bind(row.policy.opens_at.map(|at| at.0))
                .bind(row.changed_at.0)
                .bind(by.0.cast_signed())
        };
        self.behind_fence(SET, fence, PATIENCE, set).await
    }

    async fn note_admitted(
        &self,
        fence: Fence,
        concert: ConcertId,
        admitted: Admitted,
    ) -> Result<Written, LedgerError> {
        let note = |query: Query<'static>| {
            query
                .bind(concert.0.cast_signed())
                .bind(admitted.since.0)
                .bind(admitted.until.0)
                .bind(admitted.count.cast_signed())
        };
        self.behind_fence(NOTE_ADMITTED, fence, PATIENCE, note).await
    }

    async fn gate_history(
        &self,
        concert: ConcertId,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<HistoryRow>, LedgerError> {
        let before = before.and_then(|no| i64::try_from(no).ok()).unwrap_or(i64::MAX);
        let lines = ask!(self.readers, READ, session => {
            let asked = sqlx::query(HISTORY).bind(concert.0.cast_signed()).bind(before).bind(i64::from(limit));
            asked.fetch_all(&mut session.connection).await?.iter().map(line).collect()
        });
        Ok(lines.await?)
    }

    async fn draw(&self, concert: ConcertId, no: Option<u32>) -> Result<Option<DrawRow>, LedgerError> {
        let found = ask!(self.readers, DRAWS, session => {
            let asked = sqlx::query(DRAW).bind(concert.0.cast_signed()).bind(no.map(i64::from));
            asked.fetch_optional(&mut session.connection).await?.as_ref().map(draw).transpose()
        });
        Ok(found.await?)
    }

    async fn draw_stage(&self, concert: ConcertId) -> Result<Option<(u32, DrawStage)>, LedgerError> {
        let found = ask!(self.readers, READ, session => {
            let asked = sqlx::query(DRAW_STAGE).bind(concert.0.cast_signed());
            asked.fetch_optional(&mut session.connection).await?.as_ref().map(draw_stage).transpose()
        });
        Ok(found.await?)
    }

    async fn save_draw(&self, fence: Fence, draw: &DrawRow) -> Result<Written, LedgerError> {
        self.may_write()?;
        if !is_sound(draw) {
            return Ok(Written::Conflict);
        }
        let entrants = draw.frozen.as_ref().map(|frozen| entrants_bytes(&frozen.entrants));
        let save = |query| bind_draw(query, draw, entrants.as_deref());
        self.behind_fence(SAVE_DRAW, fence, DRAWS, save).await
    }
}

impl PgLedger {
    /// One call of a function that may be called twice. It waits neither for batches nor for renewals, nor they for it.
    async fn behind_fence<'q>(
        &self,
        statement: &'static str,
        fence: Fence,
        patience: Duration,
        bind: impl Fn(Query<'static>) -> Query<'q> + Send + Sync,
    ) -> Result<Written, LedgerError> {
        self.may_write()?;
        let written = ask!(self.control, patience, session => {
            let generation = session.generation;
            if session.timeline.is_over(fence.epoch) {
                return Ok((generation, Written::Fenced));
            }
            let call = sqlx::query(statement)
                .bind(self.owner())
                .bind(i32::from(fence.shard.0))
                .bind(fence.epoch.0.cast_signed());
            let answer = bind(call).fetch_one(&mut session.connection).await?;
            Ok((generation, self::written(&answer)?))
        });
        let (generation, written) = written.await?;
        if generation != self.connector.generation() {
            return Err(LedgerError::Unavailable(
                "the server that answered is not the primary any more".to_owned(),
            ));
        }
        Ok(written)
    }
}

fn written(row: &PgRow) -> Result<Written, sqlx::Error> {
    Ok(match row.try_get(0)? {
        "done" => Written::Done,
        "fenced" => Written::Fenced,
        "conflict" => Written::Conflict,
        other => return Err(sqlx::Error::Decode(format!("the ledger's function answered {other:?}").into())),
    })
}

/// `$4` to `$17`.
fn bind_draw<'q>(query: Query<'q>, draw: &DrawRow, entrants: Option<&'q [u8]>) -> Query<'q> {
    let frozen = draw.frozen.as_ref();
    let round = frozen.and_then(|frozen| frozen.round);
    query
        .bind(draw.concert.0.cast_signed())
        .bind(i64::from(draw.no))
        .bind(draw.seed)
        .bind(draw.salt_key)
        .bind(draw.committed_at.0)
        .bind(frozen.map(|frozen| i64::from(frozen.first.0)))
        .bind(frozen.map(|frozen| i64::from(frozen.upto.0)))
        .bind(frozen.map(|frozen| frozen.root))
        .bind(frozen.map(|frozen| frozen.published_at.0))
        .bind(round.map(|(round, _)| round.cast_signed()))
        .bind(round.map(|(_, due)| due.0))
        .bind(draw.drawn.map(|drawn| drawn.at.0))
        .bind(draw.drawn.and_then(|drawn| drawn.beacon))
        .bind(entrants)
}

fn gate(row: &PgRow) -> Result<GateRow, sqlx::Error> {
    let policy = Policy {
        state: row::pinned(row, 2, State::from_number)?,
        mode: row::pinned(row, 3, Mode::from_number)?,
        per_second: maybe(row, 4, row::number::<i64, _>)?,
        max_active: maybe(row, 5, row::number::<i64, _>)?,
        opens_at: row.try_get::<Option<i64>, _>(6)?.map(Time),
    };
    Ok(GateRow {
        concert: ConcertId(row::unsigned(row, 0)?),
        version: row::unsigned(row, 1)?,
        policy,
        changed_at: Time(row.try_get(7)?),
    })
}

fn line(row: &PgRow) -> Result<HistoryRow, sqlx::Error> {
    let what = match row::pinned(row, 9, LineKind::from_number)? {
        LineKind::Set => History::Set { row: gate(row)?, by: UserId(row::unsigned(row, 10)?) },
        LineKind::Admitted => History::Admitted(Admitted {
            since: Time(row.try_get(11)?),
            until: Time(row.try_get(7)?),
            count: row::unsigned(row, 12)?,
        }),
    };
    Ok(HistoryRow { no: row::unsigned(row, 8)?, what })
}

fn draw(row: &PgRow) -> Result<DrawRow, sqlx::Error> {
    let draw = DrawRow {
        concert: ConcertId(row::unsigned(row, 0)?),
        no: row::number::<i64, _>(row, 1)?,
        seed: row::hash(row, 2)?,
        salt_key: row::hash(row, 3)?,
        committed_at: Time(row.try_get(4)?),
        frozen: maybe(row, 5, frozen)?,
        drawn: maybe(row, 12, drawn)?,
    };
    if is_sound(&draw) { Ok(draw) } else { Err(corrupt("entrants", "stages that do not follow")) }
}

fn draw_stage(row: &PgRow) -> Result<(u32, DrawStage), sqlx::Error> {
    Ok((row::number::<i64, _>(row, 0)?, DrawStage::of(row.try_get(1)?, row.try_get(2)?)))
}

fn frozen(row: &PgRow, root: usize) -> Result<Frozen, sqlx::Error> {
    let entrants: &[u8] = row.try_get(11)?;
    let round = match maybe(row, 9, row::unsigned)? {
        Some(round) => Some((round, Time(row.try_get(10)?))),
        None => None,
    };
    Ok(Frozen {
        first: Turn(row::number::<i64, _>(row, 6)?),
        upto: Turn(row::number::<i64, _>(row, 7)?),
        entrants: entrants_from_bytes(entrants).ok_or_else(|| corrupt("entrants", "no list of entrants"))?,
        root: row::hash(row, root)?,
        published_at: Time(row.try_get(8)?),
        round,
    })
}

fn drawn(row: &PgRow, at: usize) -> Result<Drawn, sqlx::Error> {
    Ok(Drawn { at: Time(row.try_get(at)?), beacon: maybe(row, 13, row::hash)? })
}
