//! What an import is before it is written: its plan packed, its concert's shard found.

use std::sync::Arc;

use actors::ports::LedgerError;
use engine::{ConcertId, ShardId};

use crate::catalogue::{CatalogueError, Import};

impl From<LedgerError> for CatalogueError {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::Unavailable(reason) => Self::Unavailable(reason),
            LedgerError::Corrupt(reason) => Self::Corrupt(reason),
        }
    }
}

/// The plan's hash, and its body as stored.
pub(super) async fn pack(import: &Import) -> Result<(String, Vec<u8>), CatalogueError> {
    let plan = Arc::clone(&import.plan);
    tokio::task::spawn_blocking(move || (plan.hash(), plan.to_gzip()))
        .await
        .map_err(|error| CatalogueError::Unavailable(error.to_string()))
}

/// The option of that start is there.
pub(super) fn taken(import: &Import) -> CatalogueError {
    let title = &import.title;
    let at = jiff::Timestamp::from_microsecond(import.starts_at.0).unwrap_or(jiff::Timestamp::MAX);
    CatalogueError::Refused(format!("the concert \"{title}\" has an option that starts at {at} already"))
}

/// The concert is there, among others.
pub(super) fn shared(import: &Import) -> CatalogueError {
    let title = &import.title;
    CatalogueError::Refused(format!(
        "the concert \"{title}\" shares its shard already; import its options without own_shard"
    ))
}

/// The shard of a new concert: where its hash falls, or the next one behind that will have it. `taken`
/// names the shards that have concerts, and whether one of them wants to be alone.
pub(super) fn place(
    concert: ConcertId,
    shards: u16,
    own_shard: bool,
    taken: &[(ShardId, bool)],
) -> Result<ShardId, CatalogueError> {
    let first = scramble(concert.0) % u64::from(shards);
    let mut candidates = (0..shards).map(|step| {
        let shard = (first + u64::from(step)) % u64::from(shards);
        ShardId(u16::try_from(shard).expect("less than the number of shards"))
    });
    let fits = |shard: &ShardId| match taken.iter().find(|(there, _)| there == shard) {
        None => true,
        Some((_, alone)) => !own_shard && !alone,
    };
    candidates.find(fits).ok_or_else(|| {
        let why = if own_shard { "every shard has a concert" } else { "every shard is some concert's own" };
        CatalogueError::Refused(format!("no shard is left: {why}; the number of shards is {shards}"))
    })
}

/// The finalizer of SplitMix64: neighbours end up far apart.
const fn scramble(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}
