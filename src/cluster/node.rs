//! What this node knows and has open: the middle of the control plane, between the gateway, the listener, the dialers
//! and the sessions.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ractor::{ActorRef, RpcReplyPort};
use ractor_cluster::node::NodeServerSessionInformation;
use ractor_cluster::{NodeEventSubscription, NodeServerMessage};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::codec::Wire;
use super::gateway::{self, GatewayMessage};
use super::greet::Io;
use super::link::Link;
use super::members::{Book, Members, Reach, Status};
use super::metrics::PeerMetrics;
use super::wire::{Answer, Beat, Body, Envelope, Hello};
use super::{ControlHandler, session};
use crate::lock::lock;

/// Requests of all peers that are being answered at the same time.
const ANSWERING: usize = 1_024;

/// Sessions at once, also those that have yet to agree: a peer has one, and another for a moment.
const SESSIONS: usize = 256;

/// Requests to one peer that may be without an answer at the same time.
const CREDIT: usize = 1_024;

/// How long two nodes may take, from the greeting on, to agree to work together.
const WELCOME: Duration = Duration::from_secs(5);

pub(super) struct Node {
    book: Mutex<Book>,
    members: watch::Sender<Arc<Members>>,
    said: Mutex<Said>,
    /// By id: whoever can be asked.
    sessions: watch::Sender<BTreeMap<u128, Session>>,
    /// By label: what ractor was given and has not let go of.
    links: Mutex<BTreeMap<String, Arc<Link>>>,
    handler: Arc<dyn ControlHandler>,
    answering: Arc<Semaphore>,
    metrics: PeerMetrics,
    /// How often peers are asked while the ledger is away.
    often: Duration,
    /// Changes when peers should be asked at once.
    hurry: watch::Sender<()>,
    pub ending: CancellationToken,
    pub tasks: TaskTracker,
}

/// What is told of this node.
struct Said {
    version: u64,
    status: Status,
}

/// A member that can be asked.
#[derive(Clone)]
pub(super) struct Session {
    pub gateway: ActorRef<GatewayMessage>,
    pub credit: Arc<Semaphore>,
    link: u64,
}

impl Node {
    pub fn new(
        me: Hello,
        status: Status,
        handler: Arc<dyn ControlHandler>,
        metrics: PeerMetrics,
        often: Duration,
    ) -> Arc<Self> {
        let book = Book::new(me);
        Arc::new(Self {
            members: watch::Sender::new(Arc::new(book.members())),
            book: Mutex::new(book),
            said: Mutex::new(Said { version: 1, status }),
            sessions: watch::Sender::default(),
            links: Mutex::default(),
            handler,
            answering: Arc::new(Semaphore::new(ANSWERING)),
            metrics,
            often,
            hurry: watch::Sender::default(),
            ending: CancellationToken::new(),
            tasks: TaskTracker::new(),
        })
    }

    /// Changes the books and shows what they say then.
    pub fn note<T>(&self, change: impl FnOnce(&mut Book) -> T) -> T {
        let mut book = lock(&self.book);
        let result = change(&mut book);
        let members = book.members();
        self.members.send_if_modified(|before| {
            let is_news = **before != members;
            if is_news {
                self.metrics.show(before, &members);
                *before = Arc::new(members);
            }
            is_news
        });
        result
    }

    pub fn members(&self) -> watch::Receiver<Arc<Members>> {
        self.members.subscribe()
    }

    pub fn me(&self) -> Hello {
        lock(&self.book).me().clone()
    }

    pub fn envelope(&self, body: Body) -> Envelope {
        Envelope { from: lock(&self.book).me().id, body }
    }

    /// How this node is.
    pub fn beat(&self) -> Beat {
        let said = lock(&self.said);
        said.status.beat(said.version, Instant::now())
    }

