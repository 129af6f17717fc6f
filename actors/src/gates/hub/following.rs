//! One who listens.

use std::sync::Arc;

use bytes::Bytes;
use engine::gate::{Bitmap, Eta};
use engine::{Turn, UserId};
use tokio::sync::watch;

use super::{Board, Ear, GateEvent, Hub};
use crate::lock::lock;

/// Listens for one user at one gate, until it is dropped.
#[derive(Debug)]
pub struct Following {
    hub: Arc<Hub>,
    board: Arc<Board>,
    user: UserId,
    ear: Arc<Ear>,
    moved: watch::Receiver<u64>,
    /// The view that the listener knows of; 0 before the first event.
    views: u64,
    is_new: bool,
    turn: Option<Turn>,
    /// The fewest ahead that were ever told in this turn.
    least: u32,
    /// The tick that the client has.
    has: Option<u32>,
}

/// Where a waiter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub ahead: u32,
    pub eta: Option<Eta>,
}

impl Following {
    /// And whether nobody listened to the board before.
    pub(super) fn new(hub: Arc<Hub>, board: Arc<Board>, user: UserId) -> (Self, bool) {
        let (ear, moved) = (Arc::new(Ear::default()), board.moved.subscribe());
        let is_first = {
            let mut ears = lock(&board.ears);
            let is_first = ears.is_empty();
            ears.entry(user).or_default().push(ear.clone());
            is_first
        };
        let (views, is_new, turn, least, has) = (0, true, None, u32::MAX, None);
        (Self { hub, board, user, ear, moved, views, is_new, turn, least, has }, is_first)
    }

    /// The turn that the user waits in, and how many were ahead, if they wait: from an answer to a status.
    pub fn waits_in(&mut self, turn: Option<Turn>, ahead: Option<u32>) {
        if turn != self.turn {
            self.least = u32::MAX;
            self.has = None;
        }
        self.turn = turn;
        self.least = self.least.min(ahead.unwrap_or(u32::MAX));
    }

    /// The next event. Ticks that were missed are one. Cancel-safe.
    pub async fn next(&mut self) -> GateEvent {
        loop {
            if std::mem::take(&mut self.is_new) {
                self.views = self.board.read(|shown| shown.views);
                return GateEvent::Anew;
            }
            let heard = lock(&self.ear.news).pop_front();
            if let Some(event) = heard {
                return event;
            }
            tokio::select! {
                biased;
                () = self.ear.heard.notified() => {}
                changed = self.moved.changed() => {
                    if changed.is_err() {
                        // The board lives as long as this does.
                        std::future::pending::<()>().await;
                    }
                    let views = self.board.read(|shown| shown.views);
                    if views != self.views {
                        self.views = views;
                        self.has = None;
                        return GateEvent::Anew;
                    }
                    return GateEvent::Moved;
                }
            }
        }
    }

    /// Where the user is, as this node knows it; never further back than it said before. `None` before a draw, and
    /// for whoever does not wait.
    pub fn place(&mut self) -> Option<Place> {
        let turn = self.turn?;
        let at = self.board.read(|shown| shown.at(turn))?;
        self.least = self.least.min(at.ahead);
        // What was told by an answer is newer than the tick: so is the way.
        let distance = at.distance.saturating_sub(at.ahead - self.least).max(1);
        Some(Place { ahead: self.least, eta: at.pace.map(|pace| pace.eta(distance)) })
    }

    /// For a client that counts itself: the newest tick as [`engine::gate::Tick::encode`] writes it, and whether
    /// it is a view, because this listener missed one in between; and the bitmap of the user's own block where it changed.
    /// `None` for whoever does not wait, or has it already.
    pub fn ticks(&mut self) -> Option<(Bytes, bool, Option<Bitmap>)> {
        let turn = self.turn?;
        let has = self.has;
        let (no, news) = self.board.read(|shown| {
            let news = match has {
                _ if shown.views == 0 => None,
                Some(has) if has == shown.no => None,
                Some(has) if has.wrapping_add(1) == shown.no => {
                    Some((shown.tick.clone(), false, shown.block(turn, Some(has))))
                }
                _ => Some((shown.view(), true, shown.block(turn, None))),
            };
            (shown.no, news)
        });
        if news.is_some() {
            self.has = Some(no);
        }
        news
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let mut ears = lock(&self.board.ears);
        if let Some(mine) = ears.get_mut(&self.user) {
            mine.retain(|ear| !Arc::ptr_eq(ear, &self.ear));
            if mine.is_empty() {
                ears.remove(&self.user);
            }
        }
        let was_last = ears.is_empty();
        drop(ears);
        if was_last {
            self.hub.announce();
        }
    }
}
