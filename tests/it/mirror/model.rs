//! Owners who come and go, over a network that loses, doubles, delays and reorders what they send.
//!
//! The model is the promise itself: the copy always is some owner's memory at some op, as a whole, and never
//! goes back; and when the owner has heard that its last write is applied, the copy is its memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use actors::ports::{Mirror, MirrorAnswer};
use engine::{MirrorOp, SoftLock};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::{Copy, TTL};

#[derive(Clone, Debug)]
enum Step {
    /// A user selects a seat, in memory and in the log.
    Select(u32, u64),
    Release(u32),
    /// The owner cuts what is in its log and sends it.
    Send,
    /// The owner sends all it has.
    Rebuild,
    /// The network delivers a message: the oldest that waits is 0.
    Deliver(usize),
    /// The same, and keeps it for another time.
    Double(usize),
    Lose(usize),
    /// Another owner takes over.
    TakeOver,
    /// The owner asks for everything that it has not heard of, as the task does after a gap, and is heard.
    Settle,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0u32..12, 1u64..4).prop_map(|(seat, user)| Step::Select(seat, user)),
        3 => (0u32..12).prop_map(Step::Release),
        5 => Just(Step::Send),
        1 => Just(Step::Rebuild),
        6 => (0usize..4).prop_map(Step::Deliver),
        2 => (0usize..4).prop_map(Step::Double),
        1 => (0usize..4).prop_map(Step::Lose),
        1 => Just(Step::TakeOver),
        2 => Just(Step::Settle),
    ];
    vec(step, 1..60)
}

type Seats = BTreeMap<u32, u64>;

#[derive(Clone, Debug)]
enum Message {
    Changes { epoch: u64, previous: u64, op: u64, changes: Vec<MirrorOp> },
    Rebuild { epoch: u64, op: u64, locks: Vec<SoftLock> },
}

struct World {
    copy: Copy,
    epoch: u64,
    op: u64,
    memory: Seats,
    log: Vec<MirrorOp>,
    network: Vec<Message>,
    /// Every owner's memory at every op that it has cut.
    history: BTreeMap<(u64, u64), Seats>,
    /// Where the copy was last seen to stand, at least.
    seen: (u64, u64),
}

pub fn run(mirror: &Arc<dyn Mirror>, cases: u32) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&steps(), |steps| {
        runtime.block_on(async {
            let mut world = World::new(Copy::fresh(mirror)).await;
            for step in &steps {
                world.step(step).await;
            }
            world.step(&Step::Settle).await;
        });
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
}

impl World {
    async fn new(copy: Copy) -> Self {
        let mut world = Self {
            copy,
            epoch: 1,
            op: 0,
            memory: Seats::new(),
            log: Vec::new(),
            network: Vec::new(),
            history: BTreeMap::new(),
            seen: (0, 0),
        };
        world.settle().await;
        world
    }

    async fn step(&mut self, step: &Step) {
        match step {
            Step::Select(seat, user) => {
                self.memory.insert(*seat, *user);
                self.log.push(MirrorOp::Lock(self.copy.lock(*seat, *user, TTL)));
            }
            Step::Release(seat) => {
                if self.memory.remove(seat).is_some() {
                    self.log.push(self.copy.release(*seat));
                }
            }
            Step::Send => {
                let message = self.cut();
                self.network.push(message);
            }
            Step::Rebuild => {
                let message = self.all();
                self.network.push(message);
            }
            Step::Deliver(place) if *place < self.network.len() => {
                let message = self.network.remove(*place);
                self.deliver(&message).await;
            }
            Step::Double(place) if *place < self.network.len() => {
                let message = self.network[*place].clone();
                self.deliver(&message).await;
            }
            Step::Lose(place) if *place < self.network.len() => _ = self.network.remove(*place),
            Step::Deliver(_) | Step::Double(_) | Step::Lose(_) => {}
            Step::TakeOver => {
                self.epoch += 1;
                self.op = 0;
                self.log.clear();
                self.memory = self.check().await;
                self.history.insert((self.epoch, 0), self.memory.clone());
                self.seen = (self.epoch, 0);
                // As `Mirroring::open` does.
                let message = self.all();
                self.network.push(message);
            }
            Step::Settle => self.settle().await,
        }
    }

    async fn settle(&mut self) {
        let message = self.cut();
        if self.deliver(&message).await != MirrorAnswer::Applied {
            let message = self.all();
            assert_eq!(self.deliver(&message).await, MirrorAnswer::Applied);
        }
        assert_eq!(self.check().await, self.memory, "the last write was applied");
    }

    /// The last change of each seat.
    fn cut(&mut self) -> Message {
        let mut last = BTreeMap::new();
        for change in self.log.drain(..) {
            let seat = match &change {
                MirrorOp::Lock(lock) => lock.seat,
                MirrorOp::Unlock { seat, .. } => *seat,
            };
            last.insert(seat, change);
        }
        let (epoch, previous) = (self.epoch, self.op);
        self.op += u64::from(!last.is_empty());
        self.history.insert((self.epoch, self.op), self.memory.clone());
        Message::Changes { epoch, previous, op: self.op, changes: last.into_values().collect() }
    }

    fn all(&mut self) -> Message {
        self.log.clear();
        self.op += 1;
        self.history.insert((self.epoch, self.op), self.memory.clone());
        let locks = self.memory.iter().map(|(seat, user)| self.copy.lock(*seat, *user, TTL)).collect();
        Message::Rebuild { epoch: self.epoch, op: self.op, locks }
    }

    async fn deliver(&mut self, message: &Message) -> MirrorAnswer {
        let (answer, stands) = match message.clone() {
            Message::Changes { epoch, previous, op, changes } => {
                (self.copy.apply(epoch, previous, op, changes).await, (epoch, op))
            }
            Message::Rebuild { epoch, op, locks } => {
                (self.copy.rebuild_from(epoch, op, &locks).await, (epoch, op))
            }
        };
        if stands.0 < self.seen.0 {
            assert_eq!(answer, MirrorAnswer::Fenced, "{message:?} of an owner that was followed");
        }
        if answer == MirrorAnswer::Applied {
            self.seen = self.seen.max(stands);
        }
        self.check().await;
        answer
    }

    /// Reads the copy under the epoch of the owner, which fences nobody who was not fenced before.
    async fn check(&self) -> Seats {
        let read = self.copy.take_over(self.epoch).await;
        let seats: Seats = read.iter().map(|lock| (lock.seat.0, lock.user.0)).collect();
        assert_eq!(read.len(), seats.len(), "a seat twice: {read:?}");
        let known = self.history.range(self.seen..).any(|(_, memory)| *memory == seats);
        // Before the first rebuild there is nothing.
        assert!(known || (self.seen == (0, 0) && seats.is_empty()), "a ghost or a forgotten lock: {seats:?}");
        seats
    }
}
