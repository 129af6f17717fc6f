//! The nodes of a cluster among themselves: the control plane, and the listener that it shares with the data plane.
//!
//! The control plane says who is there, carries hints and asks for moves. Nothing it says decides who owns a shard:
//! that is the ledger's, so all of this may be late, lost or doubled. `ractor_cluster` carries it and does not
//! notice dead peers, push back or say no; what it lacks is here: one remotable actor ([`gateway`]) with explicit
//! deadlines, beats of our own ([`session`]), and connections that we open, secure and close ourselves. Who may be a
//! peer is decided by certificates; one that is, is trusted not to speak in the name of another.
//!
//! Reading order: [`wire`] and [`codec`] (what is said), [`members`] (what is known, pure), [`node`] (the middle),
//! [`gateway`] and [`session`] (how it is said), [`greet`], [`tls`] and [`link`] (a connection), [`listen`] and
//! [`dial`] (how there come to be some), [`knock`] and [`peers`] (whether a member is dead).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use ractor::{Actor as _, ActorRef};
use ractor_cluster::node::NodeConnectionMode;
use ractor_cluster::{NodeServer, NodeServerMessage};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

pub use self::greet::{Presence, who_answers};
pub use self::knock::knocked_at;
pub use self::listen::{DataBody, DataService};
pub use self::members::{Gone, Me, Member, Members, Reach, State, Status, Unmet};
pub use self::metrics::PeerMetrics;
pub use self::tls::{Plane, Tls, TlsError, TlsFiles};
pub use self::wire::{
    ControlHint, ControlReply, ControlRequest, Hello, PROTOCOL, Refusal, Route, ShardMove, Stage,
};

mod codec;
pub mod data;
mod dial;
mod gateway;
mod greet;
mod knock;
mod link;
mod listen;
mod members;
mod metrics;
mod node;
pub mod peers;
pub mod requests;
mod session;
mod tls;
mod wire;

use self::dial::Dialers;
use self::gateway::{Gateway, GatewayMessage};
use self::listen::Door;
use self::node::{Node, Sessions};
use self::wire::{Answer, Body};
use crate::config::peers::Peer;

/// Every node's: who may connect is decided by certificates, and who belongs here by [`Hello`], which says why not.
const COOKIE: &str = "hotseat";

/// The largest frame of a session: a message, and what ractor puts around it.
const FRAME_MAX: u64 = 2 * codec::BYTES_MAX as u64;

/// How long a peer's acknowledgement of the farewell is waited for.
const FAREWELL: Duration = Duration::from_millis(500);

/// How long sessions and connections may take to end.
const END: Duration = Duration::from_secs(2);

/// What the control plane is started with.
#[derive(Debug)]
pub struct ControlSettings {
    /// `cluster.listen`.
    pub listen: SocketAddr,
    /// `cluster.peers`.
    pub peers: Vec<Peer>,
    /// `None`: everything is on loopback.
    pub tls: Option<Tls>,
    /// Who this node is. An empty `peer_url` becomes the address that is listened on.
    pub me: Hello,
    /// How it is at first.
    pub status: Status,
    /// `cluster.lease_renew`: for so long counts what a peer says of the ledger.
    pub lease_renew: Duration,
    pub metrics: PeerMetrics,
}

/// Who answers what peers ask.
#[async_trait]
pub trait ControlHandler: Send + Sync + 'static {
    /// `from` is the peer's id.
    async fn answer(&self, from: u128, request: ControlRequest) -> ControlReply;

    /// Must not block: whatever else that peer says waits.
    fn hint(&self, from: u128, hint: ControlHint);
}

/// Why a peer did not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// Nothing was sent.
    #[error("there is no session with that node")]
    Away,
    /// Nothing was done: too many requests are without an answer.
    #[error("that node has too much to answer")]
    Busy,
    /// Nothing was done: it does not know this node (any more).
    #[error("that node does not know this one")]
    Stranger,
    /// It may have been done.
    #[error("that node did not answer in time")]
    TimedOut,
    /// It may have been done.
    #[error("the session with that node ended before it answered")]
    Lost,
    #[error("that node's answer cannot be read, or it could not read the question: {0}")]
    Unreadable(String),
}

/// The control plane of a running node. Cheap to clone. One for the whole process: ractor's registries are global.
#[derive(Clone)]
pub struct Control {
    node: Arc<Node>,
    server: ActorRef<NodeServerMessage>,
    gateway: ActorRef<GatewayMessage>,
    address: SocketAddr,
}

