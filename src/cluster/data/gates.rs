//! What gates tell, from both ends: a node says whose gates are followed there, and each peer tells of those that it
//! serves, also of those that it will serve. A peer that is slow gets another view, never a backlog.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex};

use actors::Handle;
use actors::gates::{News, NewsStream};
use bytes::{Bytes, BytesMut};
use engine::ConcertId;
use hyper::body::Incoming;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use super::connection::{Chunks, Messages, post};
use super::convert::gate_news;
use super::wire::gate::Interest;
use super::wire::{self, NotAMessage};
use crate::cluster::tls::Tls;
use crate::lock::lock;

/// Messages that wait for one peer. What a gate tells meanwhile waits in its hub, which has a bound.
const WAITING: usize = 16;

/// Bytes after which no further message is written together with the last.
const TOGETHER: usize = 64 * 1024;

/// Who tells of a gate: the peer whose view came last. What is still on its way from the owner before counts for nothing.
#[derive(Debug, Default)]
pub struct Tellers(Mutex<BTreeMap<ConcertId, String>>);

impl Tellers {
    /// Whether these news of that peer count.
    fn count(&self, concert: ConcertId, peer_url: &str, news: &News) -> bool {
        let mut tellers = lock(&self.0);
        if matches!(news, News::View(_)) {
            tellers.insert(concert, peer_url.to_owned());
            return true;
        }
        tellers.get(&concert).is_some_and(|teller| teller == peer_url)
    }

    fn forget(&self, concerts: &BTreeSet<ConcertId>) {
        let mut tellers = lock(&self.0);
        tellers.retain(|concert, _| !concerts.contains(concert));
    }
}

/// What a peer knows of this node's interest.
#[derive(Debug, Default)]
struct Listening {
    concerts: Arc<BTreeSet<ConcertId>>,
    /// Whose view is to be asked for again.
    again: BTreeSet<ConcertId>,
    /// Whose view was, and has not come.
    asked: BTreeSet<ConcertId>,
}

impl Listening {
    /// Concerts to begin and to end with, if there are any; first those to end with.
    fn turn_to(
        &mut self,
        now: Arc<BTreeSet<ConcertId>>,
    ) -> Option<(BTreeSet<ConcertId>, BTreeSet<ConcertId>)> {
        if Arc::ptr_eq(&now, &self.concerts) && self.again.is_empty() {
            return None;
        }
        let mut gone = &*self.concerts - &*now;
        let mut come = &*now - &*self.concerts;
        self.asked.retain(|concert| now.contains(concert));
        for concert in std::mem::take(&mut self.again) {
            if now.contains(&concert) && self.asked.insert(concert) {
                come.insert(concert);
                gone.insert(concert);
            }
        }
        self.concerts = now;
        let is_news = !(gone.is_empty() && come.is_empty());
        is_news.then_some((gone, come))
    }

    /// The peer told something of a gate. If it does not count, then either another owner has begun to tell since, or
    /// an old owner's last view was on its way for so long that it came after this peer's: only a view can say which.
    fn told(&mut self, concert: ConcertId, news: &News, counts: bool) {
        if matches!(news, News::View(_)) {
            self.asked.remove(&concert);
        } else if !counts && self.concerts.contains(&concert) && !self.asked.contains(&concert) {
            self.again.insert(concert);
        }
    }
}

