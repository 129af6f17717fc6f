//! The listener: bounded, with a deadline for slow heads, and a door that closes politely.

use std::future::Future;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::site::Site;
use super::watch::{Counted, Patience, Progress, Watched};

/// A request's head must arrive within about this; it is also how long an idle connection is kept.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Requests one HTTP/2 connection may have open.
const STREAMS_PER_CONNECTION: u32 = 256;

/// Connections at once. Who comes later waits in the kernel's queue.
const CONNECTIONS: usize = 65_536;

/// What one listener puts up with.
#[derive(Clone, Copy)]
struct Bounds {
    connections: usize,
    head_timeout: Duration,
}

/// Serves HTTP/1.1 and HTTP/2 (prior knowledge) until `shutdown` is cancelled, then lets every open request end.
/// Returns when the last connection is closed; who does not want to wait so long drops the future, which closes
/// the rest.
pub async fn serve(listener: TcpListener, site: Site, shutdown: CancellationToken) {
    let bounds = Bounds { connections: CONNECTIONS, head_timeout: HEAD_TIMEOUT };
    serve_within(bounds, listener, site, shutdown).await;
}

async fn serve_within(bounds: Bounds, listener: TcpListener, site: Site, shutdown: CancellationToken) {
    let places = Arc::new(Semaphore::new(bounds.connections));
    let builder = Arc::new(builder());
    let mut open = Open::default();
    let mut ticks = tokio::time::interval(bounds.head_timeout / 2);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            _ = ticks.tick() => open.close_stalled(),
            Some(_) = open.tasks.join_next() => {}
            accepted = accept(&listener, &places) => {
                if let Some(accepted) = accepted {
                    open.spawn(&builder, &site, accepted);
                }
            }
        }
    }
    drop(listener);
    for connection in &open.connections {
        connection.progress.close();
    }
    while !open.tasks.is_empty() {
        tokio::select! {
            _ = ticks.tick() => open.close_stalled(),
            _ = open.tasks.join_next() => {}
        }
    }
    // Sockets that were handed over or upgraded end by themselves and give their places back then.
    let _all = places.acquire_many(u32::try_from(bounds.connections).unwrap_or(u32::MAX)).await;
}

/// The connections of a listener. Dropping it closes them.
#[derive(Default)]
struct Open {
    tasks: JoinSet<()>,
    connections: Vec<OpenConnection>,
}

struct OpenConnection {
    progress: Arc<Progress>,
    patience: Patience,
    task: AbortHandle,
}

impl Open {
    fn spawn(&mut self, builder: &Arc<Builder>, site: &Site, (stream, peer, place): Accepted) {
        let progress = Arc::new(Progress::default());
        let io = TokioIo::new(Watched {
            stream: Some(stream),
            progress: progress.clone(),
            place: Some(place),
            is_bounded: false,
        });
        let service = Counted { site: site.clone(), peer, progress: progress.clone() };
        let (builder, watched) = (builder.clone(), progress.clone());
        let task = self.tasks.spawn(async move {
            let mut connection = pin!(builder.serve_connection_with_upgrades(io, service));
            let mut is_closing = false;
            // One flag to look at per turn: a click wakes its connection three times.
            let ended = std::future::poll_fn(|cx: &mut Context<'_>| {
                if !is_closing && watched.is_closing(cx) {
                    is_closing = true;
                    connection.as_mut().graceful_shutdown();
                }
                connection.as_mut().poll(cx)
            });
            if let Err(error) = ended.await
                && !watched.is_handed_over()
            {
                tracing::debug!(%error, "a connection ended early");
            }
        });
        self.connections.push(OpenConnection { progress, patience: Patience::default(), task });
    }

    /// Closes the connections whose clients have kept us waiting, and forgets those that have ended.
    fn close_stalled(&mut self) {
        self.connections.retain_mut(|connection| {
            let keeps_waiting = connection.patience.has_run_out(&connection.progress);
            if keeps_waiting {
                connection.progress.give_up();
                connection.task.abort();
            }
            !keeps_waiting && !connection.task.is_finished()
        });
    }
}

type Builder = auto::Builder<TokioExecutor>;

fn builder() -> Builder {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // `watch` does it cheaper.
    builder.http1().header_read_timeout(None);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(STREAMS_PER_CONNECTION);
    builder
}

