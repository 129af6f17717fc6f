//! What may be typed, and what comes back.

use std::path::Path;
use std::time::Duration;

use serde_json::json;

use crate::support::server::post;
use crate::support::{Place, Server, run, run_on};

const HALL: &str = r#"{"sections":[{"code":"A","capacity":10}]}"#;

#[test]
fn help_reads_like_a_manual() {
    let top = run(&["--help"]).success();
    for part in [
        "serve",
        "migrate",
        "import",
        "audit",
        "shards",
        "nodes",
        "draw",
        "check-config",
        "token",
        "Examples:",
        "Exit codes:",
    ] {
        assert!(top.contains(part), "{part} is not in\n{top}");
    }
    for command in [
        "serve",
        "migrate",
        "import",
        "audit",
        "shards list",
        "shards move",
        "shards rebalance",
        "nodes list",
        "nodes drain",
        "check-config",
        "token",
    ] {
        let help = run(&[command.split(' ').collect(), vec!["--help"]].concat()).success();
        assert!(help.contains("--config <FILE>") && help.contains("--data <DIR>"), "{help}");
        assert!(help.contains("Example"), "{help}");
        assert!(help.lines().count() > 15, "{command} says little:\n{help}");
        assert!(!help.contains('\u{1b}'), "colours outside a terminal:\n{help}");
    }
}

#[test]
fn wrong_usage_ends_with_2() {
    for args in [
        &[] as &[&str],
        &["sell"],
        &["serve", "--listen", "8080"],
        &["token", "--user", "0", "--role", "USER"],
        &["token", "--user", "9007199254740992", "--role", "USER"],
        &["token", "--user", "7", "--role", "KING"],
        &["token", "--user", "7", "--role", "USER", "--ttl", "60"],
        &["import", "f", "--concert", "C", "--at", "tomorrow"],
        &["import", "f", "--concert", "C", "--at", "2027-05-01T19:00:00"],
        &["import", "f", "--concert", " ", "--at", "2027-05-01T19:00:00Z"],
        &["import", "f", "--concert", "C", "--at", "2027-05-01T19:00:00Z", "--price", "Floor"],
        &["shards"],
        &["draw"],
        &["draw", "verify"],
        &["draw", "verify", "https://127.0.0.1/api/v1/draws/1"],
        &["shards", "move", "17"],
        &["shards", "move", "65536", "--to", "b"],
        &["shards", "move", "17", "--to", "a/b"],
        &["shards", "rebalance", "--at-once", "0"],
        &["nodes", "drain"],
        &["nodes", "drain", ".../x"],
    ] {
        run(args).failure(2);
    }
}

#[test]
fn migrate_says_what_it_did() {
    let place = Place::new();
    let said = run_on(&place.data, &["migrate"]).success();
    assert!(said.contains("from version 0 to"), "{said}");
    let said = run_on(&place.data, &["migrate"]).success();
    assert!(said.contains("up to date"), "{said}");
}

#[test]
fn a_token_needs_the_servers_key() {
    let place = Place::new();
    let token = ["token", "--user", "7", "--role", "USER"];
    let said = run_on(&place.data, &token).failure(1);
    assert!(said.contains("auth.key does not exist: start the server"), "{said}");
    assert!(!place.data.exists());

    let server = Server::start(&place.data, &[]);
    let mode = std::os::unix::fs::MetadataExt::mode;
    for secret in ["auth.key", "run.json"] {
        let found = mode(&std::fs::metadata(place.data.join(secret)).unwrap());
        assert_eq!(found & 0o777, 0o600, "{secret}");
    }
    let bearer = format!("Bearer {}", server.token(7));
    let headers = [("Authorization", bearer.as_str())];
    let mine = crate::support::request("GET", &format!("{}/api/v1/reservations", server.api), &headers, None);
    assert_eq!(mine.unwrap().status, 200);
    server.stop();
}

#[test]
fn import_without_a_server_is_on_sale_at_the_next_start() {
    let place = Place::new();
    let said = place.import_hall(40);
    assert_eq!(said, "concert 1, option 1: 40 seats, on sale at the next start of the server\n");
    let server = Server::start(&place.data, &[]);
    let seats = server.get("/api/v1/options/1/seats").json();
    assert_eq!(seats["counts"]["available"], 40);
    server.stop();
}

