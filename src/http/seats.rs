//! Who has which seat, without names: the snapshot every client starts from.
//!
//! A snapshot is encoded once for everybody, and again only when a seat has changed. Changes come at most once a
//! tick, so a stadium that a million people reload costs an encoding per tick, not one per person.

use std::io::Write as _;
use std::sync::Arc;

use actors::feed::{NotAPosition, Position, Snapshot};
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use engine::{SeatNo, SeatState, Unavailable};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Deserialize;
use tokio::sync::OnceCell;
use utoipa::IntoParams;

use super::Shared;
use super::ask::OptionPath;
use super::cached::{accepts, accepts_gzip, matches_etag};
use super::error::Problem;
use super::extract::Query;
use super::wire::{ProblemBody, SeatsView};
use crate::catalogue::directory::OptionEntry;

/// The media type of the compact forms.
const COMPACT: &str = "application/octet-stream";

/// Why writing cannot fail.
const VEC: &str = "a Vec takes every byte";

/// A snapshot in the forms it was asked for.
pub(super) struct Encoded {
    snapshot: Arc<Snapshot>,
    etag: HeaderValue,
    json: OnceCell<Bytes>,
    json_gzip: OnceCell<Bytes>,
    compact: OnceCell<Bytes>,
    compact_gzip: OnceCell<Bytes>,
}

/// What the client has already.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct SeatsQuery {
    /// `EPOCH.SEQ`: only what changed since is wanted, as one frame of the feed.
    since: Option<String>,
}

/// All seats of an option, or what changed since: as JSON, or in the compact form of
/// `Accept: application/octet-stream`.
#[utoipa::path(get, path = "/api/v1/options/{optionId}/seats", tag = "catalogue", operation_id = "getSeats",
    params(("optionId" = u64, Path, description = "The option"), SeatsQuery,
        ("Hotseat-Pass" = Option<String>, Header, description = "The pass of the concert's gate, where that is on"),
        ("If-None-Match" = Option<String>, Header, description = "The ETag of the snapshot you have")),
    responses(
        (status = 200, description = "The snapshot, or with `since` a frame `snapshot`, `changes` or `continues`; \
            the ETag is epoch and seq of what you have then", content(
            (SeatsView = "application/json", example = json!({"optionId": 1, "epoch": 3, "seq": 1042,
                "counts": {"available": 49, "selecting": 1, "hold": 0, "confirmed": 0},
                "seats": [{"seatNo": 0, "label": "A-1-1", "state": "SELECTING"}]})),
            (Vec<u8> = "application/octet-stream"))),
        (status = 304, description = "Nothing has changed since the ETag"),
        (status = 400, description = "MALFORMED: `since` is no position", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 403, description = "PASS_REQUIRED: the concert's gate is on", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 404, description = "OPTION_UNKNOWN", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 503, description = "OVERLOADED: nobody serves the option now", body = ProblemBody,
            content_type = "application/problem+json")))]
