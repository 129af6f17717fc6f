//! Users who each select and give back a seat of their own, over sockets, in an open loop: click k is due at k / rate,
//! whatever became of those before.
//!
//! A user's clicks alternate, and each answer says what was found: a select of a seat that was given back is new, one
//! that comes twice or too early *renews*; a release of what is not selected is refused. So what is lost, done twice
//! or done out of order shows in the answers.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt as _;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::common::socket::{Socket, frame_of, masked, token};
use super::nodes::{Cluster, NODES, OPTION};

/// How long after the last click its answer is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// A click and what became of it.
#[derive(Clone, Copy)]
struct Click {
    due: Instant,
    sent: Instant,
    answered: Option<Instant>,
}

/// A user's clicks, by number, and what the answers prove.
#[derive(Default)]
struct Log {
    clicks: Vec<Click>,
    /// The number of the newest answer.
    newest: Option<usize>,
    refused: u64,
    doubled: u64,
    reordered: u64,
    /// Of what was refused, for people.
    complaint: Option<String>,
}

struct User {
    seat: u32,
    write: OwnedWriteHalf,
    log: Arc<Mutex<Log>>,
}

/// A load that runs.
pub struct Load {
    stop: Arc<AtomicBool>,
    pacer: JoinHandle<Vec<User>>,
    began: Instant,
}

/// What became of all clicks.
pub struct Seen {
    clicks: Vec<Click>,
    /// Clicks a second, as they were sent.
    pub achieved: f64,
    /// Never answered.
    pub lost: u64,
    /// Answered with something else than what they are for.
    pub refused: u64,
    pub doubled: u64,
    pub reordered: u64,
    /// One of the answers that refused.
    pub complaint: Option<String>,
}

impl Load {
    /// Users come to all nodes alike, each with a socket, and click `rate` times a second together. Another load on the
    /// same cluster needs others: the last soft locks of the first are still there.
    pub async fn start(cluster: &Cluster, users: Range<u32>, rate: f64) -> Self {
        let mut crowd = Vec::new();
        for user in users {
            let api = &cluster.nodes[user as usize % NODES].api;
            let token = token(api, 1_000 + user).await;
            let (read, write) = Socket::open(api, Some(&token), None).await.stream.into_split();
            let log = Arc::new(Mutex::new(Log::default()));
            tokio::spawn(listen(read, log.clone()));
            crowd.push(User { seat: user, write, log });
        }
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, began) = (stop.clone(), Instant::now());
        // A thread is woken more exactly than a task.
        let pacer = std::thread::spawn(move || pace(crowd, began, rate, &stopped));
        Self { stop, pacer, began }
    }

    /// Ends it, and waits for the last answers.
    pub async fn end(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        let took = self.began.elapsed();
        let users = self.pacer.join().expect("the pacer does not panic");
        let stopped = Instant::now();
        let waits = |user: &User| {
            user.log.lock().expect("no panic").clicks.iter().any(|click| click.answered.is_none())
        };
        while users.iter().any(waits) && stopped.elapsed() < PATIENCE {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let mut seen = Seen {
            clicks: Vec::new(),
            achieved: 0.0,
            lost: 0,
            refused: 0,
            doubled: 0,
            reordered: 0,
            complaint: None,
        };
        for user in users {
            let log = std::mem::take(&mut *user.log.lock().expect("no panic"));
            seen.lost += log.clicks.iter().filter(|click| click.answered.is_none()).count() as u64;
            seen.clicks.extend(log.clicks);
            seen.refused += log.refused;
            seen.doubled += log.doubled;
            seen.reordered += log.reordered;
            seen.complaint = seen.complaint.or(log.complaint);
        }
        seen.achieved = seen.clicks.len() as f64 / took.as_secs_f64();
        seen
    }
}

impl Seen {
    pub fn sent(&self) -> usize {
        self.clicks.len()
    }

