//! Those who listen to events, each over a connection of its own.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::crowd::Crowd;
use super::order::Within;
use super::stream::{Event, Stream};
use super::user::State;
use super::wire::Standing;
use crate::recorder::{Op, Sample, Tape, Verdict};

const AGAIN: Duration = Duration::from_secs(1);

/// Why a stream is left.
enum Left {
    /// Inside, or not wanted.
    Done,
    /// All connections were dropped then.
    Storm(Instant),
    Broken,
}

/// Until the user is inside, or is turned away. `due` is when they wished to listen.
pub async fn watch(crowd: Arc<Crowd>, number: u32, mut due: Instant, tape: Tape) {
    loop {
        match listen(&crowd, number, due, &tape).await {
            Left::Done => break,
            Left::Storm(at) => due = at,
            Left::Broken => {
                tokio::time::sleep(AGAIN).await;
                due = Instant::now();
            }
        }
    }
}

async fn listen(crowd: &Crowd, number: u32, due: Instant, tape: &Tape) -> Left {
    let path = format!("/api/v1/waiting-queue/subscribe?concertId={}", crowd.at.concert);
    let token = crowd.user(number).token.clone();
    let mut storms = crowd.storms.subscribe();
    let sent = Instant::now();
    let record = |verdict| {
        tape.record(&Sample { op: Op::Subscribe, due, sent, answered: Instant::now(), verdict });
    };
    crowd.counts.requests.fetch_add(1, Ordering::Relaxed);
    let mut stream = match Stream::open(crowd.at.target.authority(), &path, &token).await {
        Ok(stream) => stream,
        Err(error) => {
            let told = error.to_string();
            match told.as_str() {
                "429" => crowd.counts.rate_limited.fetch_add(1, Ordering::Relaxed),
                "503" => crowd.counts.overloaded.fetch_add(1, Ordering::Relaxed),
                _ => 0,
            };
            record(Verdict::Failed("no stream"));
            return Left::Broken;
        }
    };
    let mut is_first = true;
    let left = loop {
        let event = tokio::select! {
            event = stream.next() => event,
            _ = storms.changed() => break Left::Storm(storms.borrow().unwrap_or_else(Instant::now)),
        };
        let now = Instant::now();
        let Ok(event) = event else {
            if is_first {
                record(Verdict::Failed("no event"));
            }
            break Left::Broken;
        };
        if std::mem::take(&mut is_first) {
            record(Verdict::Granted);
        }
        let Some(said) = standing(&event) else { continue };
        let at = Within { from: crowd.nanos(sent), to: crowd.nanos(now) };
        match crowd.hear(number, &said, at, true) {
            State::Waiting => {}
            State::Inside => {
                crowd.stays(number, now);
                break Left::Done;
            }
            State::Coming | State::Gone | State::Silent => break Left::Done,
        }
    };
    crowd.counts.bytes.fetch_add(stream.bytes, Ordering::Relaxed);
    left
}

/// What an event says of how it stands; a rank alone is of somebody who waits.
fn standing(event: &Event) -> Option<Standing> {
    let mut said: Standing = serde_json::from_str(&event.data).ok()?;
    match event.name.as_str() {
        "INIT" | "ACTIVE" | "REJECTED" => Some(said),
        "RANK_UPDATE" => {
            said.status = "WAITING".to_owned();
            Some(said)
        }
        _ => None,
    }
}
