//! A gate in a few lines, and the ways in which one can be wrong: what the findings must find.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use futures_util::stream::unfold;
use serde_json::{Value, json};

use crate::lock::lock;

/// Admits so many times a second.
const STEPS: u32 = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// The last to come is the first to be let in.
    Backwards,
    /// Four times as fast as it was set.
    Fast,
    /// Whoever asks often is forgotten.
    Forgets,
    /// Every answer has another pass.
    Passes,
    /// Everybody is further back than they are.
    Ranks,
    /// More ahead with every answer.
    Rises,
    /// Turns go down.
    Turns,
    /// The ceiling is not looked at.
    Crowded,
    /// No fault: everybody is told to come again in a second, once.
    Limits,
}

pub struct Fake {
    fault: Fault,
    gate: Mutex<Gate>,
}

#[derive(Default)]
struct Gate {
    per_second: u32,
    max_active: usize,
    turns: BTreeMap<u64, u64>,
    line: VecDeque<u64>,
    inside: BTreeMap<u64, u64>,
    admitted: u64,
    answers: u64,
    limited: BTreeSet<u64>,
    is_open: bool,
}

type Shared = State<Arc<Fake>>;

/// Its URL.
pub async fn start(fault: Fault) -> String {
    let fake = Arc::new(Fake { fault, gate: Mutex::default() });
    let router = Router::new()
        .route("/api/v1/openapi.json", get(async || Json(json!({"info": {"title": "fake", "version": "1"}}))))
        .route("/api/v1/concerts", get(async || Json(json!({"items": [{"concertId": 7}]}))))
        .route(
            "/api/v1/concerts/7/options",
            get(async || Json(json!({"items": [{"optionId": 1, "seatCount": 10}]}))),
        )
        .route("/api/v1/reservations", get(async || Json(json!({"items": []}))))
        .route(
            "/api/v1/dev/token",
            post(async |Json(asked): Json<Value>| Json(json!({"token": asked["userId"].to_string()}))),
        )
        .route("/admin/v1/gates/7", get(info).put(set))
        .route("/api/v1/waiting-queue/join", post(join))
        .route("/api/v1/waiting-queue/status", get(status))
        .route("/api/v1/waiting-queue/subscribe", get(subscribe))
        .route("/api/v1/waiting-queue/leave", delete(leave))
        .with_state(fake.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(Duration::from_secs(1) / STEPS);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            fake.admit();
        }
    });
    url
}

impl Fake {
    fn admit(&self) {
        let mut gate = lock(&self.gate);
        let speed = if self.fault == Fault::Fast { 4 } else { 1 };
        // A little less than allowed, as its clock is a timer.
        for _ in 0..gate.per_second * speed * 9 / 10 / STEPS {
            if gate.inside.len() >= gate.max_active && self.fault != Fault::Crowded {
                break;
            }
            let next =
                if self.fault == Fault::Backwards { gate.line.pop_back() } else { gate.line.pop_front() };
            let Some(user) = next else { break };
            gate.admitted += 1;
            let pass = gate.admitted;
            gate.inside.insert(user, pass);
        }
    }

    fn standing(&self, user: u64) -> Value {
        let mut gate = lock(&self.gate);
        gate.answers += 1;
        if let Some(pass) = gate.inside.get(&user) {
            let pass = if self.fault == Fault::Passes { gate.answers } else { *pass };
            return json!({"status": "ACTIVE", "pass": pass.to_string(), "passExpiresAt": "2999-01-01T00:00:00Z"});
        }
        let Some(ahead) = gate.line.iter().position(|other| *other == user) else {
            return json!({"status": "NONE"});
        };
        let ahead = match self.fault {
            Fault::Ranks => ahead + 5_000,
            Fault::Rises => ahead + usize::try_from(gate.answers).unwrap() * 10,
            _ => ahead,
        };
        let seconds = ahead as f64 / f64::from(gate.per_second);
        json!({"status": "WAITING", "turn": gate.turns[&user], "rank": ahead + 1, "ahead": ahead,
            "etaSeconds": [seconds * 0.5, seconds * 2.0 + 1.0]})
    }
}

fn user(headers: &HeaderMap) -> u64 {
    headers["authorization"].to_str().unwrap().trim_start_matches("Bearer ").parse().unwrap()
}

fn again(said: Value) -> Response {
    ([(HeaderName::from_static("retry-after"), "1")], Json(said)).into_response()
}

async fn set(State(fake): Shared, Json(asked): Json<Value>) -> Json<Value> {
    let mut gate = lock(&fake.gate);
    gate.is_open = asked["state"] == "open";
    if asked["state"] == "closed" {
        gate.line.clear();
    }
    gate.per_second = asked["perSecond"].as_u64().unwrap_or(1_000_000).try_into().unwrap();
    gate.max_active = asked["maxActive"].as_u64().unwrap_or(1_000_000).try_into().unwrap();
    Json(json!({"changed": true}))
}

async fn info(State(fake): Shared) -> Json<Value> {
    let gate = lock(&fake.gate);
    let state = if gate.is_open { "open" } else { "off" };
    Json(
        json!({"state": state, "waiting": gate.line.len(), "active": gate.inside.len(), "admitted": gate.admitted}),
    )
}

async fn join(State(fake): Shared, headers: HeaderMap) -> Response {
    let user = user(&headers);
    {
        let mut gate = lock(&fake.gate);
        if fake.fault == Fault::Limits && gate.limited.insert(user) {
            let again = [(HeaderName::from_static("retry-after"), "1")];
            return (StatusCode::TOO_MANY_REQUESTS, again, Json(json!({"code": "RATE_LIMITED"})))
                .into_response();
        }
        let turn = gate.turns.len() as u64;
        gate.turns.entry(user).or_insert(if fake.fault == Fault::Turns { 1_000_000 - turn } else { turn });
        gate.line.push_back(user);
    }
    again(fake.standing(user))
}

async fn status(State(fake): Shared, headers: HeaderMap) -> Response {
    let user = user(&headers);
    if fake.fault == Fault::Forgets {
        lock(&fake.gate).line.retain(|other| *other != user);
    }
    again(fake.standing(user))
}

async fn leave(State(fake): Shared, headers: HeaderMap) -> Json<Value> {
    let user = user(&headers);
    let mut gate = lock(&fake.gate);
    gate.line.retain(|other| *other != user);
    gate.inside.remove(&user);
    Json(json!({"status": "NONE"}))
}

async fn subscribe(State(fake): Shared, headers: HeaderMap) -> Response {
    let user = user(&headers);
    let events = unfold((fake, true), move |(fake, is_first)| async move {
        if !is_first {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let said = fake.standing(user);
        let name = match said["status"].as_str() {
            Some("WAITING") if !is_first => "RANK_UPDATE",
            Some("ACTIVE") if !is_first => "ACTIVE",
            _ => "INIT",
        };
        let event = Event::default().event(name).data(said.to_string());
        Some((Ok::<_, Infallible>(event), (fake, false)))
    });
    Sse::new(events).into_response()
}
