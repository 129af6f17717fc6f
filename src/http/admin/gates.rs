//! How concerts' waiting rooms are set, how they are, and what became of it.

use std::sync::Arc;

use actors::gates::ports::{Admitted, GateRow, History, HistoryRow};
use actors::gates::{GateAsk, GateInfo, GateSaid};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use engine::gate::{Mode, Policy, State as GateState};
use engine::{ConcertId, Time, UserId};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::http::Shared;
use crate::http::ask::json;
use crate::http::error::Problem;
use crate::http::extract::{ConcertPath, Json, Operator, Query, page_limit, public_id};
use crate::http::queue::odd;
use crate::http::unready::Unready;
use crate::http::wire::{Instant, Page, ProblemBody};

/// How a waiting room shall be. What is left out is not as before, but as it is by default.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::http) struct GateRequest {
    state: StateName,
    /// `fifo` when it is left out.
    #[serde(default)]
    mode: ModeName,
    /// Admissions in any second, at most; 1 to 1,000,000.
    per_second: Option<u64>,
    /// People in the sale at once, at most; 1 to 1,048,576.
    max_active: Option<u64>,
    /// Nobody is admitted earlier. RFC 3339; a presale is drawn then.
    #[schema(value_type = Option<String>, format = DateTime)]
    opens_at: Option<jiff::Timestamp>,
}

/// Whether it lets anybody in.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::http) enum StateName {
    /// In turn.
    Open,
    /// Nobody; the line grows and keeps its order.
    Paused,
    /// Everybody, without a pass.
    Off,
    /// Nobody any more: sold out.
    Closed,
}

/// In which order.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(in crate::http) enum ModeName {
    #[default]
    Fifo,
    PresaleDraw,
}

/// How a waiting room is set.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::http) struct GateSetting {
    state: &'static str,
    mode: &'static str,
    per_second: Option<u32>,
    max_active: Option<u32>,
    opens_at: Option<Instant>,
}

/// A waiting room as it is set now.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::http) struct GateSetView {
    concert_id: u64,
    /// 1 for the first setting, one more with each change.
    version: u64,
    #[serde(flatten)]
    setting: GateSetting,
    changed_at: Instant,
    /// `false`: it was so before, and nothing happened.
    changed: bool,
}

/// A waiting room as it is.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::http) struct GateView {
    concert_id: u64,
    /// 0: nobody ever set it, and it is off.
    version: u64,
    #[serde(flatten)]
    setting: GateSetting,
    changed_at: Option<Instant>,
    /// People in line, those away included.
    waiting: usize,
    /// Passes that live.
    active: usize,
    /// People let in since the node that owns it took it up.
    admitted: u64,
    /// Whether a crash now would lose nothing.
    durable: bool,
}

/// A line of a waiting room's history.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::http) struct GateHistoryView {
    /// From 1, by concert.
    no: u64,
    at: Instant,
    #[serde(flatten)]
    what: GateHistoryKind,
}

#[derive(Serialize, ToSchema)]
#[serde(tag = "what", rename_all = "SCREAMING_SNAKE_CASE", rename_all_fields = "camelCase")]
pub(in crate::http) enum GateHistoryKind {
    /// Somebody set it.
    Set {
        version: u64,
        #[serde(flatten)]
        setting: GateSetting,
        /// The user's id.
        by: u64,
    },
    /// So many were let in after `since`, until `at`.
    Admitted { since: Instant, count: u64 },
}

impl GateSetting {
    fn new(policy: &Policy) -> Self {
        Self {
            state: policy.state.name(),
            mode: policy.mode.name(),
            per_second: policy.per_second,
            max_active: policy.max_active,
            opens_at: policy.opens_at.map(Instant),
        }
    }
}

impl GateRequest {
    fn policy(&self) -> Policy {
        // Whether it makes sense is the engine's to say: a number beyond 32 bits is out of every bound.
        let squeezed = |number: Option<u64>| number.map(|number| u32::try_from(number).unwrap_or(u32::MAX));
        Policy {
            state: match self.state {
                StateName::Open => GateState::Open,
                StateName::Paused => GateState::Paused,
                StateName::Off => GateState::Off,
                StateName::Closed => GateState::Closed,
            },
            mode: match self.mode {
                ModeName::Fifo => Mode::Fifo,
                ModeName::PresaleDraw => Mode::PresaleDraw,
            },
            per_second: squeezed(self.per_second),
            max_active: squeezed(self.max_active),
            opens_at: self.opens_at.map(|at| Time(at.as_microsecond())),
        }
    }
}

/// Set a concert's waiting room; durable, and in force, when it is answered. Set as it is, it answers `changed: false`.
#[utoipa::path(put, path = "/admin/v1/gates/{concertId}", tag = "admin", operation_id = "setGate",
    params(("concertId" = u64, Path, description = "The concert")),
    request_body(content = GateRequest, examples(
        ("open" = (value = json!({"state": "open", "perSecond": 200, "maxActive": 5000}))),
        ("presale" = (value = json!({"state": "open", "mode": "presale-draw", "perSecond": 200,
            "opensAt": "2027-05-01T10:00:00Z"}))),
        ("sold out" = (value = json!({"state": "closed"}))))),
    responses(
        (status = 200, description = "As it is set now", body = GateSetView),
        (status = 403, description = "FORBIDDEN", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "NOT_FOUND", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "RANKS_TOLD or DRAW_UNDER_WAY", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 422, description = "RATE_OUT_OF_BOUNDS, CEILING_OUT_OF_BOUNDS, NO_BOUND or OPENING_MISSING",
            body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "OVERLOADED or LEDGER_UNAVAILABLE: it may still happen, ask how it is set; or \
            PASS_KEY_MISSING: gate.keys is not configured; MIRROR_NOT_SHARED: mirror.url is not",
            body = ProblemBody, content_type = "application/problem+json")),
    security(("token" = [])))]
