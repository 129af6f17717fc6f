//! Questions to a peer that come one by one.

use actors::peers::{Call, PeerError, Returned};
use actors::ports::Owner;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout_at};

use super::connection::{Chunks, post};
use super::convert;
use super::memory::Arriving;
use super::wire::{self, Frames, NotAMessage};
use crate::cluster::tls::Tls;

/// Who asks. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Caller {
    pub me: Owner,
    pub tls: Option<Tls>,
}

impl Caller {
    /// See [`actors::peers::Peers::call`].
    ///
    /// # Errors
    /// It did not answer, or cannot.
    pub async fn call(&self, node: &Owner, call: Call, deadline: Instant) -> Result<Returned, PeerError> {
        let silent = || PeerError::Silent(node.node.clone());
        let question = convert::call_out(&self.me, call);
        let bytes = wire::encode(&question).map_err(|error| PeerError::Refused(error.to_string()))?;
        let asked = async {
            let body = Chunks::whole(bytes);
            let response = post(&node.peer_url, self.tls.as_ref(), super::serve::CALL, body).await;
            let response = response.map_err(|error| {
                tracing::debug!(%error, node = node.node, "a peer was not reached");
                silent()
            })?;
            let mut answer = Answer { body: response.into_body(), frames: Frames::default() };
            match answer.next().await?.ok_or_else(silent)? {
                wire::Returned::Memory(head) => {
                    let mut memory = Arriving::new(&head);
                    while !memory.is_whole() {
                        memory.add(answer.next().await?.ok_or_else(silent)?)?;
                    }
                    Ok(Returned::Memory(memory.into_memory()))
                }
                returned => convert::returned_in(returned),
            }
        };
        timeout_at(deadline, asked).await.map_err(|_| silent())?
    }
}

/// An answer that comes in messages: one, or a head and its parts.
struct Answer {
    body: Incoming,
    frames: Frames,
}

impl Answer {
    /// `None` where it ends too early.
    async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, PeerError> {
        let refused = |error: NotAMessage| PeerError::Refused(error.to_string());
        loop {
            if let Some(message) = self.frames.next().map_err(refused)? {
                return wire::decode(&message).map(Some).map_err(refused);
            }
            let Some(Ok(frame)) = self.body.frame().await else { return Ok(None) };
            if let Ok(data) = frame.into_data() {
                self.frames.push(&data);
            }
        }
    }
}
