//! The static plan of an option: fetched once, cached for ever by its hash.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use serde::Deserialize;
use utoipa::IntoParams;

use super::ask::OptionPath;
use super::cached::{accepts_gzip, matches_etag};
use super::error::Problem;
use super::extract::Query;
use super::wire::{PlanView, ProblemBody};

/// Under its hash a plan never changes. Without it, the option's plan is what may be another tomorrow.
const FOR_EVER: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
const FOR_A_MINUTE: HeaderValue = HeaderValue::from_static("public, max-age=60");

/// Which plan is expected.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PlanQuery {
    /// `planHash` of the option: the answer may then be kept for ever.
    hash: Option<String>,
}

/// Sections, rows, seats, prices. A seat's number is its place in this order, from 0.
#[utoipa::path(get, path = "/api/v1/options/{optionId}/plan", tag = "catalogue", operation_id = "getPlan",
    params(("optionId" = u64, Path, description = "The option"), PlanQuery),
    responses(
        (status = 200, description = "The plan; its ETag is the hash", body = PlanView),
        (status = 304, description = "You have it"),
        (status = 404, description = "OPTION_UNKNOWN, or NOT_FOUND: the option's plan has another hash",
            body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn plan(
    OptionPath(entry): OptionPath,
    Query(query): Query<PlanQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let cache = match query.hash {
        Some(hash) if hash != entry.plan_hash => {
            return Err(Problem::NotFound("The option's plan has another hash."));
        }
        Some(_) => FOR_EVER,
        None => FOR_A_MINUTE,
    };
    // Weak, because the plan and its compressed form share it.
    let etag = HeaderValue::from_str(&format!("W/\"{}\"", entry.plan_hash))
        .map_err(|_| Problem::Internal("a plan's hash is not hex".to_owned()))?;
    let gzip = accepts_gzip(&headers);
    let mut response = if matches_etag(&headers, &etag) {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        let work = entry.clone();
        let bytes =
            tokio::task::spawn_blocking(move || if gzip { work.plan_gzip() } else { work.plan_json() })
                .await
                .map_err(|error| Problem::Internal(format!("a plan was not encoded: {error}")))?;
        let mut response = Response::new(Body::from(bytes));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if gzip {
            response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    };
    let headers = response.headers_mut();
    headers.insert(header::ETAG, etag);
    headers.insert(header::CACHE_CONTROL, cache);
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    Ok(response)
}
