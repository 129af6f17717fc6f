//! `hotseat resync` and `hotseat audit` beside a server that sells.

use std::path::Path;

use serde_json::json;
use servers::{Postgres, Redis};

use crate::support::{Place, Server, run_on};

/// What somebody writes into the ledger behind the server's back.
const TAMPER: &str = "UPDATE reservations SET status = 3, version = 2";

#[test]
fn a_resync_takes_the_word_of_sqlite_while_selling_goes_on() {
    resync(&[], |data| {
        let file = data.join("ledger.db");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            use sqlx::Connection as _;
            let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file);
            let mut ledger = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
            let changed = sqlx::query(TAMPER).execute(&mut ledger).await.unwrap();
            assert_eq!(changed.rows_affected(), 1);
            ledger.close().await.unwrap();
        });
    });
}

#[test]
fn a_resync_takes_the_word_of_postgres_while_selling_goes_on() {
    let postgres = Postgres::shared();
    let url = postgres.database();
    let (_, database) = url.rsplit_once('/').unwrap();
    resync(&[("HOTSEAT_LEDGER_URL", &url)], |_| {
        let changed = postgres.sql(database, &format!("{TAMPER} RETURNING version"));
        assert_eq!(changed, "2");
    });
}

fn resync(ledger: &[(&str, &str)], tamper: impl FnOnce(&Path)) {
    let redis = Redis::start();
    let place = Place::new();
    let url = redis.url();
    let environment = [&[("HOTSEAT_MIRROR_URL", url.as_str())], ledger].concat();
    let mut server = Server::start_with(&place.data, &[], &environment);
    place.import_hall(20);
    server.until(|server| server.get("/api/v1/options/1/seats").status == 200);
    let (buyer, other) = (server.token(1), server.token(2));
    let held = server.hold(1, &[3, 4], &buyer, "a").json();
    let id = held["reservationId"].as_str().unwrap();
    let selected = server.post("/api/v1/options/1/selections", &other, "-", Some(&json!({"seats": [7]})));
    assert_eq!(selected.unwrap().status, 201);

    let said = run_on(&place.data, &["resync", "--option", "1"]).success();
    assert!(said.contains("\nmemory was as the ledger is; the mirror is rebuilt\n"), "\n{said}");
    tamper(&place.data);
    let said = run_on(&place.data, &["resync", "--option", "1"]).success();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(
        lines[..3],
        [
            format!(
                "reservation {id}: memory said SALE HOLD of user 1, seats 3 4, version 1; \
                 the ledger says SALE CONFIRMED of user 1, seats 3 4, version 2"
            ),
            "seat 3 of option 1: memory said HOLD; the ledger says CONFIRMED".to_owned(),
            "seat 4 of option 1: memory said HOLD; the ledger says CONFIRMED".to_owned(),
        ],
        "{said}"
    );
    assert_eq!(lines[4], "3 differences; memory is as the ledger is now, and the mirror is rebuilt");
    let counts = json!({"available": 17, "selecting": 1, "hold": 0, "confirmed": 2});
    server.until(|server| server.get("/api/v1/options/1/seats").json()["counts"] == counts);
    assert_eq!(server.hold(1, &[8], &other, "b").status, 201);

    let said = run_on(&place.data, &["resync", "--option", "9"]).failure(1);
    assert!(said.contains("OPTION_UNKNOWN"), "{said}");
    server.stop();
    let said = run_on(&place.data, &["resync", "--option", "1"]).failure(1);
    assert!(said.contains("no server runs on"), "{said}");
}

#[test]
fn an_audit_finds_ghosts_and_forgotten_locks_and_a_resync_mends_them() {
    let redis = Redis::start();
    let place = Place::new();
    place.import_hall(20);
    let url = redis.url();
    let environment = [("HOTSEAT_MIRROR_URL", url.as_str()), ("HOTSEAT_SELECT_TTL", "5m")];
    let mut server = Server::start_with(&place.data, &[], &environment);
    let token = server.token(1);
    let selected = server.post("/api/v1/options/1/selections", &token, "-", Some(&json!({"seats": [7, 8]})));
    assert_eq!(selected.unwrap().status, 201);
    server.until(|_| redis.say(&["ZCARD", "seats:{1}"]) == ":2\r\n");
    let said = run_on(&place.data, &["audit"]).success();
    assert!(said.contains("the mirror was compared with 2 soft locks in memory\nno differences"), "{said}");

    // Somebody plays with Redis: a soft lock that nobody has, and one less.
    let value = r#"{"userId":5,"firstAt":1,"expiresAt":2,"epoch":1}"#;
    redis.say(&["SET", "seat:{1}:12", value, "PX", "300000"]);
    redis.say(&["ZADD", "seats:{1}", "9007199254740991", "12"]);
    redis.say(&["DEL", "seat:{1}:8"]);
    let ran = run_on(&place.data, &["audit"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let findings: Vec<&str> = ran.out.lines().filter(|line| line.starts_with("mirror")).collect();
    assert_eq!(
        findings,
        [
            "mirror   seat 8 of option 1: user 1 selects it in memory, nobody in the mirror",
            "mirror   seat 12 of option 1: nobody selects it in memory, user 5 in the mirror",
        ]
    );
    run_on(&place.data, &["resync", "--option", "1"]).success();
    server.until(|_| run_on(&place.data, &["audit"]).code == Some(0));
}
