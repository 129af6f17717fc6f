//! What a setting may be, by itself and beside others.

use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::str::FromStr as _;
use std::time::Duration;

use axum::http::Uri;
use sqlx::postgres::PgConnectOptions;
use tracing_subscriber::EnvFilter;

use super::error::ConfigError;
use super::peers::{self, PEER, PEERS, Place};
use super::text::{ADDRESS, format_duration, without_login};
use super::{Config, Durability, gate, text};
use crate::http::auth::{Role, TokenKey, check_exposure};
use crate::http::proxies::{NETWORKS, Proxies};
use crate::redis_url::{FORMS, RedisUrl};

pub(super) const SHARDS: &str = "a whole number from 1 to 4096";

/// Bytes of a secret: shorter ones can be guessed from one token.
pub(super) const SECRET_BYTES: usize = 32;

/// Bytes: room for an answer at least, and no more than a client is worth.
const SEND_BUFFER: RangeInclusive<u32> = 16 * 1024..=16 * 1024 * 1024;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// Everything that is wrong with a configuration whose types are right.
pub(super) fn check(config: &Config, source: &dyn Fn(&str) -> String) -> Vec<ConfigError> {
    let mut checks = Checks { wrong: Vec::new(), source };
    names(config, &mut checks);
    listeners(config, &mut checks);
    ranges(config, &mut checks);
    relations(config, &mut checks);
    durability(config, &mut checks);
    cluster(config, &mut checks);
    auth(config, &mut checks);
    gates(config, &mut checks);
    if checks.wrong.is_empty() {
        sharing(config, &mut checks);
        exposure(config, &mut checks);
    }
    checks.wrong
}

struct Checks<'a> {
    wrong: Vec<ConfigError>,
    source: &'a dyn Fn(&str) -> String,
}

impl Checks<'_> {
    fn expect(&mut self, holds: bool, key: &str, expected: impl Display, found: impl Display) {
        if !holds {
            let what = format!("expected {expected}, found {found}");
            self.wrong.push(ConfigError::new((self.source)(key), key, what));
        }
    }

    fn range(&mut self, key: &str, found: Duration, range: RangeInclusive<Duration>) {
        let (least, most) = (format_duration(*range.start()), format_duration(*range.end()));
        let expected = format!("a duration from {least} to {most}");
        self.expect(range.contains(&found), key, expected, format_duration(found));
    }
}

fn names(config: &Config, checks: &mut Checks<'_>) {
    let name = &config.node.name;
    checks.expect(text::is_node_name(name), "node.name", text::NODE_NAME, format_args!("{name:?}"));
    let url = &config.node.public_url;
    checks.expect(
        url.is_empty() || is_origin(url),
        "node.public_url",
        "an http or https URL without a path, such as \"https://seats.example.com\"",
        format_args!("{url:?}"),
    );
    checks.expect(!config.node.data.as_os_str().is_empty(), "node.data", "a directory", "an empty path");
    if let Err(found) = ledger_url(&config.ledger.url) {
        let expected = "\"sqlite:\" (the embedded ledger in node.data) or \"postgres://USER:PASSWORD@HOST:PORT/DATABASE\"";
        checks.expect(false, "ledger.url", expected, found);
    }
    let url = &config.mirror.url;
    if url != "local:"
        && let Err(found) = url.parse::<RedisUrl>()
    {
        checks.expect(false, "mirror.url", format_args!("\"local:\" (inside this process), {FORMS}"), found);
    }
    let wrong = config.ws.origins.split_whitespace().find(|origin| !is_page(origin));
    checks.expect(
        wrong.is_none(),
        "ws.origins",
        "origins with spaces between, such as \"https://seats.example.com\", or \"*\"",
        format_args!("{:?}", wrong.unwrap_or_default()),
    );
    let level = &config.log.level;
    if let Err(error) = EnvFilter::builder().parse(level) {
        let found = format!("{level:?} ({error})");
        checks.expect(false, "log.level", "a level or directives such as \"info,hotseat=debug\"", found);
    }
}

/// What is wrong with it, without its password.
fn ledger_url(url: &str) -> Result<(), String> {
    if url == "sqlite:" {
        return Ok(());
    }
    let Some((scheme @ ("postgres" | "postgresql"), rest)) = url.split_once("://") else {
        return Err(format!("{:?}", without_login(url)));
    };
    if rest.split_once('?').is_some_and(|(_, query)| query.contains("password=")) {
        return Err(format!("a {scheme} URL with its password behind the '?'"));
    }
    PgConnectOptions::from_str(url)
        .map(|_| ())
        .map_err(|error| format!("a {scheme} URL that is none ({error})"))
}

/// What a browser sends as its page's origin, or all of them.
fn is_page(origin: &str) -> bool {
    origin == "*" || is_origin(origin)
}

fn is_origin(url: &str) -> bool {
    let Ok(uri) = url.parse::<Uri>() else { return false };
    matches!(uri.scheme_str(), Some("http" | "https"))
        && uri.authority().is_some()
        && matches!(uri.path(), "" | "/")
        && uri.query().is_none()
        && !url.ends_with('/')
}