/// A connection's place among [`Bounds::connections`]; it returns with the socket, also of an upgraded one.
pub(super) type Place = tokio::sync::OwnedSemaphorePermit;

/// A connection, whom it is from, and its place.
type Accepted = (TcpStream, IpAddr, Place);

/// A connection that has a place; `None` when there was none to accept, after a pause where that would repeat.
async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> Option<Accepted> {
    let place = places.clone().acquire_owned().await.expect("the semaphore is never closed");
    match listener.accept().await {
        Ok((stream, peer)) => {
            // A click is smaller than a segment: waiting for more would only delay it.
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "TCP_NODELAY");
            }
            Some((stream, peer.ip(), place))
        }
        Err(error) => {
            // Mostly out of file descriptors; connections that end give some back.
            tracing::warn!(%error, "a connection could not be accepted");
            tokio::time::sleep(Duration::from_millis(50)).await;
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::net::SocketAddr;
    use std::pin::Pin;
    use std::task::{Poll, ready};

    use axum::body::{Body, Bytes, HttpBody};
    use axum::routing::get;
    use axum::{Extension, Router};
    use hyper::body::Frame;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::Notify;
    use tokio::task::JoinHandle;

    use super::super::proxies::Peer;
    use super::super::watch::{Connection, Stream};
    use super::*;

    async fn start(router: Router, connections: usize) -> (SocketAddr, CancellationToken, JoinHandle<()>) {
        let bounds = Bounds { connections, head_timeout: Duration::from_millis(300) };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let server = tokio::spawn(serve_within(bounds, listener, Site::new(router), shutdown.clone()));
        (address, shutdown, server)
    }

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";

    async fn read_some(stream: &mut TcpStream) -> String {
        let mut bytes = [0; 1024];
        let length = stream.read(&mut bytes).await.unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    #[tokio::test]
    async fn shutdown_lets_an_open_request_end_and_takes_no_new_connection() {
        let (entered, leave) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let router = {
            let (entered, leave) = (entered.clone(), leave.clone());
            Router::new().route(
                "/",
                get(async move || {
                    entered.notify_one();
                    leave.notified().await;
                    "done"
                }),
            )
        };
        let (address, shutdown, server) = start(router, 8).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(REQUEST).await.unwrap();
        entered.notified().await;
        shutdown.cancel();
        tokio::task::yield_now().await;
        leave.notify_one();
        let answer = read_some(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("done"), "{answer}");
        server.await.unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    }

    #[tokio::test]
    async fn who_finds_no_place_waits_for_one() {
        let router = Router::new().route("/", get(async || "done"));
        let (address, _shutdown, _server) = start(router, 1).await;
        let mut first = TcpStream::connect(address).await.unwrap();
        first.write_all(REQUEST).await.unwrap();
        assert!(read_some(&mut first).await.ends_with("done"));
        let mut second = TcpStream::connect(address).await.unwrap();
        second.write_all(REQUEST).await.unwrap();
        let early = tokio::time::timeout(Duration::from_millis(100), read_some(&mut second)).await;
        assert!(early.is_err(), "the only place is taken");
        drop(first);
        assert!(read_some(&mut second).await.ends_with("done"));
    }

    #[tokio::test]
    async fn a_dropped_server_closes_its_connections() {
        let router = Router::new().route("/", get(async || std::future::pending::<&str>().await));
        let (address, _shutdown, server) = start(router, 8).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(REQUEST).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        server.abort();
        let read = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut [0; 16])).await;
        assert_eq!(read.expect("the connection is closed").unwrap_or(0), 0);
    }

    async fn is_closed_within(stream: &mut TcpStream, wait: Duration) -> bool {
        let mut rest = Vec::new();
        tokio::time::timeout(wait, stream.read_to_end(&mut rest)).await.is_ok()
    }

    #[tokio::test]
    async fn a_head_that_never_ends_is_given_up_however_it_drips() {
        let router = Router::new().route("/", get(async || "done"));
        let (address, _shutdown, _server) = start(router, 8).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ").await.unwrap();
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            if stream.write_all(b"x").await.is_err() {
                break;
            }
        }
        assert!(is_closed_within(&mut stream, Duration::from_millis(200)).await);
    }

    #[tokio::test]
    async fn a_body_may_be_slow_and_may_not_stop() {
        let router = Router::new().route("/", axum::routing::post(async |body: String| body));
        let (address, _shutdown, _server) = start(router, 8).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 20\r\n\r\n";
        stream.write_all(head).await.unwrap();
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            stream.write_all(b"x").await.unwrap();
        }
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with(&"x".repeat(20)), "{answer}");

        let mut stopped = TcpStream::connect(address).await.unwrap();
        stopped.write_all(head).await.unwrap();
        stopped.write_all(b"x").await.unwrap();
        assert!(!is_closed_within(&mut stopped, Duration::from_millis(400)).await);
        assert!(is_closed_within(&mut stopped, Duration::from_secs(5)).await);
    }

    #[tokio::test]
    async fn an_answer_that_takes_its_time_is_waited_for() {
        let slow = async || {
            tokio::time::sleep(Duration::from_millis(600)).await;
            "done"
        };
        let (address, _shutdown, _server) = start(Router::new().route("/", get(slow)), 8).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(REQUEST).await.unwrap();
        assert!(read_some(&mut stream).await.ends_with("done"));
        assert!(is_closed_within(&mut stream, Duration::from_secs(5)).await, "idle");
    }

    /// Silent for a second, then without end.
    struct Endless {
        stream: Stream,
        silence: Pin<Box<tokio::time::Sleep>>,
        given_up: Arc<Notify>,
    }

    impl HttpBody for Endless {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            if !self.silence.is_elapsed() {
                ready!(self.silence.as_mut().poll(cx));
            }
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b'x'; 16 * 1024])))))
        }
    }

    impl Drop for Endless {
        fn drop(&mut self) {
            if self.stream.was_given_up() {
                self.given_up.notify_one();
            }
        }
    }

    #[tokio::test]
    async fn a_stream_may_be_silent_and_must_be_read() {
        let given_up = Arc::new(Notify::new());
        let handler = {
            let given_up = given_up.clone();
            async move |Extension(connection): Extension<Connection>| {
                let silence = Box::pin(tokio::time::sleep(Duration::from_secs(1)));
                Body::new(Endless { stream: connection.open_stream(), silence, given_up })
            }
        };
        let (address, _shutdown, _server) = start(Router::new().route("/events", get(handler)), 8).await;
        let request = b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n";
        let (mut read, mut unread) =
            (TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap());
        read.write_all(request).await.unwrap();
        unread.write_all(request).await.unwrap();
        assert!(read_some(&mut read).await.starts_with("HTTP/1.1 200"));
        // Longer than an idle connection is kept.
        assert!(read_some(&mut read).await.contains("xxxx"));
        let mut bytes = vec![0; 64 * 1024];
        let reads = async {
            while read.read(&mut bytes).await.unwrap() > 0 {}
            panic!("who reads was closed");
        };
        tokio::select! {
            () = given_up.notified() => {}
            () = reads => {}
            () = tokio::time::sleep(Duration::from_secs(30)) => panic!("who does not read was kept"),
        }
    }

    #[tokio::test]
    async fn whoever_joins_or_opens_a_socket_has_an_address() {
        let peer = async |peer: Option<Extension<Peer>>| {
            peer.map_or("none".to_owned(), |Extension(Peer(ip))| ip.to_string())
        };
        let paths = ["/api/v1/waiting-queue/join", "/api/v1/ws", "/api/v1/options/1/selections"];
        let router =
            paths.iter().fold(Router::new(), |router, path| router.route(path, axum::routing::any(peer)));
        let (address, _shutdown, _server) = start(router, 8).await;
        for (path, expected) in paths.into_iter().zip(["127.0.0.1", "127.0.0.1", "none"]) {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let request = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            assert!(read_some(&mut stream).await.ends_with(expected), "{path}");
        }
    }

    #[tokio::test]
    async fn http_2_is_spoken_by_prior_knowledge() {
        let router =
            Router::new().route("/", get(async |version: axum::http::Version| format!("{version:?}")));
        let (address, shutdown, server) = start(router, 8).await;
        let client = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
            .http2_only(true)
            .build_http::<axum::body::Body>();
        let response = client.get(format!("http://{address}/").parse().unwrap()).await.unwrap();
        let text = axum::body::to_bytes(axum::body::Body::new(response.into_body()), 100).await.unwrap();
        assert_eq!(text, "HTTP/2.0");
        shutdown.cancel();
        server.await.unwrap();
    }
}
