//! The naive twin: the same rules over plain vectors, searched from end to end every time.

use crate::gate::{
    Answer, Draw, DrawFault, Effect, Input, Left, MirrorOp, Mode, Pass, PassEnd, Policy, PolicyFault, Reason,
    Settings, Snapshot, Standing, State,
};
use crate::ids::{Epoch, OpNo, PassId, ReplyTo, Turn, UserId};
use crate::time::{Span, Time};

#[derive(Clone, Copy, Debug)]
struct Waiter {
    user: UserId,
    turn: Turn,
    joined: Option<Time>,
    seen: Time,
    /// Admitted or removed; still ahead of the others until the mirror knows.
    gone: bool,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    user: UserId,
    turn: Turn,
    pass: Pass,
    joined: Option<Time>,
    told: bool,
}

#[derive(Clone, Copy, Debug)]
enum Then {
    Durable(Turn),
    Standing(UserId, ReplyTo),
    Left(Left, ReplyTo),
    Pass(Turn),
    Admit(UserId, PassId, Turn),
    Frozen,
    Drawn(ReplyTo),
}

pub struct Twin {
    epoch: Epoch,
    settings: Settings,
    pub policy: Policy,
    pub draw: Draw,
    frozen_told: bool,
    announce: bool,
    rebuild: bool,
    pub now: Time,
    quiet_until: Time,
    next: Turn,
    waiters: Vec<Waiter>,
    held: Vec<Held>,
    /// When admissions were told, and how many are decided and not told.
    told_at: Vec<Time>,
    untold: usize,
    decided_at: Vec<Time>,
    pub up: bool,
    newest: u64,
    acked: u64,
    pending: Vec<(u64, Then)>,
    durable: Turn,
    pub halted: bool,
}

const SECOND: Span = Span::from_secs(1);

impl Twin {
    pub fn restore(epoch: Epoch, settings: Settings, now: Time, policy: Policy, kept: &Snapshot) -> Self {
        let closed = policy.state == State::Closed;
        let mut waiters: Vec<Waiter> = Vec::new();
        for (turn, user) in kept.waiting.iter().filter(|_| !closed).copied() {
            let twice = waiters.iter().any(|waiter| waiter.user == user);
            if !twice && !kept.passes.iter().any(|kept| kept.user == user) {
                waiters.push(Waiter { user, turn, joined: None, seen: now, gone: false });
            }
        }
        let ended = (closed || policy.mode == Mode::Fifo) && kept.draw != Draw::Due;
        let draw = if ended { Draw::Done } else { kept.draw };
        let held = kept.passes.iter().map(|kept| Held {
            user: kept.user,
            turn: kept.turn,
            pass: Pass {
                id: kept.id,
                expires_at: (now + settings.pass_ttl).min(kept.ends_at),
                ends_at: kept.ends_at,
            },
            joined: None,
            told: true,
        });
        Self {
            epoch,
            settings,
            policy,
            draw,
            frozen_told: false,
            announce: matches!(draw, Draw::Frozen { .. }),
            rebuild: waiters.len() < kept.waiting.len() || draw != kept.draw,
            now,
            quiet_until: now + SECOND,
            next: kept.next,
            waiters,
            held: held.collect(),
            told_at: Vec::new(),
            untold: 0,
            decided_at: Vec::new(),
            up: true,
            newest: 0,
            acked: 0,
            pending: Vec::new(),
            durable: kept.next,
            halted: false,
        }
    }

    pub fn step(&mut self, now: Time, input: &Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.halted {
            return effects;
        }
        self.now = self.now.max(now);
        self.fire(&mut effects);
        self.decide(input, &mut effects);
        if !self.halted {
            self.remove_absent(&mut effects);
            self.admit(&mut effects);
        }
        effects
    }

