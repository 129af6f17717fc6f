//! Who is next, and whether there is room.

use super::effect::{Effect, Effects, MirrorOp, Pass, PassEnd};
use super::mirrored::Then;
use super::passes::Entry;
use super::policy::{Mode, State};
use super::{Draw, Gate};
use crate::ids::{PassId, Turn};
use crate::limits::{GATE_BLOCKS_PER_REMOVAL, GATE_UNMIRRORED};
use crate::time::Time;

impl Gate {
    /// Lets in as many as policy and passes allow, in turn.
    pub(super) fn admit(&mut self, effects: &mut Effects) {
        if !self.admits() {
            self.speed.idle();
            return;
        }
        let ceiling = self.policy.ceiling() as usize;
        let mut room = ceiling.saturating_sub(self.passes.len());
        if let Some(per_second) = self.policy.per_second {
            room = room.min(self.rate.room(self.now, per_second) as usize);
        }
        if self.line.has_present() {
            self.speed.busy(self.now);
        }
        while room > 0 {
            let Some(turn) = self.line.next_present(self.now, self.settings.grace) else {
                self.speed.idle();
                return;
            };
            self.admit_one(turn, effects);
            room -= 1;
        }
    }

    fn admit_one(&mut self, turn: Turn, effects: &mut Effects) {
        if turn >= self.front {
            let turns = self.line.ahead_of(turn) + 1 - self.line.ahead_of(self.front);
            self.speed.passed(self.now, turns);
            self.front = Turn(turn.0 + 1);
        }
        let waiter = self.line.take(turn);
        let id = PassId::new(self.epoch, turn);
        let ends_at = self.now + self.settings.pass_max_age;
        let pass = Pass { id, expires_at: ends_at, ends_at };
        let user = waiter.user;
        self.passes.insert(Entry { user, turn, pass, joined: waiter.joined, told: false });
        self.rate.decided(self.now);
        self.admitted += 1;
        self.tell_mirror(MirrorOp::Admit { user, turn, pass: id, ends_at }, effects);
        self.once_mirrored(Then::Admit { user, turn, pass: id }, effects);
    }

    /// Whether the policy lets anybody in at all.
    fn admits(&self) -> bool {
        self.policy.is_open(self.now) && self.shows_ranks() && self.quiet_until <= self.now
    }

    /// What falls due by itself: passes, waiters who stayed away, the opening of a presale.
    pub(super) fn fire_due(&mut self, effects: &mut Effects) {
        if std::mem::take(&mut self.rebuild_due) {
            self.tell_mirror(MirrorOp::Rebuild, effects);
        }
        if std::mem::take(&mut self.frozen_restored) {
            self.once_mirrored(Then::Frozen, effects);
        }
        while let Some(entry) = self.passes.pop_expired(self.now) {
            self.end_pass(entry, PassEnd::Expired, effects);
        }
        self.remove_absent(effects);
        self.freeze_if_due(effects);
    }

    pub(super) fn end_pass(&mut self, entry: Entry, why: PassEnd, effects: &mut Effects) {
        let (user, pass) = (entry.user, entry.pass.id);
        self.tell_mirror(MirrorOp::End { user, pass }, effects);
        effects.push(Effect::PassEnded { user, pass, why });
    }

    pub(super) fn remove_absent(&mut self, effects: &mut Effects) {
        let mut absent = std::mem::take(&mut self.absent);
        for _ in 0..GATE_BLOCKS_PER_REMOVAL {
            let ghost_ttl = self.settings.ghost_ttl;
            if !self.may_remove() || !self.line.absent_too_long(self.now, ghost_ttl, &mut absent) {
                break;
            }
            for turn in absent.drain(..) {
                let user = self.line.take(turn).user;
                self.tell_mirror(MirrorOp::Remove { user, turn }, effects);
                self.once_mirrored(Then::Pass(turn), effects);
            }
        }
        self.absent = absent;
    }

    /// Before a draw nobody is held up by whoever is away, and everybody may be until it.
    fn may_remove(&self) -> bool {
        self.shows_ranks() && self.mirrored.waiting() < GATE_UNMIRRORED
    }

    /// When something will fall due that no other input brings.
    pub(super) fn next_due(&self) -> Option<Time> {
        let opens = |opening: &Time| *opening > self.now && self.policy.state == State::Open;
        let opening = self.policy.opens_at.filter(opens);
        let at_once = (self.rebuild_due || self.frozen_restored).then_some(self.now);
        let removal = self.line.next_removal().filter(|_| self.may_remove());
        [at_once, self.passes.next(), removal, opening, self.next_room()].into_iter().flatten().min()
    }

    /// When somebody who waits can be admitted, if only time is in the way.
    fn next_room(&self) -> Option<Time> {
        let would = self.policy.is_open(self.now) && self.shows_ranks();
        if !would || !self.line.has_present() {
            return None;
        }
        if self.quiet_until > self.now {
            return Some(self.quiet_until);
        }
        let full = self.passes.len() >= self.policy.ceiling() as usize;
        let per_second = self.policy.per_second.filter(|_| !full)?;
        self.rate.frees_at(self.now, per_second)
    }

    /// Whether ranks mean anything: not before the draw of a presale.
    #[must_use]
    pub fn shows_ranks(&self) -> bool {
        self.policy.mode == Mode::Fifo || self.draw == Draw::Done
    }
}
