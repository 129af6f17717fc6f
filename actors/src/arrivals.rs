//! Shards that other nodes are giving to this one: the shell around [`engine::handoff::Arrival`].
//!
//! Each has a task of its own, from the first word of the old owner until the shard serves here or nothing comes of
//! it. What the ledger has of the shard is read from the ledger, which has everything once the old owner is quiet;
//! only what it does not have comes along: soft locks, and to whom seats are refused.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use engine::handoff::{Answer, Arrival, Arrived, Attempt, Notice, Patience, Step};
use engine::{Epoch, Moment, Shard, ShardId, SoftLock, Span};
use ractor::ActorRef;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use crate::lock::lock;
use crate::peers::{PeerError, Returned};
use crate::ports::Owner;
use crate::reach::micros;
use crate::restore::{Ready, Restorer};
use crate::supervisor::Message;

/// How often the ledger is asked for a shard that is held and whose old owner says nothing.
const ASK: Span = Span::from_millis(250);

/// What the old owner waits for.
type Reply = oneshot::Sender<Result<Returned, PeerError>>;

/// What a task that takes a shard in is told.
pub enum Told {
    /// What the ledger does not have.
    Hold(Attempt, Vec<SoftLock>, Reply),
    HandedOver(Attempt),
    Resumed(Attempt),
    /// This node wants the shard in another way.
    Acquiring,
    /// Another node has it, in this epoch.
    Elsewhere(Epoch),
}

/// Which move it is, and where its task hears.
type Expected = (Attempt, mpsc::UnboundedSender<Told>);

/// Every shard that is on its way here. Cheap to clone; one for the whole process.
#[derive(Clone)]
pub struct Arrivals {
    restorer: Restorer,
    supervisor: ActorRef<Message>,
    tasks: Arc<Mutex<BTreeMap<ShardId, Expected>>>,
}

/// One of them.
struct Task {
    arrivals: Arrivals,
    shard: ShardId,
    arrival: Arrival<Box<Shard>>,
    steps: Vec<Step<Box<Shard>>>,
    base: Instant,
    /// Who waits for the next word.
    reply: Option<Reply>,
    /// When the renewal that has just said yes was sent.
    renewed: Option<Instant>,
}

impl Arrivals {
    pub(crate) fn new(restorer: Restorer, supervisor: ActorRef<Message>) -> Self {
        Self { restorer, supervisor, tasks: Arc::default() }
    }

    /// Reads what takes long, so that little is left to do while commands wait.
    pub(crate) async fn prepare(
        &self,
        from: &Owner,
        shard: ShardId,
        attempt: Attempt,
    ) -> Result<Returned, PeerError> {
        let (told, hears) = mpsc::unbounded_channel();
        let (reply, expects) = oneshot::channel();
        let expect = Message::Expect { shard, epoch: attempt.epoch, told: told.clone(), reply };
        let asked = self.supervisor.send_message(expect).is_ok();
        if !asked || !expects.await.unwrap_or(false) {
            return Err(PeerError::Refused("the shard is here already, or this node is ending".to_owned()));
        }
        tracing::info!(%shard, from = from.node, epoch = %attempt.epoch, "another node gives a shard");
        lock(&self.tasks).insert(shard, (attempt, told));
        let (reply, ready) = oneshot::channel();
        let base = Instant::now();
        let mut steps = Vec::new();
        let arrival = Arrival::begin(attempt, Patience::default(), ASK, moment(base, base), &mut steps);
        let task =
            Task { arrivals: self.clone(), shard, arrival, steps, base, reply: Some(reply), renewed: None };
        tokio::spawn(task.run(hears));
        ready.await.unwrap_or_else(|_| Err(declined()))
    }

    /// Builds the shard from the ledger and these, and holds it.
    pub(crate) async fn hold(
        &self,
        shard: ShardId,
        attempt: Attempt,
        locks: Vec<SoftLock>,
    ) -> Result<Returned, PeerError> {
        let (reply, held) = oneshot::channel();
        self.tell(shard, attempt, Told::Hold(attempt, locks, reply));
        held.await.unwrap_or_else(|_| Err(declined()))
    }

    pub(crate) fn handed_over(&self, shard: ShardId, attempt: Attempt) -> Returned {
        self.tell(shard, attempt, Told::HandedOver(attempt));
        Returned::Done
    }

    pub(crate) fn resumed(&self, shard: ShardId, attempt: Attempt) -> Returned {
        self.tell(shard, attempt, Told::Resumed(attempt));
        Returned::Done
    }

    fn tell(&self, shard: ShardId, attempt: Attempt, told: Told) {
        if let Some((known, task)) = lock(&self.tasks).get(&shard)
            && *known == attempt
        {
            // A task that has ended has told its old owner.
            let _lives = task.send(told);
        }
    }
}

