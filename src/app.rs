//! The server as a whole: which ledger, which mirror, which listeners, in which order up and down.
//! Nothing else names adapters and edge together.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use actors::gates::GateOptions;
use actors::gates::ports::{GateLedger, GateMirror};
use actors::handle::{Handle, ShardStatus};
use actors::observe::Metrics;
use actors::ops::Alone;
use actors::peers::Peers;
use actors::ports::{Ledger, Mirror};
use actors::{LeaseSettings, Rebalance, System};
use anyhow::Context as _;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

pub use self::ledger::{migrate, open_ledger};
use crate::auth_key;
use crate::catalogue::directory::Directory;
use crate::catalogue::intake::Intake;
use crate::catalogue::{Catalogue, demo};
use crate::config::{Config, ConfigError, Problems};
use crate::http::auth::Tokens;
use crate::http::budget::Budget;
use crate::http::metrics::HttpMetrics;
use crate::http::proxies::Proxies;
use crate::http::unready::Unready;
use crate::http::{Edge, EdgeSettings, ops_site, public_site, serve};
use crate::ledger::sqlite::{self, OpenError};
pub use crate::ledger::{Access, Store};
use crate::listener::listen;
use crate::mirror::local::LocalMirror;
use crate::mirror::redis::RedisMirror;
use crate::run_file::RunFile;
use crate::ws::origin::Origins;
use crate::ws::{Sockets, WsSettings};

mod cluster;
mod heads;
mod ledger;
mod waiting;

/// Connections that wait to be accepted: a crowd comes in one second. The kernel may allow fewer (`somaxconn`).
const BACKLOG: u32 = 4_096;

/// How often a start looks whether it is done.
const READY_POLL: Duration = Duration::from_millis(20);

/// Of the grace, what is left for the last answers to reach their clients once the shards have ended.
const DRAIN: Duration = Duration::from_secs(1);

/// How long the ledger may take to fold its log once nothing is asked of it any more.
const CLOSE: Duration = Duration::from_secs(2);

/// A running server.
pub struct App {
    /// Where clients reach it.
    pub public_url: String,
    /// Where operators reach it.
    pub ops_url: String,
    pub tokens: Tokens,
    pub directory: Arc<Directory>,
    system: System,
    cluster: cluster::Cluster,
    ledger: Arc<dyn Store>,
    /// Not ready any more.
    ending: CancellationToken,
    /// No connection any more.
    closed: CancellationToken,
    listeners: [JoinHandle<()>; 2],
    sockets: Sockets,
    chores: Vec<JoinHandle<()>>,
    data: PathBuf,
}

impl App {
    /// Starts to serve, as soon as there is a ledger to open. Whether it is ready yet, `/readyz` says.
    ///
    /// # Errors
    /// A sentence for whoever typed the command; nothing of it runs then.
    pub async fn start(config: &Config, fill_demo: bool) -> anyhow::Result<Self> {
        let ledger = waiting::until_open(config, || open_ledger(config, Access::Own)).await?;
        let tokens = auth_key::open_or_create(config).map_err(|error| said(&config.node.data, error))?;
        if fill_demo && ledger.concerts(None, 1).await?.is_empty() {
            demo::fill(ledger.as_ref()).await.context("the demo's concerts")?;
        }
        let ops = bind(config.server.ops_listen, "server.ops_listen")?;
        let public = bind(config.server.listen, "server.listen")?;
        let ops_url = url(ops.local_addr()?);
        let public_url = public_url(config, public.local_addr()?);
        ledger.listens_at(public_url.clone());
        let listening = [public.local_addr()?, ops.local_addr()?];

        let (mut registry, metrics, http) = measured();
        let mirrors = open_mirror(config).await?;
        let cluster = cluster::Plan::of(config, &ledger, &mut registry, listening).await?;
        let options = options(config, ledger.clone(), mirrors, metrics, cluster.peers());
        let system = System::start(options).await?;
        let cluster = cluster.start(&system).await?;
        let directory = Arc::new(Directory::new());
        directory.refresh(ledger.as_ref()).await?;
        complain(config, &directory);
        let catalogue: Arc<dyn Catalogue> = ledger.clone();
        let intake = Arc::new(Intake::new(directory.clone(), catalogue.clone(), system.handle()));
        let ending = CancellationToken::new();
        let closed = CancellationToken::new();
        let sockets = Sockets::default();
        let budget = Budget::new(&config.gate.budgets());
        let edge = Edge {
            handle: system.handle(),
            ops: cluster.ops(alone(config, system.handle(), ledger.clone(), &public_url), &system),
            directory: directory.clone(),
            catalogue,
            ledger: ledger.clone(),
            gate_ledger: ledger.clone(),
            intake: intake.clone(),
            tokens: tokens.clone(),
            passes: auth_key::passes(config).map_err(|error| said(&config.node.data, error))?,
            budget: budget.clone(),
            settings: edge_settings(config, &public_url)?,
            metrics: http,
            sockets: sockets.clone(),
            registry: Arc::new(registry),
            shutdown: ending.clone(),
        };
        let listeners = [
            tokio::spawn(serve(ops, ops_site(edge.clone()), closed.clone())),
            tokio::spawn(serve(public, public_site(edge), closed.clone())),
        ];
        let chores = chores(intake, ledger.clone(), budget, &ending);
        let data = config.node.data.clone();
        let app = Self {
            public_url,
            ops_url,
            tokens,
            directory,
            system,
            cluster,
            ledger,
            ending,
            closed,
            listeners,
            sockets,
            chores,
            data,
        };
        app.write_run_file()?;
        tracing::info!(public = app.public_url, ops = app.ops_url, data = %app.data.display(), "listening");
        Ok(app)
    }

