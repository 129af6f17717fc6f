use std::sync::OnceLock;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::{Idea, serve};
use crate::servers::{Postgres, Redis};
use crate::wire::{SeatMap, State};

const SEATS: u32 = 400;
const RACERS: usize = 16;

/// A user with a connection.
struct User {
    token: String,
    stream: BufReader<TcpStream>,
}

impl User {
    async fn new(address: &str, id: u64) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut user = Self { token: String::new(), stream: BufReader::new(stream) };
        let (status, body) = user.call("POST", "/dev/token", &json!({"userId": id, "role": "USER"})).await;
        assert_eq!(status, 200);
        user.token = body["token"].as_str().unwrap().to_owned();
        user
    }

    async fn raw(&mut self, method: &str, path: &str, body: &Value) -> (u16, Vec<u8>) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let head = format!(
            "{method} /api/v1{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            self.token,
            body.len()
        );
        self.stream.get_mut().write_all((head + &body).as_bytes()).await.unwrap();
        let (mut status, mut length) = (0, 0);
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).await.unwrap();
            let line = line.trim_end().to_ascii_lowercase();
            if let Some(rest) = line.strip_prefix("http/1.1 ") {
                status = rest[..3].parse().unwrap();
            } else if let Some(rest) = line.strip_prefix("content-length: ") {
                length = rest.parse().unwrap();
            } else if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).await.unwrap();
        (status, body)
    }

    async fn call(&mut self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let (status, bytes) = self.raw(method, path, body).await;
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    async fn select(&mut self, seats: &[u32]) -> (u16, Value) {
        self.call("POST", "/options/1/selections", &json!({ "seats": seats })).await
    }

    async fn release(&mut self, seats: &[u32]) -> (u16, Value) {
        self.call("DELETE", "/options/1/selections", &json!({ "seats": seats })).await
    }

    async fn hold(&mut self, seats: &[u32]) -> (u16, Value) {
        self.call("POST", "/options/1/holds", &json!({ "seats": seats })).await
    }

    async fn transition(&mut self, id: &str, to: &str) -> (u16, Value) {
        self.call("POST", &format!("/reservations/{id}/{to}"), &Value::Null).await
    }

    async fn count(&mut self, state: State) -> usize {
        let (status, bytes) = self.raw("GET", "/options/1/seats", &Value::Null).await;
        assert_eq!(status, 200);
        let map = SeatMap::decode(&bytes).unwrap();
        assert_eq!(map.seat_count(), SEATS as usize);
        map.count(state)
    }
}

/// A fresh server of the idea. It goes with the runtime of the test.
async fn start(idea: Idea) -> String {
    static SERVERS: OnceLock<(Postgres, Redis)> = OnceLock::new();
    let (postgres, redis) = SERVERS.get_or_init(|| (Postgres::start().unwrap(), Redis::start().unwrap()));
    let (postgres, redis) = (postgres.database().unwrap(), redis.database());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (ready, address) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let ready = |address: std::net::SocketAddr| ready.send(address.to_string()).unwrap();
        serve(idea, listener, &postgres, &redis, SEATS, ready).await.unwrap();
    });
    address.await.unwrap()
}

/// What every idea that locks promises.
fn ideas_that_lock() -> impl Iterator<Item = Idea> {
    Idea::ALL.into_iter().filter(|idea| *idea != Idea::None)
}

/// All at once on a seat; who got it.
async fn race(users: &mut Vec<User>, seats: impl Fn(u32) -> Vec<u32>) -> Vec<(u16, Value)> {
    let racers: Vec<_> = (0..)
        .zip(users.drain(..))
        .map(|(number, mut user)| {
            let seats = seats(number);
            tokio::spawn(async move {
                let answer = user.select(&seats).await;
                (user, answer)
            })
        })
        .collect();
    let mut answers = Vec::new();
    for racer in racers {
        let (user, answer) = racer.await.unwrap();
        users.push(user);
        answers.push(answer);
    }
    answers
}