impl Control {
    /// Listens for peers and dials them. `data` serves what peers send over HTTP/2 to the same listener.
    ///
    /// # Errors
    /// A sentence for whoever started the node; nothing of it runs then.
    pub async fn start<S: DataService<B>, B: DataBody>(
        settings: ControlSettings,
        data: S,
        requests: Arc<dyn ControlHandler>,
    ) -> anyhow::Result<Self> {
        let ControlSettings { listen, peers, tls, mut me, status, lease_renew, metrics } = settings;
        let bound =
            listen::bind(listen).with_context(|| format!("cannot listen on {listen} (cluster.listen)"))?;
        let address = bound.local_addr()?;
        if me.peer_url.is_empty() {
            me.peer_url = address.to_string();
        }
        // ractor tells two sessions of a peer and a session with itself by this name.
        let (name, host) = (me.node.clone(), format!("{:032x}", me.id));
        let node = Node::new(me, status, requests, metrics, lease_renew / 3);
        let (gateway, _) = Gateway::spawn(None, Gateway, node.clone()).await.context("the gateway")?;
        let server =
            NodeServer::new(0, COOKIE.to_owned(), name, host, None, Some(NodeConnectionMode::Isolated))
                // Its own listener cannot be switched off, and is of no use to anybody here.
                .with_listen_addr(std::net::Ipv4Addr::LOCALHOST.into())
                .with_max_inbound_frame_size(FRAME_MAX);
        let server = NodeServer::spawn(None, server, ()).await.context("the node server");
        let (server, ended) = server.inspect_err(|_| gateway.stop(None))?;
        let subscription = Box::new(Sessions(node.clone()));
        server
            .cast(NodeServerMessage::SubscribeToEvents { id: "hotseat".to_owned(), subscription })
            .map_err(|_| anyhow::anyhow!("the node server has ended"))?;
        let door = Door::new(tls.clone(), tls::hosts(&peers), node.clone(), server.clone());
        node.tasks.spawn(door.run(bound, data));
        if let Some(tls) = tls.clone() {
            node.tasks.spawn(node.ending.clone().run_until_cancelled_owned(tls.follow()));
        }
        let ending = node.ending.clone();
        node.tasks.spawn(async move {
            let ended = ended.await;
            if !ending.is_cancelled() {
                tracing::error!(
                    ?ended,
                    "ractor's node server has failed: no peer is there until a new start"
                );
            }
        });
        Dialers { node: node.clone(), server: server.clone(), tls }.start(&peers);
        Ok(Self { node, server, gateway, address })
    }

    /// Where peers are let in.
    #[must_use]
    pub fn peer_addr(&self) -> SocketAddr {
        self.address
    }

    /// The cluster as this node sees it, now and whenever that changes.
    #[must_use]
    pub fn members(&self) -> watch::Receiver<Arc<Members>> {
        self.node.members()
    }

    /// How this node is from now on. Peers hear of it with the next beat, and at once where the ledger has come into
    /// reach or out of it, where other shards are owned, or where draining begins or ends.
    pub fn say(&self, status: Status) {
        self.node.say(status);
    }

    /// Asks a member to do something.
    ///
    /// # Errors
    /// It did not answer; the error says whether it may have done it all the same.
    pub async fn ask(
        &self,
        node: u128,
        request: ControlRequest,
        deadline: Instant,
    ) -> Result<ControlReply, PeerError> {
        let session = self.node.session(node).ok_or(PeerError::Away)?;
        let Ok(_credit) = session.credit.try_acquire() else { return Err(PeerError::Busy) };
        let within = deadline.saturating_duration_since(Instant::now());
        if within.is_zero() {
            return Err(PeerError::TimedOut);
        }
        let envelope = self.node.envelope(Body::Request(request));
        match gateway::ask(&session.gateway, envelope, within).await? {
            Answer::Reply(reply) => Ok(reply),
            Answer::Busy => Err(PeerError::Busy),
            Answer::Stranger => Err(PeerError::Stranger),
            Answer::Unreadable(why) => Err(PeerError::Unreadable(why)),
            other => Err(PeerError::Unreadable(format!("{other:?} is no answer to a request"))),
        }
    }

    /// Tells every member that is up. It may be lost.
    pub fn tell_all(&self, hint: ControlHint) {
        self.node.tell_all(&Body::Hint(hint));
    }

    /// Says farewell, closes every session and the listener. What was owned must have been given back before.
    pub async fn end(self) {
        let farewells = self.node.all_sessions().into_iter().map(|session| {
            let envelope = self.node.envelope(Body::Farewell);
            tokio::spawn(async move { gateway::ask(&session.gateway, envelope, FAREWELL).await })
        });
        for farewell in farewells.collect::<Vec<_>>() {
            match farewell.await {
                Ok(Ok(Answer::Noted)) => {}
                other => tracing::debug!(?other, "a peer did not acknowledge the farewell"),
            }
        }
        self.node.ending.cancel();
        if let Err(error) = self.server.stop_and_wait(None, Some(END)).await {
            tracing::warn!(%error, "sessions with peers did not end in time");
        }
        self.gateway.stop(None);
        self.node.tasks.close();
        if timeout(END, self.node.tasks.wait()).await.is_err() {
            tracing::warn!("connections of peers were still open at the end");
        }
    }
}
