//! What a concert allows its users.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use engine::option::PolicyChange;
use engine::{Command, Granted};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::http::Shared;
use crate::http::ask::unexpected;
use crate::http::error::Problem;
use crate::http::extract::{ConcertPath, Json, Operator};
use crate::http::idempotency::IdempotencyKey;
use crate::http::wire::ProblemBody;

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::http) struct PolicyRequest {
    /// Live reservations one user may have in the concert.
    reservations_per_user: u32,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::http) struct PolicyView {
    concert_id: u64,
    reservations_per_user: u32,
}

/// Set a concert's limits. Reservations that are there already stay.
#[utoipa::path(put, path = "/admin/v1/concerts/{concertId}/policy", tag = "admin", operation_id = "setPolicy",
    params(("concertId" = u64, Path, description = "The concert"),
        ("Idempotency-Key" = String, Header, description = "1 to 255 visible ASCII; the same on a retry")),
    request_body(content = PolicyRequest, example = json!({"reservationsPerUser": 4})),
    responses(
        (status = 200, description = "As asked, and durable", body = PolicyView),
        (status = 403, description = "FORBIDDEN", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "NOT_FOUND", body = ProblemBody, content_type = "application/problem+json")),
    security(("token" = [])))]
pub(in crate::http) async fn set(
    State(shared): State<Arc<Shared>>,
    Operator(identity): Operator,
    ConcertPath(concert): ConcertPath,
    IdempotencyKey(key): IdempotencyKey,
    Json(PolicyRequest { reservations_per_user }): Json<PolicyRequest>,
) -> Result<Response, Problem> {
    let shard = shared.concert(concert)?.shard;
    let change = PolicyChange { reservations_per_user: Some(reservations_per_user), gate: None };
    let verdict = shared.ask(shard, &identity, Some(key), Command::SetPolicy { concert, change }).await?;
    match &verdict.granted {
        Granted::Done => {
            let view = PolicyView { concert_id: concert.0, reservations_per_user };
            Ok(verdict.respond(StatusCode::OK, &view))
        }
        other => Err(unexpected(other)),
    }
}
