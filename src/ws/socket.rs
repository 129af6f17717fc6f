//! A socket's task: one poll goes over everything that may have happened, and what came of it goes out in one write.
//!
//! Written as a future by hand, so that ten thousand idle viewers cost what is in these structs and nothing else.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actors::feed::Position;
use actors::followers::{Following, Selection};
use bytes::Bytes;
use engine::{OptionId, Unavailable};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::clicks::{self, Held, InFlight};
use super::message::Id;
use super::outbox::Outbox;
use super::pipe::{Frames, Incoming};
use super::queues::AtGates;
use super::session::{Action, Checks, Frame, Reason, Session};
use super::watching::Watching;
use super::{Sockets, render};
use crate::http::Shared;
use crate::http::error::Problem;
use crate::http::proxies::ClientAddress;

/// How long a client may take to read why it was closed.
const LEAVE: Duration = Duration::from_secs(2);

/// Holds of one socket that wait for the ledger. With more, it is not read from.
const HELD: usize = 64;

/// Rounds of one turn, after which others have theirs.
const ROUNDS: usize = 32;

/// A client's question for its own selection, asked when it begins to watch.
type Asking = Pin<Box<dyn Future<Output = Result<Selection, Unavailable>> + Send>>;

/// A connection that speaks WebSocket, over any stream.
pub struct Socket<S> {
    shared: Arc<Shared>,
    sockets: Sockets,
    stream: S,
    frames: Frames,
    outbox: Outbox,
    session: Session,
    /// The client's, for the budget of joins.
    client: ClientAddress,
    /// Whether the feed goes out as `hotseat.bin.1`.
    is_binary: bool,
    /// Names the socket in answers and in the log.
    name: uuid::Uuid,
    watching: Vec<Watching>,
    following: Option<Following>,
    asking: Vec<Asking>,
    gates: AtGates,
    /// What is still to be done of the last frame.
    queue: VecDeque<Action>,
    in_flight: Option<InFlight>,
    held: Vec<Held>,
    /// Since when the client has read nothing of what waits for it.
    blocked_since: Option<Instant>,
    /// The backlog was dropped; the feed goes on when all else is written.
    is_behind: bool,
    /// The client is not read from before it has read its answers.
    is_deaf: bool,
    timer: Option<Pin<Box<Sleep>>>,
    shutdown: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Whether `shutdown` knows whom to wake.
    is_registered: bool,
    leaving: Option<Leaving>,
}

/// Everything was said; only what waits is still written, and what comes is read and forgotten, because a
/// connection that is closed with something unread is reset, and the client would not hear why.
struct Leaving {
    until: Instant,
    is_shut: bool,
}

/// How a socket was opened.
pub struct Opening {
    pub session: Session,
    pub client: ClientAddress,
    pub is_binary: bool,
    pub following: Option<Following>,
    /// What the client sent before it heard that it may.
    pub early: Bytes,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    pub fn new(shared: Arc<Shared>, sockets: Sockets, stream: S, opening: Opening) -> Self {
        Self {
            shutdown: Box::pin(sockets.closing()),
            is_registered: false,
            shared,
            sockets,
            stream,
            frames: Frames::new(opening.early),
            outbox: Outbox::default(),
            session: opening.session,
            client: opening.client,
            is_binary: opening.is_binary,
            name: uuid::Uuid::new_v4(),
            watching: Vec::new(),
            following: opening.following,
            asking: Vec::new(),
            gates: AtGates::default(),
            queue: VecDeque::new(),
            in_flight: None,
            held: Vec::new(),
            blocked_since: None,
            is_behind: false,
            is_deaf: false,
            timer: None,
            leaving: None,
        }
    }

    /// What others have done. It leads to nothing further, so once a turn is enough.
    fn poll_news(&mut self, cx: &mut Context<'_>, now: Instant) {
        if let Some(following) = &mut self.following {
            while let Poll::Ready(selection) = following.poll_next(cx) {
                self.outbox.text(|out| render::mine(out, &selection));
            }
        }
        self.asking.retain_mut(|asking| match asking.as_mut().poll(cx) {
            Poll::Pending => true,
            Poll::Ready(selection) => {
                // Nothing selected is no news; a shard that is away tells when it is back.
                if let Ok(selection) = selection
                    && !selection.seats.is_empty()
                {
                    self.outbox.text(|out| render::mine(out, &selection));
                }
                false
            }
        });
        let room = self.shared.edge.settings.ws.send_buffer;
        self.is_deaf |= self.gates.poll_events(cx, &self.shared, &mut self.session, &mut self.outbox, room);
        self.poll_feed(cx, now);
    }

