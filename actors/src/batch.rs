//! Several commands in one message: a frame full of clicks costs one hop, not one each.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use engine::{Outcome, Unavailable};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::door::Door;
use crate::handle::{Answer, Ask};
use crate::observe::{Metrics, Op};
use crate::permits::Permit;
use crate::shard::Message;

/// Commands on their way to one shard, decided in their order with nothing in between.
pub struct Sent {
    /// What was decided at once, with its place among the commands. A channel that closes without an answer
    /// means `OVERLOADED` for each of them: the shard is full or gone.
    pub clicks: oneshot::Receiver<Vec<(usize, Answer)>>,
    /// The ledger commands with their places. Each waits for the ledger by itself and holds nobody up.
    pub later: Vec<(usize, Later)>,
}

/// The answer to a ledger command.
pub type Later = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// The message.
#[derive(Debug)]
pub struct Batch {
    pub parts: Vec<Part>,
    pub deadline: Instant,
    pub clicks: oneshot::Sender<Vec<(usize, Answer)>>,
    /// Returns when all are decided.
    pub undecided: Permit,
}

/// One command of a batch.
#[derive(Debug)]
pub struct Part {
    pub place: usize,
    pub ask: Ask,
    pub later: Option<Owed>,
}

/// Where the answer to a ledger command goes.
#[derive(Debug)]
pub struct Owed {
    pub reply: oneshot::Sender<Answer>,
    /// Returns with the answer, or when the actor dies.
    pub permit: Permit,
}

/// Sends the commands in one message. A ledger command waits for the ledger as long as `patience` says.
pub(crate) fn send(
    door: &Door,
    asks: Vec<Ask>,
    deadline: Instant,
    patience: Duration,
    metrics: &Metrics,
) -> Sent {
    let (clicks, decided) = oneshot::channel();
    let patience = Instant::now() + patience;
    let (mut parts, mut later) = (Vec::with_capacity(asks.len()), Vec::new());
    let permit = door.gauges.undecided.take_all(asks.len());
    for (place, ask) in asks.into_iter().enumerate() {
        let op = Op::of(&ask.command);
        let owed = ask.command.reaches_ledger().then(|| door.gauges.owed.take());
        let owed = match owed {
            None => None,
            Some(Some(permit)) => {
                let (reply, answer) = oneshot::channel();
                later.push((place, op, Ok(answer)));
                Some(Owed { reply, permit })
            }
            // Nothing of it is asked; the others go on.
            Some(None) => {
                later.push((place, op, Err(Unavailable::Ledger)));
                continue;
            }
        };
        if permit.is_none() {
            metrics.command(op, &Outcome::Unavailable(Unavailable::Overloaded));
        }
        parts.push(Part { place, ask, later: owed });
    }
    let sent = permit
        .is_some_and(|undecided| door.send(Message::Batch(Batch { parts, deadline, clicks, undecided })));
    let later = later.into_iter().map(|(place, op, answer)| {
        let answer = if sent { answer } else { Err(Unavailable::Overloaded) };
        let answered: Later = Box::pin(wait(answer, patience, op, metrics.clone()));
        (place, answered)
    });
    Sent { clicks: decided, later: later.collect() }
}

async fn wait(
    answer: Result<oneshot::Receiver<Answer>, Unavailable>,
    patience: Instant,
    op: Op,
    metrics: Metrics,
) -> Answer {
    let answer = match answer {
        Ok(answer) => match timeout_at(patience, answer).await {
            Ok(Ok(answer)) => answer,
            // The actor died with the command: whether it was decided is for the key to tell.
            Ok(Err(_)) | Err(_) => Answer::unavailable(Unavailable::Ledger),
        },
        Err(unavailable) => Answer::unavailable(unavailable),
    };
    metrics.command(op, &answer.outcome);
    answer
}
