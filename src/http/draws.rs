//! The draw of a presale, as everybody may check it, and an entrant's own place in it.
//!
//! Both are read from the ledger, so that any node answers, also while the gate's owner is gone.
//!
//! Long lists are Base64 of their elements one behind the other: a million entrants are one string to decode and to
//! slice, not a million strings to parse. gzip would save a quarter of it for two seconds of a processor, and is left out.

use std::sync::Arc;

use actors::gates::draws;
use actors::gates::ports::{DrawRow, DrawStage};
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine::gate::draw::{Digest, Trust};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use self::kept::Kept;
pub(super) use self::kept::KeptDraws;
use super::Shared;
use super::ask::json;
use super::auth::Identity;
use super::cached::matches_etag;
use super::error::Problem;
use super::extract::{ConcertPath, Query, public_id};
use super::wire::{Instant, ProblemBody, hex};

mod kept;

/// Everything that is published of a draw. Digests, seed and beacon are 32 bytes in lower-case hex.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct DrawView {
    concert_id: u64,
    /// 1 for the concert's first draw.
    no: u32,
    /// COMMITTED, FROZEN (the entrants are settled) or DRAWN.
    #[schema(example = "DRAWN")]
    stage: &'static str,
    commitment: String,
    committed_at: Instant,
    /// From FROZEN on.
    #[serde(flatten)]
    frozen: Option<FrozenView>,
    /// From DRAWN on.
    #[serde(flatten)]
    drawn: Option<DrawnView>,
}

/// Who takes part.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct FrozenView {
    root: String,
    root_published_at: Instant,
    /// How many take part.
    entrants: usize,
    /// Base64 of the leaves by turn, 32 bytes each.
    leaves: String,
    /// The beacon's round that decides; `null`: the operator is trusted.
    round: Option<RoundView>,
}

/// A round of the beacon.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct RoundView {
    round: u64,
    due_at: Instant,
}

/// How it ended.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct DrawnView {
    drawn_at: Instant,
    seed: String,
    /// What the beacon said in the round; `null`: there was none, or it was given up.
    beacon: Option<String>,
    /// Base64 of indexes into the leaves, 4 bytes big-endian each, the first to be admitted first.
    order: String,
    /// `beacon` or `operator-trusted`.
    #[schema(example = "beacon")]
    trust: &'static str,
}

/// An entrant's own place in a draw, and the proof that it is in the published list.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct EntryView {
    concert_id: u64,
    no: u32,
    user_id: u64,
    turn: u32,
    /// 16 bytes in hex. Nobody else is told: with it anybody can tell that the leaf is yours.
    salt: String,
    leaf: String,
    /// Of the leaf, from 0.
    index: u32,
    entrants: usize,
    root: String,
    /// From the leaf to the root (RFC 9162, 2.1.3).
    proof: Vec<String>,
    /// From 1, once it is drawn.
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<u32>,
}

/// Which draw of a concert.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct DrawQuery {
    /// From 1 on; the newest when it is left out, whose `no` says how many there were.
    #[param(value_type = Option<u32>)]
    no: Option<String>,
}

impl DrawQuery {
    fn no(&self) -> Result<Option<u32>, Problem> {
        let no = self.no.as_deref().map(|no| public_id(no, "/query/no")).transpose()?;
        // Nobody draws so often: there is no such draw.
        Ok(no.map(|no| u32::try_from(no).unwrap_or(u32::MAX)))
    }
}

/// The public record of a draw, of the concert's newest if no other is named, as far as it is. What is published never
/// changes and stays; another stage only adds to it.
#[utoipa::path(get, path = "/api/v1/draws/{concertId}", tag = "draw", operation_id = "getDraw",
    params(("concertId" = u64, Path, description = "The concert"), DrawQuery,
        ("If-None-Match" = Option<String>, Header, description = "The ETag of the record you have")),
    responses(
        (status = 200, description = "The record; docs/draw.md says how to check it", body = DrawView),
        (status = 304, description = "You have it"),
        (status = 404, description = "NO_DRAW: none, or none of that number; or NOT_FOUND: no such concert", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 503, description = "LEDGER_UNAVAILABLE, or OVERLOADED: it is being worked out", body = ProblemBody,
            content_type = "application/problem+json")))]
