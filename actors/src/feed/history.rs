//! What an option's viewers have been shown, and when each seat last changed: what brings whom up to date.
//! Pure: a machine that is told of cuts and asked for frames.
//!
//! Positions of all epochs that were shown here lie on one line of versions. Each seat is stamped with the version
//! of the cut that last changed it, so whatever a viewer missed is a scan for greater stamps, however long it was
//! away and however many owners came and went; nothing is queued for anybody.

use std::collections::VecDeque;
use std::sync::Arc;

use engine::Epoch;

use super::Position;
use super::frame::{Frame, Packed};
use super::snapshot::Snapshot;

/// Epochs that a viewer may come back from.
const ERAS: usize = 16;

/// Changes that are always sent as such: 4 kB. More are sent only while they are smaller than the whole map.
const CHANGES: usize = 1_000;
/// Seats that a map of two bits has for each change of 32.
const SEATS_PER_CHANGE: usize = 16;

/// Frames that are kept for viewers who come from the same position before the next cut.
const KEPT: usize = 16;

/// A cut: the map as viewers see it until the next one. Shared by all of them.
#[derive(Debug)]
pub(super) struct Cut {
    pub snapshot: Arc<Snapshot>,
    /// The snapshot for those who have nothing.
    whole: Arc<Frame>,
    /// The frame for those who have the cut before.
    latest: Option<Arc<Frame>>,
}

/// What a viewer is due.
#[derive(Clone, Debug)]
pub(super) enum CatchUp {
    Frame(Arc<Frame>),
    /// It has what there is.
    Current,
    /// It has what is not here yet.
    Ahead,
}

#[derive(Debug)]
pub(super) struct History {
    cut: Arc<Cut>,
    /// Never empty; the last is that of the cut.
    eras: VecDeque<Era>,
    /// The version at which each seat last changed; empty while none has.
    stamps: Vec<u32>,
    /// Frames to the cut from elsewhere than the cut before.
    kept: Vec<Arc<Frame>>,
}

/// The positions of one epoch, `first..=last`, and the version of the first.
#[derive(Clone, Copy, Debug)]
struct Era {
    epoch: Epoch,
    first: u64,
    last: u64,
    version: u32,
}

impl Cut {
    fn new(snapshot: Snapshot, latest: Option<Frame>) -> Arc<Self> {
        let snapshot = Arc::new(snapshot);
        let whole = Arc::new(Frame::snapshot(snapshot.clone()));
        Arc::new(Self { snapshot, whole, latest: latest.map(Arc::new) })
    }

    pub fn position(&self) -> Position {
        self.snapshot.position()
    }

    /// What a viewer is due, where that can be told from the cut alone: it can for everybody who keeps up.
    pub fn catch_up(&self, at: Option<Position>) -> Option<CatchUp> {
        let Some(at) = at else { return Some(CatchUp::Frame(self.whole.clone())) };
        if at == self.position() {
            return Some(CatchUp::Current);
        }
        let latest = self.latest.as_ref().filter(|latest| latest.from() == Some(at))?;
        Some(CatchUp::Frame(latest.clone()))
    }
}

impl Era {
    fn starting(at: Position, version: u32) -> Self {
        Self { epoch: at.epoch, first: at.seq, last: at.seq, version }
    }

    fn version(&self, seq: u64) -> Option<u32> {
        let after_first = u32::try_from(seq.checked_sub(self.first)?).ok()?;
        self.version.checked_add(after_first)
    }
}

impl History {
    /// Begins with a map of which nothing earlier is known.
    pub fn new(snapshot: Snapshot) -> Self {
        let era = Era::starting(snapshot.position(), 1);
        Self { cut: Cut::new(snapshot, None), eras: [era].into(), stamps: Vec::new(), kept: Vec::new() }
    }

    /// What viewers see.
    pub fn cut(&self) -> &Arc<Cut> {
        &self.cut
    }

    /// Shows the epoch's next map. `changed` names, each once, at least the seats that changed since the last.
    pub fn advance(&mut self, snapshot: Snapshot, changed: impl Iterator<Item = u32>) {
        let mut era = *self.era();
        debug_assert_eq!(snapshot.epoch, era.epoch, "a new epoch turns");
        era.last = snapshot.feed_seq;
        let version = era.version(era.last);
        if version.is_some() {
            *self.era_mut() = era;
        }
        self.show(snapshot, version, changed);
    }

