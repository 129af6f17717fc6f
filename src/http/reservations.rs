//! Reservations: read them, and move them on.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use engine::{Authority, Command, Refusal, ReservationId, ShardId};
use serde::Deserialize;
use utoipa::IntoParams;

use super::Shared;
use super::ask::json;
use super::auth::{Identity, Role};
use super::error::Problem;
use super::extract::{NoBody, Query, ReservationPath, page_limit, reservation_id};
use super::idempotency::IdempotencyKey;
use super::wire::{Page, ProblemBody, ReservationView};

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

/// My reservations, newest first. Read from the ledger.
#[utoipa::path(get, path = "/api/v1/reservations", tag = "sale", operation_id = "listReservations",
    params(ListQuery),
    responses((status = 200, description = "A page of my reservations", body = Page<ReservationView>)),
    security(("token" = [])))]
pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    identity: Identity,
    Query(query): Query<ListQuery>,
) -> Result<Response, Problem> {
    let limit = page_limit(query.limit.as_deref())?;
    let before = query.cursor.as_deref().map(|cursor| reservation_id(cursor, "/query/cursor")).transpose()?;
    let reservations = shared.edge.ledger.reservations_of(identity.user, before, limit).await?;
    let full = reservations.len() == limit as usize;
    let next_cursor = reservations.last().filter(|_| full).map(|last| last.id.to_string());
    let items =
        reservations.iter().map(|one| shared.reservation_view(one)).collect::<Result<Vec<_>, Problem>>()?;
    Ok(json(StatusCode::OK, &Page { items, next_cursor }))
}

/// One reservation: mine, or anybody's for PAYMENT, ADMIN and OPS.
#[utoipa::path(get, path = "/api/v1/reservations/{reservationId}", tag = "sale", operation_id = "getReservation",
    params(("reservationId" = String, Path, description = "The reservation", format = "uuid")),
    responses(
        (status = 200, description = "The reservation", body = ReservationView),
        (status = 404, description = "RESERVATION_UNKNOWN: unknown, or another user's", body = ProblemBody,
            content_type = "application/problem+json")),
    security(("token" = [])))]
pub(super) async fn get(
    State(shared): State<Arc<Shared>>,
    identity: Identity,
    ReservationPath(id): ReservationPath,
) -> Result<Response, Problem> {
    let unknown = Problem::Refused(Refusal::ReservationUnknown);
    let shard = shard_of(&shared, id)?;
    let reservation = shared.edge.handle.reservation(shard, id).await?.ok_or_else(|| unknown.clone())?;
    let caller = identity.caller();
    if caller.authority == Authority::Own && reservation.user != caller.user {
        return Err(unknown);
    }
    Ok(json(StatusCode::OK, &shared.reservation_view(&reservation)?))
}

/// HOLD → PAYING: the buyer went to the payment page.
#[utoipa::path(post, path = "/api/v1/reservations/{reservationId}/paying", tag = "sale", operation_id = "startPaying",
    params(("reservationId" = String, Path, description = "The reservation", format = "uuid"),
        ("Idempotency-Key" = String, Header, description = "1 to 255 visible ASCII; the same on a retry")),
    responses(
        (status = 200, description = "PAYING, with a new deadline", body = ReservationView),
        (status = 404, description = "RESERVATION_UNKNOWN", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 409, description = "HOLD_EXPIRED, RESERVATION_STATE or REQUEST_REUSED", body = ProblemBody,
            content_type = "application/problem+json")),
    security(("token" = [])))]
pub(super) async fn paying(
    State(shared): State<Arc<Shared>>,
    identity: Identity,
    ReservationPath(reservation): ReservationPath,
    IdempotencyKey(key): IdempotencyKey,
    _no_body: NoBody,
) -> Result<Response, Problem> {
    let shard = shard_of(&shared, reservation)?;
    transition(&shared, shard, &identity, key, Command::StartPaying { reservation }).await
}

/// HOLD or PAYING → CONFIRMED: the seats are sold. `sales.confirm_role` says who may.
#[utoipa::path(post, path = "/api/v1/reservations/{reservationId}/confirm", tag = "sale", operation_id = "confirm",
    params(("reservationId" = String, Path, description = "The reservation", format = "uuid"),
        ("Idempotency-Key" = String, Header, description = "1 to 255 visible ASCII; the same on a retry")),
    responses(
        (status = 200, description = "CONFIRMED", body = ReservationView),
        (status = 403, description = "FORBIDDEN: the role may not confirm", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 404, description = "RESERVATION_UNKNOWN", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 409, description = "HOLD_EXPIRED, RESERVATION_STATE or REQUEST_REUSED", body = ProblemBody,
            content_type = "application/problem+json",
            example = json!({"type": "urn:hotseat:problem:HOLD_EXPIRED", "title": "The hold has expired",
                "status": 409, "detail": "Its seats are free again.", "code": "HOLD_EXPIRED",
                "requestId": "0198c0de-0000-7000-8000-000000000001"}))),
    security(("token" = [])))]
