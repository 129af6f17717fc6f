//! A token for whoever asks. The route exists only with `auth.dev_tokens`, for demos on one's own machine.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use engine::Time;
use engine::ids::PUBLIC_ID_MAX;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Shared;
use super::auth::Role;
use super::error::Problem;
use super::extract::{Json, came_through_proxy};
use super::wire::{Instant, ProblemBody};

/// How long a dev token is good for.
const TTL: Duration = Duration::from_secs(12 * 60 * 60);

/// Whom the token shall name.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct DevTokenRequest {
    /// 1 to 2^53-1.
    #[schema(example = 7)]
    user_id: u64,
    #[serde(default = "user")]
    role: Role,
    #[schema(example = "BASIC")]
    tier: Option<String>,
}

const fn user() -> Role {
    Role::User
}

/// A token and when it ends.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct DevToken {
    token: String,
    expires_at: Instant,
}

/// A token for whoever asks. Exists only with `auth.dev_tokens`; refused to requests that came through a proxy.
#[utoipa::path(post, path = "/api/v1/dev/token", tag = "dev", operation_id = "devToken",
    request_body(content = DevTokenRequest, example = json!({"userId": 7, "role": "USER", "tier": "BASIC"})),
    responses(
        (status = 200, description = "A token of that user and role", body = DevToken),
        (status = 403, description = "FORBIDDEN: the request came through a proxy", body = ProblemBody,
            content_type = "application/problem+json")))]
pub(super) async fn dev_token(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    Json(wanted): Json<DevTokenRequest>,
) -> Result<axum::Json<DevToken>, Problem> {
    if came_through_proxy(&headers) {
        return Err(Problem::Forbidden("Dev tokens are for this machine; the request came through a proxy."));
    }
    if !(1..=PUBLIC_ID_MAX).contains(&wanted.user_id) {
        return Err(Problem::malformed("/userId", "An id is an integer from 1 to 9007199254740991."));
    }
    let (token, expires_at) = shared
        .edge
        .tokens
        .issue(wanted.user_id, wanted.role, wanted.tier, TTL)
        .map_err(|error| Problem::Internal(error.to_string()))?;
    let micros = i64::try_from(expires_at).unwrap_or(i64::MAX / 1_000_000) * 1_000_000;
    Ok(axum::Json(DevToken { token, expires_at: Instant(Time(micros)) }))
}
