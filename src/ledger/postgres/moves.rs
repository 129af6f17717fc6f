//! Leases that go from one process to another, with no moment between in which anybody could have them.
//! Each operation is one statement, as in [`super::lease`].

use std::time::Duration;

use actors::ports::{LeaseRow, LedgerError, Owner};
use engine::{Epoch, ShardId, Time};
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::connect::Session;
use super::lease::{PATIENCE, epoch, now};
use super::sessions::{ask, once};
use super::{PgLedger, row};

/// Somebody decides by them whom to ask: better no answer than a late one.
const LIST: Duration = Duration::from_secs(1);

const LEASES: &str = "
WITH reading AS MATERIALIZED (SELECT ledger_now_v1() AS at)
SELECT reading.at, l.shard, l.epoch, l.owner, l.node, l.public_url, l.peer_url, l.expires_at, l.state
  FROM reading LEFT JOIN shard_lease l ON true ORDER BY l.shard";

// Locks before it looks at the clock again: a writer's `FOR KEY SHARE` is waited for, however long. Too late
// ($9 is when it was sent) it does nothing and says so, since nothing is known about the owner then.
const HAND_OVER: &str = "
WITH mine AS MATERIALIZED (
  SELECT l.shard FROM shard_lease l
   WHERE l.shard = $1 AND l.epoch = $2 AND l.owner = $3 AND l.state = 1 AND ledger_now_v1() < $9 + 1000000
     FOR UPDATE),
given AS (
  UPDATE shard_lease l
     SET epoch = l.epoch + 1, owner = $4, node = $5, public_url = $6, peer_url = $7,
         expires_at = ledger_now_v1() + $8
    FROM mine WHERE l.shard = mine.shard AND ledger_now_v1() < $9 + 1000000
  RETURNING l.epoch)
SELECT given.epoch, ledger_now_v1() < $9 + 1000000 FROM (VALUES (1)) one LEFT JOIN given ON true";

// The sessions are counted once the row is locked: the condition names what only the lock gives.
const TAKE_FROM_DEAD: &str = "
WITH theirs AS MATERIALIZED (
  SELECT l.shard, l.owner FROM shard_lease l
   WHERE l.shard = $1 AND l.epoch = $2 AND l.owner = $3 AND l.state = 1 AND ledger_now_v1() < $9 + 1000000
     FOR UPDATE)
UPDATE shard_lease l
   SET epoch = greatest(l.epoch, $10) + 1, owner = $4, node = $5, public_url = $6, peer_url = $7,
       expires_at = ledger_now_v1() + $8
  FROM theirs
 WHERE l.shard = theirs.shard AND ledger_now_v1() < $9 + 1000000
   AND (SELECT count(*) FROM pg_stat_activity a WHERE a.application_name = 'hotseat/' || theirs.owner) = 0
RETURNING l.epoch";

const HAS_SESSION: &str = "
SELECT count(*) > 0 FROM pg_stat_activity a WHERE a.application_name = 'hotseat/' || $1::uuid";

impl PgLedger {
    pub(super) async fn lists_session(&self, owner: u128) -> Result<bool, LedgerError> {
        let listed = ask!(self.control, LIST, session => {
            let asked = sqlx::query_scalar(HAS_SESSION).bind(Uuid::from_u128(owner));
            asked.fetch_one(&mut session.connection).await
        });
        Ok(listed.await?)
    }

    pub(super) async fn lease_rows(&self) -> Result<(Time, Vec<LeaseRow>), LedgerError> {
        // Not among the readers: a restore may keep those up for long.
        let rows = ask!(self.control, LIST, session => {
            let rows = sqlx::query(LEASES).fetch_all(&mut session.connection).await?;
            lease_rows(&rows)
        });
        Ok(rows.await?)
    }

