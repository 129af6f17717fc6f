//! The maps of options that a peer serves, followed for as long as it is there: viewers of every option may come to
//! any node.

use std::io;

use actors::Handle;
use actors::feed::News;

use super::connection::{Chunks, Messages, post};
use super::wire::{self, Seen};
use crate::cluster::tls::Tls;

/// Follows a peer until the connection ends, or a frame does not go on where this node is: whoever calls it begins
/// anew then.
///
/// # Errors
/// Why it ended.
pub async fn follow(handle: &Handle, peer_url: &str, tls: Option<&Tls>) -> io::Result<()> {
    let shown = handle.shown();
    let seen = shown.iter().map(|(option, at)| Seen { option: option.0, epoch: at.epoch.0, seq: at.seq });
    let seen = wire::encode(&seen.collect::<Vec<_>>()).map_err(io::Error::other)?;
    let response = post(peer_url, tls, super::serve::FEED, Chunks::whole(seen)).await?;
    let mut messages = Messages::of(response.into_body());
    while let Some(message) = messages.next().await.map_err(io::Error::other)? {
        let news = News::read(&message).map_err(io::Error::other)?;
        if !handle.follow_news(&news) && is_behind(handle, &news) {
            return Err(io::Error::other(format!("option {} does not go on here", news.option)));
        }
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

/// Whether this node misses what came before. What it knows already does not fit either, and that is well.
fn is_behind(handle: &Handle, news: &News) -> bool {
    handle.position(news.option).is_none_or(|at| at < news.to)
}
