//! What a listener serves: clicks, joins and polls by an express lane, everything else by the router.
//!
//! Each of them costs a few microseconds, and routing, its boxed layers and the extractors' extensions are a tenth of
//! that. The lane takes exactly these routes, spelled as everybody spells them, and ends in the same functions;
//! whatever looks different (another method, an escaped path) goes through the router.

use std::convert::Infallible;
use std::future::Future;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{Method, Request};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use tower::ServiceExt;

use super::Shared;
use super::around::Around;
use super::auth::Identity;
use super::error::Problem;
use super::extract::{Json, OptionalJson, Query, public_id};
use super::metrics::Route;
use super::passes::PASS;
use super::proxies::{ClientAddress, Peer};
use super::{queue, selections};

const OPTIONS: &str = "/api/v1/options/";
const SELECTIONS: &str = "/selections";
const JOIN: &str = "/api/v1/waiting-queue/join";
const STATUS: &str = "/api/v1/waiting-queue/status";

/// Where it counts from which address somebody comes, by the end of the path: who joins a waiting room, also by a socket.
const ADDRESSED: [&str; 2] = ["/join", "/ws"];

/// A listener's service. Cheap to clone.
#[derive(Clone)]
pub struct Site {
    router: Router,
    express: Option<Arc<Express>>,
}

/// An answer on its way.
pub(super) type Answering = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

impl Site {
    /// Everything goes through the router.
    pub(super) fn new(router: Router) -> Self {
        Self { router, express: None }
    }

    pub(super) fn with_express(router: Router, express: Express) -> Self {
        Self { router, express: Some(Arc::new(express)) }
    }

    /// Answers what came from `peer`.
    pub(super) fn answer(&self, mut request: Request<Incoming>, peer: IpAddr) -> Answering {
        if let Some(express) = &self.express
            && let Some(taken) = Taken::of(request.method(), request.uri().path())
        {
            return express.clone().answer(taken, request, peer);
        }
        // Not for everybody: an extension costs more than to look.
        if ADDRESSED.iter().any(|end| request.uri().path().ends_with(end)) {
            request.extensions_mut().insert(Peer(peer));
        }
        Box::pin(self.router.clone().oneshot(request.map(Body::new)))
    }
}

/// The lane: what surrounds a request, and the handlers' shared state.
pub(super) struct Express {
    around: Around,
    selections: Arc<Route>,
    join: Arc<Route>,
    status: Arc<Route>,
    shared: Arc<Shared>,
}

/// What goes by the lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    /// Where the option's number ends in the path. Whether it is a number in range is not looked at yet.
    Select {
        number_end: usize,
    },
    Release {
        number_end: usize,
    },
    Join,
    Status,
}

impl Taken {
    /// What a request is by its method and path.
    fn of(method: &Method, path: &str) -> Option<Self> {
        if let Some(rest) = path.strip_prefix(OPTIONS) {
            let number = rest.strip_suffix(SELECTIONS)?;
            let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
            let number_end = OPTIONS.len() + number.len();
            return match *method {
                Method::POST if digits => Some(Self::Select { number_end }),
                Method::DELETE if digits => Some(Self::Release { number_end }),
                _ => None,
            };
        }
        match (method, path) {
            (&Method::POST, JOIN) => Some(Self::Join),
            (&Method::GET, STATUS) => Some(Self::Status),
            _ => None,
        }
    }
}

impl Express {
    pub fn new(around: Around, shared: Arc<Shared>) -> Self {
        let route = |path| {
            let route = around.route(Some(path));
            assert_eq!(route.path(), path, "the lane takes routes of the API");
            route
        };
        let selections = route("/api/v1/options/{optionId}/selections");
        let (join, status) = (route(JOIN), route(STATUS));
        Self { around, selections, join, status, shared }
    }

    fn answer(self: Arc<Self>, taken: Taken, request: Request<Incoming>, peer: IpAddr) -> Answering {
        let route = match taken {
            Taken::Select { .. } | Taken::Release { .. } => &self.selections,
            Taken::Join => &self.join,
            Taken::Status => &self.status,
        };
        let visit = self.around.enter(&request, route.clone());
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let handled = pin!(async {
                let answered = self.handle(taken, &parts, body, peer).await;
                Ok(answered.unwrap_or_else(IntoResponse::into_response))
            });
            Ok(self.around.leave(visit, handled).await)
        })
    }

    async fn handle(
        &self,
        taken: Taken,
        parts: &Parts,
        body: Incoming,
        peer: IpAddr,
    ) -> Result<Response, Problem> {
        let (shared, headers) = (&*self.shared, &parts.headers);
        let identity = Identity::of(headers, shared)?;
        let entry = |number_end: usize| {
            let number = &parts.uri.path()[OPTIONS.len()..number_end];
            shared.option_of(public_id(number, "/path/optionId")?)
        };
        match taken {
            Taken::Select { number_end } => {
                let entry = entry(number_end)?;
                let Json(wanted) = Json::read(headers, body).await?;
                selections::answer_select(shared, &identity, &entry, headers.get(PASS), wanted).await
            }
            Taken::Release { number_end } => {
                let entry = entry(number_end)?;
                let OptionalJson(wanted) = OptionalJson::read(headers, body).await?;
                selections::answer_release(shared, &identity, &entry, headers.get(PASS), wanted).await
            }
            Taken::Join => {
                let client = ClientAddress::of(peer, headers, &shared.edge.settings.trusted_proxies);
                let Json(wanted) = Json::read(headers, body).await?;
                queue::answer_join(shared, &identity, client, &wanted).await
            }
            Taken::Status => queue::answer_status(shared, &identity, &Query::read(&parts.uri)?.0).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lane_takes_clicks_joins_and_polls_and_nothing_else() {
        let select = |number_end| Some(Taken::Select { number_end });
        let rows = [
            (Method::POST, "/api/v1/options/7/selections", select(17)),
            (Method::DELETE, "/api/v1/options/123/selections", Some(Taken::Release { number_end: 19 })),
            // Too large a number is a click that will be refused.
            (Method::POST, "/api/v1/options/99999999999999999999/selections", select(36)),
            (Method::POST, JOIN, Some(Taken::Join)),
            (Method::GET, STATUS, Some(Taken::Status)),
            (Method::GET, JOIN, None),
            (Method::HEAD, STATUS, None),
            (Method::POST, "/api/v1/waiting-queue/join/", None),
            (Method::POST, "/api/v1/waiting-queue/%6aoin", None),
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
            assert_eq!(Taken::of(&method, path), expected, "{method} {path}");
        }
    }
}
