//! One session with a peer: hello, then a beat each second until it ends.

use std::sync::Arc;
use std::time::Duration;

use ractor::ActorRef;
use tokio::time::{Instant, sleep_until};

use super::gateway::{self, GatewayMessage};
use super::link::Link;
use super::members::GRACE;
use super::node::Node;
use super::wire::{Answer, Body};

/// How often a peer is asked how it is.
pub(super) const BEAT: Duration = Duration::from_secs(1);

/// How long a beat waits for its answer: with [`super::members::MISSES`] of them a peer is silent after 3.5 s.
const BEAT_TIMEOUT: Duration = Duration::from_millis(500);

const HELLO_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a refusal may take to reach the other side before the connection is closed.
const REFUSAL: Duration = Duration::from_millis(500);

/// Runs until the session is over, and draws the conclusions.
pub(super) async fn run(node: Arc<Node>, link: Arc<Link>, gateway: ActorRef<GatewayMessage>) {
    let id = link.peer;
    tokio::select! {
        () = link.over() => {}
        () = talk(&node, &link, &gateway) => {
            link.close();
            link.over().await;
        }
    }
    node.close_session(id, link.id);
    node.note(|book| book.ended(link.id, id, link.end(), Instant::now()));
    tokio::select! {
        () = tokio::time::sleep(GRACE) => {}
        () = node.ending.cancelled() => {}
    }
    node.note(|book| book.settle(Instant::now()));
}

/// Returns when there is nothing more to say.
async fn talk(node: &Arc<Node>, link: &Link, gateway: &ActorRef<GatewayMessage>) {
    if !hello(node, link, gateway).await {
        tokio::time::sleep(REFUSAL).await;
        return;
    }
    let mut hurry = node.hurry();
    let mut counted: Option<Instant> = None;
    loop {
        let asked = Instant::now();
        let beat = node.envelope(Body::Beat(node.beat()));
        match gateway::ask(gateway, beat, BEAT_TIMEOUT).await {
            Ok(Answer::Beat(beat)) => {
                node.heard(link.peer, &beat, Some(asked));
                node.note(|book| book.settle(Instant::now()));
            }
            // A stranger's is one too: the peer has not heard this node's hello, or has forgotten it.
            missed => {
                tracing::debug!(peer = link.label, ?missed, "a beat went unanswered");
                // Those between prove nothing sooner.
                let counts = counted.is_none_or(|counted| asked >= counted + BEAT);
                if counts {
                    counted = Some(asked);
                }
                if counts && node.note(|book| book.missed(link.id, Instant::now())) {
                    tracing::warn!(peer = link.label, "a peer fell silent");
                    return;
                }
            }
        }
        tokio::select! {
            () = sleep_until(asked + node.pause()) => {}
            // The node outlives its sessions.
            Ok(()) = hurry.changed() => {}
        }
    }
}

/// Says who this node is and hears who the other is. Whether they work together.
async fn hello(node: &Arc<Node>, link: &Link, gateway: &ActorRef<GatewayMessage>) -> bool {
    let hello = node.envelope(Body::Hello(node.me(), node.beat()));
    let asked = Instant::now();
    match gateway::ask(gateway, hello, HELLO_TIMEOUT).await {
        // The connection says who is there; a hello that says otherwise is another's.
        Ok(Answer::Welcome(hello, _) | Answer::Refused(hello, _)) if hello.id != link.peer => {
            tracing::warn!(peer = link.label, node = hello.node, "a peer that says two things about itself");
            false
        }
        Ok(Answer::Welcome(hello, beat)) => {
            let judged = node
                .note(|book| book.judge(&hello).inspect(|()| book.welcome(link.id, &hello, &beat, asked)));
            if let Err(why) = judged {
                node.refuse(&hello, &why);
                return false;
            }
            link.welcome();
            node.open_session(hello.id, link.id, gateway.clone());
            tracing::info!(
                node = hello.node,
                peer_url = hello.peer_url,
                build = hello.build,
                "a peer is there"
            );
            true
        }
        Ok(Answer::Refused(hello, why)) => {
            // Where both refuse, each says it in its own words, and always the same ones.
            let why = node.note(|book| book.judge(&hello)).err().unwrap_or(why);
            node.refuse(&hello, &why);
            false
        }
        Ok(Answer::Unreadable(why)) => {
            tracing::error!(peer = link.label, "a peer does not understand this node: {why}");
            false
        }
        other => {
            tracing::debug!(peer = link.label, ?other, "a hello went unanswered");
            false
        }
    }
}
