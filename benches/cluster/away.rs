//! PostgreSQL hangs for ten seconds while everybody clicks and some hold.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::common::socket::token;
use super::http::{Http, With};
use super::load::{Load, percentile};
use super::nodes::{Cluster, NODES, OPTION};
use super::table::Row;

const USERS: u32 = 200;
const RATE: f64 = 1_000.0;
const BUYERS: u32 = 20;
const ROUNDS: usize = 3;

/// How long the ledger is away, and what comes before and after.
const AWAY: Duration = Duration::from_secs(10);
const CALM: Duration = Duration::from_secs(5);

/// A buyer's next seat.
const PACE: Duration = Duration::from_millis(500);

/// How long after a hold that was not answered its key is asked again.
const AGAIN: Duration = Duration::from_millis(200);

/// The seats of buyers, beyond those of the users who click.
const FIRST_SEAT: u32 = 20_000;

/// What a buyer holds, and how many clicks were refused.
#[derive(Default)]
struct Bought {
    token: String,
    reservations: Vec<String>,
    refused: u64,
    asked_again: u64,
}

pub async fn measure() -> Vec<Row> {
    let cluster = Cluster::start("1s").await;
    let (mut refused, mut lost) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        cluster.until_even().await;
        let round = u32::try_from(round).expect("few");
        let load = Load::start(&cluster, round * USERS..(round + 1) * USERS, RATE).await;
        let stop = Arc::new(AtomicBool::new(false));
        let mut buyers = JoinSet::new();
        for buyer in 0..BUYERS {
            let no = round * BUYERS + buyer;
            let api = cluster.nodes[no as usize % NODES].api.clone();
            buyers.spawn(buy(api, no, stop.clone()));
        }
        tokio::time::sleep(CALM).await;
        cluster.postgres.pause();
        tokio::time::sleep(AWAY).await;
        cluster.postgres.resume();
        tokio::time::sleep(CALM).await;
        stop.store(true, Ordering::Relaxed);
        let bought = buyers.join_all().await;
        let seen = load.end().await;

        let held: usize = bought.iter().map(|one| one.reservations.len()).sum();
        let again: u64 = bought.iter().map(|one| one.asked_again).sum();
        let clicks = seen.lost + seen.refused + seen.doubled + seen.reordered;
        let not_granted = clicks + bought.iter().map(|one| one.refused).sum::<u64>();
        let gone = gone(&cluster, &bought).await;
        println!(
            "PostgreSQL away for {AWAY:?}: {} clicks ({:.0}/s of {RATE:.0}/s, sent late by {:.2} ms p99), {not_granted} \
             refused; {held} holds, asked {again} times again, {gone} lost",
            seen.sent(),
            seen.achieved,
            percentile(&seen.lateness(), 99),
        );
        refused.push(not_granted as f64);
        lost.push(gone as f64);
        if let Some(complaint) = &seen.complaint {
            println!("refused, for example: {complaint}");
        }
    }
    cluster.end().await;
    vec![
        Row::at_most("PostgreSQL hangs 10 s: clicks refused", 0.0, "", &refused),
        Row::at_most("  holds lost", 0.0, "", &lost),
    ]
}

/// Selects and holds a seat after the other, and asks each key until it is answered.
async fn buy(api: String, no: u32, stop: Arc<AtomicBool>) -> Bought {
    let token = token(&api, 100_000 + no).await;
    let mut node = Http::to(&api);
    let mut bought = Bought { token: token.clone(), ..Bought::default() };
    let mut due = tokio::time::interval(PACE);
    due.set_missed_tick_behavior(MissedTickBehavior::Skip);
    for turn in 0.. {
        due.tick().await;
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let body = format!("{{\"seats\":[{}]}}", FIRST_SEAT + no * 500 + turn);
        let with = With { token: &token, body: &body, ..With::default() };
        let path = format!("/api/v1/options/{OPTION}/selections");
        if !node.ask("POST", &path, with).await.is_ok_and(|answer| answer.status == 201) {
            bought.refused += 1;
            continue;
        }
        let key = uuid::Uuid::new_v4().to_string();
        let with = With { key: &key, ..with };
        let path = format!("/api/v1/options/{OPTION}/holds");
        let reservation = loop {
            match node.ask("POST", &path, with).await {
                Ok(answer) if answer.status == 201 => break answer.json()["reservationId"].clone(),
                Ok(answer) if answer.status != 503 => panic!("a hold that is refused: {}", answer.json()),
                Ok(_) | Err(_) => {
                    bought.asked_again += 1;
                    tokio::time::sleep(AGAIN).await;
                }
            }
        };
        bought.reservations.push(reservation.as_str().expect("an id").to_owned());
    }
    bought
}

/// How many of the holds that were acknowledged are not there.
async fn gone(cluster: &Cluster, bought: &[Bought]) -> usize {
    let mut node = Http::to(&cluster.nodes[0].api);
    let mut gone = 0;
    for Bought { token, reservations, .. } in bought {
        for id in reservations {
            let with = With { token, ..With::default() };
            let answer = node.ask("GET", &format!("/api/v1/reservations/{id}"), with).await;
            let is_held = answer.is_ok_and(|answer| answer.json()["status"] == "HOLD");
            gone += usize::from(!is_held);
        }
    }
    gone
}
