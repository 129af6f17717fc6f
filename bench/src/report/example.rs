//! Reports for tests: a rich one, one of nothing, and some that nobody would expect.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use super::distribution;
use super::model::*;
use crate::recorder::histogram;

mod queue;

pub const FILES: [&str; 22] = [
    "capacity-rate.svg",
    "capacity-users.svg",
    "comparison.svg",
    "fanout-click-to-last-viewer.hgrm",
    "fanout-fanout.svg",
    "fanout-latency.svg",
    "fanout-select.hgrm",
    "queue-gate.svg",
    "queue-join.hgrm",
    "queue-latency.svg",
    "report.html",
    "report.json",
    "rush-latency.svg",
    "rush-over-time.svg",
    "rush-run1-confirm.hgrm",
    "rush-run1-hold.hgrm",
    "rush-run1-look.hgrm",
    "rush-run1-select.hgrm",
    "rush-run2-confirm.hgrm",
    "rush-run2-hold.hgrm",
    "rush-run2-look.hgrm",
    "rush-run2-select.hgrm",
];

pub fn report() -> Report {
    Report {
        scenarios: vec![rush(), fanout(), queue::queue()],
        capacity: Some(capacity()),
        comparison: Some(comparison()),
        headline: [
            ("seats sold", "100,000 in 14.2 s"),
            ("clicks per s", "9,812"),
            ("p99 of click", "2.10 ms"),
            ("double sales", "0"),
        ]
        .map(|(what, value)| Headline { what: what.to_owned(), value: value.to_owned() })
        .to_vec(),
        verdict: Verdict { passed: true, text: "every audit is clean; 4 of 5 promises were kept".to_owned() },
        ..nothing()
    }
}

pub fn nothing() -> Report {
    Report {
        version: VERSION,
        bench: "0.1.0".to_owned(),
        command: "hotseat-bench suite --seed 1 --out report".to_owned(),
        started_at: "2025-06-01T12:00:00Z".to_owned(),
        seconds: 312.4,
        machine: Machine {
            cpu: "Example CPU @ 2.20GHz".to_owned(),
            cores: 2,
            memory_gib: 7.8,
            kernel: "Linux 6.1.0".to_owned(),
            os: "Debian 12".to_owned(),
        },
        scenarios: Vec::new(),
        capacity: None,
        comparison: None,
        headline: Vec::new(),
        verdict: Verdict { passed: false, text: "nothing was measured".to_owned() },
    }
}

/// No runs, runs without answers, single points, and numbers that are none.
pub fn odd() -> Vec<Report> {
    let scenario = |runs| Scenario { runs, ..rush() };
    let empty = run(0.0, Vec::new(), Vec::new());
    let silent =
        run(1.0, vec![operation("select", [0, 0, 9], &histogram(), &histogram())], vec![moment(0.0, 0.0)]);
    let nan =
        Moment { offered: Some(f64::NAN), p50: f64::NAN, max: f64::INFINITY, ..moment(f64::NAN, f64::NAN) };
    let mut one = histogram();
    one.record(1).expect("in range");
    let single = run(f64::NAN, vec![operation("select", [1, 0, 0], &one, &one)], vec![nan]);
    let no_law = Law {
        lambda: f64::NAN,
        sigma: f64::INFINITY,
        kappa: 0.0,
        peak_users: Some(f64::NAN),
        peak_per_second: f64::NAN,
        r_squared: f64::NAN,
    };
    let point = Capacity {
        closed: vec![ClosedPoint { users: 1, per_second: f64::NAN, p50: 0.0, p99: f64::NAN }],
        open: vec![OpenPoint {
            offered: 0.0,
            achieved: 0.0,
            p50: 0.0,
            p99: 0.0,
            failed: 0,
            kept: false,
            generator_limited: false,
        }],
        law: Some(no_law),
        knee: Some(f64::NAN),
        objective: String::new(),
        conclusion: String::new(),
    };
    let lone = Comparison {
        contenders: vec![Contender { name: "hotseat".to_owned(), idea: String::new() }],
        loads: vec![
            load("spread", &[Some((f64::NAN, f64::NAN, [0; 4]))]),
            load("none", &[None]),
            load("", &[]),
        ],
        bars: Vec::new(),
        ..comparison()
    };
    let nothing_tried = Capacity { closed: vec![], open: vec![], law: None, knee: None, ..point.clone() };
    let nothing_compared = Comparison { contenders: vec![], loads: vec![], ..lone.clone() };
    vec![
        Report { scenarios: vec![scenario(Vec::new())], ..nothing() },
        Report { scenarios: vec![scenario(vec![empty]), scenario(vec![silent])], ..nothing() },
        Report { scenarios: vec![scenario(vec![single])], seconds: f64::NAN, ..nothing() },
        Report { capacity: Some(point), comparison: Some(lone), ..nothing() },
        Report { capacity: Some(nothing_tried), comparison: Some(nothing_compared), ..nothing() },
    ]
}

