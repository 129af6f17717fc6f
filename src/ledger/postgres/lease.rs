//! Who owns which shard. Each operation is one statement, judged by the server's clock.

use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use actors::ports::LedgerError;
use engine::{Epoch, ShardId, Time};
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use tokio::time::Instant;
use uuid::Uuid;

use super::connect::Session;
use super::error::Failed;
use super::sessions::{ask, once};
use super::{PgLedger, row};

/// Any longer, and the deadlines of the shards come near.
const RENEW: Duration = Duration::from_secs(1);

/// An acquirer that waits for so long waits for somebody who is stuck.
const BLOCKED: Duration = Duration::from_millis(500);

/// A lock that is waited for and a connection that has to be made.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

const NOW: &str = "SELECT ledger_now_v1()";

// Locks before it looks: a writer's `FOR KEY SHARE` is waited for, and what changed meanwhile is looked at again.
// A statement that a frozen server kept for later does nothing: it knows when it was sent ($8). What is ours under an
// epoch of an older timeline (up to $9) is over, and there to be taken anew.
const ACQUIRE: &str = "
WITH free AS MATERIALIZED (
  SELECT l.shard FROM shard_lease l
   WHERE l.shard = $1 AND (l.state = 0 OR l.expires_at <= ledger_now_v1() OR (l.owner = $2 AND l.epoch <= $9))
     AND ledger_now_v1() < $8 + 1000000
     FOR UPDATE),
taken AS (
  UPDATE shard_lease l
     SET epoch = greatest(l.epoch, $9) + 1, owner = $2, node = $3, public_url = $4, peer_url = $5,
         expires_at = ledger_now_v1() + $6, state = 1
    FROM free WHERE l.shard = free.shard AND ledger_now_v1() < $8 + 1000000
  RETURNING l.epoch),
born AS (
  INSERT INTO shard_lease (shard, epoch, owner, node, public_url, peer_url, expires_at, state)
  SELECT $1, $9 + 1, $2, $3, $4, $5, ledger_now_v1() + $6, 1
   WHERE $7 AND ledger_now_v1() < $8 + 1000000 AND NOT EXISTS (SELECT FROM shard_lease WHERE shard = $1)
  ON CONFLICT (shard) DO NOTHING
  RETURNING epoch)
SELECT epoch FROM taken UNION ALL SELECT epoch FROM born";

// Changes a column of a unique index, and so waits for writers as `FOR UPDATE` does.
const ACQUIRE_AGAIN: &str = "
UPDATE shard_lease SET epoch = epoch + 1, expires_at = ledger_now_v1() + $4
 WHERE shard = $1 AND epoch = $2 AND owner = $3 AND state = 1
RETURNING epoch";

const RENEWAL: &str = "
WITH mine AS MATERIALIZED (
  SELECT l.shard FROM shard_lease l JOIN unnest($1::int[], $2::bigint[]) f (shard, epoch) USING (shard, epoch)
   WHERE l.owner = $3 AND l.state = 1 ORDER BY l.shard FOR NO KEY UPDATE OF l SKIP LOCKED)
UPDATE shard_lease l SET expires_at = ledger_now_v1() + $4 FROM mine WHERE l.shard = mine.shard
RETURNING l.shard";

/// Those that still look like ours without a lock: skipped, not lost.
const STILL_MINE: &str = "
SELECT l.shard FROM shard_lease l JOIN unnest($1::int[], $2::bigint[]) f (shard, epoch) USING (shard, epoch)
 WHERE l.owner = $3 AND l.state = 1 ORDER BY l.shard";

const RENEW_ONE: &str = "
UPDATE shard_lease SET expires_at = ledger_now_v1() + $4
 WHERE shard = $1 AND epoch = $2 AND owner = $3 AND state = 1
RETURNING shard";

