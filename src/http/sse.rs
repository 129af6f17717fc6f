//! Answers that have no end: server-sent events, whatever they tell.
//!
//! Over HTTP/1.1 a listener takes its socket over once the head of the answer is written: what remains is a task with
//! its place in what is told, a kilobyte instead of hyper's buffers. Events come encoded and are written one by one:
//! who does not read them is not given more.

use std::collections::hash_map::RandomState;
use std::future::Future;
use std::hash::{BuildHasher, Hasher as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderName, HeaderValue, Version, header};
use axum::response::Response;
use bytes::Buf as _;
use hyper::body::Frame;
use prometheus_client::metrics::counter::Counter;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::watch::{Connection, Stream, bound};

/// A connection that is silent for longer may be taken for dead by whatever lies in between.
pub(super) const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(15);

/// A listener that leaves no room to write for so long is let go.
const STALLED_AFTER: Duration = Duration::from_secs(15);

/// A stream among others on its connection, whose client takes no event for so long, is let go.
const UNREAD_AFTER: Duration = Duration::from_secs(30);

/// When listeners come back who lost their connection, in milliseconds: not all at once.
const RETRY_FIRST: u64 = 500;
const RETRY_SPREAD: u64 = 3_000;

/// What a stream tells.
pub(super) trait Source: Send + 'static {
    /// The next event as it is written, after [`KEEP_ALIVE_EVERY`] at the latest. `None`: the stream ends.
    fn next(&mut self) -> impl Future<Output = Option<Bytes>> + Send;
}

/// The answer that tells a source's events. `stalled` counts who does not read them.
pub(super) fn respond<S: Source>(
    source: S,
    version: Version,
    connection: Option<Connection>,
    stalled: Counter,
) -> Response {
    let body = match connection {
        Some(connection) if version == Version::HTTP_11 => {
            Body::new(HandOver { connection, listener: Some(Listener { source, stalled }) })
        }
        connection => {
            let stream = connection.map(|connection| connection.open_stream());
            let (tell, told) = mpsc::channel(1);
            tokio::spawn(Listener { source, stalled }.tell(tell, stream, UNREAD_AFTER));
            Body::new(Events { retry: Some(retry()), told })
        }
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // nginx would gather events until it has a buffer full of them.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

fn retry() -> Bytes {
    // As good a random number as any, without a generator.
    let random = RandomState::new().build_hasher().finish();
    format!("retry: {}\n\n", RETRY_FIRST + random % RETRY_SPREAD).into()
}

/// A source and who counts its listener if it stalls.
struct Listener<S> {
    source: S,
    stalled: Counter,
}

impl<S: Source> Listener<S> {
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
                event = self.source.next() => event,
                () = end(&mut socket) => return,
            };
        }
        // An empty chunk is the end of the answer; whoever does not take it has its retry.
        let _told = timeout(STALLED_AFTER, write_chunk(&mut socket, Bytes::new())).await;
    }

    /// Goes on beside hyper, which does not ask a body for more while the client gives its stream no room: a source that was
    /// only asked then would look neither at a token's end nor at the server's.
    async fn tell(mut self, tell: mpsc::Sender<Bytes>, stream: Option<Stream>, patience: Duration) {
        loop {
            let event = tokio::select! {
                event = self.source.next() => event,
                () = tell.closed() => break,
            };
            let Some(event) = event else { return };
            match timeout(patience, tell.send(event)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => break,
                // The answer ends as soon as the client takes more of it, and its connection counts as silent.
                Err(_) => {
                    self.stalled.inc();
                    return;
                }
            }
        }
        if stream.is_some_and(|stream| stream.was_given_up()) {
            self.stalled.inc();
        }
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
struct HandOver<S> {
    connection: Connection,
    listener: Option<Listener<S>>,
}

// Nothing in it is pinned.
impl<S> Unpin for HandOver<S> {}

impl<S: Source> HttpBody for HandOver<S> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Some(listener) = self.listener.take() {
            self.connection.hand_over(|socket, place| {
                tokio::spawn(async move {
                    listener.follow(socket).await;
                    drop(place);
                });
            });
        }
        Poll::Pending
    }
}

/// The body of an answer that hyper carries: HTTP/2, where many share a socket, and HTTP/1.0.
struct Events {
    /// Said first.
    retry: Option<Bytes>,
    told: mpsc::Receiver<Bytes>,
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
        let event = ready!(self.told.poll_recv(cx));
        Poll::Ready(event.map(|event| Ok(Frame::data(event))))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http_body_util::BodyExt as _;

    use super::super::queue::subscribe::Queue;
    use super::*;

    #[test]
    fn who_waits_costs_no_more_than_a_kilobyte_and_a_half() {
        /// The state of a task, told from its function alone.
        fn size_of_task<F>(_: impl FnOnce(Listener<Queue>, TcpStream) -> F) -> usize {
            size_of::<F>()
        }
        let bytes = size_of_task(Listener::<Queue>::follow);
        assert!(bytes <= 1_536, "{bytes} bytes for each of a million");
    }

    /// Says something all the time, and shows whether somebody still asks it.
    struct Clock {
        _alive: Arc<()>,
    }

    impl Source for Clock {
        async fn next(&mut self) -> Option<Bytes> {
            tokio::time::sleep(Duration::from_millis(10)).await;
            Some(Bytes::from_static(b": tick\n\n"))
        }
    }

    #[tokio::test]
    async fn a_stream_whose_client_takes_nothing_is_let_go() {
        let stalled = Counter::default();
        let open = || {
            let (alive, (tell, told)) = (Arc::new(()), mpsc::channel(1));
            let listener = Listener { source: Clock { _alive: alive.clone() }, stalled: stalled.clone() };
            let task = tokio::spawn(listener.tell(tell, None, Duration::from_millis(300)));
            (alive, Events { retry: Some(retry()), told }, task)
        };
        let ((deaf, mut frames, ended), (heard, mut read, other)) = (open(), open());
        let reader = tokio::spawn(async move { while let Some(Ok(_)) = read.frame().await {} });
        timeout(Duration::from_secs(20), ended).await.expect("nobody listened").unwrap();
        assert_eq!((Arc::strong_count(&deaf), Arc::strong_count(&heard), stalled.get()), (1, 2, 1));
        // What was on its way, and the end.
        for is_there in [true, true, false] {
            assert_eq!(frames.frame().await.is_some(), is_there);
        }
        assert!(!other.is_finished(), "who reads is told more");
        reader.abort();
        timeout(Duration::from_secs(20), other).await.expect("the client went away").unwrap();
        assert_eq!((Arc::strong_count(&heard), stalled.get()), (1, 1));
    }

    #[test]
    fn listeners_are_told_to_come_back_at_different_times() {
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
