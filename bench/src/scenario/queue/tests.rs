//! The whole load against a gate that is right, and against gates that are wrong.

use clap::Parser;

use super::fake::{Fault, start};
use super::{QueueArgs, queue};
use crate::report::model::{Check, Operation};

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: QueueArgs,
}

struct Ran {
    checks: Vec<Check>,
    queue: crate::report::model::Queue,
    join: Operation,
    refused: Option<Operation>,
}

async fn run(fault: Fault, more: &[&str]) -> Ran {
    let url = start(fault).await;
    let line = "queue --arrivals 200 --spike 500ms --time 30s --per-second 50 --watchers 20 --storm 500ms --stay 400ms \
                --connections 8 --url";
    let line = line.split_whitespace().chain([url.as_str()]).chain(more.iter().copied());
    let outcome = queue(&Line::parse_from(line).args).await.unwrap();
    assert!(outcome.failed.is_none() && !outcome.interrupted);
    let run = outcome.scenario.runs.into_iter().next().unwrap();
    let of = |name: &str| run.operations.iter().find(|operation| operation.name == name).cloned();
    let (join, refused) = (of("join").unwrap(), of("join refused"));
    Ran { checks: run.audit.checks, queue: run.queue.unwrap(), join, refused }
}

impl Ran {
    fn failed(&self) -> Vec<&str> {
        self.checks.iter().filter(|check| !check.passed).map(|check| check.what.as_str()).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gate_that_is_right_passes_and_is_described() {
    let ran = run(Fault::None, &["--max-active", "100", "--abandon", "0.6"]).await;
    assert_eq!(ran.failed(), [""; 0], "{:?}", ran.checks);
    let queue = &ran.queue;
    assert_eq!(queue.joined, queue.arrived);
    assert_eq!(ran.join.granted, queue.joined);
    assert!(ran.refused.is_none() && queue.told_apart > 1_000, "{queue:?}");
    assert!(queue.joined > 150 && queue.admitted > 100, "{queue:?}");
    assert!(queue.left > 0 && queue.silent > 0, "{queue:?}");
    assert_eq!(queue.watchers, 20);
    assert!(queue.storms >= 1, "{queue:?}");
    assert!(queue.tau_watchers.unwrap() > 0.9, "{queue:?}");
    assert!(queue.estimates_kept * 10 >= queue.estimates * 9 && queue.estimates > 50, "{queue:?}");
    assert!(queue.status_ranks.samples > 50 && queue.event_ranks.samples > 10, "{queue:?}");
    assert!((2.0..30.0).contains(&queue.requests_per_waiter), "{queue:?}");
    assert!((100.0..50_000.0).contains(&queue.bytes_per_waiter), "{queue:?}");
    let counted = queue.seconds.iter().filter_map(|second| second.admitted).fold(0.0, f64::max);
    assert!((20.0..51.0).contains(&counted), "{queue:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_is_cut_short_leaves_nobody_in_line() {
    let url = start(Fault::None).await;
    let line =
        "queue --arrivals 200 --spike 500ms --time 1s --per-second 10 --watchers 20 --connections 8 --url";
    for _ in 0..2 {
        let line = line.split_whitespace().chain([url.as_str()]);
        let outcome = queue(&Line::parse_from(line).args).await.unwrap();
        let found = outcome.scenario.runs[0].queue.as_ref().unwrap();
        assert!(found.joined > 150 && found.admitted < 50, "{found:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_fault_is_found() {
    let faults = [
        (Fault::Backwards, "nobody was let in before somebody who had come first"),
        (Fault::Fast, "never more than 50 were let in within a second"),
        (Fault::Forgets, "nobody lost a place"),
        (Fault::Passes, "nobody had two passes"),
        (Fault::Ranks, "ranks in answers are those of the log"),
        (Fault::Rises, "no rank rose"),
        (Fault::Turns, "turns are in the order of joining"),
        (Fault::Crowded, "never more than 10 were inside at once"),
    ];
    // Two at a time: more keep each other from asking when they should.
    for pair in faults.chunks(2) {
        let found = pair.iter().map(async |(fault, expected)| {
            let more: &[&str] = if *fault == Fault::Crowded { &["--max-active", "10"] } else { &[] };
            let ran = run(*fault, more).await;
            let is_found = ran.failed().iter().any(|what| what.starts_with(expected));
            assert!(is_found, "{fault:?}: {:?} {:?}", ran.failed(), ran.queue);
        });
        futures_util::future::join_all(found).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_told_to_come_again_has_waited_since_they_came() {
    let ran = run(Fault::Limits, &[]).await;
    let (join, refused) = (&ran.join, ran.refused.as_ref().unwrap());
    assert_eq!(ran.failed(), [""; 0], "{:?}", ran.checks);
    assert_eq!([join.granted, join.refused], [ran.queue.joined, 0]);
    assert_eq!([refused.granted, refused.refused], [0, ran.queue.arrived]);
    // Each of them once, and a second later.
    assert_eq!([join.latency.count, refused.latency.count], [ran.queue.joined, ran.queue.arrived]);
    assert!(join.latency.p50 > 990.0 && join.service.p50 < 500.0, "{:?}", join.latency);
    assert!(refused.latency.p50 < 500.0, "{:?}", refused.latency);
}