pub(super) async fn confirm(
    State(shared): State<Arc<Shared>>,
    identity: Identity,
    ReservationPath(reservation): ReservationPath,
    IdempotencyKey(key): IdempotencyKey,
    _no_body: NoBody,
) -> Result<Response, Problem> {
    may_settle(&shared, &identity)?;
    let shard = shard_of(&shared, reservation)?;
    transition(&shared, shard, &identity, key, Command::Confirm { reservation }).await
}

/// → CANCELLED: the seats are free again.
#[utoipa::path(post, path = "/api/v1/reservations/{reservationId}/cancel", tag = "sale", operation_id = "cancel",
    params(("reservationId" = String, Path, description = "The reservation", format = "uuid"),
        ("Idempotency-Key" = String, Header, description = "1 to 255 visible ASCII; the same on a retry")),
    responses(
        (status = 200, description = "CANCELLED", body = ReservationView),
        (status = 404, description = "RESERVATION_UNKNOWN", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 409, description = "HOLD_EXPIRED, RESERVATION_STATE or REQUEST_REUSED", body = ProblemBody,
            content_type = "application/problem+json")),
    security(("token" = [])))]
pub(super) async fn cancel(
    State(shared): State<Arc<Shared>>,
    identity: Identity,
    ReservationPath(reservation): ReservationPath,
    IdempotencyKey(key): IdempotencyKey,
    _no_body: NoBody,
) -> Result<Response, Problem> {
    let shard = shard_of(&shared, reservation)?;
    transition(&shared, shard, &identity, key, Command::Cancel { reservation }).await
}

/// CANCELLED → REFUNDED: the money went back; no seat changes. `sales.confirm_role` says who may.
#[utoipa::path(post, path = "/api/v1/reservations/{reservationId}/refund", tag = "sale", operation_id = "refund",
    params(("reservationId" = String, Path, description = "The reservation", format = "uuid"),
        ("Idempotency-Key" = String, Header, description = "1 to 255 visible ASCII; the same on a retry")),
    responses(
        (status = 200, description = "REFUNDED", body = ReservationView),
        (status = 403, description = "FORBIDDEN: the role may not refund", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 404, description = "RESERVATION_UNKNOWN", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 409, description = "RESERVATION_STATE or REQUEST_REUSED", body = ProblemBody,
            content_type = "application/problem+json")),
    security(("token" = [])))]
pub(super) async fn refund(
    State(shared): State<Arc<Shared>>,
    identity: Identity,
    ReservationPath(reservation): ReservationPath,
    IdempotencyKey(key): IdempotencyKey,
    _no_body: NoBody,
) -> Result<Response, Problem> {
    may_settle(&shared, &identity)?;
    let shard = shard_of(&shared, reservation)?;
    transition(&shared, shard, &identity, key, Command::Refund { reservation }).await
}

pub(super) async fn transition(
    shared: &Shared,
    shard: ShardId,
    identity: &Identity,
    key: engine::RequestKey,
    command: Command,
) -> Result<Response, Problem> {
    let verdict = shared.ask(shard, identity, Some(key), command).await?;
    let view = shared.reservation_view(verdict.reservation()?)?;
    Ok(verdict.respond(StatusCode::OK, &view))
}

/// The shard that a reservation's own id leads to.
pub(super) fn shard_of(shared: &Shared, id: ReservationId) -> Result<ShardId, Problem> {
    shared.edge.directory.shard_of(id.option()).ok_or(Problem::Refused(Refusal::ReservationUnknown))
}

/// Whether the caller may say that money moved.
fn may_settle(shared: &Shared, identity: &Identity) -> Result<(), Problem> {
    let may = match shared.edge.settings.confirm_role {
        Role::User => true,
        Role::Payment => matches!(identity.role, Role::Payment | Role::Admin),
        Role::Admin | Role::Ops => identity.role == Role::Admin,
    };
    if may { Ok(()) } else { Err(Problem::Forbidden("sales.confirm_role keeps this from the token's role.")) }
}
