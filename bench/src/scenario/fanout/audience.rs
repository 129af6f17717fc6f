//! Viewers, thousands of them: each reads its own socket, and little more than the heads of the frames.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until, timeout};

use super::board::{Board, Map};
use super::sightings::{Sightings, Viewer};
use crate::feed::{Feed, Kind};
use crate::frames::{Frame, Position};
use crate::lock::lock;

/// How fast they come in, so that the server is asked to accept a crowd and not a wave.
const ARRIVAL: Duration = Duration::from_millis(2);
/// Viewers that are coming in at once.
const COMING_IN: u32 = 64;
/// The viewer that reads whole frames.
const REFERENCE: u32 = 0;
/// Viewers share what they write down, but not all of them with each other: nobody waits long.
const PARTS: usize = 16;
/// How long the last viewer may take to see the last change.
const SETTLE: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Everybody who watches an option. Who is dropped goes home.
pub struct Audience {
    shared: Arc<Shared>,
    pub count: u64,
    /// How long it took until all were there.
    pub took: Duration,
    _viewers: JoinSet<()>,
}

struct Shared {
    authority: String,
    option: u64,
    kind: Kind,
    parts: Vec<Mutex<Part>>,
    reference: Mutex<Reference>,
}

/// The viewers that share a lock.
#[derive(Default)]
struct Part {
    sightings: Sightings,
    viewers: Vec<Viewer>,
    /// Why they left.
    lost: Vec<String>,
}

/// What the one viewer knows that reads whole frames.
#[derive(Default)]
pub struct Reference {
    pub map: Map,
    pub board: Board,
}

/// What all of them saw.
pub struct Seen {
    pub sightings: Sightings,
    pub gaps: u64,
    pub snapshots: u64,
    /// Viewers that are not where they should be.
    pub behind: u64,
    pub lost: Vec<String>,
}

impl Audience {
    /// Waits until everybody has the map.
    ///
    /// # Errors
    /// One of them could not come in.
    pub async fn gather(authority: &str, option: u64, kind: Kind, count: u32) -> anyhow::Result<Self> {
        let started = Instant::now();
        let shared = Arc::new(Shared {
            authority: authority.to_owned(),
            option,
            kind,
            parts: (0..PARTS).map(|part| Mutex::new(Part::of(part, count as usize))).collect(),
            reference: Mutex::default(),
        });
        let doors = Arc::new(Semaphore::new(COMING_IN as usize));
        let mut viewers = JoinSet::new();
        for number in 0..count {
            sleep_until((started + ARRIVAL * number).into()).await;
            let door = doors.clone().acquire_owned().await?;
            let shared = shared.clone();
            viewers.spawn(async move {
                let entered = shared.enter(number).await;
                drop(door);
                let stayed = match entered {
                    Ok(feed) => shared.watch(number, feed).await,
                    Err(error) => Err(error),
                };
                if let Err(error) = stayed {
                    shared.part(number).0.lost.push(format!("viewer {number}: {error:#}"));
                }
            });
        }
        let _all = doors.acquire_many(COMING_IN).await?;
        if let Some(why) = shared.lost().first() {
            bail!("not everybody could come in: {why}");
        }
        Ok(Self { shared, count: count.into(), took: started.elapsed(), _viewers: viewers })
    }

    /// Nobody holds it for long.
    pub fn reference(&self) -> MutexGuard<'_, Reference> {
        lock(&self.shared.reference)
    }

    /// Waits until something can be said of the clicks that the reference has seen, but not for long. What the public
    /// reads is the map that viewers are shown, so it may be a moment behind the answers.
    pub async fn until(&self, is_so: impl Fn(&Board) -> bool) {
        let deadline = Instant::now() + SETTLE;
        while !is_so(&self.reference().board) && Instant::now() < deadline {
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Waits until everybody is at a position or past it; then nobody is behind.
    ///
    /// The reference is one of them.
    pub async fn settle(&self, at: Position) -> Seen {
        let deadline = Instant::now() + SETTLE;
        while self.shared.behind(at) > 0 && Instant::now() < deadline {
            sleep(LOOK_AGAIN).await;
        }
        let mut seen = Seen {
            sightings: Sightings::default(),
            gaps: 0,
            snapshots: 0,
            behind: self.shared.behind(at),
            lost: self.shared.lost(),
        };
        for part in &self.shared.parts {
            let part = lock(part);
            seen.sightings.add_all(&part.sightings);
            seen.gaps += part.viewers.iter().map(|viewer| viewer.gaps).sum::<u64>();
            seen.snapshots += part.viewers.iter().map(|viewer| viewer.snapshots).sum::<u64>();
        }
        seen
    }
}

impl Part {
    /// Of all viewers, each part has every sixteenth.
    fn of(part: usize, count: usize) -> Self {
        Self { viewers: vec![Viewer::default(); (count + PARTS - 1 - part) / PARTS], ..Self::default() }
    }
}

impl Shared {
    /// Comes in and gets the map.
    async fn enter(&self, number: u32) -> anyhow::Result<Feed> {
        // The reference reads seats as well.
        let kind = if number == REFERENCE { Kind::Ws } else { self.kind };
        let mut feed = Feed::open(&self.authority, self.option, kind).await?;
        let (frame, bytes) = timeout(SETTLE, feed.next()).await.context("no map came")??;
        ensure!(matches!(frame, Frame::Map { .. }), "the first frame of a feed is no map");
        self.take(number, &frame, bytes);
        feed.shrink();
        Ok(feed)
    }

    async fn watch(&self, number: u32, mut feed: Feed) -> anyhow::Result<()> {
        loop {
            let (frame, bytes) = feed.next().await?;
            self.take(number, &frame, bytes);
        }
    }

    fn take(&self, number: u32, frame: &Frame<'_>, bytes: u64) {
        let at = Instant::now();
        {
            let (mut part, place) = self.part(number);
            let Part { sightings, viewers, .. } = &mut *part;
            viewers[place].follow(frame, bytes, at, sightings);
        }
        if number == REFERENCE {
            let mut reference = lock(&self.reference);
            reference.board.show(frame);
            reference.map.apply(frame);
        }
    }

    /// Where a viewer writes, and its place there.
    fn part(&self, number: u32) -> (MutexGuard<'_, Part>, usize) {
        let number = number as usize;
        (lock(&self.parts[number % PARTS]), number / PARTS)
    }

    fn behind(&self, at: Position) -> u64 {
        let behind = |part: &Mutex<Part>| {
            lock(part).viewers.iter().filter(|viewer| viewer.has.is_none_or(|has| has < at)).count() as u64
        };
        self.parts.iter().map(behind).sum()
    }

    fn lost(&self) -> Vec<String> {
        self.parts.iter().flat_map(|part| lock(part).lost.clone()).collect()
    }
}