pub(in crate::http) async fn set(
    State(shared): State<Arc<Shared>>,
    Operator(identity): Operator,
    ConcertPath(concert): ConcertPath,
    Json(wanted): Json<GateRequest>,
) -> Result<Response, Problem> {
    let shard = shared.concert(concert)?.shard;
    let policy = wanted.policy();
    if policy.state != GateState::Off {
        // Whoever is let in must get a pass, and whoever waits keep their place wherever the gate goes.
        shared.edge.passes.can_sign()?;
        if !shared.edge.settings.keeps_lines {
            return Err(Problem::Unready(Unready::MirrorNotShared));
        }
    }
    let ask = GateAsk::Set { policy, by: identity.user };
    match shared.ask_gate(shard, concert, ask, shared.edge.settings.ledger_ack_timeout).await? {
        GateSaid::Set { changed, row } => {
            if changed {
                shared.refresh_directory().await;
                tracing::info!(%concert, state = row.policy.state.name(), by = %identity.user, "a gate is set");
            }
            let view = GateSetView {
                concert_id: concert.0,
                version: row.version,
                setting: GateSetting::new(&row.policy),
                changed_at: Instant(row.changed_at),
                changed,
            };
            Ok(json(StatusCode::OK, &view))
        }
        GateSaid::Refused(fault) => Err(Problem::GateRefused(fault)),
        other => Err(odd(&other)),
    }
}

/// How a concert's waiting room is set, and how full it is.
#[utoipa::path(get, path = "/admin/v1/gates/{concertId}", tag = "admin", operation_id = "gate",
    params(("concertId" = u64, Path, description = "The concert")),
    responses(
        (status = 200, description = "As its owner sees it", body = GateView),
        (status = 403, description = "FORBIDDEN", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "NOT_FOUND", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "OVERLOADED", body = ProblemBody,
            content_type = "application/problem+json")),
    security(("token" = [])))]
pub(in crate::http) async fn get(
    State(shared): State<Arc<Shared>>,
    _operator: Operator,
    ConcertPath(concert): ConcertPath,
) -> Result<Response, Problem> {
    let shard = shared.concert(concert)?.shard;
    match shared.ask_gate(shard, concert, GateAsk::Info, shared.edge.settings.click_timeout).await? {
        GateSaid::Info(info) => Ok(json(StatusCode::OK, &view(concert, &info))),
        other => Err(odd(&other)),
    }
}

fn view(concert: ConcertId, GateInfo { row, load, durable }: &GateInfo) -> GateView {
    GateView {
        concert_id: concert.0,
        version: row.map_or(0, |row| row.version),
        setting: GateSetting::new(&row.map_or_else(Policy::default, |row| row.policy)),
        changed_at: row.map(|row| Instant(row.changed_at)),
        waiting: load.waiting,
        active: load.passes,
        admitted: load.admitted,
        durable: *durable,
    }
}

/// Which page of the history.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct HistoryQuery {
    /// `nextCursor` of the page before.
    cursor: Option<String>,
    /// 1 to 200; 50 when left out.
    #[param(value_type = Option<u32>)]
    limit: Option<String>,
}

/// Who set a concert's waiting room when, and how many it let in when; newest first.
#[utoipa::path(get, path = "/admin/v1/gates/{concertId}/history", tag = "admin", operation_id = "gateHistory",
    params(("concertId" = u64, Path, description = "The concert"), HistoryQuery),
    responses(
        (status = 200, description = "A page of it", body = Page<GateHistoryView>, example = json!({"items": [
            {"no": 2, "at": "2027-05-01T10:00:10Z", "what": "ADMITTED", "since": "2027-05-01T10:00:00Z",
                "count": 2000},
            {"no": 1, "at": "2027-05-01T09:00:00Z", "what": "SET", "version": 1, "state": "open", "mode": "fifo",
                "perSecond": 200, "maxActive": null, "opensAt": null, "by": 3}], "nextCursor": null})),
        (status = 403, description = "FORBIDDEN", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "NOT_FOUND", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "LEDGER_UNAVAILABLE", body = ProblemBody,
            content_type = "application/problem+json")),
    security(("token" = [])))]
pub(in crate::http) async fn history(
    State(shared): State<Arc<Shared>>,
    _operator: Operator,
    ConcertPath(concert): ConcertPath,
    Query(query): Query<HistoryQuery>,
) -> Result<Response, Problem> {
    shared.concert(concert)?;
    let limit = page_limit(query.limit.as_deref())?;
    let before = query.cursor.as_deref().map(|cursor| public_id(cursor, "/query/cursor")).transpose()?;
    // One more says whether there is another page.
    let mut rows = shared.edge.gate_ledger.gate_history(concert, before, limit + 1).await?;
    let more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    let next_cursor = rows.last().filter(|_| more).map(|row| row.no.to_string());
    let items = rows.iter().map(GateHistoryView::new).collect();
    Ok(json(StatusCode::OK, &Page::<GateHistoryView> { items, next_cursor }))
}

impl GateHistoryView {
    fn new(row: &HistoryRow) -> Self {
        let (at, what) = match row.what {
            History::Set { row: GateRow { version, policy, changed_at, .. }, by: UserId(by) } => {
                (changed_at, GateHistoryKind::Set { version, setting: GateSetting::new(&policy), by })
            }
            History::Admitted(Admitted { since, until, count }) => {
                (until, GateHistoryKind::Admitted { since: Instant(since), count })
            }
        };
        Self { no: row.no, at: Instant(at), what }
    }
}
