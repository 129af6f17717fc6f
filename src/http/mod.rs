//! The edge: HTTP in, commands out. It knows the [`actors::handle::Handle`], the catalogue and the ledger's reads
//! by their traits, and never an adapter. It decides nothing about a seat.
//!
//! Reading order: `wire` and `error` (what is said), `auth`, `idempotency` and `extract` (what is read), `around`
//! (what every request gets), then one resource per file.

use std::sync::Arc;
use std::time::Duration;

use actors::gates::ports::GateLedger;
use actors::handle::Handle;
use actors::ops::Ops;
use actors::ports::Ledger;
use axum::Router;
use dashmap::DashMap;
use engine::OptionId;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::around::Around;
use self::auth::{Role, Tokens};
use self::budget::Budget;
use self::error::Problem;
use self::metrics::{HttpMetrics, Routes};
use self::owner::owners;
use self::proxies::Proxies;
pub use self::serve::serve;
use self::site::Express;
pub use self::site::Site;
pub use self::waiting::waiting_site;
pub(crate) use self::wire::{hex, unhex};
use crate::catalogue::Catalogue;
use crate::catalogue::directory::Directory;
use crate::catalogue::intake::Intake;
use crate::pass::Passes;
use crate::ws::{self, Sockets, WsSettings};

mod admin;
mod around;
pub(crate) mod ask;
pub mod auth;
pub mod budget;
mod cached;
mod cluster;
mod concerts;
mod dev_token;
mod draws;
pub mod error;
mod events;
pub(crate) mod extract;
mod health;
mod holds;
pub(crate) mod idempotency;
pub mod metrics;
mod openapi;
mod owner;
pub(crate) mod passes;
mod plan;
pub mod proxies;
pub(crate) mod queue;
mod reservations;
mod seats;
pub(crate) mod selections;
mod serve;
mod site;
mod sse;
pub(crate) mod unready;
mod waiting;
pub(crate) mod watch;
pub(crate) mod wire;

/// Bytes of a body that a route reads.
pub const BODY_BYTES: usize = 64 * 1024;

/// Bytes of an import that are read: 200,000 seats with every field of the longest format.
pub const IMPORT_BODY_BYTES: usize = 64 * 1024 * 1024;

/// Everything the edge needs.
#[derive(Clone)]
pub struct Edge {
    pub handle: Handle,
    pub directory: Arc<Directory>,
    pub catalogue: Arc<dyn Catalogue>,
    /// Told when something was imported here.
    pub intake: Arc<Intake>,
    pub ledger: Arc<dyn Ledger>,
    /// The history of gates, and draws of presales.
    pub gate_ledger: Arc<dyn GateLedger>,
    /// What operators see of the cluster, and may ask of it.
    pub ops: Arc<dyn Ops>,
    pub tokens: Tokens,
    pub passes: Passes,
    /// What joining a waiting room takes from.
    pub budget: Budget,
    pub settings: EdgeSettings,
    pub metrics: HttpMetrics,
    pub sockets: Sockets,
    /// What `/metrics` shows.
    pub registry: Arc<Registry>,
    /// Cancelled when the server is on its way down: `/readyz` says so.
    pub shutdown: CancellationToken,
}

/// What an operator may tune about the edge.
#[derive(Clone, Debug)]
pub struct EdgeSettings {
    pub node: String,
    /// Where clients reach this node, e.g. `http://127.0.0.1:8080`; the `Hotseat-Owner` of what it owns.
    pub public_url: String,
    /// The least that may confirm and refund: PAYMENT lets ADMIN as well, USER lets everybody.
    pub confirm_role: Role,
    /// Whether `POST /api/v1/dev/token` exists.
    pub dev_tokens: bool,
    /// How long a click waits for its verdict.
    pub click_timeout: Duration,
    /// How long a ledger command waits for the ledger.
    pub ledger_ack_timeout: Duration,
    /// Who waits at a gate and was not heard of for so long is passed over.
    pub gate_grace: Duration,
    /// Whether whoever owns a gate next finds its line: a mirror that all nodes share, or no other node.
    pub keeps_lines: bool,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Proxies,
    pub ws: WsSettings,
}

/// What handlers share.
pub(crate) struct Shared {
    pub(crate) edge: Edge,
    /// The newest encoded snapshot of each option that was asked for.
    snapshots: DashMap<OptionId, Arc<seats::Encoded>>,
    draws: draws::KeptDraws,
}

