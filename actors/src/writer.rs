//! The ledger writer of a node: a thin shell around `machine::Machine`.
//!
//! One task, one batch in flight. Entries come over one queue in the order in which shards decided
//! them, news go to the shards' mailboxes. The queue needs no bound of its own: a shard has at most one
//! entry pending per reservation, option and policy, and commands that want one hold a permit.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use engine::{ChainHead, Entry, Epoch, Input, ShardId};
use ractor::ActorRef;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::observe::Metrics;
use crate::ports::{AppendError, Batch, Ledger, ShardAnswer};
use crate::shard::{Halt, Message};
use machine::{Machine, News, Verdict};

mod machine;
pub mod seal;

#[cfg(test)]
mod tests;

/// A ledger that is silent for so long has not answered. Adapters have shorter limits of their own.
const APPEND_TIMEOUT: Duration = Duration::from_secs(30);

/// The writer's queue. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Writer {
    orders: mpsc::UnboundedSender<Order>,
}

#[derive(Debug)]
enum Order {
    Open {
        shard: ShardId,
        epoch: Epoch,
        head: ChainHead,
        actor: ActorRef<Message>,
    },
    Append {
        shard: ShardId,
        epoch: Epoch,
        entry: Box<Entry>,
    },
    /// Answered with the entries that are not durable, once there are none or no news.
    Backlog(oneshot::Sender<usize>),
}

impl Writer {
    /// Starts the writer's task; it ends when the last sender is gone and everything is written.
    #[must_use]
    pub fn start(ledger: Arc<dyn Ledger>, metrics: Metrics) -> Self {
        let (orders, receiver) = mpsc::unbounded_channel();
        let task = Task {
            ledger,
            metrics,
            machine: Machine::default(),
            actors: HashMap::new(),
            flight: None,
            verdicts: Vec::new(),
        };
        tokio::spawn(task.run(receiver));
        Self { orders }
    }

    /// A restored shard: see `Machine::open`.
    pub fn open(&self, shard: ShardId, epoch: Epoch, head: ChainHead, actor: ActorRef<Message>) {
        self.send(Order::Open { shard, epoch, head, actor });
    }

    pub fn append(&self, shard: ShardId, epoch: Epoch, entry: Box<Entry>) {
        self.send(Order::Append { shard, epoch, entry });
    }

    /// Entries that are not durable yet.
    pub async fn backlog(&self) -> usize {
        let (reply, answer) = oneshot::channel();
        self.send(Order::Backlog(reply));
        answer.await.unwrap_or(0)
    }

    fn send(&self, order: Order) {
        // The task lives as long as any sender; only the end of the runtime can take it away.
        if self.orders.send(order).is_err() {
            tracing::error!("the ledger writer is gone");
        }
    }
}

type Answer = Result<Vec<(ShardId, ShardAnswer)>, AppendError>;

struct Flight {
    sent: Instant,
    answer: Pin<Box<dyn Future<Output = Answer> + Send>>,
}

struct Task {
    ledger: Arc<dyn Ledger>,
    metrics: Metrics,
    machine: Machine,
    actors: HashMap<ShardId, (Epoch, ActorRef<Message>)>,
    flight: Option<Flight>,
    verdicts: Vec<Verdict>,
}