    /// How this node is from now on. Peers hear of it at once where it matters to them.
    pub fn say(&self, status: Status) {
        let is_news = {
            let mut said = lock(&self.said);
            let is_news = status.is_news(&said.status);
            said.version += u64::from(is_news);
            said.status = status;
            is_news
        };
        if is_news {
            self.tell_all(&Body::Beat(self.beat()));
            self.hurry.send_replace(());
        }
    }

    /// How long after one beat the next is due: what peers say of the ledger counts for a renew interval, while it is
    /// out of this node's reach.
    pub fn pause(&self) -> Duration {
        match lock(&self.said).status.ledger {
            Reach::Reaches => session::BEAT,
            Reach::Away { .. } => session::BEAT.min(self.often),
        }
    }

    /// Changes when a beat is due sooner.
    pub fn hurry(&self) -> watch::Receiver<()> {
        self.hurry.subscribe()
    }

    /// A peer says how it is: asked at that instant, or by itself.
    pub fn heard(&self, id: u128, beat: &Beat, asked: Option<Instant>) {
        if self.note(|book| book.heard(id, beat, asked, Instant::now())) {
            self.hurry.send_replace(());
        }
    }

    /// What is told is small and not counted: there is as much of it as shards change hands, until a session that is
    /// stuck is closed for its silence.
    pub fn tell_all(&self, body: &Body) {
        let sessions: Vec<Session> = self.sessions.borrow().values().cloned().collect();
        for session in sessions {
            gateway::tell(&session.gateway, self.envelope(body.clone()));
        }
    }

    pub fn session(&self, id: u128) -> Option<Session> {
        self.sessions.borrow().get(&id).cloned()
    }

    pub fn all_sessions(&self) -> Vec<Session> {
        self.sessions.borrow().values().cloned().collect()
    }

    /// From now on the member can be asked.
    pub fn open_session(&self, id: u128, link: u64, gateway: ActorRef<GatewayMessage>) {
        let session = Session { gateway, credit: Arc::new(Semaphore::new(CREDIT)), link };
        self.sessions.send_modify(|sessions| {
            sessions.insert(id, session);
        });
    }

    /// From now on it cannot, unless another session has replaced this one.
    pub fn close_session(&self, id: u128, link: u64) {
        self.sessions.send_if_modified(|sessions| {
            let is_current = sessions.get(&id).is_some_and(|session| session.link == link);
            is_current && sessions.remove(&id).is_some()
        });
    }

    /// Waits until the member cannot be asked.
    pub async fn until_unreachable(&self, id: u128) {
        let mut sessions = self.sessions.subscribe();
        let waited = sessions.wait_for(|sessions| !sessions.contains_key(&id)).await;
        drop(waited);
    }

    /// Whether one more session may be opened.
    pub fn has_room(&self) -> bool {
        lock(&self.links).len() < SESSIONS
    }

    /// Gives a connection to ractor. It is closed unless the two nodes agree in time.
    pub fn open(
        self: &Arc<Self>,
        server: &ActorRef<NodeServerMessage>,
        io: Box<dyn Io>,
        from: &str,
        peer: u128,
        is_server: bool,
    ) -> Arc<Link> {
        let (link, stream) = Link::open(io, from, peer);
        lock(&self.links).insert(link.label.clone(), link.clone());
        if server.cast(NodeServerMessage::ConnectionOpenedExternal { stream, is_server }).is_err() {
            // Its stream is dropped with the message, so that the link is over.
            tracing::debug!("a connection came after the end");
        }
        let (node, watched) = (self.clone(), link.clone());
        self.tasks.spawn(async move {
            tokio::select! {
                () = watched.over() => {}
                () = node.ending.cancelled() => {}
                () = tokio::time::sleep(WELCOME) => {
                    if !watched.is_welcomed() {
                        tracing::debug!(peer = watched.label, "no agreement in time");
                        watched.close();
                    }
                    watched.over().await;
                }
            }
            lock(&node.links).remove(&watched.label);
        });
        link
    }

