//! Who owns which shard. `DATA/lock` keeps other processes out, so a lease here says which incarnation
//! of *this* process's actors may write; the rules are those of every ledger.

use actors::ports::LedgerError;
use engine::{Epoch, ShardId};
use sqlx::SqliteConnection;

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

impl SqliteLedger {
    pub(super) async fn acquire_lease(&self, shard: ShardId) -> Result<Option<Epoch>, LedgerError> {
        let now = self.clock.now();
        let acquire = sqlx::query(ACQUIRE)
            .bind(shard.0)
            .bind(self.owner())
            .bind(self.options.node.as_str())
            .bind(self.options.public_url.as_str())
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

    fn owner(&self) -> Vec<u8> {
        self.options.owner.to_be_bytes().to_vec()
    }
}

fn epoch(row: Option<sqlx::sqlite::SqliteRow>) -> Result<Option<Epoch>, sqlx::Error> {
    row.map(|row| row::unsigned(&row, 0).map(Epoch)).transpose()
}

fn pairs(held: &[(ShardId, Epoch)]) -> String {
    let pairs: Vec<(u16, u64)> = held.iter().map(|(shard, epoch)| (shard.0, epoch.0)).collect();
    serde_json::to_string(&pairs).expect("integers always serialize")
}
