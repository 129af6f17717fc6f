//! Sockets: options to watch, clicks and their answers over one connection.
//!
//! Reading order: `message` and `render` (what is said, `docs/protocol.md` §2), `session` (who may say it, and when a
//! socket has to go: a pure machine with `bucket`, `passbook` and `origin`), `pipe` and `outbox` (frames in and out),
//! `clicks`, `watching` and `queues` (to the shards, from the feed, at the gates), `socket` (the task that turns all of
//! it), and here the way in.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{
    AUTHORIZATION, CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto::upgrade::downcast;
use serde::Deserialize;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tokio_util::task::TaskTracker;
use tungstenite::handshake::derive_accept_key;
use utoipa::IntoParams;

use self::origin::Origins;
use self::passbook::Passbook;
use self::session::{Limits, Reason, Session};
use self::socket::{Opening, Socket};
use crate::http::Shared;
use crate::http::auth::Identity;
use crate::http::error::Problem;
use crate::http::extract::Query;
use crate::http::passes::PASS;
use crate::http::proxies::ClientAddress;
use crate::http::watch::{Watched, bound};
use crate::http::wire::ProblemBody;

mod bucket;
mod clicks;
mod message;
pub mod origin;
mod outbox;
mod passbook;
mod pipe;
mod queues;
mod render;
mod session;
mod socket;
mod watching;

/// The subprotocol whose feed is binary.
const BINARY: &str = "hotseat.bin.1";

/// A client that vanished without a word is noticed after this and three probes.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
const KEEP_ALIVE_PROBES: Duration = Duration::from_secs(10);

/// Over how long the clients of a server that goes down are asked to come back.
const SPREAD_MS: u64 = 5_000;

/// How soon a client that did something wrong may come back.
const PENALTY_MS: u64 = 1_000;

/// What an operator may tune about sockets.
#[derive(Clone, Debug)]
pub struct WsSettings {
    /// Pages of other hosts that may open sockets.
    pub origins: Origins,
    /// Bytes that a client may leave unread before it loses the backlog of its feed.
    pub send_buffer: usize,
    /// How long a client may read nothing of what waits for it.
    pub stall_timeout: Duration,
    /// Options that one socket may watch.
    pub max_watches: usize,
    /// Messages that one socket may send in a second.
    pub messages_per_second: u16,
}

impl WsSettings {
    const fn limits(&self) -> Limits {
        Limits { max_watches: self.max_watches, messages_per_second: self.messages_per_second }
    }
}

/// Every open socket, to be closed together. Cheap to clone.
#[derive(Clone, Default)]
pub struct Sockets(Arc<Open>);

#[derive(Default)]
struct Open {
    tasks: TaskTracker,
    /// Wakes every task; what `is_closing` says already.
    closing: CancellationToken,
    is_closing: AtomicBool,
    byes: AtomicU64,
}

impl Sockets {
    /// Says goodbye to everybody and returns when they are gone.
    pub async fn end(&self) {
        self.0.is_closing.store(true, Ordering::Release);
        self.0.closing.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    fn is_closing(&self) -> bool {
        self.0.is_closing.load(Ordering::Acquire)
    }

    fn closing(&self) -> WaitForCancellationFutureOwned {
        self.0.closing.clone().cancelled_owned()
    }

    /// When a client may come back, in milliseconds. Those of a server that goes down are spread, so that they do
    /// not come back together: neighbours by more than a third of the spread.
    fn retry_after(&self, reason: Reason) -> u64 {
        match reason {
            Reason::Shutdown => {
                let count = self.0.byes.fetch_add(1, Ordering::Relaxed);
                // The golden ratio spreads any number of steps evenly.
                count.wrapping_mul(SPREAD_MS * 618 / 1_000) % SPREAD_MS
            }
            Reason::TokenEnded | Reason::PassEnded => 0,
            _ => PENALTY_MS,
        }
    }
}

/// What a browser can say when it opens a socket, since it sends no header of its own there.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ConnectQuery {
    /// A pass of a concert's gate; one that is not good is as good as none.
    pass: Option<String>,
}

/// One socket for everything: watch options, send clicks, get the answers.
#[utoipa::path(get, path = "/api/v1/ws", tag = "live", operation_id = "socket",
    description = "Upgrades to a WebSocket. Messages are JSON text; with the subprotocol `hotseat.bin.1` the feed is \
        binary. The token comes with the request, or in the first message: `{\"op\":\"auth\",\"token\":…}`. \
        Watching needs none, but of a concert whose gate is on a pass, as clicks do: in the request, or in a message \
        `{\"op\":\"pass\",\"pass\":…}`. `docs/protocol.md` §2 lists the messages.",
    params(ConnectQuery,
        ("Hotseat-Pass" = Option<String>, Header, description = "A pass; more of them come in messages"),
        ("Upgrade" = String, Header, description = "websocket"),
        ("Sec-WebSocket-Protocol" = Option<String>, Header, description = "hotseat.bin.1, for a binary feed")),
    responses(
        (status = 101, description = "Speak WebSocket from here on"),
        (status = 400, description = "MALFORMED: no upgrade to WebSocket 13 over HTTP/1.1", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 403, description = "FORBIDDEN: the page's origin is not on the list", body = ProblemBody,
            content_type = "application/problem+json")),
    security((), ("token" = [])))]