fn listeners(config: &Config, checks: &mut Checks<'_>) {
    let server = &config.server;
    checks.expect(
        server.listen != server.ops_listen || server.listen.port() == 0,
        "server.ops_listen",
        "another address than server.listen",
        server.ops_listen,
    );
}

fn ranges(config: &Config, checks: &mut Checks<'_>) {
    let shards = config.cluster.shards;
    checks.expect((1..=4_096).contains(&shards), "cluster.shards", SHARDS, shards);
    let reservations = config.sales.reservations_per_user;
    checks.expect(
        reservations > 0,
        "sales.reservations_per_user",
        "a whole number from 1 to 4294967295",
        reservations,
    );
    checks.expect(
        config.sales.confirm_role != Role::Ops,
        "sales.confirm_role",
        "\"PAYMENT\" or \"ADMIN\" (or \"USER\" with auth.dev_tokens)",
        "\"OPS\"",
    );
    checks.range("ledger.ack_timeout", config.ledger.ack_timeout, 100 * MS..=MINUTE);
    checks.range("cluster.lease_ttl", config.cluster.lease_ttl, SECOND..=MINUTE);
    checks.range("cluster.lease_renew", config.cluster.lease_renew, 100 * MS..=MINUTE);
    checks.range("cluster.lease_margin", config.cluster.lease_margin, 100 * MS..=MINUTE);
    checks.range("rebalance.interval", config.rebalance.interval, SECOND..=HOUR);
    let at_once = config.rebalance.at_once;
    checks.expect((1..=64).contains(&at_once), "rebalance.at_once", "a whole number from 1 to 64", at_once);
    checks.range("select.ttl", config.select.ttl, SECOND..=HOUR);
    checks.range("select.max_age", config.select.max_age, SECOND..=DAY);
    checks.range("hold.ttl", config.hold.ttl, SECOND..=7 * DAY);
    checks.range("paying.ttl", config.paying.ttl, SECOND..=7 * DAY);
    checks.range("idempotency.horizon", config.idempotency.horizon, MINUTE..=DAY);
    checks.range("edge.click_timeout", config.edge.click_timeout, 100 * MS..=MINUTE);
    checks.range("feed.tick", config.feed.tick, 10 * MS..=SECOND);
    checks.range("ws.stall_timeout", config.ws.stall_timeout, SECOND..=HOUR);
    let buffer = config.ws.send_buffer;
    checks.expect(SEND_BUFFER.contains(&buffer), "ws.send_buffer", "16384 to 16777216 bytes", buffer);
    let watches = config.ws.max_watches;
    checks.expect((1..=1_000).contains(&watches), "ws.max_watches", "a whole number from 1 to 1000", watches);
    let messages = config.ws.messages_per_second;
    checks.expect(messages > 0, "ws.messages_per_second", "a whole number from 1 to 65535", messages);
    checks.range("mirror.restore_timeout", config.mirror.restore_timeout, 10 * MS..=MINUTE);
    checks.range("shutdown.grace", config.shutdown.grace, 100 * MS..=HOUR);
}

fn relations(config: &Config, checks: &mut Checks<'_>) {
    let cluster = &config.cluster;
    let usable = cluster.lease_ttl.saturating_sub(cluster.lease_margin);
    checks.expect(
        cluster.lease_renew < usable,
        "cluster.lease_renew",
        format_args!("less than cluster.lease_ttl - cluster.lease_margin ({})", format_duration(usable)),
        format_duration(cluster.lease_renew),
    );
    let select = &config.select;
    checks.expect(
        select.max_age >= select.ttl,
        "select.max_age",
        format_args!("at least select.ttl ({})", format_duration(select.ttl)),
        format_duration(select.max_age),
    );
}

fn durability(config: &Config, checks: &mut Checks<'_>) {
    checks.expect(
        config.ledger.is_embedded() || config.ledger.durability == Durability::Full,
        "ledger.durability",
        "\"full\" with PostgreSQL, whose own settings say what a commit survives",
        "\"relaxed\"",
    );
}

/// Nodes that work together share a ledger.
fn sharing(config: &Config, checks: &mut Checks<'_>) {
    checks.expect(
        config.cluster.listen.is_empty() || !config.ledger.is_embedded(),
        "ledger.url",
        "a PostgreSQL that all nodes share, since cluster.listen is set",
        "the embedded ledger, which is one node's",
    );
}