async fn crowd(address: &str) -> Vec<User> {
    let mut users = Vec::new();
    for id in 1..=RACERS as u64 {
        users.push(User::new(address, id).await);
    }
    users
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_idea_sells_a_seat() {
    for idea in Idea::ALL {
        let address = start(idea).await;
        let (mut ann, mut ben) = (User::new(&address, 7).await, User::new(&address, 8).await);
        let (status, selection) = ann.select(&[3]).await;
        assert_eq!(status, 201, "{idea:?}: {selection}");
        assert_eq!(selection["seats"], json!([{"seatNo": 3, "label": "S-3"}]));
        assert!(selection["expiresAt"].is_string());
        let (status, problem) = ben.select(&[3]).await;
        assert_eq!((status, &problem["code"]), (409, &json!("SEAT_TAKEN")), "{idea:?}");
        assert_eq!(problem["conflicts"][0]["seatNo"], 3);
        assert_eq!(ann.select(&[3]).await.0, 201, "{idea:?}: renewed");
        assert_eq!(ben.release(&[3]).await.1["code"], "NOT_SELECTED", "{idea:?}");
        assert_eq!(ann.count(State::Selecting).await, 1, "{idea:?}");
        let (status, release) = ann.release(&[3]).await;
        assert_eq!((status, &release["released"][0]["seatNo"]), (200, &json!(3)), "{idea:?}");
        assert_eq!(ben.hold(&[3]).await.1["code"], "NOT_SELECTED", "{idea:?}");
        assert_eq!(ben.select(&[3]).await.0, 201, "{idea:?}");
        let (status, reservation) = ben.hold(&[3]).await;
        assert_eq!((status, &reservation["status"]), (201, &json!("HOLD")), "{idea:?}: {reservation}");
        assert_eq!(ann.select(&[3]).await.0, 409, "{idea:?}");
        assert_eq!(ben.count(State::Hold).await, 1, "{idea:?}");
        let id = reservation["reservationId"].as_str().unwrap();
        for _ in 0..2 {
            let (status, confirmed) = ben.transition(id, "confirm").await;
            assert_eq!((status, &confirmed["status"]), (200, &json!("CONFIRMED")), "{idea:?}: {confirmed}");
            assert_eq!(confirmed["seats"][0]["seatNo"], 3);
        }
        assert_eq!(ann.count(State::Confirmed).await, 1, "{idea:?}");
        assert_eq!(ann.select(&[3]).await.0, 409, "{idea:?}");
        assert_eq!(ben.transition(id, "cancel").await.0, 200, "{idea:?}");
        let (_, read) = ben.call("GET", &format!("/reservations/{id}"), &Value::Null).await;
        assert_eq!((&read["status"], &read["userId"]), (&json!("CANCELLED"), &json!(8)), "{idea:?}");
        assert_eq!(ben.transition(id, "confirm").await.1["code"], "RESERVATION_STATE", "{idea:?}");
        assert_eq!(ann.count(State::Available).await, SEATS as usize, "{idea:?}");
        assert_eq!(ann.select(&[3]).await.0, 201, "{idea:?}");
        assert_eq!(ann.hold(&[3]).await.0, 201, "{idea:?}: sold again");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_for_sale_can_be_found() {
    let address = start(Idea::Conditional).await;
    let mut user = User::new(&address, 7).await;
    let (_, concerts) = user.call("GET", "/concerts", &Value::Null).await;
    assert_eq!(concerts["items"][0]["concertId"], 1);
    let (_, options) = user.call("GET", "/concerts/1/options", &Value::Null).await;
    assert_eq!(
        (&options["items"][0]["optionId"], &options["items"][0]["seatCount"]),
        (&json!(1), &json!(SEATS))
    );
    assert_eq!(user.call("GET", "/openapi.json", &Value::Null).await.1["info"]["title"], "conditional");
    for seats in [&[][..], &[SEATS], &[1, 1], &[0, 1, 2, 3, 4, 5, 6, 7, 8]] {
        assert_eq!(user.select(seats).await.1["code"], "SEATS_INVALID");
    }
    let (status, unknown) = user.transition("0192f5a0-0000-7000-8000-000000000000", "confirm").await;
    assert_eq!((status, &unknown["code"]), (404, &json!("RESERVATION_UNKNOWN")));
    user.token = "nobody".to_owned();
    assert_eq!(user.select(&[1]).await.0, 401);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_party_is_all_or_nothing() {
    for idea in ideas_that_lock() {
        let address = start(idea).await;
        let (mut ann, mut ben) = (User::new(&address, 7).await, User::new(&address, 8).await);
        assert_eq!(ann.select(&[12]).await.0, 201);
        let (status, problem) = ben.select(&[10, 11, 12, 13]).await;
        assert_eq!((status, &problem["conflicts"]), (409, &json!([{"seatNo": 12}])), "{idea:?}");
        assert_eq!(ben.count(State::Selecting).await, 1, "{idea:?}");
        assert_eq!(ann.select(&[10, 11, 12, 13]).await.0, 201, "{idea:?}: one of them is renewed");
        assert_eq!(ann.hold(&[13, 14]).await.1["code"], "NOT_SELECTED", "{idea:?}");
        assert_eq!(ann.count(State::Hold).await, 0, "{idea:?}");
        let (status, reservation) = ann.hold(&[13, 10, 11, 12]).await;
        assert_eq!(status, 201, "{idea:?}: {reservation}");
        assert_eq!(reservation["seats"].as_array().unwrap().len(), 4);
        ann.transition(reservation["reservationId"].as_str().unwrap(), "confirm").await;
        assert_eq!(ann.count(State::Confirmed).await, 4, "{idea:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_all_who_race_for_a_seat_one_wins() {
    for idea in ideas_that_lock() {
        let mut users = crowd(&start(idea).await).await;
        for seat in 0..20 {
            let answers = race(&mut users, |_| vec![seat]).await;
            let winners = answers.iter().filter(|(status, _)| *status == 201).count();
            assert_eq!(winners, 1, "{idea:?}: {answers:?}");
            assert!(
                answers.iter().all(|(status, _)| [201, 409, 503].contains(status)),
                "{idea:?}: {answers:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parties_that_overlap_never_wait_for_each_other() {
    for idea in ideas_that_lock() {
        let mut users = crowd(&start(idea).await).await;
        for round in 0..20 {
            let seats = |number: u32| (0..4).map(|i| ((number * 3 + round) % 20 + i) % 22).collect();
            let answers = race(&mut users, seats).await;
            let won: Vec<u64> = answers
                .iter()
                .filter(|(status, _)| *status == 201)
                .flat_map(|(_, selection)| selection["seats"].as_array().unwrap())
                .map(|seat| seat["seatNo"].as_u64().unwrap())
                .collect();
            let mut once = won.clone();
            once.sort_unstable();
            once.dedup();
            assert_eq!(once.len(), won.len(), "{idea:?}: {answers:?}");
            assert!(
                answers.iter().all(|(status, _)| [201, 409, 503].contains(status)),
                "{idea:?}: {answers:?}"
            );
            for (number, user) in (0..).zip(&mut users) {
                user.release(&seats(number)).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_lock_a_seat_is_sold_twice() {
    let mut users = crowd(&start(Idea::None).await).await;
    for seat in 0..SEATS {
        let answers = race(&mut users, |_| vec![seat]).await;
        let mut sold = 0;
        let holds: Vec<_> = users
            .drain(..)
            .zip(answers)
            .map(|(mut user, (status, _))| {
                tokio::spawn(async move {
                    let held = status == 201 && user.hold(&[seat]).await.0 == 201;
                    (user, held)
                })
            })
            .collect();
        for hold in holds {
            let (user, held) = hold.await.unwrap();
            users.push(user);
            sold += u32::from(held);
        }
        if sold > 1 {
            return;
        }
    }
    panic!("no seat was sold twice: the comparison has nothing to show");
}
