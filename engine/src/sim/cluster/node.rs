//! A node as data: its clock, its machines, its shards.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::database::Ask;
use crate::command::Request;
use crate::effect::Effect;
use crate::entry::{Restored, SoftLock};
use crate::handoff::{Arrival, Departure};
use crate::ids::{Epoch, ReplyTo, ShardId};
use crate::lease::{Heartbeats, Leases, PeerSession, Report, Terms, Timeline};
use crate::route::Routes;
use crate::shard::Shard;
use crate::sim::auditor::Auditor;
use crate::sim::pipe::Pipe;
use crate::sim::writer::Writer;
use crate::time::{Moment, Time};

/// A process: its node, and how often that was started. What the real ledger calls the owner's uuid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Incarnation {
    pub node: usize,
    pub start: u32,
}

/// A node's monotonic clock, and its idea of the ledger's time.
pub struct Clock {
    /// The world's time at which the process started.
    started: i64,
    /// Microseconds it counts in a thousand of the ledger's.
    rate: i64,
    /// The ledger's time at a moment of this clock.
    sample: Option<(Moment, Time)>,
    latest: Time,
}

/// Where a clock begins to count: anywhere but at 0.
const BASE: u64 = 1_000_000;

impl Clock {
    #[must_use]
    pub const fn new(started: i64, rate: i64) -> Self {
        Self { started, rate, sample: None, latest: Time(0) }
    }

    #[must_use]
    pub fn moment(&self, now: i64) -> Moment {
        let micros = u64::try_from((now - self.started).max(0) * self.rate / 1_000).unwrap_or(0);
        Moment(BASE + micros)
    }

    /// The world's time at which the clock shows `moment`, or a little later.
    #[must_use]
    pub fn when(&self, moment: Moment) -> i64 {
        let micros = i64::try_from(moment.0.saturating_sub(BASE)).unwrap_or(i64::MAX / 2_000);
        self.started + micros.min(i64::MAX / 2_000) * 1_000 / self.rate + 2
    }

    /// The ledger said `time` to a question sent and answered at these moments.
    pub fn sample(&mut self, sent: Moment, answered: Moment, time: Time) {
        let middle = Moment(u64::midpoint(sent.0, answered.0));
        self.sample = Some((middle, time));
    }

    /// The ledger's time as this node sees it. Never goes back.
    pub fn time(&mut self, now: i64) -> Time {
        if let Some((at, time)) = self.sample {
            self.latest = self.latest.max(time + self.moment(now).since(at));
        }
        self.latest
    }
}

/// One node.
pub struct Node {
    pub me: Incarnation,
    pub up: bool,
    /// It gives its shards away and takes no more.
    pub draining: bool,
    /// It decides nothing more.
    pub stopping: bool,
    pub paused_until: i64,
    pub clock: Clock,
    pub leases: Leases,
    pub heartbeats: Heartbeats,
    /// What the nodes say of the ledger, this one first.
    pub reports: Vec<Report>,
    pub routes: Routes<usize>,
    pub places: BTreeMap<ShardId, Place>,
    pub landings: BTreeMap<ShardId, Landing>,
    /// Acquires whose outcome is not known: when each was sent.
    pub acquiring: BTreeMap<ShardId, Moment>,
    /// The newest acquire of each shard. What an older one brought is raised by it, or found in the rows.
    pub newest_acquire: BTreeMap<ShardId, u64>,
    /// When each node was last heard of.
    pub heard: Vec<Option<Moment>>,
    /// What became of the sessions with other processes.
    pub sessions: BTreeMap<Incarnation, PeerSession>,
    /// Processes that the evidence proved dead, but for what the ledger says, and when.
    pub dead: BTreeMap<Incarnation, Moment>,
    /// Processes that take no shards any more.
    pub leaving: BTreeSet<Incarnation>,
    /// The ledger's, when it was last reached.
    pub timeline: Timeline,
    /// Questions to the ledger that are not answered: when each was sent.
    pub asked: BTreeMap<u64, (Moment, Ask)>,
    /// The heartbeat that is under way.
    pub beat: Option<u64>,
    pub next_no: u64,
    pub hops: BTreeMap<u64, Hop>,
    /// Effects that a pause has kept from happening.
    pub frozen: Vec<(ShardId, Epoch, Vec<Effect>)>,
}

