//! Closes connections on which a client keeps us waiting, at no cost to those that do not.
//!
//! hyper can time the reading of a head, and a body could be read under a timeout: two timers set and cleared for
//! each click, which costs more than the click itself. Here a connection only counts, and the listener looks every
//! few seconds whether the counters moved. No connection has a timer of its own.

use std::convert::Infallible;
use std::io::{Error, ErrorKind, IoSlice, Result};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker, ready};

use axum::http::Request;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::service::Service;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::serve::Place;
use super::site::{Answering, Site};
use crate::lock::lock;

/// Bytes in a tick that are a body on its way and no head: a client that was told to continue sends one after we
/// have written, which looks like the wait for the next head.
const BODY_BYTES_PER_TICK: u64 = 16 * 1024;

/// Where answers are streams, by the end of their path.
const STREAMS: [&str; 2] = ["/events", "/subscribe"];

/// Bytes that the kernel may keep for a client that is slow to read a stream; it takes twice as much. Without a bound
/// it would be megabytes of old news for each.
const STREAM_SEND_BUFFER: usize = 64 * 1024;

/// Bytes that are copied together rather than written as several: head and body of a click's answer. The kernel takes a
/// fifteenth longer for two pieces than for one.
const SMALL: usize = 1024;

/// Goes on with a socket whose answer has begun.
type Successor = Box<dyn FnOnce(TcpStream, Place) + Send>;

/// What has happened on a connection. All of it happens on the connection's own task.
#[derive(Default)]
pub(super) struct Progress {
    /// Requests whose head was read.
    heads: AtomicU64,
    /// What `heads` was when something was last written.
    answered: AtomicU64,
    bytes_read: AtomicU64,
    writes: AtomicU64,
    /// Whether the last write found no room.
    blocked: AtomicBool,
    /// Open answers that end when we or the client want, and may be silent until then.
    streams: AtomicUsize,
    /// Whether the client was given up.
    given_up: AtomicBool,
    /// Whether `successor` was set.
    handed_over: AtomicBool,
    successor: Mutex<Option<Successor>>,
    closing: AtomicBool,
    /// Whether `task` was set.
    known: AtomicBool,
    task: Mutex<Option<Waker>>,
}

/// What a tick saw.
#[derive(Clone, Copy, Default)]
struct Seen {
    heads: u64,
    is_answered: bool,
    bytes_read: u64,
    writes: u64,
    /// It is we who have nothing to say.
    is_listening: bool,
}

impl Progress {
    fn seen(&self) -> Seen {
        let heads = self.heads.load(Ordering::Relaxed);
        Seen {
            heads,
            is_answered: self.answered.load(Ordering::Relaxed) == heads,
            bytes_read: self.bytes_read.load(Ordering::Relaxed),
            writes: self.writes.load(Ordering::Relaxed),
            is_listening: self.is_streaming() && !self.blocked.load(Ordering::Relaxed),
        }
    }

    fn is_streaming(&self) -> bool {
        self.streams.load(Ordering::Relaxed) > 0
    }

    /// Whether the connection ends because somebody else goes on with its socket.
    pub fn is_handed_over(&self) -> bool {
        self.handed_over.load(Ordering::Relaxed)
    }

    /// The client is about to be closed because it keeps us waiting.
    pub fn give_up(&self) {
        self.given_up.store(true, Ordering::Relaxed);
    }

    /// Tells the connection's task to answer what is open and end.
    pub fn close(&self) {
        self.closing.store(true, Ordering::Release);
        let task = lock(&self.task).take();
        if let Some(task) = task {
            task.wake();
        }
    }

    /// Whether the connection shall end; asked by its task in every turn.
    pub fn is_closing(&self, cx: &mut Context<'_>) -> bool {
        if !self.known.load(Ordering::Relaxed) {
            // A task keeps its waker: once is enough.
            *lock(&self.task) = Some(cx.waker().clone());
            self.known.store(true, Ordering::Relaxed);
        }
        self.closing.load(Ordering::Acquire)
    }

