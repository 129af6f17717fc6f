//! Soft locks: the hot path.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use engine::{Command, Granted};
use serde::Deserialize;
use utoipa::ToSchema;

use super::Shared;
use super::ask::{OptionPath, unexpected};
use super::auth::Identity;
use super::error::Problem;
use super::extract::{Json, OptionalJson};
use super::passes::PassHeader;
use super::wire::{Instant, Labelled, Object, ProblemBody, ReleasedView, Seat, Seats, SelectionView};
use crate::catalogue::directory::OptionEntry;

/// Either `seats` or `best`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SelectRequest {
    /// 1 to 8 seat numbers, all or none.
    #[schema(value_type = Option<Vec<u32>>)]
    seats: Option<Seats>,
    /// Seats of the server's choice.
    #[schema(value_type = Option<Best>)]
    best: Option<Object<Best>>,
}

/// Adjacent seats, never leaving a lone one where another choice exists.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Best {
    /// How many, 1 to 8.
    #[schema(value_type = u32, example = 2)]
    party: Seat,
    /// Only in the section of this code.
    section: Option<String>,
    /// Only of the category of this name.
    category: Option<String>,
}

/// Which seats to give back.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReleaseRequest {
    #[schema(value_type = Vec<u32>)]
    seats: Seats,
}

/// Soft-lock seats: these, or the best ones together.
#[utoipa::path(post, path = "/api/v1/options/{optionId}/selections", tag = "sale", operation_id = "select",
    params(("optionId" = u64, Path, description = "The option"),
        ("Hotseat-Pass" = Option<String>, Header, description = "The pass of the concert's gate, where that is on")),
    request_body(content = SelectRequest, examples(
        ("seats" = (value = json!({"seats": [3, 4]}))),
        ("best" = (value = json!({"best": {"party": 2, "section": "A", "category": "Standard"}}))))),
    responses(
        (status = 201, description = "Selected", body = SelectionView,
            example = json!({"optionId": 1, "seats": [{"seatNo": 3, "label": "A-1-4"}],
                "expiresAt": "2027-05-01T10:00:30Z"})),
        (status = 200, description = "Every seat was mine already; renewed", body = SelectionView),
        (status = 403, description = "PASS_REQUIRED: the concert's gate is on", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 404, description = "OPTION_UNKNOWN", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 409, description = "SEAT_TAKEN, NO_SEATS_TOGETHER, LIMIT_REACHED, SELECT_TOO_LONG or OPTION_CLOSED",
            body = ProblemBody, content_type = "application/problem+json",
            example = json!({"type": "urn:hotseat:problem:SEAT_TAKEN", "title": "A seat is taken", "status": 409,
                "detail": "None of the seats was selected; `conflicts` names those that clash.",
                "code": "SEAT_TAKEN", "requestId": "0198c0de-0000-7000-8000-000000000001",
                "conflicts": [{"seatNo": 3, "state": "HOLD"}]})),
        (status = 422, description = "SEATS_INVALID: none, more than 8, one twice, or one outside the plan",
            body = ProblemBody, content_type = "application/problem+json")),
    security(("token" = [])))]
pub(super) async fn select(
    State(shared): State<Arc<Shared>>,
    identity: Identity,
    OptionPath(entry): OptionPath,
    PassHeader(pass): PassHeader,
    Json(wanted): Json<SelectRequest>,
) -> Result<Response, Problem> {
    answer_select(&shared, &identity, &entry, pass.as_ref(), wanted).await
}

/// The handler behind the extractors; the express lane of [`super::site`] comes in here.
pub(super) async fn answer_select(
    shared: &Shared,
    identity: &Identity,
    entry: &OptionEntry,
    pass: Option<&HeaderValue>,
    wanted: SelectRequest,
) -> Result<Response, Problem> {
    let command = match (wanted.seats, wanted.best) {
        (Some(Seats(seats)), None) => Command::Select { option: entry.option, seats },
        (None, Some(Object(best))) => best.command(entry)?,
        _ => return Err(Problem::malformed("", "Send either `seats` or `best`.")),
    };
    let pass = shared.pass_for(pass, entry.concert, identity.user);
    let verdict = shared.ask_with(entry.shard, identity, pass, None, command).await?;
    match &verdict.granted {
        Granted::Selected { option, seats, expires_at, renewed } => {
            let status = if *renewed { StatusCode::OK } else { StatusCode::CREATED };
            let body = SelectionView {
                option_id: option.0,
                seats: Labelled::new(entry, *seats),
                expires_at: Instant(*expires_at),
            };
            Ok(verdict.respond(status, &body))
        }
        other => Err(unexpected(other)),
    }
}

/// Give soft locks back: these, or all of mine in the option.
#[utoipa::path(delete, path = "/api/v1/options/{optionId}/selections", tag = "sale", operation_id = "release",
    params(("optionId" = u64, Path, description = "The option"),
        ("Hotseat-Pass" = Option<String>, Header, description = "The pass of the concert's gate, where that is on")),
    request_body(content = Option<ReleaseRequest>, description = "Without a body: all of mine",
        example = json!({"seats": [3]})),
    responses(
        (status = 200, description = "Given back; `released` is empty when there was nothing", body = ReleasedView,
            example = json!({"optionId": 1, "released": [{"seatNo": 3, "label": "A-1-4"}]})),
        (status = 403, description = "PASS_REQUIRED: the concert's gate is on", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 404, description = "OPTION_UNKNOWN", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 409, description = "NOT_SELECTED: a named seat is not mine", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 422, description = "SEATS_INVALID", body = ProblemBody,
            content_type = "application/problem+json")),
    security(("token" = [])))]
pub(super) async fn release(
    State(shared): State<Arc<Shared>>,
    identity: Identity,
    OptionPath(entry): OptionPath,
    PassHeader(pass): PassHeader,
    OptionalJson(wanted): OptionalJson<ReleaseRequest>,
) -> Result<Response, Problem> {
    answer_release(&shared, &identity, &entry, pass.as_ref(), wanted).await
}

/// The handler behind the extractors; the express lane of [`super::site`] comes in here.
pub(super) async fn answer_release(
    shared: &Shared,
    identity: &Identity,
    entry: &OptionEntry,
    pass: Option<&HeaderValue>,
    wanted: Option<ReleaseRequest>,
) -> Result<Response, Problem> {
    let seats = wanted.map(|ReleaseRequest { seats: Seats(seats) }| seats);
    let command = Command::Release { option: entry.option, seats };
    let pass = shared.pass_for(pass, entry.concert, identity.user);
    let verdict = shared.ask_with(entry.shard, identity, pass, None, command).await?;
    match &verdict.granted {
        Granted::Released { option, seats } => {
            let body = ReleasedView { option_id: option.0, released: Labelled::new(entry, *seats) };
            Ok(verdict.respond(StatusCode::OK, &body))
        }
        other => Err(unexpected(other)),
    }
}

impl Best {
    pub(crate) fn command(&self, entry: &OptionEntry) -> Result<Command, Problem> {
        let unknown = |place: &str, what: &str, name: &str| {
            Problem::malformed(format!("/best/{place}"), format!("The plan has no {what} {name:?}."))
        };
        let section = match &self.section {
            None => None,
            Some(code) => Some(entry.section(code).ok_or_else(|| unknown("section", "section", code))?),
        };
        let category = match &self.category {
            None => None,
            Some(name) => Some(entry.category(name).ok_or_else(|| unknown("category", "category", name))?),
        };
        Ok(Command::SelectBest { option: entry.option, party: self.party.0, section, category })
    }
}
