//! One option that a socket watches.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use actors::Handle;
use actors::feed::{Frame, Position, Watch};
use engine::{ConcertId, OptionId};
use tokio::time::Instant;
use tokio_util::sync::ReusableBoxFuture;

/// How soon an option that this node stopped serving is asked for again: its shard is being restored.
const AGAIN: Duration = Duration::from_millis(500);

/// Goes on where it stood when the option comes back, and from the start when the client lost its backlog.
pub struct Watching {
    pub option: OptionId,
    /// Whose pass it needs.
    pub gate: Option<ConcertId>,
    /// What the client has been sent.
    at: Option<Position>,
    state: State,
}

enum State {
    Live(ReusableBoxFuture<'static, (Watch, Option<Arc<Frame>>)>),
    Lost { again: Instant },
}

impl Watching {
    pub fn new(option: OptionId, gate: Option<ConcertId>, since: Option<Position>, watch: Watch) -> Self {
        Self { option, gate, at: since, state: State::Live(ReusableBoxFuture::new(next(watch))) }
    }

    /// The next frame for the client.
    pub fn poll_next(&mut self, cx: &mut Context<'_>, now: Instant, handle: &Handle) -> Poll<Arc<Frame>> {
        loop {
            match &mut self.state {
                State::Live(future) => match future.poll(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready((watch, Some(frame))) => {
                        future.set(next(watch));
                        self.at = Some(frame.to());
                        return Poll::Ready(frame);
                    }
                    Poll::Ready((_, None)) => self.state = State::Lost { again: now + AGAIN },
                },
                State::Lost { again } if *again > now => return Poll::Pending,
                State::Lost { again } => match handle.watch(self.option, self.at) {
                    Some(watch) => self.state = State::Live(ReusableBoxFuture::new(next(watch))),
                    None => *again = now + AGAIN,
                },
            }
        }
    }

    /// The client lost its backlog: a snapshot comes next.
    pub fn reset(&mut self, now: Instant, handle: &Handle) {
        self.state = match handle.watch(self.option, self.at) {
            Some(mut watch) => {
                watch.reset();
                State::Live(ReusableBoxFuture::new(next(watch)))
            }
            None => State::Lost { again: now },
        };
        self.at = None;
    }

    /// When it is to be polled though nothing wakes it.
    pub fn due(&self) -> Option<Instant> {
        match &self.state {
            State::Live(_) => None,
            State::Lost { again } => Some(*again),
        }
    }
}

async fn next(mut watch: Watch) -> (Watch, Option<Arc<Frame>>) {
    let frame = watch.next().await;
    (watch, frame)
}
