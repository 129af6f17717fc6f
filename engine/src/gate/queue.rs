//! Joining and leaving, and how it stands with somebody.

use super::Gate;
use super::effect::{Answer, Effect, Effects, Left, MirrorOp, Pass, PassEnd, Standing};
use super::mirrored::Then;
use super::policy::State;
use super::speed::Pace;
use crate::ids::{PassId, ReplyTo, Turn, UserId};
use crate::limits::{GATE_TURNS, GATE_UNMIRRORED, GATE_WAITERS};

/// Where somebody is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    Sale(Pass),
    /// Waiting, or admitted and not told yet.
    Line(Turn),
    Nowhere,
}

impl Gate {
    pub(super) fn join(&mut self, user: UserId, to: ReplyTo, effects: &mut Effects) {
        let place = self.place(user);
        let known = !matches!(place, Place::Nowhere);
        if known || matches!(self.policy.state, State::Off | State::Closed) {
            self.seen_at(place);
            self.tell_place(user, place, to, effects);
            return;
        }
        let full = self.line.len() >= GATE_WAITERS || self.line.next().0 >= GATE_TURNS;
        if full || self.mirrored.waiting() >= GATE_UNMIRRORED {
            effects.push(Effect::Reply { to, answer: Answer::Overloaded, durable: self.mirrored.up });
            return;
        }
        let turn = self.line.join(user, self.now, self.settings.ghost_ttl);
        self.tell_mirror(MirrorOp::Join { user, turn }, effects);
        self.once_mirrored(Then::Joined { user, turn, to }, effects);
    }

    pub(super) fn status(&mut self, user: UserId, to: ReplyTo, effects: &mut Effects) {
        let place = self.place(user);
        self.seen_at(place);
        self.tell_place(user, place, to, effects);
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

    fn seen_at(&mut self, place: Place) {
        if let Place::Line(turn) = place {
            self.line.heartbeat(turn, self.now);
        }
    }

    pub(super) fn place(&self, user: UserId) -> Place {
        match self.passes.find(user) {
            Some(entry) if entry.told => Place::Sale(entry.pass),
            Some(entry) => Place::Line(entry.turn),
            None => self.line.find(user).map_or(Place::Nowhere, Place::Line),
        }
    }

    /// How it stands with a user, as far as memory knows. An admission that is not told yet does not show.
    #[must_use]
    pub fn standing(&self, user: UserId) -> Standing {
        self.standing_at(self.place(user))
    }

    pub(super) fn standing_at(&self, place: Place) -> Standing {
        match place {
            _ if self.policy.state == State::Off => Standing::Free,
            Place::Sale(pass) => Standing::Active(pass),
            Place::Line(turn) => self.waiting(turn),
            Place::Nowhere if self.policy.state == State::Closed => Standing::Rejected,
            Place::Nowhere => Standing::Absent,
        }
    }

    /// How fast the line moves, while it does.
    #[must_use]
    pub fn pace(&self) -> Option<Pace> {
        self.speed.pace().filter(|_| self.policy.is_open(self.now))
    }

    fn waiting(&self, turn: Turn) -> Standing {
        if !self.shows_ranks() {
            return Standing::Waiting { turn, ahead: None, eta: None };
        }
        let ahead = self.line.ahead_of(turn);
        // Behind the front, the line has to move so far; before it, one is next.
        let distance = if turn < self.front { 1 } else { ahead + 1 - self.line.ahead_of(self.front) };
        let eta = self.pace().map(|pace| pace.eta(distance));
        Standing::Waiting { turn, ahead: Some(ahead), eta }
    }
}
