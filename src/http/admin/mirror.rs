//! Memory beside the mirror, for `hotseat audit`.

use std::sync::Arc;

use actors::mirror::check::{MirrorCheck, MirrorUnchecked};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use super::audit::{MemoryQuery, shard_of};
use crate::http::Shared;
use crate::http::ask::json;
use crate::http::error::Problem;
use crate::http::extract::{Operator, Query};
use crate::http::wire::ProblemBody;

/// A shard's soft locks in memory, beside those in the mirror.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::http) struct MirrorView {
    shard: u16,
    /// Why nothing was compared; `null` when it was.
    not_compared: Option<String>,
    options: usize,
    /// In memory, at the last look.
    soft_locks: usize,
    /// What was different at every look: what is only on its way is no difference.
    differences: Vec<MirrorDifferenceView>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::http) struct MirrorDifferenceView {
    option_id: u32,
    seat_no: u32,
    /// Who has it in memory; `null`: nobody.
    memory_user_id: Option<u64>,
    /// Who has it in the mirror; `null`: nobody.
    mirror_user_id: Option<u64>,
}

/// Whether the mirror says what memory says, beyond its lag. Looks for about a second where it does not.
#[utoipa::path(get, path = "/admin/v1/audit/mirror", tag = "admin", operation_id = "auditMirror",
    params(MemoryQuery),
    responses(
        (status = 200, description = "What was compared and found", body = MirrorView),
        (status = 403, description = "FORBIDDEN", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "NOT_FOUND: no such shard", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 503, description = "OVERLOADED: the shard does not serve now", body = ProblemBody,
            content_type = "application/problem+json")),
    security(("token" = [])))]
pub(in crate::http) async fn mirror(
    State(shared): State<Arc<Shared>>,
    _operator: Operator,
    Query(query): Query<MemoryQuery>,
) -> Result<Response, Problem> {
    let shard = shard_of(&shared, &query)?;
    let (not_compared, check) = match shared.edge.handle.check_mirror(shard).await {
        Ok(check) => (None, check),
        Err(MirrorUnchecked::Shard(unavailable)) => return Err(unavailable.into()),
        Err(error @ MirrorUnchecked::Mirror(_)) => (Some(error.to_string()), MirrorCheck::default()),
    };
    let view = MirrorView {
        shard: shard.0,
        not_compared,
        options: check.options,
        soft_locks: check.soft_locks,
        differences: check
            .differences
            .iter()
            .map(|found| MirrorDifferenceView {
                option_id: found.option.0,
                seat_no: found.seat.0,
                memory_user_id: found.memory.map(|user| user.0),
                mirror_user_id: found.mirror.map(|user| user.0),
            })
            .collect(),
    };
    Ok(json(StatusCode::OK, &view))
}
