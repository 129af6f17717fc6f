//! Who keeps a gate's draw going: one task that brings the row in the ledger as far as it can come.
//!
//! [`next`] decides, the task performs. Whatever it did not hear the end of, it reads again: the ledger's row goes
//! before what this process believes.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use engine::gate::draw::Seed;
use engine::gate::{Draw, Mode};
use engine::{ConcertId, Span, Time, Turn, UserId};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::{BeaconChain, Settled, commit, freeze, order, stands};
use crate::clock::LedgerClock;
use crate::gates::ports::{DrawRow, Drawn, Fence, GateLedger, Written};
use crate::lock::lock;
use crate::ports::LedgerError;

/// Between attempts while the ledger is away.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Hears the order of the draw with these bounds, for [`engine::gate::Input::Drawn`]. Called from the driver's task.
pub type Ordered = Box<dyn Fn(Turn, Turn, Vec<Turn>) + Send + Sync>;

/// What a gate's draw is kept with.
pub struct DrawsOptions {
    pub ledger: Arc<dyn GateLedger>,
    pub clock: LedgerClock,
    pub concert: ConcertId,
    /// As whose owner rows are written: behind it this driver ends.
    pub fence: Fence,
    /// `None`: the operator is trusted.
    pub beacon: Option<BeaconChain>,
    /// 32 bytes that nobody can guess.
    pub random: fn() -> Seed,
    pub ordered: Ordered,
}

/// The draw of one gate, for as long as its actor lives.
pub struct Draws {
    inner: Arc<Inner>,
    task: JoinHandle<()>,
}

struct Inner {
    options: DrawsOptions,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    /// As the ledger had it last. Not read yet: nothing.
    row: Option<Arc<DrawRow>>,
    wants: Wants,
}

/// What the gate and the operator have said.
#[derive(Clone, Debug, Default)]
struct Wants {
    /// A presale is to be drawn, some day.
    is_due: bool,
    /// The entrants whose order the gate waits for.
    settled: Option<Arc<Settled>>,
    /// The beacon's word, and of which round.
    word: Option<(u64, Option<[u8; 32]>)>,
}

impl Wants {
    const fn is_nothing(&self) -> bool {
        self.settled.is_none() && !self.is_due
    }
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Wait,
    /// Begin a draw with this number.
    Commit(u32),
    Freeze,
    Draw(Option<[u8; 32]>),
    /// Tell the gate.
    Tell,
}

/// Decides by the row of the ledger.
fn next(row: Option<&DrawRow>, wants: &Wants) -> Step {
    if wants.is_nothing() {
        return Step::Wait;
    }
    let Some(row) = row else { return Step::Commit(1) };
    match (&row.frozen, &wants.settled) {
        (None, None) => Step::Wait,
        (None, Some(_)) => Step::Freeze,
        // Of a presale before this one.
        (Some(_), None) => Step::Commit(row.no + 1),
        (Some(published), Some(settled)) if !stands(published, settled) => Step::Commit(row.no + 1),
        (Some(_), Some(_)) if row.drawn.is_some() => Step::Tell,
        (Some(published), Some(_)) => match (published.round, wants.word) {
            (None, _) => Step::Draw(None),
            (Some((round, _)), Some((said, value))) if said == round => Step::Draw(value),
            (Some(_), _) => Step::Wait,
        },
    }
}

/// Whether a draw hears this word: one for its round, once that is due; or that it shall not wait any longer, once the
/// beacon is `silent_for` so long: sooner nobody needs that, but for choosing between two orders.
fn hears(row: Option<&DrawRow>, now: Time, silent_for: Span, round: u64, value: Option<[u8; 32]>) -> bool {
    let Some(row) = row else { return false };
    let Some((awaited, due)) = row.frozen.as_ref().and_then(|frozen| frozen.round) else { return false };
    let heard_from = if value.is_some() { due } else { due + silent_for };
    awaited == round && heard_from <= now && row.drawn.is_none_or(|drawn| drawn.beacon == value)
}

