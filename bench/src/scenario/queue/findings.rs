//! What the crowd saw, for the report, and what it proves.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::crowd::Crowd;
use super::gate::Bounds;
use super::order::{Overtaken, Passage, Within, overtaken, tau};
use super::promises::{Estimate, Stay, Told, covered, rank_error};
use super::user::{Faults, State, User};
use super::windows::{Reading, Second, full, most_at_once, most_counted, most_within, seconds};
use crate::audit::check;
use crate::history::Nanos;
use crate::lock::lock;
use crate::recorder::nanos;
use crate::report::model::{Check, GateSecond, Queue, RankError};
use crate::report::numbers::counted;

/// A second of the gate's clock, whose ticks are coarser than ours.
const SECOND: Nanos = 998_000_000;

pub struct Findings {
    pub queue: Queue,
    pub checks: Vec<Check>,
}

/// Everything at rest.
struct Seen<'a> {
    users: &'a [User],
    readings: &'a [Reading],
    bounds: Bounds,
}

impl Findings {
    /// `spike` is how long they arrived.
    pub fn of(crowd: &Crowd, bounds: Bounds, spike: Duration) -> Self {
        let users: Vec<User> = crowd.users.iter().map(|user| lock(user).clone()).collect();
        let readings = std::mem::take(&mut *lock(&crowd.readings));
        let seen = Seen { users: &users, readings: &readings, bounds };
        let [status, events] = crowd.ranks.each_ref().map(|told| seen.rank_error(&lock(told)));
        let (zero, end) = (crowd.zero(), crowd.nanos(Instant::now()));
        let mut queue = seen.queue(zero, end);
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let counts = &crowd.counts;
        (queue.rate_limited, queue.overloaded) = (of(&counts.rate_limited), of(&counts.overloaded));
        (queue.joined, queue.storms) = (of(&counts.joined), of(&counts.storms));
        let per_waiter = |count| share(count, queue.joined);
        queue.bytes_per_waiter = per_waiter(of(&counts.bytes));
        queue.requests_per_waiter = per_waiter(of(&counts.requests));
        // One that was broken off was shorter.
        let spike = spike.min(Duration::from_nanos(end.saturating_sub(zero)));
        let by = zero + nanos(spike);
        let in_time = users.iter().filter(|user| user.joined.to <= by).count() as u64;
        queue.joins_per_second = ratio(in_time, spike.as_secs_f64());
        (queue.status_ranks, queue.event_ranks) = (status, events);
        let checks = seen.checks(&queue);
        Self { queue, checks }
    }
}