impl Task {
    async fn run(mut self, mut hears: mpsc::UnboundedReceiver<Told>) {
        loop {
            while !self.steps.is_empty() {
                for step in std::mem::take(&mut self.steps) {
                    self.take(step).await;
                }
            }
            let Some(due) = self.arrival.next_wake() else { break };
            tokio::select! {
                told = hears.recv() => match told {
                    Some(told) => self.hear(told).await,
                    // A later attempt has taken this one's place.
                    None => break,
                },
                () = sleep_until(self.base + std::time::Duration::from_micros(due.0)) => {
                    let now = self.now();
                    self.arrival.tick(now, &mut self.steps);
                }
            }
        }
        let (shard, attempt) = (self.shard, self.arrival.attempt());
        let mut tasks = lock(&self.arrivals.tasks);
        if tasks.get(&shard).is_some_and(|(known, _)| *known == attempt) {
            tasks.remove(&shard);
        }
        drop(tasks);
        if let Arrived::Dropped(why) = self.arrival.arrived() {
            tracing::warn!(%shard, ?why, "the shard did not come");
            let _lives = self.arrivals.supervisor.send_message(Message::Declined(shard));
        }
    }

    async fn hear(&mut self, told: Told) {
        match told {
            Told::Hold(attempt, locks, reply) => {
                self.reply = Some(reply);
                match self.build(attempt, locks).await {
                    Ok(state) => self.notice(Notice::State(attempt, state)),
                    Err(error) => {
                        tracing::warn!(shard = %self.shard, error, "the shard that comes cannot be built");
                        self.notice(Notice::Acquiring);
                    }
                }
            }
            Told::HandedOver(attempt) => self.notice(Notice::HandedOver(attempt)),
            Told::Resumed(attempt) => self.notice(Notice::Resumed(attempt)),
            Told::Acquiring => self.notice(Notice::Acquiring),
            Told::Elsewhere(epoch) => self.notice(Notice::Elsewhere(epoch)),
        }
    }

    async fn build(&self, attempt: Attempt, locks: Vec<SoftLock>) -> Result<Box<Shard>, String> {
        let restorer = &self.arrivals.restorer;
        let mut restored = restorer.load(self.shard).await.map_err(|error| error.to_string())?;
        restored.soft_locks = locks;
        let epoch = Epoch(attempt.epoch.0 + 1);
        restorer.build(self.shard, epoch, restored).map_err(|error| error.to_string())
    }

    async fn take(&mut self, step: Step<Box<Shard>>) {
        let Arrivals { restorer, supervisor, .. } = &self.arrivals;
        match step {
            // Plans are kept once they are read.
            Step::Warm => match restorer.load(self.shard).await {
                Ok(_) => self.notice(Notice::Warm),
                Err(error) => {
                    tracing::warn!(shard = %self.shard, %error, "the shard that comes cannot be read");
                    self.notice(Notice::Acquiring);
                }
            },
            Step::TellReady => self.answer(Ok(Returned::Done)),
            Step::TellHolding => {
                // What was parked may come as soon as the old owner hears of it.
                let (shown, is_shown) = oneshot::channel();
                let _lives = supervisor.send_message(Message::Held(self.shard, shown));
                let _shown = is_shown.await;
                self.answer(Ok(Returned::Done));
            }
            Step::TellDeclined => self.answer(Err(declined())),
            Step::Renew(epoch) => {
                let sent = Instant::now();
                let answer = match restorer.ledger.accepted(self.shard, epoch).await {
                    Ok(true) => Answer::Row,
                    Ok(false) => Answer::NoRow,
                    Err(_) => Answer::Unknown,
                };
                self.renewed = Some(sent);
                self.notice(Notice::Renewed(answer));
            }
            Step::Serve(epoch, shard) => {
                let sent = self.renewed.unwrap_or(self.base);
                let lease = restorer.leases.granted(self.shard, epoch, sent);
                let ready = Message::Ready(self.shard, Some(Ready { shard, lease }));
                let _lives = supervisor.send_message(ready);
            }
        }
    }

    fn notice(&mut self, notice: Notice<Box<Shard>>) {
        let now = self.now();
        self.arrival.hear(now, notice, &mut self.steps);
    }

    fn answer(&mut self, answer: Result<Returned, PeerError>) {
        if let Some(reply) = self.reply.take() {
            // An old owner that lost patience has gone on.
            let _waits = reply.send(answer);
        }
    }

    fn now(&self) -> Moment {
        moment(self.base, Instant::now())
    }
}

fn moment(base: Instant, now: Instant) -> Moment {
    Moment(micros(now.saturating_duration_since(base)))
}

fn declined() -> PeerError {
    PeerError::Refused("the shard is not expected any more".to_owned())
}
