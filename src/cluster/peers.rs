//! The other nodes, as the actors need them: both planes behind one port.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use actors::Handle;
use actors::handle::ShardStatus;
use actors::moves::MoveInfo;
use actors::peers::{
    Call, Forward, Member, News, PeerError, Peers, Reply, Request, RequestError, Returned, Standing,
};
use actors::ports::Owner;
use actors::reach::Report;
use async_trait::async_trait;
use engine::{Epoch, ShardId};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::data::{Caller, Lane, follow, listen};
use super::greet::{Presence, who_answers};
use super::members::{Evidence, Members, Reach, State, Status};
use super::tls::Tls;
use super::{Control, members, requests};
use crate::config::peers::Place;

/// How long a start waits for peers that are neither there nor known to be away.
const SETTLE: Duration = Duration::from_secs(3);

/// How often the shards that this node serves are looked up, for what it tells of itself.
const LOOK: Duration = Duration::from_millis(250);

/// How long one knock at a port may take.
const KNOCK: Duration = Duration::from_millis(500);

/// How long to wait before a peer whose feed broke off is followed anew.
const AGAIN: Duration = Duration::from_millis(200);

/// The port's implementation. It can be given to the actors before the control plane has started.
pub struct ClusterPeers {
    caller: Caller,
    tls: Option<Tls>,
    members: watch::Sender<Option<Arc<[Member]>>>,
    lanes: Mutex<BTreeMap<u128, Lane>>,
    control: OnceLock<Control>,
    status: Mutex<Status>,
}

impl ClusterPeers {
    #[must_use]
    pub fn new(me: Owner, tls: Option<Tls>) -> Arc<Self> {
        let status = Status { draining: false, ledger: Reach::Reaches, shards: Vec::new() };
        Arc::new(Self {
            caller: Caller { me, tls: tls.clone() },
            tls,
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
        loop {
            let now = members.borrow_and_update().clone();
            hint(&handle, &now, &mut hinted);
            let is_settled = Instant::now() >= settled || now.unmet.iter().all(|one| !one.why.is_empty());
            if is_settled {
                let seen = self.judge(&now).await;
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

    async fn judge(&self, members: &Members) -> Arc<[Member]> {
        let mut seen = Vec::new();
        for peer in &members.peers {
            let standing = match &peer.state {
                State::Gone(Evidence::Left) => continue,
                State::Up => Standing::Up,
                State::Gone(Evidence::Closed | Evidence::Reset) if self.is_dead(peer).await => Standing::Dead,
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

    /// Whether its machine says of every port that nobody listens there any more. That no session of it is left at
    /// the ledger, the ledger itself looks at when its shards are taken.
    async fn is_dead(&self, peer: &members::Member) -> bool {
        let Some(place) = Place::parse(&peer.peer_url) else { return false };
        let me = self.caller.me.id;
        let at_peer_port = who_answers(&place, self.tls.as_ref(), me, KNOCK).await;
        if at_peer_port != Presence::Refused {
            return false;
        }
        match public_port(&peer.public_url) {
            None => true,
            Some(port) => is_refused(&place.host, port).await,
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
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        let before = status.clone();
        change(&mut status);
        if *status != before
            && let Some(control) = self.control.get()
        {
            control.say(status.clone());
        }
    }

    /// Keeps a feed from each peer that is up.
    async fn follow_all(self: Arc<Self>, handle: Handle, mut members: watch::Receiver<Arc<Members>>) {
        let mut following: BTreeMap<u128, JoinHandle<()>> = BTreeMap::new();
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
            self.lanes.lock().unwrap_or_else(PoisonError::into_inner).retain(|id, _| is_known(id));
            for (id, peer_url) in up {
                following.entry(id).or_insert_with(|| {
                    tokio::spawn(follow_one(handle.clone(), peer_url.to_owned(), self.tls.clone()))
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

/// What is shown of a peer's shards, and what this node's users have there.
async fn follow_one(handle: Handle, peer_url: String, tls: Option<Tls>) {
    tokio::join!(follow_maps(&handle, &peer_url, tls.as_ref()), listen_to(&handle, &peer_url, tls.as_ref()));
}

async fn follow_maps(handle: &Handle, peer_url: &str, tls: Option<&Tls>) {
    loop {
        if let Err(error) = follow(handle, peer_url, tls).await {
            tracing::debug!(%error, peer_url, "a peer's feed is followed anew");
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn listen_to(handle: &Handle, peer_url: &str, tls: Option<&Tls>) {
    loop {
        if let Err(error) = listen(handle, peer_url, tls).await {
            tracing::debug!(%error, peer_url, "a peer is listened to anew");
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// The port of `http://HOST:PORT`.
fn public_port(url: &str) -> Option<u16> {
    let (_, rest) = url.split_once("://")?;
    rest.split('/').next()?.rsplit_once(':')?.1.parse().ok()
}

async fn is_refused(host: &str, port: u16) -> bool {
    match tokio::time::timeout(KNOCK, tokio::net::TcpStream::connect((host, port))).await {
        Ok(Err(error)) => error.kind() == std::io::ErrorKind::ConnectionRefused,
        Ok(Ok(_)) | Err(_) => false,
    }
}

#[async_trait]
impl Peers for ClusterPeers {
    fn members(&self) -> watch::Receiver<Option<Arc<[Member]>>> {
        self.members.subscribe()
    }

    fn ask(&self, owner: &Owner, forward: Forward) -> mpsc::UnboundedReceiver<Reply> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let lane =
            lanes.entry(owner.id).or_insert_with(|| Lane::new(owner.peer_url.clone(), self.tls.clone()));
        let lane = lane.clone();
        drop(lanes);
        lane.ask(forward)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_url_may_name_a_port() {
        assert_eq!(public_port("http://10.0.0.1:8080"), Some(8080));
        assert_eq!(public_port("http://10.0.0.1:8080/x"), Some(8080));
        assert_eq!(public_port("https://seats.example.com"), None);
        assert_eq!(public_port("seats"), None);
    }
}
