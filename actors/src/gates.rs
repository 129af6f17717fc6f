//! The gates of concerts: waiting rooms, one actor each, beside the shard that owns the concert.
//!
//! A gate's actor receives, brings the time, lets [`engine::gate::Gate::step`] decide, and performs the effects, as a
//! shard's does. It lives as long as its shard serves here in one epoch: the `keeper` brings the gates of a shard up when
//! the shard's door shows it, and ends them with it.
//!
//! Reading order: [`ports`] (what is needed from ledger and mirror), [`ask`] (what may be asked of a gate), [`news`] (what
//! it tells everybody), `hub` (who listens on this node), `live` (which passes open the sale), `actor` (the loop around the
//! engine), `copying` (how the mirror follows), `keeper` (who is here), `draws`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use engine::gate::{Left, Standing};
use engine::{ConcertId, Epoch, ShardId, Unavailable, UserId};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};

use self::actor::{Asked, Message};
pub use self::ask::{GateAsk, GateForward, GateInfo, GateReply, GateSaid};
use self::here::{Entry, Found, Here};
use self::hub::{Board, Hub};
pub use self::hub::{Following, GateEvent, NewsStream, Place};
pub use self::keeper::GateOptions;
use self::keeper::{Needs, Wish, keep};
pub(crate) use self::live::LivePasses;
pub use self::news::{Line, News};
use crate::clock::LedgerClock;
use crate::door::{Doors, Route};
use crate::observe::Metrics;
use crate::peers::Peers;
use crate::ports::Owner;
use crate::steward::Hints;

mod actor;
mod ask;
mod changes;
mod copying;
pub mod draws;
mod elsewhere;
mod here;
mod hub;
mod keeper;
mod live;
mod news;
pub mod ports;

/// How often those who listen here are said to be still there, within the grace that a gate gives.
const BEATS_PER_GRACE: u32 = 4;

/// How long the owner may take to hear them.
const BEAT: Duration = Duration::from_secs(2);

/// Of how many it is said at once: a gate hears it in one turn, in which it does nothing else.
const BEATS_TOGETHER: usize = 1_000;

/// The way to every gate, wherever its owner is. Cheap to clone.
#[derive(Clone)]
pub struct Gates {
    inner: Arc<Inner>,
}

struct Inner {
    doors: Doors,
    here: Arc<Here>,
    hub: Arc<Hub>,
    /// By shard.
    wishes: Vec<mpsc::UnboundedSender<Wish>>,
    peers: Arc<dyn Peers>,
    hints: Hints,
}

/// What gates have in common with everything else on a node.
pub(crate) struct Common {
    pub doors: Doors,
    pub clock: LedgerClock,
    pub peers: Arc<dyn Peers>,
    pub hints: Hints,
    pub metrics: Metrics,
}

impl Gates {
    /// Begins to keep the gates of the shards that serve here.
    pub(crate) fn start(options: &GateOptions, common: Common) -> Self {
        let Common { doors, clock, peers, hints, metrics } = common;
        let (hub, here) = (Arc::new(Hub::default()), Arc::new(Here::default()));
        let needs = Needs {
            options: options.clone(),
            doors: doors.clone(),
            clock,
            hub: hub.clone(),
            here: here.clone(),
            metrics,
        };
        let keeper = |(shard, _)| {
            let (wishes, wished) = mpsc::unbounded_channel();
            tokio::spawn(keep(ShardId(shard), needs.clone(), wished));
            wishes
        };
        let wishes = (0..).zip(doors.iter()).map(keeper).collect();
        let gates = Self { inner: Arc::new(Inner { doors, here, hub, wishes, peers, hints }) };
        let grace = Duration::from(options.settings.grace);
        tokio::spawn(beat(Arc::downgrade(&gates.inner), grace / BEATS_PER_GRACE));
        gates
    }

    /// Asks the gate of a concert, here or at its owner, and waits until `deadline`, or until the one of whoever asked
    /// before. A concert whose gate nobody ever set has one that is off.
    ///
    /// # Errors
    /// Nobody owns the shard now, the gate is not up yet, or more is on its way than is good. What was asked may still
    /// happen, and may be asked again; of a gate that was to be set [`Unavailable::Ledger`] says so.
    pub async fn ask(
        &self,
        shard: ShardId,
        concert: ConcertId,
        ask: GateAsk,
        deadline: Instant,
    ) -> Result<GateSaid, Unavailable> {
        let unknown = ask.unknown();
        let forward = GateForward { shard, concert, ask, deadline };
        // What is rarer than a join here is boxed: a join's future is moved several times.
        match self.way(shard) {
            Some(Way::Here(epoch)) => self.answered_here(epoch, forward).await,
            _ => Box::pin(timeout_at(deadline, self.answered(forward))).await.unwrap_or(Err(unknown)),
        }
    }

    /// Listens for a user at a gate, until it is dropped; counts as being there.
    #[must_use]
    pub fn follow(&self, shard: ShardId, concert: ConcertId, user: UserId) -> Following {
        self.inner.hub.follow(shard, concert, user)
    }

    /// The concerts whose gates somebody follows on this node.
    #[must_use]
    pub fn followed(&self) -> watch::Receiver<Arc<BTreeSet<ConcertId>>> {
        self.inner.hub.followed()
    }

    /// What a gate that is served here tells, beginning with a view; `None` while none is.
    #[must_use]
    pub fn news(&self, concert: ConcertId) -> Option<NewsStream> {
        let board = self.inner.hub.known(concert).filter(|board| board.is_served())?;
        Some(NewsStream::new(board))
    }

