//! The OpenAPI document and the routes are the same thing said twice.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::world::World;

const METHODS: [&str; 5] = ["GET", "POST", "PUT", "DELETE", "PATCH"];

/// The routes of the architecture that exist so far.
const ROUTES: &str = "
    GET /api/v1/concerts
    GET /api/v1/concerts/{concertId}
    GET /api/v1/concerts/{concertId}/options
    GET /api/v1/options/{optionId}/plan
    GET /api/v1/options/{optionId}/seats
    GET /api/v1/options/{optionId}/events
    GET /api/v1/ws
    POST /api/v1/options/{optionId}/selections
    DELETE /api/v1/options/{optionId}/selections
    POST /api/v1/options/{optionId}/holds
    GET /api/v1/reservations
    GET /api/v1/reservations/{reservationId}
    POST /api/v1/reservations/{reservationId}/paying
    POST /api/v1/reservations/{reservationId}/confirm
    POST /api/v1/reservations/{reservationId}/cancel
    POST /api/v1/reservations/{reservationId}/refund
    POST /api/v1/waiting-queue/join
    GET /api/v1/waiting-queue/status
    GET /api/v1/waiting-queue/subscribe
    DELETE /api/v1/waiting-queue/leave
    GET /api/v1/route
    GET /api/v1/audit/head
    GET /api/v1/draws/{concertId}
    GET /api/v1/draws/{concertId}/entry
    POST /api/v1/dev/token
    POST /admin/v1/imports
    POST /admin/v1/options/{optionId}/blocks
    DELETE /admin/v1/blocks/{reservationId}
    PUT /admin/v1/options/{optionId}/status
    PUT /admin/v1/concerts/{concertId}/policy
    PUT /admin/v1/gates/{concertId}
    GET /admin/v1/gates/{concertId}
    GET /admin/v1/gates/{concertId}/history
    POST /admin/v1/options/{optionId}/resync
    POST /admin/v1/shards/{shard}/resync
    GET /admin/v1/shards
    GET /admin/v1/nodes
    POST /admin/v1/nodes/{node}/drain
    GET /admin/v1/moves
    POST /admin/v1/moves
    POST /admin/v1/rebalance
    PUT /admin/v1/gates/{concertId}/beacon
    GET /admin/v1/audit/memory
    GET /admin/v1/audit/mirror
    GET /healthz
    GET /readyz
    GET /metrics";

async fn document(world: &World) -> Value {
    world.client().get("/api/v1/openapi.json").await.expect(200).body
}

/// Path → method → operation.
fn operations(document: &Value) -> BTreeMap<String, BTreeMap<String, Value>> {
    let paths = document["paths"].as_object().unwrap();
    let operations = |item: &Value| {
        let methods = item.as_object().unwrap().iter();
        methods
            .map(|(method, operation)| (method.to_uppercase(), operation.clone()))
            .filter(|(method, _)| METHODS.contains(&method.as_str()))
            .collect()
    };
    paths.iter().map(|(path, item)| (path.clone(), operations(item))).collect()
}

#[tokio::test]
async fn the_document_has_the_routes_and_no_others() {
    let world = World::start_with(|settings| settings.dev_tokens = true).await;
    let operations = operations(&document(&world).await);
    let documented: BTreeSet<String> = operations
        .iter()
        .flat_map(|(path, methods)| methods.keys().map(move |method| format!("{method} {path}")))
        .collect();
    let expected: BTreeSet<String> =
        ROUTES.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
    assert_eq!(documented, expected);

    // What the document says is what the server does, method by method.
    for (path, methods) in &operations {
        let is_ops = !path.starts_with("/api/") && !path.starts_with("/admin/");
        let client = if is_ops { world.ops_client() } else { world.client() };
        let concrete = path
            .replace("{concertId}", "1")
            .replace("{optionId}", "1")
            // Events have no end that could be waited for.
            .replace("/events", "/events?since=never")
            .replace("{node}", "test")
            .replace("{reservationId}", "01890000-0000-7000-8000-000000000001");
        for method in METHODS {
            let reply = client.raw(method, &concrete, None, b"").await;
            if methods.contains_key(method) {
                assert_ne!(reply.code(), "METHOD_NOT_ALLOWED", "{method} {path}");
                assert_ne!(reply.code(), "NOT_FOUND", "{method} {path}");
                assert_ne!(reply.status, 500, "{method} {path}");
            } else {
                assert_eq!(reply.code(), "METHOD_NOT_ALLOWED", "{method} {path}");
                let allow: BTreeSet<&str> =
                    reply.header("allow").split(',').map(str::trim).filter(|name| *name != "HEAD").collect();
                assert_eq!(allow, methods.keys().map(String::as_str).collect(), "{path}");
            }
        }
    }
    world.stop().await;
}