fn facts(facts: &[(&str, &str)]) -> BTreeMap<String, String> {
    facts.iter().map(|(what, value)| ((*what).to_owned(), (*value).to_owned())).collect()
}

fn target() -> Target {
    let ledger = ("ledger", "PostgreSQL 15.18, fsync=on, synchronous_commit=on");
    Target {
        name: "hotseat".to_owned(),
        url: "http://127.0.0.1:8080".to_owned(),
        facts: facts(&[ledger, ("version", "0.1.0")]),
    }
}

fn rush() -> Scenario {
    let settings = [("connections", "64"), ("schedule", "poisson:10000"), ("seed", "1")];
    Scenario {
        name: "rush".to_owned(),
        target: target(),
        settings: settings.map(|(what, value)| (what.to_owned(), value.to_owned())).to_vec(),
        runs: vec![rush_run(1.0), rush_run(1.2)],
    }
}

/// With a stall of 100 ms, which service times do not show.
fn rush_run(slower: f64) -> Run {
    let stalled = |median, samples| times(median * slower, 0.22, samples, Some(100.0));
    let operations = vec![
        operation("look", [1_600, 0, 0], &stalled(0.9, 1_600), &times(0.8 * slower, 0.2, 1_600, None)),
        operation(
            "select",
            [98_796, 1_204, 3],
            &stalled(0.41, 20_000),
            &times(0.35 * slower, 0.16, 20_000, None),
        ),
        operation("hold", [50_000, 0, 0], &stalled(1.9, 10_000), &times(1.7 * slower, 0.2, 10_000, None)),
        operation("confirm", [50_000, 0, 0], &stalled(1.6, 10_000), &times(1.5 * slower, 0.2, 10_000, None)),
    ];
    let timeline = (0..44).map(|step| rush_moment(f64::from(step) / 2.0, slower)).collect();
    let sale = Sale {
        seats: 100_000,
        reservations: 50_000,
        users: 41_000,
        abandoned: 1_240,
        seconds: 14.2,
        sold_out: true,
    };
    let refusals = BTreeMap::from([("SEAT_TAKEN".to_owned(), 1_200), ("SEAT_HELD".to_owned(), 4)]);
    let failures = BTreeMap::from([("no answer".to_owned(), 3)]);
    Run {
        answered: 199_800,
        answered_per_second: 9_990.0 / slower,
        failed: 3,
        sale: Some(sale),
        refusals,
        failures,
        audit: Audit { refusals: 1_204, ..audit() },
        ..run(20.0, operations, timeline)
    }
}

fn rush_moment(at: f64, slower: f64) -> Moment {
    let wave = (at * 2.7).sin() * 0.04 + (at * 7.1).cos() * 0.03;
    let (rate, p99, max) = match at {
        ..1.0 => (0.7, 6.0, 22.0),
        12.0..12.5 => (0.8, 96.0, 102.0),
        12.5..13.0 => (1.2, 18.0, 40.0),
        _ => (1.0, 2.1, 7.0),
    };
    let failed = if (12.0..12.5).contains(&at) { 3 } else { 0 };
    Moment {
        offered: Some(10_000.0 * (1.0 + wave / 3.0)),
        answered: 10_000.0 * rate * (1.0 + wave / 2.0) / slower,
        failed,
        p50: 0.41 * (1.0 + wave) * slower,
        p99: p99 * (1.0 + wave * 3.0),
        max: max * (1.0 + wave * 5.0),
        warm_up: at < 2.0,
        ..moment(at, 0.5)
    }
}

