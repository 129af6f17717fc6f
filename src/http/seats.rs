//! Who has which seat, without names: the snapshot every client starts from.
//!
//! A snapshot is encoded once for everybody, and again only when a seat has changed. Changes come at most once a
//! tick, so a stadium that a million people reload costs an encoding per tick, not one per person.

use std::io::Write as _;
use std::sync::Arc;

use actors::handle::Snapshot;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use engine::{SeatNo, SeatState, Unavailable};
use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::sync::OnceCell;

use super::Shared;
use super::ask::OptionPath;
use super::cached::{accepts, accepts_gzip, matches_etag};
use super::error::Problem;
use super::wire::{ProblemBody, SeatsView};
use crate::catalogue::directory::OptionEntry;

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

/// All seats of an option: as JSON, or as the 2-bit map of `Accept: application/octet-stream`.
#[utoipa::path(get, path = "/api/v1/options/{optionId}/seats", tag = "catalogue", operation_id = "getSeats",
    params(("optionId" = u64, Path, description = "The option"),
        ("If-None-Match" = Option<String>, Header, description = "The ETag of the snapshot you have")),
    responses(
        (status = 200, description = "The snapshot; its ETag is epoch and seq", content(
            (SeatsView = "application/json", example = json!({"optionId": 1, "epoch": 3, "seq": 1042,
                "counts": {"available": 49, "selecting": 1, "hold": 0, "confirmed": 0},
                "seats": [{"seatNo": 0, "label": "A-1-1", "state": "SELECTING"}]})),
            (Vec<u8> = "application/octet-stream"))),
        (status = 304, description = "Nothing has changed since the ETag"),
        (status = 404, description = "OPTION_UNKNOWN", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 503, description = "OVERLOADED: nobody serves the option now", body = ProblemBody,
            content_type = "application/problem+json")))]
pub(super) async fn seats(
    State(shared): State<Arc<Shared>>,
    OptionPath(entry): OptionPath,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let snapshot = shared.edge.handle.snapshot(entry.option).ok_or(Unavailable::Overloaded)?;
    let encoded = shared.encoded(snapshot);
    if matches_etag(&headers, &encoded.etag) {
        return Ok(encoded.respond(StatusCode::NOT_MODIFIED, Body::empty(), None, false));
    }
    let gzip = accepts_gzip(&headers);
    let compact = accepts(&headers, "application/octet-stream");
    let bytes = match (compact, gzip) {
        (false, false) => encoded.json(&entry).await?,
        (false, true) => encoded.json_gzip(&entry).await?,
        (true, false) => encoded.compact().await,
        (true, true) => encoded.compact_gzip().await?,
    };
    let content_type = if compact { "application/octet-stream" } else { "application/json" };
    Ok(encoded.respond(StatusCode::OK, Body::from(bytes), Some(content_type), gzip))
}

impl Shared {
    /// The forms of this snapshot, or of a newer one that somebody else has brought meanwhile.
    fn encoded(&self, snapshot: Arc<Snapshot>) -> Arc<Encoded> {
        let known = self.snapshots.get(&snapshot.option).map(|known| known.clone());
        if let Some(known) = known.filter(|known| position(&known.snapshot) >= position(&snapshot)) {
            return known;
        }
        let mut slot =
            self.snapshots.entry(snapshot.option).or_insert_with(|| Arc::new(Encoded::new(snapshot.clone())));
        if position(&slot.snapshot) < position(&snapshot) {
            *slot = Arc::new(Encoded::new(snapshot));
        }
        slot.clone()
    }
}

fn position(snapshot: &Snapshot) -> (u64, u64) {
    (snapshot.epoch.0, snapshot.feed_seq)
}

impl Encoded {
    fn new(snapshot: Arc<Snapshot>) -> Self {
        // Weak, because the JSON, the map and their compressed forms share it.
        let etag = format!("W/\"{}.{}\"", snapshot.epoch, snapshot.feed_seq);
        Self {
            etag: HeaderValue::from_str(&etag).expect("numbers and quotes are visible ASCII"),
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

    fn respond(
        &self,
        status: StatusCode,
        body: Body,
        content_type: Option<&'static str>,
        gzip: bool,
    ) -> Response {
        let mut response = Response::new(body);
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::ETAG, self.etag.clone());
        headers.insert(header::VARY, HeaderValue::from_static("accept, accept-encoding"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        if let Some(content_type) = content_type {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        if gzip {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
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
