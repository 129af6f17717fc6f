//! Closes connections on which a client keeps us waiting, at no cost to those that do not.
//!
//! hyper can time the reading of a head, and a body could be read under a timeout: two timers set and cleared for
//! each click, which costs more than the click itself. Here a connection only counts, and the listener looks every
//! few seconds whether the counters moved. No connection has a timer of its own.

use std::io::{IoSlice, Result};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use hyper::service::Service;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::serve::Place;

/// Bytes in a tick that are a body on its way and no head: a client that was told to continue sends one after we
/// have written, which looks like the wait for the next head.
const BODY_BYTES_PER_TICK: u64 = 16 * 1024;

/// What has happened on a connection. All of it happens on the connection's own task.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Requests whose head was read.
    heads: AtomicU64,
    /// What `heads` was when something was last written.
    answered: AtomicU64,
    bytes_read: AtomicU64,
    writes: AtomicU64,
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
}

impl Progress {
    fn seen(&self) -> Seen {
        let heads = self.heads.load(Ordering::Relaxed);
        Seen {
            heads,
            is_answered: self.answered.load(Ordering::Relaxed) == heads,
            bytes_read: self.bytes_read.load(Ordering::Relaxed),
            writes: self.writes.load(Ordering::Relaxed),
        }
    }

    /// Tells the connection's task to answer what is open and end.
    pub fn close(&self) {
        self.closing.store(true, Ordering::Release);
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            task.wake();
        }
    }

    /// Whether the connection shall end; asked by its task in every turn.
    pub fn is_closing(&self, cx: &mut Context<'_>) -> bool {
        if !self.known.load(Ordering::Relaxed) {
            // A task keeps its waker: once is enough.
            *self.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(cx.waker().clone());
            self.known.store(true, Ordering::Relaxed);
        }
        self.closing.load(Ordering::Acquire)
    }

    fn read(&self, bytes: usize) {
        self.bytes_read.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn wrote(&self) {
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
    /// connection waits for, or with an answer that it does not read; for six with a body.
    pub fn has_run_out(&mut self, progress: &Progress) -> bool {
        let (before, now) = (self.before, progress.seen());
        let read = now.bytes_read - before.bytes_read;
        // The bytes of a head are no progress before it ends, those of a body are.
        let moved = now.heads != before.heads
            || now.writes != before.writes
            || (!now.is_answered && read > 0)
            || read >= BODY_BYTES_PER_TICK;
        self.before = now;
        self.quiet_ticks = if moved { 0 } else { self.quiet_ticks + 1 };
        self.quiet_ticks >= if now.is_answered { 3 } else { 7 }
    }
}

/// A socket that counts what moves.
pub(super) struct Watched {
    pub stream: TcpStream,
    pub progress: Arc<Progress>,
    /// Held for as long as the socket is open.
    #[expect(dead_code, reason = "dropped with the socket")]
    pub place: Place,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.progress.read(buffer.filled().len() - before);
        polled
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if polled.is_ready() {
            self.progress.wrote();
        }
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        if polled.is_ready() {
            self.progress.wrote();
        }
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A service that counts the heads it gets.
pub(super) struct Counted<S> {
    pub service: S,
    pub progress: Arc<Progress>,
}

impl<R, S: Service<R>> Service<R> for Counted<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn call(&self, request: R) -> S::Future {
        self.progress.heads.fetch_add(1, Ordering::Relaxed);
        self.service.call(request)
    }
}
