//! Server-sent events of an option's seats: the feed for whoever reads and has nothing to say. The same bytes for all.

use std::sync::Arc;

use actors::feed::Watch;
use axum::Extension;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Version};
use axum::response::Response;
use engine::Unavailable;
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};
use utoipa::IntoParams;

use super::Shared;
use super::ask::OptionPath;
use super::error::Problem;
use super::extract::Query;
use super::seats::position;
use super::sse::{KEEP_ALIVE_EVERY, Source, respond};
use super::watch::Connection;
use super::wire::ProblemBody;

const LAST_EVENT_ID: &str = "last-event-id";

const KEEP_ALIVE: &[u8] = b"event: keepalive\ndata: {}\n\n";

/// What the client has already.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct EventsQuery {
    /// `EPOCH.SEQ`, for a first connection; `Last-Event-ID` goes before it.
    since: Option<String>,
    /// The pass of the concert's gate, for browsers, which send no header of theirs here; `Hotseat-Pass` is better.
    pass: Option<String>,
}

/// Every change of an option's seats, as server-sent events: `snapshot`, `changes`, `continues`, `keepalive`. Each has
/// the position it leads to as its id, so that a browser comes back to where it was.
#[utoipa::path(get, path = "/api/v1/options/{optionId}/events", tag = "catalogue", operation_id = "watchSeats",
    params(("optionId" = u64, Path, description = "The option"), EventsQuery,
        ("Hotseat-Pass" = Option<String>, Header, description = "The pass of the concert's gate, where that is on"),
        ("Last-Event-ID" = Option<String>, Header, description = "The id of the last event you have")),
    responses(
        (status = 200, description = "Events without end", body = String, content_type = "text/event-stream"),
        (status = 400, description = "MALFORMED: `since` or `Last-Event-ID` is no position", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 403, description = "PASS_REQUIRED: the concert's gate is on", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 404, description = "OPTION_UNKNOWN", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 503, description = "OVERLOADED: nobody serves the option now", body = ProblemBody,
            content_type = "application/problem+json")))]
pub(super) async fn events(
    State(shared): State<Arc<Shared>>,
    OptionPath(entry): OptionPath,
    version: Version,
    Query(query): Query<EventsQuery>,
    headers: HeaderMap,
    connection: Option<Extension<Connection>>,
) -> Result<Response, Problem> {
    let since = match (headers.get(LAST_EVENT_ID), &query.since) {
        // What is not visible ASCII is no position either.
        (Some(last), _) => Some(position(last.to_str().unwrap_or_default(), "/headers/Last-Event-ID")?),
        (None, Some(since)) => Some(position(since, "/query/since")?),
        (None, None) => None,
    };
    let ends = shared.may_look(&entry, &headers, query.pass.as_deref())?;
    let watch = shared.edge.handle.watch(entry.option, since).ok_or(Unavailable::Overloaded)?;
    let events = Following { watch, ends };
    let stalled = shared.edge.metrics.viewers_stalled();
    let connection = connection.map(|Extension(connection)| connection);
    Ok(respond(events, version, connection, stalled))
}

/// An option's events.
struct Following {
    watch: Watch,
    /// When the pass ends that opened them.
    ends: Option<Instant>,
}

impl Source for Following {
    async fn next(&mut self) -> Option<Bytes> {
        let keep_alive = Instant::now() + KEEP_ALIVE_EVERY;
        if self.has_ended() {
            return None;
        }
        let until = self.ends.map_or(keep_alive, |ends| ends.min(keep_alive));
        match timeout_at(until, self.watch.next()).await {
            Ok(frame) => frame.map(|frame| frame.sse()),
            Err(_) if self.has_ended() => None,
            Err(_) => Some(Bytes::from_static(KEEP_ALIVE)),
        }
    }
}

impl Following {
    fn has_ended(&self) -> bool {
        self.ends.is_some_and(|ends| ends <= Instant::now())
    }
}
