//! What a gate of this node tells, for another node.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use super::Board;
use crate::gates::news::News;
use crate::lock::lock;

/// News that wait for a node, at most: it gets a view instead of more.
const WAITING: usize = 4_096;

/// One node's news of one gate.
#[derive(Debug)]
pub struct NewsStream {
    board: Arc<Board>,
    queue: Arc<Queue>,
}

/// What waits for it.
#[derive(Debug, Default)]
pub struct Queue {
    waiting: Mutex<Waiting>,
    heard: Notify,
}

#[derive(Debug)]
struct Waiting {
    news: VecDeque<Arc<News>>,
    /// A view comes first.
    needs_view: bool,
    /// The gate was served no more, for however short a time: who listens begins with another stream.
    is_over: bool,
}

impl Default for Waiting {
    fn default() -> Self {
        Self { news: VecDeque::new(), needs_view: true, is_over: false }
    }
}

impl Queue {
    pub fn push(&self, news: &Arc<News>) {
        let mut waiting = lock(&self.waiting);
        if matches!(**news, News::View(_)) || waiting.news.len() >= WAITING {
            waiting.news.clear();
            waiting.needs_view = true;
        } else {
            waiting.news.push_back(news.clone());
        }
        drop(waiting);
        self.heard.notify_one();
    }

    /// For a gate that is not served any more.
    pub fn end(&self) {
        lock(&self.waiting).is_over = true;
        self.heard.notify_one();
    }
}

impl NewsStream {
    pub(in crate::gates) fn new(board: Arc<Board>) -> Self {
        let queue = Arc::new(Queue::default());
        lock(&board.streams).push(Arc::downgrade(&queue));
        Self { board, queue }
    }

    /// The next piece, beginning with a view; `None`: the gate is not served here any more. A listener that is too slow
    /// gets another view. Cancel-safe.
    pub async fn next(&mut self) -> Option<Arc<News>> {
        loop {
            if lock(&self.queue.waiting).is_over || !self.board.is_served() {
                return None;
            }
            if let Some(news) = self.ready() {
                return Some(news);
            }
            self.queue.heard.notified().await;
        }
    }

    fn ready(&self) -> Option<Arc<News>> {
        let mut waiting = lock(&self.queue.waiting);
        if !waiting.needs_view {
            return waiting.news.pop_front();
        }
        // Nothing is pushed while the lock is held: what waits was shown before, or comes after the view.
        let line = self.board.read(|shown| (shown.views > 0).then(|| shown.line()))?;
        waiting.needs_view = false;
        Some(Arc::new(News::View(line)))
    }
}