    /// Latencies of the clicks that were due then, in milliseconds, ascending; an answer that never came counts as the
    /// longest wait.
    pub fn latencies(&self, from: Instant, to: Instant) -> Vec<f64> {
        let due = self.clicks.iter().filter(|click| (from..=to).contains(&click.due));
        let waited = |click: &Click| click.answered.map_or(PATIENCE, |answered| answered - click.due);
        sorted(due.map(|click| waited(click).as_secs_f64() * 1e3).collect())
    }

    /// How late clicks were sent, in milliseconds, ascending: the generator's own part of the latency.
    pub fn lateness(&self) -> Vec<f64> {
        sorted(self.clicks.iter().map(|click| (click.sent - click.due).as_secs_f64() * 1e3).collect())
    }
}

fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_unstable_by(f64::total_cmp);
    values
}

/// Of ascending values; 0 without any.
pub fn percentile(values: &[f64], percent: usize) -> f64 {
    let place = (values.len() * percent).div_ceil(100);
    values.get(place.saturating_sub(1)).copied().unwrap_or_default()
}

fn pace(users: Vec<User>, began: Instant, rate: f64, stop: &AtomicBool) -> Vec<User> {
    for click in 0_u64.. {
        let due = began + Duration::from_secs_f64(click as f64 / rate);
        if let Some(early) = due.checked_duration_since(Instant::now()) {
            std::thread::sleep(early);
        }
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let user = &users[usize::try_from(click).expect("fewer clicks") % users.len()];
        user.click(due);
    }
    users
}

impl User {
    fn click(&self, due: Instant) {
        let frame = {
            let mut log = self.log.lock().expect("no panic");
            let number = log.clicks.len();
            log.clicks.push(Click { due, sent: Instant::now(), answered: None });
            let op = if is_select(number) { "select" } else { "release" };
            let seat = self.seat;
            let text = format!("{{\"op\":\"{op}\",\"id\":{number},\"option\":{OPTION},\"seats\":[{seat}]}}");
            masked(0x81, text.as_bytes())
        };
        // A socket that takes no hundred bytes belongs to a server that has read nothing for long. Then the click is
        // lost, and counted.
        let _written = self.write.try_write(&frame);
    }
}

fn is_select(number: usize) -> bool {
    number.is_multiple_of(2)
}

/// Notes the answers of a socket until it ends.
async fn listen(mut read: OwnedReadHalf, log: Arc<Mutex<Log>>) {
    let mut buffer = Vec::new();
    while read.read_buf(&mut buffer).await.is_ok_and(|length| length > 0) {
        let (mut at, now) = (0, Instant::now());
        while let Some((head, length)) = frame_of(&buffer[at..]) {
            let text = &buffer[at + head..at + head + length];
            log.lock().expect("no panic").hear(text, now);
            at += head + length;
        }
        buffer.drain(..at);
    }
}

impl Log {
    fn hear(&mut self, text: &[u8], now: Instant) {
        let text = std::str::from_utf8(text).unwrap_or_default();
        let is_ok = text.starts_with("{\"ev\":\"ok\"");
        if !is_ok && !text.starts_with("{\"ev\":\"no\"") {
            return;
        }
        let number = text
            .split("\"id\":")
            .nth(1)
            .and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse::<usize>().ok());
        let Some(number) = number.filter(|number| *number < self.clicks.len()) else { return };
        let click = &mut self.clicks[number];
        if click.answered.is_some() {
            self.doubled += 1;
            return;
        }
        click.answered = Some(now);
        let is_late = self.newest.is_some_and(|newest| newest > number);
        self.newest = self.newest.max(Some(number));
        let finds_another_order = text.contains("\"renewed\":true")
            || text.contains("\"code\":\"NOT_SELECTED\"")
            || text.contains("\"released\":[]");
        if is_late || finds_another_order {
            self.reordered += 1;
        } else if !is_ok {
            self.refused += 1;
            self.complaint.get_or_insert_with(|| text.to_owned());
        }
    }
}