    /// Answers of the shards. Whether there were any: then there may be more to ask.
    fn poll_answers(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        if let Some(in_flight) = &mut self.in_flight
            && in_flight.poll(cx, &mut self.outbox, self.name).is_ready()
        {
            self.in_flight = None;
            moved = true;
        }
        moved |= self.gates.poll_answer(cx, &self.shared, &mut self.session, &mut self.outbox, self.name);
        let before = self.held.len();
        self.held.retain_mut(|held| held.poll(cx, &mut self.outbox, self.name).is_pending());
        moved | (self.held.len() < before)
    }

    /// Frames of the feed, as long as the client reads them.
    fn poll_feed(&mut self, cx: &mut Context<'_>, now: Instant) {
        if self.is_behind {
            return;
        }
        for watching in &mut self.watching {
            while let Poll::Ready(frame) = watching.poll_next(cx, now, &self.shared.edge.handle) {
                let payload = if self.is_binary { frame.binary() } else { frame.text() };
                self.outbox.feed(payload, self.is_binary);
                if self.outbox.len() > self.shared.edge.settings.ws.send_buffer {
                    self.is_behind = true;
                    break;
                }
            }
        }
        if self.is_behind {
            self.outbox.drop_feed();
            for watching in &mut self.watching {
                watching.reset(now, &self.shared.edge.handle);
            }
        }
    }

    /// Does what the last frame asked for, until an answer must be waited for.
    fn proceed(&mut self) {
        while self.in_flight.is_none() && !self.gates.is_asking() && self.leaving.is_none() {
            if matches!(self.queue.front(), Some(Action::Click(_))) {
                self.in_flight = clicks::send(
                    &self.shared.edge,
                    self.session.passes(),
                    &mut self.queue,
                    &mut self.held,
                    &mut self.outbox,
                    self.name,
                );
                continue;
            }
            match self.queue.pop_front() {
                None => {
                    self.queue = VecDeque::new();
                    return;
                }
                Some(action) => self.act(action),
            }
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Ok(id) => self.outbox.text(|out| render::ok(out, &id)),
            Action::No(id, problem) => self.refuse(&id, &problem),
            Action::Follow(user) => {
                self.following = Some(self.shared.edge.handle.follow(user));
                let options: Vec<OptionId> = self.watching.iter().map(|watching| watching.option).collect();
                options.into_iter().for_each(|option| self.ask_for_mine(option));
            }
            Action::Watch { id, option, since } => {
                self.watching.retain(|watching| watching.option != option);
                match self.watch(option, since) {
                    Ok(watching) => {
                        self.watching.push(watching);
                        self.outbox.text(|out| render::ok(out, &id));
                        self.ask_for_mine(option);
                    }
                    Err(problem) => {
                        self.session.is_not_watched(option);
                        self.refuse(&id, &problem);
                    }
                }
            }
            Action::Unwatch(option) => self.watching.retain(|watching| watching.option != option),
            Action::Gate { id, user, concert, wish } => {
                if let Err(problem) = self.gates.ask(&self.shared, self.client, &id, user, concert, wish) {
                    self.refuse(&id, &problem);
                }
            }
            Action::Queue { id, user, concert, form } => {
                match self.gates.follow(&self.shared, user, concert, form) {
                    Ok(()) => self.outbox.text(|out| render::ok(out, &id)),
                    Err(problem) => {
                        self.session.is_not_queued(concert);
                        self.refuse(&id, &problem);
                    }
                }
            }
            Action::Unqueue(concert) => self.gates.unfollow(concert),
            Action::Bye(reason) => self.bye(reason),
            Action::Click(_) => unreachable!("`proceed` sends clicks"),
        }
    }

