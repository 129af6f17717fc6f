//! How gates are set, what they did, and their draws.

use actors::gates::ports::{
    Admitted, DrawRow, DrawStage, Drawn, Fence, Frozen, GateLedger, GateRow, History, HistoryRow, Written,
};
use actors::ports::LedgerError;
use async_trait::async_trait;
use engine::gate::{Mode, Policy, State};
use engine::{ConcertId, ShardId, Turn, UserId};
use sqlx::sqlite::{Sqlite, SqliteArguments, SqliteRow};
use sqlx::{Row as _, SqliteConnection};

use super::SqliteLedger;
use super::error::ledger_error;
use super::row::{self, corrupt, maybe, surely};
use crate::ledger::gates::{LineKind, entrants_bytes, entrants_from_bytes, is_sound};

/// The columns of [`gate`], in its order, of `gates g`.
macro_rules! gate_columns {
    () => {
        "g.concert_id, g.version, g.state, g.mode, g.per_second, g.max_active, g.opens_at, g.changed_at"
    };
}

const GATES: &str = concat!(
    "SELECT ",
    gate_columns!(),
    " FROM gates g JOIN concerts c USING (concert_id) WHERE c.shard = ?1 ORDER BY g.concert_id"
);

const GATE: &str = concat!("SELECT ", gate_columns!(), " FROM gates g WHERE g.concert_id = ?1");

const OWNS_CONCERT: &str = "
SELECT 1 FROM concerts c JOIN shard_lease l USING (shard)
 WHERE c.concert_id = ?1 AND l.shard = ?2 AND l.epoch = ?3 AND l.owner = ?4";

const SET: &str = "
INSERT INTO gates AS g (concert_id, version, state, mode, per_second, max_active, opens_at, changed_at)
SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8
 WHERE ?2 = 1 OR (?2 > 1 AND EXISTS (SELECT 1 FROM gates x WHERE x.concert_id = ?1))
ON CONFLICT (concert_id) DO UPDATE
   SET version = excluded.version, state = excluded.state, mode = excluded.mode, per_second = excluded.per_second,
       max_active = excluded.max_active, opens_at = excluded.opens_at, changed_at = excluded.changed_at
 WHERE g.version + 1 = excluded.version";

const NOTE_SET: &str = "
INSERT INTO gate_history (concert_id, no, kind, at, changed_by, version, state, mode, per_second, max_active, opens_at)
SELECT ?1, coalesce(max(no), 0) + 1, 1, ?8, ?9, ?2, ?3, ?4, ?5, ?6, ?7 FROM gate_history WHERE concert_id = ?1";

/// The same call again is done already.
const IS_SET: &str = "
SELECT 1 FROM gates g JOIN gate_history h USING (concert_id, version)
 WHERE g.concert_id = ?1 AND g.version = ?2 AND h.at = ?8 AND h.changed_by = ?9 AND h.state = ?3 AND h.mode = ?4
   AND h.per_second IS ?5 AND h.max_active IS ?6 AND h.opens_at IS ?7";

const IS_NOTED: &str = "
SELECT 1 FROM (SELECT at, admitted_since, admitted FROM gate_history
                WHERE concert_id = ?1 AND kind = 2 ORDER BY no DESC LIMIT 1)
 WHERE admitted_since = ?2 AND at = ?3 AND admitted = ?4";

const NOTE_ADMITTED: &str = "
INSERT INTO gate_history (concert_id, no, kind, at, admitted_since, admitted)
SELECT ?1, coalesce(max(no), 0) + 1, 2, ?3, ?2, ?4 FROM gate_history WHERE concert_id = ?1";

const HISTORY: &str = "
SELECT concert_id, version, state, mode, per_second, max_active, opens_at, at, no, kind, changed_by, admitted_since,
       admitted
  FROM gate_history WHERE concert_id = ?1 AND (?2 IS NULL OR no < ?2) ORDER BY no DESC LIMIT ?3";

