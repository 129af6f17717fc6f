//! From selected seats to a reservation that waits for payment.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use engine::{Command, ReservationId};
use serde::Deserialize;
use utoipa::ToSchema;

use super::Shared;
use super::ask::OptionPath;
use super::auth::Identity;
use super::error::Problem;
use super::extract::Json;
use super::idempotency::IdempotencyKey;
use super::passes::PassHeader;
use super::wire::{ProblemBody, ReservationView, Seats};

/// Seats that the caller has selected.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HoldRequest {
    #[schema(value_type = Vec<u32>)]
    pub(super) seats: Seats,
}

/// Turn selected seats into a reservation. Durable before it is answered.
#[utoipa::path(post, path = "/api/v1/options/{optionId}/holds", tag = "sale", operation_id = "hold",
    params(("optionId" = u64, Path, description = "The option"),
        ("Idempotency-Key" = String, Header, description = "1 to 255 visible ASCII; the same on a retry"),
        ("Hotseat-Pass" = Option<String>, Header, description = "The pass of the concert's gate, where that is on")),
    request_body(content = HoldRequest, example = json!({"seats": [3, 4]})),
    responses(
        (status = 201, description = "Held until `holdExpiresAt`", body = ReservationView),
        (status = 403, description = "PASS_REQUIRED: the concert's gate is on", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 404, description = "OPTION_UNKNOWN", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 409,
            description = "NOT_SELECTED, LIMIT_REACHED, OPTION_CLOSED, or REQUEST_REUSED: the key has other content",
            body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "SEATS_INVALID", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 503, description = "LEDGER_UNAVAILABLE: it may still happen; retry with the same key", 
            body = ProblemBody, content_type = "application/problem+json")),
    security(("token" = [])))]
pub(super) async fn hold(
    State(shared): State<Arc<Shared>>,
    identity: Identity,
    OptionPath(entry): OptionPath,
    IdempotencyKey(key): IdempotencyKey,
    PassHeader(pass): PassHeader,
    Json(wanted): Json<HoldRequest>,
) -> Result<Response, Problem> {
    let reservation = ReservationId::stamp(uuid::Uuid::now_v7().as_u128(), entry.option);
    let command = Command::Hold { option: entry.option, seats: wanted.seats.0, reservation };
    let pass = shared.pass_for(pass.as_ref(), entry.concert, identity.user);
    let verdict = shared.ask_with(entry.shard, &identity, pass, Some(key), command).await?;
    let view = ReservationView::new(verdict.reservation()?, &entry);
    Ok(verdict.respond(StatusCode::CREATED, &view))
}
