//! The port of the actors, method by method.

use actors::ports::{AppendError, Batch, LeaseRow, Ledger, LedgerError, Owner, ShardAnswer};
use async_trait::async_trait;
use engine::{ChainHead, Epoch, Reservation, ReservationId, Restored, ShardId, Time, UserId};

use super::{PgLedger, append};

#[async_trait]
impl Ledger for PgLedger {
    fn me(&self) -> Owner {
        let options = &self.options;
        Owner {
            id: options.owner,
            node: options.node.clone(),
            public_url: self.public_url().to_owned(),
            peer_url: options.peer_url.clone(),
        }
    }

    async fn now(&self) -> Result<Time, LedgerError> {
        self.server_time().await
    }

    async fn acquire(&self, shard: ShardId) -> Result<Option<Epoch>, LedgerError> {
        self.acquire_lease(shard).await
    }

    async fn acquire_again(&self, shard: ShardId, mine: Epoch) -> Result<Option<Epoch>, LedgerError> {
        self.raise_epoch(shard, mine).await
    }

    async fn renew(&self, held: &[(ShardId, Epoch)]) -> Result<Vec<ShardId>, LedgerError> {
        self.renew_leases(held).await
    }

    async fn release(&self, held: &[(ShardId, Epoch)]) -> Result<(), LedgerError> {
        self.release_leases(held).await
    }

    async fn leases(&self) -> Result<(Time, Vec<LeaseRow>), LedgerError> {
        self.lease_rows().await
    }

    async fn hand_over(&self, shard: ShardId, mine: Epoch, to: &Owner) -> Result<Option<Epoch>, LedgerError> {
        self.give_lease(shard, mine, to).await
    }

    async fn accepted(&self, shard: ShardId, epoch: Epoch) -> Result<bool, LedgerError> {
        self.accept_lease(shard, epoch).await
    }

    async fn take_from_dead(
        &self,
        shard: ShardId,
        epoch: Epoch,
        owner: u128,
    ) -> Result<Option<Epoch>, LedgerError> {
        self.take_lease(shard, epoch, owner).await
    }

    async fn append(&self, batch: &Batch) -> Result<Vec<(ShardId, ShardAnswer)>, AppendError> {
        append::append(self, batch).await
    }

    async fn load(&self, shard: ShardId, horizon: Time) -> Result<Restored, LedgerError> {
        self.restored(shard, horizon).await
    }

    async fn reservation(&self, id: ReservationId) -> Result<Option<Reservation>, LedgerError> {
        self.one_reservation(id).await
    }

    async fn reservations_of(
        &self,
        user: UserId,
        before: Option<ReservationId>,
        limit: u32,
    ) -> Result<Vec<Reservation>, LedgerError> {
        self.page_of_user(user, before, limit).await
    }

    async fn heads(&self) -> Result<Vec<(ShardId, ChainHead)>, LedgerError> {
        self.chain_heads().await
    }
}
