//! The other nodes, as the actors need them: both planes behind one port.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use actors::Handle;
use actors::gates::{GateForward, GateReply};
use actors::handle::ShardStatus;
use actors::moves::MoveInfo;
use actors::peers::{
    Call, Forward, Member, News, PeerError, Peers, Reply, Request, RequestError, Returned, Standing,
};
use actors::ports::Owner;
use actors::reach::Report;
use async_trait::async_trait;
use engine::lease::{Evidence, LedgerSessions, PeerSession};
use engine::{Epoch, ShardId};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::data::{Caller, Lanes, Tellers, follow, hear, listen};
use super::knock::knock;
use super::members::{Gone, Members, Reach, State, Status};
use super::tls::Tls;
use super::{Control, members, requests};
use crate::ledger::Store;
use crate::lock::lock;

/// How long a start waits for peers that are neither there nor known to be away.
const SETTLE: Duration = Duration::from_secs(3);

/// How often the shards that this node serves are looked up, for what it tells of itself.
const LOOK: Duration = Duration::from_millis(250);

/// How long to wait before a peer whose feed broke off is followed anew.
const AGAIN: Duration = Duration::from_millis(200);

/// The port's implementation. It can be given to the actors before the control plane has started.
pub struct ClusterPeers {
    caller: Caller,
    tls: Option<Tls>,
    ledger: Arc<dyn Store>,
    members: watch::Sender<Option<Arc<[Member]>>>,
    lanes: Mutex<BTreeMap<u128, Lanes>>,
    control: OnceLock<Control>,
    status: Mutex<Status>,
}

impl ClusterPeers {
    #[must_use]
    pub fn new(ledger: Arc<dyn Store>, tls: Option<Tls>) -> Arc<Self> {
        let status = Status { draining: false, ledger: Reach::Reaches, shards: Vec::new() };
        Arc::new(Self {
            caller: Caller { me: ledger.me(), tls: tls.clone() },
            tls,
            ledger,
            members: watch::Sender::new(None),
            lanes: Mutex::default(),
            control: OnceLock::new(),
            status: Mutex::new(status),
        })
    }

    /// Begins to tell the actors who is there, the others how this node is, and the hub what others serve. Returns the
    /// tasks that do so.
    pub fn attach(self: &Arc<Self>, control: Control, handle: &Handle) -> Vec<JoinHandle<()>> {
        let members = control.members();
        // Only the first is ever attached.
        let _first = self.control.set(control);
        vec![
            tokio::spawn(self.clone().watch_members(members.clone(), handle.clone())),
            tokio::spawn(self.clone().tell_shards(handle.clone())),
            tokio::spawn(self.clone().follow_all(handle.clone(), members)),
        ]
    }

    async fn watch_members(self: Arc<Self>, mut members: watch::Receiver<Arc<Members>>, handle: Handle) {
        let settled = Instant::now() + SETTLE;
        let mut hinted = BTreeMap::new();
        let mut dead = BTreeSet::new();
        loop {
            let now = members.borrow_and_update().clone();
            hint(&handle, &now, &mut hinted);
            let is_settled = Instant::now() >= settled || now.unmet.iter().all(|one| !one.why.is_empty());
            if is_settled {
                let seen = self.judge(&now, &mut dead).await;
                self.members.send_if_modified(|known| {
                    let is_news = known.as_ref() != Some(&seen);
                    *known = Some(seen);
                    is_news
                });
            }
            tokio::select! {
                // What a silent peer said of the ledger grows old without news.
                () = tokio::time::sleep(LOOK) => {}
                changed = members.changed() => if changed.is_err() {
                    return;
                },
            }
        }
    }