    fn decide(&mut self, input: &Input, effects: &mut Vec<Effect>) {
        match input {
            Input::Join { user, to } => self.join(*user, *to, effects),
            Input::Status { user, to } => {
                self.see(*user);
                self.tell(*user, *to, effects);
            }
            Input::Heartbeat { user } => self.see(*user),
            Input::Leave { user, to } => self.leave(*user, *to, effects),
            Input::GiveBack { user, pass } => {
                let live = |held: &Held| held.user == *user && held.pass.id == *pass && held.told;
                if self.held.iter().any(live) {
                    self.end(*user, PassEnd::GivenBack, effects);
                }
            }
            Input::Activity { user, pass } => {
                let expires = self.now + self.settings.pass_ttl;
                for held in &mut self.held {
                    if held.user == *user && held.pass.id == *pass && held.told {
                        held.pass.expires_at = expires.min(held.pass.ends_at);
                    }
                }
            }
            Input::SetPolicy { policy, to } => self.set_policy(*policy, *to, effects),
            Input::Drawn { first, upto, order, to } => self.drawn((*first, *upto), order, *to, effects),
            Input::Mirrored { upto } => self.ack(*upto, effects),
            Input::MirrorAway => {
                self.up = false;
                for (_, then) in std::mem::take(&mut self.pending) {
                    self.perform(then, effects);
                }
            }
            Input::MirrorBack { upto } => {
                self.ack(*upto, effects);
                if !self.halted && !self.up {
                    self.up = true;
                    self.once(Then::Durable(self.next), effects);
                }
            }
            Input::Tick => {}
        }
    }

    /// The next turn to be given out.
    pub fn next(&self) -> Turn {
        self.next
    }

    pub fn shows_ranks(&self) -> bool {
        self.policy.mode == Mode::Fifo || self.draw == Draw::Done
    }

    fn ahead(&self, turn: Turn) -> u32 {
        let ahead = self.waiters.iter().filter(|waiter| waiter.turn < turn).count();
        u32::try_from(ahead).unwrap_or(u32::MAX)
    }

    fn waiting(&self, user: UserId) -> Option<&Waiter> {
        self.waiters.iter().find(|waiter| waiter.user == user && !waiter.gone)
    }

    fn held(&self, user: UserId) -> Option<&Held> {
        self.held.iter().find(|held| held.user == user)
    }

    /// Without estimates: those are not the twin's.
    pub fn standing(&self, user: UserId) -> Standing {
        if self.policy.state == State::Off {
            return Standing::Free;
        }
        let held = self.held(user);
        if let Some(held) = held.filter(|held| held.told) {
            return Standing::Active(held.pass);
        }
        let turn = held.map(|held| held.turn).or_else(|| self.waiting(user).map(|waiter| waiter.turn));
        match turn {
            Some(turn) => {
                let ahead = self.shows_ranks().then(|| self.ahead(turn));
                Standing::Waiting { turn, ahead, eta: None }
            }
            None if self.policy.state == State::Closed => Standing::Rejected,
            None => Standing::Absent,
        }
    }

    /// Who waits, by turn.
    pub fn line(&self) -> Vec<(Turn, UserId)> {
        let waiting = self.waiters.iter().filter(|waiter| !waiter.gone);
        waiting.map(|waiter| (waiter.turn, waiter.user)).collect()
    }

    /// Passes, by user.
    pub fn passes(&self) -> Vec<(UserId, PassId)> {
        let mut passes: Vec<_> = self.held.iter().map(|held| (held.user, held.pass.id)).collect();
        passes.sort_unstable();
        passes
    }

    fn see(&mut self, user: UserId) {
        let now = self.now;
        for waiter in self.waiters.iter_mut().filter(|waiter| waiter.user == user && !waiter.gone) {
            waiter.seen = now;
        }
    }

    fn mirror(&mut self, op: MirrorOp, effects: &mut Vec<Effect>) {
        self.newest += 1;
        effects.push(Effect::Mirror { no: OpNo(self.newest), op });
    }

