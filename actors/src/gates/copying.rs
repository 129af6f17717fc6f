//! Keeps the mirror's copy of one gate close behind it, in a task of its own.
//!
//! What has gathered while the last batch was on its way goes as the next. Whatever goes wrong is mended in one way: the
//! gate hands over everything it has, and the copy is replaced. While the mirror is away the gate is told so, and goes on.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use engine::gate::{MirrorOp, Snapshot};
use engine::{ConcertId, Epoch, OpNo};
use ractor::ActorRef;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use super::actor::Message;
use super::changes::Change;
use super::ports::{GateBatch, GateMirror};
use crate::clock::LedgerClock;
use crate::ports::{MirrorAnswer, MirrorError};

/// Changes that go together at most.
const TOGETHER: usize = 512;

/// How often a gate without changes asks whether the mirror still stands where it should.
const IDLE_CHECK: Duration = Duration::from_secs(1);

/// How long to wait before a mirror that failed is tried again: doubles from the first to the second.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// A mirror that is silent for so long has failed.
const ANSWER: Duration = Duration::from_secs(2);

/// The same for a whole copy, which may be a million waiters.
const REBUILD: Duration = Duration::from_secs(60);

/// What the gate hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    Mirrored(OpNo),
    Away(String),
    Back(OpNo),
    /// A newer epoch owns the copy.
    Fenced,
}

/// What the task needs.
pub struct Copying {
    pub port: Arc<dyn GateMirror>,
    pub clock: LedgerClock,
    pub concert: ConcertId,
    pub epoch: Epoch,
    pub actor: ActorRef<Message>,
}

/// All that a gate has, and what changes after it.
pub struct Everything {
    pub upto: OpNo,
    pub snapshot: Snapshot,
    pub changes: mpsc::Receiver<Change>,
}

/// Why the task stops.
struct Ended;

/// How the copy stands.
enum Copy {
    At(OpNo, mpsc::Receiver<Change>),
    /// Lost, or elsewhere, and why: everything must be written anew.
    Void(String),
}

impl Copying {
    /// Runs until the gate's actor is gone. `first`: where a take-over left the copy and what changes from there on, if there was
    /// one.
    pub async fn run(self, first: Result<(OpNo, mpsc::Receiver<Change>), String>) {
        let mut copy = match first {
            Ok((no, changes)) => Copy::At(no, changes),
            Err(why) => Copy::Void(why),
        };
        // The actor is gone, or will hear that it is fenced.
        let _ended = loop {
            let went_on = match copy {
                Copy::At(no, changes) => self.follow(no, changes).await,
                Copy::Void(why) => self.find_again(why).await,
            };
            match went_on {
                Ok(next) => copy = next,
                Err(ended) => break ended,
            }
        };
    }

    /// Sends changes as they come, until the copy is lost.
    async fn follow(&self, mut at: OpNo, mut changes: mpsc::Receiver<Change>) -> Result<Copy, Ended> {
        let mut gathered = Vec::new();
        loop {
            let received = timeout(IDLE_CHECK, changes.recv_many(&mut gathered, TOGETHER)).await;
            if received == Ok(0) {
                return Ok(Copy::Void("it has fallen too far behind".to_owned()));
            }
            // A call costs as much as some ten changes: those that are about to come go with it.
            behind_others().await;
            while gathered.len() < TOGETHER
                && let Ok(change) = changes.try_recv()
            {
                gathered.push(change);
            }
            for piece in cut(at, gathered.drain(..)) {
                let (to, answer) = match piece {
                    Piece::Changes(to, ops) => (to, self.apply(at, to, ops).await),
                    Piece::Rebuild(to, snapshot) => (to, self.rebuild(to, &snapshot).await),
                };
                match answer {
                    Ok(MirrorAnswer::Applied) if to == at => {}
                    // What a gate has left behind is written all the same: passes that were given back stay so.
                    Ok(MirrorAnswer::Applied) => drop(self.say(Heard::Mirrored(to))),
                    Ok(MirrorAnswer::Gap) => return Ok(Copy::Void("it stands elsewhere".to_owned())),
                    Ok(MirrorAnswer::Fenced) => return self.is_fenced(),
                    Err(error) => return Ok(Copy::Void(error.0)),
                }
                at = to;
            }
        }
    }

