//! What it costs to ask another node than the owner, where neither has anything else to do.

use std::time::{Duration, Instant};

use super::common::median;
use super::common::socket::token;
use super::http::{Http, With};
use super::nodes::{Cluster, NODES, OPTION};
use super::table::Row;

const ROUNDS: usize = 7;
const CLICKS: usize = 600;

/// Between two clicks.
const PAUSE: Duration = Duration::from_millis(1);

pub async fn measure() -> Vec<Row> {
    let cluster = Cluster::start("1h").await;
    let owner = cluster.owner().await;
    let token = token(&cluster.nodes[owner].api, 1).await;
    let mut nodes: Vec<Http> = cluster.nodes.iter().map(|node| Http::to(&node.api)).collect();
    let mut added = Vec::new();
    for _ in 0..ROUNDS {
        let mut times = vec![Vec::new(); NODES];
        for click in 0..CLICKS {
            for (seat, (node, times)) in nodes.iter_mut().zip(&mut times).enumerate() {
                tokio::time::sleep(PAUSE).await;
                let method = if click.is_multiple_of(2) { "POST" } else { "DELETE" };
                times.push(clicked(node, &token, method, seat).await);
            }
        }
        let p50: Vec<f64> = times.iter_mut().map(|times| median(times)).collect();
        let others = (0..NODES).filter(|no| *no != owner).map(|no| p50[no]);
        let others: Vec<f64> = others.collect();
        println!("p50 at the owner {:.2} ms, through the others {others:.2?} ms", p50[owner]);
        added.push(others.into_iter().fold(0.0, f64::max) - p50[owner]);
    }
    drop(nodes);
    cluster.end().await;
    vec![Row::at_most("a forwarded hop: p50 added, one click at a time", 0.3, "ms", &added)]
}

/// Milliseconds from the sending: one click at a time has no schedule to be late for.
async fn clicked(node: &mut Http, token: &str, method: &str, seat: usize) -> f64 {
    let path = format!("/api/v1/options/{OPTION}/selections");
    let body = format!("{{\"seats\":[{seat}]}}");
    let with = With { token, body: &body, ..With::default() };
    let sent = Instant::now();
    let answer = node.ask(method, &path, with).await.expect("it answers");
    let took = sent.elapsed().as_secs_f64() * 1e3;
    assert!(answer.status < 300, "{}", answer.json());
    took
}
