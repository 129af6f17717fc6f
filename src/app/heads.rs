//! Chain heads in the log: with a head that was kept elsewhere, the table proves that nothing was rewritten since.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actors::ports::Ledger;
use engine::ShardId;
use tokio_util::sync::CancellationToken;

use crate::http::hex;

const EACH: Duration = Duration::from_secs(60);

/// The number of the newest event that was logged, by shard.
pub(super) type Logged = BTreeMap<ShardId, u64>;

/// Logs what is new each minute, until `ending`.
pub(super) async fn log_each_minute(ledger: Arc<dyn Ledger>, ending: CancellationToken) {
    let mut logged = Logged::new();
    loop {
        log(ledger.as_ref(), &mut logged).await;
        tokio::select! {
            () = tokio::time::sleep(EACH) => {}
            () = ending.cancelled() => return,
        }
    }
}

/// Logs the heads that have moved.
pub(super) async fn log(ledger: &dyn Ledger, logged: &mut Logged) {
    match ledger.heads().await {
        Ok(heads) => {
            for (shard, head) in heads {
                if logged.insert(shard, head.event_seq) != Some(head.event_seq) {
                    let hash = hex(&head.hash);
                    tracing::info!(shard = shard.0, event_seq = head.event_seq, hash, "chain head");
                }
            }
        }
        Err(error) => tracing::warn!(%error, "the chain heads could not be read"),
    }
}