const DRAW: &str = "
SELECT concert_id, no, seed, salt_key, committed_at, root, first_turn, upto_turn, published_at, beacon_round,
       beacon_due, entrants, drawn_at, beacon_value
  FROM gate_draws WHERE concert_id = ?1 AND (?2 IS NULL OR no = ?2) ORDER BY no DESC LIMIT 1";

const DRAW_STAGE: &str = "
SELECT no, root IS NOT NULL, drawn_at IS NOT NULL FROM gate_draws WHERE concert_id = ?1 ORDER BY no DESC LIMIT 1";

/// A further draw begins when the entrants of the one before are settled: that one may never be drawn.
const NEW_DRAW: &str = "
INSERT INTO gate_draws (concert_id, no, seed, salt_key, committed_at, first_turn, upto_turn, root, published_at,
                        beacon_round, beacon_due, drawn_at, beacon_value, entrants)
SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14
 WHERE ?2 = 1 OR EXISTS (SELECT 1 FROM gate_draws b
                          WHERE b.concert_id = ?1 AND b.no = ?2 - 1 AND b.root IS NOT NULL)
ON CONFLICT (concert_id, no) DO NOTHING";

const FURTHER_STAGE: &str = "
UPDATE gate_draws
   SET first_turn = ?6, upto_turn = ?7, root = ?8, published_at = ?9, beacon_round = ?10, beacon_due = ?11,
       drawn_at = ?12, beacon_value = ?13, entrants = ?14
 WHERE concert_id = ?1 AND no = ?2 AND seed = ?3 AND salt_key = ?4 AND committed_at = ?5
   AND (root IS NULL
        OR (root = ?8 AND first_turn = ?6 AND upto_turn = ?7 AND published_at = ?9 AND beacon_round IS ?10
            AND beacon_due IS ?11 AND entrants = ?14))
   AND (drawn_at IS NULL OR (drawn_at = ?12 AND beacon_value IS ?13))";

type Query<'q> = sqlx::query::Query<'q, Sqlite, SqliteArguments>;

#[async_trait]
impl GateLedger for SqliteLedger {
    async fn gates(&self, shard: ShardId) -> Result<Vec<GateRow>, LedgerError> {
        let rows = sqlx::query(GATES).bind(shard.0).fetch_all(&self.readers).await.map_err(ledger_error)?;
        rows.iter().map(gate).collect::<Result<_, _>>().map_err(ledger_error)
    }

    async fn gate(&self, concert: ConcertId) -> Result<Option<GateRow>, LedgerError> {
        let asked = sqlx::query(GATE).bind(concert.0.cast_signed());
        let row = asked.fetch_optional(&self.readers).await.map_err(ledger_error)?;
        row.as_ref().map(gate).transpose().map_err(ledger_error)
    }

    async fn set_gate(&self, fence: Fence, row: &GateRow, by: UserId) -> Result<Written, LedgerError> {
        self.behind_fence(fence, row.concert, async |connection| {
            let set = bind_gate(sqlx::query(SET), row).execute(&mut *connection).await?;
            if set.rows_affected() == 1 {
                let note = bind_gate(sqlx::query(NOTE_SET), row).bind(by.0.cast_signed());
                note.execute(connection).await?;
                return Ok(Written::Done);
            }
            let same = bind_gate(sqlx::query(IS_SET), row).bind(by.0.cast_signed());
            let same = same.fetch_optional(connection).await?;
            Ok(same.map_or(Written::Conflict, |_| Written::Done))
        })
        .await
    }

    async fn note_admitted(
        &self,
        fence: Fence,
        concert: ConcertId,
        admitted: Admitted,
    ) -> Result<Written, LedgerError> {
        self.behind_fence(fence, concert, async |connection| {
            let gate = sqlx::query(GATE).bind(concert.0.cast_signed());
            if gate.fetch_optional(&mut *connection).await?.is_none() {
                return Ok(Written::Conflict);
            }
            let asked = bind_admitted(sqlx::query(IS_NOTED), concert, admitted);
            if asked.fetch_optional(&mut *connection).await?.is_none() {
                bind_admitted(sqlx::query(NOTE_ADMITTED), concert, admitted).execute(connection).await?;
            }
            Ok(Written::Done)
        })
        .await
    }

