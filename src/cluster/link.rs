//! One connection of the control plane, as ractor reads and writes it: how it ended is remembered, because that may be
//! the evidence of a death, and it can be closed from outside.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ractor_cluster::{BoxRead, BoxWrite, ClusterBidiStream};
use socket2::{SockRef, TcpKeepalive};
use std::sync::OnceLock;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};

use super::greet::Io;

/// After how much unacknowledged silence the kernel gives a connection up. Without it that takes a quarter of an hour.
const USER_TIMEOUT: Duration = Duration::from_secs(8);

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The peer's machine closed it in order: FIN.
    Closed,
    /// The peer's machine knows nothing of it: RST.
    Reset,
    /// Nobody answered any more, or something on the way broke.
    Lost,
    /// This node closed it.
    Ours,
}

/// A connection. Shared by whoever wants to know about it.
#[derive(Debug)]
pub struct Link {
    pub id: u64,
    /// Unique in the process; ractor names its session by it.
    pub label: String,
    /// Who is at the other end, by its own greeting.
    pub peer: u128,
    end: OnceLock<End>,
    close: CancellationToken,
    over: CancellationToken,
    welcomed: AtomicBool,
}

impl Link {
    /// A connection and the stream that ractor gets.
    pub fn open(io: Box<dyn Io>, from: &str, peer: u128) -> (Arc<Self>, Box<Stream>) {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let link = Arc::new(Self {
            id,
            label: format!("{from} #{id}"),
            peer,
            end: OnceLock::new(),
            close: CancellationToken::new(),
            over: CancellationToken::new(),
            welcomed: AtomicBool::new(false),
        });
        let alive = Arc::new(link.over.clone().drop_guard());
        (link.clone(), Box::new(Stream { io, link, alive }))
    }

    /// Closes it from this side, for good.
    pub fn close(&self) {
        self.ended(End::Ours);
        self.close.cancel();
    }

    /// Waits until neither side reads or writes any more.
    pub async fn over(&self) {
        self.over.cancelled().await;
    }

    /// How it ended; ours where nothing was heard from the other side.
    pub fn end(&self) -> End {
        self.end.get().copied().unwrap_or(End::Ours)
    }

    /// Both nodes agree to work together over it.
    pub fn welcome(&self) {
        self.welcomed.store(true, Ordering::Relaxed);
    }

    pub fn is_welcomed(&self) -> bool {
        self.welcomed.load(Ordering::Relaxed)
    }

    /// The first end counts.
    fn ended(&self, end: End) {
        let _known = self.end.set(end);
    }

    fn failed(&self, error: &io::Error) {
        self.ended(match error.kind() {
            // TLS misses the peer's good-bye where a process was killed.
            io::ErrorKind::UnexpectedEof => End::Closed,
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => End::Reset,
            _ => End::Lost,
        });
    }
}

/// What ractor reads from and writes to.
pub struct Stream {
    io: Box<dyn Io>,
    link: Arc<Link>,
    alive: Arc<DropGuard>,
}

impl ClusterBidiStream for Stream {
    fn split(self: Box<Self>) -> (BoxRead, BoxWrite) {
        let Self { io, link, alive } = *self;
        let (read, write) = tokio::io::split(io);
        let half = |link: Arc<Link>, alive| Half {
            closed: Box::pin(link.close.clone().cancelled_owned()),
            link,
            _alive: alive,
        };
        let (reader, writer) = (half(link.clone(), alive.clone()), half(link, alive));
        (Box::new(Reader { io: read, half: reader }), Box::new(Writer { io: write, half: writer }))
    }

    fn peer_label(&self) -> Option<String> {
        Some(self.link.label.clone())
    }
}

struct Half {
    link: Arc<Link>,
    closed: Pin<Box<WaitForCancellationFutureOwned>>,
    /// The connection is over with the last half.
    _alive: Arc<DropGuard>,
}

impl Half {
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.closed.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::ErrorKind::ConnectionAborted.into()),
            Poll::Pending => Ok(()),
        }
    }

    fn note<T>(&self, result: io::Result<T>) -> io::Result<T> {
        result.inspect_err(|error| self.link.failed(error))
    }
}

struct Reader {
    io: ReadHalf<Box<dyn Io>>,
    half: Half,
}

impl AsyncRead for Reader {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.half.check(cx)?;
        let before = buf.filled().len();
        let read = ready!(Pin::new(&mut this.io).poll_read(cx, buf));
        if read.is_ok() && buf.filled().len() == before && buf.remaining() > 0 {
            this.half.link.ended(End::Closed);
        }
        Poll::Ready(this.half.note(read))
    }
}

struct Writer {
    io: WriteHalf<Box<dyn Io>>,
    half: Half,
}

impl AsyncWrite for Writer {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.half.check(cx)?;
        let written = ready!(Pin::new(&mut this.io).poll_write(cx, bytes));
        Poll::Ready(this.half.note(written))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.half.check(cx)?;
        let flushed = ready!(Pin::new(&mut this.io).poll_flush(cx));
        Poll::Ready(this.half.note(flushed))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

/// What every connection between nodes is set to, dialled or accepted.
pub(super) fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let probes = TcpKeepalive::new().with_time(Duration::from_secs(5)).with_interval(Duration::from_secs(1));
    socket.set_tcp_keepalive(&probes.with_retries(3))?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (Arc<Link>, Box<Stream>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dialled = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, from) = listener.accept().await.unwrap();
        tune(&accepted).unwrap();
        let (link, stream) = Link::open(Box::new(accepted), &from.to_string(), 7);
        (link, stream, dialled)
    }

    #[tokio::test]
    async fn how_a_connection_ended_is_remembered() {
        let (link, stream, peer) = pair().await;
        let (mut reader, _writer) = stream.split();
        drop(peer);
        assert_eq!(reader.read(&mut [0; 8]).await.unwrap(), 0);
        assert_eq!(link.end(), End::Closed);

        let (link, stream, peer) = pair().await;
        let (mut reader, mut writer) = stream.split();
        SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
        drop(peer);
        assert!(reader.read(&mut [0; 8]).await.is_err());
        assert!(writer.write_all(b"x").await.is_err());
        assert_eq!(link.end(), End::Reset);
    }

    #[tokio::test]
    async fn it_can_be_closed_from_this_side_however_the_peer_is() {
        let (link, stream, _peer) = pair().await;
        let (mut reader, mut writer) = stream.split();
        // Nobody reads at the other end.
        let stuck = tokio::spawn(async move { while writer.write_all(&[0; 65_536]).await.is_ok() {} });
        let waiting = tokio::spawn(async move { reader.read(&mut [0; 8]).await });
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!stuck.is_finished() && !waiting.is_finished());
        link.close();
        stuck.await.unwrap();
        assert!(waiting.await.unwrap().is_err());
        tokio::time::timeout(Duration::from_secs(5), link.over()).await.unwrap();
        assert_eq!(link.end(), End::Ours);
    }
}