/// How long after a round was due its beacon counts as silent: ten of its periods. That of a chain which is not
/// configured any more is taken for drand's first, 30 s.
fn silent_for(chain: Option<BeaconChain>) -> Span {
    const PERIODS: i64 = 10;
    let period = chain.map_or(Span::from_secs(30), |chain| chain.period);
    Span(period.0.saturating_mul(PERIODS))
}

impl Draws {
    /// Begins with whatever the ledger has. Ends when it is dropped, or when the fence has fallen.
    #[must_use]
    pub fn start(options: DrawsOptions) -> Self {
        let inner = Arc::new(Inner { options, state: Mutex::default(), changed: Notify::new() });
        let task = tokio::spawn(inner.clone().run());
        Self { inner, task }
    }

    /// The gate is set so, and its draw is there: after each change, and once after a restore. Where a presale is to
    /// come, the commitment to its seed is published now.
    pub fn policy_set(&self, mode: Mode, draw: Draw) {
        {
            let wants = &mut lock(&self.inner.state).wants;
            wants.is_due = mode == Mode::PresaleDraw && draw == Draw::Due;
            if !matches!(draw, Draw::Frozen { .. }) {
                (wants.settled, wants.word) = (None, None);
            }
        }
        self.inner.changed.notify_one();
    }

    /// The entrants are settled ([`engine::gate::Effect::Frozen`]): publishes them, or finds them published.
    pub fn frozen(&self, first: Turn, upto: Turn, entrants: Vec<(Turn, UserId)>) {
        lock(&self.inner.state).wants.settled = Some(Arc::new(Settled { first, upto, entrants }));
        self.inner.changed.notify_one();
    }

    /// What the beacon said in a round; nothing: draw without it. `false`: no draw waits for that round, or it is not due
    /// (to be given up: not for long enough), or something else was said of it before. Again: the same answer. It is durable when [`Draws::row`]
    /// shows it; a crash before that has to be told again.
    #[must_use]
    pub fn beacon(&self, round: u64, value: Option<[u8; 32]>) -> bool {
        let now = self.inner.options.clock.now();
        {
            let mut state = lock(&self.inner.state);
            let contradicts = state.wants.word.is_some_and(|(known, said)| known == round && said != value);
            let silent_for = silent_for(self.inner.options.beacon);
            if contradicts || !hears(state.row.as_deref(), now, silent_for, round, value) {
                return false;
            }
            state.wants.word = Some((round, value));
        }
        self.inner.changed.notify_one();
        true
    }

    /// The draw as the ledger had it last.
    #[must_use]
    pub fn row(&self) -> Option<Arc<DrawRow>> {
        lock(&self.inner.state).row.clone()
    }

    #[cfg(test)]
    pub(super) fn replace_row(&self, row: DrawRow) {
        lock(&self.inner.state).row = Some(Arc::new(row));
    }

    #[cfg(test)]
    pub(super) fn has_ended(&self) -> bool {
        self.task.is_finished()
    }
}

impl Drop for Draws {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Why an attempt came to nothing.
enum Failed {
    Ledger(LedgerError),
    /// Somebody else owns the gate.
    Fenced,
    /// The ledger has another row than was read.
    Conflict,
    /// A bug: the work on a blocking thread panicked.
    Work(tokio::task::JoinError),
}

impl From<LedgerError> for Failed {
    fn from(error: LedgerError) -> Self {
        Self::Ledger(error)
    }
}

impl Inner {
    async fn run(self: Arc<Self>) {
        let concert = self.options.concert.0;
        let (mut is_read, mut pause) = (false, BACK_OFF.0);
        loop {
            let went = self.advance(&mut is_read).await;
            match went {
                Ok(Step::Wait) => {
                    pause = BACK_OFF.0;
                    self.changed.notified().await;
                    continue;
                }
                Ok(_) => {
                    pause = BACK_OFF.0;
                    continue;
                }
                Err(Failed::Fenced) => {
                    tracing::info!(concert, "the draw is another owner's by now");
                    return;
                }
                Err(Failed::Conflict) => {
                    tracing::info!(concert, "the ledger has another row of the draw; it is read again");
                }
                Err(Failed::Ledger(error)) => {
                    tracing::warn!(concert, %error, "the draw waits for the ledger");
                }
                Err(Failed::Work(error)) => {
                    tracing::error!(concert, %error, "the draw could not be worked out")
                }
            }
            is_read = false;
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(BACK_OFF.1);
        }
    }

