//! Ledgers and mirrors that are not there, or not what they should be, through the binary: which server and why, and
//! no password.

use std::process::Stdio;
use std::time::Duration;

use servers::{Postgres, Process, Redis, free_port};

use crate::support::{Place, Ran, hotseat, request};

const PATIENCE: Duration = Duration::from_secs(60);

/// A server that need not get ready.
struct Starting {
    process: Process,
    ops: String,
    log: std::path::PathBuf,
}

impl Starting {
    fn on(place: &Place, environment: &[(&str, &str)]) -> Self {
        let ops = format!("127.0.0.1:{}", free_port());
        let log = place.data.with_extension("log");
        let process = Process::start(
            hotseat()
                .args(["serve", "--listen", "127.0.0.1:0", "--ops-listen", &ops, "--data"])
                .arg(&place.data)
                .envs(environment.iter().copied())
                .stdout(Stdio::null())
                .stderr(std::fs::File::create(&log).unwrap()),
        );
        Self { process, ops: format!("http://{ops}"), log }
    }

    /// Waits for an answer with this status; its body.
    fn answers(&mut self, path: &str, status: u16) -> String {
        let started = std::time::Instant::now();
        loop {
            assert!(self.process.is_running(), "{}", self.log());
            match request("GET", &format!("{}{path}", self.ops), &[], None) {
                Ok(answer) if answer.status == status => return String::from_utf8(answer.body).unwrap(),
                other => assert!(started.elapsed() < PATIENCE, "{other:?}\n{}", self.log()),
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }
}

/// The place of a database in its URL, as sentences name it.
fn server_of(url: &str) -> &str {
    url.split_once('@').unwrap().1
}

#[test]
fn a_ledger_that_is_not_there_yet_is_waited_for() {
    let mut postgres = Postgres::start();
    let url = postgres.database().replace("postgres@", "postgres:hush-hush@");
    postgres.stop_fast();
    let place = Place::new();
    let mut server = Starting::on(&place, &[("HOTSEAT_LEDGER_URL", &url)]);
    let why = format!("the ledger at {} cannot be reached", server_of(&url));
    let said = server.answers("/readyz", 503);
    assert!(said.contains(&why) && said.contains("\"ready\":false"), "{said}");
    assert_eq!(server.answers("/healthz", 200), "ok\n");
    assert!(server.answers("/metrics", 503).contains("OVERLOADED"));
    postgres.start_again();
    server.answers("/readyz", 200);
    let log = server.log();
    assert!(log.contains(&why) && log.contains("will try again in 500ms"), "{log}");
    assert!(!log.contains("hush-hush"), "{log}");
}

/// As a standby that will be promoted, or a primary that somebody repairs.
#[test]
fn a_ledger_that_takes_no_writes_yet_is_waited_for() {
    let postgres = Postgres::shared();
    let url = postgres.database();
    let name = url.rsplit('/').next().unwrap();
    let set = |value: &str| {
        postgres
            .sql("postgres", &format!("ALTER DATABASE {name} SET default_transaction_read_only = {value}"));
    };
    set("on");
    let place = Place::new();
    let mut server = Starting::on(&place, &[("HOTSEAT_LEDGER_URL", &url)]);
    let said = server.answers("/readyz", 503);
    assert!(said.contains(&format!("the ledger at {} cannot be written", server_of(&url))), "{said}");
    set("off");
    server.answers("/readyz", 200);
}

#[test]
fn a_mirror_that_is_not_there_yet_is_named_and_waited_for() {
    let mut redis = Redis::start();
    let url = redis.url();
    redis.kill();
    let place = Place::new();
    place.import_hall(10);
    let mut server = Starting::on(&place, &[("HOTSEAT_MIRROR_URL", &url)]);
    // The shards come up without it.
    let waits = std::time::Instant::now();
    while !server.answers("/readyz", 503).contains("\"reasons\":[\"soft locks are not mirrored") {
        assert!(waits.elapsed() < PATIENCE, "{}", server.answers("/readyz", 503));
    }
    redis.restart();
    server.answers("/readyz", 200);
    let log = server.log();
    assert!(log.contains("starting without the soft locks of the mirror"), "{log}");
    assert!(log.contains(&format!("127.0.0.1:{}", redis.port)), "{log}");
}

/// Every command that opens the ledger ends with one sentence and exit code 1.
#[test]
fn a_ledger_that_cannot_be_used_is_named_by_every_command() {
    let postgres = Postgres::shared();
    let (missing, newer, foreign) = (postgres.url("nobody"), postgres.database(), postgres.database());
    let place = Place::new();
    let plan = place.file("hall.json", r#"{"sections":[{"code":"A","capacity":10}]}"#);
    let ran = |url: &str, args: &[&str]| {
        let url = url.replace("postgres@", "postgres:hush-hush@");
        let ran = hotseat().args(args).arg("--data").arg(&place.data).env("HOTSEAT_LEDGER_URL", url).output();
        let ran = Ran::of(ran.unwrap());
        assert!(!format!("{ran:?}").contains("hush-hush"), "{ran:?}");
        ran
    };
    ran(&newer, &["migrate"]).success();
    let name = |url: &str| url.rsplit('/').next().unwrap().to_owned();
    postgres.sql(&name(&newer), "COMMENT ON TABLE cluster_meta IS 'hotseat schema 99'");
    postgres.sql(&name(&foreign), "CREATE TABLE reservations (note text)");
    let rows = [
        (&missing, "refuses the user or the database of ledger.url"),
        (&newer, "was written by a newer hotseat (schema 99"),
        (&foreign, "holds tables of another program"),
    ];
    let import = ["import", &plan, "--concert", "C", "--at", "2027-05-01T19:00:00Z"];
    let serve = ["serve", "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"];
    for (url, expected) in rows {
        for args in [&serve as &[&str], &["migrate"], &["audit"], &import] {
            if args == ["audit"] && *url == foreign {
                // It only reads: where there is no schema of ours, it says that there is none.
                let said = ran(url, args).failure(1);
                assert!(said.contains("run `hotseat migrate`"), "{said}");
                continue;
            }
            let said = ran(url, args).failure(1);
            let sentences: Vec<&str> = said.lines().filter(|line| line.starts_with("hotseat: ")).collect();
            assert_eq!(sentences.len(), 1, "{args:?}: {said}");
            assert!(sentences[0].contains(expected), "{args:?}: {said}");
            assert!(sentences[0].contains(server_of(url)), "{args:?} does not say which server: {said}");
        }
    }
    let said = ran(&newer, &["check-config"]).success();
    assert!(said.contains("ledger.url"), "{said}");
}
