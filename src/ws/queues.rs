//! A socket at the gates of concerts: what it asks them, and what it hears from those that it follows.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use actors::gates::GateAsk;
use engine::{ConcertId, UserId};
use tokio_util::sync::ReusableBoxFuture;
use uuid::Uuid;

use super::message::{GateWish, Id};
use super::outbox::Outbox;
use super::render;
use super::session::Session;
use crate::http::Shared;
use crate::http::error::Problem;
use crate::http::proxies::ClientAddress;
use crate::http::queue::{AtGate, Form, LeftView, QueueView, Subscription, Told};

/// What a gate has answered.
pub enum Answered {
    Standing(QueueView),
    Left(LeftView),
}

impl Answered {
    /// The pass that it brings, signed.
    pub fn pass(&self) -> Option<&str> {
        match self {
            Self::Standing(view) => view.pass(),
            Self::Left(_) => None,
        }
    }
}

/// What a socket has to do with gates.
#[derive(Default)]
pub struct AtGates {
    asking: Option<Asking>,
    following: Vec<Queueing>,
}

impl AtGates {
    /// Whether a question waits for its answer; what comes after it on its socket waits too.
    pub const fn is_asking(&self) -> bool {
        self.asking.is_some()
    }

    /// # Errors
    /// There is no such concert, or too many have joined.
    pub fn ask(
        &mut self,
        shared: &Arc<Shared>,
        client: ClientAddress,
        id: &Id,
        user: UserId,
        concert: ConcertId,
        wish: GateWish,
    ) -> Result<(), Problem> {
        let at = shared.at_gate(concert, user)?;
        if wish == GateWish::Join {
            shared.edge.budget.admit(client, user)?;
        }
        let asked = shared.clone();
        let answer = Box::pin(async move { ask(&asked, at, wish).await });
        self.asking = Some(Asking { id: id.clone(), concert, wish, answer });
        Ok(())
    }

    /// # Errors
    /// There is no such concert.
    pub fn follow(
        &mut self,
        shared: &Arc<Shared>,
        user: UserId,
        concert: ConcertId,
        form: Form,
    ) -> Result<(), Problem> {
        let at = shared.at_gate(concert, user)?;
        self.unfollow(concert);
        self.following.push(Queueing::new(shared, at, form));
        Ok(())
    }

    pub fn unfollow(&mut self, concert: ConcertId) {
        self.following.retain(|queueing| queueing.at.concert != concert);
    }

    /// Whether an answer came; it is then in the outbox.
    pub fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
        shared: &Arc<Shared>,
        session: &mut Session,
        outbox: &mut Outbox,
        socket: Uuid,
    ) -> bool {
        let Some(asking) = &mut self.asking else { return false };
        let Poll::Ready(answered) = asking.answer.as_mut().poll(cx) else { return false };
        let Some(Asking { id, concert, wish, .. }) = self.asking.take() else { return false };
        match answered {
            Ok(answered) => {
                take_pass(shared, session, answered.pass());
                outbox.text(|out| render::gate(out, &id, &answered));
                if wish != GateWish::Status {
                    let mine = self.following.iter_mut().filter(|queueing| queueing.at.concert == concert);
                    mine.for_each(|queueing| queueing.begin_anew(shared));
                }
            }
            Err(problem) => {
                if let Problem::Internal(why) = &problem {
                    tracing::error!(%socket, why, "a gate was not asked");
                }
                outbox.text(|out| render::no(out, &id, &problem, socket));
            }
        }
        true
    }

    /// What the gates tell, as long as the client reads it: what it is late for becomes less. Whether it is late now, with
    /// more than `room` unread.
    pub fn poll_events(
        &mut self,
        cx: &mut Context<'_>,
        shared: &Shared,
        session: &mut Session,
        outbox: &mut Outbox,
        room: usize,
    ) -> bool {
        for queueing in &mut self.following {
            while outbox.len() <= room
                && let Poll::Ready(told) = queueing.poll_next(cx)
            {
                take_pass(shared, session, told.pass());
                outbox.text(|out| render::queue(out, queueing.at.concert, &told));
            }
        }
        outbox.len() > room
    }
}

/// A pass that came over the socket need not be shown again on it.
fn take_pass(shared: &Shared, session: &mut Session, pass: Option<&str>) {
    if let Some((shown, ends)) = pass.and_then(|pass| shared.edge.shown(pass.as_bytes())) {
        session.take_pass(shown, ends);
    }
}

struct Asking {
    id: Id,
    concert: ConcertId,
    wish: GateWish,
    answer: Pin<Box<dyn Future<Output = Result<Answered, Problem>> + Send>>,
}

async fn ask(shared: &Shared, at: AtGate, wish: GateWish) -> Result<Answered, Problem> {
    match wish {
        GateWish::Join => shared.standing(at, GateAsk::Join(at.user)).await.map(Answered::Standing),
        GateWish::Status => shared.standing(at, GateAsk::Status(at.user)).await.map(Answered::Standing),
        GateWish::Leave => shared.leave_gate(at).await.map(Answered::Left),
    }
}

/// A gate that the socket follows.
struct Queueing {
    at: AtGate,
    form: Form,
    next: ReusableBoxFuture<'static, (Subscription, Told)>,
}

impl Queueing {
    fn new(shared: &Arc<Shared>, at: AtGate, form: Form) -> Self {
        let subscription = Subscription::new(shared.clone(), at, form);
        Self { at, form, next: ReusableBoxFuture::new(next(subscription)) }
    }

    /// The next event for the client.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Told> {
        self.next.poll(cx).map(|(subscription, told)| {
            self.next.set(next(subscription));
            told
        })
    }

    /// The client has joined or left: it hears how it stands now, from the start.
    fn begin_anew(&mut self, shared: &Arc<Shared>) {
        self.next.set(next(Subscription::new(shared.clone(), self.at, self.form)));
    }
}

async fn next(mut subscription: Subscription) -> (Subscription, Told) {
    let told = subscription.next().await;
    (subscription, told)
}
