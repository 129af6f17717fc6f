//! The peer listener: one port for both planes. What a connection is for, its first bytes say on loopback, and ALPN
//! where there is TLS. Nobody who is silent, slow or noisy keeps others waiting.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::io::{self, Cursor};
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::server::conn::http2;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use ractor::ActorRef;
use ractor_cluster::NodeServerMessage;
use rustls::pki_types::ServerName;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tower::Service;

use super::greet::{self, First, Io, PREFACE};
use super::link;
use super::node::Node;
use super::tls::{self, Plane, Tls};
use crate::listener::listen;
use crate::lock::lock;

/// Connections that have not said yet what they want. Who comes later waits in the kernel's queue.
const HANDSHAKES: usize = 64;

/// How long a connection may take for TLS and its first bytes.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// Connections that wait to be accepted.
const BACKLOG: u32 = 256;

/// Connections of the data plane: each peer keeps a few.
const CONNECTIONS: usize = 1_024;

/// Requests that one connection of the data plane may have open.
const STREAMS_PER_CONNECTION: u32 = 1_024;

/// How often a data connection is asked whether somebody is there, and how long the answer may take.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(5));

/// How long a data connection's open requests may take once this node ends.
const DRAIN: Duration = Duration::from_secs(1);

/// Addresses whose failures were logged aloud already.
const NOTED: usize = 64;

/// Where peers are let in, and who.
pub(super) struct Door {
    pub tls: Option<Tls>,
    /// Whom certificates may be for.
    pub hosts: Vec<ServerName<'static>>,
    pub node: Arc<Node>,
    pub server: ActorRef<NodeServerMessage>,
    places: Arc<Semaphore>,
    noted: Mutex<BTreeSet<IpAddr>>,
}

/// What serves the data plane: a router.
pub trait DataService<B>:
    Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S, B> DataService<B> for S where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// What answers on the data plane.
pub trait DataBody:
    Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static
{
}

impl<B> DataBody for B where
    B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static
{
}

/// A connection that has said what it wants.
enum Opened {
    Data(Box<dyn Io>),
    Control(Box<dyn Io>, u128),
    /// It only asked who is here.
    Over,
}

pub(super) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    listen(address, BACKLOG)
}

impl Door {
    pub fn new(
        tls: Option<Tls>,
        hosts: Vec<ServerName<'static>>,
        node: Arc<Node>,
        server: ActorRef<NodeServerMessage>,
    ) -> Arc<Self> {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        Arc::new(Self { tls, hosts, node, server, places, noted: Mutex::default() })
    }

    /// Lets peers in until the node ends.
    pub async fn run<S: DataService<B>, B: DataBody>(self: Arc<Self>, listener: TcpListener, data: S) {
        let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
        loop {
            let accepted = async {
                let turn = handshakes.clone().acquire_owned().await.expect("the semaphore is never closed");
                (turn, listener.accept().await)
            };
            let (turn, accepted) = tokio::select! {
                () = self.node.ending.cancelled() => return,
                accepted = accepted => accepted,
            };
            match accepted {
                Ok((stream, from)) => {
                    let (door, data) = (self.clone(), data.clone());
                    self.node.tasks.spawn(async move {
                        let opened = door.handshake(stream, from).await;
                        drop(turn);
                        if let Some(opened) = opened {
                            door.serve(opened, from, data).await;
                        }
                    });
                }
                Err(error) => {
                    // Mostly out of file descriptors; connections that end give some back.
                    tracing::warn!(%error, "a peer's connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    async fn handshake(&self, stream: TcpStream, from: SocketAddr) -> Option<Opened> {
        let opened = tokio::select! {
            () = self.node.ending.cancelled() => return None,
            opened = timeout(HANDSHAKE, self.opened(stream)) => opened,
        };
        match opened {
            Ok(Ok(opened)) => Some(opened),
            Ok(Err(error)) => {
                self.refused(from, &error.to_string());
                None
            }
            Err(_) => {
                self.refused(from, "it did not say in time what it wants");
                None
            }
        }
    }

    async fn opened(&self, stream: TcpStream) -> io::Result<Opened> {
        link::tune(&stream)?;
        let Some(tls) = &self.tls else { return self.plain(stream).await };
        match tls::accept(stream, tls, &self.hosts).await? {
            (stream, Plane::Data) => Ok(Opened::Data(Box::new(stream))),
            (mut stream, Plane::Control) => {
                let mut bytes = [0; 24];
                stream.read_exact(&mut bytes).await?;
                self.control(Box::new(stream), First::of(&bytes)).await
            }
        }
    }

    /// Without TLS: both planes are told apart by as many bytes.
    async fn plain(&self, mut stream: TcpStream) -> io::Result<Opened> {
        let mut bytes = [0; 24];
        stream.read_exact(&mut bytes).await?;
        let first = First::of(&bytes);
        if first == First::Data {
            // hyper reads the preface again.
            let (read, write) = stream.into_split();
            let read = Cursor::new(PREFACE).chain(read);
            return Ok(Opened::Data(Box::new(tokio::io::join(read, write))));
        }
        self.control(Box::new(stream), first).await
    }

    async fn control(&self, mut io: Box<dyn Io>, first: First) -> io::Result<Opened> {
        let First::Control(peer) = first else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "its first bytes are no node's"));
        };
        if !self.node.has_room() {
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, "there are too many sessions"));
        }
        let stays = greet::answer(&mut io, self.node.me().id).await?;
        Ok(if stays { Opened::Control(io, peer) } else { Opened::Over })
    }

    async fn serve<S: DataService<B>, B: DataBody>(&self, opened: Opened, from: SocketAddr, data: S) {
        match opened {
            Opened::Data(io) => self.serve_data(io, from, data).await,
            Opened::Control(io, peer) => {
                self.node.open(&self.server, io, &from.to_string(), peer, true);
            }
            Opened::Over => {}
        }
    }

    async fn serve_data<S: DataService<B>, B: DataBody>(&self, io: Box<dyn Io>, from: SocketAddr, data: S) {
        let Ok(_place) = self.places.try_acquire() else {
            self.refused(from, "there are too many connections");
            return;
        };
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS_PER_CONNECTION)
            .keep_alive_interval(Some(KEEP_ALIVE.0))
            .keep_alive_timeout(KEEP_ALIVE.1);
        let connection = builder.serve_connection(TokioIo::new(io), TowerToHyperService::new(data));
        let mut connection = pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.node.ending.cancelled() => {
                connection.as_mut().graceful_shutdown();
                timeout(DRAIN, connection).await.unwrap_or(Ok(()))
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%from, %error, "a peer's data connection ended early");
        }
    }

    /// A connection that came to nothing: aloud once for each machine, or whoever knocks often fills the logs.
    fn refused(&self, from: SocketAddr, why: &str) {
        let mut noted = lock(&self.noted);
        if noted.len() < NOTED && noted.insert(from.ip()) {
            tracing::warn!(%from, "a connection to cluster.listen was refused: {why}");
        } else {
            tracing::debug!(%from, "a connection to cluster.listen was refused: {why}");
        }
    }
}
