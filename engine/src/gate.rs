//! The gate: a concert's waiting room, as a machine like the shard.
//!
//! Whoever joins gets a *turn*, a number in the order of joining. The gate admits people in turn, as fast as its
//! policy allows: at most so many in any second, at most so many at once, or both. Whoever is admitted gets a
//! *pass*, which lives while it is used, for half an hour at most, and frees its place the moment it is given
//! back or runs out. The owner of the concert's shard owns its gate as well, so admissions are counted in one place.
//!
//! **Ranks.** How many turns are ahead of one counts those that were neither admitted nor removed. It never
//! rises: not for those who are away, who are passed over but counted until they come back (then they are next)
//! or have been away for too long; and not by a crash, because a turn that goes is ahead of the others until the
//! mirror knows that it has gone.
//!
//! **The mirror** is all that survives a crash. A join is answered, an admission told, when the mirror has it. While the
//! mirror is away the gate goes on, and says with each answer that a crash would lose it.
//!
//! **A presale** shuffles everyone who came before the opening. The gate settles who that is and takes the
//! order from outside; [`draw`] makes an order that anybody can check.
//!
//! Reading order: `policy` (what operators may ask), `effect` (what goes in and comes out), `line` and its parts
//! `bitmap`, `counts` and `users`, `passes`, `rate`, `speed`; then what happens: `queue` (joining and leaving), `admit`, `mirrored`,
//! `govern`, `restore`; and `tick`, what viewers see.

use crate::ids::{ConcertId, Epoch, PassId, Turn, UserId};
use crate::time::Time;

pub use bitmap::Bitmap;
pub use effect::{
    Answer, DrawFault, Effect, Effects, Eta, Input, Left, MirrorOp, Pass, PassEnd, Reason, Standing,
};
pub use policy::{Mode, Policy, PolicyFault, Settings, State};
pub use restore::{Draw, KeptPass, Snapshot};
pub use speed::{COVERAGE_PER_MILLE, Pace};
pub use tick::{BlockCount, Missed, Tick, Viewer, block_of};

pub mod draw;

mod admit;
mod bitmap;
mod counts;
mod effect;
mod govern;
mod line;
mod mirrored;
mod passes;
mod policy;
mod queue;
mod rate;
mod restore;
mod speed;
mod tick;
mod users;

/// One concert's waiting room.
#[derive(Debug)]
pub struct Gate {
    concert: ConcertId,
    epoch: Epoch,
    settings: Settings,
    policy: Policy,
    /// The latest time seen. Never goes back, whatever the caller says.
    now: Time,
    halted: bool,

    line: line::Line,
    /// The first turn that was never served: neither admitted nor passed over.
    front: Turn,
    passes: passes::Passes,
    rate: rate::Rate,
    speed: speed::Speed,
    admitted: u64,
    /// Nobody is admitted before.
    quiet_until: Time,

    draw: Draw,
    /// Whether the shell knows that the entrants are settled.
    frozen_told: bool,
    /// The mirror kept entrants that are settled.
    frozen_restored: bool,
    /// The mirror kept what had to be left out.
    rebuild_due: bool,

    mirrored: mirrored::Mirrored,
    tick: u32,
    /// The front at the last tick.
    told_front: Turn,
    /// Reused from step to step.
    absent: Vec<Turn>,
}

/// How full a gate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// People in line, those away included.
    pub waiting: usize,
    /// Live passes, those not told yet included.
    pub passes: usize,
    /// Admissions since the restore.
    pub admitted: u64,
    /// Changes that a crash now would lose.
    pub unmirrored: u64,
}

impl Gate {
    /// An empty gate that is off; [`Self::restore`] fills it before its first step.
    #[must_use]
    pub fn new(concert: ConcertId, epoch: Epoch, settings: Settings) -> Self {
        Self {
            concert,
            epoch,
            settings,
            policy: Policy::default(),
            now: Time::default(),
            halted: false,
            line: line::Line::default(),
            front: Turn(0),
            passes: passes::Passes::default(),
            rate: rate::Rate::default(),
            speed: speed::Speed::default(),
            admitted: 0,
            quiet_until: Time(i64::MIN),
            draw: Draw::Due,
            frozen_told: false,
            frozen_restored: false,
            rebuild_due: false,
            mirrored: mirrored::Mirrored::new(Turn(0)),
            tick: 0,
            told_front: Turn(0),
            absent: Vec::new(),
        }
    }

    /// The only mutator. Due deadlines fire first, then the input is decided, then whoever may enter does.
    pub fn step(&mut self, now: Time, input: Input, effects: &mut Effects) {
        if self.halted {
            return;
        }
        self.now = self.now.max(now);
        self.fire_due(effects);
        match input {
            Input::Join { user, to } => self.join(user, to, effects),
            Input::Status { user, to } => self.status(user, to, effects),
            Input::Heartbeat { user } => self.heartbeat(user),
            Input::Leave { user, to } => self.leave(user, to, effects),
            Input::GiveBack { user, pass } => self.give_back(user, pass, effects),
            Input::Activity { user, pass } => {
                self.passes.renew(user, pass, self.now, self.settings.pass_ttl);
            }
            Input::SetPolicy { policy, to } => self.set_policy(policy, to, effects),
            Input::Drawn { first, upto, order, to } => self.drawn(first..upto, &order, to, effects),
            Input::Mirrored { upto } => self.mirrored(upto, effects),
            Input::MirrorAway => self.mirror_away(effects),
            Input::MirrorBack { upto } => self.mirror_back(upto, effects),
            Input::Tick => {}
        }
        if !self.halted {
            self.remove_absent(effects);
            self.admit(effects);
        }
    }

    /// When the next deadline is due, and an [`Input::Tick`] with it.
    #[must_use]
    pub fn next_wake(&self) -> Option<Time> {
        if self.halted { None } else { self.next_due() }
    }

    /// Whether this pass of this user opens the sale at `now`.
    #[must_use]
    pub fn is_live(&self, now: Time, pass: PassId, user: UserId) -> bool {
        let entry = self.passes.find(user).filter(|entry| entry.told && entry.pass.id == pass);
        entry.is_some_and(|entry| entry.pass.expires_at > now)
    }

    #[must_use]
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// How far the draw of a presale is.
    #[must_use]
    pub const fn draw(&self) -> Draw {
        self.draw
    }

    #[must_use]
    pub const fn concert(&self) -> ConcertId {
        self.concert
    }

    /// The latest time it has seen.
    #[must_use]
    pub const fn now(&self) -> Time {
        self.now
    }

    /// The passes that open the sale, by user.
    pub fn passes(&self) -> impl Iterator<Item = (UserId, Pass)> {
        let told = self.passes.sorted().into_iter().filter(|entry| entry.told);
        told.map(|entry| (entry.user, entry.pass))
    }

    #[must_use]
    pub const fn load(&self) -> Load {
        Load {
            waiting: self.line.len(),
            passes: self.passes.len(),
            admitted: self.admitted,
            unmirrored: self.mirrored.behind(),
        }
    }

    #[must_use]
    pub const fn is_halted(&self) -> bool {
        self.halted
    }

    fn halt(&mut self, reason: Reason, effects: &mut Effects) {
        self.halted = true;
        effects.push(Effect::Halt(reason));
    }
}
