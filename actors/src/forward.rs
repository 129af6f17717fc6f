//! Commands whose shard another node owns: they go there, once, and their answers come back.
//!
//! Who is not the owner any more decides nothing and says so, and then the command goes to whoever is. What became
//! of a command whose owner fell silent nobody knows. A click on named seats is sent again, since twice is as good as
//! once; a ledger command is for its key to tell.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use engine::{Command, Outcome, ShardId, Unavailable};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::batch::{Later, Sent};
use crate::door::{Door, Route};
use crate::handle::{Answer, Ask, Handle};
use crate::lock::lock;
use crate::mirror::check::MirrorUnchecked;
use crate::peers::{Call, Forward, PeerError, Reply, Returned};
use crate::ports::{MirrorError, Owner};
use crate::resync::ResyncError;
use crate::shard::Message;

/// Owners that are tried: the one this node knows, and one more for each move on the way.
const OWNERS: usize = 4;

/// How long a command, or a question to a gate, waits for news of who owns its shard.
pub(crate) const NEWS: Duration = Duration::from_millis(500);

/// How long one node lets another wait for a read.
const CALL: Duration = Duration::from_secs(2);

/// Who decides.
enum Way {
    Here,
    There(std::sync::Arc<Owner>),
}

/// Why commands were not decided where they were sent.
enum Undecided {
    /// For certain, and somebody else may.
    NotOwner,
    /// The way there broke: nobody knows.
    Silent,
    /// Nobody knows, and nobody waits any more.
    TooLate,
    /// For certain.
    NotSent,
}

impl Handle {
    /// The owner's answer, wherever it is.
    pub(crate) async fn decided(&self, shard: ShardId, door: &Door, ask: Ask, deadline: Instant) -> Answer {
        for _ in 0..OWNERS {
            let owner = match way(door, deadline).await {
                Way::Here => return self.decided_here(door, ask, deadline).await,
                Way::There(owner) => owner,
            };
            match self.decided_there(shard, door, &owner, &ask, deadline).await {
                Ok(answer) => return answer,
                Err(undecided) if undecided.may_ask_again(std::slice::from_ref(&ask)) => {
                    other_than(door, &owner, deadline).await;
                }
                Err(undecided) => return Answer::unavailable(undecided.of(&ask)),
            }
        }
        Answer::unavailable(Unavailable::Overloaded)
    }

    async fn decided_there(
        &self,
        shard: ShardId,
        door: &Door,
        owner: &Owner,
        ask: &Ask,
        deadline: Instant,
    ) -> Result<Answer, Undecided> {
        let _undecided = door.gauges.undecided.take().ok_or(Undecided::NotSent)?;
        let mut answer = None;
        self.forward(shard, owner, vec![ask.clone()], deadline, |_, said| answer = Some(said)).await?;
        answer.ok_or(Undecided::Silent)
    }

    /// Sends several commands, and hands each answer on as it comes.
    async fn forward(
        &self,
        shard: ShardId,
        owner: &Owner,
        asks: Vec<Ask>,
        deadline: Instant,
        mut answered: impl FnMut(usize, Answer),
    ) -> Result<(), Undecided> {
        let sent = Instant::now();
        let is_durable = asks.iter().any(|ask| ask.command.reaches_ledger());
        let patience = if is_durable { deadline.max(sent + self.inner.ledger_ack_timeout) } else { deadline };
        let mut awaited = asks.len();
        let mut replies = self.inner.peers.ask(owner, Forward { shard, asks, deadline });
        while awaited > 0 {
            match timeout_at(patience, replies.recv()).await {
                Ok(Some(Reply::Answer(place, answer))) => {
                    awaited -= 1;
                    answered(place, answer);
                }
                Ok(Some(Reply::NotOwner(hint))) => {
                    self.inner.hints.tell(shard, hint);
                    return Err(Undecided::NotOwner);
                }
                Ok(Some(Reply::NotSent)) => return Err(Undecided::NotSent),
                Ok(None) => {
                    self.inner.hints.tell(shard, None);
                    return Err(Undecided::Silent);
                }
                Err(_) => return Err(Undecided::TooLate),
            }
        }
        self.inner.metrics.forward_seconds().observe(sent.elapsed().as_secs_f64());
        Ok(())
    }