const RELEASE: &str = "
UPDATE shard_lease l SET state = 0
  FROM unnest($1::int[], $2::bigint[]) f (shard, epoch)
 WHERE l.shard = f.shard AND l.epoch = f.epoch AND l.owner = $3";

/// Ends exactly those sessions of the expired owner that keep the waiter waiting.
const END_BLOCKERS: &str = "
SELECT a.pid, pg_terminate_backend(a.pid)
  FROM shard_lease l JOIN pg_stat_activity a ON a.application_name = 'hotseat/' || l.owner
 WHERE l.shard = $1 AND l.state = 1 AND l.expires_at <= ledger_now_v1() AND a.pid = ANY (pg_blocking_pids($2))";

impl PgLedger {
    pub(super) async fn server_time(&self) -> Result<Time, LedgerError> {
        Ok(ask!(self.renewal, RENEW, session => now(session).await).await?)
    }

    pub(super) async fn acquire_lease(&self, shard: ShardId) -> Result<Option<Epoch>, LedgerError> {
        self.may_write()?;
        let waiter = AtomicI32::new(0);
        let acquire = once!(self.control, PATIENCE, session => {
            let sent = now(session).await?;
            waiter.store(session.pid, Ordering::Relaxed);
            self.try_acquire(session, shard, sent).await
        });
        tokio::pin!(acquire);
        let answer = tokio::select! {
            answer = &mut acquire => answer,
            () = tokio::time::sleep(BLOCKED) => {
                // Without a connection there is nobody to wait for.
                let waiter = waiter.load(Ordering::Relaxed);
                if waiter != 0 && let Err(error) = self.end_blockers(shard, waiter).await {
                    tracing::warn!(%shard, %error, "whoever keeps the shard from being acquired cannot be ended");
                }
                acquire.await
            }
        };
        Ok(answer?)
    }

    async fn try_acquire(
        &self,
        session: &mut Session,
        shard: ShardId,
        sent: Time,
    ) -> Result<Option<Epoch>, sqlx::Error> {
        let row = sqlx::query(ACQUIRE)
            .bind(i32::from(shard.0))
            .bind(self.owner())
            .bind(self.options.node.as_str())
            .bind(self.public_url())
            .bind(self.options.peer_url.as_str())
            .bind(self.options.lease_ttl.0)
            .bind(shard.0 < self.options.shards)
            .bind(sent.0)
            .bind(session.timeline.floor().0.cast_signed())
            .fetch_optional(&mut session.connection)
            .await?;
        epoch(row)
    }

    async fn end_blockers(&self, shard: ShardId, waiter: i32) -> Result<(), Failed> {
        let ended = ask!(self.readers, RENEW, session => {
            let end = sqlx::query(END_BLOCKERS).bind(i32::from(shard.0)).bind(waiter);
            end.fetch_all(&mut session.connection).await
        });
        for row in ended.await? {
            let pid: i32 = row.try_get(0).map_err(Failed::Sql)?;
            tracing::warn!(%shard, pid, "ended a session of the expired owner, which kept the shard from its successor");
        }
        Ok(())
    }

    pub(super) async fn raise_epoch(
        &self,
        shard: ShardId,
        mine: Epoch,
    ) -> Result<Option<Epoch>, LedgerError> {
        self.may_write()?;
        let raise = once!(self.control, PATIENCE, session => {
            if session.timeline.is_over(mine) {
                return Ok(None);
            }
            let row = sqlx::query(ACQUIRE_AGAIN)
                .bind(i32::from(shard.0))
                .bind(mine.0.cast_signed())
                .bind(self.owner())
                .bind(self.options.lease_ttl.0)
                .fetch_optional(&mut session.connection)
                .await?;
            epoch(row)
        });
        Ok(raise.await?)
    }

