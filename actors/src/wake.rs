//! One timer per actor: tells it when a deadline is due.

use engine::Time;
use ractor::ActorRef;
use tokio::sync::watch;
use tokio::time::Instant;

/// Armed by the actor, and gone with it.
#[derive(Debug)]
pub struct Wake {
    at: watch::Sender<Option<Instant>>,
    /// What the tick on its way is for; `None` when none is.
    armed: Option<Time>,
}

impl Wake {
    pub fn new<M: ractor::Message>(actor: ActorRef<M>, tick: fn() -> M) -> Self {
        let (at, receiver) = watch::channel(None);
        tokio::spawn(run(receiver, actor, tick));
        Self { at, armed: None }
    }

    /// Whether no tick is on its way that comes in time for `due`. A deadline that was cancelled does
    /// not disturb the timer: a tick too early finds nothing to do.
    pub fn is_needed(&self, due: Time) -> bool {
        self.armed.is_none_or(|armed| due < armed)
    }

    /// Sends a tick for `due` at the instant `at`.
    pub fn arm(&mut self, due: Time, at: Instant) {
        self.armed = Some(due);
        self.at.send_replace(Some(at));
    }

    /// The tick has arrived; the next one must be asked for.
    pub fn fired(&mut self) {
        self.armed = None;
    }
}

async fn run<M: ractor::Message>(
    mut at: watch::Receiver<Option<Instant>>,
    actor: ActorRef<M>,
    tick: fn() -> M,
) {
    loop {
        let target = *at.borrow_and_update();
        let changed = match target {
            Some(instant) => tokio::select! {
                changed = at.changed() => changed,
                () = tokio::time::sleep_until(instant) => {
                    if actor.send_message(tick()).is_err() {
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
