//! What operators do: policies, the draw.

use std::ops::Range;

use super::effect::{Answer, DrawFault, Effect, Effects, MirrorOp};
use super::mirrored::Then;
use super::policy::{Mode, Policy, PolicyFault, State};
use super::{Draw, Gate};
use crate::ids::{ReplyTo, Turn, UserId};

impl Gate {
    pub(super) fn set_policy(&mut self, policy: Policy, to: ReplyTo, effects: &mut Effects) {
        let answer = match self.check_policy(&policy) {
            Err(fault) => Answer::PolicyRefused(fault),
            Ok(()) => {
                let changed = policy != self.policy;
                self.apply_policy(policy, effects);
                Answer::PolicySet { changed }
            }
        };
        effects.push(Effect::Reply { to, answer, durable: self.mirrored.up });
    }

    /// Whether this policy may follow the one there is. Ask before making it durable.
    ///
    /// # Errors
    /// Why not.
    pub fn check_policy(&self, policy: &Policy) -> Result<(), PolicyFault> {
        policy.check()?;
        if policy.state == State::Closed {
            return Ok(());
        }
        let moved = (policy.mode, policy.opens_at) != (self.policy.mode, self.policy.opens_at);
        if moved && matches!(self.draw, Draw::Frozen { .. }) {
            return Err(PolicyFault::DrawUnderWay);
        }
        let draws = policy.mode == Mode::PresaleDraw && self.policy.mode == Mode::Fifo;
        if draws && !self.line.is_empty() {
            return Err(PolicyFault::RanksTold);
        }
        Ok(())
    }

    fn apply_policy(&mut self, policy: Policy, effects: &mut Effects) {
        let waited_for_draw = !self.shows_ranks();
        let before = std::mem::replace(&mut self.policy, policy);
        if before != policy {
            self.speed.restart();
        }
        if policy.state == State::Closed && before.state != State::Closed {
            self.dissolve(effects);
        }
        // A presale that is still to open, with nobody in line, is a draw of its own.
        let to_come = policy.opens_at.is_some_and(|opening| opening > self.now);
        let another = self.line.is_empty() && to_come && self.draw == Draw::Done;
        if policy.mode == Mode::PresaleDraw
            && (another || before.mode == Mode::Fifo)
            && self.draw != Draw::Due
        {
            self.draw = Draw::Due;
            self.tell_mirror(MirrorOp::Draw(Draw::Due), effects);
        }
        if waited_for_draw && self.shows_ranks() {
            self.line.restart_heartbeats(self.now);
        }
        self.freeze_if_due(effects);
    }

    /// Everybody who waits is rejected.
    fn dissolve(&mut self, effects: &mut Effects) {
        self.line.dissolve();
        self.mirrored.forget_line();
        self.front = self.line.next();
        self.draw = self.draw.ended();
        self.frozen_told = false;
        self.tell_mirror(MirrorOp::Rebuild, effects);
        effects.push(Effect::Rejected);
    }

    /// At its opening, a presale's entrants are whoever waits.
    pub(super) fn freeze_if_due(&mut self, effects: &mut Effects) {
        let due = self.policy.mode == Mode::PresaleDraw && self.draw == Draw::Due;
        if due && self.policy.is_open(self.now) {
            let upto = self.line.next();
            let first = self.line.waiters().next().map_or(upto, |(turn, _)| turn);
            self.draw = Draw::Frozen { first, upto };
            self.frozen_told = false;
            self.tell_mirror(MirrorOp::Draw(self.draw), effects);
            self.once_mirrored(Then::Frozen, effects);
        }
    }

    /// The entrants of a draw under way, by turn. Ask when [`Effect::Frozen`] says so: who leaves later was one
    /// all the same.
    pub fn entrants(&self) -> impl Iterator<Item = (Turn, UserId)> + '_ {
        let drawn = match self.draw {
            Draw::Frozen { first, upto } => first..upto,
            Draw::Due | Draw::Done => Turn(0)..Turn(0),
        };
        let waiters = self.line.waiters().map(|(turn, waiter)| (turn, waiter.user));
        waiters.filter(move |(turn, _)| drawn.contains(turn))
    }

    pub(super) fn drawn(&mut self, range: Range<Turn>, order: &[Turn], to: ReplyTo, effects: &mut Effects) {
        let named = match self.check_order(&range, order) {
            Ok(named) => named,
            Err(fault) => {
                let answer = Answer::DrawRefused(fault);
                effects.push(Effect::Reply { to, answer, durable: self.mirrored.up });
                return;
            }
        };
        self.front = range.start;
        self.reorder(range, order, &named);
        self.draw = Draw::Done;
        self.speed.restart();
        self.tell_mirror(MirrorOp::Rebuild, effects);
        self.once_mirrored(Then::Durable(self.line.next()), effects);
        self.once_mirrored(Then::Drawn { to }, effects);
    }

    /// Which turns of the draw are named.
    fn check_order(&self, range: &Range<Turn>, order: &[Turn]) -> Result<Vec<bool>, DrawFault> {
        let Range { start: first, end: upto } = *range;
        if !self.frozen_told || self.draw != (Draw::Frozen { first, upto }) {
            return Err(DrawFault::NotFrozen);
        }
        let mut named = vec![false; (upto.0 - first.0) as usize];
        for turn in order {
            let place = turn.0.checked_sub(first.0).and_then(|place| named.get_mut(place as usize));
            match place {
                None => return Err(DrawFault::Unknown(*turn)),
                Some(true) => return Err(DrawFault::Twice(*turn)),
                Some(place) => *place = true,
            }
        }
        Ok(named)
    }

    /// The n-th of the order has the n-th turn of the draw; who has left meanwhile leaves it empty. Whoever waited
    /// before the opening and is not named comes next: one who had left before the entrants were settled, and
    /// whom a crash without a mirror brought back. Nobody knew a rank before, so that nobody's rises; and as ranks begin
    /// to count, so does being away.
    fn reorder(&mut self, range: Range<Turn>, order: &[Turn], named: &[bool]) {
        let first = range.start;
        let is_unnamed = |turn: &Turn| !named[(turn.0 - first.0) as usize];
        let unnamed: Vec<Turn> = self.entrants().map(|(turn, _)| turn).filter(is_unnamed).collect();
        let drawn = order.iter().chain(&unnamed).copied().zip((first.0..).map(Turn));
        let others = self.line.waiters().map(|(turn, _)| turn).filter(|turn| !range.contains(turn));
        let others: Vec<Turn> = others.collect();
        let moves = drawn.chain(others.into_iter().map(|turn| (turn, turn)));
        self.line.rearrange(self.now, self.settings.ghost_ttl, moves);
        self.mirrored.forget_line();
    }
}
