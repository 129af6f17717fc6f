//! What a listener serves: clicks by an express lane, everything else by the router.
//!
//! A click costs a few microseconds, and routing, its boxed layers and the extractors' extensions are a tenth of
//! that. The lane takes exactly the two routes of `selections`, spelled as everybody spells them, and ends in the
//! same functions; whatever looks different (another method, an escaped path) goes through the router.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{Method, Request};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::service::Service;
use tower::ServiceExt;

use super::Shared;
use super::around::Around;
use super::auth::Identity;
use super::error::Problem;
use super::extract::{Json, OptionalJson, public_id};
use super::metrics::Route;
use super::passes::PASS;
use super::selections;

const OPTIONS: &str = "/api/v1/options/";
const SELECTIONS: &str = "/selections";

/// A listener's service. Cheap to clone.
#[derive(Clone)]
pub struct Site {
    router: Router,
    express: Option<Express>,
}

impl Site {
    /// Everything goes through the router.
    pub(super) fn new(router: Router) -> Self {
        Self { router, express: None }
    }

    pub(super) fn with_express(router: Router, express: Express) -> Self {
        Self { router, express: Some(express) }
    }
}

impl Service<Request<Incoming>> for Site {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        if let Some(express) = &self.express
            && let Some(click) = Click::of(request.method(), request.uri().path())
        {
            return express.clone().answer(click, request);
        }
        Box::pin(self.router.clone().oneshot(request.map(Body::new)))
    }
}

/// The lane: what surrounds a click, and the handlers' shared state.
#[derive(Clone)]
pub(super) struct Express {
    around: Around,
    route: Arc<Route>,
    shared: Arc<Shared>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Select,
    Release,
}

/// A request that is a click by its method and path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Click {
    verb: Verb,
    /// Where the option's number ends in the path. Whether it is a number is not looked at yet.
    number_end: usize,
}

impl Click {
    fn of(method: &Method, path: &str) -> Option<Self> {
        let verb = match *method {
            Method::POST => Verb::Select,
            Method::DELETE => Verb::Release,
            _ => return None,
        };
        let number = path.strip_prefix(OPTIONS)?.strip_suffix(SELECTIONS)?;
        let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        digits.then_some(Self { verb, number_end: OPTIONS.len() + number.len() })
    }
}

impl Express {
    pub fn new(around: Around, shared: Arc<Shared>) -> Self {
        let route = around.route(Some("/api/v1/options/{optionId}/selections"));
        Self { around, route, shared }
    }

    fn answer(
        self,
        click: Click,
        request: Request<Incoming>,
    ) -> Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>> {
        let visit = self.around.enter(&request, self.route.clone());
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let handled = async {
                let answered = self.handle(click, &parts, body).await;
                Ok(answered.unwrap_or_else(IntoResponse::into_response))
            };
            Ok(self.around.leave(visit, handled).await)
        })
    }

    async fn handle(&self, click: Click, parts: &Parts, body: Incoming) -> Result<Response, Problem> {
        let identity = Identity::of(&parts.headers, &self.shared)?;
        let number = &parts.uri.path()[OPTIONS.len()..click.number_end];
        let entry = self.shared.option_of(public_id(number, "/path/optionId")?)?;
        let pass = parts.headers.get(PASS);
        match click.verb {
            Verb::Select => {
                let Json(wanted) = Json::read(&parts.headers, body).await?;
                selections::answer_select(&self.shared, &identity, &entry, pass, wanted).await
            }
            Verb::Release => {
                let OptionalJson(wanted) = OptionalJson::read(&parts.headers, body).await?;
                selections::answer_release(&self.shared, &identity, &entry, pass, wanted).await
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lane_takes_clicks_and_nothing_else() {
        let click = |verb, number_end| Some(Click { verb, number_end });
        let rows = [
            (Method::POST, "/api/v1/options/7/selections", click(Verb::Select, 17)),
            (Method::DELETE, "/api/v1/options/123/selections", click(Verb::Release, 19)),
            // Too large a number is a click that will be refused.
            (Method::POST, "/api/v1/options/99999999999999999999/selections", click(Verb::Select, 36)),
            (Method::GET, "/api/v1/options/7/selections", None),
            (Method::PATCH, "/api/v1/options/7/selections", None),
            (Method::POST, "/api/v1/options/7/selections/", None),
            (Method::POST, "/api/v1/options//selections", None),
            (Method::POST, "/api/v1/options/selections", None),
            (Method::POST, "/api/v1/options/7/8/selections", None),
            (Method::POST, "/api/v1/options/%37/selections", None),
            (Method::POST, "/api/v1/options/x/selections", None),
            (Method::POST, "/api/v1/options/7/holds", None),
        ];
        for (method, path, expected) in rows {
            assert_eq!(Click::of(&method, path), expected, "{method} {path}");
        }
    }
}
