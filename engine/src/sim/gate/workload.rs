//! What the crowd and its operator do.

use super::options::Options;
use crate::gate::{Input, Mode, Policy, State};
use crate::ids::{PassId, ReplyTo, UserId};
use crate::sim::prng::{Prng, Stream, mix};
use crate::time::{Span, Time};

/// A draw from what may happen. `replies` is raised for each reply that is asked for.
pub struct Workload {
    prng: Prng,
    weights: [u32; super::options::KIND_COUNT],
    users: u64,
    presale: u32,
    closing: u32,
    replies: u64,
}

impl Workload {
    pub fn new(options: &Options) -> Self {
        Self {
            prng: Prng::new(mix(options.seed ^ 0x6761_7465), Stream::Workload),
            weights: options.weights,
            users: options.user_count,
            presale: options.presale,
            closing: options.closing,
            replies: 0,
        }
    }

    pub fn pause(&mut self, pace: i64) -> i64 {
        self.prng.between(0, 2 * pace)
    }

    pub fn reply(&mut self) -> ReplyTo {
        self.replies += 1;
        ReplyTo(self.replies)
    }

    /// The next thing anybody does; `pass` is the one a user was last told.
    pub fn next(&mut self, now: Time, pass: impl Fn(UserId) -> Option<PassId>) -> Input {
        let user = UserId(1 + self.prng.below(self.users));
        let to = self.reply();
        let of_pass = |prng: &mut Prng| {
            let foreign = prng.chance(100).then(|| PassId(prng.word()));
            foreign.or_else(|| pass(user)).unwrap_or(PassId(1))
        };
        match self.prng.weighted(&self.weights) {
            0 => Input::Join { user, to },
            1 => Input::Status { user, to },
            2 => Input::Heartbeat { user },
            3 => Input::Leave { user, to },
            4 => Input::GiveBack { user, pass: of_pass(&mut self.prng) },
            5 => Input::Activity { user, pass: of_pass(&mut self.prng) },
            6 => Input::SetPolicy { policy: self.policy(now), to },
            _ => Input::Tick,
        }
    }

    /// Mostly one that makes sense.
    pub fn policy(&mut self, now: Time) -> Policy {
        let prng = &mut self.prng;
        let states = [State::Open, State::Open, State::Open, State::Paused, State::Off];
        let closed = prng.chance(self.closing).then_some(State::Closed);
        let state = closed.unwrap_or_else(|| *prng.pick(&states).expect("not empty"));
        let mut bound = |most: u64| {
            let bound = u32::try_from(1 + prng.below(most)).expect("small");
            match prng.below(40) {
                0 => Some(0),
                1 => Some(1_000_000_000),
                2..=12 => None,
                _ => Some(bound),
            }
        };
        let (per_second, max_active) = (bound(5), bound(6));
        let mode = if prng.chance(self.presale) { Mode::PresaleDraw } else { Mode::Fifo };
        let opening = now + Span(prng.between(-1_000_000, 20_000_000));
        let opens_at = prng.chance(if mode == Mode::PresaleDraw { 950 } else { 200 }).then_some(opening);
        Policy { state, mode, per_second, max_active, opens_at }
    }
}
