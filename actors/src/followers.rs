//! Who wants to hear when a user's own soft locks change: every socket of that user, here and on other nodes.
//!
//! The shard tells after it has decided, and only where somebody listens. What is told is the whole
//! selection of one option as it is now, so that a listener who is slow keeps the newest and no backlog.
//! Each node says to the others which users have sockets there ([`elsewhere`]); what it hears of them from an owner it
//! tells its own sockets alone.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::task::{Context, Poll, Waker};

use engine::{OptionId, SeatList, Time, UserId};

pub use self::elsewhere::{ForNode, Interests};
use self::elsewhere::{Interest, Node};
use crate::lock::lock;

mod elsewhere;

/// What a user has selected in an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selection {
    pub option: OptionId,
    /// In seat order; none when everything is held, given back or has run out.
    pub seats: SeatList,
    /// When the first of them runs out; [`Time::NEVER`] for none.
    pub expires_at: Time,
}

/// Every listener on this node. One for the whole process.
#[derive(Debug, Default)]
pub struct Followers {
    /// How many there are, so that a shard to which nobody listens looks no further.
    count: AtomicUsize,
    users: RwLock<HashMap<UserId, Listening>>,
    /// Who tells another node which users listen here.
    interests: Mutex<Vec<Weak<Interest>>>,
}

/// Who listens for a user.
#[derive(Debug, Default)]
struct Listening {
    ears: Vec<Arc<Ear>>,
    nodes: Vec<Arc<Node>>,
}

/// One who listens for one user, until it is dropped.
#[derive(Debug)]
pub struct Following {
    followers: Arc<Followers>,
    user: UserId,
    ear: Arc<Ear>,
}

#[derive(Debug, Default)]
struct Ear(Mutex<Heard>);

#[derive(Debug, Default)]
struct Heard {
    /// Not read yet, the newest of each option.
    news: Vec<Selection>,
    /// Options of which the last thing told was a selection that is not empty.
    shown: Vec<OptionId>,
    waker: Option<Waker>,
}

