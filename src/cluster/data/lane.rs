//! The way to one owner: one stream there, one back, for as long as both live.
//!
//! Questions to gates have a lane of their own, on a connection of its own: in one stream a flood of joins would be in
//! front of every click, in this node's queue, in the window and at the owner's reader, and would use up what may be under
//! way. Nothing orders a join and a command to each other anyway, since gate and shard are two actors.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actors::gates::{GateForward, GateReply};
use actors::peers::{Forward, Reply};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::connection::{Chunks, post};
use super::convert;
use super::wire::{self, Down, Frames, NotAMessage, Up};
use crate::cluster::tls::Tls;

/// Commands that may be under way to one owner.
const COMMANDS: usize = 16_384;

/// Questions to gates that may be. A flood is refused here, before it costs the owner anything.
const GATE_QUESTIONS: usize = 8_192;

/// Messages that are written together at most.
const TOGETHER: usize = 512;

/// How long an owner may take to open its end.
const OPEN: Duration = Duration::from_secs(1);

/// How long nothing is tried after an owner could not be reached: what comes meanwhile is told so at once.
const PAUSE: Duration = Duration::from_millis(100);

/// The lanes to one node.
#[derive(Clone, Debug)]
pub struct Lanes {
    commands: Lane,
    gates: Lane,
}

impl Lanes {
    pub fn new(peer_url: &str, tls: Option<&Tls>) -> Self {
        let lane = |path, bound| Lane::new(peer_url.to_owned(), tls.cloned(), path, bound);
        Self {
            commands: lane(super::serve::LANE, COMMANDS),
            gates: lane(super::serve::GATE_LANE, GATE_QUESTIONS),
        }
    }

    /// Sends commands. See [`actors::peers::Peers::ask`].
    pub fn ask(&self, forward: Forward) -> mpsc::UnboundedReceiver<Reply> {
        let (replies, answers) = mpsc::unbounded_channel();
        self.commands.send(Wanted::Commands(forward, replies));
        answers
    }

    /// Sends a question to a gate. See [`actors::peers::Peers::ask_gate`].
    pub fn ask_gate(&self, forward: GateForward) -> oneshot::Receiver<GateReply> {
        let (reply, answer) = oneshot::channel();
        self.gates.send(Wanted::Gate(forward, reply));
        answer
    }
}

/// What somebody wants to have decided.
#[derive(Debug)]
enum Wanted {
    Commands(Forward, mpsc::UnboundedSender<Reply>),
    Gate(GateForward, oneshot::Sender<GateReply>),
}

impl Wanted {
    /// How much it counts as being under way.
    fn count(&self) -> usize {
        match self {
            Self::Commands(forward, _) => forward.asks.len(),
            Self::Gate(..) => 1,
        }
    }

    /// As it travels; `None` for what the owner brings itself.
    fn message(&self, id: u64, now: Instant) -> Option<Up> {
        let budget = |deadline: Instant| {
            u64::try_from(deadline.saturating_duration_since(now).as_micros()).unwrap_or(0)
        };
        match self {
            Self::Commands(Forward { shard, asks, deadline }, _) => {
                let asks = asks.iter().map(convert::ask_out).collect::<Option<_>>()?;
                Some(Up::Ask { id, shard: shard.0, budget: budget(*deadline), asks })
            }
            Self::Gate(GateForward { shard, concert, ask, deadline }, _) => {
                let (shard, concert, ask) = (shard.0, concert.0, convert::gate::ask_out(ask));
                Some(Up::Gate { id, shard, concert, budget: budget(*deadline), ask })
            }
        }
    }

    /// Whoever waited may have gone.
    fn refuse(self) {
        match self {
            Self::Commands(_, replies) => drop(replies.send(Reply::NotSent)),
            Self::Gate(_, reply) => drop(reply.send(GateReply::NotSent)),
        }
    }

    fn into_waiter(self) -> Waiter {
        match self {
            Self::Commands(forward, replies) => Waiter::Commands(replies, forward.asks.len()),
            Self::Gate(_, reply) => Waiter::Gate(reply),
        }
    }
}