/// What a node has of a shard it owns.
pub enum Place {
    /// The lease is there, the memory is not. Commands of a move that failed wait.
    Loading {
        epoch: Epoch,
        parked: VecDeque<Waiter>,
    },
    /// Halted: the epoch must be raised first.
    Raising {
        epoch: Epoch,
        parked: VecDeque<Waiter>,
    },
    Up(Box<Actor>),
}

/// A shard in memory, with its shell.
pub struct Actor {
    pub epoch: Epoch,
    pub shard: Shard,
    pub writer: Writer,
    pub pipe: Pipe,
    pub auditor: Auditor,
    pub shard_now: Time,
    /// Commands given to the shard and not answered.
    pub waiting: BTreeMap<ReplyTo, Waiter>,
    pub departure: Option<Leaving>,
    /// Moves tried in this epoch.
    pub attempts: u64,
    pub wake_at: Option<i64>,
}

/// A move away from here.
pub struct Leaving {
    pub departure: Departure<Waiter>,
    pub target: usize,
    /// Who said that it holds the state.
    pub holder: Option<Incarnation>,
    /// When the first statement that takes the shard back was sent.
    pub take_back_sent: Option<Moment>,
}

/// A move to here.
pub struct Landing {
    pub arrival: Arrival<Box<Shard>>,
    pub from: Incarnation,
    /// What the old owner sent, while the ledger is read.
    pub carried: Vec<SoftLock>,
    /// What was read while warming up.
    pub warm: Option<Box<Restored>>,
    /// Commands of the old owner that came before the ledger's word.
    pub parked: VecDeque<Waiter>,
}

/// A command with whoever waits for its answer.
#[derive(Clone, Debug)]
pub struct Waiter {
    pub request: Request,
    pub from: Origin,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A session of this node.
    Here,
    /// A request of another node's ingress.
    Hop(Incarnation, u64),
}

/// Commands that an ingress has sent to another node.
pub struct Hop {
    pub shard: ShardId,
    /// In order, without those that are answered.
    pub left: Vec<Request>,
    /// It was sent before, to a node that was not the owner.
    pub rerouted: bool,
}

impl Node {
    #[must_use]
    pub fn start(
        me: Incarnation,
        nodes: usize,
        terms: Terms,
        now: i64,
        rate: i64,
        timeline: Timeline,
    ) -> Self {
        Self {
            me,
            up: true,
            draining: false,
            stopping: false,
            paused_until: 0,
            clock: Clock::new(now, rate),
            leases: Leases::new(terms),
            heartbeats: Heartbeats::default(),
            reports: vec![Report::Silent; nodes],
            routes: Routes::default(),
            places: BTreeMap::new(),
            landings: BTreeMap::new(),
            acquiring: BTreeMap::new(),
            newest_acquire: BTreeMap::new(),
            heard: vec![None; nodes],
            sessions: BTreeMap::new(),
            dead: BTreeMap::new(),
            leaving: BTreeSet::new(),
            timeline,
            asked: BTreeMap::new(),
            beat: None,
            // A former incarnation's numbers mean nothing to this one.
            next_no: u64::from(me.start) << 32,
            hops: BTreeMap::new(),
            frozen: Vec::new(),
        }
    }

    pub fn actor(&mut self, shard: ShardId) -> Option<&mut Actor> {
        match self.places.get_mut(&shard) {
            Some(Place::Up(actor)) => Some(actor),
            _ => None,
        }
    }

    pub fn fresh_no(&mut self) -> u64 {
        self.next_no += 1;
        self.next_no
    }

    /// Where another node's report is.
    #[must_use]
    pub const fn report_of(&self, node: usize) -> usize {
        if node < self.me.node { node + 1 } else { node }
    }
}