    fn watch(&self, option: OptionId, since: Option<Position>) -> Result<Watching, Problem> {
        let entry = clicks::option(&self.shared.edge, option)?;
        let mut gate = None;
        if entry.gated && self.session.may_watch(Instant::now(), entry.concert)?.is_some() {
            gate = Some(entry.concert);
        }
        let watch = self.shared.edge.handle.watch(option, since).ok_or(Unavailable::Overloaded)?;
        Ok(Watching::new(option, gate, since, watch))
    }

    /// When the first pass ends that something is watched by. A later one of the same concert prolongs that.
    fn passes_end(&self, now: Instant) -> Option<Instant> {
        let gates = self.watching.iter().filter_map(|watching| watching.gate);
        gates.filter_map(|gate| self.session.may_watch(now, gate).unwrap_or(Some(now))).min()
    }

    fn refuse(&mut self, id: &Id, problem: &Problem) {
        self.outbox.text(|out| render::no(out, id, problem, self.name));
    }

    /// Who comes back learns what is still selected.
    fn ask_for_mine(&mut self, option: OptionId) {
        if let (Some(following), Some(shard)) = (&self.following, self.shared.edge.directory.shard_of(option))
        {
            let (handle, user) = (self.shared.edge.handle.clone(), following.user());
            self.asking.push(Box::pin(async move { handle.selection(shard, user, option).await }));
        }
    }

