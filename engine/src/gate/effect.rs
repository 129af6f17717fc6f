//! What a gate is asked, what it answers, and what it asks the shell to do.

use super::policy::{Policy, PolicyFault};
use super::restore::Draw;
use crate::ids::{OpNo, PassId, ReplyTo, Turn, UserId};
use crate::time::{Span, Time};

/// Everything that can happen to a gate.
#[derive(Clone, Debug)]
pub enum Input {
    /// Wait in line. Again: the same turn, the same answer.
    Join {
        user: UserId,
        to: ReplyTo,
    },
    /// How it stands. Counts as a heartbeat.
    Status {
        user: UserId,
        to: ReplyTo,
    },
    /// Still there: a poll, a ping, an event that could be delivered.
    Heartbeat {
        user: UserId,
    },
    /// Out of the line, or out of the sale.
    Leave {
        user: UserId,
        to: ReplyTo,
    },
    /// The pass has served: its user has bought.
    GiveBack {
        user: UserId,
        pass: PassId,
    },
    /// The pass was used.
    Activity {
        user: UserId,
        pass: PassId,
    },
    SetPolicy {
        policy: Policy,
        to: ReplyTo,
    },
    /// The order of a presale, the first to be admitted first: the entrants of the [`Effect::Frozen`] with these bounds.
    Drawn {
        first: Turn,
        upto: Turn,
        order: Box<[Turn]>,
        to: ReplyTo,
    },
    /// The mirror has everything up to and including `upto`.
    Mirrored {
        upto: OpNo,
    },
    /// The mirror takes nothing: what waits for it is told now, and is lost if this process dies.
    MirrorAway,
    /// The mirror is back, with everything up to and including `upto`, and takes what follows.
    MirrorBack {
        upto: OpNo,
    },
    /// Time has passed; due deadlines fire. Every input does that first, this one does only that.
    Tick,
}

/// One thing for the shell to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Answer. Not `durable`: the mirror is away, and a crash now would lose it.
    Reply { to: ReplyTo, answer: Answer, durable: bool },
    /// Tell the mirror, in order, and report [`Input::Mirrored`].
    Mirror { no: OpNo, op: MirrorOp },
    /// Tell the user: they may enter. `waited` is not known of those who joined before a restore.
    Admitted { user: UserId, pass: Pass, waited: Option<Span>, durable: bool },
    /// The pass is dead, for every node.
    PassEnded { user: UserId, pass: PassId, why: PassEnd },
    /// The entrants of a draw are settled and durable: [`Gate::entrants`](super::Gate::entrants) now. Publish their root,
    /// and bring [`Input::Drawn`]. A restore before that says so again; what was published with these bounds then
    /// stands, whoever has left since or was brought back, unless it gives somebody's turn to another: then
    /// the mirror had forgotten everything, turns began anew, and this is another draw.
    Frozen { first: Turn, upto: Turn },
    /// The draw is durable, and whoever waits has another turn: viewers need a new beginning.
    Drawn,
    /// Tell whoever waits that they are rejected.
    Rejected,
    /// Stop: the gate must be restored from the mirror under a new epoch. Always the last effect.
    Halt(Reason),
}

/// The caller's buffer, reused from step to step.
pub type Effects = Vec<Effect>;

/// A change of the mirror's copy. Each may be done twice; the order counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MirrorOp {
    /// `waiting-queue:{concert}` has the user at the turn; the next turn is one more.
    Join { user: UserId, turn: Turn },
    /// The user leaves it.
    Remove { user: UserId, turn: Turn },
    /// The user leaves it for `active-user:{concert}:<user>`, until `ends_at` at most.
    Admit { user: UserId, turn: Turn, pass: PassId, ends_at: Time },
    /// The pass leaves.
    End { user: UserId, pass: PassId },
    /// How far a draw is.
    Draw(Draw),
    /// Everything is different: copy [`Gate::snapshot`](super::Gate::snapshot), as it is when this effect is performed.
    Rebuild,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Standing(Standing),
    /// To a leave: what there was to leave.
    Left(Left),
    /// To a policy; not `changed`: it was so before.
    PolicySet {
        changed: bool,
    },
    PolicyRefused(PolicyFault),
    DrawTaken,
    DrawRefused(DrawFault),
    /// More is on its way to the mirror than is good, or the line is full: later, perhaps.
    Overloaded,
}

/// How it stands with a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// In line. Neither rank nor estimate before the draw of a presale.
    Waiting { turn: Turn, ahead: Option<u32>, eta: Option<Eta> },
    /// May enter.
    Active(Pass),
    /// The gate is off: may enter without a pass.
    Free,
    /// Sold out.
    Rejected,
    /// Not here: never came, left, stayed away too long, or had a pass that ended.
    Absent,
}

impl Standing {
    /// The status as the public sees it: a gate that is off lets everybody in.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Waiting { .. } => "WAITING",
            Self::Active(_) | Self::Free => "ACTIVE",
            Self::Rejected => "REJECTED",
            Self::Absent => "NONE",
        }
    }
}

/// A permission to enter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pass {
    pub id: PassId,
    /// When it ends without activity. The gate's own; not signed.
    pub expires_at: Time,
    /// When it ends whatever happens. Signed.
    pub ends_at: Time,
}

/// When a waiter may expect to be admitted: no sooner and no later, nine times out of ten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Eta {
    pub low: Span,
    pub high: Span,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Left {
    Line,
    Sale,
    Nothing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PassEnd {
    /// Its user has bought, or has left.
    GivenBack,
    /// No activity for its TTL, or its longest age.
    Expired,
}

impl PassEnd {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::GivenBack => "GIVEN_BACK",
            Self::Expired => "EXPIRED",
        }
    }
}

/// Why an order is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DrawFault {
    /// The entrants are not settled, the draw is over, or it is another one.
    NotFrozen,
    /// It names a turn that is no entrant's.
    Unknown(Turn),
    /// It names a turn twice.
    Twice(Turn),
}

/// Why a gate stops itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The shell reported something mirrored that was never said: shell and engine disagree.
    OpUnknown(OpNo),
}
