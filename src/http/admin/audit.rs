//! A shard's memory, for `hotseat audit` to compare with the ledger.

use std::sync::Arc;

use actors::handle::Memory;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine::{SeatState, ShardId};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::http::Shared;
use crate::http::ask::json;
use crate::http::error::Problem;
use crate::http::extract::{Operator, Query};
use crate::http::wire::{ProblemBody, hex};

/// Which shard.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct MemoryQuery {
    #[param(value_type = u16, required = true)]
    shard: Option<String>,
}

/// A shard's memory at one point of its chain.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::http) struct MemoryView {
    shard: u16,
    epoch: u64,
    /// Memory is the ledger up to this event, plus soft locks and what is pending.
    event_seq: u64,
    /// Of that event; SHA-256 in lower-case hex.
    hash: String,
    /// The engine's digest, 16 hex digits.
    digest: String,
    /// Entries on their way to the ledger.
    pending: usize,
    reservations: Vec<RememberedReservation>,
    options: Vec<RememberedOption>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::http) struct RememberedReservation {
    reservation_id: String,
    kind: &'static str,
    user_id: u64,
    option_id: u32,
    seats: Vec<u32>,
    status: &'static str,
    version: u32,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::http) struct RememberedOption {
    option_id: u32,
    /// How many of the map's two-bit places are seats.
    seat_count: usize,
    /// Base64 of two bits a seat, seat i in bits 2·(i mod 4) of byte i/4.
    map: String,
}

/// What a shard remembers, consistently at one event.
#[utoipa::path(get, path = "/admin/v1/audit/memory", tag = "admin", operation_id = "auditMemory",
    params(MemoryQuery),
    responses(
        (status = 200, description = "The shard's memory", body = MemoryView),
        (status = 403, description = "FORBIDDEN", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "NOT_FOUND: no such shard", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 503, description = "OVERLOADED: the shard does not serve now", body = ProblemBody,
            content_type = "application/problem+json")),
    security(("token" = [])))]
pub(in crate::http) async fn memory(
    State(shared): State<Arc<Shared>>,
    _operator: Operator,
    Query(query): Query<MemoryQuery>,
) -> Result<Response, Problem> {
    let shard = shard_of(&shared, &query)?;
    let memory = shared.edge.handle.memory(shard).await?;
    Ok(json(StatusCode::OK, &view(&memory)))
}

/// The shard that the query names.
pub(super) fn shard_of(shared: &Shared, query: &MemoryQuery) -> Result<ShardId, Problem> {
    known_shard(shared, query.shard.as_deref().unwrap_or_default(), "/query/shard")
}

/// The shard of that number, if there is one.
pub(super) fn known_shard(shared: &Shared, number: &str, pointer: &str) -> Result<ShardId, Problem> {
    let shard = number.parse().map(ShardId);
    let shard = shard.map_err(|_| Problem::malformed(pointer, "A shard is an integer from 0."))?;
    match shared.edge.handle.status(shard) {
        Some(_) => Ok(shard),
        None => Err(Problem::NotFound("No shard has this number.")),
    }
}

fn view(memory: &Memory) -> MemoryView {
    MemoryView {
        shard: memory.shard.0,
        epoch: memory.epoch.0,
        event_seq: memory.head.event_seq,
        hash: hex(&memory.head.hash),
        digest: format!("{:016x}", memory.digest),
        pending: memory.pending,
        reservations: memory
            .reservations
            .iter()
            .map(|one| RememberedReservation {
                reservation_id: one.id.to_string(),
                kind: one.kind.name(),
                user_id: one.user.0,
                option_id: one.option.0,
                seats: one.seats.iter().map(|seat| seat.0).collect(),
                status: one.status.name(),
                version: one.version,
            })
            .collect(),
        options: memory
            .options
            .iter()
            .map(|(option, states)| RememberedOption {
                option_id: option.0,
                seat_count: states.len(),
                map: STANDARD.encode(pack(states)),
            })
            .collect(),
    }
}

fn pack(states: &[SeatState]) -> Vec<u8> {
    let byte = |seats: &[SeatState]| {
        seats.iter().zip([0, 2, 4, 6]).fold(0, |byte, (state, shift)| byte | ((*state as u8) << shift))
    };
    states.chunks(4).map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_map_has_two_bits_a_seat() {
        use SeatState::{Available, Confirmed, Hold, Selecting};
        assert_eq!(pack(&[Available, Selecting, Hold, Confirmed, Hold]), [0b1110_0100, 0b10]);
        assert!(pack(&[]).is_empty());
    }
}