impl Task {
    async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        loop {
            let now = Instant::now();
            self.send_next(now);
            let wake = self.machine.wake(now);
            tokio::select! {
                biased;
                answer = flown(&mut self.flight) => self.answered(answer),
                order = orders.recv() => match order {
                    Some(order) => self.take_all(order, &mut orders).await,
                    None => {
                        if self.machine.backlog() == 0 {
                            return;
                        }
                        self.finish().await;
                        return;
                    }
                },
                () = tokio::time::sleep_until(wake.unwrap_or(now)), if wake.is_some() => {}
            }
        }
    }

    /// Everybody has left; what they queued is still written.
    async fn finish(mut self) {
        while self.machine.backlog() > 0 {
            let now = Instant::now();
            self.send_next(now);
            if self.flight.is_some() {
                let answer = flown(&mut self.flight).await;
                self.answered(answer);
            } else if let Some(wake) = self.machine.wake(now) {
                tokio::time::sleep_until(wake).await;
            }
        }
    }

    /// Takes what is queued, lets the shards that are ready to run add theirs, and takes that too: a
    /// fuller batch for the price of one turn of the scheduler, without a timer.
    async fn take_all(&mut self, order: Order, orders: &mut mpsc::UnboundedReceiver<Order>) {
        self.take(order);
        if self.flight.is_none() {
            tokio::task::yield_now().await;
        }
        while let Ok(order) = orders.try_recv() {
            self.take(order);
        }
        self.note_backlog();
    }

    fn take(&mut self, order: Order) {
        match order {
            Order::Open { shard, epoch, head, actor } => {
                if self.actors.get(&shard).is_none_or(|(known, _)| *known < epoch) {
                    self.actors.insert(shard, (epoch, actor));
                }
                self.machine.open(shard, epoch, head);
            }
            Order::Append { shard, epoch, entry } => {
                if let Some(verdict) = self.machine.push(shard, epoch, entry) {
                    self.tell(verdict);
                }
            }
            Order::Backlog(reply) => {
                // Who asked may have stopped waiting.
                let _waits = reply.send(self.machine.backlog());
            }
        }
    }

    fn send_next(&mut self, now: Instant) {
        let Some(batch) = self.machine.next(now) else { return };
        self.metrics.ledger_batch_entries().observe(entries(&batch));
        let ledger = self.ledger.clone();
        let answer = Box::pin(async move {
            match tokio::time::timeout(APPEND_TIMEOUT, ledger.append(&batch)).await {
                Ok(answer) => answer,
                Err(_) => Err(AppendError::Unknown { reason: "time-out".into(), rolled_back: false }),
            }
        });
        self.flight = Some(Flight { sent: now, answer });
    }

    fn answered(&mut self, answer: Answer) {
        let now = Instant::now();
        if let Some(flight) = self.flight.take() {
            self.metrics.ledger_commit_seconds().observe((now - flight.sent).as_secs_f64());
        }
        match &answer {
            Ok(_) => {}
            Err(error @ AppendError::Unknown { .. }) => {
                self.metrics.ledger_unknown().inc();
                tracing::warn!(%error, "will write the same entries again");
            }
            Err(error) => tracing::error!(%error, "looking for the entry"),
        }
        let mut verdicts = std::mem::take(&mut self.verdicts);
        self.machine.answered(now, answer, &mut verdicts);
        for verdict in verdicts.drain(..) {
            self.tell(verdict);
        }
        self.verdicts = verdicts;
        self.note_backlog();
    }

    fn tell(&self, Verdict { shard, epoch, news }: Verdict) {
        let message = match news {
            News::Applied { upto, head } => Message::Ledger(Input::Applied { upto, head }),
            News::Refused { entry } => Message::Ledger(Input::Refused { entry }),
            News::Fenced => {
                self.metrics.ledger_fenced().inc();
                Message::Halt(Halt::Fenced)
            }
            News::OtherHash => Message::Halt(Halt::OtherHash),
        };
        if let Some((_, actor)) = self.actors.get(&shard).filter(|(known, _)| *known == epoch) {
            // An actor that died meanwhile is being restored from the ledger, which knows better.
            let _lives = actor.send_message(message);
        }
    }

    fn note_backlog(&self) {
        self.metrics.ledger_backlog().set(i64::try_from(self.machine.backlog()).unwrap_or(i64::MAX));
    }
}

/// The answer to the batch in flight; for ever when there is none.
async fn flown(flight: &mut Option<Flight>) -> Answer {
    match flight {
        Some(flight) => flight.answer.as_mut().await,
        None => std::future::pending().await,
    }
}

fn entries(batch: &Batch) -> f64 {
    f64::from(u32::try_from(batch.rows.len()).unwrap_or(u32::MAX))
}
