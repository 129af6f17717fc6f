//! The feed's hub: a copy of every option's map, kept beside the shards so that looking at seats is
//! never work for the actor that decides them.
//!
//! The shard gives each change its number and writes it here as it happens. Once a tick the changes become a cut:
//! a new snapshot, and one frame for all who had the last. Who comes back, or was slow, is brought to the newest
//! cut from wherever it was. `history` decides what brings whom up to date; here are the locks and the clock.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use engine::{Epoch, OptionId, SeatChange, SeatState};
use tokio::sync::Notify;
use tokio::sync::watch::Sender;
use tokio::time::Instant;

pub use self::frame::Frame;
use self::history::{CatchUp, Cut, History};
pub use self::news::{Change, News, NotNews};
pub use self::position::{NotAPosition, Position};
pub use self::snapshot::Snapshot;
pub use self::watch::Watch;
use crate::lock::lock;
use crate::observe::Metrics;

mod frame;
mod history;
mod news;
mod position;
mod snapshot;
#[cfg(test)]
mod tests;
mod watch;

/// Every option that this node serves. One for the whole process.
#[derive(Debug)]
pub struct Hub {
    options: RwLock<BTreeMap<OptionId, Arc<OptionFeed>>>,
    /// Counts how often a shard opened one.
    opened: Sender<u64>,
    pulse: Arc<Pulse>,
}

/// What cuts the options that changed.
#[derive(Debug)]
struct Pulse {
    tick: Duration,
    /// Options with changes that somebody waits for, each once.
    due: Mutex<Vec<Arc<OptionFeed>>>,
    /// Told when there is one.
    wake: Notify,
    metrics: Metrics,
}

/// One option's copy. Its shard writes, everybody reads.
#[derive(Debug)]
pub(crate) struct OptionFeed {
    option: OptionId,
    pulse: Arc<Pulse>,
    /// What viewers have seen. Whoever locks both locks this one first; the shard locks only the other.
    history: Mutex<History>,
    live: Mutex<Live>,
    /// The newest cut; `None` when nobody is to watch any more.
    shown: Sender<Option<Arc<Cut>>>,
}

/// An option as its shard has it now.
#[derive(Debug)]
struct Live {
    snapshot: Snapshot,
    /// A bit for each seat that changed after the cut.
    changed: Vec<u64>,
    is_changed: bool,
    cut_at: Instant,
    /// Since when somebody waits for the next cut.
    due_since: Option<Instant>,
}

/// Where a shard's changes of an option go in, for as long as the shard's epoch is the newest.
#[derive(Debug)]
pub struct Inlet {
    feed: Arc<OptionFeed>,
    epoch: Epoch,
}

impl Hub {
    /// `tick` is how old a snapshot may be, and how long changes are gathered into one frame. Frames are cut while
    /// [`Self::run`] runs.
    #[must_use]
    pub fn new(tick: Duration, metrics: Metrics) -> Self {
        let pulse = Pulse { tick, due: Mutex::default(), wake: Notify::new(), metrics };
        Self { options: RwLock::default(), opened: Sender::new(0), pulse: Arc::new(pulse) }
    }

    /// Cuts what changed while somebody watches it. The first change after a quiet time is shown at once, those
    /// that follow wait for the tick.
    pub async fn run(self: Arc<Self>) {
        loop {
            self.pulse.wake.notified().await;
            let due = std::mem::take(&mut *lock(&self.pulse.due));
            for feed in due {
                feed.cut();
                tokio::task::yield_now().await;
            }
            tokio::time::sleep(self.pulse.tick).await;
        }
    }

    /// Takes an option over: a new one, or one whose shard was restored under a new epoch.
    pub fn open(
        &self,
        option: OptionId,
        epoch: Epoch,
        feed_seq: u64,
        states: impl Iterator<Item = SeatState>,
    ) -> Inlet {
        let snapshot = Snapshot::new(option, Position { epoch, seq: feed_seq }, states);
        let mut options = self.options.write().unwrap_or_else(PoisonError::into_inner);
        let feed = match options.get(&option) {
            Some(feed) => {
                feed.turn(snapshot);
                feed.clone()
            }
            None => {
                let feed = Arc::new(OptionFeed::new(snapshot, self.pulse.clone()));
                options.insert(option, feed.clone());
                feed
            }
        };
        drop(options);
        self.opened.send_modify(|opened| *opened += 1);
        Inlet { feed, epoch }
    }