fn fanout() -> Scenario {
    let last = times(38.0, 0.2, 20_000, None);
    let clicks = times(0.5, 0.2, 20_000, None);
    let fanout = Fanout {
        viewers: 5_000,
        changes: 20_000,
        frames: 9_400_000,
        bytes: 412_000_000,
        gaps: 0,
        snapshots: 2,
        click_to_last_viewer: distribution(&last),
        click_to_first_viewer: distribution(&times(6.1, 0.24, 20_000, None)),
        histogram: last,
    };
    let operations = vec![operation("select", [20_000, 0, 0], &clicks, &clicks)];
    let run = Run {
        offered: None,
        offered_per_second: None,
        fanout: Some(fanout),
        ..run(20.0, operations, vec![])
    };
    let settings = [("viewers", "5000"), ("changes", "1000/s"), ("seed", "1")];
    Scenario {
        name: "fanout".to_owned(),
        settings: settings.map(|(what, value)| (what.to_owned(), value.to_owned())).to_vec(),
        runs: vec![run],
        ..rush()
    }
}

fn run(seconds: f64, operations: Vec<Operation>, timeline: Vec<Moment>) -> Run {
    let summary = |p50, p90, p99, max| Distribution {
        p50,
        p90,
        p99,
        p999: max / 2.0,
        max,
        ..distribution(&histogram())
    };
    Run {
        seconds,
        warm_up_seconds: 2.0,
        offered: Some(200_000),
        offered_per_second: Some(10_000.0),
        answered: 0,
        answered_per_second: 0.0,
        dropped: 0,
        failed: 0,
        generator: Generator {
            schedule_error: Some(summary(0.06, 0.08, 0.092, 0.41)),
            lateness: summary(0.07, 0.11, 2.1, 100.0),
            late_sends: 1_000,
        },
        operations,
        refusals: BTreeMap::new(),
        failures: BTreeMap::new(),
        timeline,
        fanout: None,
        queue: None,
        sale: None,
        audit: audit(),
    }
}

fn audit() -> Audit {
    let check = |what: &str, passed, details: &[&str]| Check {
        what: what.to_owned(),
        passed,
        details: details.iter().map(|detail| (*detail).to_owned()).collect(),
    };
    let checks = vec![
        check("no seat was sold twice", true, &["100,000 seats in 50,000 reservations"]),
        check("every acknowledged hold exists", true, &[]),
        check("the feed has no gaps", false, &["viewer 7 had 41, was sent 43"]),
    ];
    Audit { checks, ..Audit::default() }
}

fn moment(at_seconds: f64, seconds: f64) -> Moment {
    Moment {
        at_seconds,
        seconds,
        offered: None,
        answered: 0.0,
        failed: 0,
        p50: 0.0,
        p99: 0.0,
        max: 0.0,
        warm_up: false,
    }
}

fn operation(
    name: &str,
    [granted, refused, failed]: [u64; 3],
    latency: &Histogram<u64>,
    service: &Histogram<u64>,
) -> Operation {
    Operation {
        name: name.to_owned(),
        granted,
        refused,
        failed,
        latency: distribution(latency),
        service: distribution(service),
        histogram: latency.clone(),
    }
}

/// Milliseconds: the tail grows by a power, and 1 of 200 waits for a stall.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an example")]
fn times(median: f64, tail: f64, samples: u32, stall: Option<f64>) -> Histogram<u64> {
    let mut nanos = histogram();
    for sample in 0..samples {
        let part = (f64::from(sample) + 0.5) / f64::from(samples);
        let usual = median * (0.5 / (1.0 - part)).powf(tail);
        let stalled = stall.map_or(0.0, |stall| stall * ((part - 0.995) / 0.005).max(0.0));
        nanos.record((usual.max(stalled) * 1e6) as u64).expect("in range");
    }
    nanos
}

fn capacity() -> Capacity {
    let closed = [
        (1, 1_010.0),
        (2, 1_960.0),
        (4, 3_640.0),
        (8, 6_230.0),
        (16, 9_150.0),
        (32, 10_900.0),
        (48, 10_700.0),
        (64, 10_100.0),
    ];
    let open = [
        (4_000.0, 4_000.0, 2.1, true),
        (8_000.0, 7_990.0, 4.4, true),
        (16_000.0, 11_900.0, 2_400.0, false),
        (12_000.0, 11_600.0, 310.0, false),
        (10_000.0, 9_980.0, 9.8, true),
        (11_000.0, 10_990.0, 38.0, true),
        (11_500.0, 11_400.0, 92.0, false),
    ];
    let point = |(offered, achieved, p99, kept)| OpenPoint {
        offered,
        achieved,
        p50: f64::powf(p99, 0.6) / 3.0,
        p99,
        failed: 0,
        kept,
        generator_limited: false,
    };
    Capacity {
        objective: "p99 ≤ 50 ms, errors 0".to_owned(),
        closed: closed
            .map(|(users, per_second)| ClosedPoint {
                users,
                per_second,
                p50: f64::from(users) / per_second * 900.0,
                p99: f64::from(users) / per_second * 3_000.0,
            })
            .to_vec(),
        open: open.map(point).to_vec(),
        law: Some(Law {
            lambda: 1_040.0,
            sigma: 0.0437,
            kappa: 0.000_703,
            peak_users: Some(36.9),
            peak_per_second: 10_965.0,
            r_squared: 0.996,
        }),
        knee: Some(11_000.0),
        conclusion: "The knee is at 11,000/s; the closed loop had predicted a peak of 10,965/s.".to_owned(),
    }
}

