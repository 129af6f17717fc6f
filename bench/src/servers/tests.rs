use super::*;

#[test]
fn postgres_is_durable_and_goes_when_it_is_dropped() {
    let postgres = Postgres::start().unwrap();
    let facts = postgres.facts().unwrap();
    for fact in ["fsync=on", "synchronous_commit=on", "full_page_writes=on", "shared_buffers=512MB"] {
        assert!(facts.contains(fact), "{facts}");
    }
    assert!(facts.starts_with(&postgres.version().unwrap()), "{facts}");
    assert_ne!(postgres.database().unwrap(), postgres.database().unwrap());
    assert!(cpu_seconds(&postgres.pids()) > 0.0);
    let pids = postgres.pids();
    drop(postgres);
    assert!(!pids.into_iter().any(cpu::is_running));
}

#[test]
fn redis_keeps_nothing_and_goes_when_it_is_dropped() {
    let redis = Redis::start().unwrap();
    let facts = redis.facts().unwrap();
    assert!(facts.contains("save=\"\", appendonly=no"), "{facts}");
    assert_ne!(redis.database(), redis.database());
    let pids = redis.pids();
    drop(redis);
    assert!(!pids.into_iter().any(cpu::is_running));
}

#[test]
fn whoever_does_not_start_says_why() {
    let dir = process::directory(None).unwrap();
    let binary = std::path::Path::new("/bin/sh");
    let launch = process::Launch { name: "Nobody", binary, dir: dir.clone(), user: None, signal: "KILL" };
    let process = launch.start(["-c", "echo the port is taken; exit 1"], &[]).unwrap();
    let error = process.wait_for(|_| None::<()>).unwrap_err().to_string();
    assert_eq!(error, "Nobody does not start: the port is taken");
    drop(process);
    assert!(!dir.exists());
    let error = process::find("no-such-program", &[], "Install it.").unwrap_err().to_string();
    assert_eq!(error, "there is no no-such-program. Install it.");
}
