//! A viewer's place in an option's feed.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::history::{CatchUp, Cut};
use super::{Frame, OptionFeed, Position};

/// How long a viewer waits for a position that it has and the hub has not: another node was ahead of this one, for
/// a moment. Whoever claims more than that begins anew.
const AHEAD_PATIENCE: Duration = Duration::from_secs(2);

/// A viewer of an option. It keeps no frames: what comes next follows from what it has and what there is.
#[derive(Debug)]
pub struct Watch {
    feed: Arc<OptionFeed>,
    shown: watch::Receiver<Option<Arc<Cut>>>,
    /// What the viewer has.
    at: Option<Position>,
    /// Whether it had something and must begin anew.
    is_reset: bool,
    ahead_until: Instant,
}

impl Watch {
    pub(super) fn new(
        feed: Arc<OptionFeed>,
        shown: watch::Receiver<Option<Arc<Cut>>>,
        at: Option<Position>,
    ) -> Self {
        feed.metrics().viewers().inc();
        Self { feed, shown, at, is_reset: false, ahead_until: Instant::now() + AHEAD_PATIENCE }
    }

    /// The next frame for this viewer; waits for it and may be cancelled. `None`: the node no longer serves the
    /// option, or is going down.
    pub async fn next(&mut self) -> Option<Arc<Frame>> {
        loop {
            match self.catch_up()? {
                CatchUp::Frame(frame) => return Some(self.take(frame)),
                CatchUp::Current => self.shown.changed().await.ok()?,
                CatchUp::Ahead => self.wait_ahead().await?,
            }
        }
    }

    /// What brings this viewer up to date: changes of no seat where it is already.
    pub async fn up_to_date(&mut self) -> Option<Arc<Frame>> {
        loop {
            match self.catch_up()? {
                CatchUp::Frame(frame) => return Some(self.take(frame)),
                CatchUp::Current => {
                    let at = self.at?;
                    return Some(Arc::new(Frame::changes(self.feed.option(), at, at, Vec::new())));
                }
                CatchUp::Ahead => self.wait_ahead().await?,
            }
        }
    }

    /// Asks for a snapshot instead of whatever comes next: the viewer lost its backlog.
    pub fn reset(&mut self) {
        self.is_reset |= self.at.take().is_some();
    }

    fn catch_up(&mut self) -> Option<CatchUp> {
        let cut = self.shown.borrow_and_update().clone()?;
        Some(cut.catch_up(self.at).unwrap_or_else(|| self.feed.catch_up(self.at)))
    }

    async fn wait_ahead(&mut self) -> Option<()> {
        match timeout_at(self.ahead_until, self.shown.changed()).await {
            Ok(changed) => changed.ok(),
            Err(_) => {
                self.reset();
                Some(())
            }
        }
    }

    fn take(&mut self, frame: Arc<Frame>) -> Arc<Frame> {
        let had_something = self.is_reset || self.at.is_some();
        if had_something && frame.from().is_none() {
            self.feed.metrics().viewer_resets().inc();
        }
        self.is_reset = false;
        self.at = Some(frame.to());
        frame
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.feed.metrics().viewers().dec();
    }
}
