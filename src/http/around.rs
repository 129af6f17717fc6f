//! What happens around every handler: the request id, the owner header, the metrics, and the rendering of problems.
//!
//! One hand-written layer instead of a stack of five: a click costs a few microseconds, and each layer of boxed
//! futures is a visible part of that.

use std::convert::Infallible;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::response::Response;
use tower::{Layer, Service};

use super::error::Problem;
use super::metrics::{Route, Routes};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const OWNER: HeaderName = HeaderName::from_static("hotseat-owner");

/// Bytes of a request id that a client may bring.
const REQUEST_ID_BYTES: usize = 128;

/// The layer. Cheap to clone.
#[derive(Clone)]
pub(super) struct Around(Arc<Inner>);

struct Inner {
    routes: Routes,
    owner: HeaderValue,
    ids: RequestIds,
}

impl Around {
    pub fn new(routes: Routes, owner: HeaderValue) -> Self {
        Self(Arc::new(Inner { routes, owner, ids: RequestIds::new() }))
    }
}

impl<S> Layer<S> for Around {
    type Service = Surrounded<S>;

    fn layer(&self, inner: S) -> Surrounded<S> {
        Surrounded { around: self.0.clone(), inner }
    }
}

#[derive(Clone)]
pub(super) struct Surrounded<S> {
    around: Arc<Inner>,
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
        let started = Instant::now();
        let around = self.around.clone();
        let id = around.ids.of(&request);
        let method = request.method().clone();
        let path = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
        let route = around.routes.find(path).clone();
        let called = catch_unwind(AssertUnwindSafe(|| self.inner.call(request)));
        Box::pin(async move {
            let response = match called {
                Ok(future) => caught(future).await,
                Err(panic) => panicked(&panic),
            };
            Ok(around.finish(response, &id, &route, &method, started))
        })
    }
}

/// Drives the handler. A panic in it is a bug of ours and ends this request, not the connection.
async fn caught<F: Future<Output = Result<Response, Infallible>>>(future: F) -> Response {
    let mut future = std::pin::pin!(future);
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
    fn finish(
        &self,
        mut response: Response,
        id: &HeaderValue,
        route: &Route,
        method: &Method,
        started: Instant,
    ) -> Response {
        // An id is visible ASCII, whoever made it.
        let id_text = id.to_str().unwrap_or_default();
        if let Some(problem) = response.extensions_mut().remove::<Box<Problem>>() {
            log(&problem, id_text, method, route);
            response = problem.render(id_text, &response);
        } else if response.status() == StatusCode::METHOD_NOT_ALLOWED {
            response = Problem::MethodNotAllowed.render(id_text, &response);
        }
        let headers = response.headers_mut();
        if route.owned {
            headers.insert(OWNER, self.owner.clone());
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
        Problem::Unavailable(_) => {
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
    fn of(&self, request: &Request) -> HeaderValue {
        match request.headers().get(&REQUEST_ID) {
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
