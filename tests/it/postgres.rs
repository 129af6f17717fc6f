//! `ledger.url` is all it takes: the real binary on PostgreSQL.

use std::path::Path;

use serde_json::json;
use servers::Postgres;

use crate::support::{Place, Ran, Server, hotseat};

const HALL: &str = r#"{"sections":[{"code":"A","capacity":40}]}"#;

/// Runs a command to its end on a database.
fn run_on(url: &str, data: &Path, args: &[&str]) -> Ran {
    let mut command = hotseat();
    command.args(args).arg("--data").arg(data).env("HOTSEAT_LEDGER_URL", url);
    Ran::of(command.output().unwrap())
}

/// Leases live long here: whoever waited for one to run out would not be ready in time.
fn start(url: &str, data: &Path) -> Server {
    Server::start_with(data, &[], &[("HOTSEAT_LEDGER_URL", url), ("HOTSEAT_CLUSTER_LEASE_TTL", "1m")])
}

fn import<'a>(file: &'a str, title: &'a str) -> [&'a str; 6] {
    ["import", file, "--concert", title, "--at", "2027-05-01T19:00:00Z"]
}

/// From an empty database to a clean audit, with a kill in the middle.
#[test]
fn one_sale_from_end_to_end() {
    let url = Postgres::shared().database();
    let server_name = url.rsplit_once('@').unwrap().1;
    let place = Place::new();
    let hall = place.file("hall.json", HALL);
    let said = run_on(&url, &place.data, &["migrate"]).success();
    assert_eq!(said, format!("{server_name}: the schema went from version 0 to 2.\n"));
    let said = run_on(&url, &place.data, &["migrate"]).success();
    assert_eq!(said, format!("{server_name}: the schema is up to date (version 2).\n"));
    let said = run_on(&url, &place.data, &import(&hall, "Hall")).success();
    assert_eq!(said, "concert 1, option 1: 40 seats, on sale as soon as a server has its shard\n");

    let server = start(&url, &place.data);
    let token = server.token(7);
    let held = server.hold(1, &[0, 1], &token, "first");
    assert_eq!(held.status, 201, "{}", held.json());
    let id = held.json()["reservationId"].as_str().unwrap().to_owned();
    let payment = ["token", "--role", "PAYMENT", "--user", "1"];
    let payment = run_on(&url, &place.data, &payment).success().trim().to_owned();
    let confirmed = server.post(&format!("/api/v1/reservations/{id}/confirm"), &payment, "c", None).unwrap();
    assert_eq!((confirmed.status, &confirmed.json()["status"]), (200, &json!("CONFIRMED")));
    assert_eq!(server.hold(1, &[5], &token, "second").status, 201);
    assert!(!place.data.join("ledger.db").exists(), "nothing is in the data directory");
    server.kill();

    // The same node, at once: its sessions are gone, so nobody waits for its leases.
    let mut server = start(&url, &place.data);
    let retried = server.post("/api/v1/options/1/holds", &token, "first", Some(&json!({"seats": [0, 1]})));
    assert_eq!(retried.unwrap().json()["reservationId"], id.as_str(), "a retry gets its first answer");
    let counts = server.get("/api/v1/options/1/seats").json()["counts"].clone();
    assert_eq!(counts, json!({"available": 37, "selecting": 0, "hold": 1, "confirmed": 2}));

    let said = run_on(&url, &place.data, &import(&hall, "Further hall")).success();
    assert!(said.contains("on sale now"), "{said}");
    // From another machine, as it were: the server finds it by itself.
    let elsewhere = Place::new();
    let said = run_on(&url, &elsewhere.data, &import(&hall, "Hall of another place")).success();
    assert!(said.starts_with("concert 3, option 3"), "{said}");
    server.until(|server| server.get("/api/v1/options/3/seats").status == 200);

    let said = run_on(&url, &place.data, &["audit"]).success();
    assert!(said.contains("no differences") && !said.contains("memory was not compared"), "{said}");
    server.stop();
    let said = run_on(&url, &place.data, &["audit"]).success();
    assert!(said.contains("no differences") && said.contains("memory was not compared"), "{said}");
}

#[test]
fn the_demo_on_an_empty_database() {
    let url = Postgres::shared().database();
    let place = Place::new();
    let server = Server::start_with(&place.data, &["--demo"], &[("HOTSEAT_LEDGER_URL", &url)]);
    assert_eq!(server.get("/api/v1/concerts").json()["items"].as_array().unwrap().len(), 3);
    server.stop();
    let server = Server::start_with(&place.data, &["--demo"], &[("HOTSEAT_LEDGER_URL", &url)]);
    assert_eq!(server.get("/api/v1/concerts").json()["items"].as_array().unwrap().len(), 3);
    server.stop();
}

#[test]
fn two_processes_of_one_name() {
    let url = Postgres::shared().database();
    let (place, other) = (Place::new(), Place::new());
    let mut server = start(&url, &place.data);
    let serve = ["serve", "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"];
    let said = run_on(&url, &other.data, &serve).failure(2);
    assert!(said.contains("node.name: NODE_NAME_IN_USE"), "{said}");
    server.until(Server::is_ready);
    server.stop();
}

/// Each is said at once, with the server's name and without a password.
#[test]
fn what_cannot_be_opened_is_said() {
    let postgres = Postgres::shared();
    let at = format!("127.0.0.1:{}", postgres.port());
    let newer = postgres.database();
    let database = newer.rsplit('/').next().unwrap();
    let place = Place::new();
    run_on(&newer, &place.data, &["migrate"]).success();
    postgres.sql(database, "COMMENT ON TABLE cluster_meta IS 'hotseat schema 7'");
    let rows = [
        (format!("postgres://nobody:hunter2@{at}/{database}"), "refuses the user or the database", 1),
        (format!("postgres://postgres:hunter2@{at}/missing"), "refuses the user or the database", 1),
        (format!("postgres://postgres:hunter2@{at}/{database}"), "written by a newer hotseat (schema 7", 1),
        ("postgres://postgres:hunter2@:x/y".to_owned(), "ledger.url: expected", 2),
    ];
    for (url, expected, code) in rows {
        let serve = ["serve", "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"];
        for args in [&serve[..], &["audit"], &["migrate"]] {
            let said = run_on(&url, &place.data, args).failure(code);
            assert!(said.contains(expected), "{args:?}: {said}");
            assert!(!said.contains("hunter2"), "{said}");
            assert!(code == 2 || said.contains(&at), "{said}");
        }
    }
}
