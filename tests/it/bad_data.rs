//! Data directories that an operator can meet, through the binary: each is said in one sentence that names the
//! directory and the remedy, and nothing in it is lost.

use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::disk::{Disk, with_mounts};
use crate::support::{Place, Server, request, run_on, until};

/// Everything that opens a data directory to write. `audit` only reads.
const WRITERS: [&[&str]; 3] = [
    &["serve", "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"],
    &["migrate"],
    &["import", "PLAN", "--concert", "Another", "--at", "2027-06-01T19:00:00Z"],
];

/// A hall in which seats 0 and 1 are held.
struct Sold {
    token: String,
}

impl Sold {
    fn on(place: &Place) -> Self {
        place.import_hall(20);
        let server = Server::start(&place.data, &[]);
        let token = server.token(7);
        assert_eq!(server.hold(1, &[0, 1], &token, "first").status, 201);
        server.stop();
        Self { token }
    }

    /// The hold is there, the next one too, and the ledger is sound.
    fn goes_on(&self, place: &Place) {
        let server = Server::start(&place.data, &[]);
        let again =
            server.post("/api/v1/options/1/holds", &self.token, "first", Some(&json!({"seats": [0, 1]})));
        assert!(again.unwrap().has_header("idempotent-replay: true"));
        assert_eq!(server.hold(1, &[2], &self.token, "next").status, 201);
        let said = run_on(&place.data, &["audit"]).success();
        assert!(said.contains("2 reservations, 3 seats taken"), "{said}");
        server.stop();
    }
}

/// Each command ends with 1 and one sentence that has these parts.
#[track_caller]
fn refused(place: &Place, commands: &[&[&str]], parts: &[&str]) {
    let plan = place.file("another.json", r#"{"sections":[{"code":"A","capacity":10}]}"#);
    for command in commands {
        let args: Vec<&str> = command.iter().map(|arg| if *arg == "PLAN" { &plan } else { *arg }).collect();
        let said = run_on(&place.data, &args).failure(1);
        let sentences: Vec<&str> = said.lines().filter(|line| line.starts_with("hotseat: ")).collect();
        assert_eq!(sentences.len(), 1, "{command:?}: {said}");
        for part in parts.iter().chain([&place.data.to_str().unwrap()]) {
            assert!(sentences[0].contains(part), "{command:?} does not say {part:?}: {said}");
        }
    }
}

#[test]
fn in_use() {
    let place = Place::new();
    let sold = Sold::on(&place);
    let server = Server::start(&place.data, &[]);
    let remedy =
        ["is in use by another hotseat process", "stop that one or name another directory with --data"];
    refused(&place, &WRITERS[..2], &remedy);
    assert!(server.is_ready());
    server.stop();
    sold.goes_on(&place);
}

#[test]
fn of_a_newer_version() {
    let place = Place::new();
    let sold = Sold::on(&place);
    let pragma = |sql: &'static str| {
        run_sql(&place.data, sql);
        std::fs::read(place.data.join("ledger.db")).unwrap()
    };
    let newer = pragma("PRAGMA user_version = 99");
    let remedy = ["was written by a newer hotseat (schema 99", "run that version or a later one"];
    refused(&place, &WRITERS, &remedy);
    refused(&place, &[&["audit"]], &remedy);
    assert!(std::fs::read(place.data.join("ledger.db")).unwrap() == newer, "it was written to");
    pragma("PRAGMA user_version = 2");
    sold.goes_on(&place);
}

fn run_sql(data: &Path, sql: &'static str) {
    let file = data.join("ledger.db");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        use sqlx::Connection as _;
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file);
        let mut ledger = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
        sqlx::raw_sql(sql).execute(&mut ledger).await.unwrap();
        ledger.close().await.unwrap();
    });
}

#[test]
fn read_only() {
    with_mounts("bad_data::read_only", || {
        let place = Place::new();
        let disk = Disk::on(&place, "8m");
        let sold = Sold::on(&place);
        disk.set_read_only(true);
        refused(&place, &WRITERS, &["cannot be written", "give this user write permission, or mount"]);
        disk.set_read_only(false);
        sold.goes_on(&place);
    });
}

#[test]
fn on_a_full_disk_at_start() {
    with_mounts("bad_data::on_a_full_disk_at_start", || {
        let place = Place::new();
        let disk = Disk::on(&place, "8m");
        let remedy = ["the disk of the data directory", "is full", "free some space and start again"];
        // Before there is anything in it.
        disk.fill();
        refused(&place, &WRITERS, &remedy);
        disk.make_room();
        let sold = Sold::on(&place);
        disk.fill();
        refused(&place, &WRITERS, &remedy);
        disk.make_room();
        sold.goes_on(&place);
    });
}

/// Leases that run out within the test; a client that is told soon.
const IMPATIENT: [(&str, &str); 4] = [
    ("HOTSEAT_CLUSTER_LEASE_TTL", "1s"),
    ("HOTSEAT_CLUSTER_LEASE_RENEW", "300ms"),
    ("HOTSEAT_CLUSTER_LEASE_MARGIN", "200ms"),
    ("HOTSEAT_LEDGER_ACK_TIMEOUT", "300ms"),
];

#[test]
fn on_a_disk_that_fills_while_selling() {
    with_mounts("bad_data::on_a_disk_that_fills_while_selling", || {
        let place = Place::new();
        let disk = Disk::on(&place, "8m");
        let sold = Sold::on(&place);
        let server = Server::start_with(&place.data, &[], &IMPATIENT);
        let token = server.token(8);
        disk.fill();
        let select = |seat: u32| {
            let body = json!({ "seats": [seat] });
            server.post("/api/v1/options/1/selections", &token, "-", Some(&body)).unwrap().status
        };
        let hold = |seat: u32| {
            let body = json!({ "seats": [seat] });
            server.post("/api/v1/options/1/holds", &token, &format!("seat-{seat}"), Some(&body)).unwrap()
        };
        // Some pages may be left in the log; at most one hold per page.
        let waiting = (3..11).find(|seat| {
            assert!(select(*seat) < 202);
            let held = hold(*seat);
            assert!(held.status == 201 || held.code() == "LEDGER_UNAVAILABLE", "{held:?}");
            held.status != 201
        });
        let waiting = waiting.expect("a full disk takes no holds");
        // Renewals fail too by now or will; clicks go on past the end of the leases.
        until(|| warnings(&server).contains("the ledger has not answered"));
        let full = Instant::now();
        while full.elapsed() < Duration::from_secs(2) {
            assert!(select(15) < 202);
        }
        assert!(warnings(&server).contains("full"), "{}", warnings(&server));
        disk.make_room();
        until(|| hold(waiting).status == 201);
        until(|| warnings(&server).is_empty());
        run_on(&place.data, &["audit"]).success();
        assert!(server.log().contains("the ledger is away") && server.log().contains("the ledger is back"));
        assert_eq!(hold(waiting).json()["seats"][0]["seatNo"], waiting);
        server.stop();
        let said = run_on(&place.data, &["audit"]).success();
        assert!(said.contains("no differences"), "{said}");
        drop(sold);
    });
}

/// The warnings of a server that is ready.
fn warnings(server: &Server) -> String {
    let ready = request("GET", &format!("{}/readyz", server.ops), &[], None).unwrap();
    assert_eq!(ready.status, 200, "{ready:?}");
    let warnings: Vec<Value> = ready.json()["warnings"].as_array().unwrap().clone();
    warnings.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("\n")
}
