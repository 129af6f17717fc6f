//! The one actor of a node that peers can reach. It has two messages for ever; what they say evolves in
//! [`Envelope`].

use std::sync::Arc;
use std::time::Duration;

use ractor::rpc::CallResult;
use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, RpcReplyPort, pg};
use ractor_cluster::{NodeId, RactorClusterMessage};

use super::PeerError;
use super::codec::Wire;
use super::node::Node;
use super::wire::{Answer, Envelope};

/// How a peer's gateway is found.
const GROUP: &str = "hotseat.gateway";

/// What peers send. The names of the variants travel.
#[derive(RactorClusterMessage)]
pub enum GatewayMessage {
    Tell(Wire<Envelope>),
    #[rpc]
    Ask(Wire<Envelope>, RpcReplyPort<Wire<Answer>>),
}

/// The actor; all it knows is in its [`Node`].
pub(super) struct Gateway;

impl Actor for Gateway {
    type Msg = GatewayMessage;
    type State = Arc<Node>;
    type Arguments = Arc<Node>;

    async fn pre_start(
        &self,
        me: ActorRef<GatewayMessage>,
        node: Arc<Node>,
    ) -> Result<Arc<Node>, ActorProcessingErr> {
        pg::join(GROUP.to_owned(), vec![me.get_cell()]);
        Ok(node)
    }

    async fn handle(
        &self,
        _me: ActorRef<GatewayMessage>,
        message: GatewayMessage,
        node: &mut Arc<Node>,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            GatewayMessage::Tell(Wire(Ok(envelope))) => node.told(envelope),
            GatewayMessage::Tell(Wire(Err(error))) => {
                tracing::debug!(%error, "a peer told this node something")
            }
            GatewayMessage::Ask(Wire(Ok(envelope)), reply) => node.asked(envelope, reply),
            GatewayMessage::Ask(Wire(Err(error)), reply) => {
                answer(reply, Answer::Unreadable(error.to_string()));
            }
        }
        Ok(())
    }
}

/// Answers a peer. One that does not wait any more has lost nothing that it will not ask for again.
pub(super) fn answer(reply: RpcReplyPort<Wire<Answer>>, answer: Answer) {
    if reply.send(Wire(Ok(answer))).is_err() {
        tracing::debug!("a peer did not wait for its answer");
    }
}

/// The gateway at the other end of a session.
pub(super) fn of_session(session: NodeId) -> Option<ActorRef<GatewayMessage>> {
    let is_there =
        |cell: &ActorCell| matches!(cell.get_id(), ActorId::Remote { node_id, .. } if node_id == session);
    pg::get_members(&GROUP.to_owned()).into_iter().find(is_there).map(ActorRef::from)
}

/// Asks a peer, and waits `within` for the answer.
pub(super) async fn ask(
    gateway: &ActorRef<GatewayMessage>,
    envelope: Envelope,
    within: Duration,
) -> Result<Answer, PeerError> {
    let asked = gateway.call(|reply| GatewayMessage::Ask(Wire(Ok(envelope)), reply), Some(within)).await;
    match asked {
        Ok(CallResult::Success(Wire(Ok(answer)))) => Ok(answer),
        Ok(CallResult::Success(Wire(Err(error)))) => Err(PeerError::Unreadable(error.to_string())),
        Ok(CallResult::Timeout) => Err(PeerError::TimedOut),
        Ok(CallResult::SenderError) => Err(PeerError::Lost),
        // The session was over before anything was sent.
        Err(_) => Err(PeerError::Away),
    }
}

/// Tells a peer something that may be lost.
pub(super) fn tell(gateway: &ActorRef<GatewayMessage>, envelope: Envelope) {
    if gateway.cast(GatewayMessage::Tell(Wire(Ok(envelope)))).is_err() {
        tracing::debug!("a peer was gone before it could be told something");
    }
}
