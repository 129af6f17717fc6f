//! Every setting: its type, its default, where it may come from and what it may be.
//!
//! Layers, the later wins: the defaults here, the file of `--config`, the environment
//! (`HOTSEAT_<SECTION>_<KEY>`), the command line. `cluster.toml` lists every key with its unit and consequence;
//! a test keeps it equal to the defaults.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::error::{ConfigError, Problems};
pub use self::gate::Gate;
pub use self::layers::{Flags, Loaded, load};
use crate::http::auth::Role;

mod check;
mod error;
mod gate;
mod layers;
pub mod peers;
#[cfg(test)]
mod tests;
pub mod text;

/// The whole configuration. Loaded ones are valid: see `check`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub node: Node,
    pub server: Server,
    pub ledger: Ledger,
    pub cluster: Cluster,
    pub rebalance: Rebalance,
    pub select: Select,
    pub hold: Hold,
    pub paying: Paying,
    pub idempotency: Idempotency,
    pub sales: Sales,
    pub gate: Gate,
    pub auth: Auth,
    pub edge: Edge,
    pub feed: Feed,
    pub ws: Ws,
    pub mirror: Mirror,
    pub shutdown: Shutdown,
    pub log: Log,
}

/// Who this process is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Unique in a cluster; letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// Where clients reach this node; empty: `http://` and `server.listen`.
    pub public_url: String,
    /// The data directory.
    pub data: PathBuf,
}

/// Where it listens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// The public API.
    #[serde(with = "text::address")]
    pub listen: SocketAddr,
    /// Health, metrics and administration.
    #[serde(with = "text::address")]
    pub ops_listen: SocketAddr,
}

/// Where sales are written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ledger {
    /// `sqlite:`, the embedded ledger in the data directory, or `postgres://…`, a database.
    pub url: String,
    /// How long a client waits for the ledger before it hears `LEDGER_UNAVAILABLE`.
    #[serde(with = "text::duration")]
    pub ack_timeout: Duration,
    pub durability: Durability,
}

impl Ledger {
    /// Whether it is in the data directory.
    #[must_use]
    pub fn is_embedded(&self) -> bool {
        self.url == "sqlite:"
    }
}

/// What a commit survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// A power cut.
    Full,
    /// A crash of the process; a power cut may lose the last commits.
    Relaxed,
}

/// Shards and their leases.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// 1 to 4,096; fixed when the ledger is made.
    pub shards: u16,
    #[serde(with = "text::duration")]
    pub lease_ttl: Duration,
    #[serde(with = "text::duration")]
    pub lease_renew: Duration,
    #[serde(with = "text::duration")]
    pub lease_margin: Duration,
    /// Where peers reach this node, an IP address and a port; empty: it is alone.
    pub listen: String,
    /// `HOST:PORT` that peers dial; empty: `cluster.listen`.
    pub peer_url: String,
    /// The nodes of the cluster, see [`peers::parse`].
    pub peers: String,
    /// The path of a PEM file with the authorities that peers' certificates come from.
    pub tls_ca: PathBuf,
    /// The path of a PEM file with this node's certificate and what leads to the authority.
    pub tls_cert: PathBuf,
    /// The path of a PEM file with the key of `cluster.tls_cert`.
    pub tls_key: PathBuf,
}

impl Cluster {
    /// Whether connections between nodes are TLS.
    #[must_use]
    pub fn has_tls(&self) -> bool {
        !self.tls_ca.as_os_str().is_empty()
    }
}

/// How shards are spread over nodes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rebalance {
    #[serde(with = "text::duration")]
    pub interval: Duration,
    /// Moves away from one node that may be under way at the same time.
    pub at_once: u16,
}

/// Soft locks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Select {
    #[serde(with = "text::duration")]
    pub ttl: Duration,
    /// From the first select, however often it is renewed.
    #[serde(with = "text::duration")]
    pub max_age: Duration,
}

/// Holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hold {
    #[serde(with = "text::duration")]
    pub ttl: Duration,
}

/// Payments.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Paying {
    #[serde(with = "text::duration")]
    pub ttl: Duration,
}

/// Retries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Idempotency {
    /// How long an answered key gets its first answer again.
    #[serde(with = "text::duration")]
    pub horizon: Duration,
}

/// What buyers may do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sales {
    /// The least role that may confirm and refund.
    pub confirm_role: Role,
    /// Live reservations of one user in one concert that has no policy of its own.
    pub reservations_per_user: u32,
}

/// Tokens.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    /// HS256; empty: a random one, kept in the data directory.
    pub secret: Secret,
    /// The path of a PEM file with an Ed25519 public key; tokens are checked with it instead of the secret.
    pub public_key: PathBuf,
    /// Who must have issued a token; empty: whoever has the key.
    pub issuer: String,
    /// Whether `POST /api/v1/dev/token` hands tokens to whoever asks.
    pub dev_tokens: bool,
}

