//! Questions to a peer that come one by one.

use actors::peers::{Call, PeerError, Returned};
use actors::ports::Owner;
use http_body_util::{BodyExt as _, Limited};
use tokio::time::{Instant, timeout_at};

use super::connection::{Chunks, post};
use super::{convert, wire};
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
            let body = Limited::new(response.into_body(), wire::BYTES_MAX).collect().await;
            Ok(body.map_err(|_| silent())?.to_bytes())
        };
        let answer = timeout_at(deadline, asked).await.map_err(|_| silent())??;
        let returned = wire::decode(&answer).map_err(|error| PeerError::Refused(error.to_string()))?;
        convert::returned_in(returned)
    }
}
