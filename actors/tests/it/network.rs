//! The nodes of a test, in one process: what one asks of another it is asked at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use actors::gates::{GateForward, GateReply};
use actors::moves::{MoveInfo, Moves};
use actors::peers::{
    Call, Forward, Member, News, PeerError, Peers, Reply, Request, RequestError, Returned, Standing,
};
use actors::ports::Owner;
use actors::reach::Report;
use actors::{Handle, System};
use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::ledger::owner;

/// What connects the nodes.
#[derive(Clone, Default)]
pub struct Network(Arc<Mutex<Wires>>);

#[derive(Default)]
struct Wires {
    nodes: BTreeMap<u64, Wire>,
    draining: BTreeSet<u64>,
    /// Of those that are not up.
    standing: BTreeMap<u64, Standing>,
}

struct Wire {
    members: watch::Sender<Option<Arc<[Member]>>>,
    /// One forward after the other, as they were sent.
    lane: mpsc::UnboundedSender<(Forward, mpsc::UnboundedSender<Reply>)>,
    taken: Option<mpsc::UnboundedReceiver<(Forward, mpsc::UnboundedSender<Reply>)>>,
    handle: Option<Handle>,
    moves: Option<Moves>,
}

/// One node's end.
struct End {
    me: u64,
    network: Network,
    members: watch::Receiver<Option<Arc<[Member]>>>,
}

impl Network {
    /// Plugs a node in that is about to start.
    pub fn join(&self, node: u64) -> Arc<dyn Peers> {
        let (lane, taken) = mpsc::unbounded_channel();
        let members = watch::Sender::new(Some(Arc::default()));
        let seen = members.subscribe();
        let wire = Wire { members, lane, taken: Some(taken), handle: None, moves: None };
        self.wires().nodes.insert(node, wire);
        Arc::new(End { me: node, network: self.clone(), members: seen })
    }

    /// It can be asked from now on.
    pub fn came(&self, node: u64, system: &System) {
        let handle = system.handle();
        let mut wires = self.wires();
        let wire = wires.nodes.get_mut(&node).unwrap();
        (wire.handle, wire.moves) = (Some(handle.clone()), Some(system.moves()));
        let mut taken = wire.taken.take().unwrap();
        tokio::spawn(async move {
            while let Some((forward, replies)) = taken.recv().await {
                // Whoever asked may have gone.
                handle.decide_for(forward, move |reply| drop(replies.send(reply)));
            }
        });
        wires.show();
    }

    /// Its process is gone, and everybody sees it.
    pub fn died(&self, node: u64) {
        self.seems(node, Standing::Dead);
    }

    /// Nobody hears of it any more, whatever it does.
    pub fn fell_silent(&self, node: u64) {
        self.seems(node, Standing::Silent);
    }

    fn seems(&self, node: u64, standing: Standing) {
        let mut wires = self.wires();
        wires.standing.insert(node, standing);
        wires.show();
    }

    fn wires(&self) -> std::sync::MutexGuard<'_, Wires> {
        self.0.lock().unwrap()
    }
}

impl Wires {
    fn show(&self) {
        for (node, wire) in &self.nodes {
            let others = self.nodes.iter().filter(|(other, wire)| *other != node && wire.handle.is_some());
            let members = others.map(|(other, _)| Member {
                owner: owner(*other),
                standing: self.standing.get(other).copied().unwrap_or(Standing::Up),
                is_draining: self.draining.contains(other),
                ledger: Report::Reaches,
            });
            wire.members.send_replace(Some(members.collect()));
        }
    }

    fn is_up(&self, node: u64) -> bool {
        !self.standing.contains_key(&node) && self.nodes.get(&node).is_some_and(|wire| wire.handle.is_some())
    }
}

#[async_trait]
impl Peers for End {
    fn members(&self) -> watch::Receiver<Option<Arc<[Member]>>> {
        self.members.clone()
    }

    fn ask(&self, to: &Owner, forward: Forward) -> mpsc::UnboundedReceiver<Reply> {
        let (replies, answers) = mpsc::unbounded_channel();
        let wires = self.network.wires();
        let to = u64::try_from(to.id).unwrap();
        if wires.is_up(to) && wires.is_up(self.me) {
            wires.nodes[&to].lane.send((forward, replies)).unwrap();
        }
        answers
    }

    fn ask_gate(&self, to: &Owner, forward: GateForward) -> oneshot::Receiver<GateReply> {
        let (reply, answer) = oneshot::channel();
        let wires = self.network.wires();
        let to = u64::try_from(to.id).unwrap();
        if wires.is_up(to) && wires.is_up(self.me) {
            let handle = wires.nodes[&to].handle.clone().unwrap();
            handle.gates().decide_for(forward, move |said| drop(reply.send(said)));
        }
        answer
    }

    async fn call(&self, node: &Owner, call: Call, _: Instant) -> Result<Returned, PeerError> {
        let handle = {
            let wires = self.network.wires();
            let to = u64::try_from(node.id).unwrap();
            let up = wires.is_up(to) && wires.is_up(self.me);
            up.then(|| wires.nodes[&to].handle.clone().unwrap())
        };
        match handle {
            Some(handle) => handle.answer_call(&owner(self.me), call).await,
            None => Err(PeerError::Silent(node.node.clone())),
        }
    }

    async fn request(
        &self,
        node: &Owner,
        request: Request,
        _: Instant,
    ) -> Result<Vec<MoveInfo>, RequestError> {
        let moves = {
            let wires = self.network.wires();
            let to = u64::try_from(node.id).unwrap();
            let up = wires.is_up(to) && wires.is_up(self.me);
            up.then(|| wires.nodes[&to].moves.clone().unwrap())
        };
        match moves {
            Some(moves) => moves.answer(request).map_err(RequestError::Declined),
            None => Err(RequestError::NotAsked { node: node.node.clone(), why: "it is away".to_owned() }),
        }
    }

    fn say(&self, news: News) {
        if news == News::Draining {
            let mut wires = self.network.wires();
            wires.draining.insert(self.me);
            wires.show();
        }
    }
}
