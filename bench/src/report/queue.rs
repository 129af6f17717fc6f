//! What a crowd at a gate saw, in lines that the text and the page share.

use super::model::{Queue, RankError};
use super::numbers::{NONE, bytes, count, counted, fixed, rate};

/// What was measured, its value, and how to read it.
pub type Line = [String; 3];

pub fn lines(queue: &Queue) -> Vec<Line> {
    [speed(queue), promises(queue), cost(queue)].concat()
}

fn line(what: &str, value: String, how: String) -> Line {
    [what.to_owned(), value, how]
}

fn or_none(value: Option<String>) -> String {
    value.unwrap_or_else(|| NONE.to_owned())
}

/// Who came in, and how fast.
fn speed(queue: &Queue) -> Vec<Line> {
    let bound = |bound: Option<u32>| {
        bound.map_or("no bound".to_owned(), |bound| format!("at most {}", count(bound.into())))
    };
    let per_second = queue.admitted_per_second.map(|admitted| format!("{}/s", rate(admitted)));
    let slowest =
        queue.slowest_second.map_or(String::new(), |slowest| format!(", {} in the slowest", rate(slowest)));
    vec![
        line(
            "joined",
            count(queue.joined),
            format!(
                "of {} who came; {}/s of them while the spike lasted",
                count(queue.arrived),
                rate(queue.joins_per_second)
            ),
        ),
        line(
            "came again",
            count(queue.rate_limited + queue.overloaded),
            format!(
                "requests: {} answered with 429, {} with 503; the latency of a join is from the arrival to the yes",
                count(queue.rate_limited),
                count(queue.overloaded)
            ),
        ),
        line("admitted", count(queue.admitted), gone(queue)),
        line(
            "admissions",
            or_none(per_second),
            format!(
                "{}; by the gate's counter, over {} while enough waited and there was room{slowest}",
                bound(queue.per_second),
                counted(queue.full_seconds, "second")
            ),
        ),
        line(
            "not read",
            counted(queue.unread_seconds, "second"),
            format!(
                "of these: each has its part of what the next reading found; left out, as nobody knows: {}",
                count(queue.left_out_seconds)
            ),
        ),
        line(
            "in one second",
            count(queue.most_counted.max(queue.most_told)),
            format!(
                "{}; for certain, at most: {} by the gate's counter, {} by what users were told",
                bound(queue.per_second),
                count(queue.most_counted),
                count(queue.most_told)
            ),
        ),
        line("inside at once", count(queue.most_inside), format!("{}; for certain", bound(queue.max_active))),
    ]
}

/// What was promised to those who waited.
fn promises(queue: &Queue) -> Vec<Line> {
    let tau = |tau: Option<f64>| or_none(tau.map(|tau| fixed(tau, 4)));
    vec![
        line(
            "order, τ",
            tau(queue.tau),
            format!("of those who listened, who know it at once: {}", tau(queue.tau_watchers)),
        ),
        line(
            "overtaken",
            count(queue.overtaken),
            format!(
                "of {} that can be told apart: who asks is known to one poll",
                counted(queue.told_apart, "pair")
            ),
        ),
        line(
            "rank error",
            wrong(queue.status_ranks),
            "answers to a status, against the log of joins".to_owned(),
        ),
        line("", wrong(queue.event_ranks), "events, against the log when they came".to_owned()),
        line("ranks that rose", count(queue.ranks_rose), String::new()),
        line(
            "estimates kept",
            or_none((queue.estimates > 0).then(|| percent(queue.estimates_kept, queue.estimates))),
            format!("{}, the first to each who was let in", counted(queue.estimates, "estimate")),
        ),
    ]
}

fn cost(queue: &Queue) -> Vec<Line> {
    vec![
        line(
            "per waiter",
            bytes(whole(queue.bytes_per_waiter)),
            format!("on the wire, {} requests", fixed(queue.requests_per_waiter, 1)),
        ),
        line(
            "second passes",
            count(queue.double_passes),
            format!(
                "{} lost; living passes lost: {}",
                counted(queue.lost_places, "place"),
                count(queue.lost_passes)
            ),
        ),
        line(
            "listened",
            count(queue.watchers),
            format!("{}: all dropped, and back at once", counted(queue.storms, "storm")),
        ),
    ]
}

fn gone(queue: &Queue) -> String {
    format!("{} said goodbye before, {} fell silent", count(queue.left), count(queue.silent))
}

fn wrong(ranks: RankError) -> String {
    if ranks.wrong == 0 {
        return format!("none of {}", count(ranks.samples));
    }
    format!("{} of {}, by {}", count(ranks.wrong), count(ranks.samples), count(ranks.worst))
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
fn percent(part: u64, of: u64) -> String {
    format!("{} %", fixed(part as f64 * 100.0 / of as f64, 1))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast saturates")]
fn whole(number: f64) -> u64 {
    number.round() as u64
}
