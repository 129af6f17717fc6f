//! What the mirror keeps of a gate, and how a gate goes on from it.

use super::Gate;
use super::effect::Pass;
use super::line::Waiter;
use super::mirrored::Mirrored;
use super::passes::Entry;
use super::policy::{Mode, Policy, State};
use crate::ids::{PassId, Turn, UserId};
use crate::index::mix;
use crate::limits::{GATE_PASSES, GATE_TURNS, GATE_WAITERS};
use crate::time::{Span, Time};

/// How far the draw of a presale is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Draw {
    /// To come; without meaning for a gate that draws nothing.
    Due,
    /// The entrants are those who waited in turns `first..upto`.
    Frozen { first: Turn, upto: Turn },
    /// The turns are drawn.
    Done,
}

impl Draw {
    /// What is left of it when the line dissolves.
    pub(super) const fn ended(self) -> Self {
        match self {
            Self::Due => Self::Due,
            Self::Frozen { .. } | Self::Done => Self::Done,
        }
    }
}

/// What there is to keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The next turn to be given out.
    pub next: Turn,
    pub draw: Draw,
    /// By turn.
    pub waiting: Vec<(Turn, UserId)>,
    /// By user.
    pub passes: Vec<KeptPass>,
}

impl Default for Snapshot {
    fn default() -> Self {
        Self { next: Turn(0), draw: Draw::Due, waiting: Vec::new(), passes: Vec::new() }
    }
}

/// A pass without what begins anew at a restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptPass {
    pub user: UserId,
    pub turn: Turn,
    pub id: PassId,
    pub ends_at: Time,
}

/// For so long nobody is admitted after a restore: whoever owned the gate before may have admitted a full second's
/// worth just before it died.
const QUIET: Span = Span::from_secs(1);

impl Gate {
    /// Takes over what the mirror kept and the ledger's policy. Call once, on a new gate. Everybody keeps their turn; all
    /// heartbeats and idle TTLs begin anew, and nobody is admitted for one second. Says how many records it had to
    /// leave out: a user or a turn twice, one beyond the bounds, or a line that was closed meanwhile.
    pub fn restore(&mut self, now: Time, policy: Policy, snapshot: &Snapshot) -> usize {
        self.now = self.now.max(now);
        self.policy = policy;
        let closed = policy.state == State::Closed;
        // The ledger may know of a closing, and of an opening after it, that the mirror does not.
        let ended = closed || policy.mode == Mode::Fifo;
        self.draw = if ended { snapshot.draw.ended() } else { snapshot.draw };
        self.quiet_until = self.now + QUIET;
        let mut left_out = 0;
        for kept in &snapshot.passes {
            let known = self.passes.find(kept.user).is_some();
            if known || self.passes.len() >= GATE_PASSES as usize {
                left_out += 1;
                continue;
            }
            let expires_at = (self.now + self.settings.pass_ttl).min(kept.ends_at);
            let pass = Pass { id: kept.id, expires_at, ends_at: kept.ends_at };
            self.passes.insert(Entry { user: kept.user, turn: kept.turn, pass, joined: None, told: true });
        }
        let mut free = Turn(0);
        for (turn, user) in &snapshot.waiting {
            let known = self.passes.find(*user).is_some() || self.line.find(*user).is_some();
            let fits = self.line.len() < GATE_WAITERS && turn.0 < GATE_TURNS && *turn >= free;
            if known || !fits || closed {
                left_out += 1;
                continue;
            }
            self.line.place(*turn, Waiter::restored(*user, self.now), self.settings.ghost_ttl);
            free = Turn(turn.0 + 1);
        }
        self.line.skip_to(snapshot.next);
        self.mirrored = Mirrored::new(self.line.next());
        self.frozen_restored = matches!(self.draw, Draw::Frozen { .. });
        self.rebuild_due = left_out > 0 || self.draw != snapshot.draw;
        left_out
    }

    /// What a mirror has to keep, as of now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let kept = |entry: Entry| KeptPass {
            user: entry.user,
            turn: entry.turn,
            id: entry.pass.id,
            ends_at: entry.pass.ends_at,
        };
        Snapshot {
            next: self.line.next(),
            draw: self.draw,
            waiting: self.line.waiters().map(|(turn, waiter)| (turn, waiter.user)).collect(),
            passes: self.passes.sorted().into_iter().map(kept).collect(),
        }
    }

    /// Of the policy and everything a mirror keeps; equal after a restore from it.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let Snapshot { next, draw, waiting, passes } = self.snapshot();
        let mut digest = mix(self.concert.0);
        let mut fold = |word: u64| digest = mix(digest.rotate_left(5) ^ word);
        let Policy { state, mode, per_second, max_active, opens_at } = self.policy;
        fold(state as u64);
        fold(mode as u64);
        fold(u64::from(per_second.unwrap_or(0)));
        fold(u64::from(max_active.unwrap_or(0)));
        fold(opens_at.map_or(u64::MAX, |opening| opening.0.cast_unsigned()));
        fold(u64::from(next.0));
        match draw {
            Draw::Due => fold(0),
            Draw::Frozen { first, upto } => {
                fold(1);
                fold(u64::from(first.0) << 32 | u64::from(upto.0));
            }
            Draw::Done => fold(2),
        }
        for (turn, user) in waiting {
            fold(u64::from(turn.0));
            fold(user.0);
        }
        for KeptPass { user, turn, id, ends_at } in passes {
            fold(user.0);
            fold(u64::from(turn.0));
            fold(id.0);
            fold(ends_at.0.cast_unsigned());
        }
        digest
    }
}
