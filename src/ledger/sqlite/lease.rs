//! Who owns which shard. `DATA/lock` keeps other processes out, so a lease here says which incarnation
//! of *this* process's actors may write; the rules are those of every ledger.

use actors::ports::{LeaseRow, Ledger as _, LedgerError, Owner};
use engine::{Epoch, ShardId, Time};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};

use super::error::ledger_error;
use super::{SqliteLedger, row};

const ACQUIRE: &str = "
INSERT INTO shard_lease AS l (shard, epoch, owner, node, public_url, peer_url, expires_at, state)
VALUES (?1, 1, ?2, ?3, ?4, ?5, ?6, 1)
ON CONFLICT (shard) DO UPDATE
   SET epoch = l.epoch + 1, owner = excluded.owner, node = excluded.node, public_url = excluded.public_url,
       peer_url = excluded.peer_url, expires_at = excluded.expires_at, state = 1
 WHERE l.state = 0 OR l.expires_at <= ?7
RETURNING epoch";

const ACQUIRE_AGAIN: &str = "
UPDATE shard_lease SET epoch = epoch + 1, expires_at = ?4
 WHERE shard = ?1 AND epoch = ?2 AND owner = ?3 AND state = 1
RETURNING epoch";

const RENEW: &str = "
UPDATE shard_lease SET expires_at = ?3
 WHERE owner = ?2 AND state = 1 AND (shard, epoch) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?1))
RETURNING shard";

const RELEASE: &str = "
UPDATE shard_lease SET state = 0
 WHERE owner = ?2 AND (shard, epoch) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?1))";

const LEASES: &str = "
SELECT shard, epoch, owner, node, public_url, peer_url, expires_at, state FROM shard_lease ORDER BY shard";

const HAND_OVER: &str = "
UPDATE shard_lease
   SET epoch = epoch + 1, owner = ?4, node = ?5, public_url = ?6, peer_url = ?7, expires_at = ?8
 WHERE shard = ?1 AND epoch = ?2 AND owner = ?3 AND state = 1
RETURNING epoch";

// The same, from somebody else to us: whoever else was an owner is dead, since we hold the lock.
const TAKE_FROM_DEAD: &str = "
UPDATE shard_lease
   SET epoch = epoch + 1, owner = ?4, node = ?5, public_url = ?6, peer_url = ?7, expires_at = ?8
 WHERE shard = ?1 AND epoch = ?2 AND owner = ?3 AND state = 1 AND owner <> ?4
RETURNING epoch";

impl SqliteLedger {
    pub(super) async fn acquire_lease(&self, shard: ShardId) -> Result<Option<Epoch>, LedgerError> {
        let now = self.clock.now();
        let acquire = sqlx::query(ACQUIRE)
            .bind(shard.0)
            .bind(self.owner())
            .bind(self.options.node.as_str())
            .bind(self.public_url())
            .bind(self.options.peer_url.as_str())
            .bind((now + self.options.lease_ttl).0)
            .bind(now.0);
        self.write(async move |connection| epoch(acquire.fetch_optional(connection).await?)).await
    }

    pub(super) async fn raise_epoch(
        &self,
        shard: ShardId,
        mine: Epoch,
    ) -> Result<Option<Epoch>, LedgerError> {
        let raise = sqlx::query(ACQUIRE_AGAIN)
            .bind(shard.0)
            .bind(mine.0.cast_signed())
            .bind(self.owner())
            .bind((self.clock.now() + self.options.lease_ttl).0);
        self.write(async move |connection| epoch(raise.fetch_optional(connection).await?)).await
    }

    pub(super) async fn renew_leases(&self, held: &[(ShardId, Epoch)]) -> Result<Vec<ShardId>, LedgerError> {
        let renew = sqlx::query(RENEW)
            .bind(pairs(held))
            .bind(self.owner())
            .bind((self.clock.now() + self.options.lease_ttl).0);
        self.write(async move |connection| {
            let rows = renew.fetch_all(connection).await?;
            let shards = rows.iter().map(|row| row::number(row, 0).map(ShardId));
            let mut shards = shards.collect::<Result<Vec<_>, _>>()?;
            shards.sort_unstable();
            Ok(shards)
        })
        .await
    }

