//! The word of the public beacon, for a draw that waits for it.

use std::sync::Arc;

use actors::gates::{GateAsk, GateSaid};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use crate::http::Shared;
use crate::http::ask::json;
use crate::http::error::Problem;
use crate::http::extract::{ConcertPath, Json, Operator};
use crate::http::wire::{ProblemBody, hex, unhex};

/// What the beacon said.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct BeaconRequest {
    /// The round that the draw's record names.
    round: u64,
    /// Its 32 bytes in hex; drand calls them `randomness`. `null`: draw without it, as `operator-trusted`, once it
    /// is silent for ten periods after the round was due. To be said: to leave it out does not give a beacon up.
    #[serde(deserialize_with = "value")]
    #[schema(value_type = Option<String>, required = true)]
    value: Option<[u8; 32]>,
}

fn value<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<[u8; 32]>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    match unhex(&text) {
        Some(value) => Ok(Some(value)),
        None => Err(serde::de::Error::custom("expected 64 hex digits, or null to draw without the beacon")),
    }
}

/// What was heard.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::http) struct BeaconView {
    concert_id: u64,
    round: u64,
    value: Option<String>,
}

/// Bring a draw the word of its beacon, once the round is out. The draw follows at once, and is final when the record says
/// DRAWN; where the server dies before that, say it again.
#[utoipa::path(put, path = "/admin/v1/gates/{concertId}/beacon", tag = "admin", operation_id = "setBeacon",
    params(("concertId" = u64, Path, description = "The concert")),
    request_body(content = BeaconRequest, example = json!({"round": 4242,
        "value": "bebebebebebebebebebebebebebebebebebebebebebebebebebebebebebebebe"})),
    responses(
        (status = 202, description = "Heard; again: the same answer", body = BeaconView),
        (status = 400, description = "MALFORMED", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "FORBIDDEN", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "NO_DRAW: none waits for that round, or it is not due yet (to be given up: not for ten \
            periods), or another word was heard before; or NOT_FOUND: no such concert", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 503, description = "OVERLOADED: nobody served the waiting room in time; say it again", body = ProblemBody,
            content_type = "application/problem+json")),
    security(("token" = [])))]
pub(in crate::http) async fn beacon(
    State(shared): State<Arc<Shared>>,
    _operator: Operator,
    ConcertPath(concert): ConcertPath,
    Json(BeaconRequest { round, value }): Json<BeaconRequest>,
) -> Result<Response, Problem> {
    let shard = shared.concert(concert)?.shard;
    let (ask, patience) = (GateAsk::Beacon { round, value }, shared.edge.settings.click_timeout);
    match shared.ask_gate(shard, concert, ask, patience).await? {
        GateSaid::Heard => {
            let value = value.map(|value| hex(&value));
            Ok(json(StatusCode::ACCEPTED, &BeaconView { concert_id: concert.0, round, value }))
        }
        GateSaid::NoSuchRound => Err(Problem::NoDraw(
            "No draw of the concert waits for that round, it is not due yet (to be given up: not for ten periods), or another \
             word was heard before.",
        )),
        other => {
            Err(Problem::Internal(format!("the gate said something else to a beacon's word: {other:?}")))
        }
    }
}
