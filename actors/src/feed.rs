//! The feed's hub: a copy of every option's map, kept beside the shards so that looking at seats is
//! never work for the actor that decides them.
//!
//! The shard gives each change its number and writes it here as it happens; readers get a snapshot
//! that is cut at most once per tick, however many they are.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use engine::{Epoch, OptionId, SeatChange, SeatState};
use prometheus_client::metrics::histogram::Histogram;
use tokio::time::Instant;

/// The public state of an option's seats at one point of its feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    pub option: OptionId,
    pub epoch: Epoch,
    pub feed_seq: u64,
    pub seat_count: u32,
    /// Seats per state, indexed by `SeatState as usize`.
    pub counts: [u32; 4],
    /// Two bits a seat, seat i in bits 2·(i mod 4) of byte i/4.
    pub map: Vec<u8>,
}

impl Snapshot {
    /// The state of a seat below `seat_count`.
    #[must_use]
    pub fn state(&self, seat: usize) -> SeatState {
        SeatState::from_bits(self.map[seat / 4] >> (2 * (seat % 4)))
    }

    fn set(&mut self, seat: usize, state: SeatState) {
        let shift = 2 * (seat % 4);
        let byte = &mut self.map[seat / 4];
        *byte = *byte & !(3 << shift) | (state as u8) << shift;
    }
}

/// Every option that this node serves. One for the whole process.
#[derive(Debug)]
pub struct Hub {
    tick: Duration,
    options: RwLock<BTreeMap<OptionId, Arc<OptionFeed>>>,
    lag: Histogram,
}

/// One option's copy. Its shard writes, everybody reads.
#[derive(Debug)]
pub struct OptionFeed {
    copy: Mutex<Copy>,
}

#[derive(Debug)]
struct Copy {
    /// As the shard has it now.
    current: Snapshot,
    /// As readers have it.
    cut: Arc<Snapshot>,
    cut_at: Instant,
    /// When the oldest change after the cut came.
    changed_at: Option<Instant>,
}

impl Hub {
    /// `tick` is how old a snapshot may be; `lag` learns how old the oldest change in a cut is, in seconds.
    #[must_use]
    pub fn new(tick: Duration, lag: Histogram) -> Self {
        Self { tick, options: RwLock::default(), lag }
    }

    /// Takes an option over: a new one, or one whose shard was restored under a new epoch.
    pub fn open(
        &self,
        option: OptionId,
        epoch: Epoch,
        feed_seq: u64,
        states: impl Iterator<Item = SeatState>,
    ) -> Arc<OptionFeed> {
        let feed = Arc::new(OptionFeed::new(option, epoch, feed_seq, states));
        let mut options = self.options.write().unwrap_or_else(PoisonError::into_inner);
        options.insert(option, Arc::clone(&feed));
        feed
    }

    /// Forgets an option that this node no longer serves, unless somebody newer does.
    pub fn close(&self, option: OptionId, epoch: Epoch) {
        let mut options = self.options.write().unwrap_or_else(PoisonError::into_inner);
        if options.get(&option).is_some_and(|feed| feed.lock().current.epoch <= epoch) {
            options.remove(&option);
        }
    }

    /// The seats of an option, at most one tick old; `None` while nobody here serves it.
    #[must_use]
    pub fn snapshot(&self, option: OptionId) -> Option<Arc<Snapshot>> {
        let options = self.options.read().unwrap_or_else(PoisonError::into_inner);
        let feed = Arc::clone(options.get(&option)?);
        drop(options);
        Some(feed.snapshot(self.tick, &self.lag))
    }
}

impl OptionFeed {
    fn new(option: OptionId, epoch: Epoch, feed_seq: u64, states: impl Iterator<Item = SeatState>) -> Self {
        let mut current =
            Snapshot { option, epoch, feed_seq, seat_count: 0, counts: [0; 4], map: Vec::new() };
        for (seat, state) in states.enumerate() {
            if seat % 4 == 0 {
                current.map.push(0);
            }
            current.set(seat, state);
            current.seat_count += 1;
            current.counts[state as usize] += 1;
        }
        let cut = Arc::new(current.clone());
        Self { copy: Mutex::new(Copy { current, cut, cut_at: Instant::now(), changed_at: None }) }
    }

    /// Takes a change that the shard made at `now`. Changes come in the order of their numbers.
    pub fn apply(&self, now: Instant, change: &SeatChange) {
        let mut copy = self.lock();
        copy.changed_at.get_or_insert(now);
        let current = &mut copy.current;
        let seat = change.seat.0 as usize;
        debug_assert_eq!(change.feed_seq, current.feed_seq + 1, "a shard counts its changes");
        let before = current.state(seat);
        current.set(seat, change.state);
        current.counts[before as usize] -= 1;
        current.counts[change.state as usize] += 1;
        current.feed_seq = change.feed_seq;
    }

    fn snapshot(&self, tick: Duration, lag: &Histogram) -> Arc<Snapshot> {
        let mut copy = self.lock();
        if let Some(changed_at) = copy.changed_at
            && copy.cut_at.elapsed() >= tick
        {
            lag.observe(changed_at.elapsed().as_secs_f64());
            copy.cut = Arc::new(copy.current.clone());
            copy.cut_at = Instant::now();
            copy.changed_at = None;
        }
        Arc::clone(&copy.cut)
    }

    fn lock(&self) -> MutexGuard<'_, Copy> {
        self.copy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use engine::SeatNo;

    use super::*;

    const OPTION: OptionId = OptionId(7);

    fn change(seat: u32, state: SeatState, feed_seq: u64) -> SeatChange {
        SeatChange { option: OPTION, seat: SeatNo(seat), state, feed_seq }
    }

    #[tokio::test(start_paused = true)]
    async fn a_snapshot_is_at_most_a_tick_old_and_cut_once_a_tick() {
        let hub = Hub::new(Duration::from_millis(50), Histogram::new([0.1]));
        assert_eq!(hub.snapshot(OPTION), None);
        let feed = hub.open(OPTION, Epoch(1), 0, [SeatState::Available; 5].into_iter());
        let first = hub.snapshot(OPTION).unwrap();
        assert_eq!((first.counts, first.map.as_slice()), ([5, 0, 0, 0], [0, 0].as_slice()));
        feed.apply(Instant::now(), &change(1, SeatState::Selecting, 1));
        feed.apply(Instant::now(), &change(4, SeatState::Confirmed, 2));
        assert!(Arc::ptr_eq(&first, &hub.snapshot(OPTION).unwrap()));
        tokio::time::advance(Duration::from_millis(50)).await;
        let second = hub.snapshot(OPTION).unwrap();
        assert_eq!((second.feed_seq, second.counts), (2, [3, 1, 0, 1]));
        assert_eq!(second.map, [0b0100, 0b11]);
        assert_eq!((second.state(1), second.state(4)), (SeatState::Selecting, SeatState::Confirmed));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(Arc::ptr_eq(&second, &hub.snapshot(OPTION).unwrap()), "nothing changed, nothing is cut");
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_epoch_replaces_and_an_old_one_cannot_close() {
        let hub = Hub::new(Duration::from_millis(50), Histogram::new([0.1]));
        hub.open(OPTION, Epoch(1), 9, [SeatState::Hold].into_iter());
        hub.open(OPTION, Epoch(2), 0, [SeatState::Available].into_iter());
        hub.close(OPTION, Epoch(1));
        assert_eq!(hub.snapshot(OPTION).unwrap().epoch, Epoch(2));
        hub.close(OPTION, Epoch(2));
        assert_eq!(hub.snapshot(OPTION), None);
    }
}
