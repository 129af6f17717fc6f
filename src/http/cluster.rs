//! Where a concert lives, and what the ledger has committed to.

use std::sync::Arc;

use actors::handle::ShardStatus;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use engine::{ConcertId, Unavailable};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Shared;
use super::ask::json;
use super::error::Problem;
use super::extract::{Query, public_id};
use super::wire::{Page, ProblemBody, hex};

/// Which concert.
#[derive(Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct RouteQuery {
    #[param(value_type = u64, required = true)]
    concert_id: Option<String>,
}

/// The node that owns a concert.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct RouteView<'a> {
    concert_id: u64,
    shard: u16,
    epoch: u64,
    node: &'a str,
    /// Where the owner is reached directly.
    url: &'a str,
}

/// The newest event of a shard: its hash commits to every event before it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct HeadView {
    shard: u16,
    event_seq: u64,
    /// SHA-256 in lower-case hex.
    hash: String,
}

/// Who owns a concert. A client that asks the owner directly saves a hop.
#[utoipa::path(get, path = "/api/v1/route", tag = "cluster", operation_id = "route",
    params(RouteQuery),
    responses(
        (status = 200, description = "The owner", body = RouteView,
            example = json!({"concertId": 1, "shard": 17, "epoch": 3, "node": "node-1",
                "url": "http://127.0.0.1:8080"})),
        (status = 404, description = "NOT_FOUND", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "OVERLOADED: nobody owns it at the moment", body = ProblemBody,
            content_type = "application/problem+json")))]
pub(super) async fn route(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<RouteQuery>,
) -> Result<Response, Problem> {
    let concert = ConcertId(public_id(query.concert_id.as_deref().unwrap_or(""), "/query/concertId")?);
    let shard = shared.concert(concert)?.shard;
    let status = shared.edge.handle.status(shard);
    let settings = &shared.edge.settings;
    let (epoch, node, url) = match &status {
        Some(ShardStatus::Serving(epoch)) => (epoch, &settings.node, &settings.public_url),
        Some(ShardStatus::Elsewhere(epoch, owner)) => (epoch, &owner.node, &owner.public_url),
        Some(ShardStatus::Starting | ShardStatus::Stopped) | None => {
            return Err(Unavailable::Overloaded.into());
        }
    };
    let view = RouteView { concert_id: concert.0, shard: shard.0, epoch: epoch.0, node, url };
    Ok(json(StatusCode::OK, &view))
}

/// The chain head of every shard that has events. Keep one, and the ledger can prove that nothing before it was
/// rewritten since.
#[utoipa::path(get, path = "/api/v1/audit/head", tag = "cluster", operation_id = "auditHead",
    responses((status = 200, description = "The heads, by shard", body = Page<HeadView>)))]
pub(super) async fn audit_head(State(shared): State<Arc<Shared>>) -> Result<Response, Problem> {
    let heads = shared.edge.ledger.heads().await?;
    let items: Vec<HeadView> = heads
        .iter()
        .map(|(shard, head)| HeadView { shard: shard.0, event_seq: head.event_seq, hash: hex(&head.hash) })
        .collect();
    Ok(json(StatusCode::OK, &Page { items, next_cursor: None }))
}