/// Who waits.
#[derive(Debug)]
enum Waiter {
    /// For so many answers more.
    Commands(mpsc::UnboundedSender<Reply>, usize),
    Gate(oneshot::Sender<GateReply>),
}

impl Waiter {
    const fn count(&self) -> usize {
        match self {
            Self::Commands(_, left) => *left,
            Self::Gate(_) => 1,
        }
    }
}

/// A lane to one node, made when it is first used. Cheap to clone; it ends with its last clone.
#[derive(Clone, Debug)]
struct Lane {
    wanted: mpsc::UnboundedSender<Wanted>,
    under_way: Arc<AtomicUsize>,
    bound: usize,
}

/// The task's part.
struct Task {
    peer_url: String,
    tls: Option<Tls>,
    path: &'static str,
    under_way: Arc<AtomicUsize>,
    next: u64,
    /// By the number under which they asked.
    waiting: HashMap<u64, Waiter>,
}

impl Lane {
    fn new(peer_url: String, tls: Option<Tls>, path: &'static str, bound: usize) -> Self {
        let (wanted, wants) = mpsc::unbounded_channel();
        let under_way = Arc::new(AtomicUsize::new(0));
        let task =
            Task { peer_url, tls, path, under_way: under_way.clone(), next: 0, waiting: HashMap::new() };
        tokio::spawn(task.run(wants));
        Self { wanted, under_way, bound }
    }

    fn send(&self, wanted: Wanted) {
        let count = wanted.count();
        if self.under_way.fetch_add(count, Ordering::Relaxed) + count > self.bound {
            self.under_way.fetch_sub(count, Ordering::Relaxed);
            return wanted.refuse();
        }
        if let Err(mpsc::error::SendError(wanted)) = self.wanted.send(wanted) {
            self.under_way.fetch_sub(count, Ordering::Relaxed);
            wanted.refuse();
        }
    }
}

impl Task {
    async fn run(mut self, mut wants: mpsc::UnboundedReceiver<Wanted>) {
        let mut is_broken = false;
        while let Some(first) = wants.recv().await {
            let mut gathered = vec![first];
            match self.open(&mut wants, &mut gathered, is_broken).await {
                Ok((chunks, answers)) => {
                    is_broken = false;
                    let ended = self.exchange(gathered, &mut wants, chunks, answers).await;
                    if let Err(error) = ended {
                        tracing::debug!(%error, peer = self.peer_url, "a lane broke");
                    }
                    self.forget();
                }
                Err(error) => {
                    tracing::debug!(%error, peer = self.peer_url, "a peer could not be reached");
                    is_broken = true;
                    gathered.drain(..).for_each(|wanted| self.refuse(wanted));
                    let until = Instant::now() + PAUSE;
                    while let Ok(Some(wanted)) = tokio::time::timeout_at(until, wants.recv()).await {
                        self.refuse(wanted);
                    }
                }
            }
        }
    }

    /// Opens the lane. Where that has just failed nobody waits for it: what comes is told so at once, since a command
    /// that waits here until its client gives up cannot be told from one that was sent.
    async fn open(
        &self,
        wants: &mut mpsc::UnboundedReceiver<Wanted>,
        gathered: &mut Vec<Wanted>,
        is_broken: bool,
    ) -> io::Result<(mpsc::Sender<Bytes>, Incoming)> {
        let (chunks, body) = Chunks::channel();
        let opening = post(&self.peer_url, self.tls.as_ref(), self.path, body);
        let mut opening = std::pin::pin!(tokio::time::timeout(OPEN, opening));
        if is_broken {
            gathered.drain(..).for_each(|wanted| self.refuse(wanted));
        }
        loop {
            tokio::select! {
                opened = &mut opening => {
                    let late = || io::Error::new(io::ErrorKind::TimedOut, "it did not answer in time");
                    return Ok((chunks, opened.map_err(|_| late())??.into_body()));
                }
                Some(wanted) = wants.recv() => match is_broken {
                    true => self.refuse(wanted),
                    false => gathered.push(wanted),
                },
            }
        }
    }