pub(crate) async fn connect(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<ConnectQuery>,
    client: ClientAddress,
    mut request: Request,
) -> Result<Response, Problem> {
    let upgrade = request.extensions_mut().remove::<OnUpgrade>();
    let (parts, _) = request.into_parts();
    let headers = &parts.headers;
    let sockets = shared.edge.sockets.clone();
    let settings = &shared.edge.settings;
    if !settings.ws.origins.allow(headers, &settings.public_url) {
        return Err(Problem::Forbidden(
            "Pages of this origin may not open sockets here; ws.origins lists who may.",
        ));
    }
    let key = handshake(headers)?;
    let upgrade = upgrade.ok_or_else(|| malformed(UPGRADE, "WebSockets need HTTP/1.1 here."))?;
    let identity =
        if headers.contains_key(AUTHORIZATION) { Some(Identity::of(headers, &shared)?) } else { None };
    let mut passes = Passbook::default();
    for pass in [headers.get(PASS).map(HeaderValue::as_bytes), query.pass.as_deref().map(str::as_bytes)] {
        if let Some((shown, ends)) = pass.and_then(|pass| shared.edge.shown(pass)) {
            passes.put(shown, ends);
        }
    }
    let is_binary = items(headers, SEC_WEBSOCKET_PROTOCOL).any(|item| item == BINARY);
    let accept = derive_accept_key(key.as_bytes());

    let tasks = sockets.0.tasks.clone();
    tasks.spawn(async move {
        match upgrade.await {
            Ok(upgraded) => {
                if let Some(socket) = open(&shared, sockets, upgraded, (identity, passes), client, is_binary)
                {
                    socket.await;
                }
            }
            Err(error) => tracing::debug!(%error, "a connection was not upgraded"),
        }
    });

    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, HeaderValue::from_str(&accept).expect("base64 is visible ASCII"));
    if is_binary {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(BINARY));
    }
    Ok(response)
}

/// The task of a connection that was upgraded. Boxed, so that what waits for the upgrade is no larger for it.
fn open(
    shared: &Arc<Shared>,
    sockets: Sockets,
    upgraded: Upgraded,
    (identity, passes): (Option<Identity>, Passbook),
    client: ClientAddress,
    is_binary: bool,
) -> Option<Box<Socket<Watched>>> {
    let Ok(parts) = downcast::<TokioIo<Watched>>(upgraded) else {
        tracing::error!("an upgraded connection is none of the listener's");
        return None;
    };
    let stream = parts.io.into_inner();
    if let Some(socket) = &stream.stream {
        tune(socket);
    }
    let session = Session::new(Instant::now(), shared.edge.settings.ws.limits(), identity.as_ref(), passes);
    let following = identity.map(|identity| shared.edge.handle.follow(identity.user));
    // Also an empty rest keeps the whole buffer alive that the request was read into.
    let early = if parts.read_buf.is_empty() { Bytes::new() } else { parts.read_buf };
    let opening = Opening { session, client, is_binary, following, early };
    Some(Box::new(Socket::new(shared.clone(), sockets, stream, opening)))
}

fn tune(socket: &TcpStream) {
    bound(socket);
    let probes = TcpKeepalive::new().with_time(KEEP_ALIVE).with_interval(KEEP_ALIVE_PROBES);
    if let Err(error) = SockRef::from(socket).set_tcp_keepalive(&probes) {
        tracing::debug!(%error, "SO_KEEPALIVE");
    }
}

/// The client's key, when it is a handshake of RFC 6455 §4.2.1.
fn handshake(headers: &HeaderMap) -> Result<String, Problem> {
    let names =
        |name: HeaderName, value: &str| items(headers, name).any(|item| item.eq_ignore_ascii_case(value));
    if !names(CONNECTION, "upgrade") || !names(UPGRADE, "websocket") {
        return Err(malformed(
            UPGRADE,
            "This is a WebSocket: send `Connection: Upgrade` and `Upgrade: websocket`.",
        ));
    }
    if !names(SEC_WEBSOCKET_VERSION, "13") {
        return Err(malformed(SEC_WEBSOCKET_VERSION, "The version spoken here is 13."));
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).and_then(|key| key.to_str().ok());
    // 16 bytes in base64.
    let key = key.filter(|key| key.len() == 24);
    key.map(str::to_owned).ok_or_else(|| malformed(SEC_WEBSOCKET_KEY, "The key is 16 bytes in base64."))
}

fn malformed(header: HeaderName, detail: &str) -> Problem {
    Problem::malformed(format!("/headers/{header}"), detail)
}

/// The items of a header that is a list.
fn items(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let values = headers.get_all(name).into_iter();
    values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',').map(str::trim))
}