fn comparison() -> Comparison {
    let contenders = [
        ("none", "Reads, then writes: no lock at all."),
        ("pessimistic", "SELECT … FOR UPDATE, then UPDATE."),
        ("redis-setnx", "SET NX PX per click, then a row per hold."),
        ("redis-lock", "A distributed lock around a transaction."),
        ("hotseat", "One writer per concert, in memory; the ledger keeps holds."),
    ];
    let sold_twice = [1_204, 1_204, 0, 3];
    let bar = |what: &str, bar: &str, measured: &str, met| Bar {
        what: what.to_owned(),
        bar: bar.to_owned(),
        measured: measured.to_owned(),
        met,
    };
    Comparison {
        seats: 100_000,
        connections: 64,
        rounds: 3,
        facts: facts(&[
            ("PostgreSQL", "15.18, fsync=on, synchronous_commit=on"),
            ("Redis", "7.0.15, appendonly no"),
        ]),
        contenders: contenders
            .map(|(name, idea)| Contender { name: name.to_owned(), idea: idea.to_owned() })
            .to_vec(),
        loads: vec![
            load(
                "one hot seat",
                &[
                    Some((1_830.0, 71.0, sold_twice)),
                    Some((412.0, 310.0, [0, 0, 12, 0])),
                    Some((9_420.0, 11.2, [0; 4])),
                    None,
                    Some((9_812.0, 9.6, [0; 4])),
                ],
            ),
            load(
                "spread",
                &[
                    Some((1_910.0, 64.0, [0; 4])),
                    Some((940.0, 122.0, [0; 4])),
                    Some((9_510.0, 10.4, [0; 4])),
                    Some((702.0, 180.0, [0; 4])),
                    Some((9_750.0, 9.9, [0; 4])),
                ],
            ),
            load(
                "parties of 4",
                &[
                    Some((602.0, 164.0, [14, 3, 0, 0])),
                    Some((333.0, 322.0, [0; 4])),
                    Some((4_310.0, 31.0, [0; 4])),
                    Some((310.0, 402.0, [0; 4])),
                    Some((9_004.0, 10.8, [0; 4])),
                ],
            ),
        ],
        bars: vec![
            bar("clicks against pessimistic on one hot seat", "≥ 8×", "23.8×", true),
            bar("clicks against pessimistic, spread", "≥ 10×", "10.4×", true),
            bar("single seats against redis-setnx", "≥ 1.1×", "1.02×", false),
            bar("parties of 4 against redis-setnx", "≥ 2×", "2.09×", true),
            bar("CPU per seat against the best that never double-sells", "≤ 0.5×", "0.41×", true),
        ],
    }
}

/// Clicks per second, p99, and what went wrong: double grants, double sales, false refusals, failures.
fn load(name: &str, results: &[Option<(f64, f64, [u64; 4])>]) -> Load {
    let result = |(clicks_per_second, p99, [double_grants, double_sales, false_refusals, failed]): (
        f64,
        f64,
        [u64; 4],
    )| LoadResult {
        clicks_per_second,
        p50: p99 / 3.0,
        p99,
        p999: p99 * 1.8,
        holds_per_second: (name == "spread").then_some(clicks_per_second / 5.0),
        cpu_seconds_per_seat: (name == "spread").then_some(1.2 / clicks_per_second),
        refused: 120,
        failed,
        double_grants,
        double_sales,
        false_refusals,
    };
    Load {
        name: name.to_owned(),
        what: "64 users click and release, one seat per request".to_owned(),
        results: results.iter().map(|found| found.map(result)).collect(),
    }
}