    async fn gate_history(
        &self,
        concert: ConcertId,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<HistoryRow>, LedgerError> {
        let rows = sqlx::query(HISTORY)
            .bind(concert.0.cast_signed())
            .bind(before.map(|no| i64::try_from(no).unwrap_or(i64::MAX)))
            .bind(limit)
            .fetch_all(&self.readers)
            .await
            .map_err(ledger_error)?;
        rows.iter().map(line).collect::<Result<_, _>>().map_err(ledger_error)
    }

    async fn draw(&self, concert: ConcertId, no: Option<u32>) -> Result<Option<DrawRow>, LedgerError> {
        let asked = sqlx::query(DRAW).bind(concert.0.cast_signed()).bind(no);
        let row = asked.fetch_optional(&self.readers).await.map_err(ledger_error)?;
        row.as_ref().map(draw).transpose().map_err(ledger_error)
    }

    async fn draw_stage(&self, concert: ConcertId) -> Result<Option<(u32, DrawStage)>, LedgerError> {
        let asked = sqlx::query(DRAW_STAGE).bind(concert.0.cast_signed());
        let row = asked.fetch_optional(&self.readers).await.map_err(ledger_error)?;
        row.as_ref().map(draw_stage).transpose().map_err(ledger_error)
    }

    async fn save_draw(&self, fence: Fence, draw: &DrawRow) -> Result<Written, LedgerError> {
        let entrants = draw.frozen.as_ref().map(|frozen| entrants_bytes(&frozen.entrants));
        self.behind_fence(fence, draw.concert, async |connection| {
            if !is_sound(draw) {
                return Ok(Written::Conflict);
            }
            for statement in [NEW_DRAW, FURTHER_STAGE] {
                let write = bind_draw(sqlx::query(statement), draw, entrants.as_deref());
                if write.execute(&mut *connection).await?.rows_affected() == 1 {
                    return Ok(Written::Done);
                }
            }
            Ok(Written::Conflict)
        })
        .await
    }
}

impl SqliteLedger {
    /// One transaction, where the concert's shard is still ours in that epoch.
    async fn behind_fence(
        &self,
        fence: Fence,
        concert: ConcertId,
        work: impl AsyncFnOnce(&mut SqliteConnection) -> Result<Written, sqlx::Error>,
    ) -> Result<Written, LedgerError> {
        let owns = sqlx::query(OWNS_CONCERT)
            .bind(concert.0.cast_signed())
            .bind(fence.shard.0)
            .bind(fence.epoch.0.cast_signed())
            .bind(self.owner());
        self.write(async move |connection| match owns.fetch_optional(&mut *connection).await? {
            Some(_) => work(connection).await,
            None => Ok(Written::Fenced),
        })
        .await
    }
}

/// `?1` to `?8`.
fn bind_gate<'q>(query: Query<'q>, row: &GateRow) -> Query<'q> {
    query
        .bind(row.concert.0.cast_signed())
        .bind(row.version.cast_signed())
        .bind(row.policy.state.number())
        .bind(row.policy.mode.number())
        .bind(row.policy.per_second)
        .bind(row.policy.max_active)
        .bind(row.policy.opens_at.map(|at| at.0))
        .bind(row.changed_at.0)
}

/// `?1` to `?4`.
fn bind_admitted<'q>(query: Query<'q>, concert: ConcertId, admitted: Admitted) -> Query<'q> {
    query
        .bind(concert.0.cast_signed())
        .bind(admitted.since.0)
        .bind(admitted.until.0)
        .bind(admitted.count.cast_signed())
}