pub(super) async fn record(
    State(shared): State<Arc<Shared>>,
    ConcertPath(concert): ConcertPath,
    Query(query): Query<DrawQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    shared.concert(concert)?;
    let kept = shared.draws.of(concert, query.no()?, &shared.edge.gate_ledger).await?;
    let mut response = Response::new(Body::empty());
    if matches_etag(&headers, &kept.etag) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    } else {
        *response.body_mut() = Body::from(kept.record.clone());
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    let headers = response.headers_mut();
    headers.insert(header::ETAG, kept.etag.clone());
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(response)
}

/// The caller's own entry in a draw, in the concert's newest if no other is named, from FROZEN on. Keep it: `hotseat draw verify --entry` checks it
/// against the record.
#[utoipa::path(get, path = "/api/v1/draws/{concertId}/entry", tag = "draw", operation_id = "getDrawEntry",
    params(("concertId" = u64, Path, description = "The concert"), DrawQuery),
    responses(
        (status = 200, description = "The entry", body = EntryView),
        (status = 404, description = "NO_ENTRY: not among the entrants, or they are not settled yet; NO_DRAW; or \
            NOT_FOUND: no such concert", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "LEDGER_UNAVAILABLE, or OVERLOADED: it is being worked out", body = ProblemBody,
            content_type = "application/problem+json")),
    security(("token" = [])))]
pub(super) async fn entry(
    State(shared): State<Arc<Shared>>,
    identity: Identity,
    ConcertPath(concert): ConcertPath,
    Query(query): Query<DrawQuery>,
) -> Result<Response, Problem> {
    shared.concert(concert)?;
    let kept = shared.draws.of(concert, query.no()?, &shared.edge.gate_ledger).await?;
    let view = entry_view(&kept, identity.user)?;
    let mut response = json(StatusCode::OK, &view);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn entry_view(kept: &Kept, user: engine::UserId) -> Result<EntryView, Problem> {
    let Some((row, settled)) = kept.row.frozen.as_ref().map(|frozen| (&kept.row, frozen)) else {
        return Err(Problem::NoEntry("Who takes part is settled when the waiting room opens."));
    };
    let Some((index, proof)) = kept.find(user) else {
        return Err(Problem::NoEntry("You did not wait when the waiting room opened."));
    };
    let (turn, _) = settled.entrants[index as usize];
    Ok(EntryView {
        concert_id: row.concert.0,
        no: row.no,
        user_id: user.0,
        turn: turn.0,
        salt: hex(&draws::salt(row, user)),
        leaf: hex(&kept.leaf(index)),
        index,
        entrants: settled.entrants.len(),
        root: hex(&settled.root),
        proof: proof.iter().map(|digest| hex(digest)).collect(),
        place: kept.place(index),
    })
}

fn view(row: &DrawRow, leaves: &[Digest], order: &[u32]) -> DrawView {
    let frozen = row.frozen.as_ref().map(|frozen| FrozenView {
        root: hex(&frozen.root),
        root_published_at: Instant(frozen.published_at),
        entrants: leaves.len(),
        leaves: STANDARD.encode(leaves.as_flattened()),
        round: frozen.round.map(|(round, due)| RoundView { round, due_at: Instant(due) }),
    });
    let drawn = row.drawn.map(|drawn| DrawnView {
        drawn_at: Instant(drawn.at),
        seed: hex(&row.seed),
        beacon: draws::beacon(row).map(|beacon| hex(&beacon.value)),
        order: STANDARD.encode(order.iter().flat_map(|index| index.to_be_bytes()).collect::<Vec<u8>>()),
        trust: draws::trust(row).unwrap_or(Trust::Operator).name(),
    });
    DrawView {
        concert_id: row.concert.0,
        no: row.no,
        stage: stage_name(row),
        commitment: hex(&draws::commitment(row)),
        committed_at: Instant(row.committed_at),
        frozen,
        drawn,
    }
}

const fn stage_name(row: &DrawRow) -> &'static str {
    match row.stage() {
        DrawStage::Committed => "COMMITTED",
        DrawStage::Frozen => "FROZEN",
        DrawStage::Drawn => "DRAWN",
    }
}