    /// Shows the first map of another epoch.
    pub fn turn(&mut self, snapshot: Snapshot) {
        let era = *self.era();
        let is_same_hall = snapshot.seat_count == self.cut.snapshot.seat_count;
        if snapshot.epoch <= era.epoch || !is_same_hall {
            *self = Self::new(snapshot);
            return;
        }
        let version = era.version(era.last).and_then(|last| last.checked_add(1));
        if let Some(version) = version {
            if self.eras.len() == ERAS {
                self.eras.pop_front();
            }
            self.eras.push_back(Era::starting(snapshot.position(), version));
        }
        let before = self.cut.clone();
        let after = snapshot.map.clone();
        self.show(snapshot, version, differing(&before.snapshot.map, &after));
    }

    /// What brings a viewer up to date that has the map of this position, or none.
    pub fn catch_up(&mut self, at: Option<Position>) -> CatchUp {
        if let Some(known) = self.cut.catch_up(at) {
            return known;
        }
        let Some(at) = at else { return CatchUp::Frame(self.cut.whole.clone()) };
        if at > self.cut.position() {
            return CatchUp::Ahead;
        }
        if let Some(frame) = self.kept.iter().find(|frame| frame.from() == Some(at)) {
            return CatchUp::Frame(frame.clone());
        }
        let set = self.version(at).and_then(|version| self.changed_after(version));
        let Some(set) = set else { return CatchUp::Frame(self.cut.whole.clone()) };
        let frame = Arc::new(Frame::changes(self.cut.snapshot.option, at, self.cut.position(), set));
        if self.kept.len() < KEPT {
            self.kept.push(frame.clone());
        }
        CatchUp::Frame(frame)
    }

    /// The seats that changed after a version, as they are now; `None` where the whole map is smaller.
    fn changed_after(&self, version: u32) -> Option<Vec<Packed>> {
        let snapshot = &self.cut.snapshot;
        let most = CHANGES.max(snapshot.seat_count as usize / SEATS_PER_CHANGE);
        let stamped = (0..).zip(&self.stamps).filter(|(_, stamp)| **stamp > version);
        let mut set = Vec::new();
        for (seat, _) in stamped {
            if set.len() == most {
                return None;
            }
            set.push(Packed::new(seat, snapshot.state(seat as usize)));
        }
        Some(set)
    }

    /// The version of a position that was shown here, or that lies between two that were.
    fn version(&self, at: Position) -> Option<u32> {
        let era = self.eras.iter().find(|era| era.epoch == at.epoch)?;
        if at.seq > era.last { None } else { era.version(at.seq) }
    }

    /// Without a version the numbers are used up: whoever is away then begins anew.
    fn show(&mut self, snapshot: Snapshot, version: Option<u32>, changed: impl Iterator<Item = u32>) {
        let before = &self.cut.snapshot;
        let mut set = Vec::new();
        if version.is_some() && self.stamps.is_empty() {
            self.stamps = vec![0; snapshot.seat_count as usize];
        }
        for seat in changed {
            let state = snapshot.state(seat as usize);
            if let Some(version) = version {
                self.stamps[seat as usize] = version;
            }
            // A seat that is again as it was is news only for viewers who saw it in between, elsewhere.
            if state != before.state(seat as usize) {
                set.push(Packed::new(seat, state));
            }
        }
        let (from, to) = (before.position(), snapshot.position());
        if version.is_none() {
            self.eras = [Era::starting(to, 1)].into();
            self.stamps = Vec::new();
        }
        self.kept.clear();
        let latest = Frame::changes(snapshot.option, from, to, set);
        self.cut = Cut::new(snapshot, Some(latest));
    }

    fn era(&self) -> &Era {
        self.eras.back().expect("there always is one")
    }

    fn era_mut(&mut self) -> &mut Era {
        self.eras.back_mut().expect("there always is one")
    }
}

/// The seats whose two bits differ.
fn differing(before: &[u8], after: &[u8]) -> impl Iterator<Item = u32> {
    let bytes = (0..).zip(before.iter().zip(after)).filter(|(_, (before, after))| before != after);
    bytes.flat_map(|(byte, (before, after))| {
        let bits = before ^ after;
        (0..4).filter(move |place| bits >> (2 * place) & 3 != 0).map(move |place| 4 * byte + place)
    })
}