    fn once(&mut self, then: Then, effects: &mut Vec<Effect>) {
        if self.up && self.newest > self.acked {
            self.pending.push((self.newest, then));
        } else {
            self.perform(then, effects);
        }
    }

    fn reply(&self, to: ReplyTo, answer: Answer, effects: &mut Vec<Effect>) {
        effects.push(Effect::Reply { to, answer, durable: self.up });
    }

    fn perform(&mut self, then: Then, effects: &mut Vec<Effect>) {
        match then {
            Then::Durable(turn) if self.up => self.durable = self.durable.max(turn),
            Then::Durable(_) => {}
            Then::Standing(user, to) => self.tell(user, to, effects),
            Then::Left(left, to) => self.reply(to, Answer::Left(left), effects),
            Then::Pass(turn) => self.waiters.retain(|waiter| waiter.turn != turn || !waiter.gone),
            Then::Admit(user, pass, turn) => {
                self.waiters.retain(|waiter| waiter.turn != turn || !waiter.gone);
                self.untold -= 1;
                self.told_at.push(self.now);
                let (now, ttl, durable) = (self.now, self.settings.pass_ttl, self.up);
                for held in self.held.iter_mut().filter(|held| held.user == user && held.pass.id == pass) {
                    held.told = true;
                    held.pass.expires_at = (now + ttl).min(held.pass.ends_at);
                    let waited = held.joined.map(|joined| Span(now.0 - joined.0));
                    effects.push(Effect::Admitted { user, pass: held.pass, waited, durable });
                }
            }
            Then::Drawn(to) => {
                effects.push(Effect::Drawn);
                self.reply(to, Answer::DrawTaken, effects);
            }
            Then::Frozen => {
                if let Draw::Frozen { first, upto } = self.draw {
                    self.frozen_told = true;
                    effects.push(Effect::Frozen { first, upto });
                }
            }
        }
    }

    fn ack(&mut self, upto: OpNo, effects: &mut Vec<Effect>) {
        if upto.0 > self.newest {
            self.halted = true;
            effects.push(Effect::Halt(Reason::OpUnknown(upto)));
            return;
        }
        self.acked = self.acked.max(upto.0);
        while let Some((no, then)) = self.pending.first().copied()
            && no <= self.acked
        {
            self.pending.remove(0);
            self.perform(then, effects);
        }
    }

    fn tell(&mut self, user: UserId, to: ReplyTo, effects: &mut Vec<Effect>) {
        let untold = self.held(user).filter(|held| !held.told).map(|held| held.turn);
        let turn = self.waiting(user).map(|waiter| waiter.turn).or(untold);
        if self.up && turn.is_some_and(|turn| turn >= self.durable) {
            self.pending.push((self.newest, Then::Standing(user, to)));
        } else {
            self.reply(to, Answer::Standing(self.standing(user)), effects);
        }
    }

    fn join(&mut self, user: UserId, to: ReplyTo, effects: &mut Vec<Effect>) {
        self.see(user);
        let known = self.held(user).is_some() || self.waiting(user).is_some();
        if known || matches!(self.policy.state, State::Off | State::Closed) {
            self.tell(user, to, effects);
            return;
        }
        let (turn, now) = (self.next, self.now);
        self.next.0 += 1;
        let joined = Some(now).filter(|now| now.0 != 0);
        self.waiters.push(Waiter { user, turn, joined, seen: now, gone: false });
        self.mirror(MirrorOp::Join { user, turn }, effects);
        self.once(Then::Durable(self.next), effects);
        self.tell(user, to, effects);
    }

