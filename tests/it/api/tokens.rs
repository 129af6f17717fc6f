//! Who may do what.

use serde_json::json;

use super::world::{Client, World};

#[tokio::test]
async fn without_a_good_token_nothing_changes() {
    let world = World::start().await;
    let before = world.seats().await;
    let expired = world.signed(&json!({"sub": 7, "role": "USER", "exp": 1_700_000_000}));
    let foreign = World::signed_by(
        "another secret, also long enough!!",
        &json!({"sub": 7, "role": "ADMIN", "exp": 4_000_000_000_u64}),
    );
    let roleless = world.signed(&json!({"sub": 7, "exp": 4_000_000_000_u64}));
    let rows = [
        ("none", None, "Bearer realm=\"hotseat\""),
        ("expired", Some(format!("Bearer {expired}")), "error=\"invalid_token\""),
        ("foreign", Some(format!("Bearer {foreign}")), "error=\"invalid_token\""),
        ("without a role", Some(format!("Bearer {roleless}")), "error=\"invalid_token\""),
        ("no token", Some("Bearer x".to_owned()), "error=\"invalid_token\""),
        ("nothing", Some("Bearer ".to_owned()), "error=\"invalid_token\""),
        ("basic", Some("Basic dXNlcjpwdw==".to_owned()), "error=\"invalid_token\""),
    ];
    for (name, authorization, challenge) in rows {
        let client = world.client().authorization(authorization.as_deref());
        for (method, path) in [
            ("POST", "/api/v1/options/1/selections"),
            ("DELETE", "/api/v1/options/1/selections"),
            ("POST", "/api/v1/options/1/holds"),
            ("GET", "/api/v1/reservations"),
            ("POST", "/admin/v1/imports"),
            ("PUT", "/admin/v1/options/1/status"),
        ] {
            let reply = client.raw(method, path, Some("application/json"), br#"{"seats":[3]}"#).await;
            assert_eq!((reply.status, reply.code()), (401, "UNAUTHENTICATED"), "{name}: {method} {path}");
            assert!(reply.header("www-authenticate").contains(challenge), "{name}");
        }
    }
    assert_eq!(world.seats().await, before);
    world.stop().await;
}

#[tokio::test]
async fn roles_keep_to_themselves() {
    let world = World::start().await;
    let id = world.user(7).hold(&[5]).await;
    let forbidden = |client: Client, method: &'static str, path: String| async move {
        let reply = client.key("k").raw(method, &path, None, b"").await;
        assert_eq!((reply.status, reply.code()), (403, "FORBIDDEN"), "{method} {path}: {}", reply.text());
    };
    for what in ["confirm", "refund"] {
        forbidden(world.user(7), "POST", format!("/api/v1/reservations/{id}/{what}")).await;
        forbidden(world.ops(), "POST", format!("/api/v1/reservations/{id}/{what}")).await;
    }
    for client in [world.user(7), world.payment()] {
        for (method, path) in [
            ("POST", "/admin/v1/imports"),
            ("POST", "/admin/v1/options/1/blocks"),
            ("DELETE", "/admin/v1/blocks/01890000-0000-7000-8000-000000000001"),
            ("PUT", "/admin/v1/options/1/status"),
            ("PUT", "/admin/v1/concerts/1/policy"),
            ("GET", "/admin/v1/audit/memory?shard=0"),
        ] {
            forbidden(client.clone(), method, path.to_owned()).await;
        }
    }
    assert_eq!(world.user(7).get(&format!("/api/v1/reservations/{id}")).await.body["status"], "HOLD");
    world.stop().await;
}

#[tokio::test]
async fn dev_tokens_are_for_this_machine_and_only_when_they_are_on() {
    let world = World::start_with(|settings| settings.dev_tokens = true).await;
    let client = world.client();
    let path = "/api/v1/dev/token";
    let wanted = json!({"userId": 7, "role": "ADMIN", "tier": "BASIC"});
    let given = client.post(path, &wanted).await.expect(200);
    assert!(given.body["expiresAt"].is_string());
    let admin = client.authorization(Some(&format!("Bearer {}", given.body["token"].as_str().unwrap())));
    admin.get("/admin/v1/audit/memory?shard=0").await.expect(200);
    for header in ["Forwarded", "X-Forwarded-For", "X-Real-IP", "Via"] {
        let reply = client.header(header, "for=10.0.0.1").post(path, &wanted).await;
        assert_eq!((reply.status, reply.code()), (403, "FORBIDDEN"), "{header}");
    }
    for (body, pointer) in [
        (json!({"userId": 0}), "/userId"),
        (json!({"userId": 9_007_199_254_740_992_u64}), "/userId"),
        (json!({"userId": "7"}), "/userId"),
        (json!({"userId": 7, "role": "GOD"}), "/role"),
        (json!({"role": "USER"}), ""),
    ] {
        let reply = client.post(path, &body).await.expect(400);
        assert_eq!(reply.body["pointer"], pointer, "{body}");
    }
    world.stop().await;

    let world = World::start().await;
    assert_eq!(world.client().post(path, &wanted).await.expect(404).code(), "NOT_FOUND");
    world.stop().await;
}
