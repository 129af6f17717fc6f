//! Server-sent events: the feed for whoever reads and has nothing to say.
//!
//! Over HTTP/1.1 a viewer takes its socket over once the head of the answer is written: what remains is a task with
//! its place in the feed, a kilobyte instead of hyper's buffers. Frames come encoded, the same bytes for all, and
//! are written one by one: who does not read them is not given more.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher as _};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actors::feed::Watch;
use axum::Extension;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Version, header};
use axum::response::Response;
use bytes::Buf as _;
use engine::Unavailable;
use hyper::body::Frame;
use prometheus_client::metrics::counter::Counter;
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::ReusableBoxFuture;
use utoipa::IntoParams;

use super::Shared;
use super::ask::OptionPath;
use super::error::Problem;
use super::extract::Query;
use super::seats::position;
use super::watch::{Connection, Stream, bound};
use super::wire::ProblemBody;

const LAST_EVENT_ID: &str = "last-event-id";

/// A connection that is silent for longer may be taken for dead by whatever lies in between.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(15);
const KEEP_ALIVE: &[u8] = b"event: keepalive\ndata: {}\n\n";

/// A viewer that leaves no room to write for so long is let go.
const STALLED_AFTER: Duration = Duration::from_secs(15);

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
    let watch = shared.edge.handle.watch(entry.option, since).ok_or(Unavailable::Overloaded)?;
    let stalled = shared.edge.metrics.viewers_stalled();
    let body = match connection {
        Some(Extension(connection)) if version == Version::HTTP_11 => {
            Body::new(HandOver { connection, viewer: Some(Viewer { watch, stalled }) })
        }
        connection => Body::new(Events {
            retry: Some(retry()),
            next: Some(ReusableBoxFuture::new(next(watch))),
            stream: connection.map(|Extension(connection)| connection.open_stream()),
            stalled,
        }),
    };
    let mut response = Response::new(body);
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

/// The next event. `None`: there is none.
async fn next_event(watch: &mut Watch) -> Option<Bytes> {
    match timeout(KEEP_ALIVE_EVERY, watch.next()).await {
        Ok(frame) => frame.map(|frame| frame.sse()),
        Err(_) => Some(Bytes::from_static(KEEP_ALIVE)),
    }
}

/// A viewer and who counts it if it stalls.
struct Viewer {
    watch: Watch,
    stalled: Counter,
}

impl Viewer {
    /// Goes on where the head of the answer ended, until either side has enough.
    async fn follow(mut self, mut socket: TcpStream) {
        bound(&socket);
        let mut next = Some(retry());
        while let Some(event) = next {
            match timeout(STALLED_AFTER, write_chunk(&mut socket, event)).await {
                Ok(Ok(())) => {}
                // The client is gone.
                Ok(Err(_)) => return,
                Err(_) => {
                    self.stalled.inc();
                    return;
                }
            }
            next = tokio::select! {
                event = next_event(&mut self.watch) => event,
                () = end(&mut socket) => return,
            };
        }
        // An empty chunk is the end of the answer; whoever does not take it has its retry.
        let _told = timeout(STALLED_AFTER, write_chunk(&mut socket, Bytes::new())).await;
    }
}

/// One write, where the socket has room for all of it.
async fn write_chunk(socket: &mut TcpStream, bytes: Bytes) -> std::io::Result<()> {
    let head = Bytes::from(format!("{:x}\r\n", bytes.len()));
    socket.write_all_buf(&mut head.chain(bytes).chain(&b"\r\n"[..])).await
}

/// Returns when the client has closed its side. What it may say until then is not listened to.
async fn end(socket: &mut TcpStream) {
    let mut ignored = [0; 64];
    while socket.read(&mut ignored).await.is_ok_and(|read| read > 0) {}
}

/// The body of an answer that goes on without hyper: it lets the socket go once the head is written.
struct HandOver {
    connection: Connection,
    viewer: Option<Viewer>,
}

impl HttpBody for HandOver {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Some(viewer) = self.viewer.take() {
            self.connection.hand_over(|socket, place| {
                tokio::spawn(async move {
                    viewer.follow(socket).await;
                    drop(place);
                });
            });
        }
        Poll::Pending
    }
}

/// The next event, and the watch for the one after it.
async fn next(mut watch: Watch) -> (Watch, Option<Bytes>) {
    let event = next_event(&mut watch).await;
    (watch, event)
}

/// The body of an answer that hyper carries: HTTP/2, where many share a socket, and HTTP/1.0.
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
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
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
