//! How long nobody can click on a dead or silent owner's seats.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::common::socket::token;
use super::http::{Http, With};
use super::nodes::{Cluster, NODES, OPTION};
use super::table::Row;

const KILLS: usize = 7;
const PAUSES: usize = 5;

/// How often a click is tried through each survivor.
const TRY: Duration = Duration::from_millis(10);

/// `cluster.lease_ttl`.
const TTL: f64 = 5.0;

/// Who has not reached the ledger for a ttl without a gap takes nothing early, so a node that has just come back does not.
const STEADY: Duration = Duration::from_secs(6);

/// Until a click on the stadium succeeded through *each* of the survivors, in seconds.
pub async fn measure() -> Vec<Row> {
    let mut cluster = Cluster::start("1s").await;
    let (mut kills, mut pauses): (Vec<f64>, Vec<f64>) = Default::default();
    for _ in 0..KILLS {
        cluster.until_even().await;
        tokio::time::sleep(STEADY).await;
        let owner = cluster.owner().await;
        let survivors = Survivors::of(&cluster, owner, kills.len() + pauses.len()).await;
        let killed = cluster.kill(owner);
        kills.push(survivors.until_all_click(killed).await);
        println!("killed with -9: clicks go on after {:.2} s", kills[kills.len() - 1]);
        cluster.restart(owner).await;
    }
    for _ in 0..PAUSES {
        cluster.until_even().await;
        let owner = cluster.owner().await;
        let survivors = Survivors::of(&cluster, owner, kills.len() + pauses.len()).await;
        let paused = cluster.pause(owner);
        pauses.push(survivors.until_all_click(paused).await);
        println!("stopped: clicks go on after {:.2} s", pauses[pauses.len() - 1]);
        cluster.signal(owner, Signal::SIGCONT);
    }
    cluster.until_even().await;
    cluster.end().await;
    vec![
        Row::at_most("kill -9 of an owner to the next click on its seats", 1.0, "s", &kills),
        Row::at_most("the same by silence alone (SIGSTOP), ttl 5 s", TTL + 1.0, "s", &pauses),
    ]
}

/// Those that are asked, each with a user's token and seat.
struct Survivors(Vec<(String, String, usize)>);

impl Survivors {
    async fn of(cluster: &Cluster, dead: usize, round: usize) -> Self {
        let mut survivors = Vec::new();
        for no in (0..NODES).filter(|no| *no != dead) {
            let api = cluster.nodes[no].api.clone();
            // Each time another seat for another user: soft locks outlive an owner.
            let seat = round * NODES + no;
            let token = token(&api, u32::try_from(seat).expect("few") + 1).await;
            survivors.push((api, token, seat));
        }
        Self(survivors)
    }

    /// Seconds from `since` until the last of them had its first success.
    async fn until_all_click(&self, since: Instant) -> f64 {
        let mut waits = JoinSet::new();
        for (api, token, seat) in self.0.iter().cloned() {
            waits.spawn(async move { until_clicked(api, token, seat).await - since });
        }
        let waited = waits.join_all().await;
        waited.into_iter().max().unwrap_or_default().as_secs_f64()
    }
}

/// Tries again and again, whatever became of the tries before. When the first of them succeeded.
async fn until_clicked(api: String, token: String, seat: usize) -> Instant {
    let (succeeded, mut successes) = mpsc::unbounded_channel();
    let trying = tokio::spawn(async move {
        let mut due = tokio::time::interval(TRY);
        loop {
            due.tick().await;
            let (api, token, succeeded) = (api.clone(), token.clone(), succeeded.clone());
            tokio::spawn(async move {
                let path = format!("/api/v1/options/{OPTION}/selections");
                let body = format!("{{\"seats\":[{seat}]}}");
                let with = With { token: &token, body: &body, ..With::default() };
                let answer = Http::to(&api).ask("POST", &path, with).await;
                if answer.is_ok_and(|answer| matches!(answer.status, 200 | 201)) {
                    // Only the first is waited for.
                    let _first = succeeded.send(Instant::now());
                }
            });
        }
    });
    let first = successes.recv().await.expect("it is tried for ever");
    trying.abort();
    first
}
