//! Shards that change hands while they sell.

use std::sync::Arc;

use actors::ops::{MoveInfo, MoveState, Rebalance};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use engine::ShardId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::http::Shared;
use crate::http::ask::json;
use crate::http::error::Problem;
use crate::http::extract::{Json, Operator};
use crate::http::wire::{Instant, Page, ProblemBody, millis};

/// Each node gives one away and takes one, in a small cluster.
const AT_ONCE: u16 = 4;
const AT_ONCE_MOST: u16 = 64;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct MoveRequest {
    shard: u16,
    /// The name of the node that shall have it.
    to: String,
}

/// A shard on its way from one node to another.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::http) struct MoveView {
    /// `null`: only planned.
    #[schema(format = "uuid")]
    move_id: Option<String>,
    shard: u16,
    from: String,
    to: String,
    /// PLANNED, WAITING (for its turn), PREPARING (it still serves), MOVING (commands wait a moment), DONE or
    /// FAILED.
    #[schema(example = "PREPARING")]
    state: &'static str,
    /// When it came into its state.
    since: Instant,
    /// Until it has ended, in milliseconds; `null` where that cannot be told.
    eta_ms: Option<i64>,
    /// FAILED: why, for operators to read.
    why: Option<String>,
}

impl MoveView {
    pub(super) fn new(one: MoveInfo) -> Self {
        let (state, why) = match one.state {
            MoveState::Planned => ("PLANNED", None),
            MoveState::Waiting => ("WAITING", None),
            MoveState::Preparing => ("PREPARING", None),
            MoveState::Moving => ("MOVING", None),
            MoveState::Done => ("DONE", None),
            MoveState::Failed(why) => ("FAILED", Some(why)),
        };
        Self {
            move_id: one.id.map(|id| Uuid::from_u128(id.0).to_string()),
            shard: one.shard.0,
            from: one.from,
            to: one.to,
            state,
            since: Instant(one.since),
            eta_ms: one.eta.map(millis),
            why,
        }
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::http) struct RebalanceRequest {
    /// Only tell what would be moved.
    #[serde(default)]
    dry_run: bool,
    /// How many shards may be on their way at the same time, 1 to 64; 4 when it is left out.
    at_once: Option<u16>,
}

/// What spreads the shards evenly.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::http) struct PlanView {
    dry_run: bool,
    at_once: u16,
    /// Empty: they are spread evenly.
    moves: Vec<MoveView>,
}

/// The moves that wait or are under way, and of each shard the last that has ended, as the nodes that are up tell them:
/// newest first.
#[utoipa::path(get, path = "/admin/v1/moves", tag = "admin", operation_id = "moves",
    responses(
        (status = 200, description = "All of them", body = Page<MoveView>),
        (status = 403, description = "FORBIDDEN", body = ProblemBody, content_type = "application/problem+json")),
    security(("token" = [])))]
pub(in crate::http) async fn list(
    State(shared): State<Arc<Shared>>,
    _operator: Operator,
) -> Result<Response, Problem> {
    let items: Vec<MoveView> = shared.edge.ops.moves().await?.into_iter().map(MoveView::new).collect();
    Ok(json(StatusCode::OK, &Page { items, next_cursor: None }))
}

/// Move a shard to another node. Buyers notice nothing but a moment's wait. Asked again, it answers with the move
/// that is under way.
#[utoipa::path(post, path = "/admin/v1/moves", tag = "admin", operation_id = "move",
    request_body(content = MoveRequest, example = json!({"shard": 17, "to": "hotseat-2"})),
    responses(
        (status = 202, description = "Begun; `GET /admin/v1/moves` tells how far it is", body = MoveView),
        (status = 403, description = "FORBIDDEN", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "NOT_FOUND: no such shard, or no such node", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 409, description = "ALONE, ALREADY_MOVING, ALREADY_THERE, NODE_DRAINING, NODE_SILENT or \
            SHARD_NOT_SERVING", body = ProblemBody, content_type = "application/problem+json")),
    security(("token" = [])))]
pub(in crate::http) async fn begin(
    State(shared): State<Arc<Shared>>,
    Operator(identity): Operator,
    Json(MoveRequest { shard, to }): Json<MoveRequest>,
) -> Result<Response, Problem> {
    let begun = shared.edge.ops.move_shard(ShardId(shard), &to).await?;
    tracing::info!(shard, from = begun.from, to, by = %identity.user, "a shard is moved");
    Ok(json(StatusCode::ACCEPTED, &MoveView::new(begun)))
}

/// Spread the shards evenly over the nodes, with as few moves as that takes.
#[utoipa::path(post, path = "/admin/v1/rebalance", tag = "admin", operation_id = "rebalance",
    request_body(content = RebalanceRequest, example = json!({"dryRun": true, "atOnce": 4})),
    responses(
        (status = 200, description = "What would be moved", body = PlanView),
        (status = 202, description = "Begun; `GET /admin/v1/moves` tells how far it is", body = PlanView),
        (status = 403, description = "FORBIDDEN", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "ALREADY_MOVING: the last time is not over yet", body = ProblemBody,
            content_type = "application/problem+json")),
    security(("token" = [])))]
pub(in crate::http) async fn rebalance(
    State(shared): State<Arc<Shared>>,
    Operator(identity): Operator,
    Json(RebalanceRequest { dry_run, at_once }): Json<RebalanceRequest>,
) -> Result<Response, Problem> {
    let at_once = at_once.unwrap_or(AT_ONCE);
    if !(1..=AT_ONCE_MOST).contains(&at_once) {
        let detail = format!("From 1 to {AT_ONCE_MOST} shards move at the same time.");
        return Err(Problem::malformed("/atOnce", detail));
    }
    let moves = shared.edge.ops.rebalance(Rebalance { is_dry_run: dry_run, at_once }).await?;
    if !dry_run {
        tracing::info!(shards = moves.len(), at_once, by = %identity.user, "the shards are spread evenly");
    }
    let status = if dry_run { StatusCode::OK } else { StatusCode::ACCEPTED };
    let view = PlanView { dry_run, at_once, moves: moves.into_iter().map(MoveView::new).collect() };
    Ok(json(status, &view))
}
