//! What waits until the mirror knows: answers, admissions, and turns that are not ahead any more.
//!
//! While the mirror is away nothing waits, and what is told would be lost with this process.

use std::collections::VecDeque;

use super::effect::{Answer, Effect, Effects, Left, MirrorOp, Reason};
use super::queue::Place;
use super::{Draw, Gate};
use crate::ids::{OpNo, PassId, ReplyTo, Turn, UserId};
use crate::time::Span;

/// What happens when the mirror has an operation.
#[derive(Clone, Copy, Debug)]
pub(super) enum Then {
    /// Whoever has a turn below may be told it.
    Durable(Turn),
    /// Whoever has the turn may be told it, and its user is.
    Joined {
        user: UserId,
        turn: Turn,
        to: ReplyTo,
    },
    /// Answer how it stands with the user.
    Standing {
        user: UserId,
        to: ReplyTo,
    },
    Left {
        left: Left,
        to: ReplyTo,
    },
    /// The turn is not ahead of anybody.
    Pass(Turn),
    /// The user may enter.
    Admit {
        user: UserId,
        turn: Turn,
        pass: PassId,
    },
    /// The entrants of the draw are settled.
    Frozen,
    /// Everybody may know the turn that was drawn.
    Drawn {
        to: ReplyTo,
    },
}

/// How far the mirror is behind.
#[derive(Debug)]
pub(super) struct Mirrored {
    /// Whether the mirror takes what it is told.
    pub up: bool,
    /// The newest operation; 0 before the first.
    newest: OpNo,
    /// The newest the mirror has.
    acked: OpNo,
    /// In the order of the operations they wait for.
    pending: VecDeque<(OpNo, Then)>,
    /// Turns below are in the mirror.
    pub durable: Turn,
}

impl Mirrored {
    pub const fn new(durable: Turn) -> Self {
        Self { up: true, newest: OpNo(0), acked: OpNo(0), pending: VecDeque::new(), durable }
    }

    /// How much is not in the mirror.
    pub const fn behind(&self) -> u64 {
        self.newest.0 - self.acked.0
    }

    /// Turns below are in the mirror, if it takes anything.
    fn durable_to(&mut self, turn: Turn) {
        if self.up {
            self.durable = self.durable.max(turn);
        }
    }

    pub fn waiting(&self) -> usize {
        self.pending.len()
    }

    /// The line is another, which the mirror does not know yet: the turns to be passed are not there, nor those to be
    /// drawn, and nobody may be told a turn.
    pub fn forget_line(&mut self) {
        self.pending.retain(|(_, then)| !matches!(then, Then::Durable(_) | Then::Pass(_) | Then::Frozen));
        for (_, then) in &mut self.pending {
            if let Then::Joined { user, to, .. } = *then {
                *then = Then::Standing { user, to };
            }
        }
        self.durable = Turn(0);
    }
}

impl Gate {
    /// Tells the mirror.
    pub(super) fn tell_mirror(&mut self, op: MirrorOp, effects: &mut Effects) {
        self.mirrored.newest.0 += 1;
        effects.push(Effect::Mirror { no: self.mirrored.newest, op });
    }

    /// Once the mirror has everything it was told so far; at once while it is away.
    pub(super) fn once_mirrored(&mut self, then: Then, effects: &mut Effects) {
        if self.mirrored.up && self.mirrored.newest > self.mirrored.acked {
            self.mirrored.pending.push_back((self.mirrored.newest, then));
        } else {
            self.perform(then, effects);
        }
    }

    /// Answers how it stands with a user, once the mirror knows the turn that it is in by then: who leaves and joins
    /// again has another.
    pub(super) fn tell_standing(&mut self, user: UserId, to: ReplyTo, effects: &mut Effects) {
        self.tell_place(user, self.place(user), to, effects);
    }

    pub(super) fn tell_place(&mut self, user: UserId, place: Place, to: ReplyTo, effects: &mut Effects) {
        let unsure = matches!(place, Place::Line(turn) if turn >= self.mirrored.durable);
        if unsure && self.mirrored.up {
            self.mirrored.pending.push_back((self.mirrored.newest, Then::Standing { user, to }));
        } else {
            let answer = Answer::Standing(self.standing_at(place));
            effects.push(Effect::Reply { to, answer, durable: self.mirrored.up });
        }
    }

    pub(super) fn mirrored(&mut self, upto: OpNo, effects: &mut Effects) {
        if upto > self.mirrored.newest {
            self.halt(Reason::OpUnknown(upto), effects);
            return;
        }
        self.mirrored.acked = self.mirrored.acked.max(upto);
        while let Some((no, then)) = self.mirrored.pending.front().copied()
            && no <= self.mirrored.acked
        {
            self.mirrored.pending.pop_front();
            self.perform(then, effects);
        }
    }

    pub(super) fn mirror_away(&mut self, effects: &mut Effects) {
        self.mirrored.up = false;
        while let Some((_, then)) = self.mirrored.pending.pop_front() {
            self.perform(then, effects);
        }
    }

    /// From now on things wait for the mirror again. What was told meanwhile is durable with the newest operation.
    pub(super) fn mirror_back(&mut self, upto: OpNo, effects: &mut Effects) {
        self.mirrored(upto, effects);
        if !self.is_halted() && !self.mirrored.up {
            self.mirrored.up = true;
            self.once_mirrored(Then::Durable(self.line.next()), effects);
        }
    }

    fn perform(&mut self, then: Then, effects: &mut Effects) {
        let durable = self.mirrored.up;
        match then {
            Then::Durable(turn) => self.mirrored.durable_to(turn),
            Then::Joined { user, turn, to } => {
                self.mirrored.durable_to(Turn(turn.0 + 1));
                if self.line.has(turn, user) {
                    self.tell_place(user, Place::Line(turn), to, effects);
                } else {
                    self.tell_standing(user, to, effects);
                }
            }
            Then::Standing { user, to } => self.tell_standing(user, to, effects),
            Then::Left { left, to } => {
                effects.push(Effect::Reply { to, answer: Answer::Left(left), durable })
            }
            Then::Pass(turn) => self.line.pass(turn),
            Then::Admit { user, turn, pass } => {
                self.line.pass(turn);
                self.rate.told(self.now);
                if let Some(entry) = self.passes.tell(user, pass, self.now, self.settings.pass_ttl) {
                    let waited = entry.joined.map(|joined| Span(self.now.0.saturating_sub(joined.get())));
                    effects.push(Effect::Admitted { user, pass: entry.pass, waited, durable });
                }
            }
            Then::Drawn { to } => {
                effects.push(Effect::Drawn);
                effects.push(Effect::Reply { to, answer: Answer::DrawTaken, durable });
            }
            Then::Frozen => {
                if let Draw::Frozen { first, upto } = self.draw {
                    self.frozen_told = true;
                    effects.push(Effect::Frozen { first, upto });
                }
            }
        }
    }
}