/// Where peers are, and that nobody listens to what they tell each other.
fn cluster(config: &Config, checks: &mut Checks<'_>) {
    let cluster = &config.cluster;
    let listen = cluster.listen.parse::<SocketAddr>().ok();
    let is_alone = cluster.listen.is_empty();
    checks.expect(
        is_alone || listen.is_some(),
        "cluster.listen",
        ADDRESS,
        format_args!("{:?}", cluster.listen),
    );
    let dialled = Place::parse(&cluster.peer_url);
    checks.expect(
        cluster.peer_url.is_empty() || dialled.is_some(),
        "cluster.peer_url",
        PEER,
        format_args!("{:?}", cluster.peer_url),
    );
    checks.expect(
        !listen.is_some_and(|listen| listen.ip().is_unspecified()) || dialled.is_some(),
        "cluster.peer_url",
        format_args!("the address that peers dial, where cluster.listen is {}", cluster.listen),
        "nothing",
    );
    let peers = peers::parse(&cluster.peers);
    if let Err(wrong) = &peers {
        checks.expect(false, "cluster.peers", PEERS, format_args!("{wrong:?}"));
    }
    let peers = peers.unwrap_or_default();
    checks.expect(
        peers.is_empty() || !is_alone,
        "cluster.listen",
        "an address for the peers of cluster.peers",
        "nothing",
    );
    let files = [("tls_ca", &cluster.tls_ca), ("tls_cert", &cluster.tls_cert), ("tls_key", &cluster.tls_key)];
    let missing = files.iter().find(|(_, path)| path.as_os_str().is_empty());
    let places = peers.iter().map(peers::Peer::place).chain(&dialled);
    let is_private =
        listen.is_none_or(|listen| listen.ip().is_loopback()) && places.into_iter().all(Place::is_loopback);
    if let Some((key, _)) = missing {
        let some = files.iter().any(|(_, path)| !path.as_os_str().is_empty());
        let expected = if some {
            "all three of cluster.tls_ca, cluster.tls_cert and cluster.tls_key, or none"
        } else {
            "a file: peers that are not all on loopback talk TLS with certificates on both sides"
        };
        checks.expect(is_private && !some, &format!("cluster.{key}"), expected, "nothing");
    }
}

fn auth(config: &Config, checks: &mut Checks<'_>) {
    let auth = &config.auth;
    let bytes = auth.secret.0.len();
    checks.expect(
        bytes == 0 || bytes >= SECRET_BYTES,
        "auth.secret",
        format_args!("at least {SECRET_BYTES} bytes, or nothing for a random one"),
        format_args!("{bytes} bytes"),
    );
    let public_key = !auth.public_key.as_os_str().is_empty();
    checks.expect(
        !(public_key && bytes > 0),
        "auth.public_key",
        "either auth.secret or auth.public_key",
        "both",
    );
    checks.expect(
        !(public_key && auth.dev_tokens),
        "auth.dev_tokens",
        "false where auth.public_key is set: a public key issues no tokens",
        "true",
    );
}

/// Passes, ghosts, the beacon, and whose word counts for a client's address.
fn gates(config: &Config, checks: &mut Checks<'_>) {
    let gate = &config.gate;
    checks.range("gate.pass_ttl", gate.pass_ttl, SECOND..=DAY);
    checks.range("gate.pass_max_age", gate.pass_max_age, SECOND..=DAY);
    checks.range("gate.grace", gate.grace, SECOND..=DAY);
    checks.range("gate.ghost_ttl", gate.ghost_ttl, SECOND..=DAY);
    checks.range("gate.tick", gate.tick, 100 * MS..=10 * SECOND);
    checks.range("gate.restore_timeout", gate.restore_timeout, 100 * MS..=MINUTE);
    let mut at_least = |longer: (&str, Duration), shorter: (&str, Duration)| {
        let expected = format!("at least gate.{} ({})", shorter.0, format_duration(shorter.1));
        let key = format!("gate.{}", longer.0);
        checks.expect(longer.1 >= shorter.1, &key, expected, format_duration(longer.1));
    };
    at_least(("pass_max_age", gate.pass_max_age), ("pass_ttl", gate.pass_ttl));
    at_least(("ghost_ttl", gate.ghost_ttl), ("grace", gate.grace));
    checks.expect(gate::keys(&gate.keys.0).is_some(), "gate.keys", gate::KEYS, "something else");
    let genesis = &gate.beacon_genesis;
    let is_instant = gate::genesis(genesis).is_some();
    checks.expect(
        genesis.is_empty() || is_instant,
        "gate.beacon_genesis",
        gate::GENESIS,
        format_args!("{genesis:?}"),
    );
    let period = gate.beacon_period;
    checks.expect(
        if is_instant { (SECOND..=DAY).contains(&period) } else { period.is_zero() || !genesis.is_empty() },
        "gate.beacon_period",
        "a duration from 1s to 24h together with gate.beacon_genesis, and 0s without",
        format_duration(period),
    );
    if let Err(wrong) = Proxies::parse(&config.edge.trusted_proxies) {
        checks.expect(false, "edge.trusted_proxies", NETWORKS, format_args!("{wrong:?}"));
    }
}

/// Dev tokens, the built-in secret and buyers who confirm are for one's own machine.
fn exposure(config: &Config, checks: &mut Checks<'_>) {
    let listeners = [config.server.listen, config.server.ops_listen];
    let key = TokenKey::Secret(config.auth.secret.0.clone());
    let (dev_tokens, confirm_role) = (config.auth.dev_tokens, config.sales.confirm_role);
    if let Err(exposure) = check_exposure(&listeners, &key, dev_tokens, confirm_role) {
        checks.wrong.push(ConfigError::new("", "", exposure.to_string()));
    }
}
