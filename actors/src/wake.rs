//! One timer per shard: tells its actor when a deadline is due.

use ractor::ActorRef;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::shard::Message;

/// Armed by the actor, and gone with it.
#[derive(Debug)]
pub struct Wake {
    at: watch::Sender<Option<Instant>>,
    /// When the next tick was asked for; `None` when none is on its way.
    armed: Option<Instant>,
}

impl Wake {
    pub fn new(actor: ActorRef<Message>) -> Self {
        let (at, receiver) = watch::channel(None);
        tokio::spawn(run(receiver, actor));
        Self { at, armed: None }
    }

    /// Wants a tick at `at`, or earlier: a deadline that was cancelled does not disturb the timer.
    pub fn arm(&mut self, at: Instant) {
        if self.armed.is_none_or(|armed| at < armed) {
            self.armed = Some(at);
            self.at.send_replace(Some(at));
        }
    }

    /// The tick has arrived; the next one must be asked for.
    pub fn fired(&mut self) {
        self.armed = None;
    }
}

async fn run(mut at: watch::Receiver<Option<Instant>>, actor: ActorRef<Message>) {
    loop {
        let target = *at.borrow_and_update();
        let changed = match target {
            Some(instant) => tokio::select! {
                changed = at.changed() => changed,
                () = tokio::time::sleep_until(instant) => {
                    if actor.send_message(Message::Tick).is_err() {
                        return;
                    }
                    at.changed().await
                }
            },
            None => at.changed().await,
        };
        if changed.is_err() {
            return;
        }
    }
}