pub(super) async fn seats(
    State(shared): State<Arc<Shared>>,
    OptionPath(entry): OptionPath,
    Query(query): Query<SeatsQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    shared.may_look(&entry, &headers, None)?;
    if let Some(since) = &query.since {
        return changes(&shared, &entry, position(since, "/query/since")?, &headers).await;
    }
    let snapshot = shared.edge.handle.snapshot(entry.option).ok_or(Unavailable::Overloaded)?;
    let encoded = shared.encoded(snapshot);
    if matches_etag(&headers, &encoded.etag) {
        return Ok(respond(&encoded.etag, None));
    }
    let gzip = accepts_gzip(&headers);
    let compact = accepts(&headers, COMPACT);
    let bytes = match (compact, gzip) {
        (false, false) => encoded.json(&entry).await?,
        (false, true) => encoded.json_gzip(&entry).await?,
        (true, false) => encoded.compact().await,
        (true, true) => encoded.compact_gzip().await?,
    };
    let mut response = respond(&encoded.etag, Some((bytes, compact)));
    if gzip {
        response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    Ok(response)
}

/// The frame that brings a client up to date: the same bytes for all who come from there.
async fn changes(
    shared: &Shared,
    entry: &OptionEntry,
    since: Position,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let frame = shared.edge.handle.changes(entry.option, since).await.ok_or(Unavailable::Overloaded)?;
    let etag = etag(frame.to());
    if matches_etag(headers, &etag) {
        return Ok(respond(&etag, None));
    }
    let compact = accepts(headers, COMPACT);
    let bytes = if compact { frame.compact() } else { frame.text() };
    Ok(respond(&etag, Some((bytes, compact))))
}

/// Reads a position.
///
/// # Errors
/// `MALFORMED` at `pointer`.
pub(super) fn position(text: &str, pointer: &str) -> Result<Position, Problem> {
    text.parse().map_err(|error: NotAPosition| Problem::malformed(pointer, error.to_string()))
}

/// Weak, because the JSON, the map and their compressed forms share it.
fn etag(position: Position) -> HeaderValue {
    HeaderValue::from_str(&format!("W/\"{position}\"")).expect("numbers and quotes are visible ASCII")
}

/// An answer of bytes, compact or JSON; without any the client has them.
fn respond(etag: &HeaderValue, bytes: Option<(Bytes, bool)>) -> Response {
    let (bytes, content_type) = match bytes {
        None => (None, None),
        Some((bytes, true)) => (Some(bytes), Some(COMPACT)),
        Some((bytes, false)) => (Some(bytes), Some("application/json")),
    };
    let status = if bytes.is_some() { StatusCode::OK } else { StatusCode::NOT_MODIFIED };
    let mut response = Response::new(bytes.map_or_else(Body::empty, Body::from));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::ETAG, etag.clone());
    headers.insert(header::VARY, HeaderValue::from_static("accept, accept-encoding"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Some(content_type) = content_type {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    response
}

impl Shared {
    /// The forms of this snapshot, or of a newer one that somebody else has brought meanwhile.
    fn encoded(&self, snapshot: Arc<Snapshot>) -> Arc<Encoded> {
        let known = self.snapshots.get(&snapshot.option).map(|known| known.clone());
        if let Some(known) = known.filter(|known| known.snapshot.position() >= snapshot.position()) {
            return known;
        }
        let mut slot =
            self.snapshots.entry(snapshot.option).or_insert_with(|| Arc::new(Encoded::new(snapshot.clone())));
        if slot.snapshot.position() < snapshot.position() {
            *slot = Arc::new(Encoded::new(snapshot));
        }
        slot.clone()
    }
}

impl Encoded {
    fn new(snapshot: Arc<Snapshot>) -> Self {
        Self {
            etag: etag(snapshot.position()),
            snapshot,
            json: OnceCell::new(),
            json_gzip: OnceCell::new(),
            compact: OnceCell::new(),
            compact_gzip: OnceCell::new(),
        }
    }

    async fn json(&self, entry: &Arc<OptionEntry>) -> Result<Bytes, Problem> {
        let encode = || {
            let (snapshot, entry) = (self.snapshot.clone(), entry.clone());
            aside(move || encode_json(&snapshot, &entry))
        };
        self.json.get_or_try_init(encode).await.cloned()
    }

    async fn json_gzip(&self, entry: &Arc<OptionEntry>) -> Result<Bytes, Problem> {
        let json = self.json(entry).await?;
        self.json_gzip.get_or_try_init(|| aside(move || gzip(&json))).await.cloned()
    }

    async fn compact(&self) -> Bytes {
        let encode = || async { Bytes::from(self.snapshot.compact()) };
        self.compact.get_or_init(encode).await.clone()
    }

    async fn compact_gzip(&self) -> Result<Bytes, Problem> {
        let compact = self.compact().await;
        self.compact_gzip.get_or_try_init(|| aside(move || gzip(&compact))).await.cloned()
    }
}

/// Milliseconds of work, away from the threads that answer clicks.
async fn aside(work: impl FnOnce() -> Vec<u8> + Send + 'static) -> Result<Bytes, Problem> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map(Bytes::from).map_err(|error| Problem::Internal(format!("a snapshot was not encoded: {error}")))
}

/// By hand, because a hundred thousand seats are five megabytes.
fn encode_json(snapshot: &Snapshot, entry: &OptionEntry) -> Vec<u8> {
    let [available, selecting, hold, confirmed] = snapshot.counts;
    let mut json = Vec::with_capacity(256 + snapshot.seat_count as usize * 56);
    write!(
        json,
        "{{\"optionId\":{},\"epoch\":{},\"seq\":{},\"counts\":{{\"available\":{available},\
         \"selecting\":{selecting},\"hold\":{hold},\"confirmed\":{confirmed}}},\"seats\":[",
        snapshot.option, snapshot.epoch, snapshot.feed_seq
    )
    .expect(VEC);
    for seat in 0..snapshot.seat_count {
        let comma = if seat == 0 { "" } else { "," };
        write!(json, "{comma}{{\"seatNo\":{seat},\"label\":").expect(VEC);
        serde_json::to_writer(&mut json, entry.label(SeatNo(seat))).expect(VEC);
        json.extend_from_slice(state_tail(snapshot.state(seat as usize)));
    }
    json.extend_from_slice(b"]}");
    json
}

const fn state_tail(state: SeatState) -> &'static [u8] {
    match state {
        SeatState::Available => b",\"state\":\"AVAILABLE\"}",
        SeatState::Selecting => b",\"state\":\"SELECTING\"}",
        SeatState::Hold => b",\"state\":\"HOLD\"}",
        SeatState::Confirmed => b",\"state\":\"CONFIRMED\"}",
    }
}

/// The fastest level: the map changes with the next tick.
fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 8), Compression::fast());
    encoder.write_all(bytes).expect(VEC);
    encoder.finish().expect(VEC)
}