/// `?1` to `?14`.
fn bind_draw<'q>(query: Query<'q>, draw: &DrawRow, entrants: Option<&'q [u8]>) -> Query<'q> {
    let frozen = draw.frozen.as_ref();
    let round = frozen.and_then(|frozen| frozen.round);
    query
        .bind(draw.concert.0.cast_signed())
        .bind(draw.no)
        .bind(draw.seed.to_vec())
        .bind(draw.salt_key.to_vec())
        .bind(draw.committed_at.0)
        .bind(frozen.map(|frozen| frozen.first.0))
        .bind(frozen.map(|frozen| frozen.upto.0))
        .bind(frozen.map(|frozen| frozen.root.to_vec()))
        .bind(frozen.map(|frozen| frozen.published_at.0))
        .bind(round.map(|(round, _)| round.cast_signed()))
        .bind(round.map(|(_, due)| due.0))
        .bind(draw.drawn.map(|drawn| drawn.at.0))
        .bind(draw.drawn.and_then(|drawn| drawn.beacon).map(|value| value.to_vec()))
        .bind(entrants)
}

fn gate(row: &SqliteRow) -> Result<GateRow, sqlx::Error> {
    let policy = Policy {
        state: row::pinned(row, 2, State::from_number)?,
        mode: row::pinned(row, 3, Mode::from_number)?,
        per_second: maybe(row, 4, row::number)?,
        max_active: maybe(row, 5, row::number)?,
        opens_at: maybe(row, 6, row::time)?,
    };
    Ok(GateRow {
        concert: ConcertId(row::unsigned(row, 0)?),
        version: surely(row, 1, row::unsigned)?,
        policy,
        changed_at: row::time(row, 7)?,
    })
}

fn line(row: &SqliteRow) -> Result<HistoryRow, sqlx::Error> {
    let what = match row::pinned(row, 9, LineKind::from_number)? {
        LineKind::Set => History::Set { row: gate(row)?, by: UserId(surely(row, 10, row::unsigned)?) },
        LineKind::Admitted => History::Admitted(Admitted {
            since: surely(row, 11, row::time)?,
            until: row::time(row, 7)?,
            count: surely(row, 12, row::unsigned)?,
        }),
    };
    Ok(HistoryRow { no: row::unsigned(row, 8)?, what })
}

fn draw(row: &SqliteRow) -> Result<DrawRow, sqlx::Error> {
    let draw = DrawRow {
        concert: ConcertId(row::unsigned(row, 0)?),
        no: row::number(row, 1)?,
        seed: row::hash(row, 2)?,
        salt_key: row::hash(row, 3)?,
        committed_at: row::time(row, 4)?,
        frozen: maybe(row, 5, frozen)?,
        drawn: maybe(row, 12, drawn)?,
    };
    if is_sound(&draw) { Ok(draw) } else { Err(corrupt("entrants", "stages that do not follow")) }
}

fn draw_stage(row: &SqliteRow) -> Result<(u32, DrawStage), sqlx::Error> {
    Ok((row::number(row, 0)?, DrawStage::of(row.try_get(1)?, row.try_get(2)?)))
}

fn frozen(row: &SqliteRow, root: usize) -> Result<Frozen, sqlx::Error> {
    let round = match maybe(row, 9, row::unsigned)? {
        Some(round) => Some((round, surely(row, 10, row::time)?)),
        None => None,
    };
    Ok(Frozen {
        first: Turn(surely(row, 6, row::number)?),
        upto: Turn(surely(row, 7, row::number)?),
        entrants: surely(row, 11, entrants)?,
        root: row::hash(row, root)?,
        published_at: surely(row, 8, row::time)?,
        round,
    })
}

fn entrants(row: &SqliteRow, column: usize) -> Result<Vec<(Turn, UserId)>, sqlx::Error> {
    entrants_from_bytes(row.try_get(column)?).ok_or_else(|| corrupt("entrants", "no list of entrants"))
}

fn drawn(row: &SqliteRow, at: usize) -> Result<Drawn, sqlx::Error> {
    Ok(Drawn { at: row::time(row, at)?, beacon: maybe(row, 13, row::hash)? })
}
