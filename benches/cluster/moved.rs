//! The stadium moves while everybody clicks.

use std::time::{Duration, Instant};

use super::load::{Load, percentile};
use super::nodes::{Cluster, NODES};
use super::table::Row;

const USERS: u32 = 500;
const RATE: f64 = 5_000.0;
const ROUNDS: usize = 7;

/// Before a move, for comparison.
const CALM: Duration = Duration::from_secs(5);

pub async fn measure() -> Vec<Row> {
    // Nothing moves by itself meanwhile.
    let cluster = Cluster::start("1h").await;
    let load = Load::start(&cluster, 0..USERS, RATE).await;
    let mut owner = cluster.owner().await;
    let mut moves = Vec::new();
    for _ in 0..ROUNDS {
        tokio::time::sleep(CALM).await;
        let to = (owner + 1) % NODES;
        let began = Instant::now();
        cluster.move_stadium(owner, to).await;
        moves.push((began, Instant::now()));
        owner = to;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let seen = load.end().await;
    cluster.end().await;

    let lateness = seen.lateness();
    println!(
        "{} clicks of {USERS} users, {:.0}/s of {RATE:.0}/s offered, sent late by {:.2} ms (p99)",
        seen.sent(),
        seen.achieved,
        percentile(&lateness, 99)
    );
    let before = |began: Instant| {
        let calm = seen.latencies(began - CALM + Duration::from_secs(1), began);
        percentile(&calm, 99)
    };
    // Other programs make clicks late at any time: what a move adds is counted against the calmest time.
    let calmest = moves.iter().map(|(began, _)| before(*began)).fold(f64::INFINITY, f64::min);
    let mut added = Vec::new();
    for (began, ended) in moves {
        let moving = seen.latencies(began, ended);
        let during = percentile(&moving, 99);
        println!(
            "a move of {:.0} ms: {} clicks, p50 {:.2} ms, p99 {during:.2} ms, worst {:.2} ms; before it p99 {:.2} ms",
            (ended - began).as_secs_f64() * 1e3,
            moving.len(),
            percentile(&moving, 50),
            percentile(&moving, 100),
            before(began),
        );
        added.push((during - calmest).max(0.0));
    }
    if let Some(complaint) = &seen.complaint {
        println!("refused, for example: {complaint}");
    }
    let none = |what: &str, count: u64| Row::at_most(what, 0.0, "", &[count as f64]);
    vec![
        none("moves of 100,000 seats at 5,000 clicks/s: clicks lost", seen.lost),
        none("  refused", seen.refused),
        none("  doubled", seen.doubled),
        none("  out of a user's order", seen.reordered),
        Row::at_most("  added p99 of the clicks that are due meanwhile", 50.0, "ms", &added),
    ]
}