    /// One step, if there is one to do.
    async fn advance(&self, is_read: &mut bool) -> Result<Step, Failed> {
        let DrawsOptions { ledger, concert, .. } = &self.options;
        // Most gates never draw, and a row may be megabytes.
        if lock(&self.state).wants.is_nothing() {
            return Ok(Step::Wait);
        }
        if !*is_read {
            let row = ledger.draw(*concert, None).await?.map(Arc::new);
            lock(&self.state).row = row;
            *is_read = true;
        }
        let (row, wants) = {
            let state = lock(&self.state);
            (state.row.clone(), state.wants.clone())
        };
        let step = next(row.as_deref(), &wants);
        match (step, row, wants.settled) {
            (Step::Commit(no), ..) => {
                let now = self.options.clock.now();
                let (seed, salt_key) = ((self.options.random)(), (self.options.random)());
                self.save(commit(*concert, no, now, seed, salt_key)).await?;
                tracing::info!(concert = concert.0, no, "the seed of a draw is committed to");
            }
            (Step::Freeze, Some(row), Some(settled)) => self.publish(row, settled).await?,
            (Step::Draw(beacon), Some(row), _) => {
                let drawn = Some(Drawn { at: self.options.clock.now(), beacon });
                self.save(DrawRow { drawn, ..(*row).clone() }).await?;
                tracing::info!(concert = concert.0, no = row.no, beacon = beacon.is_some(), "drawn");
            }
            (Step::Tell, Some(row), Some(settled)) => self.tell(row, settled).await?,
            // `next` frees no entrants that nobody has settled.
            (Step::Wait | Step::Freeze | Step::Draw(_) | Step::Tell, ..) => return Ok(Step::Wait),
        }
        Ok(step)
    }

    async fn publish(&self, row: Arc<DrawRow>, settled: Arc<Settled>) -> Result<(), Failed> {
        let (clock, chain) = (self.options.clock.clone(), self.options.beacon);
        let work = move || freeze(&row, &settled, || clock.now(), chain);
        let row = tokio::task::spawn_blocking(work).await.map_err(Failed::Work)?;
        let (concert, no) = (row.concert.0, row.no);
        let told = row.frozen.as_ref().map(|frozen| (frozen.entrants.len(), hex(&frozen.root), frozen.round));
        self.save(row).await?;
        if let Some((entrants, root, round)) = told {
            let due = round.map(|(_, due)| due);
            let round = round.map(|(round, _)| round);
            tracing::info!(concert, no, entrants, root, round, "the entrants of a draw are published");
            if due.is_some_and(|due| due <= self.options.clock.now()) {
                tracing::warn!(
                    concert,
                    no,
                    round,
                    "the ledger took so long that the draw's round was out first"
                );
            }
        }
        Ok(())
    }

    async fn tell(&self, row: Arc<DrawRow>, settled: Arc<Settled>) -> Result<(), Failed> {
        let order =
            tokio::task::spawn_blocking(move || order(&row)).await.map_err(Failed::Work)?.unwrap_or_default();
        (self.options.ordered)(settled.first, settled.upto, order);
        let wants = &mut lock(&self.state).wants;
        if wants.settled.as_ref().is_some_and(|now| Arc::ptr_eq(now, &settled)) {
            wants.settled = None;
            wants.is_due = false;
        }
        Ok(())
    }

    async fn save(&self, row: DrawRow) -> Result<(), Failed> {
        match self.options.ledger.save_draw(self.options.fence, &row).await? {
            Written::Done => {
                lock(&self.state).row = Some(Arc::new(row));
                Ok(())
            }
            Written::Fenced => Err(Failed::Fenced),
            Written::Conflict => Err(Failed::Conflict),
        }
    }
}

/// For the log: whoever keeps it can say later when a root was out.
fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