    /// Tells the gate that nothing is copied, and tries until everything is again.
    async fn find_again(&self, why: String) -> Result<Copy, Ended> {
        let mut pause = BACK_OFF.0;
        let mut told = None;
        let mut why = Some(why);
        loop {
            if let Some(news) = why.take().filter(|why| told.as_ref() != Some(why)) {
                told = Some(news.clone());
                self.say(Heard::Away(news))?;
            }
            sleep(pause).await;
            pause = (pause * 2).min(BACK_OFF.1);
            match self.whole().await? {
                Ok(copy) => return Ok(copy),
                Err(error) => why = Some(error.0),
            }
        }
    }

    /// Writes everything anew, if there is somebody to write it to.
    async fn whole(&self) -> Result<Result<Copy, MirrorError>, Ended> {
        let silent = || MirrorError("it does not answer".to_owned());
        if let Err(error) = timeout(ANSWER, self.port.ping()).await.unwrap_or_else(|_| Err(silent())) {
            return Ok(Err(error));
        }
        let (reply, handed_over) = oneshot::channel();
        self.actor.send_message(Message::HandOver(reply)).map_err(|_| Ended)?;
        let Everything { upto, snapshot, changes } = handed_over.await.map_err(|_| Ended)?;
        match self.rebuild(upto, &snapshot).await {
            Ok(MirrorAnswer::Applied) => {
                self.say(Heard::Back(upto))?;
                Ok(Ok(Copy::At(upto, changes)))
            }
            Ok(MirrorAnswer::Gap) => Ok(Err(MirrorError("a copy did not hold".to_owned()))),
            Ok(MirrorAnswer::Fenced) => self.is_fenced().map(Ok),
            Err(error) => Ok(Err(error)),
        }
    }

    async fn apply(&self, at: OpNo, to: OpNo, changes: Vec<MirrorOp>) -> Result<MirrorAnswer, MirrorError> {
        let Self { concert, epoch, .. } = *self;
        let batch = GateBatch { concert, epoch, previous: at.0, op: to.0, now: self.clock.now(), changes };
        let port = self.port.clone();
        // A task of its own: one that is kept by its disk, or panics, is no reason to be silent.
        let applied = tokio::spawn(async move { port.apply(&batch).await });
        match timeout(ANSWER, applied).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(broken)) => Err(MirrorError(broken.to_string())),
            Err(_) => Err(MirrorError("it does not answer".to_owned())),
        }
    }

    async fn rebuild(&self, to: OpNo, snapshot: &Snapshot) -> Result<MirrorAnswer, MirrorError> {
        let rebuilt = self.port.rebuild(self.concert, self.epoch, to.0, self.clock.now(), snapshot);
        let rebuilt = timeout(REBUILD, rebuilt).await;
        rebuilt.unwrap_or_else(|_| Err(MirrorError("a rebuild takes for ever".to_owned())))
    }

    fn is_fenced(&self) -> Result<Copy, Ended> {
        self.say(Heard::Fenced)?;
        Err(Ended)
    }

    fn say(&self, heard: Heard) -> Result<(), Ended> {
        self.actor.send_message(Message::Copied(heard)).map_err(|_| Ended)
    }
}

/// Lets whatever is ready on this worker run first. The gate has woken this task to run next, before the connections whose
/// questions have arrived.
async fn behind_others() {
    let mut is_behind = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut is_behind, true) {
            return Poll::Ready(());
        }
        // Whoever wakes itself goes to the end of the queue. `yield_now` waits until the queue has been empty, which makes it
        // wait for whoever comes after it as well.
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// What is sent in one call.
enum Piece {
    Changes(OpNo, Vec<MirrorOp>),
    Rebuild(OpNo, Box<Snapshot>),
}

/// In their order, without those that the copy has already; without any it asks whether the mirror stands there.
fn cut(at: OpNo, gathered: impl Iterator<Item = Change>) -> Vec<Piece> {
    let mut pieces = Vec::new();
    for change in gathered.filter(|change| change.no() > at) {
        match (change, pieces.last_mut()) {
            (Change::Op(no, op), Some(Piece::Changes(to, ops))) => {
                *to = no;
                ops.push(op);
            }
            (Change::Op(no, op), _) => pieces.push(Piece::Changes(no, vec![op])),
            (Change::Rebuild(no, snapshot), _) => pieces.push(Piece::Rebuild(no, snapshot)),
        }
    }
    if pieces.is_empty() {
        pieces.push(Piece::Changes(at, Vec::new()));
    }
    pieces
}

#[cfg(test)]
mod tests;