    /// `dead`: whose death has been proved, which holds unless it is met again. A process that was started again has
    /// another id.
    async fn judge(&self, members: &Members, dead: &mut BTreeSet<u128>) -> Arc<[Member]> {
        let mut seen = Vec::new();
        dead.retain(|id| members.peers.iter().any(|peer| peer.id == *id));
        for peer in &members.peers {
            let standing = match &peer.state {
                State::Gone(Gone::Left) => continue,
                State::Up => {
                    dead.remove(&peer.id);
                    Standing::Up
                }
                State::Gone(_) | State::Silent if dead.contains(&peer.id) || self.is_dead(peer).await => {
                    dead.insert(peer.id);
                    Standing::Dead
                }
                State::Gone(_) | State::Silent | State::Refused(_) => Standing::Silent,
            };
            seen.push(Member {
                owner: owner_of(peer),
                standing,
                is_draining: peer.draining,
                ledger: match peer.ledger {
                    Reach::Reaches => Report::Reaches,
                    Reach::Away { .. } => Report::Away(peer.seen),
                },
            });
        }
        // Nobody knows what a node does that was never met: it counts as able to reach the ledger.
        seen.extend(members.unmet.iter().map(|unmet| Member {
            owner: Owner {
                id: 0,
                node: String::new(),
                public_url: String::new(),
                peer_url: unmet.address.clone(),
            },
            standing: Standing::Silent,
            is_draining: false,
            ledger: Report::Silent,
        }));
        seen.into()
    }

    /// Whether everything that a death leaves behind is there.
    async fn is_dead(&self, peer: &members::Member) -> bool {
        // Whoever only fell silent has no more to say at its doors.
        if !matches!(peer.state, State::Gone(Gone::Closed | Gone::Reset)) {
            return false;
        }
        let (public, ops, peer_port) =
            tokio::join!(knock(&peer.public_door), knock(&peer.ops_door), knock(&peer.peer_url));
        let proves_death = |ledger| {
            let session = PeerSession::Ended;
            Evidence { public, ops, peer: peer_port, session, ledger }.proves_death()
        };
        // The ledger is asked last, and only where everything else speaks for a death.
        proves_death(LedgerSessions::None) && proves_death(self.ledger_sessions(peer.id).await)
    }

    async fn ledger_sessions(&self, owner: u128) -> LedgerSessions {
        match self.ledger.has_session(owner).await {
            Ok(true) => LedgerSessions::Some,
            Ok(false) => LedgerSessions::None,
            Err(error) => {
                tracing::debug!(%error, "the ledger did not say whether it has sessions of a peer");
                LedgerSessions::Unknown
            }
        }
    }

