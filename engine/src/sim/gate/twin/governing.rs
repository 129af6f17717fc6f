//! The twin under its operator.

use super::{
    Answer, Draw, DrawFault, Effect, MirrorOp, Mode, Policy, PolicyFault, ReplyTo, State, Then, Turn, Twin,
    UserId,
};

impl Twin {
    pub(super) fn set_policy(&mut self, policy: Policy, to: ReplyTo, effects: &mut Vec<Effect>) {
        if let Err(fault) = self.check(&policy) {
            self.reply(to, Answer::PolicyRefused(fault), effects);
            return;
        }
        let changed = policy != self.policy;
        let (ranks, before) = (self.shows_ranks(), self.policy);
        self.policy = policy;
        if policy.state == State::Closed && before.state != State::Closed {
            self.close(effects);
        }
        let anew = self.waiters.is_empty() && policy.opens_at.is_some_and(|at| at > self.now);
        let begins = before.mode == Mode::Fifo || (anew && self.draw == Draw::Done);
        if policy.mode == Mode::PresaleDraw && begins && self.draw != Draw::Due {
            self.draw = Draw::Due;
            self.mirror(MirrorOp::Draw(Draw::Due), effects);
        }
        if !ranks && self.shows_ranks() {
            self.begin_anew();
        }
        self.freeze(effects);
        self.reply(to, Answer::PolicySet { changed }, effects);
    }

    pub fn check(&self, policy: &Policy) -> Result<(), PolicyFault> {
        policy.check()?;
        let moved = policy.mode != self.policy.mode || policy.opens_at != self.policy.opens_at;
        let from_fifo = policy.mode == Mode::PresaleDraw && self.policy.mode == Mode::Fifo;
        match policy.state {
            State::Closed => Ok(()),
            _ if moved && matches!(self.draw, Draw::Frozen { .. }) => Err(PolicyFault::DrawUnderWay),
            _ if from_fifo && !self.waiters.is_empty() => Err(PolicyFault::RanksTold),
            _ => Ok(()),
        }
    }

    fn forget_line(&mut self) {
        self.pending.retain(|(_, then)| !matches!(then, Then::Durable(_) | Then::Pass(_) | Then::Frozen));
        self.durable = Turn(0);
    }

    fn begin_anew(&mut self) {
        let now = self.now;
        for waiter in &mut self.waiters {
            waiter.seen = now;
        }
    }

    fn close(&mut self, effects: &mut Vec<Effect>) {
        self.waiters.clear();
        self.forget_line();
        if self.draw != Draw::Due {
            self.draw = Draw::Done;
        }
        self.frozen_told = false;
        self.mirror(MirrorOp::Rebuild, effects);
        effects.push(Effect::Rejected);
    }

    pub(super) fn freeze(&mut self, effects: &mut Vec<Effect>) {
        let open = self.policy.state == State::Open && self.policy.opens_at.is_some_and(|at| at <= self.now);
        let due = self.policy.mode == Mode::PresaleDraw && self.draw == Draw::Due;
        if open && due {
            let first = self.waiters.iter().find(|waiter| !waiter.gone).map_or(self.next, |first| first.turn);
            self.draw = Draw::Frozen { first, upto: self.next };
            self.frozen_told = false;
            self.mirror(MirrorOp::Draw(self.draw), effects);
            self.once(Then::Frozen, effects);
        }
    }

    /// Who is in the draw: those of them who still wait.
    pub fn entrants(&self) -> Vec<(Turn, UserId)> {
        let Draw::Frozen { upto, .. } = self.draw else { return Vec::new() };
        let entrants = self.waiters.iter().filter(|waiter| !waiter.gone && waiter.turn < upto);
        entrants.map(|waiter| (waiter.turn, waiter.user)).collect()
    }

    pub(super) fn drawn(
        &mut self,
        (first, upto): (Turn, Turn),
        order: &[Turn],
        to: ReplyTo,
        effects: &mut Vec<Effect>,
    ) {
        match self.check_order(first, upto, order) {
            Err(fault) => self.reply(to, Answer::DrawRefused(fault), effects),
            Ok(()) => {
                self.waiters.retain(|waiter| !waiter.gone);
                self.forget_line();
                let mut unnamed = order.len();
                for waiter in self.waiters.iter_mut().filter(|waiter| waiter.turn < upto) {
                    let place = order.iter().position(|turn| *turn == waiter.turn).unwrap_or_else(|| {
                        unnamed += 1;
                        unnamed - 1
                    });
                    waiter.turn = Turn(first.0 + u32::try_from(place).expect("fewer than turns"));
                }
                self.waiters.sort_unstable_by_key(|waiter| waiter.turn);
                self.begin_anew();
                self.draw = Draw::Done;
                self.mirror(MirrorOp::Rebuild, effects);
                self.once(Then::Durable(self.next), effects);
                self.once(Then::Drawn(to), effects);
            }
        }
    }

    fn check_order(&self, first: Turn, upto: Turn, order: &[Turn]) -> Result<(), DrawFault> {
        if !self.frozen_told || self.draw != (Draw::Frozen { first, upto }) {
            return Err(DrawFault::NotFrozen);
        }
        for (place, turn) in order.iter().enumerate() {
            if *turn < first || *turn >= upto {
                return Err(DrawFault::Unknown(*turn));
            }
            if order[..place].contains(turn) {
                return Err(DrawFault::Twice(*turn));
            }
        }
        Ok(())
    }
}