impl Followers {
    /// Begins to listen.
    pub fn follow(self: &Arc<Self>, user: UserId) -> Following {
        let ear = Arc::new(Ear::default());
        let mut users = self.users.write().unwrap_or_else(PoisonError::into_inner);
        let ears = &mut users.entry(user).or_default().ears;
        ears.push(ear.clone());
        if ears.len() == 1 {
            self.announce(user, true);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        Following { followers: self.clone(), user, ear }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }

    #[must_use]
    pub fn has(&self, user: UserId) -> bool {
        self.users.read().unwrap_or_else(PoisonError::into_inner).contains_key(&user)
    }

    /// Tells everybody who listens for the user.
    pub fn tell(&self, user: UserId, selection: Selection) {
        let users = self.users.read().unwrap_or_else(PoisonError::into_inner);
        let Some(listening) = users.get(&user) else { return };
        listening.ears.iter().for_each(|ear| ear.hear(selection));
        listening.nodes.iter().for_each(|node| node.hear(user, selection));
    }

    /// Tells the user's sockets on this node what the owner of the option has told it.
    pub fn tell_here(&self, user: UserId, selection: Selection) {
        let users = self.users.read().unwrap_or_else(PoisonError::into_inner);
        for ear in users.get(&user).iter().flat_map(|listening| &listening.ears) {
            ear.hear(selection);
        }
    }

    /// What was last told and was not empty: where to look after a restore.
    #[must_use]
    pub fn shown(&self) -> Vec<(UserId, OptionId)> {
        let users = self.users.read().unwrap_or_else(PoisonError::into_inner);
        let mut shown = Vec::new();
        for (user, listening) in users.iter() {
            for ear in &listening.ears {
                shown.extend(lock(&ear.0).shown.iter().map(|option| (*user, *option)));
            }
            for node in &listening.nodes {
                shown.extend(node.shown_to(*user).into_iter().map(|option| (*user, option)));
            }
        }
        shown.sort_unstable();
        shown.dedup();
        shown
    }

    fn leave(&self, user: UserId, ear: &Arc<Ear>) {
        let mut users = self.users.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(listening) = users.get_mut(&user) {
            listening.ears.retain(|other| !Arc::ptr_eq(other, ear));
            if listening.ears.is_empty() {
                self.announce(user, false);
            }
            if listening.is_empty() {
                users.remove(&user);
            }
        }
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Listening {
    fn is_empty(&self) -> bool {
        self.ears.is_empty() && self.nodes.is_empty()
    }
}

impl Following {
    #[must_use]
    pub const fn user(&self) -> UserId {
        self.user
    }

    /// The next change; the newest of its option, whatever came between.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Selection> {
        let mut heard = lock(&self.ear.0);
        if heard.news.is_empty() {
            if !heard.waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
                heard.waker = Some(cx.waker().clone());
            }
            return Poll::Pending;
        }
        Poll::Ready(heard.news.remove(0))
    }

    /// [`Following::poll_next`] as a future; cancel-safe.
    pub async fn next(&mut self) -> Selection {
        poll_fn(|cx| self.poll_next(cx)).await
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.followers.leave(self.user, &self.ear);
    }
}

impl Ear {
    fn hear(&self, selection: Selection) {
        let mut heard = lock(&self.0);
        heard.shown.retain(|option| *option != selection.option);
        if !selection.seats.is_empty() {
            heard.shown.push(selection.option);
        }
        match heard.news.iter_mut().find(|known| known.option == selection.option) {
            Some(known) => *known = selection,
            None => heard.news.push(selection),
        }
        let waker = heard.waker.take();
        drop(heard);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use engine::SeatNo;

    use super::*;

    const USER: UserId = UserId(7);

    fn selection(option: u32, seats: &[u32]) -> Selection {
        let seats = seats.iter().copied().map(SeatNo).collect();
        Selection { option: OptionId(option), seats, expires_at: Time(30) }
    }

    #[tokio::test]
    async fn everybody_who_follows_hears_the_newest_of_each_option() {
        let followers = Arc::new(Followers::default());
        assert!(followers.is_empty());
        let (mut first, mut second) = (followers.follow(USER), followers.follow(USER));
        followers.tell(USER, selection(1, &[3]));
        followers.tell(USER, selection(2, &[9]));
        followers.tell(USER, selection(1, &[3, 4]));
        followers.tell(UserId(8), selection(1, &[5]));
        for one in [&mut first, &mut second] {
            assert_eq!(one.next().await, selection(1, &[3, 4]));
            assert_eq!(one.next().await, selection(2, &[9]));
        }
        drop(first);
        assert!(followers.has(USER) && !followers.is_empty());
        drop(second);
        assert!(!followers.has(USER) && followers.is_empty());
    }

    #[tokio::test]
    async fn what_is_shown_is_what_was_told_last_and_is_not_empty() {
        let followers = Arc::new(Followers::default());
        let _one = followers.follow(USER);
        followers.tell(USER, selection(1, &[3]));
        followers.tell(USER, selection(2, &[9]));
        followers.tell(USER, selection(1, &[]));
        assert_eq!(followers.shown(), [(USER, OptionId(2))]);
    }

    /// The owner's node has no socket of the user; the other node has one, and says so.
    #[tokio::test]
    async fn what_an_owner_decides_reaches_the_sockets_of_another_node_once() {
        let (owner, other) = (Arc::new(Followers::default()), Arc::new(Followers::default()));
        let mut socket = other.follow(USER);
        let mut interests = other.interests();
        let (come, gone) = interests.next().await;
        assert_eq!((come.as_slice(), gone.as_slice()), (&[USER] as &[_], &[] as &[_]));
        let node = owner.for_node();
        node.come(&come);
        node.come(&come);
        assert!(owner.has(USER));
        owner.tell(USER, selection(1, &[3]));
        owner.tell(USER, selection(1, &[3, 4]));
        assert_eq!(owner.shown(), [(USER, OptionId(1))]);
        assert_eq!(node.next().await, [(USER, selection(1, &[3, 4]))], "the newest alone");

        // What it heard it tells its sockets, and no other node: else it would come back for ever.
        let back = other.for_node();
        back.come(&[USER]);
        other.tell_here(USER, selection(1, &[3, 4]));
        assert_eq!(socket.next().await, selection(1, &[3, 4]));
        assert!(tokio::time::timeout(std::time::Duration::from_millis(20), back.next()).await.is_err());

        // The last socket closes; who came and went in between is nobody's business.
        drop(other.follow(UserId(8)));
        let second = other.follow(USER);
        drop(socket);
        drop(second);
        let (come, gone) = interests.next().await;
        assert_eq!((come.as_slice(), gone.as_slice()), (&[] as &[_], &[USER, UserId(8)] as &[_]));
        node.gone(&[USER]);
        assert!(!owner.has(USER) && owner.is_empty());
        node.come(&[USER, UserId(9)]);
        drop(node);
        assert!(owner.is_empty(), "a node that is gone listens no more");
    }

    #[tokio::test]
    async fn a_waiting_follower_is_woken() {
        let followers = Arc::new(Followers::default());
        let mut one = followers.follow(USER);
        let waiting = tokio::spawn(async move { one.next().await });
        tokio::task::yield_now().await;
        followers.tell(USER, selection(1, &[3]));
        assert_eq!(waiting.await.unwrap(), selection(1, &[3]));
    }
}
