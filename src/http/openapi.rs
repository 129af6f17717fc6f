//! The document that describes the API, and the page to browse it. Neither loads anything from another host.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{ContentBuilder, OpenApi, Ref, RefOr, ResponseBuilder};
use utoipa::{Modify, OpenApi as _};

use super::Shared;
use super::wire::ProblemBody;

/// Where the document is.
pub const DOCUMENT: &str = "/api/v1/openapi.json";
/// Where the page is.
pub const PAGE: &str = "/api/v1/docs";

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "hotseat",
        description = "Sells the seats of a concert when everybody wants them in the same second.\n\n\
            Errors are RFC 9457 problems with a stable `code`. Whatever reaches the ledger needs an \
            `Idempotency-Key`; a retry with the same key and content gets the first answer again, with \
            `Idempotent-Replay: true`. Every answer carries `X-Request-Id`."
    ),
    components(schemas(ProblemBody<'_>)),
    modifiers(&Bearer),
    tags(
        (name = "catalogue", description = "What is for sale; public"),
        (name = "live", description = "Seats as they change, and clicks on the same connection"),
        (name = "sale", description = "Select, hold, pay; needs a token"),
        (name = "draw", description = "The draw of a presale, for everybody to check"),
        (name = "admin", description = "Role ADMIN or OPS; on the public and the ops listener"),
        (name = "ops", description = "On the ops listener"),
        (name = "cluster", description = "Where a concert lives, and what the ledger commits to")
    )
)]
struct Head;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut OpenApi) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        document.components.get_or_insert_default().add_security_scheme("token", scheme);
    }
}

/// The document before any route has added itself.
pub(super) fn head() -> OpenApi {
    Head::openapi()
}

/// What every operation has and no handler should have to repeat: a problem as the default answer.
pub(super) fn complete(document: &mut OpenApi) {
    for item in document.paths.paths.values_mut() {
        let operations = [&mut item.get, &mut item.post, &mut item.put, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            add_problem(operation, "default", "Any other problem; `code` says which");
            if operation.security.is_some() {
                add_problem(operation, "401", "UNAUTHENTICATED: no token, or none that is valid");
            }
        }
    }
}

fn add_problem(operation: &mut Operation, status: &str, description: &str) {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    let response =
        ResponseBuilder::new().description(description).content("application/problem+json", content).build();
    operation.responses.responses.entry(status.to_owned()).or_insert(RefOr::T(response));
}

/// The document and the page, as routes.
pub(super) fn routes(document: &OpenApi) -> Router<Arc<Shared>> {
    let json = Bytes::from(document.to_json().expect("an OpenAPI document serializes"));
    let config = utoipa_swagger_ui::Config::from(DOCUMENT).validator_url("none");
    let page: Router<Arc<Shared>> = utoipa_swagger_ui::SwaggerUi::new(PAGE).config(config).into();
    let document = get(move || {
        let json = json.clone();
        async move { ([(header::CONTENT_TYPE, "application/json")], json).into_response() }
    });
    page.layer(from_fn(only_from_here)).route(DOCUMENT, document)
}

/// Has the browser enforce that the page loads nothing from another host.
async fn only_from_here(request: Request, next: Next) -> Response {
    let policy =
        "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'";
    let mut response = next.run(request).await;
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    response
}
