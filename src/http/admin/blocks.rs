//! House seats: taken out of the sale, and given back.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use engine::limits::SEATS_PER_COMMAND;
use engine::{Command, Refusal, ReservationId, SeatList, SeatNo};
use serde::Deserialize;
use tokio::task::JoinSet;
use utoipa::ToSchema;

use crate::catalogue::directory::OptionEntry;
use crate::http::Shared;
use crate::http::ask::{OptionPath, Verdict, json};
use crate::http::auth::Identity;
use crate::http::error::Problem;
use crate::http::extract::{Json, NoBody, Operator, ReservationPath};
use crate::http::idempotency::IdempotencyKey;
use crate::http::reservations::{shard_of, transition};
use crate::http::wire::{Conflict, Page, ProblemBody, ReservationView, Seat};

/// Seats of one request: 512 reservations at once, well below what a shard may owe the ledger.
const SEATS_PER_REQUEST: usize = 4_096;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct BlockRequest {
    /// Up to 4096 seat numbers; each 8 become a reservation of their own.
    #[schema(value_type = Vec<u32>)]
    seats: Vec<Seat>,
}

/// Take seats out of the sale. More than 8 become several reservations, each all or nothing; where some clash,
/// the answer is `SEAT_TAKEN` with every conflict and with what was blocked nevertheless.
#[utoipa::path(post, path = "/admin/v1/options/{optionId}/blocks", tag = "admin", operation_id = "block",
    params(("optionId" = u64, Path, description = "The option"),
        ("Idempotency-Key" = String, Header, description = "1 to 255 visible ASCII; the same on a retry")),
    request_body(content = BlockRequest, example = json!({"seats": [0, 1, 2]})),
    responses(
        (status = 201, description = "All are blocked", body = Page<ReservationView>),
        (status = 403, description = "FORBIDDEN", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "OPTION_UNKNOWN", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 409, description = "SEAT_TAKEN, with `conflicts` and `blocked`; or REQUEST_REUSED",
            body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "SEATS_INVALID", body = ProblemBody,
            content_type = "application/problem+json")),
    security(("token" = [])))]
pub(in crate::http) async fn block(
    State(shared): State<Arc<Shared>>,
    Operator(identity): Operator,
    OptionPath(entry): OptionPath,
    key: IdempotencyKey,
    Json(wanted): Json<BlockRequest>,
) -> Result<Response, Problem> {
    let seats: Vec<SeatNo> = wanted.seats.iter().map(|seat| SeatNo(seat.0)).collect();
    if seats.len() > SEATS_PER_COMMAND {
        check(&seats, &entry)?;
    }
    let verdicts = ask_each(&shared, &identity, &entry, key, &seats).await?;
    let mut items = Vec::with_capacity(verdicts.len());
    let mut conflicts = Vec::new();
    let mut replayed = true;
    for verdict in verdicts {
        match verdict {
            Ok(verdict) => {
                replayed &= verdict.replayed;
                items.push(ReservationView::new(verdict.reservation()?, &entry));
            }
            Err(Problem::Refused(Refusal::SeatTaken(clash))) => {
                conflicts.extend(
                    clash.iter().map(|(seat, state)| Conflict { seat_no: seat.0, state: state.name() }),
                );
            }
            // What the other parts did is safe: a retry with the same key answers for them again.
            Err(problem) => return Err(problem),
        }
    }
    if conflicts.is_empty() {
        let mut response = json(StatusCode::CREATED, &Page { items, next_cursor: None });
        crate::http::ask::mark_replay(&mut response, replayed);
        Ok(response)
    } else {
        Err(Problem::BlockedInPart { blocked: items, conflicts })
    }
}

/// What the engine would refuse in one part must not find the other parts blocked.
fn check(seats: &[SeatNo], entry: &OptionEntry) -> Result<(), Problem> {
    if seats.len() > SEATS_PER_REQUEST {
        let detail = format!("One request blocks at most {SEATS_PER_REQUEST} seats.");
        return Err(Problem::malformed("/seats", detail));
    }
    let distinct: BTreeSet<u32> = seats.iter().map(|seat| seat.0).collect();
    let outside = distinct.last().is_none_or(|last| *last >= entry.seat_count());
    if outside || distinct.len() < seats.len() { Err(Refusal::SeatsInvalid.into()) } else { Ok(()) }
}

/// One command for each eight seats, all on their way at once so that they share the ledger's commits; the
/// verdicts in order.
async fn ask_each(
    shared: &Arc<Shared>,
    identity: &Identity,
    entry: &Arc<OptionEntry>,
    key: IdempotencyKey,
    seats: &[SeatNo],
) -> Result<Vec<Result<Verdict, Problem>>, Problem> {
    let parts: Vec<SeatList> = if seats.len() <= SEATS_PER_COMMAND {
        vec![seats.iter().copied().collect()]
    } else {
        seats.chunks(SEATS_PER_COMMAND).map(|part| part.iter().copied().collect()).collect()
    };
    let alone = parts.len() == 1;
    let mut asked = JoinSet::new();
    for (index, seats) in parts.into_iter().enumerate() {
        let (shared, identity, entry) = (shared.clone(), identity.clone(), entry.clone());
        let key = if alone { key.0 } else { key.part(index) };
        asked.spawn(async move {
            let reservation = ReservationId::stamp(uuid::Uuid::now_v7().as_u128(), entry.option);
            let command = Command::Block { option: entry.option, seats, reservation };
            (index, shared.ask(entry.shard, &identity, Some(key), command).await)
        });
    }
    let mut verdicts = Vec::new();
    while let Some(joined) = asked.join_next().await {
        verdicts
            .push(joined.map_err(|error| Problem::Internal(format!("a block was not asked for: {error}")))?);
    }
    verdicts.sort_by_key(|(index, _)| *index);
    Ok(verdicts.into_iter().map(|(_, verdict)| verdict).collect())
}

/// Give the seats of a block back to the sale.
#[utoipa::path(delete, path = "/admin/v1/blocks/{reservationId}", tag = "admin", operation_id = "unblock",
    params(("reservationId" = String, Path, description = "The block's reservation", format = "uuid"),
        ("Idempotency-Key" = String, Header, description = "1 to 255 visible ASCII; the same on a retry")),
    responses(
        (status = 200, description = "The seats are for sale again", body = ReservationView),
        (status = 403, description = "FORBIDDEN", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "RESERVATION_UNKNOWN", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 409, description = "RESERVATION_STATE", body = ProblemBody,
            content_type = "application/problem+json")),
    security(("token" = [])))]
pub(in crate::http) async fn unblock(
    State(shared): State<Arc<Shared>>,
    Operator(identity): Operator,
    ReservationPath(reservation): ReservationPath,
    IdempotencyKey(key): IdempotencyKey,
    _no_body: NoBody,
) -> Result<Response, Problem> {
    let shard = shard_of(&shared, reservation)?;
    transition(&shared, shard, &identity, key, Command::Unblock { reservation }).await
}