    fn link(&self, label: &str) -> Option<Arc<Link>> {
        lock(&self.links).get(label).cloned()
    }

    /// A peer tells something.
    pub fn told(&self, Envelope { from, body }: Envelope) {
        if !self.knows(from) {
            tracing::debug!(from, "a stranger told this node something");
            return;
        }
        match body {
            Body::Beat(beat) => self.heard(from, &beat, None),
            Body::Hint(hint) => self.handler.hint(from, hint),
            Body::Hello(..) | Body::Request(_) | Body::Farewell => {
                tracing::debug!(from, "a peer told what it should have asked");
            }
        }
    }

    /// A peer asks something, and gets an answer whatever it is.
    pub fn asked(self: &Arc<Self>, envelope: Envelope, reply: RpcReplyPort<Wire<Answer>>) {
        let Envelope { from, body } = envelope;
        match body {
            Body::Hello(hello, _) => gateway::answer(reply, self.greeted(&hello)),
            _ if !self.knows(from) => gateway::answer(reply, Answer::Stranger),
            Body::Beat(beat) => {
                self.heard(from, &beat, None);
                gateway::answer(reply, Answer::Beat(self.beat()));
            }
            Body::Farewell => {
                self.note(|book| book.left(from, Instant::now()));
                self.sessions.send_if_modified(|sessions| sessions.remove(&from).is_some());
                gateway::answer(reply, Answer::Noted);
            }
            Body::Request(request) => {
                let Ok(permit) = self.answering.clone().try_acquire_owned() else {
                    gateway::answer(reply, Answer::Busy);
                    return;
                };
                let handler = self.handler.clone();
                self.tasks.spawn(async move {
                    let answer = handler.answer(from, request).await;
                    gateway::answer(reply, Answer::Reply(answer));
                    drop(permit);
                });
            }
            Body::Hint(hint) => {
                self.handler.hint(from, hint);
                gateway::answer(reply, Answer::Noted);
            }
        }
    }

    fn knows(&self, id: u128) -> bool {
        lock(&self.book).knows(id)
    }

    fn greeted(&self, hello: &Hello) -> Answer {
        let judged = self.note(|book| {
            let judged = book.judge(hello);
            if judged.is_ok() {
                book.greeted(hello.id);
            }
            judged
        });
        match judged {
            Ok(()) => Answer::Welcome(self.me(), self.beat()),
            Err(why) => {
                self.refuse(hello, &why);
                Answer::Refused(self.me(), why)
            }
        }
    }

    /// Remembers and says once that a node is not worked with.
    pub fn refuse(&self, hello: &Hello, why: &str) {
        if self.note(|book| book.refuse(hello, why, Instant::now())) {
            tracing::error!(node = hello.node, peer_url = hello.peer_url, "a peer is refused: {why}");
        }
    }
}

/// What ractor says about its sessions. Called inside its node server, so nothing here waits.
pub(super) struct Sessions(pub Arc<Node>);

impl NodeEventSubscription for Sessions {
    fn node_session_opened(&self, opened: NodeServerSessionInformation) {
        // ractor insists on a listener of its own; nobody has business there.
        if self.0.link(&opened.peer_addr).is_none() {
            tracing::warn!(from = opened.peer_addr, "a connection to ractor's own listener was closed");
            opened.actor.stop(None);
        }
    }

    fn node_session_disconnected(&self, _: NodeServerSessionInformation) {}

    fn node_session_authenticated(&self, _: NodeServerSessionInformation) {}

    fn node_session_ready(&self, ready: NodeServerSessionInformation) {
        let Some(link) = self.0.link(&ready.peer_addr) else { return };
        match gateway::of_session(ready.node_id) {
            Some(gateway) => {
                let node = self.0.clone();
                self.0.tasks.spawn(session::run(node, link, gateway));
            }
            None => {
                tracing::warn!(peer = link.label, "a peer without a gateway");
                link.close();
            }
        }
    }
}