impl Shared {
    /// Learns at once what this node itself has changed in the catalogue; others learn it by their poll.
    async fn refresh_directory(&self) {
        if let Err(error) = self.edge.directory.refresh(self.edge.catalogue.as_ref()).await {
            tracing::warn!(%error, "the directory could not be refreshed; the poll will");
        }
    }
}

/// `/api/v1/*` and `/admin/v1/*`, for the public listener.
pub fn public_site(edge: Edge) -> Site {
    let (api, mut document) = public_routes(&edge.settings).split_for_parts();
    document.merge(ops_routes().into_openapi());
    openapi::complete(&mut document);
    let (router, around, shared) = finish(edge, api.merge(openapi::routes(&document)), &document);
    Site::with_express(router, Express::new(around, shared))
}

/// `/healthz`, `/readyz`, `/metrics` and `/admin/v1/*`, for the ops listener.
pub fn ops_site(edge: Edge) -> Site {
    let (routes, document) = ops_routes().merge(admin_routes()).split_for_parts();
    let (router, ..) = finish(edge, routes, &document);
    Site::new(router)
}

fn public_routes(settings: &EdgeSettings) -> OpenApiRouter<Arc<Shared>> {
    let api = OpenApiRouter::with_openapi(openapi::head())
        .routes(routes!(concerts::list))
        .routes(routes!(concerts::get))
        .routes(routes!(concerts::options))
        .routes(routes!(plan::plan))
        .routes(routes!(seats::seats))
        .routes(routes!(events::events))
        .routes(routes!(ws::connect))
        .routes(routes!(selections::select, selections::release))
        .routes(routes!(holds::hold))
        .routes(routes!(queue::join))
        .routes(routes!(queue::status))
        .routes(routes!(queue::subscribe::subscribe))
        .routes(routes!(queue::leave))
        .routes(routes!(reservations::list))
        .routes(routes!(reservations::get))
        .routes(routes!(reservations::paying))
        .routes(routes!(reservations::confirm))
        .routes(routes!(reservations::cancel))
        .routes(routes!(reservations::refund))
        .routes(routes!(cluster::route))
        .routes(routes!(cluster::audit_head))
        .routes(routes!(draws::record))
        .routes(routes!(draws::entry));
    let api = if settings.dev_tokens { api.routes(routes!(dev_token::dev_token)) } else { api };
    api.merge(admin_routes())
}

fn admin_routes() -> OpenApiRouter<Arc<Shared>> {
    OpenApiRouter::default()
        .routes(routes!(admin::imports::import))
        .routes(routes!(admin::blocks::block))
        .routes(routes!(admin::blocks::unblock))
        .routes(routes!(admin::options::set_status))
        .routes(routes!(admin::policies::set))
        .routes(routes!(admin::gates::set, admin::gates::get))
        .routes(routes!(admin::gates::history))
        .routes(routes!(admin::draws::beacon))
        .routes(routes!(admin::audit::memory))
        .routes(routes!(admin::mirror::mirror))
        .routes(routes!(admin::resync::resync))
        .routes(routes!(admin::resync::resync_shard))
        .routes(routes!(admin::shards::list))
        .routes(routes!(admin::nodes::list))
        .routes(routes!(admin::nodes::drain))
        .routes(routes!(admin::moves::list, admin::moves::begin))
        .routes(routes!(admin::moves::rebalance))
}

fn ops_routes() -> OpenApiRouter<Arc<Shared>> {
    OpenApiRouter::default()
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .routes(routes!(metrics::metrics))
}

fn finish(
    edge: Edge,
    router: Router<Arc<Shared>>,
    document: &utoipa::openapi::OpenApi,
) -> (Router, Around, Arc<Shared>) {
    let paths = document.paths.paths.keys().cloned();
    let routes = Routes::new(&edge.metrics, paths.chain([openapi::DOCUMENT.to_owned()]));
    let owner_of = owners(edge.handle.clone(), edge.directory.clone(), &edge.settings.public_url);
    let around = Around::new(routes, owner_of);
    let shared = Arc::new(Shared { edge, snapshots: DashMap::new(), draws: draws::KeptDraws::default() });
    let router = router
        .fallback(async || Problem::NotFound("No route of this path."))
        .layer(around.clone())
        .with_state(shared.clone());
    (router, around, shared)
}