    fn read(&self, bytes: usize) {
        self.bytes_read.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn wrote(&self, is_ready: bool) {
        self.blocked.store(!is_ready, Ordering::Relaxed);
        if !is_ready {
            return;
        }
        self.writes.fetch_add(1, Ordering::Relaxed);
        self.answered.store(self.heads.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

/// How long a client has kept a connection waiting.
#[derive(Default)]
pub(super) struct Patience {
    before: Seen,
    quiet_ticks: u8,
}

impl Patience {
    /// Looks once per tick. A client may keep us waiting for two full ticks with a head, which is also what an idle
    /// connection waits for, or with an answer that it does not read; for six with a body; and with a stream for as
    /// long as it reads what there is.
    pub fn has_run_out(&mut self, progress: &Progress) -> bool {
        let (before, now) = (self.before, progress.seen());
        let read = now.bytes_read - before.bytes_read;
        // The bytes of a head are no progress before it ends, those of a body are.
        let moved = now.heads != before.heads
            || now.writes != before.writes
            || now.is_listening
            || (!now.is_answered && read > 0)
            || read >= BODY_BYTES_PER_TICK;
        self.before = now;
        self.quiet_ticks = if moved { 0 } else { self.quiet_ticks + 1 };
        self.quiet_ticks >= if now.is_answered { 3 } else { 7 }
    }
}

/// A socket that counts what moves.
pub(crate) struct Watched {
    /// `None` once it was handed over.
    pub stream: Option<TcpStream>,
    pub(super) progress: Arc<Progress>,
    /// Held for as long as the socket is open.
    pub(super) place: Option<Place>,
    /// Whether the kernel was told how much it may keep.
    pub(super) is_bounded: bool,
}

impl Watched {
    fn wrote(&mut self, is_ready: bool) {
        self.progress.wrote(is_ready);
        if !self.is_bounded && self.progress.is_streaming() {
            self.is_bounded = true;
            if let Some(stream) = &self.stream {
                bound(stream);
            }
        }
    }

    fn stream(&mut self) -> Result<Pin<&mut TcpStream>> {
        self.stream.as_mut().map(Pin::new).ok_or_else(|| ErrorKind::NotConnected.into())
    }

    /// Ends the connection below hyper, which has written everything that it was given.
    fn hand_over(&mut self) -> Error {
        let successor = lock(&self.progress.successor).take();
        if let (Some(successor), Some(stream), Some(place)) =
            (successor, self.stream.take(), self.place.take())
        {
            successor(stream, place);
        }
        ErrorKind::ConnectionAborted.into()
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        let before = buffer.filled().len();
        let polled = self.stream()?.poll_read(cx, buffer);
        self.progress.read(buffer.filled().len() - before);
        polled
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let polled = self.stream()?.poll_write(cx, bytes);
        self.wrote(polled.is_ready());
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let len = slices.iter().map(|slice| slice.len()).sum();
        if slices.len() > 1 && len <= SMALL {
            let mut small = [0; SMALL];
            let mut rest = &mut small[..];
            for slice in slices {
                let (start, end) = rest.split_at_mut(slice.len());
                start.copy_from_slice(slice);
                rest = end;
            }
            return self.poll_write(cx, &small[..len]);
        }
        let polled = self.stream()?.poll_write_vectored(cx, slices);
        self.wrote(polled.is_ready());
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(TcpStream::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        ready!(self.stream()?.poll_flush(cx))?;
        if self.progress.is_handed_over() {
            return Poll::Ready(Err(self.hand_over()));
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.stream()?.poll_shutdown(cx)
    }
}

/// Tells the kernel how much of a stream it may keep.
pub(crate) fn bound(stream: &TcpStream) {
    if let Err(error) = SockRef::from(stream).set_send_buffer_size(STREAM_SEND_BUFFER) {
        tracing::debug!(%error, "SO_SNDBUF");
    }
}

/// A connection as the handler of a stream knows it: among the request's extensions.
#[derive(Clone)]
pub(super) struct Connection(Arc<Progress>);

/// An open stream of a connection.
pub(super) struct Stream(Arc<Progress>);

impl Connection {
    /// From now on silence is ours, until the stream is dropped.
    pub fn open_stream(&self) -> Stream {
        self.0.streams.fetch_add(1, Ordering::Relaxed);
        Stream(self.0.clone())
    }

    /// Gives the socket away as soon as what was written is on its way; the connection then ends. hyper keeps some
    /// 25 KiB for a connection, whatever it does.
    pub fn hand_over(&self, successor: impl FnOnce(TcpStream, Place) + Send + 'static) {
        *lock(&self.0.successor) = Some(Box::new(successor));
        self.0.handed_over.store(true, Ordering::Relaxed);
    }
}

impl Stream {
    /// Whether its client did not read and was given up.
    pub fn was_given_up(&self) -> bool {
        self.0.given_up.load(Ordering::Relaxed)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A site's service for one connection: counts the heads it gets, and shows streams their connection.
pub(super) struct Counted {
    pub site: Site,
    pub peer: IpAddr,
    pub progress: Arc<Progress>,
}

impl Service<Request<Incoming>> for Counted {
    type Response = Response;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, mut request: Request<Incoming>) -> Answering {
        self.progress.heads.fetch_add(1, Ordering::Relaxed);
        // Not for everybody: an extension costs a click more than all the counting.
        if STREAMS.iter().any(|end| request.uri().path().ends_with(end)) {
            request.extensions_mut().insert(Connection(self.progress.clone()));
        }
        self.site.answer(request, self.peer)
    }
}
