//! A buyer: each request goes to the next node in turn, and once more to another one where the first does not answer,
//! or says that it cannot now; then after the time that its `Retry-After` asks for.

use super::common::socket::token;
use super::http::{Answer, Http, With};
use super::nodes::{Cluster, OPTION};

/// Seats that one buyer may take, one after the other.
const SEATS: u32 = 300;

pub struct Buyer {
    nodes: Vec<Http>,
    token: String,
    first_seat: u32,
    turn: u32,
    /// Where the next request goes first.
    next: usize,
    pub asked: u64,
    pub retried: u64,
    pub failed: u64,
}

impl Buyer {
    /// `no` tells buyers and their seats apart.
    pub async fn come(cluster: &Cluster, no: u32) -> Self {
        Self {
            token: token(&cluster.nodes[0].api, 10_000 + no).await,
            nodes: cluster.nodes.iter().map(|node| Http::to(&node.api)).collect(),
            first_seat: 10_000 + no * SEATS,
            turn: 0,
            next: no as usize % cluster.nodes.len(),
            asked: 0,
            retried: 0,
            failed: 0,
        }
    }

    pub fn next_seat(&mut self) {
        self.turn += 1;
    }

    fn seats(&self) -> String {
        format!("{{\"seats\":[{}]}}", self.first_seat + self.turn % SEATS)
    }

    pub async fn select(&mut self) -> bool {
        let path = format!("/api/v1/options/{OPTION}/selections");
        let body = self.seats();
        self.ask(&path, "", &body, &[200, 201]).await.is_some()
    }

    /// Its reservation.
    pub async fn hold(&mut self) -> Option<String> {
        let path = format!("/api/v1/options/{OPTION}/holds");
        let (key, body) = (self.key(), self.seats());
        let answer = self.ask(&path, &key, &body, &[201]).await?;
        answer.json()["reservationId"].as_str().map(str::to_owned)
    }

    pub async fn cancel(&mut self, reservation: &str) -> bool {
        let path = format!("/api/v1/reservations/{reservation}/cancel");
        let key = self.key();
        self.ask(&path, &key, "", &[200]).await.is_some()
    }

    fn key(&self) -> String {
        uuid::Uuid::new_v4().to_string()
    }

    async fn ask(&mut self, path: &str, key: &str, body: &str, good: &[u16]) -> Option<Answer> {
        let token = self.token.clone();
        let with = With { token: &token, key, body };
        self.asked += 1;
        self.next += 1;
        let nodes = self.nodes.len();
        let first = self.nodes[self.next % nodes].ask("POST", path, with).await;
        let answer = match first {
            Ok(answer) if answer.status < 500 => Ok(answer),
            first => {
                self.retried += 1;
                let pause = first.ok().and_then(|answer| answer.retry_after).unwrap_or_default();
                tokio::time::sleep(pause).await;
                self.nodes[(self.next + 1) % nodes].ask("POST", path, with).await
            }
        };
        match answer {
            Ok(answer) if good.contains(&answer.status) => Some(answer),
            other => {
                self.failed += 1;
                match other {
                    Ok(answer) => println!("  failed: {} {path}: {}", answer.status, answer.json()),
                    Err(error) => println!("  failed: {path}: {error}"),
                }
                None
            }
        }
    }
}