    /// Takes what another node's hub says of an option that is served there. A frame that does not fit what this
    /// hub has is left out: whoever brings it must begin anew. Whether it fitted.
    pub fn follow(&self, news: &News) -> bool {
        match self.find(news.option) {
            Some(feed) => feed.follow(news),
            None => {
                let Change::Whole { states } = &news.change else { return false };
                let snapshot = Snapshot::packed(news.option, news.to, states);
                let feed = Arc::new(OptionFeed::new(snapshot, self.pulse.clone()));
                let mut options = self.options.write().unwrap_or_else(PoisonError::into_inner);
                // Whoever opened it meanwhile knows better.
                options.entry(news.option).or_insert(feed);
                true
            }
        }
    }

    /// Every option that is shown here.
    #[must_use]
    pub fn options(&self) -> Vec<OptionId> {
        self.options.read().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
    }

    /// Changes whenever a shard of this node opens an option.
    #[must_use]
    pub fn opened(&self) -> tokio::sync::watch::Receiver<u64> {
        self.opened.subscribe()
    }

    /// What this hub has of an option.
    #[must_use]
    pub fn position(&self, option: OptionId) -> Option<Position> {
        Some(lock(&self.find(option)?.live).snapshot.position())
    }

    /// Lets every viewer go, because the node goes down. Snapshots are still served.
    pub fn end(&self) {
        let options = self.options.read().unwrap_or_else(PoisonError::into_inner);
        options.values().for_each(|feed| feed.end());
    }

    /// The seats of an option, at most one tick old; `None` while nobody here serves it.
    #[must_use]
    pub fn snapshot(&self, option: OptionId) -> Option<Arc<Snapshot>> {
        let feed = self.find(option)?;
        feed.refresh();
        Some(lock(&feed.history).cut().snapshot.clone())
    }

    /// A viewer of an option; `None` while nobody here serves it. `since`: what the viewer has. First comes what
    /// brings it up to date: nothing, changes, or a snapshot where its position cannot be continued.
    #[must_use]
    pub fn watch(&self, option: OptionId, since: Option<Position>) -> Option<Watch> {
        let feed = self.find(option)?;
        let shown = feed.shown.subscribe();
        // After the subscription, or a change in between would wait for the next one.
        feed.refresh();
        let is_served = shown.borrow().is_some();
        is_served.then(|| Watch::new(feed, shown, since))
    }

    fn find(&self, option: OptionId) -> Option<Arc<OptionFeed>> {
        let options = self.options.read().unwrap_or_else(PoisonError::into_inner);
        options.get(&option).cloned()
    }
}

impl Inlet {
    /// Takes a change that the shard made at `now`. Changes come in the order of their numbers. Those of a shard
    /// that has been followed by another are nobody's business.
    pub fn apply(&self, now: Instant, change: &SeatChange) {
        let mut live = lock(&self.feed.live);
        if live.snapshot.epoch != self.epoch {
            return;
        }
        debug_assert_eq!(change.feed_seq, live.snapshot.feed_seq + 1, "a shard counts its changes");
        let seat = change.seat.0 as usize;
        live.snapshot.set(seat, change.state);
        live.snapshot.feed_seq = change.feed_seq;
        live.changed[seat / 64] |= 1 << (seat % 64);
        live.is_changed = true;
        if live.due_since.is_none() && self.feed.shown.receiver_count() > 0 {
            live.due_since = Some(now);
            self.feed.ask_for_a_cut();
        }
    }
}

impl OptionFeed {
    fn new(snapshot: Snapshot, pulse: Arc<Pulse>) -> Self {
        let history = History::new(snapshot.clone());
        Self {
            option: snapshot.option,
            pulse,
            shown: Sender::new(Some(history.cut().clone())),
            history: Mutex::new(history),
            live: Mutex::new(Live::new(snapshot)),
        }
    }

