//! What users of this node's sockets have selected at a peer's shards, from both ends: the node says who they are, and
//! the peer what each has, whenever that changes.

use std::io;
use std::sync::Arc;

use actors::Handle;
use actors::followers::{ForNode, Selection};
use bytes::{Bytes, BytesMut};
use engine::{OptionId, Time, UserId};
use hyper::body::Incoming;
use tokio::sync::mpsc;

use super::connection::{Chunks, Messages, post};
use super::convert;
use super::wire::{self, Interest, Mine, NotAMessage};
use crate::cluster::tls::Tls;

/// Listens to a peer until the connection ends: whoever calls it begins anew then.
///
/// # Errors
/// Why it ended.
pub async fn listen(handle: &Handle, peer_url: &str, tls: Option<&Tls>) -> io::Result<()> {
    let mut interests = handle.interests();
    let (chunks, body) = Chunks::channel();
    let mut told = Messages::of(post(peer_url, tls, super::serve::MINE, body).await?.into_body());
    loop {
        tokio::select! {
            (come, gone) = interests.next() => {
                let ids = |users: Vec<UserId>| users.into_iter().map(|user| user.0).collect();
                let interest = Interest { come: ids(come), gone: ids(gone) };
                let mut bytes = BytesMut::new();
                wire::put(&interest, &mut bytes).map_err(io::Error::other)?;
                chunks.send(bytes.freeze()).await.map_err(io::Error::other)?;
            }
            message = told.next() => {
                let message = message.map_err(io::Error::other)?.ok_or(io::ErrorKind::UnexpectedEof)?;
                let Mine { user, option, seats, expires_at } =
                    wire::decode(&message).map_err(io::Error::other)?;
                let (option, seats) = (OptionId(option), convert::seat_list(&seats));
                let selection = Selection { option, seats, expires_at: Time(expires_at) };
                handle.tell_here(UserId(user), selection);
            }
        }
    }
}

/// The owner's end: hears who listens, and tells what they have.
pub(super) fn tell(handle: &Handle, asked: Incoming) -> Chunks {
    let (chunks, body) = Chunks::channel();
    let node = Arc::new(handle.follow_for_node());
    tokio::spawn(write(node.clone(), chunks));
    tokio::spawn(async move {
        if let Err(error) = read(&node, asked).await {
            tracing::warn!(%error, "a peer does not say whose selections it wants");
        }
    });
    body
}

async fn read(node: &ForNode, asked: Incoming) -> Result<(), NotAMessage> {
    let mut messages = Messages::of(asked);
    while let Some(message) = messages.next().await? {
        let Interest { come, gone } = wire::decode(&message)?;
        let users = |ids: Vec<u64>| ids.into_iter().map(UserId).collect::<Vec<_>>();
        node.come(&users(come));
        node.gone(&users(gone));
    }
    Ok(())
}

/// Until the peer listens no more.
async fn write(node: Arc<ForNode>, chunks: mpsc::Sender<Bytes>) {
    loop {
        let news = tokio::select! {
            news = node.next() => news,
            () = chunks.closed() => return,
        };
        let mut bytes = BytesMut::new();
        for (user, Selection { option, seats, expires_at }) in news {
            let (user, option, seats) = (user.0, option.0, convert::seats(&seats));
            let mine = Mine { user, option, seats, expires_at: expires_at.0 };
            if let Err(error) = wire::put(&mine, &mut bytes) {
                tracing::error!(%error, "a selection could not be written for a peer");
            }
        }
        if chunks.send(bytes.freeze()).await.is_err() {
            return;
        }
    }
}