/// A string that is not shown.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_empty() { "none" } else { "kept secret" })
    }
}

/// The HTTP edge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Edge {
    /// How long a click waits for its verdict before it hears `OVERLOADED`.
    #[serde(with = "text::duration")]
    pub click_timeout: Duration,
    /// Networks, with spaces between, whose `X-Forwarded-For` is believed, see [`crate::http::proxies`].
    pub trusted_proxies: String,
}

/// What viewers see.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Feed {
    /// Changes of one tick reach viewers together.
    #[serde(with = "text::duration")]
    pub tick: Duration,
}

/// Sockets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ws {
    /// Pages of other hosts that may open sockets, with spaces between; `*` is every page.
    pub origins: String,
    /// Bytes that a client may leave unread before it loses the backlog of its feed.
    pub send_buffer: u32,
    /// How long a client may read nothing of what waits for it.
    #[serde(with = "text::duration")]
    pub stall_timeout: Duration,
    /// Options that one socket may watch.
    pub max_watches: u16,
    /// Messages that one socket may send in a second.
    pub messages_per_second: u16,
}

/// The copy of the soft locks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mirror {
    /// `local:`, inside this process; or a Redis, see [`crate::redis_url`].
    pub url: String,
    /// How long a restore waits for the mirror.
    #[serde(with = "text::duration")]
    pub restore_timeout: Duration,
}

/// The way down.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shutdown {
    #[serde(with = "text::duration")]
    pub grace: Duration,
}

/// Logs, on standard error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    pub format: LogFormat,
    /// A level, or directives such as `info,hotseat::http=debug`.
    pub level: String,
}

/// For people or for machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Pretty,
    Json,
}

impl Config {
    /// The engine's part.
    #[must_use]
    pub fn engine(&self) -> engine::Settings {
        engine::Settings {
            select_ttl: self.select.ttl.into(),
            select_max_age: self.select.max_age.into(),
            hold_ttl: self.hold.ttl.into(),
            paying_ttl: self.paying.ttl.into(),
            idempotency_horizon: self.idempotency.horizon.into(),
            reservations_per_user: self.sales.reservations_per_user,
        }
    }

    /// The gates' part.
    #[must_use]
    pub fn gate_settings(&self) -> engine::gate::Settings {
        self.gate.settings()
    }
}

impl Default for Node {
    fn default() -> Self {
        Self { name: "hotseat-1".to_owned(), public_url: String::new(), data: PathBuf::from("hotseat-data") }
    }
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            ops_listen: SocketAddr::from(([127, 0, 0, 1], 8081)),
        }
    }
}

impl Default for Ledger {
    fn default() -> Self {
        Self { url: "sqlite:".to_owned(), ack_timeout: Duration::from_secs(5), durability: Durability::Full }
    }
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            shards: 64,
            lease_ttl: Duration::from_secs(5),
            lease_renew: Duration::from_millis(1_500),
            lease_margin: Duration::from_secs(1),
            listen: String::new(),
            peer_url: String::new(),
            peers: String::new(),
            tls_ca: PathBuf::new(),
            tls_cert: PathBuf::new(),
            tls_key: PathBuf::new(),
        }
    }
}

impl Default for Rebalance {
    fn default() -> Self {
        Self { interval: Duration::from_secs(30), at_once: 4 }
    }
}

impl Default for Select {
    fn default() -> Self {
        Self { ttl: Duration::from_secs(30), max_age: Duration::from_secs(300) }
    }
}

impl Default for Hold {
    fn default() -> Self {
        Self { ttl: Duration::from_secs(300) }
    }
}

impl Default for Paying {
    fn default() -> Self {
        Self { ttl: Duration::from_secs(300) }
    }
}

impl Default for Idempotency {
    fn default() -> Self {
        Self { horizon: Duration::from_secs(15 * 60) }
    }
}

impl Default for Sales {
    fn default() -> Self {
        Self { confirm_role: Role::Payment, reservations_per_user: 4 }
    }
}

impl Default for Edge {
    fn default() -> Self {
        Self { click_timeout: Duration::from_secs(2), trusted_proxies: String::new() }
    }
}

impl Default for Feed {
    fn default() -> Self {
        Self { tick: Duration::from_millis(50) }
    }
}

impl Default for Ws {
    fn default() -> Self {
        Self {
            origins: String::new(),
            send_buffer: 256 * 1024,
            stall_timeout: Duration::from_secs(15),
            max_watches: 16,
            messages_per_second: 1_000,
        }
    }
}

impl Default for Mirror {
    fn default() -> Self {
        Self { url: "local:".to_owned(), restore_timeout: Duration::from_millis(200) }
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { grace: Duration::from_secs(10) }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Pretty, level: "info".to_owned() }
    }
}
