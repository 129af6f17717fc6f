//! Whether the process lives, and whether it can sell.

use std::sync::Arc;

use actors::handle::{MirrorAway, ShardStatus};
use actors::reach::LedgerAway;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::Shared;
use super::unready::Unready;

/// Why a server is ready, or not.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Readiness {
    ready: bool,
    /// One sentence for each thing that is missing.
    reasons: Vec<String>,
    /// One sentence for each thing that is away while the sale goes on without it.
    warnings: Vec<String>,
    shards: Shards,
    /// Imported options that no shard sells yet.
    intake_pending: usize,
    shutting_down: bool,
}

/// How many shards are in which state.
#[derive(Serialize, ToSchema)]
pub(super) struct Shards {
    serving: usize,
    starting: usize,
    stopped: usize,
}

impl Readiness {
    /// There is nothing to be ready with.
    pub(super) fn waiting(why: String) -> Self {
        Self {
            ready: false,
            reasons: vec![why],
            warnings: Vec::new(),
            shards: Shards { serving: 0, starting: 0, stopped: 0 },
            intake_pending: 0,
            shutting_down: false,
        }
    }
}

/// The process answers.
#[utoipa::path(get, path = "/healthz", tag = "ops", operation_id = "healthz",
    responses((status = 200, description = "The process lives", content_type = "text/plain", body = String)))]
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether every shard serves and every option is on sale, and if not, why.
#[utoipa::path(get, path = "/readyz", tag = "ops", operation_id = "readyz",
    responses(
        (status = 200, description = "Ready", body = Readiness),
        (status = 503, description = "Not ready; the same body says why", body = Readiness)))]
pub(super) async fn readyz(State(shared): State<Arc<Shared>>) -> Response {
    let readiness = readiness(&shared);
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, axum::Json(readiness)).into_response()
}

fn readiness(shared: &Shared) -> Readiness {
    let statuses = shared.edge.handle.statuses();
    let count =
        |wanted: fn(&ShardStatus) -> bool| statuses.iter().filter(|(_, status)| wanted(status)).count();
    let shards = Shards {
        serving: count(|status| matches!(status, ShardStatus::Serving(_))),
        starting: count(|status| matches!(status, ShardStatus::Starting)),
        stopped: count(|status| matches!(status, ShardStatus::Stopped)),
    };
    let intake_pending = shared.edge.directory.pending();
    let shutting_down = shared.edge.shutdown.is_cancelled();
    let mut reasons = Vec::new();
    if shards.starting > 0 {
        let why = shared.edge.handle.restore_trouble().map_or_else(String::new, |why| format!(": {why}"));
        reasons.push(format!("{} of {} shards are starting{why}", shards.starting, statuses.len()));
    }
    if shards.stopped > 0 {
        reasons.push(format!("{} of {} shards have stopped", shards.stopped, statuses.len()));
    }
    if statuses.is_empty() {
        reasons.push("no shard has been started".to_owned());
    }
    if intake_pending > 0 {
        reasons.push(format!("{intake_pending} imported options are not on sale yet"));
    }
    if shutting_down {
        reasons.push("the server is shutting down".to_owned());
    }
    let mut warnings = Vec::new();
    if let Some(LedgerAway { since, why }) = shared.edge.handle.ledger_away() {
        let away = format!("the ledger has not answered for {} s ({why})", since.elapsed().as_secs());
        if reasons.is_empty() {
            // Without this node nobody could click at all, so it stays in the balance.
            warnings.push(format!("{away}: clicks go on, holds wait for it"));
        } else {
            reasons.push(away);
        }
    }
    if let Some(MirrorAway { why, since_start }) = shared.edge.handle.mirror_away() {
        let away = format!("soft locks are not mirrored ({why})");
        // A sale that has begun goes on; before that there is somebody to ask whether it should begin so.
        if since_start {
            reasons.push(away);
        } else {
            warnings.push(format!("{away}: a crash would forget them"));
        }
    }
    let gated = shared.edge.directory.gated();
    if gated > 0 && !shared.edge.settings.keeps_lines {
        let why = Unready::MirrorNotShared;
        warnings.push(format!("{gated} waiting rooms lose their line when they go to another node: {why}"));
    }
    Readiness { ready: reasons.is_empty(), reasons, warnings, shards, intake_pending, shutting_down }
}
