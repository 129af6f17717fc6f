//! Memory and mirror from the ledger, while the sale goes on.

use std::sync::Arc;

use actors::resync::{Counts, ResyncError, Resynced};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use engine::option::{OptionStatus, Policy};
use engine::shard::Difference;
use engine::{ChainHead, OptionId, Reservation, ShardId};
use serde::Serialize;
use utoipa::ToSchema;

use super::audit::known_shard;
use crate::http::Shared;
use crate::http::ask::{OptionPath, json};
use crate::http::error::Problem;
use crate::http::extract::{NoBody, Operator, ShardPath};
use crate::http::wire::{ProblemBody, hex};

/// What a resync did.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::http) struct ResyncView {
    /// The shard that was rebuilt, with everything in it.
    shard: u16,
    /// The newest event, in the ledger and now in memory; SHA-256 in lower-case hex.
    event_seq: u64,
    hash: String,
    /// Whether the ledger ended with another event than memory knew. Then nothing was compared: the shard is
    /// restored under a new epoch, as after a crash.
    restored: bool,
    difference_count: usize,
    /// Every option of the shard. What is a concert's is no option's.
    options: Vec<OptionDifferences>,
    /// The first thousand.
    differences: Vec<DifferenceView>,
}

/// How much of an option was different.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::http) struct OptionDifferences {
    option_id: u32,
    difference_count: usize,
}

/// One thing about which they disagreed. What the ledger said is what counts now.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct DifferenceView {
    what: String,
    /// `null`: it was not there.
    memory: Option<String>,
    /// `null`: it is not there.
    ledger: Option<String>,
}

impl DifferenceView {
    fn new(what: String, memory: Option<String>, ledger: Option<String>) -> Self {
        Self { what, memory, ledger }
    }
}

/// Rebuild an option's shard and its mirror from the ledger. Clicks go on; holds and payments wait for it, at most
/// ledger.ack_timeout. Soft locks stay where the ledger leaves room for them.
#[utoipa::path(post, path = "/admin/v1/options/{optionId}/resync", tag = "admin", operation_id = "resync",
    params(("optionId" = u64, Path, description = "The option")),
    responses(
        (status = 200, description = "Done; what was different is told", body = ResyncView),
        (status = 403, description = "FORBIDDEN", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "OPTION_UNKNOWN", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 500, description = "INTERNAL: the ledger contradicts itself; memory is as it was",
            body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "OVERLOADED or LEDGER_UNAVAILABLE; memory is as it was", body = ProblemBody,
            content_type = "application/problem+json")),
    security(("token" = [])))]
pub(in crate::http) async fn resync(
    State(shared): State<Arc<Shared>>,
    _operator: Operator,
    OptionPath(entry): OptionPath,
    _no_body: NoBody,
) -> Result<Response, Problem> {
    rebuild(&shared, entry.shard).await
}

/// Rebuild a shard and the mirror of its options from the ledger, as a resync of any of its options does.
#[utoipa::path(post, path = "/admin/v1/shards/{shard}/resync", tag = "admin", operation_id = "resyncShard",
    params(("shard" = u16, Path, description = "The shard, from 0")),
    responses(
        (status = 200, description = "Done; what was different is told", body = ResyncView),
        (status = 403, description = "FORBIDDEN", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "NOT_FOUND: no such shard", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 500, description = "INTERNAL: the ledger contradicts itself; memory is as it was",
            body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "OVERLOADED or LEDGER_UNAVAILABLE; memory is as it was", body = ProblemBody,
            content_type = "application/problem+json")),
    security(("token" = [])))]
pub(in crate::http) async fn resync_shard(
    State(shared): State<Arc<Shared>>,
    _operator: Operator,
    ShardPath(shard): ShardPath,
    _no_body: NoBody,
) -> Result<Response, Problem> {
    rebuild(&shared, known_shard(&shared, &shard, "/path/shard")?).await
}

async fn rebuild(shared: &Shared, shard: ShardId) -> Result<Response, Problem> {
    // In a task of its own: whoever hangs up does not end it half-way.
    let handle = shared.edge.handle.clone();
    let resynced = tokio::spawn(async move { handle.resync(shard).await }).await;
    let resynced = resynced.map_err(|error| Problem::Internal(format!("a resync broke off: {error}")))?;
    let resynced = resynced.map_err(|error| match error {
        ResyncError::Unavailable(unavailable) => unavailable.into(),
        ResyncError::Contradiction(_) => Problem::Internal(error.to_string()),
    })?;
    let (head, restored, differences, counts) = match resynced {
        Resynced::Compared { head, differences, counts } => (head, false, differences, counts),
        Resynced::Restored { memory, ledger } => {
            tracing::warn!(%shard, memory = memory.event_seq, ledger = ledger.event_seq, "resync: another chain");
            (ledger, true, Vec::new(), Counts::default())
        }
    };
    tracing::info!(%shard, restored, differences = counts.all, "resync");
    let ChainHead { event_seq, hash } = head;
    let of_option = |option: OptionId| OptionDifferences {
        option_id: option.0,
        difference_count: counts.by_option.get(&option).copied().unwrap_or(0),
    };
    let view = ResyncView {
        shard: shard.0,
        event_seq,
        hash: hex(&hash),
        restored,
        difference_count: counts.all,
        options: shared.edge.directory.options_in(shard).into_iter().map(of_option).collect(),
        differences: differences.iter().map(view).collect(),
    };
    Ok(json(StatusCode::OK, &view))
}

fn view(difference: &Difference) -> DifferenceView {
    match difference {
        Difference::Reservation { id, memory, ledger } => {
            let say = |row: &Option<Box<Reservation>>| row.as_deref().map(reservation);
            DifferenceView::new(format!("reservation {id}"), say(memory), say(ledger))
        }
        Difference::Option { option, memory, ledger } => {
            let say =
                |(status, version): (OptionStatus, u32)| format!("{} in version {version}", status.name());
            DifferenceView::new(format!("option {option}"), memory.map(say), ledger.map(say))
        }
        Difference::Policy { concert, memory, ledger } => {
            let say = |(policy, version): (Policy, u32)| {
                let gate = if policy.gate { "on" } else { "off" };
                format!("{} per user, gate {gate}, version {version}", policy.reservations_per_user)
            };
            DifferenceView::new(format!("policy of concert {concert}"), memory.map(say), ledger.map(say))
        }
        Difference::Seat { option, seat, memory, ledger } => {
            let name = |state: &engine::SeatState| Some(state.name().to_owned());
            DifferenceView::new(format!("seat {seat} of option {option}"), name(memory), name(ledger))
        }
        Difference::SoftLock { option, seat, user } => DifferenceView::new(
            format!("soft lock of seat {seat} of option {option}"),
            Some(format!("user {user}")),
            None,
        ),
    }
}

fn reservation(row: &Reservation) -> String {
    let seats: Vec<String> = row.seats.iter().map(|seat| seat.to_string()).collect();
    let (kind, status) = (row.kind.name(), row.status.name());
    format!("{kind} {status} of user {}, seats {}, version {}", row.user, seats.join(" "), row.version)
}
