//! How long requests take, by route and status, and the page that Prometheus reads.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::extract::State;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::Shared;
use super::error::Problem;
use super::owner::Place;

/// Upper bounds in seconds: 50 µs for a click in memory, up to a ledger that is away.
const BUCKETS: [f64; 14] =
    [0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5, 10.0];

/// The statuses that the API answers with; whatever else there is counts as the last.
const STATUSES: [u16; 19] =
    [101, 200, 201, 204, 303, 304, 307, 400, 401, 403, 404, 405, 409, 413, 422, 429, 500, 503, 0];

/// The methods that routes know; whatever else there is counts as the last.
const METHODS: [&str; 6] = ["GET", "POST", "PUT", "DELETE", "HEAD", "OTHER"];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Labels {
    route: String,
    status: u16,
}

type Requests = Family<Labels, Histogram, fn() -> Histogram>;

/// The edge's metrics. Cheap to clone.
#[derive(Clone)]
pub struct HttpMetrics {
    requests: Requests,
    viewers_stalled: Counter,
}

impl HttpMetrics {
    pub fn register(registry: &mut Registry) -> Self {
        let requests = Requests::new_with_constructor(|| Histogram::new(BUCKETS));
        registry.register(
            "http_requests_seconds",
            "How long requests took, by route and status",
            requests.clone(),
        );
        let viewers_stalled = Counter::default();
        registry.register(
            "viewers_stalled",
            "Streams that were closed because their client did not read",
            viewers_stalled.clone(),
        );
        Self { requests, viewers_stalled }
    }

    /// Streams that were closed because their client did not read.
    pub(crate) fn viewers_stalled(&self) -> Counter {
        self.viewers_stalled.clone()
    }
}

/// Every route's handles, found by the path axum matched and resolved once, so that a request builds no label.
pub(super) struct Routes {
    requests: Requests,
    by_path: HashMap<String, Arc<Route>>,
    unmatched: Arc<Route>,
}

/// One path of the API.
pub(super) struct Route {
    path: String,
    /// Where it names something that one node owns, so that answers say which.
    pub owned: Option<Place>,
    handles: [[OnceLock<Histogram>; STATUSES.len()]; METHODS.len()],
}

impl Routes {
    pub fn new(metrics: &HttpMetrics, paths: impl Iterator<Item = String>) -> Self {
        let by_path = paths.map(|path| (path.clone(), Arc::new(Route::new(path)))).collect();
        Self {
            requests: metrics.requests.clone(),
            by_path,
            unmatched: Arc::new(Route::new("unmatched".to_owned())),
        }
    }

    pub fn find(&self, path: Option<&str>) -> &Arc<Route> {
        path.and_then(|path| self.by_path.get(path)).unwrap_or(&self.unmatched)
    }

    pub fn observe(&self, route: &Route, method: &Method, status: StatusCode, took: Duration) {
        let method = METHODS.iter().position(|known| *known == method.as_str()).unwrap_or(METHODS.len() - 1);
        let status =
            STATUSES.iter().position(|known| *known == status.as_u16()).unwrap_or(STATUSES.len() - 1);
        let handle = route.handles[method][status].get_or_init(|| {
            let route = format!("{} {}", METHODS[method], route.path);
            self.requests.get_or_create_owned(&Labels { route, status: STATUSES[status] })
        });
        handle.observe(took.as_secs_f64());
    }
}

impl Route {
    fn new(path: String) -> Self {
        let owned = Place::of(&path);
        Self { path, owned, handles: Default::default() }
    }

    pub fn path(&self) -> &str {
        &self.path
    }
}

/// The metrics as Prometheus reads them.
#[utoipa::path(get, path = "/metrics", tag = "ops", operation_id = "metrics",
    responses((status = 200, description = "OpenMetrics text", content_type = "text/plain", body = String)))]
pub(super) async fn metrics(State(shared): State<Arc<Shared>>) -> Result<Response, Problem> {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &shared.edge.registry)
        .map_err(|_| Problem::Internal("the metrics could not be encoded".to_owned()))?;
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, content_type)], text).into_response())
}