    /// As [`Handle::ask_all`], to wherever the owner is.
    pub(crate) fn send_there(&self, shard: ShardId, asks: Vec<Ask>, deadline: Instant) -> Sent {
        let (mut sinks, sent) = Sinks::of(&asks);
        let handle = self.clone();
        tokio::spawn(async move {
            let Some(door) = handle.door(shard) else { return };
            let _undecided = match door.gauges.undecided.take_all(asks.len()) {
                Some(permit) => permit,
                None => return sinks.end(&asks, &Undecided::NotSent),
            };
            for _ in 0..OWNERS {
                let owner = match way(door, deadline).await {
                    Way::Here => return sinks.follow(handle.send_here(door, asks, deadline)).await,
                    Way::There(owner) => owner,
                };
                let answered = |place, answer| sinks.answered(place, answer);
                match handle.forward(shard, &owner, asks.clone(), deadline, answered).await {
                    Ok(()) => return,
                    Err(undecided) if undecided.may_ask_again(&asks) && sinks.is_untouched() => {
                        other_than(door, &owner, deadline).await;
                    }
                    Err(undecided) => return sinks.end(&asks, &undecided),
                }
            }
            sinks.end(&asks, &Undecided::NotSent);
        });
        sent
    }

    /// Decides for another node what it forwards; `say` hears each answer as it comes. What is forwarded one after the
    /// other is decided in that order, except where the shard is only about to serve here.
    pub fn decide_for(&self, forward: Forward, say: impl Fn(Reply) + Send + 'static) {
        let Forward { shard, asks, deadline } = forward;
        let Some(door) = self.door(shard) else { return say(Reply::NotOwner(None)) };
        if matches!(*door.route.borrow(), Route::Arriving) {
            let handle = self.clone();
            tokio::spawn(async move {
                let Some(door) = handle.door(shard) else { return };
                door.arrived(deadline).await;
                handle.decide_or_refuse(door, asks, deadline, say);
            });
            return;
        }
        self.decide_or_refuse(door, asks, deadline, say);
    }

    fn decide_or_refuse(
        &self,
        door: &Door,
        asks: Vec<Ask>,
        deadline: Instant,
        say: impl Fn(Reply) + Send + 'static,
    ) {
        if door.actor().is_none() {
            let elsewhere = door.elsewhere();
            return say(Reply::NotOwner(elsewhere.map(|(epoch, owner)| (epoch, Owner::clone(&owner)))));
        }
        let commands = asks.len();
        let sent = self.send_here(door, asks, deadline);
        tokio::spawn(async move {
            let mut clicks: BTreeSet<usize> = (0..commands).collect();
            let mut later = JoinSet::new();
            for (place, answer) in sent.later {
                clicks.remove(&place);
                later.spawn(async move { Reply::Answer(place, answer.await) });
            }
            for (place, answer) in sent.clicks.await.unwrap_or_default() {
                clicks.remove(&place);
                say(Reply::Answer(place, answer));
            }
            // The shard was full, or has died: nobody has decided about these.
            for place in clicks {
                say(Reply::Answer(place, Answer::unavailable(Unavailable::Overloaded)));
            }
            while let Some(Ok(reply)) = later.join_next().await {
                say(reply);
            }
        });
    }

    /// Another node says that it has a shard.
    pub fn hint(&self, shard: ShardId, epoch: engine::Epoch, owner: Owner) {
        self.inner.hints.tell(shard, Some((epoch, owner)));
    }

    /// Takes what another node's hub says of an option that is served there. Whether it fitted what is shown here.
    #[must_use]
    pub fn follow_news(&self, news: &crate::feed::News) -> bool {
        self.inner.hub.follow(news)
    }

    /// What this node shows, and how far it is.
    #[must_use]
    pub fn shown(&self) -> Vec<(engine::OptionId, crate::feed::Position)> {
        let hub = &self.inner.hub;
        hub.options().into_iter().filter_map(|option| Some((option, hub.position(option)?))).collect()
    }

    /// Changes whenever an option begins to be served here.
    #[must_use]
    pub fn opened(&self) -> tokio::sync::watch::Receiver<u64> {
        self.inner.hub.opened()
    }

    /// The shards that this node serves.
    #[must_use]
    pub fn serving(&self) -> BTreeSet<ShardId> {
        let doors = (0..).map(ShardId).zip(self.inner.doors.iter());
        doors.filter(|(_, door)| door.actor().is_some()).map(|(shard, _)| shard).collect()
    }