    pub(super) async fn renew_leases(&self, held: &[(ShardId, Epoch)]) -> Result<Vec<ShardId>, LedgerError> {
        self.may_write()?;
        let deadline = Instant::now() + RENEW;
        let (mut renewed, skipped) =
            ask!(self.renewal, RENEW, session => self.try_renew(session, held).await).await?;
        // Somebody has locked these: each is asked for alone, and waits as long as there is time.
        for (shard, epoch) in skipped {
            let patience = deadline.saturating_duration_since(Instant::now());
            match once!(self.renewal, patience, session => self.renew_one(session, shard, epoch).await).await
            {
                Ok(true) => renewed.push(shard),
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(%shard, %error, "somebody keeps the shard's lease locked: given up")
                }
            }
        }
        renewed.sort_unstable();
        Ok(renewed)
    }

    /// Those that were renewed, and those that were skipped.
    async fn try_renew(
        &self,
        session: &mut Session,
        held: &[(ShardId, Epoch)],
    ) -> Result<(Vec<ShardId>, Vec<(ShardId, Epoch)>), sqlx::Error> {
        let over = |(_, epoch): &(ShardId, Epoch)| session.timeline.is_over(*epoch);
        let held: Vec<_> = held.iter().copied().filter(|pair| !over(pair)).collect();
        let (shards, epochs) = pairs(&held);
        let renew = sqlx::query(RENEWAL).bind(&shards).bind(&epochs).bind(self.owner());
        let rows = renew.bind(self.options.lease_ttl.0).fetch_all(&mut session.connection).await?;
        let renewed = rows.iter().map(shard).collect::<Result<Vec<_>, _>>()?;
        if renewed.len() == held.len() {
            return Ok((renewed, Vec::new()));
        }
        let look = sqlx::query(STILL_MINE).bind(&shards).bind(&epochs).bind(self.owner());
        let rows = look.fetch_all(&mut session.connection).await?;
        let mine = rows.iter().map(shard).collect::<Result<Vec<_>, _>>()?;
        let skipped = |(shard, _): &(ShardId, Epoch)| mine.contains(shard) && !renewed.contains(shard);
        let skipped = held.into_iter().filter(skipped).collect();
        Ok((renewed, skipped))
    }

    pub(super) async fn renew_one(
        &self,
        session: &mut Session,
        shard: ShardId,
        epoch: Epoch,
    ) -> Result<bool, sqlx::Error> {
        let row = sqlx::query(RENEW_ONE)
            .bind(i32::from(shard.0))
            .bind(epoch.0.cast_signed())
            .bind(self.owner())
            .bind(self.options.lease_ttl.0)
            .fetch_optional(&mut session.connection)
            .await?;
        Ok(row.is_some())
    }

    pub(super) async fn release_leases(&self, held: &[(ShardId, Epoch)]) -> Result<(), LedgerError> {
        self.may_write()?;
        let (shards, epochs) = pairs(held);
        let release = once!(self.control, PATIENCE, session => {
            let release = sqlx::query(RELEASE).bind(shards).bind(epochs).bind(self.owner());
            release.execute(&mut session.connection).await
        });
        release.await?;
        Ok(())
    }

    pub(super) fn owner(&self) -> Uuid {
        Uuid::from_u128(self.options.owner)
    }
}

pub(super) async fn now(session: &mut Session) -> Result<Time, sqlx::Error> {
    sqlx::query_scalar(NOW).fetch_one(&mut session.connection).await.map(Time)
}

pub(super) fn epoch(row: Option<PgRow>) -> Result<Option<Epoch>, sqlx::Error> {
    row.map(|row| row::unsigned(&row, 0).map(Epoch)).transpose()
}

fn shard(row: &PgRow) -> Result<ShardId, sqlx::Error> {
    row::number::<i32, _>(row, 0).map(ShardId)
}

fn pairs(held: &[(ShardId, Epoch)]) -> (Vec<i32>, Vec<i64>) {
    held.iter().map(|(shard, epoch)| (i32::from(shard.0), epoch.0.cast_signed())).unzip()
}