    fn leave(&mut self, user: UserId, to: ReplyTo, effects: &mut Vec<Effect>) {
        let mut left = Left::Nothing;
        if let Some(turn) = self.waiting(user).map(|waiter| waiter.turn) {
            self.take(turn);
            self.mirror(MirrorOp::Remove { user, turn }, effects);
            self.once(Then::Pass(turn), effects);
            left = Left::Line;
        } else if let Some(told) = self.held(user).map(|held| held.told) {
            self.end(user, PassEnd::GivenBack, effects);
            left = if told { Left::Sale } else { Left::Line };
        }
        self.once(Then::Left(left, to), effects);
    }

    fn take(&mut self, turn: Turn) {
        for waiter in self.waiters.iter_mut().filter(|waiter| waiter.turn == turn) {
            waiter.gone = true;
        }
    }

    fn end(&mut self, user: UserId, why: PassEnd, effects: &mut Vec<Effect>) {
        let Some(pass) = self.held(user).map(|held| held.pass.id) else { return };
        self.held.retain(|held| held.user != user);
        self.mirror(MirrorOp::End { user, pass }, effects);
        effects.push(Effect::PassEnded { user, pass, why });
    }

    fn fire(&mut self, effects: &mut Vec<Effect>) {
        if std::mem::take(&mut self.rebuild) {
            self.mirror(MirrorOp::Rebuild, effects);
        }
        if std::mem::take(&mut self.announce) {
            self.once(Then::Frozen, effects);
        }
        let due = |held: &&Held| held.pass.expires_at <= self.now;
        let expired: Vec<UserId> = self.held.iter().filter(due).map(|held| held.user).collect();
        for user in expired {
            self.end(user, PassEnd::Expired, effects);
        }
        self.remove_absent(effects);
        self.freeze(effects);
    }

    fn remove_absent(&mut self, effects: &mut Vec<Effect>) {
        if !self.shows_ranks() {
            return;
        }
        let whole = |time: i64| (time + SECOND.0 - 1).div_euclid(SECOND.0) * SECOND.0;
        let due =
            |waiter: &&Waiter| !waiter.gone && whole(waiter.seen.0 + self.settings.ghost_ttl.0) <= self.now.0;
        let absent: Vec<Waiter> = self.waiters.iter().filter(due).copied().collect();
        for Waiter { user, turn, .. } in absent {
            self.take(turn);
            self.mirror(MirrorOp::Remove { user, turn }, effects);
            self.once(Then::Pass(turn), effects);
        }
    }

    fn admit(&mut self, effects: &mut Vec<Effect>) {
        let open = self.policy.state == State::Open && self.policy.opens_at.is_none_or(|at| at <= self.now);
        if !open || !self.shows_ranks() || self.now < self.quiet_until {
            return;
        }
        loop {
            let recent = self.told_at.iter().filter(|at| **at + SECOND > self.now).count() + self.untold;
            let slice = |time: Time| time.0 / 50_000;
            let now = self.decided_at.iter().filter(|at| slice(**at) == slice(self.now)).count();
            let too_fast = |rate: u32| recent >= rate as usize || now >= rate.div_ceil(16) as usize;
            let too_fast = self.policy.per_second.is_some_and(too_fast);
            let full = self.policy.max_active.is_some_and(|ceiling| self.held.len() >= ceiling as usize);
            let there = |waiter: &&Waiter| !waiter.gone && self.now.since(waiter.seen) < self.settings.grace;
            let first = self.waiters.iter().find(there).copied();
            let Some(waiter) = first.filter(|_| !too_fast && !full) else { return };
            let Waiter { user, turn, joined, .. } = waiter;
            self.take(turn);
            let ends_at = self.now + self.settings.pass_max_age;
            let pass = Pass { id: PassId::new(self.epoch, turn), expires_at: ends_at, ends_at };
            self.held.push(Held { user, turn, pass, joined, told: false });
            self.untold += 1;
            self.decided_at.push(self.now);
            self.mirror(MirrorOp::Admit { user, turn, pass: pass.id, ends_at }, effects);
            self.once(Then::Admit(user, pass.id, turn), effects);
        }
    }
}

mod governing;
