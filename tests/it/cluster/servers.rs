//! The ledger and the mirror of a cluster are stopped, hang, and forget.

use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use servers::Redis;

use super::Cluster;
use crate::support::crowd::Crowd;
use crate::support::wrong_clock::{WrongClock, is_five_minutes_ahead};
use crate::support::{Server, until};

/// For faults in which nobody may be turned away: long enough for a machine that is busy with others.
const CALM: [(&str, &str); 4] = [
    ("HOTSEAT_CLUSTER_LEASE_TTL", "5s"),
    ("HOTSEAT_CLUSTER_LEASE_RENEW", "1500ms"),
    ("HOTSEAT_CLUSTER_LEASE_MARGIN", "1s"),
    ("HOTSEAT_EDGE_CLICK_TIMEOUT", "10s"),
];

/// The node whose clock is wrong.
const WRONG: usize = 2;

const PATIENT: Duration = Duration::from_secs(30);

fn ledger_is(servers: &[Server], up: f64) {
    until(|| servers.iter().all(|server| server.metric("ledger_up") == up));
}

/// The ledger is away for everybody, for longer than leases last: clicks go on at every node, for every concert.
fn goes_on_without(servers: &[Server], crowd: &Crowd, long: Duration) {
    ledger_is(servers, 0.0);
    thread::sleep(long);
    crowd.until_clicked(100);
    for server in servers {
        let warned = server.warnings();
        assert!(warned.contains("clicks go on, holds wait for it"), "{warned}");
    }
}

/// Nobody was turned away, and nobody has lost a shard.
fn nothing_happened(cluster: &Cluster, leases: &str, servers: &[Server], crowd: &Crowd) {
    ledger_is(servers, 1.0);
    for option in 1..=3 {
        crowd.until_held_of(option, 10);
    }
    assert_eq!((crowd.refused(), crowd.unanswered()), (Vec::new(), 0));
    assert_eq!(cluster.leases(), leases);
    assert!(servers.iter().all(|server| server.metric("shard_halts_total") == 0.0));
}

#[test]
fn postgres_stopped_and_started_again() {
    let mut cluster = Cluster::new(&CALM);
    let (servers, crowd) = cluster.open_for(PATIENT);
    let leases = cluster.leases();
    cluster.postgres.stop_immediate();
    goes_on_without(&servers, &crowd, Duration::from_secs(6));
    cluster.postgres.start_again();
    nothing_happened(&cluster, &leases, &servers, &crowd);
    // Before anybody has noticed.
    cluster.postgres.restart();
    nothing_happened(&cluster, &leases, &servers, &crowd);
    cluster.close(servers, crowd);
}

#[test]
fn postgres_hanging_for_ten_seconds() {
    let cluster = Cluster::new(&CALM);
    let (servers, crowd) = cluster.open_for(PATIENT);
    let leases = cluster.leases();
    cluster.postgres.pause();
    goes_on_without(&servers, &crowd, Duration::from_secs(10));
    cluster.postgres.resume();
    nothing_happened(&cluster, &leases, &servers, &crowd);
    cluster.close(servers, crowd);
}

#[test]
fn redis_killed_flushed_and_hanging() {
    let mut redis = Redis::start();
    let url = redis.url();
    let cluster = Cluster::new(&[&CALM[..], &[("HOTSEAT_MIRROR_URL", &url)]].concat());
    let (servers, crowd) = cluster.open_for(PATIENT);
    let leases = cluster.leases();
    let is_up = |up| until(|| servers.iter().all(|server| server.metric("mirror_up") == up));
    for signal in [Signal::SIGKILL, Signal::SIGSTOP] {
        match signal {
            Signal::SIGKILL => redis.kill(),
            other => redis.signal(other),
        }
        is_up(0.0);
        crowd.until_clicked(100);
        nothing_happened(&cluster, &leases, &servers, &crowd);
        match signal {
            Signal::SIGKILL => redis.restart(),
            _ => redis.signal(Signal::SIGCONT),
        }
        is_up(1.0);
    }
    redis.flush();
    crowd.until_clicked(100);
    nothing_happened(&cluster, &leases, &servers, &crowd);
    until(|| servers.iter().all(|server| server.warnings().is_empty()));
    cluster.close(servers, crowd);
}

/// Time is the ledger's: a node whose clock is wrong, and jumps, owns and sells like any other.
#[test]
fn a_node_that_is_five_minutes_off() {
    let mut cluster = Cluster::new(&CALM);
    let clock = WrongClock::beside(cluster.node(WRONG).place());
    for (name, value) in clock.environment() {
        cluster.set(WRONG, &name, &value);
    }
    clock.set("+5m");
    let (servers, crowd) = cluster.open_for(PATIENT);
    let leases = cluster.leases();
    let of_a_minute = cluster.token(50, "USER", &["--ttl", "1m"]);
    assert!(is_five_minutes_ahead(&servers[WRONG], &of_a_minute), "libfaketime does nothing");
    assert!(!is_five_minutes_ahead(&servers[0], &of_a_minute));
    // Longer than a lease lasts.
    thread::sleep(Duration::from_secs(6));
    clock.set("-5m");
    nothing_happened(&cluster, &leases, &servers, &crowd);
    assert!(servers.iter().all(|server| server.metric("expired_total{kind=\"HOLD\"}") == 0.0));
    cluster.close(servers, crowd);
}