    /// How far this node is with what it shows of an option.
    #[must_use]
    pub fn position(&self, option: engine::OptionId) -> Option<crate::feed::Position> {
        self.inner.hub.position(option)
    }

    /// Whether a shard of this node has the option.
    #[must_use]
    pub fn serves(&self, option: engine::OptionId) -> bool {
        self.inner.doors.iter().any(|door| lock(&door.options).contains(&option))
    }

    /// The options whose shards this node serves.
    #[must_use]
    pub fn served(&self) -> BTreeSet<engine::OptionId> {
        let doors = self.inner.doors.iter();
        doors.flat_map(|door| lock(&door.options).iter().copied().collect::<Vec<_>>()).collect()
    }

    /// Answers what another node asks.
    ///
    /// # Errors
    /// The shard is not served here, or the move is declined.
    pub async fn answer_call(&self, from: &Owner, call: Call) -> Result<Returned, PeerError> {
        let unavailable = PeerError::Unavailable;
        match call {
            Call::Reservation(shard, id) => {
                let door = self.here(shard)?;
                let read = door.read(|reply, permit| Message::Reservation { id, reply, permit });
                read.await.map(Returned::Reservation).map_err(unavailable)
            }
            Call::Selection(shard, user, option) => {
                let door = self.here(shard)?;
                let read = door.read(|reply, permit| Message::Selection { user, option, reply, permit });
                read.await.map(Returned::Selection).map_err(unavailable)
            }
            Call::Prepare(shard, attempt) => self.inner.arrivals.prepare(from, shard, attempt).await,
            Call::Hold(shard, attempt, locks) => self.inner.arrivals.hold(shard, attempt, locks).await,
            Call::HandedOver(shard, attempt) => Ok(self.inner.arrivals.handed_over(shard, attempt)),
            Call::Resumed(shard, attempt) => Ok(self.inner.arrivals.resumed(shard, attempt)),
            Call::Memory(shard) => {
                let read = self.here(shard)?.read(|reply, permit| Message::Memory { reply, permit });
                read.await.map(|memory| Returned::Memory(Box::new(memory))).map_err(unavailable)
            }
            Call::CheckMirror(shard) => {
                self.here(shard)?;
                match self.check_mirror_here(shard).await {
                    Ok(check) => Ok(Returned::Mirror(check)),
                    Err(MirrorUnchecked::Shard(why)) => Err(unavailable(why)),
                    Err(MirrorUnchecked::Mirror(MirrorError(why))) => Ok(Returned::MirrorAway(why)),
                }
            }
            Call::Resync(shard) => {
                self.here(shard)?;
                match self.resync_here(shard).await {
                    Ok(resynced) => Ok(Returned::Resynced(resynced)),
                    Err(ResyncError::Unavailable(why)) => Err(unavailable(why)),
                    Err(ResyncError::Contradiction(why)) => Ok(Returned::Contradiction(why)),
                }
            }
        }
    }

    fn here(&self, shard: ShardId) -> Result<&Door, PeerError> {
        let door = self.door(shard).ok_or(PeerError::NotOwner(None))?;
        match door.elsewhere() {
            None => Ok(door),
            Some((epoch, owner)) => Err(PeerError::NotOwner(Some((epoch, Owner::clone(&owner))))),
        }
    }

    /// Asks an owner for something that it knows.
    pub(crate) async fn call(&self, owner: &Owner, call: Call) -> Result<Returned, Unavailable> {
        self.call_within(owner, call, CALL).await
    }

    /// The same, where the answer takes its time.
    pub(crate) async fn call_within(
        &self,
        owner: &Owner,
        call: Call,
        patience: Duration,
    ) -> Result<Returned, Unavailable> {
        let called = self.inner.peers.call(owner, call, Instant::now() + patience).await;
        called.map_err(|error| {
            tracing::debug!(%error, node = owner.node, "a peer was asked in vain");
            match error {
                PeerError::Unavailable(unavailable) => unavailable,
                PeerError::Silent(_) | PeerError::NotOwner(_) | PeerError::Refused(_) => {
                    Unavailable::Overloaded
                }
            }
        })
    }
}

impl Undecided {
    fn of(&self, ask: &Ask) -> Unavailable {
        match self {
            Self::Silent | Self::TooLate if ask.command.reaches_ledger() => Unavailable::Ledger,
            Self::Silent | Self::TooLate | Self::NotOwner | Self::NotSent => Unavailable::Overloaded,
        }
    }

