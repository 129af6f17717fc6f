//! Sockets on other nodes: each node tells the others which users have any there, and hears what is decided for these.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use engine::{OptionId, UserId};
use tokio::sync::Notify;

use super::{Followers, Selection};
use crate::lock::lock;

/// Another node, as far as its users' selections are decided here.
#[derive(Debug, Default)]
pub(super) struct Node {
    heard: Mutex<Heard>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Heard {
    /// Who has sockets there.
    users: BTreeSet<UserId>,
    /// Not sent yet, the newest of each.
    news: BTreeMap<(UserId, OptionId), Selection>,
    /// What was last told and is not empty.
    shown: BTreeSet<(UserId, OptionId)>,
}

/// Listens for another node, until it is dropped.
#[derive(Debug)]
pub struct ForNode {
    followers: Arc<Followers>,
    node: Arc<Node>,
}

/// Which users have begun and ceased to listen since it was last told, where that is their last word.
#[derive(Debug, Default)]
pub(super) struct Interest {
    changes: Mutex<BTreeMap<UserId, bool>>,
    wake: Notify,
}

/// Hears which users listen on this node, until it is dropped.
#[derive(Debug)]
pub struct Interests(Arc<Interest>);

impl Node {
    pub fn hear(&self, user: UserId, selection: Selection) {
        let mut heard = lock(&self.heard);
        let key = (user, selection.option);
        if selection.seats.is_empty() {
            heard.shown.remove(&key);
        } else {
            heard.shown.insert(key);
        }
        heard.news.insert(key, selection);
        drop(heard);
        self.wake.notify_one();
    }

    pub fn shown_to(&self, user: UserId) -> Vec<OptionId> {
        let all = (user, OptionId(0))..=(user, OptionId(u32::MAX));
        lock(&self.heard).shown.range(all).map(|(_, option)| *option).collect()
    }
}

impl ForNode {
    /// These users have sockets there.
    pub fn come(&self, came: &[UserId]) {
        let mut users = self.followers.users.write().unwrap_or_else(PoisonError::into_inner);
        for user in came {
            if lock(&self.node.heard).users.insert(*user) {
                users.entry(*user).or_default().nodes.push(self.node.clone());
                self.followers.count.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// These have none any more.
    pub fn gone(&self, gone: &[UserId]) {
        let mut users = self.followers.users.write().unwrap_or_else(PoisonError::into_inner);
        for user in gone {
            let mut heard = lock(&self.node.heard);
            if !heard.users.remove(user) {
                continue;
            }
            heard.shown.retain(|(shown, _)| shown != user);
            heard.news.retain(|(told, _), _| told != user);
            drop(heard);
            if let Some(listening) = users.get_mut(user) {
                listening.nodes.retain(|node| !Arc::ptr_eq(node, &self.node));
                if listening.is_empty() {
                    users.remove(user);
                }
            }
            self.followers.count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// What is new for that node, by user and option; waits for it. Cancel-safe.
    pub async fn next(&self) -> Vec<(UserId, Selection)> {
        loop {
            let news = std::mem::take(&mut lock(&self.node.heard).news);
            if !news.is_empty() {
                return news.into_iter().map(|((user, _), selection)| (user, selection)).collect();
            }
            self.node.wake.notified().await;
        }
    }
}

impl Drop for ForNode {
    fn drop(&mut self) {
        let users: Vec<UserId> = lock(&self.node.heard).users.iter().copied().collect();
        self.gone(&users);
    }
}

impl Interests {
    /// Who listens now and did not when this was last asked, and the other way round, by user; waits for a change.
    /// Cancel-safe.
    pub async fn next(&mut self) -> (Vec<UserId>, Vec<UserId>) {
        loop {
            let changes = std::mem::take(&mut *lock(&self.0.changes));
            if !changes.is_empty() {
                let is = |listens: bool| {
                    let those = changes.iter().filter(move |(_, now)| **now == listens);
                    those.map(|(user, _)| *user).collect()
                };
                return (is(true), is(false));
            }
            self.0.wake.notified().await;
        }
    }
}

impl Followers {
    /// Begins to listen for another node.
    #[must_use]
    pub fn for_node(self: &Arc<Self>) -> ForNode {
        ForNode { followers: self.clone(), node: Arc::default() }
    }

    /// Begins with everybody who listens on this node.
    #[must_use]
    pub fn interests(&self) -> Interests {
        let users = self.users.write().unwrap_or_else(PoisonError::into_inner);
        let here = users.iter().filter(|(_, listening)| !listening.ears.is_empty());
        let changes = here.map(|(user, _)| (*user, true)).collect();
        let interest = Arc::new(Interest { changes: Mutex::new(changes), wake: Notify::new() });
        lock(&self.interests).push(Arc::downgrade(&interest));
        Interests(interest)
    }

    /// A user has a first socket here, or has lost the last. In the order in which that happens: the caller has the
    /// lock of the users.
    pub(super) fn announce(&self, user: UserId, listens: bool) {
        lock(&self.interests).retain(|interest| {
            let Some(interest) = interest.upgrade() else { return false };
            lock(&interest.changes).insert(user, listens);
            interest.wake.notify_one();
            true
        });
    }
}
