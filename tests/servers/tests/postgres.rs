//! What other tests rely on when they stop, hang and promote a PostgreSQL.

use std::process::Command;

use servers::Postgres;

fn answers(postgres: &Postgres) -> bool {
    let url = postgres.url("postgres");
    let ready = Command::new("timeout").args(["2", "psql", "-X", "-d", &url, "-c", "SELECT 1"]).output();
    ready.expect("timeout starts").status.success()
}

#[test]
fn a_database_outlives_stops_and_kills() {
    let mut postgres = Postgres::start();
    let url = postgres.database();
    let name = url.rsplit('/').next().expect("a name").to_owned();
    postgres.sql(&name, "CREATE TABLE t AS SELECT 7 AS n");
    postgres.restart();
    assert_eq!(postgres.sql(&name, "SELECT n FROM t"), "7");
    postgres.kill();
    assert!(!answers(&postgres));
    postgres.start_again();
    assert_eq!(postgres.sql(&name, "SELECT n FROM t"), "7");
    postgres.pause();
    assert!(!answers(&postgres), "nobody answers while it hangs");
    postgres.resume();
    assert!(answers(&postgres));
}

#[test]
fn a_promoted_cluster_has_another_timeline_and_may_have_lost_something() {
    let timeline = "SELECT left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)";
    let mut postgres = Postgres::start();
    assert_eq!(postgres.sql("postgres", timeline), "00000001");
    postgres.sql("postgres", "CREATE TABLE t AS SELECT 1 AS n");
    postgres.stop_fast();
    let saved = postgres.save();
    postgres.start_again();
    postgres.sql("postgres", "INSERT INTO t VALUES (2)");
    postgres.stop_immediate();
    postgres.restore(&saved);
    postgres.promote_stopped();
    assert_eq!(postgres.sql("postgres", timeline), "00000002");
    assert_eq!(postgres.sql("postgres", "SELECT n FROM t"), "1");
}

#[test]
fn the_shared_one_gives_each_its_own_database() {
    let (a, b) = (Postgres::shared().database(), Postgres::shared().database());
    assert_ne!(a, b);
    let database = a.rsplit('/').next().expect("a name");
    assert_eq!(Postgres::shared().sql(database, "SELECT current_database()"), database);
}
