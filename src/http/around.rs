//! What happens around every handler: the request id, the owner header, the metrics, and the rendering of problems.
//!
//! One hand-written layer instead of a stack of five: a click costs a few microseconds, and each layer of boxed
//! futures is a visible part of that.

use std::convert::Infallible;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::Response;
use tower::{Layer, Service};

use super::error::Problem;
use super::metrics::{Route, Routes};
use super::owner::{OwnerOf, Thing};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const OWNER: HeaderName = HeaderName::from_static("hotseat-owner");

/// Bytes of a request id that a client may bring.
const REQUEST_ID_BYTES: usize = 128;

/// The layer. Cheap to clone.
#[derive(Clone)]
pub(super) struct Around(Arc<Inner>);

struct Inner {
    routes: Routes,
    owner_of: OwnerOf,
    ids: RequestIds,
}

impl Around {
    pub fn new(routes: Routes, owner_of: OwnerOf) -> Self {
        Self(Arc::new(Inner { routes, owner_of, ids: RequestIds::new() }))
    }
}

impl<S> Layer<S> for Around {
    type Service = Surrounded<S>;

    fn layer(&self, inner: S) -> Surrounded<S> {
        Surrounded { around: self.clone(), inner }
    }
}

#[derive(Clone)]
pub(super) struct Surrounded<S> {
    around: Around,
    inner: S,
}

impl<S> Service<Request> for Surrounded<S>
where
    S: Service<Request, Response = Response, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let around = self.around.clone();
        let path = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
        let visit = around.enter(&request, around.route(path));
        let called = catch_unwind(AssertUnwindSafe(|| self.inner.call(request)));
        Box::pin(async move {
            Ok(match called {
                Ok(future) => around.leave(visit, pin!(future)).await,
                Err(panic) => around.0.finish(panicked(&panic), &visit),
            })
        })
    }
}

/// A request on its way through.
pub(super) struct Visit {
    started: Instant,
    id: HeaderValue,
    method: Method,
    route: Arc<Route>,
    /// What it is about, where one node owns that.
    thing: Option<Thing>,
}

impl Around {
    /// The route of a path as axum matched it.
    pub fn route(&self, path: Option<&str>) -> Arc<Route> {
        self.0.routes.find(path).clone()
    }

    pub fn enter<B>(&self, request: &axum::http::Request<B>, route: Arc<Route>) -> Visit {
        let (started, id) = (Instant::now(), self.0.ids.of(request.headers()));
        let thing = route.owned.and_then(|place| place.read(request.uri()));
        Visit { started, id, method: request.method().clone(), route, thing }
    }

    /// Drives the handler and completes its answer. It stays where it is: to move a handler costs what it weighs.
    pub async fn leave(
        &self,
        visit: Visit,
        handled: Pin<&mut impl Future<Output = Result<Response, Infallible>>>,
    ) -> Response {
        self.0.finish(caught(handled).await, &visit)
    }
}

/// Drives the handler. A panic in it is a bug of ours and ends this request, not the connection.
async fn caught(mut future: Pin<&mut impl Future<Output = Result<Response, Infallible>>>) -> Response {
    let polled =
        std::future::poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(Ok(response))) => Poll::Ready(response),
            Err(panic) => Poll::Ready(panicked(&panic)),
        });
    polled.await
}

fn panicked(panic: &Box<dyn std::any::Any + Send>) -> Response {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a text".to_owned());
    axum::response::IntoResponse::into_response(Problem::Internal(text))
}

impl Inner {
    fn finish(&self, mut response: Response, visit: &Visit) -> Response {
        let Visit { started, id, method, route, thing } = visit;
        // An id is visible ASCII, whoever made it.
        let id_text = id.to_str().unwrap_or_default();
        if let Some(problem) = response.extensions_mut().remove::<Box<Problem>>() {
            log(&problem, id_text, method, route);
            response = problem.render(id_text, &response);
        } else if response.status() == StatusCode::METHOD_NOT_ALLOWED {
            response = Problem::MethodNotAllowed.render(id_text, &response);
        }
        let headers = response.headers_mut();
        if let Some(owner) = thing.and_then(|thing| (self.owner_of)(thing)) {
            headers.insert(OWNER, owner);
        }
        headers.insert(REQUEST_ID, id.clone());
        let took = started.elapsed();
        let status = response.status();
        self.routes.observe(route, method, status, took);
        tracing::debug!(request_id = id_text, %method, route = route.path(), status = status.as_u16(), ?took);
        response
    }
}

fn log(problem: &Problem, request_id: &str, method: &Method, route: &Route) {
    let route = route.path();
    match problem {
        Problem::Internal(why) => tracing::error!(request_id, %method, route, why, "a request failed"),
        Problem::Unavailable(_) | Problem::Undecided(..) => {
            tracing::warn!(request_id, %method, route, code = problem.code(), "not served")
        }
        _ => {}
    }
}

/// Makes request ids: UUIDv7, of the time, a counter and a seed. They tell requests apart and are no secret, so
/// they cost no random numbers.
struct RequestIds {
    seed: u64,
    next: AtomicU64,
}

