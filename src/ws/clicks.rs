//! From clicks to commands of one shard, and from its answers to the client.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use actors::batch::{Later, Sent};
use actors::handle::{Answer, Ask};
use engine::{Command, OptionId, Outcome, Refusal, ReservationId, Unavailable};
use tokio::sync::oneshot;
use tokio::time::Instant;
use uuid::Uuid;

use super::message::{Id, Wish};
use super::outbox::Outbox;
use super::passbook::Passbook;
use super::render;
use super::session::{Action, Click};
use crate::catalogue::directory::OptionEntry;
use crate::http::Edge;
use crate::http::error::Problem;

/// A command that waits for its answer.
struct Asked {
    id: Id,
    entry: Arc<OptionEntry>,
}

/// Clicks of one frame and one shard, sent in one message. The next are sent when these are answered: that is what
/// keeps the order of a socket, whatever shards it asks.
pub struct InFlight {
    asked: Vec<Option<Asked>>,
    clicks: oneshot::Receiver<Vec<(usize, Answer)>>,
}

/// A hold that waits for the ledger.
pub struct Held {
    asked: Asked,
    answer: Later,
}

/// Takes the clicks at the front of the queue that go to one shard, and sends them. What cannot be asked at all is
/// answered, as soon as its turn comes. `None`: the front is no click any more.
pub fn send(
    edge: &Edge,
    passes: &Passbook,
    queue: &mut VecDeque<Action>,
    held: &mut Vec<Held>,
    outbox: &mut Outbox,
    socket: Uuid,
) -> Option<InFlight> {
    let mut shard = None;
    let (mut asks, mut asked) = (Vec::with_capacity(queue.len()), Vec::with_capacity(queue.len()));
    while let Some(Action::Click(click)) = queue.front() {
        let resolved = option(edge, click.option).and_then(|entry| {
            let (command, key) = command(&click.wish, &entry)?;
            // One that has ended is not live at the owner either.
            let pass = passes.find(entry.concert, Some(click.caller.user)).map(|(shown, _)| shown.pass);
            Ok((entry, Ask { caller: click.caller, key, pass, command }))
        });
        match &resolved {
            // Its turn comes when those before it are answered.
            Ok((entry, _)) if *shard.get_or_insert(entry.shard) != entry.shard => break,
            Err(_) if !asks.is_empty() => break,
            _ => {}
        }
        let Some(Action::Click(Click { id, .. })) = queue.pop_front() else { break };
        match resolved {
            Ok((entry, ask)) => {
                asks.push(ask);
                asked.push(Some(Asked { id, entry }));
            }
            Err(problem) => outbox.text(|out| render::no(out, &id, &problem, socket)),
        }
    }
    let deadline = Instant::now() + edge.settings.click_timeout;
    let sent = edge.handle.ask_all(shard?, asks, deadline);
    // No such shard: as if nobody served it.
    let Sent { clicks, later } =
        sent.unwrap_or_else(|| Sent { clicks: oneshot::channel().1, later: Vec::new() });
    for (place, answer) in later {
        held.extend(asked[place].take().map(|asked| Held { asked, answer }));
    }
    Some(InFlight { asked, clicks })
}

impl InFlight {
    /// Whether all its clicks are answered; the answers are then in the outbox.
    pub fn poll(&mut self, cx: &mut Context<'_>, outbox: &mut Outbox, socket: Uuid) -> Poll<()> {
        let answers = match Pin::new(&mut self.clicks).poll(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(answers) => answers.unwrap_or_default(),
        };
        for (place, answer) in answers {
            if let Some(asked) = self.asked[place].take() {
                asked.told(answer, outbox, socket);
            }
        }
        // Nobody has decided about these.
        for asked in self.asked.drain(..).flatten() {
            let outcome = Outcome::Unavailable(Unavailable::Overloaded);
            asked.told(Answer { outcome, replayed: false }, outbox, socket);
        }
        Poll::Ready(())
    }
}

impl Held {
    /// Whether it is answered; the answer is then in the outbox.
    pub fn poll(&mut self, cx: &mut Context<'_>, outbox: &mut Outbox, socket: Uuid) -> Poll<()> {
        match self.answer.as_mut().poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(answer) => {
                self.asked.told(answer, outbox, socket);
                Poll::Ready(())
            }
        }
    }
}

impl Asked {
    fn told(&self, answer: Answer, outbox: &mut Outbox, socket: Uuid) {
        let mut problem = None;
        outbox.text(|out| problem = render::answer(out, &self.id, &self.entry, answer, socket));
        match problem {
            Some(Problem::Internal(why)) => tracing::error!(%socket, why, "a command failed"),
            Some(problem @ (Problem::Unavailable(_) | Problem::Undecided(..))) => {
                tracing::debug!(%socket, code = problem.code(), "not served");
            }
            _ => {}
        }
    }
}

/// What the catalogue knows of an option.
pub fn option(edge: &Edge, option: OptionId) -> Result<Arc<OptionEntry>, Problem> {
    edge.directory.option(option).ok_or(Problem::Refused(Refusal::OptionUnknown))
}

fn command(wish: &Wish, entry: &OptionEntry) -> Result<(Command, Option<engine::RequestKey>), Problem> {
    let option = entry.option;
    Ok(match wish {
        Wish::Select(seats) => (Command::Select { option, seats: *seats }, None),
        Wish::Best(best) => (best.command(entry)?, None),
        Wish::Release(seats) => (Command::Release { option, seats: *seats }, None),
        Wish::Hold(seats, key) => {
            let reservation = ReservationId::stamp(Uuid::now_v7().as_u128(), option);
            (Command::Hold { option, seats: *seats, reservation }, Some(*key))
        }
    })
}
