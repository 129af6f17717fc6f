//! Whether this node is alone, and how it meets the others where it is not.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actors::System;
use actors::handle::Handle;
use actors::moves::Moves;
use actors::ops::{self, Ops};
use actors::peers::{Alone, Peers};
use actors::ports::Owner;
use anyhow::Context as _;
use async_trait::async_trait;
use engine::{Epoch, ShardId};
use prometheus_client::registry::Registry;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::cluster::peers::ClusterPeers;
use crate::cluster::{
    Control, ControlHandler, ControlHint, ControlReply, ControlRequest, ControlSettings, Hello, PeerMetrics,
    Reach, Status, Tls, TlsFiles, data, knocked_at, requests,
};
use crate::config::{Config, peers};
use crate::ledger::Store;

/// How often a shutdown looks whether everything is given away.
const POLL: Duration = Duration::from_millis(20);

/// What this node will be in its cluster.
pub(super) enum Plan {
    Alone,
    Together(Box<Together>),
}

pub(super) struct Together {
    peers: Arc<ClusterPeers>,
    settings: ControlSettings,
}

/// What it is.
pub(super) enum Cluster {
    Alone,
    Together { control: Control, peers: Arc<ClusterPeers>, tasks: Vec<JoinHandle<()>> },
}

/// Where peers reach this node; empty when it is alone.
pub(super) fn peer_url(config: &Config) -> String {
    let cluster = &config.cluster;
    if cluster.peer_url.is_empty() { cluster.listen.clone() } else { cluster.peer_url.clone() }
}

impl Plan {
    /// `public` and `ops` are where the listeners for clients and operators are bound.
    pub(super) async fn of(
        config: &Config,
        ledger: &Arc<dyn Store>,
        registry: &mut Registry,
        [public, ops]: [SocketAddr; 2],
    ) -> anyhow::Result<Self> {
        let cluster = &config.cluster;
        if cluster.listen.is_empty() {
            return Ok(Self::Alone);
        }
        let listen: SocketAddr = cluster.listen.parse().context("cluster.listen")?;
        let peers =
            peers::parse(&cluster.peers).map_err(|entry| anyhow::anyhow!("cluster.peers: {entry}"))?;
        let files = TlsFiles {
            ca: cluster.tls_ca.clone(),
            cert: cluster.tls_cert.clone(),
            key: cluster.tls_key.clone(),
        };
        let tls = cluster.has_tls().then(|| Tls::read(&files)).transpose()?;
        let me = ledger.me();
        let cluster_id = ledger.cluster_id().await?.as_u128();
        let hello = Hello {
            public_door: knocked_at(public, &me.peer_url),
            ops_door: knocked_at(ops, &me.peer_url),
            ..Hello::new(cluster_id, &me.node, me.id, &me.public_url, &me.peer_url)
        };
        let settings = ControlSettings {
            listen,
            peers,
            tls: tls.clone(),
            me: hello,
            status: Status { draining: false, ledger: Reach::Reaches, shards: Vec::new() },
            lease_renew: cluster.lease_renew,
            metrics: PeerMetrics::register(registry),
        };
        Ok(Self::Together(Box::new(Together { peers: ClusterPeers::new(ledger.clone(), tls), settings })))
    }

    pub(super) fn peers(&self) -> Arc<dyn Peers> {
        match self {
            Self::Alone => Arc::new(Alone::default()),
            Self::Together(together) => together.peers.clone(),
        }
    }

    pub(super) async fn start(self, system: &System) -> anyhow::Result<Cluster> {
        let Self::Together(together) = self else { return Ok(Cluster::Alone) };
        let handle = system.handle();
        let requests = Arc::new(Requests { moves: system.moves(), handle: handle.clone() });
        let service = data::service(handle.clone());
        let control = Control::start(together.settings, service, requests).await?;
        tracing::info!(peers = %control.peer_addr(), "meeting the cluster");
        let tasks = together.peers.attach(control.clone(), &handle);
        Ok(Cluster::Together { control, peers: together.peers, tasks })
    }
}

impl Cluster {
    /// What operators are shown, and what they may ask for.
    pub(super) fn ops(&self, me: ops::Alone, system: &System) -> Arc<dyn Ops> {
        match self {
            Self::Alone => Arc::new(me),
            Self::Together { peers, .. } => {
                Arc::new(ops::Together { me, moves: system.moves(), peers: peers.clone() })
            }
        }
    }

    /// Gives every shard to another node, as far as there is one, and as there is time.
    pub(super) async fn give_away(&self, moves: &Moves, handle: &Handle, deadline: Instant) {
        if matches!(self, Self::Alone) {
            return;
        }
        moves.drain();
        while moves.has_takers() && !handle.serving().is_empty() && Instant::now() < deadline {
            tokio::time::sleep(POLL).await;
        }
    }

    pub(super) async fn end(self) {
        if let Self::Together { control, tasks, .. } = self {
            control.end().await;
            tasks.iter().for_each(JoinHandle::abort);
        }
    }
}

/// What peers ask this node to do.
struct Requests {
    moves: Moves,
    handle: Handle,
}

#[async_trait]
impl ControlHandler for Requests {
    async fn answer(&self, _: u128, request: ControlRequest) -> ControlReply {
        requests::answer(&self.moves, request)
    }

    fn hint(&self, _: u128, hint: ControlHint) {
        let ControlHint::RouteChanged(route) = hint;
        let owner = Owner {
            id: route.owner,
            node: route.node,
            public_url: route.public_url,
            peer_url: route.peer_url,
        };
        self.handle.hint(ShardId(route.shard), Epoch(route.epoch), owner);
    }
}