    /// Until one side ends, or the lane has nobody left who might use it.
    async fn exchange(
        &mut self,
        mut gathered: Vec<Wanted>,
        wants: &mut mpsc::UnboundedReceiver<Wanted>,
        chunks: mpsc::Sender<Bytes>,
        mut answers: Incoming,
    ) -> io::Result<()> {
        let mut frames = Frames::default();
        loop {
            if !gathered.is_empty() {
                let bytes = self.write(gathered.drain(..));
                // Waits where the owner does not keep up; what comes meanwhile gathers.
                if chunks.send(bytes).await.is_err() {
                    return Err(io::ErrorKind::BrokenPipe.into());
                }
            }
            tokio::select! {
                received = wants.recv_many(&mut gathered, TOGETHER) => if received == 0 {
                    return Ok(());
                },
                frame = answers.frame() => match frame {
                    Some(Ok(frame)) => if let Ok(data) = frame.into_data() {
                        frames.push(&data);
                        self.answer(&mut frames)?;
                    },
                    Some(Err(error)) => return Err(io::Error::other(error)),
                    None => return Err(io::ErrorKind::UnexpectedEof.into()),
                },
            }
        }
    }

    fn write(&mut self, wanted: impl Iterator<Item = Wanted>) -> Bytes {
        let mut bytes = BytesMut::new();
        let now = Instant::now();
        for wanted in wanted {
            let id = self.next;
            let put = wanted.message(id, now).map(|message| wire::put(&message, &mut bytes));
            let Some(Ok(())) = put else {
                self.refuse(wanted);
                continue;
            };
            self.next += 1;
            self.waiting.insert(id, wanted.into_waiter());
        }
        bytes.freeze()
    }

    fn answer(&mut self, frames: &mut Frames) -> io::Result<()> {
        while let Some(message) = frames.next().map_err(io::Error::other)? {
            let down = wire::decode(&message).map_err(io::Error::other)?;
            self.hear(down).map_err(io::Error::other)?;
        }
        Ok(())
    }

    fn hear(&mut self, down: Down) -> Result<(), NotAMessage> {
        let unknown = |unknown: convert::Unknown| NotAMessage(unknown.to_string());
        match down {
            Down::Answer { id, place, answer } => {
                let answer = convert::answer_in(answer).map_err(unknown)?;
                let Some(Waiter::Commands(replies, left)) = self.waiting.get_mut(&id) else { return Ok(()) };
                // Whoever waited may have gone.
                let _waits = replies.send(Reply::Answer(place as usize, answer));
                *left -= 1;
                self.under_way.fetch_sub(1, Ordering::Relaxed);
                if *left == 0 {
                    self.waiting.remove(&id);
                }
            }
            Down::NotOwner { id, owner } => {
                let owner = convert::route_in(owner);
                match self.taken(id) {
                    Some(Waiter::Commands(replies, _)) => drop(replies.send(Reply::NotOwner(owner))),
                    Some(Waiter::Gate(reply)) => drop(reply.send(GateReply::NotOwner(owner))),
                    None => {}
                }
            }
            Down::Gate { id, said } => {
                let said = convert::gate::said_in(&said).map_err(unknown)?;
                if let Some(Waiter::Gate(reply)) = self.taken(id) {
                    drop(reply.send(GateReply::Said(said)));
                }
            }
            // Its channel ends without an answer.
            Down::GateLost { id } => drop(self.taken(id)),
        }
        Ok(())
    }

    /// Who waits no more under that number.
    fn taken(&mut self, id: u64) -> Option<Waiter> {
        let waiter = self.waiting.remove(&id)?;
        self.under_way.fetch_sub(waiter.count(), Ordering::Relaxed);
        Some(waiter)
    }

    fn refuse(&self, wanted: Wanted) {
        self.under_way.fetch_sub(wanted.count(), Ordering::Relaxed);
        wanted.refuse();
    }

    /// Nobody knows what became of the rest: their channels end without an answer.
    fn forget(&mut self) {
        for (_, waiter) in self.waiting.drain() {
            self.under_way.fetch_sub(waiter.count(), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests;