#[test]
fn import_beside_a_server_goes_through_it() {
    let place = Place::new();
    let mut server = Server::start(&place.data, &[]);
    let said = place.import_hall(40);
    assert_eq!(said, format!("concert 1, option 1: 40 seats, on sale now (server {})\n", server.pid()));
    server.until(|server| server.get("/api/v1/options/1/seats").status == 200);
    let token = server.token(7);
    assert_eq!(server.hold(1, &[0, 1], &token, "k").status, 201);

    // The same title gets a further option.
    let said = place.import_hall_at(30, "2027-05-02T19:00:00+09:00");
    assert!(said.starts_with("concert 1, option 2: 30 seats"), "{said}");

    let again = ["import", &place.file("h.json", HALL), "--concert", "Hall", "--at", "2027-05-02T10:00:00Z"];
    let said = run_on(&place.data, &again).failure(1);
    assert!(said.contains("has an option that starts at 2027-05-02T10:00:00Z already"), "{said}");

    let wrong = place.file("wrong.json", r#"{"sections":[{"code":"A","rows":[]}]}"#);
    let args = ["import", &wrong, "--concert", "C", "--at", "2027-05-01T19:00:00Z"];
    let said = run_on(&place.data, &args).failure(1);
    assert!(said.contains("wrong.json: plan: it has no seats"), "{said}");
    server.stop();
}

#[test]
fn import_after_a_kill_takes_the_ledger_itself() {
    let place = Place::new();
    Server::start(&place.data, &[]).kill();
    assert!(place.data.join("run.json").exists());
    let said = place.import_hall(40);
    assert!(said.ends_with("on sale at the next start of the server\n"), "{said}");
}

#[test]
fn an_audit_beside_a_server_and_without_one() {
    let place = Place::new();
    place.import_hall(40);
    let server = Server::start(&place.data, &[]);
    let held = server.hold(1, &[0, 1], &server.token(7), "k");
    assert_eq!(held.status, 201);
    let said = run_on(&place.data, &["audit"]).success();
    assert!(said.contains("memory was compared in 64 shards"), "{said}");
    assert!(said.contains("1 reservations, 2 seats taken") && said.contains("no differences"), "{said}");
    server.stop();

    let said = run_on(&place.data, &["audit"]).success();
    assert!(said.contains("no server runs on this directory: memory was not compared"), "{said}");

    let id = held.json()["reservationId"].as_str().unwrap().to_owned();
    corrupt(&place.data);
    let ran = run_on(&place.data, &["audit"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.out.contains(&id) && ran.out.contains("DIFFERENCE"), "{ran:?}");
    assert_eq!(ran.err, "");
}

/// Gives a sold seat to somebody else, behind the ledger's back.
fn corrupt(data: &Path) {
    let file = data.join("ledger.db");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        use sqlx::Connection as _;
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file);
        let mut ledger = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
        let changed =
            sqlx::query("UPDATE reservations SET user_id = 666").execute(&mut ledger).await.unwrap();
        assert_eq!(changed.rows_affected(), 1);
        ledger.close().await.unwrap();
    });
}

#[test]
fn an_audit_of_nothing_says_so() {
    let place = Place::new();
    let said = run_on(&place.data, &["audit"]).failure(1);
    assert!(said.contains("is not a hotseat data directory") || said.contains("cannot be opened"), "{said}");
    assert!(!place.data.exists());
}

/// With PostgreSQL there is no `DATA/lock`, and two processes would write the same files.
#[test]
fn the_files_of_gates_have_one_server() {
    let place = Place::new();
    let gates = place.data.join("gates");
    std::fs::create_dir_all(&gates).unwrap();
    let lock = std::fs::File::create(gates.join("lock")).unwrap();
    lock.lock().unwrap();
    let serve = ["serve", "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"];
    let said = run_on(&place.data, &serve).failure(1);
    let complaint = format!("the data directory {} is in use by another", place.data.display());
    assert!(said.contains(&complaint), "{said}");
    drop(lock);
    let server = Server::start(&place.data, &[]);
    let lock = std::fs::File::open(gates.join("lock")).unwrap();
    assert!(lock.try_lock().is_err(), "the server holds it");
    drop(server);
}

#[test]
fn a_data_directory_has_one_server() {
    let place = Place::new();
    let mut server = Server::start(&place.data, &[]);
    let second = ["serve", "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"];
    let said = run_on(&place.data, &second).failure(1);
    assert!(said.contains("is in use by another hotseat process"), "{said}");
    let said = run_on(&place.data, &["migrate"]).failure(1);
    assert!(said.contains("is in use by another hotseat process"), "{said}");
    // The first one is none the worse for it.
    assert!(server.is_ready());
    server.signal("INT");
    assert_eq!(server.ended(Duration::from_secs(15)).code(), Some(0));
    assert!(!place.data.join("run.json").exists());
}

#[test]
fn a_port_in_use_leaves_nothing_behind() {
    let place = Place::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let said =
        run_on(&place.data, &["serve", "--listen", &address, "--ops-listen", "127.0.0.1:0"]).failure(1);
    assert!(said.contains(&format!("cannot listen on {address} (server.listen): ")), "{said}");
    Server::start(&place.data, &[]).stop();
}

#[test]
fn another_shard_count_is_a_wrong_configuration() {
    let place = Place::new();
    Server::start_with(&place.data, &[], &[("HOTSEAT_CLUSTER_SHARDS", "3")]).stop();
    let said = run_on(&place.data, &["serve"]).failure(2);
    assert!(said.contains("cluster of 3 shards, but cluster.shards is 64"), "{said}");
}

#[test]
fn dev_tokens_are_for_this_machine() {
    let place = Place::new();
    let server = Server::start_with(&place.data, &[], &[("HOTSEAT_AUTH_DEV_TOKENS", "true")]);
    let wanted = json!({"userId": 7, "role": "USER"});
    let path = format!("{}/api/v1/dev/token", server.api);
    let given = crate::support::request("POST", &path, &[], Some(&wanted)).unwrap();
    assert_eq!(given.status, 200);
    let proxied = crate::support::request("POST", &path, &[("X-Forwarded-For", "192.0.2.1")], Some(&wanted));
    assert_eq!(proxied.unwrap().code(), "FORBIDDEN");
    server.stop();

    let server = Server::start(&place.data, &[]);
    assert_eq!(post(&server.api, "/api/v1/dev/token", "x", "k", Some(&wanted)).unwrap().status, 404);
    server.stop();
}