    const fn option(&self) -> OptionId {
        self.option
    }

    fn metrics(&self) -> &Metrics {
        &self.pulse.metrics
    }

    fn catch_up(&self, at: Option<Position>) -> CatchUp {
        lock(&self.history).catch_up(at)
    }

    /// Cuts for somebody who looks now: nobody may have for a long time.
    fn refresh(self: &Arc<Self>) {
        let mut live = lock(&self.live);
        if !live.is_changed {
            return;
        }
        if live.cut_at.elapsed() >= self.pulse.tick {
            drop(live);
            self.cut();
        } else if live.due_since.is_none() && self.shown.receiver_count() > 0 {
            live.due_since = Some(Instant::now());
            self.ask_for_a_cut();
        }
    }

    fn ask_for_a_cut(self: &Arc<Self>) {
        lock(&self.pulse.due).push(self.clone());
        self.pulse.wake.notify_one();
    }

    fn cut(&self) {
        let mut history = lock(&self.history);
        let mut live = lock(&self.live);
        if let Some(since) = live.due_since.take() {
            self.metrics().feed_lag_seconds().observe(since.elapsed().as_secs_f64());
        }
        if !live.is_changed {
            return;
        }
        let snapshot = live.snapshot.clone();
        let changed = live.changed.clone();
        live.changed.fill(0);
        live.is_changed = false;
        live.cut_at = Instant::now();
        drop(live);
        history.advance(snapshot, ones(&changed));
        self.show(&history);
    }

    fn turn(&self, snapshot: Snapshot) {
        let mut history = lock(&self.history);
        *lock(&self.live) = Live::new(snapshot.clone());
        history.turn(snapshot);
        self.show(&history);
    }

    /// Another node's hub gathers for a tick already: what it says is shown at once.
    fn follow(&self, news: &News) -> bool {
        let mut history = lock(&self.history);
        let mut live = lock(&self.live);
        let at = live.snapshot.position();
        let snapshot = match &news.change {
            // A hub that is behind this one has not heard of the newest owner yet.
            Change::Whole { .. } if news.to < at => return false,
            Change::Whole { states } => Snapshot::packed(news.option, news.to, states),
            Change::Some { from, .. } if *from != at || news.to < at => return false,
            Change::Some { set, .. } => {
                let mut snapshot = live.snapshot.clone();
                if set.iter().any(|(seat, _)| *seat >= snapshot.seat_count) {
                    return false;
                }
                for (seat, state) in set {
                    snapshot.set(*seat as usize, *state);
                }
                (snapshot.epoch, snapshot.feed_seq) = (news.to.epoch, news.to.seq);
                snapshot
            }
        };
        let is_new_epoch = news.to.epoch != at.epoch;
        *live = Live::new(snapshot.clone());
        drop(live);
        match &news.change {
            Change::Some { set, .. } if !is_new_epoch => {
                history.advance(snapshot, set.iter().map(|(seat, _)| *seat));
            }
            Change::Whole { .. } | Change::Some { .. } => history.turn(snapshot),
        }
        self.show(&history);
        true
    }

    fn end(&self) {
        let _history = lock(&self.history);
        self.shown.send_replace(None);
    }

    /// Wakes the viewers, unless they have been let go.
    fn show(&self, history: &History) {
        self.shown.send_if_modified(|shown| {
            if shown.is_some() {
                *shown = Some(history.cut().clone());
            }
            shown.is_some()
        });
    }
}

impl Live {
    fn new(snapshot: Snapshot) -> Self {
        let changed = vec![0; (snapshot.seat_count as usize).div_ceil(64)];
        Self { snapshot, changed, is_changed: false, cut_at: Instant::now(), due_since: None }
    }
}

/// The places of the bits that are set.
fn ones(words: &[u64]) -> impl Iterator<Item = u32> {
    (0..).zip(words).flat_map(|(word, bits)| {
        let mut rest = *bits;
        std::iter::from_fn(move || {
            let place = rest.trailing_zeros();
            let is_one = rest != 0;
            rest &= rest.wrapping_sub(1);
            is_one.then(|| 64 * word + place)
        })
    })
}