    /// The door to the shards.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.system.handle()
    }

    fn write_run_file(&self) -> anyhow::Result<()> {
        let run = RunFile {
            ops_url: self.ops_url.clone(),
            public_url: self.public_url.clone(),
            token: self.tokens.local_admin().to_owned(),
            pid: std::process::id(),
        };
        let written =
            run.write(&self.data).with_context(|| format!("{} cannot be written", self.data.display()));
        written.map_err(|error| said(&self.data, error))
    }

    /// Waits until every shard serves and every option is on sale.
    pub async fn ready(&self) {
        let started = Instant::now();
        loop {
            let statuses = self.system.handle().statuses();
            let served =
                |status: &ShardStatus| matches!(status, ShardStatus::Serving(_) | ShardStatus::Elsewhere(..));
            let serving = statuses.iter().all(|(_, status)| served(status));
            if serving && !statuses.is_empty() && self.directory.pending() == 0 {
                tracing::info!(shards = statuses.len(), after = ?started.elapsed(), "ready");
                return;
            }
            tokio::time::sleep(READY_POLL).await;
        }
    }

    /// Refuses new work, writes and answers what waits, gives the leases back and closes, within `grace`.
    pub async fn end(self, grace: Duration) {
        let deadline = Instant::now() + grace;
        self.ending.cancel();
        // New requests are answered with OVERLOADED while the shards flush; only then are the doors closed.
        let until = deadline - DRAIN.min(grace / 4);
        self.cluster.give_away(&self.system.moves(), &self.system.handle(), until).await;
        let report = self.system.shutdown(until.saturating_duration_since(Instant::now())).await;
        self.cluster.end().await;
        self.closed.cancel();
        if timeout_at(deadline, self.sockets.end()).await.is_err() {
            tracing::warn!("sockets were still open at the end of shutdown.grace");
        }
        let [ops, public] = self.listeners;
        for listener in [public, ops] {
            let abort = listener.abort_handle();
            if timeout_at(deadline, listener).await.is_err() {
                tracing::warn!("connections were still open at the end of shutdown.grace");
                abort.abort();
            }
        }
        for chore in self.chores {
            chore.abort();
        }
        let close = async {
            heads::log(self.ledger.as_ref(), &mut heads::Logged::default()).await;
            self.ledger.close().await;
        };
        if timeout(CLOSE, close).await.is_err() {
            tracing::warn!("the ledger did not close in time; what was acknowledged is safe");
        }
        if let Err(error) = RunFile::remove(&self.data) {
            tracing::warn!(%error, "run.json could not be removed");
        }
        if report.unflushed > 0 {
            tracing::warn!(entries = report.unflushed, "the ledger did not answer for these in time");
        }
        tracing::info!(leases = report.released, "ended");
    }
}

/// What goes on beside the requests until `ending`.
fn chores(
    intake: Arc<Intake>,
    ledger: Arc<dyn Store>,
    budget: Budget,
    ending: &CancellationToken,
) -> Vec<JoinHandle<()>> {
    let stop = ending.clone();
    vec![
        tokio::spawn(async move { intake.run(stop).await }),
        tokio::spawn(heads::log_each_minute(ledger, ending.clone())),
        tokio::spawn(budget.shrink_until(ending.clone())),
    ]
}

fn measured() -> (Registry, Metrics, HttpMetrics) {
    let mut registry = Registry::with_prefix("hotseat");
    let metrics = Metrics::default();
    metrics.register(&mut registry);
    let http = HttpMetrics::register(&mut registry);
    let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("build", "Which hotseat this is", build);
    (registry, metrics, http)
}

