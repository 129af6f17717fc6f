//! What the ops listener says while there is no ledger to open: the process lives, is not ready, and why.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use engine::Unavailable;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use super::around::Around;
use super::error::Problem;
use super::health::{Readiness, healthz};
use super::metrics::{HttpMetrics, Routes};
use super::site::Site;

/// `/healthz` and `/readyz`; everything else hears `OVERLOADED`. `why` is a sentence.
pub fn waiting_site(why: watch::Receiver<String>) -> Site {
    // Nobody scrapes yet: these are counted for nobody.
    let metrics = HttpMetrics::register(&mut Registry::default());
    let routes = Routes::new(&metrics, ["/healthz", "/readyz"].map(str::to_owned).into_iter());
    let router = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .fallback(async || Problem::Unavailable(Unavailable::Overloaded))
        .layer(Around::new(routes, Arc::new(|_| None)))
        .with_state(why);
    Site::new(router)
}

async fn readyz(State(why): State<watch::Receiver<String>>) -> Response {
    let readiness = Readiness::waiting(why.borrow().clone());
    (StatusCode::SERVICE_UNAVAILABLE, axum::Json(readiness)).into_response()
}