fn share(count: u64, of: u64) -> f64 {
    ratio(count, ratio(of.max(1), 1.0))
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
fn ratio(count: u64, of: f64) -> f64 {
    if of > 0.0 { count as f64 / of } else { 0.0 }
}

impl Seen<'_> {
    fn queue(&self, zero: Nanos, end: Nanos) -> Queue {
        let count = |which: fn(&User) -> bool| self.users.iter().filter(|user| which(user)).count() as u64;
        let faults = |which: fn(&Faults) -> u32| {
            self.users.iter().map(|user| u64::from(which(&user.faults))).sum::<u64>()
        };
        let admissions: Vec<Within> = self.users.iter().filter_map(User::admission).collect();
        let known: Vec<Nanos> = admissions.iter().map(|admission| admission.to).collect();
        let seconds = seconds(zero, end, self.readings, &known);
        // Whoever fell silent is counted as waiting for a while, and not let in.
        let silent = count(|user| user.state == State::Silent);
        let enough = silent + u64::from(self.bounds.per_second.unwrap_or(1));
        let full = full(&seconds, enough, self.bounds.max_active.map_or(u64::MAX, u64::from));
        let rates = &full.rates;
        let overtaken = self.overtaken();
        let estimates = self.estimates();
        Queue {
            per_second: self.bounds.per_second,
            max_active: self.bounds.max_active,
            arrived: count(|user| user.joined.from != Nanos::MAX),
            joined: 0,
            joins_per_second: 0.0,
            rate_limited: 0,
            overloaded: 0,
            admitted: admissions.len() as u64,
            left: count(|user| user.left.to != Nanos::MAX && user.admitted == Nanos::MAX),
            silent,
            watchers: count(|user| user.watches),
            storms: 0,
            admitted_per_second: (!rates.is_empty())
                .then(|| rates.iter().sum::<f64>() / ratio(rates.len() as u64, 1.0)),
            slowest_second: rates.iter().copied().reduce(f64::min),
            full_seconds: rates.len() as u64,
            unread_seconds: full.unread,
            left_out_seconds: full.left_out,
            most_counted: most_counted(self.readings, SECOND),
            most_told: most_within(&admissions, SECOND).0,
            most_inside: most_at_once(&self.inside()),
            tau: self.tau(|_| true),
            tau_watchers: self.tau(|user| user.watches),
            overtaken: overtaken.pairs,
            told_apart: overtaken.told_apart,
            status_ranks: RankError::default(),
            event_ranks: RankError::default(),
            ranks_rose: faults(|faults| faults.rose),
            estimates: estimates.len() as u64,
            estimates_kept: covered(&estimates),
            bytes_per_waiter: 0.0,
            requests_per_waiter: 0.0,
            double_passes: faults(|faults| faults.doubled),
            lost_places: faults(|faults| faults.lost_place),
            lost_passes: faults(|faults| faults.lost_pass),
            seconds: seconds.into_iter().map(second).collect(),
        }
    }

    /// For certain: from the answer that said so to the goodbye.
    fn inside(&self) -> Vec<Within> {
        let left =
            self.users.iter().filter(|user| user.admitted != Nanos::MAX && user.left.from != Nanos::MAX);
        left.map(|user| Within { from: user.admitted, to: user.left.from }).collect()
    }

    /// By turn where the server told it, else by when the join was answered.
    fn tau(&self, which: impl Fn(&User) -> bool) -> Option<f64> {
        let admitted = self.users.iter().filter(|user| user.admitted != Nanos::MAX && which(user));
        let waited = admitted.filter(|user| user.waited > 0);
        tau(waited.map(|user| (user.turn.unwrap_or(user.joined.to), user.admitted)).collect())
    }

    /// Whoever was away may have been passed.
    fn overtaken(&self) -> Overtaken {
        let there = self.numbered().filter(|(_, user)| !user.was_away);
        let passages = there.filter_map(|(number, user)| {
            Some(Passage { user: number, joined: user.joined, then: user.admission()? })
        });
        overtaken(&passages.collect::<Vec<_>>())
    }

    fn turns(&self) -> Vec<Passage> {
        let turns = self.numbered().filter_map(|(number, user)| {
            let turn = user.turn?;
            Some(Passage { user: number, joined: user.joined, then: Within { from: turn, to: turn } })
        });
        turns.collect()
    }

    fn numbered(&self) -> impl Iterator<Item = (u32, &User)> {
        (0u32..).zip(self.users).filter(|(_, user)| user.has_joined())
    }

    fn estimates(&self) -> Vec<Estimate> {
        let told = self.users.iter().filter_map(|user| {
            let (told, low, high) = user.estimate?;
            let admitted = user.admission()?;
            // Whoever listens knows it at once.
            let admitted =
                if user.watches { Within { from: admitted.to, to: admitted.to } } else { admitted };
            Some(Estimate { told, low: low.into(), high: high.into(), admitted })
        });
        told.collect()
    }

    fn rank_error(&self, told: &[Told]) -> RankError {
        let stays: Vec<Stay> =
            self.users.iter().map(|user| Stay { joined: user.joined, gone: user.gone() }).collect();
        let errors: Vec<u64> = told.iter().map(|told| rank_error(told, &stays)).collect();
        RankError {
            samples: errors.len() as u64,
            wrong: errors.iter().filter(|error| **error > 0).count() as u64,
            worst: errors.into_iter().max().unwrap_or(0),
        }
    }

    fn checks(&self, queue: &Queue) -> Vec<Check> {
        let turns = self.turns();
        let mut sorted: Vec<u64> = turns.iter().map(|passage| passage.then.from).collect();
        sorted.sort_unstable();
        let twice = sorted.windows(2).filter(|pair| pair[0] == pair[1]).count() as u64;
        let times = |count: u64, what: &str| (count, format!("{count} {what}"));
        let ranks = queue.status_ranks;
        let mut checks = vec![
            of_pairs("turns are in the order of joining", overtaken(&turns)),
            judge("no two users have one turn", times(twice, "turns were given twice")),
            of_pairs("nobody was let in before somebody who had come first", self.overtaken()),
            judge("no rank rose", times(queue.ranks_rose, "ranks rose")),
            judge(
                "ranks in answers are those of the log",
                (ranks.wrong, format!("{} of {}, by {} at worst", ranks.wrong, ranks.samples, ranks.worst)),
            ),
            judge("nobody lost a place", times(queue.lost_places, "places were lost")),
            judge("nobody had two passes", times(queue.double_passes, "second passes were given")),
            judge("nobody lost a pass that was alive", times(queue.lost_passes, "passes were lost")),
        ];
        if let Some(bound) = self.bounds.per_second {
            let most = queue.most_counted.max(queue.most_told);
            let over = most.saturating_sub(bound.into());
            checks.push(judge(
                &format!("never more than {bound} were let in within a second"),
                times(over, &format!("more: {most}")),
            ));
        }
        if let Some(bound) = self.bounds.max_active {
            let over = queue.most_inside.saturating_sub(bound.into());
            checks.push(judge(
                &format!("never more than {bound} were inside at once"),
                times(over, &format!("more: {}", queue.most_inside)),
            ));
        }
        checks
    }
}

/// What is known of those who ask is known to one poll: it is said of how many pairs anything is proved.
fn of_pairs(what: &str, found: Overtaken) -> Check {
    let Overtaken { pairs, told_apart, example } = found;
    let example = example.map_or(String::new(), |(one, other)| {
        format!(", as user {other} who certainly came after user {one}")
    });
    let what = format!("{what}, of {} that can be told apart", counted(told_apart, "pair"));
    judge(&what, (pairs, format!("{pairs} pairs{example}")))
}

fn judge(what: &str, (wrong, how): (u64, String)) -> Check {
    check(what, (wrong > 0).then_some(how).into_iter().collect())
}

fn second(second: Second) -> GateSecond {
    let Second { at, counted, waiting, active, seen } = second;
    GateSecond { at, admitted: counted, waiting, active, learned: seen }
}
