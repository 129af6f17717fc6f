//! Every node is restarted, one after the other, while buyers go on, who ask once more elsewhere where they are not
//! answered or told to come again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::buyer::Buyer;
use super::nodes::{Cluster, NODES};
use super::table::Row;

const BUYERS: u32 = 60;
const ROUNDS: usize = 3;

/// A buyer selects, holds and cancels, one after the other, one each time.
const PACE: Duration = Duration::from_millis(120);

/// Requests of buyers: all, those that were asked twice, and those that failed twice.
#[derive(Default)]
struct Count {
    asked: u64,
    retried: u64,
    failed: u64,
}

pub async fn measure() -> Vec<Row> {
    let mut cluster = Cluster::start("1s").await;
    let mut failures = Vec::new();
    for round in 0..ROUNDS {
        cluster.until_even().await;
        let (stop, began) = (Arc::new(AtomicBool::new(false)), Instant::now());
        let mut buyers = JoinSet::new();
        for buyer in 0..BUYERS {
            let no = u32::try_from(round).expect("few") * BUYERS + buyer;
            buyers.spawn(buy(Buyer::come(&cluster, no).await, stop.clone()));
        }
        for no in 0..NODES {
            tokio::time::sleep(Duration::from_secs(1)).await;
            cluster.stop(no).await;
            cluster.restart(no).await;
            cluster.until_even().await;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        stop.store(true, Ordering::Relaxed);
        let mut all = Count::default();
        for count in buyers.join_all().await {
            all.asked += count.asked;
            all.retried += count.retried;
            all.failed += count.failed;
        }
        let took = began.elapsed().as_secs_f64();
        println!(
            "a rolling restart in {took:.1} s: {} requests, {:.0}/s; {} asked once more, {} failed",
            all.asked,
            all.asked as f64 / took,
            all.retried,
            all.failed
        );
        failures.push(all.failed as f64);
    }
    cluster.end().await;
    vec![Row::at_most("rolling restart: requests that failed after one retry", 0.0, "", &failures)]
}

async fn buy(mut buyer: Buyer, stop: Arc<AtomicBool>) -> Count {
    let mut due = tokio::time::interval(PACE);
    due.set_missed_tick_behavior(MissedTickBehavior::Skip);
    while !stop.load(Ordering::Relaxed) {
        buyer.next_seat();
        due.tick().await;
        if buyer.select().await {
            due.tick().await;
            if let Some(reservation) = buyer.hold().await {
                due.tick().await;
                buyer.cancel(&reservation).await;
            }
        }
    }
    Count { asked: buyer.asked, retried: buyer.retried, failed: buyer.failed }
}