    /// Reads until there is nothing to read, or something to wait for. Whether a frame came; `Err`: it is gone.
    fn poll_read(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<bool, Gone> {
        self.is_deaf = self.outbox.len() > self.shared.edge.settings.ws.send_buffer;
        let waits = self.in_flight.is_some() || self.gates.is_asking() || self.held.len() >= HELD;
        if self.is_deaf || waits || self.leaving.is_some() {
            return Ok(false);
        }
        let Poll::Ready(incoming) = self.frames.poll_next(cx, &mut self.stream, &mut self.outbox) else {
            return Ok(false);
        };
        let frame = match &incoming {
            Incoming::Text(text) => Frame::Text(text),
            Incoming::Binary => Frame::Binary,
            Incoming::Control => Frame::Control,
            Incoming::Wrong(reason) => {
                self.bye(*reason);
                return Ok(true);
            }
            Incoming::Close => {
                self.leave(now);
                return Ok(true);
            }
            Incoming::Gone => return Err(Gone),
        };
        let mut actions = Vec::new();
        let edge = &self.shared.edge;
        let checks = Checks { tokens: &edge.tokens, pass: &|pass| edge.shown(pass.as_bytes()) };
        self.session.receive(now, frame, &checks, &mut actions);
        self.queue = actions.into();
        self.proceed();
        Ok(true)
    }

    /// Writes what there is. `Err`: it is gone, or has read nothing for too long.
    fn poll_write(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<(), Gone> {
        let mut moved = false;
        let flushed = self.outbox.poll_flush(cx, &mut self.stream, &mut moved);
        match flushed {
            Poll::Ready(Ok(())) => {
                self.blocked_since = None;
                // What waited for room was not polled, so nothing else would wake it.
                if std::mem::take(&mut self.is_behind) | std::mem::take(&mut self.is_deaf) {
                    cx.waker().wake_by_ref();
                }
                Ok(())
            }
            Poll::Ready(Err(_)) => Err(Gone),
            Poll::Pending if moved || self.blocked_since.is_none() => {
                self.blocked_since = Some(now);
                Ok(())
            }
            Poll::Pending if self.stall_ends().is_some_and(|ends| ends <= now) => {
                tracing::debug!(socket = %self.name, "a client that reads nothing is closed");
                if !self.watching.is_empty() {
                    self.shared.edge.metrics.viewers_stalled().inc();
                }
                Err(Gone)
            }
            Poll::Pending => Ok(()),
        }
    }

    fn stall_ends(&self) -> Option<Instant> {
        Some(self.blocked_since? + self.shared.edge.settings.ws.stall_timeout)
    }

    /// The last word. What the client has not read of the feed it will not need.
    fn bye(&mut self, reason: Reason) {
        if self.leaving.is_some() {
            return;
        }
        tracing::debug!(socket = %self.name, reason = reason.name(), "bye");
        let retry_after = self.sockets.retry_after(reason);
        self.outbox.drop_feed();
        self.outbox.text(|out| render::bye(out, reason.name(), retry_after));
        self.outbox.close(reason.close_code(), reason.name());
        self.leave(Instant::now());
    }

    /// Answers that are still owed are lost with the socket; the key of a hold remembers its own.
    fn leave(&mut self, now: Instant) {
        self.leaving = Some(Leaving { until: now + LEAVE, is_shut: false });
        self.watching = Vec::new();
        self.asking = Vec::new();
        self.gates = AtGates::default();
        self.following = None;
        self.in_flight = None;
        self.queue = VecDeque::new();
        self.held = Vec::new();
    }

    /// Whether the client has gone, or was given time enough to.
    fn poll_leave(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<()> {
        let Some(leaving) = &mut self.leaving else { return Poll::Pending };
        if leaving.until <= now {
            return Poll::Ready(());
        }
        if !leaving.is_shut {
            if ready!(self.outbox.poll_flush(cx, &mut self.stream, &mut false)).is_err() {
                return Poll::Ready(());
            }
            if ready!(Pin::new(&mut self.stream).poll_shutdown(cx)).is_err() {
                return Poll::Ready(());
            }
            leaving.is_shut = true;
        }
        let mut ignored = [0; 1024];
        loop {
            let mut buffer = ReadBuf::new(&mut ignored);
            match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {}
                Ok(()) | Err(_) => return Poll::Ready(()),
            }
        }
    }

    /// Sets the timer to whatever is due first.
    fn arm(&mut self, cx: &mut Context<'_>, now: Instant) {
        let due = match &self.leaving {
            Some(leaving) => Some(leaving.until),
            None => {
                let watching = self.watching.iter().filter_map(Watching::due).min();
                [self.session.due(), self.stall_ends(), watching, self.passes_end(now)]
                    .into_iter()
                    .flatten()
                    .min()
            }
        };
        let Some(due) = due else {
            self.timer = None;
            return;
        };
        match &mut self.timer {
            // It still waits, and knows whom to wake.
            Some(timer) if timer.deadline() == due && now < due => return,
            Some(timer) => timer.as_mut().reset(due),
            None => self.timer = Some(Box::pin(tokio::time::sleep_until(due))),
        }
        if let Some(timer) = &mut self.timer
            && timer.as_mut().poll(cx).is_ready()
        {
            cx.waker().wake_by_ref();
        }
    }

    /// Whether the server goes down. What wakes the task then is set once: it has a lock that all sockets share.
    fn is_shutdown(&mut self, cx: &mut Context<'_>) -> bool {
        let is_first = !std::mem::replace(&mut self.is_registered, true);
        (is_first && self.shutdown.as_mut().poll(cx).is_ready()) || self.sockets.is_closing()
    }

    /// One turn of a socket that is open. `Err`: it is gone.
    fn turn(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<(), Gone> {
        if let Some(reason) = self.session.tick(now) {
            self.bye(reason);
        }
        if self.passes_end(now).is_some_and(|ends| ends <= now) {
            self.bye(Reason::PassEnded);
        }
        let mut is_done = false;
        for _ in 0..ROUNDS {
            let answered = self.poll_answers(cx);
            self.proceed();
            is_done = !self.poll_read(cx, now)? && !answered;
            if self.leaving.is_some() {
                return Ok(());
            }
            if is_done {
                break;
            }
        }
        if !is_done {
            cx.waker().wake_by_ref();
        }
        self.poll_news(cx, now);
        if self.is_shutdown(cx) {
            // What was answered before the end was told above.
            self.bye(Reason::Shutdown);
            return Ok(());
        }
        self.poll_write(cx, now)
    }
}

/// The client is not there any more.
struct Gone;

impl<S: AsyncRead + AsyncWrite + Unpin> Future for Socket<S> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let socket = &mut *self;
        let now = Instant::now();
        if socket.leaving.is_none() && socket.turn(cx, now).is_err() {
            return Poll::Ready(());
        }
        if socket.leaving.is_some() && socket.poll_leave(cx, now).is_ready() {
            return Poll::Ready(());
        }
        socket.arm(cx, now);
        Poll::Pending
    }
}
