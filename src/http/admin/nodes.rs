//! The nodes of the cluster, and that one gives up its shards.

use std::sync::Arc;

use actors::ops::{LedgerReach, NodeInfo, NodeState};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use super::moves::MoveView;
use crate::http::Shared;
use crate::http::ask::json;
use crate::http::error::Problem;
use crate::http::extract::{NoBody, NodePath, Operator};
use crate::http::wire::{Page, ProblemBody};

/// A node, as the one that answers sees it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::http) struct NodeView {
    #[schema(example = "hotseat-1")]
    node: String,
    /// Where clients reach it.
    url: String,
    /// Where other nodes reach it; `null` where it does not listen for any.
    peer_url: Option<String>,
    /// UP, DRAINING (it gives its shards away and takes no more) or SILENT (it does not answer).
    #[schema(example = "UP")]
    state: &'static str,
    /// How many shards it has.
    shards: usize,
    /// REACHES, AWAY or UNKNOWN: what it last said about the ledger.
    #[schema(example = "REACHES")]
    ledger: &'static str,
}

/// What a drain takes.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::http) struct DrainView {
    node: String,
    moves: Vec<MoveView>,
}

/// Every node of the cluster, by name.
#[utoipa::path(get, path = "/admin/v1/nodes", tag = "admin", operation_id = "nodes",
    responses(
        (status = 200, description = "All of them", body = Page<NodeView>),
        (status = 403, description = "FORBIDDEN", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "LEDGER_UNAVAILABLE", body = ProblemBody,
            content_type = "application/problem+json")),
    security(("token" = [])))]
pub(in crate::http) async fn list(
    State(shared): State<Arc<Shared>>,
    _operator: Operator,
) -> Result<Response, Problem> {
    let items: Vec<NodeView> = shared.edge.ops.nodes().await?.into_iter().map(view).collect();
    Ok(json(StatusCode::OK, &Page { items, next_cursor: None }))
}

/// Have a node give all its shards to the others and take no more, until its process ends.
#[utoipa::path(post, path = "/admin/v1/nodes/{node}/drain", tag = "admin", operation_id = "drain",
    params(("node" = String, Path, description = "The node's name")),
    responses(
        (status = 202, description = "Begun; `GET /admin/v1/moves` tells how far it is", body = DrainView),
        (status = 403, description = "FORBIDDEN", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "NOT_FOUND: no such node", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 409, description = "ALONE or NODE_SILENT", body = ProblemBody,
            content_type = "application/problem+json")),
    security(("token" = [])))]
pub(in crate::http) async fn drain(
    State(shared): State<Arc<Shared>>,
    Operator(identity): Operator,
    NodePath(node): NodePath,
    _no_body: NoBody,
) -> Result<Response, Problem> {
    let moves = shared.edge.ops.drain(&node).await?;
    tracing::info!(node, shards = moves.len(), by = %identity.user, "a node is drained");
    let view = DrainView { node, moves: moves.into_iter().map(MoveView::new).collect() };
    Ok(json(StatusCode::ACCEPTED, &view))
}

fn view(node: NodeInfo) -> NodeView {
    NodeView {
        node: node.node,
        url: node.url,
        peer_url: Some(node.peer_url).filter(|url| !url.is_empty()),
        state: match node.state {
            NodeState::Up => "UP",
            NodeState::Draining => "DRAINING",
            NodeState::Silent => "SILENT",
        },
        shards: node.shards,
        ledger: match node.ledger {
            LedgerReach::Reaches => "REACHES",
            LedgerReach::Away => "AWAY",
            LedgerReach::Unknown => "UNKNOWN",
        },
    }
}