impl RequestIds {
    #[expect(clippy::cast_possible_truncation, reason = "half of a random number is a random number")]
    fn new() -> Self {
        Self { seed: uuid::Uuid::new_v4().as_u128() as u64, next: AtomicU64::new(0) }
    }

    /// The client's own, where it is sane.
    fn of(&self, headers: &HeaderMap) -> HeaderValue {
        match headers.get(&REQUEST_ID) {
            Some(given) if is_sane(given.as_bytes()) => given.clone(),
            _ => self.fresh(),
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "48 bits of milliseconds last until the year 10889")]
    fn fresh(&self) -> HeaderValue {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        let count = self.next.fetch_add(1, Ordering::Relaxed);
        let mut random = [0; 10];
        random[..8].copy_from_slice(&mix(self.seed.wrapping_add(count)).to_be_bytes());
        random[8..].copy_from_slice(&count.to_be_bytes()[6..]);
        let id = uuid::Builder::from_unix_timestamp_millis(now, &random).into_uuid();
        let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
        HeaderValue::from_str(id.hyphenated().encode_lower(&mut text)).expect("a UUID is visible ASCII")
    }
}

/// SplitMix64's finalizer: a bijection, so different counts stay different.
const fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

fn is_sane(id: &[u8]) -> bool {
    (1..=REQUEST_ID_BYTES).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic)
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::routing::{get, post};
    use prometheus_client::registry::Registry;
    use tower::ServiceExt;

    use super::super::metrics::HttpMetrics;
    use super::*;

    struct Bench {
        router: Router,
        registry: Registry,
    }

    impl Bench {
        fn new() -> Self {
            let mut registry = Registry::with_prefix("hotseat");
            let metrics = HttpMetrics::register(&mut registry);
            let paths = ["/api/v1/options/{optionId}/seats", "/panic"].map(str::to_owned);
            let routes = Routes::new(&metrics, paths.into_iter());
            let router = Router::new()
                .route("/api/v1/options/{optionId}/seats", get(async || "seats"))
                .route("/panic", post(async || -> &'static str { panic!("the secret reason") }))
                .fallback(async || Problem::NotFound("No route of this path."))
                .layer(Around::new(routes, Arc::new(|_| Some(HeaderValue::from_static("http://here")))));
            Self { router, registry }
        }

        async fn ask(&self, method: Method, path: &str, id: Option<&str>) -> (Response, String) {
            let mut request = axum::http::Request::builder().method(method).uri(path);
            if let Some(id) = id {
                request = request.header("X-Request-Id", id);
            }
            let response = self.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
            let (parts, body) = response.into_parts();
            let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            (Response::from_parts(parts, Body::empty()), text)
        }
    }

    fn id_of(response: &Response) -> &str {
        response.headers()[REQUEST_ID].to_str().unwrap()
    }

    #[tokio::test]
    async fn a_panic_is_a_problem_and_tells_nothing() {
        let (response, text) = Bench::new().ask(Method::POST, "/panic", Some("mine-1")).await;
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let body: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(body["code"], "INTERNAL");
        assert_eq!(body["requestId"], "mine-1");
        assert_eq!(id_of(&response), "mine-1");
        assert!(!text.contains("secret"), "{text}");
    }

    #[tokio::test]
    async fn insane_request_ids_are_replaced_by_a_uuid_v7() {
        let bench = Bench::new();
        let long = "x".repeat(129);
        let mut seen = std::collections::BTreeSet::new();
        for id in [None, Some(""), Some("a b"), Some("ä"), Some(long.as_str())] {
            let (response, _) = bench.ask(Method::GET, "/api/v1/options/1/seats", id).await;
            let uuid = uuid::Uuid::parse_str(id_of(&response)).unwrap();
            assert_eq!(uuid.get_version_num(), 7, "{id:?}");
            assert!(seen.insert(uuid), "{uuid} came twice");
        }
    }

    #[tokio::test]
    async fn unknown_routes_and_methods_are_problems() {
        let bench = Bench::new();
        let (response, text) = bench.ask(Method::GET, "/nowhere", None).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        assert!(text.contains("\"NOT_FOUND\""), "{text}");
        let (response, text) = bench.ask(Method::PATCH, "/panic", None).await;
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(response.headers()["allow"], "POST");
        assert!(text.contains("\"METHOD_NOT_ALLOWED\""), "{text}");
    }

    #[tokio::test]
    async fn owned_things_name_their_owner_and_every_route_is_measured() {
        let bench = Bench::new();
        let (response, _) = bench.ask(Method::GET, "/api/v1/options/1/seats", None).await;
        assert_eq!(response.headers()[OWNER], "http://here");
        let (response, _) = bench.ask(Method::GET, "/nowhere", None).await;
        assert!(!response.headers().contains_key(OWNER));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &bench.registry).unwrap();
        for line in [
            "hotseat_http_requests_seconds_count{route=\"GET /api/v1/options/{optionId}/seats\",status=\"200\"} 1",
            "hotseat_http_requests_seconds_count{route=\"GET unmatched\",status=\"404\"} 1",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
