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
    pub reply: oneshot::Sender<Answer>,
    /// Returns with the answer.
    #[expect(dead_code, reason = "held for its drop")]
    pub owed: Option<Permit>,
    pub op: Op,
    /// When its turn came, if it is timed.
    pub since: Option<Instant>,
}

/// Slots by [`ReplyTo`].
#[derive(Debug, Default)]
pub struct Replies {
    slots: Vec<Option<Waiting>>,
    free: Vec<usize>,
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
        // A client that went away misses its answer; its key remembers it.
        let _waits = waiting.reply.send(answer);
    }

    /// Answers that are owed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}