    /// Whether asking somebody else, or the same again, does no harm.
    fn may_ask_again(&self, asks: &[Ask]) -> bool {
        let is_same_twice =
            |ask: &Ask| matches!(ask.command, Command::Select { .. } | Command::Release { .. });
        match self {
            Self::NotOwner | Self::NotSent => true,
            Self::Silent => asks.iter().all(is_same_twice),
            Self::TooLate => false,
        }
    }
}

async fn way(door: &Door, deadline: Instant) -> Way {
    match &*door.route.borrow() {
        Route::Elsewhere { owner, .. } => return Way::There(owner.clone()),
        Route::Starting | Route::Serving { .. } | Route::Stopped => return Way::Here,
        Route::Arriving => {}
    }
    door.arrived(deadline).await;
    door.elsewhere().map_or(Way::Here, |(_, owner)| Way::There(owner))
}

/// Waits a moment for another route than to that owner.
async fn other_than(door: &Door, owner: &Owner, deadline: Instant) {
    let is_news =
        |route: &Route| !matches!(route, Route::Elsewhere { owner: known, .. } if known.id == owner.id);
    door.wait_for(is_news, deadline.min(Instant::now() + NEWS)).await;
}

/// Where the answers of a frame of commands go.
struct Sinks {
    clicks: Option<oneshot::Sender<Vec<(usize, Answer)>>>,
    clicks_awaited: usize,
    commands: usize,
    decided: Vec<(usize, Answer)>,
    later: BTreeMap<usize, oneshot::Sender<Answer>>,
}

impl Sinks {
    fn of(asks: &[Ask]) -> (Self, Sent) {
        let (clicks, decided) = oneshot::channel();
        let (mut sinks, mut later) = (BTreeMap::new(), Vec::new());
        for (place, ask) in asks.iter().enumerate() {
            if ask.command.reaches_ledger() {
                let (reply, answer) = oneshot::channel();
                sinks.insert(place, reply);
                let answered: Later = Box::pin(async move {
                    answer.await.unwrap_or_else(|_| Answer::unavailable(Unavailable::Ledger))
                });
                later.push((place, answered));
            }
        }
        let clicks_awaited = asks.len() - sinks.len();
        let (decided_yet, commands) = (Vec::new(), asks.len());
        let mut sinks =
            Self { clicks: Some(clicks), clicks_awaited, commands, decided: decided_yet, later: sinks };
        sinks.tell_clicks();
        (sinks, Sent { clicks: decided, later })
    }

    /// Whether none is answered yet.
    fn is_untouched(&self) -> bool {
        let clicks_wait = self.clicks.is_some() || self.clicks_awaited == 0;
        clicks_wait && self.decided.is_empty() && self.later.len() + self.clicks_awaited == self.commands
    }

    fn answered(&mut self, place: usize, answer: Answer) {
        // Whoever waited may have gone.
        match self.later.remove(&place) {
            Some(reply) => drop(reply.send(answer)),
            None => {
                self.decided.push((place, answer));
                self.tell_clicks();
            }
        }
    }

    fn tell_clicks(&mut self) {
        if self.decided.len() == self.clicks_awaited
            && let Some(clicks) = self.clicks.take()
        {
            drop(clicks.send(std::mem::take(&mut self.decided)));
        }
    }

    /// Hands on what this node decides after all.
    async fn follow(mut self, sent: Sent) {
        let mut later = JoinSet::new();
        for (place, answer) in sent.later {
            later.spawn(async move { (place, answer.await) });
        }
        for (place, answer) in sent.clicks.await.unwrap_or_default() {
            self.answered(place, answer);
        }
        while let Some(answered) = later.join_next().await {
            if let Ok((place, answer)) = answered {
                self.answered(place, answer);
            }
        }
    }

    /// Answers the rest.
    fn end(mut self, asks: &[Ask], undecided: &Undecided) {
        for (place, reply) in std::mem::take(&mut self.later) {
            let outcome = Outcome::Unavailable(undecided.of(&asks[place]));
            drop(reply.send(Answer { outcome, replayed: false }));
        }
        // What is missing among the clicks counts as OVERLOADED.
        if let Some(clicks) = self.clicks.take() {
            drop(clicks.send(std::mem::take(&mut self.decided)));
        }
    }
}
