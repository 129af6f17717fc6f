//! What gates need from the ledger and the mirror.

use async_trait::async_trait;
use engine::gate::draw::{Digest, Seed};
use engine::gate::{MirrorOp, Policy, Snapshot};
use engine::{ConcertId, Epoch, ShardId, Time, Turn, UserId};

use crate::ports::{LedgerError, MirrorAnswer, MirrorError};

/// What is durable of gates: how they are set, by whom, what was admitted, and their draws.
#[async_trait]
pub trait GateLedger: Send + Sync + 'static {
    /// How the gates of a shard's concerts are set, by concert; none for a concert whose gate nobody ever set.
    async fn gates(&self, shard: ShardId) -> Result<Vec<GateRow>, LedgerError>;

    /// How one is set.
    async fn gate(&self, concert: ConcertId) -> Result<Option<GateRow>, LedgerError>;

    /// Sets a gate, and notes it in its history, all or nothing, behind the fence: where this process still owns the
    /// shard in that epoch, and the gate's version is one less than the row's (0: it was never set). Who does not know
    /// what became of it asks the same again: what stands there already is [`Written::Done`].
    async fn set_gate(&self, fence: Fence, row: &GateRow, by: UserId) -> Result<Written, LedgerError>;

    /// Notes in the history what was admitted since the last note, behind the fence; the last note again is done
    /// already. A gate that nobody ever set has no history: [`Written::Conflict`].
    async fn note_admitted(
        &self,
        fence: Fence,
        concert: ConcertId,
        admitted: Admitted,
    ) -> Result<Written, LedgerError>;

    /// A gate's history, newest first, those with a number below `before`, at most `limit`.
    async fn gate_history(
        &self,
        concert: ConcertId,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<HistoryRow>, LedgerError>;

    /// A draw of a concert, by its number; the newest where none is given.
    async fn draw(&self, concert: ConcertId, no: Option<u32>) -> Result<Option<DrawRow>, LedgerError>;

    /// The number of a concert's newest draw, and how far that is. Costs next to nothing, however many take part.
    async fn draw_stage(&self, concert: ConcertId) -> Result<Option<(u32, DrawStage)>, LedgerError>;

    /// Writes a draw anew or over the same one in an earlier stage, behind the fence. What an earlier stage has
    /// published stays as it is: a row that contradicts it is a [`Written::Conflict`], as is one whose stages do not
    /// follow from one another, and a further draw before the one before is drawn.
    async fn save_draw(&self, fence: Fence, draw: &DrawRow) -> Result<Written, LedgerError>;
}

/// As whose owner something is written: this process, in this epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fence {
    pub shard: ShardId,
    pub epoch: Epoch,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    Done,
    /// The shard has another owner or a newer epoch: nothing was written.
    Fenced,
    /// Something else is there by now: nothing was written.
    Conflict,
}

/// How a gate is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GateRow {
    pub concert: ConcertId,
    /// 1 for the first; one more with each change.
    pub version: u64,
    pub policy: Policy,
    pub changed_at: Time,
}

/// People let in from `since` (exclusive) to `until`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admitted {
    pub since: Time,
    pub until: Time,
    pub count: u64,
}

/// One line of a gate's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryRow {
    /// From 1, by concert.
    pub no: u64,
    pub what: History,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum History {
    /// Somebody set it.
    Set {
        row: GateRow,
        by: UserId,
    },
    Admitted(Admitted),
}

/// A draw, as far as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrawRow {
    pub concert: ConcertId,
    /// 1 for the concert's first draw.
    pub no: u32,
    /// Not told before the draw is done.
    pub seed: Seed,
    /// What entrants' salts come from; never told.
    pub salt_key: Seed,
    /// When the commitment to the seed was published.
    pub committed_at: Time,
    /// From the opening on.
    pub frozen: Option<Frozen>,
    /// From the draw on.
    pub drawn: Option<Drawn>,
}

/// How far a draw is. Each stage adds to the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DrawStage {
    Committed,
    Frozen,
    Drawn,
}

impl DrawStage {
    #[must_use]
    pub const fn of(is_frozen: bool, is_drawn: bool) -> Self {
        match (is_frozen, is_drawn) {
            (false, _) => Self::Committed,
            (true, false) => Self::Frozen,
            (true, true) => Self::Drawn,
        }
    }
}

impl DrawRow {
    #[must_use]
    pub const fn stage(&self) -> DrawStage {
        DrawStage::of(self.frozen.is_some(), self.drawn.is_some())
    }
}

/// Who takes part, and what was published of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frozen {
    /// The bounds that the gate gave.
    pub first: Turn,
    pub upto: Turn,
    /// By turn.
    pub entrants: Vec<(Turn, UserId)>,
    pub root: Digest,
    pub published_at: Time,
    /// The beacon's round that decides, and when it is due; `None`: the operator is trusted.
    pub round: Option<(u64, Time)>,
}

/// How it ended. The order follows from seed, root and this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drawn {
    pub at: Time,
    /// What the beacon said in its round; `None` where there was none, or it was given up.
    pub beacon: Option<[u8; 32]>,
}

/// The crash-recovery copy of lines and passes. It is never asked for a decision.
#[async_trait]
pub trait GateMirror: Send + Sync + 'static {
    /// Applies a batch if the copy stands exactly at its (`epoch`, `previous`).
    async fn apply(&self, batch: &GateBatch) -> Result<MirrorAnswer, MirrorError>;

    /// Replaces a gate's copy by `snapshot` and stands at (`epoch`, `op`) then.
    async fn rebuild(
        &self,
        concert: ConcertId,
        epoch: Epoch,
        op: u64,
        now: Time,
        snapshot: &Snapshot,
    ) -> Result<MirrorAnswer, MirrorError>;

    /// Fences lower epochs off a gate, stands at (`epoch`, 0) then, and reads what there is. Passes that have
    /// ended by `now` are left out.
    async fn take_over(&self, concert: ConcertId, epoch: Epoch, now: Time) -> Result<Snapshot, MirrorError>;

    /// Whether it can be reached.
    async fn ping(&self) -> Result<(), MirrorError>;
}

/// Changes of one gate since `previous`, in their order. One without changes asks whether the copy stands there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GateBatch {
    pub concert: ConcertId,
    pub epoch: Epoch,
    pub previous: u64,
    pub op: u64,
    /// When the batch was cut.
    pub now: Time,
    /// None is a [`MirrorOp::Rebuild`].
    pub changes: Vec<MirrorOp>,
}
