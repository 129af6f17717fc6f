//! Questions to a peer that come one by one.

use actors::peers::{Call, PeerError, Returned};
use actors::ports::Owner;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout_at};

use super::connection::{Chunks, Messages, post};
use super::convert;
use super::memory::Arriving;
use super::wire::{self, NotAMessage};
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
            let mut answer = Messages::of(response.into_body());
            match next(&mut answer).await?.ok_or_else(silent)? {
                wire::Returned::Memory(head) => {
                    let mut memory = Arriving::new(&head);
                    while !memory.is_whole() {
                        memory.add(next(&mut answer).await?.ok_or_else(silent)?)?;
                    }
                    Ok(Returned::Memory(memory.into_memory()))
                }
                returned => convert::returned_in(returned),
            }
        };
        timeout_at(deadline, asked).await.map_err(|_| silent())?
    }
}

/// Of an answer that is one message, or a head and its parts; `None` where it ends too early.
async fn next<T: DeserializeOwned>(answer: &mut Messages) -> Result<Option<T>, PeerError> {
    let refused = |error: NotAMessage| PeerError::Refused(error.to_string());
    let message = answer.next().await.map_err(refused)?;
    message.map(|message| wire::decode(&message)).transpose().map_err(refused)
}
