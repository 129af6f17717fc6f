//! Open and close an option.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use engine::option::OptionStatus;
use engine::{Command, Granted};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::http::Shared;
use crate::http::ask::{OptionPath, unexpected};
use crate::http::error::Problem;
use crate::http::extract::{Json, Operator};
use crate::http::idempotency::IdempotencyKey;
use crate::http::wire::ProblemBody;

/// Whether an option sells.
#[derive(Clone, Copy, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(in crate::http) enum SaleStatus {
    OnSale,
    Closed,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct StatusRequest {
    status: SaleStatus,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::http) struct StatusView {
    option_id: u32,
    status: SaleStatus,
}

/// Open or close an option. Closing frees its soft locks; what is held or sold stays.
#[utoipa::path(put, path = "/admin/v1/options/{optionId}/status", tag = "admin", operation_id = "setOptionStatus",
    params(("optionId" = u64, Path, description = "The option"),
        ("Idempotency-Key" = String, Header, description = "1 to 255 visible ASCII; the same on a retry")),
    request_body(content = StatusRequest, example = json!({"status": "CLOSED"})),
    responses(
        (status = 200, description = "As asked, and durable", body = StatusView),
        (status = 403, description = "FORBIDDEN", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "OPTION_UNKNOWN", body = ProblemBody,
            content_type = "application/problem+json")),
    security(("token" = [])))]
pub(in crate::http) async fn set_status(
    State(shared): State<Arc<Shared>>,
    Operator(identity): Operator,
    OptionPath(entry): OptionPath,
    IdempotencyKey(key): IdempotencyKey,
    Json(wanted): Json<StatusRequest>,
) -> Result<Response, Problem> {
    let status = match wanted.status {
        SaleStatus::OnSale => OptionStatus::OnSale,
        SaleStatus::Closed => OptionStatus::Closed,
    };
    let command = Command::SetOptionStatus { option: entry.option, status };
    let verdict = shared.ask(entry.shard, &identity, Some(key), command).await?;
    match &verdict.granted {
        Granted::Done => {
            shared.refresh_directory().await;
            let view = StatusView { option_id: entry.option.0, status: wanted.status };
            Ok(verdict.respond(StatusCode::OK, &view))
        }
        other => Err(unexpected(other)),
    }
}
