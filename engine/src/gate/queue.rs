//! Joining and leaving, and how it stands with somebody.

use super::Gate;
use super::effect::{Answer, Effect, Effects, Left, MirrorOp, PassEnd, Standing};
use super::mirrored::Then;
use super::policy::State;
use crate::ids::{PassId, ReplyTo, Turn, UserId};
use crate::limits::{GATE_TURNS, GATE_UNMIRRORED, GATE_WAITERS};

impl Gate {
    pub(super) fn join(&mut self, user: UserId, to: ReplyTo, effects: &mut Effects) {
        self.heartbeat(user);
        let known = self.passes.find(user).is_some() || self.line.find(user).is_some();
        if known || matches!(self.policy.state, State::Off | State::Closed) {
            self.tell_standing(user, to, effects);
            return;
        }
        let full = self.line.len() >= GATE_WAITERS || self.line.next().0 >= GATE_TURNS;
        if full || self.mirrored.waiting() >= GATE_UNMIRRORED {
            effects.push(Effect::Reply { to, answer: Answer::Overloaded, durable: self.mirrored.up });
            return;
        }
        let turn = self.line.join(user, self.now, self.settings.ghost_ttl);
        self.tell_mirror(MirrorOp::Join { user, turn }, effects);
        self.once_mirrored(Then::Durable(Turn(turn.0 + 1)), effects);
        self.tell_standing(user, to, effects);
    }

    pub(super) fn leave(&mut self, user: UserId, to: ReplyTo, effects: &mut Effects) {
        let mut left = Left::Nothing;
        if let Some(turn) = self.line.find(user) {
            self.line.take(turn);
            self.tell_mirror(MirrorOp::Remove { user, turn }, effects);
            self.once_mirrored(Then::Pass(turn), effects);
            left = Left::Line;
        } else if let Some(entry) = self.passes.remove(user) {
            self.end_pass(entry, PassEnd::GivenBack, effects);
            left = if entry.told { Left::Sale } else { Left::Line };
        }
        self.once_mirrored(Then::Left { left, to }, effects);
    }

    pub(super) fn give_back(&mut self, user: UserId, pass: PassId, effects: &mut Effects) {
        if self.is_live(self.now, pass, user)
            && let Some(entry) = self.passes.remove(user)
        {
            self.end_pass(entry, PassEnd::GivenBack, effects);
        }
    }

    pub(super) fn heartbeat(&mut self, user: UserId) {
        if let Some(turn) = self.line.find(user) {
            self.line.heartbeat(turn, self.now);
        }
    }

    /// How it stands with a user, as far as memory knows. An admission that is not told yet does not show.
    #[must_use]
    pub fn standing(&self, user: UserId) -> Standing {
        if self.policy.state == State::Off {
            return Standing::Free;
        }
        match self.passes.find(user) {
            Some(entry) if entry.told => return Standing::Active(entry.pass),
            Some(entry) => return self.waiting(entry.turn),
            None => {}
        }
        match self.line.find(user) {
            Some(turn) => self.waiting(turn),
            None if self.policy.state == State::Closed => Standing::Rejected,
            None => Standing::Absent,
        }
    }

    fn waiting(&self, turn: Turn) -> Standing {
        if !self.shows_ranks() {
            return Standing::Waiting { turn, ahead: None, eta: None };
        }
        let ahead = self.line.ahead_of(turn);
        // Behind the front, the line has to move so far; before it, one is next.
        let distance = if turn < self.front { 1 } else { ahead + 1 - self.line.ahead_of(self.front) };
        let eta = self.speed.eta(distance).filter(|_| self.policy.is_open(self.now));
        Standing::Waiting { turn, ahead: Some(ahead), eta }
    }
}
