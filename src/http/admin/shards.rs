//! Which node has which shard.

use std::collections::BTreeMap;
use std::sync::Arc;

use actors::ops::{ShardInfo, ShardState};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use engine::ShardId;
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::Shared;
use crate::http::ask::json;
use crate::http::error::Problem;
use crate::http::extract::Operator;
use crate::http::wire::{Page, ProblemBody, millis};

/// A shard, and who has it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::http) struct ShardView {
    shard: u16,
    /// The newest; 0 before anybody ever had the shard.
    epoch: u64,
    /// `null`: nobody has it.
    #[schema(example = "hotseat-1")]
    node: Option<String>,
    /// Where clients reach the node.
    url: Option<String>,
    /// SERVING, STARTING (its node restores it), MOVING (commands wait a moment) or FREE.
    #[schema(example = "SERVING")]
    state: &'static str,
    /// Until the lease runs out unless it is renewed, in milliseconds.
    expires_in_ms: Option<i64>,
    /// How many concerts it has.
    concerts: usize,
}

/// Every shard, by shard: who has it, and whether it serves.
#[utoipa::path(get, path = "/admin/v1/shards", tag = "admin", operation_id = "shards",
    responses(
        (status = 200, description = "All of them", body = Page<ShardView>),
        (status = 403, description = "FORBIDDEN", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "LEDGER_UNAVAILABLE", body = ProblemBody,
            content_type = "application/problem+json")),
    security(("token" = [])))]
pub(in crate::http) async fn list(
    State(shared): State<Arc<Shared>>,
    _operator: Operator,
) -> Result<Response, Problem> {
    let shards = shared.edge.ops.shards().await?;
    let mut concerts: BTreeMap<ShardId, usize> = BTreeMap::new();
    for concert in shared.edge.directory.concerts() {
        *concerts.entry(concert.shard).or_default() += 1;
    }
    let concerts = |shard| concerts.get(&shard).copied().unwrap_or(0);
    let items: Vec<ShardView> = shards.into_iter().map(|one| view(concerts(one.shard), one)).collect();
    Ok(json(StatusCode::OK, &Page { items, next_cursor: None }))
}

fn view(concerts: usize, shard: ShardInfo) -> ShardView {
    let expires_in_ms = shard.owner.as_ref().map(|owner| millis(owner.expires_in));
    let (node, url) = shard.owner.map(|owner| (owner.node, owner.url)).unzip();
    ShardView {
        shard: shard.shard.0,
        epoch: shard.epoch.0,
        node,
        url,
        state: match shard.state {
            ShardState::Serving => "SERVING",
            ShardState::Starting => "STARTING",
            ShardState::Moving => "MOVING",
            ShardState::Free => "FREE",
        },
        expires_in_ms,
        concerts,
    }
}
