//! Server-sent events: the feed for whoever reads and has nothing to say.
//!
//! A viewer costs its place in the feed and one boxed future that waits there. Frames come encoded, the same bytes
//! for all, and are handed to the connection one by one: who does not read them is not given more.

use std::collections::hash_map::RandomState;
use std::convert::Infallible;
use std::hash::{BuildHasher, Hasher as _};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actors::feed::Watch;
use axum::Extension;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::Response;
use engine::Unavailable;
use http_body_util::BodyExt as _;
use hyper::body::Frame;
use prometheus_client::metrics::counter::Counter;
use serde::Deserialize;
use tokio::time::timeout;
use tokio_util::sync::ReusableBoxFuture;
use utoipa::IntoParams;

use super::Shared;
use super::ask::OptionPath;
use super::error::Problem;
use super::extract::Query;
use super::seats::position;
use super::watch::{Connection, Stream};
use super::wire::ProblemBody;

const LAST_EVENT_ID: &str = "last-event-id";

/// A connection that is silent for longer may be taken for dead by whatever lies in between.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(15);
const KEEP_ALIVE: &[u8] = b"event: keepalive\ndata: {}\n\n";

/// When viewers come back who lost their connection, in milliseconds: not all at once.
const RETRY_FIRST: u64 = 500;
const RETRY_SPREAD: u64 = 3_000;

/// What the client has already.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct EventsQuery {
    /// `EPOCH.SEQ`, for a first connection; `Last-Event-ID` goes before it.
    since: Option<String>,
}

/// Every change of an option's seats, as server-sent events: `snapshot`, `changes`, `continues`, `keepalive`. Each has
/// the position it leads to as its id, so that a browser comes back to where it was.
#[utoipa::path(get, path = "/api/v1/options/{optionId}/events", tag = "catalogue", operation_id = "watchSeats",
    params(("optionId" = u64, Path, description = "The option"), EventsQuery,
        ("Last-Event-ID" = Option<String>, Header, description = "The id of the last event you have")),
    responses(
        (status = 200, description = "Events without end", body = String, content_type = "text/event-stream"),
        (status = 400, description = "MALFORMED: `since` or `Last-Event-ID` is no position", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 404, description = "OPTION_UNKNOWN", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 503, description = "OVERLOADED: nobody serves the option now", body = ProblemBody,
            content_type = "application/problem+json")))]
pub(super) async fn events(
    State(shared): State<Arc<Shared>>,
    OptionPath(entry): OptionPath,
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
    let watch = shared.edge.handle.watch(entry.option, since).ok_or(Unavailable::Overloaded)?;
    let events = Events {
        retry: Some(retry()),
        next: Some(ReusableBoxFuture::new(next(watch))),
        stream: connection.map(|Extension(connection)| connection.open_stream()),
        stalled: shared.edge.metrics.viewers_stalled(),
    };
    let mut response = Response::new(Body::new(events.map_err(|never| match never {})));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // nginx would gather events until it has a buffer full of them.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    Ok(response)
}

fn retry() -> Bytes {
    // As good a random number as any, without a generator.
    let random = RandomState::new().build_hasher().finish();
    format!("retry: {}\n\n", RETRY_FIRST + random % RETRY_SPREAD).into()
}

/// The next event, and the watch for the one after it. `None`: there is none.
async fn next(mut watch: Watch) -> (Watch, Option<Bytes>) {
    let event = match timeout(KEEP_ALIVE_EVERY, watch.next()).await {
        Ok(frame) => frame.map(|frame| frame.sse()),
        Err(_) => Some(Bytes::from_static(KEEP_ALIVE)),
    };
    (watch, event)
}

/// The body of the answer.
struct Events {
    /// Said first.
    retry: Option<Bytes>,
    /// `None` once the end has come.
    next: Option<ReusableBoxFuture<'static, (Watch, Option<Bytes>)>>,
    stream: Option<Stream>,
    stalled: Counter,
}

impl HttpBody for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(retry) = self.retry.take() {
            return Poll::Ready(Some(Ok(Frame::data(retry))));
        }
        let Some(waiting) = &mut self.next else { return Poll::Ready(None) };
        let (watch, event) = ready!(waiting.poll(cx));
        match &event {
            Some(_) => waiting.set(next(watch)),
            None => self.next = None,
        }
        Poll::Ready(event.map(|event| Ok(Frame::data(event))))
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        if self.stream.as_ref().is_some_and(Stream::was_given_up) {
            self.stalled.inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn viewers_are_told_to_come_back_at_different_times() {
        let times: std::collections::BTreeSet<Bytes> = (0..50).map(|_| retry()).collect();
        assert!(times.len() > 25, "{times:?}");
        for time in &times {
            let text = std::str::from_utf8(time).unwrap();
            let milliseconds: u64 =
                text.strip_prefix("retry: ").unwrap().strip_suffix("\n\n").unwrap().parse().unwrap();
            assert!((500..3_500).contains(&milliseconds), "{text}");
        }
    }
}
