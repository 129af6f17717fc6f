//! What was said about each seat, and when: from it follows what can be proved about the server.
//!
//! A user is the owner of a seat for certain from the answer of a grant to the sending of what gives the seat back, or
//! until it may have run out; and possibly from the sending of the click to the answer of what gives it back. Everything between is decided in
//! the user's favour or the server's, never against the server without proof.

use std::collections::BTreeMap;

/// Nanoseconds since the start of the run.
pub type Nanos = u64;

/// One click or transition on one seat, as its user saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    pub seat: u32,
    pub user: u64,
    pub sent: Nanos,
    /// When the answer was there; [`Nanos::MAX`] when none came.
    pub answered: Nanos,
    pub what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// The seat is the user's, at least until then unless it is given back: soft locks and holds run out.
    Granted { until: Nanos },
    /// The user gave it back: it is free again.
    Freed,
    /// Somebody else has it, the server said.
    Refused,
    /// A click that was not answered, or not with yes or no: perhaps the seat is the user's.
    Unknown,
}

/// A refusal that was false: the seat was free for all the time between sending and answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FalseRefusal {
    pub seat: u32,
    pub user: u64,
    pub sent: Nanos,
}

/// Two users who were both the owner, for certain, at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DoubleGrant {
    pub seat: u32,
    pub users: [u64; 2],
    pub at: Nanos,
}

/// A time in which a user had a seat.
#[derive(Clone, Copy, Debug)]
struct Tenure {
    user: u64,
    /// At the earliest, and for certain.
    from: (Nanos, Nanos),
    /// For certain, and at the latest.
    to: (Nanos, Nanos),
}

/// What a run proves, over all seats.
#[derive(Clone, Debug, Default)]
pub struct Proof {
    pub refusals: u64,
    pub false_refusals: Vec<FalseRefusal>,
    pub double_grants: Vec<DoubleGrant>,
}

/// Reads a whole run.
pub fn prove(mut events: Vec<Event>) -> Proof {
    let mut proof = Proof::default();
    events.sort_unstable_by_key(|event| (event.seat, event.sent, event.answered));
    for of_seat in events.chunk_by(|a, b| a.seat == b.seat) {
        let tenures = tenures(of_seat);
        proof.double_grants.extend(double_grants(of_seat[0].seat, &tenures));
        let mut latest_end = 0;
        let mut from = 0;
        for refusal in of_seat.iter().filter(|event| event.what == What::Refused) {
            proof.refusals += 1;
            // Tenures by their earliest beginning: whoever began before the answer and may have ended after the
            // sending had the seat, perhaps. Refusals come in the order of sending, so `latest_end` only grows.
            while from < tenures.len() && tenures[from].from.0 <= refusal.sent {
                latest_end = latest_end.max(tenures[from].to.1);
                from += 1;
            }
            let begins_meanwhile =
                tenures[from..].first().is_some_and(|tenure| tenure.from.0 <= refusal.answered);
            if latest_end < refusal.sent && !begins_meanwhile {
                proof.false_refusals.push(FalseRefusal {
                    seat: refusal.seat,
                    user: refusal.user,
                    sent: refusal.sent,
                });
            }
        }
    }
    proof
}

/// By their earliest beginning. Grants that renew prolong.
fn tenures(events: &[Event]) -> Vec<Tenure> {
    let mut open: BTreeMap<u64, Tenure> = BTreeMap::new();
    let mut closed = Vec::new();
    for event in events {
        match event.what {
            What::Refused => {}
            What::Granted { .. } | What::Unknown => {
                let (certain, until) = match event.what {
                    What::Granted { until } => (event.answered, until),
                    _ => (Nanos::MAX, 0),
                };
                // What has run out is not prolonged: it may have been somebody else's meanwhile.
                if let Some(former) = open.get(&event.user).copied().filter(|former| former.to.0 < event.sent)
                {
                    closed.push(Tenure { to: (former.to.0, event.sent), ..former });
                    open.remove(&event.user);
                }
                let tenure = open.entry(event.user).or_insert(Tenure {
                    user: event.user,
                    from: (event.sent, certain),
                    to: (until, Nanos::MAX),
                });
                tenure.from.1 = tenure.from.1.min(certain);
                tenure.to.0 = tenure.to.0.max(until);
            }
            What::Freed => {
                if let Some(mut tenure) = open.remove(&event.user) {
                    tenure.to = (tenure.to.0.min(event.sent), event.answered);
                    closed.push(tenure);
                }
            }
        }
    }
    closed.extend(open.into_values());
    closed.sort_unstable_by_key(|tenure| tenure.from);
    closed
}