/// Hears what a peer's gates tell until the connection ends: whoever calls it begins anew then.
///
/// # Errors
/// Why it ended.
pub async fn hear(handle: &Handle, tellers: &Tellers, peer_url: &str, tls: Option<&Tls>) -> io::Result<()> {
    let mut followed = handle.gates().followed();
    let (chunks, body) = Chunks::channel();
    let mut messages = Messages::of(post(peer_url, tls, super::serve::GATE_NEWS, body).await?.into_body());
    let mut listening = Listening::default();
    loop {
        let now = followed.borrow_and_update().clone();
        if let Some((gone, come)) = listening.turn_to(now) {
            tellers.forget(&(&gone - &come));
            let ids = |concerts: BTreeSet<ConcertId>| concerts.into_iter().map(|concert| concert.0).collect();
            let mut bytes = BytesMut::new();
            let interest = Interest { come: ids(come), gone: ids(gone) };
            wire::put(&interest, &mut bytes).map_err(io::Error::other)?;
            chunks.send(bytes.freeze()).await.map_err(io::Error::other)?;
        }
        tokio::select! {
            changed = followed.changed() => changed.map_err(io::Error::other)?,
            message = messages.next() => {
                let message = message.map_err(io::Error::other)?.ok_or(io::ErrorKind::UnexpectedEof)?;
                let told = wire::decode(&message).map_err(io::Error::other)?;
                let (concert, news) = gate_news::told_in(told).map_err(io::Error::other)?;
                let counts = tellers.count(concert, peer_url, &news);
                listening.told(concert, &news, counts);
                if counts {
                    handle.gates().take_news(concert, &news);
                }
            }
        }
    }
}

/// The owner's end: hears whose gates are followed there, and tells what happens at them.
pub(super) fn tell(handle: &Handle, asked: Incoming) -> Chunks {
    let (chunks, body) = Chunks::channel();
    let (told, tells) = mpsc::channel(WAITING);
    tokio::spawn(write(tells, chunks));
    let handle = handle.clone();
    tokio::spawn(async move {
        if let Err(error) = watch_all(&handle, asked, told).await {
            tracing::warn!(%error, "a peer does not say whose gates are followed there");
        }
    });
    body
}

async fn watch_all(handle: &Handle, asked: Incoming, told: mpsc::Sender<Vec<u8>>) -> Result<(), NotAMessage> {
    let gates = handle.gates();
    let mut opened = gates.opened();
    let mut messages = Messages::of(asked);
    let mut wanted = BTreeSet::new();
    let mut watched: BTreeMap<ConcertId, AbortHandle> = BTreeMap::new();
    let mut watches = JoinSet::new();
    loop {
        opened.mark_unchanged();
        for concert in &wanted {
            if !watched.contains_key(concert)
                && let Some(stream) = gates.news(*concert)
            {
                watched.insert(*concert, watches.spawn(watch(*concert, stream, told.clone())));
            }
        }
        tokio::select! {
            message = messages.next() => {
                let Some(message) = message? else { return Ok(()) };
                let Interest { come, gone } = wire::decode(&message)?;
                for concert in gone.into_iter().map(ConcertId) {
                    wanted.remove(&concert);
                    if let Some(watch) = watched.remove(&concert) {
                        watch.abort();
                    }
                }
                wanted.extend(come.into_iter().map(ConcertId));
            }
            Some(ended) = watches.join_next_with_id() => {
                let id = match &ended {
                    Ok((id, ())) => *id,
                    Err(error) => error.id(),
                };
                watched.retain(|_, watch| watch.id() != id);
            }
            // The hub lives as long as the handle.
            Ok(()) = opened.changed() => {}
            () = told.closed() => return Ok(()),
        }
    }
}

/// One gate, for as long as it is served here.
async fn watch(concert: ConcertId, mut stream: NewsStream, told: mpsc::Sender<Vec<u8>>) {
    while let Some(news) = stream.next().await {
        match wire::encode(&gate_news::told_out(concert, &news)) {
            Ok(message) => {
                if told.send(message).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::error!(%error, %concert, "what a gate tells could not be written for a peer")
            }
        }
    }
}

/// What has gathered while the last bytes went out goes together, as far as that is little.
async fn write(mut tells: mpsc::Receiver<Vec<u8>>, chunks: mpsc::Sender<Bytes>) {
    while let Some(first) = tells.recv().await {
        let mut bytes = BytesMut::new();
        wire::frame(&first, &mut bytes);
        while bytes.len() < TOGETHER
            && let Ok(next) = tells.try_recv()
        {
            wire::frame(&next, &mut bytes);
        }
        if chunks.send(bytes.freeze()).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