/// The mirror of a configuration, for shards and for gates. Tried once, so that they find it at hand; without it they
/// start alone.
async fn open_mirror(config: &Config) -> anyhow::Result<(Arc<dyn Mirror>, Arc<dyn GateMirror>)> {
    if config.mirror.url == "local:" {
        let (data, dir) = (&config.node.data, config.node.data.join("gates"));
        // With PostgreSQL nothing else keeps a second process off the directory.
        let lock = sqlite::take_lock(&dir, data)?;
        let mirror = Arc::new(LocalMirror::in_dir(dir).locked(lock));
        return Ok((mirror.clone(), mirror));
    }
    let wrong = |what| Problems::from(ConfigError::new("", "mirror.url", what));
    let mirror = Arc::new(RedisMirror::new(config.mirror.url.parse().map_err(wrong)?));
    if let Err(error) = Mirror::ping(mirror.as_ref()).await {
        tracing::warn!(%error, "starting without the soft locks of the mirror");
    }
    Ok((mirror.clone(), mirror))
}

fn options(
    config: &Config,
    ledger: Arc<dyn Store>,
    (mirror, gate_mirror): (Arc<dyn Mirror>, Arc<dyn GateMirror>),
    metrics: Metrics,
    peers: Arc<dyn Peers>,
) -> actors::Options {
    actors::Options {
        ledger: ledger.clone(),
        mirror,
        shards: config.cluster.shards,
        peers,
        rebalance: Rebalance { interval: config.rebalance.interval, at_once: config.rebalance.at_once },
        settings: config.engine(),
        gates: gates(config, ledger, gate_mirror),
        lease: LeaseSettings {
            ttl: config.cluster.lease_ttl,
            renew: config.cluster.lease_renew,
            margin: config.cluster.lease_margin,
        },
        ledger_ack_timeout: config.ledger.ack_timeout,
        feed_tick: config.feed.tick,
        mirror_restore_timeout: config.mirror.restore_timeout,
        metrics,
    }
}

fn gates(config: &Config, ledger: Arc<dyn GateLedger>, mirror: Arc<dyn GateMirror>) -> GateOptions {
    GateOptions {
        ledger,
        mirror,
        settings: config.gate.settings(),
        beacon: config.gate.beacon(),
        random,
        tick: config.gate.tick,
        restore_timeout: config.gate.restore_timeout,
    }
}

/// 244 random bits, spread over all.
fn random() -> [u8; 32] {
    let (one, other) = (uuid::Uuid::new_v4(), uuid::Uuid::new_v4());
    actors::gates::draws::sha256(&[one.as_bytes(), other.as_bytes()])
}

fn alone(config: &Config, handle: Handle, ledger: Arc<dyn Ledger>, public_url: &str) -> Alone {
    Alone { handle, ledger, node: config.node.name.clone(), url: public_url.to_owned() }
}

/// Gates that were set before the node had a cluster go on: to refuse the start would take the sale from everybody.
fn complain(config: &Config, directory: &Directory) {
    let gates = directory.gated();
    if gates > 0 && !keeps_lines(config) {
        tracing::error!(gates, "waiting rooms lose their line with their node: {}", Unready::MirrorNotShared);
    }
}

/// Whether whoever owns a gate next finds its line.
fn keeps_lines(config: &Config) -> bool {
    config.cluster.listen.is_empty() || config.mirror.url != "local:"
}

fn edge_settings(config: &Config, public_url: &str) -> Result<EdgeSettings, Problems> {
    let proxies = Proxies::parse(&config.edge.trusted_proxies);
    Ok(EdgeSettings {
        node: config.node.name.clone(),
        public_url: public_url.to_owned(),
        confirm_role: config.sales.confirm_role,
        dev_tokens: config.auth.dev_tokens,
        click_timeout: config.edge.click_timeout,
        ledger_ack_timeout: config.ledger.ack_timeout,
        trusted_proxies: proxies.map_err(|wrong| ConfigError::new("", "edge.trusted_proxies", wrong))?,
        gate_grace: config.gate.grace,
        keeps_lines: keeps_lines(config),
        ws: ws_settings(config),
    })
}

/// What a data directory that takes no files is called, whoever met it first.
fn said(dir: &Path, error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref::<io::Error>() {
        Some(io) if matches!(io.kind(), ErrorKind::StorageFull | ErrorKind::ReadOnlyFilesystem) => {
            OpenError::from_io(dir, io).into()
        }
        _ => error,
    }
}

fn ws_settings(config: &Config) -> WsSettings {
    WsSettings {
        origins: Origins::new(&config.ws.origins),
        send_buffer: config.ws.send_buffer as usize,
        stall_timeout: config.ws.stall_timeout,
        max_watches: config.ws.max_watches.into(),
        messages_per_second: config.ws.messages_per_second,
    }
}

fn bind(address: SocketAddr, key: &str) -> anyhow::Result<TcpListener> {
    listen(address, BACKLOG).with_context(|| format!("cannot listen on {address} ({key})"))
}

fn public_url(config: &Config, bound: SocketAddr) -> String {
    if config.node.public_url.is_empty() { url(bound) } else { config.node.public_url.clone() }
}

/// How this machine reaches a listener of its own.
fn url(mut bound: SocketAddr) -> String {
    match bound.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => bound.set_ip(std::net::Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => bound.set_ip(std::net::Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    format!("http://{bound}")
}
