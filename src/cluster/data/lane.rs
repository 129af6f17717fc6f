//! The way of commands to one owner: one stream there, one back, for as long as both live.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actors::peers::{Forward, Reply};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::connection::{Chunks, post};
use super::convert;
use super::wire::{self, Down, Frames, Up};
use crate::cluster::tls::Tls;

/// Commands that may be under way to one owner.
const UNDER_WAY: usize = 16_384;

/// Messages that are written together at most.
const TOGETHER: usize = 512;

/// How long an owner may take to open its end.
const OPEN: Duration = Duration::from_secs(1);

/// How long nothing is tried after an owner could not be reached: what comes meanwhile is told so at once.
const PAUSE: Duration = Duration::from_millis(100);

/// What somebody wants to have decided.
struct Wanted {
    forward: Forward,
    replies: mpsc::UnboundedSender<Reply>,
}

/// A lane to one node, made when it is first used. Cheap to clone; it ends with its last clone.
#[derive(Clone, Debug)]
pub struct Lane {
    wanted: mpsc::UnboundedSender<Wanted>,
    under_way: Arc<AtomicUsize>,
}

impl std::fmt::Debug for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.forward.fmt(f)
    }
}

/// Who waits for answers, by the number under which they were asked.
type Waiting = HashMap<u64, (mpsc::UnboundedSender<Reply>, usize)>;

/// The task's part.
struct Task {
    peer_url: String,
    tls: Option<Tls>,
    under_way: Arc<AtomicUsize>,
    next: u64,
    waiting: Waiting,
}

impl Lane {
    pub fn new(peer_url: String, tls: Option<Tls>) -> Self {
        let (wanted, wants) = mpsc::unbounded_channel();
        let under_way = Arc::new(AtomicUsize::new(0));
        let task = Task { peer_url, tls, under_way: under_way.clone(), next: 0, waiting: HashMap::new() };
        tokio::spawn(task.run(wants));
        Self { wanted, under_way }
    }

    /// Sends commands. See [`actors::peers::Peers::ask`].
    pub fn ask(&self, forward: Forward) -> mpsc::UnboundedReceiver<Reply> {
        let (replies, answers) = mpsc::unbounded_channel();
        let commands = forward.asks.len();
        if self.under_way.fetch_add(commands, Ordering::Relaxed) + commands > UNDER_WAY {
            self.under_way.fetch_sub(commands, Ordering::Relaxed);
            // The receiver is here.
            let _waits = replies.send(Reply::NotSent);
            return answers;
        }
        if let Err(mpsc::error::SendError(wanted)) = self.wanted.send(Wanted { forward, replies }) {
            self.under_way.fetch_sub(commands, Ordering::Relaxed);
            let _waits = wanted.replies.send(Reply::NotSent);
        }
        answers
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
        let opening = post(&self.peer_url, self.tls.as_ref(), super::serve::LANE, body);
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
            let Forward { shard, asks, deadline } = &wanted.forward;
            let budget = u64::try_from(deadline.saturating_duration_since(now).as_micros()).unwrap_or(0);
            let asks: Option<Vec<_>> = asks.iter().map(convert::ask_out).collect();
            let id = self.next;
            let put = asks.map(|asks| wire::put(&Up::Ask { id, shard: shard.0, budget, asks }, &mut bytes));
            let Some(Ok(())) = put else {
                self.refuse(wanted);
                continue;
            };
            self.next += 1;
            self.waiting.insert(id, (wanted.replies, wanted.forward.asks.len()));
        }
        bytes.freeze()
    }

    fn answer(&mut self, frames: &mut Frames) -> io::Result<()> {
        while let Some(message) = frames.next().map_err(io::Error::other)? {
            match wire::decode(&message).map_err(io::Error::other)? {
                Down::Answer { id, place, answer } => {
                    let answer = convert::answer_in(answer).map_err(io::Error::other)?;
                    let Some((replies, left)) = self.waiting.get_mut(&id) else { continue };
                    // Whoever waited may have gone.
                    let _waits = replies.send(Reply::Answer(place as usize, answer));
                    *left -= 1;
                    self.under_way.fetch_sub(1, Ordering::Relaxed);
                    if *left == 0 {
                        self.waiting.remove(&id);
                    }
                }
                Down::NotOwner { id, owner } => {
                    if let Some((replies, left)) = self.waiting.remove(&id) {
                        self.under_way.fetch_sub(left, Ordering::Relaxed);
                        let _waits = replies.send(Reply::NotOwner(convert::route_in(owner)));
                    }
                }
            }
        }
        Ok(())
    }

    fn refuse(&self, wanted: Wanted) {
        self.under_way.fetch_sub(wanted.forward.asks.len(), Ordering::Relaxed);
        let _waits = wanted.replies.send(Reply::NotSent);
    }

    /// Nobody knows what became of the rest: their channels end without an answer.
    fn forget(&mut self) {
        for (_, (_, left)) in self.waiting.drain() {
            self.under_way.fetch_sub(left, Ordering::Relaxed);
        }
    }
}
