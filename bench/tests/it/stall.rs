//! It indicts itself: a server that stops for a tenth of a second must show in the report, with every request that
//! was due meanwhile. A generator that waits for answers would show one.

use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::{Server, alone, report, run_at};

const RATE: f64 = 1_000.0;
const STALL: Duration = Duration::from_millis(100);
/// Half of those that were due in the stall waited for longer than half of it.
const LONG_MILLIS: f64 = 50.0;
/// Other programs may keep the machine busy for a while; a run that was quiet is needed once.
const TRIES: usize = 8;

/// Samples whose latency is at least [`LONG_MILLIS`], as the curves of the report tell.
fn long(run: &Value) -> f64 {
    let operations = run["operations"].as_array().unwrap();
    let of = |operation: &Value| {
        let latency = &operation["latency"];
        let curve = latency["curve"].as_array().unwrap();
        let first = curve.iter().find(|point| point[1].as_f64().unwrap() >= LONG_MILLIS);
        let below = first.map_or(100.0, |point| point[0].as_f64().unwrap());
        latency["count"].as_f64().unwrap() * (1.0 - below / 100.0)
    };
    operations.iter().map(of).sum()
}

/// Runs for four seconds, in the middle of which the server may stop.
fn measure(server: &Server, stalls: bool) -> Value {
    let dir = tempfile::tempdir().unwrap();
    let rate = RATE.to_string();
    let out = dir.path().to_str().unwrap();
    let args = ["toggle", "--rate", &rate, "--time", "4s", "--warm-up", "500ms", "--out", out];
    thread::scope(|scope| {
        let stall = scope.spawn(|| {
            thread::sleep(Duration::from_millis(2_500));
            if stalls {
                server.signal(Signal::SIGSTOP);
                thread::sleep(STALL);
                server.signal(Signal::SIGCONT);
            }
        });
        run_at(server, &args).passed();
        stall.join().unwrap();
    });
    report(dir.path())["scenarios"][0]["runs"][0].clone()
}

#[test]
fn a_stall_shows_as_all_the_requests_that_it_kept_waiting() {
    let _alone = alone();
    let server = Server::start();
    // Until it is warm, a debug build has pauses of its own.
    measure(&server, false);
    let due = RATE * STALL.as_secs_f64();
    let mut seen = Vec::new();
    for _ in 0..TRIES {
        let quiet = long(&measure(&server, false));
        if quiet > due / 10.0 {
            seen.push(format!("without a stall {quiet:.0} were long"));
            continue;
        }
        let run = measure(&server, true);
        let stalled = long(&run);
        assert_eq!(run["failed"], 0, "they are late, not lost");
        if stalled < 2.0 * due {
            assert!(
                stalled >= due * 0.3,
                "{due} requests were due in the stall, and {stalled:.0} were long: {run}"
            );
            return;
        }
        seen.push(format!("with a stall {stalled:.0} were long"));
    }
    panic!("this machine is too busy to tell: {seen:?}");
}
