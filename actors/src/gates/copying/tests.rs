//! Copying for a gate that does nothing but change.

use std::sync::Mutex;

use async_trait::async_trait;
use engine::{Time, Turn, UserId};
use ractor::{Actor, ActorProcessingErr};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::super::changes::Changes;
use super::*;
use crate::lock::lock;

/// Keeps the numbers of whatever it is told; each batch takes a permit.
struct Book {
    permits: Semaphore,
    told: Mutex<Vec<(u64, usize)>>,
}

#[async_trait]
impl GateMirror for Book {
    async fn apply(&self, batch: &GateBatch) -> Result<MirrorAnswer, MirrorError> {
        self.permits.acquire().await.expect("it is never closed").forget();
        lock(&self.told).push((batch.op, batch.changes.len()));
        Ok(MirrorAnswer::Applied)
    }

    async fn rebuild(
        &self,
        _: ConcertId,
        _: Epoch,
        op: u64,
        _: Time,
        _: &Snapshot,
    ) -> Result<MirrorAnswer, MirrorError> {
        lock(&self.told).push((op, 0));
        Ok(MirrorAnswer::Applied)
    }

    async fn take_over(&self, _: ConcertId, _: Epoch, _: Time) -> Result<Snapshot, MirrorError> {
        Ok(Snapshot::default())
    }

    async fn ping(&self) -> Result<(), MirrorError> {
        Ok(())
    }
}

const ROOM: usize = 3;

/// What has changed, and who hears of it.
#[derive(Default)]
struct Line {
    newest: u64,
    changes: Changes,
}

impl Line {
    fn change(&mut self) {
        self.newest += 1;
        let join = MirrorOp::Join { user: UserId(self.newest), turn: Turn(1) };
        self.changes.push(|| Change::Op(OpNo(self.newest), join));
    }
}

/// Says what it hears, and hands over what it has.
struct Telling(Arc<Mutex<Line>>, mpsc::UnboundedSender<Heard>);

impl Actor for Telling {
    type Msg = Message;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Message>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Message>,
        message: Message,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Copied(heard) => self.1.send(heard)?,
            Message::HandOver(reply) => {
                let mut line = lock(&self.0);
                let (upto, changes) = (OpNo(line.newest), line.changes.anew(ROOM));
                assert!(reply.send(Everything { upto, snapshot: Snapshot::default(), changes }).is_ok());
            }
            _ => unreachable!("nobody else knows it"),
        }
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_gate_that_changes_faster_than_it_is_copied_is_copied_anew() {
    let book = Arc::new(Book { permits: Semaphore::new(0), told: Mutex::default() });
    let line = Arc::new(Mutex::new(Line::default()));
    let changes = lock(&line).changes.anew(ROOM);
    let (telling, mut heard) = mpsc::unbounded_channel();
    let (actor, ended) = Actor::spawn(None, Telling(line.clone(), telling), ()).await.unwrap();
    let now = Instant::now();
    let copying = Copying {
        port: book.clone(),
        clock: LedgerClock::new(now, now, Time(0)),
        concert: ConcertId(1),
        epoch: Epoch(1),
        actor: actor.clone(),
    };
    let copying = tokio::spawn(copying.run(Ok((OpNo(0), changes))));
    lock(&line).change();
    sleep(Duration::from_millis(1)).await;
    // The first is on its way; three wait, and there is no room for two.
    (0..5).for_each(|_| lock(&line).change());
    book.permits.add_permits(2);
    assert_eq!(heard.recv().await, Some(Heard::Mirrored(OpNo(1))));
    assert_eq!(heard.recv().await, Some(Heard::Mirrored(OpNo(4))));
    assert_eq!(heard.recv().await, Some(Heard::Away("it has fallen too far behind".to_owned())));
    lock(&line).change();
    assert_eq!(heard.recv().await, Some(Heard::Back(OpNo(7))));
    lock(&line).change();
    book.permits.add_permits(1);
    assert_eq!(heard.recv().await, Some(Heard::Mirrored(OpNo(8))));
    assert_eq!(*lock(&book.told), [(1, 1), (4, 3), (7, 0), (8, 1)]);
    // It ends with its gate.
    actor.stop(None);
    ended.await.unwrap();
    copying.await.unwrap();
}
