//! Who listens to gates on this node, and what they are told.
//!
//! Each gate that is served or followed here has a board: the line as the last tick left it, from which every
//! listener's place follows without asking anybody, and the ears of those who wait for a word of their own. Where the gate
//! is served elsewhere, its owner's news keep the board; where it is served here, other nodes listen to the board.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use engine::gate::{Pass, PassEnd};
use engine::{ConcertId, PassId, ShardId, UserId};
use tokio::sync::{Notify, watch};

pub use self::following::{Following, Place};
use self::shown::Shown;
pub use self::stream::NewsStream;
use super::news::News;
use crate::lock::lock;

mod following;
mod shown;
mod stream;

/// What a listener is told.
#[derive(Clone, Debug, PartialEq)]
pub enum GateEvent {
    /// Another owner, another line, another policy: ask how it stands. Also the first one.
    Anew,
    /// The line has moved: see [`Following::place`] and [`Following::ticks`].
    Moved,
    /// May enter.
    Admitted { pass: Pass, durable: bool },
    /// The pass is dead.
    Ended { pass: PassId, why: PassEnd },
}

/// News of one's own that wait for a listener: whoever is slower asks how it stands.
const UNHEARD: usize = 16;

/// All boards of a node.
#[derive(Debug)]
pub(super) struct Hub {
    boards: Mutex<BTreeMap<ConcertId, Weak<Board>>>,
    /// The concerts with listeners here.
    followed: watch::Sender<Arc<BTreeSet<ConcertId>>>,
}

/// One gate's, for as long as it is served or followed here.
#[derive(Debug)]
pub(super) struct Board {
    pub shard: ShardId,
    pub concert: ConcertId,
    shown: RwLock<Shown>,
    /// How often something was shown.
    moved: watch::Sender<u64>,
    ears: Mutex<HashMap<UserId, Vec<Arc<Ear>>>>,
    streams: Mutex<Vec<Weak<stream::Queue>>>,
    /// Whether the gate is served here.
    is_served: AtomicBool,
    /// Something was shown: to wake a crowd takes long, and is not for a gate's actor to do.
    pulse: Arc<Notify>,
}

/// A listener's own news.
#[derive(Debug, Default)]
struct Ear {
    news: Mutex<VecDeque<GateEvent>>,
    heard: Notify,
}

impl Default for Hub {
    fn default() -> Self {
        Self { boards: Mutex::default(), followed: watch::Sender::new(Arc::default()) }
    }
}

impl Hub {
    pub fn board(&self, shard: ShardId, concert: ConcertId) -> Arc<Board> {
        let mut boards = lock(&self.boards);
        if let Some(board) = boards.get(&concert).and_then(Weak::upgrade) {
            return board;
        }
        boards.retain(|_, board| board.strong_count() > 0);
        let board = Arc::new(Board {
            shard,
            concert,
            shown: RwLock::default(),
            moved: watch::Sender::new(0),
            ears: Mutex::default(),
            streams: Mutex::default(),
            is_served: AtomicBool::new(false),
            pulse: Arc::default(),
        });
        tokio::spawn(wake(Arc::downgrade(&board), board.pulse.clone()));
        boards.insert(concert, Arc::downgrade(&board));
        board
    }

    pub fn known(&self, concert: ConcertId) -> Option<Arc<Board>> {
        lock(&self.boards).get(&concert).and_then(Weak::upgrade)
    }

    pub fn follow(self: &Arc<Self>, shard: ShardId, concert: ConcertId, user: UserId) -> Following {
        let board = self.board(shard, concert);
        let (following, is_first) = Following::new(self.clone(), board, user);
        if is_first {
            self.announce();
        }
        following
    }

    pub fn followed(&self) -> watch::Receiver<Arc<BTreeSet<ConcertId>>> {
        self.followed.subscribe()
    }

    /// Who is there, by gate.
    pub fn present(&self) -> Vec<(Arc<Board>, Vec<UserId>)> {
        let boards: Vec<Arc<Board>> = lock(&self.boards).values().filter_map(Weak::upgrade).collect();
        let users = |board: &Arc<Board>| lock(&board.ears).keys().copied().collect::<Vec<_>>();
        let present = boards.into_iter().map(|board| (board.clone(), users(&board)));
        present.filter(|(_, users)| !users.is_empty()).collect()
    }

    fn announce(&self) {
        let boards = lock(&self.boards);
        let live = boards.iter().filter_map(|(concert, board)| Some((*concert, board.upgrade()?)));
        let listened = live.filter(|(_, board)| !lock(&board.ears).is_empty());
        let followed: BTreeSet<ConcertId> = listened.map(|(concert, _)| concert).collect();
        self.followed.send_if_modified(|known| {
            let is_news = **known != followed;
            if is_news {
                *known = Arc::new(followed);
            }
            is_news
        });
    }
}

impl Board {
    /// The gate begins to be served here, or ends.
    pub fn serve(&self, is_served: bool) {
        self.is_served.store(is_served, Ordering::Release);
        if !is_served {
            lock(&self.streams)
                .drain(..)
                .filter_map(|stream| stream.upgrade())
                .for_each(|stream| stream.end());
        }
    }

    pub fn is_served(&self) -> bool {
        self.is_served.load(Ordering::Acquire)
    }

    /// Shows what a gate of this node tells, and passes it on to other nodes.
    pub fn publish(&self, news: News) {
        let news = Arc::new(news);
        self.take(&news);
        lock(&self.streams).retain(|stream| match stream.upgrade() {
            Some(stream) => {
                stream.push(&news);
                true
            }
            None => false,
        });
    }

    /// Shows it here.
    pub fn take(&self, news: &News) {
        match news {
            News::View(line) => {
                self.write(|shown| {
                    shown.begin(line);
                    true
                });
            }
            News::Tick(line) => self.write(|shown| shown.go_on(line)),
            News::Admitted { user, pass, durable } => {
                self.tell(*user, &GateEvent::Admitted { pass: *pass, durable: *durable });
            }
            News::Ended { user, pass, why } => {
                self.tell(*user, &GateEvent::Ended { pass: *pass, why: *why });
            }
        }
    }

    fn write(&self, change: impl FnOnce(&mut Shown) -> bool) {
        let is_news = change(&mut self.shown.write().unwrap_or_else(PoisonError::into_inner));
        if is_news {
            self.pulse.notify_one();
        }
    }

    fn read<T>(&self, look: impl FnOnce(&Shown) -> T) -> T {
        look(&self.shown.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn tell(&self, user: UserId, event: &GateEvent) {
        for ear in lock(&self.ears).get(&user).into_iter().flatten() {
            ear.hear(event.clone());
        }
    }
}

/// Wakes whoever listens to a board, for as long as there is one.
async fn wake(board: Weak<Board>, pulse: Arc<Notify>) {
    loop {
        pulse.notified().await;
        let Some(board) = board.upgrade() else { return };
        board.moved.send_modify(|moved| *moved += 1);
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        self.pulse.notify_one();
    }
}

impl Ear {
    fn hear(&self, event: GateEvent) {
        let mut news = lock(&self.news);
        if news.len() >= UNHEARD {
            news.clear();
            news.push_back(GateEvent::Anew);
        } else {
            news.push_back(event);
        }
        drop(news);
        self.heard.notify_one();
    }
}
