//! An HTTP/2 connection to a peer's listener, and bodies that are written while they are sent.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http2;
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::wire::{Frames, NotAMessage};
use crate::cluster::link;
use crate::cluster::tls::{self, Plane, Tls};
use crate::config::peers::Place;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(2);

/// Chunks of a body on their way into the connection.
const CHUNKS: usize = 16;

/// How long a connection may be silent before it is asked whether it lives, and how long it may take to say so.
const PING: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3));

/// What is sent while it is written.
#[derive(Debug)]
pub struct Chunks(mpsc::Receiver<Bytes>);

impl Chunks {
    /// A body, and where its chunks go in. It ends with the sender.
    pub fn channel() -> (mpsc::Sender<Bytes>, Self) {
        let (sender, chunks) = mpsc::channel(CHUNKS);
        (sender, Self(chunks))
    }

    /// A body that is complete.
    pub fn whole(bytes: impl Into<Bytes>) -> Self {
        let (sender, chunks) = Self::channel();
        // There is room, and the receiver is here.
        let _waits = sender.try_send(bytes.into());
        chunks
    }
}

impl Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk))))
    }
}

/// The messages of a body, as they come.
#[derive(Debug)]
pub struct Messages {
    body: Incoming,
    frames: Frames,
}

impl Messages {
    pub fn of(body: Incoming) -> Self {
        Self { body, frames: Frames::default() }
    }

    /// The next one; `None` once the body has ended, or its connection. Cancel-safe.
    ///
    /// # Errors
    /// What came is no message.
    pub async fn next(&mut self) -> Result<Option<Bytes>, NotAMessage> {
        loop {
            if let Some(message) = self.frames.next()? {
                return Ok(Some(message));
            }
            // Why a connection has ended, its task says.
            let Some(Ok(frame)) = self.body.frame().await else { return Ok(None) };
            if let Ok(data) = frame.into_data() {
                self.frames.push(&data);
            }
        }
    }
}

/// Connects to `HOST:PORT` and asks. The connection lives as long as the exchange.
pub async fn post(
    peer_url: &str,
    tls: Option<&Tls>,
    path: &'static str,
    body: Chunks,
) -> io::Result<Response<Incoming>> {
    let mut sender = timeout(CONNECT, connect(peer_url, tls))
        .await
        .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "it did not answer in time")))?;
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("http://{peer_url}{path}"))
        .body(body)
        .map_err(io::Error::other)?;
    let response = sender.send_request(request).await.map_err(io::Error::other)?;
    if !response.status().is_success() {
        return Err(io::Error::other(format!("it answered {}", response.status())));
    }
    Ok(response)
}

async fn connect(peer_url: &str, tls: Option<&Tls>) -> io::Result<http2::SendRequest<Chunks>> {
    let place =
        Place::parse(peer_url).ok_or_else(|| io::Error::other(format!("{peer_url:?} is no HOST:PORT")))?;
    let stream = TcpStream::connect((place.host.as_str(), place.port)).await?;
    link::tune(&stream)?;
    let io = tls::connect(stream, &place.host, tls, Plane::Data).await?;
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(PING.0)
        .keep_alive_timeout(PING.1)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .handshake(TokioIo::new(io))
        .await
        .map_err(io::Error::other)?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a data connection to a peer ended");
        }
    });
    Ok(sender)
}