    pub(super) async fn give_lease(
        &self,
        shard: ShardId,
        mine: Epoch,
        to: &Owner,
    ) -> Result<Option<Epoch>, LedgerError> {
        self.may_write()?;
        let give = once!(self.control, PATIENCE, session => {
            if session.timeline.is_over(mine) {
                return Ok((None, true));
            }
            let sent = now(session).await?;
            self.try_give(session, shard, mine, to, sent).await
        });
        match give.await? {
            (Some(epoch), _) => Ok(Some(epoch)),
            (None, true) => Ok(None),
            (None, false) => Err(LedgerError::Unavailable(
                "the hand-over came too late to the server: nothing was done".to_owned(),
            )),
        }
    }

    /// The receiver's epoch, and whether the statement was there in time.
    async fn try_give(
        &self,
        session: &mut Session,
        shard: ShardId,
        mine: Epoch,
        to: &Owner,
        sent: Time,
    ) -> Result<(Option<Epoch>, bool), sqlx::Error> {
        let row = sqlx::query(HAND_OVER)
            .bind(i32::from(shard.0))
            .bind(mine.0.cast_signed())
            .bind(self.owner())
            .bind(Uuid::from_u128(to.id))
            .bind(to.node.as_str())
            .bind(to.public_url.as_str())
            .bind(to.peer_url.as_str())
            .bind(self.options.lease_ttl.0)
            .bind(sent.0)
            .fetch_one(&mut session.connection)
            .await?;
        let epoch: Option<i64> = row.try_get(0)?;
        Ok((epoch.map(|epoch| Epoch(epoch.cast_unsigned())), row.try_get(1)?))
    }

    pub(super) async fn accept_lease(&self, shard: ShardId, epoch: Epoch) -> Result<bool, LedgerError> {
        self.may_write()?;
        let accept = ask!(self.control, PATIENCE, session => {
            if session.timeline.is_over(epoch) {
                return Ok(false);
            }
            // The lease has lived since the hand-over. From here on it lives as its new owner counts.
            self.renew_one(session, shard, epoch).await
        });
        Ok(accept.await?)
    }

    pub(super) async fn take_lease(
        &self,
        shard: ShardId,
        theirs: Epoch,
        owner: u128,
    ) -> Result<Option<Epoch>, LedgerError> {
        self.may_write()?;
        let take = once!(self.control, PATIENCE, session => {
            let sent = now(session).await?;
            let row = sqlx::query(TAKE_FROM_DEAD)
                .bind(i32::from(shard.0))
                .bind(theirs.0.cast_signed())
                .bind(Uuid::from_u128(owner))
                .bind(self.owner())
                .bind(self.options.node.as_str())
                .bind(self.public_url())
                .bind(self.options.peer_url.as_str())
                .bind(self.options.lease_ttl.0)
                .bind(sent.0)
                .bind(session.timeline.floor().0.cast_signed())
                .fetch_optional(&mut session.connection)
                .await?;
            epoch(row)
        });
        Ok(take.await?)
    }
}

/// The time of the reading is in every row; where there is no lease, in one without any.
fn lease_rows(rows: &[PgRow]) -> Result<(Time, Vec<LeaseRow>), sqlx::Error> {
    let at = rows.first().ok_or(sqlx::Error::RowNotFound)?.try_get(0)?;
    let mut leases = Vec::with_capacity(rows.len());
    for row in rows {
        if row.try_get::<Option<i32>, _>(1)?.is_some() {
            leases.push(lease(row)?);
        }
    }
    Ok((Time(at), leases))
}

fn lease(row: &PgRow) -> Result<LeaseRow, sqlx::Error> {
    let owner = Owner {
        id: row.try_get::<Uuid, _>(3)?.as_u128(),
        node: row.try_get(4)?,
        public_url: row.try_get(5)?,
        peer_url: row.try_get(6)?,
    };
    Ok(LeaseRow {
        shard: ShardId(row::number::<i32, _>(row, 1)?),
        epoch: Epoch(row::unsigned(row, 2)?),
        owner,
        expires_at: Time(row.try_get(7)?),
        is_released: row.try_get::<i16, _>(8)? == 0,
    })
}