    pub(super) async fn release_leases(&self, held: &[(ShardId, Epoch)]) -> Result<(), LedgerError> {
        let release = sqlx::query(RELEASE).bind(pairs(held)).bind(self.owner());
        self.write(async move |connection| release.execute(connection).await.map(|_| ())).await
    }

    pub(super) async fn lease_rows(&self) -> Result<(Time, Vec<LeaseRow>), LedgerError> {
        let now = self.clock.now();
        let rows = sqlx::query(LEASES).fetch_all(&self.readers).await.map_err(ledger_error)?;
        let leases = rows.iter().map(lease).collect::<Result<_, _>>().map_err(ledger_error)?;
        Ok((now, leases))
    }

    pub(super) async fn give_lease(
        &self,
        shard: ShardId,
        mine: Epoch,
        to: &Owner,
    ) -> Result<Option<Epoch>, LedgerError> {
        self.pass(HAND_OVER, shard, mine, self.options.owner, to).await
    }

    pub(super) async fn accept_lease(&self, shard: ShardId, epoch: Epoch) -> Result<bool, LedgerError> {
        Ok(!self.renew_leases(&[(shard, epoch)]).await?.is_empty())
    }

    pub(super) async fn take_lease(
        &self,
        shard: ShardId,
        theirs: Epoch,
        owner: u128,
    ) -> Result<Option<Epoch>, LedgerError> {
        self.pass(TAKE_FROM_DEAD, shard, theirs, owner, &self.me()).await
    }

    /// Runs one of the statements that give a shard from one owner to another.
    async fn pass(
        &self,
        statement: &'static str,
        shard: ShardId,
        epoch: Epoch,
        from: u128,
        to: &Owner,
    ) -> Result<Option<Epoch>, LedgerError> {
        let pass = sqlx::query(statement)
            .bind(shard.0)
            .bind(epoch.0.cast_signed())
            .bind(from.to_be_bytes().to_vec())
            .bind(to.id.to_be_bytes().to_vec())
            .bind(to.node.as_str())
            .bind(to.public_url.as_str())
            .bind(to.peer_url.as_str())
            .bind((self.clock.now() + self.options.lease_ttl).0);
        self.write(async move |connection| self::epoch(pass.fetch_optional(connection).await?)).await
    }

    /// One small transaction on the connection that writes.
    pub(super) async fn write<T>(
        &self,
        work: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, LedgerError> {
        let mut turn = self.writer()?.turn().await.map_err(ledger_error)?;
        let mut tx = turn.begin().await.map_err(ledger_error)?;
        match work(&mut tx).await {
            Ok(done) => match tx.commit().await {
                Ok(()) => Ok(done),
                Err(error) => {
                    turn.discard();
                    Err(ledger_error(error))
                }
            },
            Err(error) => {
                if tx.rollback().await.is_err() {
                    turn.discard();
                }
                Err(ledger_error(error))
            }
        }
    }

    pub(super) fn owner(&self) -> Vec<u8> {
        self.options.owner.to_be_bytes().to_vec()
    }
}

fn lease(row: &SqliteRow) -> Result<LeaseRow, sqlx::Error> {
    let owner = Owner {
        id: row::owner(row, 2)?,
        node: row.try_get(3)?,
        public_url: row.try_get(4)?,
        peer_url: row.try_get(5)?,
    };
    Ok(LeaseRow {
        shard: ShardId(row::number(row, 0)?),
        epoch: Epoch(row::unsigned(row, 1)?),
        owner,
        expires_at: Time(row.try_get(6)?),
        is_released: !row::flag(row, 7)?,
    })
}

fn epoch(row: Option<SqliteRow>) -> Result<Option<Epoch>, sqlx::Error> {
    row.map(|row| row::unsigned(&row, 0).map(Epoch)).transpose()
}

fn pairs(held: &[(ShardId, Epoch)]) -> String {
    let pairs: Vec<(u16, u64)> = held.iter().map(|(shard, epoch)| (shard.0, epoch.0)).collect();
    serde_json::to_string(&pairs).expect("integers always serialize")
}