    async fn tell_shards(self: Arc<Self>, handle: Handle) {
        loop {
            let serving = handle.statuses().into_iter().filter_map(|(shard, status)| match status {
                ShardStatus::Serving(epoch) => Some((shard.0, epoch.0)),
                ShardStatus::Elsewhere(..) | ShardStatus::Starting | ShardStatus::Stopped => None,
            });
            let shards: Vec<_> = serving.collect();
            self.tell(|status| status.shards = shards);
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Changes what is told of this node.
    fn tell(&self, change: impl FnOnce(&mut Status)) {
        let mut status = lock(&self.status);
        let before = status.clone();
        change(&mut status);
        if *status != before
            && let Some(control) = self.control.get()
        {
            control.say(status.clone());
        }
    }

    fn lanes_to(&self, owner: &Owner) -> Lanes {
        let mut lanes = lock(&self.lanes);
        let lanes = lanes.entry(owner.id);
        lanes.or_insert_with(|| Lanes::new(&owner.peer_url, self.tls.as_ref())).clone()
    }

    /// Keeps a feed from each peer that is up.
    async fn follow_all(self: Arc<Self>, handle: Handle, mut members: watch::Receiver<Arc<Members>>) {
        let mut following: BTreeMap<u128, JoinHandle<()>> = BTreeMap::new();
        let tellers = Arc::new(Tellers::default());
        loop {
            let now = members.borrow_and_update().clone();
            let up: BTreeMap<u128, &str> = (now.peers.iter())
                .filter(|peer| peer.state == State::Up)
                .map(|peer| (peer.id, peer.peer_url.as_str()))
                .collect();
            following.retain(|id, task| {
                let stays = up.contains_key(id);
                if !stays {
                    task.abort();
                }
                stays
            });
            // A lane to somebody silent knows that it is broken; whoever is started again has another.
            let is_known = |id: &u128| now.peers.iter().any(|peer| peer.id == *id);
            lock(&self.lanes).retain(|id, _| is_known(id));
            for (id, peer_url) in up {
                following.entry(id).or_insert_with(|| {
                    let (peer_url, tls) = (peer_url.to_owned(), self.tls.clone());
                    tokio::spawn(follow_one(handle.clone(), tellers.clone(), peer_url, tls))
                });
            }
            if members.changed().await.is_err() {
                following.into_values().for_each(|task| task.abort());
                return;
            }
        }
    }
}

/// What peers say that they serve, the steward hears before it reads it in the ledger.
fn hint(handle: &Handle, members: &Members, hinted: &mut BTreeMap<u16, u64>) {
    for peer in members.peers.iter().filter(|peer| peer.state == State::Up) {
        for (shard, epoch) in &peer.shards {
            if hinted.get(shard).is_none_or(|known| known < epoch) {
                hinted.insert(*shard, *epoch);
                handle.hint(ShardId(*shard), Epoch(*epoch), owner_of(peer));
            }
        }
    }
}

fn owner_of(peer: &members::Member) -> Owner {
    Owner {
        id: peer.id,
        node: peer.node.clone(),
        public_url: peer.public_url.clone(),
        peer_url: peer.peer_url.clone(),
    }
}

/// What is shown of a peer's shards, what this node's users have there, and what its gates tell.
async fn follow_one(handle: Handle, tellers: Arc<Tellers>, peer_url: String, tls: Option<Tls>) {
    let maps = anew(&peer_url, "a peer's feed is followed anew", || follow(&handle, &peer_url, tls.as_ref()));
    let mine = anew(&peer_url, "a peer is listened to anew", || listen(&handle, &peer_url, tls.as_ref()));
    let gates =
        anew(&peer_url, "a peer's gates are heard anew", || hear(&handle, &tellers, &peer_url, tls.as_ref()));
    tokio::join!(maps, mine, gates);
}

/// Begins again whenever it has broken off.
async fn anew<F: Future<Output = io::Result<()>>>(peer_url: &str, what: &str, begin: impl Fn() -> F) {
    loop {
        if let Err(error) = begin().await {
            tracing::debug!(%error, peer_url, "{what}");
        }
        tokio::time::sleep(AGAIN).await;
    }
}

#[async_trait]
impl Peers for ClusterPeers {
    fn members(&self) -> watch::Receiver<Option<Arc<[Member]>>> {
        self.members.subscribe()
    }

    fn ask(&self, owner: &Owner, forward: Forward) -> mpsc::UnboundedReceiver<Reply> {
        self.lanes_to(owner).ask(forward)
    }

    fn ask_gate(&self, owner: &Owner, forward: GateForward) -> oneshot::Receiver<GateReply> {
        self.lanes_to(owner).ask_gate(forward)
    }

    async fn call(&self, node: &Owner, call: Call, deadline: Instant) -> Result<Returned, PeerError> {
        self.caller.call(node, call, deadline).await
    }

    async fn request(
        &self,
        node: &Owner,
        request: Request,
        deadline: Instant,
    ) -> Result<Vec<MoveInfo>, RequestError> {
        let reply = match self.control.get() {
            Some(control) => control.ask(node.id, requests::request_out(request), deadline).await,
            None => Err(super::PeerError::Away),
        };
        requests::reply_in(&node.node, reply)
    }

    fn say(&self, news: News) {
        self.tell(|status| match news {
            News::Draining => status.draining = true,
            News::LedgerAway if status.ledger == Reach::Reaches => {
                status.ledger = Reach::Away { since: Instant::now() };
            }
            News::LedgerAway => {}
            News::LedgerReached => status.ledger = Reach::Reaches,
        });
    }
}