/// Certain tenures of different users that overlap.
fn double_grants(seat: u32, tenures: &[Tenure]) -> Vec<DoubleGrant> {
    let mut certain: Vec<&Tenure> = tenures.iter().filter(|tenure| tenure.from.1 < tenure.to.0).collect();
    certain.sort_unstable_by_key(|tenure| tenure.from.1);
    let mut found = Vec::new();
    let mut latest: Option<&Tenure> = None;
    for tenure in certain {
        if let Some(other) = latest.filter(|other| other.user != tenure.user && other.to.0 > tenure.from.1) {
            found.push(DoubleGrant { seat, users: [other.user, tenure.user], at: tenure.from.1 });
        }
        if latest.is_none_or(|other| other.to.0 < tenure.to.0) {
            latest = Some(tenure);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `user sent-answered what`, one event of seat 1 a word: `a 10-20 +` granted, `+40` until 40, `-` freed, `!` refused,
    /// `?` unknown.
    fn check(script: &str, false_refusals: usize, double_grants: usize) {
        let events = script.split(", ").map(|line| {
            let [user, times, what] = line.split(' ').collect::<Vec<_>>().try_into().unwrap();
            let (sent, answered) = times.split_once('-').unwrap();
            let what = match what {
                "+" => What::Granted { until: Nanos::MAX },
                what if what.starts_with('+') => What::Granted { until: what[1..].parse().unwrap() },
                "-" => What::Freed,
                "!" => What::Refused,
                _ => What::Unknown,
            };
            Event {
                seat: 1,
                user: u64::from(user.as_bytes()[0]),
                sent: sent.parse().unwrap(),
                answered: answered.parse().unwrap_or(Nanos::MAX),
                what,
            }
        });
        let proof = prove(events.collect());
        assert_eq!(proof.false_refusals.len(), false_refusals, "{script}: {:?}", proof.false_refusals);
        assert_eq!(proof.double_grants.len(), double_grants, "{script}: {:?}", proof.double_grants);
    }

    #[test]
    fn a_refusal_is_false_only_when_nobody_can_have_had_the_seat() {
        check("b 10-20 !", 1, 0);
        check("a 0-5 +, b 10-20 !", 0, 0);
        check("a 0-5 +, a 6-8 -, b 10-20 !", 1, 0);
        // The release was not answered when the click was sent.
        check("a 0-5 +, a 6-12 -, b 10-20 !", 0, 0);
        // Somebody else's click was under way.
        check("a 0-5 +, a 6-8 -, c 15-30 +, b 10-20 !", 0, 0);
        check("a 0-5 +, a 6-8 -, c 21-30 +, b 10-20 !", 1, 0);
        check("a 0-5 +, a 6-8 -, c 9-30 +, b 10-20 !", 0, 0);
        // A click without an answer may have been granted.
        check("a 0-x ?, b 10-20 !", 0, 0);
        check("a 0-x ?, a 6-8 -, b 10-20 !", 1, 0);
        // Each refusal is judged for itself.
        check("b 10-20 !, a 30-40 +, b 50-60 !, a 61-62 -, b 70-71 !", 2, 0);
    }

    #[test]
    fn two_owners_at_once_are_found() {
        check("a 0-5 +, b 10-20 +", 0, 1);
        check("a 0-5 +, a 6-8 -, b 7-9 +", 0, 0);
        // Between sending and answer of the release the server decides.
        check("a 0-5 +, a 6-30 -, b 7-20 +", 0, 0);
        // A seat that is given back late had been granted twice.
        check("a 0-5 +, b 7-20 +, a 21-22 -", 0, 1);
        // Renewing is no second owner.
        check("a 0-5 +, a 10-20 +, a 21-22 -, b 23-24 +", 0, 0);
        check("a 0-x ?, b 7-20 +", 0, 0);
        check("a 0-5 +, b 10-20 +, c 30-40 +", 0, 2);
        // What has run out may be somebody else's, and it may be had again.
        check("a 0-5 +10, b 12-20 +", 0, 0);
        check("a 0-5 +10, b 8-20 +", 0, 0);
        check("a 0-5 +10, b 7-9 +", 0, 1);
        check("a 0-5 +10, b 12-20 +, b 21-22 -, a 30-40 +60, b 50-51 !", 0, 0);
        check("a 0-5 +10, a 8-9 +30, b 12-20 +", 0, 1);
    }

    #[test]
    fn seats_do_not_mix() {
        let event = |seat, what| Event { seat, user: 1, sent: 5, answered: 9, what };
        let proof = prove(vec![event(1, What::Granted { until: 9 }), event(2, What::Refused)]);
        assert_eq!((proof.refusals, proof.false_refusals.len()), (1, 1));
    }
}