    /// Changes whenever a gate begins to be served here.
    #[must_use]
    pub fn opened(&self) -> watch::Receiver<u64> {
        self.inner.here.opened()
    }

    /// Takes what another node says, which serves the gate of a concert that is followed here.
    pub fn take_news(&self, concert: ConcertId, news: &News) {
        if let Some(board) = self.inner.hub.known(concert).filter(|board| !board.is_served()) {
            board.take(news);
        }
    }

    /// Makes a gate's actor panic, as a bug would. For drills: it must come back.
    #[doc(hidden)]
    pub fn crash(&self, concert: ConcertId) {
        if let Some(entry) = self.inner.here.any(concert) {
            // Nobody there to crash is as good.
            let _lives = entry.actor.send_message(Message::Crash);
        }
    }

    /// The answer of the gate on this node, at most until the deadline; nothing where it is not.
    async fn answered_here(&self, epoch: Epoch, forward: GateForward) -> Result<GateSaid, Unavailable> {
        if forward.ask.is_answered_in_time() {
            return self.put_here(epoch, forward).await;
        }
        let (deadline, unknown) = (forward.deadline, forward.ask.unknown());
        Box::pin(timeout_at(deadline, self.put_here(epoch, forward))).await.unwrap_or(Err(unknown))
    }

    async fn put_here(&self, epoch: Epoch, forward: GateForward) -> Result<GateSaid, Unavailable> {
        let GateForward { shard, concert, ask, deadline } = forward;
        let entry = match self.inner.here.find(shard, epoch, concert) {
            Found::Gate(entry) => entry,
            Found::NotYet => return Err(Unavailable::Overloaded),
            // Whoever owns the shard by now may have one.
            Found::None if !self.is_leased(shard, epoch) => return Err(Unavailable::Overloaded),
            Found::None => match of_none(&ask) {
                Some(said) => return Ok(said),
                None => Box::pin(self.made(shard, epoch, concert)).await.ok_or(Unavailable::Overloaded)?,
            },
        };
        let permit = entry.room.take().ok_or(Unavailable::Overloaded)?;
        let (reply, answer) = oneshot::channel();
        let is_first = entry.inbox.push(Asked { ask, deadline, reply, permit });
        if is_first && entry.actor.send_message(Message::Asks).is_err() {
            entry.inbox.clear();
        }
        // What a gate that is gone had not taken is dropped with the last who holds its inbox.
        drop(entry);
        answer.await.unwrap_or(Err(Unavailable::Overloaded))
    }

    /// The gate of a concert that had none, which is off.
    async fn made(&self, shard: ShardId, epoch: Epoch, concert: ConcertId) -> Option<Arc<Entry>> {
        let (done, made) = oneshot::channel();
        self.inner.wishes.get(usize::from(shard.0))?.send(Wish { concert, done }).ok()?;
        made.await.ok()?;
        match self.inner.here.find(shard, epoch, concert) {
            Found::Gate(entry) => Some(entry),
            Found::NotYet | Found::None => None,
        }
    }

    /// Who serves the shard, if anybody does.
    fn way(&self, shard: ShardId) -> Option<Way> {
        match &*self.inner.doors.get(usize::from(shard.0))?.route.borrow() {
            Route::Serving { epoch, .. } => Some(Way::Here(*epoch)),
            Route::Elsewhere { owner, .. } => Some(Way::There(owner.clone())),
            Route::Starting | Route::Arriving | Route::Stopped => None,
        }
    }

    /// Whether this node may speak for the shard, in that epoch.
    fn is_leased(&self, shard: ShardId, epoch: Epoch) -> bool {
        let Some(door) = self.inner.doors.get(usize::from(shard.0)) else { return false };
        match &*door.route.borrow() {
            Route::Serving { epoch: now, lease, .. } => *now == epoch && lease.allows(Instant::now()),
            _ => false,
        }
    }
}

/// Where a gate is.
enum Way {
    Here(Epoch),
    There(Arc<Owner>),
}

/// What a gate says that is off, or that nobody ever set.
fn of_none(ask: &GateAsk) -> Option<GateSaid> {
    match ask {
        GateAsk::Join(_) | GateAsk::Status(_) => {
            Some(GateSaid::Standing { standing: Standing::Free, durable: true })
        }
        GateAsk::Leave(_) => Some(GateSaid::Left { left: Left::Nothing, durable: true }),
        GateAsk::Heartbeats(_) => Some(GateSaid::Heard),
        GateAsk::Beacon { .. } => Some(GateSaid::NoSuchRound),
        // It may have been set, and be off.
        GateAsk::Info | GateAsk::Set { .. } => None,
    }
}

/// Says of everybody who listens here that they are still there, until nobody can ask any more.
async fn beat(gates: std::sync::Weak<Inner>, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        let Some(inner) = gates.upgrade() else { return };
        let gates = Gates { inner };
        for (board, users) in gates.inner.hub.present() {
            tokio::spawn(beat_at(gates.clone(), board, users, every / 2));
        }
    }
}

/// At one gate, one part after the other, over so long.
async fn beat_at(gates: Gates, board: Arc<Board>, users: Vec<UserId>, over: Duration) {
    let parts = users.chunks(BEATS_TOGETHER);
    let pause = over / u32::try_from(parts.len()).unwrap_or(u32::MAX).max(1);
    for part in parts {
        let ask = GateAsk::Heartbeats(part.to_vec());
        if gates.ask(board.shard, board.concert, ask, Instant::now() + BEAT).await.is_err() {
            // The next comes before anybody's grace ends.
            tracing::debug!(concert = %board.concert, "nobody heard who is still there");
        }
        tokio::time::sleep(pause).await;
    }
}
