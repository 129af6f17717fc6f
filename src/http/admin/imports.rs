//! New concerts and options, from a seating plan.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use engine::Time;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::catalogue::{Import, Imported, PlanError, ReadOptions, read_plan};
use crate::http::Shared;
use crate::http::ask::json;
use crate::http::error::Problem;
use crate::http::extract::{LargeJson, Operator, from_json};
use crate::http::wire::{ConcertView, OptionView, ProblemBody};

/// Characters of a title.
const TITLE_CHARACTERS: usize = 200;

/// A concert, or a further option of the concert of that title.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::http) struct ImportRequest {
    /// 1 to 200 characters.
    title: String,
    /// RFC 3339 with an offset.
    #[schema(format = "date-time")]
    starts_at: String,
    /// Put the concert into a shard that has no other.
    #[serde(default)]
    own_shard: bool,
    /// ISO 4217; goes before what the plan says.
    currency: Option<String>,
    /// By category name, in minor units; goes before what the plan says.
    #[serde(default)]
    prices: BTreeMap<String, i64>,
    /// A seating plan in pretix's JSON (`zones`) or in the short form (`sections`).
    #[schema(value_type = Object)]
    plan: Box<RawValue>,
}

/// What an import made.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::http) struct ImportedView {
    concert: ConcertView,
    option: OptionView,
    /// What the reader decided because the plan did not say.
    warnings: Vec<String>,
}

/// Add an option, and its concert where there is none of that title. Its shard adds it to the sale at once.
#[utoipa::path(post, path = "/admin/v1/imports", tag = "admin", operation_id = "import",
    request_body(content = ImportRequest, description = "At most 64 MiB",
        example = json!({"title": "A Hall of Fifty", "startsAt": "2027-05-01T19:00:00+09:00", "currency": "KRW",
            "plan": {"sections": [{"code": "A", "rows": [{"label": "1", "from": 1, "to": 10}]}]}})),
    responses(
        (status = 201, description = "Imported", body = ImportedView),
        (status = 400, description = "MALFORMED: what is wrong with the plan, and where", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 403, description = "FORBIDDEN", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "IMPORT_REFUSED: it contradicts the catalogue", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 413, description = "TOO_LARGE", body = ProblemBody, content_type = "application/problem+json")),
    security(("token" = [])))]
pub(in crate::http) async fn import(
    State(shared): State<Arc<Shared>>,
    _operator: Operator,
    LargeJson(bytes): LargeJson,
) -> Result<Response, Problem> {
    // A stadium takes a good part of a second to read: not on the threads that answer clicks.
    let read = tokio::task::spawn_blocking(move || read(&bytes)).await;
    let (import, warnings) =
        read.map_err(|error| Problem::Internal(format!("an import was not read: {error}")))??;
    let Imported { concert, option } = shared.edge.catalogue.import(&import).await?;
    tracing::info!(concert = concert.concert.0, option = option.option.0, title = concert.title, "imported");
    shared.refresh_directory().await;
    shared.edge.intake.wake();
    let view = ImportedView {
        concert: ConcertView::new(&concert),
        option: OptionView::imported(&option, &import.plan.currency),
        warnings,
    };
    Ok(json(StatusCode::CREATED, &view))
}

fn read(bytes: &[u8]) -> Result<(Import, Vec<String>), Problem> {
    let wanted: ImportRequest = from_json(bytes)?;
    let title = wanted.title.trim();
    let characters = title.chars().count();
    if characters == 0 || characters > TITLE_CHARACTERS || title.chars().any(char::is_control) {
        let detail =
            format!("A title has 1 to {TITLE_CHARACTERS} characters, none of them a control character.");
        return Err(Problem::malformed("/title", detail));
    }
    let starts_at: jiff::Timestamp = wanted.starts_at.parse().map_err(|error: jiff::Error| {
        Problem::malformed("/startsAt", format!("Not an RFC 3339 instant with an offset: {error}."))
    })?;
    let options = ReadOptions { prices: wanted.prices, currency: wanted.currency };
    let (plan, warnings) =
        read_plan(wanted.plan.get().as_bytes(), &options).map_err(|error| misplaced(&error))?;
    let import = Import {
        title: title.to_owned(),
        starts_at: Time(starts_at.as_microsecond()),
        plan: Arc::new(plan),
        own_shard: wanted.own_shard,
    };
    Ok((import, warnings.into_iter().map(|warning| warning.0).collect()))
}

/// The plan's own error, with its place as a pointer into the body where it is one.
fn misplaced(error: &PlanError) -> Problem {
    let pointer = match error.place.as_str() {
        "currency" => "/currency".to_owned(),
        place if place.starts_with("price of ") => "/prices".to_owned(),
        place if place.starts_with('/') => format!("/plan{place}"),
        _ => "/plan".to_owned(),
    };
    Problem::malformed(pointer, format!("{error}."))
}
