//! Who waits for which answer. Slots are reused, so that a click allocates nothing here.

use engine::ReplyTo;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::handle::Answer;
use crate::observe::{Metrics, Op};
use crate::permits::Permit;

/// A command between its turn and its answer.
#[derive(Debug)]
pub struct Waiting {
    pub reply: Reply,
    /// Returns with the answer.
    #[expect(dead_code, reason = "held for its drop")]
    pub owed: Option<Permit>,
    pub op: Op,
    /// When its turn came, if it is timed.
    pub since: Option<Instant>,
}

/// Where an answer goes.
#[derive(Debug)]
pub enum Reply {
    To(oneshot::Sender<Answer>),
    /// To the others of its batch, with its place among them.
    Together(usize),
}

/// Slots by [`ReplyTo`].
#[derive(Debug, Default)]
pub struct Replies {
    slots: Vec<Option<Waiting>>,
    free: Vec<usize>,
    /// The answers of the batch that is being decided.
    together: Vec<(usize, Answer)>,
}

impl Replies {
    pub fn insert(&mut self, waiting: Waiting) -> ReplyTo {
        let place = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[place] = Some(waiting);
        ReplyTo(place as u64)
    }

    /// Sends the answer to whoever still waits.
    pub fn answer(&mut self, to: ReplyTo, answer: Answer, metrics: &Metrics) {
        let place = usize::try_from(to.0).unwrap_or(usize::MAX);
        let Some(waiting) = self.slots.get_mut(place).and_then(Option::take) else {
            tracing::error!(reply = to.0, "an answer that nobody asked for");
            return;
        };
        self.free.push(place);
        if let Some(since) = waiting.since {
            metrics.command_seconds(waiting.op).observe(since.elapsed().as_secs_f64());
        }
        match waiting.reply {
            // A client that went away misses its answer; its key remembers it.
            Reply::To(reply) => drop(reply.send(answer)),
            Reply::Together(place) => {
                metrics.command(waiting.op, &answer.outcome);
                self.together.push((place, answer));
            }
        }
    }

    /// The answers of the batch that was just decided.
    pub fn take_together(&mut self) -> Vec<(usize, Answer)> {
        std::mem::take(&mut self.together)
    }

    /// Answers that are owed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}
