//! What is for sale.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use engine::ConcertId;
use serde::Deserialize;
use utoipa::IntoParams;

use super::Shared;
use super::ask::json;
use super::error::Problem;
use super::extract::{ConcertPath, Query, page_limit, public_id};
use super::wire::{ConcertView, OptionView, Page, ProblemBody};

/// Which page of the list.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// `nextCursor` of the page before.
    cursor: Option<String>,
    /// 1 to 200; 50 when left out.
    #[param(value_type = Option<u32>)]
    limit: Option<String>,
}

/// All concerts, by id.
#[utoipa::path(get, path = "/api/v1/concerts", tag = "catalogue", operation_id = "listConcerts",
    params(ListQuery),
    responses((status = 200, description = "A page of concerts", body = Page<ConcertView>,
        example = json!({"items": [{"concertId": 1, "title": "A Hall of Fifty"}], "nextCursor": null}))))]
pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<ListQuery>,
) -> Result<Response, Problem> {
    let limit = page_limit(query.limit.as_deref())? as usize;
    let after = query.cursor.as_deref().map(|cursor| public_id(cursor, "/query/cursor")).transpose()?;
    let concerts = shared.edge.directory.concerts();
    let mut rest = concerts.iter().filter(|one| after.is_none_or(|after| one.concert.0 > after));
    let items: Vec<ConcertView> = rest.by_ref().take(limit).map(|one| ConcertView::new(one)).collect();
    let next_cursor = match items.last() {
        Some(last) if rest.next().is_some() => Some(last.concert_id.to_string()),
        _ => None,
    };
    Ok(json(StatusCode::OK, &Page { items, next_cursor }))
}

/// One concert.
#[utoipa::path(get, path = "/api/v1/concerts/{concertId}", tag = "catalogue", operation_id = "getConcert",
    params(("concertId" = u64, Path, description = "The concert")),
    responses(
        (status = 200, description = "The concert", body = ConcertView),
        (status = 404, description = "NOT_FOUND", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn get(
    State(shared): State<Arc<Shared>>,
    ConcertPath(concert): ConcertPath,
) -> Result<Response, Problem> {
    let entry = shared.concert(concert)?;
    Ok(json(StatusCode::OK, &ConcertView::new(&entry)))
}

/// The options of a concert: its dated performances, by id.
#[utoipa::path(get, path = "/api/v1/concerts/{concertId}/options", tag = "catalogue", operation_id = "listOptions",
    params(("concertId" = u64, Path, description = "The concert")),
    responses(
        (status = 200, description = "All options of the concert", body = Page<OptionView>),
        (status = 404, description = "NOT_FOUND", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn options(
    State(shared): State<Arc<Shared>>,
    ConcertPath(concert): ConcertPath,
) -> Result<Response, Problem> {
    shared.concert(concert)?;
    let items = shared.edge.directory.options_of(concert).iter().map(|one| OptionView::new(one)).collect();
    Ok(json(StatusCode::OK, &Page { items, next_cursor: None }))
}

impl Shared {
    pub(super) fn concert(&self, concert: ConcertId) -> Result<Arc<crate::catalogue::Concert>, Problem> {
        self.edge.directory.concert(concert).ok_or(Problem::NotFound("No concert has this id."))
    }
}