#[tokio::test]
async fn without_dev_tokens_the_document_does_not_know_them() {
    let world = World::start().await;
    assert!(!operations(&document(&world).await).contains_key("/api/v1/dev/token"));
    world.stop().await;
}

#[tokio::test]
async fn every_operation_says_how_it_fails() {
    let world = World::start_with(|settings| settings.dev_tokens = true).await;
    let document = document(&world).await;
    let problem = "#/components/schemas/Problem";
    assert!(document["components"]["schemas"]["Problem"]["properties"]["code"].is_object());
    for (path, methods) in operations(&document) {
        for (method, operation) in methods {
            let name = format!("{method} {path}");
            assert!(operation["operationId"].is_string(), "{name}");
            assert!(operation["summary"].is_string() || operation["description"].is_string(), "{name}");
            let responses = operation["responses"].as_object().unwrap();
            assert_eq!(
                responses["default"]["content"]["application/problem+json"]["schema"]["$ref"], problem,
                "{name}"
            );
            for (status, response) in responses {
                let is_problem = status.starts_with('4') || status == "default";
                if is_problem {
                    let schema = &response["content"]["application/problem+json"]["schema"]["$ref"];
                    assert_eq!(schema, problem, "{name} {status}");
                }
            }
            let secured = operation["security"].is_array();
            let public = [
                "/concerts",
                "/plan",
                "/seats",
                "/events",
                "/route",
                "/audit/head",
                "/draws/{concertId}",
                "/dev/token",
                "/healthz",
                "/readyz",
                "/metrics",
            ];
            assert_eq!(
                secured,
                path.ends_with("/entry")
                    || !(method == "GET" || path.ends_with("/dev/token"))
                    || !public.iter().any(|part| path.contains(part)),
                "{name}"
            );
            assert_eq!(responses.contains_key("401"), secured, "{name}");
            let body = &operation["requestBody"]["content"]["application/json"];
            if body.is_object() {
                assert!(body["example"].is_object() || body["examples"].is_object(), "{name} has no example");
            }
        }
    }
    every_reference_leads_somewhere(&document, &document);
    world.stop().await;
}

fn every_reference_leads_somewhere(document: &Value, node: &Value) {
    match node {
        Value::Object(fields) => {
            if let Some(Value::String(reference)) = fields.get("$ref") {
                let target = document.pointer(reference.trim_start_matches('#'));
                assert!(target.is_some(), "{reference}");
            }
            fields.values().for_each(|value| every_reference_leads_somewhere(document, value));
        }
        Value::Array(items) => items.iter().for_each(|item| every_reference_leads_somewhere(document, item)),
        _ => {}
    }
}

#[tokio::test]
async fn the_page_loads_nothing_from_another_host() {
    let world = World::start().await;
    let public = world.client();
    let moved = public.get("/api/v1/docs").await;
    assert!((300..400).contains(&moved.status));
    assert_eq!(moved.header("location"), "/api/v1/docs/");
    let page = public.get("/api/v1/docs/").await.expect(200);
    assert!(page.header("content-security-policy").starts_with("default-src 'self'"));
    let html = page.text();
    for attribute in ["src=\"", "href=\""] {
        for (at, _) in html.match_indices(attribute) {
            let target = html[at + attribute.len()..].split('"').next().unwrap();
            assert!(!target.contains("//"), "{target}");
            let file = format!("/api/v1/docs/{}", target.trim_start_matches("./"));
            public.get(&file).await.expect(200);
        }
    }
    let script = public.get("/api/v1/docs/swagger-initializer.js").await.expect(200).text();
    assert!(script.contains("/api/v1/openapi.json"), "{script}");
    assert!(!script.contains("https://"), "{script}");
    world.stop().await;
}
